#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the seeds of hdf5_fuzz that hold one kind of structure each, in corpus/hdf5: python3 make_hdf5.py.

With Debian 12's python3-h5py, whose HDF5 1.10.8 writes them as small as they are here and has what h5py has no name for.
"""
import contextlib
import ctypes
import os

import h5py
import numpy as np

os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus", "hdf5"))
hdf5 = ctypes.CDLL("libhdf5_serial.so.103")
I64, U64, UINT, REAL = ctypes.c_int64, ctypes.c_uint64, ctypes.c_uint, ctypes.c_double


def call(name, *arguments):
    if getattr(hdf5, name)(*arguments) < 0:
        raise RuntimeError(name)


@contextlib.contextmanager
def small(name, new=True, access=None, **creation):
    """A file whose metadata leaves no room behind it; `creation` are calls of the library on its properties."""
    fapl, fcpl = h5py.h5p.create(h5py.h5p.FILE_ACCESS), h5py.h5p.create(h5py.h5p.FILE_CREATE)
    fapl.set_libver_bounds(*((h5py.h5f.LIBVER_LATEST,) * 2 if new else (h5py.h5f.LIBVER_EARLIEST, h5py.h5f.LIBVER_LATEST)))
    call("H5Pset_meta_block_size", I64(fapl.id), U64(0))
    call("H5Pset_small_data_block_size", I64(fapl.id), U64(0))
    fcpl.set_link_creation_order(h5py.h5p.CRT_ORDER_TRACKED if creation.pop("ordered", False) else 0)
    for function, arguments in creation.items():
        for one in arguments if isinstance(arguments, list) else [arguments]:
            call(function, I64(fcpl.id), *one)
    if access:
        access(fapl)
    with h5py.File(h5py.h5f.create((name + ".h5").encode(), h5py.h5f.ACC_TRUNC, fcpl, fapl)) as file:
        yield file


data = np.arange(12, dtype=np.float32).reshape(3, 4)
tiny = np.arange(4, dtype=np.uint8)


def dataset(file, name, values=data, **options):
    return file.create_dataset(name, data=values, **options)


def many_links(group, count):
    for i in range(count):
        group[f"soft {i}"] = h5py.SoftLink("/k")


# Links and attributes outside of object headers.
with small("dense_links") as f:
    dataset(f, "k", tiny)
    many_links(f, 9)
with small("dense_links_ordered", ordered=True) as f:
    g = f.create_group("g", track_order=True)
    dataset(g, "k", tiny)
    many_links(g, 9)
with small("dense_links_two_levels") as f:  # of the tree of names, and an indirect block in the heap
    dataset(f, "k", tiny)
    for i in range(50):
        f[f"{i}"] = h5py.SoftLink("/k")
with small("dense_links_of_all_kinds") as f:
    dataset(f, "k", tiny)
    f["other"] = f["k"]
    f["x" * 300] = f["k"]
    f["elsewhere"] = h5py.ExternalLink("other.h5", "/k")
    f.create_group("g").create_group("h")
    many_links(f, 5)
with small("dense_attributes") as f:
    d = dataset(f, "k", tiny)
    for i in range(9):
        d.attrs[f"a{i}"] = np.uint8(i)
with small("dense_attributes_ordered") as f:
    g = f.create_group("g", track_order=True)
    for i in range(9):
        g.attrs[f"a{i}"] = "text" if i % 2 else np.arange(i)
with small("dense_attributes_indirect") as f:
    d = dataset(f, "k", tiny)
    for i in range(24):
        d.attrs[f"{i}" + "n" * 120] = np.arange(12, dtype=np.float32)
with small("dense_attributes_huge") as f:
    d = dataset(f, "k", tiny)
    for i in range(9):
        d.attrs.create(f"a{i}", np.full(5000 if i == 4 else 1, 7, np.uint8))
with small("dense_attributes_by_threshold") as f:  # one, which is enough; and a type of its own
    f["type"] = np.dtype([("x", "<f4"), ("y", "<i2")])
    dcpl = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    call("H5Pset_attr_phase_change", I64(dcpl.id), UINT(0), UINT(0))
    dcpl.set_attr_creation_order(h5py.h5p.CRT_ORDER_TRACKED | h5py.h5p.CRT_ORDER_INDEXED)
    d = h5py.Dataset(h5py.h5d.create(f.id, b"k", h5py.h5t.STD_U8LE, h5py.h5s.create_simple((4,)), dcpl))
    d.attrs.create("a", np.zeros(2, f["type"].dtype), dtype=f["type"])
    d.attrs["s"] = "variable"
with small("attributes_in_header", new=False) as f:
    d = dataset(f, "k", tiny)
    for i in range(6):
        d.attrs[f"a{i}"] = ["b", "text"] if i % 2 else np.arange(i + 1)
with small("attributes_in_header_new") as f:
    d = dataset(f, "k", tiny)
    for i in range(6):
        d.attrs[f"a{i}"] = "text" if i % 2 else np.arange(i + 1)

# Indexes of chunks: what libver and maximal shapes make of them.
PACKED = dict(compression="gzip", shuffle=True, fletcher32=True)
for new in (False, True):
    after = "_new" if new else ""
    with small("chunks_packed" + after, new) as f:
        dataset(f, "k", chunks=(2, 2), **PACKED)
    with small("chunks_extensible_packed" + after, new) as f:
        dataset(f, "k", np.tile(data, (3, 1)), chunks=(1, 4), maxshape=(None, 4), **PACKED)
    with small("chunks_tree" + after, new) as f:
        dataset(f, "k", chunks=(2, 2), maxshape=(None, None))
    with small("chunks_tree_packed" + after, new) as f:
        dataset(f, "k", chunks=(2, 2), maxshape=(None, None), **PACKED)
    with small("chunks_other_filters" + after, new) as f:
        dataset(f, "k", data.astype(np.int32), chunks=(3, 4), scaleoffset=4)
        dataset(f, "v", data, chunks=(3, 4), scaleoffset=2)
    with small("chunks_szip" + after, new) as f:
        dataset(f, "k", np.tile(data, (1, 2)), chunks=(3, 8), compression="szip")
    with small("chunks_nbit" + after, new) as f:
        dcpl = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        dcpl.set_chunk((4,))
        call("H5Pset_nbit", I64(dcpl.id))
        kind = h5py.h5t.STD_I32LE.copy()
        kind.set_precision(11)
        kind.set_offset(3)
        h5py.Dataset(h5py.h5d.create(f.id, b"k", kind, h5py.h5s.create_simple((4,)), dcpl))[:] = np.arange(4)
with small("chunks_single_packed") as f:
    dataset(f, "k", chunks=(3, 4), **PACKED)
with small("chunks_implicit") as f:
    dcpl = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    dcpl.set_chunk((2, 2))
    dcpl.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    h5py.Dataset(h5py.h5d.create(f.id, b"k", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((3, 4)), dcpl))[:] = data
with small("chunks_fixed_array_paged") as f:
    d = f.create_dataset("k", (1030,), np.uint8, chunks=(1,))
    d[3], d[1027] = 1, 2
with small("chunks_extensible_array_blocks") as f:  # data blocks, and a super block of them
    dataset(f, "k", np.arange(250, dtype=np.uint8), chunks=(1,), maxshape=(None,))
with small("chunks_tree_two_levels", new=False, H5Pset_istore_k=(UINT(1),)) as f:
    dataset(f, "k", np.arange(7, dtype=np.uint8), chunks=(1,), maxshape=(None,))
with small("chunks_tree_two_levels_new") as f:
    dataset(f, "k", np.zeros((11, 11), np.uint8), chunks=(1, 1), maxshape=(None, None))

# Old groups, and what stands beside objects.
with small("old_group_levels", new=False, H5Pset_sym_k=(UINT(1), UINT(1))) as f:
    dataset(f, "k", tiny)
    many_links(f, 8)
with small("texts", new=False) as f:
    d = dataset(f, "k", tiny)
    d.attrs["text"] = ["one", "another"]
    f.attrs["fixed"] = np.bytes_("fixed")
with small("committed_types") as f:
    f["type"] = np.dtype("<f4")
    d = f.create_dataset("k", data=data, dtype=f["type"])
    d.attrs.create("a", np.float32(1), dtype=f["type"])
with small("fill_and_order", new=False) as f:
    f.create_dataset("k", (3, 4), ">f4", chunks=(2, 2), fillvalue=1.5)[0] = 1
    f.create_dataset("compact", (0,), "<i8")
with small("enumeration_and_array") as f:
    dataset(f, "k", np.array([True, False]))
    f.create_dataset("a", (2,), np.dtype(("<f2", (2, 2))))
    dataset(f, "r", np.array([f["k"].ref], h5py.ref_dtype))
SPACE, TYPE, FILL, FILTERS, ATTRIBUTE = (1 << message for message in (1, 3, 5, 11, 12))
for name, what, most in (("shared_messages_list", SPACE | TYPE | FILL | FILTERS | ATTRIBUTE, 50),
                         ("shared_messages_tree", SPACE | FILL | FILTERS | ATTRIBUTE, 0)):
    with small(name, H5Pset_shared_mesg_nindexes=(UINT(1),), H5Pset_shared_mesg_index=(UINT(0), UINT(what), UINT(10)),
               H5Pset_shared_mesg_phase_change=(UINT(most), UINT(0))) as f:
        for k in "kv":
            dataset(f, k, chunks=(2, 2), shuffle=True).attrs["a"] = np.uint8(1)
for name, strategy in (("free_space_kept", 0), ("free_space_pages", 1)):
    properties = {"H5Pset_file_space_strategy": (ctypes.c_int(strategy), ctypes.c_bool(True), U64(1))}
    if strategy == 1:
        properties["H5Pset_file_space_page_size"] = (U64(512),)
    with small(name, **properties) as f:
        dataset(f, "k", tiny)
        dataset(f, "gone", np.arange(300, dtype=np.uint8))
        dataset(f, "v", tiny)
        del f["gone"]


class CacheImage(ctypes.Structure):
    _fields_ = [("version", ctypes.c_int32), ("generate", ctypes.c_bool), ("resize", ctypes.c_bool), ("age", ctypes.c_int32)]


with small("cache_image", access=lambda fapl: call("H5Pset_mdc_image_config", I64(fapl.id),
                                                   ctypes.byref(CacheImage(1, True, False, -1)))) as f:
    dataset(f, "k", chunks=(2, 2))
    many_links(f, 9)
with small("user_block", H5Pset_userblock=(U64(512),)) as f:
    dataset(f, "k", tiny)
    many_links(f, 9)
