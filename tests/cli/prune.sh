# prune: policies, masks, lists by layer and head, what the output says of itself.
kvzip synth -q -o a.safetensors --layers 3 --heads 2 --head-dim 32 --tokens 400
kvzip compress -q a.safetensors -o a.kvz --preset lossless
kvzip decompress -q a.kvz -o q.safetensors --role query

# StreamingLLM: the first 4 and the last tokens, as they were.
expect_status 0 kvzip prune a.safetensors s.safetensors --policy streaming --keep 25%
[ ! -s stdout ]
kvzip decompress -q a.kvz -o last.safetensors --role key,value --tokens 304:400
printf '1111' >short
expect_status 1 kvzip prune a.kvz x.safetensors --mask short
expect_in stderr "of 4 tokens, the cache of 400"
printf '0%.0s' {1..304} >mask
printf '1%.0s' {1..96} >>mask
kvzip prune -q a.kvz masked.safetensors --mask mask
kvzip compare --mix masked.safetensors last.safetensors --common --max-abs 0
printf '0%.0s' {1..400} >none
expect_status 1 kvzip prune a.kvz x.safetensors --mask none
expect_in stderr "no token would stay"
kvzip prune -q a.kvz sinks.safetensors --mask none --sinks 4 --window 96
kvzip compare sinks.safetensors s.safetensors --max-abs 0
expect_status 0 kvzip inspect s.safetensors
expect_in stdout "positions"
if grep -q query stdout; then exit 1; fi

# H2O and Keyformer: the same for every form of the file and any number of threads; noise by seed.
for policy in h2o keyformer; do
  for by in sequence layer head; do
    kvzip prune -q a.safetensors $policy.$by.safetensors --policy $policy --by $by --keep 100 --sinks 2
    kvzip prune -q a.kvz one.safetensors --policy $policy --by $by --keep 100 --sinks 2 -j 1 -f
    kvzip compare $policy.$by.safetensors one.safetensors --max-abs 0
  done
  if cmp -s $policy.sequence.safetensors $policy.layer.safetensors; then exit 1; fi
  if cmp -s $policy.layer.safetensors $policy.head.safetensors; then exit 1; fi
done
kvzip inspect h2o.sequence.safetensors --json | grep -A9 '"positions"' | tr -d ' \n' | grep -q '"shape":\[100\]'
kvzip inspect h2o.head.safetensors --json | grep -A9 '"positions"' | tr -d ' \n' | grep -q '"shape":\[3,2,100\]'
kvzip prune -q a.safetensors seeded.safetensors --policy keyformer --by head --keep 100 --sinks 2 --seed 1
if cmp -s seeded.safetensors keyformer.head.safetensors; then exit 1; fi
kvzip prune -q a.safetensors few.safetensors --keep 100 --queries-per-head 20 --window 0
kvzip prune -q a.safetensors all.safetensors --keep 1000
kvzip compare a.safetensors all.safetensors --common --max-abs 0

# KVMerger: runs of similar keys become one token each, by sequence, layer or head, between sinks and window.
for by in sequence layer head; do
  kvzip prune -q a.safetensors m.$by.safetensors --policy kvmerger --by $by --keep 25% --sinks 2 --window 10
  kvzip prune -q a.kvz one.safetensors --policy kvmerger --by $by --keep 100 --sinks 2 --window 10 -j 1 -f
  kvzip compare m.$by.safetensors one.safetensors --max-abs 0
done
kvzip inspect m.sequence.safetensors --json | grep -A9 '"positions"' | tr -d ' \n' | grep -q '"shape":\[100\]'
kvzip inspect m.head.safetensors --json | grep -A9 '"positions"' | tr -d ' \n' | grep -q '"shape":\[3,2,100\]'
kvzip compress -q m.head.safetensors -o ends.kvz --preset lossless --tokens 90:100 --role key,value
kvzip compress -q a.safetensors -o window.kvz --preset lossless --tokens 390:400 --role key,value
kvzip compare --mix window.kvz ends.kvz --max-abs 0
kvzip prune -q a.safetensors every.safetensors --policy kvmerger --keep 100%
kvzip compare a.safetensors every.safetensors --common --max-abs 0
expect_status 0 kvzip compress -q m.head.safetensors -o m.kvz --preset kivi-4
kvzip attend -q m.kvz --queries q.safetensors -o m-out.safetensors
expect_status 2 kvzip prune a.safetensors x.safetensors --policy kvmerger --keep 10 --sinks 5 --window 5
expect_in stderr "leave no token for what is merged"

# The shorter cache is a dump like any other; it is not rotated by the number of its rows.
expect_status 0 kvzip compress h2o.head.safetensors -o small.kvz --preset kivi-4
kvzip prune -q a.safetensors small.h5 --keep 100 --by head --sinks 2
kvzip compare h2o.head.safetensors small.h5 --max-abs 0
kvzip attend -q small.kvz --queries q.safetensors -o out.safetensors

# What --map and --layout say counts for a container too, whose own roles are others.
kvzip synth -q -o noq.safetensors --layers 2 --heads 2 --head-dim 32 --tokens 100 --no-query
LC_ALL=C sed 's/layers\.\([0-9]\)\.key/strata.\1.foo/g; s/layers\.\([0-9]\)\.value/strata.\1.quuux/g' noq.safetensors >odd.safetensors
kvzip compress -q odd.safetensors -o odd.kvz --preset lossless
kvzip compress -q noq.safetensors -o noq.kvz --preset lossless
for named in "odd --map strata.{L}.foo=key:HTD --map strata.{L}.quuux=value:HTD --keep 50" "noq --layout THD --keep 1"; do
  read -r name how <<<"$named"
  for form in kvz safetensors; do
    # shellcheck disable=SC2086 # several words
    expect_status 0 kvzip prune $name.$form $name.$form.safetensors --policy streaming $how
  done
  cmp $name.kvz.safetensors $name.safetensors.safetensors
done

# What cannot be.
expect_status 1 kvzip prune h2o.head.safetensors x.safetensors --keep 50 --queries q.safetensors
expect_in stderr "left out before"
expect_status 1 kvzip prune noq.safetensors x.safetensors --keep 50
expect_in stderr "no queries"
expect_status 1 kvzip prune noq.safetensors x.safetensors --keep 50 --policy kvmerger
expect_in stderr "no queries"
kvzip prune -q noq.safetensors fine.safetensors --keep 50 --policy streaming
expect_status 2 kvzip prune a.safetensors x.safetensors
expect_status 2 kvzip prune a.safetensors x.safetensors --keep 0
expect_status 2 kvzip prune a.safetensors x.safetensors --keep 120%
expect_status 2 kvzip prune a.safetensors x.safetensors --keep 10 --sinks 6 --window 5
expect_in stderr "fewer than 6 sinks and a window of 5"
expect_status 2 kvzip prune a.safetensors x.safetensors --keep 10 --policy streaming --by head
expect_status 2 kvzip prune a.safetensors x.safetensors --keep 10 --policy streaming --window 5
expect_status 2 kvzip prune a.safetensors x.safetensors --keep 10 --mask mask
expect_status 2 kvzip prune a.safetensors x.safetensors --keep 10 --policy lru
expect_status 1 kvzip prune a.safetensors a.safetensors --keep 10 -f
expect_status 2 kvzip prune a.safetensors x.kvz --keep 10
[ ! -e x.safetensors ]

# What HDF5 held beside tensors belongs to the file with all its tokens: it is left out, which is said.
beside=$root/tests/golden/hdf5/beside.h5
expect_status 0 kvzip prune "$beside" kept.safetensors --policy streaming --keep 5
expect_in stderr "left out: "
expect_in stderr "'records'"
kvzip inspect kept.safetensors >inspected
[ "$(grep -c kvzip.hdf5 inspected)" = 0 ]
kvzip compress -q "$beside" -o beside.kvz --preset lossless
expect_status 0 kvzip decompress beside.kvz -o part.h5 --role key
expect_in stderr "beside tensors"
expect_status 0 kvzip decompress beside.kvz -o whole.h5
[ ! -s stderr ]
