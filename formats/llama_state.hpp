// SPDX-License-Identifier: Apache-2.0
// Where things lie in the session and sequence files of llama.cpp.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/file.hpp"
#include "formats/ggml_types.hpp"

namespace kvzip {

inline constexpr std::string_view kLlamaSession = "nsgg", kLlamaSequence = "qsgg";

/// Keys or values of one layer: a row of channels for each token, or of tokens for each channel.
struct LlamaTensor {
  const GgmlType* type = nullptr;
  std::uint64_t begin = 0, channels = 0;
  bool transposed = false;
};

/// Cells of a cache that belong to one stream of sequences.
struct LlamaStream {
  std::vector<std::int32_t> positions;  // one per cell
  std::uint64_t cells_begin = 0, cells_end = 0;
  /// Of which sequences every cell is; nothing where cells differ or carry an extension.
  std::optional<std::vector<std::int32_t>> sequences;
  std::vector<LlamaTensor> keys, values;  // one per layer; no values where the model has none
};

/// Memories lie one behind the other, without marks. window: a second cache, of the layers that attend to the last
/// tokens only. index: a second cache of keys alone, which an indexer chooses tokens by. recurrent: states of layers
/// that have no keys and values.
enum class LlamaKind : std::uint8_t { attention, window, recurrent, index };
/// In the order of LlamaKind: as metadata call them, and what names of their tensors begin with.
inline constexpr std::array<std::string_view, 4> kLlamaKinds{"attention", "swa", "recurrent", "index"};
inline constexpr std::array<std::string_view, 4> kLlamaPrefixes{"", "swa.", "", "index."};

struct LlamaMemory {
  LlamaKind kind = LlamaKind::attention;
  std::vector<LlamaStream> streams;                           // none of recurrent states
  bool transposed = false;                                    // as the last stream says, also where there are no values
  std::optional<std::uint32_t> rotated_keys, rotated_values;  // channels of a Hadamard block; unknown before 11 and 4
  std::uint64_t begin = 0, end = 0;

  std::size_t layers() const;
};

struct LlamaState {
  bool session = false;
  std::uint32_t version = 0;
  std::string architecture;  // of sessions from version 10 on
  std::uint64_t tokens_begin = 0, tokens = 0;
  std::vector<LlamaMemory> memories;  // each kind once at most
  std::uint64_t end = 0;              // of what is understood
};

/// fail(unsupported) for versions and layouts that are not known.
LlamaState read_llama_state(const InputFile& file);

}  // namespace kvzip
