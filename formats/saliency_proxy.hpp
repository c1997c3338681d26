// SPDX-License-Identifier: Apache-2.0
// Saliency of tokens that no query says anything of.
#pragma once

#include <span>
#include <vector>

namespace kvzip {

/// Of a head, from |v|^2 of its tokens (NaN: left out). What holds without queries is that attention sinks
/// (StreamingLLM, arXiv 2309.17453) have tiny values and a large share of every query: a token whose |v|^2 is below a
/// quarter of the head's median, and not 0, gets 3 log2(median / |v|^2), at most 24, the first four of more at least
/// 20; all others 0. Measured on a model's later tokens, a factor of 1 leaves half of the gain, and keys in place of
/// queries gain nothing. Of n tokens, where they are fewer than 512, they get the share log(n) / log(512) of that: a
/// sink's part of attention is about the same for any n, but the others' is the larger the fewer they are.
std::vector<float> proxy_saliency(std::span<const double> value_squares);

}  // namespace kvzip
