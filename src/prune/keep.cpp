// SPDX-License-Identifier: Apache-2.0
#include "src/prune/keep.hpp"

#include <algorithm>

#include "codec/fail.hpp"

namespace kvzip::tool {

std::vector<std::uint64_t> choose_tokens(std::span<const double> scores, const Budget& budget) {
  const std::uint64_t tokens = scores.size(), middle_end = tokens - budget.window;
  std::vector<std::uint64_t> middle, out;
  for (std::uint64_t t = budget.sinks; t < middle_end; ++t) middle.push_back(t);
  const std::uint64_t wanted = budget.tokens - budget.sinks - budget.window;
  std::stable_sort(middle.begin(), middle.end(), [&](auto a, auto b) { return scores[a] > scores[b]; });
  middle.resize(std::min<std::uint64_t>(wanted, middle.size()));
  std::sort(middle.begin(), middle.end());
  for (std::uint64_t t = 0; t < budget.sinks; ++t) out.push_back(t);
  out.insert(out.end(), middle.begin(), middle.end());
  for (std::uint64_t t = middle_end; t < tokens; ++t) out.push_back(t);
  return out;
}

std::uint64_t common_tokens(const HeadMap& heads) {
  std::optional<std::uint64_t> tokens;
  for (const auto& [layer, place] : heads) {
    for (const auto* list : {&place.keys, &place.values}) {
      for (const HeadRows& rows : *list) {
        if (tokens && *tokens != rows.tokens) {
          fail(ErrorCode::invalid_argument, "layer {} has {} tokens and another layer or role {}: none can be left out",
               layer.first, rows.tokens, *tokens);
        }
        tokens = rows.tokens;
      }
    }
  }
  if (!tokens) fail(ErrorCode::invalid_argument, "it holds no keys and no values of which tokens could be left out");
  return *tokens;
}

std::map<Kept::Place, std::vector<double>> add_scores(const std::map<Asking::Layer, LayerScores>& scores, KeepBy by) {
  std::map<Kept::Place, std::vector<double>> sums;
  for (const auto& [layer, heads] : scores) {
    for (std::size_t head = 0; head < heads.size(); ++head) {
      auto& sum = sums[Kept::place(by, layer.second, layer.first, head)];
      sum.resize(heads[head].size());
      for (std::size_t t = 0; t < sum.size(); ++t) sum[t] += heads[head][t];
    }
  }
  return sums;
}

Kept keep_by_scores(const std::map<Asking::Layer, LayerScores>& scores, KeepBy by, const Budget& budget) {
  Kept out{by, budget.tokens, {}};
  for (const auto& [place, sum] : add_scores(scores, by)) out.lists.emplace(place, choose_tokens(sum, budget));
  return out;
}

Kept keep_same(const HeadMap& heads, const std::vector<std::uint64_t>& tokens) {
  Kept out{KeepBy::sequence, tokens.size(), {}};
  for (const auto& [layer, place] : heads) out.lists[{layer.second, 0, 0}] = tokens;
  return out;
}

std::vector<std::uint64_t> parse_mask(std::string_view text, std::uint64_t tokens) {
  std::vector<std::uint64_t> out;
  std::uint64_t token = 0;
  for (const char c : text) {
    if (c == ' ' || c == '\n' || c == '\r' || c == '\t') continue;
    if (c != '0' && c != '1') fail(ErrorCode::invalid_argument, "a mask is 0s and 1s; digit {} is neither", token + 1);
    if (c == '1') out.push_back(token);
    ++token;
  }
  if (token != tokens) fail(ErrorCode::invalid_argument, "the mask is of {} tokens, the cache of {}", token, tokens);
  return out;
}

}  // namespace kvzip::tool
