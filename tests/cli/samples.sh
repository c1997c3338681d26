# The samples do what they say: both formats, the scripts, the preset file.
samples=$root/samples
expect_status 0 kvzip compare "$sample" "$samples/smollm2.h5" --common --max-abs 0

expect_status 0 bash "$samples/quickstart.sh" "$(command -v kvzip)" "$PWD/quickstart"
expect_in stdout "61 tensors"
expect_in stderr "preset gear-2"
expect_status 0 kvzip compare "$sample" quickstart/smollm2-decoded.safetensors --max-nrmse 0.4
# HDF5, lossy, and back as safetensors.
expect_status 0 kvzip compress "$samples/smollm2.h5" -o h5.kvz --preset gear-2
expect_status 0 kvzip decompress h5.kvz -o h5.safetensors
expect_status 0 kvzip compare h5.safetensors quickstart/smollm2-decoded.safetensors --common --max-abs 0

expect_status 0 kvzip compress "$sample" -o mine.kvz --preset "$samples/my-preset.txt"
expect_status 0 kvzip verify mine.kvz

# A folder: what is lost under the limit is kept, the rest is coded without loss, broken files are reported.
mkdir -p in/deep
ln -s "$sample" in/a.safetensors
ln -s "$samples/smollm2.h5" in/deep/b.h5
expect_status 0 bash "$samples/batch.sh" in out int8
expect_in stdout "deep/b.h5: "
expect_status 0 kvzip compare in/a.safetensors out/a.safetensors.kvz --max-nrmse 0.05
expect_status 6 kvzip compare in/a.safetensors out/a.safetensors.kvz --max-abs 0
expect_status 0 bash "$samples/batch.sh" in exact gear-2
expect_status 0 kvzip compare in/deep/b.h5 exact/deep/b.h5.kvz --max-abs 0
expect_status 0 bash "$samples/batch.sh" in/ out int8 # the same folder
[ ! -s stdout ]
[ "$(find out -name '*.kvz' | wc -l)" = 2 ]
head -c 1000000 "$sample" >in/c.safetensors
expect_status 3 bash "$samples/batch.sh" in out int8
[ ! -s stdout ]
[ ! -e out/c.safetensors.kvz ]

# Speeds of presets on two dumps; the figures are the machine's.
expect_status 0 env TOKENS=16 PRESETS=int8,gear-4,kvzip-small bash "$samples/speed.sh" "$(command -v kvzip)" --runs 1 --min-time 0
presets=$(kvzip list presets | awk 'NR > 1' | wc -l)
[ "$(grep -c '^| `' stdout)" = $((2 * (3 + 3))) ]
awk -F'|' '/^\|/ && NF != 12 { print; exit 1 }' stdout

# Every preset on the sample, and the plot: a row for each, real attention with both sets of queries.
expect_status 0 bash "$samples/sweep.sh" "$(command -v kvzip)" "$PWD/sweep.svg"
[ "$(grep -c '^| `' stdout)" = "$presets" ]
awk -F'|' '/^\|/ && NF != 11 { print; exit 1 }' stdout
awk -F'|' '/^\| `gear-2`/ { exit !($8 > 0 && $9 > 0 && $10 > 0) }' stdout
expect_in sweep.svg 'attention output nrmse'
expect_in sweep.svg 'turboquant'
