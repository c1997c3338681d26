// SPDX-License-Identifier: Apache-2.0
#include "codec/kernels/attention.hpp"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "codec/kernels/attention.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace kvzip::kernels::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

/// Parts of each sum over tokens: as many as the widest vectors have lanes; narrower targets walk them in turns.
constexpr std::size_t kParts = 16;
using Floats = hn::CappedTag<float, kParts>;

/// Queries that share a pass over keys or values: their sums must fit the registers.
#if HWY_TARGET == HWY_SSE2 || HWY_TARGET == HWY_SSSE3 || HWY_TARGET == HWY_SSE4 || HWY_TARGET == HWY_AVX2
constexpr std::size_t kShared = 4;
#else
constexpr std::size_t kShared = 8;
#endif
static_assert(kQueryTile % kShared == 0);

/// kShared queries with two vectors of tokens of one panel.
void PanelLogits(const float* queries, const float* panel, std::size_t dims, std::size_t first, float* out) {
  const Floats d;
  const std::size_t lanes = hn::Lanes(d);
  hn::Vec<Floats> low[kShared], high[kShared];
  for (std::size_t q = 0; q < kShared; ++q) low[q] = high[q] = hn::Zero(d);
  for (std::size_t c = 0; c < dims; ++c) {
    const auto a = hn::LoadU(d, panel + c * kTokenPanel), b = hn::LoadU(d, panel + c * kTokenPanel + lanes);
    const float* x = queries + c * kQueryTile + first;
    for (std::size_t q = 0; q < kShared; ++q) {
      const auto f = hn::Set(d, x[q]);
      low[q] = hn::Add(low[q], hn::Mul(a, f));
      high[q] = hn::Add(high[q], hn::Mul(b, f));
    }
  }
  for (std::size_t q = 0; q < kShared; ++q) {
    hn::StoreU(low[q], d, out + (first + q) * kTokenBlock);
    hn::StoreU(high[q], d, out + (first + q) * kTokenBlock + lanes);
  }
}

void TileLogits(const float* queries, const float* panels, std::size_t dims, std::size_t tokens, float* out) {
  const std::size_t step = 2 * hn::Lanes(Floats());
  static_assert(kTokenPanel % (2 * kParts) == 0);
  for (std::size_t t = 0; t < tokens; t += kTokenPanel, panels += kTokenPanel * dims) {
    for (std::size_t at = 0; at < kTokenPanel; at += step) {
      for (std::size_t first = 0; first < kQueryTile; first += kShared) {
        PanelLogits(queries, panels + at, dims, first, out + t + at);
      }
    }
  }
}

/// kShared queries with kVectors vectors of channels.
template <std::size_t kVectors>
void ColumnOutputs(const float* weights, const float* values, std::size_t tokens, std::size_t dims, float* out) {
  const Floats d;
  const std::size_t next = kVectors == 2 ? hn::Lanes(d) : 0;
  hn::Vec<Floats> low[kShared], high[kShared];
  for (std::size_t q = 0; q < kShared; ++q) low[q] = high[q] = hn::Zero(d);
  for (std::size_t t = 0; t < tokens; ++t, values += dims) {
    const auto a = hn::LoadU(d, values), b = hn::LoadU(d, values + next);
    for (std::size_t q = 0; q < kShared; ++q) {
      const auto w = hn::Set(d, weights[q * kTokenBlock + t]);
      low[q] = hn::Add(low[q], hn::Mul(a, w));
      if constexpr (kVectors == 2) high[q] = hn::Add(high[q], hn::Mul(b, w));
    }
  }
  for (std::size_t q = 0; q < kShared; ++q) {
    hn::StoreU(low[q], d, out + q * dims);
    if constexpr (kVectors == 2) hn::StoreU(high[q], d, out + q * dims + next);
  }
}

void TileOutputs(const float* weights, const float* values, std::size_t tokens, std::size_t dims, float* out) {
  const std::size_t lanes = hn::Lanes(Floats());
  for (std::size_t first = 0; first < kQueryTile; first += kShared, out += kShared * dims) {
    const float* w = weights + first * kTokenBlock;
    std::size_t c = 0;
    for (; c + 2 * lanes <= dims; c += 2 * lanes) ColumnOutputs<2>(w, values + c, tokens, dims, out + c);
    for (; c + lanes <= dims; c += lanes) ColumnOutputs<1>(w, values + c, tokens, dims, out + c);
    for (; c < dims; ++c) {
      for (std::size_t q = 0; q < kShared; ++q) {
        float sum = 0;
        for (std::size_t t = 0; t < tokens; ++t) sum += values[t * dims + c] * w[q * kTokenBlock + t];
        out[q * dims + c] = sum;
      }
    }
  }
}

/// The parts of a sum, folded by halves.
double Fold(float* parts) {
  for (std::size_t half = kParts / 2; half > 0; half /= 2) {
    for (std::size_t i = 0; i < half; ++i) parts[i] += parts[i + half];
  }
  return parts[0];
}

LogitRange CheckLogits(float* s, float* d, std::size_t count, std::size_t width) {
  const Floats f;
  const hn::RebindToSigned<Floats> ints;
  const std::size_t lanes = hn::Lanes(f);
  const auto bound = hn::Set(f, kLargestLogit), none = hn::Set(f, kNoLogit);
  auto most = none, most_decoded = none;
  std::size_t kept = 0;
  HWY_ALIGN float squares[kParts], errors[kParts];
  for (std::size_t part = 0; part < kParts; part += lanes) {
    auto square = hn::Zero(f), error = hn::Zero(f);
    for (std::size_t t = part; t < width; t += kParts) {
      const auto x = hn::LoadU(f, s + t), y = hn::LoadU(f, d + t);
      const auto index = hn::Iota(ints, static_cast<std::int32_t>(t));
      const auto seen = hn::RebindMask(f, hn::Lt(index, hn::Set(ints, static_cast<std::int32_t>(count))));
      const auto good = hn::And(seen, hn::And(hn::Le(hn::Abs(x), bound), hn::Le(hn::Abs(y), bound)));
      const auto logit = hn::IfThenElse(good, x, none), change = hn::IfThenElseZero(good, y);
      hn::StoreU(logit, f, s + t);
      hn::StoreU(change, f, d + t);
      const auto clean = hn::IfThenElseZero(good, x);
      square = hn::Add(square, hn::Mul(clean, clean));
      error = hn::Add(error, hn::Mul(change, change));
      most = hn::Max(most, logit);
      most_decoded = hn::Max(most_decoded, hn::Sub(logit, change));
      kept += hn::CountTrue(f, good);
    }
    hn::StoreU(square, f, squares + part);
    hn::StoreU(error, f, errors + part);
  }
  return {hn::GetLane(hn::MaxOfLanes(f, most)), hn::GetLane(hn::MaxOfLanes(f, most_decoded)), Fold(squares),
          Fold(errors), count - kept};
}

/// e^x for x <= 60; 0 below -87, where floats lose their precision. ln 2 in two parts (Cody and Waite 1980), then
/// the Taylor series to the 7th power: the next term is below 6e-9 for |r| <= ln 2 / 2.
template <class V>
HWY_INLINE V Exp(Floats f, V x) {
  const hn::RebindToSigned<Floats> ints;
  const auto low = hn::Set(f, -87.0f);
  const auto kept = hn::Ge(x, low);
  x = hn::Min(hn::Max(x, low), hn::Set(f, 60.0f));
  const auto k = hn::Round(hn::Mul(x, hn::Set(f, 0x1.715476p+0f)));
  auto r = hn::Sub(x, hn::Mul(k, hn::Set(f, 0x1.62e400p-1f)));
  r = hn::Sub(r, hn::Mul(k, hn::Set(f, 0x1.7f7d1cp-20f)));
  auto sum = hn::Set(f, 1.0f / 5040);
  for (const float factorial : {720.0f, 120.0f, 24.0f, 6.0f, 2.0f, 1.0f, 1.0f}) {
    sum = hn::Add(hn::Mul(sum, r), hn::Set(f, 1.0f / factorial));
  }
  const auto power = hn::ShiftLeft<23>(hn::ConvertTo(ints, k));
  return hn::IfThenElseZero(kept, hn::BitCast(f, hn::Add(hn::BitCast(ints, sum), power)));
}

/// (e^-x - 1 + x) / x^2 for |x| <= 1/2: the series 1/2 - x/6 + x^2/24 - ... to x^6; the next term is below 3e-8.
template <class V>
HWY_INLINE V SecondOrder(Floats f, V x) {
  auto sum = hn::Set(f, 1.0f / 40320);
  for (const float term : {-1.0f / 5040, 1.0f / 720, -1.0f / 120, 1.0f / 24, -1.0f / 6, 1.0f / 2}) {
    sum = hn::Add(hn::Mul(sum, x), hn::Set(f, term));
  }
  return sum;
}

WeightSums Weigh(float* s, float* d, std::size_t width, float m, float r) {
  const Floats f;
  const std::size_t lanes = hn::Lanes(f);
  const auto top = hn::Set(f, m), shift = hn::Set(f, r), half = hn::Set(f, 0.5f);
  HWY_ALIGN float weights[kParts], changes[kParts], seconds[kParts];
  for (std::size_t part = 0; part < kParts; part += lanes) {
    auto weight = hn::Zero(f), change = hn::Zero(f), second = hn::Zero(f);
    for (std::size_t t = part; t < width; t += kParts) {
      const auto u = hn::Sub(hn::LoadU(f, s + t), top), e = hn::Sub(hn::LoadU(f, d + t), shift);
      const auto w = Exp(f, u);
      const auto small = hn::Le(hn::Abs(e), half);
      const auto g = hn::Mul(hn::Mul(e, e), SecondOrder(f, e));
      auto change_w = hn::Mul(w, hn::Sub(g, e)), second_w = hn::Mul(w, g);
      auto decoded = hn::Add(w, change_w);
      if (!hn::AllTrue(f, small)) {
        const auto far = Exp(f, hn::Sub(u, e));
        const auto far_change = hn::Sub(far, w);
        decoded = hn::IfThenElse(small, decoded, far);
        change_w = hn::IfThenElse(small, change_w, far_change);
        second_w = hn::IfThenElse(small, second_w, hn::Add(far_change, hn::Mul(w, e)));
      }
      hn::StoreU(w, f, s + t);
      hn::StoreU(decoded, f, d + t);
      weight = hn::Add(weight, w);
      change = hn::Add(change, change_w);
      second = hn::Add(second, second_w);
    }
    hn::StoreU(weight, f, weights + part);
    hn::StoreU(change, f, changes + part);
    hn::StoreU(second, f, seconds + part);
  }
  return {Fold(weights), Fold(changes), Fold(seconds)};
}

float MaskLogits(float* s, std::size_t count, std::size_t width) {
  const Floats f;
  const hn::RebindToSigned<Floats> ints;
  const auto bound = hn::Set(f, kLargestLogit), none = hn::Set(f, kNoLogit);
  const auto end = hn::Set(ints, static_cast<std::int32_t>(count));
  auto most = none;
  for (std::size_t t = 0; t < width; t += hn::Lanes(f)) {
    const auto x = hn::LoadU(f, s + t);
    const auto seen = hn::RebindMask(f, hn::Lt(hn::Iota(ints, static_cast<std::int32_t>(t)), end));
    const auto logit = hn::IfThenElse(hn::And(seen, hn::Le(hn::Abs(x), bound)), x, none);
    hn::StoreU(logit, f, s + t);
    most = hn::Max(most, logit);
  }
  return hn::GetLane(hn::MaxOfLanes(f, most));
}

double ExpWeights(float* s, std::size_t width, float m) {
  const Floats f;
  const auto top = hn::Set(f, m);
  HWY_ALIGN float weights[kParts];
  for (std::size_t part = 0; part < kParts; part += hn::Lanes(f)) {
    auto weight = hn::Zero(f);
    for (std::size_t t = part; t < width; t += kParts) {
      const auto w = Exp(f, hn::Sub(hn::LoadU(f, s + t), top));
      hn::StoreU(w, f, s + t);
      weight = hn::Add(weight, w);
    }
    hn::StoreU(weight, f, weights + part);
  }
  return Fold(weights);
}

void AddErrorWeights(const float* s, const float* products, const float* squares, std::size_t width,
                     const QueryShare& query, float* value, float* key) {
  const Floats f;
  const auto top = hn::Set(f, query.m), scale = hn::Set(f, query.inverse_z), factor = hn::Set(f, query.key_factor);
  const auto square = hn::Set(f, query.output_square);
  for (std::size_t t = 0; t < width; t += hn::Lanes(f)) {
    const auto a = hn::Mul(Exp(f, hn::Sub(hn::LoadU(f, s + t), top)), scale);
    const auto a2 = hn::Mul(a, a);
    const auto product = hn::LoadU(f, products + t);
    const auto distance = hn::Sub(hn::Add(hn::LoadU(f, squares + t), square), hn::Add(product, product));
    const auto share = hn::Mul(hn::Mul(a2, hn::Max(distance, hn::Zero(f))), factor);
    hn::StoreU(hn::Add(hn::LoadU(f, value + t), a2), f, value + t);
    hn::StoreU(hn::Add(hn::LoadU(f, key + t), share), f, key + t);
  }
}

void ScaleAndAdd(const float* x, std::size_t n, double factor, double* sum) {
  const hn::CappedTag<double, kParts / 2> d;
  const hn::Rebind<float, decltype(d)> f;
  const std::size_t lanes = hn::Lanes(d);
  const auto by = hn::Set(d, factor);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto scaled = hn::Mul(hn::LoadU(d, sum + i), by);
    hn::StoreU(hn::Add(scaled, hn::PromoteTo(d, hn::LoadU(f, x + i))), d, sum + i);
  }
  for (; i < n; ++i) sum[i] = sum[i] * factor + double{x[i]};
}

/// 32 rows at a time so that whole lines of the panel are written.
void PackPanels(const float* rows, const float* other, std::size_t count, std::size_t dims, float* panels) {
  for (std::size_t t = 0; t < count; t += kTokenPanel, panels += kTokenPanel * dims) {
    const std::size_t some = std::min(kTokenPanel, count - t);
    if (some < kTokenPanel) std::fill(panels, panels + kTokenPanel * dims, 0.0f);
    for (std::size_t c = 0; c < dims; ++c) {
      const float* from = rows + t * dims + c;
      float* to = panels + c * kTokenPanel;
      if (other == nullptr) {
        for (std::size_t i = 0; i < some; ++i) to[i] = from[i * dims];
      } else {
        const float* minus = other + t * dims + c;
        for (std::size_t i = 0; i < some; ++i) to[i] = from[i * dims] - minus[i * dims];
      }
    }
  }
}

}  // namespace
}  // namespace kvzip::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvzip::kernels {

HWY_EXPORT(TileLogits);
HWY_EXPORT(TileOutputs);
HWY_EXPORT(CheckLogits);
HWY_EXPORT(Weigh);
HWY_EXPORT(PackPanels);
HWY_EXPORT(ScaleAndAdd);
HWY_EXPORT(MaskLogits);
HWY_EXPORT(ExpWeights);
HWY_EXPORT(AddErrorWeights);

void pack_panels(const float* rows, std::size_t count, std::size_t dims, float* panels) {
  HWY_DYNAMIC_DISPATCH(PackPanels)(rows, nullptr, count, dims, panels);
}
void pack_difference(const float* rows, const float* other, std::size_t count, std::size_t dims, float* panels) {
  HWY_DYNAMIC_DISPATCH(PackPanels)(rows, other, count, dims, panels);
}
void tile_logits(const float* queries, const float* panels, std::size_t dims, std::size_t tokens, float* out) {
  HWY_DYNAMIC_DISPATCH(TileLogits)(queries, panels, dims, tokens, out);
}
void tile_outputs(const float* weights, const float* values, std::size_t tokens, std::size_t dims, float* out) {
  HWY_DYNAMIC_DISPATCH(TileOutputs)(weights, values, tokens, dims, out);
}
LogitRange check_logits(float* s, float* d, std::size_t count, std::size_t width) {
  return HWY_DYNAMIC_DISPATCH(CheckLogits)(s, d, count, width);
}
WeightSums weigh(float* s, float* d, std::size_t width, float m, float r) {
  return HWY_DYNAMIC_DISPATCH(Weigh)(s, d, width, m, r);
}
float mask_logits(float* s, std::size_t count, std::size_t width) {
  return HWY_DYNAMIC_DISPATCH(MaskLogits)(s, count, width);
}
double exp_weights(float* s, std::size_t width, float m) {
  return HWY_DYNAMIC_DISPATCH(ExpWeights)(s, width, m);
}
void add_error_weights(const float* s, const float* products, const float* squares, std::size_t width,
                       const QueryShare& query, float* value, float* key) {
  HWY_DYNAMIC_DISPATCH(AddErrorWeights)(s, products, squares, width, query, value, key);
}
void scale_and_add(const float* x, std::size_t n, double factor, double* sum) {
  HWY_DYNAMIC_DISPATCH(ScaleAndAdd)(x, n, factor, sum);
}

}  // namespace kvzip::kernels
#endif  // HWY_ONCE
