// SPDX-License-Identifier: Apache-2.0
// Adaptive bounds approach their symbol's target as in codec/coders/adaptive.cpp, all lanes and boundaries in one loop
// of compares; a state is kept in two 16-bit halves, so that a step never leaves 16-bit lanes.
#include "codec/kernels/rans_lanes.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "codec/kernels/rans_lanes.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "codec/kernels/rans_step-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace kvzip::kernels {
namespace HWY_NAMESPACE {

/// Fast first; about the inverse of the symbols seen, up to 1/256.
inline int shift_of(std::size_t row) {
  return row < 2 ? 3 : row < 24 ? 4 : row < 96 ? 5 : row < 384 ? 6 : row < 1536 ? 7 : 8;
}

/// One row's contexts, those beyond `lanes` zero.
inline void take_row(const std::uint8_t* from, std::size_t lanes, std::uint16_t* row) {
  if (lanes < kRansLanes) std::memset(row, 0, kRansLanes * sizeof *row);
  for (std::size_t l = 0; l < lanes; ++l) row[l] = from[l];
}

/// The gains of a row's lanes: mostly one for all of them.
struct OneGain {
  float gain;
  float of(std::size_t) const { return gain; }
};
struct LaneGains {
  alignas(64) float gains[kRansLanes];
  float of(std::size_t lane) const { return gains[lane]; }
};

class GroupGains {
 public:
  GroupGains() = default;
  GroupGains(const RansScale& scale, std::size_t group)
      : gains_(scale.gains), spans_(scale.spans), column_(group * kRansLanes) {
    if (gains_ == nullptr) return;
    // Searched for, since there may be as many as columns.
    const auto begin = spans_.begin(), end = spans_.end() - 1;
    const auto first = std::upper_bound(begin, end, column_);
    first_ = static_cast<std::size_t>(first - begin);
    last_ = static_cast<std::size_t>(std::lower_bound(first, end, column_ + kRansLanes) - begin);
  }
  /// f(gains), each to the power of `sign`.
  template <typename F>
  void with(std::size_t row, int sign, F&& f) const {
    if (gains_ == nullptr) return f(OneGain{1.0f});
    const std::int8_t* gains = gains_ + row * spans_.size();
    if (first_ == last_) return f(OneGain{rans_gain(sign * gains[first_])});
    LaneGains lanes;
    for (std::size_t span = first_, l = 0; l < kRansLanes; ++span) {
      const std::size_t end = span == last_ ? kRansLanes : spans_[span] - column_;
      for (const float gain = rans_gain(sign * gains[span]); l < end; ++l) lanes.gains[l] = gain;
    }
    f(lanes);
  }

 private:
  const std::int8_t* gains_ = nullptr;
  std::span<const std::uint32_t> spans_;
  std::size_t column_ = 0, first_ = 0, last_ = 0;  // the group's first column; spans of its lanes
};

/// The running means of a group's channels. Plain loops, which compilers turn into vectors.
struct RunningMeans {
  alignas(64) float means[kRansLanes];
  GroupGains gains;

  void start(const RansScale& scale, std::size_t group) {
    std::fill_n(means, kRansLanes, scale.start);
    gains = GroupGains(scale, group);
  }
  void codes(const RansScale& scale, std::size_t row, std::uint16_t* HWY_RESTRICT codes) const {
    gains.with(row, 1, [&](const auto& gain) HWY_ATTR {
      const unsigned shift = scale.shift;
      for (std::size_t l = 0; l < kRansLanes; ++l) {
        codes[l] = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(means[l] * gain.of(l)) >> shift);
      }
    });
  }
  void contexts(const RansScale& scale, std::size_t row, std::uint16_t* HWY_RESTRICT contexts) const {
    gains.with(row, 1, [&](const auto& gain) HWY_ATTR {
      const auto shift = static_cast<int>(scale.shift), base = scale.base;
      for (std::size_t l = 0; l < kRansLanes; ++l) {
        const std::int32_t at = (std::bit_cast<std::int32_t>(means[l] * gain.of(l)) >> shift) - base;
        const std::int32_t low = at < 0 ? 0 : at;
        contexts[l] = static_cast<std::uint16_t>(low > 15 ? 15 : low);
      }
    });
  }
  void learn(std::size_t row, const std::uint16_t* HWY_RESTRICT symbols) {
    gains.with(row, -1, [&](const auto& back) HWY_ATTR {
      const float rate = 1.0f / static_cast<float>(row < 23 ? row + 2 : 25);
      for (std::size_t l = 0; l < kRansLanes; ++l) {
        const std::int32_t symbol = symbols[l], above = symbol < 8 ? 0 : symbol - 8;
        const float magnitude = static_cast<float>(symbol + above * above) * back.of(l);
        const float mean = means[l] + (magnitude - means[l]) * rate;
        means[l] = mean < 0x1p-20f ? 0x1p-20f : mean;
      }
    });
  }
};

void ScaleCodes(const RansScale& scale, RansShape shape, std::size_t group, const std::uint8_t* symbols,
                std::uint16_t* codes) {
  alignas(64) std::uint16_t row_symbols[kRansLanes], row_codes[kRansLanes];
  RunningMeans running;
  running.start(scale, group);
  for (std::size_t r = 0; r < shape.rows(); ++r) {
    const std::size_t lanes = shape.lanes(group, r), at = r * shape.width + group * kRansLanes;
    take_row(symbols + at, lanes, row_symbols);
    running.codes(scale, r, row_codes);
    std::memcpy(codes + at, row_codes, lanes * sizeof *codes);
    running.learn(r, row_symbols);
  }
}

template <bool kAdapts, bool kTabled, bool kSixteen>
void intervals(const RansModel& model, RansShape shape, std::size_t group, const std::uint8_t* symbols,
               const std::uint8_t* contexts, std::uint16_t* start, std::uint16_t* size) {
  alignas(64) std::uint16_t row_contexts[kRansLanes];
  std::uint8_t partial[kRansLanes] = {};
  StepModel step(model);
  step.start_group(model.start);
  std::fill_n(row_contexts, kRansLanes, static_cast<std::uint16_t>(model.first_context));
  for (std::size_t r = 0; r < shape.rows(); ++r, start += kRansLanes, size += kRansLanes) {
    const std::size_t lanes = shape.lanes(group, r), at = r * shape.width + group * kRansLanes;
    const std::uint8_t* row = symbols + at;
    if (lanes < kRansLanes) row = static_cast<std::uint8_t*>(std::memcpy(partial, row, lanes));
    if (contexts != nullptr) take_row(contexts + at, lanes, row_contexts);
    interval_row<kAdapts, kTabled, kSixteen>(step, shift_of(r), row, row_contexts, start, size);
    for (std::size_t l = lanes; l < kRansLanes; ++l) size[l] = 0;
  }
}

/// Calls f<adapts, tabled, sixteen symbols> for the model at hand.
template <typename F>
auto choose(const RansModel& model, F&& f) {
  const bool sixteen = model.symbols == kRansSymbols;
  if (model.start == nullptr) {
    return sixteen ? f.template operator()<false, true, true>() : f.template operator()<false, true, false>();
  }
  if (model.table == nullptr) {
    return sixteen ? f.template operator()<true, false, true>() : f.template operator()<true, false, false>();
  }
  return sixteen ? f.template operator()<true, true, true>() : f.template operator()<true, true, false>();
}

void Intervals(const RansModel& model, RansShape shape, std::size_t group, const std::uint8_t* symbols,
               const std::uint8_t* contexts, std::uint16_t* start, std::uint16_t* size) {
  choose(model, [&]<bool kAdapts, bool kTabled, bool kSixteen>() {
    intervals<kAdapts, kTabled, kSixteen>(model, shape, group, symbols, contexts, start, size);
  });
}

std::size_t Encode(const std::uint16_t* start, const std::uint16_t* size, std::size_t slots, RansStates& states,
                   std::uint16_t* words_end) {
  std::uint16_t* words = words_end;
  for (std::size_t at = slots; at > 0; at -= kRansLanes) {
    words = encode_row(start + at - kRansLanes, size + at - kRansLanes, states, words);
  }
  return static_cast<std::size_t>(words_end - words);
}

template <bool kAdapts, bool kTabled, bool kSixteen>
bool decode(const RansModel& model, RansShape shape, const std::uint8_t* contexts, RansDecoder& d,
            std::uint8_t* symbols) {
  alignas(64) std::uint16_t row_contexts[kRansLanes];
  std::uint8_t partial[kRansLanes];
  StepModel step(model);
  RunningMeans running;
  RansStates states = d.states;
  const std::uint8_t* at = d.at;
  for (; d.group < shape.groups(); ++d.group, d.row = 0) {
    const std::size_t column = d.group * kRansLanes;
    step.start_group(model.start);
    std::fill_n(row_contexts, kRansLanes, static_cast<std::uint16_t>(model.first_context));
    if (model.scale != nullptr) running.start(*model.scale, d.group);
    if (d.row > 0) {
      std::memcpy(running.means, d.means, sizeof running.means);
      std::memcpy(step.adaptive, d.adaptive, sizeof step.adaptive);
      std::memcpy(row_contexts, d.contexts, sizeof row_contexts);
    }
    for (std::size_t r = d.row; r < shape.rows(); ++r) {
      if (static_cast<std::size_t>(d.end - at) < kRansRowBytes) {
        std::memcpy(d.adaptive, step.adaptive, sizeof step.adaptive);
        std::memcpy(d.contexts, row_contexts, sizeof row_contexts);
        std::memcpy(d.means, running.means, sizeof running.means);
        d.row = r;
        d.states = states;
        d.at = at;
        return false;
      }
      const std::size_t lanes = shape.lanes(d.group, r), place = r * shape.width + column;
      if (contexts != nullptr) take_row(contexts + place, lanes, row_contexts);
      if (model.scale != nullptr) running.contexts(*model.scale, r, row_contexts);
      if (lanes == kRansLanes) {
        at = decode_row<kAdapts, kTabled, kSixteen, true>(step, shift_of(r), lanes, row_contexts, states, at,
                                                          symbols + place);
      } else {
        at = decode_row<kAdapts, kTabled, kSixteen, false>(step, shift_of(r), lanes, row_contexts, states, at, partial);
        std::memcpy(symbols + place, partial, lanes);
      }
      if (model.scale != nullptr) running.learn(r, row_contexts);  // which now hold the symbols
    }
  }
  d.states = states;
  d.at = at;
  return true;
}

bool Decode(const RansModel& model, RansShape shape, const std::uint8_t* contexts, RansDecoder& decoder,
            std::uint8_t* symbols) {
  return choose(model, [&]<bool kAdapts, bool kTabled, bool kSixteen>() {
    return decode<kAdapts, kTabled, kSixteen>(model, shape, contexts, decoder, symbols);
  });
}

void Split(const std::uint8_t* symbols, std::size_t count, unsigned shift, std::uint8_t base, std::uint8_t largest,
           std::uint8_t* upper, std::uint8_t* low) {
  for (std::size_t i = 0; i < count; ++i) {
    const auto cell = static_cast<std::uint8_t>(static_cast<std::uint8_t>(symbols[i] >> shift) - base);
    upper[i] = cell < largest ? cell : largest;
  }
  if (low == nullptr) return;
  const auto mask = static_cast<std::uint8_t>((1u << shift) - 1);
  for (std::size_t i = 0; i < count; ++i) low[i] = symbols[i] & mask;
}

void Join(std::uint8_t* symbols, std::size_t count, unsigned shift, std::uint8_t base, const std::uint8_t* low) {
  if (low == nullptr) {
    for (std::size_t i = 0; i < count; ++i) symbols[i] = static_cast<std::uint8_t>((symbols[i] + base) << shift);
    return;
  }
  for (std::size_t i = 0; i < count; ++i) {
    symbols[i] = static_cast<std::uint8_t>(static_cast<std::uint8_t>((symbols[i] + base) << shift) | low[i]);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace kvzip::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvzip::kernels {

HWY_EXPORT(Intervals);
HWY_EXPORT(ScaleCodes);
HWY_EXPORT(Encode);
HWY_EXPORT(Decode);
HWY_EXPORT(Split);
HWY_EXPORT(Join);

void rans_intervals(const RansModel& model, RansShape shape, std::size_t group, const std::uint8_t* symbols,
                    const std::uint8_t* contexts, std::uint16_t* start, std::uint16_t* size) {
  HWY_DYNAMIC_DISPATCH(Intervals)(model, shape, group, symbols, contexts, start, size);
}

float rans_gain(int half_octaves) {
  // Rounded up; std::ldexp() would be the same, at many times the cost.
  const int octaves = (half_octaves + (half_octaves & 1)) / 2;
  const auto power = std::bit_cast<float>(static_cast<std::uint32_t>(octaves + 127) << 23);
  return (half_octaves & 1) != 0 ? 0x1.6a09e6p-1f * power : power;
}

void rans_scale_codes(const RansScale& scale, RansShape shape, std::size_t group, const std::uint8_t* symbols,
                      std::uint16_t* codes) {
  HWY_DYNAMIC_DISPATCH(ScaleCodes)(scale, shape, group, symbols, codes);
}

std::size_t rans_encode(const std::uint16_t* start, const std::uint16_t* size, std::size_t slots, RansStates& states,
                        std::uint16_t* words_end) {
  return HWY_DYNAMIC_DISPATCH(Encode)(start, size, slots, states, words_end);
}

bool rans_decode(const RansModel& model, RansShape shape, const std::uint8_t* contexts, RansDecoder& decoder,
                 std::uint8_t* symbols) {
  return HWY_DYNAMIC_DISPATCH(Decode)(model, shape, contexts, decoder, symbols);
}

void rans_split(const std::uint8_t* symbols, std::size_t count, unsigned shift, std::uint8_t base, std::uint8_t largest,
                std::uint8_t* upper, std::uint8_t* low) {
  HWY_DYNAMIC_DISPATCH(Split)(symbols, count, shift, base, largest, upper, low);
}

void rans_join(std::uint8_t* symbols, std::size_t count, unsigned shift, std::uint8_t base, const std::uint8_t* low) {
  HWY_DYNAMIC_DISPATCH(Join)(symbols, count, shift, base, low);
}

}  // namespace kvzip::kernels
#endif
