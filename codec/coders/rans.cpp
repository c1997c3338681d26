// SPDX-License-Identifier: Apache-2.0
// Symbols through 64 interleaved rANS states, lane = channel. A symbol is split at a bit: the upper part, 16 values at
// most, is coded under the average of two models, one of its channel that learns while coding and one fixed for the
// tile, chosen by the previous token's symbol, whose table is stored; the lower bits are stored plainly or under a
// fixed table chosen by the upper part. Symbols too few to pay for 64 states go to the coder `ac`. Layout in
// man/kvz.5.
#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <memory>

#include "codec/bytes.hpp"
#include "codec/coders/coders.hpp"
#include "codec/coders/rans_choose.hpp"
#include "codec/coders/rans_io.hpp"
#include "codec/coders/rans_range.hpp"
#include "codec/coders/rans_scaled.hpp"
#include "codec/fail.hpp"
#include "codec/kernels/bit_packing.hpp"
#include "codec/magnitude_classes.hpp"

namespace kvzip {
namespace {

using kernels::RansShape;

constexpr std::uint8_t kLanes = 2, kPlanes = 3, kRange = 4, kScaled = 5,
                       kOne = 6;                                                  // methods; 0 and 1 are those of `ac`
constexpr std::uint8_t kAdapts = 8, kTabled = 16, kCodedLow = 32, kEscapes = 64;  // flags, above the shift
constexpr std::size_t kLeastLanes = 1024,
                      kLeastTabled = std::size_t{1} << 14;  // symbols that pay for states, for a table
constexpr std::size_t kRowsToLearn = 1024;                  // of a channel

enum class Models : std::uint8_t { both, adaptive, fixed };

/// Narrow matrices are coded as if their rows were joined until they nearly fill the lanes.
RansShape shape_of(const Stream& s) {
  const std::size_t cols = s.cols, lanes = kernels::kRansLanes;
  return {s.count(), cols >= lanes || cols == 0 ? cols : cols * (lanes / cols)};
}

Stream low_stream(const Stream& s, unsigned shift) {
  return symbol_stream(StreamLabel::codes, s.rows, s.cols, std::uint64_t{1} << shift);
}

/// The models of both parts, alike on both sides.
struct PartModels {
  kernels::RansTable upper_table, low_table;
  kernels::RansBounds upper_start, low_sum;
  kernels::RansModel upper, low;

  PartModels(std::uint8_t flags, const RansSplit& split, std::span<const std::uint8_t> steps) {
    upper.symbols = split.uppers;
    upper.first_context = split.uppers / 2;
    upper_start = rans_uniform(split.uppers);
    const std::size_t upper_steps = (flags & kTabled) != 0 ? std::size_t{split.uppers} * split.uppers : 0;
    if (upper_steps != 0) {
      rans_table(steps.first(upper_steps), split.uppers, split.uppers, upper_table, upper_start);
      upper.table = &upper_table;
    }
    if ((flags & kAdapts) != 0) upper.start = &upper_start;
    if ((flags & kCodedLow) != 0) {
      low.symbols = 1u << split.shift;
      rans_table(steps.subspan(upper_steps), split.uppers, low.symbols, low_table, low_sum);
      low.table = &low_table;
    }
  }
  static std::size_t step_count(std::uint8_t flags, const RansSplit& split) {
    return ((flags & kTabled) != 0 ? std::size_t{split.uppers} * split.uppers : 0) +
           ((flags & kCodedLow) != 0 ? std::size_t{split.uppers} << split.shift : 0);
  }
};

template <typename F>
void for_each_escape(std::span<const std::uint8_t> upper, const RansSplit& split, F&& f) {
  if (!split.escapes) return;
  const std::uint8_t *begin = upper.data(), *end = begin + upper.size();
  for (const std::uint8_t* at = begin; at != end; ++at) {
    at = static_cast<const std::uint8_t*>(
        std::memchr(at, static_cast<int>(split.uppers - 1), static_cast<std::size_t>(end - at)));
    if (at == nullptr) return;
    f(static_cast<std::size_t>(at - begin));
  }
}

class Rans final : public Cloned<Rans, Coder> {
 public:
  void fields(FieldVisitor& v) override {
    static constexpr std::array<std::string_view, 3> kModels{"both", "adaptive", "static"};
    v.choice("model", models_, kModels,
             "the channel's, learned while coding; a stored table by the previous token's symbol; or both averaged");
  }

  void encode(const Stream& s, Bytes& table, Bytes& body) const override {
    if (s.type == StreamType::elements) return encode_elements(s, body);
    if (s.magnitudes && models_ == Models::both && all_alike(s.data)) {
      body = {std::byte{kOne}, std::byte{s.data[0]}};
      return;
    }
    if (s.type != StreamType::symbols || s.count() < kLeastLanes || s.alphabet < 2) return ac_->encode(s, table, body);
    if (s.magnitudes && models_ == Models::both) {
      body.assign(1, std::byte{kScaled});
      rans_scaled_encode(s, table, body);
      return;
    }
    encode_symbols(s, table, body);
  }

  void decode(Stream& s, ByteView table, ByteView body) const override {
    if (body.empty()) fail(ErrorCode::truncated, "an empty stream");
    const auto method = static_cast<std::uint8_t>(body[0]);
    if (method == kLanes && s.type == StreamType::symbols && s.alphabet >= 2) {
      return decode_lanes(s, table, body.subspan(1));
    }
    if (method == kOne && s.magnitudes && table.empty()) return decode_one(s, body.subspan(1));
    if (method == kScaled && s.magnitudes) return rans_scaled_decode(s, table, body.subspan(1));
    if (method == kPlanes && s.type == StreamType::elements && table.empty()) {
      return decode_planes(s, body.subspan(1));
    }
    if (method == kRange && s.type == StreamType::elements && table.empty()) {
      return range_decode(s, body.subspan(1));
    }
    ac_->decode(s, table, body);
  }

 private:
  static bool all_alike(std::span<const std::uint8_t> symbols) {
    return !symbols.empty() && std::all_of(symbols.begin(), symbols.end(), [&](auto s) { return s == symbols[0]; });
  }

  static void decode_one(Stream& s, ByteView body) {
    const auto symbol = body.size() == 1 ? std::to_integer<unsigned>(body[0]) : kMagnitudeClasses;
    if (symbol >= kMagnitudeClasses) fail(ErrorCode::corrupt, "a stream of one symbol without it");
    s.data.assign(s.count(), static_cast<std::uint8_t>(symbol));
  }

  /// Many by planes, few by their range; else as they are.
  void encode_elements(const Stream& s, Bytes& body) const {
    if (s.count() >= kLeastLanes) return encode_planes(s, body);
    body.assign(1, std::byte{kRange});
    if (range_encode(s, body)) return;
    body[0] = std::byte{0};
    pack_stream(s, body);
  }

  void encode_symbols(const Stream& s, Bytes& table, Bytes& body) const {
    const RansHistogram counts = rans_histogram(shape_of(s), s.data.data());
    if (!rans_looks_random(s, counts)) {
      body.assign(1, std::byte{kLanes});
      encode_lanes(s, counts, table, body);
      const std::uint64_t plain = (s.count() * static_cast<unsigned>(std::bit_width(s.alphabet - 1)) + 7) / 8;
      if (body.size() + table.size() <= plain) return;
      table.clear();
    }
    body.assign(1, std::byte{0});
    pack_stream(s, body);
  }

  void encode_lanes(const Stream& s, const RansHistogram& counts, Bytes& table, Bytes& body) const {
    const RansShape shape = shape_of(s);
    const RansSplit split = rans_choose_split(counts, s.alphabet);
    auto flags = static_cast<std::uint8_t>(split.shift);
    const bool tabled = models_ != Models::adaptive && (models_ == Models::fixed || s.count() >= kLeastTabled);
    if (tabled) flags |= kTabled;
    if (models_ != Models::fixed || !tabled) flags |= kAdapts;

    // Apart: upper parts, lower parts, escaped symbols.
    Buffer<std::uint8_t> upper;
    std::vector<std::uint8_t> escaped;
    Stream low = low_stream(s, split.shift);
    const std::uint8_t* uppers = s.data.data();
    if (split.shift != 0 || split.escapes) {
      upper.resize(s.count());
      low.data.resize(split.shift == 0 ? 0 : s.count());
      separate(s.data, split, upper, low.data, escaped);
      uppers = upper.data();
    }
    std::vector<std::uint8_t> steps, low_steps;
    if (tabled) steps = rans_pair_steps(shape, uppers, split.uppers);
    if ((flags & kAdapts) != 0 && tabled && !table_helps(shape, uppers, split, steps)) {
      flags ^= kTabled;
      steps.clear();
    }
    if (split.shift != 0) low_steps = rans_low_steps(counts, split, s.count());
    if (!low_steps.empty()) flags |= kCodedLow;
    steps.insert(steps.end(), low_steps.begin(), low_steps.end());
    if (!steps.empty()) rans_put_steps(steps, table);

    if (split.escapes) flags |= kEscapes;
    ByteWriter out;
    out.put(flags);
    out.put(static_cast<std::uint8_t>(split.uppers));
    out.put(split.base);
    if (split.escapes) {
      out.put_varint(escaped.size());
      out.put_bytes(std::as_bytes(std::span(escaped)));
    }
    body.insert(body.end(), out.view().begin(), out.view().end());
    if (split.shift != 0 && (flags & kCodedLow) == 0) pack_stream(low, body);

    const PartModels models(flags, split, steps);
    RansWriter lanes(shape, low_steps.empty() ? 1 : 2);
    // Last coded, first decoded: the lower parts come after the upper ones.
    if (!low_steps.empty()) lanes.write(models.low, low.data.data(), uppers);
    lanes.write(models.upper, uppers, nullptr);
    lanes.finish(body);
  }

  static bool table_helps(RansShape shape, const std::uint8_t* uppers, const RansSplit& split,
                          std::span<const std::uint8_t> steps) {
    // Where channels are short, what the table knows of them outweighs what they could still learn, and trying would
    // cost as much as coding.
    if (shape.rows() < kRowsToLearn) return true;
    const PartModels with(kAdapts | kTabled, split, steps), without(kAdapts, split, {});
    const double table_bits = kRansStepBits * static_cast<double>(steps.size());
    return rans_sampled_cost(shape, uppers, with.upper) + table_bits < rans_sampled_cost(shape, uppers, without.upper);
  }

  static void separate(std::span<const std::uint8_t> symbols, const RansSplit& split, std::span<std::uint8_t> upper,
                       std::span<std::uint8_t> low, std::vector<std::uint8_t>& escaped) {
    kernels::rans_split(symbols.data(), symbols.size(), split.shift, split.base,
                        static_cast<std::uint8_t>(split.uppers - 1), upper.data(),
                        split.shift == 0 ? nullptr : low.data());
    for_each_escape(upper, split, [&](std::size_t i) {
      escaped.push_back(symbols[i]);
      if (split.shift != 0) low[i] = 0;
    });
  }

  void decode_lanes(Stream& s, ByteView table, ByteView body) const {
    ByteReader in(body);
    const auto flags = in.get<std::uint8_t>();
    RansSplit split;
    split.shift = flags & 7u;
    if ((flags >> 7) != 0 || split.shift > 4 || (flags & (kAdapts | kTabled)) == 0 ||
        ((flags & kCodedLow) != 0 && split.shift == 0)) {
      fail(ErrorCode::corrupt, "unknown lane flags {}", flags);
    }
    split.escapes = (flags & kEscapes) != 0;
    split.uppers = in.get<std::uint8_t>();
    if (split.uppers < 2 || split.uppers > kernels::kRansSymbols) {
      fail(ErrorCode::corrupt, "{} upper parts", split.uppers);
    }
    split.base = in.get<std::uint8_t>();
    ByteView escaped;
    if (split.escapes) escaped = in.take(in.get_varint());
    Stream low = low_stream(s, split.shift);
    if (split.shift != 0 && (flags & kCodedLow) == 0) {
      unpack_stream(low, in.take((s.count() * split.shift + 7) / 8));
    }
    const std::size_t count = PartModels::step_count(flags, split);
    std::vector<std::uint8_t> steps;
    if (count != 0) steps = rans_get_steps(table, count);
    if (count == 0 && !table.empty()) fail(ErrorCode::corrupt, "a table for a stream without one");
    const PartModels models(flags, split, steps);

    s.data.resize(s.count());
    RansReader lanes(in.take(in.left()));
    lanes.read(models.upper, shape_of(s), nullptr, s.data.data());
    if ((flags & kCodedLow) != 0) {
      low.data.resize(s.count());
      lanes.read(models.low, shape_of(s), s.data.data(), low.data.data());
    }
    lanes.finish();
    join(s, split, low.data, escaped);
  }

  static void join(Stream& s, const RansSplit& split, std::span<const std::uint8_t> low, ByteView escaped) {
    std::vector<std::size_t> places;
    for_each_escape(s.data, split, [&](std::size_t i) { places.push_back(i); });
    if (places.size() != escaped.size()) {
      fail(ErrorCode::corrupt, "{} symbols are escaped and {} stored apart", places.size(), escaped.size());
    }
    if (split.shift != 0 || split.base != 0) {
      kernels::rans_join(s.data.data(), s.data.size(), split.shift, split.base,
                         split.shift == 0 ? nullptr : low.data());
    }
    for (std::size_t i = 0; i < places.size(); ++i) s.data[places[i]] = static_cast<std::uint8_t>(escaped[i]);
    if (s.alphabet == 256) return;
    const std::uint8_t largest = kernels::largest(s.data.data(), s.data.size());
    if (largest >= s.alphabet) fail(ErrorCode::corrupt, "symbol {} of {}", largest, s.alphabet);
  }

  /// Bytes of equal weight, most significant first: each the lengths of a table and a body, then both.
  void encode_planes(const Stream& s, Bytes& body) const {
    ByteWriter out;
    out.put(kPlanes);
    for (std::uint32_t p = s.width; p-- > 0;) {
      Bytes table, coded;
      encode_symbols(element_plane(s, p), table, coded);
      out.put_varint(table.size());
      out.put_varint(coded.size());
      out.put_bytes(table);
      out.put_bytes(coded);
    }
    body = std::move(out.bytes());
  }

  void decode_planes(Stream& s, ByteView body) const {
    ByteReader in(body);
    s.data.resize(s.count() * s.width);
    for (std::uint32_t p = s.width; p-- > 0;) {
      const std::uint64_t table_size = in.get_varint(), coded_size = in.get_varint();
      const ByteView table = in.take(table_size), coded = in.take(coded_size);
      Stream plane = element_plane(s, p);
      decode(plane, table, coded);
      set_element_plane(s, p, plane);
    }
    in.expect_end();
  }

  Models models_ = Models::both;
  std::shared_ptr<const Coder> ac_ = make_ac();
};

}  // namespace

std::unique_ptr<Coder> make_rans() {
  return std::make_unique<Rans>();
}

}  // namespace kvzip
