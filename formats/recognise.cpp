// SPDX-License-Identifier: Apache-2.0
// Order of authority for each tensor: a --map rule; then its dtype; then its name, which alone gives the role; and for
// the axes --layout, the `axes` attribute of the tensor or of the file, and last the shape table (axes.cpp).
#include <algorithm>
#include <string>
#include <unordered_map>

#include "codec/fail.hpp"
#include "formats/axes.hpp"
#include "formats/map_rules.hpp"
#include "formats/model_info.hpp"
#include "formats/name_patterns.hpp"
#include "formats/text.hpp"
#include "kvzip/layout.hpp"

namespace kvzip {
namespace {

TensorRole other(std::string why) {
  return {.role = Role::other, .layer = std::nullopt, .axes = {}, .why = std::move(why)};
}

bool holds_pair(std::string_view axes) {
  return axes.find('2') != axes.npos;
}

/// A tensor with an axis of layers has no layer number of its own.
TensorRole with_axes(Role role, std::optional<std::uint32_t> layer, std::string axes, std::string why) {
  if (axes.find('L') != axes.npos) layer.reset();
  return {.role = role, .layer = layer, .axes = std::move(axes), .why = std::move(why)};
}

/// An MLX prompt cache names its arrays by their place in a tree: layer, then 0 = keys and 1 = values.
class MlxCache {
 public:
  explicit MlxCache(const Dump& dump) {
    bool numbered = false;
    for (const Attribute& attribute : dump.attributes) {
      if (!attribute.object.empty() || attribute.name.size() < 3 || attribute.name[1] != '.') continue;
      numbered = numbered || (attribute.name[0] >= '0' && attribute.name[0] <= '2');
      if (attribute.name[0] == '2' && !attribute.strings.empty()) {
        classes_.emplace(std::string_view(attribute.name).substr(2), attribute.strings[0]);
      }
    }
    present_ = numbered && !dump.tensors.empty() &&
               std::ranges::all_of(dump.tensors, [](const TensorInfo& t) { return !numeric_path(t.name).empty(); });
  }

  bool present() const { return present_; }

  /// Kind unknown: no keys or values, and `why` says what instead.
  NameReading read(const TensorInfo& tensor, std::string& why) const {
    const std::vector<std::uint32_t> path = numeric_path(tensor.name);
    const auto found = classes_.find(std::string_view(tensor.name).substr(0, tensor.name.find('.')));
    // Files older than the list of classes hold plain caches only.
    const std::string_view type = found == classes_.end() ? "KVCache" : found->second;
    if (path.size() > 2 || type.starts_with("Quantized")) {
      why = tensor.dtype == DType::u32 ? "packed codes of a quantised MLX cache: stored losslessly"
                                       : "part of a quantised or nested MLX cache: stored losslessly";
      return {};
    }
    if (!type.ends_with("KVCache") || path[1] > 1 || tensor.shape.size() != 4) {
      why = fmt::format("state of an MLX cache of class {}, not its keys or values: stored losslessly", quoted(type));
      return {};
    }
    return {.kind = NameKind::single,
            .role = path[1] == 0 ? Role::key : Role::value,
            .layer = path[0],
            .family = Family::hugging_face,
            .pattern = "N.0 of an MLX prompt cache"};
  }

 private:
  std::unordered_map<std::string_view, std::string_view> classes_;
  bool present_ = false;
};

class Recogniser {
 public:
  Recogniser(const Dump& dump, const RecogniseOptions& options)
      : options_(options), facts_(read_model_facts(dump)), mlx_(dump), heads_first_(dump.text("fmt") == "huggingface") {
    for (const Attribute& attribute : dump.attributes) {
      if (attribute.name == "axes" && attribute.strings.size() == 1 && axes_problem(attribute.strings[0]).empty()) {
        stated_axes_.emplace(attribute.object, attribute.strings[0]);
      }
    }
  }

  TensorRole operator()(const TensorInfo& tensor) const {
    for (const MapRule& rule : options_.map) {
      if (const auto match = match_glob(rule.pattern, tensor.name)) return mapped(tensor, rule, match->layer);
    }
    std::string why;
    NameReading reading;
    if (mlx_.present()) reading = mlx_.read(tensor, why);
    if (!is_codable_float(tensor.dtype)) return other(why.empty() ? not_a_float(tensor) : why);
    if (!mlx_.present()) reading = read_name(tensor.name);
    if (heads_first_ && reading.family == Family::lmcache) reading.family = Family::lmcache_heads_first;
    if (reading.kind == NameKind::unknown) {
      return other(why.empty() ? "name of no known form: --map can give its role" : why);
    }
    return named(tensor, reading);
  }

 private:
  static std::string not_a_float(const TensorInfo& tensor) {
    return fmt::format("{} is not a float type: stored losslessly", dtype_name(tensor.dtype));
  }

  static TensorRole mapped(const TensorInfo& tensor, const MapRule& rule, std::optional<std::uint32_t> layer) {
    const std::string source = fmt::format("--map {}", rule.pattern);
    if (rule.role == Role::other) return other(source);
    if (!is_codable_float(tensor.dtype)) return other(fmt::format("{}; {}", source, not_a_float(tensor)));
    if (const std::string problem = fit_problem(rule.axes, tensor.shape); !problem.empty()) {
      fail(ErrorCode::invalid_argument, "{}: tensor {}: {}", source, quoted(tensor.name), problem);
    }
    return with_axes(rule.role, layer, rule.axes, source);
  }

  TensorRole named(const TensorInfo& tensor, const NameReading& reading) const {
    const std::string name_rule = fmt::format("name like {}", reading.pattern);
    const bool latent = reading.kind == NameKind::latent || reading.kind == NameKind::rope_part;
    if (applies(options_.layout, tensor, reading)) {
      if (const std::string problem = fit_problem(options_.layout, tensor.shape); !problem.empty()) {
        fail(ErrorCode::invalid_argument, "--layout {}: tensor {}: {}", options_.layout, quoted(tensor.name), problem);
      }
      const bool single_pair = reading.role == Role::pair && !holds_pair(options_.layout);
      return with_axes(single_pair ? Role::key : reading.role, reading.layer, options_.layout,
                       fmt::format("{}; axes by --layout", name_rule));
    }
    if (const std::string* stated = stated_axes(tensor, reading)) {
      return with_axes(reading.role, reading.layer, *stated, fmt::format("{}; axes stated by the file", name_rule));
    }
    AxesChoice choice = choose_axes(reading, tensor.shape, facts_);
    if (choice.axes.empty()) return other(fmt::format("{}; {}", name_rule, choice.why));
    // A name of pairs over a tensor without their axis is an MLA cache, whose single tensor stands for the keys.
    const bool merged = reading.role == Role::pair && !holds_pair(choice.axes);
    const std::string_view source = latent || merged ? "" : "axes ";
    return with_axes(merged ? Role::key : reading.role, reading.layer, std::move(choice.axes),
                     fmt::format("{}; {}{}", name_rule, source, choice.why));
  }

  static bool applies(std::string_view axes, const TensorInfo& tensor, const NameReading& reading) {
    return !axes.empty() && axes.size() == tensor.shape.size() && (!holds_pair(axes) || reading.kind == NameKind::pair);
  }

  const std::string* stated_axes(const TensorInfo& tensor, const NameReading& reading) const {
    for (const std::string& object : {tensor.name, std::string()}) {
      const auto found = stated_axes_.find(object);
      if (found == stated_axes_.end() || !applies(found->second, tensor, reading)) continue;
      const bool pair_agrees = holds_pair(found->second) == (reading.kind == NameKind::pair);
      if (pair_agrees && fit_problem(found->second, tensor.shape).empty()) return &found->second;
    }
    return nullptr;
  }

  const RecogniseOptions& options_;
  ModelFacts facts_;
  MlxCache mlx_;
  bool heads_first_;                                          // LMCache states its order as fmt "huggingface" or "vllm"
  std::unordered_map<std::string, std::string> stated_axes_;  // by object; "" = the file
};

std::uint32_t layers_seen(const TensorRole& role, const TensorInfo& tensor) {
  if (role.layer) return *role.layer + 1;
  const std::size_t axis = role.axes.find('L');
  return axis == role.axes.npos ? 0 : static_cast<std::uint32_t>(tensor.shape[axis]);
}

}  // namespace

Recognition recognise(const Dump& dump, const RecogniseOptions& options) {
  if (!options.layout.empty()) {
    if (const std::string problem = axes_problem(options.layout); !problem.empty()) {
      fail(ErrorCode::invalid_argument, "--layout '{}': {}, for example BHTD", options.layout, problem);
    }
  }
  for (const MapRule& rule : options.map) {
    const std::string problem = rule.role == Role::other ? std::string() : axes_problem(rule.axes);
    if (!problem.empty()) fail(ErrorCode::invalid_argument, "--map {}: axes {}: {}", rule.pattern, rule.axes, problem);
  }
  Recognition result;
  result.model = read_model_info(dump);
  const Recogniser recogniser(dump, options);
  result.tensors.reserve(dump.tensors.size());
  for (const TensorInfo& tensor : dump.tensors) {
    TensorRole role = recogniser(tensor);
    result.model.layers = std::max(result.model.layers, layers_seen(role, tensor));
    if (role.role == Role::key || role.role == Role::value || role.role == Role::pair) ++result.recognised;
    result.tensors.push_back(std::move(role));
  }
  return result;
}

}  // namespace kvzip
