# compare --attention: real queries, other files' queries, proxies, limits, outputs.
kvzip synth -o a.safetensors --layers 3 --heads 2 --head-dim 32 --tokens 600
kvzip compress -q a.safetensors -o a.kvz --preset kivi-2
kvzip decompress -q a.kvz -o d.safetensors

expect_status 0 kvzip compare a.safetensors a.safetensors --attention --max-attention 0 --max-kl 0
expect_in stdout "attention: 150 queries a head of the dump, the first 450 of 600 tokens decoded"
grep -qE '^all +0 +0 +1\.0000 +0 +1\.000000$' stdout
if grep -q proxy stdout; then exit 1; fi

expect_status 0 kvzip compare a.safetensors a.kvz --attention
expect_in stdout "worst layer: "
[ "$(grep -cE '^[012] ' stdout)" = 3 ]
expect_status 0 kvzip compare a.safetensors a.kvz --attention -v
[ "$(grep -cE '^[012] +[01] ' stdout)" = 6 ]
expect_status 0 kvzip compare a.safetensors a.kvz
if grep -q attention stdout; then exit 1; fi

# Figures do not depend on threads or on the form of the file.
kvzip compare a.safetensors a.kvz --attention --csv -j 1 | sed -n '/^scope,measure/,$p' >one
kvzip compare a.safetensors a.kvz --attention --csv -j 4 | sed -n '/^scope,measure/,$p' | cmp - one
kvzip compare a.safetensors d.safetensors --attention --csv | sed -n '/^scope,measure/,$p' | cmp - one
[ "$(wc -l <one)" = 11 ]
kvzip convert a.safetensors a.h5
kvzip compare a.h5 a.kvz --attention --csv | sed -n '/^scope,measure/,$p' | cmp - one

# Limits.
expect_status 6 kvzip compare a.safetensors a.kvz --max-attention 0.0001
expect_in stderr "misses --max-attention"
expect_status 6 kvzip compare a.safetensors a.kvz --max-kl 0.000001
expect_in stderr "misses --max-kl"
expect_status 0 kvzip compare a.safetensors a.kvz --max-attention 10 --max-kl 10

# A file without queries: proxies, by their name, and no limits.
kvzip synth -o noq.safetensors --layers 3 --heads 2 --head-dim 32 --tokens 600 --no-query
kvzip compress -q noq.safetensors -o noq.kvz --preset kivi-2
expect_status 0 kvzip compare noq.safetensors noq.kvz --attention
expect_in stdout "proxy for attention"
expect_in stdout "proxy output nrmse"
expect_in stdout "worst layer by the proxy: "
if grep -q '^attention' stdout; then exit 1; fi
expect_status 1 kvzip compare noq.safetensors noq.kvz --max-attention 0.5
expect_in stderr "--queries FILE"

# Queries of another file: those of the same cache give the same figures. The whole dump is such a file, too.
kvzip decompress -q a.kvz -o q.safetensors --role query
kvzip compare noq.safetensors noq.kvz --queries q.safetensors --csv | sed -n '/^scope,measure/,$p' | cmp - one
kvzip compare noq.safetensors noq.kvz --queries a.safetensors --csv | sed -n '/^scope,measure/,$p' | cmp - one
# Queries whose name nothing knows: --map says what they are, to sweep and compress as well as to compare.
sed 's/\([0-9]\)\.query"/\1.asker"/g' q.safetensors >asker.safetensors
kvzip decompress -q a.kvz -o keys.safetensors --role key
map="--queries asker.safetensors --map layers.{L}.asker=query:HTD"
expect_status 1 kvzip compare noq.safetensors noq.kvz --queries asker.safetensors
expect_in stderr "asker.safetensors: none of its"
kvzip compare noq.safetensors noq.kvz $map --csv | sed -n '/^scope,measure/,$p' | cmp - one
expect_status 0 kvzip sweep noq.safetensors --presets int4 --queries-per-head 4 $map
expect_in stdout "4 queries a head from asker.safetensors"
kvzip compress -q noq.safetensors -o mapped.kvz --target-attention 0.1 --queries-per-head 4 $map 2>stderr || [ $? = 6 ]
expect_status 0 kvzip inspect mapped.kvz
expect_in stdout "attention output nrmse"
# A second set, at the same positions or later: a part of a longer dump's.
kvzip synth -o long.safetensors --layers 3 --heads 2 --head-dim 32 --tokens 700
kvzip compress -q long.safetensors -o long.kvz --preset lossless
kvzip decompress -q long.kvz -o later.safetensors --role query --tokens 600:700
expect_status 0 kvzip compare a.safetensors a.kvz --queries2 later.safetensors --queries-per-head 40
expect_in stdout "attention: 40 queries"
expect_in stdout "attention, second queries: 40 queries"
expect_status 0 kvzip compare a.safetensors a.kvz --queries later.safetensors --queries-per-head all --top-k 4
expect_in stdout "attention: 100 queries a head of later.safetensors, all 600 tokens decoded"
expect_in stdout "top-4"
expect_status 0 kvzip compare a.safetensors a.kvz --split 100 --attention-scale 0.3
expect_in stdout "the first 100 of 600 tokens"
expect_in stdout "attention: 256 queries"

expect_status 6 kvzip compare a.safetensors a.kvz --queries2 later.safetensors --json --max-kl 0
expect_in stdout '"met": false'
if command -v python3 >/dev/null; then
  kvzip compare a.safetensors a.kvz --queries2 later.safetensors --json >out.json
  kvzip compare noq.safetensors noq.kvz --attention --json >proxy.json
  python3 - out.json proxy.json one <<'PY'
import csv, json, sys
d, p = json.load(open(sys.argv[1])), json.load(open(sys.argv[2]))
assert d["schema"] == 1 and "proxy" not in d and "attention" not in p and "attention2" not in p
a = d["attention"]
assert a["tokens"] == 600 and a["split"] == 450 and a["queries"] == 150 and len(a["layers"]) == 3
assert all(len(layer["heads"]) == 2 for layer in a["layers"])
assert d["attention2"]["queries"] == 100
mean = sum(h["kl"] for layer in a["layers"] for h in layer["heads"]) / 6
assert abs(a["total"]["kl"] - mean) < 1e-12
square = sum(h["output_nrmse"] ** 2 for layer in a["layers"] for h in layer["heads"]) / 6
assert abs(a["total"]["output_nrmse"] - square ** 0.5) < 1e-12
rows = list(csv.DictReader(open(sys.argv[3])))
assert rows[-1]["scope"] == "total" and abs(float(rows[-1]["kl"]) - mean) < 1e-12
assert p["proxy"]["total"]["pair_nrmse"] > 0 and "pair_nrmse" not in a["total"]
PY
fi

# What cannot be.
expect_status 1 kvzip compare a.safetensors a.kvz --split 601
expect_in stderr "600 tokens"
expect_status 1 kvzip compare a.safetensors a.kvz --queries noq.safetensors
expect_in stderr "none of its"
expect_status 5 kvzip compare a.safetensors a.kvz --queries missing.safetensors
for option in --queries --queries2; do
  expect_status 5 kvzip compare a.safetensors a.kvz $option missing.safetensors
  grep -q '^kvzip: missing.safetensors: ' stderr  # and not of a.safetensors
done
expect_status 1 kvzip compare keys.safetensors keys.safetensors --queries q.safetensors
expect_in stderr "no layer has one tensor of each"
for bad in nan inf 0 -1 x; do
  expect_status 2 kvzip compare a.safetensors a.kvz --attention-scale "$bad"
  expect_in stderr "$bad is not a number from 1e-06 to 1e+06"
done
for option in --max-kl --max-attention --max-abs --max-nrmse --min-snr --min-cosine; do
  expect_status 2 kvzip compare a.safetensors a.kvz $option nan
done
expect_status 2 kvzip compare a.safetensors a.kvz --queries-per-head 0
expect_status 2 kvzip compare a.safetensors a.kvz --top-k 0
expect_status 2 kvzip compare a.safetensors a.kvz --attention-scale -1
expect_status 2 bash -c 'cat a.kvz | kvzip compare a.safetensors - --attention'
expect_in stderr "from a pipe"
expect_status 0 bash -c 'kvzip compare a.safetensors - --attention <d.safetensors'
kvzip synth -o none.safetensors --layers 1 --heads 1 --head-dim 8 --tokens 0
expect_status 0 kvzip compare none.safetensors none.safetensors --attention
expect_in stdout "no keys and values"
kvzip synth -o one.safetensors --layers 1 --heads 1 --head-dim 8 --tokens 1
# Of one token no query sees a decoded one: nothing is measured, and nothing is met.
expect_status 0 kvzip compare one.safetensors one.safetensors --attention
expect_status 1 kvzip compare one.safetensors one.safetensors --attention --max-kl 0
expect_status 1 kvzip compare a.safetensors a.safetensors --split 0
expect_in stderr "nothing measured"

# Real keys and values, without queries.
kvzip compress -q "$sample" -o sample.kvz --preset int4
expect_status 0 kvzip compare "$sample" sample.kvz --attention
expect_in stdout "the first 120 of 160 tokens"

# Layers that keep only a window, and padding: attention of what they have is that of the whole dump.
cat >rows.py <<'END_PY'
import json, struct, sys
source, out, kind = sys.argv[1:]
data = open(source, "rb").read()
size = struct.unpack("<Q", data[:8])[0]
old, new, tail = json.loads(data[8:8 + size]), {}, b""
for name, info in old.items():
    if name == "__metadata__":
        new[name] = info | {"layer_types": '["full_attention", "sliding_attention", "sliding_attention"]', "sliding_window": "64"}
        continue
    raw, shape = data[8 + size + info["data_offsets"][0]:8 + size + info["data_offsets"][1]], info["shape"]
    if name.endswith(("key", "value")):
        row = len(raw) // shape[0] // shape[1]
        heads = [raw[h * shape[1] * row:(h + 1) * shape[1] * row] for h in range(shape[0])]
        if kind != "whole" and not name.startswith("layers.0"):
            heads = [h[-{"window": 300, "padded": 300, "late": 100}[kind] * row:] for h in heads]
        if kind == "padded" and name.startswith("layers.0"):
            heads = [h + bytes(40 * row) for h in heads]
        shape, raw = [shape[0], len(heads[0]) // row, shape[2]], b"".join(heads)
    new[name] = {"dtype": info["dtype"], "shape": shape, "data_offsets": [len(tail), len(tail) + len(raw)]}
    tail += raw
text = json.dumps(new).encode()
open(out, "wb").write(struct.pack("<Q", len(text)) + text + tail)
END_PY
attention_of() { # KIND: the lines of layers
  python3 rows.py a.safetensors "$1-a.safetensors" "$1"
  python3 rows.py d.safetensors "$1-d.safetensors" "$1"
  expect_status 0 kvzip compare "$1-a.safetensors" "$1-d.safetensors" --attention
  expect_in stdout "the first 450 of 600 tokens decoded"
  grep -E '^[012] ' stdout
}
attention_of whole >lines
[ "$(wc -l <lines)" = 3 ]
attention_of window | cmp - lines
attention_of padded | cmp - lines
attention_of late | cmp - <(head -n 1 lines)
expect_in stdout "layers 1,2 have no token before 450"
expect_status 0 kvzip sweep window-a.safetensors --presets int4
# Of a full ring whose tokens follow each other, too; one that keeps its first tokens has no such order.
cat >ring.py <<'END_PY'
import json, struct, sys
source, out, turn, keep = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
whole = open(source, "rb").read()
size = struct.unpack("<Q", whole[:8])[0]
old = json.loads(whole[8:8 + size])
header = {"__metadata__": {"0.model": "tiny", "1.0": "KVCache", "1.1": "RotatingKVCache", "2": "",
                           **{f"2.{n}.{i}": v for n, name in enumerate(("0.2", "1.2", "1.3", "1.4", "1.5"))
                              for i, v in enumerate((name, "scalar"))}}}
data = b""
def add(name, dtype, shape, raw):
    global data
    header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
    data += raw
for l, rows in ((0, 600), (1, 300)):
    for i, name in enumerate((f"layers.{l}.key", f"layers.{l}.value")):
        raw = whole[8 + size + old[name]["data_offsets"][0]:8 + size + old[name]["data_offsets"][1]]
        row = len(raw) // 1200
        heads = [raw[h * 600 * row:(h + 1) * 600 * row][-rows * row:] for h in range(2)]
        if l == 1:
            heads = [h[-turn * row:] + h[:-turn * row] for h in heads]
        add(f"{l}.{i}", old[name]["dtype"], [1, 2, rows, 32], b"".join(heads))
add("0.2", "I32", [], struct.pack("<i", 600))
for i, value in enumerate((600, keep, 300, turn)):
    add(f"1.{i + 2}", "I32", [], struct.pack("<i", value))
text = json.dumps(header).encode()
open(out, "wb").write(struct.pack("<Q", len(text)) + text + data)
END_PY
attention_of_ring() { # TURN KEEP
  python3 ring.py a.safetensors ring-a.safetensors "$@"
  python3 ring.py d.safetensors ring-d.safetensors "$@"
  expect_status 0 kvzip compare ring-a.safetensors ring-d.safetensors --attention --queries q.safetensors
  grep -E '^[01] ' stdout
}
attention_of_ring 300 0 >lines # the next row to be written is the first: in the order of time
[ "$(wc -l <lines)" = 2 ]
attention_of_ring 40 0 | cmp - lines
if grep -q "in the order" stdout; then exit 1; fi
expect_status 1 kvzip attend ring-a.safetensors -o x.safetensors --queries q.safetensors
expect_in stderr "the rows of layer 1 are not in the order of positions"
attention_of_ring 40 4 | cmp - <(head -n 1 lines)
expect_in stdout "rows of layers 1 are not in the order of positions"
