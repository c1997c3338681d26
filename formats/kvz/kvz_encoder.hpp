// SPDX-License-Identifier: Apache-2.0
// How a tile becomes the payload of its frame: simply, or with a look at what comes back.
#pragma once

#include <memory>
#include <optional>
#include <span>

#include "formats/kvz/kvz_plan.hpp"
#include "formats/kvz/kvz_results.hpp"
#include "formats/kvz/tile_saliency.hpp"

namespace kvzip {

/// A frame to be.
struct FrameInput {
  const Pipeline& pipeline;
  const PlanGroup& group;
  TileShape shape;
  ByteView tile;
  Chain& chain;  // of a chained pipeline: where the frames before have left it
};

/// Encodes tiles by the pipeline of their group.
class TileEncoder {
 public:
  explicit TileEncoder(std::shared_ptr<const Saliency> saliency = nullptr) : saliency_(std::move(saliency)) {}
  virtual ~TileEncoder() = default;
  /// The payload. `decoded`, as large as the tile or empty, gets what a reader will make of it, and then the chain is
  /// where the reader's will be. What there is to say of the frame is added to `result`. Any thread.
  virtual Bytes encode(const FrameInput& in, std::span<std::byte> decoded, std::any& result) const;
  /// What encode() left of the frames of each part that is stored, in their order. One caller.
  virtual void merge(const std::any&) {}
  /// What all that was merged comes to.
  virtual std::optional<KvzResults> results() const { return {}; }

 private:
  std::shared_ptr<const Saliency> saliency_;
};

/// An encoder that decodes again each tile of keys and values, stores it as it is where that breaks `asked.max_error`,
/// and measures the errors of what is stored. Its results are `asked` with those errors.
std::unique_ptr<TileEncoder> make_checked_encoder(std::unique_ptr<TileEncoder> inner, KvzResults asked);

}  // namespace kvzip
