# --memlimit: every command has it and ends with a status and a line, never a signal, and leaves nothing behind.
kvzip synth -q -o a.safetensors --layers 4 --heads 4 --head-dim 64 --tokens 1500
kvzip compress -q a.safetensors -o a.kvz --preset gear-2
mkdir out
for command in "compress a.safetensors -o out/x.kvz" "decompress a.kvz -o out/x.safetensors" "verify a.kvz" \
  "compare a.safetensors a.kvz" "inspect a.kvz" "convert a.safetensors out/x.h5"; do
  done_once=0
  for size in 8M 16M 24M 64M 1G; do
    status=0
    # shellcheck disable=SC2086
    kvzip $command -q --memlimit $size -j 16 >stdout 2>stderr || status=$?
    [ "${command%% *}" != inspect ] || { # which has neither -q nor -j
      status=0
      # shellcheck disable=SC2086
      kvzip $command --memlimit $size >stdout 2>stderr || status=$?
    }
    case $status in
      0) done_once=1 ;;
      1) grep -q '^kvzip: .*memory' stderr && [ "$(wc -l <stderr)" = 1 ] || { cat stderr >&2; exit 1; } ;;
      *) echo "$command --memlimit $size: $status" >&2; cat stderr >&2; exit 1 ;;
    esac
    rm -f out/x.kvz out/x.safetensors out/x.h5
    [ -z "$(ls -A out)" ] || { echo "$command --memlimit $size left $(ls -A out)" >&2; exit 1; }
  done
  [ $done_once = 1 ]
done
# What works works with more memory, too: threads that it is not enough for are done without.
kvzip synth -q -o long.safetensors --layers 3 --heads 8 --head-dim 128 --tokens 4000 --no-query
kvzip compress -q long.safetensors -o long.kvz --preset gear-2
for command in "compress -f long.safetensors -o /dev/null --preset gear-2" "verify long.kvz" \
  "decompress -f long.kvz -o /dev/null --to safetensors" "compress -f long.safetensors -o /dev/null"; do
  worked=
  for size in 40M 56M 64M 68M 80M 96M 100M 128M 160M 200M 256M; do
    status=0
    # shellcheck disable=SC2086
    kvzip $command -q -j 4 --memlimit $size >stdout 2>stderr || status=$?
    [ $status = 0 ] || [ -z "$worked" ] || { echo "$command works with $worked, not with $size" >&2; cat stderr >&2; exit 1; }
    [ $status != 0 ] || worked=${worked:-$size}
  done
  [ -n "$worked" ]
done
# Of many tensors the HDF5 library keeps something for each, and crashes where it gets no memory.
python3 - <<'END'
import json, struct
header = json.dumps({f"layers.{i}.key": {"dtype": "F16", "shape": [1, 1, 4], "data_offsets": [8 * i, 8 * i + 8]}
                     for i in range(2000)}).encode()
with open("many.safetensors", "wb") as out:
    out.write(struct.pack("<Q", len(header)) + header + bytes(8 * 2000))
END
kvzip convert -q many.safetensors many.h5
for size in $(seq 9000 1500 24000); do
  for command in "convert many.safetensors out/x.h5" "convert many.h5 out/x.safetensors"; do
    status=0
    # shellcheck disable=SC2086
    kvzip $command -q --memlimit ${size}K 2>stderr || status=$?
    [ $status = 0 ] || { [ $status = 1 ] && grep -q '^kvzip: .*memory' stderr; } || { cat stderr >&2; exit 1; }
    rm -f out/x.h5 out/x.safetensors
    [ -z "$(ls -A out)" ]
  done
done
# What a header takes counts, too: it is read, or there is not the memory.
python3 - <<'END'
import json, struct
header = json.dumps({f"tensor {i}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for i in range(40000)}).encode()
with open("tensors.safetensors", "wb") as out:
    out.write(struct.pack("<Q", len(header)) + header)
END
kvzip compress -q tensors.safetensors -o tensors.kvz
for command in "inspect tensors.kvz" "verify tensors.kvz" "decompress tensors.kvz -o out/x.safetensors" \
  "recover tensors.kvz -o out/x.kvz"; do
  worked=
  for size in 8M 16M 32M 64M 128M 512M; do
    status=0
    # shellcheck disable=SC2086
    kvzip $command --memlimit $size >stdout 2>stderr || status=$?
    [ $status = 0 ] || { [ $status = 1 ] && [ -z "$worked" ] && grep -q '^kvzip: .*memory' stderr; } || { cat stderr >&2; exit 1; }
    [ $status != 0 ] || worked=${worked:-$size}
    rm -f out/x.safetensors out/x.kvz
    [ -z "$(ls -A out)" ]
  done
  [ -n "$worked" ]
  ! limits_memory || [ "$worked" != 8M ]
done
# The same from outside, where it is addresses that run out: threads that have no room are not started. Sanitizers need
# more addresses than that.
if limits_memory; then
  for kilobytes in 60000 120000 300000; do
    (ulimit -v $kilobytes && exec kvzip verify -q -j 16 a.kvz) || [ $? = 1 ]
  done
fi
for good in 512M 1GiB 1.5G 50% none 4000000000; do kvzip list presets --memlimit $good >/dev/null; done
for bad in 0 -1 1M 12X M 5e 1Ki; do
  expect_status 2 kvzip list presets --memlimit $bad
  expect_in stderr "--memlimit"
done
