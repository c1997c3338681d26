// SPDX-License-Identifier: Apache-2.0
#include "src/measure/page_ranking.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "codec/fail.hpp"
#include "codec/kernels/attention.hpp"
#include "codec/portable_math.hpp"
#include "formats/parallel.hpp"

namespace kvzip::tool {
namespace {

using kernels::kQueryTile, kernels::kTokenBlock;

constexpr double kLeast = -700;  // what is so far below the largest weight is none

double weight(double logit, double largest) {
  return logit - largest > kLeast ? portable::exp(logit - largest) : 0;
}

bool usable(std::span<const float> query) {
  return std::all_of(query.begin(), query.end(), [](float x) { return std::fabs(x) <= 1e30f; });
}

}  // namespace

const PageList& pages_of(const KvzPages& pages, const Asking& asking, const Asking::Layer& layer) {
  const HeadRows& keys = asking.layers().at(layer).keys[0];
  const PageList* list = pages.of(layer.first, layer.second);
  if (list == nullptr) fail(ErrorCode::invalid_argument, "its pages have none of layer {}", layer.first);
  if (list->heads != keys.heads || list->channels != keys.dims || list->tokens != keys.tokens) {
    fail(ErrorCode::corrupt,
         "its pages of layer {} are of {} heads, {} tokens and {} channels, its keys of {}, {} and {}", layer.first,
         list->heads, list->tokens, list->channels, keys.heads, keys.tokens, keys.dims);
  }
  return *list;
}

std::pair<std::uint64_t, std::uint64_t> pages_seen(std::span<const std::uint64_t> positions, std::uint64_t position,
                                                   std::uint64_t window, std::uint32_t page_tokens) {
  const std::uint64_t end = tokens_up_to(positions, position), past = tokens_past(positions, position, window);
  if (past == end) return {0, 0};
  return {past / page_tokens, (end + page_tokens - 1) / page_tokens};
}

std::vector<std::uint32_t> ranked(const std::vector<double>& scores) {
  std::vector<std::uint32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return scores[a] > scores[b]; });
  return order;
}

PageMasses::PageMasses(std::span<const float> queries, std::size_t dims, double scale,
                       std::span<const std::uint64_t> positions, std::uint64_t window, std::uint32_t page_tokens,
                       std::uint64_t pages)
    : dims_(dims),
      queries_(queries, dims, scale),
      positions_(positions.begin(), positions.end()),
      window_(window),
      page_tokens_(page_tokens),
      pages_(pages),
      sums_(positions.size() * pages) {}

void PageMasses::add(std::uint64_t first, std::span<const std::uint64_t> positions, std::span<const float> keys) {
  for (std::size_t t = 0; t < positions.size(); t += kTokenBlock) {
    const std::size_t some = std::min(kTokenBlock, positions.size() - t);
    add_block(first + t, positions.subspan(t, some), keys.data() + t * dims_);
  }
}

void PageMasses::add_block(std::uint64_t first, std::span<const std::uint64_t> positions, const float* keys) {
  Buffer<float> panels(kTokenBlock * dims_), logits(kQueryTile * kTokenBlock);
  kernels::pack_panels(keys, positions.size(), dims_, panels.data());
  for (std::size_t tile = 0; tile < queries_.tiles(); ++tile) {
    kernels::tile_logits(queries_.tile(tile), panels.data(), dims_, positions.size(), logits.data());
    for (std::size_t i = 0; i < kQueryTile; ++i) {
      const std::size_t query = tile * kQueryTile + i;
      if (query >= positions_.size() || !queries_.asks(query)) continue;
      const std::size_t past = tokens_past(positions, positions_[query], window_);
      const std::size_t end = tokens_up_to(positions, positions_[query]);
      add_logits(sums_.data() + query * pages_, first + past, logits.data() + i * kTokenBlock + past, end - past);
    }
  }
}

void PageMasses::add_logits(Sum* of_query, std::uint64_t first, const float* logits, std::size_t sees) const {
  for (std::size_t t = 0; t < sees; ++t) {
    const float s = logits[t];
    if (!(std::fabs(s) <= kernels::kLargestLogit)) continue;
    Sum& sum = of_query[(first + t) / page_tokens_];
    if (sum.z > 0 && s <= sum.m) {
      sum.z += weight(s, sum.m);
    } else {
      sum.z = (sum.z > 0 ? sum.z * weight(sum.m, s) : 0) + 1;
      sum.m = s;
    }
  }
}

std::vector<double> PageMasses::of(std::size_t query) const {
  const std::span<const Sum> sums = std::span(sums_).subspan(query * pages_, pages_);
  double largest = -kernels::kLargestLogit, all = 0;
  for (const Sum& sum : sums) {
    if (sum.z > 0) largest = std::max(largest, double{sum.m});
  }
  std::vector<double> out;
  for (const Sum& sum : sums) {
    out.push_back(sum.z > 0 ? sum.z * weight(sum.m, largest) : 0);
    all += out.back();
  }
  if (all == 0) return {};
  for (double& mass : out) mass /= all;
  return out;
}

PageRecall::PageRecall(std::uint64_t most_pages) {
  for (std::uint64_t n = 1; n < most_pages; n *= 2) rows.push_back({n, 0, {}});
  rows.push_back({most_pages, 0, {}});
}

void PageRecall::add(const std::vector<double>& masses, const std::array<std::vector<double>, 3>& bounds) {
  const auto seen = static_cast<double>(masses.size());
  for (std::size_t by = 0; by < kRankings.size(); ++by) {
    const std::vector<std::uint32_t> order = ranked(by < bounds.size() ? bounds[by] : masses);
    double held = 0;
    std::uint64_t taken = 0;
    for (Row& row : rows) {
      for (; taken < std::min<std::uint64_t>(row.pages, order.size()); ++taken) held += masses[order[taken]];
      row.recall[by] += held;
    }
  }
  for (Row& row : rows) row.share += std::min(static_cast<double>(row.pages), seen) / seen;
  ++queries;
}

void PageRecall::merge(const PageRecall& other) {
  queries += other.queries;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    rows[i].share += other.rows[i].share;
    for (std::size_t by = 0; by < kRankings.size(); ++by) rows[i].recall[by] += other.rows[i].recall[by];
  }
}

PageRecall PageRecall::means() const {
  PageRecall out = *this;
  for (Row& row : out.rows) {
    row.share /= static_cast<double>(queries);
    for (double& recall : row.recall) recall /= static_cast<double>(queries);
  }
  return out;
}

PageRecall page_recall(Asking& asking, const Asking::Layer& layer, const KvzPages& pages, std::uint64_t most_pages,
                       const RecallOptions& options) {
  const PageList& list = pages_of(pages, asking, layer);
  const Asked asked = asking.read(layer);
  const std::size_t group = asked.heads / list.heads;  // grouped queries, arXiv 2305.13245
  std::vector<PageMasses> masses;
  for (std::size_t j = 0; j < asked.heads; ++j) {
    masses.emplace_back(asked.head(j, list.channels), list.channels, options.scale, asked.positions,
                        asking.window(layer), pages.page_tokens, list.pages);
  }
  asking.for_each_piece(layer, false, [&](const Asking::Piece& piece) {
    parallel_for(masses.size(), options.threads, [&](std::size_t j) {
      const std::size_t each = piece.count * list.channels;
      masses[j].add(piece.first, asking.positions(layer, j / group, piece.first, piece.count),
                    std::span(piece.keys).subspan(j / group * each, each));
    });
  });
  std::vector<PageRecall> of_head(asked.heads, PageRecall(most_pages));
  parallel_for(asked.heads, options.threads, [&](std::size_t j) {
    const auto tokens = asking.positions(layer, j / group, 0, list.tokens);
    for (std::size_t i = 0; i < asked.positions.size(); ++i) {
      std::vector<double> held = masses[j].of(i);
      if (held.empty()) continue;
      const auto [first, end] = pages_seen(tokens, asked.positions[i], asking.window(layer), pages.page_tokens);
      held = std::vector(held.begin() + static_cast<std::ptrdiff_t>(first),
                         held.begin() + static_cast<std::ptrdiff_t>(end));
      std::array<std::vector<double>, 3> bounds;
      const auto query = asked.head(j, list.channels).subspan(i * list.channels, list.channels);
      for (std::uint64_t p = first; p < end; ++p) {
        bounds[0].push_back(page_bound(list, j / group, p, query, PageBy::box));
        bounds[1].push_back(page_bound(list, j / group, p, query, PageBy::sphere));
        bounds[2].push_back(std::min(bounds[0].back(), bounds[1].back()));
      }
      of_head[j].add(held, bounds);
    }
  });
  PageRecall out(most_pages);
  for (const PageRecall& head : of_head) out.merge(head);
  return out;
}

PageChoice::PageChoice(const PageList& list, std::uint64_t head, std::span<const float> queries,
                       std::size_t queries_count,
                       const std::function<std::pair<std::uint64_t, std::uint64_t>(std::size_t query)>& seen,
                       std::uint64_t top)
    : pages_(list.pages), chosen_(queries_count * list.pages), any_(list.pages) {
  std::vector<double> bounds;
  for (std::size_t i = 0; i < queries_count; ++i) {
    const auto query = queries.subspan(i * list.channels, list.channels);
    if (!usable(query)) continue;
    bounds.clear();
    const auto [first, end] = seen(i);
    for (std::uint64_t p = first; p < end; ++p) bounds.push_back(page_bound(list, head, p, query, PageBy::both));
    const std::vector<std::uint32_t> order = ranked(bounds);
    for (std::size_t r = 0; r < std::min<std::uint64_t>(top, order.size()); ++r) {
      chosen_[i * pages_ + first + order[r]] = true;
      any_[first + order[r]] = true;
    }
  }
}

bool PageChoice::any(std::uint64_t first, std::uint64_t last) const {
  return std::any_of(any_.begin() + static_cast<std::ptrdiff_t>(first),
                     any_.begin() + static_cast<std::ptrdiff_t>(last), [](bool b) { return b; });
}

}  // namespace kvzip::tool
