// SPDX-License-Identifier: Apache-2.0
#include "formats/model_info.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <initializer_list>
#include <limits>
#include <optional>
#include <string_view>

#include "codec/limits.hpp"
#include "codec/number.hpp"

namespace kvzip {
namespace {

std::string first_text(const Dump& dump, std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) {
    if (std::string text = dump.text(name); !text.empty()) return text;
  }
  return {};
}

std::uint64_t count(const Dump& dump, std::initializer_list<std::string_view> names, std::uint64_t max) {
  return parse_number<std::uint64_t>(first_text(dump, names), 0, max).value_or(0);
}

void read_positive(const Dump& dump, std::string_view name, double& value) {
  value = parse_number<double>(dump.text(name), std::numeric_limits<double>::denorm_min()).value_or(value);
}

}  // namespace

Rope read_rope(const Dump& dump) {
  Rope rope;
  const std::string state = dump.text("rope");
  if (state == "post") rope.state = Rope::State::post;
  if (state == "pre") rope.state = Rope::State::pre;
  if (state == "none") rope.state = Rope::State::none;
  if (dump.text("rope_layout") == "interleaved") rope.layout = Rope::Layout::interleaved;
  const std::string scaling = dump.text("rope_scaling_type");
  if (scaling == "linear") rope.scaling = Rope::Scaling::linear;
  if (scaling == "llama3") rope.scaling = Rope::Scaling::llama3;
  if (scaling == "yarn") rope.scaling = Rope::Scaling::yarn;
  read_positive(dump, "rope_theta", rope.theta);
  read_positive(dump, "rope_scaling_factor", rope.factor);
  read_positive(dump, "rope_low_freq_factor", rope.low_freq_factor);
  read_positive(dump, "rope_high_freq_factor", rope.high_freq_factor);
  read_positive(dump, "rope_original_context", rope.original_context);
  rope.dims = static_cast<std::uint32_t>(count(dump, {"rope_dims"}, limits::kHeadDim));
  // Kept well inside 64 bits so that position + token cannot wrap.
  rope.first_position = count(dump, {"first_position"}, std::numeric_limits<std::uint64_t>::max() >> 1);
  return rope;
}

namespace {

bool is_integer(DType dtype) {
  return dtype == DType::i32 || dtype == DType::i64 || dtype == DType::u32 || dtype == DType::u64 ||
         dtype == DType::u16 || dtype == DType::i16;
}

}  // namespace

std::optional<std::size_t> find_token_ids(const Dump& dump) {
  constexpr std::array<std::string_view, 5> kNames{"token_ids", "input_ids", "tokens", "prompt_tokens", "ids"};
  std::optional<std::size_t> found;
  for (std::size_t t = 0; t < dump.tensors.size(); ++t) {
    const TensorInfo& tensor = dump.tensors[t];
    const std::string_view name = tensor.name;
    const std::size_t slash = name.find_last_of("./");
    const std::string_view last = slash == name.npos ? name : name.substr(slash + 1);
    const bool listed = !tensor.shape.empty() && tensor.shape.size() <= 2 && is_integer(tensor.dtype);
    if (!listed || std::ranges::find(kNames, last) == kNames.end()) continue;
    if (found && dump.tensors[*found].shape.back() != tensor.shape.back()) return std::nullopt;
    if (!found) found = t;
  }
  return found;
}

ModelFacts read_model_facts(const Dump& dump) {
  const auto ids = find_token_ids(dump);
  return {.layers = count(dump, {"n_layers", "num_layers", "num_hidden_layers"}, limits::kLayers),
          .heads = count(dump, {"n_heads", "num_heads", "num_attention_heads"}, limits::kHeads),
          .kv_heads = count(dump, {"n_kv_heads", "num_kv_heads", "num_key_value_heads"}, limits::kHeads),
          .head_dim = count(dump, {"head_dim", "head_size"}, limits::kHeadDim),
          .tokens = ids ? dump.tensors[*ids].shape.back() : 0};
}

namespace {

using Names = std::initializer_list<std::string_view>;

struct WordName {
  std::string_view name;
  Names words;
};
struct NumberNames {
  Names names;
  std::uint64_t least, most;
};

bool is_in(const Names& names, std::string_view name) {
  return std::ranges::find(names, name) != names.end();
}

std::string word_problem(std::string_view name, std::string_view value) {
  const WordName kWords[] = {{"rope", {"post", "pre", "none"}}, {"rope_layout", {"half", "interleaved"}}};
  for (const auto& [known, words] : kWords) {
    if (known == name && !is_in(words, value)) return fmt::format("expected one of {}", fmt::join(words, ", "));
  }
  return {};
}

std::string number_problem(std::string_view name, std::string_view value) {
  constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max() >> 1;
  const NumberNames kWhole[] = {{{"n_layers", "num_layers", "num_hidden_layers"}, 1, limits::kLayers},
                                {{"n_heads", "num_heads", "num_attention_heads"}, 1, limits::kHeads},
                                {{"n_kv_heads", "num_kv_heads", "num_key_value_heads"}, 1, limits::kHeads},
                                {{"head_dim", "head_size"}, 1, limits::kHeadDim},
                                {{"rope_dims"}, 0, limits::kHeadDim},
                                {{"first_position"}, 0, kMost}};
  for (const NumberNames& known : kWhole) {
    if (!is_in(known.names, name) || parse_number<std::uint64_t>(value, known.least, known.most)) continue;
    return fmt::format("expected a whole number from {} to {}", known.least, known.most);
  }
  const Names kPositive = {"rope_theta",       "rope_scaling_factor",  "rope_low_freq_factor", "rope_high_freq_factor",
                           "rope_theta_local", "rope_local_base_freq", "rope_original_context"};
  if (is_in(kPositive, name) && !parse_number<double>(value, std::numeric_limits<double>::denorm_min())) {
    return "expected a positive number";
  }
  return {};
}

}  // namespace

std::string metadata_problem(std::string_view name, std::string_view value) {
  name = name.substr(0, name.find('['));
  if (value.empty() || value == "null" || value == "None") return {};  // as a config.json has them
  if (name == "axes") {
    const std::string problem = axes_problem(value);
    return problem.empty() ? problem : problem + ", for example BHTD";
  }
  const std::string problem = word_problem(name, value);
  return problem.empty() ? number_problem(name, value) : problem;
}

ModelInfo read_model_info(const Dump& dump) {
  const ModelFacts facts = read_model_facts(dump);
  return {.model = first_text(dump, {"model", "model_name", "1.model", "0.model"}),
          .layers = static_cast<std::uint32_t>(facts.layers),
          .kv_heads = static_cast<std::uint32_t>(facts.kv_heads),
          .head_dim = static_cast<std::uint32_t>(facts.head_dim),
          .rope = read_rope(dump),
          .window = 0,
          .own = {}};
}

}  // namespace kvzip
