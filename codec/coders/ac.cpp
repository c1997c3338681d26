// SPDX-License-Identifier: Apache-2.0
// Arithmetic coding of every stream. Each stream starts with a byte: 0 = plain form, 1 = coded, whichever is smaller;
// model=cachegen codes symbols as the published serde does and leaves side information plain, as it does.
#include <array>

#include "codec/bytes.hpp"
#include "codec/coders/adaptive.hpp"
#include "codec/coders/cachegen_ac.hpp"
#include "codec/coders/coders.hpp"
#include "codec/coders/static_tables.hpp"
#include "codec/fail.hpp"

namespace kvzip {
namespace {

enum class ModelKind : std::uint8_t { adaptive, statics, cachegen };
constexpr std::uint32_t kCachegenTokens = 256;                 // tokens of one published stream
constexpr std::uint64_t kMaskPlaces = std::uint64_t{1} << 24;  // longest vector whose positions are coded as a mask

class Ac final : public Cloned<Ac, Coder> {
 public:
  void fields(FieldVisitor& v) override {
    static constexpr std::array<std::string_view, 3> kModels{"adaptive", "static", "cachegen"};
    static constexpr std::array<std::string_view, 3> kContexts{"both", "channel", "previous"};
    static constexpr std::array<std::string_view, 3> kPer{"channel", "head", "tile"};
    v.choice("model", model_, kModels,
             "adaptive: no tables; static: compact tables; cachegen: 16-bit tables as published");
    v.choice("context", context_, kContexts, "adaptive: the channel, the previous token's symbol, or both averaged");
    v.choice("per", per_, kPer, "static: what shares a table");
    v.integer("bins", bins_, 0, kCachegenMaxBins, "cachegen: entries of a table", "auto");
  }

  void encode(const Stream& s, Bytes& table, Bytes& body) const override {
    body.assign(1, std::byte{0});
    pack_stream(s, body);
    Bytes coded_table, coded(1, std::byte{1});
    if (!encode_coded(s, coded_table, coded)) return;
    if (model_ != ModelKind::cachegen && coded.size() + coded_table.size() >= body.size()) return;
    body = std::move(coded);
    table = std::move(coded_table);
  }

  void decode(Stream& s, ByteView table, ByteView body) const override {
    if (body.empty()) fail(ErrorCode::truncated, "an empty stream");
    const auto method = static_cast<unsigned>(body[0]);
    body = body.subspan(1);
    if (method == 0 && table.empty()) return unpack_stream(s, body);
    if (method != 1) fail(ErrorCode::corrupt, "unknown stream method {}", method);
    if (s.type == StreamType::symbols) return decode_symbols(s, table, body);
    if (!table.empty() || model_ == ModelKind::cachegen) fail(ErrorCode::corrupt, "a table for a stream without one");
    if (s.type == StreamType::positions) {
      if (s.alphabet > kMaskPlaces) fail(ErrorCode::corrupt, "a mask of {} places", s.alphabet);
      return adaptive_decode_positions(s, body);
    }
    if (s.type == StreamType::bytes) fail(ErrorCode::corrupt, "free bytes are stored plainly");
    decode_elements(s, body);
  }

 private:
  /// False where only the plain form exists.
  bool encode_coded(const Stream& s, Bytes& table, Bytes& body) const {
    switch (s.type) {
      case StreamType::symbols:
        return encode_symbols(s, table, body);
      case StreamType::positions:
        if (model_ == ModelKind::cachegen || s.alphabet > kMaskPlaces) return false;
        adaptive_encode_positions(s, body);
        return true;
      case StreamType::elements:
        if (model_ == ModelKind::cachegen) return false;
        encode_elements(s, body);
        return true;
      case StreamType::bytes:
        break;
    }
    return false;
  }

  bool encode_symbols(const Stream& s, Bytes& table, Bytes& body) const {
    switch (model_) {
      case ModelKind::adaptive:
        adaptive_encode(s, context_, body);
        return true;
      case ModelKind::statics:
        return static_encode(s, per_, table, body);
      case ModelKind::cachegen:
        break;
    }
    if (s.alphabet > bins(s)) return false;
    encode_cachegen(s, table, body);
    return true;
  }

  void decode_symbols(Stream& s, ByteView table, ByteView body) const {
    switch (model_) {
      case ModelKind::adaptive:
        if (!table.empty()) fail(ErrorCode::corrupt, "a table for a stream without one");
        return adaptive_decode(s, context_, body);
      case ModelKind::statics:
        return static_decode(s, per_, table, body);
      case ModelKind::cachegen:
        break;
    }
    if (s.alphabet > bins(s)) fail(ErrorCode::corrupt, "an alphabet of {} for {} bins", s.alphabet, bins(s));
    decode_cachegen(s, table, body);
  }

  unsigned bins(const Stream& s) const {
    if (bins_ != 0) return static_cast<unsigned>(bins_);
    return static_cast<unsigned>(std::min<std::uint64_t>(s.alphabet + 1, kCachegenMaxBins));
  }

  /// Table: bins + 1 entries per channel. Body: the byte length (4 bytes) of each channel's stream of at most 256
  /// tokens, then the streams.
  void encode_cachegen(const Stream& s, Bytes& table, Bytes& body) const {
    ByteWriter tables, lengths;
    Bytes streams;
    for (std::size_t c = 0; c < s.cols; ++c) {
      std::vector<std::uint8_t> channel(s.rows);
      for (std::size_t t = 0; t < s.rows; ++t) channel[t] = s.data[t * s.cols + c];
      const auto cdf = cachegen_cdf(channel, bins(s));
      for (const std::uint16_t entry : cdf) tables.put(entry);
      for (std::size_t t = 0; t < s.rows; t += kCachegenTokens) {
        const std::size_t before = streams.size();
        const std::size_t count = std::min<std::size_t>(kCachegenTokens, s.rows - t);
        cachegen_encode(std::span(channel).subspan(t, count), cdf, streams);
        lengths.put(static_cast<std::uint32_t>(streams.size() - before));
      }
    }
    table = std::move(tables.bytes());
    body.insert(body.end(), lengths.view().begin(), lengths.view().end());
    body.insert(body.end(), streams.begin(), streams.end());
  }

  void decode_cachegen(Stream& s, ByteView table, ByteView body) const {
    const std::size_t entries = bins(s) + 1, blocks = (s.rows + kCachegenTokens - 1) / kCachegenTokens;
    if (table.size() != s.cols * entries * 2) fail(ErrorCode::corrupt, "tables of {} bytes", table.size());
    ByteReader tables(table), lengths(body);
    ByteReader streams(body.subspan(lengths.take(std::uint64_t{4} * blocks * s.cols).size()));
    lengths = ByteReader(body);
    s.data.resize(s.count());
    std::vector<std::uint16_t> cdf(entries);
    std::vector<std::uint8_t> symbols;
    for (std::size_t c = 0; c < s.cols; ++c) {
      for (std::size_t i = 0; i < entries; ++i) {
        cdf[i] = tables.get<std::uint16_t>();
        if (i == 0 ? cdf[i] != 0 : cdf[i] <= cdf[i - 1]) fail(ErrorCode::corrupt, "a frequency table does not ascend");
      }
      for (std::size_t t = 0; t < s.rows; t += kCachegenTokens) {
        symbols.resize(std::min<std::size_t>(kCachegenTokens, s.rows - t));
        cachegen_decode(streams.take(lengths.get<std::uint32_t>()), cdf, symbols);
        for (std::size_t i = 0; i < symbols.size(); ++i) {
          if (symbols[i] >= s.alphabet) fail(ErrorCode::corrupt, "symbol {} of {}", symbols[i], s.alphabet);
          s.data[(t + i) * s.cols + c] = symbols[i];
        }
      }
    }
    streams.expect_end();
  }

  /// Planes, most significant first: each its length, its method (0 = plain, 1 = coded) and bytes.
  void encode_elements(const Stream& s, Bytes& body) const {
    ByteWriter out;
    for (std::uint32_t p = s.width; p-- > 0;) {
      const Stream plane = element_plane(s, p);
      Bytes coded;
      adaptive_encode(plane, context_, coded);
      const bool plain = coded.size() >= plane.data.size();
      out.put(static_cast<std::uint8_t>(plain ? 0 : 1));
      if (!plain) out.put_varint(coded.size());
      out.put_bytes(plain ? std::as_bytes(std::span(plane.data)) : ByteView(coded));
    }
    body.insert(body.end(), out.view().begin(), out.view().end());
  }

  void decode_elements(Stream& s, ByteView body) const {
    ByteReader in(body);
    s.data.resize(s.count() * s.width);
    for (std::uint32_t p = s.width; p-- > 0;) {
      Stream plane = element_plane(s, p);
      const auto method = in.get<std::uint8_t>();
      if (method > 1) fail(ErrorCode::corrupt, "unknown plane method {}", method);
      if (method == 0) {
        unpack_stream(plane, in.take(s.count()));
      } else {
        adaptive_decode(plane, context_, in.take(in.get_varint()));
      }
      set_element_plane(s, p, plane);
    }
    in.expect_end();
  }

  ModelKind model_ = ModelKind::adaptive;
  Context context_ = Context::both;
  TablePer per_ = TablePer::channel;
  std::uint64_t bins_ = 0;
};

}  // namespace

std::unique_ptr<Coder> make_ac() {
  return std::make_unique<Ac>();
}

}  // namespace kvzip
