// SPDX-License-Identifier: Apache-2.0
#include "src/cli/order.hpp"

#include <array>

#include "codec/nearest.hpp"
#include "codec/number.hpp"
#include "kvzip/container.hpp"

namespace kvzip::tool {

std::uint64_t parse_order(const std::string& text) {
  constexpr std::string_view kToken = "token";
  if (text.empty() || text == "layer") return 0;
  if (text == kToken) return kTokensTogether;
  if (text.starts_with("token:")) {
    if (const auto tokens = parse_number<std::uint64_t>(std::string_view(text).substr(kToken.size() + 1), 1)) {
      return *tokens;
    }
  }
  constexpr std::array<std::string_view, 2> kWords{"layer", kToken};
  const std::string word = text.substr(0, text.find(':'));
  throw UsageError(fmt::format("--order {}: expected layer, token, or token:N for N tokens at a time{}", text,
                               word == kToken ? std::string() : did_you_mean(word, kWords)));
}

void add_order(CLI::App& app, std::string& order) {
  add_text(app, "--order", order, "layer|token[:N]", "what stands together in OUT (default: layer)");
}

}  // namespace kvzip::tool
