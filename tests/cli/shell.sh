# At home in a shell: inputs that are piped in unnamed, readers that have seen enough, words that are nearly right.
set -o pipefail
kvzip synth -q -o a.safetensors --layers 2 --heads 2 --head-dim 32 --tokens 300
kvzip compress -q a.safetensors -o a.kvz --preset int4
kvzip list | head -n 1 >/dev/null
kvzip list presets -v | head -n 1 >/dev/null

# shellcheck disable=SC2002
cat a.safetensors | kvzip compress --preset int4 >piped.kvz 2>/dev/null
cmp a.kvz piped.kvz
cat a.kvz | kvzip decompress --to safetensors | cmp - <(kvzip decompress a.kvz -o - --to safetensors)
kvzip verify <a.kvz
kvzip inspect <a.kvz >/dev/null
for command in compress decompress verify inspect; do
  expect_status 2 kvzip $command
  expect_in stderr "required"
done

expect_status 2 kvzip compres a.safetensors
expect_in stderr "did you mean 'compress'?"
expect_status 2 kvzip xyzzy
[ "$(grep -c 'did you mean' stderr)" = 0 ]
kvzip help compress | cmp - <(kvzip compress --help)
kvzip -V | cmp - <(kvzip --version)

# What verify says of what is no container is what the other commands say.
printf 'no container at all' >fake.kvz
expect_status 4 kvzip decompress fake.kvz -o x.safetensors
expect_status 4 kvzip verify fake.kvz
cp a.safetensors named.kvz
kvzip verify -q named.kvz

# A target that is outdone is met.
kvzip compress -q a.kvz -o once.kvz --target-bits 16

# Pipes with a name are pipes.
kvzip verify -q <(cat a.kvz)
kvzip decompress -q <(cat a.kvz) -o from-pipe.safetensors
cmp from-pipe.safetensors <(kvzip decompress a.kvz -o - --to safetensors)
kvzip inspect <(cat a.kvz) a.kvz >/dev/null
{ head -c 4000 a.kvz && printf '\377' && tail -c +4002 a.kvz; } >flipped
expect_status 3 kvzip verify <(cat flipped)
expect_in stderr "(byte "
expect_status 2 kvzip compress --rm <(cat a.safetensors) -o pipe.kvz
[ ! -e pipe.kvz ]
expect_status 2 bash -c 'kvzip compress - --output-dir folder <a.safetensors'

# Levels are no digits of a number; letters of commands may stand behind others.
for level in -19 "-1 -9" -22; do
  cp a.safetensors level.safetensors
  # shellcheck disable=SC2086
  [ "$level" = -22 ] || expect_status 2 kvzip $level level.safetensors
done
kvzip -q -1 -1 level.safetensors
kvzip diff level.safetensors.kvz <(kvzip -q -1 a.safetensors -c) >/dev/null
kvzip -q -f -d level.safetensors.kvz
cmp level.safetensors a.safetensors
kvzip -q -t level.safetensors.kvz
