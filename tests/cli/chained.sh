# Chained pipelines: frames that need the ones before them, through every command.
kvzip synth -o dump.safetensors --layers 2 --heads 2 --head-dim 16 --tokens 150 --seed 3
cat >chained.txt <<'END'
# Keys relative to the frame before
chunk = 16
restart = 3
key = rope,carry,uniform:step=0.05,rans
value = carry:of=last:decay=0.9,quant:bits=6:axis=token,rans
END
kvzip compress -q dump.safetensors -o c.kvz --preset chained.txt -j 1
for threads in 2 4; do
  kvzip compress -q dump.safetensors -o t.kvz --preset chained.txt -j $threads -f
  cmp c.kvz t.kvz
done
kvzip compress -q dump.safetensors -o - --preset chained.txt | cmp - c.kvz

# From a file and from a pipe; whole and in part.
kvzip decompress -q c.kvz -o whole.safetensors
kvzip decompress -q - -o piped.safetensors < <(cat c.kvz)
cmp whole.safetensors piped.safetensors
kvzip decompress -q c.kvz -o part.h5 --tokens 70:90 --layers 1
kvzip compress -q whole.safetensors -o part.kvz --tokens 70:90 --layers 1 --preset lossless
expect_status 0 kvzip compare part.h5 part.kvz --common --max-abs 0
expect_status 0 kvzip compare whole.safetensors c.kvz --max-abs 0
expect_status 0 kvzip compare c.kvz whole.safetensors --max-abs 0
expect_status 0 kvzip verify c.kvz
kvzip verify - <c.kvz 2>out
expect_in out "sound"

# What it says of itself.
kvzip inspect c.kvz >text
expect_in text "kvz 1.1"
expect_in text "restart point, every 3 frames"
kvzip inspect c.kvz --json >json
expect_in json '"restart": 3'
kvzip compress -q dump.safetensors -o plain.kvz --preset int4
kvzip inspect plain.kvz >text
if grep -q restart text; then exit 1; fi

# A damaged frame.
size=$(stat -c %s c.kvz)
cp c.kvz bad.kvz
printf '\377\377\377\377' | dd of=bad.kvz bs=1 seek=$((size / 2)) conv=notrunc 2>/dev/null
expect_status 3 kvzip verify bad.kvz
expect_status 3 kvzip decompress bad.kvz -o x.safetensors
head -c $((size / 2)) c.kvz >cut.kvz
expect_status 3 kvzip decompress cut.kvz -o x.safetensors

# Sweeps and plans take what lies between two restart points as one; bench times each frame.
kvzip sweep dump.safetensors --presets chained.txt --json -q >sweep.json
expect_in sweep.json '"tokens": 48'
echo "0 8" >trace
expect_status 0 kvzip plan c.kvz --bandwidth trace --slo 9 --recompute-ms-per-token 1 --chunk-tokens 48
expect_status 1 kvzip plan c.kvz --bandwidth trace --slo 9 --recompute-ms-per-token 1 --chunk-tokens 16
expect_status 0 kvzip bench dump.safetensors --presets chained.txt --runs 1 --json -q
[ "$(grep -c '"step": "carry"' stdout)" = 2 ]
printf 'restart = 0\nkey = carry,uniform,rans\n' >never.txt
expect_status 1 kvzip compress dump.safetensors -o x.kvz --preset ./never.txt
