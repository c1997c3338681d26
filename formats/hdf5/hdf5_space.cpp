// SPDX-License-Identifier: Apache-2.0
#include "formats/hdf5/hdf5_space.hpp"

#include <hdf5.h>

#include "codec/fail.hpp"

namespace kvzip::hdf5 {

std::vector<std::uint64_t> read_shape(Id space) {
  if (H5Sget_simple_extent_type(space) == H5S_NULL) {
    fail(ErrorCode::unsupported, "it has no dataspace (h5py.Empty), so no shape");
  }
  const int rank = check(H5Sget_simple_extent_ndims(space), ErrorCode::corrupt, "cannot read its rank");
  if (rank > H5S_MAX_RANK) fail(ErrorCode::corrupt, "it has {} dimensions", rank);
  std::vector<hsize_t> dims(static_cast<std::size_t>(rank));
  check(H5Sget_simple_extent_dims(space, dims.data(), nullptr), ErrorCode::corrupt, "cannot read its shape");
  return {dims.begin(), dims.end()};
}

Handle make_space(const std::vector<std::uint64_t>& shape) {
  const std::vector<hsize_t> dims(shape.begin(), shape.end());
  const hid_t id =
      dims.empty() ? H5Screate(H5S_SCALAR) : H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr);
  return own(id, H5Sclose, ErrorCode::io, "cannot make a dataspace");
}

Handle select_slice(Id space, const Slice& slice, ErrorCode code) {
  if (!slice.start.empty()) {
    const std::vector<hsize_t> start(slice.start.begin(), slice.start.end());
    const std::vector<hsize_t> count(slice.count.begin(), slice.count.end());
    check(H5Sselect_hyperslab(space, H5S_SELECT_SET, start.data(), nullptr, count.data(), nullptr), code,
          "cannot select a slice");
  }
  return make_space(slice.count);
}

}  // namespace kvzip::hdf5
