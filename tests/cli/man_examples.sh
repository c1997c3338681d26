# Every example of the manual pages works: the displays of the EXAMPLES sections are shell commands, run as they stand,
# page by page. Each page makes its inputs itself, with `kvzip synth`.

# The commands in the EXAMPLES section of a page, without mdoc's escapes.
example_commands() {
  awk '/^\.Sh / { inside = $2 == "EXAMPLES" }
    /^\.Ed/ { shown = 0 }
    inside && shown
    /^\.Bd -literal/ { shown = 1 }' "$1" | sed 's/\\e/\\/g; s/\\&//g; s/\\(aq/'\''/g; s/\\-/-/g'
}

for page in kvzip.1 kvz.5 kvzip-pipeline.7; do
  example_commands "$root/man/$page" >"$page.commands"
  # A page whose examples are not found, or make no input, must not pass.
  expect_in "$page.commands" "kvzip synth"
  expect_in "$page.commands" "kvzip compress"
  mkdir "$page.run"
  if ! (cd "$page.run" && bash -euo pipefail -x "../$page.commands") >"$page.log" 2>&1 </dev/null; then
    echo "an example of $page fails:" >&2
    tail -n 5 "$page.log" >&2
    exit 1
  fi
done

# What the examples promise.
kvzip inspect kvzip.1.run/part.h5 >shown
expect_in shown "layers.3.key"
if grep -q '^layers\.[4-9]\|^layers\..\.value\|^token_ids' shown; then
  echo "part.h5 holds more than layers 0-3 of the keys" >&2
  exit 1
fi
expect_status 0 kvzip inspect kvzip.1.run/piped.h5
expect_in stdout "layers.3.value"
test "$(ls kvzip.1.run/*.csv | wc -l)" = 5
