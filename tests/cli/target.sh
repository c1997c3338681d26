# compress --target-*: what is asked for is reached, stored, shown and checked again; what cannot be reached says so.
kvzip compress --help >help.txt
for option in --target-ratio --target-bits --target-nrmse --target-attention --max-error; do expect_in help.txt "$option"; done

# within A B: A is at most a hundredth from B.
within() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a <= 1.01 * b && a >= 0.99 * b) }' || { echo "$1 is not $2" >&2; exit 1; }; }

# Sizes, all in.
expect_status 0 kvzip compress "$sample" -o ratio.kvz --target-ratio 4
expect_in stderr "ratio 4: reached"
expect_in stderr "encodes in"
tensors=$(kvzip inspect "$sample" --json | grep -o '"bytes": [0-9]*' | awk '{ sum += $2 } END { print sum }')
within "$(awk -v s="$tensors" -v f="$(stat -c %s ratio.kvz)" 'BEGIN { print s / f }')" 4
expect_status 0 kvzip inspect ratio.kvz
expect_in stdout "asked for: ratio 4"
expect_in stdout "measured when written: keys nrmse"
if grep -q certified stdout; then exit 1; fi
expect_status 0 kvzip compress "$sample" -o bits.kvz --target-bits 3 -q
[ ! -s stderr ]

# An error of keys and of values.
expect_status 0 kvzip compress "$sample" -o nrmse.kvz --target-nrmse 0.1
expect_in stderr "nrmse 0.1: reached keys 0."
kvzip compare "$sample" nrmse.kvz --csv >nrmse.csv
within "$(awk -F, '$1 == "role" && $3 == "key" { print $8 }' nrmse.csv)" 0.1
within "$(awk -F, '$1 == "role" && $3 == "value" { print $8 }' nrmse.csv)" 0.1

# A bound: certified, shown, checked again, and broken for another original.
expect_status 0 kvzip compress "$sample" -o bound.kvz --max-error 0.05
expect_in stderr "every value checked"
expect_status 0 kvzip inspect bound.kvz
expect_in stdout "certified: every key and value within 0.05 of its original"
expect_status 0 kvzip verify bound.kvz
expect_status 0 kvzip compare "$sample" bound.kvz
expect_in stdout "within 0.05 of its original: holds, the largest error is 0.0"
expect_status 0 kvzip compare "$sample" bound.kvz --max-abs 0.05
expect_status 0 bash -c "kvzip compare '$sample' - <bound.kvz"
expect_in stdout "holds, the largest error is 0.0"
expect_status 0 kvzip compare "$sample" bound.kvz --json
expect_in stdout '"holds": true'
expect_status 0 kvzip inspect bound.kvz --json
expect_in stdout '"measure": "max-error"'
kvzip compress -q "$sample" -o rough.kvz --preset kivi-2
kvzip decompress -q rough.kvz -o rough.safetensors
expect_status 6 kvzip compare rough.safetensors bound.kvz
expect_in stdout "broken"
expect_in stderr "bound: every key and value within 0.05 of its original: broken"
expect_in stderr "the original may not be"
expect_status 6 kvzip compare rough.safetensors bound.kvz --json
expect_in stdout '"holds": false'
expect_status 6 kvzip compare rough.safetensors bound.kvz --csv
# A file without a bound has no such line.
expect_status 0 kvzip compare "$sample" ratio.kvz
if grep -q "bound" stdout; then exit 1; fi
# No error at all.
expect_status 0 kvzip compress "$sample" -o exact.kvz --max-error 0
expect_status 0 kvzip compare "$sample" exact.kvz --max-abs 0

# Out of reach: status 6, what was reached, and the file all the same.
expect_status 6 kvzip compress "$sample" -o tiny.kvz --target-ratio 100000
expect_in stderr "ratio 100000: reached"
expect_status 0 kvzip verify tiny.kvz

# Attention, with queries; through pipes; a role by itself; threads.
kvzip synth -o q.safetensors --layers 2 --heads 2 --head-dim 32 --tokens 320 --query-heads 4
expect_status 0 kvzip compress q.safetensors -o attention.kvz --target-attention 0.1
reached=$(sed -nE 's/.*attention 0.1: reached ([0-9.]+);.*/\1/p' stderr)
within "$reached" 0.1
expect_status 0 kvzip inspect attention.kvz
expect_in stdout "measured when written: attention output nrmse $reached"
kvzip compare q.safetensors attention.kvz --attention --csv >attention.csv
kvzip compress -q q.safetensors -o one.kvz --target-bits 4 -j 1
kvzip compress -q q.safetensors -o many.kvz --target-bits 4 -j 5
cmp one.kvz many.kvz
kvzip compress -q q.safetensors -o - --target-bits 4 >piped.kvz
cmp one.kvz piped.kvz
kvzip compress -q - -o stdin.kvz --target-bits 4 <q.safetensors
cmp one.kvz stdin.kvz
kvzip compress -q one.kvz -o again.kvz --max-error 0.05
expect_status 0 kvzip verify again.kvz
expect_status 0 kvzip compress q.safetensors -o kv.kvz --role key,value --target-ratio 4
within "$(awk -v f="$(stat -c %s kv.kvz)" 'BEGIN { print 2 * 2 * 2 * 32 * 320 * 2 / f }')" 4
expect_status 0 kvzip compress q.safetensors -o keys.kvz --role key --target-nrmse 0.1
expect_status 1 kvzip compress q.safetensors -o x.kvz --role key,value --target-attention 0.1
expect_in stderr "--queries FILE"
expect_status 0 kvzip compress q.safetensors -o x.kvz --role key,value --target-attention 0.1 --queries q.safetensors
expect_status 1 kvzip compress q.safetensors -o x.kvz -f --role other --target-ratio 2
expect_in stderr "no keys or values"

# Command lines that make no sense.
expect_status 2 kvzip compress q.safetensors -o y.kvz --target-ratio 4 --target-bits 3
expect_in stderr "one target at a time"
expect_status 2 kvzip compress q.safetensors -o y.kvz --max-error 4 --target-nrmse 3
expect_status 2 kvzip compress q.safetensors -o y.kvz --target-ratio 4 --preset kivi-2
expect_in stderr "leave out --preset"
expect_status 2 bash -c 'cat one.kvz | kvzip compress - -o y.kvz --target-bits 4'
expect_in stderr "not from a pipe"
expect_status 2 kvzip compress q.safetensors -o y.kvz --target-ratio 4 --key planes,pack
for bad in -1 nan inf x 0; do expect_status 2 kvzip compress q.safetensors -o y.kvz --target-ratio "$bad"; done
for bad in -1 nan inf x; do expect_status 2 kvzip compress q.safetensors -o y.kvz --max-error "$bad"; done
[ ! -e y.kvz ]
