// SPDX-License-Identifier: Apache-2.0
// Values to numbers of cells and back: cells one step wide but for the one around zero.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kvzip::kernels {

/// codes[i] = sign(x[i]) min(floor(|x[i]| / step + round), most), most below 2^15. No NaN.
void to_cells(const float* x, std::size_t n, float step, float round, float most, std::int16_t* codes);
/// x[i] = (codes[i] + sign(codes[i]) shift) step
void from_cells(const std::int16_t* codes, std::size_t n, float step, float shift, float* x);
/// out[i] = x[i] factor + offset[i] where it is blank, and else that more.
void scale_row(const float* x, std::size_t n, float factor, const float* offset, bool blank, float* out);

}  // namespace kvzip::kernels
