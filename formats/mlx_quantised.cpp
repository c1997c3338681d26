// SPDX-License-Identifier: Apache-2.0
#include "formats/mlx_quantised.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <optional>
#include <set>

#include "codec/limits.hpp"
#include "codec/number.hpp"
#include "formats/ggml_values.hpp"
#include "formats/left_out.hpp"
#include "formats/mlx_plan.hpp"
#include "formats/parts.hpp"

namespace kvzip {
namespace {

/// "N" and "REST" of the attribute "2.N.REST" of the file. Nothing for others.
std::optional<std::pair<std::string, std::string>> of_scalar(const Attribute& a) {
  if (!a.object.empty() || !a.name.starts_with("2.")) return std::nullopt;
  const std::size_t dot = a.name.find('.', 2);
  if (dot == a.name.npos) return std::nullopt;
  return std::pair{a.name.substr(2, dot - 2), a.name.substr(dot + 1)};
}

/// What an ordinary cache says of itself. Its loader counts on scalars without gaps (load_prompt_cache).
class Relabelled {
 public:
  Relabelled(const MlxPlan& plan, const Dump& dump) : plan_(plan) {
    for (const auto& [packed, codes] : plan.values) objects_.insert(dump.tensors[packed].name);
    for (const auto& [array, packed] : plan.dropped) objects_.insert(dump.tensors[array].name);
    for (const MlxPart& part : plan.decoded) {
      if (plan.scalars) {
        for (const char* place : {".3", ".4"}) gone_.insert(part.prefix + place);
        if (!part.in_list) texts_.emplace(part.named, Text{part.named, std::string(kMlxPlain)});
        continue;
      }
      texts_.emplace(part.named, Text{part.named, std::string(kMlxPlain)});
      // A plain cache has one empty text in this place.
      for (unsigned k = 0; k < limits::kMlxTexts; ++k) {
        texts_.emplace(fmt::format("{}.{}", part.said, k), k == 0 ? std::optional(Text{part.said, ""}) : std::nullopt);
      }
    }
  }

  std::vector<Attribute> run(const std::vector<Attribute>& attributes) {
    if (plan_.scalars) number(attributes);
    std::vector<Attribute> out;
    for (const Attribute& a : attributes) {
      if (auto own = relabelled(a)) out.push_back(std::move(*own));
    }
    return out;
  }

 private:
  struct Text {
    std::string name, value;
  };

  void number(const std::vector<Attribute>& attributes) {
    std::map<std::uint64_t, bool> stays;
    for (const Attribute& a : attributes) {
      const auto found = of_scalar(a);
      if (!found || found->second != "0" || a.strings.size() != 1) continue;
      const auto at = parse_number<std::uint64_t>(found->first, 1, 1 << 30);
      if (at) stays.emplace(*at, !gone_.contains(a.strings[0]));
    }
    std::uint64_t next = 1;
    for (const auto& [at, stay] : stays) places_.emplace(fmt::to_string(at), stay ? next++ : 0);
  }

  std::optional<Attribute> relabelled(const Attribute& a) const {
    if (!a.object.empty()) return objects_.contains(a.object) ? std::nullopt : std::optional(a);
    if (const auto text = texts_.find(a.name); text != texts_.end()) {
      if (!text->second) return std::nullopt;
      return Attribute{{}, text->second->name, {text->second->value}, {}, {}, {}};
    }
    const auto scalar = plan_.scalars ? of_scalar(a) : std::nullopt;
    const auto place = scalar ? places_.find(scalar->first) : places_.end();
    if (place == places_.end()) return a;
    if (place->second == 0) return std::nullopt;
    Attribute out = a;
    out.name = fmt::format("2.{}.{}", place->second, scalar->second);
    return out;
  }

  const MlxPlan& plan_;
  std::map<std::string, std::optional<Text>, std::less<>> texts_;  // in place of those so called; none = gone
  std::set<std::string, std::less<>> gone_;                        // arrays of scalars
  std::map<std::string, std::uint64_t> places_;                    // new ones by old ones; 0 = gone
  std::set<std::string_view> objects_;                             // arrays that are no more
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
      if (plan_.classes.contains(t)) info.shape = {kMlxPlain.size()};
      dump_.tensors.push_back(std::move(info));
      origin_.push_back(t);
    }
    dump_.attributes = Relabelled(plan_, dump).run(dump.attributes);
    parts_ = DumpParts(dump_);
    if (inner_->recognition() != nullptr) recognition_ = recognised(*inner_->recognition());
  }

  DumpReader& stored() override { return *inner_; }
  /// Any format has a place for arrays.
  bool stored_in(std::string_view) const override { return true; }
  std::size_t shown_as(std::size_t stored) const override {
    const auto found = plan_.dropped.find(stored);
    const auto at = std::ranges::lower_bound(origin_, found == plan_.dropped.end() ? stored : found->second);
    return static_cast<std::size_t>(at - origin_.begin());
  }
  const Dump& dump() const override { return dump_; }
  const Recognition* recognition() const override { return recognition_ ? &*recognition_ : nullptr; }
  /// Its parts are not those of a container.
  ReaderTraits traits() override {
    ReaderTraits out = inner_->traits();
    out.chunk_tokens = 0;
    return out;
  }
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
    if (plan_.classes.contains(origin_[slice.tensor])) return say_plain(slice, out);
    Slice own = slice;
    own.tensor = origin_[slice.tensor];
    inner_->read(own, out);
  }

 private:
  /// What a container states stays, but for what it has as codes.
  Recognition recognised(const Recognition& stated) const {
    Recognition out = recognise(dump_);
    out.model = stated.model;
    out.recognised = 0;
    for (std::size_t t = 0; t < origin_.size(); ++t) {
      TensorRole& role = out.tensors[t];
      const TensorRole& own = stated.tensors[origin_[t]];
      const bool both_other = role.role == Role::other && own.role == Role::other;
      if (!plan_.values.contains(origin_[t]) && !both_other) role = own;
      if (role.layer && *role.layer >= out.model.layers) out.model.layers = *role.layer + 1;
      if (role.role == Role::key || role.role == Role::value || role.role == Role::pair) ++out.recognised;
    }
    return out;
  }

  void say_plain(const Slice& slice, std::span<std::byte> out) const {
    std::array<std::int32_t, kMlxPlain.size()> points{};
    std::ranges::copy(kMlxPlain, points.begin());
    const auto bytes = std::as_bytes(std::span(points).subspan(slice.start[0], slice.count[0]));
    std::ranges::copy(bytes, out.begin());
  }

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

  void decode(const Slice& slice, const MlxCodes& codes, std::span<std::byte> out) {
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
  std::optional<Recognition> recognition_;
};

}  // namespace

std::unique_ptr<DumpReader> mlx_values(std::unique_ptr<DumpReader> reader) {
  MlxPlan plan = plan_mlx(*reader);
  if (plan.values.empty()) return reader;
  return std::make_unique<MlxValues>(std::move(reader), std::move(plan));
}

std::vector<std::string> mlx_quantised_lines(DumpReader& reader) {
  DumpReader* under = stored_blocks(reader);
  const MlxPlan plan = plan_mlx(under != nullptr ? *under : reader);
  std::vector<std::string> out;
  const bool container = reader.traits().container != nullptr;
  for (const auto& [form, caches] : plan.forms) {
    out.push_back(fmt::format(
        "quantised caches of MLX, {} of {} bits in groups of {}, are read as their values and come back as ordinary "
        "ones{}",
        caches, form.first, form.second,
        container ? "; 'kvzip decompress' of the whole container gives them as they were" : ""));
  }
  for (const auto& [why, caches] : plan.kept) {
    out.push_back(fmt::format(
        "quantised caches of MLX, {}, stay as they are: {} (mlx.core.dequantize makes values of them)", caches, why));
  }
  return out;
}

}  // namespace kvzip
