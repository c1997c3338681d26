// SPDX-License-Identifier: Apache-2.0
#include "formats/c_api/array_reader.hpp"

#include <algorithm>
#include <cstring>

#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "formats/text.hpp"

namespace kvzip {
void ArrayReader::add(TensorInfo info, ByteView bytes) {
  if (info.name.empty()) fail(ErrorCode::invalid_argument, "a tensor without a name");
  if (!is_utf8(info.name)) {
    fail(ErrorCode::invalid_argument, "tensor {}: a name is text in UTF-8", quoted(info.name));
  }
  if (std::ranges::find(dump_.tensors, info.name, &TensorInfo::name) != dump_.tensors.end()) {
    fail(ErrorCode::invalid_argument, "tensor {} is there already", quoted(info.name));
  }
  if (info.shape.size() > limits::kRank) {
    fail(ErrorCode::limit, "tensor {}: more than {} dimensions", quoted(info.name), limits::kRank);
  }
  if (bytes.size() != info.bytes()) {
    fail(ErrorCode::invalid_argument, "tensor {} of this shape and type has {} bytes, not {}", quoted(info.name),
         info.bytes(), bytes.size());
  }
  arrays_.reserve(arrays_.size() + 1);
  dump_.tensors.push_back(std::move(info));
  arrays_.push_back(bytes);
}

void ArrayReader::set_metadata(const std::string& name, std::string value) {
  if (name.empty() || !is_utf8(name) || !is_utf8(value)) {
    fail(ErrorCode::invalid_argument, "metadata {}: names and values are text in UTF-8", quoted(name));
  }
  const auto found = std::ranges::find(dump_.attributes, name, &Attribute::name);
  if (found != dump_.attributes.end()) {
    found->strings = {std::move(value)};
  } else {
    dump_.attributes.push_back({"", name, {std::move(value)}, {}, {}, {}});
  }
}

void ArrayReader::fetch(Part& part) {
  fetch_by_reading(*this, part);
}

void ArrayReader::read(const Slice& slice, std::span<std::byte> out) {
  check_slice(dump_, slice, out.size());
  gather_slice(dump_.tensors[slice.tensor], slice, arrays_[slice.tensor], out);
}

void gather_slice(const TensorInfo& info, const Slice& slice, ByteView tensor, std::span<std::byte> out) {
  const std::uint64_t unit = slice_unit(info);
  for_each_run(slice_shape(info), slice, [&](std::uint64_t from, std::uint64_t to, std::uint64_t count) {
    std::memcpy(out.data() + to * unit, tensor.data() + from * unit, count * unit);
  });
}

void scatter_slice(const TensorInfo& info, const Slice& slice, ByteView data, std::byte* tensor) {
  const std::uint64_t unit = slice_unit(info);
  for_each_run(slice_shape(info), slice, [&](std::uint64_t to, std::uint64_t from, std::uint64_t count) {
    std::memcpy(tensor + to * unit, data.data() + from * unit, count * unit);
  });
}

}  // namespace kvzip
