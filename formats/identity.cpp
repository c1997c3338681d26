// SPDX-License-Identifier: Apache-2.0
#include "formats/identity.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>

#include "codec/limits.hpp"
#include "formats/name_patterns.hpp"
#include "formats/text.hpp"

namespace kvzip {
namespace {

struct Fact {
  std::string_view what;
  Belonging of;
  std::array<std::string_view, 5> names;  // of metadata
};
constexpr std::array kFacts{
    Fact{"model", Belonging::model, {"model", "model_name", "1.model", "0.model", "llama.cpp.architecture"}},
    Fact{"weights", Belonging::model, {"weights_hash", "model_hash", "model_revision", "revision", "commit_hash"}},
    Fact{"rotation of keys", Belonging::model, {"llama.cpp.rotated_keys"}},
    Fact{"rotation of values", Belonging::model, {"llama.cpp.rotated_values"}},
    Fact{"part of the heads", Belonging::model, {"tp_rank", "tensor_parallel_rank", "worker_id"}},
    Fact{"number of parts", Belonging::model, {"tp_size", "tensor_parallel_size", "world_size"}},
    Fact{"tokens", Belonging::cache, {"token_hash", "tokens_hash", "token_ids_hash", "chunk_hash", "prompt_hash"}},
    Fact{"first position", Belonging::cache, {"first_position"}},
};
constexpr std::array<std::string_view, 4> kTokenLists{"token_ids", "input_ids", "tokens", "prompt_tokens"};

bool says_scale(std::string_view name) {
  std::string lower(name);
  std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return lower.find("scale") != std::string::npos && lower.find("rope_scal") == std::string::npos;
}

bool is_f8(DType dtype) {
  return dtype_bits(dtype) == 8 && is_codable_float(dtype);
}

Bytes whole(DumpReader& reader, std::size_t tensor) {
  const TensorInfo& info = reader.dump().tensors[tensor];
  Bytes out(info.bytes());
  reader.read({tensor, std::vector<std::uint64_t>(info.shape.size(), 0), info.shape}, out);
  return out;
}

/// The lists of this name in both dumps, of elements that can be compared; nothing where one has none.
std::optional<std::pair<std::size_t, std::size_t>> lists_called(std::string_view name, DumpReader& a, DumpReader& b) {
  if (a.traits().once || b.traits().once) return std::nullopt;
  const auto find = [&](const std::vector<TensorInfo>& tensors) -> std::optional<std::size_t> {
    const auto at = std::ranges::find(tensors, name, &TensorInfo::name);
    if (at == tensors.end() || dtype_bits(at->dtype) < 8 || at->shape.empty()) return std::nullopt;
    if (at->bytes() == 0 || at->bytes() > limits::kTokenList) return std::nullopt;
    return static_cast<std::size_t>(at - tensors.begin());
  };
  const auto here = find(a.dump().tensors), there = find(b.dump().tensors);
  if (!here || !there) return std::nullopt;
  return std::pair(*here, *there);
}

}  // namespace

Identity identity_of(const Dump& dump, const std::vector<std::pair<std::string, std::string>>& user) {
  Identity out;
  for (const Fact& fact : kFacts) {
    for (const std::string_view name : fact.names) {
      if (name.empty()) continue;
      const auto given = std::ranges::find_if(user, [&](const auto& pair) { return pair.first == name; });
      std::string value = given != user.end() ? given->second : dump.text(name);
      if (value.empty() || value == "unknown") continue;
      out.emplace(fact.what, std::move(value));
      break;
    }
  }
  return out;
}

std::string differing_text(const Identity& a, const Identity& b, Belonging what) {
  std::string out;
  for (const Fact& fact : kFacts) {
    const auto left = a.find(std::string(fact.what)), right = b.find(std::string(fact.what));
    if (left == a.end() || right == b.end() || left->second == right->second) continue;
    if (fact.of == Belonging::cache && what == Belonging::model) continue;
    out += fmt::format("{}{} ({} and {})", out.empty() ? "" : ", ", fact.what, quoted(left->second),
                       quoted(right->second));
  }
  return out;
}

bool other_token_ids(DumpReader& a, DumpReader& b) {
  for (const std::string_view name : kTokenLists) {
    const auto lists = lists_called(name, a, b);
    if (lists && a.dump().tensors[lists->first] == b.dump().tensors[lists->second] &&
        whole(a, lists->first) != whole(b, lists->second)) {
      return true;
    }
  }
  return false;
}

bool repeats_token_ids(DumpReader& first, std::uint64_t tokens, DumpReader& more) {
  for (const std::string_view name : kTokenLists) {
    const auto lists = lists_called(name, first, more);
    if (!lists) continue;
    const TensorInfo &a = first.dump().tensors[lists->first], &b = more.dump().tensors[lists->second];
    if (a.dtype != b.dtype || a.elements() != tokens || a.elements() != a.shape.back() ||
        b.elements() != b.shape.back())
      continue;
    const Bytes front = whole(first, lists->first), all = whole(more, lists->second);
    if (front.size() <= all.size() && std::equal(front.begin(), front.end(), all.begin())) return true;
  }
  return false;
}

std::string missing_scales_text(const Dump& dump, const Recognition& recognition) {
  const auto scaled = [](const auto& named) { return says_scale(named.name); };
  if (std::ranges::any_of(dump.tensors, scaled) || std::ranges::any_of(dump.attributes, scaled)) return {};
  std::size_t count = 0;
  DType dtype = DType::i8;
  for (std::size_t i = 0; i < dump.tensors.size(); ++i) {
    const TensorInfo& info = dump.tensors[i];
    const bool cache = recognition.tensors[i].role != Role::other && recognition.tensors[i].role != Role::query;
    const bool integers = info.dtype == DType::i8 && info.shape.size() > 1 &&
                          read_name(info.name).kind != NameKind::unknown && read_name(info.name).role != Role::query;
    if (!(cache && is_f8(info.dtype)) && !integers) continue;
    if (++count == 1) dtype = info.dtype;
  }
  if (count == 0) return {};
  return fmt::format(
      "{} tensors of keys or values are {}, and nothing in the file is called a scale: where the model "
      "divided by scales, values mean nothing without them",
      count, dtype_name(dtype));
}

}  // namespace kvzip
