// SPDX-License-Identifier: Apache-2.0
#include <limits>

#include "codec/fail.hpp"
#include "codec/nearest.hpp"
#include "codec/number.hpp"
#include "formats/selection.hpp"

namespace kvzip {

Selection parse_selection(std::string_view layers, std::string_view tokens, std::string_view roles) {
  Selection selection;
  if (!layers.empty()) {
    const std::size_t dash = layers.find('-');
    const auto first = parse_number<std::uint32_t>(layers.substr(0, dash));
    const auto last = dash == layers.npos ? first : parse_number<std::uint32_t>(layers.substr(dash + 1));
    if (first && last && *first > *last) {
      fail(ErrorCode::invalid_argument, "layers '{}': the first comes after the last", layers);
    }
    if (!first || !last) {
      fail(ErrorCode::invalid_argument, "layers '{}': expected a layer or a range, for example 3 or 0-3", layers);
    }
    selection.layers = {*first, *last};
  }
  if (!tokens.empty()) {
    const std::size_t colon = tokens.find(':');
    const bool from_end = tokens.starts_with('-');
    const std::string_view from =
        tokens.substr(from_end ? 1 : 0, colon == tokens.npos ? colon : colon - (from_end ? 1 : 0));
    const std::string_view to = colon == tokens.npos ? std::string_view{} : tokens.substr(colon + 1);
    const auto first = from.empty() ? 0 : parse_number<std::uint64_t>(from);
    const auto last = to.empty() ? std::numeric_limits<std::uint64_t>::max() : parse_number<std::uint64_t>(to);
    const bool good = colon != tokens.npos && first && last && *first < *last;
    if (!good || (from_end && (!to.empty() || *first == 0))) {
      fail(ErrorCode::invalid_argument,
           "tokens '{}': expected FIRST:END with END not included, for example 0:256, :256 or 128:, or -10: for the "
           "last "
           "ten",
           tokens);
    }
    if (from_end) {
      selection.last_tokens = *first;
    } else {
      selection.tokens = {*first, *last};
    }
  }
  for (std::string_view rest = roles; !rest.empty();) {
    const std::size_t comma = rest.find(',');
    const auto role = parse_role(rest.substr(0, comma));
    if (!role || comma + 1 == rest.size()) {
      fail(ErrorCode::invalid_argument,
           "roles '{}': expected roles of key, value, query, kv, other, for example key,value{}", roles,
           did_you_mean(rest.substr(0, comma), role_words()));
    }
    selection.roles.push_back(*role);
    rest = comma == rest.npos ? std::string_view{} : rest.substr(comma + 1);
  }
  return selection;
}

}  // namespace kvzip
