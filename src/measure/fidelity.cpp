// SPDX-License-Identifier: Apache-2.0
#include "src/measure/fidelity.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <set>
#include <unordered_map>

#include "codec/fail.hpp"
#include "formats/row_places.hpp"
#include "src/measure/fidelity_layer.hpp"

namespace kvzip::tool {
namespace {

void add_remark(std::string& note, const std::string& text) {
  if (!text.empty()) note += fmt::format("{}{}", note.empty() ? "" : "; ", text);
}

}  // namespace

struct FidelityMeter::Parts : FidelitySetup {
  std::uint64_t bytes = 0;  // of keys and values
  std::string note;

  Parts(DumpReader& reader, const Recognition& recognition, const FidelityOptions& o);
  void remark(const std::string& text) { add_remark(note, text); }
  void open_sets(const Recognition& recognition);
  void place_rows(const RowPlaces& places);
  void choose_split();
  void note_unasked();
  void check_fit(const QuerySet& set) const;
  void choose_rotation();
  std::vector<std::size_t> match(const Dump& decoded) const;
};

FidelityMeter::Parts::Parts(DumpReader& reader, const Recognition& recognition, const FidelityOptions& o)
    : FidelitySetup{reader, o, recognition.model, find_heads(reader.dump(), recognition, 0), {}, {}, {}, {}, {}} {
  std::erase_if(heads, [](const auto& layer) { return layer.second.keys.empty() && layer.second.values.empty(); });
  place_rows(row_places(reader, recognition));
  open_sets(recognition);
  choose_split();
  note_unasked();
  for (const QuerySet& set : sets) check_fit(set);
  choose_rotation();
}

/// Where rows stand in the sequence, and which are padding.
void FidelityMeter::Parts::place_rows(const RowPlaces& places) {
  const std::vector<TensorInfo>& tensors = original.dump().tensors;
  positions = TokenPositions(original, heads, first_position(), TokenPositions::Odd::ignore, places.first);
  for (auto& [layer, place] : heads) {
    std::uint64_t used = 0;
    for (const auto* list : {&place.keys, &place.values}) {
      for (const HeadRows& rows : *list) used = std::max(used, places.rows[rows.tensor]);
    }
    for (auto* list : {&place.keys, &place.values}) {
      for (HeadRows& rows : *list) {
        if (used > 0) rows.tokens = std::min(rows.tokens, used);
        tokens = std::max(tokens, places.first[rows.tensor] + rows.tokens);
        bytes += rows.heads * rows.tokens * rows.dims * dtype_unit(tensors[rows.tensor].dtype);
      }
    }
    if (!pairs_up(place) || !is_mixed(places, tensors[place.keys[0].tensor].name)) continue;
    const std::uint64_t turn = places.turn[place.keys[0].tensor];
    turn > 0 ? void(turns.emplace(layer, turn)) : void(mixed.insert(layer));
  }
}

/// Layers that pair up and are not asked all the same.
void FidelityMeter::Parts::note_unasked() {
  std::set<std::uint32_t> rings, late;
  for (const auto& [layer, place] : heads) {
    if (mixed.contains(layer)) {
      rings.insert(layer.first);
    } else if (pairs_up(place) && split_row(layer) == 0) {
      late.insert(layer.first);
    }
  }
  if (!rings.empty()) remark(fmt::format("rows of layers {} are not in the order of positions", fmt::join(rings, ",")));
  if (!late.empty()) remark(fmt::format("layers {} have no token before {}", fmt::join(late, ","), split));
}

void FidelityMeter::Parts::open_sets(const Recognition& recognition) {
  if (options.queries.empty()) {
    QuerySet own(original, recognition);
    if (!own.empty()) sets.push_back(std::move(own));
  } else {
    sets.emplace_back(options.queries, options.recognise, model.rope);
  }
  if (!options.queries2.empty()) {
    if (sets.empty()) fail(ErrorCode::invalid_argument, "a second set of queries needs a first: give --queries");
    sets.emplace_back(options.queries2, options.recognise, model.rope);
  }
  for (const QuerySet& set : sets) remark(set.note());
}

/// What the reference model does (kvmodel.py eval): it has read the cache, goes on, and from the split on sees its own
/// keys and values.
void FidelityMeter::Parts::choose_split() {
  if (options.split) {
    if (*options.split > tokens) {
      fail(ErrorCode::invalid_argument, "--split {}: the cache has {} tokens", *options.split, tokens);
    }
    if (*options.split == 0) {
      fail(ErrorCode::invalid_argument, "--split 0: no token would be decoded, and nothing measured");
    }
    split = *options.split;
    return;
  }
  if (tokens < 2 && options.queries.empty() && !sets.empty()) {
    sets.clear();
    remark("of one token there is no query that sees a decoded one");
  }
  const auto after = [&](const QuerySet& set) { return set.first_position() >= positions.behind(tokens); };
  const bool all = !sets.empty() && std::all_of(sets.begin(), sets.end(), after);
  split = all || tokens < 2 ? tokens : tokens / 4 * 3 + tokens % 4 * 3 / 4;
}

void FidelityMeter::Parts::check_fit(const QuerySet& set) const {
  bool any = heads.empty();
  if (!any && std::none_of(heads.begin(), heads.end(), [](const auto& layer) { return pairs_up(layer.second); })) {
    fail(ErrorCode::invalid_argument,
         "queries ask keys and values together, and no layer has one tensor of each, of as many heads and tokens");
  }
  for (const auto& [layer, place] : heads) {
    const LayerQueries* rows = set.of(layer);
    if (rows == nullptr || !pairs_up(place)) continue;
    const HeadRows& keys = place.keys[0];
    if (rows->dims != keys.dims || rows->heads % keys.heads != 0) {
      fail_in(set.from(), ErrorCode::invalid_argument,
              "its queries of layer {} are {} heads of {}, which do not fit keys of {} heads of {}", layer.first,
              rows->heads, rows->dims, keys.heads, keys.dims);
    }
    any = any || !set.choose(*rows, split_position(), 1).empty();
  }
  if (!any) {
    fail_in(
        set.from(), ErrorCode::invalid_argument,
        "no query of it is of one of the cache\'s layers and at position {} or later; a smaller split begins earlier",
        split_position());
  }
}

/// Keys that are stored before rotation are rotated while measuring, and so are their queries.
void FidelityMeter::Parts::choose_rotation() {
  std::uint64_t end = positions.behind(tokens);
  for (const QuerySet& set : sets) end = std::max(end, set.end_position());
  bool unknown = false;
  for (const auto& [layer, place] : heads) {
    Rope rope = model.attention(layer.first).rope;
    if (rope.state != Rope::State::pre || place.keys.empty()) continue;
    if (rope.theta == 0) {
      unknown = true;
      continue;
    }
    std::uint64_t dims = place.keys[0].dims;
    for (const HeadRows& rows : place.keys) dims = std::min(dims, rows.dims);
    if (rope.dims == 0) rope.dims = static_cast<std::uint32_t>(std::min<std::uint64_t>(dims, 1u << 16));
    check_rotary(rope, dims, end);
    rotary.try_emplace(layer.first, rope);
  }
  if (!unknown) return;
  if (!sets.empty()) {
    fail(ErrorCode::invalid_argument, "its keys are not rotated (rope=pre), and it does not say rope_theta");
  }
  remark("keys are compared without rotation: rope_theta is missing");
}

/// Each key or value tensor's place in the other dump.
std::vector<std::size_t> FidelityMeter::Parts::match(const Dump& decoded) const {
  std::unordered_map<std::string_view, std::size_t> places;
  for (std::size_t i = 0; i < decoded.tensors.size(); ++i) places.emplace(decoded.tensors[i].name, i);
  std::vector<std::size_t> twins(original.dump().tensors.size());
  for (const auto& [layer, place] : heads) {
    for (const auto* list : {&place.keys, &place.values}) {
      for (const HeadRows& rows : *list) {
        const TensorInfo& info = original.dump().tensors[rows.tensor];
        const std::size_t axis = rows.axes.find('T');
        const auto found = places.find(info.name);
        const std::uint64_t least = std::min(split_row(layer), info.shape[axis]);
        if (found == places.end() && least == 0) {
          twins[rows.tensor] = kNoTwin;
          continue;
        }
        if (found == places.end()) fail(ErrorCode::invalid_argument, "tensor {} is missing", info.name);
        const TensorInfo& twin = decoded.tensors[found->second];
        std::vector<std::uint64_t> shape = twin.shape;
        const bool reaches =
            shape.size() == info.shape.size() && shape[axis] <= info.shape[axis] && shape[axis] >= least;
        if (reaches) shape[axis] = info.shape[axis];
        if (shape != info.shape || !is_codable_float(twin.dtype)) {
          fail(ErrorCode::invalid_argument, "tensor {} is {} [{}] and not [{}] as in the original", info.name,
               dtype_name(twin.dtype), fmt::join(twin.shape, ", "), fmt::join(info.shape, ", "));
        }
        twins[rows.tensor] = found->second;
      }
    }
  }
  return twins;
}

FidelityMeter::FidelityMeter(DumpReader& original, const Recognition& recognition, const FidelityOptions& options)
    : parts_(std::make_unique<Parts>(original, recognition, options)) {}
FidelityMeter::~FidelityMeter() = default;

std::uint64_t FidelityMeter::tokens() const {
  return parts_->tokens;
}
std::uint64_t FidelityMeter::split() const {
  return parts_->split;
}
bool FidelityMeter::has_queries() const {
  return !parts_->sets.empty();
}

Fidelity FidelityMeter::measure(DumpReader& decoded, const Progress& progress) {
  Parts& p = *parts_;
  const std::vector<std::size_t> twins = p.match(decoded.dump());
  Fidelity out;
  out.tokens = p.tokens;
  out.split = p.split;
  out.note = p.note;
  if (!p.sets.empty()) out.queries_from = p.sets[0].from();
  std::vector<HeadFidelity> all;
  std::uint64_t done = 0, left_out = 0, without = 0;
  for (const auto& [layer, place] : p.heads) {
    LayerRun run(p, decoded, twins, progress, done, p.bytes);
    LayerFidelity& one = out.layers.emplace_back(LayerFidelity{layer.first, layer.second, run.run(layer, place), {}});
    done = run.done();
    out.queries = std::max(out.queries, run.queries()[0]);
    out.queries2 = std::max(out.queries2, run.queries()[1]);
    one.all = summarise(one.heads);
    if (!one.all.attention && !p.sets.empty()) ++without;
    if (!pairs_up(place) && p.sets.empty()) ++without;
    left_out += run.left_out();
    all.insert(all.end(), one.heads.begin(), one.heads.end());
  }
  out.all = summarise(all);
  if (without > 0) add_remark(out.note, fmt::format("{} layers have no attention to measure", without));
  if (left_out > 0) {
    add_remark(out.note, fmt::format("{} pairs of a query and a token are left out: not finite", left_out));
  }
  return out;
}

}  // namespace kvzip::tool
