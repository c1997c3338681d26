# The recipes: make, GNU parallel, and a pipe as ssh is one. (Slurm is .ci/check-slurm.sh's.)
recipes=$root/samples/recipes
mkdir in
for n in 1 2 3; do cp "$sample" "in/dump-$n.safetensors"; done

make -s -j 2 -f "$recipes/Makefile" IN=in OUT=made PRESET=int8
kvzip verify -q made/*.kvz
[ "$(ls made | wc -l)" = 3 ]
# Only what is missing, changed, or of another preset is made.
touch -d 2001-01-01 in/* made/.preset
touch -d 2001-01-02 made/*.kvz
rm made/dump-2.kvz
make -s -f "$recipes/Makefile" IN=in OUT=made PRESET=int8 verify
[ "$(find made -name '*.kvz' -newermt 2002-01-01)" = made/dump-2.kvz ]
make -s -f "$recipes/Makefile" IN=in OUT=made PRESET=int4
kvzip inspect made/dump-1.kvz >stdout
expect_in stdout "preset int4"
head -c 100000 "$sample" >in/cut.safetensors
if make -s -f "$recipes/Makefile" IN=in OUT=made PRESET=int4 2>stderr; then exit 1; fi
expect_in stderr "cut.safetensors"
[ ! -e made/cut.kvz ]

if command -v parallel >/dev/null; then
  expect_status 1 bash "$recipes/parallel.sh" in parted int8
  kvzip verify -q parted/*.kvz
  [ "$(ls parted | wc -l)" = 3 ]
  cp "$sample" in/cut.safetensors
  touch -d 2001-01-01 parted/*.kvz
  expect_status 0 bash "$recipes/parallel.sh" in parted int8
  [ "$(find parted -name '*.kvz' -newermt 2002-01-01)" = parted/cut.kvz ]
fi

# No byte of the dump stands on the way; a name with what a shell would take apart arrives.
PRESET=int8 bash "$recipes/send.sh" in/dump-1.safetensors "there it's.kvz"
kvzip compare "$sample" "there it's.kvz" --max-nrmse 0.05 >/dev/null
printf 'head -c 1000 >/dev/null; exit 1\n' >broken
if PRESET=int8 bash "$recipes/send.sh" in/dump-1.safetensors gone.kvz sh broken; then exit 1; fi
[ ! -e gone.kvz ]
