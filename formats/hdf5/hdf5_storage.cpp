// SPDX-License-Identifier: Apache-2.0
#include "formats/hdf5/hdf5_storage.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <hdf5.h>

#include <algorithm>
#include <unordered_map>

#include "codec/limits.hpp"
#include "codec/number.hpp"
#include "codec/split.hpp"
#include "formats/hdf5/hdf5.hpp"
#include "formats/hdf5/hdf5_space.hpp"
#include "formats/hdf5/hdf5_types.hpp"
#include "formats/text.hpp"

namespace kvzip::hdf5 {
namespace {

constexpr std::uint64_t kNoEnd = H5S_UNLIMITED;
using Extent = std::vector<std::uint64_t>;

std::string axes_text(const Extent& extent) {
  std::vector<std::string> out;
  for (const std::uint64_t n : extent) out.push_back(n == kNoEnd ? "*" : fmt::format("{}", n));
  return fmt::format("{}", fmt::join(out, ","));
}

std::optional<Extent> parse_axes(std::string_view text) {
  Extent out;
  for (const std::string_view axis : split(text, ',')) {
    const auto number = axis == "*" ? kNoEnd : parse_number<std::uint64_t>(axis);
    if (!number) return std::nullopt;
    out.push_back(*number);
  }
  return out;
}

std::optional<Bytes> parse_element(const std::string& text) {
  if (text.size() % 2 != 0 || text.find_first_not_of("0123456789abcdef") != std::string::npos) return std::nullopt;
  return unhex(text);
}

/// What all datasets of a file may take beyond their data, so that a small dump cannot ask for a large file, nor for
/// days of writing: chunks have a record each, and those at the end of an axis reach beyond it.
class Allowance {
 public:
  explicit Allowance(const Dump& dump) {
    std::uint64_t total = 0;
    for (const TensorInfo& info : dump.tensors) {
      if (__builtin_add_overflow(total, info.bytes(), &total)) total = ~std::uint64_t{0};
    }
    chunks_ = limits::kHdf5FreeChunks + total / limits::kHdf5DataPerChunk;
    if (__builtin_mul_overflow(total, limits::kHdf5Padding, &bytes_) ||
        __builtin_add_overflow(bytes_, limits::kHdf5FreePadding, &bytes_)) {
      bytes_ = ~std::uint64_t{0};
    }
  }

  /// Takes what `count` chunks of `chunk_bytes` for `data` bytes cost; false where that is too much.
  bool take(std::uint64_t count, std::uint64_t chunk_bytes, std::uint64_t data) {
    std::uint64_t bytes = 0;
    if (count > chunks_ || __builtin_mul_overflow(count, chunk_bytes, &bytes) || bytes - data > bytes_) return false;
    chunks_ -= count;
    bytes_ -= bytes - data;
    return true;
  }

 private:
  std::uint64_t chunks_ = 0, bytes_ = 0;
};

/// Cuts what does not fit a tensor; false where its chunks would cost too much, which are then gone.
bool fit(Storage& storage, const TensorInfo& info, Allowance& allowance) {
  const Extent shape = slice_shape(info);
  const std::uint64_t unit = slice_unit(info);
  if (storage.fill.size() != unit) storage.fill.clear();
  storage.big_endian = storage.big_endian && unit > 1;
  const auto merge = [&](bool fits) {
    storage.chunks.clear();
    storage.maxshape.clear();
    return fits;
  };
  if (storage.chunks.size() != shape.size()) return merge(true);
  if (storage.maxshape.size() != shape.size()) storage.maxshape.clear();
  std::uint64_t bytes = unit, count = 1;
  for (std::size_t a = 0; a < shape.size(); ++a) {
    std::uint64_t end = shape[a];
    if (!storage.maxshape.empty() && storage.maxshape[a] != 0) {
      end = storage.maxshape[a] = std::max(shape[a], storage.maxshape[a]);
    }
    storage.chunks[a] = std::min(storage.chunks[a], end);
    const std::uint64_t n = storage.chunks[a];
    if (n == 0) return merge(true);
    if (__builtin_mul_overflow(bytes, n, &bytes) || bytes > limits::kHdf5ChunkBytes) return merge(false);
    count *= shape[a] / n + (shape[a] % n != 0 ? 1 : 0);  // at most the elements
  }
  return allowance.take(count, bytes, info.bytes()) || merge(false);
}

}  // namespace

std::string storage_text(const Storage& storage) {
  std::vector<std::string> out;
  if (!storage.chunks.empty()) out.push_back("chunks=" + axes_text(storage.chunks));
  if (!storage.maxshape.empty()) out.push_back("maxshape=" + axes_text(storage.maxshape));
  if (storage.big_endian) out.emplace_back("order=big");
  if (!storage.fill.empty()) out.push_back("fill=" + to_hex(storage.fill));
  return fmt::format("{}", fmt::join(out, " "));
}

std::optional<Storage> parse_storage(std::string_view text) {
  Storage out;
  for (const std::string_view word : split(text, ' ')) {
    const std::size_t sign = std::min(word.find('='), word.size());
    const std::string_view name = word.substr(0, sign), value = word.substr(std::min(sign + 1, word.size()));
    if (name == "chunks") out.chunks = parse_axes(value).value_or(Extent());
    if (name == "maxshape") out.maxshape = parse_axes(value).value_or(Extent());
    if (name == "order") out.big_endian = value == "big";
    if (name == "fill") out.fill = parse_element(std::string(value)).value_or(Bytes());
  }
  return !text.empty() && storage_text(out) == text ? std::optional(std::move(out)) : std::nullopt;
}

Storage read_storage(Id dataset, const Extent& chunks, std::size_t swap) {
  Storage out;
  out.chunks = chunks;
  out.big_endian = swap > 1;
  const Handle space = own(H5Dget_space(dataset), H5Sclose, kBad, "cannot read its shape");
  const Extent shape = read_shape(space.get());
  std::vector<hsize_t> most(shape.size());
  check(H5Sget_simple_extent_dims(space.get(), nullptr, most.data()), kBad, "cannot read its shape");
  for (std::size_t a = 0; a < shape.size(); ++a) out.maxshape.push_back(most[a] == shape[a] ? 0 : most[a]);
  const bool grows = std::ranges::any_of(out.maxshape, [](std::uint64_t n) { return n != 0; });
  if (!grows || chunks.empty()) out.maxshape.clear();

  const Handle layout = own(H5Dget_create_plist(dataset), H5Pclose, kBad, "cannot read its layout");
  H5D_fill_value_t state = H5D_FILL_VALUE_UNDEFINED;
  check(H5Pfill_value_defined(layout.get(), &state), kBad, "cannot read its fill value");
  if (state != H5D_FILL_VALUE_USER_DEFINED) return out;
  const Handle type = own(H5Dget_type(dataset), H5Tclose, kBad, "cannot read its type");
  out.fill.resize(H5Tget_size(type.get()));
  check(H5Pget_fill_value(layout.get(), type.get(), out.fill.data()), kBad, "cannot read its fill value");
  swap_bytes(out.fill, swap);
  return out;
}

StoragePlan plan_storage(const Dump& dump) {
  std::unordered_map<std::string_view, const Attribute*> said;
  for (const Attribute& a : dump.attributes) {
    const bool text = !a.dtype && a.shape.empty() && a.strings.size() == 1;
    if (a.name == kHdf5Storage && text) said.emplace(a.object, &a);
  }
  StoragePlan out;
  out.tensors.resize(dump.tensors.size());
  out.stated.resize(dump.tensors.size());
  if (said.empty()) return out;
  Allowance allowance(dump);
  for (std::size_t t = 0; t < dump.tensors.size(); ++t) {
    const auto found = said.find(dump.tensors[t].name);
    auto storage = found == said.end() ? std::nullopt : parse_storage(found->second->strings[0]);
    if (!storage) continue;
    out.stated[t] = true;
    if (!fit(*storage, dump.tensors[t], allowance)) out.merged.push_back(t);
    out.tensors[t] = std::move(*storage);
  }
  return out;
}

void set_storage(Id options, const Storage& storage, Id type) {
  constexpr std::string_view kWhat = "cannot describe a dataset";
  const std::vector<hsize_t> chunks(storage.chunks.begin(), storage.chunks.end());
  if (chunks.empty()) {
    check(H5Pset_layout(options, H5D_CONTIGUOUS), ErrorCode::io, kWhat);
  } else {
    check(H5Pset_chunk(options, static_cast<int>(chunks.size()), chunks.data()), ErrorCode::io, kWhat);
  }
  // All at once, so that where they lie does not depend on the order in which parts come.
  check(H5Pset_alloc_time(options, H5D_ALLOC_TIME_EARLY), ErrorCode::io, kWhat);
  // All elements will be written; what may be added by others later will not.
  check(H5Pset_fill_time(options, storage.maxshape.empty() ? H5D_FILL_TIME_NEVER : H5D_FILL_TIME_IFSET), ErrorCode::io,
        kWhat);
  if (storage.big_endian) check(H5Tset_order(type, H5T_ORDER_BE), ErrorCode::io, kWhat);
  if (storage.fill.empty()) return;
  Bytes fill = storage.fill;
  swap_bytes(fill, swap_of_file(type));
  check(H5Pset_fill_value(options, type, fill.data()), ErrorCode::io, kWhat);
}

std::size_t swap_of_file(Id type) {
  const auto element = read_type(type);
  return element ? element->swap : 1;
}

Handle make_space(const Extent& shape, const Storage& storage) {
  if (storage.maxshape.empty()) return make_space(shape);
  const std::vector<hsize_t> dims(shape.begin(), shape.end());
  std::vector<hsize_t> most;
  for (std::size_t a = 0; a < shape.size(); ++a) {
    most.push_back(storage.maxshape[a] == 0 ? shape[a] : storage.maxshape[a]);
  }
  return own(H5Screate_simple(static_cast<int>(dims.size()), dims.data(), most.data()), H5Sclose, ErrorCode::io,
             "cannot make a dataspace");
}

}  // namespace kvzip::hdf5
