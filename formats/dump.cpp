// SPDX-License-Identifier: Apache-2.0
#include "kvzip/dump.hpp"

#include <algorithm>
#include <cstring>

#include "codec/fail.hpp"
#include "formats/parts.hpp"
#include "formats/text.hpp"

namespace kvzip {
namespace {

/// The product, or no value when it does not fit. A zero anywhere makes it zero, whatever the other factors are.
std::optional<std::uint64_t> product(const std::vector<std::uint64_t>& factors) {
  if (std::find(factors.begin(), factors.end(), 0) != factors.end()) return 0;
  std::uint64_t result = 1;
  for (const std::uint64_t factor : factors) {
    if (__builtin_mul_overflow(result, factor, &result)) return std::nullopt;
  }
  return result;
}

template <typename T>
T load(const Attribute& attribute) {
  T value;
  std::memcpy(&value, attribute.data.data(), sizeof value);
  return value;
}

std::string number_text(const Attribute& attribute) {
  switch (*attribute.dtype) {
    case DType::boolean:
      return load<std::uint8_t>(attribute) != 0 ? "true" : "false";
    case DType::u8:
      return fmt::to_string(load<std::uint8_t>(attribute));
    case DType::i8:
      return fmt::to_string(load<std::int8_t>(attribute));
    case DType::u16:
      return fmt::to_string(load<std::uint16_t>(attribute));
    case DType::i16:
      return fmt::to_string(load<std::int16_t>(attribute));
    case DType::u32:
      return fmt::to_string(load<std::uint32_t>(attribute));
    case DType::i32:
      return fmt::to_string(load<std::int32_t>(attribute));
    case DType::u64:
      return fmt::to_string(load<std::uint64_t>(attribute));
    case DType::i64:
      return fmt::to_string(load<std::int64_t>(attribute));
    case DType::f64:
      return fmt::to_string(load<double>(attribute));
    default:
      break;
  }
  if (!is_codable_float(*attribute.dtype)) return {};
  float value = 0;
  to_float(*attribute.dtype, attribute.data, {&value, 1});
  return fmt::to_string(value);
}

}  // namespace

std::uint64_t TensorInfo::elements() const {
  const auto count = product(shape);
  if (!count) {
    fail(ErrorCode::limit, "tensor {}: the shape [{}] has more elements than fit in 64 bits", quoted(name),
         fmt::join(shape, ", "));
  }
  return *count;
}

std::uint64_t TensorInfo::bytes() const {
  const std::uint64_t count = elements();
  const std::uint64_t bits = dtype_bits(dtype);
  // Whole groups of 8 elements have `bits` bytes; only the rest can fail to fill its last byte.
  const std::uint64_t rest_bits = count % 8 * bits;
  std::uint64_t result = 0;
  if (__builtin_mul_overflow(count / 8, bits, &result) || __builtin_add_overflow(result, rest_bits / 8, &result)) {
    fail(ErrorCode::limit, "tensor {}: {} elements of {} have more bytes than fit in 64 bits", quoted(name), count,
         dtype_name(dtype));
  }
  if (rest_bits % 8 != 0) {
    fail(ErrorCode::corrupt, "tensor {}: {} elements of {} do not fill whole bytes", quoted(name), count,
         dtype_name(dtype));
  }
  return result;
}

std::string Dump::text(std::string_view name) const {
  for (const Attribute& attribute : attributes) {
    if (!attribute.object.empty() || attribute.name != name) continue;
    if (!attribute.dtype) return attribute.strings.size() == 1 ? attribute.strings[0] : std::string();
    if (attribute.data.empty() || attribute.data.size() != dtype_unit(*attribute.dtype)) return {};
    return number_text(attribute);
  }
  return {};
}

std::uint64_t Slice::elements() const {
  const auto result = product(count);
  if (!result) fail(ErrorCode::limit, "a slice has more elements than fit in 64 bits");
  return *result;
}

std::vector<std::uint64_t> slice_shape(const TensorInfo& tensor) {
  if (dtype_bits(tensor.dtype) >= 8) return tensor.shape;
  return {tensor.bytes()};
}

std::vector<Slice> split_contiguous(const TensorInfo& info, std::size_t tensor, std::uint64_t max_bytes) {
  const ContiguousSplit split(info, tensor, max_bytes);
  std::vector<Slice> slices;
  for (std::uint64_t i = 0; i < split.count(); ++i) slices.push_back(split.slice(i));
  return slices;
}

ContiguousSplit::ContiguousSplit(const TensorInfo& info, std::size_t tensor, std::uint64_t max_bytes)
    : tensor_(tensor), shape_(slice_shape(info)) {
  if (info.elements() == 0) return;
  const std::uint64_t limit = std::max<std::uint64_t>(1, max_bytes / slice_unit(info));
  std::uint64_t inner = 1;  // elements of one index of axis cut_ - 1
  cut_ = shape_.size();
  while (cut_ > 0 && shape_[cut_ - 1] <= limit / inner) inner *= shape_[--cut_];
  count_ = 1;
  if (cut_ == 0) {
    if (!shape_.empty()) step_ = shape_[0];
    return;
  }
  --cut_;
  step_ = limit / inner;
  steps_ = (shape_[cut_] - 1) / step_ + 1;
  for (std::size_t a = 0; a < cut_; ++a) count_ *= shape_[a];
  count_ *= steps_;
}

Slice ContiguousSplit::slice(std::uint64_t index) const {
  Slice slice{tensor_, std::vector<std::uint64_t>(shape_.size(), 0), shape_};
  if (shape_.empty()) return slice;
  slice.start[cut_] = index % steps_ * step_;
  slice.count[cut_] = std::min(step_, shape_[cut_] - slice.start[cut_]);
  index /= steps_;
  for (std::size_t a = cut_; a-- > 0; index /= shape_[a]) {
    slice.start[a] = index % shape_[a];
    slice.count[a] = 1;
  }
  return slice;
}

DumpParts::DumpParts(const Dump& dump, std::uint64_t max_bytes) : max_bytes_(max_bytes) {
  first_.assign(1, 0);
  for (std::size_t i = 0; i < dump.tensors.size(); ++i) {
    const std::uint64_t count = ContiguousSplit(dump.tensors[i], i, max_bytes).count();
    std::uint64_t next = 0;
    if (__builtin_add_overflow(first_.back(), count, &next)) {
      fail(ErrorCode::limit, "the tensors together are larger than 64 bits can count");
    }
    first_.push_back(next);
  }
}

Part DumpParts::part(const Dump& dump, std::uint64_t index) const {
  if (index >= count()) fail(ErrorCode::invalid_argument, "there is no part {} of {}", index, count());
  const auto after = std::upper_bound(first_.begin(), first_.end(), index);
  const auto tensor = static_cast<std::size_t>(after - first_.begin()) - 1;
  Part part;
  part.index = index;
  part.slices.push_back(ContiguousSplit(dump.tensors[tensor], tensor, max_bytes_).slice(index - first_[tensor]));
  return part;
}

void fetch_by_reading(DumpReader& reader, Part& part) {
  part.data.resize(part.slices.size());
  for (std::size_t i = 0; i < part.slices.size(); ++i) {
    part.data[i].resize(slice_bytes(reader.dump(), part.slices[i]));
    reader.read(part.slices[i], part.data[i]);
  }
}

std::uint64_t slice_bytes(const Dump& dump, const Slice& slice) {
  if (slice.tensor >= dump.tensors.size()) fail(ErrorCode::invalid_argument, "there is no tensor {}", slice.tensor);
  const TensorInfo& info = dump.tensors[slice.tensor];
  const std::vector<std::uint64_t> shape = slice_shape(info);
  bool inside = slice.start.size() == shape.size() && slice.count.size() == shape.size();
  for (std::size_t a = 0; inside && a < shape.size(); ++a) {
    inside = slice.start[a] <= shape[a] && slice.count[a] <= shape[a] - slice.start[a];
  }
  if (!inside) {
    fail(ErrorCode::invalid_argument, "tensor {}: the slice at [{}] of [{}] is not within the shape [{}]",
         quoted(info.name), fmt::join(slice.start, ", "), fmt::join(slice.count, ", "), fmt::join(shape, ", "));
  }
  return slice.elements() * slice_unit(info);
}

void check_slice(const Dump& dump, const Slice& slice, std::uint64_t bytes) {
  const std::uint64_t expected = slice_bytes(dump, slice);
  if (expected == bytes) return;
  fail(ErrorCode::invalid_argument, "tensor {}: {} bytes given for a slice of {}",
       quoted(dump.tensors[slice.tensor].name), bytes, expected);
}

}  // namespace kvzip
