// SPDX-License-Identifier: Apache-2.0
#include "formats/kvz/kvz_encoder.hpp"

#include <utility>

namespace kvzip {
namespace {

class CheckedEncoder final : public TileEncoder {
 public:
  CheckedEncoder(std::unique_ptr<TileEncoder> inner, KvzResults asked)
      : inner_(std::move(inner)), asked_(std::move(asked)) {}

  Bytes encode(const FrameInput& in, std::span<std::byte> decoded, std::any& result) const override {
    const TileContext& context = in.group.context;
    if (!in.group.tiled || context.role == Role::query) return inner_->encode(in, decoded, result);
    Buffer<std::byte> own(decoded.empty() ? in.tile.size() : 0);
    if (decoded.empty()) decoded = own;
    Bytes coded = inner_->encode(in, decoded, result);
    if (breaks_bound(context.source, in.tile, decoded)) {
      coded = Pipeline::raw(in.tile);
      in.pipeline.decode(context, in.shape, coded, decoded, &in.chain);
    }
    const KeyValueErrors errors = tile_errors(context, in.shape, in.tile, decoded);
    if (auto* before = std::any_cast<KeyValueErrors>(&result)) {
      merge_into(*before, errors);
    } else {
      result = errors;
    }
    return coded;
  }

  void merge(const std::any& result) override {
    const auto* errors = std::any_cast<KeyValueErrors>(&result);
    if (errors == nullptr) return inner_->merge(result);
    merge_into(errors_, *errors);
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
  static void merge_into(KeyValueErrors& all, const KeyValueErrors& more) {
    for (std::size_t side = 0; side < all.size(); ++side) all[side].merge(more[side]);
  }
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

Bytes TileEncoder::encode(const FrameInput& in, std::span<std::byte> decoded, std::any&) const {
  const bool weighed = saliency_ != nullptr && in.pipeline.weighs();
  Bytes coded = in.pipeline.encode(in.group.context, in.shape, in.tile, &in.chain, nullptr,
                                   weighed ? tile_saliency(*saliency_, in.group, in.shape) : std::vector<float>());
  if (!decoded.empty()) in.pipeline.decode(in.group.context, in.shape, coded, decoded, &in.chain);
  return coded;
}

std::unique_ptr<TileEncoder> make_checked_encoder(std::unique_ptr<TileEncoder> inner, KvzResults asked) {
  return std::make_unique<CheckedEncoder>(std::move(inner), std::move(asked));
}

}  // namespace kvzip
