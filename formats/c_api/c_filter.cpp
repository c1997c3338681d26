// SPDX-License-Identifier: Apache-2.0
// The C interface: settings of HDF5's filter.
#include "formats/c_api/c_call.hpp"
#include "formats/hdf5_filter/h5z_chunk.hpp"

int kvzip_check_filter(const char* settings) {
  return kvzip::c::call([&] { kvzip::h5z::check_settings(&kvzip::c::given(settings, "settings")); });
}
