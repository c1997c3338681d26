#!/bin/bash
# soak.sh KVZIP SECONDS [SEED]: random operations on random inputs, each disturbed in a random way: killed, cut, flipped,
# or short of room or memory. Whatever happens: no wrong value, no crash, nothing left behind, no more memory than allowed.
# Prints what was done; exit status 1 at the first thing that is wrong, which stays in the folder that is named.
set -u
kvzip=$(realpath "$1") seconds=$2 seed=${3:-$RANDOM}
RANDOM=$seed
work=$(mktemp -d)
out=$work/out # what operations write into; empty between them
mkdir "$out"
cd "$work" || exit 1
declare -A done_times=()
presets=(lossless int8 near-lossless kivi-2 kvzip-near zstd-planes)
types=(safetensors h5 npz)

wrong() {
  echo "soak: $* (seed $seed, in $work)" >&2
  exit 1
}
# random N: 0 to N - 1, of numbers beyond 32767, too.
random() { echo $(((RANDOM * 32768 + RANDOM) % $1)); }

# The inputs. Of N: its dump N.${type[N]} and its container N.kvz; N.whole.safetensors, what that decodes to; N.old.kvz, its
# first ${old[N]} tokens, N.more.safetensors the others, N.new.kvz both; N.shared/, of which b.kvz has its first tokens in
# a.kvz, and N.shared.safetensors, what b.kvz decodes to.
inputs=4
type=() old=() tokens=() preset=() chunk=()
make_input() {
  local i=$1
  type[i]=${types[RANDOM % 3]} preset[i]=${presets[RANDOM % ${#presets[@]}]}
  tokens[i]=$((80 + RANDOM % 400))
  old[i]=$((40 + RANDOM % (tokens[i] - 41)))
  chunk[i]=$((16 << RANDOM % 3))
  local coding=(-q --preset "${preset[i]}" --chunk-tokens "${chunk[i]}")
  "$kvzip" synth -q -o "$i.${type[i]}" --layers $((1 + RANDOM % 2)) --heads $((1 + RANDOM % 2)) --no-query --head-dim 32 \
    --tokens "${tokens[i]}" --seed $((1 + RANDOM)) --dtype f16 &&
    "$kvzip" compress "$i.${type[i]}" -o "$i.kvz" "${coding[@]}" &&
    "$kvzip" decompress -q "$i.kvz" -o "$i.whole.safetensors" &&
    mkdir "$i.shared" "$i.parts" &&
    "$kvzip" compress -q "$i.${type[i]}" -o "$i.parts/all.kvz" --preset lossless &&
    "$kvzip" decompress -q "$i.parts/all.kvz" -o "$i.parts/a.safetensors" --tokens "0:${old[i]}" &&
    "$kvzip" decompress -q "$i.parts/all.kvz" -o "$i.parts/b.safetensors" &&
    "$kvzip" decompress -q "$i.parts/all.kvz" -o "$i.more.safetensors" --tokens "${old[i]}:" &&
    "$kvzip" compress "$i.parts/a.safetensors" -o "$i.old.kvz" "${coding[@]}" &&
    cp "$i.old.kvz" "$i.new.kvz" && "$kvzip" append "$i.new.kvz" "$i.more.safetensors" "${coding[@]}" &&
    "$kvzip" compress "$i.parts/a.safetensors" "$i.parts/b.safetensors" --output-dir "$i.shared" --share-prefix "${coding[@]}" &&
    "$kvzip" decompress -q "$i.shared/b.safetensors.kvz" -o "$i.shared.safetensors" &&
    "$kvzip" decompress -q "$i.old.kvz" -o "$i.old.safetensors" &&
    "$kvzip" decompress -q "$i.new.kvz" -o "$i.new.safetensors" || wrong "an input cannot be made"
}
for ((i = 0; i < inputs; ++i)); do make_input $i; done
# What limits of memory are tried on: more than a process takes by itself. Its memory at rest is that of the libraries. With
# sanitizers, which need more addresses than that, memory says nothing.
"$kvzip" synth -q -o large.safetensors --layers 4 --heads 4 --no-query --head-dim 64 --tokens 1500 &&
  "$kvzip" compress -q large.safetensors -o large.kvz --preset int8 || wrong "an input cannot be made"
# An HDF5 file with more than tensors in chunks, which is made again as it was.
framed=
for python in python3 /usr/bin/python3; do
  [ -z "$framed" ] && "$python" -c 'import h5py' 2>/dev/null && "$python" - <<'END' && framed=1
import h5py, numpy
with h5py.File("framed.h5", "w") as file:
    for layer in range(3):
        for role in "key", "value":
            some = numpy.random.default_rng(layer).standard_normal((1, 2, 200, 32)).astype("f4")
            file.create_dataset(f"layers.{layer}.{role}", data=some, chunks=(1, 2, 50, 32))
    file["more"] = numpy.zeros(3, dtype=[("a", "i4"), ("b", "f8")])
END
done
[ -z "$framed" ] || "$kvzip" compress -q -1 framed.h5 -o framed.kvz || wrong "an input cannot be made"
at_rest=
if [ -x /usr/bin/time ] && (ulimit -v 8000000 && "$kvzip" --version >/dev/null 2>&1); then
  at_rest=$(/usr/bin/time -f %M "$kvzip" list presets 2>&1 >/dev/null | tail -n 1)
fi

# run COMMAND...: its exit status, in $status; a signal is a crash.
run() {
  "$kvzip" "$@" >stdout 2>stderr </dev/null
  status=$?
  [ $status -lt 128 ] || wrong "crash, status $status: kvzip $*"
}
# killed_at_some_time COMMAND...: ended by a signal at some time, or done before it
killed_at_some_time() {
  local signals=(KILL TERM INT QUIT HUP) pid
  local signal=${signals[RANDOM % 5]}
  # A shell starts what is in the background with SIGINT and SIGQUIT ignored; env gives them back.
  env --default-signal=INT,QUIT "$kvzip" "$@" >stdout 2>stderr </dev/null &
  pid=$!
  sleep "0.0$((RANDOM % 4))$((RANDOM % 10))"
  kill -s $signal $pid 2>/dev/null
  wait $pid 2>/dev/null
}
# nothing_left NAME...: the folder of outputs holds nothing but what may be there under its final name.
nothing_left() {
  local found
  for found in $(ls -A "$out"); do
    [[ " $* " = *" $found "* ]] || wrong "left behind: $found"
  done
}
# absent_or_same FILE REFERENCE
absent_or_same() {
  [ ! -e "$1" ] || cmp -s "$1" "$2" || wrong "$1 is not what $2 is"
}
# damage FILE [BAD]: BAD, bad.kvz unless given, is FILE changed in one of three ways; status 1 where the change is none
damage() {
  local size at bad=${2:-bad.kvz}
  size=$(stat -c %s "$1")
  at=$(random "$size")
  cp "$1" "$bad"
  case $((RANDOM % 3)) in
    0) truncate -s "$at" "$bad" ;;
    1) # one flipped bit
      local byte
      byte=$(od -An -tu1 -j "$at" -N 1 "$1" | tr -d ' ')
      # shellcheck disable=SC2059
      printf "$(printf '\\%03o' $((byte ^ 1 << RANDOM % 8)))" | dd of="$bad" bs=1 seek="$at" conv=notrunc status=none
      ;;
    2) head -c $((1 + RANDOM % 500)) /dev/urandom | dd of="$bad" bs=1 seek="$at" conv=notrunc status=none ;;
  esac
  ! cmp -s "$bad" "$1"
}

killed() { # a coding comes whole or not at all, whenever it is ended
  local to=o.safetensors same=$1.whole.safetensors
  case $((RANDOM % 3)) in
    0) killed_at_some_time decompress "$1.kvz" -o "$out/$to" ;;
    1) killed_at_some_time convert "$1.whole.safetensors" "$out/$to" ;;
    2)
      to=o.kvz same=$1.kvz
      killed_at_some_time compress "$1.${type[$1]}" -o "$out/$to" --preset "${preset[$1]}" --chunk-tokens "${chunk[$1]}"
      ;;
  esac
  nothing_left $to
  absent_or_same "$out/$to" "$same"
}
decoded() { # a damaged container is decoded: it is refused, or nothing of it was damaged that values need
  damage "$1.kvz" || return 0
  run decompress bad.kvz -o "$out/o.safetensors"
  [ $status = 0 ] || [ ! -e "$out/o.safetensors" ] || wrong "status $status, and an output"
  nothing_left o.safetensors
  absent_or_same "$out/o.safetensors" "$1.whole.safetensors"
}
verified() { # damage never goes unnoticed, by name or from a pipe
  damage "$1.kvz" || return 0
  run verify -q bad.kvz
  [ $status != 0 ] || wrong "verify does not notice"
  "$kvzip" verify -q - <bad.kvz >stdout 2>stderr
  status=$?
  [ $status != 0 ] && [ $status -lt 128 ] || wrong "verify of a pipe: status $status"
}
recovered() { # every byte that differs from what was there is one of a NaN or a 0, and none does where nothing is lost
  damage "$1.kvz" || return 0
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
  local to=o.${types[RANDOM % 3]} from=$1.kvz whole=$1.whole.safetensors most=20
  if [ -n "$framed" ] && ((RANDOM % 4 == 0)); then to=o.h5 from=framed.kvz whole=framed.h5 most=320; fi
  (
    ulimit -f $((RANDOM % most))
    exec "$kvzip" decompress -q "$from" -o "$out/$to" >stdout 2>stderr
  )
  status=$?
  [ $status = 0 ] || [ $status = 5 ] || wrong "full: status $status"
  nothing_left "$to"
  [ $status = 0 ] || [ ! -e "$out/$to" ] || wrong "full: status $status, and an output"
  if [ -e "$out/$to" ]; then
    run compare -q "$whole" "$out/$to" --common --max-abs 0
    [ $status = 0 ] || wrong "full: other values"
  fi
  "$kvzip" decompress "$1.kvz" --to safetensors -o - 2>stderr >/dev/full
  status=$?
  [ $status = 5 ] || wrong "/dev/full: status $status"
}
appended() { # an append that is killed or has no room leaves the old container or the new one, which can be gone on from
  local append=(append -q "$out/o.kvz" "$1.more.safetensors" --preset "${preset[$1]}" --chunk-tokens "${chunk[$1]}")
  cp "$1.old.kvz" "$out/o.kvz"
  if ((RANDOM % 4)); then
    killed_at_some_time "${append[@]}"
  else
    (
      ulimit -f $((($(stat -c %s "$1.old.kvz") + $(random "$(stat -c %s "$1.new.kvz")")) / 1024))
      exec "$kvzip" "${append[@]}" >stdout 2>stderr
    )
    status=$?
    [ $status = 0 ] || [ $status = 5 ] || wrong "append without room: status $status"
  fi
  nothing_left o.kvz
  run decompress -q "$out/o.kvz" -o o.safetensors -f
  [ $status = 0 ] || wrong "what an append left is not decoded: status $status"
  if cmp -s o.safetensors "$1.old.safetensors"; then
    run "${append[@]}"
    [ $status = 0 ] || wrong "nothing is appended behind an append that was ended: status $status"
  fi
  cmp -s "$out/o.kvz" "$1.new.kvz" || wrong "an append differs from the same one undisturbed"
}
shared() { # with a base that is damaged, missing or another, no value is wrong
  local a=$out/a.safetensors.kvz b=$out/b.safetensors.kvz whole=1
  cp "$1.shared"/* "$out"
  case $((RANDOM % 5)) in
    0) rm -f "$a" ;;
    1) cp "$(((($1) + 1) % inputs)).kvz" "$a" ;;
    2) damage "$1.shared/a.safetensors.kvz" "$a" || true ;;
    3) damage "$1.shared/b.safetensors.kvz" "$b" || true ;;
    4) whole=0 ;; # all is well
  esac
  run decompress -q "$b" -o o.safetensors -f
  if [ $status = 0 ]; then
    cmp -s o.safetensors "$1.shared.safetensors" || wrong "a base that is not what it was gives other values"
  else
    [ $whole = 1 ] || wrong "a container with its base is not decoded: status $status"
  fi
  rm -f "$a" "$b"
  nothing_left
}
# tensors FILE: name, rows before the tokens, tokens, bytes of a token, and offset of each key and value of safetensors
tensors() {
  local header
  header=$((8 + $(od -An -tu8 -N 8 "$1")))
  head -c $header "$1" | grep -ao '"layers[^{]*{"dtype":"F16","shape":\[[0-9,]*\],"data_offsets":\[[0-9]*' |
    tr -c '0-9a-z.\n' ' ' | awk -v from=$header '{ print $1, $(NF - 5), $(NF - 4), 2 * $(NF - 3), from + $NF }'
}
ranged() { # tokens of a part are those of the whole, or refused where something is damaged
  local from=$((RANDOM % (tokens[$1] - 1))) to file=$1.kvz name heads length unit at part whole h
  to=$((from + 1 + RANDOM % (tokens[$1] - from)))
  if ((RANDOM % 2)) && damage "$1.kvz"; then file=bad.kvz; fi
  run decompress -q $file -o "$out/o.safetensors" --tokens $from:$to
  nothing_left o.safetensors
  [ $status = 0 ] || [ $file = bad.kvz ] || wrong "--tokens $from:$to: status $status"
  [ $status = 0 ] || return 0
  tensors "$1.whole.safetensors" >whole.txt
  tensors "$out/o.safetensors" >part.txt
  [ -s part.txt ] && [ "$(wc -l <part.txt)" = "$(wc -l <whole.txt)" ] || wrong "--tokens $from:$to: tensors are missing"
  while read -r name heads length unit at && read -r _ _ part _ whole <&3; do
    [ "$part" = $((to - from)) ] || wrong "--tokens $from:$to: $part tokens of $name"
    for ((h = 0; h < heads; ++h)); do
      cmp -s -n $((part * unit)) "$out/o.safetensors" "$1.whole.safetensors" $((whole + h * part * unit)) \
        $((at + (h * length + from) * unit)) || wrong "--tokens $from:$to: $name differs from the whole"
    done
  done <whole.txt 3<part.txt
}
dumped() { # a damaged dump is coded or refused; only an .npz has checksums that would tell
  local file=bad.${type[$1]}
  damage "$1.${type[$1]}" "$file" || return 0
  run compress -q "$file" -o "$out/o.kvz" --preset int8
  nothing_left o.kvz
  if [ $status = 0 ]; then
    run verify -q "$out/o.kvz"
    [ $status = 0 ] || wrong "a damaged dump becomes a container that is not sound: status $status"
  else
    [ ! -e "$out/o.kvz" ] || wrong "status $status, and an output"
  fi
}
batched() { # files that are sound come out whole, whatever happens to others or to all
  local bad=$1 i names=()
  damage "$bad.kvz" bad.kvz || return 0
  mkdir -p batch
  for ((i = 0; i < inputs; ++i)); do
    if [ $i = "$bad" ]; then cp bad.kvz batch/$i.safetensors.kvz; else cp $i.kvz batch/$i.safetensors.kvz; fi
    names+=("$i.safetensors")
  done
  local command=(decompress -q batch/*.kvz --output-dir "$out" --to safetensors --jobs $((1 + RANDOM % 4)) --keep-going)
  if ((RANDOM % 2)); then
    run "${command[@]}"
    for ((i = 0; i < inputs; ++i)); do
      [ $i = "$bad" ] || [ -e "$out/$i.safetensors" ] || wrong "a batch leaves out what is sound: status $status"
    done
  else
    killed_at_some_time "${command[@]}"
    # Who works for one that is killed ends by a signal of its own.
    for ((i = 0; i < 50; ++i)); do
      [ -n "$(find "$out" -name '.*' -type f)" ] || [ -n "$(pgrep -f "$work/out")" ] || break
      sleep 0.1
    done
  fi
  nothing_left "${names[@]}"
  for ((i = 0; i < inputs; ++i)); do absent_or_same "$out/$i.safetensors" $i.whole.safetensors; done
}
limited() { # no more memory than is allowed, beside what the libraries take, and a line that says so
  local limit=$((8 + RANDOM % 120)) took command=(verify -q large.kvz)
  case $((RANDOM % 4)) in
    0) command=(decompress -q large.kvz -o "$out/o.safetensors") ;;
    1) command=(compress -q large.safetensors -o "$out/o.kvz" --preset "${presets[RANDOM % ${#presets[@]}]}") ;;
    2) command=(convert -q large.safetensors "$out/o.h5") ;;
  esac
  command+=(-j $((1 + RANDOM % 8)) --memlimit ${limit}M)
  if [ -n "$at_rest" ]; then
    /usr/bin/time -o memory -f %M "$kvzip" "${command[@]}" >stdout 2>stderr
    status=$?
    took=$(tail -n 1 memory)
    [ "$took" -le $((limit * 1024 + at_rest + 4096)) ] || wrong "$took kB of memory: kvzip ${command[*]}"
  else
    run "${command[@]}"
  fi
  [ $status = 0 ] || { [ $status = 1 ] && grep -q '^kvzip: .*memory' stderr; } ||
    wrong "status $status: kvzip ${command[*]}"
  nothing_left o.safetensors o.kvz o.h5
  [ $status = 0 ] || nothing_left
}

operations=(killed decoded verified recovered short_of_room appended shared ranged dumped batched limited)
while ((SECONDS < seconds)); do
  operation=${operations[RANDOM % ${#operations[@]}]}
  $operation $((RANDOM % inputs))
  rm -rf "${out:?}"/*
  done_times[$operation]=$((${done_times[$operation]:-0} + 1))
done
for operation in "${operations[@]}"; do echo "$operation ${done_times[$operation]:-0}"; done
cd / && rm -rf "$work"
