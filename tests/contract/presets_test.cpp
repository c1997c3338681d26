// SPDX-License-Identifier: Apache-2.0
// Every built-in preset, on every dtype and awkward length; and the rules that presets are made of.
#include <fmt/format.h>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "kvzip/error.hpp"
#include "tests/contract/sample_dumps.hpp"
#include "tests/support/container_parts.hpp"

namespace kvzip::test {
namespace {

/// The largest error as a share of the largest magnitude, finite values only.
double relative_error(DType type, ByteView before, ByteView after) {
  const auto a = floats_of(type, before), b = floats_of(type, after);
  double most = 0, worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (!std::isfinite(a[i])) continue;
    most = std::max(most, std::fabs(double{a[i]}));
    worst = std::max(worst, std::fabs(double{b[i]} - a[i]));
  }
  return most == 0 ? worst : worst / most;
}

std::vector<std::string> pipelines_of(ByteView container) {
  const MemoryFile file(container);
  std::vector<std::string> lines;
  const auto reader = open_kvz(file.path());
  for (const KvzGroup& g : reader->description().groups) {
    std::string line;
    for (const std::size_t t : g.tensors) line += reader->dump().tensors[t].name + " ";
    lines.push_back(fmt::format("{}{}", line, g.pipeline));
  }
  return lines;
}

}  // namespace

TEST_CASE("presets are named, described and canonical where it counts") {
  for (const PresetText& preset : builtin_presets()) {
    CAPTURE(preset.name);
    CHECK_FALSE(preset.summary().empty());
    CHECK(preset.text.starts_with("# "));
    const RuleSet rules = RuleSet::builtin(preset.name);
    CHECK(rules.name == preset.name);
    // Every layer of every model has a rule for its keys and values.
    for (const std::uint32_t layers : {1u, 2u, 9u, 10u, 32u, 80u}) {
      for (std::uint32_t l = 0; l < layers; ++l) {
        for (const Role role : {Role::key, Role::value}) {
          CHECK(std::any_of(rules.rules.begin(), rules.rules.end(), [&](const Rule& r) {
            return r.matches(r.scope == Rule::Scope::pair ? Role::pair : role, l, layers);
          }));
        }
      }
    }
    for (const Rule& rule : rules.rules) CHECK(canonical_pipeline(rule.pipeline) == rule.pipeline);
  }
  CHECK_THROWS_AS(RuleSet::builtin("no-such-preset"), Error);
  CHECK_NOTHROW(RuleSet::builtin(kDefaultPreset));
}

TEST_CASE("presets take every dtype, length and kind of data") {
  for (const PresetText& preset : builtin_presets()) {
    CAPTURE(preset.name);
    for (const DType type : codable_dtypes()) {
      CAPTURE(dtype_name(type));
      for (const std::uint64_t tokens : {1u, 3u, 129u}) {
        CAPTURE(tokens);
        const bool specials = tokens == 3;
        auto reader = sample_reader(sample_specs(2, tokens, type), specials ? Fill::specials : Fill::ordinary);
        const KvzOptions options{RuleSet::builtin(preset.name), {}, {}};
        const Bytes container = compressed(*reader, options);
        if (type == DType::f16) CHECK(compressed(*reader, options, 3) == container);
        const auto values = decompressed(container);
        for (std::size_t i = 0; i < values.size(); ++i) {
          if (!is_codable_float(reader->dump().tensors[i].dtype) || reader->stated->tensors[i].role == Role::other) {
            CHECK(values[i] == reader->data(i));
          } else if (preset.name == "lossless" || preset.name.starts_with("zstd-")) {
            CHECK(values[i] == reader->data(i));
          } else {
            // Of noise a low rank, or one row for several tokens, with nothing after it keeps little.
            const bool keeps_little = preset.name == "xkv" || preset.name == "kvmerger" || preset.name == "matryoshka";
            CHECK(relative_error(type, reader->data(i), values[i]) <= (keeps_little ? 1 : 0.6));
          }
        }
      }
    }
  }
}

TEST_CASE("chunks of any length, and the whole sequence at once") {
  auto reader = sample_reader(sample_specs(2, 130));
  for (const std::string_view name : {"kivi-2", "gear-2", "cachegen-3", "lossless"}) {
    CAPTURE(name);
    for (const std::uint64_t chunk : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{7}, std::uint64_t{128},
                                      std::uint64_t{130}, ~std::uint64_t{0}}) {
      CAPTURE(chunk);
      const KvzOptions options{RuleSet::builtin(name), chunk, {}};
      const Bytes container = compressed(*reader, options, 2);
      const auto values = decompressed(container, 2);
      CHECK(decompressed_stream(container) == values);
      const std::uint64_t frames = chunk == 0 || chunk >= 130 ? 1 : (129 + chunk) / chunk;
      const MemoryFile file(container);
      for (const KvzGroup& g : open_kvz(file.path())->summary().groups) {
        if (g.role == Role::key || g.role == Role::value) CHECK(g.frames == frames);
      }
      if (name == "lossless") CHECK(values == originals(*reader));
    }
  }
}

TEST_CASE("rules choose by role, layer, share of the layers and size of the model") {
  auto reader = sample_reader(sample_specs(8, 4));
  const auto pipelines = [&](std::string_view rules) {
    std::string all;
    for (const std::string& line : pipelines_of(compressed(*reader, options_of(rules)))) {
      if (line.starts_with("layers")) all += line.substr(7) + "\n";
    }
    return all;
  };
  const auto expect = [](const std::string& keys, const std::string& values) {
    std::string all;
    for (std::size_t l = 0; l < 8; ++l) {
      all += fmt::format("{}.key quant:bits={},pack\n{}.value quant:bits={},pack\n", l, keys[l], l, values[l]);
    }
    return all;
  };
  CHECK(pipelines("key = quant:bits=2,pack\nvalue[*] = quant:bits=3,pack") == expect("22222222", "33333333"));
  CHECK(pipelines("key[0-1] = quant:bits=8,pack\nkey[6] = quant:bits=7,pack\nkey = quant:bits=2,pack\n"
                  "value = quant:bits=3,pack") == expect("88222272", "33333333"));
  CHECK(pipelines("key[0%-25%] = quant:bits=8,pack\nkey[25%-62.5%] = quant:bits=4,pack\nkey = quant:bits=2,pack\n"
                  "value[87.5%-100%] = quant:bits=5,pack\nvalue = quant:bits=3,pack") ==
        expect("88444222", "33333335"));
  CHECK(pipelines("key[* of 9-99] = quant:bits=8,pack\nkey[2-3 of 8] = quant:bits=7,pack\n"
                  "key[* of 1-8] = quant:bits=2,pack\nvalue = quant:bits=3,pack") == expect("22772222", "33333333"));
  // A tensor without a rule passes through.
  CHECK(pipelines("key = quant:bits=2,pack").find("0.value planes,zstd") != std::string::npos);
  CHECK(pipelines("other = planes,ac\nkey = quant:bits=2,pack").find("0.value planes,ac") != std::string::npos);
}

TEST_CASE("keys and values of a layer can share tiles, whatever their widths") {
  for (const std::uint64_t width : {4u, 6u}) {
    CAPTURE(width);
    std::vector<Spec> specs;
    for (std::uint32_t l = 0; l < 2; ++l) {
      specs.push_back({fmt::format("{}.value", l), DType::f16, {2, 9, width}, Role::value, l, "HTD"});
      specs.push_back({fmt::format("{}.key", l), DType::f16, {9, 2, 4}, Role::key, l, "THD"});
    }
    specs.push_back({"stack", DType::f16, {2, 3, 9, 8}, Role::pair, {}, "2LTC"});
    auto reader = sample_reader(specs);
    for (const std::string_view rules : {"kv = planes,ac", "kv = planes,pack"}) {
      // Layers of the stack would meet those of the single tensors: they are taken apart by the batch they lack.
      CHECK_THROWS_AS(compressed(*reader, options_of(rules, 4)), Error);
    }
    specs.pop_back();
    reader = sample_reader(specs);
    const Bytes exact = compressed(*reader, options_of("kv = planes,ac", 4));
    CHECK(decompressed(exact) == originals(*reader));
    CHECK(pipelines_of(exact)[0] == "0.key 0.value planes,ac");
    const auto values = decompressed(compressed(*reader, options_of("kv = quant:bits=8:axis=token-head,ac", 4), 3));
    for (std::size_t i = 0; i < values.size(); ++i) {
      CHECK(relative_error(DType::f16, reader->data(i), values[i]) < 0.02);
    }
  }
  auto stack = sample_reader({{"stack", DType::bf16, {2, 3, 9, 8}, Role::pair, {}, "2LTC"}});
  CHECK(decompressed(compressed(*stack, options_of("kv = planes,ac", 4))) == originals(*stack));
  auto lonely = sample_reader({{"0.key", DType::f16, {9, 8}, Role::key, 0, "TC"}});
  CHECK_THROWS_AS(compressed(*lonely, options_of("kv = planes,ac")), Error);
}

TEST_CASE("a rule per head gives every head its own tiles") {
  auto reader = sample_reader(sample_specs(2, 9));
  const Bytes container =
      compressed(*reader, options_of("key/head[*] = quant:bits=8:axis=tile,pack\nvalue/head = planes,ac", 4));
  const auto values = decompressed(container);
  CHECK(pipelines_of(container).size() == 2 + 2 * 2 * 2);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const bool key = reader->stated->tensors[i].role == Role::key;
    if (!key) CHECK(values[i] == reader->data(i));
    if (key) CHECK(relative_error(DType::f16, reader->data(i), values[i]) < 0.01);
  }
  auto merged = sample_reader({{"k", DType::f16, {9, 8}, Role::key, 0, "TC"}});
  CHECK_THROWS_AS(compressed(*merged, options_of("key/head = planes,ac")), Error);
}

TEST_CASE("removing the rotary embedding makes rotated channels constant again") {
  // Keys whose channels are constant but for the rotation: theta from the dump, positions from `first_position`.
  const std::uint64_t tokens = 64, dim = 8;
  for (const bool interleaved : {false, true}) {
    auto reader = sample_reader({{"k", DType::f32, {2, tokens, dim}, Role::key, 0, "HTD"}});
    Rope& rope = reader->stated->model.rope;
    rope.state = Rope::State::post;
    rope.theta = 10000;
    rope.first_position = 11;
    rope.layout = interleaved ? Rope::Layout::interleaved : Rope::Layout::half;
    std::vector<float> values;
    for (std::size_t h = 0; h < 2; ++h) {
      for (std::size_t t = 0; t < tokens; ++t) {
        std::vector<float> row(dim);
        for (std::size_t i = 0; i < dim / 2; ++i) {
          const double angle = static_cast<double>(t + 11) * std::pow(10000.0, -2.0 * static_cast<double>(i) / dim);
          const double a = 1 + static_cast<double>(i + h), b = 2.5 - static_cast<double>(i);
          const std::size_t x = interleaved ? 2 * i : i, y = interleaved ? 2 * i + 1 : i + dim / 2;
          row[x] = static_cast<float>(a * std::cos(angle) - b * std::sin(angle));
          row[y] = static_cast<float>(b * std::cos(angle) + a * std::sin(angle));
        }
        values.insert(values.end(), row.begin(), row.end());
      }
    }
    const auto bytes = std::as_bytes(std::span(values));
    reader->data(0).assign(bytes.begin(), bytes.end());
    const auto error = [&](std::string_view rules) {
      const auto back = decompressed(compressed(*reader, options_of(rules, 16)));
      return relative_error(DType::f32, reader->data(0), back[0]);
    };
    CHECK(error("key = rope,quant:bits=1,pack") < 1e-3);
    CHECK(error("key = quant:bits=1,pack") > 0.1);
    const auto stored = pipelines_of(compressed(*reader, options_of("key = rope,quant:bits=1,pack")));
    CHECK(stored[0].find("theta=10000:") != std::string::npos);
    CHECK(stored[0].find("first=11") != std::string::npos);
  }
  auto values = sample_reader({{"v", DType::f32, {2, 4, 8}, Role::value, 0, "HTD"}});
  values->stated->model.rope.theta = 10000;
  CHECK_THROWS_AS(compressed(*values, options_of("value = rope,quant,pack")), Error);
  auto unknown = sample_reader({{"k", DType::f32, {2, 4, 8}, Role::key, 0, "HTD"}});
  CHECK_THROWS_AS(compressed(*unknown, options_of("key = rope,quant,pack")), Error);
}

TEST_CASE("a rotation that the dump does not give can be passed over") {
  const auto stored = [](MemoryReader& reader, std::string_view rules) {
    return pipelines_of(compressed(reader, options_of(rules)))[0];
  };
  const std::string_view skip = "key = rope:missing=skip,quant:bits=8:axis=token,pack";
  const std::string_view plain = "key = quant:bits=8:axis=token,pack";
  auto reader = sample_reader({{"k", DType::f32, {2, 9, 8}, Role::key, 0, "HTD"}});
  Rope& rope = reader->stated->model.rope;
  const auto back = [&](std::string_view rules) { return decompressed(compressed(*reader, options_of(rules))); };
  CHECK(back(skip) == back(plain));  // theta is unknown
  CHECK(stored(*reader, skip).find("theta") == std::string::npos);
  rope.theta = 10000;
  for (const auto state : {Rope::State::none, Rope::State::pre}) {
    rope.state = state;
    CHECK(back(skip) == back(plain));
    CHECK_THROWS_AS(back("key = rope,quant,pack"), Error);
    CHECK(stored(*reader, "key = rope:theta=500:missing=skip,quant,pack").find("theta=500") != std::string::npos);
  }
  rope.state = Rope::State::post;
  CHECK(back(skip) == back("key = rope,quant:bits=8:axis=token,pack"));
  CHECK(stored(*reader, skip).find("theta=10000") != std::string::npos);
  // An odd head has no pairs.
  auto odd = sample_reader({{"k", DType::f32, {2, 9, 7}, Role::key, 0, "HTD"}});
  odd->stated->model.rope = rope;
  CHECK_NOTHROW(compressed(*odd, options_of(skip)));
  auto values = sample_reader({{"v", DType::f32, {2, 4, 8}, Role::value, 0, "HTD"}});
  CHECK_THROWS_AS(compressed(*values, options_of("value = rope:missing=skip,quant,pack")), Error);
}

TEST_CASE("whole elements are stored as the bytes they are") {
  const Bytes elements = sample_elements(DType::bf16, 50, 8, Fill::constant);
  const TileContext context = sample_context(DType::bf16, 8, 50);
  const TileShape shape{50, 8, 0, true, true};
  const auto payload = [&](std::string_view text) { return Pipeline::parse(text).encode(context, shape, elements); };
  // Raw frames are as long as the elements: no stage can be seen in them. A run of one value is one.
  CHECK(payload("planes:split=none,zstd") != payload("planes,zstd"));
  CHECK(payload("planes:split=planes,zstd") == payload("planes,zstd"));
  CHECK(payload("planes:split=none,pack").size() == elements.size() + 1);
  CHECK_THROWS_AS(Pipeline::parse("planes:split=some,pack"), Error);
}

TEST_CASE("layers of different widths fill automatic parameters for themselves") {
  auto reader = sample_reader(
      {{"a", DType::f32, {1, 4, 8}, Role::key, 0, "HTD"}, {"b", DType::f32, {1, 4, 16}, Role::key, 1, "HTD"}});
  reader->stated->model.rope.theta = 10000;
  const Bytes container = compressed(*reader, options_of("key = rope,quant:bits=8,pack"));
  const auto stored = pipelines_of(container);
  CHECK(stored[0].find("dims=8") != std::string::npos);
  CHECK(stored[1].find("dims=16") != std::string::npos);
  const auto values = decompressed(container);
  for (std::size_t i = 0; i < 2; ++i) CHECK(relative_error(DType::f32, reader->data(i), values[i]) < 0.02);
}

TEST_CASE("a sparse dump's sequences are counted before they are planned") {
  Dump dump;
  dump.tensors.push_back({"k", DType::f16, {std::uint64_t{1} << 40, 1, 1, 2}});
  Recognition recognition;
  recognition.tensors.push_back({Role::key, {}, "LHTD", ""});
  const MemoryFile file;
  CHECK_THROWS_AS(create_kvz_writer(file.path(), dump, recognition, options_of("key = planes,pack"), true), Error);
}

}  // namespace kvzip::test
