# SPDX-License-Identifier: Apache-2.0
"""Coders, and all that stage klt can come to."""

import numpy as np

import inputs as i
from tool import compress, pipelines, rules, stage


def klt():
    """A later version may store the basis in another way: every form of this one."""
    stage(
        "klt-bits",
        [
            f"klt:bits={bits},{coder}"
            for bits, coder in (
                (0.01, "pack"),
                (2, "deflate"),
                (5, "deflate"),
                (8, "ac"),
                (12, "rans"),
                (16, "zstd"),
                (22, "deflate"),
                (30, "pack"),
                (40, "deflate"),
                (40, "rans"),
            )
        ],
        31,
        tokens=60,
        chunk=40,
        dtype="F64",
    )
    stage(
        "klt-budgets",
        [f"klt:bits={bits},deflate" for bits in (20, 30, 37, 40)] + ["klt:bits=38:per=head,deflate"],
        30,
        dim=6,
        tokens=60,
        chunk=40,
        dtype="F64",
    )
    stage(
        "klt-head",
        [
            f"klt:bits={bits}:per=head,{coder}"
            for bits, coder in ((0.3, "deflate"), (4, "deflate"), (9, "ac"), (14, "rans"), (24, "pack"), (40, "zstd"))
        ],
        32,
        heads=3,
        dim=10,
        tokens=64,
        chunk=40,
        dtype="F64",
    )
    stage("klt-one-chunk", ["klt:bits=3,deflate", "klt:bits=7:per=head,deflate"], 33, dim=40, tokens=64, chunk="all")
    stage(
        "klt-chain",
        [
            "window:sink=2:recent=9,norm,klt:bits=9,deflate",
            "outliers:share=0.05,klt:bits=6,pack",
            "quant:bits=1,klt:bits=9:per=head,ac",
            "klt:bits=4,klt:bits=4,deflate",
            "klt:bits=5,lowrank:rank=2,rans",
            "rotate,klt:bits=12:per=head,deflate",
            "delta:keep=always,klt:bits=8,zstd",
            "klt:bits=8,quant:bits=2,pack",
        ],
        34,
    )
    stage("klt-short", ["klt:bits=16,deflate", "klt:bits=16:per=head,pack"], 35, tokens=5, chunk=2, dtype="F64")
    stage(
        "klt-one-channel",
        ["klt:bits=38,deflate", "klt:bits=40:per=head,pack"],
        36,
        heads=1,
        dim=1,
        tokens=50,
        dtype="F64",
    )
    kv = {}
    for n, dtype in enumerate(i.FLOATS):
        kv.update(i.cache(37, 1, 2, 6, 30, dtype, names=f"layers.{n}.{{1}}"))
        kv[f"layers.{n}.key"] = i.specials(dtype, kv[f"layers.{n}.key"])
    i.safetensors("klt.safetensors", kv)
    pipelines("klt-dtypes", "klt.safetensors", ["klt:bits=12,deflate", "klt:bits=20:per=head,rans"] * len(i.FLOATS))
    i.safetensors("klt.safetensors", i.cache(38, 3, 2, 10, 48, "F32", upcast=True))
    compress(
        "klt-scope-head",
        "klt.safetensors",
        *rules(
            "key/head[0-1] = klt:bits=12,deflate\nvalue/head[0] = klt:bits=20:per=head,rans\n"
            "key[2] = klt:bits=6,ac\nvalue = klt:bits=9:per=head,deflate\n"
        ),
    )
    compress(
        "klt-scope-pair",
        "klt.safetensors",
        *rules(
            "chunk = 20\nkv[0] = klt:bits=3,deflate\nkv[1] = klt:bits=9:per=head,rans\n"
            "kv[2] = window:sink=2:recent=8,klt:bits=5,deflate\n"
        ),
    )
    i.safetensors("wide.safetensors", i.cache(39, 2, 1, 21, 48, "F32", value_dim=7, upcast=True))
    compress(
        "klt-scope-pair-widths",
        "wide.safetensors",
        *rules("kv[0] = klt:bits=4,deflate\nkv[1] = klt:bits=4:per=head,pack\n"),
    )
    # Tiles whose components are their channels, so that a wide basis is mostly zeros: groups of every width and of 2, 4
    # and 8 bits; and a tile without any variance.
    for width in (16, 64, 256, 1024):
        wide, signs = {}, np.array(
            [[1]] if width == 1024 else [[9, 2, 5, 14], [-2, 9, -14, 5], [-5, 14, 9, -2], [-14, -5, 2, 9]]
        )
        while len(signs) < width:
            signs = np.kron([[1, 1], [1, -1]], signs)
        for n in range(3 if width < 1024 else 1):
            wide[f"layers.{n}.key"] = signs[None].astype(np.float16)
            wide[f"layers.{n}.value"] = np.full((1, width, 4), 2.5, np.float16)
        i.safetensors("wide.safetensors", wide)
        lines = sum(([f"klt:bits={bits + 33 / width},deflate", "klt:bits=4,deflate"] for bits in (2, 4, 8)), [])
        pipelines(f"klt-wide-{width}", "wide.safetensors", lines, "all")


def coders():
    """Each coder over streams of every kind: alphabets of all sizes, numbers, positions, exact rows, planes."""
    lines = [
        "quant:bits=1",
        "quant:levels=3:axis=token",
        "quant:bits=4:axis=token-head",
        "quant:levels=17",
        "quant:bits=5",
        "quant:levels=33:axis=head",
        "quant:bits=6",
        "quant:bits=8:axis=token",
        "quant:levels=300",
        "outliers:share=0.1,quant:bits=2",
        "cast",
        "cast:to=bf16",
        "planes",
        "delta:keep=always,quant:bits=4",
        "uniform:step=0.2",
        "window:recent=9,rotate,codebook",
    ]
    forms = [
        "pack",
        "zstd",
        "deflate",
        "ac",
        "ac:context=channel",
        "ac:context=previous",
        "ac:model=static",
        "ac:model=static:per=head",
        "ac:model=static:per=tile",
        "ac:model=cachegen",
        "ac:model=cachegen:bins=33",
        "rans",
        "rans:model=adaptive",
        "rans:model=static",
    ]
    for n, coder in enumerate(forms):
        name = coder.replace(":", "-").replace("=", "-")
        stage(f"coder-{name}", [f"{line},{coder}" for line in lines], 40 + n, dim=7, tokens=36, chunk=30)
    # Frames large enough for rans' own forms (1024 symbols; 16384 for tables), with few, odd and many channels.
    for heads, dim, tokens, seed in ((1, 7, 400, 61), (2, 40, 210, 62), (1, 130, 127, 63)):
        lines = ("quant:bits=2", "uniform:step=0.5:unit=rms", "quant:bits=4:axis=token", "uniform:step=0.1:unit=rms")
        stage(
            f"rans-{heads * dim}",
            [
                f"{lines[few + n]},rans:model={model}"
                for few, model in enumerate(("both", "adaptive", "static"))
                for n in (0, 1)
            ],
            seed,
            heads,
            dim,
            tokens,
            "all",
        )
    # Symbols far out, symbols all in a corner, many numbers at once, random ones, and rows beyond CacheGen's blocks.
    rng = np.random.default_rng(64)
    spiky = np.where(
        rng.random((1, 300, 64)) < 0.004, 40 * rng.standard_normal((1, 300, 64)), rng.standard_normal((1, 300, 64))
    )
    corner = np.where(rng.random((1, 300, 64)) < 0.002, 250.0, rng.integers(3, 9, (1, 300, 64)))
    i.safetensors(
        "odd.safetensors",
        {
            "layers.0.key": spiky.astype(np.float16),
            "layers.0.value": corner.astype(np.float16),
            "layers.1.key": rng.integers(0, 256, (1, 300, 16)).astype(np.float16),
            "layers.1.value": (np.cumsum(rng.standard_normal((1, 300, 16)), axis=1)).astype(np.float16),
        },
    )
    pipelines(
        "rans-odd",
        "odd.safetensors",
        [
            "quant:bits=8:axis=tile,rans",
            "uniform:step=1,rans",
            "uniform:step=1,rans",
            "quant:bits=3:axis=channel:group=4,rans",
        ],
        "all",
    )
    pipelines(
        "ac-long",
        "odd.safetensors",
        [
            "quant:levels=15:mode=sym:axis=token,ac:model=cachegen",
            "uniform:step=8,ac:model=static",
            "quant:bits=3,ac:context=previous",
            "quant:bits=2:group=4,ac",
        ],
        "all",
    )
    # Outliers at places that hardly change.
    steady = rng.standard_normal((1, 200, 32)) + np.where(np.arange(32) % 9 == 4, 30, 0)
    i.safetensors(
        "odd.safetensors", {"layers.0.key": steady.astype(np.float16), "layers.0.value": steady.astype(np.float16)}
    )
    pipelines(
        "ac-positions",
        "odd.safetensors",
        [
            f"outliers:axis=token:count={n}:select=magnitude,quant:bits=1,ac{model}"
            for n, model in ((4, ""), (3, ":model=static"))
        ],
        90,
    )
