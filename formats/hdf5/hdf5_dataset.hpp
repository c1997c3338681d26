// SPDX-License-Identifier: Apache-2.0
// One dataset's type, shape and storage, checked.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "formats/hdf5/hdf5_library.hpp"
#include "formats/hdf5/hdf5_raw.hpp"
#include "formats/hdf5/hdf5_walk.hpp"
#include "kvzip/dump.hpp"

namespace kvzip::hdf5 {

/// Describes an open dataset, all but the tensor's name. Takes the attributes `kvzip.dtype` and `kvzip.shape` out of
/// `attributes` where they say what the writer of such files says with them.
TensorInfo describe_dataset(Id dataset, const RawFile& file, std::vector<Attribute>& attributes, StoredTensor& stored);

/// Where the data of a dataset in one piece begins in the file, behind a user block of so many bytes; nothing where
/// none was written.
std::optional<std::uint64_t> data_begin(Id dataset, std::uint64_t user_block);

}  // namespace kvzip::hdf5
