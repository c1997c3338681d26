// SPDX-License-Identifier: Apache-2.0
// Selection gives the same on every instruction set, and what full sorts give.
#include <fmt/format.h>

#include "codec/kernels/select.hpp"

#include "codec/stages/stages.hpp"
#include "tests/contract/every_instruction_set.hpp"

using namespace kvzip;
using namespace kvzip::test;

namespace {

/// The rule, with full sorts: of equal values the earlier; the largest among what the smallest left.
std::vector<std::uint32_t> outliers_of(const std::vector<float>& x, std::size_t taken, bool ends) {
  std::vector<std::uint32_t> order(x.size());
  for (std::uint32_t j = 0; j < order.size(); ++j) order[j] = j;
  const auto sort_from = [&](std::size_t from, auto&& key) {
    std::stable_sort(order.begin() + static_cast<std::ptrdiff_t>(from), order.end());
    std::stable_sort(order.begin() + static_cast<std::ptrdiff_t>(from), order.end(),
                     [&](std::uint32_t a, std::uint32_t b) { return key(x[a]) < key(x[b]); });
  };
  if (ends) {
    sort_from(0, [](float v) { return v; });
    sort_from(taken / 2, [](float v) { return -v; });
  } else {
    sort_from(0, [](float v) { return -std::fabs(v); });
  }
  order.resize(taken);
  std::sort(order.begin(), order.end());
  return order;
}

void check_outliers(std::size_t rows, std::size_t cols, std::string_view axis, std::string_view select,
                    std::string_view share, std::uint64_t seed) {
  Matrix m{rows, 1, cols, awkward(rows * cols, seed)};
  const TileContext context = context_of(m, Role::key, DType::f32);
  const std::string axis_field = fmt::format("axis={}", axis), select_field = fmt::format("select={}", select);
  const std::string share_field = fmt::format("share={}", share);
  const std::array<std::string_view, 3> fields{axis_field, select_field, share_field};
  CAPTURE(axis);
  CAPTURE(select);
  CAPTURE(rows);
  CAPTURE(cols);
  CAPTURE(seed);
  std::size_t taken = 0;
  const auto places = on_every_instruction_set([&] {
    const auto stage = make_outliers();
    parse_fields(*stage, "outliers", fields);
    Tile tile(context, shape_of(m));
    tile.values.assign(m.v.begin(), m.v.end());
    std::vector<Stream> streams;
    StreamWriter writer(streams);
    EncodeContext to{writer};
    stage->encode(tile, to);
    taken = streams.at(0).cols;
    auto all = streams[0].positions;
    for (const float v : tile.values) all.push_back(std::bit_cast<std::uint32_t>(v));
    return all;
  });
  const std::size_t vectors = axis == "channel" ? cols : axis == "token" ? rows : 1;
  const std::size_t length = rows * cols / vectors;
  std::vector<std::uint32_t> expected;
  for (std::size_t i = 0; i < vectors; ++i) {
    std::vector<float> x(length);
    for (std::size_t j = 0; j < length; ++j) x[j] = axis == "channel" ? m.at(j, i) : m.v[i * length + j];
    const auto chosen = outliers_of(x, taken, select == "ends");
    expected.insert(expected.end(), chosen.begin(), chosen.end());
  }
  REQUIRE(places.size() == expected.size() + m.v.size());
  CHECK(std::equal(expected.begin(), expected.end(), places.begin()));
}

}  // namespace

TEST_CASE("selection: places, extremes and sums") {
  for (std::size_t n = 0; n <= 130; ++n) {
    CAPTURE(n);
    const auto x = awkward(n, n), other = awkward(n, n + 6);
    std::vector<float> low(n), high(n);
    for (std::size_t i = 0; i < n; ++i) {
      low[i] = std::min(x[(i * 7) % n], other[i]);
      high[i] = std::max(x[(i * 5) % n], other[i]);
    }
    const auto places = on_every_instruction_set([&] {
      std::vector<std::uint32_t> at(n);
      at.resize(kernels::places_beyond(x.data(), n, low.data(), high.data(), at.data()));
      return at;
    });
    std::vector<std::uint32_t> expected;
    for (std::uint32_t i = 0; i < n; ++i) {
      if (x[i] <= low[i] || x[i] >= high[i]) expected.push_back(i);
    }
    CHECK(places == expected);

    const std::vector<float> least(n, -0.5f), most(n, 1.0f);
    const auto outside = on_every_instruction_set([&] {
      std::vector<std::uint32_t> at(n);
      at.resize(kernels::places_beyond(x.data(), n, -0.5f, 1.0f, at.data()));
      return at;
    });
    std::vector<std::uint32_t> at(n);
    at.resize(kernels::places_beyond(x.data(), n, least.data(), most.data(), at.data()));
    CHECK(outside == at);

    const auto y = normal(n, n);
    double total = 0;
    for (const float v : y) total += double{v};
    const auto sum = on_every_instruction_set([&] {
      std::vector<double> sums(n, 0.5);
      kernels::add_to_columns(y.data(), n, sums.data());
      sums.push_back(kernels::sum(y.data(), n));
      return sums;
    });
    for (std::size_t i = 0; i < n; ++i) CHECK(sum[i] == 0.5 + double{y[i]});
    CHECK(sum[n] == doctest::Approx(total).epsilon(1e-12));
  }
  for (const std::size_t cols : {1u, 5u, 16u, 37u}) {
    for (const std::size_t which : {1u, 2u, 7u}) {
      constexpr std::size_t kRows = 20;
      const auto x = awkward(kRows * cols, cols + which);
      const auto bounds = on_every_instruction_set([&] {
        std::vector<float> kept(2 * which * kernels::kMostLanes), out(2 * cols);
        kernels::column_extremes(x.data(), kRows, cols, which, kept.data(), out.data(), out.data() + cols);
        for (float& v : out) v += 0.0f;  // which of 0 and -0 a minimum gives is the machine's affair
        return out;
      });
      for (std::size_t c = 0; c < cols; ++c) {
        std::vector<float> column;
        for (std::size_t r = 0; r < kRows; ++r) column.push_back(x[r * cols + c]);
        std::sort(column.begin(), column.end());
        CHECK(bounds[c] == column[which - 1]);
        CHECK(bounds[cols + c] == column[kRows - which]);
      }
    }
  }
}

TEST_CASE("selection: outliers are those of full sorts, whatever the values") {
  for (const std::string_view axis : {"channel", "token", "tile"}) {
    for (const std::string_view select : {"ends", "magnitude"}) {
      for (std::uint64_t seed = 0; seed < 10; ++seed) {
        const std::size_t rows = seed < 5 ? 130 - 13 * seed : 300, cols = 3 + 29 * seed;
        check_outliers(rows, cols, axis, select, "0.02", seed);
        check_outliers(rows, cols, axis, select, seed % 2 == 0 ? "0.3" : "0.5", seed);
      }
      check_outliers(2000, 40, axis, select, "0.01", 11);
      check_outliers(40, 2000, axis, select, "0.05", 13);
      check_outliers(40, 5000, axis, select, "0.0004", 15);
    }
  }
}
