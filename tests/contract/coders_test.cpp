// SPDX-License-Identifier: Apache-2.0
// Every coder, with every choice of its parameters, on every type of stream.
#include <fmt/format.h>

#include <doctest/doctest.h>

#include <set>

#include "codec/coders/coders.hpp"
#include "codec/limits.hpp"
#include "kvzip/error.hpp"
#include "tests/contract/allocation.hpp"
#include "tests/contract/sample_tiles.hpp"

namespace kvzip::test {
namespace {

/// A coder's text for every combination of its choices; the other fields keep their defaults.
std::vector<std::string> variants(const ComponentDoc& doc) {
  std::vector<std::string> texts{doc.name};
  for (const FieldDoc& field : doc.fields) {
    if (field.type != "choice") continue;
    std::vector<std::string> longer;
    for (const std::string& text : texts) {
      std::string_view rest = field.range;
      for (;;) {
        const auto bar = rest.find('|');
        longer.push_back(fmt::format("{}:{}={}", text, field.name, rest.substr(0, bar)));
        if (bar == std::string_view::npos) break;
        rest.remove_prefix(bar + 1);
      }
    }
    texts = std::move(longer);
  }
  return texts;
}

std::unique_ptr<Coder> make(const std::string& text) {
  for (const auto& row : coder_table()) {
    if (text != row.name && !text.starts_with(std::string(row.name) + ":")) continue;
    auto coder = row.make();
    std::vector<std::string_view> items;
    for (std::string_view rest = text; rest.find(':') != std::string_view::npos;) {
      rest.remove_prefix(rest.find(':') + 1);
      items.push_back(rest.substr(0, rest.find(':')));
    }
    parse_fields(*coder, row.name, items);
    return coder;
  }
  FAIL("no such coder");
  return nullptr;
}

std::vector<std::string> all_coders() {
  std::vector<std::string> texts;
  for (const ComponentDoc& doc : describe_coders()) {
    for (std::string& text : variants(doc)) texts.push_back(std::move(text));
  }
  return texts;
}

enum class Data : std::uint8_t { zeros, top, skewed, uniform };

Stream symbols(std::uint64_t alphabet, std::uint32_t rows, std::uint32_t cols, Data data, std::uint32_t head_dim) {
  Random random(alphabet * 1000 + rows);
  Stream s;
  s.type = StreamType::symbols;
  s.alphabet = alphabet;
  s.rows = rows;
  s.cols = cols;
  s.head_dim = head_dim;
  s.data.resize(s.count());
  for (std::uint8_t& v : s.data) {
    std::uint64_t x = 0;
    if (data == Data::top) x = alphabet - 1;
    if (data == Data::uniform) x = random.below(alphabet);
    if (data == Data::skewed) x = random.below(random.below(alphabet) + 1);
    v = static_cast<std::uint8_t>(x);
  }
  return s;
}

Stream positions(std::uint64_t alphabet, std::uint32_t rows, std::uint32_t cols, Data data) {
  Random random(alphabet + cols);
  Stream s;
  s.type = StreamType::positions;
  s.alphabet = alphabet;
  s.rows = rows;
  s.cols = cols;
  for (std::uint32_t r = 0; r < rows; ++r) {
    std::set<std::uint32_t> list;
    while (list.size() < cols) {
      const std::uint64_t n = list.size();
      const std::uint64_t at = data == Data::zeros ? n : data == Data::top ? alphabet - 1 - n : random.below(alphabet);
      list.insert(static_cast<std::uint32_t>(at));
    }
    s.positions.insert(s.positions.end(), list.begin(), list.end());
  }
  return s;
}

Stream elements(std::uint32_t width, std::uint32_t rows, std::uint32_t cols) {
  Stream s;
  s.type = StreamType::elements;
  s.width = width;
  s.rows = rows;
  s.cols = cols;
  Random random(width);
  for (std::size_t i = 0; i < s.count() * width; ++i) {
    s.data.push_back(static_cast<std::uint8_t>(i % width == 0 ? random.next() : random.below(3)));
  }
  return s;
}

/// Classes of magnitudes, small ones where gains are low.
Stream magnitudes(std::uint32_t rows, std::uint32_t cols, bool gains) {
  Stream s = symbols(16, rows, cols, Data::zeros, 0);
  s.magnitudes = true;
  Random random(rows + cols);
  if (gains) s.gains.spans = {cols};
  for (std::uint32_t r = 0; gains && r < rows; ++r)
    s.gains.values.push_back(static_cast<std::int8_t>(static_cast<int>(random.below(63)) - 31));
  for (std::size_t i = 0; i < s.data.size(); ++i) {
    const std::uint64_t most = gains ? 1 + static_cast<std::uint64_t>(s.gains.values[i / cols] + 31) / 4 : 6;
    s.data[i] = static_cast<std::uint8_t>(random.below(random.below(most) + 1));
  }
  return s;
}

/// Free bytes, the same or at random.
Stream free_bytes(std::size_t n, bool same) {
  Stream s = byte_stream(StreamLabel::codes);
  Random random(n);
  for (std::size_t i = 0; i < n; ++i) s.data.push_back(static_cast<std::uint8_t>(same ? 0x55 : random.next()));
  return s;
}

std::vector<Stream> sample_streams() {
  std::vector<Stream> streams;
  for (const Data data : {Data::zeros, Data::top, Data::skewed, Data::uniform}) {
    for (const std::uint64_t alphabet : {1u, 2u, 3u, 15u, 16u, 17u, 31u, 32u, 33u, 46u, 47u, 61u, 255u, 256u}) {
      streams.push_back(symbols(alphabet, 1, 5, data, 0));
      streams.push_back(symbols(alphabet, 29, 6, data, 3));
    }
    streams.push_back(symbols(31, 600, 2, data, 2));  // several published streams of 256 tokens
    streams.push_back(symbols(4, 0, 6, data, 3));
    for (const std::uint64_t places : {1u, 2u, 64u, 1000u}) streams.push_back(positions(places, 3, 1, data));
    streams.push_back(positions(64, 5, 64, data));
    streams.push_back(positions(300, 4, 7, data));
    streams.push_back(positions(300, 4, 0, data));
    streams.push_back(positions(std::uint64_t{1} << 30, 1, 9, data));
  }
  for (const std::uint64_t alphabet : {2u, 5u, 16u, 17u, 31u, 61u, 128u, 256u}) {
    for (const Data data : {Data::zeros, Data::top, Data::skewed, Data::uniform}) {
      streams.push_back(symbols(alphabet, 30, 77, data, 11));  // a group of 64 lanes and one of 13
      streams.push_back(symbols(alphabet, 421, 5, data, 5));   // rows joined in twelves, the last one short
      streams.push_back(symbols(alphabet, 2, 1100, data, 0));  // hardly anything to learn from
    }
    streams.push_back(symbols(alphabet, 300, 64, Data::skewed, 32));  // long enough for a table
  }
  for (const std::uint32_t width : {1u, 2u, 4u, 8u}) {
    streams.push_back(elements(width, 300, 8));
    streams.push_back(elements(width, 1, 1));
    streams.push_back(elements(width, 0, 4));
    streams.push_back(elements(width, 40, 6));
  }
  for (const bool gains : {false, true}) {
    for (const std::uint32_t cols : {1u, 5u, 64u, 77u}) {
      streams.push_back(magnitudes(1, cols, gains));
      streams.push_back(magnitudes(0, cols, gains));
      streams.push_back(magnitudes(1100 / cols + 1, cols, gains));
    }
    streams.push_back(magnitudes(2, 1100, gains));
  }
  // The last one shrinks more than a thousandfold.
  for (const std::size_t n : {0u, 1u, 1000u, 1u << 20}) {
    streams.push_back(free_bytes(n, true));
    streams.push_back(free_bytes(n / 16, false));
  }
  return streams;
}

Stream without_data(const Stream& s) {
  Stream empty = s;
  empty.data.clear();
  empty.positions.clear();
  return empty;
}

}  // namespace

TEST_CASE("coders give back every stream, with the same bytes each time") {
  const auto streams = sample_streams();
  for (const std::string& text : all_coders()) {
    CAPTURE(text);
    const auto coder = make(text);
    for (const Stream& s : streams) {
      CAPTURE(s.alphabet);
      CAPTURE(s.rows);
      CAPTURE(s.cols);
      Bytes table, body, table2, body2;
      coder->encode(s, table, body);
      coder->encode(s, table2, body2);
      CHECK(table == table2);
      CHECK(body == body2);
      Stream back = without_data(s);
      coder->decode(back, table, body);
      CHECK(back.data == s.data);
      CHECK(back.positions == s.positions);
    }
  }
}

namespace {

/// What a decoder may give: as many numbers as asked for, each in its range, positions ascending.
bool fits(const Stream& back, const Stream& s) {
  if (s.type != StreamType::positions) {
    return back.data.size() == s.data.size() &&
           (s.type == StreamType::elements ||
            std::all_of(back.data.begin(), back.data.end(), [&](std::uint8_t v) { return v < s.alphabet; }));
  }
  bool good = back.positions.size() == s.positions.size();
  for (std::size_t i = 0; good && i < back.positions.size(); ++i) {
    good = back.positions[i] < s.alphabet && (i % s.cols == 0 || back.positions[i - 1] < back.positions[i]);
  }
  return good;
}

/// Cuts the stream at every byte and turns every bit_step-th bit over.
void check_damage(const Coder& coder, const Stream& s, std::size_t bit_step) {
  Bytes table, body;
  coder.encode(s, table, body);
  for (std::size_t n = 0; n < body.size(); ++n) {
    Stream back = without_data(s);
    CHECK_THROWS_AS(coder.decode(back, table, ByteView(body).first(n)), Error);
  }
  for (std::size_t n = 0; n < table.size(); ++n) {
    Stream back = without_data(s);
    CHECK_THROWS_AS(coder.decode(back, ByteView(table).first(n), body), Error);
  }
  std::size_t misfits = 0;
  const std::size_t bits = (table.size() + body.size()) * 8;
  for (std::size_t bit = 0; bit < bits; bit += bit_step) {
    Bytes t = table, b = body;
    (bit / 8 < t.size() ? t[bit / 8] : b[bit / 8 - t.size()]) ^= static_cast<std::byte>(1u << (bit % 8));
    Stream back = without_data(s);
    try {
      coder.decode(back, t, b);
      misfits += !fits(back, s);
    } catch (const Error& e) {
      misfits += e.code() != ErrorCode::corrupt && e.code() != ErrorCode::truncated;
    }
  }
  CHECK(misfits == 0);
}

}  // namespace

TEST_CASE("coders refuse truncated streams and keep to the alphabet in damaged ones") {
  std::vector<Stream> streams;
  for (const std::uint64_t alphabet : {3u, 16u, 31u, 46u, 200u})
    streams.push_back(symbols(alphabet, 9, 4, Data::skewed, 2));
  streams.push_back(positions(40, 3, 4, Data::uniform));
  streams.push_back(elements(2, 9, 4));
  streams.push_back(magnitudes(9, 4, true));
  for (const std::string& text : all_coders()) {
    CAPTURE(text);
    const auto coder = make(text);
    for (const Stream& s : streams) {
      CAPTURE(s.alphabet);
      check_damage(*coder, s, 1);
    }
  }
}

TEST_CASE("lanes refuse truncated streams and keep to the alphabet in damaged ones") {
  for (const std::string text : {"rans", "rans:model=adaptive", "rans:model=static"}) {
    CAPTURE(text);
    const auto coder = make(text);
    for (const std::uint64_t alphabet : {3u, 40u, 200u}) {
      CAPTURE(alphabet);
      check_damage(*coder, symbols(alphabet, 64, 36, Data::skewed, 0), 5);
    }
    check_damage(*coder, elements(2, 64, 36), 37);
    check_damage(*coder, magnitudes(40, 36, false), 5);
    check_damage(*coder, magnitudes(220, 5, true), 5);
  }
}

TEST_CASE("static tables must be earned by their bytes") {
  // One token of very many channels: a table per channel would be far larger than the frame.
  Stream s = symbols(256, 1, 1 << 11, Data::zeros, 0);
  const auto coder = make("ac:model=static:per=channel");
  Bytes table, body;
  coder->encode(s, table, body);
  Stream back = without_data(s);
  coder->decode(back, table, body);
  CHECK(back.data == s.data);
  Stream wide = s;
  wide.cols = 1 << 16;
  wide.data.clear();
  const Bytes coded(64, std::byte{1});
  const std::size_t before = allocated_now();
  reset_allocated_most();
  CHECK_THROWS_AS(coder->decode(wide, coded, coded), Error);
  CHECK(allocated_most() - before < std::size_t{1} << 20);
}

TEST_CASE("modelled coding beats plain bits on skewed symbols") {
  const Stream s = symbols(33, 256, 64, Data::skewed, 8);  // 33 symbols take 6 plain bits
  Bytes table, plain;
  make("pack")->encode(s, table, plain);
  for (const std::string text : {"ac", "ac:model=static", "ac:model=static:per=tile", "zstd", "deflate", "rans",
                                 "rans:model=adaptive", "rans:model=static"}) {
    CAPTURE(text);
    Bytes tables, body;
    make(text)->encode(s, tables, body);
    CHECK(tables.size() + body.size() < plain.size());
  }
}

}  // namespace kvzip::test
