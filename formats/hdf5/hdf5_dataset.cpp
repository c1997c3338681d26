// SPDX-License-Identifier: Apache-2.0
#include "formats/hdf5/hdf5_dataset.hpp"

#include <hdf5.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "formats/hdf5/hdf5_space.hpp"
#include "formats/hdf5/hdf5_types.hpp"
#include "formats/hdf5_filter/h5z_chunk.hpp"
#include "formats/text.hpp"
#include "kvzip/trust.hpp"

namespace kvzip::hdf5 {
namespace {

const Attribute* find_attribute(const std::vector<Attribute>& attributes, std::string_view name) {
  const auto found =
      std::find_if(attributes.begin(), attributes.end(), [&](const Attribute& a) { return a.name == name; });
  return found == attributes.end() ? nullptr : &*found;
}

void drop_attribute(std::vector<Attribute>& attributes, std::string_view name) {
  std::erase_if(attributes, [&](const Attribute& a) { return a.name == name; });
}

std::optional<DType> named_type(const std::vector<Attribute>& attributes, std::string_view name) {
  const Attribute* found = find_attribute(attributes, name);
  if (found == nullptr || found->dtype || found->strings.size() != 1) return std::nullopt;
  return parse_type_name(found->strings[0]);
}

/// The type that an attribute gives to bits stored as integers or opaque bytes.
std::optional<DType> reinterpreted(const std::vector<Attribute>& attributes, const ElementType& element) {
  if (!element.bits_only) return std::nullopt;
  for (const std::string_view name : {"kvzip.dtype", "dtype", "torch_dtype"}) {
    const auto dtype = named_type(attributes, name);
    if (!dtype || dtype_bits(*dtype) != 8 * element.size) continue;
    const bool is_float = is_codable_float(*dtype) || *dtype == DType::f8_e8m0;
    if (is_float || !element.dtype) return dtype;
  }
  return std::nullopt;
}

/// The shape of a tensor whose elements are not whole bytes, from its attribute. The bytes are `shape`.
std::vector<std::uint64_t> packed_shape(const std::vector<Attribute>& attributes, DType dtype,
                                        const std::vector<std::uint64_t>& shape) {
  const Attribute* found = find_attribute(attributes, "kvzip.shape");
  if (found == nullptr || found->dtype != DType::u64 || found->shape.size() > 1 || shape.size() != 1) {
    fail(kBad, "{} needs an attribute kvzip.shape of unsigned 64-bit integers, and one dimension of bytes",
         dtype_name(dtype));
  }
  TensorInfo info{"", dtype, std::vector<std::uint64_t>(found->data.size() / sizeof(std::uint64_t))};
  if (!info.shape.empty()) std::memcpy(info.shape.data(), found->data.data(), found->data.size());
  if (info.bytes() != shape[0]) fail(kBad, "its kvzip.shape does not fit its {} bytes", shape[0]);
  return info.shape;
}

void resolve_type(Id dataset, std::vector<Attribute>& attributes, TensorInfo& info, StoredTensor& stored) {
  const Handle type = own(H5Dget_type(dataset), H5Tclose, kBad, "cannot read its type");
  const auto element = read_type(type.get());
  if (!element || element->size == 0) {
    fail(ErrorCode::unsupported, "its type ({}) is no tensor element; store it as numbers or as an attribute",
         describe_type(type.get()));
  }
  stored.swap = element->swap;
  const auto packed = named_type(attributes, "kvzip.dtype");
  if (packed && dtype_bits(*packed) < 8 && element->dtype == DType::u8) {
    info.dtype = *packed;
    info.shape = packed_shape(attributes, *packed, info.shape);
    drop_attribute(attributes, "kvzip.shape");
  } else if (const auto other = reinterpreted(attributes, *element)) {
    info.dtype = *other;
  } else if (element->dtype) {
    info.dtype = *element->dtype;
  } else {
    fail(ErrorCode::unsupported, "its type ({}) needs a string attribute 'dtype' such as 'bfloat16'",
         describe_type(type.get()));
  }
  if (packed == info.dtype) drop_attribute(attributes, "kvzip.dtype");
  if (element->bits_only || !element->dtype) return;
  // Such attributes stand beside integers as a rule; where they do not, the writer has to know.
  for (const std::string_view name : {"dtype", "torch_dtype"}) {
    if (named_type(attributes, name) != info.dtype || !is_bits_elsewhere(info.dtype)) continue;
    const std::string object = find_attribute(attributes, name)->object;
    attributes.push_back({object, "kvzip.dtype", {std::string(dtype_name(info.dtype))}, {}, {}, {}});
    return;
  }
}

std::string_view known_filter(int id) {
  switch (id) {
    case 307:
      return "bzip2";
    case 32000:
      return "lzf";
    case 32001:
      return "blosc";
    case 32004:
      return "lz4";
    case 32008:
      return "bitshuffle";
    case 32013:
      return "zfp";
    case 32015:
      return "zstd";
    case 32026:
      return "blosc2";
    default:
      return "unknown";
  }
}

bool can_decode(H5Z_filter_t id) {
  unsigned flags = 0;
  return H5Zfilter_avail(id) > 0 && H5Zget_filter_info(id, &flags) >= 0 &&
         (flags & H5Z_FILTER_CONFIG_DECODE_ENABLED) != 0;
}

/// h5repack is no help: without the filter it leaves the dataset out and succeeds.
[[noreturn]] void fail_filter(H5Z_filter_t id, const std::string& name) {
  constexpr H5Z_filter_t kLzf = 32000;
  if (id == h5z::kFilterId) {
    fail(ErrorCode::unsupported,
         "needs HDF5 filter {}, kvzip's own plugin: set HDF5_PLUGIN_PATH to its folder, lib/hdf5/plugin of the package "
         "hdf5-filter-kvzip, hdf5-plugin where kvzip is built",
         id);
  }
  if (id == kLzf) {
    fail(ErrorCode::unsupported,
         "needs HDF5 filter {} ({}), which only h5py has: save the file again from h5py without it", id, name);
  }
  fail(ErrorCode::unsupported,
       "needs HDF5 filter {} ({}): set HDF5_PLUGIN_PATH to a folder with its plugin, as Python's package hdf5plugin "
       "has (hdf5plugin.PLUGIN_PATH), or save the file again from h5py without it",
       id, name);
}

/// Those whose decoders in the library go by what the filter message states, and out of their buffers.
void refuse_unsafe(H5Z_filter_t id) {
  const bool unsafe = id == H5Z_FILTER_NBIT || id == H5Z_FILTER_SCALEOFFSET || id == H5Z_FILTER_SZIP;
  if (!unsafe || trusts_files()) return;
  fail(ErrorCode::unsupported,
       "it has HDF5 filter {} ({}), which the library decodes without a look at its bounds; unless you trust the file, "
       "repack it with: h5repack -f NONE IN OUT",
       id,
       id == H5Z_FILTER_NBIT   ? "n-bit"
       : id == H5Z_FILTER_SZIP ? "szip"
                               : "scale-offset");
}

std::vector<ChunkFilter> read_filters(Id layout) {
  const int count = check(H5Pget_nfilters(layout), kBad, "cannot read its filters");
  std::vector<ChunkFilter> out;
  for (int i = 0; i < count; ++i) {
    unsigned flags = 0, config = 0, parameter = 0;
    std::size_t values = 1;
    std::array<char, 64> name{};
    const H5Z_filter_t id = H5Pget_filter2(layout, static_cast<unsigned>(i), &flags, &values, &parameter,
                                           name.size() - 1, name.data(), &config);
    check(id, kBad, "cannot read its filters");
    if (!can_decode(id)) {
      fail_filter(id, name[0] != '\0' ? quoted(name.data()) : std::string(known_filter(id)));
    }
    refuse_unsafe(id);
    // Twice the same filter serves nobody, and deflate twice expands a million times.
    const bool again = std::any_of(out.begin(), out.end(), [&](const ChunkFilter& f) { return f.id == id; });
    if (again) fail(ErrorCode::unsupported, "it has filter {} twice", id);
    out.push_back({id, values > 0 ? parameter : 0});
  }
  return out;
}

void check_chunks(Id layout, const std::vector<std::uint64_t>& shape, std::size_t unit, std::uint64_t file_size,
                  StoredTensor& stored) {
  stored.chunk.filters = read_filters(layout);
  std::vector<hsize_t> chunk(H5S_MAX_RANK + 1);
  const int rank =
      check(H5Pget_chunk(layout, static_cast<int>(chunk.size()), chunk.data()), kBad, "cannot read its chunk shape");
  chunk.resize(std::min<std::size_t>(chunk.size(), static_cast<std::size_t>(rank)));
  if (chunk.size() != shape.size()) fail(kBad, "its chunks do not have its dimensions");
  std::uint64_t bytes = unit, count = 1;
  for (std::size_t a = 0; a < shape.size(); ++a) {
    const std::uint64_t n = chunk[a];
    if (n == 0) fail(kBad, "its chunks are empty");
    if (bytes > limits::kHdf5ChunkBytes / n)
      fail(ErrorCode::limit, "its chunks are larger than {} GiB", limits::kHdf5ChunkBytes >> 30);
    bytes *= n;
    // No overflow: there are fewer chunks than elements.
    count *= shape[a] / n + (shape[a] % n != 0 ? 1 : 0);
  }
  if (count > limits::kHdf5FreeChunks + file_size / limits::kHdf5BytesPerChunk) {
    fail(ErrorCode::limit, "its {} chunks are too many for a file of {} bytes", count, file_size);
  }
  if (bytes > limits::kHdf5FreeChunkBytes && bytes / limits::kHdf5Expansion > file_size) {
    fail(ErrorCode::limit, "its chunks of {} bytes are too large for a file of {}", bytes, file_size);
  }
  stored.chunk.bytes = bytes;
  stored.chunk.extent.assign(chunk.begin(), chunk.end());
}

void check_contiguous(Id dataset, std::uint64_t bytes, const RawFile& file) {
  const auto offset = data_begin(dataset, file.user_block());
  if (!offset) return;  // never written: fill values
  if (H5Dget_storage_size(dataset) < bytes) fail(kBad, "its storage is smaller than its shape");
  if (*offset > file.size() || bytes > file.size() - *offset) {
    fail(ErrorCode::truncated, "its {} bytes do not fit in the file", bytes);
  }
}

void check_storage(Id dataset, const std::vector<std::uint64_t>& shape, std::size_t unit, std::uint64_t bytes,
                   const RawFile& file, StoredTensor& stored) {
  const std::uint64_t file_size = file.size();
  const Handle layout = own(H5Dget_create_plist(dataset), H5Pclose, kBad, "cannot read its layout");
  if (H5Pget_external_count(layout.get()) > 0) {
    fail(ErrorCode::unsupported, "its data is in another file; repack with: h5repack -l CONTI IN OUT");
  }
  file.count_stated(bytes);
  switch (H5Pget_layout(layout.get())) {
    case H5D_COMPACT:
      if (H5Dget_storage_size(dataset) < bytes) fail(kBad, "its storage is smaller than its shape");
      break;
    case H5D_CONTIGUOUS:
      check_contiguous(dataset, bytes, file);
      break;
    case H5D_CHUNKED:
      check_chunks(layout.get(), shape, unit, file_size, stored);
      break;
    case H5D_VIRTUAL:
      fail(ErrorCode::unsupported, "it is a virtual dataset; repack with: h5repack -l CONTI IN OUT");
    default:
      fail(ErrorCode::unsupported, "its layout is unknown");
  }
}

}  // namespace

std::optional<std::uint64_t> data_begin(Id dataset, std::uint64_t user_block) {
  const haddr_t offset = H5Dget_offset(dataset);
  // Some releases of the library add the user block to "nowhere", too.
  if (offset == HADDR_UNDEF || offset == HADDR_UNDEF + user_block) return std::nullopt;
  return offset;
}

TensorInfo describe_dataset(Id dataset, const RawFile& file, std::vector<Attribute>& attributes, StoredTensor& stored) {
  TensorInfo info;
  const Handle space = own(H5Dget_space(dataset), H5Sclose, kBad, "cannot read its shape");
  info.shape = read_shape(space.get());
  const std::vector<std::uint64_t> stored_shape = info.shape;
  resolve_type(dataset, attributes, info, stored);
  stored.typed = true;
  check_storage(dataset, stored_shape, dtype_unit(info.dtype), info.bytes(), file, stored);
  return info;
}

}  // namespace kvzip::hdf5
