# Dumps that begin alike in one file: a tar archive of their containers.
umask 022
kvzip synth -q -o all.safetensors --layers 2 --heads 2 --head-dim 16 --tokens 96 --no-query
kvzip synth -q -o other.safetensors --layers 2 --heads 2 --head-dim 16 --tokens 64 --no-query --seed 9
kvzip compress -q all.safetensors -o whole.kvz --preset lossless
kvzip decompress -q whole.kvz -o a.safetensors --tokens 0:40
kvzip decompress -q whole.kvz -o b.safetensors --tokens 0:70
inputs=(a.safetensors b.safetensors other.safetensors)
share=(--share-prefix --chunk-tokens 16 --preset lossless)
expect_status 0 kvzip compress "${inputs[@]}" -o folder "${share[@]}"
expect_status 0 kvzip compress "${inputs[@]}" -o all.kvz.tar "${share[@]}"
expect_in stderr "40 tokens of"
expect_in stderr "3 files: 3 done; "
expect_in stderr "; 40 tokens, "
expect_in stderr "stored once"

# It is the folder, for tar, too; bases come first, and the same inputs make the same bytes.
[ "$(tar tf all.kvz.tar)" = "$(printf '%s.kvz\n' "${inputs[@]}")" ]
TZ=UTC tar tvf all.kvz.tar >listing
[ "$(grep -c '^-rw------- 0/0 .* 1970-01-01 00:00 ' listing)" = 3 ]
mkdir unpacked
tar xf all.kvz.tar -C unpacked
diff -r folder unpacked
expect_status 0 kvzip compress "${inputs[@]}" -q -o again.tar "${share[@]}"
cmp all.kvz.tar again.tar
tar -H posix -cf made.tar -C folder a.safetensors.kvz b.safetensors.kvz other.safetensors.kvz
tar -H gnu -cf gnu.kvz.tar -C folder b.safetensors.kvz a.safetensors.kvz

# Names as most people's tar writes them.
(cd folder && tar cf ../dotted.tar ./*.kvz && tar -H posix -cf ../posix.tar . && tar cf ../here.kvz.tar .)
for file in dotted posix here.kvz; do
  expect_status 0 kvzip verify $file.tar
  expect_in stderr "$file.tar/b.safetensors.kvz: sound (container)"
  expect_status 0 kvzip compare b.safetensors $file.tar/b.safetensors.kvz --max-abs 0
done
tar --hard-dereference -cf twice.tar -C folder a.safetensors.kvz ./a.safetensors.kvz
expect_status 3 kvzip verify twice.tar
expect_in stderr "two members 'a.safetensors.kvz'"

# Read as a whole, and by members.
expect_status 0 kvzip inspect all.kvz.tar
expect_in stdout "all.kvz.tar: a collection of containers (3), "
expect_in stdout "40 tokens of a.safetensors.kvz"
expect_in stdout "to decode: kvzip decompress all.kvz.tar --output-dir DIR"
expect_status 0 kvzip inspect --json all.kvz.tar
expect_in stdout '"kind": "collection"'
expect_status 0 kvzip inspect all.kvz.tar whole.kvz
expect_in stdout "all.kvz.tar/other.safetensors.kvz"
expect_status 2 kvzip inspect --why all.kvz.tar
expect_status 0 kvzip inspect all.kvz.tar/b.safetensors.kvz
expect_in stdout "shared: its first 40 tokens are those of a.safetensors.kvz"
for file in all.kvz.tar made.tar; do
  expect_status 0 kvzip verify $file whole.kvz
  expect_in stderr "$file/b.safetensors.kvz: sound (container)"
  expect_in stderr "4 files: 4 done"
  expect_status 0 kvzip decompress -q $file --output-dir out-$file
  for one in "${inputs[@]}"; do cmp "$one" "out-$file/$one"; done
done
expect_status 0 kvzip verify gnu.kvz.tar
expect_status 0 kvzip verify all.kvz.tar --jobs 2 --json
expect_in stdout '"input":"all.kvz.tar/a.safetensors.kvz"'
mkdir nested nested/sub
cp all.kvz.tar nested/sub
cp whole.kvz nested
expect_status 0 kvzip decompress -q -r nested --output-dir mirrored --to safetensors
cmp b.safetensors mirrored/sub/b.safetensors
[ -e mirrored/whole.safetensors ]
expect_status 0 kvzip decompress -q all.kvz.tar/b.safetensors.kvz -o one.safetensors
cmp b.safetensors one.safetensors
expect_status 0 kvzip decompress -q all.kvz.tar/b.safetensors.kvz -o part.safetensors --tokens 30:50
expect_status 0 kvzip compare b.safetensors all.kvz.tar/b.safetensors.kvz --max-abs 0
expect_status 5 kvzip decompress all.kvz.tar/none.kvz -o x.safetensors
expect_in stderr "all.kvz.tar/none.kvz: no member of this name is in the collection"
expect_status 2 kvzip decompress all.kvz.tar -o x.safetensors
expect_in stderr "--output-dir"
expect_status 2 kvzip decompress all.kvz.tar
expect_in stderr "a collection holds goes into a folder, which --output-dir names"
expect_status 1 kvzip decompress all.kvz.tar/b.safetensors.kvz -o all.kvz.tar --to safetensors -f
expect_in stderr "the same file"

# Commands of one dump say what it is; so does a pipe.
for command in "compare all.kvz.tar a.safetensors" "attend all.kvz.tar -o x.safetensors" "sweep all.kvz.tar" "convert all.kvz.tar x.h5" \
  "bench all.kvz.tar" "compress all.kvz.tar -o x.kvz" "recover all.kvz.tar -o x.kvz" "cut all.kvz.tar -o x.kvz --share 0.5" \
  "append all.kvz.tar other.safetensors" "pages all.kvz.tar" "diff all.kvz.tar whole.kvz"; do
  status=0
  # shellcheck disable=SC2086
  kvzip $command >stdout 2>stderr </dev/null || status=$?
  [ $status = 4 ] || { echo "exit status $status: $command" >&2; cat stderr >&2; exit 1; }
  expect_in stderr "a collection of containers (3): 'all.kvz.tar/a.safetensors.kvz' is the first of them, and 'tar xf' makes each a file"
done
expect_status 4 bash -c 'kvzip verify - <all.kvz.tar'
expect_in stderr "a collection of containers: it is read from a file, not from a pipe"
expect_status 2 kvzip append all.kvz.tar/other.safetensors.kvz other.safetensors
expect_in stderr "'tar xf'"
tar cf dumps.tar a.safetensors
expect_status 4 kvzip inspect dumps.tar
expect_in stderr "looks like a tar archive: unpack it first"

# Cut, or without a base that is beside it.
end=0
for file in folder/*; do end=$((end + 512 + ($(stat -c %s "$file") + 511) / 512 * 512)); done
for cut in 100 700 $((end / 2)) "$end" $((end + 512)) $((end + 1023)); do
  head -c "$cut" all.kvz.tar >cut.tar
  for command in "verify cut.tar" "inspect cut.tar" "decompress cut.tar --output-dir x" "decompress cut.tar/a.safetensors.kvz -o x --to safetensors"; do
    status=0
    # shellcheck disable=SC2086
    kvzip $command >stdout 2>stderr </dev/null || status=$?
    if [ "$cut" -gt 600 ]; then [ $status = 3 ]; else [ $status != 0 ]; fi || { echo "$status: $command, $cut" >&2; exit 1; }
    expect_in stderr "cut.tar"
    [ ! -e x ]
  done
done
cp all.kvz.tar less.tar
tar --delete -f less.tar a.safetensors.kvz
cp folder/a.safetensors.kvz .
expect_status 5 kvzip verify less.tar
expect_in stderr "less.tar/a.safetensors.kvz: not here, and the first 40 tokens of less.tar/b.safetensors.kvz are in it"
expect_in stderr "less.tar/other.safetensors.kvz: sound"
expect_status 5 kvzip decompress less.tar/b.safetensors.kvz -o x.safetensors
# As in a folder, what the container itself holds is shown.
expect_status 0 kvzip inspect less.tar
expect_in stdout "other.safetensors.kvz"
expect_in stdout "40 tokens of a.safetensors.kvz"
expect_in stderr "less.tar/b.safetensors.kvz: less.tar/a.safetensors.kvz: not here"
expect_status 0 kvzip inspect less.tar/b.safetensors.kvz
expect_in stdout "shared: its first 40 tokens are those of a.safetensors.kvz"
expect_in stderr "shown are the tokens that it holds itself"
[ ! -e x.safetensors ]
# What is left of a cut one: whole members before the cut, the one that it goes through as far as it goes.
size_a=$(stat -c %s folder/a.safetensors.kvz)
size_b=$(stat -c %s folder/b.safetensors.kvz)
begin_b=$((512 + (size_a + 511) / 512 * 512 + 512))
head -c $((begin_b + size_b * 2 / 3)) all.kvz.tar >cut.tar
expect_status 3 kvzip recover cut.tar --output-dir left
expect_in stderr "cut.tar/a.safetensors.kvz: 100 % of its values are in left/a.safetensors.kvz"
expect_in stderr "cut.tar/b.safetensors.kvz: lost: "
expect_in stderr "cut.tar: member 'b.safetensors.kvz' has $size_b bytes, and the collection ends after $((size_b * 2 / 3)) of them"
[ "$(ls left)" = "$(printf '%s\n' a.safetensors.kvz b.safetensors.kvz)" ]
cmp left/a.safetensors.kvz folder/a.safetensors.kvz
expect_status 0 kvzip verify left/b.safetensors.kvz
expect_status 3 kvzip recover cut.tar --output-dir left
expect_in stderr "left/a.safetensors.kvz: exists already"
expect_status 3 kvzip recover cut.tar --json
[ "$(wc -l <stdout)" = 3 ]
sed -n 1p stdout >line
expect_in line '"lost":0,'
sed -n 2p stdout >line
grep -qE '"lost":[1-9][0-9]*,' line
sed -n 3p stdout >line
grep -q '^{"file":"cut.tar","error":"cut.tar: ' line
# Of one whose members' first bytes are damaged, too, and past what is no container.
mkdir harmed
kvzip compress -q -1 a.safetensors b.safetensors --output-dir harmed
echo text >harmed/c.txt
tar -C harmed -H posix -cf harmed.tar a.safetensors.kvz c.txt b.safetensors.kvz
at=$(LC_ALL=C grep -aboF KVZ harmed.tar | LC_ALL=C sed -n '1s/:.*//p') # behind the first byte of a container
printf '\377' | dd of=harmed.tar bs=1 seek="$at" conv=notrunc status=none
expect_status 4 kvzip recover harmed.tar --output-dir mended
expect_in stderr "the first 32 bytes are damaged"
expect_in stderr "harmed.tar: member 'a.safetensors.kvz' is no container"
for name in a b; do
  kvzip decompress -q mended/$name.safetensors.kvz -o mended/$name.safetensors
  expect_status 0 kvzip compare $name.safetensors mended/$name.safetensors --max-abs 0
done
expect_status 0 kvzip recover cut.tar/a.safetensors.kvz -o saved.npz
expect_status 0 kvzip compare a.safetensors saved.npz --max-abs 0
expect_status 3 kvzip recover cut.tar/b.safetensors.kvz -o cut-b.npz
expect_in stderr "cut.tar/b.safetensors.kvz: lost: "
expect_status 5 kvzip recover cut.tar/other.safetensors.kvz -o none.npz
expect_in stderr "no member of this name is in the collection, as far as it can be read: member 'b.safetensors.kvz' has"
[ ! -e none.npz ]
# A container that begins with tokens of another is whole, too, beside it.
head -c $((begin_b + (size_b + 511) / 512 * 512)) all.kvz.tar >cut.tar
expect_status 3 kvzip recover -q cut.tar --output-dir both
expect_in stderr "its end is missing"
expect_status 0 kvzip compare b.safetensors both/b.safetensors.kvz --max-abs 0
expect_status 0 kvzip recover -q all.kvz.tar --output-dir everything
diff -r everything folder
expect_status 2 kvzip recover all.kvz.tar --output-dir x --to safetensors
expect_status 2 kvzip recover whole.kvz --output-dir x
expect_status 2 kvzip recover all.kvz.tar -o x.kvz --output-dir x
[ ! -e x ]
# A member that was changed is named with its frame.
offset=$(grep -abo -m 1 'other.safetensors.kvz' all.kvz.tar | tail -n 1 | cut -d : -f 1)
cp all.kvz.tar bad.tar
printf 'ruin' | dd of=bad.tar bs=1 seek=$((offset + 512 + 3000)) conv=notrunc status=none
expect_status 3 kvzip verify bad.tar
expect_in stderr "bad.tar/other.safetensors.kvz: "
expect_in stderr "bad.tar/b.safetensors.kvz: sound"

# What is there already, and what is no name for a collection.
expect_status 1 kvzip compress "${inputs[@]}" -o all.kvz.tar "${share[@]}"
expect_in stderr "exists already"
cmp all.kvz.tar again.tar
expect_status 0 kvzip compress "${inputs[@]}" -q -f -o again.tar "${share[@]}"
cmp all.kvz.tar again.tar
mkdir is.tar
expect_status 0 kvzip compress "${inputs[@]}" -q -o is.tar "${share[@]}"
diff -r folder is.tar
expect_status 2 kvzip compress "${inputs[@]}" -o new.tar "${share[@]}" --jobs 2
expect_in stderr "--jobs"
expect_status 2 kvzip compress "${inputs[@]}" -o new.tar "${share[@]}" --skip-existing
expect_status 2 kvzip compress "${inputs[@]}" -o one.kvz "${share[@]}"
expect_in stderr "as -o one.kvz.tar"
expect_status 1 kvzip compress a.safetensors other.safetensors -o joined.kvz
expect_in stderr "-o NAME.kvz.tar"
cp a.safetensors nested/sub
expect_status 2 kvzip compress a.safetensors nested/sub/a.safetensors -o new.tar "${share[@]}"
expect_in stderr "would both become new.tar/a.safetensors.kvz"
cp a.safetensors 'a\b.safetensors'
expect_status 2 kvzip compress 'a\b.safetensors' -o new.tar "${share[@]}"
expect_in stderr "no member of this name"
mkfifo pipe.tar
expect_status 2 timeout 20 kvzip compress "${inputs[@]}" -o pipe.tar "${share[@]}"
long=$(printf 'n%.0s' {1..120}).safetensors
cp a.safetensors "$long"
expect_status 0 kvzip compress "$long" b.safetensors -q -o long.tar "${share[@]}"
[ "$(tar tf long.tar)" = "$(printf '%s.kvz\nb.safetensors.kvz' "$long")" ]
expect_status 0 kvzip compare b.safetensors long.tar/b.safetensors.kvz --max-abs 0
[ ! -e new.tar ]

# A dump that fails leaves nothing; or with --keep-going what there is without it.
head -c 500 a.safetensors >broken.safetensors
expect_status 3 kvzip compress a.safetensors broken.safetensors b.safetensors -o new.tar "${share[@]}"
expect_in stderr "1 not tried"
expect_in stderr "new.tar: not written, as 2 of 3 dumps have no container (--keep-going leaves them out)"
[ ! -e new.tar ]
expect_status 3 kvzip compress a.safetensors broken.safetensors b.safetensors -o new.tar "${share[@]}" --keep-going
[ "$(tar tf new.tar)" = "$(printf 'a.safetensors.kvz\nb.safetensors.kvz')" ]
expect_status 0 kvzip compare b.safetensors new.tar/b.safetensors.kvz --max-abs 0
expect_status 0 kvzip compress "${inputs[@]}" -f -o new.tar "${share[@]}" --json
expect_in stdout '"output":"new.tar/b.safetensors.kvz"'
expect_in stdout '"shared_tokens":40'
expect_status 0 kvzip compress "${inputs[@]}" -qf -o bounded.tar --share-prefix --chunk-tokens 16 --max-error 0.01
for one in "${inputs[@]}"; do expect_status 0 kvzip compare "$one" "bounded.tar/$one.kvz" --max-abs 0.01; done
expect_status 6 kvzip compress a.safetensors b.safetensors -o missed.tar --share-prefix --target-ratio 500
[ ! -e missed.tar ]

# Inputs go once all have been read from the collection.
mkdir gone
cp "${inputs[@]}" gone
expect_status 0 kvzip compress gone/*.safetensors -q -o gone.tar "${share[@]}" --rm
[ -z "$(ls gone)" ]
expect_status 0 kvzip compare b.safetensors gone.tar/b.safetensors.kvz --max-abs 0
cp a.safetensors broken.safetensors gone
expect_status 3 kvzip compress gone/*.safetensors -q -o lost.tar "${share[@]}" --rm
[ "$(ls gone | wc -l)" = 2 ]

# As private as what is in it.
chmod 600 b.safetensors
expect_status 0 kvzip compress "${inputs[@]}" -qf -o again.tar "${share[@]}"
expect_status 0 kvzip compress "${inputs[@]}" -q -o fresh.tar "${share[@]}"
[ "$(stat -c %a all.kvz.tar again.tar fresh.tar | tr '\n' ' ')" = "644 600 600 " ]
chmod 644 b.safetensors

# As many bases behind one another as are allowed, and no more.
mkdir chain
for n in $(seq 20 39); do kvzip decompress -q whole.kvz -o chain/$n.safetensors --tokens 0:$n; done
expect_status 0 kvzip compress chain/*.safetensors -q -o chain.tar --share-prefix --chunk-tokens 4 --preset lossless
for n in 20 30 39; do expect_status 0 kvzip compare chain/$n.safetensors chain.tar/$n.safetensors.kvz --max-abs 0; done
expect_status 0 kvzip verify -q chain.tar

# Killed while it is written: nothing is left.
kvzip synth -q -o large.safetensors --layers 8 --heads 8 --head-dim 64 --tokens 1024 --no-query
cp large.safetensors large2.safetensors
mkdir out tmp
export TMPDIR=$PWD/tmp
for signal in KILL TERM INT; do
  for delay in 0.03 0.1 0.2; do
    timeout -s $signal $delay kvzip compress -q large.safetensors large2.safetensors -o out/k.tar --preset cachegen-2 \
      --share-prefix || true
    [ ! -e out/k.tar ] || kvzip verify -q out/k.tar
    rm -f out/k.tar
    [ -z "$(find out tmp -type f)" ] || { echo "$signal left $(find out tmp -type f)" >&2; exit 1; }
  done
done
(ulimit -f 100 && expect_status 5 kvzip compress large.safetensors -o out/x.tar --share-prefix && expect_in stderr "cannot write")
[ -z "$(ls -A out)" ]

# More dumps than members are refused before any is looked at.
seq -f '%.0f.safetensors' 4097 | tr '\n' '\0' >names
expect_status 1 kvzip compress --files0-from names --share-prefix -o many.kvz.tar
expect_in stderr "many.kvz.tar: 4097 dumps, and a collection has at most 4096 members"
[ ! -e many.kvz.tar ]
# In folders collections are known by what they begin with.
mkdir kept
cp all.kvz.tar kept/c.tar
tar cf kept/no.tar listing
for command in verify inspect; do
  expect_status 0 kvzip $command -r kept --json
  expect_in stdout '"kept/c.tar/a.safetensors.kvz"'
  if grep -qF no.tar stdout; then exit 1; fi
done
expect_status 0 kvzip decompress -q -r kept --output-dir from-c
[ -e from-c/c.tar/a.safetensors ] || [ -e from-c/a.safetensors ]
tar cf kept/mixed.tar whole.kvz listing
expect_status 4 kvzip verify -r kept
expect_in stderr "kept/mixed.tar: member 'listing' is no container"
