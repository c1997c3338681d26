// SPDX-License-Identifier: Apache-2.0
#include "formats/hdf5_filter/h5z_settings.hpp"

#include <algorithm>
#include <optional>
#include <string_view>

#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "codec/number.hpp"
#include "kvzip/rules.hpp"

namespace kvzip::h5z {
namespace {

std::string text_of(std::span<const unsigned> parameters) {
  if (parameters.size() > limits::kFilterParameters) {
    fail(ErrorCode::limit, "more than {} parameters of the filter", limits::kFilterParameters);
  }
  std::string text;
  for (const unsigned word : parameters) {
    for (unsigned byte = 0; byte < 4; ++byte) text.push_back(static_cast<char>(word >> (8 * byte)));
  }
  text.erase(std::min(text.find('\0'), text.size()));
  return text;
}

/// The words of a text by name; each at most once. `pipeline=` takes all that follows it.
struct Words {
  std::optional<std::string_view> dtype, shape, axes, role, layer, layers, preset, pipeline;

  explicit Words(std::string_view text) {
    while (!text.empty()) {
      const std::size_t equals = text.find('=');
      const std::string_view name = text.substr(0, equals);
      std::optional<std::string_view>* word = find(name);
      if (equals == text.npos || word == nullptr || word->has_value()) {
        fail(ErrorCode::invalid_argument, "'{}' among the filter's settings", name);
      }
      text.remove_prefix(equals + 1);
      const std::size_t end = name == "pipeline" ? text.size() : std::min(text.find(' '), text.size());
      *word = text.substr(0, end);
      text.remove_prefix(std::min(end + 1, text.size()));
    }
    if (!dtype || !shape || !axes || !role || preset.has_value() == pipeline.has_value()) {
      fail(ErrorCode::invalid_argument, "the filter wants dtype=, shape=, axes=, role=, and preset= or pipeline=");
    }
  }

 private:
  std::optional<std::string_view>* find(std::string_view name) {
    if (name == "dtype") return &dtype;
    if (name == "shape") return &shape;
    if (name == "axes") return &axes;
    if (name == "role") return &role;
    if (name == "layer") return &layer;
    if (name == "layers") return &layers;
    if (name == "preset") return &preset;
    if (name == "pipeline") return &pipeline;
    return nullptr;
  }
};

std::uint32_t number_of(std::string_view text, std::string_view what) {
  const std::optional<std::uint32_t> number = parse_number<std::uint32_t>(text);
  if (!number) fail(ErrorCode::invalid_argument, "{} is no {}", text, what);
  return *number;
}

std::vector<std::uint64_t> shape_of(std::string_view text) {
  std::vector<std::uint64_t> shape;
  for (;;) {
    const std::size_t comma = std::min(text.find(','), text.size());
    shape.push_back(number_of(text.substr(0, comma), "size of an axis"));
    if (comma == text.size()) return shape;
    text.remove_prefix(comma + 1);
  }
}

/// The pipeline of the preset's first rule for such a tensor.
std::string pipeline_of(std::string_view preset, Role role, std::uint32_t layer, std::uint32_t layers) {
  for (const Rule& rule : RuleSet::builtin(preset).rules) {
    if (!rule.matches(role, layer, layers)) continue;
    if (rule.scope != Rule::Scope::tensor || rule.joint_layers != 1) {
      fail(ErrorCode::invalid_argument, "preset {} is for more than one tensor, or single heads, at a time", preset);
    }
    return rule.pipeline;
  }
  fail(ErrorCode::invalid_argument, "preset {} has no rule for a {}", preset, role_name(role));
}

}  // namespace

Settings parse_settings(std::span<const unsigned> parameters) {
  return parse_settings(text_of(parameters));
}

Settings parse_settings(std::string_view text) {
  const Words words{text};
  Settings out;

  const std::optional<DType> dtype = parse_dtype(*words.dtype);
  if (!dtype || !is_codable_float(*dtype)) fail(ErrorCode::invalid_argument, "dtype={} is no float type", *words.dtype);
  out.format.dtype = *dtype;
  const std::optional<Role> role = parse_role(*words.role);
  if (role != Role::key && role != Role::value && role != Role::query) {
    fail(ErrorCode::invalid_argument, "role={}: key, value or query", *words.role);
  }
  out.format.role = *role;

  out.shape = shape_of(*words.shape);
  const std::string_view axes = *words.axes;
  out.token_axis = axes.find('T');
  if (axes.size() != out.shape.size() || out.token_axis == axes.npos || axes.back() == 'T' ||
      axes.rfind('T') != out.token_axis) {
    fail(ErrorCode::invalid_argument, "axes={} for shape={}: a letter each, T for tokens, the last for channels", axes,
         *words.shape);
  }
  std::uint64_t values = 1;
  for (const std::uint64_t size : out.shape) {
    if (size == 0 || values > limits::kFrameValues / size) {
      fail(ErrorCode::limit, "shape={}: a chunk has 1 to {} values", *words.shape, limits::kFrameValues);
    }
    values *= size;
  }
  out.format.head_dim = static_cast<std::uint32_t>(out.shape.back());
  out.format.heads = static_cast<std::uint32_t>(values / out.tokens() / out.shape.back());

  if (words.pipeline) {
    out.pipeline = *words.pipeline;
  } else {
    const std::uint32_t layer = words.layer ? number_of(*words.layer, "layer") : 0;
    const std::uint32_t layers = words.layers ? number_of(*words.layers, "number of layers") : layer + 1;
    if (layer >= layers) fail(ErrorCode::invalid_argument, "layer={} of layers={}", layer, layers);
    out.pipeline = pipeline_of(*words.preset, *role, layer, layers);
  }
  return out;
}

}  // namespace kvzip::h5z
