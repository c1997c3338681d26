// SPDX-License-Identifier: Apache-2.0
// Sines and cosines of many angles: the numbers of portable::sincos(), several at a time.
#pragma once

#include <cstddef>

namespace kvzip::kernels {

/// Of position * frequency[i], for i below n, rounded to floats.
void sines(double position, const double* frequency, std::size_t n, float* sine, float* cosine);

}  // namespace kvzip::kernels
