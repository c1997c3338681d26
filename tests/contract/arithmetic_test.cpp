// SPDX-License-Identifier: Apache-2.0
// Products of matrices, cells and sines on every instruction set: the bits of plain loops, at many sizes.
#include <doctest/doctest.h>

#include "codec/kernels/cells.hpp"
#include "codec/kernels/gram_schmidt.hpp"
#include "codec/kernels/multiply.hpp"
#include "codec/kernels/predictions.hpp"
#include "codec/kernels/products.hpp"
#include "codec/kernels/sines.hpp"
#include "codec/portable_math.hpp"
#include "tests/contract/every_instruction_set.hpp"
#include "tests/contract/reference_adapt.hpp"

using namespace kvzip;
using namespace kvzip::test;

TEST_CASE("multiply: each element adds its terms in their order") {
  std::vector<std::size_t> columns;
  for (std::size_t n = 0; n <= 34; ++n) columns.push_back(n);
  for (const std::size_t n : {63u, 64u, 65u, 129u}) columns.push_back(n);
  for (const std::size_t n : columns) {
    for (const auto& size : {std::pair<std::size_t, std::size_t>{1, 0}, {1, 7}, {4, 1}, {5, 33}, {23, 600}}) {
      const std::size_t m = size.first, terms = size.second;
      CAPTURE(n);
      CAPTURE(m);
      const std::size_t a_row = terms + m % 2, b_row = n + m % 3, out_row = n + 2;
      std::vector<float> a = normal(m * a_row + 1, n + 1);
      for (std::size_t i = 1; i < a.size(); ++i) {
        if (i * 2654435761u % 7 < n % 7) a[i] = 0;  // from none to most
      }
      const std::vector<float> b = normal(terms * b_row + n + 1, n + 5), before = normal(m * out_row + 1, n + 7);
      for (const bool adds : {false, true}) {
        std::vector<float> expected = before;
        for (std::size_t i = 0; i < m; ++i) {
          for (std::size_t j = 0; j < n; ++j) {
            float& sum = expected[1 + i * out_row + j];
            if (!adds) sum = 0;
            for (std::size_t k = 0; k < terms; ++k) sum += a[1 + i * a_row + k] * b[1 + k * b_row + j];
          }
        }
        const std::vector<float> found = on_every_instruction_set([&] {
          std::vector<float> out = before;
          const auto product = adds ? kernels::multiply_add : kernels::multiply;
          product({a.data() + 1, a_row}, m, terms, {b.data() + 1, b_row}, n, out.data() + 1, out_row);
          return out;
        });
        CHECK(std::memcmp(found.data(), expected.data(), found.size() * sizeof(float)) == 0);
      }
    }
  }
}

TEST_CASE("transpose: rows become columns") {
  for (const auto& size : {std::pair<std::size_t, std::size_t>{0, 5}, {1, 1}, {3, 9}, {16, 16}, {21, 39}, {33, 6}}) {
    const std::size_t rows = size.first, cols = size.second, to_row = rows + 3;
    const std::vector<float> from = normal(rows * (cols + 1), rows), before(cols * to_row, 7.0f);
    std::vector<float> expected = before;
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t c = 0; c < cols; ++c) expected[c * to_row + r] = from[r * (cols + 1) + c];
    }
    CHECK(on_every_instruction_set([&] {
            std::vector<float> to = before;
            kernels::transpose({from.data(), cols + 1}, rows, cols, to.data(), to_row);
            return to;
          }) == expected);
  }
}

TEST_CASE("gram_schmidt: the bits of the plain loops of kvz.5, and what it says of ill-conditioned rows") {
  using kernels::GramSchmidt;
  const auto check = [](std::size_t n, std::vector<float> rows, GramSchmidt result) {
    CAPTURE(n);
    const std::size_t stride = kernels::padded(n);
    std::vector<float> u = rows, l(n * n);
    bool lossy = false;
    const bool good = reference::Basis<float>::pass(n, u, l, lossy);
    CHECK((!good ? GramSchmidt::failed : lossy ? GramSchmidt::lossy : GramSchmidt::good) == result);
    const std::vector<float> found = on_every_instruction_set([&] {
      std::vector<float> both(2 * n * stride), columns(stride * kernels::kPadding);
      std::vector<double> energies(n);
      for (std::size_t i = 0; i < n; ++i) std::copy_n(rows.data() + i * n, n, both.data() + i * stride);
      CHECK(kernels::gram_schmidt(both.data(), both.data() + n * stride, n, columns.data(), energies.data()) == result);
      return both;
    });
    for (std::size_t i = 0; result != GramSchmidt::failed && i < n; ++i) {
      CHECK(std::memcmp(found.data() + i * stride, u.data() + i * n, n * sizeof(float)) == 0);
      CHECK(std::memcmp(found.data() + (n + i) * stride, l.data() + i * n, n * sizeof(float)) == 0);
    }
  };
  for (const std::size_t n : {0u, 1u, 2u, 7u, 15u, 16u, 17u, 31u, 50u, 67u}) {
    std::vector<float> rows = normal(n * n, n);
    for (std::size_t i = 0; i < n; ++i) rows[i * n + i] += 4 * std::sqrt(static_cast<float>(n));
    check(n, rows, GramSchmidt::good);
    if (n < 2) continue;
    const float* first = rows.data();
    float* last = rows.data() + (n - 1) * n;
    for (std::size_t j = 0; j < n; ++j) last[j] = first[j] + 0.001f * last[j];
    check(n, rows, GramSchmidt::lossy);
    std::fill(last, last + n, 0.0f);
    check(n, rows, GramSchmidt::failed);
    last[0] = std::numeric_limits<float>::infinity();
    check(n, rows, GramSchmidt::failed);
  }
}

TEST_CASE("kernels: values to cells and back, as plain loops") {
  constexpr std::size_t kRows = 19, kFirst = 3;
  for (const std::size_t n : {0u, 1u, 7u, 16u, 37u, 200u}) {
    for (const float step : {0.03f, 1.0f, 3e20f}) {
      // Every row has a step of its own, and its codes stand in the middle of a longer row.
      std::vector<float> x = awkward(kRows * n, n + 1), steps, back;
      for (std::size_t r = 0; r < kRows; ++r) steps.push_back(step * (r % 2 == 0 ? 1.0f : 0.75f));
      for (std::size_t i = 0; i < x.size(); i += 3) {
        x[i] = static_cast<float>(i) * 0.37f * step * (i % 2 == 0 ? 1.0f : -1.0f);
      }
      const std::size_t stride = n + 5;
      const std::vector<std::int16_t> before(kRows * stride, 7);
      std::vector<std::int16_t> cells = before;
      for (std::size_t i = 0; i < x.size(); ++i) {
        const float v = x[i], own = steps[i / n];
        const auto cell = static_cast<int>(std::min(std::fabs(v) / own + 0.3f, 16000.0f));
        cells[i / n * stride + kFirst + i % n] = static_cast<std::int16_t>(v < 0 ? -cell : cell);
        back.push_back((v < 0 ? -1.0f : 1.0f) * (cell == 0 ? 0.0f : static_cast<float>(cell) + 0.2f) * own);
      }
      const kernels::CellRows rows{kRows, n, kFirst, steps.data()};
      const auto places = [&](std::vector<std::int16_t>& codes) {
        std::vector<std::int16_t*> at;
        for (std::size_t r = 0; r < kRows; ++r) at.push_back(codes.data() + r * stride);
        return at;
      };
      CHECK(on_every_instruction_set([&] {
              std::vector<std::int16_t> out = before;
              kernels::to_cells(rows, x.data(), 0.3f, 16000.0f, places(out).data());
              return out;
            }) == cells);
      CHECK(on_every_instruction_set([&] {
              std::vector<float> out(kRows * n);
              kernels::from_cells(rows, places(cells).data(), 0.2f, out.data());
              return out;
            }) == back);
    }
  }
}

TEST_CASE("kernels: rows scaled to their place, or added to what is there, as plain loops") {
  constexpr std::size_t kRows = 11;
  for (const std::size_t n : {0u, 1u, 7u, 16u, 37u, 200u}) {
    const std::size_t stride = n + 3;
    const std::vector<float> x = awkward(kRows * n, n + 1), offset = normal(n, n + 2);
    const std::vector<float> before = normal(kRows * stride, n + 3);
    for (const bool blank : {false, true}) {
      std::vector<float> expected = before;
      for (std::size_t i = 0; i < x.size(); ++i) {
        float& out = expected[i / n * stride + i % n];
        const float value = x[i] * 0.3f + offset[i % n];
        out = blank ? value : out + value;
      }
      const std::vector<float> found = on_every_instruction_set([&] {
        std::vector<float> out = before;
        kernels::scale_rows(x.data(), kRows, n, 0.3f, offset.data(), blank, out.data(), stride);
        return out;
      });
      CHECK(std::memcmp(found.data(), expected.data(), expected.size() * sizeof(float)) == 0);
    }
  }
}

TEST_CASE("kernels: energies of rows are their dot products") {
  for (const std::size_t n : {0u, 1u, 7u, 16u, 37u, 64u}) {
    const std::vector<float> x = normal(5 * n, n);
    std::vector<double> expected;
    for (std::size_t r = 0; r < 5; ++r) expected.push_back(reference::dot(x.data() + r * n, x.data() + r * n, n));
    CHECK(on_every_instruction_set([&] {
            std::vector<double> out(5);
            kernels::row_energies(x.data(), 5, n, out.data());
            return out;
          }) == expected);
  }
}

TEST_CASE("kernels: predictions and their factors, as plain loops") {
  for (const std::size_t n : {0u, 1u, 7u, 16u, 37u, 64u}) {
    const std::vector<float> sum = normal(n, n + 1), x = normal(n, n + 2), numerator = normal(n, n + 3);
    std::vector<float> denominator(n, 0.5f);
    if (n > 3) denominator[3] = 0;  // a factor of infinity, or none at all
    std::vector<float> mean, prediction, with, of;
    for (std::size_t k = 0; k < n; ++k) {
      mean.push_back(sum[k] * 0.125f);
      const float factor = numerator[k] / denominator[k];
      prediction.push_back(mean[k] * (factor > 0 ? std::min(factor, 1.0f) : 0.0f));
      with.push_back(numerator[k] * (63 / 64.0f) + mean[k] * x[k]);
      of.push_back(denominator[k] * (63 / 64.0f) + (mean[k] * mean[k] + 0x1p-20f));
    }
    std::vector<float> expected = mean;
    for (const auto* more : {&prediction, &with, &of}) expected.insert(expected.end(), more->begin(), more->end());
    const std::vector<float> found = on_every_instruction_set([&] {
      std::vector<float> out(4 * n);
      std::copy(numerator.begin(), numerator.end(), out.data() + 2 * n);
      std::copy(denominator.begin(), denominator.end(), out.data() + 3 * n);
      kernels::predict(sum.data(), 0.125f, out.data() + 2 * n, out.data() + 3 * n, n, out.data(), out.data() + n);
      kernels::learn_factors(out.data(), x.data(), n, out.data() + 2 * n, out.data() + 3 * n);
      return out;
    });
    CHECK(found == expected);
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
