# SPDX-License-Identifier: Apache-2.0
"""Layouts, scopes, contents and ways of writing."""

import h5py
import numpy as np

import inputs as i
from tool import OUT, compress, kvzip, pipelines, rules, synth


def shapes():
    """Layouts, scopes, and everything that is empty or short."""
    rng = np.random.default_rng(80)
    extent = {"B": 2, "L": 3, "2": 2, "H": 2, "T": 30, "D": 6, "C": 12}
    roles = {
        "HTD": "key",
        "BHTD": "value",
        "BTHD": "key",
        "THD": "value",
        "TC": "key",
        "BTC": "value",
        "TD": "key",
        "LBHTD": "key",
        "LTC": "value",
        "2HTD": "kv",
        "2LTHD": "kv",
        "L2HTD": "kv",
        "T2HD": "kv",
        "2BTHD": "kv",
        "2TC": "kv",
        "DTH": "key",
        "TDB": "value",
        "LCT": "query",
    }
    for chunk, preset in ((12, "int4"), (256, "cachegen-2")):
        for n, part in enumerate((list(roles)[:9], list(roles)[9:])):
            tensors = {
                f"x{n}.{axes}": rng.standard_normal([extent[a] for a in axes]).astype(np.float16) for axes in part
            }
            i.safetensors("layouts.safetensors", tensors)
            maps = [a for axes in part for a in ("--map", f"*.{axes}={roles[axes]}:{axes}")]
            compress(
                f"layouts-{'ab'[n]}-{preset}", "layouts.safetensors", "--preset", preset, "--chunk-tokens", chunk, *maps
            )
    # Heads merged in the last axis, where the metadata says how wide they are.
    i.safetensors(
        "merged.safetensors",
        {f"layers.0.{r}": rng.standard_normal((40, 24)).astype(np.float16) for r in ("k", "v")},
        {"n_kv_heads": "3", "head_dim": "8", "axes": "TC"},
    )
    compress("layouts-merged", "merged.safetensors", "--preset", "turboquant-3")

    i.safetensors("s.safetensors", i.cache(81, 6, 3, 6, 40))
    compress(
        "scope-head",
        "s.safetensors",
        *rules(
            "chunk = 32\nkey/head[0] = quant:bits=2,pack\nkey/head[1-2] = rotate,codebook:bits=2,ac\n"
            "value/head[0] = lowrank:per=tile,zstd\nvalue/head = quant:bits=3:axis=head,rans\nkey = planes,ac\n"
        ),
    )
    compress(
        "scope-pair",
        "s.safetensors",
        *rules(
            "chunk = all\nkv[0] = quant:bits=2:group=16,lowrank:rank=8:per=tile:bits=8,rans\nkv[1] = planes,ac\n"
            "kv[2] = outliers,quant:bits=2:axis=token-head,pack\nkv[3] = rotate,codebook:bits=3,pack\n"
            "kv[4-5] = delta:keep=always,quant:mode=absmax:levels=15:axis=token,ac:model=static:per=head\n"
        ),
    )
    compress(
        "scope-ranges",
        "s.safetensors",
        *rules(
            "# every form of a rule\nchunk = 20\nkey[0%-25%] = quant:bits=6,pack\n"
            "key[2-3 of 6] = quant:bits=5,pack\n"
            "key[0-99 of 7-80] = planes,pack\nkv[4] = quant:bits=2,pack\nkey = quant:bits=3,pack\n"
            "value[5 of 2-8] = planes,ac\nvalue/head[0%-50%] = quant:bits=2,pack\n"
            "value[*] = quant:bits=4:axis=token,pack\nother[*] = planes,deflate\n"
        ),
    )
    # Keys and values of different width, as a latent and its rotary part are.
    i.safetensors("mla.safetensors", i.cache(82, 5, 1, 24, 45, value_dim=8))
    compress(
        "scope-pair-widths",
        "mla.safetensors",
        *rules(
            "chunk = 32\nkv[0] = quant:bits=3:axis=token,pack\nkv[1] = quant:bits=3:axis=token-head:group=10,ac\n"
            "kv[2] = rotate,codebook:bits=3,rans\nkv[3] = lowrank,cast,zstd\nkv[4] = planes,ac\n"
        ),
    )
    mla = {
        f"layers.{n}.{part}": rng.standard_normal((50, width)).astype(np.float16)
        for n in (0, 1)
        for part, width in (("kv_c", 32), ("k_pe", 8))
    }
    i.safetensors("mla.safetensors", mla)
    compress("layouts-mla", "mla.safetensors", "--key", "quant:bits=4:axis=token,rans")
    many = {"layers.0.key": rng.standard_normal((2, 2, 30, 6)), "layers.0.value": rng.standard_normal((2, 2, 30, 6))}
    i.safetensors("batch.safetensors", {k: v.astype(np.float32) for k, v in many.items()})
    compress("scope-pair-batch", "batch.safetensors", "--layout", "BHTD", *rules("kv = quant:bits=3,ac\n"))
    synth(
        "q.safetensors",
        "--layers",
        2,
        "--heads",
        1,
        "--head-dim",
        8,
        "--tokens",
        40,
        "--query-heads",
        2,
        "--dtype",
        "bf16",
    )
    compress(
        "scope-query",
        "q.safetensors",
        *rules(
            "key = quant:bits=4,pack\nvalue = quant:bits=4,pack\nquery/head[0] = quant:bits=6,ac\n"
            "query = planes,deflate\n"
        ),
    )

    shorts = {}
    for n, tokens in enumerate((0, 1, 3, 17, 64, 65)):
        shorts.update(i.cache(90 + n, 1, 2, 4, tokens, "F32", names=f"layers.{n}.{{1}}", upcast=True))
    i.safetensors("short.safetensors", shorts)
    for preset in ("gear-2", "kivi-2", "cachegen-2", "kvtc-2", "near-lossless", "turboquant-2"):
        compress(f"short-{preset}", "short.safetensors", "--preset", preset, "--chunk-tokens", 64)
    compress("short-pair", "short.safetensors", *rules("kv = delta:keep=always,quant:bits=3:group=32,lowrank,rans\n"))
    empty = {
        "layers.0.key": np.zeros((2, 0, 8), np.float16),
        "layers.0.value": np.zeros((2, 0, 8), np.float16),
        "layers.1.key": np.zeros((0, 9, 8), np.float16),
        "layers.1.value": np.zeros((2, 9, 0), np.float16),
        "none": np.zeros((0,), np.int32),
        "also": np.zeros((3, 0, 2), np.uint8),
        "scalar": np.float32(2.5).reshape(()),
    }
    i.safetensors("empty.safetensors", empty, {"note": "nothing much"})
    compress("empty-tensors", "empty.safetensors")
    i.safetensors("empty.safetensors", {})
    compress("empty-dump", "empty.safetensors")


def contents():
    """Raw frames, equal values, results, metadata, attributes, HDF5, pipes."""
    rng = np.random.default_rng(100)
    noise = {
        f"layers.{n}.{r}": (
            rng.integers(0, 0x7C00, (1, 20, 8)).astype(np.uint16)
            | 0x8000 * rng.integers(0, 2, (1, 20, 8)).astype(np.uint16)
        ).view(np.float16)
        for n in (0, 1)
        for r in ("key", "value")
    }
    i.safetensors("noise.safetensors", noise)
    pipelines(
        "raw-frames",
        "noise.safetensors",
        ["planes,pack", "planes,rans", "cast:to=f32,zstd", "quant:bits=4,quant:bits=8:axis=token,ac"],
        8,
    )
    i.safetensors(
        "same.safetensors",
        {
            "layers.0.key": np.full((1, 40, 8), 3.25, np.float16),
            "layers.0.value": np.zeros((1, 40, 8), np.float16),
            "layers.1.key": np.tile(np.arange(8, dtype=np.float16), (1, 40, 1)),
            "layers.1.value": np.full((1, 40, 8), -0.0, np.float16),
        },
    )
    for preset in ("gear-2", "near-lossless", "kvtc-2", "uniform-3", "cachegen-2", "turboquant-2", "lossless"):
        compress(f"same-{preset}", "same.safetensors", "--preset", preset)
    odd = {
        f"layers.{n}.{r}": i.specials(t, i.cache(101, 1, 1, 6, 20, t)["layers.0." + r])
        for n, t in enumerate(i.FLOATS)
        for r in ("key", "value")
    }
    odd["layers.0.value"][:] = np.nan
    odd["layers.2.value"][:, ::2] = np.inf
    i.safetensors("odd.safetensors", odd)
    for preset in ("gear-2", "near-lossless", "kivi-2", "fp8", "lossless", "uniform-4"):
        compress(f"specials-{preset}", "odd.safetensors", "--preset", preset, "--chunk-tokens", 16)

    synth("r.safetensors", "--layers", 2, "--heads", 2, "--head-dim", 8, "--tokens", 130, "--query-heads", 2)
    kv = ("--role", "key,value")
    compress("results-max-error", "r.safetensors", "--max-error", 0.05, *kv)
    compress("results-ratio", "r.safetensors", "--target-ratio", 3, *kv)
    compress("results-nrmse", "r.safetensors", "--target-nrmse", 0.05, *kv)
    compress("results-attention", "r.safetensors", "--target-attention", 0.05)
    kvzip("decompress", f"{OUT}/results-attention.kvz", "-o", "queries.safetensors", "--role", "query", "-q")
    compress("results-bits", "r.safetensors", "--target-bits", 3, "--queries", "queries.safetensors", *kv)
    kv64 = i.cache(102, 1, 2, 6, 40, "F64")
    kv64["layers.0.key"] = i.specials("F64", kv64["layers.0.key"])
    i.safetensors("r.safetensors", kv64)
    compress("results-max-error-f64", "r.safetensors", "--max-error", 0.001)

    i.safetensors(
        "m.safetensors",
        i.cache(103, 1, 2, 4, 20),
        {
            "": "empty name",
            "é\u4e2d": 'text \U0001f600 with "quotes" and \n line ends',
            "model": "golden",
            "kvzip.attribute:layers/0%40%25@units": '{"shape":[],"strings":["eV"]}',
            "kvzip.attribute:@raw": '{"shape":[2],"hex_strings":["ff41",""]}',
            "kvzip.attribute:x@half": '{"dtype":"F16","shape":[2],"data":"00bc003c"}',
            "kvzip.attribute:x": "no attribute",
        },
    )
    compress(
        "metadata",
        "m.safetensors",
        "--meta",
        "origin=a golden file",
        "--meta",
        "empty=",
        "--meta",
        "é=ü=ö",
        "--meta",
        "model=renamed",
    )
    with h5py.File("a.h5", "w", track_order=True) as f:
        for name, array in i.cache(104, 2, 2, 6, 40, names="layers/{}/{}").items():
            f.create_dataset(name, data=array, chunks=(1, 16, 6), compression="gzip", shuffle=True, fletcher32=True)
        f.attrs["model"], f.attrs["n_layers"] = "golden in HDF5", np.int64(2)
        f.attrs["matrix"] = np.arange(6, dtype=">f8").reshape(2, 3) / 3
        f.attrs["names"] = np.array(["a", "", "é"], dtype=h5py.string_dtype())
        f.attrs["flag"], f.attrs["z"] = np.bool_(True), np.complex64(1 - 2j)
        f.create_group("nothing/inside").attrs["half"] = np.float16(0.1)
        f["layers/0/key"].attrs["axes"] = "HTD"
        f["ids"] = np.arange(40, dtype=">i4")
        f["scalar"], f["mask"], f["nul"] = np.float64(0.1), np.array([True, False]), np.zeros((0, 3), np.uint8)
        f["wave"] = np.array([1 + 2j, 3 - 4j], np.complex64)
        f["bf16"] = np.arange(0x3F80, 0x3FA0, dtype=np.uint16).reshape(4, 8)
        f["bf16"].attrs["dtype"] = "bfloat16"
    compress("hdf5", "a.h5", "--preset", "int8", "--meta", "from=HDF5")
    with open(f"{OUT}/piped.kvz", "wb") as out:
        kvzip("compress", "a.h5", "-o", "-", "-q", "--preset", "kivi-4", stdout=out)
    with open("m.safetensors", "rb") as source, open(f"{OUT}/piped-both.kvz", "wb") as out:
        kvzip("compress", "-", "-o", "-", "-q", "--preset", "cachegen-1", stdin=source, stdout=out)
    compress("again", f"{OUT}/hdf5.kvz", "--preset", "gear-4", "--layers", "1", "--tokens", "5:33")
