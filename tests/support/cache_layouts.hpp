// SPDX-License-Identifier: Apache-2.0
// One small cache, laid out as dumps in memory in every way that axis letters can say.
#pragma once

#include <fmt/format.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "kvzip/layout.hpp"
#include "tests/contract/every_instruction_set.hpp"
#include "tests/support/memory_dump.hpp"

namespace kvzip::test {

inline constexpr std::size_t kLayers = 2, kBatch = 2, kHeads = 2, kGroup = 3, kTokens = 150, kDim = 6;

/// A cache without any layout: index layer, batch, head, token, channel.
struct Cache {
  std::size_t heads = kHeads, tokens = kTokens;
  std::vector<float> x;

  Cache(std::size_t h, std::uint64_t seed) : heads(h), x(normal(kLayers * kBatch * h * kTokens * kDim, seed)) {}
  std::size_t at(std::size_t l, std::size_t b, std::size_t h, std::size_t t = 0, std::size_t d = 0) const {
    return (((l * kBatch + b) * heads + h) * tokens + t) * kDim + d;
  }
  std::vector<float> head(std::size_t l, std::size_t b, std::size_t h) const {
    const auto from = x.begin() + static_cast<std::ptrdiff_t>(at(l, b, h));
    return {from, from + static_cast<std::ptrdiff_t>(tokens * kDim)};
  }
};

struct Sides {
  Cache key{kHeads, 1}, value{kHeads, 2}, query{kHeads * kGroup, 3};
  Cache decoded_key = key, decoded_value = value;
  Sides() {
    decoded_key.x = noise(key.x, 4);
    decoded_value.x = noise(value.x, 5);
  }
  static std::vector<float> noise(std::vector<float> x, std::uint64_t seed) {
    const std::vector<float> error = normal(x.size(), seed);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] += 0.1f * error[i];
    return x;
  }
};

/// What a dump in memory is made of.
struct Made {
  Dump dump;
  Recognition recognition;
  std::vector<std::vector<float>> data;

  /// A tensor whose axis letters give its shape; axes L and B that it lacks are held at `layer` and 0. `second` is for
  /// index 1 of an axis 2.
  void add(const std::string& name, Role role, const std::string& axes, const Cache& first, const Cache* second = {},
           std::uint32_t layer = 0) {
    std::vector<std::uint64_t> shape;
    for (const char a : axes) {
      shape.push_back(a == 'B'   ? kBatch
                      : a == 'L' ? kLayers
                      : a == '2' ? 2
                      : a == 'H' ? first.heads
                      : a == 'T' ? kTokens
                      : a == 'D' ? kDim
                                 : first.heads * kDim);
    }
    const Cache& other = second != nullptr ? *second : first;
    dump.tensors.push_back({name, DType::f32, shape});
    std::vector<float>& out = data.emplace_back(dump.tensors.back().elements());
    for (std::size_t i = 0; i < out.size(); ++i) {
      std::size_t rest = i, l = layer, b = 0, pair = 0, h = 0, t = 0, d = 0;
      for (std::size_t a = axes.size(); a-- > 0; rest /= shape[a]) {
        const std::size_t index = rest % shape[a];
        if (axes[a] == 'L') l = index;
        if (axes[a] == 'B') b = index;
        if (axes[a] == '2') pair = index;
        if (axes[a] == 'H') h = index;
        if (axes[a] == 'T') t = index;
        if (axes[a] == 'D') d = index;
        if (axes[a] == 'C') h = index / kDim, d = index % kDim;
      }
      const Cache& from = pair == 1 ? other : first;
      out[i] = from.x[from.at(l, b, h, t, d)];
    }
    std::optional<std::uint32_t> named;
    if (axes.find('L') == axes.npos) named = layer;
    recognition.tensors.push_back({role, named, Axes(axes), ""});
  }

  MemoryReader reader() const {
    MemoryReader out(dump);
    for (std::size_t i = 0; i < data.size(); ++i) from_float(dump.tensors[i].dtype, data[i], out.data(i));
    return out;
  }
  void reverse() {
    std::ranges::reverse(dump.tensors);
    std::ranges::reverse(recognition.tensors);
    std::ranges::reverse(data);
  }
};

using Layout = std::function<Made(const Cache& key, const Cache& value, const Cache* query)>;

inline Layout separate(const std::string& axes, bool layered = false) {
  return [=](const Cache& key, const Cache& value, const Cache* query) {
    Made out;
    for (std::uint32_t l = 0; l < (layered ? 1 : kLayers); ++l) {
      out.add(fmt::format("k{}", l), Role::key, axes, key, nullptr, l);
      out.add(fmt::format("v{}", l), Role::value, axes, value, nullptr, l);
      if (query != nullptr) out.add(fmt::format("q{}", l), Role::query, axes, *query, nullptr, l);
    }
    out.recognition.model.head_dim = kDim;
    return out;
  };
}

inline Layout paired(const std::string& axes, const std::string& query_axes) {
  return [=](const Cache& key, const Cache& value, const Cache* query) {
    Made out;
    out.add("kv", Role::pair, axes, key, &value);
    if (query != nullptr) out.add("q", Role::query, query_axes, *query);
    out.recognition.model.head_dim = kDim;
    return out;
  };
}

}  // namespace kvzip::test
