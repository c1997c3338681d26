# What llama.cpp wrote (tests/golden/llama) goes through containers and comes back as it was.
golden=$root/tests/golden/llama
for f in "$golden"/*.seq "$golden"/*.session; do
  expect_status 0 kvzip compress -q "$f" -o c.kvz -f --preset lossless
  expect_status 0 kvzip decompress -q c.kvz -o back -f --to llama
  cmp "$f" back
done
kvzip inspect "$golden/swa.seq" >stdout
expect_in stdout "swa.positions"
expect_in stdout "swa.layers.6.value  value  6      TC    8x16"
# Of 260 tokens the window has the last 8, whose cells are not in their order.
expect_status 1 kvzip compress -q "$golden/swa.seq" -o c.kvz -f --tokens 0:256
expect_in stderr "cache swa cannot be cut by tokens: its rows are not in the order of positions; take tokens 252: or all"
expect_status 0 kvzip compress -q "$golden/swa.seq" -o c.kvz -f --tokens 200:
kvzip inspect c.kvz >stdout
expect_in stdout "60x16"
expect_in stdout "8x16"
expect_status 0 kvzip compress -q "$golden/swa.seq" -o c.kvz -f --tokens 0:256 --layers 0
# In order, they are cut by the positions that they have.
expect_status 0 kvzip compress "$golden/swa_q8.seq" -o c.kvz -f --tokens 0:6
expect_in stderr "layers 1,2,3,4,5,6 hold 8 tokens, 4 to 11"
kvzip inspect c.kvz >stdout
expect_in stdout "6x64"
expect_in stdout "2x64"
# A part is no file of the program.
expect_status 0 kvzip decompress -q c.kvz -o part.safetensors -f
for part in "--layers 0" "--role key" "--tokens 0:6"; do
  # shellcheck disable=SC2086
  expect_status 0 kvzip compress -q "$golden/swa_q8.seq" -o c.kvz -f --preset lossless $part
  expect_status 4 kvzip decompress -q c.kvz -o part -f --to llama
done
expect_status 1 kvzip compress -q "$golden/hybrid_unified.session" -o c.kvz -f --tokens 0:4
expect_in stderr "the cache cannot be cut by tokens"
