// SPDX-License-Identifier: Apache-2.0
// A part of a dump presented as a dump: some layers, a range of tokens, some roles.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/row_places.hpp"
#include "kvzip/io.hpp"

namespace kvzip {

struct Selection {
  std::optional<std::pair<std::uint32_t, std::uint32_t>> layers;  // first and last
  std::optional<std::pair<std::uint64_t, std::uint64_t>> tokens;  // first and one past the last
  std::optional<std::uint64_t> last_tokens{};                     // so many of the last ones, in place of `tokens`
  std::vector<Role> roles{};                                      // empty = all; pair = key and value

  bool empty() const { return !layers && !tokens && !last_tokens && roles.empty(); }
};

/// Reads texts of layers ("3", "0-3"), tokens ("0:256", ":256", "128:", and "-10:" for the last ten) and roles
/// ("key,value"); an empty text asks for nothing. fail(invalid_argument) on anything else.
Selection parse_selection(std::string_view layers, std::string_view tokens, std::string_view roles);

/// The selection with `tokens` in place of `last_tokens`.
Selection resolved(Selection selection, const RowPlaces& places);

/// Presents what the selection leaves of `inner`, without ever fetching a part of it that holds nothing of that.
/// - roles: tensors of other roles go; a pair of which one half is wanted keeps that half, with extent 1 or, in a
/// batch,
///   without the axis, and says in attributes `role` and `axes` what it is.
/// - layers: tensors with an axis L are cropped along it; of the rest those with a known layer in the range stay, and
///   role other if it is among `roles`.
/// - tokens: tensors with an axis T are cropped along it, by position where layers differ in length
///   (first_positions()), and go when they have none of the range; the rest stays whole.
/// Ranges are clipped to the tensors. fail(invalid_argument) when nothing is left. Without `last_tokens`.
/// The result's recognition() describes the reduced dump; model.layers stays that of the whole.
std::unique_ptr<DumpReader> select(std::unique_ptr<DumpReader> inner, const Recognition& recognition,
                                   const Selection& selection);

/// As select(), and tokens are positions by all that the dump says and holds (formats/row_places.hpp). What counts the
/// tokens of a prompt cache of MLX counts those that are left. fail(invalid_argument) where tokens would be cut from
/// what can only be taken whole, such as a ring.
std::unique_ptr<DumpReader> select_positions(std::unique_ptr<DumpReader> inner, const Recognition& recognition,
                                             const Selection& selection);

}  // namespace kvzip
