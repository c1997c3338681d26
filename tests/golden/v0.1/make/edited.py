# SPDX-License-Identifier: Apache-2.0
"""Containers that 0.1 did not write as they are, and the means to make them; here those that the format allows."""

import struct
import zlib

import numpy as np

import inputs as i
from tool import OUT, kvzip

HEADER, FRAME, INDEX, LAST, RESULTS = i.HEADER, i.FRAME, i.INDEX, i.LAST, i.RESULTS


def read(path):
    with open(path, "rb") as f:
        return f.read()


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)


def flip(data, at, bit=4):
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def at_varint(data, at):
    n = shift = 0
    while True:
        n |= (data[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 128:
            return n, at


def streams_of(frame):
    """left, a list of [tag, table, body]"""
    if frame[0] != 0:
        raise ValueError("the frame is stored as it is")
    left, at = at_varint(frame, 1)
    count, at = at_varint(frame, at)
    streams, sizes = [], []
    for _ in range(count):
        tag = frame[at]
        table, at = at_varint(frame, at + 1)
        body, at = at_varint(frame, at)
        sizes.append((tag, table, body))
    for tag, table, body in sizes:
        streams.append([tag, frame[at : at + table], frame[at + table : at + table + body]])
        at += table + body
    return left, streams


def frame_of(left, streams, more=b""):
    out = b"\0" + i.varint(left) + i.varint(len(streams))
    for tag, table, body in streams:
        out += bytes([tag]) + i.varint(len(table)) + i.varint(len(body))
    return out + b"".join(table + body for _, table, body in streams) + more


class Tool:
    """Small containers by 0.1, to be edited."""

    def __init__(self):
        rng = np.random.default_rng(200)
        kv = {name: rng.integers(-2, 3, (2, 20, 8)).astype(np.float16) for name in ("layers.0.key", "layers.0.value")}
        i.safetensors("base.safetensors", {**kv, "ids": np.arange(2, dtype=np.int32)})
        with open("base.txt", "w") as f:
            f.write("chunk = 8\nkey/head = quant:bits=2,pack\nvalue = planes,ac\n")
        self.base = self.compress("base.safetensors", "--preset", "./base.txt")

    def compress(self, source, *args):
        kvzip("compress", source, "-o", "edited.kvz", "-fq", *args)
        return read("edited.kvz")

    def one(self, pipeline, tokens=20, channels=4, seed=201):
        """One key of one frame, and a value."""
        x = np.random.default_rng(seed).standard_normal((1, tokens, channels)).astype(np.float16)
        i.safetensors("one.safetensors", {"layers.0.key": x, "layers.0.value": np.zeros((1, 1, 1), np.float16)})
        return self.compress("one.safetensors", "--key", pipeline, "--value", "planes,pack", "--chunk-tokens", "all")

    def edited(self, pipeline, edit, **shape):
        """The first frame changed: edit gets left and the streams, and returns them or a whole payload."""
        records = i.take_apart(self.one(pipeline, **shape))
        result = edit(*streams_of(records[1][1]))
        records[1][1] = result if isinstance(result, bytes) else frame_of(*result)
        return i.put_together(records)

    def stream(self, pipeline, number, body=None, table=None, **shape):
        """One stream changed, by functions of its body and its table."""

        def edit(left, streams):
            s = streams[number]
            s[1], s[2] = (table or (lambda b: b))(s[1]), (body or (lambda b: b))(s[2])
            return left, streams

        return self.edited(pipeline, edit, **shape)


def tolerated():
    """What a reader may ignore, and forms that the format allows and 0.1 does not write."""
    tool = Tool()
    base, records = tool.base, i.take_apart(tool.base)
    write(f"{OUT}/edited-base.kvz", base)
    write(f"{OUT}/edited-plain-header.kvz", i.put_together([[HEADER, records[0][1], 0]] + records[1:]))
    write(f"{OUT}/edited-minor-7.kvz", i.put_together(records, i.prelude(minor=7, ignorable=0x80000001)))

    def members(h):
        h["later"] = {"x": [1, 2, {"y": None}]}
        h["tensors"][0]["colour"] = "red"
        h["groups"][0]["slots"][0]["more"] = [[[[]]]]
        h["pipelines"][0]["note"] = -1.5e300
        h["model"]["rope"]["phase"] = 0.5

    write(f"{OUT}/edited-members.kvz", i.with_header(base, members, front=i.prelude(minor=3)))
    ancillary = []
    for n, r in enumerate(records):
        ancillary += ([[0xF000 + n, bytes(range(n)), 0x7FFF, 12345]] if n else []) + [r]
    write(f"{OUT}/edited-ancillary.kvz", i.put_together(ancillary))
    # Numbers in more bytes than needed, in a frame and in the index.
    wide = [list(r) for r in records]
    body = wide[1][1]
    assert body[0] == 0 and body[1] == 0
    wide[1][1] = b"\0\x80\x80\x00" + body[2:] + b"\0\0\0"
    wide = i.put_together(wide)
    write(f"{OUT}/edited-varints.kvz", wide)
    # Frames that are stored as they are where coding would do, and streams in another order.
    raw = [list(r) for r in records]
    values = np.random.default_rng(202).integers(0, 0x7BFF, 64, dtype=np.uint16).tobytes()
    raw[1][1] = b"\1" + values
    write(f"{OUT}/edited-raw.kvz", i.put_together(raw))

    # Planes through pack, which never make a frame smaller.
    for split in ("planes", "none"):
        planes = i.take_apart(tool.one(f"planes:split={split},pack"))
        elements = planes[1][1][1:]
        assert planes[1][1][0] == 1 and len(elements) == 160
        rotated = [x << 1 & 0xFFFF | x >> 15 for x in struct.unpack("<80H", elements)]
        streams = [bytes(x >> 8 for x in rotated), bytes(x & 255 for x in rotated)] if split == "planes" else [elements]
        planes[1][1] = frame_of(0, [[5, b"", s] for s in streams], b"\0\0")
        write(f"{OUT}/edited-planes-{split}.kvz", i.put_together(planes))

    def swapped(left, streams):
        first, second = [s for s in streams if s[0] >> 4 == 0], [s for s in streams if s[0] >> 4 == 1]
        return left, second + first

    write(f"{OUT}/edited-streams.kvz", tool.edited("quant:bits=2,lowrank:rank=1,ac", swapped, tokens=200, channels=8))

    def automatic(h):
        for p in h["pipelines"]:
            p["text"] = (
                p["text"]
                .replace("theta=500000", "theta=auto")
                .replace(":layout=half", "")
                .replace(":dims=8", ":dims=auto")
            )

    kvzip(
        "synth",
        "-o",
        "rope.safetensors",
        "-qf",
        "--layers",
        1,
        "--heads",
        1,
        "--head-dim",
        8,
        "--tokens",
        20,
        "--no-query",
    )
    write(
        f"{OUT}/edited-auto-rope.kvz",
        i.with_header(tool.compress("rope.safetensors", "--preset", "uniform-5"), automatic),
    )

    def defaults(h):
        for p in h["pipelines"]:
            p["text"] = p["text"].replace(
                "quant:mode=asym:bits=2:levels=bits:axis=channel:group=all:scale=f16", "quant:levels=0:bits=2"
            )

    write(f"{OUT}/edited-defaults.kvz", i.with_header(base, defaults))

    # Single components with 4 and 8 bits, which the search of 0.1 never finds worth it; and no group at all.
    def entries(left, streams):
        t, w, rng = 20, 4, np.random.default_rng(203)
        half = lambda *shape: rng.standard_normal(shape).astype(np.float16).tobytes()
        plain = [
            (1, b"\0"),
            (1, half(1, w)),
            (6, struct.pack("<I", 3)),
            (6, bytes([2, 3, 1])),
            (1, b"\0"),
            (2, half(w, 3)),
            (1, b"\0"),
            (1, half(t, 3)),
            (1, b"\xfd"),
            (1, half(t, 3)),
            (0, rng.integers(0, 256, 5, dtype=np.uint8).tobytes()),
            (0, rng.integers(0, 256, 10, dtype=np.uint8).tobytes()),
            (0, rng.integers(0, 256, 20, dtype=np.uint8).tobytes()),
        ]
        return left, [[label, b"", body] for label, body in plain]

    write(f"{OUT}/edited-klt-entries.kvz", tool.edited("klt:bits=9,pack", entries))


def raw_deflate(data):
    c = zlib.compressobj(9, zlib.DEFLATED, -15)
    return c.compress(data) + c.flush()
