// SPDX-License-Identifier: Apache-2.0
#include "src/measure/asking.hpp"

#include <algorithm>
#include <numeric>

#include "codec/fail.hpp"
#include "formats/row_places.hpp"
#include "kvzip/container.hpp"

namespace kvzip::tool {

Asking::Asking(DumpReader& cache, const Recognition& recognition, const AskingOptions& options)
    : cache_(cache),
      model_(recognition.model),
      queries_per_head_(options.queries_per_head),
      heads_(find_heads(cache.dump(), recognition, 0)) {
  std::erase_if(heads_, [](const auto& layer) { return layer.second.keys.empty() && layer.second.values.empty(); });
  if (heads_.empty()) fail(ErrorCode::invalid_argument, "it holds no keys and values that queries could ask");
  if (options.queries.empty()) {
    queries_.emplace(cache, recognition);
    if (queries_->empty())
      fail(ErrorCode::invalid_argument, "it holds no queries, and no other file with some is given");
  } else {
    queries_.emplace(options.queries, options.recognise, model_.rope);
  }
  for (const auto& [layer, place] : heads_) check(layer, place);
  if (const KvzReader* container = cache_.traits().container; container != nullptr && !cache_.traits().once) {
    container->check_cost();  // before room is made for as many tokens as it claims
  }
  const RowPlaces places = row_places(cache, recognition);
  for (const auto& [layer, place] : heads_) {
    if (!is_mixed(places, cache.dump().tensors[place.keys[0].tensor].name)) continue;
    fail(ErrorCode::invalid_argument, "the rows of layer {} are not in the order of positions, as those of a full ring",
         layer.first);
  }
  positions_ = TokenPositions(cache_, heads_, model_.rope.first_position, TokenPositions::Odd::refuse, places.first);
  rotaries_ = rotaries_of_keys(model_, heads_, positions_, queries_->end_position());
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

std::map<std::uint32_t, Rotary> rotaries_of_keys(const ModelInfo& model, const HeadMap& heads,
                                                 const TokenPositions& positions, std::uint64_t end) {
  std::map<std::uint32_t, std::uint64_t> dims;
  for (const auto& [layer, place] : heads) {
    if (place.keys.empty() || model.attention(layer.first).rope.state != Rope::State::pre) continue;
    const HeadRows& keys = place.keys[0];
    end = std::max({end, positions.first_of(layer) + keys.tokens, positions.behind(keys.tokens)});
    std::uint64_t& least = dims.try_emplace(layer.first, keys.dims).first->second;
    least = std::min<std::uint64_t>(least, keys.dims);
  }
  std::map<std::uint32_t, Rotary> out;
  for (const auto& [layer, channels] : dims) {
    Rope rope = model.attention(layer).rope;
    if (rope.theta == 0) {
      fail(ErrorCode::invalid_argument, "its keys are not rotated (rope=pre), and it does not say rope_theta");
    }
    if (rope.dims == 0) rope.dims = static_cast<std::uint32_t>(std::min<std::uint64_t>(channels, 1u << 16));
    check_rotary(rope, channels, end);
    out.try_emplace(layer, rope);
  }
  return out;
}

const Rotary* Asking::rotary(const Layer& layer) const {
  const auto at = rotaries_.find(layer.first);
  return at == rotaries_.end() ? nullptr : &at->second;
}

std::vector<std::uint64_t> Asking::chosen(const Layer& layer) const {
  return queries_->choose(*queries_->of(layer), first_position(layer), queries_per_head_);
}

Asked Asking::read(const Layer& layer) {
  const LayerQueries& rows = *queries_->of(layer);
  const std::vector<std::uint64_t> tokens = chosen(layer);
  Asked out{queries_->read(rows, tokens, rotary(layer)), {}, rows.heads};
  for (const std::uint64_t token : tokens) out.positions.push_back(rows.position(token));
  return out;
}

void Asking::read_piece(const Layer& layer, bool values, Piece& piece) {
  const HeadRows &k = heads_.at(layer).keys[0], &v = heads_.at(layer).values[0];
  k.read(cache_, k.tensor, piece.first, piece.count, piece.keys);
  if (values) v.read(cache_, v.tensor, piece.first, piece.count, piece.values);
  const Rotary* turns = rotary(layer);
  for (std::uint64_t head = 0; turns != nullptr && head < k.heads; ++head) {
    positions_.turn(*turns, layer, head, piece.first, piece.count, k.dims,
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
