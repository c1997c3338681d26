// SPDX-License-Identifier: Apache-2.0
// Dumps in memory: a reader over vectors and a writer into vectors, for tests of everything between files.
#pragma once

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "codec/fail.hpp"
#include "kvzip/dump.hpp"
#include "kvzip/io.hpp"

namespace kvzip::test {

inline std::size_t tensor_bytes(const TensorInfo& info) {
  std::size_t bytes = slice_unit(info);
  for (const std::uint64_t extent : slice_shape(info)) bytes *= static_cast<std::size_t>(extent);
  return bytes;
}

/// Bytes that differ from tensor to tensor and from element to element.
inline Bytes pattern(const TensorInfo& info, std::size_t tensor) {
  Bytes data(tensor_bytes(info));
  std::uint32_t state = 2654435761u * static_cast<std::uint32_t>(tensor + 1);
  for (std::byte& b : data) {
    state = state * 1664525u + 1013904223u;
    b = static_cast<std::byte>(state >> 24);
  }
  return data;
}

inline Attribute text_attribute(std::string name, std::string value, std::string object = {}) {
  return {std::move(object), std::move(name), {std::move(value)}, std::nullopt, {}, {}};
}

inline Bytes gather(const TensorInfo& info, const Bytes& tensor, const Slice& slice) {
  const std::size_t unit = slice_unit(info);
  Bytes out(slice.elements() * unit);
  for_each_run(slice_shape(info), slice, [&](std::uint64_t from, std::uint64_t to, std::uint64_t elements) {
    std::memcpy(out.data() + to * unit, tensor.data() + from * unit, elements * unit);
  });
  return out;
}

inline void scatter(const TensorInfo& info, Bytes& tensor, const Slice& slice, const Bytes& data) {
  const std::size_t unit = slice_unit(info);
  if (data.size() != slice.elements() * unit) fail(ErrorCode::invalid_argument, "slice and data sizes differ");
  for_each_run(slice_shape(info), slice, [&](std::uint64_t to, std::uint64_t from, std::uint64_t elements) {
    std::memcpy(tensor.data() + to * unit, data.data() + from * unit, elements * unit);
  });
}

/// Parts of at most part_bytes, `slices_per_part` slices each.
inline std::vector<Part> cut(const Dump& dump, std::uint64_t part_bytes, std::size_t slices_per_part = 1) {
  std::vector<Part> parts;
  for (std::size_t i = 0; i < dump.tensors.size(); ++i) {
    for (Slice& slice : split_contiguous(dump.tensors[i], i, part_bytes)) {
      if (parts.empty() || parts.back().slices.size() == slices_per_part) {
        parts.emplace_back();
        parts.back().index = parts.size() - 1;
      }
      parts.back().slices.push_back(std::move(slice));
    }
  }
  return parts;
}

/// fetch() gives all slices of a part in `coded`, each byte inverted, and expand() turns that into `data`, so that a
/// forgotten step shows.
class MemoryReader : public DumpReader {
 public:
  explicit MemoryReader(Dump dump, std::uint64_t part_bytes = 64, std::size_t slices_per_part = 1)
      : dump_(std::move(dump)), parts_(cut(dump_, part_bytes, slices_per_part)) {
    for (std::size_t i = 0; i < dump_.tensors.size(); ++i) data_.push_back(pattern(dump_.tensors[i], i));
  }

  const Dump& dump() const override { return dump_; }
  std::uint64_t part_count() const override { return parts_.size(); }
  Part part(std::uint64_t index) const override { return parts_.at(index); }
  void fetch(Part& part) override {
    fetched.push_back(part.index);
    if (part.index == fail_fetch) fail(ErrorCode::io, "fetch of part {}", part.index);
    part.coded.assign(1, {});
    for (const Slice& slice : part.slices) {
      for (const std::byte b : gather(dump_.tensors[slice.tensor], data_[slice.tensor], slice))
        part.coded[0].push_back(~b);
    }
  }
  void expand(Part& part) const override {
    if (part.index == fail_expand) fail(ErrorCode::corrupt, "expand of part {}", part.index);
    auto at = part.coded.at(0).begin();
    part.data.clear();
    for (const Slice& slice : part.slices) {
      Bytes& data = part.data.emplace_back(slice.elements() * slice_unit(dump_.tensors[slice.tensor]));
      for (std::byte& b : data) b = ~*at++;
    }
    part.coded.clear();
  }
  void read(const Slice& slice, std::span<std::byte> out) override {
    ++reads;
    std::ranges::copy(gather(dump_.tensors[slice.tensor], data_[slice.tensor], slice), out.begin());
  }
  const Recognition* recognition() const override { return stated ? &*stated : nullptr; }

  const Bytes& data(std::size_t tensor) const { return data_.at(tensor); }
  Bytes& data(std::size_t tensor) { return data_.at(tensor); }

  std::vector<std::uint64_t> fetched;  // parts in the order of their fetch()
  std::uint64_t reads = 0;
  std::optional<std::uint64_t> fail_fetch, fail_expand;  // parts that throw
  std::optional<Recognition> stated;

 private:
  Dump dump_;
  std::vector<Part> parts_;
  std::vector<Bytes> data_;
};

/// Collects what is appended. With `plan_bytes` it makes its own parts.
class MemoryWriter : public DumpWriter {
 public:
  explicit MemoryWriter(Dump dump, std::uint64_t plan_bytes = 0, std::size_t slices_per_part = 1)
      : dump_(std::move(dump)), plans_(plan_bytes != 0) {
    if (plans_) parts_ = cut(dump_, plan_bytes, slices_per_part);
    for (const TensorInfo& info : dump_.tensors) data_.emplace_back(tensor_bytes(info));
  }

  bool plans() const override { return plans_; }
  std::uint64_t part_count() const override { return parts_.size(); }
  Part part(std::uint64_t index) const override { return parts_.at(index); }
  void prepare(Part& part) const override {
    if (part.index == fail_prepare) fail(ErrorCode::unsupported, "prepare of part {}", part.index);
    part.coded.emplace_back(1, std::byte{1});
  }
  void append(Part& part) override {
    if (part.index == fail_append) fail(ErrorCode::io, "append of part {}", part.index);
    if (part.coded.size() != 1) fail(ErrorCode::invalid_argument, "part {} was not prepared", part.index);
    appended.push_back(part.index);
    for (std::size_t i = 0; i < part.slices.size(); ++i) {
      const Slice& slice = part.slices[i];
      scatter(dump_.tensors[slice.tensor], data_[slice.tensor], slice, part.data.at(i));
    }
  }
  void finish() override { finished = true; }

  const Dump& dump() const { return dump_; }
  const Bytes& data(std::size_t tensor) const { return data_.at(tensor); }

  std::vector<std::uint64_t> appended;  // parts in the order of their append()
  std::optional<std::uint64_t> fail_prepare, fail_append;
  bool finished = false;

 private:
  Dump dump_;
  bool plans_;
  std::vector<Part> parts_;
  std::vector<Bytes> data_;
};

}  // namespace kvzip::test
