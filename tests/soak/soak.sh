#!/bin/bash
# soak.sh KVZIP SECONDS [SEED]: random operations on random inputs, each disturbed in a random way: killed, cut, flipped,
# or short of room. Whatever happens: no wrong value, no crash, nothing left behind. Prints what was done; exit status 1
# at the first thing that is wrong, which stays in the folder that is named.
set -u
kvzip=$(realpath "$1") seconds=$2 seed=${3:-$RANDOM}
RANDOM=$seed
work=$(mktemp -d)
out=$work/out # what operations write into; empty between them
mkdir "$out"
cd "$work" || exit 1
declare -A done_times=()
presets=(lossless int8 near-lossless kivi-2 kvzip-near zstd-planes)

wrong() {
  echo "soak: $* (seed $seed, in $work)" >&2
  exit 1
}
# random N: 0 to N - 1, of numbers beyond 32767, too.
random() { echo $(((RANDOM * 32768 + RANDOM) % $1)); }

# The inputs: N.safetensors, N.kvz and what it decodes to, N.whole.safetensors.
inputs=4
for ((i = 0; i < inputs; ++i)); do
  "$kvzip" synth -o $i.safetensors --layers $((1 + RANDOM % 2)) --heads 1 --head-dim 32 --tokens $((40 + RANDOM % 400)) \
    --seed $((1 + RANDOM)) --dtype f16 &&
    "$kvzip" compress -q $i.safetensors -o $i.kvz --preset "${presets[RANDOM % ${#presets[@]}]}" --chunk-tokens 64 &&
    "$kvzip" decompress $i.kvz -o $i.whole.safetensors || wrong "an input cannot be made"
done

# run COMMAND...: its exit status, in $status; a signal is a crash.
run() {
  "$kvzip" "$@" >stdout 2>stderr </dev/null
  status=$?
  [ $status -lt 128 ] || wrong "crash, status $status: kvzip $*"
}
# nothing_left NAME: the folder of outputs holds nothing but what may be there under its final name.
nothing_left() {
  local found
  found=$(ls -A "$out")
  [ -z "$found" ] || [ "$found" = "$1" ] || wrong "left behind: $found"
}
# absent_or_same FILE REFERENCE
absent_or_same() {
  [ ! -e "$1" ] || cmp -s "$1" "$2" || wrong "$1 is not what $2 is"
}
damage() { # NUMBER: bad.kvz, changed in one of three ways
  local size at
  size=$(stat -c %s "$1.kvz")
  at=$(random "$size")
  cp "$1.kvz" bad.kvz
  case $((RANDOM % 3)) in
    0) truncate -s "$at" bad.kvz ;;
    1) # one flipped bit
      local byte
      byte=$(od -An -tu1 -j "$at" -N 1 "$1.kvz" | tr -d ' ')
      # shellcheck disable=SC2059
      printf "$(printf '\\%03o' $((byte ^ 1 << RANDOM % 8)))" | dd of=bad.kvz bs=1 seek="$at" conv=notrunc status=none
      ;;
    2) head -c $((1 + RANDOM % 500)) /dev/urandom | dd of=bad.kvz bs=1 seek="$at" conv=notrunc status=none ;;
  esac
  ! cmp -s bad.kvz "$1.kvz"
}

killed() { # a coding that is ended by a signal at some time, or comes before it
  local i=$1 signals=(KILL TERM INT QUIT HUP) pid
  local signal=${signals[RANDOM % 5]}
  # A shell starts what is in the background with SIGINT and SIGQUIT ignored; env gives them back.
  if ((RANDOM % 2)); then
    env --default-signal=INT,QUIT "$kvzip" decompress "$i.kvz" -o "$out/o.safetensors" >stdout 2>stderr &
  else
    env --default-signal=INT,QUIT "$kvzip" convert "$i.whole.safetensors" "$out/o.safetensors" >stdout 2>stderr &
  fi
  pid=$!
  sleep "0.0$((RANDOM % 3))$((RANDOM % 10))"
  kill -s $signal $pid 2>/dev/null
  wait $pid 2>/dev/null
  nothing_left o.safetensors
  absent_or_same "$out/o.safetensors" "$i.whole.safetensors"
}
decoded() { # a damaged container is decoded: it is refused, or nothing of it was damaged that values need
  damage "$1" || return 0
  run decompress bad.kvz -o "$out/o.safetensors"
  [ $status = 0 ] || [ ! -e "$out/o.safetensors" ] || wrong "status $status, and an output"
  nothing_left o.safetensors
  absent_or_same "$out/o.safetensors" "$1.whole.safetensors"
}
verified() { # damage never goes unnoticed, by name or from a pipe
  damage "$1" || return 0
  run verify -q bad.kvz
  [ $status != 0 ] || wrong "verify does not notice"
  "$kvzip" verify -q - <bad.kvz >stdout 2>stderr
  status=$?
  [ $status != 0 ] && [ $status -lt 128 ] || wrong "verify of a pipe: status $status"
}
recovered() { # every byte that differs from what was there is one of a NaN or a 0, and none does where nothing is lost
  damage "$1" || return 0
  run recover -q bad.kvz -o "$out/o.safetensors"
  nothing_left o.safetensors
  [ $status != 0 ] || [ -e "$out/o.safetensors" ] || wrong "recover: status 0 and no output"
  [ -e "$out/o.safetensors" ] || return 0
  [ "$(stat -c %s "$out/o.safetensors")" = "$(stat -c %s "$1.whole.safetensors")" ] || wrong "recover: another size"
  [ $status != 0 ] || cmp -s "$out/o.safetensors" "$1.whole.safetensors" || wrong "recover: status 0, other values"
  # F16 has NaN as 7e00: 0 and 176 in octal.
  cmp -l "$out/o.safetensors" "$1.whole.safetensors" | awk '$2 != 0 && $2 != 176 { exit 1 }' ||
    wrong "recover: a value that was not there"
}
short_of_room() { # a limit of the file's size stands for a full disk
  local blocks=$((RANDOM % 20))
  (
    ulimit -f $blocks
    exec "$kvzip" decompress "$1.kvz" -o "$out/o.safetensors" >stdout 2>stderr
  )
  status=$?
  [ $status = 0 ] || [ $status = 5 ] || wrong "full: status $status"
  nothing_left o.safetensors
  absent_or_same "$out/o.safetensors" "$1.whole.safetensors"
  "$kvzip" decompress "$1.kvz" --to safetensors -o - 2>stderr >/dev/full
  status=$?
  [ $status = 5 ] || wrong "/dev/full: status $status"
}

operations=(killed decoded verified recovered short_of_room)
while ((SECONDS < seconds)); do
  operation=${operations[RANDOM % ${#operations[@]}]}
  $operation $((RANDOM % inputs))
  rm -f "$out/o.safetensors"
  done_times[$operation]=$((${done_times[$operation]:-0} + 1))
done
for operation in "${operations[@]}"; do echo "$operation ${done_times[$operation]:-0}"; done
cd / && rm -rf "$work"
