# Many inputs: folders, lists of names, what fails, what exists, what is removed, and the words of other compressors.
mkdir -p in/deep
kvzip synth -o in/a.safetensors --layers 1 --heads 2 --head-dim 16 --tokens 64 --no-query
kvzip synth -o in/deep/b.h5 --layers 1 --heads 2 --head-dim 16 --tokens 32 --no-query --seed 2
echo text >in/notes.txt
ln -s ../a.safetensors in/deep/link.safetensors
cp in/a.safetensors in/.hidden.safetensors

# Pipes that nobody writes to: what becomes of them is looked at in the end.
mkdir silent
mkfifo silent/a.safetensors
cp in/a.safetensors silent/b.safetensors
(
  wait_for_writer() { # NAME COMMAND...
    local name=$1 status=0
    shift
    timeout 100 "$@" >silent/$name.out 2>silent/$name.err </dev/null || status=$?
    echo $status >silent/$name.status
  }
  for command in verify inspect; do
    wait_for_writer $command kvzip $command silent/a.safetensors silent/b.safetensors &
  done
  wait_for_writer compress kvzip compress -q --keep-going silent/a.safetensors silent/b.safetensors --output-dir silent/out &
  wait_for_writer alone timeout 35 kvzip verify -q silent/a.safetensors &
  wait
) &
silent=$!

# A folder: what fits by name, mirrored; each as if it were alone.
expect_status 2 kvzip compress in
expect_in stderr "-r"
expect_status 0 kvzip compress -r in --output-dir out --preset int4
expect_in stderr "2 files: 2 done; "
[ "$(cd out && find . -type f | sort | tr '\n' ' ')" = "./a.safetensors.kvz ./deep/b.h5.kvz " ]
kvzip compress -q in/deep/b.h5 -o alone.kvz --preset int4
cmp alone.kvz out/deep/b.h5.kvz

# What exists is refused, skipped, or replaced.
expect_status 1 kvzip compress -r in --output-dir out --preset int8
expect_in stderr "2 files: 0 done, 1 failed, 1 not tried"
expect_status 1 kvzip compress -r in --output-dir out --preset int8 --keep-going
expect_in stderr "2 files: 0 done, 2 failed"
rm out/a.safetensors.kvz
expect_status 0 kvzip compress -r in --output-dir out --preset int4 --skip-existing
expect_in stderr "2 files: 1 done, 1 skipped"
cmp alone.kvz out/deep/b.h5.kvz
expect_status 0 kvzip compress -q -r in --output-dir out --preset int4 -f

# The worst status; a line for each file.
cp in/a.safetensors good.safetensors
head -c 3000 in/a.safetensors >cut.safetensors
expect_status 3 kvzip compress cut.safetensors good.safetensors --json -q
[ "$(wc -l <stdout)" = 1 ]
[ ! -e good.safetensors.kvz ]
expect_status 5 kvzip compress cut.safetensors missing.safetensors good.safetensors --json --keep-going
[ "$(wc -l <stdout)" = 3 ]
[ -e good.safetensors.kvz ]
expect_in stderr "3 files: 1 done, 2 failed"
grep '"input":"cut.safetensors"' stdout >line
expect_in line '"outcome":"failed","status":3,"error":"cut.safetensors:'
grep '"input":"good.safetensors"' stdout >line
expect_in line '"output":"good.safetensors.kvz","outcome":"done","status":0,"error":null'
expect_in line "\"file_bytes\":$(stat -c %s good.safetensors.kvz)"
[ "$(grep -c '"schema":1' stdout)" = 3 ]
expect_status 2 bash -c 'kvzip compress --json - <good.safetensors'

# Names from a list; two inputs for one output; standard input among others.
find in -type f -name '[ab].*' -print0 | sort -z >names
rm -r out
expect_status 0 kvzip compress --files0-from names --output-dir out -q
[ "$(find out -type f | sort | tr '\n' ' ')" = "out/a.safetensors.kvz out/b.h5.kvz " ]
expect_status 0 bash -c ': | kvzip verify --files0-from -'
expect_in stderr "there is no file"
expect_status 2 bash -c "printf 'a\\0\\0b' | kvzip verify --files0-from -"
expect_status 5 kvzip compress --files0-from nowhere
mkdir x y
cp good.safetensors x/c.safetensors
cp good.safetensors y/c.safetensors
expect_status 2 kvzip compress x/c.safetensors y/c.safetensors --output-dir both
expect_in stderr "would both become"
[ ! -e both ]
expect_status 0 kvzip compress x/c.safetensors x/../x/c.safetensors -q # one file, named twice
expect_status 2 kvzip compress - good.safetensors
expect_status 2 kvzip compress x y -r -o one.kvz --output-dir both

# And back, and checked.
expect_status 0 kvzip decompress -r out --output-dir back
[ "$(find back -type f | sort | tr '\n' ' ')" = "back/a.safetensors back/b.h5 " ]
kvzip compare -q back/b.h5 out/b.h5.kvz --max-abs 0 >/dev/null
expect_status 2 kvzip decompress out/a.safetensors.kvz out/b.h5.kvz -o one.safetensors
expect_status 0 kvzip verify -r out back
expect_in stderr "4 files: 4 done"
printf 'X' | dd of=out/a.safetensors.kvz bs=1 seek=$(($(stat -c %s out/a.safetensors.kvz) / 2)) conv=notrunc status=none
expect_status 3 kvzip verify -r out --json
[ "$(grep -c '"outcome":"done"' stdout)" = 1 ]
[ "$(grep -c '"outcome":"failed","status":3' stdout)" = 1 ]

# Each output is as private as its own input, whatever was read before.
cp good.safetensors private.safetensors
chmod 600 private.safetensors
chmod 644 good.safetensors
expect_status 0 kvzip compress -q -f private.safetensors good.safetensors
[ "$(stat -c %a private.safetensors.kvz)" = 600 ]
[ "$(stat -c %a good.safetensors.kvz)" = 644 ]

# --rm: only what was written, synced and read again; not where something would be lost.
cp good.safetensors gone.safetensors
expect_status 2 kvzip compress gone.safetensors --rm --no-sync
expect_status 2 kvzip compress gone.safetensors --rm --layers 0
expect_status 2 kvzip compress gone.safetensors --rm -o -
expect_status 3 kvzip compress cut.safetensors --rm
[ -e cut.safetensors ]
[ -e gone.safetensors ]
expect_status 0 kvzip compress -q gone.safetensors --rm
[ ! -e gone.safetensors ]
expect_status 0 kvzip verify -q gone.safetensors.kvz
expect_status 1 kvzip compress -q good.safetensors --rm # exists
[ -e good.safetensors ]

# Levels are presets, and the words of zstd and xz lead to commands.
cp good.safetensors l.safetensors
for level in 1:lossless 6:kvzip-near 8:kvzip-balanced 9:kvzip-small; do
  kvzip compress -q -f -"${level%:*}" l.safetensors
  kvzip compress -q -f l.safetensors -o p.kvz --preset "${level#*:}"
  cmp l.safetensors.kvz p.kvz
done
expect_status 0 kvzip -1fk l.safetensors
expect_in stderr "preset lossless"
expect_status 0 kvzip -t l.safetensors.kvz
expect_in stderr "sound"
expect_status 0 kvzip -l l.safetensors.kvz
expect_in stdout "preset lossless"
expect_status 0 kvzip -l l.safetensors.kvz good.safetensors
[ "$(wc -l <stdout)" = 3 ]
expect_in stdout "lossless"
expect_status 5 kvzip -l l.safetensors.kvz missing
kvzip -dc l.safetensors.kvz --to safetensors | cmp - l.safetensors
kvzip -c1 l.safetensors | cmp - l.safetensors.kvz
expect_status 0 kvzip -d -f l.safetensors.kvz
cmp l.safetensors good.safetensors
expect_status 2 kvzip -1 l.safetensors --preset int4
expect_status 2 kvzip compress -1 l.safetensors --target-ratio 4
expect_status 2 kvzip l.safetensors
expect_in stderr "kvzip compress l.safetensors"

# Words that are nearly right.
expect_status 2 kvzip comprss l.safetensors
expect_in stderr "did you mean 'compress'?"
expect_status 2 kvzip compress l.safetensors --presett int4
expect_in stderr "compress has no option --presett; did you mean '--preset'?"
expect_status 2 kvzip compress l.safetensors --preset int44
expect_in stderr "there is no preset 'int44'; did you mean 'int4'?"
expect_status 2 kvzip compress l.safetensors --key qant:bits=2,pack
expect_in stderr "did you mean 'quant'?"
expect_status 2 kvzip compress l.safetensors --role keys -o x.kvz
expect_in stderr "kvzip: --role: "
expect_status 2 kvzip compress l.safetensors --layers 3-1 -o x.kvz
expect_in stderr "kvzip: --layers: layers '3-1': the first comes after the last"

# Files side by side: the same outputs and lines, in any order; one that fails or is killed fails alone.
mkdir many
for n in 1 2 3 4 5 6; do kvzip synth -q -o many/$n.safetensors --layers 2 --heads 2 --head-dim 32 --tokens 200 --seed $n --no-query; done
kvzip compress -q -r many --output-dir one-by-one --json | sort | sed 's/"seconds":.*//; s/one-by-one//' >first
expect_status 0 kvzip compress -r many --output-dir together --json --jobs 3
expect_in stderr "6 files: 6 done"
sort stdout | sed 's/"seconds":.*//; s/together//' | cmp - first
diff -r one-by-one together
expect_status 0 kvzip verify -r together --jobs 0
expect_in stderr "6 files: 6 done"
head -c 3000 many/4.safetensors >many/cut.safetensors
expect_status 3 kvzip compress -r many --output-dir other --jobs 2 --keep-going
expect_in stderr "7 files: 6 done, 1 failed"
expect_status 3 kvzip compress many/cut.safetensors many/[1-6].safetensors --output-dir less --jobs 2 -j 1
expect_in stderr "1 failed"
expect_in stderr "not tried"
expect_status 2 kvzip decompress -c one-by-one/1.safetensors.kvz one-by-one/2.safetensors.kvz --jobs 2

# A worker that waits for a pipe is killed; and who ends the batch ends its workers.
mkfifo waiting
sleep 60 >waiting &
writer=$!
kvzip compress waiting many/1.safetensors --output-dir killed --jobs 2 --keep-going --json >lines 2>said &
batch=$!
for _ in $(seq 100); do [ ! -e killed/1.safetensors.kvz ] || break; sleep 0.1; done
kill -KILL $(cat /proc/$batch/task/$batch/children)
status=0
wait $batch || status=$?
[ $status = 1 ]
grep -qF "waiting: the process at work on it was ended by signal 9" said
[ "$(wc -l <lines)" = 2 ]
grep '"input":"waiting"' lines >line
expect_in line '"outcome":"failed","status":1,"error":"waiting: the process at work on it was ended by signal 9"'
kvzip verify -q killed/1.safetensors.kvz
[ "$(ls -A killed)" = 1.safetensors.kvz ]
kvzip compress waiting many/1.safetensors --output-dir ended --jobs 2 2>said &
batch=$!
for _ in $(seq 100); do [ ! -e ended/1.safetensors.kvz ] || break; sleep 0.1; done
worker=$(tr -d " " </proc/$batch/task/$batch/children)
kill -TERM $batch
for _ in $(seq 50); do kill -0 "$worker" 2>/dev/null || break; sleep 0.1; done
if kill -0 "$worker" 2>/dev/null; then exit 1; fi
kill $writer

# What cannot be looked into, or is a folder, is one input that fails; links are not followed, and that is said.
mkdir mixed mixed/in
cp good.safetensors mixed/1.safetensors
cp good.safetensors mixed/in/2.safetensors
expect_status 2 kvzip compress mixed/1.safetensors mixed/in
[ ! -e mixed/1.safetensors.kvz ]
expect_status 2 kvzip compress mixed/in mixed/1.safetensors --keep-going
expect_in stderr "mixed/in is a folder: -r takes the files in it"
expect_in stderr "2 files: 1 done, 1 failed"
kvzip verify -q mixed/1.safetensors.kvz
expect_status 2 kvzip verify mixed/in mixed/1.safetensors.kvz
expect_in stderr "mixed/1.safetensors.kvz: sound"
(
  cd mixed/in
  long=$(printf 'x%.0s' $(seq 250))
  for _ in $(seq 20); do mkdir "$long" && cd "$long"; done # a path longer than any that can be opened
)
expect_status 5 kvzip compress -r mixed/in --output-dir deep
[ ! -e deep ]
expect_status 5 kvzip compress -r mixed/in --output-dir deep --keep-going
expect_in stderr "cannot read this folder"
expect_in stderr "2 files: 1 done, 1 failed"
kvzip verify -q deep/2.safetensors.kvz
mkdir links
ln -s ../good.safetensors links/l.safetensors
ln -s nowhere links/notes.txt
expect_status 1 kvzip compress -r links
expect_in stderr "1 symbolic link in folders is not followed, and there is nothing else"
cp good.safetensors links/m.safetensors
expect_status 0 kvzip compress -r links --output-dir linked
expect_in stderr "1 symbolic link in folders is not followed"
[ "$(ls linked)" = m.safetensors.kvz ]
expect_status 1 bash -c 'yes | kvzip compress --files0-from - --memlimit 50M'
expect_in stderr "a name of more than 65535 bytes"
# No name at all, and none that fits.
expect_status 0 kvzip verify --files0-from /dev/null
expect_in stderr "there is no file: none is named in /dev/null"
expect_status 0 kvzip verify -r linked --files0-from /dev/null
mkdir unfit
cp good.safetensors unfit/notes.txt
expect_status 0 kvzip verify -r unfit
expect_in stderr "there is no file of a fitting name"
# Pipes, sockets and devices in folders.
mkfifo unfit/p.safetensors unfit/q.safetensors
expect_status 1 kvzip verify -r unfit
expect_in stderr "2 pipes, sockets or devices in folders are no file, and there is nothing else"
cp good.safetensors unfit/r.safetensors
expect_status 0 kvzip verify -r unfit
expect_in stderr "2 pipes, sockets or devices in folders are no file"
# A writer that comes later or is slow is waited for.
rm stderr
timeout 60 bash -c 'until grep -q waiting stderr 2>/dev/null; do sleep 0.1; done; cat good.safetensors >unfit/p.safetensors' &
late=$!
timeout 60 bash -c '{ sleep 2; cat good.safetensors; } >unfit/q.safetensors' &
slow=$!
expect_status 0 timeout 60 kvzip verify unfit/p.safetensors unfit/q.safetensors
wait $late $slow
expect_in stderr "unfit/p.safetensors: a pipe, waiting for somebody to write to it"
timeout 60 bash -c ': >unfit/p.safetensors' & # a writer that writes nothing
empty=$!
expect_status 3 timeout 60 kvzip verify unfit/p.safetensors
wait $empty
mkdir -p taken/good.safetensors.kvz
expect_status 5 kvzip compress good.safetensors --output-dir taken --skip-existing
expect_in stderr "is a directory"

# What is a container already, and what has two outputs.
expect_status 2 kvzip compress -f p.kvz
expect_in stderr "p.kvz: a container already"
[ ! -e p.kvz.kvz ]
expect_status 2 kvzip compress -f p.kvz l.safetensors --keep-going
expect_in stderr "2 files: 1 done, 1 failed"
expect_status 2 kvzip compress l.safetensors -c -o q.kvz
expect_in stderr "-c writes to standard output, -o to q.kvz"
[ ! -e q.kvz ]
expect_status 0 kvzip compress -q l.safetensors -c -o -
cmp stdout <(kvzip compress -q l.safetensors -c)
# A target that is missed says so in its line, too; containers have sizes.
expect_status 6 kvzip compress -f -q l.safetensors --json --target-ratio 5000
grep -q '"outcome":"failed","status":6,"error":"l.safetensors: ratio 5000: reached' stdout
expect_status 0 kvzip verify --json p.kvz
expect_in stdout "\"source_bytes\":$((2 * 2 * 64 * 16 * 2 + 64 * 4)),\"file_bytes\":$(stat -c %s p.kvz)"
# Folders of outputs are as closed as those of inputs.
umask 022
mkdir -p closed/inner
chmod 700 closed
chmod 750 closed/inner
cp good.safetensors closed/a.safetensors
cp good.safetensors closed/inner/b.safetensors
expect_status 0 kvzip compress -q -r closed --output-dir new/sub
[ "$(stat -c %a new new/sub new/sub/inner | tr '\n' ' ')" = "700 700 750 " ]
expect_status 5 kvzip compress -q good.safetensors --output-dir good.safetensors/x
expect_in stderr "good.safetensors: cannot make this folder: "

# Names that are no UTF-8 can be found again.
odd=$(printf 'odd-\377.safetensors')
cp good.safetensors "$odd"
expect_status 0 kvzip compress -q "$odd" good.safetensors -f --json
[ "$(head -n 1 stdout | sed -E 's/.*"input_base64":"([^"]*)".*/\1/' | base64 -d)" = "$odd" ]
[ "$(head -n 1 stdout | sed -E 's/.*"output_base64":"([^"]*)".*/\1/' | base64 -d)" = "$odd.kvz" ]
[ "$(grep -c base64 stdout)" = 1 ]
expect_status 0 kvzip inspect --json "$odd" good.safetensors
[ "$(head -n 1 stdout | sed -E 's/.*"file_base64":"([^"]*)".*/\1/' | base64 -d)" = "$odd" ]

# Processes share the memory: where it is not enough for all, fewer work, and what failed is tried again by itself.
kvzip synth -q -o big1.safetensors --layers 4 --heads 8 --head-dim 128 --tokens 4000 --no-query
for n in 2 3 4; do cp big1.safetensors big$n.safetensors; done
alone=''
for size in 16M 24M 32M 40M 48M 64M; do
  if kvzip compress -q -f big1.safetensors -o /dev/null -j 1 --memlimit $size 2>/dev/null; then alone=${alone:-$size}; else alone=''; fi
done
[ -n "$alone" ] # enough from there on
expect_status 0 kvzip compress -f big[1-4].safetensors --output-dir starved --jobs 4 --memlimit $alone
expect_in stderr "4 files: 4 done"
for n in 1 2 3 4; do cmp starved/big$n.safetensors.kvz starved/big1.safetensors.kvz; done
if limits_memory; then
  expect_status 1 kvzip compress -f big[12].safetensors --output-dir starved --jobs 2 --memlimit 8M --keep-going --json
  expect_in stderr "2 files: 0 done, 2 failed"
  [ "$(grep -c '"outcome":"failed","status":1,"error":"not enough memory; ' stdout)" = 2 ]
fi

# What nobody wrote to was given up beside other inputs, and waited for alone.
wait $silent || true
for command in verify inspect compress; do
  [ "$(cat silent/$command.status)" = 5 ]
  expect_in silent/$command.err "silent/a.safetensors: a pipe that nobody writes to: given up after 30 s"
done
expect_in silent/verify.err "silent/a.safetensors: a pipe, waiting for somebody to write to it"
if grep -q waiting silent/compress.err; then exit 1; fi
[ "$(ls silent/out)" = b.safetensors.kvz ]
[ "$(cat silent/alone.status)" = 124 ]
