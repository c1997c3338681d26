// SPDX-License-Identifier: Apache-2.0
#include "src/tune/allocate.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace kvzip::tool {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

/// The lightest pick; of equally light choices the cheaper one.
std::vector<std::size_t> lightest(std::span<const Choices> units) {
  std::vector<std::size_t> pick;
  for (const Choices& choices : units) {
    const auto best = std::min_element(choices.begin(), choices.end(), [](const Choice& a, const Choice& b) {
      return a.weight != b.weight ? a.weight < b.weight : a.cost < b.cost;
    });
    pick.push_back(static_cast<std::size_t>(best - choices.begin()));
  }
  return pick;
}

/// Least cost for each number of buckets, and the picks that lead there.
class Table {
 public:
  Table(std::span<const Choices> units, double limit, std::size_t buckets, bool up) : width_(buckets + 1) {
    std::vector<double> cost(width_, kNever), next(width_);
    cost[0] = 0;
    for (const Choices& choices : units) {
      std::fill(next.begin(), next.end(), kNever);
      std::vector<std::uint32_t>& from = pick_.emplace_back(width_);
      std::vector<std::size_t>& steps = steps_.emplace_back();
      for (std::size_t c = 0; c < choices.size(); ++c) {
        const double share =
            limit > 0 ? choices[c].weight / limit * static_cast<double>(buckets) : (choices[c].weight > 0 ? kNever : 0);
        const double rounded = up ? std::ceil(share) : std::floor(share);
        steps.push_back(rounded <= static_cast<double>(buckets) ? static_cast<std::size_t>(rounded) : width_);
        for (std::size_t b = steps[c]; b < width_; ++b) {
          const double candidate = cost[b - steps[c]] + choices[c].cost;
          if (candidate < next[b]) next[b] = candidate, from[b] = static_cast<std::uint32_t>(c);
        }
      }
      cost.swap(next);
    }
    cost_ = std::move(cost);
  }

  /// The pick of least cost within `most` buckets, and where it ends; nothing when there is none.
  std::optional<std::pair<std::vector<std::size_t>, std::size_t>> best(std::size_t most) const {
    const auto end = cost_.begin() + static_cast<std::ptrdiff_t>(most) + 1;
    const auto least = std::min_element(cost_.begin(), end);
    if (*least == kNever) return {};
    std::size_t b = static_cast<std::size_t>(least - cost_.begin());
    const std::size_t at = b;
    std::vector<std::size_t> pick(pick_.size());
    for (std::size_t u = pick_.size(); u-- > 0;) {
      pick[u] = pick_[u][b];
      b -= steps_[u][pick[u]];
    }
    return std::pair(std::move(pick), at);
  }

 private:
  std::size_t width_;
  std::vector<double> cost_;
  std::vector<std::vector<std::uint32_t>> pick_;
  std::vector<std::vector<std::size_t>> steps_;
};

/// Keeps the cheaper of two allocations within the limit.
void keep_better(std::optional<Allocation>& best, Allocation other, double limit) {
  if (other.weight > limit) return;
  if (!best || other.cost < best->cost || (other.cost == best->cost && other.weight < best->weight)) {
    best = std::move(other);
  }
}

/// A unit's way from its cheapest choice to its lightest along the lower hull.
std::vector<std::size_t> hull_of(const Choices& choices) {
  std::size_t at = 0;
  for (std::size_t c = 1; c < choices.size(); ++c) {
    const Choice &a = choices[c], &b = choices[at];
    if (a.cost < b.cost || (a.cost == b.cost && a.weight < b.weight)) at = c;
  }
  std::vector<std::size_t> hull{at};
  for (;;) {
    std::size_t next = at;
    double best = -1;  // weight saved for a unit of cost
    for (std::size_t c = 0; c < choices.size(); ++c) {
      const double saved = choices[at].weight - choices[c].weight, paid = choices[c].cost - choices[at].cost;
      if (saved <= 0) continue;
      const double slope = paid > 0 ? saved / paid : kNever;
      if (slope > best || (slope == best && choices[c].weight < choices[next].weight)) best = slope, next = c;
    }
    if (next == at) return hull;
    hull.push_back(at = next);
  }
}

/// Spends what is left of the limit on single changes, the largest saving of cost first.
void fill_up(std::span<const Choices> units, double limit, std::vector<std::size_t>& pick) {
  for (;;) {
    const Allocation now = sum_of(units, pick);
    double saving = 0;
    std::size_t unit = 0, choice = 0;
    for (std::size_t u = 0; u < units.size(); ++u) {
      const Choice& old = units[u][pick[u]];
      for (std::size_t c = 0; c < units[u].size(); ++c) {
        const double saved = old.cost - units[u][c].cost;
        if (saved > saving && now.weight - old.weight + units[u][c].weight <= limit)
          saving = saved, unit = u, choice = c;
      }
    }
    if (saving <= 0) return;
    const std::size_t before = pick[unit];
    pick[unit] = choice;
    // In floating point the sum of the new pick may still be beyond the limit.
    if (sum_of(units, pick).weight > limit) {
      pick[unit] = before;
      return;
    }
  }
}

}  // namespace

Allocation sum_of(std::span<const Choices> units, std::vector<std::size_t> pick) {
  Allocation out;
  for (std::size_t u = 0; u < units.size(); ++u) {
    out.cost += units[u][pick[u]].cost;
    out.weight += units[u][pick[u]].weight;
  }
  out.pick = std::move(pick);
  return out;
}

std::optional<Allocation> allocate_lgreco(std::span<const Choices> units, double limit,
                                          std::span<const std::size_t> fallback, std::size_t buckets) {
  std::optional<Allocation> best;
  keep_better(best, sum_of(units, lightest(units)), limit);
  if (!best) return {};
  if (!fallback.empty()) keep_better(best, sum_of(units, {fallback.begin(), fallback.end()}), limit);
  if (const auto found = Table(units, limit, buckets, true).best(buckets)) {
    keep_better(best, sum_of(units, found->first), limit);
  }
  // Rounded down, every pick within the limit is in the table, and some that are not: of at most one bucket a unit.
  const Table down(units, limit, buckets, false);
  std::size_t most = buckets;
  for (std::size_t tries = 0; tries <= units.size(); ++tries) {
    auto found = down.best(most);
    if (!found) break;
    Allocation sum = sum_of(units, std::move(found->first));
    const bool within = sum.weight <= limit;
    keep_better(best, std::move(sum), limit);
    if (within || found->second == 0) break;
    most = found->second - 1;
  }
  return best;
}

std::optional<Allocation> allocate_lagrangian(std::span<const Choices> units, double limit) {
  if (sum_of(units, lightest(units)).weight > limit) return {};
  struct Step {
    double slope;
    std::size_t unit, place;  // of the hull
  };
  std::vector<std::vector<std::size_t>> hulls;
  std::vector<Step> steps;
  std::vector<std::size_t> pick;
  for (std::size_t u = 0; u < units.size(); ++u) {
    hulls.push_back(hull_of(units[u]));
    pick.push_back(hulls[u][0]);
    for (std::size_t h = 1; h < hulls[u].size(); ++h) {
      const Choice &a = units[u][hulls[u][h - 1]], &b = units[u][hulls[u][h]];
      const double paid = b.cost - a.cost;
      steps.push_back({paid > 0 ? (a.weight - b.weight) / paid : kNever, u, h});
    }
  }
  // Along a hull slopes fall, so a unit's steps stay in order.
  std::stable_sort(steps.begin(), steps.end(), [](const Step& a, const Step& b) { return a.slope > b.slope; });
  for (const Step& step : steps) {
    if (sum_of(units, pick).weight <= limit) break;
    pick[step.unit] = hulls[step.unit][step.place];
  }
  if (sum_of(units, pick).weight > limit) pick = lightest(units);
  fill_up(units, limit, pick);
  return sum_of(units, std::move(pick));
}

}  // namespace kvzip::tool
