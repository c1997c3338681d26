// SPDX-License-Identifier: Apache-2.0
#include "formats/ggml_values.hpp"

#include <array>
#include <cstring>
#include <optional>

#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "formats/left_out.hpp"
#include "formats/parts.hpp"
#include "formats/text.hpp"

namespace kvzip {
namespace {

/// Decodes rows of whole blocks; of each row `count` values from `skip` on.
void decode_rows(const GgmlType& type, ByteView blocks, std::uint64_t rows, std::uint64_t skip, std::uint64_t count,
                 std::span<std::byte> out) {
  std::array<float, kGgmlBlock> values{};
  for (std::uint64_t row = 0; row < rows; ++row) {
    for (std::uint64_t done = 0; done < count;) {
      const std::uint64_t first = done == 0 ? skip : 0;
      const std::uint64_t taken = std::min(kGgmlBlock - first, count - done);
      type.decode(blocks.first(type.bytes), values);
      blocks = blocks.subspan(type.bytes);
      std::memcpy(out.data(), values.data() + first, taken * sizeof(float));
      out = out.subspan(taken * sizeof(float));
      done += taken;
    }
  }
}

class GgmlValues final : public DumpReader, public LeavesOut, public OverBlocks {
 public:
  GgmlValues(std::unique_ptr<DumpReader> inner, std::unordered_map<std::size_t, const GgmlType*> blocks)
      : inner_(std::move(inner)), blocks_(std::move(blocks)), dump_(inner_->dump()) {
    for (const auto& [tensor, type] : blocks_) {
      TensorInfo& info = dump_.tensors[tensor];
      info.dtype = type->dtype;
      info.shape[1] = type->elements_in_row(info.shape[1]);
    }
    if (inner_->recognition() != nullptr) recognition_ = recognise(dump_);
  }

  DumpReader& stored() override { return *inner_; }
  bool stored_in(std::string_view format) const override { return format == "llama"; }
  const Dump& dump() const override { return dump_; }
  const Recognition* recognition() const override { return recognition_ ? &*recognition_ : nullptr; }
  ReaderTraits traits() override { return inner_->traits(); }
  std::vector<std::string> left_out() const override { return left_out_of(*inner_); }
  std::uint64_t part_count() const override { return inner_->part_count(); }

  Part part(std::uint64_t index) const override {
    Part part = inner_->part(index);
    for (Slice& slice : part.slices) slice = values_of(slice);
    return part;
  }

  void fetch(Part& part) override {
    part.slices = inner_->part(part.index).slices;
    inner_->fetch(part);
  }

  void expand(Part& part) const override {
    inner_->expand(part);
    for (std::size_t i = 0; i < part.slices.size(); ++i) {
      Slice& slice = part.slices[i];
      const auto found = blocks_.find(slice.tensor);
      if (found == blocks_.end()) continue;
      slice = values_of(slice);
      Bytes values(slice.elements() * sizeof(float));
      decode_rows(*found->second, part.data[i], slice.count[0], 0, slice.count[1], values);
      part.data[i] = std::move(values);
    }
  }

  void read(const Slice& slice, std::span<std::byte> out) override {
    const auto found = blocks_.find(slice.tensor);
    if (found == blocks_.end()) return inner_->read(slice, out);
    check_slice(dump_, slice, out.size());
    if (out.empty()) return;
    const std::uint64_t bytes = found->second->bytes, first = slice.start[1] / kGgmlBlock;
    const std::uint64_t last = (slice.start[1] + slice.count[1] - 1) / kGgmlBlock + 1;
    const Slice stored{slice.tensor, {slice.start[0], first * bytes}, {slice.count[0], (last - first) * bytes}};
    Bytes blocks(stored.elements());
    inner_->read(stored, blocks);
    decode_rows(*found->second, blocks, slice.count[0], slice.start[1] - first * kGgmlBlock, slice.count[1], out);
  }

 private:
  /// Parts are of whole rows, unless one row is longer than a part.
  Slice values_of(Slice slice) const {
    const auto found = blocks_.find(slice.tensor);
    if (found == blocks_.end()) return slice;
    const GgmlType& type = *found->second;
    if (slice.start[1] % type.bytes != 0 || slice.count[1] % type.bytes != 0) {
      fail(ErrorCode::limit, "tensor {}: rows of {} bytes are cut within blocks of {}",
           quoted(dump_.tensors[slice.tensor].name), inner_->dump().tensors[slice.tensor].shape[1], type.name);
    }
    slice.start[1] = type.elements_in_row(slice.start[1]);
    slice.count[1] = type.elements_in_row(slice.count[1]);
    return slice;
  }

  std::unique_ptr<DumpReader> inner_;
  std::unordered_map<std::size_t, const GgmlType*> blocks_;
  Dump dump_;
  std::optional<Recognition> recognition_;
};

}  // namespace

std::unordered_map<std::size_t, const GgmlType*> ggml_blocks(const Dump& dump) {
  std::unordered_map<std::string_view, const GgmlType*> stated;
  for (const Attribute& a : dump.attributes) {
    if (a.object.empty() || a.name != kGgmlAttribute || a.strings.size() != 1) continue;
    const GgmlType* type = find_ggml_type(a.strings[0]);
    if (type != nullptr && type->decode != nullptr) stated.emplace(a.object, type);
  }
  std::unordered_map<std::size_t, const GgmlType*> out;
  if (stated.empty()) return out;
  for (std::size_t i = 0; i < dump.tensors.size(); ++i) {
    const TensorInfo& info = dump.tensors[i];
    const auto found = stated.find(info.name);
    if (found == stated.end() || info.dtype != DType::u8 || info.shape.size() != 2) continue;
    if (info.shape[1] % found->second->bytes == 0 && info.shape[1] <= limits::kGgmlRow) out.emplace(i, found->second);
  }
  return out;
}

std::unique_ptr<DumpReader> ggml_values(std::unique_ptr<DumpReader> reader) {
  auto blocks = ggml_blocks(reader->dump());
  if (blocks.empty()) return reader;
  return std::make_unique<GgmlValues>(std::move(reader), std::move(blocks));
}

DumpReader* stored_blocks(DumpReader& reader) {
  auto* over = dynamic_cast<OverBlocks*>(&reader);
  return over == nullptr ? nullptr : &over->stored();
}

std::size_t shown_as(DumpReader& reader, std::size_t stored) {
  const auto* over = dynamic_cast<const OverBlocks*>(&reader);
  return over == nullptr ? stored : over->shown_as(stored);
}

DumpReader& reader_for(std::string_view format, DumpReader& reader) {
  auto* over = dynamic_cast<OverBlocks*>(&reader);
  return over != nullptr && over->stored_in(format) ? over->stored() : reader;
}

}  // namespace kvzip
