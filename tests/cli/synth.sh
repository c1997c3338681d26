# synth: sizes, types, formats, determinism.
args="--layers 2 --heads 2 --head-dim 32 --tokens 5000"
# shellcheck disable=SC2086
{
  expect_status 0 kvzip synth -o a.safetensors $args
  [ ! -s stdout ]
  [ ! -s stderr ]
  kvzip synth -o b.safetensors $args -j 1
  cmp a.safetensors b.safetensors
  kvzip synth -o - --to safetensors $args | cmp - a.safetensors
  kvzip synth -o c.safetensors $args --seed 2
  if cmp -s a.safetensors c.safetensors; then exit 1; fi
  kvzip synth -o a.h5 $args
  kvzip compare a.safetensors a.h5 --max-abs 0 >/dev/null
  for dtype in f16 bf16 f32; do
    kvzip synth -o $dtype.safetensors $args --dtype $dtype
    kvzip compare f32.safetensors $dtype.safetensors --max-nrmse 0.01 >/dev/null 2>&1 || [ $dtype != f32 ]
    kvzip inspect $dtype.safetensors --strict >out
    grep -qi " $dtype " out
  done
  expect_status 2 kvzip synth -o x.safetensors $args --dtype f64
  expect_status 2 kvzip synth -o x.kvz $args
  expect_status 2 kvzip synth -o - $args
  expect_in stderr "--to"
  expect_status 2 kvzip synth -o x.safetensors $args --query-heads 3
  expect_status 0 kvzip synth -o noq.safetensors $args --no-query
  kvzip inspect noq.safetensors >out
  if grep -q query out; then exit 1; fi
}
expect_status 2 kvzip synth -o x.safetensors --layers 2
expect_status 2 kvzip synth -o x.safetensors --layers 0 --heads 1 --head-dim 8 --tokens 1
expect_status 2 kvzip synth -o x.safetensors --layers 1 --heads 1 --head-dim 7 --tokens 1
expect_status 1 kvzip synth -o x.safetensors --layers 4000000000 --heads 1 --head-dim 8 --tokens 1
expect_status 0 kvzip synth -o none.safetensors --layers 1 --heads 1 --head-dim 8 --tokens 0
expect_status 0 kvzip verify none.safetensors
[ ! -e x.safetensors ]
