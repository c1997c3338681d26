// SPDX-License-Identifier: Apache-2.0
// "Did you mean": the known word that a mistyped one is nearest to.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace kvzip {

/// Of the known words the first that is at most two letters away, and less than half of the typed one's; empty when
/// none is.
std::string_view nearest(std::string_view typed, std::span<const std::string_view> known);
/// "; did you mean 'x'?", or nothing.
std::string did_you_mean(std::string_view typed, std::span<const std::string_view> known);

/// The roles of tensors, as people write them.
std::span<const std::string_view> role_words();

}  // namespace kvzip
