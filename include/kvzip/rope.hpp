// SPDX-License-Identifier: Apache-2.0
// Rotary position embedding (RoPE), as far as removing it from keys needs to know it.
#pragma once

#include <cstdint>

namespace kvzip {

/// How rotary position embedding stands in the keys.
struct Rope {
  enum class State : std::uint8_t { unknown, none, pre, post };  // post: keys are rotated (the usual dump)
  enum class Layout : std::uint8_t { half, interleaved };
  enum class Scaling : std::uint8_t { none, linear, llama3, yarn };
  State state = State::unknown;
  double theta = 0;  // 0 = unknown
  Layout layout = Layout::half;
  Scaling scaling = Scaling::none;
  double factor = 1;                                 // linear, llama3, yarn
  double low_freq_factor = 1, high_freq_factor = 4;  // llama3
  double original_context = 8192;                    // llama3, yarn: original_max_position_embeddings
  std::uint32_t dims = 0;                            // rotary dimensions of a head; 0 = all
  std::uint64_t first_position = 0;                  // position of token 0 of the dump
};

}  // namespace kvzip
