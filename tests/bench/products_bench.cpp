// SPDX-License-Identifier: Apache-2.0
// Products of one head's matrix with four vectors, and of a whole tile's approximation. The limit is arithmetic: a
// multiplication and an addition for each value and vector, apart, since the order of roundings is fixed.
#include "codec/kernels/gram_schmidt.hpp"
#include "codec/kernels/multiply.hpp"
#include "codec/kernels/products.hpp"

#include "tests/bench/bench.hpp"

namespace kvzip::bench {

void add_products() {
  constexpr double kBlockValues = kRows * kHeadDim, kProduct = 2.0 * kernels::kQuad * kBlockValues;
  const auto add_product = [](const std::string& name, double operations, auto product) {
    add("products/" + name, [operations, product](benchmark::State& state) {
      const std::vector<float> e = sample_values(std::size_t{kRows} * kHeadDim, kHeadDim);
      const std::vector<float> factor = sample_values(kernels::kQuad * kRows);
      std::vector<float> out(kernels::kQuad * kRows);
      for (auto _ : state) {
        product(kernels::Block{e.data(), kRows, kHeadDim}, factor.data(), out.data());
        benchmark::DoNotOptimize(out.data());
        benchmark::ClobberMemory();
      }
      report(state, 4 * kBlockValues, operations / flops_per_second());
    });
  };
  static_assert(kHeadDim <= kRows);
  add_product("times", kProduct, [](const kernels::Block& e, const float* p, float* q) { kernels::times(e, p, 1, q); });
  add_product("transposed_times", kProduct,
              [](const kernels::Block& e, const float* q, float* p) { kernels::transposed_times(e, q, 1, p); });
  add_product("gram_times", 2 * kProduct,
              [](const kernels::Block& e, const float* p, float* out) { kernels::gram_times(e, p, 1, out); });

  for (const std::size_t n : {64u, 256u}) {
    add("products/multiply/" + std::to_string(n), [n](benchmark::State& state) {
      const std::vector<float> a = sample_values(n * n, n), b = sample_values(n * n, n);
      std::vector<float> out(n * n);
      for (auto _ : state) {
        kernels::multiply({a.data(), n}, n, n, {b.data(), n}, n, out.data(), n);
        benchmark::DoNotOptimize(out.data());
        benchmark::ClobberMemory();
      }
      report(state, 4.0 * static_cast<double>(n * n), 2.0 * static_cast<double>(n * n * n) / flops_per_second());
    });
    add("products/gram_schmidt/" + std::to_string(n), [n](benchmark::State& state) {
      const std::vector<float> before = sample_values(n * n, n);
      std::vector<float> u(n * n), l(n * n), columns(n * kernels::kPadding);
      std::vector<double> energies(n);
      for (auto _ : state) {
        std::copy(before.begin(), before.end(), u.begin());
        kernels::gram_schmidt(u.data(), l.data(), n, columns.data(), energies.data());
        benchmark::DoNotOptimize(u.data());
        benchmark::ClobberMemory();
      }
      report(state, 4.0 * static_cast<double>(n * n), 2.0 * static_cast<double>(n * n * n) / flops_per_second());
    });
  }

  for (const bool adds : {true, false}) {
    add(adds ? "products/add_products" : "products/subtract_products", [adds](benchmark::State& state) {
      constexpr std::size_t kRank = 4;
      const std::vector<float> p = sample_values(kRank * kCols), q = sample_values(kRank * kHeads * kRows);
      std::vector<float> x = sample_values(kValues);
      const kernels::Parts parts{p.data(), kHeads, kRank, kHeadDim};
      for (auto _ : state) {
        for (std::size_t r = 0; r < kRows; ++r) {
          const float* row_q = q.data() + r * kRank * kHeads;
          adds ? kernels::add_products(row_q, parts, x.data() + r * kCols)
               : kernels::subtract_products(row_q, parts, nullptr, x.data() + r * kCols);
        }
        benchmark::DoNotOptimize(x.data());
        benchmark::ClobberMemory();
      }
      report(state, 4.0 * kValues, 2.0 * kRank * kValues / flops_per_second());
    });
  }
}

}  // namespace kvzip::bench
