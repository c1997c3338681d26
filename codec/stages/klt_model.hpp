// SPDX-License-Identifier: Apache-2.0
// What klt fits to data, and its forms: the first streams of a tile, or a table.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "codec/side.hpp"
#include "codec/stages/klt_bits.hpp"

namespace kvzip {

/// `parts` windows of `cols` columns each, with at most `most` components.
struct KltWindows {
  std::uint32_t parts, cols, most;
};
/// A group of columns of the coefficients, which hold the coded components of all parts side by side.
struct KltCodedGroup {
  std::uint32_t size = 0, type = 0;    // place in kKltBits
  std::uint32_t column = 0, code = 0;  // first of its columns; the same among the codes of its type
};

/// What a tile is stored as, but for the codes.
struct KltLayout {
  std::vector<std::uint32_t> components, groups_of;  // of each part
  std::vector<KltCodedGroup> groups;
  std::uint32_t columns = 0;                            // of all groups
  std::array<std::uint32_t, kKltBits.size()> widths{};  // the same by type

  void add_part() {
    components.push_back(0);
    groups_of.push_back(0);
  }
  void add(std::uint32_t size, std::uint32_t type) {
    groups.push_back({size, type, columns, widths[type]});
    columns += size;
    widths[type] += size;
    components.back() += size;
    ++groups_of.back();
  }
};

/// What is fitted to data: the channels' means, the components, and their basis (channels x layout.columns).
struct KltModel {
  std::vector<float> mean, basis;
  KltLayout layout;
};

// The streams of a model, in their order. Reading takes from the other end what writing gave; a model's means are there
// before its components are known.
void pass_klt_means(StreamPort& port, TileShape shape, KltModel& model);
void pass_klt_basis(StreamPort& port, const KltWindows& windows, KltModel& model);

/// A table: u32 channels, u32 parts, and the data of the streams one after the other, as long as their shapes say.
Bytes klt_table(std::uint32_t channels, std::uint32_t parts, std::span<const Stream> streams);
/// fail(invalid_argument) unless the table is for so many channels in so many parts; `name` is for the message.
void check_klt_table(ByteView table, std::string_view name, std::uint32_t channels, std::uint32_t parts);
/// The model of a table for which check_klt_table() succeeds. Hostile.
KltModel model_of_klt_table(ByteView table, std::uint32_t channels, std::uint32_t parts);

/// Vectors of a part are `cols` long: from each in one piece to channels x columns, and back.
std::vector<float> klt_by_channel(const KltWindows& windows, const KltLayout& layout,
                                  const std::vector<float>& vectors);
std::vector<float> klt_by_vector(const KltWindows& windows, const KltLayout& layout, const std::vector<float>& basis);

}  // namespace kvzip
