// SPDX-License-Identifier: Apache-2.0
#include "src/tune/curves.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>

#include "codec/pipeline.hpp"
#include "formats/kvz/kvz_plan.hpp"
#include "formats/kvz/kvz_records.hpp"
#include "kvzip/error.hpp"

namespace kvzip::tool {
namespace {

/// Walks tiles of keys and values through transcode(): `visit` runs on any thread, `merge` in order on one.
class TileWalk final : public DumpWriter {
 public:
  using Visit = std::function<std::vector<Point>(std::uint64_t frame, ByteView tile)>;
  using Merge = std::function<void(std::uint64_t frame, const std::vector<Point>& points)>;

  TileWalk(const CurveInput& input, const Plan& plan, std::vector<std::uint64_t> frames, Visit visit, Merge merge)
      : input_(input), plan_(plan), frames_(std::move(frames)), visit_(std::move(visit)), merge_(std::move(merge)) {}

  bool plans() const override { return true; }
  std::uint64_t part_count() const override { return frames_.size(); }
  Part part(std::uint64_t index) const override {
    Part part = plan_.part(input_.reader.dump(), frames_[index]);
    part.index = index;
    return part;
  }
  void prepare(Part& part) const override {
    Part tile_part{frames_[part.index], part.slices, std::move(part.data), {}};
    const Buffer<std::byte> tile = gather_tile(plan_, input_.reader.dump(), tile_part);
    std::vector<Point> points = visit_(frames_[part.index], tile);
    const std::lock_guard lock(mutex_);
    pending_.emplace(part.index, std::move(points));
  }
  void append(Part& part) override {
    const std::lock_guard lock(mutex_);
    const auto found = pending_.find(part.index);
    merge_(frames_[part.index], found->second);
    pending_.erase(found);
  }
  void finish() override {}

 private:
  const CurveInput& input_;
  const Plan& plan_;
  std::vector<std::uint64_t> frames_;
  Visit visit_;
  Merge merge_;
  mutable std::mutex mutex_;
  mutable std::map<std::uint64_t, std::vector<Point>> pending_;
};

/// Any rules that cut keys and values into tiles will do; pipelines are given to tiles later.
Plan tile_plan(const CurveInput& input) {
  const RuleSet rules = RuleSet::parse("key = planes,pack\nvalue = planes,pack\n", "tiles");
  return make_plan(input.reader.dump(), input.recognition, rules, input.chunk_tokens);
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
  Candidates(const Plan& plan, const Dump& dump, const std::map<UnitKey, std::size_t>& units, std::size_t count,
             const std::function<std::string(std::size_t, std::size_t)>& texts) {
    for (const PlanGroup& group : plan.groups) {
      auto& of_group = pipelines_.emplace_back();
      const auto unit = units.find(key_of(group));
      if (!is_unit(group) || group.frames == 0 || unit == units.end()) continue;
      for (std::size_t c = 0; c < count; ++c) {
        of_group.push_back(Pipeline::parse(texts(unit->second, c)));
        of_group.back().resolve(group.context, plan.shape(dump, group.first_frame));
      }
    }
  }
  const std::vector<Pipeline>& of(std::size_t group) const { return pipelines_[group]; }

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
  const auto visit = [&](std::uint64_t frame, ByteView tile) {
    const PlanGroup& group = plan.group_of(frame);
    std::vector<float> values(tile.size() / dtype_unit(group.context.source));
    to_float(group.context.source, tile, values);
    double energy = 0;
    for (const float v : values) {
      if (std::isfinite(v)) energy += static_cast<double>(v) * v;
    }
    return std::vector<Point>{{static_cast<double>(tile.size()), energy, 0}};
  };
  const auto merge = [&](std::uint64_t frame, const std::vector<Point>& points) {
    const PlanGroup& group = plan.group_of(frame);
    Unit& unit = units[key_of(group)];
    unit.role = group.context.role;
    unit.layer = group.context.layer;
    const auto bytes = static_cast<std::uint64_t>(points[0].bytes);
    unit.source_bytes += bytes;
    unit.values += bytes / dtype_unit(group.context.source);
    unit.energy += points[0].squared_error;
  };
  TileWalk walk(input, plan, sampled_frames(plan, 1), visit, merge);
  transcode(input.reader, walk, input.threads);
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
  const Candidates ready(plan, input.reader.dump(), place, candidates, texts);
  Curves curves;
  std::vector<std::vector<Point>>& out = curves.points;
  out.assign(units.size(), std::vector<Point>(candidates));
  std::vector<double> seen(units.size());

  const auto visit = [&](std::uint64_t frame, ByteView tile) {
    const PlanGroup& group = plan.group_of(frame);
    const TileShape shape = plan.shape(input.reader.dump(), frame);
    std::vector<Point> points;
    Buffer<std::byte> decoded(tile.size());
    for (const Pipeline& pipeline : ready.of(static_cast<std::size_t>(&group - plan.groups.data()))) {
      const Bytes coded = pipeline.encode(group.context, shape, tile);
      pipeline.decode(group.context, shape, coded, decoded);
      const Distortion d = tile_errors(group.context, shape, tile, decoded)[group.context.role == Role::value];
      points.push_back({static_cast<double>(coded.size() + kRecordHeaderBytes + kRecordTailBytes),
                        d.rmse() * d.rmse() * static_cast<double>(d.values()), d.max_abs()});
    }
    return points;
  };
  const auto merge = [&](std::uint64_t frame, const std::vector<Point>& points) {
    const PlanGroup& group = plan.group_of(frame);
    const std::size_t u = place.at(key_of(group));
    const TileShape shape = plan.shape(input.reader.dump(), frame);
    seen[u] += static_cast<double>(shape.rows) * shape.cols;
    for (std::size_t c = 0; c < points.size(); ++c) {
      out[u][c].bytes += points[c].bytes;
      out[u][c].squared_error += points[c].squared_error;
      out[u][c].max_abs = std::max(out[u][c].max_abs, points[c].max_abs);
    }
  };
  std::vector<std::uint64_t> frames = sampled_frames(plan, share);
  const auto all = static_cast<double>(sampled_frames(plan, 1).size());
  std::erase_if(frames, [&](std::uint64_t f) { return !place.contains(key_of(plan.group_of(f))); });
  curves.encodes = all > 0 ? static_cast<double>(candidates * frames.size()) / all : 0;
  TileWalk walk(input, plan, std::move(frames), visit, merge);
  transcode(input.reader, walk, input.threads, progress);
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
