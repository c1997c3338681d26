// SPDX-License-Identifier: Apache-2.0
// Measured rate and distortion of every layer's keys and values under a ladder of candidates.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "kvzip/io.hpp"
#include "kvzip/rules.hpp"
#include "src/measure/saliency_source.hpp"

namespace kvzip::tool {

/// What a target gives one pipeline to: the keys or the values of a layer.
struct Unit {
  Role role = Role::key;
  std::uint32_t layer = 0;
  std::uint64_t values = 0, source_bytes = 0;
  double energy = 0;  // sum of squares
  double rms() const;
};

/// One candidate on one unit: whole frame records, squared errors and the largest error, of the sampled tiles scaled up
/// to the unit.
struct Point {
  double bytes = 0, squared_error = 0, max_abs = 0;
};

/// The keys and values of a dump, cut into chunks as a container cuts them.
struct CurveInput {
  DumpReader& reader;
  const Recognition& recognition;
  std::uint64_t chunk_tokens = 0;  // 0 = all
  unsigned threads = 0;
  SaliencySource* saliency = nullptr;  // null: not known
};

/// The units in order of role and layer, with their energy: one pass over the data.
std::vector<Unit> find_units(const CurveInput& input);

struct Curves {
  std::vector<std::vector<Point>> points;  // [u][c]: candidate c on unit u
  double encodes = 0;                      // work, in encodes of all keys and values
};
/// texts(u, c) is the pipeline of candidate c on units[u]; keys and values of other units are left out. Each tile that
/// is sampled is read once and coded by all `candidates`. `share` of each group's frames are sampled, evenly, at least
/// one.
Curves measure_curves(const CurveInput& input, const std::vector<Unit>& units, std::size_t candidates,
                      const std::function<std::string(std::size_t, std::size_t)>& texts, double share,
                      const Progress& progress);

/// What `share` comes to when at least one frame of each group is taken.
double sampled_share(const CurveInput& input, double share);

}  // namespace kvzip::tool
