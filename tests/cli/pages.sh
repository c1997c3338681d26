# pages: digests in a container change nothing else; recall and attention by them; what cannot be.
kvzip synth -q -o a.safetensors --layers 2 --heads 2 --head-dim 16 --tokens 300
kvzip compress -q a.safetensors -o plain.kvz --preset kivi-2 --chunk-tokens 128
expect_status 0 kvzip compress -q a.safetensors -o a.kvz --preset kivi-2 --chunk-tokens 128 --pages 16
kvzip compress -q a.safetensors -o one.kvz --preset kivi-2 --chunk-tokens 128 --pages 16 -j 1
cmp a.kvz one.kvz
kvzip compress -q a.safetensors -o - --preset kivi-2 --chunk-tokens 128 --pages 16 | cmp - a.kvz
[ "$(stat -c %a a.kvz)" = "$(stat -c %a plain.kvz)" ]
expect_status 0 kvzip verify a.kvz
expect_status 0 kvzip compare plain.kvz a.kvz --max-abs 0
kvzip decompress -q plain.kvz -o plain.safetensors
kvzip decompress -q a.kvz -o decoded.safetensors
kvzip decompress -q - -o piped.safetensors < <(cat a.kvz)
cmp plain.safetensors decoded.safetensors
cmp plain.safetensors piped.safetensors
expect_status 0 kvzip inspect a.kvz

expect_status 0 kvzip pages a.kvz
expect_in stdout "pages of 16 tokens"
tail -n 1 stdout | grep -qE '^ *19  1.0000  1.0000  1.0000  1.0000  1.0000$'
kvzip decompress -q a.kvz -o q.safetensors --role query
expect_status 0 kvzip pages a.kvz --queries q.safetensors --queries-per-head 16 --json
expect_in stdout '"page_tokens": 16'
expect_in stdout '"best"'

# All pages are all tokens; few are others.
kvzip attend -q a.kvz -o all.safetensors
kvzip attend -q a.kvz -o pages.safetensors --pages 19
cmp all.safetensors pages.safetensors
expect_status 0 kvzip attend -v a.kvz -o few.safetensors --pages 1
expect_in stderr "of 600 tokens of layers were decoded"
expect_status 6 kvzip compare few.safetensors all.safetensors --max-abs 0.001

expect_status 1 kvzip pages plain.kvz
expect_in stderr "plain.kvz"
expect_in stderr "no pages"
expect_status 1 kvzip attend plain.kvz -o x.safetensors --pages 2
expect_status 1 kvzip pages a.safetensors
expect_status 2 kvzip compress a.safetensors -o x.kvz --pages 0
expect_status 1 kvzip compress q.safetensors -o x.kvz --pages 4
[ ! -e x.kvz ]
expect_status 1 kvzip compress a.safetensors -o a.kvz --pages 4
# A damaged record hurts nobody but pages and verify.
offset=$(($(stat -c %s plain.kvz) - 200))
cp a.kvz bad.kvz
printf '\377\377\377\377\377\377\377\377' | dd of=bad.kvz bs=1 seek=$((offset + 300)) conv=notrunc status=none
expect_status 3 kvzip pages bad.kvz
expect_status 3 kvzip verify bad.kvz
kvzip decompress -q bad.kvz -o bad.safetensors
cmp plain.safetensors bad.safetensors
