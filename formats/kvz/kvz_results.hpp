// SPDX-License-Identifier: Apache-2.0
// The record "results" of a container (man/kvz.5): what was asked for, and what the writer measured while it wrote.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kvzip/dtype.hpp"
#include "kvzip/io.hpp"
#include "kvzip/layout.hpp"

namespace kvzip {

struct KvzResults {
  std::string target;  // "ratio", "bits", "nrmse", "attention" or "max-error"
  double wanted = 0;
  std::optional<double> max_error;  // no finite key or value is further from its original than this

  /// Of decoded keys or values in the dump's own type.
  struct Errors {
    Role role = Role::key;
    std::uint64_t values = 0;
    double max_abs = 0, rmse = 0, nrmse = 0;
  };
  std::vector<Errors> errors;

  /// Of attention with the queries at hand; man/kvzip.1, "MEASURES OF ATTENTION".
  struct Attention {
    double output_nrmse = 0, kl = 0;
    std::uint64_t split = 0, queries = 0;  // tokens that were decoded; queries a head
  };
  std::optional<Attention> attention;
};

std::string write_kvz_results(const KvzResults& results);
/// Hostile text; fail(corrupt).
KvzResults read_kvz_results(std::string_view text);

/// The largest difference of finite elements, in double; no value when one side is finite and the other is not, or both
/// are not and differ (one NaN is as good as another).
std::optional<double> largest_difference(DType dtype_a, ByteView a, DType dtype_b, ByteView b);

}  // namespace kvzip
