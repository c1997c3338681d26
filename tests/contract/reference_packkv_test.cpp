// SPDX-License-Identifier: Apache-2.0
// PackKV (arXiv 2512.24449) against its formulas.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "tests/contract/reference_drive.hpp"

using namespace kvzip;
using namespace kvzip::test;
namespace ref = kvzip::reference;

namespace {

constexpr std::size_t kWindow = 128, kBlock = 64, kPack = 16;

/// step = (max - min) rel, q = round((x - min) / step), x' = q step + min, over all channels of a token.
struct Quantised {
  std::vector<double> values;
  std::vector<int> codes;
};
Quantised quantised(const Matrix& m, double rel) {
  std::vector<float> low, step;
  for (std::size_t r = 0; r < m.rows; ++r) {
    const auto row = m.v.begin() + static_cast<std::ptrdiff_t>(r * m.cols());
    const auto [least, most] = std::minmax_element(row, row + static_cast<std::ptrdiff_t>(m.cols()));
    low.push_back(*least);
    step.push_back(static_cast<float>((double{*most} - *least) * rel));
  }
  ref::store_halves(low);
  ref::store_halves(step);
  Quantised out;
  for (std::size_t i = 0; i < m.v.size(); ++i) {
    const std::size_t r = i / m.cols();
    const double q = std::clamp(std::nearbyint((double{m.v[i]} - low[r]) / step[r]), 0.0, std::round(1 / rel));
    out.codes.push_back(static_cast<int>(q));
    out.values.push_back(q * step[r] + low[r]);
  }
  return out;
}

/// Rows of a block by the place of their lower medians between their least and largest values, the highest first.
std::vector<std::size_t> sorted_rows(const Matrix& m, std::size_t rows) {
  std::vector<double> place;
  for (std::size_t r = 0; r < rows; ++r) {
    const auto row = m.v.begin() + static_cast<std::ptrdiff_t>(r * m.cols());
    std::vector<float> x(row, row + static_cast<std::ptrdiff_t>(m.cols()));
    std::sort(x.begin(), x.end());
    place.push_back((double{x[(x.size() - 1) / 2]} - x.front()) / (double{x.back()} - x.front()));
  }
  std::vector<std::size_t> order(rows);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return a / kBlock != b / kBlock ? a / kBlock < b / kBlock : place[a] > place[b];
  });
  return order;
}

/// For 16 rows of a channel: the least code in `least` bits, a width in ceil(log2(least + 1)), the others in so many.
double packed_bits(const std::vector<int>& codes, const std::vector<std::size_t>& order, std::size_t cols, int least) {
  double bits = 0;
  for (std::size_t first = 0; first < order.size(); first += kPack) {
    const std::size_t end = std::min(order.size(), first + kPack);
    for (std::size_t c = 0; c < cols; ++c) {
      int low = 1000, high = 0;
      for (std::size_t i = first; i < end; ++i) {
        low = std::min(low, codes[order[i] * cols + c]);
        high = std::max(high, codes[order[i] * cols + c]);
      }
      bits += least + std::ceil(std::log2(least + 1.0)) +
              std::ceil(std::log2(high - low + 1.0)) * static_cast<double>(end - first);
    }
  }
  return bits;
}

}  // namespace

TEST_CASE("packkv: steps of a tenth and a fifth of a token's range, at the size of the packs") {
  const std::size_t tokens = kWindow + 210;  // the last block is short, and its last pack
  const Matrix m = ref::synthetic(tokens, 2, 64, ref::kHalf, 91);
  for (const Role role : {Role::key, Role::value}) {
    const std::string text = preset_text("packkv", role);
    const double rel = role == Role::key ? 0.1 : 0.2;
    const int least = role == Role::key ? 4 : 3;  // bits of 11 and of 6 levels
    const Quantised expected = quantised(m, rel);
    const Decoded out = through_pipeline(text, role, m, DType::f16);
    std::size_t far = 0;  // what lies in the middle of two levels may fall to either, by rounding
    for (std::size_t i = 0; i < m.v.size(); ++i) {
      const bool exact = i / m.cols() >= tokens - kWindow;
      const double x = exact ? double{m.v[i]} : expected.values[i];
      far += !(std::fabs(out.values[i] - x) <= (exact ? 0 : 0x1p-10 * std::fabs(x) + 1e-4));
    }
    CHECK(far <= 4);
    const double coded = tokens - kWindow, cols = static_cast<double>(m.cols());
    const double bits = kWindow * cols * 16 + coded * (6 + 32) +
                        packed_bits(expected.codes, sorted_rows(m, tokens - kWindow), m.cols(), least);
    MESSAGE(fmt::format("packkv: {} bits, formula {}", out.payload * 8, bits));
    CHECK(std::fabs(static_cast<double>(out.payload) * 8 / bits - 1) < 0.02);
    // The order changes no value.
    const auto without = text.find("sort,");
    const Decoded plain = through_pipeline(text.substr(0, without) + text.substr(without + 5), role, m, DType::f16);
    CHECK(plain.values == out.values);
  }
}

TEST_CASE("packs: a pack is its least symbol, a width and the distances") {
  const auto row =
      std::find_if(coder_table().begin(), coder_table().end(), [](const auto& r) { return r.name == "packs"; });
  const auto coder = row->make();
  const std::vector<std::string_view> fields{"rows=4"};
  parse_fields(*coder, "packs", fields);
  // 8 bits for the least of 200 symbols, 4 for a width; distances up to 2 take 2 bits, none none.
  Stream s = symbol_stream(StreamLabel::codes, 6, 1, 200);
  for (const unsigned symbol : {103u, 105u, 104u, 103u, 7u, 7u}) s.data.push_back(static_cast<std::uint8_t>(symbol));
  Bytes table, body;
  coder->encode(s, table, body);
  CHECK(body.size() == 1 + (8 + 4 + 4 * 2 + 8 + 4 + 7) / 8);
  Stream back = symbol_stream(StreamLabel::codes, 6, 1, 200);
  coder->decode(back, table, body);
  CHECK(std::equal(s.data.begin(), s.data.end(), back.data.begin(), back.data.end()));
}
