// SPDX-License-Identifier: Apache-2.0
#include "codec/kernels/products.hpp"

#include <algorithm>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "codec/kernels/products.cpp"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace kvzip::kernels::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

/// At most kPartials lanes; narrower targets walk the partial sums in turns.
using Floats = hn::CappedTag<float, kPartials>;
using Doubles = hn::CappedTag<double, kPartials / 2>;

/// Rows whose products are formed before the next ones are read: they stay in the nearest cache, 16 KiB for 128
/// columns.
constexpr std::size_t kRows = 32;

/// `left` rows lie at x, of which the first ones are copied.
float GatherRows(const float* x, std::size_t rows, std::size_t left, std::size_t cols, std::size_t stride, float* e,
                 std::size_t e_cols) {
  const Floats d;
  const std::size_t lanes = hn::Lanes(d);
  // Rows of a part lie a whole row of the tile apart, too far for the machine to see the next ones coming.
  constexpr std::size_t kAhead = 8;
  auto most = hn::Zero(d);
  float largest = 0;
  for (std::size_t t = 0; t < rows; ++t, x += stride, e += e_cols) {
    std::size_t c = 0;
    for (; c + lanes <= cols; c += lanes) {
      const auto v = hn::LoadU(d, x + c);
      hn::StoreU(v, d, e + c);
      if (t + kAhead < left) hwy::Prefetch(x + kAhead * stride + c);
      most = hn::Max(most, hn::Abs(v));
    }
    for (; c < cols; ++c) {
      e[c] = x[c];
      largest = std::max(largest, x[c] < 0 ? -x[c] : x[c]);
    }
    for (; c < e_cols; ++c) e[c] = 0;
  }
  return std::max(largest, hn::GetLane(hn::MaxOfLanes(d, most)));
}

float GatherBlock(const float* x, std::size_t rows, std::size_t cols, std::size_t stride, float* e,
                  std::size_t e_cols) {
  return GatherRows(x, rows, rows, cols, stride, e, e_cols);
}

/// Partial sums of two rows with four vectors: sums[(row * kQuad + vector) * kPartials + partial].
void PartialDots(const float* x, const float* y, std::size_t cols, const float* p, float* sums) {
  const Floats d;
  for (std::size_t part = 0; part < kPartials; part += hn::Lanes(d)) {
    auto x0 = hn::Zero(d), x1 = hn::Zero(d), x2 = hn::Zero(d), x3 = hn::Zero(d);
    auto y0 = hn::Zero(d), y1 = hn::Zero(d), y2 = hn::Zero(d), y3 = hn::Zero(d);
    for (std::size_t c = part; c < cols; c += kPartials) {
      const auto xc = hn::LoadU(d, x + c), yc = hn::LoadU(d, y + c);
      const auto p0 = hn::LoadU(d, p + c), p1 = hn::LoadU(d, p + cols + c);
      x0 = hn::Add(x0, hn::Mul(xc, p0));
      y0 = hn::Add(y0, hn::Mul(yc, p0));
      x1 = hn::Add(x1, hn::Mul(xc, p1));
      y1 = hn::Add(y1, hn::Mul(yc, p1));
      const auto p2 = hn::LoadU(d, p + 2 * cols + c), p3 = hn::LoadU(d, p + 3 * cols + c);
      x2 = hn::Add(x2, hn::Mul(xc, p2));
      y2 = hn::Add(y2, hn::Mul(yc, p2));
      x3 = hn::Add(x3, hn::Mul(xc, p3));
      y3 = hn::Add(y3, hn::Mul(yc, p3));
    }
    float* at = sums + part;
    hn::StoreU(x0, d, at);
    hn::StoreU(x1, d, at + kPartials);
    hn::StoreU(x2, d, at + 2 * kPartials);
    hn::StoreU(x3, d, at + 3 * kPartials);
    hn::StoreU(y0, d, at + 4 * kPartials);
    hn::StoreU(y1, d, at + 5 * kPartials);
    hn::StoreU(y2, d, at + 6 * kPartials);
    hn::StoreU(y3, d, at + 7 * kPartials);
  }
}

/// Four sums of partial sums. The tree folds halves: 8 onto 8, 4 onto 4, 2 onto 2, 1 onto 1.
void FoldQuad(const float* sums, float* out) {
#if HWY_TARGET == HWY_SCALAR
  for (std::size_t k = 0; k < kQuad; ++k) {
    float s[kPartials / 2];
    const float* from = sums + k * kPartials;
    for (std::size_t j = 0; j < kPartials / 2; ++j) s[j] = from[j] + from[j + kPartials / 2];
    for (std::size_t half = kPartials / 4; half > 0; half /= 2) {
      for (std::size_t j = 0; j < half; ++j) s[j] += s[j + half];
    }
    out[k] = s[0];
  }
#else
  const hn::FixedTag<float, 4> d;
  const auto fold = [&](std::size_t k) HWY_ATTR {
    const float* s = sums + k * kPartials;
    return hn::Add(hn::Add(hn::LoadU(d, s), hn::LoadU(d, s + 8)), hn::Add(hn::LoadU(d, s + 4), hn::LoadU(d, s + 12)));
  };
  const auto a = fold(0), b = fold(1), c = fold(2), e = fold(3);
  const auto ab = hn::Add(hn::InterleaveLower(d, a, b), hn::InterleaveUpper(d, a, b));
  const auto ce = hn::Add(hn::InterleaveLower(d, c, e), hn::InterleaveUpper(d, c, e));
  hn::StoreU(hn::Add(hn::ConcatLowerLower(d, ce, ab), hn::ConcatUpperUpper(d, ce, ab)), d, out);
#endif
}

/// q of up to kRows rows, row after row. An odd last row is paired with itself.
void RowsTimes(const float* x, std::size_t rows, std::size_t cols, const float* p, float* q) {
  HWY_ALIGN float sums[2 * kQuad * kPartials];
  for (std::size_t t = 0; t < rows; t += 2) {
    const float* row = x + t * cols;
    PartialDots(row, t + 1 < rows ? row + cols : row, cols, p, sums);
    FoldQuad(sums, q + t * kQuad);
    FoldQuad(sums + kQuad * kPartials, q + (t + 1) * kQuad);
  }
}

/// p += x' q over up to kRows rows: their sum first, row after row, then one addition to p.
template <std::size_t kVectors>
void AddColumns(const float* x, std::size_t rows, std::size_t cols, const float* q, std::size_t c, float* p) {
  static_assert(kVectors == 1 || kVectors == 2);
  const Floats d;
  const std::size_t next = kVectors == 2 ? hn::Lanes(d) : 0;
  auto a0 = hn::Zero(d), a1 = hn::Zero(d), a2 = hn::Zero(d), a3 = hn::Zero(d);
  auto b0 = hn::Zero(d), b1 = hn::Zero(d), b2 = hn::Zero(d), b3 = hn::Zero(d);
  for (std::size_t t = 0; t < rows; ++t) {
    const float* row = x + t * cols + c;
    const float* factor = q + t * kQuad;
    const auto a = hn::LoadU(d, row), b = hn::LoadU(d, row + next);
    const auto f0 = hn::Set(d, factor[0]), f1 = hn::Set(d, factor[1]);
    const auto f2 = hn::Set(d, factor[2]), f3 = hn::Set(d, factor[3]);
    a0 = hn::Add(a0, hn::Mul(a, f0));
    a1 = hn::Add(a1, hn::Mul(a, f1));
    a2 = hn::Add(a2, hn::Mul(a, f2));
    a3 = hn::Add(a3, hn::Mul(a, f3));
    if constexpr (kVectors == 2) {
      b0 = hn::Add(b0, hn::Mul(b, f0));
      b1 = hn::Add(b1, hn::Mul(b, f1));
      b2 = hn::Add(b2, hn::Mul(b, f2));
      b3 = hn::Add(b3, hn::Mul(b, f3));
    }
  }
  const auto add = [&](auto sum, float* at) HWY_ATTR { hn::StoreU(hn::Add(hn::LoadU(d, at), sum), d, at); };
  add(a0, p + c);
  add(a1, p + cols + c);
  add(a2, p + 2 * cols + c);
  add(a3, p + 3 * cols + c);
  if constexpr (kVectors == 2) {
    add(b0, p + next + c);
    add(b1, p + cols + next + c);
    add(b2, p + 2 * cols + next + c);
    add(b3, p + 3 * cols + next + c);
  }
}

void AddTransposed(const float* x, std::size_t rows, std::size_t cols, const float* q, float* p) {
  const std::size_t lanes = hn::Lanes(Floats());
  std::size_t c = 0;
  // Not pairs of single lanes: g++ 12 loads four floats for two of each row, past the end of the last one.
  if constexpr (hn::MaxLanes(Floats()) > 1) {
    for (; c + 2 * lanes <= cols; c += 2 * lanes) AddColumns<2>(x, rows, cols, q, c, p);
  }
  for (; c < cols; c += lanes) AddColumns<1>(x, rows, cols, q, c, p);
}

void Times(const Block& e, const float* p, std::size_t quads, float* q) {
  float part[kRows * kQuad];
  for (std::size_t t = 0; t < e.rows; t += kRows) {
    const std::size_t rows = std::min(kRows, e.rows - t);
    for (std::size_t g = 0; g < quads; ++g) {
      RowsTimes(e.data + t * e.cols, rows, e.cols, p + g * kQuad * e.cols, part);
      std::memcpy(q + (g * e.rows + t) * kQuad, part, rows * kQuad * sizeof(float));
    }
  }
}

void TransposedTimes(const Block& e, const float* q, std::size_t quads, float* p) {
  std::fill(p, p + quads * kQuad * e.cols, 0.0f);
  for (std::size_t t = 0; t < e.rows; t += kRows) {
    for (std::size_t g = 0; g < quads; ++g) {
      AddTransposed(e.data + t * e.cols, std::min(kRows, e.rows - t), e.cols, q + (g * e.rows + t) * kQuad,
                    p + g * kQuad * e.cols);
    }
  }
}

/// out += x' (x p) for up to kRows rows x
void AddGram(const float* x, std::size_t rows, std::size_t cols, const float* p, std::size_t quads, float* out) {
  float q[kRows * kQuad];
  for (std::size_t g = 0; g < quads; ++g) {
    RowsTimes(x, rows, cols, p + g * kQuad * cols, q);
    AddTransposed(x, rows, cols, q, out + g * kQuad * cols);
  }
}

void GramTimes(const Block& e, const float* p, std::size_t quads, float* out) {
  std::fill(out, out + quads * kQuad * e.cols, 0.0f);
  for (std::size_t t = 0; t < e.rows; t += kRows) {
    AddGram(e.data + t * e.cols, std::min(kRows, e.rows - t), e.cols, p, quads, out);
  }
}

float GatherGramTimes(const float* x, std::size_t rows, std::size_t cols, std::size_t stride, float* e,
                      std::size_t e_cols, const float* p, std::size_t quads, float* out) {
  float largest = 0;
  std::fill(out, out + quads * kQuad * e_cols, 0.0f);
  for (std::size_t t = 0; t < rows; t += kRows) {
    const std::size_t some = std::min(kRows, rows - t);
    float* at = e + t * e_cols;
    largest = std::max(largest, GatherRows(x + t * stride, some, rows - t, cols, stride, at, e_cols));
    AddGram(at, some, e_cols, p, quads, out);
  }
  return largest;
}

double Dot(const float* a, const float* b, std::size_t n) {
  constexpr std::size_t kSums = kPartials / 2;
  const Doubles d;
  const hn::Rebind<float, Doubles> f;
  double lane[kSums];
  const std::size_t whole = n / kSums * kSums;
  for (std::size_t part = 0; part < kSums; part += hn::Lanes(d)) {
    auto sum = hn::Zero(d);
    for (std::size_t i = part; i < whole; i += kSums) {
      const auto x = hn::PromoteTo(d, hn::LoadU(f, a + i)), y = hn::PromoteTo(d, hn::LoadU(f, b + i));
      sum = hn::Add(sum, hn::Mul(x, y));
    }
    hn::StoreU(sum, d, lane + part);
  }
  for (std::size_t i = whole; i < n; ++i) lane[0] += double{a[i]} * b[i];
  return ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
}

void RowEnergies(const float* x, std::size_t rows, std::size_t cols, double* energies) {
  for (std::size_t r = 0; r < rows; ++r) energies[r] = Dot(x + r * cols, x + r * cols, cols);
}

void AddMultiple(const float* x, std::size_t n, float factor, float* y) {
  const Floats d;
  const std::size_t lanes = hn::Lanes(d);
  const auto f = hn::Set(d, factor);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    hn::StoreU(hn::Add(hn::LoadU(d, y + i), hn::Mul(hn::LoadU(d, x + i), f)), d, y + i);
  }
  for (; i < n; ++i) y[i] += factor * x[i];
}

/// One part: use(c, l of the values from c on) for whole vectors, use_one(c, l) for the rest.
template <typename Use, typename UseOne>
HWY_INLINE void ForPart(const float* q, const float* p, std::size_t rank, std::size_t cols, Use&& use,
                        UseOne&& use_one) {
  const Floats d;
  const std::size_t lanes = hn::Lanes(d);
  std::size_t c = 0;
  if (rank == kQuad) {  // factors stay in registers
    const auto q0 = hn::Set(d, q[0]), q1 = hn::Set(d, q[1]), q2 = hn::Set(d, q[2]), q3 = hn::Set(d, q[3]);
    for (; c + lanes <= cols; c += lanes) {
      const auto l0 = hn::Mul(q0, hn::LoadU(d, p + c)), l1 = hn::Mul(q1, hn::LoadU(d, p + cols + c));
      const auto l2 = hn::Mul(q2, hn::LoadU(d, p + 2 * cols + c)), l3 = hn::Mul(q3, hn::LoadU(d, p + 3 * cols + c));
      use(c, hn::Add(hn::Add(hn::Add(l0, l1), l2), l3));
    }
  }
  for (; c + lanes <= cols; c += lanes) {
    auto l = hn::Mul(hn::Set(d, q[0]), hn::LoadU(d, p + c));
    for (std::size_t k = 1; k < rank; ++k) l = hn::Add(l, hn::Mul(hn::Set(d, q[k]), hn::LoadU(d, p + k * cols + c)));
    use(c, l);
  }
  for (; c < cols; ++c) {
    float l = q[0] * p[c];
    for (std::size_t k = 1; k < rank; ++k) l += q[k] * p[k * cols + c];
    use_one(c, l);
  }
}

void AddProducts(const float* q, const Parts& s, float* x) {
  const Floats d;
  if (s.rank == 0) return;
  for (std::size_t i = 0; i < s.parts; ++i, q += s.rank, x += s.cols) {
    ForPart(
        q, s.p + i * s.rank * s.cols, s.rank, s.cols,
        [&](std::size_t c, auto l) HWY_ATTR { hn::StoreU(hn::Add(hn::LoadU(d, x + c), l), d, x + c); },
        [&](std::size_t c, float l) { x[c] += l; });
  }
}

void SubtractProducts(const float* q, const Parts& s, const std::uint8_t* taken, float* x) {
  const Floats d;
  const hn::RebindToSigned<Floats> ints;
  const hn::Rebind<std::uint8_t, Floats> bytes;
  if (s.rank == 0) return;
  for (std::size_t i = 0; i < s.parts; ++i, q += s.rank, x += s.cols) {
    const float* p = s.p + i * s.rank * s.cols;
    if (taken == nullptr) {
      ForPart(
          q, p, s.rank, s.cols,
          [&](std::size_t c, auto l) HWY_ATTR { hn::StoreU(hn::Sub(hn::LoadU(d, x + c), l), d, x + c); },
          [&](std::size_t c, float l) { x[c] -= l; });
      continue;
    }
    const std::uint8_t* mark = taken + i * s.cols;
    ForPart(
        q, p, s.rank, s.cols,
        [&](std::size_t c, auto l) HWY_ATTR {
          const auto kept = hn::Eq(hn::PromoteTo(ints, hn::LoadU(bytes, mark + c)), hn::Zero(ints));
          hn::StoreU(hn::IfThenElseZero(hn::RebindMask(d, kept), hn::Sub(hn::LoadU(d, x + c), l)), d, x + c);
        },
        [&](std::size_t c, float l) { x[c] = mark[c] != 0 ? 0.0f : x[c] - l; });
  }
}

}  // namespace
}  // namespace kvzip::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvzip::kernels {

HWY_EXPORT(GatherBlock);
HWY_EXPORT(Times);
HWY_EXPORT(TransposedTimes);
HWY_EXPORT(GramTimes);
HWY_EXPORT(GatherGramTimes);
HWY_EXPORT(Dot);
HWY_EXPORT(RowEnergies);
HWY_EXPORT(AddMultiple);
HWY_EXPORT(AddProducts);
HWY_EXPORT(SubtractProducts);

float gather_block(const float* x, std::size_t rows, std::size_t cols, std::size_t stride, float* e,
                   std::size_t e_cols) {
  return HWY_DYNAMIC_DISPATCH(GatherBlock)(x, rows, cols, stride, e, e_cols);
}
void times(const Block& e, const float* p, std::size_t quads, float* q) {
  HWY_DYNAMIC_DISPATCH(Times)(e, p, quads, q);
}
void transposed_times(const Block& e, const float* q, std::size_t quads, float* p) {
  HWY_DYNAMIC_DISPATCH(TransposedTimes)(e, q, quads, p);
}
void gram_times(const Block& e, const float* p, std::size_t quads, float* out) {
  HWY_DYNAMIC_DISPATCH(GramTimes)(e, p, quads, out);
}
float gather_gram_times(const float* x, std::size_t rows, std::size_t cols, std::size_t stride, float* e,
                        std::size_t e_cols, const float* p, std::size_t quads, float* out) {
  return HWY_DYNAMIC_DISPATCH(GatherGramTimes)(x, rows, cols, stride, e, e_cols, p, quads, out);
}
double dot(const float* a, const float* b, std::size_t n) {
  return HWY_DYNAMIC_DISPATCH(Dot)(a, b, n);
}
void row_energies(const float* x, std::size_t rows, std::size_t cols, double* energies) {
  HWY_DYNAMIC_DISPATCH(RowEnergies)(x, rows, cols, energies);
}
void add_multiple(const float* x, std::size_t n, float factor, float* y) {
  HWY_DYNAMIC_DISPATCH(AddMultiple)(x, n, factor, y);
}
void add_products(const float* q, const Parts& p, float* x) {
  HWY_DYNAMIC_DISPATCH(AddProducts)(q, p, x);
}
void subtract_products(const float* q, const Parts& p, const std::uint8_t* taken, float* x) {
  HWY_DYNAMIC_DISPATCH(SubtractProducts)(q, p, taken, x);
}

}  // namespace kvzip::kernels
#endif  // HWY_ONCE
