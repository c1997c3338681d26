// SPDX-License-Identifier: Apache-2.0
#include "codec/stages/klt_model.hpp"

#include <algorithm>

#include "codec/bytes.hpp"
#include "codec/fail.hpp"

namespace kvzip {
namespace {

/// The streams: groups of each part, then the groups, one byte each. No part may name more components than it has:
/// everything that is allocated later follows from that.
void pass_layout(StreamPort& port, const KltWindows& windows, KltLayout& layout) {
  std::vector<std::uint32_t> groups_of = layout.groups_of;
  groups_of.resize(windows.parts);
  pass_integers(port, StreamLabel::flags, std::span<std::uint32_t>(groups_of));
  std::uint64_t sum = 0;
  for (const std::uint32_t count : groups_of) {
    if (count > windows.most) fail(ErrorCode::corrupt, "{} groups of {} components", count, windows.most);
    sum += count;
  }
  std::vector<std::uint8_t> table(sum);  // parts x most is at most the columns
  if (port.writes()) {
    for (std::size_t i = 0; i < table.size(); ++i) {
      const auto size = std::find(kKltSizes.begin(), kKltSizes.end(), layout.groups[i].size) - kKltSizes.begin();
      table[i] = static_cast<std::uint8_t>(4 * static_cast<unsigned>(size) + layout.groups[i].type + 1);
    }
  }
  pass_integers(port, StreamLabel::flags, std::span(table));
  if (port.writes()) return;
  std::size_t next = 0;
  for (const std::uint32_t count : groups_of) {
    layout.add_part();
    for (std::uint32_t i = 0; i < count; ++i) {
      const unsigned entry = table[next++], size = entry / 4, type = entry % 4;
      if (size >= kKltSizes.size() || type == 0) fail(ErrorCode::corrupt, "an unknown group {}", entry);
      if (kKltSizes[size] > windows.most - layout.components.back()) {
        fail(ErrorCode::corrupt, "groups of more than {} components", windows.most);
      }
      layout.add(kKltSizes[size], type - 1);
    }
  }
}

/// The streams of a model as a table holds them: one after the other, as long as their shapes say.
class TableStreams final : public StreamReader {
 public:
  explicit TableStreams(ByteView bytes) : in_(bytes) {}
  void get(Stream& stream) override {
    const ByteView bytes = in_.take(stream.size());
    const auto* p = reinterpret_cast<const std::uint8_t*>(bytes.data());
    stream.data.assign(p, p + bytes.size());
  }
  ByteReader& rest() { return in_; }

 private:
  ByteReader in_;
};
/// The format of stored numbers does not depend on the dump's.
constexpr DType kAnySource = DType::f16;

}  // namespace

void pass_klt_means(StreamPort& port, TileShape shape, KltModel& m) {
  const NumberShape means{StreamLabel::scales, std::min(shape.rows, 1u), shape.cols};
  pass_numbers(port, means, NumberFormat::f16, kAnySource, m.mean);
}

void pass_klt_basis(StreamPort& port, const KltWindows& windows, KltModel& m) {
  pass_layout(port, windows, m.layout);
  pass_numbers(port, {StreamLabel::factors, windows.cols, m.layout.columns}, NumberFormat::f16, kAnySource, m.basis);
}

Bytes klt_table(std::uint32_t channels, std::uint32_t parts, std::span<const Stream> streams) {
  ByteWriter bytes;
  bytes.put(channels);
  bytes.put(parts);
  for (const Stream& s : streams) bytes.put_bytes(std::as_bytes(std::span(s.data)));
  return std::move(bytes.bytes());
}

void check_klt_table(ByteView table, std::string_view name, std::uint32_t channels, std::uint32_t parts) {
  ByteReader front(table);
  const auto of_table = front.get<std::uint32_t>(), parts_of_table = front.get<std::uint32_t>();
  if (of_table != channels || parts_of_table != parts) {
    fail(ErrorCode::invalid_argument, "klt: the table {} is for {} channels in {} parts, not for {} in {}", name,
         of_table, parts_of_table, channels, parts);
  }
}

KltModel model_of_klt_table(ByteView table, std::uint32_t channels, std::uint32_t parts) {
  TableStreams streams(table);
  streams.rest().take(2 * sizeof(std::uint32_t));  // channels, parts
  const std::uint32_t width = channels / parts;
  KltModel model;
  pass_klt_means(streams, {1, channels}, model);
  pass_klt_basis(streams, {parts, width, width}, model);
  streams.rest().expect_end();
  return model;
}

std::vector<float> klt_by_channel(const KltWindows& windows, const KltLayout& layout,
                                  const std::vector<float>& vectors) {
  std::vector<float> basis(vectors.size());
  for (std::size_t k = 0; k < layout.columns; ++k) {
    for (std::size_t c = 0; c < windows.cols; ++c) basis[c * layout.columns + k] = vectors[k * windows.cols + c];
  }
  return basis;
}

std::vector<float> klt_by_vector(const KltWindows& windows, const KltLayout& layout, const std::vector<float>& basis) {
  std::vector<float> vectors(basis.size());
  for (std::size_t c = 0; c < windows.cols; ++c) {
    for (std::size_t k = 0; k < layout.columns; ++k) vectors[k * windows.cols + c] = basis[c * layout.columns + k];
  }
  return vectors;
}

}  // namespace kvzip
