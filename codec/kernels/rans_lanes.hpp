// SPDX-License-Identifier: Apache-2.0
// The loops of the coder `rans`: 64 interleaved rANS states (Duda, arXiv 1311.2540; interleaving: Giesen, arXiv
// 1402.3392), one per lane, and the models of a lane's symbols. Lane l of a group of 64 columns codes column l, so a
// lane's previous symbol is the previous row's. The number of lanes belongs to the format, never to the processor;
// every target gives the same bytes. man/kvz.5, "rans", is the definition.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace kvzip::kernels {

// Twice what the widest register holds: one row is then two chains of dependent steps or more, which overlap where one
// would wait; measured, 64 lanes decode a quarter to a half faster than 32.
inline constexpr std::size_t kRansLanes = 64;
inline constexpr unsigned kRansSymbols = 16;           // largest alphabet of one step
inline constexpr std::uint32_t kRansTotal = 1u << 15;  // what a symbol's frequencies add up to
inline constexpr std::size_t kRansRowBytes = 2 * kRansLanes;

/// `count` symbols in rows of `width`; the last row may be shorter. Columns are coded 64 at a time, each group's rows
/// in order.
struct RansShape {
  std::size_t count = 0, width = 0;

  std::size_t rows() const { return width == 0 ? 0 : (count + width - 1) / width; }
  std::size_t groups() const { return (width + kRansLanes - 1) / kRansLanes; }
  /// Entries of an array that holds a number per symbol of a group: whole rows of lanes.
  std::size_t group_slots() const { return rows() * kRansLanes; }
  /// Lanes in use in a row of a group.
  std::size_t lanes(std::size_t group, std::size_t row) const {
    const std::size_t first = group * kRansLanes, left = count - row * width;
    const std::size_t end = left < width ? left : width;
    return end <= first ? 0 : end - first < kRansLanes ? end - first : kRansLanes;
  }
};

/// Cumulative frequencies: bounds[i] = of the symbols below i; 0 first, kRansTotal - (16 - i) or less at i, ascending.
struct RansBounds {
  std::uint16_t below[kRansSymbols];
};
/// Bounds by context: boundary i of context c at [i][c].
struct RansTable {
  std::uint16_t below[kRansSymbols][kRansSymbols];
};

/// Contexts by the magnitude to expect of a symbol: of its gain times a running mean of its channel,
///   expected = gain mean;  context = (bits of expected >> shift) - base, held to 0..15
///   mean += (magnitude / gain - mean) / min(row + 2, 25), floats in this order, from `start`, held to 2^-20 or more
/// where magnitude = rans_magnitude(symbol) and gain = rans_gain(gains[row x spans.size() + the column's span]).
struct RansScale {
  const std::int8_t* gains;              // half octaves; null = 0 everywhere
  std::span<const std::uint32_t> spans;  // where each span of columns ends, ascending, the last one at the width
  float start;
  unsigned shift;
  int base;
};
/// What a class of magnitudes counts as.
inline float rans_magnitude(unsigned symbol) {
  const unsigned above = symbol < 8 ? 0 : symbol - 8;
  return static_cast<float>(symbol + above * above);
}
/// 2^(half_octaves / 2), as a float; half_octaves is from -250 to 250.
float rans_gain(int half_octaves);

struct RansModel {
  unsigned symbols = kRansSymbols;  // 2 to 16
  const RansBounds* start =
      nullptr;                       // where each lane's adaptive bounds begin in every group; null = no adaptive model
  const RansTable* table = nullptr;  // fixed bounds by context; null = none; with both the two are averaged
  unsigned first_context = 0;        // of a group's first row when the context is the previous row's symbol
  const RansScale* scale = nullptr;  // decoding under fixed bounds: contexts are by expected magnitude
};

/// State x of a lane in two halves; 2^15 <= x < 2^31 between symbols.
struct alignas(64) RansStates {
  std::uint16_t low[kRansLanes], high[kRansLanes];
};

/// The interval of each symbol of a group under the model, in coding order, kRansLanes slots a row; unused lanes have
/// size 0. The context is contexts[i] (below 16) of the same place or, if null, the symbol of the row before. `symbols`
/// are below model.symbols.
void rans_intervals(const RansModel& model, RansShape shape, std::size_t group, const std::uint8_t* symbols,
                    const std::uint8_t* contexts, std::uint16_t* start, std::uint16_t* size);
/// codes[i] = bits of the magnitude to expect of symbols[i] >> scale.shift, for a group's symbols; base is not used.
void rans_scale_codes(const RansScale& scale, RansShape shape, std::size_t group, const std::uint8_t* symbols,
                      std::uint16_t* codes);
/// Codes the slots backwards and returns how many 16-bit words came out, which end at words_end. Room for one word a
/// slot, and 8 more, is needed.
std::size_t rans_encode(const std::uint16_t* start, const std::uint16_t* size, std::size_t slots, RansStates& states,
                        std::uint16_t* words_end);

/// upper = (symbol >> shift) - base, at most `largest`; low = the bits below, unless null.
void rans_split(const std::uint8_t* symbols, std::size_t count, unsigned shift, std::uint8_t base, std::uint8_t largest,
                std::uint8_t* upper, std::uint8_t* low);
/// symbol = (symbol + base) << shift, with the bits of `low` unless null.
void rans_join(std::uint8_t* symbols, std::size_t count, unsigned shift, std::uint8_t base, const std::uint8_t* low);

/// Where a decoder stands.
struct RansDecoder {
  RansStates states;
  const std::uint8_t* at;   // next word, little-endian
  const std::uint8_t* end;  // a row is decoded only while kRansRowBytes can be read
  std::size_t group = 0, row = 0;
  // Of a group that a decoder stopped in:
  std::uint16_t adaptive[kRansSymbols][kRansLanes];
  std::uint16_t contexts[kRansLanes];
  float means[kRansLanes];
};
/// Decodes on from where `decoder` stands until done (true) or until fewer than kRansRowBytes are left (false).
bool rans_decode(const RansModel& model, RansShape shape, const std::uint8_t* contexts, RansDecoder& decoder,
                 std::uint8_t* symbols);

}  // namespace kvzip::kernels
