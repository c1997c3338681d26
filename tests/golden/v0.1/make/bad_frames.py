# SPDX-License-Identifier: Apache-2.0
"""Hostile frames."""

import struct

import zstandard

from edited import frame_of, raw_deflate


def frames(tool):
    """Frames whose checksums are right."""
    bad = {}

    def frame_edit(name, pipeline, edit, **more):
        bad[f"frame-{name}"] = tool.edited(pipeline, edit, **more)

    plain = "quant:bits=2,pack"
    frame_edit("flags", plain, lambda left, s: b"\2" + frame_of(left, s)[1:])
    frame_edit("empty", plain, lambda left, s: b"")
    frame_edit("raw-short", plain, lambda left, s: b"\1" + bytes(159))
    frame_edit("raw-long", plain, lambda left, s: b"\1" + bytes(161))
    frame_edit("left-out", plain, lambda left, s: (1, s))
    frame_edit("left-out-beyond", plain, lambda left, s: (1 << 40, s))
    frame_edit("streams-many", plain, lambda left, s: (left, s + [[0, b"", b""]] * 129))
    frame_edit("streams-claimed", plain, lambda left, s: b"\0\0\x7f" + frame_of(left, s)[3:])
    frame_edit("label", plain, lambda left, s: (left, [[8, s[0][1], s[0][2]]] + s[1:]))
    frame_edit("stage", plain, lambda left, s: (left, s + [[0x95, b"", b"x"]]))
    frame_edit("stream-missing", plain, lambda left, s: (left, s[:-1]))
    frame_edit("stream-more", plain, lambda left, s: (left, s + s[-1:]))
    frame_edit("tail", plain, lambda left, s: (left, s, b"\0\1"))
    frame_edit("varint-long", plain, lambda left, s: b"\0" + b"\x80" * 10 + b"\0" + frame_of(left, s)[2:])
    frame_edit("stream-beyond", plain, lambda left, s: frame_of(left, s)[:-3])
    frame_edit("specials-none", plain, lambda left, s: (left, s + [[0xF5, b"", b"\0"]]))
    frame_edit("specials-place", plain, lambda left, s: (left, s + [[0xF5, b"", b"\1\x50\0\x7e"]]))
    frame_edit("specials-short", plain, lambda left, s: (left, s + [[0xF5, b"", b"\2\1\1\0\x7e\0"]]))
    frame_edit("specials-more", plain, lambda left, s: (left, s + [[0xF5, b"", b"\1\1\0\x7e\0"]]))
    frame_edit("specials-twice", plain, lambda left, s: (left, s + [[0xF5, b"", b"\1\1\0\x7e"]] * 2))

    def stream_edit(name, *args, **options):
        bad[f"stream-{name}"] = tool.stream(*args, **options)

    cut, more = lambda b: b[:-1], lambda b: b + b"\0"
    stream_edit("pack-short", plain, -1, cut)
    stream_edit("pack-long", plain, -1, more)
    stream_edit("pack-table", plain, -1, table=more)
    stream_edit("pack-symbol", "quant:levels=3,pack", -1, lambda b: b"\xff" + b[1:])
    stream_edit(
        "pack-padding", "quant:bits=1,pack", -1, lambda b: b[:-1] + bytes([b[-1] | 0x80]), tokens=21, channels=3
    )
    stream_edit("pack-position", "outliers:axis=token:count=2,quant:bits=2,pack", 0, lambda b: b"\xff" * len(b))
    stream_edit("zstd-method", "quant:bits=1,zstd", -1, lambda b: b"\2" + b[1:], tokens=300)
    stream_edit(
        "zstd-garbage", "quant:bits=1,zstd", -1, lambda b: b"\1\x28\xb5\x2f\xfd" + bytes(range(100)), tokens=300
    )
    stream_edit(
        "zstd-size",
        "quant:bits=1,zstd",
        -1,
        lambda b: b"\1" + zstandard.ZstdCompressor().compress(bytes(5000)),
        tokens=300,
    )
    stream_edit(
        "zstd-bomb",
        "quant:bits=1,zstd",
        -1,
        lambda b: b"\1" + zstandard.ZstdCompressor().compress(bytes(1 << 26)),
        tokens=300,
    )
    stream_edit(
        "zstd-symbol",
        "quant:bits=1,zstd",
        -1,
        lambda b: b"\1" + zstandard.ZstdCompressor().compress(b"\2" * 1200),
        tokens=300,
    )
    deflate = lambda data: b"\1" + raw_deflate(data)
    stream_edit("deflate-method", "quant:bits=1,deflate", -1, lambda b: b"\2" + b[1:], tokens=300)
    stream_edit("deflate-garbage", "quant:bits=1,deflate", -1, lambda b: b"\1\7" + b[2:], tokens=300)
    stream_edit("deflate-short", "quant:bits=1,deflate", -1, lambda b: deflate(bytes(100)), tokens=300)
    stream_edit("deflate-long", "quant:bits=1,deflate", -1, lambda b: deflate(bytes(1 << 20)), tokens=300)
    stream_edit("deflate-more", "quant:bits=1,deflate", -1, lambda b: deflate(bytes(150)) + b"x", tokens=300)
    stream_edit("deflate-symbol", "quant:levels=3,deflate", -1, lambda b: deflate(b"\xff" * 300), tokens=300)
    stream_edit("ac-method", "quant:bits=2,ac", -1, lambda b: b"\2" + b[1:], tokens=300)
    stream_edit("ac-empty", "quant:bits=2,ac", -1, lambda b: b"", tokens=300)
    stream_edit("ac-short", "uniform:step=2,ac", -1, cut, tokens=300)
    stream_edit("ac-long", "uniform:step=2,ac", -1, more, tokens=300)
    stream_edit("ac-table", "uniform:step=2,ac", -1, table=more, tokens=300)
    stream_edit("static-table", "uniform:step=2,ac:model=static", -1, table=lambda b: b[:-1], tokens=300)
    stream_edit("static-short", "uniform:step=2,ac:model=static", -1, cut, tokens=300)
    stream_edit(
        "cachegen-table", "quant:bits=2,ac:model=cachegen", -1, table=lambda b: b[:4] + b[:2] + b[6:], tokens=300
    )
    stream_edit("cachegen-table-size", "quant:bits=2,ac:model=cachegen", -1, table=cut, tokens=300)
    stream_edit(
        "cachegen-length",
        "quant:bits=2,ac:model=cachegen",
        -1,
        lambda b: b[:1] + b"\xff\xff\xff\xff" + b[5:],
        tokens=300,
    )
    stream_edit("cachegen-more", "quant:bits=2,ac:model=cachegen", -1, more, tokens=300)
    lanes = {"tokens": 300, "channels": 8}
    stream_edit("rans-method", "uniform:step=1,rans", -1, lambda b: b"\5" + b[1:], **lanes)
    stream_edit("rans-flags", "uniform:step=1,rans", -1, lambda b: b[:1] + b"\x80" + b[2:], **lanes)
    stream_edit("rans-no-model", "uniform:step=1,rans", -1, lambda b: b[:1] + bytes([b[1] & 7]) + b[2:], **lanes)
    stream_edit("rans-uppers", "uniform:step=1,rans", -1, lambda b: b[:2] + b"\1" + b[3:], **lanes)

    def no_state(b):
        assert b[0] == 2 and b[1] & 0x57 == 0  # lanes without tables, low bits and escapes: the states come next
        return b[:4] + bytes(4) + b[8:]

    stream_edit("rans-state", "uniform:step=1,rans", -1, no_state, **lanes)
    stream_edit("rans-short", "uniform:step=1,rans", -1, lambda b: b[:-2], **lanes)
    stream_edit("rans-long", "uniform:step=1,rans", -1, lambda b: b + b"\0\0", **lanes)
    stream_edit("rans-table", "uniform:step=1,rans", -1, table=more, **lanes)
    stream_edit("klt-groups", "klt:bits=12,pack", 2, lambda b: struct.pack("<I", 5))
    stream_edit("klt-groups-huge", "klt:bits=12,pack", 2, lambda b: b"\xff" * 4)
    stream_edit("klt-entry", "klt:bits=12,pack", 3, lambda b: bytes([21]) * len(b))
    stream_edit("klt-entry-bits", "klt:bits=12,pack", 3, lambda b: bytes(len(b)))
    stream_edit("klt-components", "klt:bits=12,pack", 3, lambda b: bytes([5]) * len(b))
    stream_edit("uniform-step", "uniform:unit=rms:step=1,pack", 0, lambda b: bytes(4))
    stream_edit("uniform-nan", "uniform:unit=rms:step=1,pack", 0, lambda b: struct.pack("<f", float("nan")))
    return bad
