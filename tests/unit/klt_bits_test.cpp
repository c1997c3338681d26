// SPDX-License-Identifier: Apache-2.0
// KVTC's bit allocation against every allocation there is, and its measured errors against the formula.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "codec/stages/klt_bits.hpp"
#include "tests/contract/reference.hpp"

namespace ref = kvzip::reference;
using kvzip::allocate_klt_bits;
using kvzip::KltChoice;
using kvzip::KltErrors;
using kvzip::KltGroup;

namespace {

/// Least error for components from `first` on within a budget, by trying everything.
double enumerated(const KltErrors& e, std::size_t first, std::uint64_t budget) {
  if (first == e.left_out.size()) return 0;
  double best = e.left_out[first] + enumerated(e, first + 1, budget);
  for (const KltChoice& c : e.choices) {
    if (c.size > e.left_out.size() - first || c.cost() > budget) continue;
    best = std::min(best, c.error[first] + enumerated(e, first + c.size, budget - c.cost()));
  }
  return best;
}

/// Random errors that fall with the component and with the bits, mostly.
KltErrors random_errors(std::size_t components, std::initializer_list<std::uint32_t> sizes, std::uint64_t seed) {
  ref::Random random(seed);
  KltErrors e;
  for (std::size_t i = 0; i < components; ++i) e.left_out.push_back(random.uniform() / static_cast<double>(1 + i));
  for (const std::uint32_t size : sizes) {
    if (size > components) continue;
    for (const unsigned bits : kvzip::kKltBits) {
      KltChoice c{size, bits, {}};
      for (std::size_t first = 0; first + size <= components; ++first) {
        double energy = 0;
        for (std::size_t i = first; i < first + size; ++i) energy += e.left_out[i];
        c.error.push_back(energy * random.uniform() * std::exp2(-static_cast<double>(bits)) * size);
      }
      e.choices.push_back(c);
    }
  }
  return e;
}

/// Error and cost of an allocation, which must be ordered and apart.
std::pair<double, std::uint64_t> judged(const KltErrors& e, const std::vector<KltGroup>& groups) {
  double error = 0;
  std::uint64_t cost = 0;
  std::size_t next = 0;
  for (const KltGroup& g : groups) {
    REQUIRE(g.first >= next);
    for (; next < g.first; ++next) error += e.left_out[next];
    const auto choice = std::find_if(e.choices.begin(), e.choices.end(),
                                     [&](const KltChoice& c) { return c.size == g.size && c.bits == g.bits; });
    REQUIRE(choice != e.choices.end());
    REQUIRE(g.first < choice->error.size());
    error += choice->error[g.first];
    cost += choice->cost();
    next += g.size;
  }
  for (; next < e.left_out.size(); ++next) error += e.left_out[next];
  return {error, cost};
}

}  // namespace

TEST_CASE("klt bits: no allocation within the budget has a smaller error") {
  std::size_t coded = 0;
  for (std::uint64_t seed = 1; seed <= 12; ++seed) {
    for (const std::size_t components : {0u, 1u, 2u, 5u, 7u}) {
      const KltErrors e = random_errors(components, {1, 2, 4}, seed);
      for (const std::uint64_t budget : {0u, 33u, 34u, 40u, 71u, 96u, 104u, 150u, 1000u}) {
        CAPTURE(seed);
        CAPTURE(components);
        CAPTURE(budget);
        const auto groups = allocate_klt_bits(e, budget);
        const auto [error, cost] = judged(e, groups);
        CHECK(cost <= budget);
        CHECK(error == doctest::Approx(enumerated(e, 0, budget)).epsilon(1e-12));
        coded += groups.size();
      }
    }
  }
  CHECK(coded > 500);
}

TEST_CASE("klt bits: the paper's sizes against every allocation of 18 components") {
  // Only 1 and 16 fit; groups of 1 are dear enough that few fit the budgets, which keeps the enumeration short.
  for (std::uint64_t seed = 20; seed < 24; ++seed) {
    const KltErrors e = random_errors(18, {1, 16}, seed);
    for (const std::uint64_t budget : {64u, 100u, 132u, 164u}) {
      const auto [error, cost] = judged(e, allocate_klt_bits(e, budget));
      CHECK(cost <= budget);
      CHECK(error == doctest::Approx(enumerated(e, 0, budget)).epsilon(1e-12));
    }
  }
}

TEST_CASE("klt bits: large budgets and many components stay within bounds") {
  const KltErrors e = random_errors(3000, {1, 16, 64}, 3);
  for (const std::uint64_t budget : {std::uint64_t{6000}, std::uint64_t{60000}, ~std::uint64_t{0}}) {
    const auto [error, cost] = judged(e, allocate_klt_bits(e, budget));
    CHECK(cost <= budget);
    double energy = 0;
    for (const double x : e.left_out) energy += x;
    CHECK(error < energy);
  }
}

TEST_CASE("klt bits: measured errors are those of uniform codes between minimum and maximum") {
  const std::size_t rows = 5, components = 70;
  ref::Random random(4);
  std::vector<float> d;
  for (std::size_t i = 0; i < rows * components; ++i) {
    d.push_back(static_cast<float>(random.normal() / static_cast<double>(1 + i % components)));
  }
  const KltErrors e = kvzip::measure_klt_errors(d.data(), rows, components);
  REQUIRE(e.choices.size() == 9);  // 1, 16 and 64 of the sizes fit
  for (std::size_t i = 0; i < components; ++i) {
    double energy = 0;
    for (std::size_t r = 0; r < rows; ++r) energy += std::pow(double{d[r * components + i]}, 2);
    CHECK(e.left_out[i] == doctest::Approx(energy));
  }
  // Half precision without its limits of exponent.
  const auto half = [](double x) {
    if (x == 0) return 0.0;
    const double unit = std::ldexp(1.0, std::ilogb(x) - 10);
    return std::nearbyint(x / unit) * unit;
  };
  for (const KltChoice& c : e.choices) {
    CAPTURE(c.size);
    CAPTURE(c.bits);
    REQUIRE(c.error.size() == components - c.size + 1);
    const double top = std::exp2(c.bits) - 1;
    for (std::size_t first = 0; first < c.error.size(); first += 3) {
      double sum = 0;
      for (std::size_t r = 0; r < rows; ++r) {
        const float* x = d.data() + r * components + first;
        const double low = *std::min_element(x, x + c.size), high = *std::max_element(x, x + c.size);
        const double scale = half((high - low) / top), shift = half(low);
        for (std::size_t i = 0; i < c.size; ++i) {
          const double q = scale == 0 ? 0 : std::clamp(std::nearbyint((x[i] - shift) / scale), 0.0, top);
          sum += std::pow(x[i] - (q * scale + shift), 2);
        }
      }
      CHECK(c.error[first] == doctest::Approx(sum).epsilon(1e-3));
    }
  }
}
