// SPDX-License-Identifier: Apache-2.0
// Tokens that come again: what `adapt` makes of a table of repeats, and how the table is found.
#include "formats/kvz/kvz_fit.hpp"
#include "formats/kvz/kvz_repeats.hpp"
#include "tests/contract/adapt_cases.hpp"
#include "tests/contract/hostile_containers.hpp"

using namespace kvzip;
using namespace kvzip::test;

namespace {

/// Tokens 0 1 2 3 0 1 2 3 ..; values of layer 0 say which, and noise of half precision on top.
std::unique_ptr<MemoryReader> repeating(bool ids, float noise, std::uint64_t batch = 1) {
  const std::uint64_t tokens = 40;
  std::vector<Spec> specs;
  for (std::uint32_t layer = 0; layer < 2; ++layer) {
    for (const Role role : {Role::key, Role::value}) {
      specs.push_back(
          {fmt::format("{}{}", role_name(role), layer), DType::f32, {batch, 2, tokens, 8}, role, layer, "BHTD"});
    }
  }
  if (ids) specs.push_back({"token_ids", DType::i32, {batch, tokens}, Role::other, {}, ""});
  auto reader = sample_reader(specs);
  ref::Random random(3);
  for (std::size_t s = 0; s < specs.size(); ++s) {
    Bytes data(reader->data(s).size());
    for (std::size_t i = 0; i < data.size() / 4; ++i) {
      const std::size_t t = ids && s + 1 == specs.size() ? i % tokens : i / 8 % tokens, token = t % 4;
      if (s == 4) {
        const auto id = static_cast<std::int32_t>(100 - token);
        std::memcpy(data.data() + 4 * i, &id, 4);
      } else {
        const std::size_t head = i / (8 * tokens), place = token * 100 + head * 8 + i % 8;
        const auto of_token = static_cast<float>(std::sin(static_cast<double>(place)));
        const auto other = static_cast<float>(random.normal());
        const float x = s == 1 ? of_token + noise * other : other;
        std::memcpy(data.data() + 4 * i, &x, 4);
      }
    }
    std::memcpy(reader->data(s).data(), data.data(), data.size());
  }
  return reader;
}

Tables tables_of(MemoryReader& reader) {
  const KvzOptions options = options_of("key = adapt:repeats=dump,rans\nvalue = adapt:repeats=dump,rans", 16);
  return fit_tables(reader, *reader.recognition(), options, 1);
}

std::vector<std::uint32_t> distances(const Tables& tables) {
  std::vector<std::uint32_t> out;
  if (const auto table = tables.find("repeats")) {
    for (std::size_t at = 0; at < table->bytes.size(); at += 4) out.push_back(load<std::uint32_t>(table->bytes, at));
  }
  return out;
}

}  // namespace

TEST_CASE("adapt: a token that comes again is predicted, worked out by hand") {
  // One channel, the same token three times: 2; then half of that and a step; then from the second one, which alone
  // came after the same token, times the factor that the second one taught.
  const std::vector<Stream> streams{root(0x3f800000),
                                    classes_of(1, 1, {0}),
                                    bits_of({}),
                                    gain_stream({31, 31, 31}),
                                    classes_of(1, 1, {4}, {0}),
                                    bits_of({0}),
                                    classes_of(2, 1, {1, 0}, {0, 0}),
                                    bits_of({0})};
  Case c{{3, 1, 1, std::vector<float>(3)}, {0.5, 0.5, 0}};
  c.fields.repeats = {0, 1, 1};
  const double factor = (0.5 * 63 / 64 + 2 * 1.5) / (63.0 / 64 + 4 + std::exp2(-20));
  const std::vector<float> found = c.decoded(streams);
  CHECK(found[0] == 2);
  CHECK(found[1] == 1.5f);
  CHECK(std::fabs(found[2] - 1.5 * factor) < 1e-6);
  CHECK(c.by_the_page(streams) == found);
}

TEST_CASE("adapt: predictions save bytes where tokens come again, and nothing is lost where they do not") {
  Case c = of_words(200, 3, 8, 12);
  c.fields.width = 256;
  const auto size = [&] {
    Pipeline p = Pipeline::parse(c.text() + ",rans");
    p.use_tables([&](std::string_view) { return Pipeline::FoundTable{c.table(), "repeats"}; }, {});
    const TileContext context = c.context();
    p.resolve(context, shape_of(c.m));
    return p.encode(context, shape_of(c.m), elements_of(c.m.v, DType::f32), nullptr, nullptr, {}).size();
  };
  const std::size_t with = size();
  CHECK(c.encoded().size() == 8);
  c.fields.repeats.clear();
  const std::size_t without = size();
  CHECK(c.encoded().size() == 6);
  CHECK(with < 0.95 * static_cast<double>(without));
  c.fields.repeats.assign(200, 0);  // a table that knows of none
  CHECK(c.encoded().size() == 6);
  c.fields.repeats.assign(199, 1);  // a table of another dump
  CHECK(c.encoded().size() == 6);
}

TEST_CASE("repeats: found from token ids, and from the lowest layer's values where they differ by rounding only") {
  std::vector<std::uint32_t> expected(40, 4);
  std::fill_n(expected.begin(), 4, 0);
  CHECK(distances(tables_of(*repeating(true, 1))) == expected);
  CHECK(distances(tables_of(*repeating(false, 0))) == expected);
  CHECK(distances(tables_of(*repeating(false, 1e-3f))) == expected);
  CHECK(distances(tables_of(*repeating(false, 1))).empty());
  CHECK(distances(tables_of(*repeating(true, 0, 2))).empty());  // two sequences
}

TEST_CASE("repeats: a container stores the table once, names it, and decodes alike with random access") {
  const auto reader = repeating(false, 1e-3f);
  KvzOptions options = options_of("key = adapt:repeats=dump,rans\nvalue = adapt:repeats=dump,rans", 16);
  const std::vector<Bytes> without = decompressed(compressed(*reader, options));
  options.tables.stored = tables_of(*reader);
  const Bytes file = compressed(*reader, options);
  const auto records = take_apart(file);
  CHECK(records[1].type == record_type(RecordType::table));
  CHECK(header_text(records[0]).find("repeats=repeats") != std::string::npos);
  const std::vector<Bytes> with = decompressed(file);
  CHECK(with.size() == 4);
  CHECK(with != without);
}
