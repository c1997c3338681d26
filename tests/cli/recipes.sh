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
  # Only what is missing, changed, or of another preset is made, whatever names stand before it.
  touch -d 2001-01-01 in/* parted/.preset
  touch -d 2001-01-02 parted/*.kvz
  expect_status 0 bash "$recipes/parallel.sh" in parted int8
  [ "$(find parted -name '*.kvz' -newermt 2002-01-01)" = parted/cut.kvz ]
  cp "$sample" in/a.safetensors
  rm parted/dump-2.kvz
  touch -d 2001-01-02 parted/*.kvz
  expect_status 0 bash "$recipes/parallel.sh" in parted int8
  [ "$(find parted -name '*.kvz' -newermt 2002-01-01 | sort | tr '\n' ' ')" = "parted/a.kvz parted/dump-2.kvz " ]
  expect_status 0 bash "$recipes/parallel.sh" in parted int4
  for kvz in parted/*.kvz; do
    kvzip inspect "$kvz" >stdout
    expect_in stdout "preset int4"
  done
fi

# No byte of the dump stands on the way; a name with what a shell would take apart arrives.
PRESET=int8 bash "$recipes/send.sh" in/dump-1.safetensors "there it's.kvz"
kvzip compare "$sample" "there it's.kvz" --max-nrmse 0.05 >/dev/null
[ "$(stat -c %a "there it's.kvz")" = 600 ]
printf 'head -c 1000 >/dev/null; exit 1\n' >broken
if PRESET=int8 bash "$recipes/send.sh" in/dump-1.safetensors gone.kvz sh broken; then exit 1; fi
[ ! -e gone.kvz ]
# What does not arrive whole leaves nothing there, and until then it is its owner's alone.
head -c 100000 "$sample" >short.safetensors
if PRESET=int8 bash "$recipes/send.sh" short.safetensors gone.kvz 2>/dev/null; then exit 1; fi
if ls -A | grep -F gone; then exit 1; fi

# Slurm says how much memory there is, by node or by processor.
mkdir bin
printf '#!/bin/sh\necho "$@"\n' >bin/srun
chmod +x bin/srun
task() { env PATH="$PWD/bin:$PATH" SLURM_ARRAY_TASK_ID=0 SLURM_ARRAY_TASK_MIN=0 SLURM_ARRAY_TASK_COUNT=1 "$@" bash "$recipes/array.sbatch" in out; }
expect_status 0 task SLURM_MEM_PER_NODE=700
expect_in stdout "--memlimit 700M"
expect_status 0 task SLURM_MEM_PER_CPU=300 SLURM_CPUS_PER_TASK=4
expect_in stdout "--memlimit 1200M"
expect_status 0 task
if grep -F -e --memlimit stdout; then exit 1; fi
