# bench: what is measured, every form of output, selections, usage errors. Times are never looked at.
kvzip synth -o a.safetensors --layers 2 --heads 2 --head-dim 32 --tokens 300
quick="--runs 1 --min-time 0"

expect_status 0 kvzip bench a.safetensors $quick -q
[ ! -s stderr ]
expect_in stdout "one thread"
expect_in stdout "a.safetensors: 4 tensors"
for codec in memcpy "zstd -1" "zstd -3" lossless near-lossless int4 kivi-2 gear-2 cachegen-2; do
  grep -q "^$codec " stdout
done
grep -q "^gear-2 .* key .* lowrank " stdout
grep -q "^lossless .* exact .* exact " stdout

# The size is that of the file that compress writes.
kvzip bench a.safetensors $quick --presets all --role key,value,query,other --csv >all.csv
for preset in $(kvzip list presets | awk 'NR > 1 { print $1 }'); do
  kvzip compress -q -f a.safetensors -o a.kvz --preset "$preset"
  coded=$(awk -F, -v name="\"$preset\"" '$2 == name && $5 == "" { print $21 }' all.csv)
  test "$coded" = "$(stat -c %s a.kvz)"
done
# Errors are those that compare finds.
for preset in gear-2 near-lossless; do
  kvzip compress -q -f a.safetensors -o a.kvz --preset "$preset"
  kvzip compare a.safetensors a.kvz --csv >compared.csv
  awk -F, -v name="\"$preset\"" '
    function differ(a, b) { return a == "" || b == "" || (a - b) ^ 2 > (1e-9 * b) ^ 2 }
    FNR == NR { if ($1 == "role") nrmse[$3] = $8; next }
    $2 == name && $5 == "" { found = 1; if (differ($24, nrmse["key"]) || differ($25, nrmse["value"])) exit 1 }
    END { if (!found) exit 1 }' compared.csv all.csv
done
# Every line has as many fields as the heading, and steps name what they are.
awk -F, 'NR == 1 { n = NF } NF != n { print; exit 1 }' all.csv
grep -q '"gear-2",preset,value,outliers,' all.csv

kvzip bench a.safetensors $quick --presets int4,int8 --json >out.json
for text in '"schema": 1' '"cpu":' '"target":' '"threads": 1' '"name": "int8"' '"median":' '"of_memcpy":' \
  '"of_zstd_1":' '"peak_bytes":' '"waited":' '"step": "quant"' '"key_nrmse":'; do
  expect_in out.json "$text"
done
# The other form of JSON, compact and balanced, to the eye of awk at least.
awk '{ for (i = 1; i <= length($0); ++i) { c = substr($0, i, 1); if (c ~ /[[{]/) ++open; if (c ~ /[]}]/) --open } }
  END { exit open != 0 }' out.json

# Markdown: all lines of a table have the same number of cells.
kvzip bench a.safetensors $quick --presets int4 --markdown >out.md
expect_in out.md "| codec | encode |"
expect_in out.md "|---|---:|"
awk -F'|' '/^\|/ { if (n && NF != n) exit 1; n = NF; next } { n = 0 }' out.md

# Pipelines, preset files, several files, containers, a selection, each instruction set.
kvzip compress -q -f a.safetensors -o a.kvz --preset int8
expect_status 0 kvzip bench a.safetensors a.kvz $quick --pipeline quant:bits=3,pack --pipeline cast,zstd
expect_in stdout "a.kvz: "
expect_in stdout "quant:bits=3,pack"
if grep -q '^lossless' stdout; then exit 1; fi
expect_status 0 kvzip bench a.safetensors $quick --presets "$root/samples/my-preset.txt" --layers 0 --tokens 0:100 --role key
expect_in stdout "my-preset.txt"
expect_in stdout ": 1 tensors, 12.80 kB"
for target in $(kvzip bench a.safetensors --target none 2>&1 | sed 's/.* have //; s/,//g'); do
  expect_status 0 kvzip bench a.safetensors $quick --presets int4 --target "$target"
  expect_in stdout ", $target of "
done
expect_status 0 bash -c "kvzip bench - $quick --presets int4 <a.safetensors"

# Reads of a container: what they take, in both orders, and nothing is left behind.
kvzip compress -q -f a.safetensors -o io.kvz --preset int8 --chunk-tokens 100
kvzip compress -q -f a.safetensors -o by-token.kvz --preset int8 --chunk-tokens 100 --order token:100 --role key,value
before=$(ls -A)
expect_status 0 kvzip bench --io io.kvz $quick
expect_in stdout "io.kvz: 300 tokens"
grep -qE '^layer +all +0:300 .* kB +2 ' stdout # queries lie between the layers
grep -qE '^layer +layer 1 +0:300 .* kB +1 ' stdout
grep -qE '^token +layer 1 +0:300 .* kB +3 ' stdout # one for each frame
grep -qE '^layer +range +0:75 .* kB +4 ' stdout # a frame of the keys and of the values of each layer
grep -qE '^token +range +0:75 .* kB +1 ' stdout
# A file in the order of tokens is measured as it is, its copy in that of layers.
expect_status 0 kvzip bench --io by-token.kvz $quick
expect_in stdout "by-token.kvz: 300 tokens"
grep -qE '^layer +all +0:300 .* kB +1 ' stdout
grep -qE '^token +all +0:300 .* kB +3 ' stdout # what ends a container and begins the next lies between
grep -qE '^token +layer 1 +0:300 .* kB +3 ' stdout
grep -qE '^layer +range +0:75 .* kB +4 ' stdout
grep -qE '^token +range +0:75 .* kB +1 ' stdout
expect_status 0 kvzip bench --io io.kvz $quick --tokens 250: --json
expect_in stdout '"first": 250'
[ "$before" = "$(ls -A)" ]
expect_status 1 kvzip bench --io a.safetensors $quick
expect_status 1 kvzip bench --io io.kvz $quick --tokens 300:400
expect_status 2 kvzip bench --io io.kvz --presets int4

# What cannot be meant, and what cannot be done.
expect_status 2 kvzip bench
expect_status 2 kvzip bench a.safetensors --presets int4,nope
expect_in stderr "--presets: there is no preset 'nope'"
expect_status 2 kvzip bench a.safetensors --presets int4,
expect_status 2 kvzip bench a.safetensors --pipeline quant
expect_in stderr "--pipeline: "
expect_status 2 kvzip bench a.safetensors --target none
expect_in stderr "--target none: "
expect_status 2 kvzip bench a.safetensors --runs 0
expect_status 2 kvzip bench a.safetensors --min-time -1
expect_status 2 kvzip bench a.safetensors --json --csv
expect_status 5 kvzip bench missing.safetensors
expect_status 1 kvzip bench a.safetensors --map '*=other'
expect_in stderr "--map"
