// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <random>

#include "src/tune/allocate.hpp"

namespace kvzip::tool {
namespace {

/// Every pick there is.
std::optional<Allocation> brute_force(const std::vector<Choices>& units, double limit) {
  std::optional<Allocation> best;
  std::vector<std::size_t> pick(units.size(), 0);
  for (;;) {
    Allocation sum = sum_of(units, pick);
    if (sum.weight <= limit && (!best || sum.cost < best->cost)) best = std::move(sum);
    std::size_t u = 0;
    while (u < pick.size() && ++pick[u] == units[u].size()) pick[u++] = 0;
    if (u == pick.size()) return best;
  }
}

std::vector<Choices> random_units(std::mt19937& random, std::size_t units, std::size_t choices) {
  std::uniform_real_distribution<double> real(0, 1);
  std::vector<Choices> out(units);
  for (Choices& c : out) {
    for (std::size_t i = 0; i < choices; ++i) c.push_back({real(random), std::exp(4 * real(random)) - 1});
  }
  return out;
}

TEST_CASE("allocation: the dynamic programme against every pick there is") {
  std::mt19937 random(7);
  for (unsigned turn = 0; turn < 300; ++turn) {
    const auto units = random_units(random, 1 + turn % 5, 1 + turn % 6);
    const double limit = 60.0 * (turn % 17) / 17;
    const auto best = brute_force(units, limit);
    const auto found = allocate_lgreco(units, limit);
    REQUIRE(found.has_value() == best.has_value());
    if (!best) continue;
    CHECK(found->weight <= limit);
    // Rounding to a ten-thousandth of the limit can only hide picks that are that close to it.
    CHECK(found->cost >= best->cost - 1e-12);
    const auto shy = brute_force(units, limit * (1 - static_cast<double>(units.size()) / 10000));
    if (shy) CHECK(found->cost <= shy->cost + 1e-12);
  }
}

TEST_CASE("allocation: weights that fall on buckets give the optimum itself") {
  std::mt19937 random(11);
  std::uniform_int_distribution<int> whole(0, 20);
  for (int turn = 0; turn < 200; ++turn) {
    std::vector<Choices> units(4);
    for (Choices& c : units) {
      for (int i = 0; i < 5; ++i) c.push_back({static_cast<double>(whole(random)), static_cast<double>(whole(random))});
    }
    const double limit = 5 + turn % 40;
    const auto best = brute_force(units, limit);
    const auto found = allocate_lgreco(units, limit, {}, static_cast<std::size_t>(limit));
    REQUIRE(found.has_value() == best.has_value());
    if (best) CHECK(found->cost == best->cost);
  }
}

TEST_CASE("allocation: the uniform default is feasible where the released rounding loses it") {
  // The limit is the error of the uniform default (choice 1); each unit's share rounds up: 3 x ceil(3333.4) > 10000.
  const std::vector<Choices> units(3, Choices{{1, 2.0}, {2, 1.0 / 3}, {9, 0.1}});
  const std::vector<std::size_t> uniform{1, 1, 1};
  const double limit = sum_of(units, uniform).weight;
  double up = 0;
  for (const Choices& c : units) up += std::ceil(c[1].weight / limit * 10000 - 1e-9);
  REQUIRE(up >= 10000);  // a strict comparison, as released, refuses it
  const auto found = allocate_lgreco(units, limit, uniform);
  REQUIRE(found);
  CHECK(found->cost == 6);
  CHECK(found->pick == uniform);
}

TEST_CASE("allocation: nothing fits, everything fits, no room at all") {
  const std::vector<Choices> units{{{5, 3}, {7, 2}}, {{1, 4}, {2, 1}}};
  CHECK(!allocate_lgreco(units, 2.9));
  CHECK(!allocate_lagrangian(units, 2.9));
  CHECK(allocate_lgreco(units, 3.0)->pick == std::vector<std::size_t>{1, 1});
  CHECK(allocate_lagrangian(units, 3.0)->pick == std::vector<std::size_t>{1, 1});
  CHECK(allocate_lgreco(units, 100)->pick == std::vector<std::size_t>{0, 0});
  CHECK(allocate_lagrangian(units, 100)->pick == std::vector<std::size_t>{0, 0});
  // A limit of 0: only what weighs nothing.
  const std::vector<Choices> exact{{{5, 0.1}, {9, 0}, {8, 0}}};
  CHECK(allocate_lgreco(exact, 0)->pick == std::vector<std::size_t>{2});
  CHECK(allocate_lagrangian(exact, 0)->pick == std::vector<std::size_t>{2});
}

TEST_CASE("allocation: the Lagrangian search against every pick there is") {
  std::mt19937 random(23);
  double worst = 1;
  for (unsigned turn = 0; turn < 300; ++turn) {
    const auto units = random_units(random, 2 + turn % 4, 2 + turn % 5);
    const double limit = 80.0 * (1 + turn % 13) / 13;
    const auto best = brute_force(units, limit);
    const auto found = allocate_lagrangian(units, limit);
    REQUIRE(found.has_value() == best.has_value());
    if (!best) continue;
    CHECK(found->weight <= limit);
    CHECK(found->cost >= best->cost - 1e-12);
    if (best->cost > 0) worst = std::max(worst, found->cost / best->cost);
  }
  CHECK(worst < 6);  // few units with random choices are its worst case
  // Many units with convex curves are its best: within one unit's step of the optimum.
  std::vector<Choices> convex(40);
  for (std::size_t u = 0; u < convex.size(); ++u) {
    for (int step = 0; step < 12; ++step) {
      convex[u].push_back({100.0 - 8 * step, (1.0 + 0.1 * static_cast<double>(u)) * std::exp2(step)});
    }
  }
  const auto dp = allocate_lgreco(convex, 3000);
  const auto hull = allocate_lagrangian(convex, 3000);
  REQUIRE(dp);
  REQUIRE(hull);
  CHECK(hull->cost <= dp->cost + 8);
  CHECK(hull->cost >= dp->cost - 8);
}

}  // namespace
}  // namespace kvzip::tool
