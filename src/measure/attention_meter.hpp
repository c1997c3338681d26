// SPDX-License-Identifier: Apache-2.0
// What a decoded cache does to attention: logits, distributions and outputs of queries, exact and streamed over tokens.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

namespace kvzip {

/// Sums over queries of one head, original against decoded; man/kvzip.1, "MEASURES OF ATTENTION". Merging pools them.
struct AttentionError {
  std::uint64_t queries = 0;
  double logit_error = 0, logit_energy = 0;    // squares of (s - s') and of s, summed
  double divergence = 0;                       // KL(p || p') in nats, summed over queries
  double overlap = 0;                          // share of p's top k tokens that are p' top k tokens, summed
  double output_error = 0, output_energy = 0;  // squares of |o - o'| and of |o|, summed
  double cosine = 0;                           // cos(o, o'), summed
  std::uint64_t left_out = 0;  // pairs of a query and a token it sees that enter nothing, see AttentionMeter

  void merge(const AttentionError& other);
  double logits_nrmse() const;  // sqrt(logit_error / logit_energy); 0 when both are 0, infinity when only the energy is
  double kl() const;            // nats a query
  double top_overlap() const;   // 0 to 1
  double output_nrmse() const;
  double output_cosine() const;
};

/// Measures one key-value head and the query heads that share it. Memory follows the queries, not the tokens. Results
/// do not depend on the instruction set, nor on the calls' sizes as long as these are multiples of 128 tokens;
/// otherwise their last digits do. A token is left out, on both sides, when any of its four vectors holds a number that
/// is not finite or beyond 1e30; a pair of a query and a token when its logit is beyond 1e15 on either side; a query
/// that is not finite wholly.
class AttentionMeter {
 public:
  struct Shape {
    std::uint32_t query_heads = 1;  // of this key-value head (the GQA group)
    std::uint32_t head_dim = 1, value_dim = 1;
    double scale = 0;          // logits = scale q.k; 0 = 1 / sqrt(head_dim)
    std::uint32_t top_k = 16;  // at most the tokens a query sees
    std::uint64_t window = 0;  // of those up to its own position the last so many; 0 = all
  };
  /// queries: query_heads x positions.size() x head_dim. positions: ascending; a query sees the tokens whose position
  /// is not above its own, nor `window` or more below.
  AttentionMeter(const Shape& shape, std::span<const float> queries, std::span<const std::uint64_t> positions);
  ~AttentionMeter();
  AttentionMeter(AttentionMeter&&) noexcept;
  AttentionMeter& operator=(AttentionMeter&&) noexcept;

  /// Tokens at these positions, which ascend and are above those of the last call: tokens x head_dim keys and tokens x
  /// value_dim values of both sides.
  void add(std::span<const std::uint64_t> positions, std::span<const float> keys, std::span<const float> values,
           std::span<const float> decoded_keys, std::span<const float> decoded_values);
  /// One for each query head, after the last token. Queries that see no token, or none that counts, are not counted.
  std::span<const AttentionError> finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace kvzip
