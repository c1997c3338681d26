// SPDX-License-Identifier: Apache-2.0
// Predictions of a row by a mean, a factor a component, as man/kvz.5, stage adapt, defines them.
#pragma once

#include <cstddef>

namespace kvzip::kernels {

/// mean[k] = sum[k] * share; prediction[k] = mean[k] * (with_mean[k] / of_mean[k], held to 0 to 1).
void predict(const float* sum, float share, const float* with_mean, const float* of_mean, std::size_t n, float* mean,
             float* prediction);
/// The factors follow how well the mean did for x, over some 64 rows.
void learn_factors(const float* mean, const float* x, std::size_t n, float* with_mean, float* of_mean);

}  // namespace kvzip::kernels
