// SPDX-License-Identifier: Apache-2.0
// Error measures, accumulated in double in the order the values come, row by row.
#include "kvzip/metrics.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "codec/fail.hpp"

namespace kvzip {
namespace {

struct RowSums {
  std::uint64_t values = 0, nonfinite_mismatches = 0;
  double max_abs = 0, squared_error = 0, squared_original = 0, squared_decoded = 0, dot = 0;
};

RowSums sum_row(const float* original, const float* decoded, std::size_t n) {
  RowSums s;
  for (std::size_t i = 0; i < n; ++i) {
    if (!std::isfinite(original[i]) || !std::isfinite(decoded[i])) {
      const bool same = original[i] == decoded[i] || (std::isnan(original[i]) && std::isnan(decoded[i]));
      s.nonfinite_mismatches += same ? 0 : 1;
      continue;
    }
    const double a = original[i], b = decoded[i];
    const double error = std::fabs(a - b);
    s.max_abs = std::max(s.max_abs, error);
    s.squared_error += error * error;
    s.squared_original += a * a;
    s.squared_decoded += b * b;
    s.dot += a * b;
    ++s.values;
  }
  return s;
}

double cosine(const RowSums& s) {
  if (s.squared_error == 0) return 1;
  if (s.squared_decoded == 0) return 0;
  return std::clamp(s.dot / (std::sqrt(s.squared_original) * std::sqrt(s.squared_decoded)), -1.0, 1.0);
}

std::optional<double> difference(std::span<const double> a, std::span<const double> b) {
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::isfinite(a[i]) && std::isfinite(b[i])) {
      largest = std::max(largest, std::fabs(a[i] - b[i]));
    } else if (!(a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i])))) {
      return {};
    }
  }
  return largest;
}

/// Elements from `at` on. F64 does not pass through floats: as such two values could lie closer than they do.
void to_double(DType dtype, ByteView elements, std::size_t at, std::span<double> out, std::span<float> narrow) {
  const std::size_t unit = dtype_unit(dtype);
  const ByteView piece = elements.subspan(at * unit, out.size() * unit);
  if (dtype == DType::f64) {
    std::memcpy(out.data(), piece.data(), piece.size());
    return;
  }
  to_float(dtype, piece, narrow.first(out.size()));
  std::copy_n(narrow.begin(), out.size(), out.begin());
}

}  // namespace

void Distortion::add(std::span<const float> original, std::span<const float> decoded, std::size_t row_length) {
  if (original.size() != decoded.size() || row_length == 0 || original.size() % row_length != 0) {
    fail(ErrorCode::invalid_argument,
         "distortion needs two equal sets of whole rows, not {} and {} values in rows of {}", original.size(),
         decoded.size(), row_length);
  }
  for (std::size_t at = 0; at < original.size(); at += row_length) {
    const RowSums s = sum_row(original.data() + at, decoded.data() + at, row_length);
    values_ += s.values;
    nonfinite_mismatches_ += s.nonfinite_mismatches;
    max_abs_ = std::max(max_abs_, s.max_abs);
    squared_error_ += s.squared_error;
    squared_original_ += s.squared_original;
    if (s.squared_original == 0) continue;
    const double c = cosine(s);
    cosine_min_ = std::min(cosine_min_, c);
    cosine_sum_ += c;
    ++rows_;
  }
}

void Distortion::merge(const Distortion& other) {
  values_ += other.values_;
  nonfinite_mismatches_ += other.nonfinite_mismatches_;
  rows_ += other.rows_;
  max_abs_ = std::max(max_abs_, other.max_abs_);
  squared_error_ += other.squared_error_;
  squared_original_ += other.squared_original_;
  cosine_min_ = std::min(cosine_min_, other.cosine_min_);
  cosine_sum_ += other.cosine_sum_;
}

double Distortion::rmse() const {
  return values_ == 0 ? 0 : std::sqrt(squared_error_ / static_cast<double>(values_));
}

double Distortion::nrmse() const {
  if (squared_error_ == 0) return 0;
  if (squared_original_ == 0) return std::numeric_limits<double>::infinity();
  return std::sqrt(squared_error_ / squared_original_);
}

double Distortion::snr_db() const {
  // 0 - ...: an nrmse of 1 gives 0, not -0.
  return squared_error_ == 0 ? std::numeric_limits<double>::infinity() : 0 - 20 * std::log10(nrmse());
}

double Distortion::cosine_min() const {
  return cosine_min_;
}

double Distortion::cosine_mean() const {
  return rows_ == 0 ? 1 : cosine_sum_ / static_cast<double>(rows_);
}

std::optional<double> largest_difference(DType dtype_a, ByteView a, DType dtype_b, ByteView b) {
  constexpr std::size_t kPiece = 4096;
  const std::size_t values = a.size() / dtype_unit(dtype_a);
  if (values != b.size() / dtype_unit(dtype_b)) fail(ErrorCode::invalid_argument, "two sizes");
  std::vector<double> x(std::min(kPiece, values)), y(x.size());
  std::vector<float> narrow(x.size());
  double largest = 0;
  for (std::size_t at = 0; at < values; at += kPiece) {
    const std::size_t n = std::min(kPiece, values - at);
    to_double(dtype_a, a, at, {x.data(), n}, narrow);
    to_double(dtype_b, b, at, {y.data(), n}, narrow);
    const auto piece = difference(std::span(x).first(n), std::span(y).first(n));
    if (!piece) return {};
    largest = std::max(largest, *piece);
  }
  return largest;
}

}  // namespace kvzip
