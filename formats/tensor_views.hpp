// SPDX-License-Identifier: Apache-2.0
// Tensors read as something else than the file says: bits of another type, keys and values side by side, other names.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kvzip/io.hpp"

namespace kvzip {

struct TensorView {
  std::string pattern;                 // of names, as in a map rule
  std::optional<DType> dtype;          // what the bits are; a narrower element's last axis counts them
  bool halves = false;                 // the last axis has keys and then values: NAME.key and NAME.value
  std::uint32_t hadamard = 0;          // channels of each Hadamard transform that is undone; 0 = none
  std::string name;                    // in place of the tensor's own
  std::optional<std::uint32_t> layer;  // puts "layers.N." in front of the name
};

/// A type by its safetensors name, in letters of either case.
std::optional<DType> dtype_called(std::string_view text);

/// A map rule as it is typed, PATTERN=ROLE:AXES, with any of :dtype=TYPE, :halves, :hadamard=N, :layer=N and :name=NAME
/// behind it.
struct MapText {
  std::vector<std::string> rules;  // without these, of the names that the view gives
  std::optional<TensorView> view;  // none where nothing stands behind
};
MapText parse_map_text(std::string_view text);

/// The dump as the first fitting view of each tensor shows it. Channels in runs of `hadamard` are multiplied by the
/// orthonormal Hadamard matrix of Sylvester's construction, which is its own inverse, and rounded to the tensor's type;
/// what the file says of rotated keys or values (llama.cpp.rotated_keys, llama.cpp.rotated_values) is then 0.
/// fail(invalid_argument) where a view does not fit its tensor, or the names that come out are not distinct.
std::unique_ptr<DumpReader> view(std::unique_ptr<DumpReader> inner, const std::vector<TensorView>& views);

}  // namespace kvzip
