// SPDX-License-Identifier: Apache-2.0
// Order of authority for each tensor: a --map rule; then its dtype; then its name, which alone gives the role; and for
// the axes --layout, what the file states of the tensor or of all, and last the shape table (axes_choice.cpp), which
// the other tensors may confirm or contradict (whole_file.cpp).
#include <algorithm>
#include <string>
#include <unordered_map>

#include "codec/fail.hpp"
#include "formats/axes_choice.hpp"
#include "formats/layer_attention.hpp"
#include "formats/map_rules.hpp"
#include "formats/mlx_cache.hpp"
#include "formats/model_info.hpp"
#include "formats/name_patterns.hpp"
#include "formats/text.hpp"
#include "formats/whole_file.hpp"
#include "kvzip/layout.hpp"

namespace kvzip {
namespace {

TensorRole other(std::string why, Hint hint = Hint::none) {
  TensorRole role;
  role.why = std::move(why);
  role.hint = hint;
  return role;
}

/// A tensor with an axis of layers has no layer number of its own.
TensorRole with_axes(Role role, std::optional<std::uint32_t> layer, const Axes& axes, std::string why) {
  if (axes.has('L')) layer.reset();
  return {.role = role, .layer = layer, .axes = axes, .why = std::move(why)};
}

class Recogniser {
 public:
  Recogniser(const Dump& dump, const RecogniseOptions& options)
      : dump_(dump),
        options_(options),
        layout_(options.layout),
        facts_(read_model_facts(dump)),
        mlx_(dump),
        heads_first_(dump.text("fmt") == "huggingface"),
        flax_(std::ranges::any_of(dump.tensors, [](const TensorInfo& tensor) { return is_index_of_flax(tensor); })) {
    for (const Attribute& attribute : dump.attributes) {
      if (attribute.strings.size() != 1) continue;
      if (attribute.name == "axes" && axes_problem(attribute.strings[0]).empty()) {
        stated_axes_.emplace(attribute.object, Axes(attribute.strings[0]));
      } else if (attribute.name == "role" && !attribute.object.empty()) {
        stated_roles_.emplace(attribute.object, attribute.strings[0]);
      } else if (attribute.name == kLmcacheFormat && !attribute.object.empty()) {
        lmcache_formats_.emplace(attribute.object, attribute.strings[0]);
      }
    }
  }

  std::vector<TensorRole> run() {
    std::vector<TensorRole> roles(dump_.tensors.size());
    std::vector<Draft> drafts;
    for (std::size_t i = 0; i < roles.size(); ++i) {
      Draft draft{.tensor = i, .reading = {}, .choice = {}, .stated = false, .what = {}};
      if (auto settled = first_look(dump_.tensors[i], draft)) {
        roles[i] = std::move(*settled);
      } else {
        drafts.push_back(std::move(draft));
      }
    }
    settle_together(dump_, drafts);
    for (const Draft& draft : drafts) roles[draft.tensor] = role_of(draft);
    return roles;
  }

 private:
  // The number of LMCache's memory format, as the header of its files states it of the tensor.
  static constexpr std::string_view kLmcacheFormat = "safetensors:fmt";

  /// What can be said of a tensor alone: its role, or a draft of it.
  std::optional<TensorRole> first_look(const TensorInfo& tensor, Draft& draft) const {
    for (const MapRule& rule : options_.map) {
      if (const auto match = match_glob(rule.pattern, tensor.name)) return mapped(tensor, rule, match->layer);
    }
    std::string why;
    if (mlx_.present()) draft.reading = mlx_.read(tensor, why);
    if (!is_codable_float(tensor.dtype)) return other(why.empty() ? not_a_float(tensor) : why);
    if (!mlx_.present()) draft.reading = read_name(tensor.name);
    NameReading& reading = draft.reading;
    if (heads_first_ && reading.family == Family::lmcache) reading.family = Family::lmcache_heads_first;
    const bool four = tensor.shape.size() >= 4;  // sequences, tokens, heads and channels
    if (flax_ && four && reading.kind == NameKind::single) reading.family = Family::flax;
    if (reading.kind == NameKind::unknown) {
      if (!why.empty()) return other(why, reading.hint);
      return other("name of no known form", Hint::map);
    }
    state_half(tensor, reading);
    if (!state(tensor, draft)) draft.choice = choose_axes(reading, tensor.shape, facts_);
    if (!why.empty()) draft.choice.why += "; " + why;
    return std::nullopt;
  }

  /// Flax counts the tokens of its caches beside them: cache_index, or, in Gemma's code, end_index.
  static bool is_index_of_flax(const TensorInfo& tensor) {
    const std::string_view name = tensor.name;
    return !is_codable_float(tensor.dtype) && (name.ends_with("cache_index") || name.ends_with("end_index"));
  }

  /// A selection of keys or values leaves half of a tensor that is named as a pair, and says which.
  void state_half(const TensorInfo& tensor, NameReading& reading) const {
    const auto stated = stated_roles_.find(tensor.name);
    if (stated == stated_roles_.end() || reading.kind != NameKind::pair) return;
    for (const Role role : {Role::key, Role::value}) {
      if (stated->second != role_name(role)) continue;
      reading.kind = NameKind::single;
      reading.role = role;
    }
  }

  static std::string not_a_float(const TensorInfo& tensor) {
    return fmt::format("{} is not a float type: stored losslessly", dtype_name(tensor.dtype));
  }

  static TensorRole mapped(const TensorInfo& tensor, const MapRule& rule, std::optional<std::uint32_t> layer) {
    const std::string source = fmt::format("map rule {}", rule.pattern);
    if (rule.role == Role::other) {
      TensorRole role = other(source);
      role.asked = true;
      return role;
    }
    if (!is_codable_float(tensor.dtype)) return other(fmt::format("{}; {}", source, not_a_float(tensor)));
    if (const std::string problem = fit_problem(rule.axes, tensor.shape); !problem.empty()) {
      fail(ErrorCode::invalid_argument, "{}: tensor {}: {}", source, quoted(tensor.name), problem);
    }
    // A rule for all layers need not say which is which: the name does.
    if (!layer) layer = read_name(tensor.name).layer;
    return with_axes(rule.role, layer, rule.axes, source);
  }

  /// Axes that the user or the file states.
  bool state(const TensorInfo& tensor, Draft& draft) const {
    if (applies(layout_, tensor, draft.reading)) {
      if (const std::string problem = fit_problem(layout_, tensor.shape); !problem.empty()) {
        fail(ErrorCode::invalid_argument, "layout {}: tensor {}: {}", options_.layout, quoted(tensor.name), problem);
      }
      draft.choice = {.axes = layout_, .why = "as stated", .hint = {}, .readings = {}, .firm = true};
    } else if (const Axes* stated = stated_axes(tensor, draft.reading)) {
      draft.choice = {.axes = *stated, .why = "stated by the file", .hint = {}, .readings = {}, .firm = true};
    } else if (!state_lmcache(tensor, draft)) {
      return false;
    }
    draft.stated = true;
    return true;
  }

  static bool applies(const Axes& axes, const TensorInfo& tensor, const NameReading& reading) {
    return !axes.empty() && axes.size() == tensor.shape.size() && (!axes.has('2') || reading.kind == NameKind::pair);
  }

  const Axes* stated_axes(const TensorInfo& tensor, const NameReading& reading) const {
    for (const std::string& object : {tensor.name, std::string()}) {
      const auto found = stated_axes_.find(object);
      if (found == stated_axes_.end() || !applies(found->second, tensor, reading)) continue;
      const bool pair_agrees = found->second.has('2') == (reading.kind == NameKind::pair);
      if (pair_agrees && fit_problem(found->second, tensor.shape).empty()) return &found->second;
    }
    return nullptr;
  }

  /// LMCache's memory formats: 1 KV_2LTD, 2 KV_T2D, 3 KV_2TD, 6 KV_MLA_FMT. A number that says something else of the
  /// shape, or of which the shape is unknown, leaves nothing to go by.
  bool state_lmcache(const TensorInfo& tensor, Draft& draft) const {
    const auto found = lmcache_formats_.find(tensor.name);
    if (found == lmcache_formats_.end() || draft.reading.kind != NameKind::pair) return false;
    struct Format {
      std::string_view number, axes;
    };
    constexpr Format kFormats[] = {{"1", "2LTC"}, {"2", "T2C"}, {"3", "2TC"}, {"6", "BLTD"}, {"6", "LTD"}};
    for (const Format& format : kFormats) {
      const Axes axes(format.axes);
      if (found->second != format.number || !fit_problem(axes, tensor.shape).empty()) continue;
      draft.choice = {.axes = axes, .why = {}, .hint = {}, .readings = {}, .firm = true};
      draft.choice.why = fmt::format("stated by LMCache's fmt {}", format.number);
      if (!axes.has('2')) draft.what = "MLA latent";
      return true;
    }
    draft.choice = {.axes = {}, .why = {}, .hint = Hint::layout_or_map, .readings = {}};
    draft.choice.why =
        fmt::format("LMCache's fmt {} is not known to hold keys and values of this shape", quoted(found->second));
    return true;
  }

  static TensorRole role_of(const Draft& draft) {
    const NameReading& reading = draft.reading;
    const AxesChoice& choice = draft.choice;
    const std::string name_rule = fmt::format("name like {}", reading.pattern);
    if (choice.axes.empty()) {
      TensorRole role = other(fmt::format("{}; {}", name_rule, choice.why), choice.hint);
      role.readings = choice.readings;
      return role;
    }
    // A name of pairs over a tensor without their axis is an MLA cache, whose single tensor stands for the keys.
    const bool merged = reading.role == Role::pair && !choice.axes.has('2');
    const bool latent = reading.kind == NameKind::latent || reading.kind == NameKind::rope_part || merged;
    const std::string what = draft.what.empty() ? std::string() : fmt::format("{}, ", draft.what);
    TensorRole role =
        with_axes(merged ? Role::key : reading.role, reading.layer, choice.axes,
                  fmt::format("{}; {}{}{}", name_rule, what, latent && !draft.stated ? "" : "axes ", choice.why));
    role.rivals = choice.rivals;
    return role;
  }

  const Dump& dump_;
  const RecogniseOptions& options_;
  Axes layout_;  // none: the table decides
  ModelFacts facts_;
  MlxCache mlx_;
  bool heads_first_, flax_;                            // LMCache states its order as fmt "huggingface" or "vllm"
  std::unordered_map<std::string, Axes> stated_axes_;  // by object; "" = the file
  std::unordered_map<std::string, std::string> lmcache_formats_, stated_roles_;  // by tensor
};

std::uint32_t layers_seen(const TensorRole& role, const TensorInfo& tensor) {
  if (role.layer) return *role.layer + 1;
  return role.axes.has('L') ? static_cast<std::uint32_t>(role.axes.extent('L', tensor.shape)) : 0;
}

}  // namespace

Recognition recognise(const Dump& dump, const RecogniseOptions& options) {
  if (!options.layout.empty()) {
    if (const std::string problem = axes_problem(options.layout); !problem.empty()) {
      fail(ErrorCode::invalid_argument, "layout '{}': {}, for example BHTD", options.layout, problem);
    }
  }
  for (const MapRule& rule : options.map) {
    const std::string problem = rule.role == Role::other ? std::string() : axes_problem(rule.axes.text());
    if (!problem.empty())
      fail(ErrorCode::invalid_argument, "map rule {}: axes {}: {}", rule.pattern, rule.axes.text(), problem);
  }
  Recognition result;
  result.model = read_model_info(dump);
  result.tensors = Recogniser(dump, options).run();
  for (std::size_t i = 0; i < result.tensors.size(); ++i) {
    const TensorRole& role = result.tensors[i];
    result.model.layers = std::max(result.model.layers, layers_seen(role, dump.tensors[i]));
    if (role.role == Role::key || role.role == Role::value || role.role == Role::pair) ++result.recognised;
  }
  read_layer_attention(dump, result.model);
  return result;
}

}  // namespace kvzip
