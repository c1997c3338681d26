// SPDX-License-Identifier: Apache-2.0
// Which pages of a cache a query asks first by their digests, and how much of its attention these hold.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "src/measure/asking.hpp"
#include "src/measure/online_attention.hpp"
#include "src/measure/page_digests.hpp"

namespace kvzip::tool {

/// The digests of a layer that is asked; fail(corrupt) where they are of other keys than it has.
const PageList& pages_of(const KvzPages& pages, const Asking& asking, const Asking::Layer& layer);

/// The first page that holds a token which a query at this position sees, and the one behind the last, by the positions
/// of a head's tokens. `window`: how many positions it sees, its own among them; 0 = all up to its own.
std::pair<std::uint64_t, std::uint64_t> pages_seen(std::span<const std::uint64_t> positions, std::uint64_t position,
                                                   std::uint64_t window, std::uint32_t page_tokens);

/// Numbers of the `scores`, the largest first; of equal ones the first first.
std::vector<std::uint32_t> ranked(const std::vector<double>& scores);

/// Online attention weights, page by page: of one head's queries over tokens that come in pieces.
class PageMasses {
 public:
  PageMasses(std::span<const float> queries, std::size_t dims, double scale, std::span<const std::uint64_t> positions,
             std::uint64_t window, std::uint32_t page_tokens, std::uint64_t pages);
  /// The tokens from `first` on, at positions that ascend: tokens x dims keys.
  void add(std::uint64_t first, std::span<const std::uint64_t> positions, std::span<const float> keys);
  /// What a query takes of each page, of 1 in all; empty where it takes nothing.
  std::vector<double> of(std::size_t query) const;

 private:
  struct Sum {
    float m = 0;   // largest logit
    double z = 0;  // sum of exp(s - m); 0: none
  };
  void add_block(std::uint64_t first, std::span<const std::uint64_t> positions, const float* keys);
  void add_logits(Sum* of_query, std::uint64_t first, const float* logits, std::size_t sees) const;

  std::size_t dims_;
  QueryTiles queries_;
  std::vector<std::uint64_t> positions_;
  std::uint64_t window_;
  std::uint32_t page_tokens_;
  std::uint64_t pages_;
  std::vector<Sum> sums_;  // queries x pages
};

/// Means over queries of the share of attention that their first pages hold, by each ranking.
struct PageRecall {
  static constexpr std::array<const char*, 4> kRankings{"box", "sphere", "both", "best"};
  struct Row {
    std::uint64_t pages = 0;
    double share = 0;  // of the pages that a query sees
    std::array<double, kRankings.size()> recall{};
  };
  std::uint64_t queries = 0;
  std::vector<Row> rows;

  /// For 1, 2, 4 ... pages and for all.
  explicit PageRecall(std::uint64_t most_pages);
  /// A query's masses and bounds of the pages that it sees, best left out.
  void add(const std::vector<double>& masses, const std::array<std::vector<double>, 3>& bounds);
  void merge(const PageRecall& other);
  /// Sums become means.
  PageRecall means() const;
};

struct RecallOptions {
  double scale = 0;
  unsigned threads = 0;
};
/// Of one layer; `most_pages` as for all layers.
PageRecall page_recall(Asking& asking, const Asking::Layer& layer, const KvzPages& pages, std::uint64_t most_pages,
                       const RecallOptions& options);

/// Whether a query of one head takes a token: of its `top` pages by the smaller bound.
class PageChoice {
 public:
  PageChoice(const PageList& list, std::uint64_t head, std::span<const float> queries, std::size_t queries_count,
             const std::function<std::pair<std::uint64_t, std::uint64_t>(std::size_t query)>& seen, std::uint64_t top);
  bool takes(std::size_t query, std::uint64_t page) const { return chosen_[query * pages_ + page]; }
  /// Whether any query takes one of these pages.
  bool any(std::uint64_t first, std::uint64_t last) const;

 private:
  std::uint64_t pages_;
  std::vector<bool> chosen_;  // queries x pages
  std::vector<bool> any_;     // pages
};

}  // namespace kvzip::tool
