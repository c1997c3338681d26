# What kvzip 0.1 wrote still decodes to the same values, and what it refused is still refused: tests/golden/v0.1.
golden=$root/tests/golden/v0.1
die() {
  printf '%s\n' "$@" >&2
  exit 1
}

# The lists name exactly the files that are there, and nobody has made those anew.
(cd "$golden" && find . -type f ! -path './make/*' ! -name README.md ! -path ./checksums ! -path ./messages) | sed 's|^\./||' | sort >present
awk '{ print $3 }' "$golden/checksums" | sort >listed
diff listed present >&2 || die "checksums does not list what is there (< listed, > present)"
awk '$2 == "-" { print $3 }' "$golden/checksums" | sort >refused
cut -f 2 "$golden/messages" | sort -u | diff refused - >&2 || die "messages does not speak of the same files as checksums"
awk '{ print $1 "  " $3 }' "$golden/checksums" >own.sums
(cd "$golden" && sha256sum -c --quiet) <own.sums >&2 || die "files of 0.1 were changed"

# Every container is sound and decodes to the values of 0.1, from a file and from a pipe, once with one thread and once
# with two; every other one the other way round.
awk '$2 != "-" { print $3 }' "$golden/checksums" >names
awk '$2 != "-" { print $2 "  " $3 ".safetensors" }' "$golden/checksums" >decoded.sums
mapfile -t names <names
[ ${#names[@]} -gt 0 ]
(cd "$golden" && kvzip verify -q "${names[@]}") || die "a container of 0.1 is not sound"
decode() { # file|pipe
  local name threads=1
  if [ "$1" = pipe ]; then threads=2; fi
  mkdir "$1"
  for name in "${names[@]}"; do
    if [ "$1" = file ]; then
      kvzip decompress "$golden/$name" -o "$1/$name.safetensors" -q -j $threads
    else
      kvzip decompress - -o "$1/$name.safetensors" -q -j $threads < <(cat "$golden/$name")
    fi || die "$name: not decoded from a $1 with -j$threads"
    threads=$((3 - threads))
  done
  (cd "$1" && sha256sum -c --quiet) <decoded.sums >&2 || die "other values than those of 0.1, from a $1"
}

# What is damaged or unknown: the same exit status, a message that has the essential words (an extended regular
# expression; the message itself is that of 0.1 and may get better), on one line that names the file, and nothing left.
refuse() { # STATUS NAME COMMAND WORDS SAID
  local want=$1 name=$2 command=$3 words=$4 said=$5 verb=${3%% *} path=$golden/$2 from=/dev/null got=0
  [[ $said =~ $words ]] || die "messages: $name: '$said' has not the words '$words'"
  local run=(kvzip "$verb" "$path")
  if [[ $command == *" -" ]]; then
    run[2]=- from=$path
  fi
  case $verb in
    compress) run+=(-o out.kvz) ;;
    decompress) run+=(-o out.safetensors) ;;
  esac
  timeout 60 "${run[@]}" < <(cat "$from" 2>/dev/null) >../stdout 2>../stderr || got=$?
  local message left
  message=$(<../stderr)
  [ "$got" = "$want" ] || die "$name, $command: exit status $got instead of $want" "$message"
  # The name of the file is not what the message says.
  local bare=${message//"$golden/$name"/FILE}
  [[ $bare =~ $words ]] || die "$name, $command: no '$words' in the message:" "$message" "0.1 said:" "$said"
  [[ $bare == "kvzip: "* && ($verb == verify || $bare != *$'\n'*) ]] || die "$name, $command: not one line of kvzip:" "$message"
  [[ $from != /dev/null || $bare == *FILE* ]] || die "$name, $command: the message does not name the file:" "$message"
  [ ! -s ../stdout ] || die "$name, $command: something on standard output"
  left=(*)
  [ ${#left[@]} = 0 ] || die "$name, $command: left behind: ${left[*]}"
}
refuse_all() {
  shopt -s nocasematch nullglob dotglob
  mkdir empty
  cd empty
  export TMPDIR=$PWD
  local status name command words said
  while IFS=$'\t' read -r status name command words said; do
    refuse "$status" "$name" "$command" "$words" "$said"
  done <"$golden/messages"
}

# Mostly starting of programs: two at a time.
{
  decode file
  decode pipe
} &
one=$!
refuse_all &
two=$!
failed=0
wait $one || failed=1
wait $two || failed=1
[ $failed = 0 ]
