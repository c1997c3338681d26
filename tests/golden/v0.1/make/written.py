# SPDX-License-Identifier: Apache-2.0
"""Presets, stages and element types."""

import numpy as np

import inputs as i
from tool import SAMPLES, compress, kvzip, pipelines, rules, stage, synth


def presets():
    shape = ("--heads", 2, "--head-dim", 8)
    synth("p.safetensors", *shape, "--layers", 2, "--tokens", 150, "--no-query")
    synth("p3.safetensors", *shape, "--layers", 3, "--tokens", 70, "--no-query")
    synth("q.safetensors", *shape, "--layers", 2, "--tokens", 60, "--query-heads", 2)
    listed = kvzip("list", "presets", capture_output=True, text=True).stdout.splitlines()[1:]
    for preset in (line.split()[0] for line in listed):
        exact, by_layer = preset in ("lossless", "zstd-19", "zstd-planes"), preset.startswith("cachegen")
        source = "q.safetensors" if exact else "p3.safetensors" if by_layer else "p.safetensors"
        compress(f"preset-{preset}", source, "--preset", preset)
    # Real keys and values, 128 channels a head: the sample that 0.1 came with.
    books = f"{SAMPLES}/books.safetensors"
    compress("books-near-lossless", books, "--layers", 3, "--tokens", "0:64", "--role", "key")
    compress("books-gear-2", books, "--layers", 6, "--tokens", ":48", "--preset", "gear-2")
    compress(
        "books-klt", books, "--layers", 4, "--tokens", "100:140", "--role", "key", "--key", "rope,klt:bits=1,deflate"
    )
    compress("books-uniform-2", books, "--layers", 2, "--tokens", "0:128", "--role", "value", "--preset", "uniform-2")


def stages():
    stage(
        "stage-quant-asym",
        [
            "quant:bits=1,pack",
            "quant:bits=2:group=5,ac",
            "quant:levels=3:axis=token:group=7:scale=bf16,rans",
            "quant:bits=3:axis=token-head:group=5:scale=f32,zstd",
            "quant:axis=head:group=16,deflate",
            "quant:levels=20:axis=tile:group=11,pack",
            "quant:bits=5:axis=token,ac",
            "quant:bits=6:axis=token-head,pack",
            "quant:bits=7:axis=head,zstd",
            "quant:bits=8:axis=tile:scale=source,ac:model=static",
            "quant:levels=257,ac",
            "quant:levels=65535:axis=token-head:scale=f32,zstd",
            "quant:bits=2:group=8,quant:bits=4:axis=token:scale=bf16,quant:levels=5:axis=tile,rans",
            "quant:levels=999,quant:bits=1,ac",
            "quant:levels=999:mode=absmax:axis=token,quant:levels=300,rans",
        ],
        1,
    )
    stage(
        "stage-quant-sym",
        [
            "quant:mode=sym:bits=2,pack",
            "quant:mode=sym:bits=3:axis=token:scale=bf16,ac",
            "quant:mode=sym:bits=4:axis=token-head:group=7,zstd",
            "quant:mode=sym:levels=5:axis=head:group=9:scale=f32,rans",
            "quant:mode=sym:bits=8:axis=tile,deflate",
            "quant:mode=sym:levels=999:scale=source,ac",
            "quant:mode=absmax:bits=2,ac",
            "quant:mode=absmax:bits=5:axis=token,pack",
            "quant:mode=absmax:levels=11:axis=token-head:scale=bf16,rans",
            "quant:mode=absmax:levels=65535:axis=head,zstd",
            "quant:mode=absmax:bits=8:axis=tile:group=20:scale=source,ac",
            "quant:mode=absmax:bits=3,quant:mode=sym:bits=3:group=4,pack",
        ],
        2,
    )
    stage(
        "stage-outliers",
        [
            "outliers,quant:bits=2,pack",
            "outliers:axis=token:share=0.2,quant:bits=2:axis=token,ac",
            "outliers:axis=tile:share=0.01,quant:bits=3,rans",
            "outliers:count=3:select=magnitude,quant:bits=2,zstd",
            "outliers:count=5:axis=token,quant:bits=2,deflate",
            "outliers:share=0,quant:bits=2,pack",
            "norm,outliers:share=0.1:select=magnitude,quant:bits=2,ac",
            "outliers:share=0.5,norm,quant:bits=2,pack",
            "outliers:axis=tile:count=7:select=magnitude,cast,rans",
            "rotate,outliers:axis=token,quant:bits=2,ac",
        ],
        3,
    )
    stage(
        "stage-lowrank",
        [
            "lowrank,pack",
            "lowrank:rank=1:bits=2:per=tile,ac",
            "quant:bits=2,lowrank:rank=3:loops=1:seed=7:bits=8,rans",
            "quant:bits=2,lowrank:rank=1024:bits=4,zstd",
            "lowrank:rank=40:per=tile:bits=3:loops=64,deflate",
            "quant:bits=1,lowrank:bits=5,lowrank:rank=2:bits=6:per=tile,lowrank:bits=7,ac:model=static",
            "lowrank:seed=18446744073709551615,quant:bits=2,pack",
        ],
        4,
    )
    stage(
        "stage-norm",
        [
            "norm,quant:bits=3:axis=token,pack",
            "norm:center=mean,quant:bits=3:axis=tile,ac",
            "norm:kind=absmax:scale=bf16,quant:bits=3:axis=token,rans",
            "norm:kind=sqrt-absmax:center=mean:scale=f32,quant:bits=3:axis=token,zstd",
            "norm:kind=none:center=mean:scale=source,uniform:step=0.25,deflate",
            "norm:kind=none,cast:to=e5m2,pack",
        ],
        5,
    )
    stage(
        "stage-delta",
        [
            "delta,quant:bits=4,pack",
            "delta:keep=always,quant:bits=4:axis=token,ac",
            "delta:ref=previous:keep=always,quant:bits=6,rans",
            "delta:ref=previous:every=7,quant:bits=6,zstd",
            "delta:every=2:bits=2:keep=always,quant:bits=3,deflate",
            "delta:every=65536:bits=5:keep=always,cast:to=bf16,rans",
            "delta:keep=always,lowrank,pack",
            "norm,delta:every=16:bits=6,uniform:unit=rms,ac",
        ],
        6,
    )
    stage(
        "stage-cast",
        [
            "cast,pack",
            "cast:to=e5m2:scale=token,ac",
            "cast:to=f16:scale=tile,rans",
            "cast:to=bf16,zstd",
            "cast:to=f32:scale=token,deflate",
            "cast:scale=tile,ac",
            "cast:to=e5m2,cast:to=e5m2,cast:scale=token,pack",
        ],
        7,
        dtype="F64",
    )
    stage(
        "stage-planes",
        [
            "planes,pack",
            "planes:split=none,pack",
            "planes,ac",
            "planes:split=none,ac",
            "planes,rans",
            "planes:split=none,rans",
            "planes,zstd",
            "planes:split=none,zstd:level=22",
            "planes,deflate",
            "planes:split=none,deflate:level=1",
        ],
        8,
        dim=8,
        tokens=40,
    )
    stage(
        "stage-rotate-codebook",
        [
            "rotate,codebook,pack",
            "rotate:rounds=1:seed=3,codebook:bits=1:scale=bf16,ac",
            "rotate:rounds=4:seed=18446744073709551615,codebook:bits=2:scale=f32,rans",
            "codebook:bits=3:scale=source,zstd",
            "rotate:rounds=3,codebook:bits=5,deflate",
            "rotate,quant:bits=3:axis=token-head,pack",
            "rotate,codebook:bits=1,codebook:bits=2,codebook:bits=3,pack",
        ],
        9,
    )
    for dim in (1, 16, 100):  # one channel, a power of two, more than one word of signs
        stage(
            f"stage-rotate-{dim}", ["rotate,codebook:bits=2,pack", "rotate:rounds=1,cast,pack"], dim, dim=dim, tokens=20
        )
    stage(
        "stage-uniform",
        [
            "uniform,ac",
            "uniform:step=0.7:points=centroid,rans",
            "uniform:step=1:unit=rms:round=0.33,pack",
            "uniform:step=0.25:unit=rms:points=centroid:round=0,zstd",
            "uniform:step=1e-30,ac",
            "uniform:step=0.001,zstd",
            "uniform:step=1000000000000,pack",
            "quant:bits=2,uniform:step=0.05:unit=rms,deflate",
            "uniform:step=2,uniform:step=0.5:points=centroid,rans",
        ],
        10,
    )
    stage(
        "stage-window",
        [
            "window:recent=20,quant:bits=2,pack",
            "window:sink=4:recent=0,quant:bits=2:axis=token,ac",
            "window:sink=30:recent=25:rule=modulo,quant:bits=2,rans",
            "window:recent=1000,quant:bits=2,zstd",
            "window:recent=54:rule=modulo,quant:bits=2,deflate",
            "window:sink=1000,cast,deflate",
            "window:sink=1:recent=1,delta:keep=always,quant:bits=4,ac",
            "window,uniform,ac",
        ],
        11,
    )


def rope():
    """Rotations from the metadata and from the text; a dump that has none."""
    synth("rope.safetensors", "--layers", 4, "--heads", 2, "--head-dim", 16, "--tokens", 40, "--no-query")
    pipelines(
        "stage-rope",
        "rope.safetensors",
        [
            "rope,quant:bits=3,pack",
            "quant:bits=2,pack",
            "rope:layout=interleaved:dims=6,quant:bits=3,ac",
            "quant:bits=2,ac",
            "rope:theta=10000:first=12345,norm,quant:bits=3,rans",
            "quant:bits=2,rans",
            "window:sink=3:recent=5,rope:missing=skip,delta:keep=always,quant:bits=4,zstd",
            "quant:bits=2,zstd",
        ],
        24,
    )
    pipelines(
        "stage-rope-scaled",
        "rope.safetensors",
        [
            "rope:scaling=linear:factor=4,quant:bits=3,pack",
            "quant:bits=2,pack",
            "rope:scaling=llama3:factor=8:low=1:high=4:context=128,quant:bits=3,pack",
            "quant:bits=2,pack",
            "rope:scaling=yarn:factor=16:context=4096:theta=1000000,quant:bits=3,pack",
            "quant:bits=2,pack",
            "rope:scaling=none,rotate,codebook,pack",
            "quant:bits=2,pack",
        ],
        "all",
    )
    kv = i.cache(21, 2, 2, 8, 30)
    i.safetensors(
        "llama3.safetensors",
        kv,
        {
            "rope": "post",
            "rope_theta": "500000",
            "rope_scaling": "llama3",
            "rope_scaling_factor": "8",
            "first_position": "77",
        },
    )
    compress("rope-metadata", "llama3.safetensors", "--preset", "uniform-3")
    i.safetensors("none.safetensors", kv)
    compress("rope-missing", "none.safetensors", "--preset", "uniform-4")


def dtypes():
    for dtype in i.FLOATS:
        kv = i.cache(70, 6, 1, 10, 40, dtype)
        for name in list(kv)[::2]:
            kv[name] = i.specials(dtype, kv[name])
        if dtype in ("BF16", "F32", "F64"):  # beyond F16, and beyond F32
            kv["layers.4.key"] = (kv["layers.4.key"].astype(np.float64) * 1e30).astype(i.FLOATS[dtype])
            kv["layers.5.value"] = (kv["layers.5.value"].astype(np.float64) * 1e-30).astype(i.FLOATS[dtype])
        if dtype == "F64":
            kv["layers.3.key"][0, :5] *= 1e200
        i.safetensors("d.safetensors", kv)
        pipelines(
            f"dtype-{dtype.lower()}",
            "d.safetensors",
            [
                "planes,ac",
                "planes:split=none,zstd",
                "quant:bits=4:scale=source,pack",
                "quant:mode=sym:bits=8:axis=token,ac",
                "outliers:share=0.1,quant:bits=3,rans",
                "window:sink=3:recent=6,norm:scale=source,quant:bits=5,zstd",
                "cast:scale=token,pack",
                "codebook:scale=source,pack",
                "quant:bits=4,ac",
                "delta:keep=always,quant:bits=4,ac",
                "quant:mode=absmax:levels=255:axis=token,lowrank,deflate",
                "quant:bits=4,pack",
            ],
        )
    # Everything that passes through, in odd shapes.
    rng = np.random.default_rng(71)
    plain = {
        f"t.{t}": rng.integers(0, 100, shape).astype(t)
        for t, shape in (
            ("uint8", (3, 5)),
            ("int8", (7,)),
            ("uint16", (2, 2, 2)),
            ("int16", (9,)),
            ("uint32", (1, 4)),
            ("int32", (50,)),
            ("uint64", (3,)),
            ("int64", ()),
            ("bool", (2, 9)),
            ("complex64", (2, 3)),
            ("float32", (4, 4)),
            ("float16", ()),
        )
    }
    plain["t.bool"] = plain["t.bool"] != 0
    plain["t.uint32"] = plain["t.uint32"] * np.uint32(0x01020304)
    plain["t.complex64"] = plain["t.complex64"] * np.complex64(0.25 - 3j)
    for dtype, shape, size in (
        ("F4", (3, 6), 9),
        ("F6_E2M3", (4, 2), 6),
        ("F6_E3M2", (2, 2, 4), 12),
        ("F8_E8M0", (5, 2), 10),
    ):
        plain[f"t.{dtype}"] = (dtype, shape, rng.integers(0, 256, size, dtype=np.uint8).tobytes())
    i.safetensors("plain.safetensors", plain)
    compress("pass-through", "plain.safetensors")
    compress("pass-through-rules", "plain.safetensors", *rules("other = planes:split=none,deflate\n"))
    # Larger than a piece of 1 MiB, cut along two axes; and integers named like a cache.
    big = {
        "big": (np.arange(2 * 1500 * 601) // 601).astype(np.int16).reshape(2, 1500, 601),
        "layers.0.key": np.arange(600, dtype=np.int32).reshape(2, 30, 10),
    }
    i.safetensors("big.safetensors", big)
    compress("pass-through-pieces", "big.safetensors", *rules("other = planes,zstd:level=19\n"))
