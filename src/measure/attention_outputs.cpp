// SPDX-License-Identifier: Apache-2.0
#include "src/measure/attention_outputs.hpp"

#include <algorithm>

#include "formats/parallel.hpp"
#include "src/measure/online_attention.hpp"

namespace kvzip::tool {
namespace {

/// Which pages each query head's queries take.
std::vector<PageChoice> choose(const Asking& asking, const Asking::Layer& layer, const Asked& asked,
                               const AttendOptions& options) {
  const PageList& list = pages_of(*options.pages, asking, layer);
  std::vector<PageChoice> out;
  for (std::size_t j = 0; j < asked.heads; ++j) {
    const std::size_t head = j / (asked.heads / list.heads);
    const auto tokens = asking.positions(layer, head, 0, list.tokens);
    const auto seen = [&](std::size_t i) {
      return pages_seen(tokens, asked.positions[i], asking.window(layer), options.pages->page_tokens);
    };
    out.emplace_back(list, head, asked.head(j, list.channels), asked.positions.size(), seen, options.top);
  }
  return out;
}

}  // namespace

AttentionOutputs attend(Asking& asking, const Asking::Layer& layer, const AttendOptions& options) {
  const Asked asked = asking.read(layer);
  const HeadRows &keys = asking.layers().at(layer).keys[0], &values = asking.layers().at(layer).values[0];
  std::vector<OnlineAttention> heads;
  for (std::size_t j = 0; j < asked.heads; ++j) {
    heads.emplace_back(OnlineAttention::Shape{keys.dims, values.dims, options.scale, asking.window(layer)},
                       asked.head(j, keys.dims), asked.positions);
  }
  AttentionOutputs out;
  std::vector<PageChoice> choice;
  const std::uint32_t page = options.pages == nullptr ? 1 : options.pages->page_tokens;
  const auto use = [&](const Asking::Piece& piece) {
    out.read += piece.count;
    parallel_for(heads.size(), options.threads, [&](std::size_t j) {
      const std::size_t head = j / (asked.heads / keys.heads);  // grouped queries, arXiv 2305.13245
      const OnlineAttention::Takes of_choice = [&](std::size_t query, std::size_t token) {
        return choice[j].takes(query, (piece.first + token) / page);
      };
      heads[j].add(asking.positions(layer, head, piece.first, piece.count),
                   std::span(piece.keys).subspan(head * piece.count * keys.dims, piece.count * keys.dims),
                   std::span(piece.values).subspan(head * piece.count * values.dims, piece.count * values.dims),
                   choice.empty() ? OnlineAttention::Takes() : of_choice);
    });
  };
  if (options.pages == nullptr) {
    asking.for_each_piece(layer, true, use);
  } else {
    choice = choose(asking, layer, asked, options);
    const auto wants = [&](std::uint64_t first, std::uint64_t count) {
      const std::uint64_t last = (first + count - 1) / page + 1;
      return std::any_of(choice.begin(), choice.end(), [&](const PageChoice& c) { return c.any(first / page, last); });
    };
    asking.for_each_chunk(layer, true, wants, use);
  }
  const std::size_t each = asked.positions.size() * values.dims;
  out.data.resize(heads.size() * each);
  for (std::size_t j = 0; j < heads.size(); ++j) {
    heads[j].outputs(std::span(out.data).subspan(j * each, each));
    out.left_out += heads[j].left_out();
  }
  return out;
}

}  // namespace kvzip::tool
