// SPDX-License-Identifier: Apache-2.0
#include "src/tune/curves.hpp"

#include <algorithm>
#include <cmath>
#include <map>

#include "codec/pipeline.hpp"
#include "formats/kvz/kvz_fit.hpp"
#include "formats/kvz/kvz_records.hpp"
#include "formats/kvz/kvz_tables.hpp"
#include "formats/kvz/tile_saliency.hpp"
#include "formats/kvz/tile_walk.hpp"
#include "kvzip/error.hpp"

namespace kvzip::tool {
namespace {

/// Any rules that cut keys and values into tiles will do; pipelines are given to tiles later.
Plan tile_plan(const CurveInput& input) {
  const KvzOptions tiles{RuleSet::parse("key = planes,pack\nvalue = planes,pack\n", "tiles"), input.chunk_tokens, {}};
  const auto used = find_used_tokens(input.reader, input.recognition, tiles);
  return make_plan(input.reader.dump(), input.recognition, tiles.rules, input.chunk_tokens, nullptr, used);
}

bool is_unit(const PlanGroup& group) {
  return group.tiled && (group.context.role == Role::key || group.context.role == Role::value);
}

using UnitKey = std::pair<Role, std::uint32_t>;
UnitKey key_of(const PlanGroup& group) {
  return {group.context.role, group.context.layer};
}

/// Frames of all groups of units; of each group a share, evenly spaced.
std::vector<std::uint64_t> sampled_frames(const Plan& plan, double share) {
  std::vector<std::uint64_t> out;
  for (const PlanGroup& group : plan.groups) {
    if (!is_unit(group) || group.frames == 0) continue;
    const auto wanted = static_cast<std::uint64_t>(std::ceil(static_cast<double>(group.frames) * share));
    const std::uint64_t count = std::clamp<std::uint64_t>(wanted, 1, group.frames);
    for (std::uint64_t i = 0; i < count; ++i)
      out.push_back(group.first_frame + (2 * i + 1) * group.frames / (2 * count));
  }
  return out;
}

/// Candidates of a tile's unit, made ready for its group.
class Candidates {
 public:
  Candidates(const Plan& plan, const CurveInput& input, const std::map<UnitKey, std::size_t>& units, std::size_t count,
             const std::function<std::string(std::size_t, std::size_t)>& texts) {
    const Dump& dump = input.reader.dump();
    KvzOptions repeating;
    repeating.rules = RuleSet::parse("key = adapt:repeats=dump,rans\nvalue = adapt:repeats=dump,rans\n", "repeats");
    const Tables tables = fit_tables(input.reader, input.recognition, repeating, input.threads);
    for (std::size_t g = 0; g < plan.groups.size(); ++g) {
      const PlanGroup& group = plan.groups[g];
      auto& of_group = pipelines_.emplace_back();
      const auto unit = units.find(key_of(group));
      if (!is_unit(group) || group.frames == 0 || unit == units.end()) continue;
      for (std::size_t c = 0; c < count; ++c) {
        Pipeline candidate = Pipeline::parse(texts(unit->second, c));
        of_group.push_back(group.context.used_tokens < group.rows ? candidate.before_padding() : candidate);
        use_tables_to_write(of_group.back(), g, tables, {});
        of_group.back().resolve(group.context, plan.shape(dump, group, group.first_frame));
      }
    }
  }
  const std::vector<Pipeline>& of(std::size_t group) const { return pipelines_[group]; }
  bool weigh() const {
    return std::any_of(pipelines_.begin(), pipelines_.end(), [](const std::vector<Pipeline>& of_group) {
      return std::any_of(of_group.begin(), of_group.end(), [](const Pipeline& p) { return p.weighs(); });
    });
  }

 private:
  std::vector<std::vector<Pipeline>> pipelines_;
};

}  // namespace

double Unit::rms() const {
  return values == 0 ? 0 : std::sqrt(energy / static_cast<double>(values));
}

std::vector<Unit> find_units(const CurveInput& input) {
  const Plan plan = tile_plan(input);
  std::map<UnitKey, Unit> units;
  const auto visit = [&](const PlannedTile& tile) {
    const DType dtype = plan.groups[tile.group].context.source;
    std::vector<float> values(tile.elements.size() / dtype_unit(dtype));
    to_float(dtype, tile.elements, values);
    double energy = 0;
    for (const float v : values) {
      if (std::isfinite(v)) energy += static_cast<double>(v) * v;
    }
    return energy;
  };
  const auto merge = [&](const PlannedTile& tile, double energy) {
    const PlanGroup& group = plan.groups[tile.group];
    Unit& unit = units[key_of(group)];
    unit.role = group.context.role;
    unit.layer = group.context.layer;
    const std::uint64_t values = std::uint64_t{tile.shape.rows} * tile.shape.cols;
    unit.source_bytes += values * dtype_unit(group.context.source);
    unit.values += values;
    unit.energy += energy;
  };
  for_each_tile<double>(input.reader, plan, sampled_frames(plan, 1), visit, merge, input.threads);
  std::vector<Unit> out;
  for (const auto& [key, unit] : units) out.push_back(unit);
  return out;
}

Curves measure_curves(const CurveInput& input, const std::vector<Unit>& units, std::size_t candidates,
                      const std::function<std::string(std::size_t, std::size_t)>& texts, double share,
                      const Progress& progress) {
  const Plan plan = tile_plan(input);
  std::map<UnitKey, std::size_t> place;
  for (std::size_t u = 0; u < units.size(); ++u) place[{units[u].role, units[u].layer}] = u;
  const Candidates ready(plan, input, place, candidates, texts);
  const auto saliency = input.saliency != nullptr && ready.weigh() ? input.saliency->get() : nullptr;
  Curves curves;
  std::vector<std::vector<Point>>& out = curves.points;
  out.assign(units.size(), std::vector<Point>(candidates));
  std::vector<double> seen(units.size());

  const auto visit = [&](const PlannedTile& tile) {
    const TileContext& context = plan.groups[tile.group].context;
    std::vector<float> weights;
    if (saliency != nullptr) weights = tile_saliency(*saliency, plan.groups[tile.group], tile.shape);
    std::vector<Point> points;
    Buffer<std::byte> decoded(tile.elements.size());
    for (const Pipeline& pipeline : ready.of(tile.group)) {
      const Bytes coded = pipeline.encode(context, tile.shape, tile.elements, nullptr, nullptr, weights);
      pipeline.decode(context, tile.shape, coded, decoded);
      const Distortion d = tile_errors(context, tile.shape, tile.elements, decoded)[context.role == Role::value];
      points.push_back({static_cast<double>(coded.size() + kRecordHeaderBytes + kRecordTailBytes),
                        d.rmse() * d.rmse() * static_cast<double>(d.values()), d.max_abs()});
    }
    return points;
  };
  const auto merge = [&](const PlannedTile& tile, const std::vector<Point>& points) {
    const std::size_t u = place.at(key_of(plan.groups[tile.group]));
    seen[u] += static_cast<double>(tile.shape.rows) * tile.shape.cols;
    for (std::size_t c = 0; c < points.size(); ++c) {
      out[u][c].bytes += points[c].bytes;
      out[u][c].squared_error += points[c].squared_error;
      out[u][c].max_abs = std::max(out[u][c].max_abs, points[c].max_abs);
    }
  };
  std::vector<std::uint64_t> frames = sampled_frames(plan, share);
  const auto all = static_cast<double>(sampled_frames(plan, 1).size());
  std::erase_if(frames, [&](std::uint64_t f) { return !place.contains(key_of(plan.groups[plan.group_of(f)])); });
  curves.encodes = all > 0 ? static_cast<double>(candidates * frames.size()) / all : 0;
  for_each_tile<std::vector<Point>>(input.reader, plan, frames, visit, merge, input.threads, progress);
  for (std::size_t u = 0; u < units.size(); ++u) {
    const double scale = seen[u] > 0 ? static_cast<double>(units[u].values) / seen[u] : 0;
    for (Point& point : out[u]) point.bytes *= scale, point.squared_error *= scale;
  }
  return curves;
}

double sampled_share(const CurveInput& input, double share) {
  const Plan plan = tile_plan(input);
  const auto all = static_cast<double>(sampled_frames(plan, 1).size());
  return all > 0 ? static_cast<double>(sampled_frames(plan, share).size()) / all : 0;
}

}  // namespace kvzip::tool
