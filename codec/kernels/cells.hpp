// SPDX-License-Identifier: Apache-2.0
// Values to numbers of cells and back: cells one step wide but for the one around zero.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kvzip::kernels {

/// Rows of values that stand in one piece, and a part of each row of codes, from column `first` on.
struct CellRows {
  std::size_t count, width, first;
  const float* steps;  // one a row
};
/// codes[r][first + i] = sign(x[r][i]) min(floor(|x[r][i]| / steps[r] + round), most), most below 2^15. No NaN.
void to_cells(const CellRows& rows, const float* x, float round, float most, std::int16_t* const* codes);
/// x[r][i] = (codes[r][first + i] + sign(codes[r][first + i]) shift) steps[r]
void from_cells(const CellRows& rows, std::int16_t* const* codes, float shift, float* x);
/// out[r][i] = x[r][i] factor + offset[i] where it is blank, and else that more. Rows of `out` lie out_row apart.
void scale_rows(const float* x, std::size_t count, std::size_t width, float factor, const float* offset, bool blank,
                float* out, std::size_t out_row);

}  // namespace kvzip::kernels
