// SPDX-License-Identifier: Apache-2.0
// Ridge regression: the linear map from some columns to others.
#pragma once

#include <cstddef>
#include <vector>

namespace kvzip {

/// W, inputs x outputs row-major, of the least |X W - Y|^2 + d m |W|^2, where m is the mean of the diagonal of X^T X
/// and X and Y are row-major with `rows` rows. Zero where X is, and where no number comes out.
std::vector<float> ridge_map(const std::vector<float>& x, std::size_t inputs, const std::vector<float>& y,
                             std::size_t outputs, std::size_t rows, double d);

}  // namespace kvzip
