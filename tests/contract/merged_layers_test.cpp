// SPDX-License-Identifier: Apache-2.0
// Frames that hold several layers: reading some tokens, one layer or one role of them gives what the whole has, and no
// thread count changes a byte.
#include <doctest/doctest.h>

#include <string>

#include "formats/selection.hpp"
#include "kvzip/rope.hpp"
#include "tests/contract/sample_dumps.hpp"

namespace kvzip::test {
namespace {

constexpr std::uint32_t kLayers = 6;
constexpr std::uint64_t kTokens = 420, kHeads = 2, kDim = 32, kChunk = 160;

std::unique_ptr<MemoryReader> six_layers() {
  auto reader = sample_reader(sample_specs(kLayers, kTokens, DType::f16, kHeads, kDim));
  reader->stated->model.rope = {.state = Rope::State::post, .theta = 10000, .dims = kDim};
  return reader;
}

/// Presets that merge layers, with chunks of this test, and groups of layers under stages that others use.
std::vector<std::pair<std::string, KvzOptions>> merging_options() {
  std::vector<std::pair<std::string, KvzOptions>> out;
  for (const std::string_view name : {"minicache", "minicache-4", "xkv", "aquakv"}) {
    KvzOptions options;
    options.rules = RuleSet::builtin(name);
    options.chunk_tokens = kChunk;
    out.emplace_back(name, std::move(options));
  }
  for (const std::string_view rules :
       {"key/layers=2 = slerp,pack\nvalue/layers=3 = quant:bits=4:axis=token,rans",
        "key/layers=4 = klt,quant:bits=4,pack\nvalue/layers=5 = lowrank:rank=4:per=tile,rans",
        "kv/layers=4 = window:sink=2:recent=5,quant:bits=6:axis=token,pack", "kv/layers=6 = planes,ac",
        "restart = 2\nkv/layers=2 = adapt:step=0.3,rans"}) {
    out.emplace_back(rules, options_of(rules, kChunk));
  }
  return out;
}

/// A few boxes of a tensor: tokens within a chunk, over its end, all; heads and channels of them.
std::vector<Slice> boxes_of(std::size_t tensor) {
  std::vector<Slice> out;
  for (const auto& [first, count] :
       {std::pair<std::uint64_t, std::uint64_t>{0, 1}, {159, 2}, {150, 200}, {417, 3}, {0, kTokens}}) {
    out.push_back({tensor, {0, first, 0}, {kHeads, count, kDim}});
    out.push_back({tensor, {1, first, 5}, {1, count, 7}});
  }
  return out;
}

}  // namespace

TEST_CASE("merged layers: bytes and values do not depend on threads, nor on coming through a pipe") {
  const auto reader = six_layers();
  for (const auto& [name_of, options] : merging_options()) {
    const std::string& name = name_of;
    CAPTURE(name);
    const Bytes one = compressed(*reader, options);
    CHECK(one == compressed(*reader, options, 4));
    const auto values = decompressed(one);
    CHECK(values == decompressed(one, 4));
    CHECK(values == decompressed_stream(one));
    const MemoryFile file(one);
    CHECK(verify_kvz(file.path(), 4, {}).empty());
    // Most frames of several layers are coded: few are stored as they are, such as those of recent tokens only.
    std::uint64_t merged = 0, raw = 0;
    for (const KvzGroup& group : open_kvz(ByteView(one))->summary().groups) {
      if (group.members.empty() || group.members.front().layer == group.members.back().layer) continue;
      merged += group.frames;
      raw += group.raw_frames;
    }
    CHECK(merged > 0);
    CAPTURE(merged);
    CHECK(3 * raw <= merged);
  }
}

TEST_CASE("merged layers: any box of one tensor is that of the whole") {
  const auto reader = six_layers();
  for (const auto& [name_of, options] : merging_options()) {
    const std::string& name = name_of;
    CAPTURE(name);
    const Bytes container = compressed(*reader, options);
    const auto whole = decompressed(container);
    const auto opened = open_kvz(ByteView(container));
    for (const std::size_t tensor : {1u, 2u, 7u, 8u, 11u, 12u}) {  // keys and values of the first, the fourth, the last
      for (const Slice& box : boxes_of(tensor)) {
        CAPTURE(tensor);
        CAPTURE(box.start[1]);
        Bytes out(box.elements() * 2);
        opened->read(box, out);
        CHECK(out == gather(reader->dump().tensors[tensor], whole[tensor], box));
      }
    }
  }
}

TEST_CASE("merged layers: a selection of layers, tokens and roles is that of the whole, with any number of threads") {
  const auto reader = six_layers();
  for (const auto& [name_of, options] : merging_options()) {
    const std::string& name = name_of;
    CAPTURE(name);
    const Bytes container = compressed(*reader, options);
    const auto whole = decompressed(container);
    for (const bool values : {false, true}) {
      const auto open_part = [&] {
        auto opened = open_kvz(ByteView(container));
        const Recognition roles = *opened->recognition();
        return select(std::move(opened), roles, parse_selection("3-4", "20:361", values ? "value" : "key"));
      };
      const auto part = open_part();
      REQUIRE(part->dump().tensors.size() == 2);
      const auto got = values_of(*part);
      CHECK(values_of(*open_part(), 4) == got);
      for (std::size_t i = 0; i < 2; ++i) {
        const std::size_t tensor = 1 + 2 * (3 + i) + (values ? 1 : 0);
        CHECK(part->dump().tensors[i].name == reader->dump().tensors[tensor].name);
        const Slice kept{tensor, {0, 20, 0}, {kHeads, 341, kDim}};
        CHECK(got[i] == gather(reader->dump().tensors[tensor], whole[tensor], kept));
      }
    }
  }
}

TEST_CASE("merged layers: tokens of sound frames are read beside damaged ones, whose layers all fail") {
  const auto reader = six_layers();
  Bytes container = compressed(*reader, options_of("kv/layers=3 = quant:bits=8,pack", kChunk));
  const auto whole = decompressed(container);
  // In the first of six frames of several layers, behind a header of less than a kB: layers 0 to 2, tokens 0 to 159.
  container[container.size() / 10] ^= std::byte{1};
  const auto opened = open_kvz(ByteView(container));
  for (std::size_t tensor = 1; tensor <= 2 * kLayers; ++tensor) {
    CAPTURE(tensor);
    const Slice front{tensor, {0, 2, 0}, {kHeads, 9, kDim}}, back{tensor, {0, 330, 0}, {kHeads, 15, kDim}};
    Bytes out(front.elements() * 2);
    if (tensor <= 6) {
      CHECK_THROWS_AS(opened->read(front, out), Error);
    } else {
      opened->read(front, out);
      CHECK(out == gather(reader->dump().tensors[tensor], whole[tensor], front));
    }
    out.resize(back.elements() * 2);
    opened->read(back, out);
    CHECK(out == gather(reader->dump().tensors[tensor], whole[tensor], back));
  }
}

}  // namespace kvzip::test
