// SPDX-License-Identifier: Apache-2.0
#include "src/measure/asking.hpp"

#include <algorithm>
#include <numeric>

#include "codec/fail.hpp"
#include "kvzip/container.hpp"

namespace kvzip::tool {

Asking::Asking(DumpReader& cache, const Recognition& recognition, const AskingOptions& options)
    : cache_(cache),
      rope_(recognition.model.rope),
      queries_per_head_(options.queries_per_head),
      heads_(find_heads(cache.dump(), recognition, 0)) {
  std::erase_if(heads_, [](const auto& layer) { return layer.second.keys.empty() && layer.second.values.empty(); });
  if (heads_.empty()) fail(ErrorCode::invalid_argument, "it holds no keys and values that queries could ask");
  if (options.queries.empty()) {
    queries_.emplace(cache, recognition);
    if (queries_->empty())
      fail(ErrorCode::invalid_argument, "it holds no queries, and no other file with some is given");
  } else {
    queries_.emplace(options.queries, options.recognise, rope_);
  }
  for (const auto& [layer, place] : heads_) check(layer, place);
  if (const KvzReader* container = cache_.traits().container; container != nullptr && !cache_.traits().once) {
    container->check_cost();  // before room is made for as many tokens as it claims
  }
  positions_ = TokenPositions(cache_, heads_, rope_.first_position, TokenPositions::Odd::refuse);
  rotary_ = rotary_of_keys(rope_, heads_, positions_, queries_->end_position());
}

void Asking::check(const Layer& layer, const LayerHeads& place) const {
  if (!pairs_up(place)) {
    fail(ErrorCode::invalid_argument,
         "layer {} has not one tensor of keys and one of values, of as many heads and tokens", layer.first);
  }
  const LayerQueries* rows = queries_->of(layer);
  if (rows == nullptr) fail_in(from(), ErrorCode::invalid_argument, "it has no queries of layer {}", layer.first);
  const HeadRows& keys = place.keys[0];
  if (rows->dims != keys.dims || rows->heads % keys.heads != 0) {
    fail_in(from(), ErrorCode::invalid_argument,
            "its queries of layer {} are {} heads of {}, which do not fit keys of {} heads of {}", layer.first,
            rows->heads, rows->dims, keys.heads, keys.dims);
  }
}

std::optional<Rotary> rotary_of_keys(const Rope& rope, const HeadMap& heads, const TokenPositions& positions,
                                     std::uint64_t end) {
  if (rope.state != Rope::State::pre) return std::nullopt;
  if (rope.theta == 0) {
    fail(ErrorCode::invalid_argument, "its keys are not rotated (rope=pre), and it does not say rope_theta");
  }
  std::uint64_t dims = 0;
  for (const auto& [layer, place] : heads) {
    if (place.keys.empty()) continue;
    end = std::max({end, rope.first_position + place.keys[0].tokens, positions.behind(place.keys[0].tokens)});
    dims = dims == 0 ? place.keys[0].dims : std::min(dims, place.keys[0].dims);
  }
  Rope resolved = rope;
  if (resolved.dims == 0) resolved.dims = static_cast<std::uint32_t>(std::min<std::uint64_t>(dims, 1u << 16));
  check_rotary(resolved, dims, end);
  return Rotary(resolved);
}

std::vector<std::uint64_t> Asking::chosen(const Layer& layer) const {
  return queries_->choose(*queries_->of(layer), rope_.first_position, queries_per_head_);
}

Asked Asking::read(const Layer& layer) {
  const LayerQueries& rows = *queries_->of(layer);
  const std::vector<std::uint64_t> tokens = chosen(layer);
  Asked out{queries_->read(rows, tokens, rotary_ ? &*rotary_ : nullptr), {}, rows.heads};
  for (const std::uint64_t token : tokens) out.positions.push_back(rows.first_position + token);
  return out;
}

void Asking::read_piece(const Layer& layer, bool values, Piece& piece) {
  const HeadRows &k = heads_.at(layer).keys[0], &v = heads_.at(layer).values[0];
  k.read(cache_, k.tensor, piece.first, piece.count, piece.keys);
  if (values) v.read(cache_, v.tensor, piece.first, piece.count, piece.values);
  for (std::uint64_t head = 0; rotary_ && head < k.heads; ++head) {
    positions_.turn(*rotary_, layer, head, piece.first, piece.count, k.dims,
                    piece.keys.data() + head * piece.count * k.dims);
  }
}

void Asking::for_each_piece(const Layer& layer, bool values, const std::function<void(Piece&)>& use) {
  const HeadRows &k = heads_.at(layer).keys[0], &v = heads_.at(layer).values[0];
  const std::uint64_t step =
      tokens_at_a_time(cache_.traits().chunk_tokens, k.heads * std::max(k.dims, v.dims), k.tokens);
  Piece piece;
  for (piece.first = 0; piece.first < k.tokens; piece.first += step) {
    piece.count = std::min(step, k.tokens - piece.first);
    read_piece(layer, values, piece);
    use(piece);
  }
}

void Asking::for_each_chunk(const Layer& layer, bool values, const Wants& wants,
                            const std::function<void(Piece&)>& use) {
  constexpr std::uint64_t kWhole = 128;  // tokens: sums do not depend on how a container is cut
  const std::uint64_t tokens = heads_.at(layer).keys[0].tokens;
  const std::uint64_t chunk = std::clamp<std::uint64_t>(cache_.traits().chunk_tokens, 1, tokens);
  const std::uint64_t step = std::min(std::lcm(chunk, kWhole), tokens);
  Piece piece;
  for (piece.first = 0; piece.first < tokens; piece.first += step) {
    piece.count = std::min(step, tokens - piece.first);
    if (!wants(piece.first, piece.count)) continue;
    read_piece(layer, values, piece);
    use(piece);
  }
}

}  // namespace kvzip::tool
