// SPDX-License-Identifier: Apache-2.0
// Error measures between an original and a decoded tensor.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "kvzip/dtype.hpp"

namespace kvzip {

/// Accumulates errors over values; add() in any chunking, in order. Rows are the vectors cosine is taken over (one
/// token, one head). Positions where either side is not finite are counted apart and enter no other figure; equal
/// non-finite values (both NaN, or the same infinity) are not mismatches.
class Distortion {
 public:
  /// rows x cols values of both sides.
  void add(std::span<const float> original, std::span<const float> decoded, std::size_t row_length);
  void merge(const Distortion& other);

  std::uint64_t values() const { return values_; }
  std::uint64_t nonfinite_mismatches() const { return nonfinite_mismatches_; }
  double max_abs() const { return max_abs_; }
  double rmse() const;        // sqrt(mean squared error)
  double nrmse() const;       // rmse / rms of the original; 0 when both are 0, infinity when only the original is 0
  double snr_db() const;      // 20 log10(1 / nrmse); infinity when exact
  double cosine_min() const;  // over rows with a non-zero original; 1 when there is none
  double cosine_mean() const;
  bool exact() const { return squared_error_ == 0 && nonfinite_mismatches_ == 0; }

 private:
  std::uint64_t values_ = 0, nonfinite_mismatches_ = 0, rows_ = 0;
  double max_abs_ = 0, squared_error_ = 0, squared_original_ = 0, cosine_min_ = 1, cosine_sum_ = 0;
};

/// The largest difference of finite elements, in double; no value when one side is finite and the other is not, or both
/// are not and differ (one NaN is as good as another).
std::optional<double> largest_difference(DType dtype_a, ByteView a, DType dtype_b, ByteView b);

}  // namespace kvzip
