// SPDX-License-Identifier: Apache-2.0
// How much attention each token of a cache has had, by H2O (arXiv 2306.14048) and by Keyformer (arXiv 2403.09054).
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "kvzip/io.hpp"
#include "src/measure/asking.hpp"

namespace kvzip::tool {

struct ScoreOptions {
  /// Keyformer: noise of the Gumbel distribution is added to logits, which are divided by a temperature; else H2O.
  bool keyformer = false;
  std::uint64_t seed = 0;        // of the noise
  double first_temperature = 1;  // of queries at positions of the cache: the prompt
  double last_temperature = 2;   // what it rises to over the queries that come later: generation
  double scale = 0;              // of logits; 0 = 1 / sqrt(head_dim)
  unsigned threads = 0;
};

/// By key-value head, then token: the sum, over the queries of the head's group, of softmax((scale q.k + noise) /
/// temperature) over the tokens up to the query's position. What is not finite scores nothing.
using LayerScores = std::vector<std::vector<double>>;
std::map<Asking::Layer, LayerScores> score_tokens(Asking& asking, const ScoreOptions& options,
                                                  const Progress& progress = {});

/// -log(-log u) for a number u between 0 and 1 that follows from the arguments alone.
double gumbel(std::uint64_t seed, std::uint64_t token);

}  // namespace kvzip::tool
