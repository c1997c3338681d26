// SPDX-License-Identifier: Apache-2.0
#include "kvzip/version.hpp"

#include "codec/coders/coders.hpp"
#include "formats/hdf5/hdf5.hpp"

namespace kvzip {

std::string_view version() {
  return KVZIP_VERSION;
}

std::vector<LibraryVersion> library_versions() {
  return {{"HDF5", hdf5_version()}, {"zstd", zstd_version()}};
}

}  // namespace kvzip
