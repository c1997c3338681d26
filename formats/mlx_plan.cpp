// SPDX-License-Identifier: Apache-2.0
#include "formats/mlx_plan.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <span>

#include "codec/bytes.hpp"
#include "codec/limits.hpp"
#include "codec/number.hpp"

namespace kvzip {
namespace {

constexpr std::string_view kQuantised = "QuantizedKVCache";

class MlxPlanner {
 public:
  explicit MlxPlanner(DumpReader& reader) : reader_(reader), mlx_(reader.dump()) {}

  MlxPlan run() && {
    if (!mlx_.present()) return {};
    plan_.scalars = mlx_.has_scalars();
    for (const MlxPart& part : mlx_.parts()) {
      if (part.type != kQuantised) continue;
      const std::string why = reader_.traits().once ? "they come through a pipe" : try_take(part);
      if (!why.empty()) ++plan_.kept[why];
    }
    return std::move(plan_);
  }

 private:
  /// What is damaged is so for who asks for it, and the rest can be read.
  std::string try_take(const MlxPart& part) {
    try {
      return take(part);
    } catch (const Error& error) {
      return fmt::format("what they say of themselves cannot be read ({})", error.what());
    }
  }

  /// Empty where the cache is decoded, else why not.
  std::string take(const MlxPart& part) {
    const std::string& prefix = part.prefix;
    const auto [group, bits] = stated(part);
    if (!group || !bits) return "what they say of their groups and bits is not there or not known";
    // What mlx.core.quantize makes in this mode.
    constexpr std::array<std::uint64_t, 6> kBits{2, 3, 4, 5, 6, 8};
    constexpr std::array<std::uint64_t, 3> kGroups{32, 64, 128};
    if (std::ranges::find(kBits, *bits) == kBits.end() || std::ranges::find(kGroups, *group) == kGroups.end()) {
      return fmt::format("codes of {} bits in groups of {} are not known", *bits, *group);
    }
    const auto keys = codes(prefix + ".0", static_cast<unsigned>(*bits), *group);
    const auto values = codes(prefix + ".1", static_cast<unsigned>(*bits), *group);
    if (!keys || !values || !same_rows(*keys, *values)) return "their arrays do not fit each other";
    if (part.in_list && plan_.scalars) {
      const auto array = mlx_.tensor(part.named);
      if (!array || stated_class(reader_, *array) != kQuantised) return "their class is another of as many letters";
      plan_.classes.insert(*array);
    }
    for (const MlxCodes& own : {*keys, *values}) {
      plan_.values.emplace(own.packed, own);
      for (const std::size_t array : {own.scales, own.biases}) plan_.dropped.emplace(array, own.packed);
    }
    for (const unsigned place : {3u, 4u}) {
      if (const auto found = find(prefix, place)) plan_.dropped.emplace(*found, keys->packed);
    }
    plan_.decoded.push_back(part);
    ++plan_.forms[{keys->bits, keys->group}];
    return {};
  }

  std::optional<std::size_t> find(const std::string& prefix, unsigned place) const {
    return mlx_.tensor(fmt::format("{}.{}", prefix, place));
  }

  /// Group and bits: arrays 3 and 4 of the cache from 0.32 on, before that the last of three texts, or of four with a
  /// step in front. Nothing where there is more than that: it may mean another kind of codes.
  std::pair<std::optional<std::uint64_t>, std::optional<std::uint64_t>> stated(const MlxPart& part) {
    const std::string& prefix = part.prefix;
    if (plan_.scalars) {
      if (find(prefix, 0) || find(prefix, 1) || find(prefix, 5)) return {};
      return {scalar(prefix, 3), scalar(prefix, 4)};
    }
    std::vector<std::string_view> texts;
    for (unsigned k = 0; k < limits::kMlxTexts; ++k) {
      const auto found = mlx_.text(fmt::format("{}.{}", part.said, k));
      if (!found) break;
      texts.push_back(*found);
    }
    if (texts.size() < 3 || texts.size() > 4 || find(prefix, 0) || find(prefix, 1) || find(prefix, 2)) return {};
    const auto number = [](std::string_view text) { return parse_number<std::uint64_t>(text, 1); };
    return {number(texts.end()[-2]), number(texts.end()[-1])};
  }

  std::optional<std::uint64_t> scalar(const std::string& prefix, unsigned place) {
    const auto found = find(prefix, place);
    if (!found) return std::nullopt;
    const TensorInfo& info = reader_.dump().tensors[*found];
    const bool integer = info.dtype == DType::i32 || info.dtype == DType::i64;
    if (!integer || info.shape.size() > 1 || info.elements() != 1) return std::nullopt;
    Bytes bytes(info.bytes());
    reader_.read({*found, std::vector<std::uint64_t>(info.shape.size(), 0), info.shape}, bytes);
    ByteReader in(bytes);
    const std::int64_t value = info.dtype == DType::i32 ? in.get<std::int32_t>() : in.get<std::int64_t>();
    return value >= 1 ? std::optional(static_cast<std::uint64_t>(value)) : std::nullopt;
  }

  /// All shapes and the stated numbers agree, and the values' size is one that can be reckoned with.
  std::optional<MlxCodes> codes(const std::string& name, unsigned bits, std::uint64_t group) const {
    const auto packed = find(name, 0), scales = find(name, 1), biases = find(name, 2);
    if (!packed || !scales || !biases || find(name, 3)) return std::nullopt;
    const std::vector<TensorInfo>& tensors = reader_.dump().tensors;
    const TensorInfo &words = tensors[*packed], &scale = tensors[*scales], &bias = tensors[*biases];
    const bool floats = scale.dtype == DType::f16 || scale.dtype == DType::bf16 || scale.dtype == DType::f32;
    if (words.dtype != DType::u32 || !floats || bias.dtype != scale.dtype || bias.shape != scale.shape) return {};
    if (words.shape.size() != 4 || scale.shape.size() != 4) return std::nullopt;
    if (!std::equal(words.shape.begin(), words.shape.end() - 1, scale.shape.begin())) return std::nullopt;
    const std::uint64_t per_group = group * bits / 32, width = words.shape[3];  // in words, always whole
    if (width == 0 || width % per_group != 0 || width / per_group != scale.shape[3]) return std::nullopt;
    std::uint64_t size = 1;
    for (const std::uint64_t extent : words.shape) {
      if (__builtin_mul_overflow(size, std::max<std::uint64_t>(extent, 1), &size) || size > limits::kMlxWords)
        return {};
    }
    return MlxCodes{*packed, *scales, *biases, bits, group};
  }

  bool same_rows(const MlxCodes& keys, const MlxCodes& values) const {
    const std::vector<TensorInfo>& tensors = reader_.dump().tensors;
    const std::vector<std::uint64_t>&k = tensors[keys.packed].shape, &v = tensors[values.packed].shape;
    return std::equal(k.begin(), k.end() - 1, v.begin());
  }

  DumpReader& reader_;
  MlxCache mlx_;
  MlxPlan plan_;
};

}  // namespace

MlxPlan plan_mlx(DumpReader& reader) {
  return MlxPlanner(reader).run();
}

}  // namespace kvzip
