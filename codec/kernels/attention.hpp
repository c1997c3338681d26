// SPDX-License-Identifier: Apache-2.0
// The pure loops of codec/attention.cpp: some queries against some tokens. Lanes are tokens (for logits) or channels
// (for outputs), and sums over tokens have a fixed number of parts, so every instruction set gives the same numbers.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kvzip::kernels {

inline constexpr std::size_t kQueryTile = 16;    // queries that go through the loops together
inline constexpr std::size_t kTokenPanel = 32;   // tokens whose keys lie together
inline constexpr std::size_t kTokenBlock = 128;  // tokens that are taken before sums are added up in double

/// Logits beyond this are no numbers to work with: their squares' sum must stay a float.
inline constexpr float kLargestLogit = 1e15f;
/// Stands for a logit that is left out.
inline constexpr float kNoLogit = -3e38f;

/// Rows of `dims` floats to panels: panel p holds, for each channel, row 32 p to 32 p + 31; missing rows are zeros.
void pack_panels(const float* rows, std::size_t count, std::size_t dims, float* panels);
/// The same of rows - other.
void pack_difference(const float* rows, const float* other, std::size_t count, std::size_t dims, float* panels);

/// out[q * kTokenBlock + t] = sum of queries[c * kQueryTile + q] * key t, over channels c in ascending order, for the
/// first tokens of a block, up to the next multiple of kTokenPanel.
void tile_logits(const float* queries, const float* panels, std::size_t dims, std::size_t tokens, float* out);

/// out[q * dims + c] = sum of weights[q * kTokenBlock + t] * values[t * dims + c], over tokens t in ascending order.
void tile_outputs(const float* weights, const float* values, std::size_t tokens, std::size_t dims, float* out);

/// A query's logits s of the first `count` tokens of a block, and differences d = s - s'. Pairs that are not finite or
/// beyond kLargestLogit become kNoLogit and 0, and so do all from `count` to `width`, a multiple of kTokenPanel.
struct LogitRange {
  float largest, largest_decoded;  // kNoLogit without logits
  double squares, squared_error;   // sums of s^2 and of d^2
  std::size_t left_out;            // of the first `count`
};
LogitRange check_logits(float* s, float* d, std::size_t count, std::size_t width);

/// With u = s - m and e = d - r: weights w = exp(u) and w' = exp(u - e), in place of s and d.
struct WeightSums {
  double weights;  // w
  double change;   // w' - w, without cancellation
  double second;   // w (exp(-e) - 1 + e), which is of second order in e and never negative
};
WeightSums weigh(float* s, float* d, std::size_t width, float m, float r);

/// Logits of a query alone: as check_logits() for what is left out; the largest one, or kNoLogit.
float mask_logits(float* s, std::size_t count, std::size_t width);
/// w = exp(s - m) in place of s; their sum.
double exp_weights(float* s, std::size_t width, float m);

/// What errors in the tokens of a block do to the output of one query, to first order: a = exp(s - m) / Z is what the
/// query takes of a token, and |v - o|^2 = |v|^2 - 2 v.o + |o|^2.
struct QueryShare {
  float m, inverse_z;   // of its softmax
  float output_square;  // |o|^2
  float key_factor;     // what a^2 |v - o|^2 is multiplied with
};
/// value[t] += a^2 and key[t] += key_factor a^2 |v_t - o|^2 for logits s, products v.o and squares |v|^2 of `width`
/// tokens.
void add_error_weights(const float* s, const float* products, const float* squares, std::size_t width,
                       const QueryShare& query, float* value, float* key);

/// sum[i] = sum[i] * factor + x[i]
void scale_and_add(const float* x, std::size_t n, double factor, double* sum);

}  // namespace kvzip::kernels
