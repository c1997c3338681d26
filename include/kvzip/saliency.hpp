// SPDX-License-Identifier: Apache-2.0
// How much an error in a token's key or value matters to attention. An encoder that knows it can spend its bits where
// they count; a decoder needs none of it.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kvzip/io.hpp"
#include "kvzip/rules.hpp"

namespace kvzip {

/// Of a dump: for each head of keys and of values one number a token, log2 of what a squared error in it, relative to
/// the tensor's variance, does to the output of attention. All are relative to each other: their mean is 0.
struct Saliency {
  struct Head {
    Role role = Role::key;  // key or value
    std::uint32_t layer = 0;
    std::uint64_t batch = 0, head = 0;
    auto operator<=>(const Head&) const = default;
  };
  /// Heads of which nothing is known are missing.
  std::map<Head, std::vector<float>> heads;
  bool from_queries = false;  // of some layer at least; else all by proxy
  /// Layers, and their sequences, that have the proxy.
  std::set<std::pair<std::uint32_t, std::uint64_t>> by_proxy;
};

struct SaliencyOptions {
  enum class Source : std::uint8_t {
    any,      // queries where there are some, else the proxy
    queries,  // fail(invalid_argument) without; by proxy where they come too early
    proxy,    // proxy_saliency(), whatever there is
  };
  Source source = Source::any;
  /// What to ask in place of the dump's own queries; read by random access.
  DumpReader* queries = nullptr;
  std::string queries_name = "the dump of queries";  // what errors call it
  RecogniseOptions recognise{};                      // of `queries`
  /// Of each head at most so many queries ask, evenly spaced; 0: all where that is little work, else 128.
  std::uint32_t queries_per_head = 0;
  unsigned threads = 0;  // 0 = all
  Progress progress{};   // told of layers
};

/// Measures it, for KvzOptions::saliency. Reads keys and values twice with random access, so not from a pipe; memory
/// follows the queries and the number of tokens, not the size of the cache. The same numbers for any number of threads
/// and on every processor.
///
/// With a = softmax(scale q.k) of a query over the tokens up to its own position and o = sum a v its output, an error
/// of variance e^2 in each channel of value t moves o by a_t^2 D e^2, in key t by a_t^2 |v_t - o|^2 |q|^2 / D e^2, both
/// to first order and squared. A token's weight is the mean of that over the queries of its head's group that come at
/// least 16 positions later, to which 8 of the head's mean are added, over the layer's mean |o|^2, times the tensor's
/// variance over tokens (keys: without RoPE where the dump says how), the first four left out, and at least 2 % of the
/// head's mean. Tokens with numbers that are not finite, or beyond 1e8, get 0. A tensor "positions" is heeded.
Saliency measure_saliency(DumpReader& dump, const Recognition& recognition, const SaliencyOptions& options = {});

/// True when a pipeline of these rules makes use of saliency.
bool weighs(const RuleSet& rules);

}  // namespace kvzip
