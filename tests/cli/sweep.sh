# sweep: forms of output, plots and reports, grids and files of pipelines, rows taken up again, what is refused. Figures
# are checked by unit tests.
kvzip synth -q -o a.safetensors --layers 3 --heads 2 --head-dim 32 --tokens 300
kvzip synth -q -o long.safetensors --layers 3 --heads 2 --head-dim 32 --tokens 340
quick="--queries-per-head 10"

# columns FILE NAME...: these columns of a CSV file without commas inside quotes.
columns() {
  local file=$1
  shift
  awk -F, -v names="$*" 'NR == 1 { n = split(names, want, " "); for (i = 1; i <= NF; ++i) at[$i] = i }
    { line = ""; for (i = 1; i <= n; ++i) { if (!(want[i] in at)) exit 1; line = line $at[want[i]] " " } print line }' "$file"
}
# settled: standard input without what a clock and the memory say, in all forms of output.
settled() { sed -E 's/"(encode_mbs|decode_mbs|peak_bytes)": [0-9.e+-]+/"\1": 0/; s/"command": "kvzip sweep.*//'; }

# Text: all presets, nothing on standard error.
expect_status 0 kvzip sweep a.safetensors $quick
[ ! -s stderr ]
for preset in $(kvzip list presets | awk 'NR > 1 { print $1 }'); do [ "$(grep -c "^$preset " stdout)" = 3 ]; done
head -n 1 stdout | grep -qE '^kvzip [0-9.]+ \([a-z]+ [0-9.]+\), .* x .*; speeds are of one thread'
expect_in stdout "a.safetensors: synth-3x2x32, the first 225 of 300 tokens, 86400 values in F16, 172.8 kB; 10 queries a head from the dump"
expect_in stdout "* = Pareto-optimal in bytes and attention output nrmse"
for column in "file" "ratio" "x int8" "bits" "K nrmse" "V nrmse" "attention" "KL" "enc MB/s" "dec MB/s" "peak" "worst layer" \
  "codes" "scales" "factors" "outliers" "exact" "tables" "headers" "K dB" "V cosine"; do
  expect_in stdout "$column"
done
if grep -q roxies stdout; then exit 1; fi  # there are queries
grep -qE '^lossless .* exact' stdout

# With -v: proxies, attention, layers and heads.
expect_status 0 kvzip sweep a.safetensors $quick --presets int8,kivi-2 -v
expect_in stdout "Proxies, not attention of real queries"
expect_in stdout "kivi-2: layers, and heads by attention output nrmse"
expect_in stdout "head 1"

# CSV: as many fields everywhere, a line for each setting, layer and head; bytes are the file's of the row's command.
expect_status 0 kvzip sweep a.safetensors $quick --presets int8,kivi-2,gear-2 --csv
mv stdout all.csv
awk '{ gsub(/"[^"]*"/, ""); fields = gsub(/,/, "") } NR == 1 { n = fields } fields != n { print; exit 1 }' all.csv
[ "$(wc -l <all.csv)" = $((1 + 3 * (1 + 3 + 6))) ]
kvzip sweep a.safetensors $quick --presets int8,kivi-2,gear-2 --json >all.json
grep -o '"command": "kvzip compress [^"]*"' all.json | cut -d'"' -f4 >commands
[ "$(wc -l <commands)" = 3 ]
while read -r command; do
  rm -f OUT.kvz
  eval "$command -q"
  grep -qE "\"file_bytes\": $(stat -c %s OUT.kvz)," all.json
done <commands
for text in '"schema": 1' '"kind": "sweep"' '"queries_from": "the dump"' '"ratio_to_int8": 1.0' '"worst_layer":' '"left_out":'; do
  expect_in all.json "$text"
done
# Threads change nothing but speeds and memory.
kvzip sweep a.safetensors $quick --presets int8,kivi-2,gear-2 --json -j 1 | settled >one.json
settled <all.json | cmp - one.json
expect_status 0 kvzip sweep a.safetensors $quick --presets int8,kivi-2,gear-2 --json -j 5
[ ! -s stderr ]
settled <stdout | cmp - one.json

# Markdown: all lines of a table have the same number of cells.
expect_status 0 kvzip sweep a.safetensors $quick --presets int8,gear-2 --markdown
expect_in stdout "| setting |"
awk -F'|' '/^\|/ { if (n && NF != n) exit 1; n = NF; next } { n = 0 }' stdout

# Grids: unchanged settings keep their names, 0 takes a stage out.
expect_status 0 kvzip sweep a.safetensors $quick --presets gear-2 --grid 'quant.bits=2,3;lowrank.rank=0,4' --csv
columns stdout scope setting | grep '^file' | sort >names
[ "$(wc -l <names)" = 4 ]
expect_in names '"gear-2"'
grep -q 'file "gear-2' names

# Pipelines and rules from a file; the rules' command needs them as a file.
printf '%s\n' '# mine' 'quant:bits=3,rans' 'half: cast:to=f16,pack' '[by layer]' 'key[0] = quant:bits=8,pack' \
  'key[*] = quant:bits=4,pack' 'value[*] = quant:bits=4,pack' >mine.txt
expect_status 0 kvzip sweep a.safetensors $quick --pipelines mine.txt
for name in "quant:bits=3,rans" half "by layer"; do grep -qF -- "$name " stdout; done
if grep -q '^int8 ' stdout; then exit 1; fi
expect_status 0 kvzip sweep a.safetensors $quick --pipelines mine.txt --presets "$root/samples/my-preset.txt" --json
expect_in stdout "--preset ./RULES.txt"
expect_in stdout "my-preset.txt"

# Measures, a second set of queries, other queries, selections, several dumps.
kvzip compress -q long.safetensors -o later.kvz --preset lossless --role query --tokens 300:340
expect_status 0 kvzip sweep a.safetensors $quick --presets int8,int4 --queries2 later.kvz --measure kl2
expect_in stdout "second set of 10"
expect_in stdout "attention 2"
expect_in stdout "* = Pareto-optimal in bytes and KL of attention (nats), second queries"
expect_status 0 kvzip sweep a.safetensors $quick --presets int8 --measure k-nrmse --layers 1 --tokens 0:100 --role key
expect_in stdout "100 tokens, 6400 values"
expect_status 0 kvzip sweep "$sample" a.safetensors $quick --presets int8,int4
[ "$(grep -c 'Pareto-optimal in bytes and proxy' stdout)" = 2 ]  # the sample has no queries
expect_in stdout "Proxies, not attention of real queries"
expect_status 0 bash -c "kvzip sweep - $quick --presets int8 <a.safetensors"
expect_in stdout "standard input: "
expect_status 0 bash -c "cat a.safetensors | kvzip sweep - $quick --presets int8 --resume piped"
[ -z "$(ls -A piped)" ]

expect_status 5 kvzip sweep a.safetensors $quick --presets int8 --queries2 missing
grep -q '^kvzip: missing: ' stderr

# Plots and a report.
expect_status 0 kvzip sweep a.safetensors $quick --presets int8,int4,kivi-2 --plot out.svg --report out.html --csv
[ ! -s stderr ]
head -n 1 stdout | grep -q '^dump,scope,setting,'
grep -q '<svg' out.svg
expect_in out.html "<title>kvzip sweep: rate against attention output nrmse</title>"
expect_in out.html "kvzip compress a.safetensors -o OUT.kvz --role key,value --tokens 0:225 --preset kivi-2"
expect_status 0 kvzip sweep a.safetensors $quick --presets int8,int4 --plot out.png
[ "$(head -c 4 out.png | tail -c 3)" = PNG ]
cp out.svg before.svg
expect_status 1 kvzip sweep a.safetensors $quick --presets int8 --plot out.svg
expect_in stderr "out.svg: exists already (-f overwrites it)"
[ ! -s stdout ]
cmp out.svg before.svg
expect_status 0 kvzip sweep a.safetensors $quick --presets int8 --plot out.svg -f
mkdir bin
ln -s "$(command -v kvzip)" bin/kvzip
expect_status 5 env PATH="$PWD/bin" kvzip sweep a.safetensors $quick --presets int8 --plot new.svg
expect_in stderr "gnuplot-nox"
[ ! -e new.svg ]
expect_status 0 env PATH="$PWD/bin" kvzip sweep a.safetensors $quick --presets int8

# Rows kept: an interrupted sweep goes on, and finished rows come back as they were, speeds and all.
presets=int4,zstd-19,kvtc-4,zstd-planes,lossless,kivi-2
kvzip sweep "$sample" --presets $presets --json | settled >whole.json
mkdir temporary
# A shell's background commands ignore SIGINT, but for env.
env --default-signal=INT TMPDIR="$PWD/temporary" kvzip sweep "$sample" --presets $presets \
  --resume rows/a --json >cut.json 2>cut.err &
child=$!
for _ in $(seq 600); do
  [ "$(ls rows/a 2>/dev/null | wc -l)" -ge 2 ] && break
  sleep 0.1
done
kill -INT $child
got=0
wait $child || got=$?
[ "$got" != 0 ]
[ ! -s cut.json ]
[ -z "$(ls -A temporary)" ]  # containers of settings go with the program
kept=$(ls rows/a | wc -l)
[ "$kept" -ge 2 ] && [ "$kept" -lt 6 ]
expect_status 0 kvzip sweep "$sample" --presets $presets --resume rows/a --json
settled <stdout | cmp - whole.json
mv stdout first.json
[ "$(ls rows/a | wc -l)" = 6 ]
expect_status 0 kvzip sweep "$sample" --presets $presets --resume rows/a --json
cmp stdout first.json

# A row that is not as it was written is said and measured again; of what is no file of a row nothing is read.
expect_status 0 kvzip sweep a.safetensors $quick --presets int8 --resume rows/b --csv
[ ! -s stderr ]
mv stdout as_written.csv
row=$(echo rows/b/*.json)
grep -q '^xxh3 [0-9a-f]\{16\}$' "$row"
cp "$row" kept.json
refused_row() {
  expect_status 0 kvzip sweep a.safetensors $quick --presets int8 --resume rows/b --csv
  expect_in stderr "$row: damaged or changed: this row is measured again"
  cut -d, -f1-16 stdout | cmp - <(cut -d, -f1-16 as_written.csv)
  expect_status 0 kvzip sweep a.safetensors $quick --presets int8 --resume rows/b --csv
  [ ! -s stderr ]
}
sed -i 's/"file_bytes":[0-9]*/"file_bytes":1/' "$row"
refused_row
head -n 1 kept.json >"$row"
refused_row
truncate -s 1G "$row"
refused_row
expect_status 0 kvzip sweep a.safetensors $quick --presets int4 --resume rows/c  # another setting's row, with its checksum
cat rows/c/*.json >"$row"
refused_row
for made in 'mkfifo' 'ln -s /dev/zero' 'ln -s kept.json' 'mkdir'; do
  rm "$row"
  $made "$row"
  expect_status 5 timeout 60 kvzip sweep a.safetensors $quick --presets int8 --resume rows/b
  expect_in stderr "$row: is no file of a row, but a link, folder, pipe or device: remove it"
  rm -r "$row"
  cp kept.json "$row"
done

# A sweep's JSON is what plan reads.
kvzip sweep a.safetensors $quick --presets int8,int4,cachegen-2 --chunk-tokens 100 --json >sweep.json
echo '0 8' >link
expect_status 0 kvzip plan sweep.json --bandwidth link --slo 10 --recompute-ms-per-token 1e6 --chunk-tokens 100
expect_in stdout "225 tokens in 3 chunks"
expect_in stdout "int8"

# What cannot be: said before anything is measured.
expect_status 2 kvzip sweep
expect_status 2 kvzip sweep a.safetensors --measure nope
expect_in stderr "there is no measure 'nope'; there are attention, kl,"
expect_status 2 kvzip sweep a.safetensors --presets int8 --measure kl2 $quick
expect_in stderr "no setting has the measure 'kl2'"
for grid in 'nope.bits=2' 'quant.bts=2' 'quant.bits=77' 'quant.bits' 'quant.bits=2;;=' 'lowrank.rnk=0'; do
  expect_status 2 kvzip sweep a.safetensors --presets gear-2 --grid "$grid"
  expect_in stderr "--grid"
  [ ! -s stdout ]
done
expect_status 2 kvzip sweep a.safetensors --presets nope
expect_status 2 kvzip sweep a.safetensors --presets int8 --json --csv
expect_status 2 kvzip sweep a.safetensors --presets int8 --plot out.pdf
expect_status 2 kvzip sweep a.safetensors --presets int8 --role query
expect_status 2 kvzip sweep a.safetensors --presets int8 --chunk-tokens 0
echo 'cast,pack
nope,pack' >bad.txt
expect_status 2 kvzip sweep a.safetensors --pipelines bad.txt
expect_in stderr "bad.txt, line 2: "
expect_status 5 kvzip sweep a.safetensors --pipelines missing.txt
expect_status 5 kvzip sweep missing.safetensors --presets int8
expect_status 5 kvzip sweep a.safetensors --presets int8 --resume link/rows
expect_in stderr "link/rows"
kvzip synth -q -o none.safetensors --layers 1 --heads 1 --head-dim 8 --tokens 0
expect_status 1 kvzip sweep none.safetensors --presets int8
expect_in stderr "holds no values"
head -c 5000 a.safetensors >cut.safetensors
expect_status 3 kvzip sweep cut.safetensors --presets int8
