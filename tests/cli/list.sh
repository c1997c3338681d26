# list: every section, alone and together.
expect_status 0 kvzip list
[ ! -s stderr ]
for word in quant outliers lowrank klt window pack zstd deflate gear-2 kivi-2 kvtc-2 near-lossless safetensors hdf5 .kvz; do
  expect_in stdout "$word"
done
expect_status 0 kvzip list stages
expect_in stdout "quant"
if grep -q gear-2 stdout; then exit 1; fi
expect_status 0 kvzip list coders
expect_in stdout "ac"
expect_status 0 kvzip list presets
expect_in stdout "kvzip-near (default)"
expect_status 0 kvzip list presets -v
expect_in stdout "==> gear-2 <=="
expect_in stdout "lowrank"
expect_status 0 kvzip list formats
expect_in stdout ".h5"
expect_status 2 kvzip list nonsense
