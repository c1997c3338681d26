# Makes the files beside it, with numpy and ml_dtypes: python3 make.py FOLDER
import os
import sys
import zipfile

import ml_dtypes
import numpy as np

os.chdir(sys.argv[1])
count = np.arange(2 * 3 * 4).reshape(2, 3, 4)
np.save("fortran.npy", np.asfortranarray(count.astype("<f4")))
np.save("layers.3.key.npy", count.astype(">f2"))

cache = {
    "layers.0.key": (count / 8).astype("<f2"),
    "layers.0.value": np.asfortranarray(-count.astype(">f4")),
    "layers.1.key": count.astype(ml_dtypes.bfloat16),
    "layers/1/value": count.astype(ml_dtypes.float8_e5m2),
    "model": np.array("tiny \u00e9\U0001f600"),
    "rope_theta": np.array("10000"),
}
np.savez("stored.npz", **cache)
np.savez_compressed("deflated.npz", **cache)
zipfile.ZIP64_LIMIT = 100  # as if every member were larger than 4 GiB
np.savez("zip64.npz", **cache)

kinds = {name: np.arange(6).reshape(2, 3).astype(name) for name in (
    "?", "i1", "u1", "<i2", ">i2", "<u2", "<i4", ">u4", "<i8", ">u8", "<f2", "<f4", ">f8", "<c8", ">c8", "<c16")}
kinds["e4m3"] = np.arange(6).astype(ml_dtypes.float8_e4m3fn)
kinds["texts"] = np.array(["ab", "c"])
kinds["bytes"] = np.array([b"ab", b"c"])
kinds["record"] = np.array([(1, 2.5)], dtype=[("a", "<i4"), ("b", "<f8", (1,))])
kinds["object"] = np.array([{"a": 1}], dtype=object)
kinds["scalar"] = np.float32(2.5)
kinds["empty"] = np.zeros((0, 4), "f4")
np.savez("types.npz", **kinds)
