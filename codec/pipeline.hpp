// SPDX-License-Identifier: Apache-2.0
// A chain of stages with a coder at its end: text to chain, elements to frame and back.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "codec/stage.hpp"

namespace kvzip {

class ExactStage;
class StageClock;

/// Payload bytes of a frame by stream label, and whether it is stored raw.
struct FrameSizes {
  bool raw = false;
  std::array<std::uint64_t, kStreamLabels> bytes{};
};

class Pipeline {
 public:
  /// `stage:name=value:...,stage,...,coder`. Refuses unknown names, bad values and senseless chains.
  static Pipeline parse(std::string_view text);
  /// Canonical text: fields that differ from their defaults, or with `all` every field, as containers store it.
  std::string text(bool all = false) const;
  bool exact() const { return stages_.front()->kind() == StageKind::exact; }

  /// Fits the pipeline to a group: fills "auto" fields and refuses what does not suit. `shape` is the group's largest
  /// tile.
  void resolve(const TileContext& context, TileShape shape);

  /// `elements`: shape.rows x shape.cols elements of context.source. Returns a frame's payload. Thread-safe; a clock is
  /// one thread's own.
  Bytes encode(const TileContext& context, TileShape shape, ByteView elements, StageClock* clock = nullptr) const;
  /// Fails with corrupt or truncated on any payload that does not fit; context and shape must match the encoder's.
  void decode(const TileContext& context, TileShape shape, ByteView payload, std::span<std::byte> elements,
              StageClock* clock = nullptr) const;
  /// A frame's payload that holds the elements as they are, whatever the pipeline.
  static Bytes raw(ByteView elements);
  /// Sizes by label, from the payload's directory alone: `front` is at least the payload's first kDirectoryBytes.
  static FrameSizes sizes(ByteView front, std::uint64_t payload_bytes);
  static constexpr std::size_t kDirectoryBytes = 4096;

  struct Ids {
    std::vector<unsigned> stages;
    unsigned coder;
  };
  /// Wire ids, and the largest `since` among them.
  Ids ids() const;
  std::string_view since() const;

 private:
  std::vector<std::shared_ptr<Stage>> stages_;
  std::vector<const ComponentRow<Stage>*> rows_;
  std::shared_ptr<Coder> coder_;
  const ComponentRow<Coder>* coder_row_ = nullptr;

  void check_order() const;
  const ExactStage& exact_stage() const;  // of a pipeline that is exact()
  Bytes encode_floats(const TileContext&, TileShape, ByteView elements, StageClock*) const;
};

}  // namespace kvzip
