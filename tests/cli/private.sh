# Private stays private, and nothing is left behind: permissions, killed runs, full disks, inputs that change.
umask 022
kvzip synth -q -o a.safetensors --layers 8 --heads 8 --head-dim 64 --tokens 1024 --no-query
chmod 600 a.safetensors
mkdir out tmp
export TMPDIR=$PWD/tmp
kvzip compress -q a.safetensors -o out/a.kvz --preset int4
kvzip convert -q a.safetensors out/a.h5
kvzip decompress -q out/a.kvz -o out/b.safetensors
kvzip compress -q - -o out/c.kvz --preset int4 <a.safetensors
touch out/d.kvz # readable for all until now
kvzip compress -q -f a.safetensors -o out/d.kvz --preset int4
[ "$(stat -c %a out/* | sort -u)" = 600 ]
chmod 644 a.safetensors
kvzip compress -q --no-sync a.safetensors -o out/e.kvz --preset int4
[ "$(stat -c %a out/e.kvz)" = 644 ]
[ -z "$(ls -A tmp)" ]
# With an access list the bits of the group are its mask, and may be one other user's alone.
if command -v python3 >/dev/null && python3 - 2>/dev/null <<'PY'; then
import os, struct
os.chmod("a.safetensors", 0o600)
none = 0xffffffff
entries = [(1, 6, none), (2, 4, 12345), (4, 0, none), (16, 4, none), (32, 0, none)]
os.setxattr("a.safetensors", "system.posix_acl_access", struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries))
PY
  [ "$(stat -c %a a.safetensors)" = 640 ]
  kvzip compress -q a.safetensors -o out/f.kvz --preset int4
  [ "$(stat -c %a out/f.kvz)" = 600 ]
  python3 -c 'import os; os.removexattr("a.safetensors", "system.posix_acl_access")'
fi
chmod 644 a.safetensors
[ -z "$(ls -A tmp)" ]

# Killed at any time: no output, or a whole one, and nothing else.
rm out/*
for signal in KILL QUIT TERM INT HUP XCPU; do
  for delay in 0.02 0.08; do
    # timeout sends them: a child of this shell that is not kvzip yet would end as the shell does, and clean up.
    timeout -s $signal $delay kvzip compress -q -f a.safetensors -o out/k.kvz --preset cachegen-2 2>/dev/null || true
    [ ! -e out/k.kvz ] || kvzip verify -q out/k.kvz
    rm -f out/k.kvz
    [ -z "$(ls -A out tmp | grep -v : || true)" ] || { echo "$signal left $(ls -A out tmp)" >&2; exit 1; }
  done
done
# HDF5, too, into files and into pipes.
kvzip compress -q -f a.safetensors -o k.kvz --preset int8
for signal in KILL ABRT TERM; do
  for delay in 0.01 0.03; do
    timeout -s $signal $delay kvzip decompress -q -f k.kvz -o out/k.h5 2>/dev/null || true
    timeout -s $signal $delay kvzip decompress -q k.kvz --to hdf5 -o - >/dev/null 2>&1 || true
    [ ! -e out/k.h5 ] || kvzip verify -q out/k.h5
    rm -f out/k.h5
    [ -z "$(ls -A out tmp | grep -v : || true)" ] || { echo "$signal left $(ls -A out tmp)" >&2; exit 1; }
  done
done

# A file larger than the process may write, and a folder that is full.
(ulimit -f 100 && expect_status 5 kvzip compress a.safetensors -o out/x.kvz && expect_in stderr "out/x.kvz: cannot write")
[ -z "$(ls -A out)" ]
# An HDF5 file that is made again from what was beside its tensors: by way of copies in TMPDIR, which are limited, too.
beside=$root/tests/golden/hdf5/beside.h5
for most in 2 4 8 12 16; do # kB, of 17
  (ulimit -f $most && expect_status 5 kvzip convert -q "$beside" out/x.h5)
  expect_in stderr "out/x.h5"
  expect_in stderr "cannot write: File too large"
  [ -z "$(ls -A out)" ]
done
if mount -t tmpfs -o size=1M none out 2>/dev/null; then
  trap 'umount "$work/out"; rm -rf "$work"' EXIT
  for command in "compress a.safetensors -o out/x.kvz --preset int8" "convert a.safetensors out/x.h5" \
    "convert a.safetensors out/x.safetensors"; do
    # shellcheck disable=SC2086
    expect_status 5 kvzip $command
    expect_in stderr "No space left on device"
    [ -z "$(ls -A out)" ]
  done
  for size in 4 8 12 16 20 24; do
    mount -o remount,size=${size}k out
    got=0
    kvzip convert -q "$beside" out/x.h5 2>stderr || got=$?
    if [ $got = 0 ]; then
      kvzip compare -q --max-abs 0 "$beside" out/x.h5
      rm out/x.h5
    else
      [ $got = 5 ]
      expect_in stderr "out/x.h5: cannot write: No space left on device"
    fi
    [ -z "$(ls -A out)" ]
  done
  umount out
  trap 'rm -rf "$work"' EXIT
fi

# An input that is cut while it is read: status 3, from HDF5, too, and no output.
kvzip convert -q a.safetensors a.h5
for name in a.h5 a.safetensors; do
  cp $name cut.in
  kvzip compress -q -j1 cut.in -o out/x.kvz --preset zstd-planes 2>stderr & # slow enough to be met while it reads
  pid=$!
  sleep 0.05
  truncate -s 100000 cut.in
  status=0
  wait $pid || status=$?
  [ $status = 3 ] || { echo "$name: $status" >&2; cat stderr >&2; exit 1; }
  [ -z "$(ls -A out)" ]
done

# What never ends is looked at before it is copied.
expect_status 4 timeout 20 kvzip inspect <(yes)
[ -z "$(ls -A tmp)" ]
