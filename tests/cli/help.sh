# Help: the first page fits one screen; each shows two examples that begin like commands, and goes to standard output.
expect_status 0 kvzip --help
[ ! -s stderr ]
cp stdout top
[ "$(wc -l <top)" -le 30 ]
expect_status 0 kvzip --version
cp stdout long
expect_status 0 kvzip -V
cmp stdout long
grep -qxE "kvzip [0-9]+\.[0-9]+\.[0-9]+" <(head -n 1 long)
grep -qxE "with HDF5 [0-9.]+, zstd [0-9.]+" long
# The instruction set in use is one of those that were compiled.
used=$(sed -nE 's/^instruction set ([A-Z0-9_]+), of .*/\1/p' long)
grep -qE "^instruction set .*, of (.* )?$used( |\$)" long

for command in compress decompress append inspect verify recover cut compare diff bench convert prune attend pages list synth plan completion; do
  expect_in top "  $command"
  expect_status 0 kvzip $command --help
  [ ! -s stderr ]
  [ "$(wc -l <stdout)" -le 61 ]
  expect_in stdout "Usage: kvzip $command"
  [ "$(grep -c "^  kvzip " stdout)" -ge 2 ]
  cat stdout >>top
done
if awk 'length($0) > 80' top | grep .; then exit 1; fi
