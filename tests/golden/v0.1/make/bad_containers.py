# SPDX-License-Identifier: Apache-2.0
"""Damaged and hostile containers, but for their frames."""

import json
import struct

import zstandard

import inputs as i
from edited import FRAME, HEADER, INDEX, LAST, RESULTS, flip


def damage(tool):
    """Cut, changed, and put together wrongly. Name to bytes, as below."""
    base = tool.base
    places = i.offsets(base)
    at = {}
    for kind, where, stored in places:
        at.setdefault(kind, (where, stored))
    header, frame, index, last = at[HEADER], at[FRAME], at[INDEX], at[LAST]
    size = len(base)
    bad = {}
    for name, n in {
        "magic": 5,
        "prelude": 20,
        "after-prelude": 32,
        "header-front": 50,
        "header-payload": header[0] + 32 + header[1] // 2,
        "header-hash": frame[0] - 3,
        "after-header": frame[0],
        "frame-front": frame[0] + 11,
        "frame-payload": frame[0] + 36,
        "frame-hash": frame[0] + 32 + frame[1] + 4,
        "after-frame": frame[0] + 40 + frame[1],
        "before-index": index[0],
        "index": index[0] + 33,
        "before-end": last[0],
        "before-footer": size - 40,
        "footer": size - 20,
        "last-byte": size - 1,
    }.items():
        bad[f"cut-{name}"] = base[:n]
    bad["more-behind"] = base + b"\n"
    bad["twice"] = base + base
    bad["hole"] = base[: frame[0] + 33] + base[frame[0] + 38 :]
    bad["zeros"] = base[: frame[0]] + bytes(size - frame[0])
    for name, where in {
        "minor": 10,
        "ignorable-flags": 16,
        "reserved": 22,
        "prelude-check": 29,
        "header-sync": 33,
        "header-type": 36,
        "header-stored": 41,
        "header-decoded": 50,
        "header-sequence": 57,
        "header-check": 61,
        "header-payload": header[0] + 60,
        "header-hash": frame[0] - 2,
        "frame-sync": frame[0] + 1,
        "frame-type": frame[0] + 4,
        "frame-stored": frame[0] + 8,
        "frame-check": frame[0] + 29,
        "frame-payload": frame[0] + 34,
        "frame-hash": frame[0] + 32 + frame[1] + 7,
        "last-frame": index[0] - 12,
        "index-type": index[0] + 4,
        "index-payload": index[0] + 33,
        "index-hash": last[0] - 1,
        "end-type": last[0] + 4,
        "end-payload": last[0] + 33,
        "end-hash": size - 41,
        "footer-offset": size - 40,
        "footer-length": size - 31,
        "footer-reserved": size - 20,
        "footer-check": size - 10,
        "footer-magic": size - 4,
    }.items():
        bad[f"flip-{name}"] = flip(base, where)
    bad["text-lf"] = base.replace(b"\r\n", b"\n")
    bad["text-crlf"] = base.replace(b"\n", b"\r\n")
    bad["text-7-bits"] = bytes(b & 127 for b in base)
    bad["text-utf-8"] = base.decode("latin-1").encode()
    bad["text-replaced"] = base.decode(errors="replace").encode()

    # The prelude, records, index and footer lie, with every checksum right.
    records = i.take_apart(base)
    bad["reserved"] = i.put_together(records, i.prelude(reserved=1))
    bad["no-header"] = i.put_together(records[1:])
    bad["two-headers"] = i.put_together(records[:1] + records)
    bad["header-second"] = i.put_together([records[1], records[0]] + records[2:])
    bad["frame-missing"] = i.put_together(records[:2] + records[3:])
    bad["frame-twice"] = i.put_together(records[:2] + records[1:])
    bad["frames-swapped"] = i.put_together([records[0], records[3], records[2], records[1]] + records[4:])
    bad["frame-behind-index"] = i.put_together(records[:-2] + [records[-2], records[1], records[-1]])
    bad["end-missing"] = i.put_together(records[:-1])
    bad["end-counts"] = i.put_together(records, end=lambda r, f, h: (r + 1, f, h))
    bad["end-hash"] = i.put_together(records, end=lambda r, f, h: (r, f, h ^ 1))
    for name, entries in {
        "short": lambda e: e[:-2],
        "odd": lambda e: e[:-1],
        "long": lambda e: e + [0],
        "shifted": lambda e: [e[0] + 1] + e[1:],
        "beyond": lambda e: [(1 << 64) - 1] + e[1:],
        "length": lambda e: e[:3] + [e[3] - 1] + e[4:],
        "wraps": lambda e: [e[0], (1 << 64) - 101] + e[2:],
        "overlap": lambda e: [e[0] - 1, e[1] + 40] + e[2:],
    }.items():
        bad[f"index-{name}"] = i.put_together(records, entries=entries)
    for name, (offset, length) in {
        "before": (0, size),
        "header": (32, size),
        "frame": (frame[0], size),
        "behind": (1 << 63, size),
        "length": (index[0], 7),
        "longer": (index[0], size + 1),
    }.items():
        bad[f"footer-{name}"] = base[:-40] + i.footer(offset, length)
    bad["footer-kept-bytes"] = base[:-40] + i.footer(index[0], size, 1)
    front = lambda where, **f: (
        base[:where]
        + i.checked(
            i.SYNC
            + struct.pack(
                "<HHQQI", *({**dict(zip("abcde", struct.unpack_from("<HHQQI", base, where + 4))), **f}.values())
            )
        )
        + base[where + 32 :]
    )
    bad["frame-length-huge"] = front(frame[0], c=1 << 62, d=1 << 62)
    bad["frame-length-none"] = front(frame[0], c=0, d=0)
    bad["frame-lengths-differ"] = front(frame[0], d=999)
    bad["frame-sequence"] = front(frame[0], e=5)
    text = records[0][1]
    packed = zstandard.ZstdCompressor().compress(text)
    again = lambda payload, decoded: i.put_together([[HEADER, payload, 1, decoded]] + records[1:])
    bad["header-unpacks-short"] = again(packed, len(text) + 1)
    bad["header-unpacks-long"] = again(packed, len(text) - 1)
    bad["header-garbage"] = again(b"\x28\xb5\x2f\xfd" + bytes(range(200)), 500)
    bad["header-claims-much"] = again(packed, 1 << 40)
    bad["header-bomb"] = again(zstandard.ZstdCompressor(19).compress(bytes(1 << 24)), 1 << 24)
    return bad


def headers(tool):
    """Headers whose checksums are right."""
    base, bad = tool.base, {}
    records = i.take_apart(base)
    text = records[0][1]

    def header_edit(name, edit):
        bad[f"json-{name}"] = i.with_header(base, edit)

    def put(path, value):
        def edit(h):
            for key in path[:-1]:
                h = h[key]
            if value is None and isinstance(h, dict):
                del h[path[-1]]
            else:
                h[path[-1]] = value

        return edit

    key = json.loads(text)
    tensor = [t["name"] for t in key["tensors"]].index("layers.0.key")
    value = 1 - tensor
    heads = [n for n, g in enumerate(key["groups"]) if g.get("slots") and g["slots"][0]["fixed"][0] is not None]
    whole = next(n for n, g in enumerate(key["groups"]) if g.get("slots") and g["slots"][0]["fixed"][0] is None)
    passes = next(n for n, g in enumerate(key["groups"]) if not g.get("slots"))
    shape = key["tensors"][value]["shape"]
    for name, raw in {
        "empty": b"",
        "not-json": b"{",
        "null": b"null",
        "list": b"[]",
        "number": b"7",
        "text": b'"x"',
        "two": b"{}{}",
        "comment": text[:-1] + b"/**/}",
        "nan": text[:-1] + b',"x":NaN}',
        "bytes": text.replace(b"kvzip", b"kv\xff\xfe\xfd"),
        "zeros": bytes(40),
        "cut": text[:-20],
        "deep": text[:-1] + b',"x":' + b"[" * 5000 + b"]" * 5000 + b"}",
        "deep-17": text[:-1] + b',"x":' + b"[" * 16 + b"]" * 16 + b"}",
        "nothing": b"{}",
    }.items():
        header_edit(name, lambda h, raw=raw: raw)
    for member in ("writer", "preset", "user", "model", "tensors", "attributes", "pipelines", "groups"):
        header_edit(f"without-{member}", put([member], None))
        header_edit(f"wrong-{member}", put([member], 5))
    for name, path, new in (
        ("shape-negative", ["tensors", value, "shape", 1], -1),
        ("shape-real", ["tensors", value, "shape", 1], 20.0),
        ("shape-text", ["tensors", value, "shape", 1], "20"),
        ("shape-beyond", ["tensors", value, "shape", 1], 1 << 64),
        ("shape-other", ["tensors", value, "shape", 1], 21),
        ("shape-many", ["tensors", value, "shape", 1], 600000),
        ("rank-33", ["tensors", value, "shape"], [1] * 33),
        ("layer-beyond", ["tensors", value, "layer"], 1 << 32),
        ("axes-twice", ["tensors", value, "axes"], "TTD"),
        ("axes-unknown", ["tensors", value, "axes"], "HTX"),
        ("axes-short", ["tensors", value, "axes"], "TD"),
        ("axes-both", ["tensors", value, "axes"], "TDC"),
        ("axes-no-token", ["tensors", value, "axes"], "HLD"),
        ("name-number", ["tensors", value, "name"], 5),
        ("name-twice", ["tensors", value, "name"], "layers.0.key"),
        ("dtype-other", ["tensors", tensor, "dtype"], "I16"),
        ("dtype-packed", ["tensors", value, "dtype"], "F4"),
        ("heads-none", ["groups", whole, "heads"], 0),
        ("heads-wrong", ["groups", whole, "heads"], 3),
        ("head-dim-beyond", ["groups", whole, "head_dim"], 1 << 32),
        ("chunk-none", ["groups", whole, "chunk"], 0),
        ("chunk-negative", ["groups", whole, "chunk"], -4),
        ("pipeline-beyond", ["groups", whole, "pipeline"], 77),
        ("tensor-beyond", ["groups", whole, "slots", 0, "tensor"], 99),
        ("slots-none", ["groups", whole, "slots"], []),
        ("fixed-token", ["groups", whole, "slots", 0, "fixed", 1], 0),
        ("fixed-beyond", ["groups", heads[0], "slots", 0, "fixed", 0], 2),
        ("head-twice", ["groups", heads[1], "slots", 0, "fixed", 0], 0),
        ("piece-none", ["groups", passes, "bytes"], 0),
        ("piece-huge", ["groups", passes, "bytes"], 1 << 40),
        ("pass-lossy", ["groups", passes, "pipeline"], 0),
        ("pipelines-none", ["pipelines"], []),
        ("pipeline-no-coder", ["pipelines", 0, "text"], "quant:bits=2"),
        ("pipeline-range", ["pipelines", 0, "text"], "quant:bits=99,pack"),
        ("pipeline-field", ["pipelines", 0, "text"], "quant:bits=2:fresh=1,pack"),
        ("pipeline-long", ["pipelines", 0, "text"], "x" * 5000),
        ("pipeline-order", ["pipelines", 0, "text"], "quant:bits=2,window,pack"),
        ("stage-ids", ["pipelines", 0, "stages"], [3, 3]),
        ("coder-id", ["pipelines", 0, "coder"], 2),
        ("user-triple", ["user"], [["a", "b", "c"]]),
        ("attribute-count", ["attributes"], [{"object": "", "name": "a", "strings": ["x"], "shape": [2]}]),
        ("attribute-hex", ["attributes"], [{"object": "", "name": "a", "hex_strings": ["abc"], "shape": []}]),
        ("attribute-digit", ["attributes"], [{"object": "", "name": "a", "hex_strings": ["zz"], "shape": []}]),
        ("attribute-bytes", ["attributes"], [{"object": "", "name": "a", "dtype": "F32", "data": "00", "shape": [1]}]),
        ("theta-text", ["model", "rope", "theta"], "much"),
    ):
        header_edit(name, put(path, new))
    header_edit("group-twice", lambda h: h["groups"].append(h["groups"][whole]))
    header_edit("group-missing", lambda h: h["groups"].pop(passes))
    header_edit("tensor-missing", lambda h: h["tensors"].pop())
    # Sizes beyond every limit; and one frame of 2^29 values from a few bytes.
    huge = 1 << 60
    header_edit("elements-overflow", put(["tensors", value, "shape"], [huge, huge, shape[2]]))
    header_edit("frames-many", put(["tensors", value, "shape"], [shape[0], 1 << 40, shape[2]]))

    def whole_frame(tokens):
        def edit(h):
            h["tensors"][value]["shape"] = [shape[0], tokens, shape[2]]
            h["groups"][whole]["chunk"] = tokens

        return edit

    header_edit("frame-values", whole_frame(1 << 40))
    single = json.loads(text)
    whole_frame(1 << 26)(single)
    frames = [r for r in records if r[0] == FRAME]
    assert len(frames) == 10 and whole == 2  # two heads and the values in three chunks each, and what passes through
    bad["frame-unearned"] = i.put_together(
        [[HEADER, json.dumps(single).encode()]] + frames[:7] + frames[9:] + records[-2:]
    )
    return bad


def results(container):
    """Results, of a container that has them."""
    bad, records = {}, i.take_apart(container)
    where = [r[0] for r in records].index(RESULTS)
    found = records[where]

    def with_results(name, payload):
        changed = [list(r) for r in records]
        changed[where][1] = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        bad[f"results-{name}"] = i.put_together(changed)

    with_results("not-json", b"{")
    with_results("nothing", {})
    told = json.loads(found[1])
    with_results("bound-missing", {k: v for k, v in told.items() if k != "bound"})
    with_results("bound-other", {**told, "bound": {"max_abs": 2 * told["bound"]["max_abs"]}})
    with_results("bound-negative", {**told, "bound": {"max_abs": -1.0}})
    with_results("measure", {**told, "target": {**told["target"], "measure": "beauty"}})
    without = records[:where] + records[where + 1 :]
    bad["results-twice"] = i.put_together(records[:where] + [found] + records[where:])
    bad["results-first"] = i.put_together([without[0], found] + without[1:])
    bad["results-behind-index"] = i.put_together(without[:-1] + [found] + without[-1:])
    place = next(o for k, o, _ in i.offsets(container) if k == RESULTS)
    bad["results-flip"] = flip(container, place + 40)
    return bad
