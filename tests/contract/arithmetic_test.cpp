// SPDX-License-Identifier: Apache-2.0
// Products of matrices, cells and sines on every instruction set: the bits of plain loops, at many sizes.
#include <doctest/doctest.h>

#include "codec/kernels/cells.hpp"
#include "codec/kernels/multiply.hpp"
#include "codec/kernels/sines.hpp"
#include "codec/portable_math.hpp"
#include "tests/contract/every_instruction_set.hpp"

using namespace kvzip;
using namespace kvzip::test;

TEST_CASE("multiply_add: each element adds its terms in their order") {
  std::vector<std::size_t> columns;
  for (std::size_t n = 0; n <= 34; ++n) columns.push_back(n);
  for (const std::size_t n : {63u, 64u, 65u, 129u}) columns.push_back(n);
  for (const std::size_t n : columns) {
    for (const auto& size : {std::pair<std::size_t, std::size_t>{1, 0}, {1, 7}, {4, 1}, {5, 33}, {11, 300}}) {
      const std::size_t m = size.first, terms = size.second;
      for (const bool transposed : {false, true}) {
        CAPTURE(n);
        CAPTURE(m);
        CAPTURE(transposed);
        const std::size_t b_row = n + m % 3, out_row = n + 2;
        std::vector<float> a = normal(m * terms + 1, n + 1);
        for (std::size_t i = 1; i < a.size(); ++i) {
          if (i * 2654435761u % 7 < n % 7) a[i] = 0;  // from none to most
        }
        const std::vector<float> b = normal(terms * b_row + n + 1, n + 5), before = normal(m * out_row + 1, n + 7);
        const kernels::Strided weights{a.data() + 1, transposed ? 1 : terms, transposed ? m : 1};
        std::vector<float> expected = before;
        for (std::size_t i = 0; i < m; ++i) {
          for (std::size_t j = 0; j < n; ++j) {
            for (std::size_t k = 0; k < terms; ++k) {
              const float w = a[1 + i * weights.row + k * weights.column];
              expected[1 + i * out_row + j] += w * b[1 + k * b_row + j];
            }
          }
        }
        const std::vector<float> found = on_every_instruction_set([&] {
          std::vector<float> out = before;
          kernels::multiply_add(weights, m, terms, b.data() + 1, b_row, n, out.data() + 1, out_row);
          return out;
        });
        CHECK(std::memcmp(found.data(), expected.data(), found.size() * sizeof(float)) == 0);
      }
    }
  }
}

TEST_CASE("kernels: values to cells and back, as plain loops") {
  for (const std::size_t n : {0u, 1u, 7u, 16u, 37u, 200u}) {
    for (const float step : {0.03f, 1.0f, 3e20f}) {
      std::vector<float> x = awkward(n, n + 1);
      for (std::size_t i = 0; i < n; i += 3) x[i] = static_cast<float>(i) * 0.37f * step * (i % 2 == 0 ? 1.0f : -1.0f);
      std::vector<std::int16_t> cells;
      std::vector<float> back;
      for (const float v : x) {
        const auto cell = static_cast<int>(std::min(std::fabs(v) / step + 0.3f, 16000.0f));
        cells.push_back(static_cast<std::int16_t>(v < 0 ? -cell : cell));
        back.push_back((v < 0 ? -1.0f : 1.0f) * (cell == 0 ? 0.0f : static_cast<float>(cell) + 0.2f) * step);
      }
      CHECK(on_every_instruction_set([&] {
              std::vector<std::int16_t> out(n);
              kernels::to_cells(x.data(), n, step, 0.3f, 16000.0f, out.data());
              return out;
            }) == cells);
      CHECK(on_every_instruction_set([&] {
              std::vector<float> out(n);
              kernels::from_cells(cells.data(), n, step, 0.2f, out.data());
              return out;
            }) == back);
    }
  }
}

TEST_CASE("kernels: sines are those of the portable function") {
  for (const std::size_t n : {0u, 1u, 5u, 8u, 31u, 64u}) {
    for (const double position : {0.0, 1.0, 77.0, 1e6, 0x1p30}) {
      std::vector<double> frequency;
      std::vector<float> expected;
      for (std::size_t i = 0; i < n; ++i) frequency.push_back(1 / (1 + 0.37 * static_cast<double>(i * i)));
      for (const double f : frequency) expected.push_back(static_cast<float>(portable::sincos(position * f).sin));
      for (const double f : frequency) expected.push_back(static_cast<float>(portable::sincos(position * f).cos));
      CHECK(on_every_instruction_set([&] {
              std::vector<float> out(2 * n);
              kernels::sines(position, frequency.data(), n, out.data(), out.data() + n);
              return out;
            }) == expected);
    }
  }
}
