// SPDX-License-Identifier: Apache-2.0
#include "src/sweep/plot_labels.hpp"

#include <algorithm>

namespace kvzip::tool {
namespace {

constexpr double kMarker = 5;  // half the size of a marker with room around it
constexpr double kGap = 8;     // from a point to its label
// What it costs to hide something, against the small costs of a less usual place.
constexpr double kHidesLabel = 1000, kOutside = 1000, kHidesPoint = 100, kHidesLine = 20, kFarther = 4;

}  // namespace

double LabelSpace::cost(const Box& box) const {
  double sum = 0;
  if (box.left < from_.x || box.top < from_.y || box.right > to_.x || box.bottom > to_.y) sum += kOutside;
  for (const Box& other : labels_) sum += box.meets(other) ? kHidesLabel : 0;
  for (const Spot& p : points_) {
    sum += box.meets({p.x - kMarker, p.y - kMarker, p.x + kMarker, p.y + kMarker}) ? kHidesPoint : 0;
  }
  for (const auto& [a, b] : lines_) {
    constexpr int kSamples = 40;
    for (int i = 0; i <= kSamples; ++i) {
      const double t = static_cast<double>(i) / kSamples;
      if (!box.holds({a.x + t * (b.x - a.x), a.y + t * (b.y - a.y)})) continue;
      sum += kHidesLine;
      break;
    }
  }
  return sum;
}

std::optional<PlacedLabel> LabelSpace::place(const std::string& text, double size, const std::vector<Spot>& spots,
                                             std::optional<double> most_cost) {
  const auto letters = static_cast<double>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
  // The mean width of a letter of a sans-serif type.
  const double width = 0.58 * size * letters, high = 0.6 * size;
  struct Place {
    double dx, dy;  // of the label's left end and middle, from the point
  };
  const Place places[] = {{kGap, 0},
                          {kGap - 2, -high - 2},
                          {kGap - 2, high + 2},
                          {-kGap - width, 0},
                          {-kGap + 2 - width, -high - 2},
                          {-kGap + 2 - width, high + 2},
                          {-width / 2, -high - kGap + 1},
                          {-width / 2, high + kGap - 1}};
  double best = 1e300;
  Box chosen{};
  for (std::size_t s = 0; s < spots.size(); ++s) {
    for (std::size_t p = 0; p < std::size(places); ++p) {
      const double left = spots[s].x + places[p].dx, middle = spots[s].y + places[p].dy;
      const Box box{left - 1, middle - high, left + width + 1, middle + high};
      const double total = cost(box) + kFarther * static_cast<double>(s) + static_cast<double>(p);
      if (total >= best) continue;
      best = total;
      chosen = box;
    }
  }
  if (spots.empty() || (most_cost && best > *most_cost)) return {};
  labels_.push_back(chosen);
  return PlacedLabel{text, {chosen.left + 1, (chosen.top + chosen.bottom) / 2}};
}

}  // namespace kvzip::tool
