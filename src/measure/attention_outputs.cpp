// SPDX-License-Identifier: Apache-2.0
#include "src/measure/attention_outputs.hpp"

#include "formats/parallel.hpp"
#include "src/measure/online_attention.hpp"

namespace kvzip::tool {

AttentionOutputs attend(Asking& asking, const Asking::Layer& layer, const AttendOptions& options) {
  const Asked asked = asking.read(layer);
  const HeadRows &keys = asking.layers().at(layer).keys[0], &values = asking.layers().at(layer).values[0];
  std::vector<OnlineAttention> heads;
  for (std::size_t j = 0; j < asked.heads; ++j) {
    heads.emplace_back(OnlineAttention::Shape{keys.dims, values.dims, options.scale}, asked.head(j, keys.dims),
                       asked.positions);
  }
  asking.for_each_piece(layer, true, [&](const Asking::Piece& piece) {
    parallel_for(heads.size(), options.threads, [&](std::size_t j) {
      const std::size_t head = j / (asked.heads / keys.heads);  // grouped queries, arXiv 2305.13245
      heads[j].add(asking.positions(layer, head, piece.first, piece.count),
                   std::span(piece.keys).subspan(head * piece.count * keys.dims, piece.count * keys.dims),
                   std::span(piece.values).subspan(head * piece.count * values.dims, piece.count * values.dims));
    });
  });
  const std::size_t each = asked.positions.size() * values.dims;
  AttentionOutputs out{std::vector<float>(heads.size() * each), 0};
  for (std::size_t j = 0; j < heads.size(); ++j) {
    heads[j].outputs(std::span(out.data).subspan(j * each, each));
    out.left_out += heads[j].left_out();
  }
  return out;
}

}  // namespace kvzip::tool
