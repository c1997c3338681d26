# Tables: what a container stores is listed, can be taken out to a file, and serves other containers from there.
kvzip synth -o a.safetensors --layers 2 --heads 2 --head-dim 16 --tokens 128 --no-query
kvzip compress -q a.safetensors -o a.kvz --key klt:bits=8:basis=tensor,pack --value quant:bits=4,pack
expect_status 0 kvzip inspect a.kvz
expect_in stdout "hash"
[ "$(grep -c ' klt  *[0-9a-f]\{16\}$' stdout)" = 2 ] # one for the keys of each layer

kvzip convert a.kvz a-tables.kvzd
expect_status 1 kvzip convert a.kvz a-tables.kvzd
expect_in stderr "exists already"
expect_status 0 kvzip inspect a-tables.kvzd
expect_in stdout "2 tables"
grep ' klt ' stdout >taken
kvzip inspect a.kvz | grep -E ' klt +[0-9a-f]{16}$' | cmp - taken

# Another container names them by hash, and needs them to be decoded.
name=$(awk '{ print $1; exit }' taken)
hash=$(awk '{ print $4; exit }' taken)
kvzip compress -q a.safetensors -o b.kvz --key klt:bits=8:basis=$name,pack --value quant:bits=4,pack --tables a-tables.kvzd
expect_status 0 kvzip inspect b.kvz
expect_in stdout "basis=$hash"
expect_status 4 kvzip decompress b.kvz -o b.safetensors
expect_in stderr "$hash"
[ ! -e b.safetensors ]
kvzip decompress b.kvz -o b.safetensors --tables a-tables.kvzd
mv a-tables.kvzd b.kvzd
kvzip decompress b.kvz -o beside.safetensors
cmp b.safetensors beside.safetensors

# Nothing to take out, and what is no container.
kvzip compress -q a.safetensors -o none.kvz --preset int4
expect_status 1 kvzip convert none.kvz x.kvzd
expect_in stderr "stores tables"
expect_status 1 kvzip convert a.safetensors x.kvzd
expect_status 2 kvzip convert a.kvz x.kvzd --to hdf5
head -c 40 b.kvzd >cut.kvzd
expect_status 3 kvzip inspect cut.kvzd
cp a.safetensors bad.kvzd
expect_status 3 kvzip inspect bad.kvzd
[ ! -e x.kvzd ]

# As JSON, with the attributes that are not of the file alone.
expect_status 0 kvzip inspect a.kvz --json
expect_in stdout '"tables"'
expect_in stdout "\"hash\": \"$hash\""
expect_status 0 kvzip inspect b.kvzd --json
expect_in stdout '"kind": "kvzd"'
expect_status 0 bash -c 'cat a.kvz | kvzip inspect --json -'
expect_in stdout '"tables": null'
