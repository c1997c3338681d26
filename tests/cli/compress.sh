# compress: default and named outputs, presets by name and file, overrides, metadata, and the summary line.
kvzip synth -o a.safetensors --layers 3 --heads 2 --head-dim 32 --tokens 300 --seed 1

expect_status 0 kvzip compress a.safetensors
[ ! -s stdout ]
[ "$(wc -l <stderr)" = 1 ]
expect_in stderr "a.safetensors: "
expect_in stderr " kB -> "
expect_in stderr "bits/value of K and V), preset kvzip-near"
[ -f a.safetensors.kvz ]

expect_status 0 kvzip compress -q a.safetensors -o quiet.kvz
[ ! -s stderr ]
cmp quiet.kvz a.safetensors.kvz

# The bytes do not depend on the number of threads.
kvzip compress -q a.safetensors -o one.kvz --preset gear-2 -j 1
kvzip compress -q a.safetensors -o many.kvz --preset gear-2 -j 5
cmp one.kvz many.kvz

# A preset file, found by the dot or slash in its name.
kvzip list presets -v | awk '/^==> /{on = $2 == "kivi-4"; next} on' >mine.txt
expect_status 0 kvzip compress a.safetensors -o file.kvz --preset mine.txt
expect_in stderr "preset mine.txt"
expect_status 0 kvzip compress a.safetensors -o file.kvz -f --preset ./mine.txt
echo 'key[*] = nonsense' >bad.txt
expect_status 1 kvzip compress a.safetensors -o x.kvz --preset bad.txt
expect_in stderr "bad.txt"
expect_status 5 kvzip compress a.safetensors -o x.kvz --preset ./missing.txt

# Overrides and chunks.
expect_status 0 kvzip compress a.safetensors -o o.kvz --key quant:bits=3,ac --value quant:bits=5:axis=token,pack --chunk-tokens 64
kvzip inspect o.kvz --json >o.json
expect_in o.json '"quant:bits=3'
expect_in o.json '"quant:bits=5:axis=token'
expect_in o.json '"chunk_rows": 64'
expect_status 0 kvzip compress a.safetensors -o all.kvz --chunk-tokens all
for bad in 0 -1 x 1x ''; do
  if [ -n "$bad" ]; then expect_status 2 kvzip compress a.safetensors -o x.kvz --chunk-tokens "$bad"; fi
done
expect_status 2 kvzip compress a.safetensors -o x.kvz --preset no-such-preset
expect_in stderr "gear-2"
expect_status 2 kvzip compress a.safetensors -o x.kvz --key quant:bits=99
expect_in stderr "--key"
expect_status 2 kvzip compress a.safetensors -o x.kvz --value ''
[ ! -e x.kvz ]

# Key=values are stored; those that name metadata are seen by recognition.
kvzip synth -o plain.safetensors --layers 1 --heads 2 --head-dim 16 --tokens 40 --rope-theta 0
kvzip compress -q plain.safetensors -o k.kvz --preset kvtc-2 # keys of unknown rotation stay as they are
kvzip verify k.kvz
kvzip compress -q plain.safetensors -o m.kvz --meta run=seven --meta rope=post --meta rope_theta=12345
kvzip inspect m.kvz --json >m.json
expect_in m.json '"run": "seven"'
expect_in m.json '"theta": 12345'
expect_status 2 kvzip compress plain.safetensors -o x.kvz --meta novalue
expect_status 2 kvzip compress plain.safetensors -o x.kvz --meta a=1 --meta a=2

# Unknown names: stored losslessly, said so, refused with --strict, settled with --map.
kvzip compress -q a.safetensors -o part.kvz --map 'layers.*=other:'
kvzip inspect part.kvz --json >p.json
expect_in p.json '"recognised": 0'
expect_status 0 kvzip compress a.safetensors -o part.kvz -f --map 'layers.*=other:'
expect_in stderr "nothing was recognised"
expect_status 1 kvzip compress a.safetensors -o x.kvz --strict --map 'layers.*=other:'
expect_status 0 kvzip compress a.safetensors -o q.kvz --map 'layers.{L}.query=key:HTD' --map 'layers.{L}.key=other:'
expect_status 2 kvzip compress a.safetensors -o x.kvz --map nonsense

# A container is a source like any other.
expect_status 0 kvzip compress one.kvz -o again.kvz --preset lossless
expect_status 0 kvzip compare one.kvz again.kvz --max-abs 0

# Saliency changes nothing for pipelines that make no use of it, and queries may be given for it.
for source in queries proxy none; do
  kvzip compress -q a.safetensors -o s.kvz -f --preset gear-2 --saliency $source
  cmp one.kvz s.kvz
done
kvzip compress -q a.safetensors -o s.kvz -f --preset gear-2 --queries a.safetensors
cmp one.kvz s.kvz
expect_status 2 kvzip compress a.safetensors -o s.kvz -f --saliency guess
expect_status 2 kvzip compress a.safetensors -o s.kvz -f --queries2 a.safetensors
expect_in stderr "go with a target"
