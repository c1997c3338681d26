// SPDX-License-Identifier: Apache-2.0
// One row of lanes: find the symbols' intervals, code them, or decode them. Included once per target.

// Boundary i of a lane: from its adaptive model, the table row of its context, or their average rounded up. A symbol is
// at least i exactly where boundary i is at or below the slot, so one compare both finds the symbol and steers
// learning.

HWY_BEFORE_NAMESPACE();
namespace kvzip::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

/// A model laid out for the loops. Adaptive bounds are kept less i, which makes their targets 0 and 2^15 - 16 for every
/// boundary; where both models are averaged, the table's bounds are kept plus i instead.
struct StepModel {
  unsigned symbols;
  alignas(64) mutable std::uint16_t adaptive[kRansSymbols][kRansLanes];
  alignas(64) std::uint16_t table[kRansSymbols][kRansSymbols];

  explicit StepModel(const RansModel& model) : symbols(model.symbols) {
    for (unsigned i = 0; i < kRansSymbols; ++i) {
      for (unsigned c = 0; c < kRansSymbols; ++c) {
        const unsigned more = model.start != nullptr ? i : 0;
        table[i][c] = static_cast<std::uint16_t>(model.table == nullptr ? 0 : model.table->below[i][c] + more);
      }
    }
  }
  void start_group(const RansBounds* start) {
    if (start == nullptr) return;
    for (unsigned i = 0; i < kRansSymbols; ++i) {
      for (std::size_t l = 0; l < kRansLanes; ++l) adaptive[i][l] = static_cast<std::uint16_t>(start->below[i] - i);
    }
  }
};

#if HWY_TARGET == HWY_SCALAR

template <bool kAdapts, bool kTabled>
inline std::uint32_t boundary(const StepModel& model, std::size_t lane, std::size_t context, unsigned i) {
  if (i == 0) return 0;
  if (i == model.symbols) return kRansTotal;
  const std::uint32_t a = kAdapts ? model.adaptive[i][lane] : 0, t = kTabled ? model.table[i][context] : 0;
  return kAdapts && kTabled ? (a + t + 1) >> 1 : kAdapts ? a + i : t;
}

template <bool kAdapts>
inline void learn(const StepModel& model, int shift, std::size_t lane, unsigned symbol) {
  if (!kAdapts) return;
  for (unsigned i = 1; i < model.symbols; ++i) {
    const int target = i <= symbol ? 0 : static_cast<int>(kRansTotal - kRansSymbols), now = model.adaptive[i][lane];
    model.adaptive[i][lane] = static_cast<std::uint16_t>(now + ((target - now) >> shift));
  }
}

template <bool kAdapts, bool kTabled, bool>
void interval_row(const StepModel& model, int shift, const std::uint8_t* symbols, std::uint16_t* contexts,
                  std::uint16_t* start, std::uint16_t* size) {
  for (std::size_t l = 0; l < kRansLanes; ++l) {
    const std::uint32_t from = boundary<kAdapts, kTabled>(model, l, contexts[l], symbols[l]);
    const std::uint32_t to = boundary<kAdapts, kTabled>(model, l, contexts[l], symbols[l] + 1u);
    start[l] = static_cast<std::uint16_t>(from);
    size[l] = static_cast<std::uint16_t>(to - from);
    learn<kAdapts>(model, shift, l, symbols[l]);
    contexts[l] = symbols[l];
  }
}

inline std::uint16_t* encode_row(const std::uint16_t* start, const std::uint16_t* size, RansStates& s,
                                 std::uint16_t* words) {
  for (std::size_t l = kRansLanes; l-- > 0;) {
    if (size[l] == 0) continue;
    std::uint32_t x = std::uint32_t{s.high[l]} << 16 | s.low[l];
    if (s.high[l] >= size[l]) {
      *--words = s.low[l];
      x = s.high[l];
    }
    x = x / size[l] * kRansTotal + x % size[l] + start[l];
    s.low[l] = static_cast<std::uint16_t>(x);
    s.high[l] = static_cast<std::uint16_t>(x >> 16);
  }
  return words;
}

template <bool kAdapts, bool kTabled, bool, bool>
inline const std::uint8_t* decode_row(const StepModel& model, int shift, std::size_t lanes, std::uint16_t* contexts,
                                      RansStates& states, const std::uint8_t* at, std::uint8_t* symbols) {
  for (std::size_t l = 0; l < lanes; ++l) {
    std::uint32_t x = std::uint32_t{states.high[l]} << 16 | states.low[l];
    const std::uint32_t slot = x & (kRansTotal - 1);
    unsigned symbol = 0;
    std::uint32_t from = 0, to = boundary<kAdapts, kTabled>(model, l, contexts[l], 1);
    while (to <= slot) {
      from = to;
      to = boundary<kAdapts, kTabled>(model, l, contexts[l], ++symbol + 1);
    }
    x = (x >> 15) * (to - from) + slot - from;
    if (x < kRansTotal) {
      x = x << 16 | static_cast<std::uint32_t>(at[0] | at[1] << 8);
      at += 2;
    }
    states.low[l] = static_cast<std::uint16_t>(x);
    states.high[l] = static_cast<std::uint16_t>(x >> 16);
    symbols[l] = static_cast<std::uint8_t>(symbol);
    contexts[l] = static_cast<std::uint16_t>(symbol);
    learn<kAdapts>(model, shift, l, symbol);
  }
  return at;
}

#else

using Du16 = hn::CappedTag<std::uint16_t, kRansLanes / 2>;
using Di16 = hn::RebindToSigned<Du16>;
using Du8 = hn::Rebind<std::uint8_t, Du16>;
using Vu16 = hn::Vec<Du16>;
using Vi16 = hn::Vec<Di16>;

inline constexpr std::int16_t kSpan = static_cast<std::int16_t>(kRansTotal - kRansSymbols);

/// Contexts of a row, ready to look up tables of 16 entries.
class Contexts {
 public:
  HWY_ATTR explicit Contexts(Vu16 context) {
#if HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86
    index_ = context;
#else
    const Du16 d;
    // Bytes 2c and 2c + 1 of 32: two shuffles of 16 bytes, the second for contexts 8 and above.
    index_ = hn::And(hn::Add(hn::Mul(context, hn::Set(d, 0x0202)), hn::Set(d, 0x0100)), hn::Set(d, 0x0f0f));
    in_upper_ = hn::RebindMask(d, hn::Gt(hn::BitCast(Di16(), context), hn::Set(Di16(), 7)));
#endif
  }
  HWY_ATTR Vu16 look_up(const std::uint16_t* table) const {
#if HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86
    return Vu16{_mm512_permutexvar_epi16(
        index_.raw, _mm512_castsi256_si512(_mm256_load_si256(reinterpret_cast<const __m256i*>(table))))};
#else
    const Du16 d;
    const hn::Repartition<std::uint8_t, Du16> d8;
    const auto* at = reinterpret_cast<const std::uint8_t*>(table);
    const auto index = hn::BitCast(d8, index_);
    const auto lower = hn::TableLookupBytes(hn::LoadDup128(d8, at), index);
    const auto upper = hn::TableLookupBytes(hn::LoadDup128(d8, at + 16), index);
    return hn::IfThenElse(in_upper_, hn::BitCast(d, upper), hn::BitCast(d, lower));
#endif
  }

 private:
  Vu16 index_;
#if !(HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86)
  hn::Mask<Du16> in_upper_;
#endif
};

/// 1 to 15 in every lane: the numbers of the boundaries.
struct Numbers {
  alignas(64) std::uint16_t lanes[kRansSymbols][kRansLanes];
};
inline constexpr Numbers kNumbers = [] {
  Numbers n{};
  for (unsigned i = 0; i < kRansSymbols; ++i) {
    for (std::uint16_t& lane : n.lanes[i]) lane = static_cast<std::uint16_t>(i);
  }
  return n;
}();

/// A symbol and its interval, per lane.
struct Found {
  Vu16 symbol, from, to;
};

/// Moves a lane's bound i towards 0, or to its other end where `less`: the symbol is less than i.
template <typename Mask>
inline HWY_ATTR void learn_bound(const StepModel& model, unsigned i, std::size_t lane, int shift, Mask less) {
  const Du16 d;
  const Vu16 now = hn::Load(d, model.adaptive[i] + lane);
  const Vu16 target = hn::IfThenElseZero(less, hn::Set(d, static_cast<std::uint16_t>(kSpan)));
  const Vi16 step = hn::ShiftRightSame(hn::BitCast(Di16(), hn::Sub(target, now)), shift);
  hn::Store(hn::Add(now, hn::BitCast(d, step)), d, model.adaptive[i] + lane);
}

/// Goes through the boundaries and learns; below(i, boundary) tells where the symbol is less than i.
template <bool kAdapts, bool kTabled, bool kSixteen, typename Below>
inline HWY_ATTR Found search(const StepModel& model, int shift, const Contexts& contexts, std::size_t lane,
                             Below&& below) {
  const Du16 d;
  const Di16 di;
  Found f{hn::Zero(d), hn::Zero(d), hn::Zero(d)};
  auto less_before = hn::MaskFromVec(hn::Zero(d));
#pragma GCC unroll 16
  for (unsigned i = 1; i < kRansSymbols; ++i) {
    if (!kSixteen && i == model.symbols) break;
    const Vu16 number = hn::Load(d, kNumbers.lanes[i]);
    Vu16 bound = hn::Zero(d);
    if constexpr (kAdapts) bound = hn::Load(d, model.adaptive[i] + lane);
    if constexpr (kTabled) {
      const Vu16 fixed = contexts.look_up(model.table[i]);
      bound = kAdapts ? hn::AverageRound(bound, fixed) : fixed;
    } else {
      bound = hn::Add(bound, number);
    }
    const auto less = hn::RebindMask(d, below(hn::BitCast(di, number), hn::BitCast(di, bound)));
    f.from = hn::IfThenElse(less, f.from, bound);
    f.to = hn::IfThenElse(less_before, f.to, bound);
    f.symbol = hn::IfThenElse(less, f.symbol, number);
    less_before = less;
    if constexpr (kAdapts) learn_bound(model, i, lane, shift, less);
  }
  f.to = hn::IfThenElse(less_before, f.to, hn::Set(d, static_cast<std::uint16_t>(kRansTotal)));
  return f;
}

inline HWY_ATTR Vu16 widen(const std::uint8_t* bytes) {
  return hn::PromoteTo(Du16(), hn::LoadU(Du8(), bytes));
}

template <bool kAdapts, bool kTabled, bool kSixteen>
HWY_ATTR void interval_row(const StepModel& model, int shift, const std::uint8_t* symbols, std::uint16_t* contexts,
                           std::uint16_t* start, std::uint16_t* size) {
  const Du16 d;
  for (std::size_t l = 0; l < kRansLanes; l += hn::Lanes(d)) {
    const Vu16 symbol = widen(symbols + l);
    const Found f = search<kAdapts, kTabled, kSixteen>(
        model, shift, Contexts(hn::Load(d, contexts + l)), l,
        [&](Vi16 number, Vi16) HWY_ATTR { return hn::Gt(number, hn::BitCast(Di16(), symbol)); });
    hn::StoreU(f.from, d, start + l);
    hn::StoreU(hn::Sub(f.to, f.from), d, size + l);
    hn::Store(symbol, d, contexts + l);
  }
}

/// floor(x / size) of states x = high : low below 2^16 x size, as 16-bit numbers. The quotient of floats is off by less
/// than 2^-6 of one, and nudged upwards, so the result is right or one too large; the caller corrects it.
inline HWY_ATTR Vu16 divide(Vu16 low, Vu16 high, Vu16 size) {
  const Du16 d;
  const Di16 di;
  const hn::Repartition<std::int32_t, Du16> d32;
  const hn::Repartition<float, Du16> df;
  const auto half = [&](auto x, auto s) HWY_ATTR {
    const auto quotient = hn::Div(hn::ConvertTo(df, hn::BitCast(d32, x)), hn::ConvertTo(df, hn::BitCast(d32, s)));
    const auto whole = hn::ConvertTo(d32, hn::Mul(quotient, hn::Set(df, 1.0f + 0x1p-20f)));
    return hn::Sub(whole, hn::Set(d32, 32768));  // so that narrowing to signed numbers keeps it
  };
  const Vu16 zero = hn::Zero(d);
  const auto lower = half(hn::InterleaveLower(d, low, high), hn::InterleaveLower(d, size, zero));
  const auto upper = half(hn::InterleaveUpper(d, low, high), hn::InterleaveUpper(d, size, zero));
  return hn::Xor(hn::BitCast(d, hn::ReorderDemote2To(di, lower, upper)), hn::Set(d, 0x8000));
}

/// Byte shuffles for each set of 8 lanes: `spread` brings the next words to those lanes, `gather` their words to the
/// end.
struct Shuffles {
  alignas(16) std::uint8_t spread[256][16], gather[256][16];
};
inline constexpr Shuffles kShuffles = [] {
  Shuffles s{};
  for (unsigned bits = 0; bits < 256; ++bits) {
    unsigned next = 0, place = 8 - static_cast<unsigned>(std::popcount(bits));
    for (unsigned l = 0; l < 8; ++l) {
      for (unsigned b = 0; b < 2; ++b) {
        s.spread[bits][2 * l + b] = static_cast<std::uint8_t>(2 * next + b);
        if ((bits >> l & 1) != 0) s.gather[bits][2 * place + b] = static_cast<std::uint8_t>(2 * l + b);
      }
      next += bits >> l & 1;
      place += bits >> l & 1;
    }
  }
  return s;
}();

/// Writes the chosen lanes' words before `words`, in order; up to 8 words before them may be overwritten.
inline HWY_ATTR std::uint16_t* put_words(Vu16 values, hn::Mask<Du16> chosen, std::uint16_t* words) {
  const Du16 d;
#if HWY_TARGET <= HWY_AVX3_DL && HWY_ARCH_X86
  const std::size_t n = hn::CountTrue(d, chosen);
  _mm512_mask_storeu_epi16(words - n, static_cast<__mmask32>((std::uint64_t{1} << n) - 1),
                           _mm512_maskz_compress_epi16(chosen.raw, values.raw));
  return words - n;
#else
  alignas(16) std::uint8_t bits[8] = {};
  alignas(64) std::uint16_t in[kRansLanes];
  hn::StoreMaskBits(d, chosen, bits);
  hn::Store(values, d, in);
  const hn::Full128<std::uint8_t> block;
  for (std::size_t b = hn::Lanes(d) / 8; b-- > 0;) {
    const auto bytes = hn::Load(block, reinterpret_cast<const std::uint8_t*>(in + 8 * b));
    const auto gathered = hn::TableLookupBytes(bytes, hn::Load(block, kShuffles.gather[bits[b]]));
    hn::StoreU(gathered, block, reinterpret_cast<std::uint8_t*>(words - 8));
    words -= std::popcount(bits[b]);
  }
  return words;
#endif
}

inline HWY_ATTR std::uint16_t* encode_row(const std::uint16_t* start, const std::uint16_t* size, RansStates& s,
                                          std::uint16_t* words) {
  const Du16 d;
  const Di16 di;
  for (std::size_t l = kRansLanes; l > 0;) {
    l -= hn::Lanes(d);
    Vu16 low = hn::Load(d, s.low + l), high = hn::Load(d, s.high + l);
    const Vu16 f = hn::LoadU(d, size + l);
    const auto used = hn::Ne(f, hn::Zero(d));
    const auto fits = hn::RebindMask(d, hn::Lt(hn::BitCast(di, high), hn::BitCast(di, f)));
    const auto full = hn::AndNot(fits, used);
    words = put_words(low, full, words);
    low = hn::IfThenElse(full, high, low);
    high = hn::IfThenZeroElse(full, high);

    Vu16 quotient = divide(low, high, hn::IfThenElse(used, f, hn::Set(d, 1)));
    Vu16 rest = hn::Sub(low, hn::Mul(quotient, f));
    const auto too_large = hn::RebindMask(d, hn::Lt(hn::BitCast(di, rest), hn::Zero(di)));
    quotient = hn::Sub(quotient, hn::IfThenElseZero(too_large, hn::Set(d, 1)));
    rest = hn::Add(hn::Add(rest, hn::IfThenElseZero(too_large, f)), hn::LoadU(d, start + l));
    const Vu16 next_low = hn::Or(hn::ShiftLeft<15>(quotient), rest), next_high = hn::ShiftRight<1>(quotient);
    hn::Store(hn::IfThenElse(used, next_low, low), d, s.low + l);
    hn::Store(hn::IfThenElse(used, next_high, high), d, s.high + l);
  }
  return words;
}

/// The next words in those lanes that need one; anything elsewhere.
inline HWY_ATTR Vu16 next_words(hn::Mask<Du16> needed, const std::uint8_t*& at) {
  const Du16 d;
#if HWY_TARGET <= HWY_AVX3_DL && HWY_ARCH_X86
  const Vu16 words{_mm512_maskz_expand_epi16(needed.raw, _mm512_loadu_si512(at))};
  at += 2 * hn::CountTrue(d, needed);
  return words;
#else
  alignas(16) std::uint8_t bits[8] = {};
  alignas(64) std::uint16_t out[kRansLanes];
  hn::StoreMaskBits(d, needed, bits);
  const hn::Full128<std::uint8_t> block;
  for (std::size_t b = 0; b < hn::Lanes(d) / 8; ++b) {
    const auto words = hn::TableLookupBytes(hn::LoadU(block, at), hn::Load(block, kShuffles.spread[bits[b]]));
    hn::Store(words, block, reinterpret_cast<std::uint8_t*>(out + 8 * b));
    at += std::ptrdiff_t{2} * std::popcount(bits[b]);
  }
  return hn::Load(d, out);
#endif
}

template <bool kAdapts, bool kTabled, bool kSixteen, bool kWhole>
inline HWY_ATTR const std::uint8_t* decode_row(const StepModel& model, int shift, std::size_t lanes,
                                               std::uint16_t* contexts, RansStates& states, const std::uint8_t* at,
                                               std::uint8_t* symbols) {
  const Du16 d;
  const Di16 di;
  for (std::size_t l = 0; l < kRansLanes; l += hn::Lanes(d)) {
    const Vu16 low = hn::Load(d, states.low + l), high = hn::Load(d, states.high + l);
    const Vu16 slot = hn::And(low, hn::Set(d, static_cast<std::uint16_t>(kRansTotal - 1)));
    const Found f = search<kAdapts, kTabled, kSixteen>(model, shift, Contexts(hn::Load(d, contexts + l)), l,
                                                       [&](Vi16, Vi16 bound)
                                                           HWY_ATTR { return hn::Gt(bound, hn::BitCast(di, slot)); });
    const Vu16 size = hn::Sub(f.to, f.from), offset = hn::Sub(slot, f.from);
    const Vu16 quotient = hn::Or(hn::Add(high, high), hn::ShiftRight<15>(low));
    Vu16 next_low = hn::Add(hn::Mul(quotient, size), offset);
    // A carry out of the lower half leaves it below what was added.
    const auto no_carry = hn::Eq(hn::Max(next_low, offset), next_low);
    Vu16 next_high = hn::Add(hn::MulHigh(quotient, size), hn::IfThenZeroElse(no_carry, hn::Set(d, 1)));
    const auto active = hn::FirstN(d, lanes > l ? lanes - l : 0);
    const auto small = hn::Eq(hn::Or(next_high, hn::And(next_low, hn::Set(d, 0x8000))), hn::Zero(d));
    const auto needed = kWhole ? small : hn::And(small, active);
    const Vu16 words = next_words(needed, at);
    next_high = hn::IfThenElse(needed, next_low, next_high);
    next_low = hn::IfThenElse(needed, words, next_low);
    hn::Store(kWhole ? next_low : hn::IfThenElse(active, next_low, low), d, states.low + l);
    hn::Store(kWhole ? next_high : hn::IfThenElse(active, next_high, high), d, states.high + l);

    hn::Store(f.symbol, d, contexts + l);
    hn::StoreU(hn::DemoteTo(Du8(), hn::BitCast(di, f.symbol)), Du8(), symbols + l);
  }
  return at;
}

#endif

}  // namespace HWY_NAMESPACE
}  // namespace kvzip::kernels
HWY_AFTER_NAMESPACE();
