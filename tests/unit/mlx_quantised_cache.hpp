// SPDX-License-Identifier: Apache-2.0
// Quantised caches as mlx-lm saves them.
#pragma once

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "formats/ggml_values.hpp"
#include "formats/mlx_quantised.hpp"
#include "tests/support/memory_dump.hpp"

namespace kvzip::test {

/// A cache of two layers, the second not quantised, as mlx-lm 0.32 and as 0.30 save it; [1, 2, 3, 64] in groups of 32.
struct QuantisedCache {
  explicit QuantisedCache(bool now, int bits = 4) {
    const std::vector<std::pair<std::string, std::string>> texts =
        now ? std::vector<std::pair<std::string, std::string>>{{"0.model", "tiny"}, {"1.0", "QuantizedKVCache"},
                                                               {"1.1", "KVCache"},  {"2.0", ""},
                                                               {"2.1.0", "0.2"},    {"2.1.1", "scalar"},
                                                               {"2.2.0", "0.3"},    {"2.2.1", "scalar"},
                                                               {"2.3.0", "0.4"},    {"2.3.1", "scalar"},
                                                               {"2.4.0", "1.2"},    {"2.4.1", "scalar"}}
            : std::vector<std::pair<std::string, std::string>>{
                  {"0.0.0", "3"},    {"0.0.1", "32"},     {"0.0.2", std::to_string(bits)},
                  {"0.1", ""},       {"1.model", "tiny"}, {"2.0", "QuantizedKVCache"},
                  {"2.1", "KVCache"}};
    for (const auto& [name, value] : texts) dump.attributes.push_back(text_attribute(name, value));
    const std::uint64_t width = 2 * static_cast<std::uint64_t>(bits);
    for (const char* half : {"0.0", "0.1"}) {
      dump.tensors.push_back({std::string(half) + ".0", DType::u32, {1, 2, 3, width}});
      for (const char* array : {".1", ".2"})
        dump.tensors.push_back({half + std::string(array), DType::f16, {1, 2, 3, 2}});
    }
    for (const char* name : {"1.0", "1.1"}) dump.tensors.push_back({name, DType::f16, {1, 2, 3, 64}});
    if (!now) return;
    for (const auto& [name, value] : std::map<std::string, int>{{"0.2", 3}, {"0.3", 32}, {"0.4", bits}, {"1.2", 3}}) {
      dump.tensors.push_back({name, DType::i32, {}});
      scalars[name] = value;
    }
  }

  TensorInfo& tensor(std::string_view name) { return *std::ranges::find(dump.tensors, name, &TensorInfo::name); }
  void text(std::string_view name, std::string value) {
    std::ranges::find(dump.attributes, name, &Attribute::name)->strings = {std::move(value)};
  }

  std::unique_ptr<MemoryReader> reader() const {
    auto out = std::make_unique<MemoryReader>(dump);
    for (std::size_t t = 0; t < dump.tensors.size(); ++t) {
      const auto found = scalars.find(dump.tensors[t].name);
      if (found != scalars.end() && out->data(t).size() >= 4) std::memcpy(out->data(t).data(), &found->second, 4);
      if (const auto type = classes.find(dump.tensors[t].name); type != classes.end()) {
        const std::vector<std::int32_t> points(type->second.begin(), type->second.end());
        std::memcpy(out->data(t).data(), points.data(), out->data(t).size());
      }
      if (dump.tensors[t].dtype != DType::f16) continue;
      for (std::size_t i = 0; i < out->data(t).size() / 2; ++i) {  // no NaN and no overflow in scales
        const std::uint16_t bits = f16_from_float(0.25f * static_cast<float>(i % 7) - 0.5f);
        std::memcpy(out->data(t).data() + 2 * i, &bits, 2);
      }
    }
    return out;
  }

  Dump dump;
  std::map<std::string, int> scalars;
  std::map<std::string, std::string> classes;  // by arrays of code points
};

/// The same caches, the plain one first, in a CacheList of one layer, as mlx-lm 0.32 and as 0.31 save it.
inline QuantisedCache in_list(bool now) {
  QuantisedCache cache(now);
  const auto renamed = [&](const std::string& name) {
    return fmt::format("0.{}{}{}", name[0] == '0' ? "1" : "0", now ? ".0" : "", name.substr(1));
  };
  for (TensorInfo& info : cache.dump.tensors) info.name = renamed(info.name);
  std::map<std::string, int> scalars;
  for (const auto& [name, value] : cache.scalars) scalars[renamed(name)] = value;
  cache.scalars = scalars;
  std::vector<Attribute>& texts = cache.dump.attributes;
  if (!now) {
    texts.clear();
    for (const auto& [name, value] : std::vector<std::pair<std::string, std::string>>{{"0.0.0.0", "KVCache"},
                                                                                      {"0.0.0.1", "QuantizedKVCache"},
                                                                                      {"0.0.1.0", ""},
                                                                                      {"0.0.1.1.0", "3"},
                                                                                      {"0.0.1.1.1", "32"},
                                                                                      {"0.0.1.1.2", "4"},
                                                                                      {"1.model", "tiny"},
                                                                                      {"2.0", "CacheList"}}) {
      texts.push_back(text_attribute(name, value));
    }
    return cache;
  }
  std::erase_if(texts, [](const Attribute& a) { return a.name == "1.1"; });
  for (Attribute& a : texts) {
    if (a.name == "1.0") a.strings = {"CacheList"};
    if (a.name.size() == 5 && a.name.ends_with(".0")) a.strings = {renamed(a.strings[0])};
  }
  cache.classes = {{"0.0.1", "KVCache"}, {"0.1.1", "QuantizedKVCache"}};
  int at = 5;
  for (const auto& [name, type] : cache.classes) {
    cache.dump.tensors.push_back({name, DType::i32, {type.size()}});
    texts.push_back(text_attribute(fmt::format("2.{}.0", at), name));
    texts.push_back(text_attribute(fmt::format("2.{}.1", at++), "string"));
  }
  return cache;
}

inline bool is_decoded(const QuantisedCache& cache) {
  const auto reader = mlx_values(cache.reader());
  return stored_blocks(*reader) != nullptr;
}

}  // namespace kvzip::test
