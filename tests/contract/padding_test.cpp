// SPDX-License-Identifier: Apache-2.0
// Caches of a fixed size: the rows behind the last token are zeros, and the newest tokens are those before them.
#include <fmt/format.h>

#include <numeric>

#include "tests/contract/reference_drive.hpp"
#include "tests/unit/file_support.hpp"

using namespace kvzip;
using namespace kvzip::test;
namespace ref = kvzip::reference;

namespace {

struct Written {
  std::vector<float> key, value;  // [1, heads, rows, head_dim], as many rows as were asked for
  std::uint64_t bytes = 0, raw = 0;
};

/// Tokens and then zeros, `rows` in all, to a file and back; of what comes back the first tokens. The rest is checked.
Written through_padded(std::string_view preset, const Layer& layer, std::size_t rows,
                       std::optional<std::uint64_t> chunk_tokens = std::nullopt) {
  const ScratchDirectory scratch;
  const auto padded = [&](Matrix m) {
    m.rows = rows;
    m.v.resize(rows * m.cols());
    return m;
  };
  const Layer whole{padded(layer.key), padded(layer.value)};
  MemoryReader source(dump_like(whole.key, 1, DType::f16), std::uint64_t{1} << 20);
  source.data(0) = elements_of(head_first(whole.key), DType::f16);
  source.data(1) = elements_of(head_first(whole.value), DType::f16);
  const Recognition recognition = recognise(source.dump(), {.map = {}, .layout = "BHTD"});
  KvzOptions options{RuleSet::builtin(preset), chunk_tokens, {}};
  fit_options(source, recognition, options, 1);
  const std::string path = scratch.file("cache.kvz");
  const auto writer = create_kvz_writer(path, source.dump(), recognition, options, false);
  transcode(source, *writer, 2);
  writer->finish();
  const auto reader = open_kvz(path);
  const auto tokens = [&](std::size_t index, const Matrix& m) {
    std::vector<std::uint64_t> shape = reader->dump().tensors.at(index).shape;
    Bytes bytes(reader->dump().tensors[index].bytes());
    reader->read({index, {0, 0, 0, 0}, shape}, bytes);
    const Matrix back = token_first(values_of(bytes, DType::f16), m);
    const std::size_t used = layer.key.rows * m.cols();
    CHECK(std::all_of(back.v.begin() + static_cast<std::ptrdiff_t>(used), back.v.end(),
                      [](float x) { return x == 0 && !std::signbit(x); }));
    return std::vector<float>(back.v.begin(), back.v.begin() + static_cast<std::ptrdiff_t>(used));
  };
  Written out{tokens(0, whole.key), tokens(1, whole.value), std::filesystem::file_size(path)};
  for (const KvzGroup& group : reader->summary().groups) out.raw += group.raw_frames;
  return out;
}

}  // namespace

TEST_CASE("padding: tokens decode to what they do in a cache that ends with them") {
  for (const std::size_t tokens : {1u, 31u, 127u, 128u, 129u, 256u, 300u, 383u}) {
    CAPTURE(tokens);
    const Layer layer{ref::synthetic(tokens, 2, 64, ref::kHalf, tokens), ref::synthetic(tokens, 2, 64, ref::kHalf, 7)};
    for (const std::uint64_t chunk : {256u, 0u, 96u}) {
      CAPTURE(chunk);
      const Layer alone = through_file("kivi-2", layer, DType::f16, chunk);
      const Written padded = through_padded("kivi-2", layer, 384, chunk);
      CHECK(differences(padded.key, alone.key.v) == 0);
      CHECK(differences(padded.value, alone.value.v) == 0);
    }
  }
}

TEST_CASE("padding: under every preset tokens decode to what they do without it, and it takes no room") {
  const Layer layer{ref::synthetic(300, 2, 64, ref::kHalf, 1), ref::synthetic(300, 2, 64, ref::kHalf, 2)};
  std::size_t compared = 0;
  for (const PresetText& preset : builtin_presets()) {
    CAPTURE(preset.name);
    for (const std::uint64_t chunk : {256u, 0u}) {
      CAPTURE(chunk);
      const Written alone = through_padded(preset.name, layer, 300, chunk);
      // Codebooks larger than the tile itself, which is stored as it is.
      if (alone.raw != 0) continue;
      ++compared;
      const Written padded = through_padded(preset.name, layer, 1024, chunk);
      CHECK(differences(padded.key, alone.key) == 0);
      CHECK(differences(padded.value, alone.value) == 0);
      // A stage more, where the padding begins, and frames of no rows.
      CHECK(padded.bytes <= alone.bytes + 1024);
    }
  }
  CHECK(compared > builtin_presets().size());
}

TEST_CASE("padding: frames of nothing else hold nothing of the stages behind the window") {
  Matrix m = ref::synthetic(96, 1, 16, ref::kHalf, 8);
  std::fill(m.v.begin() + 40 * 16, m.v.end(), 0.0F);
  const std::string text = "window:recent=0:end=40,norm:kind=none:center=mean,quant:bits=3:axis=channel,rans";
  Pipeline p = Pipeline::parse(text);
  const TileContext context = context_of(m, Role::key, DType::f16);
  p.resolve(context, shape_of(m));
  const Bytes elements = elements_of(m.v, DType::f16);
  const auto frame = [&](std::uint32_t first, std::uint32_t rows) {
    const TileShape shape{rows, 16, first, true, true};
    const ByteView part = ByteView(elements).subspan(first * 32, rows * 32);
    const Bytes coded = p.encode(context, shape, part);
    Bytes back(part.size(), std::byte{0xa5});
    p.decode(context, shape, coded, back);
    if (first >= 40) CHECK(std::all_of(back.begin(), back.end(), [](std::byte b) { return b == std::byte{0}; }));
    return coded.size();
  };
  CHECK(frame(0, 32) > 96);  // 16 means of 2 bytes, as many minima and steps
  CHECK(frame(32, 32) > 96);
  CHECK(frame(64, 32) < 16);
}

TEST_CASE("padding: repeats are those of the tokens") {
  const std::size_t tokens = 80, rows = 400;
  Dump dump;
  for (const char* role : {"key", "value"}) {
    dump.tensors.push_back({fmt::format("past_key_values.0.{}", role), DType::f16, {1, 2, rows, 32}});
  }
  dump.tensors.push_back({"token_ids", DType::i32, {tokens}});
  MemoryReader source(dump, std::uint64_t{1} << 20);
  std::vector<std::int32_t> ids(tokens);
  for (std::size_t t = 0; t < tokens; ++t) ids[t] = static_cast<std::int32_t>(t % 20);
  std::memcpy(source.data(2).data(), ids.data(), ids.size() * 4);
  Matrix m = ref::synthetic(tokens, 2, 32, ref::kHalf, 9);
  m.rows = rows;
  m.v.resize(rows * m.cols());
  source.data(0) = source.data(1) = elements_of(head_first(m), DType::f16);
  const Recognition recognition = recognise(dump, {.map = {}, .layout = "BHTD"});
  KvzOptions options;
  options.rules = RuleSet::parse("key = adapt:repeats=dump,rans\nvalue = adapt:repeats=dump,rans", "test");
  for (const bool repeated : {true, false}) {
    CAPTURE(repeated);
    fit_options(source, recognition, options, 1);
    const auto table = options.tables.stored.all().empty() ? nullptr : options.tables.stored.all()[0];
    if (!repeated) {
      CHECK(table == nullptr);
      continue;
    }
    REQUIRE(table != nullptr);
    REQUIRE(table->bytes.size() == rows * 4);
    const auto distance = [&](std::size_t t) { return std::to_integer<int>(table->bytes[t * 4]); };
    for (std::size_t t = 0; t < rows; ++t) CHECK(distance(t) == (t >= 20 && t < tokens ? 20 : 0));
    std::iota(ids.begin(), ids.end(), 0);
    std::memcpy(source.data(2).data(), ids.data(), ids.size() * 4);
  }
}

TEST_CASE("padding: sequences of a batch end where they end") {
  const Matrix a = ref::synthetic(100, 1, 32, ref::kHalf, 3), b = ref::synthetic(50, 1, 32, ref::kHalf, 4);
  Dump dump;
  dump.tensors = {{"past_key_values.0.value", DType::f16, {2, 1, 128, 32}}};
  MemoryReader source(dump, std::uint64_t{1} << 20);
  Bytes first = elements_of(a.v, DType::f16), second = elements_of(b.v, DType::f16);
  first.resize(128 * 64);
  second.resize(128 * 64);
  source.data(0) = first;
  source.data(0).insert(source.data(0).end(), second.begin(), second.end());
  const Recognition recognition = recognise(dump, {.map = {}, .layout = "BHTD"});
  KvzOptions options;
  options.rules = RuleSet::parse("value = window:recent=16,quant:bits=2,rans", "test");
  fit_options(source, recognition, options, 1);
  CHECK(options.used_tokens == std::vector<std::uint64_t>{100, 50});
  const ScratchDirectory scratch;
  const auto writer = create_kvz_writer(scratch.file("batch.kvz"), dump, recognition, options, false);
  transcode(source, *writer, 1);
  writer->finish();
  const auto reader = open_kvz(scratch.file("batch.kvz"));
  Bytes back(source.data(0).size());
  reader->read({0, {0, 0, 0, 0}, dump.tensors[0].shape}, back);
  const auto same = [&](std::size_t from, std::size_t to) {
    return std::equal(back.begin() + static_cast<std::ptrdiff_t>(from * 64),
                      back.begin() + static_cast<std::ptrdiff_t>(to * 64),
                      source.data(0).begin() + static_cast<std::ptrdiff_t>(from * 64));
  };
  CHECK(same(84, 128));
  CHECK_FALSE(same(83, 84));
  CHECK(same(128 + 34, 256));
  CHECK_FALSE(same(128 + 33, 128 + 34));
}

TEST_CASE("padding: what is only zeros, or has one token of them before others, is no padding") {
  Dump dump;
  dump.tensors = {{"past_key_values.0.key", DType::f16, {1, 2, 64, 32}}};
  MemoryReader source(dump, std::uint64_t{1} << 20);
  const Recognition recognition = recognise(dump, {.map = {}, .layout = "BHTD"});
  const auto used = [&](std::string_view rules) {
    KvzOptions options;
    options.rules = RuleSet::parse(rules, "test");
    fit_options(source, recognition, options, 1);
    return options.used_tokens;
  };
  constexpr std::string_view kWindow = "key = window:recent=16,quant:bits=2,rans";
  std::fill(source.data(0).begin(), source.data(0).end(), std::byte{0});
  CHECK(used(kWindow).empty());
  source.data(0).back() = std::byte{0x3c};
  CHECK(used(kWindow).empty());
  source.data(0).back() = std::byte{0};
  source.data(0)[40 * 64 + 1] = std::byte{0x80};  // -0, in one head of two
  CHECK(used(kWindow) == std::vector<std::uint64_t>{41});
  CHECK(used("key = quant:bits=2,rans") == std::vector<std::uint64_t>{41});
  CHECK(used("key = planes,zstd") == std::vector<std::uint64_t>{41});
}

TEST_CASE("padding: a window that is told of some takes no tokens for it") {
  Matrix m = ref::synthetic(20, 1, 16, ref::kHalf, 5);
  std::fill(m.v.begin() + 12 * 16, m.v.end(), 0.0F);
  const std::string text = "window:recent=4:end=12,quant:bits=1,rans";
  const auto out = through_pipeline(text, Role::key, m, DType::f16);
  CHECK(std::equal(m.v.begin() + 8 * 16, m.v.end(), out.values.begin() + 8 * 16));
  m.v[15 * 16 + 3] = 1;
  CHECK(code_of([&] { through_pipeline(text, Role::key, m, DType::f16); }) == ErrorCode::invalid_argument);
  m.v[15 * 16 + 3] = -0.0F;
  CHECK(code_of([&] { through_pipeline(text, Role::key, m, DType::f16); }) == ErrorCode::invalid_argument);
}
