# cut: fewer components of a container of nested ones, without its dump.
kvzip synth -o a.safetensors --layers 2 --heads 2 --head-dim 16 --tokens 64
kvzip compress -q a.safetensors -o a.kvz --preset matryoshka
expect_status 0 kvzip cut a.kvz -o b.kvz --share 0.2
expect_in stderr "a.kvz: "
[ "$(stat -c %s b.kvz)" -lt "$(stat -c %s a.kvz)" ]
expect_status 0 kvzip verify b.kvz
expect_status 0 kvzip inspect b.kvz
expect_in stdout "nested:share=0.2"
expect_status 1 kvzip cut a.kvz -o b.kvz --share 0.2
expect_in stderr "exists"
expect_status 0 kvzip cut a.kvz -o /dev/null --share 0.2 -f
expect_status 0 bash -c 'kvzip cut a.kvz -o - --share 0.2 >c.kvz'
cmp b.kvz c.kvz

kvzip compress -q a.safetensors -o int8.kvz --preset int8
expect_status 1 kvzip cut int8.kvz -o d.kvz --share 0.2
expect_in stderr "can be cut"
[ ! -e d.kvz ]
expect_status 2 kvzip cut a.kvz -o d.kvz --share 1.5
head -c 4000 a.kvz >short.kvz
expect_status 3 kvzip cut short.kvz -o d.kvz --share 0.2
[ ! -e d.kvz ]
