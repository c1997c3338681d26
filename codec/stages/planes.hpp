// SPDX-License-Identifier: Apache-2.0
// The contract of exact stages: element bytes to streams and back, no float in between.
#pragma once

#include <span>
#include <vector>

#include "codec/stage.hpp"
#include "kvzip/dtype.hpp"

namespace kvzip {

/// A stage of kind exact is one of these.
class ExactStage : public Stage {
 public:
  StageKind kind() const final { return StageKind::exact; }
  bool carries() const final { return true; }
  /// rows x cols elements as streams of bytes.
  virtual std::vector<Stream> split(ByteView elements, DType dtype, std::uint32_t rows, std::uint32_t cols,
                                    std::uint32_t head_dim) const = 0;
  virtual void join(StreamReader& in, DType dtype, std::uint32_t rows, std::uint32_t cols, std::uint32_t head_dim,
                    std::span<std::byte> elements) const = 0;
  void encode(Tile&, StreamWriter&) const final;
  void decode(Tile&, TileShape, StreamReader&) const final;
};

}  // namespace kvzip
