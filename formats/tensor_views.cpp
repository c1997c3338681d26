// SPDX-License-Identifier: Apache-2.0
#include "formats/tensor_views.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <set>
#include <utility>

#include "codec/fail.hpp"
#include "codec/kernels/hadamard.hpp"
#include "codec/limits.hpp"
#include "codec/nearest.hpp"
#include "codec/number.hpp"
#include "formats/boxes.hpp"
#include "formats/left_out.hpp"
#include "formats/map_rules.hpp"
#include "formats/name_patterns.hpp"
#include "formats/parts.hpp"
#include "formats/text.hpp"

namespace kvzip {
namespace {

/// A tensor as it is seen: a run of each row of an inner one.
struct Seen {
  std::size_t inner = 0;
  std::uint64_t ratio = 1;   // inner elements to one that is seen
  std::uint64_t skip = 0;    // elements of a row in front
  std::size_t hadamard = 0;  // of what is seen
};

class ViewReader final : public DumpReader, public LeavesOut {
 public:
  ViewReader(std::unique_ptr<DumpReader> inner, const std::vector<TensorView>& views) : inner_(std::move(inner)) {
    reads_through(*inner_);
    const Dump& dump = inner_->dump();
    for (const Attribute& a : dump.attributes) {
      if (a.object.empty()) dump_.attributes.push_back(a);
    }
    for (std::size_t t = 0; t < dump.tensors.size(); ++t) {
      const auto fits = [&](const TensorView& v) { return match_glob(v.pattern, dump.tensors[t].name).has_value(); };
      const auto found = std::ranges::find_if(views, fits);
      if (found == views.end()) {
        add(dump.tensors[t], {t});
      } else {
        add_view(t, *found);
      }
    }
    std::set<std::string_view> names;
    for (const TensorInfo& info : dump_.tensors) {
      if (names.insert(info.name).second) continue;
      fail(ErrorCode::invalid_argument, "two tensors would be called {}", quoted(info.name));
    }
    say_turned();
    parts_ = DumpParts(dump_);
  }

  std::vector<std::string> left_out() const override { return left_out_of(*inner_); }
  const Dump& dump() const override { return dump_; }
  std::uint64_t part_count() const override { return parts_.count(); }
  Part part(std::uint64_t index) const override { return parts_.part(dump_, index); }
  void fetch(Part& part) override { fetch_by_reading(*this, part); }
  void read(const Slice& slice, std::span<std::byte> out) override {
    check_slice(dump_, slice, out.size());
    const Seen& seen = seen_[slice.tensor];
    if (seen.hadamard != 0) return read_turned(slice, seen.hadamard, out);
    read_plain(slice, out);
  }

 private:
  void read_plain(const Slice& slice, std::span<std::byte> out) {
    const Seen& seen = seen_[slice.tensor];
    Slice own = slice;
    own.tensor = seen.inner;
    if (!own.start.empty()) {
      own.start.back() = (own.start.back() + seen.skip) * seen.ratio;
      own.count.back() *= seen.ratio;
    }
    inner_->read(own, out);
  }

  /// Reads whole transforms, of which `slice` may be a part.
  void read_turned(const Slice& slice, std::size_t block, std::span<std::byte> out) {
    const DType dtype = dump_.tensors[slice.tensor].dtype;
    Slice wide = slice;
    const std::uint64_t end = slice.start.back() + slice.count.back();
    wide.start.back() -= wide.start.back() % block;
    wide.count.back() = (end + block - 1) / block * block - wide.start.back();
    Bytes bytes(wide.elements() * dtype_unit(dtype));
    read_plain(wide, bytes);
    std::vector<float> values(wide.elements());
    to_float(dtype, bytes, values);
    const float factor = 1 / std::sqrt(static_cast<float>(block));
    for (std::size_t at = 0; at < values.size(); at += block) kernels::hadamard(block, factor, values.data() + at);
    from_float(dtype, values, bytes);
    copy_box(slice, dtype_unit(dtype), wide, bytes, slice, out);
  }

  void add(TensorInfo info, Seen seen) {
    for (Attribute a : inner_->dump().attributes) {
      if (a.object != inner_->dump().tensors[seen.inner].name) continue;
      a.object = info.name;
      dump_.attributes.push_back(std::move(a));
    }
    dump_.tensors.push_back(std::move(info));
    seen_.push_back(seen);
  }

  void add_view(std::size_t tensor, const TensorView& view) {
    TensorInfo info = inner_->dump().tensors[tensor];
    Seen seen{tensor};
    if (view.dtype) seen.ratio = retype(info, *view.dtype);
    if (view.hadamard != 0) seen.hadamard = view.hadamard;
    if (!view.name.empty()) info.name = view.name;
    if (view.layer) info.name = fmt::format("layers.{}.{}", *view.layer, info.name);
    if (!view.halves) {
      check_turns(info, tensor, seen.hadamard);
      return add(std::move(info), seen);
    }
    if (info.shape.empty() || info.shape.back() % 2 != 0 || dtype_bits(info.dtype) < 8) {
      fail(ErrorCode::invalid_argument, "tensor {} has no last axis of two halves", quoted(info.name));
    }
    info.shape.back() /= 2;
    TensorInfo value = info;
    value.name += ".value";
    info.name += ".key";
    const Seen second{tensor, seen.ratio, info.shape.back(), seen.hadamard};
    check_turns(info, tensor, seen.hadamard);
    add(std::move(info), seen);
    add(std::move(value), second);
  }

  void check_turns(const TensorInfo& info, std::size_t inner, std::size_t block) const {
    if (block == 0) return;
    const bool floats = info.dtype == DType::f16 || info.dtype == DType::bf16 || info.dtype == DType::f32;
    const std::string& name = inner_->dump().tensors[inner].name;
    const auto tokens_last = [&](const Attribute& a) {
      return a.object == name && a.name == "axes" && a.strings.size() == 1 && a.strings[0].ends_with('T');
    };
    if (floats && !info.shape.empty() && info.shape.back() % block == 0 &&
        std::ranges::none_of(inner_->dump().attributes, tokens_last))
      return;
    fail(ErrorCode::invalid_argument, "tensor {} has no last axis of channels, f16, bf16 or f32, in runs of {}",
         quoted(name), block);
  }

  /// What is no longer so is not said of keys and values.
  void say_turned() {
    for (const Role role : {Role::key, Role::value}) {
      std::size_t turned = 0, others = 0;
      for (std::size_t t = 0; t < seen_.size(); ++t) {
        if (read_name(dump_.tensors[t].name).role != role) continue;
        ++(seen_[t].hadamard != 0 ? turned : others);
      }
      // A second cache, as of sliding windows, has one of its own: llama.cpp.swa.rotated_keys.
      const std::string_view what = role == Role::key ? ".rotated_keys" : ".rotated_values";
      for (Attribute& a : dump_.attributes) {
        if (turned == 0 || !a.object.empty() || !a.name.starts_with("llama.cpp.") || !a.name.ends_with(what)) continue;
        if (others > 0) fail(ErrorCode::invalid_argument, "{} holds for all of them, and hadamard not", a.name);
        a.strings = {"0"};
      }
    }
  }

  /// Elements of the type that it had to one of the type that it gets.
  static std::uint64_t retype(TensorInfo& info, DType dtype) {
    const unsigned had = dtype_bits(info.dtype), gets = dtype_bits(dtype);
    const std::uint64_t ratio = had < 8 || gets < 8 || gets % had != 0 ? 0 : gets / had;
    if (ratio == 0 || (ratio > 1 && (info.shape.empty() || info.shape.back() % ratio != 0))) {
      fail(ErrorCode::invalid_argument, "tensor {} of {} cannot be {}", quoted(info.name), dtype_name(info.dtype),
           dtype_name(dtype));
    }
    if (ratio > 1) info.shape.back() /= ratio;
    info.dtype = dtype;
    return ratio;
  }

  std::unique_ptr<DumpReader> inner_;
  Dump dump_;
  std::vector<Seen> seen_;
  DumpParts parts_;
};

/// Where the role begins: behind the last "=" that stands before one.
std::size_t role_at(std::string_view text) {
  for (std::size_t at = text.rfind('='); at != text.npos && at > 0; at = text.rfind('=', at - 1)) {
    const std::string_view target = text.substr(at + 1);
    if (parse_role(target.substr(0, target.find(':')))) return at + 1;
  }
  return text.npos;
}

void take_field(std::string_view field, TensorView& view) {
  const std::size_t equals = std::min(field.find('='), field.size());
  const std::string_view name = field.substr(0, equals), value = field.substr(std::min(equals + 1, field.size()));
  constexpr std::array<std::string_view, 5> kNames{"dtype", "halves", "hadamard", "layer", "name"};
  const bool known = std::ranges::find(kNames, name) != kNames.end();
  if (name == "dtype") {
    view.dtype = dtype_called(value);
    if (view.dtype) return;
  } else if (name == "hadamard") {
    constexpr std::uint32_t kLeastChannels = 64;
    const auto channels = parse_number<std::uint32_t>(value, kLeastChannels, limits::kHeadDim);
    view.hadamard = channels && std::has_single_bit(*channels) ? *channels : 0;
    if (view.hadamard != 0) return;
  } else if (name == "layer") {
    view.layer = parse_layer(value);
    if (view.layer) return;
  } else if (name == "name") {
    view.name = value;
    if (!value.empty() && value.find_first_of("*?{}") == value.npos) return;
  } else if (field == "halves") {
    view.halves = true;
    return;
  }
  fail(ErrorCode::invalid_argument,
       "'{}' is none of dtype=TYPE, halves, hadamard=N (a power of two from 64 on), layer=N and name=NAME{}", field,
       known ? std::string() : did_you_mean(name, kNames));
}

}  // namespace

std::optional<DType> dtype_called(std::string_view text) {
  std::string upper(text);
  std::ranges::transform(upper, upper.begin(), [](char c) { return c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c; });
  return parse_dtype(upper);
}

MapText parse_map_text(std::string_view text) {
  const std::size_t role = role_at(text);
  if (role == text.npos) return {{std::string(text)}, {}};  // which parse_map_rule() explains
  const std::string_view target = text.substr(role);
  TensorView view;
  view.pattern = text.substr(0, role - 1);
  std::size_t end = target.find(':');
  const std::string_view role_text = target.substr(0, end);
  std::string axes;
  bool fields = false;
  for (; end < target.size();) {
    const std::size_t next = std::min(target.find(':', end + 1), target.size());
    const std::string_view field = target.substr(end + 1, next - end - 1);
    const bool first = end == role_text.size();
    if (first && field != "halves" && field.find('=') == field.npos) {
      axes = fmt::format(":{}", field);
    } else {
      take_field(field, view);
      fields = true;
    }
    end = next;
  }
  if (!fields) return {{std::string(text)}, {}};
  std::string pattern = view.name.empty() ? view.pattern : view.name;
  if (view.layer) pattern = "layers.{L}." + pattern;
  if (!view.halves) return {{fmt::format("{}={}{}", pattern, role_text, axes)}, view};
  if (parse_role(role_text) != Role::pair || axes.find('2') != std::string::npos) {
    fail(ErrorCode::invalid_argument, "'{}': halves are of role kv, with axes that have no 2", text);
  }
  return {{fmt::format("{}.key=key{}", pattern, axes), fmt::format("{}.value=value{}", pattern, axes)}, view};
}

std::unique_ptr<DumpReader> view(std::unique_ptr<DumpReader> inner, const std::vector<TensorView>& views) {
  if (views.empty()) return inner;
  if (inner->traits().once) fail(ErrorCode::invalid_argument, "a pipe cannot be read in another way than it comes");
  return std::make_unique<ViewReader>(std::move(inner), views);
}

}  // namespace kvzip
