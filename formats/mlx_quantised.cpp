// SPDX-License-Identifier: Apache-2.0
#include "formats/mlx_quantised.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <optional>
#include <set>

#include "codec/number.hpp"
#include "formats/ggml_values.hpp"
#include "formats/left_out.hpp"
#include "formats/mlx_cache.hpp"
#include "formats/parts.hpp"

namespace kvzip {
namespace {

/// Indexes of the arrays of keys, or of values. The words of a row are one string of bits from the lowest of the first
/// byte on, code i from bit i * bits on, and it stands for scale * code + bias of its group (mlx.core.quantize, mode
/// "affine").
struct Codes {
  std::size_t packed = 0, scales = 0, biases = 0;
  unsigned bits = 0;
  std::uint64_t group = 0;
};

/// What is done with the quantised caches of a dump.
struct MlxPlan {
  std::map<std::size_t, Codes> values;                              // by the index of the packed array
  std::set<std::size_t> dropped;                                    // arrays that the values do not need
  std::set<std::string> decoded;                                    // prefixes of caches
  std::map<std::pair<unsigned, std::uint64_t>, std::size_t> forms;  // caches by bits and group
  std::map<std::string, std::size_t> kept;                          // caches that stay, by why
  bool scalars = false;
};

class MlxPlanner {
 public:
  explicit MlxPlanner(DumpReader& reader) : reader_(reader) {
    const std::vector<TensorInfo>& tensors = reader.dump().tensors;
    for (std::size_t t = 0; t < tensors.size(); ++t) by_name_.emplace(tensors[t].name, t);
    for (const Attribute& a : reader.dump().attributes) {
      if (a.object.empty() && a.strings.size() == 1) texts_.emplace(a.name, a.strings[0]);
    }
  }

  MlxPlan run() && {
    const MlxCache mlx(reader_.dump());
    if (!mlx.present() || reader_.traits().once) return {};
    plan_.scalars = mlx.has_scalars();
    for (const MlxPart& part : mlx.parts(reader_.dump())) {
      if (part.type != "QuantizedKVCache") continue;
      const std::string why = take(part.prefix);
      if (!why.empty()) ++plan_.kept[why];
    }
    return std::move(plan_);
  }

 private:
  /// Empty where the cache is decoded, else why not.
  std::string take(const std::string& prefix) {
    const auto [group, bits] = stated(prefix);
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
    for (const Codes& own : {*keys, *values}) {
      plan_.values.emplace(own.packed, own);
      plan_.dropped.insert({own.scales, own.biases});
    }
    for (const unsigned place : {3u, 4u}) {
      if (const auto found = find(prefix, place)) plan_.dropped.insert(*found);
    }
    plan_.decoded.insert(prefix);
    ++plan_.forms[{keys->bits, keys->group}];
    return {};
  }

  std::optional<std::size_t> find(const std::string& prefix, unsigned place) const {
    const auto found = by_name_.find(fmt::format("{}.{}", prefix, place));
    return found == by_name_.end() ? std::nullopt : std::optional(found->second);
  }

  /// Group and bits: arrays 3 and 4 of the cache from 0.32 on, before that the last of three texts, or of four with a
  /// step in front. Nothing where there is more than that: it may mean another kind of codes.
  std::pair<std::optional<std::uint64_t>, std::optional<std::uint64_t>> stated(const std::string& prefix) {
    if (plan_.scalars) {
      if (find(prefix, 0) || find(prefix, 1) || find(prefix, 5)) return {};
      return {scalar(prefix, 3), scalar(prefix, 4)};
    }
    std::vector<std::string_view> texts;
    for (unsigned k = 0; k < 5; ++k) {
      const auto found = texts_.find(fmt::format("0.{}.{}", prefix, k));
      if (found == texts_.end()) break;
      texts.push_back(found->second);
    }
    if (texts.size() < 3 || texts.size() > 4 || find(prefix, 0) || find(prefix, 1) || find(prefix, 2)) return {};
    const auto number = [](std::string_view text) { return parse_number<std::uint64_t>(text, 1, kMostNumber); };
    return {number(texts.end()[-2]), number(texts.end()[-1])};
  }

  std::optional<std::uint64_t> scalar(const std::string& prefix, unsigned place) {
    const auto found = find(prefix, place);
    if (!found) return std::nullopt;
    const TensorInfo& info = reader_.dump().tensors[*found];
    const bool integer = info.dtype == DType::i32 || info.dtype == DType::i64;
    if (!integer || info.shape.size() > 1 || info.elements() != 1) return std::nullopt;
    std::array<std::byte, 8> bytes{};
    const auto own = std::span(bytes).first(info.bytes());
    reader_.read({*found, std::vector<std::uint64_t>(info.shape.size(), 0), info.shape}, own);
    std::uint64_t value = 0;  // of a negative i32 a large one
    std::memcpy(&value, bytes.data(), sizeof value);
    return value >= 1 && value <= kMostNumber ? std::optional(value) : std::nullopt;
  }

  /// All shapes and the stated numbers agree, and the values' size is one that can be reckoned with.
  std::optional<Codes> codes(const std::string& name, unsigned bits, std::uint64_t group) const {
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
      if (__builtin_mul_overflow(size, std::max<std::uint64_t>(extent, 1), &size) || size > kMostWords) return {};
    }
    return Codes{*packed, *scales, *biases, bits, group};
  }

  bool same_rows(const Codes& keys, const Codes& values) const {
    const std::vector<TensorInfo>& tensors = reader_.dump().tensors;
    const std::vector<std::uint64_t>&k = tensors[keys.packed].shape, &v = tensors[values.packed].shape;
    return std::equal(k.begin(), k.end() - 1, v.begin());
  }

  static constexpr std::uint64_t kMostNumber = 1 << 16;
  static constexpr std::uint64_t kMostWords = std::uint64_t{1} << 48;
  DumpReader& reader_;
  std::map<std::string, std::size_t, std::less<>> by_name_;
  std::map<std::string_view, std::string_view, std::less<>> texts_;  // of the file, by name
  MlxPlan plan_;
};

/// "N" and "REST" of the attribute "PLACE.N.REST" of the file; REST may be empty. Nothing for others.
std::optional<std::pair<std::string, std::string>> in_list(const Attribute& a, char place) {
  if (!a.object.empty() || a.name.size() < 3 || a.name[0] != place || a.name[1] != '.') return std::nullopt;
  const std::size_t dot = a.name.find('.', 2);
  if (dot == a.name.npos) return std::pair{a.name.substr(2), std::string()};
  return std::pair{a.name.substr(2, dot - 2), a.name.substr(dot + 1)};
}

/// What an ordinary cache says of itself. Its loader counts on scalars without gaps (load_prompt_cache).
class Relabelled {
 public:
  explicit Relabelled(const MlxPlan& plan) : plan_(plan) {}

  std::vector<Attribute> run(const std::vector<Attribute>& attributes) {
    if (plan_.scalars) number(attributes);
    std::vector<Attribute> out;
    for (const Attribute& a : attributes) {
      if (auto own = relabelled(a)) out.push_back(std::move(*own));
    }
    return out;
  }

 private:
  void number(const std::vector<Attribute>& attributes) {
    for (const Attribute& a : attributes) {
      const auto found = in_list(a, '2');
      if (!found || found->second != "0" || a.strings.size() != 1) continue;
      const auto at = parse_number<std::uint64_t>(found->first, 1, 1 << 30);
      const std::string& name = a.strings[0];
      const std::size_t dot = name.rfind('.');
      const bool gone = dot != name.npos && plan_.decoded.contains(name.substr(0, dot)) &&
                        (name.substr(dot) == ".3" || name.substr(dot) == ".4");
      if (at) stays_.emplace(*at, !gone);
    }
    std::uint64_t next = 1;
    for (const auto& [at, stays] : stays_) places_.emplace(fmt::to_string(at), stays ? next++ : 0);
  }

  std::optional<Attribute> relabelled(const Attribute& a) {
    Attribute out = a;
    const auto of_class = in_list(a, plan_.scalars ? '1' : '2');
    if (of_class && of_class->second.empty() && plan_.decoded.contains(of_class->first)) {
      out.strings = {"KVCache"};
      return out;
    }
    if (const auto scalar = in_list(a, '2'); plan_.scalars && scalar && !scalar->second.empty()) {
      const auto place = places_.find(scalar->first);
      if (place == places_.end()) return out;
      if (place->second == 0) return std::nullopt;
      out.name = fmt::format("2.{}.{}", place->second, scalar->second);
      return out;
    }
    const auto info = in_list(a, '0');
    if (plan_.scalars || !info || info->second.empty() || !plan_.decoded.contains(info->first)) return out;
    if (info->second != "0") return std::nullopt;
    // A plain cache has an empty text in this place.
    return Attribute{{}, "0." + info->first, {""}, {}, {}, {}};
  }

  const MlxPlan& plan_;
  std::map<std::uint64_t, bool> stays_;
  std::map<std::string, std::uint64_t> places_;  // new ones by old ones; 0 = gone
};

class MlxValues final : public DumpReader, public LeavesOut, public OverBlocks {
 public:
  MlxValues(std::unique_ptr<DumpReader> inner, MlxPlan plan) : inner_(std::move(inner)), plan_(std::move(plan)) {
    const Dump& dump = inner_->dump();
    for (std::size_t t = 0; t < dump.tensors.size(); ++t) {
      if (plan_.dropped.contains(t)) continue;
      TensorInfo info = dump.tensors[t];
      if (const auto found = plan_.values.find(t); found != plan_.values.end()) {
        info.name.resize(info.name.rfind('.'));
        const TensorInfo& scales = dump.tensors[found->second.scales];
        info.dtype = scales.dtype;
        info.shape[3] = scales.shape[3] * found->second.group;
      }
      dump_.tensors.push_back(std::move(info));
      origin_.push_back(t);
    }
    dump_.attributes = Relabelled(plan_).run(dump.attributes);
    parts_ = DumpParts(dump_);
  }

  DumpReader& stored() override { return *inner_; }
  /// Any format has a place for arrays.
  bool stored_in(std::string_view) const override { return true; }
  const Dump& dump() const override { return dump_; }
  std::vector<std::string> left_out() const override { return left_out_of(*inner_); }
  std::uint64_t part_count() const override { return parts_.count(); }
  Part part(std::uint64_t index) const override { return parts_.part(dump_, index); }
  void fetch(Part& part) override { fetch_by_reading(*this, part); }

  void read(const Slice& slice, std::span<std::byte> out) override {
    check_slice(dump_, slice, out.size());
    const auto found = plan_.values.find(origin_[slice.tensor]);
    if (found != plan_.values.end()) {
      if (!out.empty()) decode(slice, found->second, out);
      return;
    }
    Slice own = slice;
    own.tensor = origin_[slice.tensor];
    inner_->read(own, out);
  }

 private:
  /// The rows of the slice, of another array and of its columns [first, last).
  Bytes rows_of(const Slice& slice, std::size_t tensor, std::uint64_t first, std::uint64_t last) {
    Slice own = slice;
    own.tensor = tensor;
    own.start[3] = first;
    own.count[3] = last - first;
    Bytes out(own.elements() * slice_unit(inner_->dump().tensors[tensor]));
    inner_->read(own, out);
    return out;
  }

  std::vector<float> floats_of(const Slice& slice, std::size_t tensor, std::uint64_t first, std::uint64_t last) {
    const DType dtype = inner_->dump().tensors[tensor].dtype;
    const Bytes bytes = rows_of(slice, tensor, first, last);
    std::vector<float> out(bytes.size() / dtype_unit(dtype));
    to_float(dtype, bytes, out);
    return out;
  }

  void decode(const Slice& slice, const Codes& codes, std::span<std::byte> out) {
    const std::uint64_t rows = slice.count[0] * slice.count[1] * slice.count[2];
    const std::uint64_t columns = slice.count[3], begin = slice.start[3], end = begin + columns;
    const std::uint64_t first_word = begin * codes.bits / 32, last_word = (end * codes.bits + 31) / 32;
    const std::uint64_t first_group = begin / codes.group, groups = (end - 1) / codes.group + 1 - first_group;
    Bytes packed = rows_of(slice, codes.packed, first_word, last_word);
    packed.push_back({});  // codes are read from two bytes
    const std::vector<float> scales = floats_of(slice, codes.scales, first_group, first_group + groups);
    const std::vector<float> biases = floats_of(slice, codes.biases, first_group, first_group + groups);
    const unsigned mask = (1u << codes.bits) - 1;
    const DType dtype = inner_->dump().tensors[codes.scales].dtype;
    const std::size_t row_bytes = columns * dtype_unit(dtype);
    std::vector<float> values(columns);
    for (std::uint64_t row = 0; row < rows; ++row) {
      const std::byte* bytes = packed.data() + row * (last_word - first_word) * 4;
      for (std::uint64_t g = 0, i = begin; g < groups; ++g) {
        const float scale = scales[row * groups + g], bias = biases[row * groups + g];
        for (const std::uint64_t stop = std::min(end, (first_group + g + 1) * codes.group); i < stop; ++i) {
          const std::uint64_t bit = i * codes.bits - first_word * 32;
          const unsigned two = std::to_integer<unsigned>(bytes[bit / 8]) | std::to_integer<unsigned>(bytes[bit / 8 + 1])
                                                                               << 8;
          values[i - begin] = scale * static_cast<float>(two >> (bit % 8) & mask) + bias;
        }
      }
      from_float(dtype, values, out.subspan(row * row_bytes, row_bytes));
    }
  }

  std::unique_ptr<DumpReader> inner_;
  MlxPlan plan_;
  Dump dump_;
  std::vector<std::size_t> origin_;  // inner tensors by own ones; of values the packed one
  DumpParts parts_;
};

}  // namespace

std::unique_ptr<DumpReader> mlx_values(std::unique_ptr<DumpReader> reader) {
  if (reader->recognition() != nullptr) return reader;
  MlxPlan plan = MlxPlanner(*reader).run();
  if (plan.values.empty()) return reader;
  return std::make_unique<MlxValues>(std::move(reader), std::move(plan));
}

std::vector<std::string> mlx_quantised_lines(DumpReader& reader) {
  DumpReader* under = stored_blocks(reader);
  const MlxPlan plan = MlxPlanner(under != nullptr ? *under : reader).run();
  std::vector<std::string> out;
  const bool shown = under != nullptr;
  for (const auto& [form, caches] : plan.forms) {
    const std::string what =
        fmt::format("quantised caches of MLX, {} of {} bits in groups of {}", caches, form.first, form.second);
    out.push_back(what + (shown ? ", are read as their values and come back as ordinary ones"
                                : ", stay as they are in this container: decompress it first"));
  }
  for (const auto& [why, caches] : plan.kept) {
    out.push_back(fmt::format(
        "quantised caches of MLX, {}, stay as they are: {} (mlx.core.dequantize makes values of them)", caches, why));
  }
  return out;
}

}  // namespace kvzip
