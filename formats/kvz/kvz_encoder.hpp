// SPDX-License-Identifier: Apache-2.0
// How a tile becomes the payload of its frame: simply, or with a look at what comes back.
#pragma once

#include <memory>
#include <optional>

#include "formats/kvz/kvz_plan.hpp"
#include "formats/kvz/kvz_results.hpp"
#include "formats/kvz/tile_saliency.hpp"

namespace kvzip {

/// Encodes tiles by the pipeline of their group.
class TileEncoder {
 public:
  explicit TileEncoder(std::shared_ptr<const Saliency> saliency = nullptr) : saliency_(std::move(saliency)) {}
  virtual ~TileEncoder() = default;
  /// The payload; what there is to say of it goes to `result`. Any thread.
  virtual Bytes encode(const Pipeline& pipeline, const PlanGroup& group, TileShape shape, ByteView tile,
                       std::any&) const {
    const bool weighed = saliency_ != nullptr && pipeline.weighs();
    return pipeline.encode(group.context, shape, tile, nullptr,
                           weighed ? tile_saliency(*saliency_, group, shape) : std::vector<float>());
  }
  /// What encode() left of each frame that is stored, in the order of frames. One caller.
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
