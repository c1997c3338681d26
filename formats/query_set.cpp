// SPDX-License-Identifier: Apache-2.0
#include "formats/query_set.hpp"

#include <algorithm>
#include <optional>

#include "codec/fail.hpp"
#include "formats/row_places.hpp"
#include "formats/settle_axes.hpp"
#include "formats/token_positions.hpp"
#include "formats/used_rows.hpp"

namespace kvzip {
namespace {

std::string_view state_text(Rope::State state) {
  switch (state) {
    case Rope::State::none:
      return "of a model without rotary embedding (rope=none)";
    case Rope::State::pre:
      return "not rotated (rope=pre)";
    case Rope::State::post:
      return "rotated (rope=post)";
    case Rope::State::unknown:
      break;
  }
  return "of unknown rotation";
}

}  // namespace

std::vector<std::uint64_t> spread(std::uint64_t first, std::uint64_t end, std::uint64_t n) {
  const std::uint64_t all = end > first ? end - first : 0;
  if (n == 0 || n > all) n = all;
  std::vector<std::uint64_t> out;
  for (std::uint64_t j = 0; j < n; ++j) {
    // (2j + 1) all / 2n without a product that could wrap.
    const std::uint64_t whole = all / n, rest = all % n;
    out.push_back(first + j * whole + whole / 2 + ((2 * j + 1) * rest + (whole % 2) * n) / (2 * n));
  }
  return out;
}

QuerySet::QuerySet(DumpReader& own, const Recognition& recognition) : reader_(&own), from_("the dump") {
  find(recognition);
  if (recognition.model.rope.state == Rope::State::unknown && !empty()) {
    note_ = "the dump does not say whether keys and queries are rotated: they are taken as they are";
  }
}

QuerySet::QuerySet(const std::string& path, const RecogniseOptions& options, const Rope& keys)
    : other_(true), from_(path) {
  in_file(path, [&] {
    file_ = open_reader(path);
    reader_ = file_.get();
    open(options, keys);
  });
}

QuerySet::QuerySet(DumpReader& other, std::string name, const RecogniseOptions& options, const Rope& keys)
    : reader_(&other), other_(true), from_(std::move(name)) {
  in_file(from_, [&] { open(options, keys); });
}

void QuerySet::open(const RecogniseOptions& options, const Rope& keys) {
  const Recognition found = recognise_with_values(*reader_, options);
  find(found);
  if (empty()) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("none of its {} tensors is recognised as queries", found.tensors.size()), Hint::map);
  }
  const Rope::State state = found.model.rope.state;
  if (state == Rope::State::unknown || keys.state == Rope::State::unknown) {
    note_ =
        fmt::format("{}: whether keys and queries are rotated alike is not known: they are taken as they are", from_);
  } else if (state != keys.state) {
    fail(ErrorCode::invalid_argument, "its queries are {}, but the keys of the cache are {}", state_text(state),
         state_text(keys.state));
  }
}

void QuerySet::find(const Recognition& recognition) {
  const HeadMap all = find_heads(reader_->dump(), recognition, 0);
  std::optional<RowPlaces> places;  // looked for where a layer has queries of some of its tokens
  for (const auto& [layer, heads] : all) {
    if (heads.queries.empty()) continue;
    if (heads.queries.size() > 1) {
      fail(ErrorCode::invalid_argument, "{} and {} are both queries of layer {}",
           reader_->dump().tensors[heads.queries[0].tensor].name, reader_->dump().tensors[heads.queries[1].tensor].name,
           layer.first);
    }
    HeadRows rows = heads.queries[0];
    const bool looks = !reader_->traits().once;
    const std::uint64_t used = looks ? used_tokens(*reader_, rows.tensor, rows.axes, rows.fixed) : 0;
    if (used != 0) rows.tokens = used;  // padding asks nothing
    std::uint64_t tokens = heads.keys.empty() ? 0 : heads.keys[0].tokens;
    if (tokens != 0 && tokens != rows.tokens) {
      if (!places) places = row_places(*reader_, recognition);
      const std::size_t keys = heads.keys[0].tensor;
      tokens = places->first[keys] + places->rows[keys];
    }
    const std::uint64_t before = tokens > rows.tokens ? tokens - rows.tokens : 0;
    layers_.emplace(layer, LayerQueries{rows, recognition.model.rope.first_position + before});
  }
  if (!other_ && !layers_.empty() && !reader_->traits().once) place(all, recognition.model.rope.first_position);
}

/// Says where queries of a dump stand that tokens were left out of.
void QuerySet::place(const HeadMap& heads, std::uint64_t first) {
  const TokenPositions positions(*reader_, heads, first, TokenPositions::Odd::ignore);
  if (!positions.stored()) return;
  for (const auto& [layer, place] : heads) {
    const auto found = layers_.find(layer);
    if (found == layers_.end() || !pairs_up(place)) continue;
    LayerQueries& queries = found->second;
    const HeadRows& keys = place.keys[0];
    const std::vector<std::uint64_t> list = positions.of(layer, 0, 0, keys.tokens);
    bool known = queries.tokens <= keys.tokens;
    for (std::uint64_t head = 1; known && head < keys.heads; ++head)
      known = positions.of(layer, head, 0, keys.tokens) == list;
    if (known) {
      queries.kept.assign(list.end() - static_cast<std::ptrdiff_t>(queries.tokens), list.end());
    } else {
      layers_.erase(found);
    }
  }
}

std::uint64_t QuerySet::first_position() const {
  std::uint64_t first = ~std::uint64_t{0};
  for (const auto& [layer, rows] : layers_) first = std::min(first, rows.position(0));
  return first;
}

std::uint64_t QuerySet::end_position() const {
  std::uint64_t end = 0;
  for (const auto& [layer, rows] : layers_)
    end = std::max(end, rows.kept.empty() ? rows.first_position + rows.tokens : rows.kept.back() + 1);
  return end;
}

const LayerQueries* QuerySet::of(std::pair<std::uint32_t, std::uint64_t> layer) const {
  const auto found = layers_.find(layer);
  return found == layers_.end() ? nullptr : &found->second;
}

std::vector<std::uint64_t> QuerySet::choose(const LayerQueries& rows, std::uint64_t position, std::uint64_t n) const {
  std::uint64_t first = position > rows.first_position ? position - rows.first_position : 0;
  if (!rows.kept.empty()) {
    const auto from = std::lower_bound(rows.kept.begin(), rows.kept.end(), position);
    first = static_cast<std::uint64_t>(from - rows.kept.begin());
  }
  return spread(std::min(first, rows.tokens), rows.tokens, n);
}

std::vector<float> QuerySet::read(const LayerQueries& rows, const std::vector<std::uint64_t>& chosen,
                                  const Rotary* rotary) {
  const auto read = [&] { return rows.pick(*reader_, rows.tensor, chosen); };
  std::vector<float> out = other_ ? in_file(from_, read) : read();
  for (std::size_t i = 0; rotary != nullptr && i < rows.heads * chosen.size(); ++i) {
    rotary->turn(rows.position(chosen[i % chosen.size()]), 1, 1, 1, rows.dims, out.data() + i * rows.dims);
  }
  return out;
}

}  // namespace kvzip
