// SPDX-License-Identifier: Apache-2.0
// Members of the figures of fidelity, for JSON and CSV.
#pragma once

#include "formats/json_fields.hpp"
#include "src/measure/fidelity.hpp"

namespace kvzip::tool {

void fields(auto& visit, Is<ValueFigures> auto& f) {
  visit("values", f.values);
  visit("nonfinite_mismatches", f.nonfinite_mismatches);
  visit("max_abs", f.max_abs);
  visit("nrmse", f.nrmse);
  visit("snr_db", f.snr_db);
  visit("cosine_min", f.cosine_min);
  visit("cosine_mean", f.cosine_mean);
}

void fields(auto& visit, Is<AttentionFigures> auto& f) {
  visit("logits_nrmse", f.logits_nrmse);
  visit("kl", f.kl);
  visit("top_overlap", f.top_overlap);
  visit("output_nrmse", f.output_nrmse);
  visit("output_cosine", f.output_cosine);
}

void fields(auto& visit, Is<FidelitySummary> auto& f) {
  visit("key", f.key);
  visit("value", f.value);
  visit("attention", f.attention);
  visit("attention2", f.attention2);
  visit("proxy", f.proxy);
  visit("proxy_pair_nrmse", f.pair_nrmse);
}

}  // namespace kvzip::tool
