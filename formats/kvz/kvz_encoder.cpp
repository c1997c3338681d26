// SPDX-License-Identifier: Apache-2.0
#include "formats/kvz/kvz_encoder.hpp"

#include <cstring>
#include <utility>

namespace kvzip {
namespace {

class CheckedEncoder final : public TileEncoder {
 public:
  CheckedEncoder(std::unique_ptr<TileEncoder> inner, KvzResults asked)
      : inner_(std::move(inner)), asked_(std::move(asked)) {}

  Bytes encode(const Pipeline& pipeline, const PlanGroup& group, TileShape shape, ByteView tile,
               std::any& result) const override {
    const TileContext& context = group.context;
    Bytes coded = inner_->encode(pipeline, group, shape, tile, result);
    if (!group.tiled || context.role == Role::query) return coded;
    Buffer<std::byte> decoded(tile.size());
    pipeline.decode(context, shape, coded, decoded);
    if (breaks_bound(context.source, tile, decoded)) {
      coded = Pipeline::raw(tile);
      std::memcpy(decoded.data(), tile.data(), tile.size());
    }
    result = tile_errors(context, shape, tile, decoded);
    return coded;
  }

  void merge(const std::any& result) override {
    const auto* errors = std::any_cast<KeyValueErrors>(&result);
    if (errors == nullptr) return inner_->merge(result);
    for (std::size_t side = 0; side < errors_.size(); ++side) errors_[side].merge((*errors)[side]);
  }

  std::optional<KvzResults> results() const override {
    KvzResults out = asked_;
    for (std::size_t side = 0; side < errors_.size(); ++side) {
      const Distortion& d = errors_[side];
      if (d.values() == 0) continue;
      out.errors.push_back({side == 0 ? Role::key : Role::value, d.values(), d.max_abs(), d.rmse(), d.nrmse()});
    }
    return out;
  }

 private:
  bool breaks_bound(DType dtype, ByteView tile, ByteView decoded) const {
    if (!asked_.max_error) return false;
    const auto difference = largest_difference(dtype, tile, dtype, decoded);
    return !difference || *difference > *asked_.max_error;
  }

  std::unique_ptr<TileEncoder> inner_;
  KvzResults asked_;
  KeyValueErrors errors_;
};

}  // namespace

std::unique_ptr<TileEncoder> make_checked_encoder(std::unique_ptr<TileEncoder> inner, KvzResults asked) {
  return std::make_unique<CheckedEncoder>(std::move(inner), std::move(asked));
}

}  // namespace kvzip
