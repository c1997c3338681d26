// SPDX-License-Identifier: Apache-2.0
#include "src/synth/synth.hpp"

#include <algorithm>
#include <cstring>

#include "codec/fail.hpp"

namespace kvzip {
namespace {

constexpr std::uint64_t kPartValues = std::uint64_t{1} << 18;
constexpr std::uint64_t kMaxChannels = std::uint64_t{1} << 26;  // over all layers, keys or values
constexpr std::uint64_t kMaxTokens = std::uint64_t{1} << 30;    // so that angles stay exact

/// Runs before the model takes memory for what it was asked.
const SynthOptions& checked(const SynthOptions& o) {
  if (o.layers == 0 || o.heads == 0) fail(ErrorCode::invalid_argument, "a cache needs at least one layer and one head");
  if (o.head_dim < 4 || o.head_dim % 2 != 0) {
    fail(ErrorCode::invalid_argument, "the head dimension must be even and at least 4, not {}", o.head_dim);
  }
  if (o.query_heads % o.heads != 0) {
    fail(ErrorCode::invalid_argument, "{} query heads cannot share {} key heads evenly", o.query_heads, o.heads);
  }
  if (o.dtype != DType::f16 && o.dtype != DType::bf16 && o.dtype != DType::f32) {
    fail(ErrorCode::invalid_argument, "a synthetic dump can be F16, BF16 or F32, not {}", dtype_name(o.dtype));
  }
  const std::uint64_t rows = std::uint64_t{o.layers} * std::max(o.heads, o.query_heads);
  if (rows > kMaxChannels || rows * o.head_dim > kMaxChannels) {
    fail(ErrorCode::limit, "layers x heads x head dimension may not exceed {}", kMaxChannels);
  }
  if (o.tokens > kMaxTokens) fail(ErrorCode::limit, "at most {} tokens", kMaxTokens);
  return o;
}

Dump describe(const SynthOptions& o) {
  Dump dump;
  for (std::uint32_t layer = 0; layer < o.layers; ++layer) {
    dump.tensors.push_back({fmt::format("layers.{}.key", layer), o.dtype, {o.heads, o.tokens, o.head_dim}});
    dump.tensors.push_back({fmt::format("layers.{}.value", layer), o.dtype, {o.heads, o.tokens, o.head_dim}});
    if (o.query_heads > 0) {
      dump.tensors.push_back({fmt::format("layers.{}.query", layer), o.dtype, {o.query_heads, o.tokens, o.head_dim}});
    }
  }
  dump.tensors.push_back({"token_ids", DType::i32, {o.tokens}});
  const auto add = [&](std::string_view name, std::string value) {
    dump.attributes.push_back({"", std::string(name), {std::move(value)}, {}, {}, {}});
  };
  add("model", fmt::format("synth-{}x{}x{}", o.layers, o.heads, o.head_dim));
  add("axes", "HTD");
  add("n_layers", std::to_string(o.layers));
  if (o.query_heads > 0) add("n_heads", std::to_string(o.query_heads));
  add("n_kv_heads", std::to_string(o.heads));
  add("head_dim", std::to_string(o.head_dim));
  add("first_position", "0");
  add("source", fmt::format("kvzip synth, seed {}", o.seed));
  add("rope", o.rope_theta > 0 ? "post" : "none");
  if (o.rope_theta > 0) {
    add("rope_theta", fmt::format("{}", o.rope_theta));
    add("rope_layout", "half");
    add("rope_dims", std::to_string(o.head_dim));
  }
  return dump;
}

}  // namespace

SynthReader::SynthReader(const SynthOptions& options)
    : options_(checked(options)), dump_(describe(options_)), model_(options_) {
  const std::uint64_t rows = std::max<std::uint64_t>(kPartValues / options.head_dim, 1);
  part_tokens_ = (rows + SynthModel::kBlockTokens - 1) / SynthModel::kBlockTokens * SynthModel::kBlockTokens;
  token_parts_ = (options.tokens + part_tokens_ - 1) / part_tokens_;
}

SynthReader::Place SynthReader::place(std::size_t tensor) const {
  const std::size_t per_layer = tensors_per_layer();
  if (tensor == dump_.tensors.size() - 1) return {};
  constexpr Role kRoles[] = {Role::key, Role::value, Role::query};
  return {kRoles[tensor % per_layer], static_cast<std::uint32_t>(tensor / per_layer)};
}

std::uint64_t SynthReader::part_count() const {
  const std::uint64_t rows = std::uint64_t{options_.layers} * (2 * options_.heads + options_.query_heads);
  return (rows + 1) * token_parts_;
}

/// One head of one tensor and a range of its tokens: a contiguous piece, in file order.
Part SynthReader::part(std::uint64_t index) const {
  Part part;
  part.index = index;
  const std::uint64_t per_layer = (2 * options_.heads + options_.query_heads) * token_parts_;
  const std::uint64_t layer = index / per_layer, first = index % token_parts_ * part_tokens_;
  const std::uint64_t tokens = std::min(part_tokens_, options_.tokens - first);
  if (layer >= options_.layers) {
    part.slices.push_back({dump_.tensors.size() - 1, {first}, {tokens}});
    return part;
  }
  const std::uint64_t row = index % per_layer / token_parts_;
  const std::uint64_t kind = std::min<std::uint64_t>(row / options_.heads, 2);
  part.slices.push_back(
      {layer * tensors_per_layer() + kind, {row - kind * options_.heads, first, 0}, {1, tokens, options_.head_dim}});
  return part;
}

void SynthReader::expand(Part& part) const {
  part.data.resize(part.slices.size());
  for (std::size_t i = 0; i < part.slices.size(); ++i) {
    const Slice& slice = part.slices[i];
    part.data[i].resize(slice.elements() * dtype_unit(dump_.tensors[slice.tensor].dtype));
    generate(slice, part.data[i]);
  }
}

void SynthReader::generate(const Slice& slice, std::span<std::byte> out) const {
  const Place where = place(slice.tensor);
  if (where.role == Role::other) return generate_ids(slice, out);
  const std::size_t dim = options_.head_dim, unit = dtype_unit(options_.dtype);
  const std::uint64_t first = slice.start[1], end = first + slice.count[1];
  const std::size_t columns = slice.count[2];
  std::vector<float> rows(SynthModel::kBlockTokens * dim);
  for (std::uint64_t h = 0; h < slice.count[0]; ++h) {
    const SynthHead head = model_.head(where.role, where.layer, static_cast<std::uint32_t>(slice.start[0] + h));
    for (std::uint64_t token = first; token < end;) {
      const std::uint64_t block = token / SynthModel::kBlockTokens;
      const std::uint64_t skip = token % SynthModel::kBlockTokens;
      const std::uint64_t count = std::min(SynthModel::kBlockTokens - skip, end - token);
      model_.block(head, block, rows);
      const auto used = std::span(rows).subspan(skip * dim, count * dim);
      if (columns == dim) {
        from_float(options_.dtype, used, out.first(used.size() * unit));
        out = out.subspan(used.size() * unit);
      } else {
        for (std::uint64_t i = 0; i < count; ++i) {
          from_float(options_.dtype, used.subspan(i * dim + slice.start[2], columns), out.first(columns * unit));
          out = out.subspan(columns * unit);
        }
      }
      token += count;
    }
  }
}

void SynthReader::generate_ids(const Slice& slice, std::span<std::byte> out) const {
  for (std::uint64_t i = 0; i < slice.count[0]; ++i) {
    const std::int32_t id = model_.token_id(slice.start[0] + i);
    std::memcpy(out.data() + i * sizeof id, &id, sizeof id);
  }
}

}  // namespace kvzip
