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
# Levels beside other commands say nothing, as with other compressors; long names of commands.
kvzip -q -f -d -9 level.safetensors.kvz
kvzip -q -f -d level.safetensors.kvz -9
cmp level.safetensors a.safetensors
kvzip -q -9 -t level.safetensors.kvz
kvzip -q -t9 level.safetensors.kvz
expect_status 0 kvzip -d -q -c level.safetensors.kvz --to safetensors --tokens -100:
cmp stdout <(kvzip decompress level.safetensors.kvz -c --to safetensors --tokens -100:)
for words in "-o -9.safetensors" "-9qo -9.safetensors" "--output -9.safetensors -9" "--output=-9.safetensors -9"; do
  # shellcheck disable=SC2086
  kvzip -d -q level.safetensors.kvz $words
  cmp ./-9.safetensors a.safetensors
  rm ./-9.safetensors
done
kvzip -d -q -o -2020-01-05.safetensors level.safetensors.kvz -9
cmp ./-2020-01-05.safetensors a.safetensors
cp level.safetensors.kvz ./-9.kvz
kvzip -t -q -9 -- -9.kvz
kvzip -l -- -9.kvz | cmp - <(kvzip inspect -- -9.kvz)
kvzip --decompress -q -f level.safetensors.kvz
kvzip --test -q level.safetensors.kvz
kvzip --list level.safetensors.kvz | cmp - <(kvzip inspect level.safetensors.kvz)

# Words that lead on, in the tool's own.
expect_status 2 kvzip help nonsense
expect_in stderr "there is no command 'nonsense'"
expect_status 2 kvzip help comprss
expect_in stderr "did you mean 'compress'?"
kvzip help | cmp - <(kvzip --help)
said() { # TEXT COMMAND...
  local text=$1
  shift
  expect_status 2 "$@"
  expect_in stderr "$text"
}
said "to decode this file: kvzip decompress level.safetensors.kvz" kvzip level.safetensors.kvz
said "did you mean 'decompress'?" kvzip uncompress a.kvz
said "did you mean 'compress'?" kvzip COMPRESS a.safetensors
said "did you mean 'gear-2'?" kvzip compress a.safetensors --preset GEAR-2
said "its value is missing" kvzip compress a.safetensors -o
said "it was given 2 times" kvzip compress a.safetensors -o x.kvz -o y.kvz
said "what is 'c' for?" kvzip diff a.kvz a.kvz c
said "an input without a name" kvzip compress ''
said "as a.safetensors" kvzip decompress a.kvz
said "up to 100%" kvzip verify a.kvz --memlimit 1000%
expect_status 5 kvzip compress a.safetensors -o no/such.kvz
expect_in stderr "no: there is no such folder"
printf 'hello\n' >hello
head -c 5000 /dev/zero >zeros
for other in hello zeros level.safetensors; do
  for command in "recover $other" "append $other a.safetensors" "cut $other -o x.kvz --share 0.5"; do
    # shellcheck disable=SC2086
    expect_status 3 kvzip $command
    expect_in stderr "$other: not a .kvz container"
  done
done
printf '\x10\0\0\0\0\0\0\0{"a": 1e999     }' >overflow.safetensors
expect_status 3 kvzip inspect overflow.safetensors
if grep -F json.exception stderr; then exit 1; fi

# What cannot be written fails, the pages of help, too.
for command in --help -V "compress --help" "help verify" list; do
  # shellcheck disable=SC2086
  status=0 && kvzip $command >/dev/full 2>stderr || status=$?
  [ $status = 5 ]
  expect_in stderr "cannot write: No space left on device"
done

# Characters that turn the direction of text, or speak to the terminal, are shown as what they are.
odd=$(printf 'x\xe2\x80\xaegnp\xc2\x9b.safetensors')
cp a.safetensors "$odd"
expect_status 0 kvzip compress "$odd" --preset int4 --json
expect_in stderr 'x\xe2\x80\xaegnp\xc2\x9b.safetensors'
expect_in stdout '"input":"x\u202egnp\u009b.safetensors"'
kvzip convert a.safetensors esc.safetensors --map 'layers.0.key=key:HTD:name=k'"$(printf '\033[31m')"
kvzip compare esc.safetensors esc.safetensors --csv >esc.csv
expect_in esc.csv '\x1b[31m'
