// SPDX-License-Identifier: Apache-2.0
// Sums of weighted rows on every instruction set: the bits of a plain loop, at every small length and at odd addresses.
#include <doctest/doctest.h>

#include "codec/kernels/weighted_rows.hpp"
#include "tests/contract/every_instruction_set.hpp"

using namespace kvzip;
using namespace kvzip::test;

TEST_CASE("weighted rows: each output adds its terms in the order of the rows") {
  std::vector<std::size_t> lengths;
  for (std::size_t n = 0; n <= 70; ++n) lengths.push_back(n);
  for (const std::size_t n : {127u, 128u, 129u, 257u}) lengths.push_back(n);
  for (const std::size_t n : lengths) {
    for (const std::size_t count : {0u, 1u, 2u, 7u, 40u}) {
      CAPTURE(n);
      CAPTURE(count);
      const std::size_t stride = n + count % 3, rows = 50;
      const std::vector<float> matrix = normal(rows * stride + n + 1, n + 1), before = normal(n + 1, n + 7);
      const std::vector<float> weights = normal(count, n + 13);
      std::vector<std::uint32_t> index;  // any order, some rows twice
      for (std::size_t i = 0; i < count; ++i) index.push_back(static_cast<std::uint32_t>((i * 37 + n) % rows));
      std::vector<float> expected = before;
      for (std::size_t j = 0; j < n; ++j) {
        for (std::size_t i = 0; i < count; ++i) expected[j + 1] += weights[i] * matrix[1 + index[i] * stride + j];
      }
      const std::vector<float> found = on_every_instruction_set([&] {
        std::vector<float> out = before;
        kernels::add_weighted_rows({weights.data(), index.data(), count, matrix.data() + 1, stride}, n, out.data() + 1);
        return out;
      });
      CHECK(std::memcmp(found.data(), expected.data(), found.size() * sizeof(float)) == 0);
    }
  }
}
