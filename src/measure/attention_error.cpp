// SPDX-License-Identifier: Apache-2.0
// Figures from the sums of AttentionError.
#include <cmath>
#include <limits>

#include "src/measure/attention_meter.hpp"

namespace kvzip {
namespace {

double ratio_root(double error, double energy) {
  if (error == 0) return 0;
  if (energy == 0) return std::numeric_limits<double>::infinity();
  return std::sqrt(error / energy);
}

}  // namespace

void AttentionError::merge(const AttentionError& other) {
  queries += other.queries;
  logit_error += other.logit_error;
  logit_energy += other.logit_energy;
  divergence += other.divergence;
  overlap += other.overlap;
  output_error += other.output_error;
  output_energy += other.output_energy;
  cosine += other.cosine;
  left_out += other.left_out;
}
double AttentionError::logits_nrmse() const {
  return ratio_root(logit_error, logit_energy);
}
double AttentionError::kl() const {
  return queries == 0 ? 0 : divergence / static_cast<double>(queries);
}
double AttentionError::top_overlap() const {
  return queries == 0 ? 1 : overlap / static_cast<double>(queries);
}
double AttentionError::output_nrmse() const {
  return ratio_root(output_error, output_energy);
}
double AttentionError::output_cosine() const {
  return queries == 0 ? 1 : cosine / static_cast<double>(queries);
}

}  // namespace kvzip
