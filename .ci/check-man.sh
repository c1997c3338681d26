#!/bin/bash
# Checks that the manual pages are sound and say what the tool has: check-man.sh KVZIP
# - mandoc has nothing to say of warning level or above;
# - kvzip-pipeline.7 describes exactly the stages, coders and fields of `kvzip list`, with their ranges and defaults, and
#   every preset; kvz.5 names every stage, coder, id and field; kvzip.1 names every file format;
# - kvzip.1 describes exactly the commands of `kvzip --help` and the options of `kvzip COMMAND --help`;
# - kvzip.3 has exactly the functions and constants of include/kvzip/kvzip.h.
set -euo pipefail
kvzip=$(realpath "$1")
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
complain() {
  echo "$*" >&2
  failed=1
}

mandoc -T lint -W warning man/kvzip.1 man/kvzip.3 man/kvz.5 man/kvzip-pipeline.7 || complain "mandoc complains about a page"
for page in kvzip.1 kvzip.3 kvz.5 kvzip-pipeline.7; do
  mandoc -T ascii -O width=1000,indent=5 "man/$page" | sed 's/.\x08//g' >"$work/$page"
done

# part PAGE HEADING [SUBHEADING]: the text of a section, or of a subsection of it.
part() {
  awk -v heading="$2" -v sub_heading="${3:-}" '
    /^[^ ]/ { inside = $0 == heading; within = 0; next }
    inside && /^   [^ ]/ { within = $0 == "   " sub_heading; next }
    inside && (sub_heading == "" || within)' "$work/$1"
}
# same WHAT EXPECTED FOUND: two lists of lines, in any order.
same() {
  local difference
  difference=$(diff <(sort -u <<<"$2") <(sort -u <<<"$3") | grep '^[<>]' || true)
  [ -z "$difference" ] || complain "$1: < the tool has, > the page has"$'\n'"$difference"
}
subheadings() { awk -v heading="$2" '/^[^ ]/ { inside = $0 == heading; next } inside && /^   [^ ]/ { print $1 }' "$work/$1"; }

# Stages and coders: "NAME: help (id N[, KIND], since format X)", then a table "  FIELD  TYPE  RANGE  DEFAULT  MEANING".
versions=$(part kvz.5 VERSIONS)
for kind in stages coders; do
  section=${kind^^}
  listing=$("$kvzip" list $kind)
  names=$(sed -nE 's/^([a-z0-9-]+): .*\(id [0-9]+, .*since .*/\1/p' <<<"$listing")
  [ -n "$names" ] || complain "kvzip list $kind shows nothing that this script understands"
  same "kvzip-pipeline.7, $section" "$names" "$(subheadings kvzip-pipeline.7 "$section")"
  same "kvz.5, $section" "$names" "$(subheadings kvz.5 "$section" | grep -vxE "Range|Adaptive|Positions|Static|CacheGen's|Lanes")"
  for name in $names; do
    one=$(awk -v name="$name:" '/^[^ ]/ { inside = $1 == name } inside' <<<"$listing")
    fields=$(awk -F '  +' '/^  / && $2 != "parameter" { print $2 "=" $4 ", default " $5 }' <<<"$one")
    text=$(part kvzip-pipeline.7 "$section" "$name")
    same "kvzip-pipeline.7, $name" "$fields" "$(grep -oE '^ +[a-z-]+=[^ ]+, default [^ ]+$' <<<"$text" | sed 's/^ *//' || true)"
    wire=$(part kvz.5 "$section" "$name")
    id=$(sed -nE '1s/.*\(id ([0-9]+(, [a-z]+)?), since format .*/\1/p' <<<"$one")
    since=$(sed -nE '1s/.*, since format ([0-9.]+)\)$/\1/p' <<<"$one")
    grep -qF "Id $id." <<<"$wire" || complain "kvz.5, $name: it does not say 'Id $id.'"
    [ "$since" = 1.0 ] || grep -qF "Since $since." <<<"$wire" || complain "kvz.5, $name: it does not say 'Since $since.'"
    [ "$since" = 1.0 ] || grep -qwF -- "$name" <<<"$versions" || complain "kvz.5, VERSIONS: $name is missing"
    for field in $(cut -d= -f1 <<<"$fields"); do
      grep -qwF -- "$field" <<<"$wire" || complain "kvz.5, $name: the field $field is missing"
    done
  done
done

# Tags of a list: "NAME, NAME" alone on a line, or followed by text.
tagged() { grep -qE "^ +([a-z0-9-]+, )*$2(,|  |$)" <<<"$1"; }
presets=$(part kvzip-pipeline.7 PRESETS)
for preset in $("$kvzip" list presets | awk 'NR > 1 { print $1 }'); do
  tagged "$presets" "$preset" || complain "kvzip-pipeline.7: the preset $preset is missing"
done
formats=$(part kvzip.1 FORMATS)
for format in $("$kvzip" list formats | awk 'NR > 1 { print $1 }'); do
  tagged "$formats" "$format" || complain "kvzip.1: the format $format is missing"
done

# Commands and options.
commands=$("$kvzip" --help | awk '/^[A-Z]/ { inside = $1 == "Commands:"; next } inside && /^  [a-z]/ { print $1 }')
same "kvzip.1, COMMANDS" "$commands" "$(subheadings kvzip.1 COMMANDS)"
shared=$(part kvzip.1 "OPTIONS OF SEVERAL COMMANDS")
for command in '' $commands; do
  help=$("$kvzip" $command --help | awk '/^[A-Z]/ { inside = $1 == "Options:"; next } inside && /^  -/ { print $1 }')
  text=$shared
  [ -z "$command" ] || text=$(part kvzip.1 COMMANDS "$command")
  synopsis=$(head -n 1 <<<"$text")
  long=$(grep -oE -- '--[a-z-]+' <<<"$help")
  for option in $long; do
    short=$(sed -nE "s/^-(.),$option\$/\1/p" <<<"$help")
    grep -qE -- "(^|[^a-z-])$option([^a-z-]|$)" <<<"$text" && continue
    # Shared options are described once; the synopsis of the command shows those that have a letter.
    if grep -qE -- "-([a-z], -)?-?${option#--}([^a-z-]|$)" <<<"$shared"; then
      [[ $option =~ ^--(help|memlimit|progress-fd|no-sync|trust)$ ]] ||
        { [ -n "$short" ] && grep -qE -- "\[-[a-z]*$short" <<<"$synopsis"; } ||
        complain "kvzip.1: the synopsis of $command lacks $option"
    else
      complain "kvzip.1: ${command:+$command }$option is missing"
    fi
  done
  [ -n "$command" ] || continue
  for option in $(grep -oE -- '(^|[^a-z-])--[a-z-]+' <<<"$text" | grep -oE -- '--[a-z-]+' | sort -u); do
    grep -qxF -- "$option" <<<"$long" || complain "kvzip.1: kvzip $command has no $option"
  done
done

# The C interface.
declared=$(grep -oE '^KVZIP_API .*' include/kvzip/kvzip.h | grep -oE 'kvzip_[a-z_]+\(' | tr -d '(')
same "kvzip.3, SYNOPSIS" "$declared" "$(part kvzip.3 SYNOPSIS | grep -oE 'kvzip_[a-z_]+\(' | tr -d '(')"
described=$(part kvzip.3 DESCRIPTION; part kvzip.3 "RETURN VALUES")
for name in $declared $(grep -oE '^  KVZIP_[A-Z_]+|enum \{ KVZIP_[A-Z_]+' include/kvzip/kvzip.h | grep -oE 'KVZIP_[A-Z_]+'); do
  grep -qE "(^|[^a-z_A-Z])$name([^a-z_A-Z]|\$)" <<<"$described" || complain "kvzip.3: $name is not described"
done
exit $failed
