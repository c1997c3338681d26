// SPDX-License-Identifier: Apache-2.0
#include "codec/coders/rans_scaled.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "codec/bytes.hpp"
#include "codec/coders/rans_io.hpp"
#include "codec/coders/rans_tables.hpp"
#include "codec/fail.hpp"
#include "codec/magnitudes.hpp"

namespace kvzip {
namespace {

using kernels::kRansSymbols;
using kernels::RansScale;

constexpr unsigned kContexts = kRansSymbols, kClasses = kMagnitudeClasses;
constexpr unsigned kFineShift = 22, kCoarseShift = 23;                       // of a float's bits: half octaves, octaves
constexpr std::uint8_t kTabled = 1, kCoarse = 2;                             // flags
constexpr unsigned kLeastCode = 2 * (127 - 24), kMostCode = 2 * (127 + 24);  // half octaves of 2^-24 to 2^24

struct Choice {
  std::uint8_t flags = 0;
  std::uint16_t base = 0, start = 0;  // half octaves: of context 0, and of the mean that channels begin with
  unsigned shift() const { return (flags & kCoarse) != 0 ? kCoarseShift : kFineShift; }
  int first() const { return (flags & kCoarse) != 0 ? base / 2 : base; }
};

RansScale scale_of(const Choice& choice, const Stream& s) {
  return {s.gains.values.empty() ? nullptr : s.gains.values.data(), s.gains.spans,
          std::bit_cast<float>(std::uint32_t{choice.start} << kFineShift), choice.shift(), choice.first()};
}

/// Models of geometric distributions with the means that contexts stand for.
std::vector<std::uint64_t> plain_weights(const Choice& choice, unsigned context) {
  const auto bits =
      (static_cast<std::uint32_t>(choice.first()) + context) << choice.shift() | 1u << (choice.shift() - 1);
  const double mean = std::bit_cast<float>(bits), ratio = mean / (1 + mean);
  std::vector<std::uint64_t> weights;
  double above = 1;  // the share of magnitudes from the class on
  for (unsigned c = 0; c < kClasses; ++c) {
    double next = above;
    for (unsigned members = 1u << std::min<unsigned>(kClassBits[c], 9); members > 0; --members) next *= ratio;
    if (c + 1 == kClasses) next = 0;
    weights.push_back(1 + static_cast<std::uint64_t>((above - next) * (1 << 20)));
    above = next;
  }
  return weights;
}

void plain_table(const Choice& choice, kernels::RansTable& table) {
  for (unsigned c = 0; c < kContexts; ++c) {
    const kernels::RansBounds bounds = rans_bounds(plain_weights(choice, c));
    for (unsigned i = 0; i < kRansSymbols; ++i) table.below[i][c] = bounds.below[i];
  }
}

kernels::RansModel model_of(const kernels::RansTable& table) {
  kernels::RansModel model;
  model.symbols = kClasses;
  model.table = &table;
  return model;
}

using Counts = std::array<std::array<std::uint64_t, kClasses>, kMostCode - kLeastCode + 1>;  // by half octave

/// The window of contexts that most symbols fall into.
void choose_window(const Counts& counts, std::uint64_t all, Choice& choice) {
  const auto sum = [](const auto& row) {
    std::uint64_t n = 0;
    for (const std::uint64_t x : row) n += x;
    return n;
  };
  for (const std::size_t step : {1u, 2u}) {
    std::uint64_t best = 0;
    std::size_t at = 0;
    for (std::size_t first = 0; first + kContexts * step <= counts.size(); first += step) {
      std::uint64_t inside = 0;
      for (std::size_t i = first; i < first + kContexts * step; ++i) inside += sum(counts[i]);
      if (inside > best) best = inside, at = first;
    }
    choice.base = static_cast<std::uint16_t>(kLeastCode + at);
    choice.flags = step == 2 ? kCoarse : 0;
    if (best >= all - all / 16) return;
  }
}

std::size_t context_of(const Choice& choice, unsigned code) {
  const int at = static_cast<int>((choice.flags & kCoarse) != 0 ? code / 2 : code) - choice.first();
  return static_cast<std::size_t>(std::clamp(at, 0, static_cast<int>(kContexts) - 1));
}

/// Bits that symbols with these counts cost under bounds.
double cost(const std::vector<std::uint64_t>& counts, const kernels::RansBounds& bounds) {
  double bits = 0;
  for (unsigned i = 0; i < kClasses; ++i) {
    const unsigned above = i + 1 < kClasses ? bounds.below[i + 1] : kernels::kRansTotal;
    if (counts[i] != 0) bits += static_cast<double>(counts[i]) * (15 - std::log2(above - bounds.below[i]));
  }
  return bits;
}

/// Stores a table where it saves more than it takes.
void choose_table(const Counts& counts, Choice& choice, kernels::RansTable& table, Bytes& stored) {
  std::vector<std::vector<std::uint64_t>> by_context(kContexts, std::vector<std::uint64_t>(kClasses));
  for (std::size_t i = 0; i < counts.size(); ++i) {
    auto& row = by_context[context_of(choice, kLeastCode + static_cast<unsigned>(i))];
    for (unsigned c = 0; c < kClasses; ++c) row[c] += counts[i][c];
  }
  std::vector<std::uint8_t> steps;
  for (const auto& row : by_context) {
    for (const std::uint64_t n : row) steps.push_back(rans_step(n));
  }
  kernels::RansBounds sum;
  kernels::RansTable fitted;
  rans_table(steps, kContexts, kClasses, fitted, sum);
  plain_table(choice, table);
  double plain_bits = 0, fitted_bits = 0;
  for (unsigned c = 0; c < kContexts; ++c) {
    kernels::RansBounds plain, own;
    for (unsigned i = 0; i < kRansSymbols; ++i) plain.below[i] = table.below[i][c], own.below[i] = fitted.below[i][c];
    plain_bits += cost(by_context[c], plain);
    fitted_bits += cost(by_context[c], own);
  }
  Bytes bytes;
  rans_put_steps(steps, bytes);
  if (fitted_bits + 8 * static_cast<double>(bytes.size()) >= plain_bits) return;
  choice.flags |= kTabled;
  table = fitted;
  stored = std::move(bytes);
}

/// rans_magnitude() of all symbols, which are whole.
double all_magnitudes(const std::uint8_t* symbols, std::size_t count) {
  std::uint64_t sum = 0;
  for (std::size_t c = 0; c < count;) {
    std::uint32_t some = 0;
    for (const std::size_t end = std::min<std::size_t>(count, c + (1 << 16)); c < end; ++c) {
      const int symbol = symbols[c], above = symbol < 8 ? 0 : symbol - 8;
      some += static_cast<std::uint32_t>(symbol + above * above);
    }
    sum += some;
  }
  return static_cast<double>(sum);
}

std::uint16_t start_of(const Stream& s) {
  double sum = 0;
  if (s.gains.values.empty()) {
    for (std::size_t r = 0; r < s.rows; ++r) sum += all_magnitudes(s.data.data() + r * s.cols, s.cols);
  }
  for (std::size_t r = 0; r < s.rows && !s.gains.values.empty(); ++r) {
    std::size_t begin = 0;
    const std::uint8_t* symbols = s.data.data() + r * s.cols;
    for (std::size_t i = 0; i < s.gains.spans.size(); begin = s.gains.spans[i++]) {
      sum += all_magnitudes(symbols + begin, s.gains.spans[i] - begin) * kernels::rans_gain(-s.gains.row(r)[i]);
    }
  }
  const auto mean = static_cast<float>(std::clamp(sum / static_cast<double>(s.count()), 0x1p-12, 0x1p20));
  return static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(mean) >> kFineShift);
}

/// How often each symbol comes in each half octave, to which codes are held.
Counts count_symbols(const Stream& s, std::vector<std::uint16_t>& codes) {
  Counts counts{}, others{};  // in turns, so that no count waits for the one before it
  for (std::uint16_t& code : codes) code = std::clamp<std::uint16_t>(code, kLeastCode, kMostCode);
  std::size_t i = 0;
  for (; i + 2 <= codes.size(); i += 2) {
    ++counts[codes[i] - kLeastCode][s.data[i]];
    ++others[codes[i + 1] - kLeastCode][s.data[i + 1]];
  }
  if (i < codes.size()) ++counts[codes[i] - kLeastCode][s.data[i]];
  for (std::size_t k = 0; k < counts.size(); ++k) {
    for (unsigned c = 0; c < kClasses; ++c) counts[k][c] += others[k][c];
  }
  return counts;
}

std::vector<std::uint8_t> contexts_of(const Choice& choice, const std::vector<std::uint16_t>& codes) {
  std::vector<std::uint8_t> contexts(codes.size());
  const int shift = (choice.flags & kCoarse) != 0 ? 1 : 0, first = choice.first(), most = kContexts - 1;
  for (std::size_t i = 0; i < codes.size(); ++i) {
    int at = (codes[i] >> shift) - first;
    at = at < 0 ? 0 : at;
    contexts[i] = static_cast<std::uint8_t>(at < most ? at : most);
  }
  return contexts;
}

}  // namespace

void rans_scaled_encode(const Stream& s, Bytes& table, Bytes& body) {
  const kernels::RansShape shape{s.count(), s.cols};
  Choice choice;
  choice.start = start_of(s);
  // The half octave of the magnitude to expect of each symbol.
  std::vector<std::uint16_t> codes(s.count());
  for (std::size_t g = 0; g < shape.groups(); ++g) {
    kernels::rans_scale_codes(scale_of(choice, s), shape, g, s.data.data(), codes.data());
  }
  const Counts counts = count_symbols(s, codes);
  choose_window(counts, codes.size(), choice);
  kernels::RansTable bounds;
  choose_table(counts, choice, bounds, table);

  const std::vector<std::uint8_t> contexts = contexts_of(choice, codes);
  ByteWriter out;
  out.put(choice.flags);
  out.put(choice.base);
  out.put(choice.start);
  body.insert(body.end(), out.view().begin(), out.view().end());
  RansWriter lanes(shape, 1);
  lanes.write(model_of(bounds), s.data.data(), contexts.data());
  lanes.finish(body);
}

void rans_scaled_decode(Stream& s, ByteView table, ByteView body) {
  ByteReader in(body);
  Choice choice;
  choice.flags = in.get<std::uint8_t>();
  choice.base = in.get<std::uint16_t>();
  choice.start = in.get<std::uint16_t>();
  if ((choice.flags & ~(kTabled | kCoarse)) != 0)
    fail(ErrorCode::corrupt, "unknown flags {} of scaled lanes", choice.flags);
  if (choice.base < kLeastCode || choice.base > kMostCode || choice.start < kLeastCode || choice.start > kMostCode) {
    fail(ErrorCode::corrupt, "scaled lanes that begin at half octaves {} and {}", choice.base, choice.start);
  }
  kernels::RansTable bounds;
  if ((choice.flags & kTabled) != 0) {
    kernels::RansBounds sum;
    rans_table(rans_get_steps(table, std::size_t{kContexts} * kClasses), kContexts, kClasses, bounds, sum);
  } else {
    if (!table.empty()) fail(ErrorCode::corrupt, "a table for a stream without one");
    plain_table(choice, bounds);
  }
  s.data.resize(s.count());
  const RansScale scale = scale_of(choice, s);
  kernels::RansModel model = model_of(bounds);
  model.scale = &scale;
  RansReader lanes(in.take(in.left()));
  lanes.read(model, {s.count(), s.cols}, nullptr, s.data.data());
  lanes.finish();
}

}  // namespace kvzip
