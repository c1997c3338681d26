// SPDX-License-Identifier: Apache-2.0
// HDF5 files as dumps: every dataset is a tensor, named by its path.
//
// Reading. Groups are walked depth first, in creation order where the group tracks it and else in HDF5's name order
// (bytewise, so layers.10 comes before layers.2). An object with several hard links appears once, under the first
// name met; soft links are only other names and are ignored; external links, virtual datasets and external storage
// are refused, since the file does not hold their data. Committed datatypes are ignored: they hold no data.
//
// Types. Element bits are moved as they are, only their byte order is made little-endian. BF16 and the 8-bit floats
// without an HDF5 type of their own are custom floats with the exact fields (BF16, F8_E5M2, F8_E4M3), or integers or
// opaque bytes whose dataset has a string attribute `kvzip.dtype`, `dtype` or `torch_dtype` that names the type.
// F8_E8M0, F8_*FNUZ, F4 and F6_* are written as unsigned bytes with the attribute `kvzip.dtype`, the sub-byte types
// also with `kvzip.shape`, their shape in elements. The reader takes these two attributes back out. F8_E4M3 also gets
// `kvzip.dtype`: HDF5's own conversion of its custom float is wrong from 256 on.
//
// bfloat16 and 8-bit floats whose attribute `dtype` or `torch_dtype` names them go back into integers.
//
// Storage. Chunks, lengths up to which a dataset may grow, the order of bytes and fill values come back, by an
// attribute `kvzip.storage` in between; filters do not.
//
// Attributes. Strings and numbers are kept; others are left out, as are datasets of other types and further names of
// what was read, and hdf5_left_out() names them; an attribute without a dataspace is kept as one of shape {0}. All
// that, as bytes, can be a tensor of its own, kHdf5Frame, from which the same file is made again (hdf5_frame.hpp).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "formats/file.hpp"
#include "kvzip/io.hpp"

namespace kvzip {

inline constexpr std::string_view kHdf5Frame = "kvzip.hdf5";
/// The attribute of a tensor that says how its dataset lies in the file (hdf5_storage.hpp). It is no property of the
/// tensor: where files are joined, that of the first stands.
inline constexpr std::string_view kHdf5Storage = "kvzip.storage";

/// Of the library, "1.10.8".
std::string hdf5_version();
/// Where the superblock of a file is: at 0, 512, 1024 and so on, of these looked for from `from` on; the file's size
/// where there is none.
std::uint64_t find_superblock(const InputFile& input, std::uint64_t from);
/// `carry`: what would be left out becomes the bytes of a tensor kHdf5Frame, where it can.
std::unique_ptr<DumpReader> open_hdf5(InputFile file, bool carry);
std::unique_ptr<DumpReader> open_hdf5(const std::string& path);
/// What a reader of an HDF5 file has left out of its dump: each with its name and why. Empty of any other reader.
std::vector<std::string> hdf5_left_out(const DumpReader& reader);
/// What a file cannot be given back that was beside other tensors, or beside these with other metadata.
std::vector<std::string> hdf5_losses(const Dump& dump, std::string_view path);
/// The path "-" writes standard output, through a temporary file. Parts may come in any order, cut in any way.
std::unique_ptr<DumpWriter> create_hdf5(Destination to, const Dump& dump);

}  // namespace kvzip
