# plan: containers of one cache over a link, by both policies; what cannot be planned. Schedules are checked by unit tests.
kvzip synth -o a.safetensors --layers 2 --heads 2 --head-dim 32 --tokens 600
for preset in int8 int4 kivi-2; do kvzip compress -q a.safetensors -o $preset.kvz --preset $preset; done
echo '0 8' >link
never="--recompute-ms-per-token 1e6"

# Bytes of a container's chunks are its frames: at 8 Mbit/s the smallest takes a microsecond a byte.
expect_status 0 kvzip plan int4.kvz int8.kvz kivi-2.kvz --bandwidth link --slo 100 $never --chunk-tokens 256
[ ! -s stderr ]
expect_in stdout "600 tokens in 3 chunks"
expect_in stdout "the SLO of 100 s holds"
[ "$(awk '/^quality/ { on = 1; next } on { print $1; exit }' stdout)" = int8.kvz ]
coded=$(kvzip inspect int8.kvz --json | awk '/"groups"/ { on = 1 } /"totals"/ { on = 0 }
  on && /"role"/ { cache = /key|value/ } on && cache && /"coded_bytes"/ { gsub(/[^0-9]/, ""); s += $1 } END { print s }')
kvzip plan int8.kvz --bandwidth link --slo 100 $never --chunk-tokens 256 --policy paper --csv >one.csv
test "$(awk -F, 'NR > 1 { s += $6 } END { print s }' one.csv)" = "$coded"
awk -F, 'NR > 1 { now += $6 / 1e6; if (($8 - now) ^ 2 > 1e-18) exit 1 } NR == 1 { n = NF } NF != n { exit 1 }' one.csv

expect_status 0 kvzip plan int8.kvz int4.kvz --bandwidth link --slo 100 --recompute-ms-per-token 0 --json --chunk-tokens 512
for text in '"schema": 1' '"policy": "paper"' '"policy": "equal-split"' '"recompute": true' '"met": true'; do
  expect_in stdout "$text"
done
expect_status 0 bash -c "kvzip plan int8.kvz --bandwidth - --slo 100 $never <link"

# A deadline that no policy meets.
expect_status 6 kvzip plan int8.kvz int4.kvz --bandwidth link --slo 0.001 $never --chunk-tokens 512
expect_in stdout "is missed"

# Frames of 256 tokens cannot be cut.
expect_status 1 kvzip plan int8.kvz --bandwidth link --slo 1 $never --chunk-tokens 100
expect_in stderr "int8.kvz: "
expect_in stderr "--chunk-tokens"
kvzip synth -o b.safetensors --layers 3 --heads 2 --head-dim 32 --tokens 600
kvzip compress -q b.safetensors -o other.kvz
expect_status 1 kvzip plan int8.kvz other.kvz --bandwidth link --slo 1 $never
expect_in stderr "other.kvz: "
expect_status 1 kvzip plan int8.kvz --bandwidth a.safetensors --slo 1 $never
expect_in stderr "line 1"
expect_status 3 kvzip plan a.safetensors --bandwidth link --slo 1 $never
echo '{"schema": 1}' >sweep.json
expect_status 3 kvzip plan sweep.json --bandwidth link --slo 1 $never
expect_in stderr "kvzip sweep --json"
# Settings of a grid by their names, and a sweep that claims more than can be listed.
kvzip sweep -q a.safetensors --presets int8,gear-2 --grid 'lowrank.rank=2,4' --queries-per-head 4 --json >grid.json
expect_status 0 kvzip plan grid.json --bandwidth link --slo 100 $never --settings "gear-2 lowrank.rank=2 , int8"
expect_in stdout "gear-2 lowrank.rank=2"
expect_status 1 kvzip plan grid.json --bandwidth link --slo 100 $never --settings "gear-2 lowrank.rank=4"  # gear-2 itself
expect_status 2 kvzip plan grid.json --bandwidth link --slo 100 $never --settings "int8, "
sed -E 's/"(tokens|split)": (600|450),/"\1": 4611686018427387904,/' grid.json >huge.json
expect_status 1 kvzip plan huge.json --bandwidth link --slo 100 $never --chunk-tokens 1
expect_in stderr "more than 1048576"
expect_status 5 kvzip plan missing.kvz --bandwidth link --slo 1 $never
expect_status 5 kvzip plan int8.kvz --bandwidth missing --slo 1 $never
expect_status 2 kvzip plan int8.kvz --slo 1 $never
expect_status 2 kvzip plan int8.kvz --bandwidth link --slo -1 $never
expect_status 2 kvzip plan int8.kvz --bandwidth link --slo nan $never
expect_status 2 kvzip plan int8.kvz --bandwidth link --slo 1 $never --policy mine
expect_status 2 kvzip plan int8.kvz --bandwidth link --slo 1 $never --chunk-tokens 0
expect_status 2 kvzip plan int8.kvz --bandwidth link --slo 1 $never --measure kl
expect_status 2 kvzip plan int8.kvz --bandwidth link --slo 1 $never --json --csv

# What is no text is not read until memory or a limit ends, and the advice is one that can be followed.
expect_status 1 kvzip plan /dev/zero --bandwidth link --slo 1 $never --memlimit 16M
expect_in stderr "/dev/zero: line 1: a zero byte, so this is not a sweep"
expect_status 1 kvzip plan int8.kvz --bandwidth /dev/zero --slo 1 $never --memlimit 16M
expect_in stderr "a zero byte, so this is not a trace of bandwidth"
if limits_memory; then
  expect_status 1 bash -c "yes '{' | kvzip plan - --bandwidth link --slo 1 $never --memlimit 16M"
  [ "$(cat stderr)" = "kvzip: not enough memory; --memlimit may allow more" ]
fi
