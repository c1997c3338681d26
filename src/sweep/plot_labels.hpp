// SPDX-License-Identifier: Apache-2.0
// Puts names next to the lines and points they are of, so that no legend is needed.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace kvzip::tool {

/// Pixels from the upper left corner.
struct Spot {
  double x = 0, y = 0;
};
struct PlacedLabel {
  std::string text;
  Spot left;  // middle of the left edge
};

class LabelSpace {
 public:
  LabelSpace(Spot upper_left, Spot lower_right) : from_(upper_left), to_(lower_right) {}
  void add_point(Spot at) { points_.push_back(at); }
  void add_line(Spot from, Spot to) { lines_.emplace_back(from, to); }
  /// The place next to one of the spots (the first is the best) that hides least; nothing when that is more than
  /// `most_cost` and the label may be left out. `size` is of the type, in pixels.
  std::optional<PlacedLabel> place(const std::string& text, double size, const std::vector<Spot>& spots,
                                   std::optional<double> most_cost = {});

 private:
  struct Box {
    double left, top, right, bottom;
    bool holds(Spot s) const { return s.x > left && s.x < right && s.y > top && s.y < bottom; }
    bool meets(const Box& b) const { return left < b.right && b.left < right && top < b.bottom && b.top < bottom; }
  };
  double cost(const Box& box) const;

  Spot from_, to_;
  std::vector<Spot> points_;
  std::vector<std::pair<Spot, Spot>> lines_;
  std::vector<Box> labels_;
};

}  // namespace kvzip::tool
