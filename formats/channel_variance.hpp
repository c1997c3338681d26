// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace kvzip {

/// Larger numbers count as not finite where saliency is measured: products of four of them must stay floats.
inline constexpr float kLargestNumber = 1e8f;

/// Variance of each channel of a head over tokens, from sums about its first number.
class ChannelVariance {
 public:
  explicit ChannelVariance(std::size_t dims) : channels_(dims) {}
  void add(const float* rows, std::size_t count) {
    for (std::size_t t = 0; t < count; ++t) {
      for (Channel& c : channels_) {
        const float x = *rows++;
        if (!(std::fabs(x) <= kLargestNumber)) continue;
        if (c.count++ == 0) c.first = x;
        const double d = double{x} - c.first;
        c.sum += d;
        c.squares += d * d;
      }
    }
  }
  /// Of all channels together.
  double sum() const {
    double all = 0;
    for (const Channel& c : channels_) {
      if (c.count != 0) all += std::max(0.0, (c.squares - c.sum * c.sum / c.count) / c.count);
    }
    return all;
  }

 private:
  struct Channel {
    float first = 0;
    double count = 0, sum = 0, squares = 0;
  };
  std::vector<Channel> channels_;
};

}  // namespace kvzip
