#!/bin/bash
# Checks that README.md shows what the tool does: check-readme.sh KVZIP [--update]
# Runs every line that starts with "$ " in its ```console blocks, all in one folder that holds samples/, and compares
# what they print with what follows there; compares the table between the markers with what samples/sweep.sh prints.
# With --update, README.md gets what was printed. Of the speed tables only the form is compared, not the figures, which
# samples/speed.sh KVZIP measures: README.md holds those of the machine it names.
set -euo pipefail
kvzip=$(realpath "$1")
update=${2:-}
cd "$(dirname "$0")/.."
readme=$PWD/README.md
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/run"
cp -R samples "$work/run/samples"
PATH=$(dirname "$kvzip"):$PATH

# Prints README.md with fresh output.
render() {
  local state=text line command
  while IFS= read -r line; do
    case $state:$line in
      text:'```console') state=console && printf '%s\n' "$line" ;;
      text:'<!-- table:begin -->') state=table && printf '%s\n' "$line" && samples/sweep.sh "$kvzip" ;;
      text:'<!-- speed:begin -->') state=speed && printf '%s\n' "$line" ;;
      speed:'<!-- speed:end -->') state=text && printf '%s\n' "$line" ;;
      console:'```' | table:'<!-- table:end -->') state=text && printf '%s\n' "$line" ;;
      console:'$ '*)
        printf '%s\n' "$line"
        command=${line#\$ }
        while [[ $command == *\\ ]] && IFS= read -r line; do # goes on in the next line
          printf '%s\n' "$line"
          command=${command%\\}$line
        done
        (cd "$work/run" && eval "$command") 2>&1 </dev/null || echo "(exit status $?)"
        ;;
      text:* | speed:*) printf '%s\n' "$line" ;;
    esac
  done <"$readme"
}
# The speed tables without what differs from run to run: figures, machine, slowest steps.
form() { sed -E 's/^kvzip .*/kvzip/; s/, [0-9]+ MB:/:/; s/ [0-9.]+ / N /g; s/\| [a-z]*,[^|]*\|/| STEP |/g'; }
shown=$(awk '/^<!-- speed:end/ { inside = 0 } inside; /^<!-- speed:begin/ { inside = 1 }' "$readme" | form)
now=$(TOKENS=16 samples/speed.sh "$kvzip" -q --runs 1 --min-time 0 | form)
if ! diff -u <(echo "$shown") <(echo "$now"); then
  echo "the speed tables of README.md have another form than what samples/speed.sh KVZIP prints" >&2
  exit 1
fi
render >"$work/README.md"
if [ "$update" = --update ]; then
  cat "$work/README.md" >"$readme"
elif ! diff -u "$readme" "$work/README.md"; then
  echo "README.md does not show what the tool does now; .ci/check-readme.sh KVZIP --update puts that in" >&2
  exit 1
fi
