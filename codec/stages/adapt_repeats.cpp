// SPDX-License-Identifier: Apache-2.0
#include "codec/stages/adapt_repeats.hpp"

#include <algorithm>
#include <utility>

#include "codec/kernels/predictions.hpp"
#include "codec/kernels/products.hpp"

namespace kvzip {
namespace {

std::uint32_t distance_at(ByteView table, std::uint64_t token) {
  std::uint32_t distance = 0;
  for (unsigned byte = 0; byte < 4; ++byte) {
    distance |= static_cast<std::uint32_t>(table[token * 4 + byte]) << 8 * byte;
  }
  return distance;
}

}  // namespace

RepeatRows::RepeatRows(ByteView table, const TileContext& context, TileShape shape) : rows(shape.rows) {
  if (table.size() % 4 != 0 || table.size() / 4 != context.total_tokens || !shape.contiguous ||
      shape.first_token + shape.rows > context.total_tokens) {
    return;
  }
  token.resize(shape.rows);
  std::vector<std::uint32_t> count;  // of each token
  for (std::uint32_t r = 0; r < shape.rows; ++r) {
    const std::uint32_t distance = distance_at(table, shape.first_token + r);
    if (distance != 0 && distance <= r) {
      token[r] = token[r - distance];
      rows[r].source = token[r];
      ++count[token[r]];
    } else {
      token[r] = contexts++;
      count.push_back(1);
    }
  }
  const std::vector<std::uint32_t> pair = pairs_of(count);
  // Contexts that predict something, numbered anew.
  std::vector<std::uint32_t> number(contexts, kNone);
  contexts = 0;
  for (Row& row : rows) {
    if (row.source == kNone) continue;
    if (number[row.source] == kNone) number[row.source] = contexts++;
    row.source = number[row.source];
  }
  last_use.assign(contexts, 0);
  for (std::uint32_t r = shape.rows; r-- > 0;) {
    const auto fed = [&](std::uint32_t context) {
      return context != kNone && number[context] != kNone && last_use[number[context]] > r ? number[context] : kNone;
    };
    rows[r].feeds[0] = fed(token[r]);
    rows[r].feeds[1] = fed(pair[r]);
    if (rows[r].source != kNone) last_use[rows[r].source] = std::max(last_use[rows[r].source], r);
  }
}

std::vector<std::uint32_t> RepeatRows::pairs_of(const std::vector<std::uint32_t>& count) {
  struct Place {
    std::uint64_t tokens;  // both
    std::uint32_t row;
  };
  std::vector<Place> places;
  for (std::uint32_t r = 1; r < token.size(); ++r) {
    if (count[token[r - 1]] < 2 || count[token[r]] < 2) continue;  // there is no other one
    places.push_back({std::uint64_t{token[r - 1]} << 32 | token[r], r});
  }
  std::sort(places.begin(), places.end(),
            [](const Place& a, const Place& b) { return a.tokens != b.tokens ? a.tokens < b.tokens : a.row < b.row; });
  std::vector<std::uint32_t> pair(token.size(), kNone);
  for (std::size_t i = 1; i < places.size(); ++i) {
    const Place &before = places[i - 1], &at = places[i];
    if (before.tokens != at.tokens) continue;
    if (pair[before.row] == kNone) pair[before.row] = contexts++;
    pair[at.row] = rows[at.row].source = pair[before.row];
  }
  return pair;
}

RepeatPredictor::RepeatPredictor(const RepeatRows& repeats, std::uint32_t width)
    : repeats_(repeats),
      width_(width),
      counts_(repeats.contexts),
      sums_(std::size_t{repeats.contexts} * width),
      place_(repeats.contexts, RepeatRows::kNone),
      mean_(width),
      prediction_(width),
      with_mean_(width, 0.5f),
      of_mean_(width, 1.0f) {}

void RepeatPredictor::begin_run(std::uint32_t from, std::uint32_t to, AdaptBasis& basis) {
  run_end_ = to;
  std::fill(place_.begin(), place_.end(), RepeatRows::kNone);
  before_.clear();
  std::uint32_t places = 0;
  for (std::uint32_t r = from; r < to; ++r) {
    const std::uint32_t source = repeats_.rows[r].source;
    if (source == RepeatRows::kNone || place_[source] != RepeatRows::kNone) continue;
    place_[source] = places++;
    const float* sum = sums_.data() + std::size_t{source} * width_;
    before_.insert(before_.end(), sum, sum + width_);
  }
  run_sums_.resize(before_.size());
  basis.project(before_.data(), width_, places, run_sums_.data());
}

const float* RepeatPredictor::predict(std::size_t r) {
  const std::uint32_t source = repeats_.rows[r].source;
  if (source == RepeatRows::kNone) return nullptr;
  const float* sum = run_sums_.data() + std::size_t{place_[source]} * width_;
  const float share = counts_[source] == 0 ? 0.0f : 1.0f / static_cast<float>(counts_[source]);
  kernels::predict(sum, share, with_mean_.data(), of_mean_.data(), width_, mean_.data(), prediction_.data());
  return prediction_.data();
}

void RepeatPredictor::learn(std::size_t r, const float* coefficients) {
  const RepeatRows::Row& row = repeats_.rows[r];
  if (row.source != RepeatRows::kNone) {
    kernels::learn_factors(mean_.data(), coefficients, width_, with_mean_.data(), of_mean_.data());
  }
  for (const std::uint32_t context : row.feeds) {
    if (context == RepeatRows::kNone) continue;
    ++counts_[context];
    if (place_[context] == RepeatRows::kNone) continue;
    kernels::add_multiple(coefficients, width_, 1, run_sums_.data() + std::size_t{place_[context]} * width_);
  }
}

void RepeatPredictor::add_rows(std::uint32_t first, const float* rows, std::span<const std::uint8_t> usual) {
  for (std::size_t i = 0; i < usual.size(); ++i) {
    if (usual[i] == 0) continue;
    for (const std::uint32_t context : repeats_.rows[first + i].feeds) {
      if (context == RepeatRows::kNone || repeats_.last_use[context] < run_end_) continue;
      kernels::add_multiple(rows + i * width_, width_, 1, sums_.data() + std::size_t{context} * width_);
    }
  }
}

}  // namespace kvzip
