// SPDX-License-Identifier: Apache-2.0
// Whether work grows with what there is to do, and not with its square.
#pragma once

#include <algorithm>
#include <cstddef>
#include <ctime>
#include <utility>

namespace kvzip::test {

/// Processor time of `run` on eight times as much, over that on `n`: about 8 where it grows in proportion, 64 where it
/// does with the square. `prepare(n)` gives what `run` takes, untimed. Least of several runs, as others share the
/// machine.
template <typename Prepare, typename Run>
double growth_of_eight(std::size_t n, const Prepare& prepare, const Run& run) {
  const auto least = [&](std::size_t size) {
    std::clock_t best = 0;
    for (int i = 0; i < 3; ++i) {
      auto input = prepare(size);
      const std::clock_t start = std::clock();
      run(std::move(input));
      const std::clock_t took = std::max<std::clock_t>(std::clock() - start, 1);
      best = i == 0 ? took : std::min(best, took);
    }
    return static_cast<double>(best);
  };
  return least(8 * n) / least(n);
}

}  // namespace kvzip::test
