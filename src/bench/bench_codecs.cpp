// SPDX-License-Identifier: Apache-2.0
#include "src/bench/bench_codecs.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "codec/fail.hpp"
#include "codec/stage_clock.hpp"
#include "formats/file.hpp"
#include "formats/kvz/kvz.hpp"
#include "formats/kvz/tile_saliency.hpp"
#include "kvzip/container.hpp"

namespace kvzip::tool {
namespace {

constexpr std::size_t kUnused = static_cast<std::size_t>(-1);

template <typename Row>
std::string name_of(std::span<const Row> table, unsigned id) {
  const auto row = std::find_if(table.begin(), table.end(), [&](const auto& r) { return r.id == id; });
  return std::string(row->name);
}

/// Names of the clock's steps for a pipeline; empty where it has none.
std::vector<std::string> step_names(const Pipeline& pipeline) {
  const Pipeline::Ids ids = pipeline.ids();
  std::vector<std::string> names(StageClock::kSteps);
  for (std::size_t i = 0; i < ids.stages.size(); ++i) names[i] = name_of(stage_table(), ids.stages[i]);
  names[StageClock::kCoder] = name_of(coder_table(), ids.coder);
  if (!pipeline.exact()) names[StageClock::kConvert] = "convert";
  names[StageClock::kFrame] = "frame";
  return names;
}

KvzOptions fitted(DumpReader& reader, const Recognition& recognition, KvzOptions options) {
  fit_options(reader, recognition, options, 0);
  return options;
}

}  // namespace

std::vector<Bytes> read_tensors(DumpReader& reader) {
  std::vector<Bytes> out;
  const Dump& dump = reader.dump();
  for (std::size_t t = 0; t < dump.tensors.size(); ++t) {
    const TensorInfo& info = dump.tensors[t];
    const std::vector<std::uint64_t> shape = slice_shape(info);
    Bytes& bytes = out.emplace_back(info.bytes());
    if (!bytes.empty()) reader.read({t, std::vector<std::uint64_t>(shape.size(), 0), shape}, bytes);
  }
  return out;
}

TiledDump::TiledDump(DumpReader& reader, const Recognition& recognition, RuleSet rules,
                     std::optional<std::uint64_t> chunk_tokens)
    : dump_(reader.dump()),
      recognition_(recognition),
      options_(fitted(reader, recognition, {std::move(rules), chunk_tokens, {}})),
      plan_(make_plan(dump_, recognition_, options_.rules, chunk_tokens, &options_.tables, options_.used_tokens)) {
  std::optional<Saliency> saliency;
  if (weighs(options_.rules)) saliency = measure_saliency(reader, recognition_);
  for (std::uint64_t p = 0; p < plan_.parts; ++p) {
    Part part = plan_.part(dump_, p);
    for (const Slice& slice : part.slices) {
      Bytes& data = part.data.emplace_back(slice.elements() * slice_unit(dump_.tensors[slice.tensor]));
      reader.read(slice, data);
    }
    add_tiles(part, saliency ? &*saliency : nullptr);
  }
  find_steps();
}

/// The frames of a part, which lie one above the other in it.
void TiledDump::add_tiles(const Part& part, const Saliency* saliency) {
  const PlanGroup& group = plan_.group(part);
  const Buffer<std::byte> elements = gather_tile(plan_, dump_, part);
  const auto [first, last] = plan_.frames_of(part);
  ByteView rest(elements);
  for (std::uint64_t f = first; f < last; ++f) {
    const TileShape shape = plan_.shape(dump_, group, f);
    const ByteView rows = rest.first(std::size_t{shape.rows} * shape.cols * dtype_unit(group.context.source));
    rest = rest.subspan(rows.size());
    tiles_.push_back({part.group, f == first, shape, Bytes(rows.begin(), rows.end()), {}});
    if (saliency != nullptr) tiles_.back().saliency = tile_saliency(*saliency, group, shape);
  }
}

void TiledDump::find_steps() {
  // Pipelines of a role differ by layer and by what they took from the data; steps of one name are counted together, in
  // the order of the longest pipeline.
  struct Found {
    std::size_t rank = 0;
    std::vector<std::pair<std::size_t, std::size_t>> places;  // group, step of the clock
  };
  std::map<std::pair<Role, std::string>, Found> found;
  for (std::size_t g = 0; g < plan_.groups.size(); ++g) {
    const std::vector<std::string> names = step_names(plan_.pipelines[plan_.groups[g].pipeline]);
    for (std::size_t s = 0; s < names.size(); ++s) {
      if (names[s].empty()) continue;
      Found& one = found[{plan_.groups[g].context.role, names[s]}];
      one.rank = std::max(one.rank, s == StageClock::kConvert ? 0 : 1 + s);
      one.places.emplace_back(g, s);
    }
  }
  using Entry = std::pair<const std::pair<Role, std::string>, Found>;
  std::vector<const Entry*> order;
  for (const Entry& entry : found) order.push_back(&entry);
  std::sort(order.begin(), order.end(), [](const Entry* a, const Entry* b) {
    return std::tie(a->first.first, a->second.rank) < std::tie(b->first.first, b->second.rank);
  });
  step_of_.assign(plan_.groups.size(), std::vector<std::size_t>(StageClock::kSteps, kUnused));
  for (const Entry* entry : order) {
    for (const auto& [g, s] : entry->second.places) step_of_[g][s] = steps_.size();
    steps_.push_back({entry->first.first, entry->first.second, 0});
  }
  for (std::size_t i = 0; i < tiles_.size(); ++i) {
    const std::vector<std::size_t>& steps = step_of_[tiles_[i].group];
    for (const std::size_t step : std::set<std::size_t>(steps.begin(), steps.end())) {
      if (step != kUnused) steps_[step].bytes += tiles_[i].elements.size();
    }
  }
}

std::string TiledDump::piece_name(std::size_t piece) const {
  const PlanGroup& group = group_of(piece);
  const std::string& tensor = dump_.tensors[group.slots[0].tensor].name;
  if (!group.tiled) return fmt::format("preset {}, tensor {}", options_.rules.name, tensor);
  const TileShape& shape = tiles_[piece].shape;
  return fmt::format("preset {}, tensor {}, tokens {}-{}", options_.rules.name, tensor, shape.first_token,
                     shape.first_token + shape.rows - 1);
}

std::vector<std::uint64_t> TiledDump::step_bytes() const {
  std::vector<std::uint64_t> bytes;
  for (const Step& step : steps_) bytes.push_back(step.bytes);
  return bytes;
}

void TiledDump::add_times(std::size_t piece, const StageClock& clock, std::span<double> steps) const {
  const std::size_t g = tiles_[piece].group;
  for (std::size_t s = 0; s < StageClock::kSteps; ++s) {
    if (step_of_[g][s] != kUnused) steps[step_of_[g][s]] += static_cast<double>(clock.nanoseconds[s]) * 1e-9;
  }
}

ByteView TiledDump::encode(std::size_t piece, std::span<double> steps) {
  StageClock clock;
  const Tile& tile = tiles_[piece];
  const TileContext& context = group_of(piece).context;
  if (tile.first) encoding_ = pipeline(piece).begin_chain();
  coded_ = pipeline(piece).encode(context, tile.shape, tile.elements, &encoding_, &clock, tile.saliency);
  if (pipeline(piece).chained()) {
    // The next frame is coded after what this one decodes to, which is a part of the work of coding it.
    decoded_.resize(tile.elements.size());
    pipeline(piece).decode(context, tile.shape, coded_, decoded_, &encoding_, &clock);
  }
  add_times(piece, clock, steps);
  return coded_;
}

void TiledDump::decode(std::size_t piece, ByteView coded, std::span<std::byte> out, std::span<double> steps) {
  StageClock clock;
  if (tiles_[piece].first) decoding_ = pipeline(piece).begin_chain();
  pipeline(piece).decode(group_of(piece).context, tiles_[piece].shape, coded, out, &decoding_, &clock);
  add_times(piece, clock, steps);
}

Errors TiledDump::errors(const std::vector<Bytes>& decoded) const {
  KeyValueErrors all;
  for (std::size_t i = 0; i < tiles_.size(); ++i) {
    const PlanGroup& group = group_of(i);
    const Role role = group.context.role;
    if (!group.tiled || role == Role::query || role == Role::other) continue;
    const KeyValueErrors one = tile_errors(group.context, tiles_[i].shape, tiles_[i].elements, decoded[i]);
    for (std::size_t side = 0; side < all.size(); ++side) all[side].merge(one[side]);
  }
  const auto nrmse = [](const Distortion& d) { return d.values() > 0 ? std::optional(d.nrmse()) : std::nullopt; };
  return {nrmse(all[0]), nrmse(all[1])};
}

std::uint64_t TiledDump::file_bytes(std::vector<Bytes>& coded, const std::vector<Bytes>& decoded) const {
  const TemporaryFile file(temporary_directory() + "/bench");
  const auto writer = create_kvz_writer(file.sink(), dump_, recognition_, options_);
  for (std::uint64_t p = 0; p < plan_.parts; ++p) {
    Part part = writer->part(p);
    part.index = p;
    const auto [first, last] = plan_.frames_of(plan_.part(dump_, p));
    for (std::uint64_t f = first; f < last; ++f) part.coded.push_back(std::move(coded[f]));
    writer->append(part);
  }
  writer->finish();
  const auto reader = open_kvz(file.input(file.path()));
  for (std::uint64_t p = 0; p < plan_.parts; ++p) {
    Part part = reader->part(p);
    part.index = p;
    const auto [first, last] = plan_.frames_of(plan_.part(dump_, p));
    reader->fetch(part);
    reader->expand(part);
    const Buffer<std::byte> tile = gather_tile(plan_, dump_, part);
    ByteView rest(tile);
    for (std::uint64_t f = first; f < last; ++f) {
      if (rest.size() < decoded[f].size() || !same_bytes(rest.first(decoded[f].size()), decoded[f])) {
        fail(ErrorCode::corrupt, "{}: a file gives other values than memory; this is a bug in kvzip, please report it",
             piece_name(f));
      }
      rest = rest.subspan(decoded[f].size());
    }
  }
  return reader->summary().file_bytes;
}

}  // namespace kvzip::tool
