// SPDX-License-Identifier: Apache-2.0
// The ledger of wire ids. An id is never reused; a retired stage keeps its row and decodes forever.
#include <array>

#include "codec/coders/coders.hpp"
#include "codec/stages/stages.hpp"

namespace kvzip {
namespace {

constexpr StageRow kStages[] = {
    {1, "window", "1.0", "sink tokens and the recent window kept exact", make_window},
    {2, "outliers", "1.0", "a share of the values stored exactly, their place filled with the mean", make_outliers},
    {3, "quant", "1.0", "uniform quantisation in groups", make_quant},
    {4, "lowrank", "1.0", "low-rank approximation of what is left (GEAR's power iteration)", make_lowrank},
    {5, "norm", "1.0", "per-channel mean and scale removed", make_norm},
    {6, "delta", "1.0", "differences to an anchor token or to the previous token", make_delta},
    {7, "rope", "1.0", "rotary position embedding removed from keys", make_rope},
    {8, "cast", "1.0", "values stored as a shorter float type", make_cast},
    {9, "planes", "1.0", "exact: element bytes split into planes; stands alone", make_planes},
    {10, "rotate", "1.0", "random rotation of each head's channels", make_rotate},
    {11, "codebook", "1.0", "vectors as a length and Lloyd-Max codes of normal variables", make_codebook},
    {12, "klt", "1.0", "principal components with bits by KVTC's dynamic programme", make_klt},
    {13, "uniform", "1.0", "uniform quantisation with one absolute step, for entropy coding", make_uniform},
    {14, "carry", "1.1", "prediction from the frame before: its mean or last token, fading", make_carry},
    {15, "adapt", "1.1", "steps by saliency along components learned from decoded tokens", make_adapt},
    {16, "bfp", "1.1", "block floating point: groups share a power of two (BFP, MX formats)", make_bfp},
    {17, "nuq", "1.1", "codes of a codebook that is fitted to the tile (KVQuant)", make_nuq},
    {18, "tiers", "1.1", "salient tokens quantised with more bits than the others (ZipCache, MiKV)", make_tiers},
    {19, "bands", "1.1", "channels of large range with more bits, the others by their spectrum (VidKV)", make_bands},
    {20, "polar", "1.1", "polar coordinates: a radius for 16 channels, and angles (PolarQuant)", make_polar},
    {21, "slerp", "1.1", "two layers as one direction for each token and their lengths (MiniCache)", make_slerp},
    {22, "runs", "1.1", "runs of tokens with similar keys as one row each (KVMerger)", make_runs},
    {23, "clusters", "1.1", "channels of similar range share a token's clipped range (SKVQ)", make_clusters},
    {24, "couple", "1.1", "neighbouring channels share a code of a fitted codebook (CQ)", make_couple},
    {25, "sort", "1.1", "tokens of a block in the order of their medians (PackKV)", make_sort},
    {26, "nested", "1.1", "heads along their own directions, the one of most energy first (MatryoshkaKV)", make_nested},
    {27, "predict", "1.1", "layers predicted from those before, the rest quantised (AQUA-KV)", make_predict},
};

constexpr CoderRow kCoders[] = {
    {1, "pack", "1.0", "exact bits, no model", make_pack},
    {2, "ac", "1.0", "arithmetic coding: adaptive, static tables, or CacheGen's form", make_ac},
    {3, "zstd", "1.0", "zstd over symbol bytes and byte planes", make_zstd},
    {4, "rans", "1.0", "64 interleaved rANS lanes, one per channel, adaptive and with compact tables", make_rans},
    {5, "deflate", "1.0", "DEFLATE over packed symbols, as KVTC ends", make_deflate},
    {6, "packs", "1.1", "least symbol and as few bits as a few tokens of a channel need (PackKV)", make_packs},
};

std::string_view kind_name(const Stage& stage) {
  static constexpr std::array<std::string_view, 4> kNames{"rows", "transform", "elements", "additive"};
  return kNames[static_cast<std::size_t>(stage.kind())];
}
std::string_view kind_name(const ExactCodec&) {
  return "exact";
}

template <typename Row>
ComponentDoc describe(const Row& row, Configurable& component, std::string_view kind) {
  return {std::string(row.name),     row.id, std::string(row.since), std::string(row.help), std::string(kind),
          describe_fields(component)};
}

}  // namespace

std::span<const StageRow> stage_table() {
  return kStages;
}
std::span<const CoderRow> coder_table() {
  return kCoders;
}
std::vector<ComponentDoc> describe_stages() {
  std::vector<ComponentDoc> docs;
  for (const StageRow& row : kStages) {
    docs.push_back(std::visit(
        [&](auto make) {
          const auto stage = make();
          return describe(row, *stage, kind_name(*stage));
        },
        row.make));
  }
  return docs;
}
std::vector<ComponentDoc> describe_coders() {
  std::vector<ComponentDoc> docs;
  for (const CoderRow& row : kCoders) docs.push_back(describe(row, *row.make(), ""));
  return docs;
}

std::string_view stream_label_name(StreamLabel label) {
  static constexpr std::array<std::string_view, kStreamLabels> kNames{"codes",    "scales", "factors", "positions",
                                                                      "outliers", "exact",  "flags",   "tables"};
  const auto i = static_cast<std::size_t>(label);
  return i < kNames.size() ? kNames[i] : "unknown";
}

}  // namespace kvzip
