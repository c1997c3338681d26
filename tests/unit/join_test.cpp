// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "codec/fail.hpp"
#include "formats/borrowed_reader.hpp"
#include "formats/folder.hpp"
#include "formats/join.hpp"
#include "formats/kvz/kvz.hpp"
#include "formats/left_out.hpp"
#include "formats/selection.hpp"
#include "tests/contract/sample_dumps.hpp"

using namespace kvzip;
using test::MemoryReader;
using test::text_attribute;

namespace {

Dump sample() {
  Dump dump;
  for (int layer = 0; layer < 4; ++layer) {
    dump.tensors.push_back({fmt::format("layers/{}/key", layer), DType::f16, {2, 10, 4}});
    dump.tensors.push_back({fmt::format("layers/{}/value", layer), DType::f16, {2, 10, 4}});
  }
  dump.tensors.push_back({"layers/3/nibbles", DType::f4, {10, 4}});
  dump.tensors.push_back({"empty", DType::f32, {0, 3}});
  dump.attributes = {text_attribute("rope", "post"), text_attribute("n_layers", "4"),
                     text_attribute("note", "third", "layers/3/key"), text_attribute("note", "all", "layers")};
  return dump;
}

using Inputs = std::vector<JoinInput>;

std::unique_ptr<DumpReader> memory(Dump dump, std::uint64_t part_bytes = 24, std::size_t slices_per_part = 1) {
  return std::make_unique<MemoryReader>(std::move(dump), part_bytes, slices_per_part);
}

Inputs two(std::unique_ptr<DumpReader> a, std::unique_ptr<DumpReader> b) {
  Inputs inputs;
  inputs.push_back({"a.safetensors", std::move(a)});
  inputs.push_back({"b.safetensors", std::move(b)});
  return inputs;
}

std::unique_ptr<DumpReader> selected(std::uint64_t part_bytes, std::string_view layers, std::string_view roles) {
  auto whole = memory(sample(), part_bytes, part_bytes == 10 ? 3 : 1);
  const Recognition recognition = recognise(whole->dump());
  return select(std::move(whole), recognition, parse_selection(layers, "", roles));
}

Bytes read_all(DumpReader& reader, std::size_t tensor) {
  const TensorInfo& info = reader.dump().tensors[tensor];
  const std::vector<std::uint64_t> shape = slice_shape(info);
  Bytes out(info.bytes());
  reader.read({tensor, std::vector<std::uint64_t>(shape.size(), 0), shape}, out);
  return out;
}

/// Every tensor of `joined` is that of `whole` of its name, by parts with any number of threads and by read().
void check_same(DumpReader& joined, const MemoryReader& whole) {
  const std::vector<TensorInfo>& tensors = joined.dump().tensors;
  REQUIRE(tensors.size() == whole.dump().tensors.size());
  std::vector<std::vector<Bytes>> values;
  for (const unsigned threads : {1u, 2u, 5u}) values.push_back(test::values_of(joined, threads));
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    CAPTURE(tensors[i].name);
    const auto at = std::ranges::find(whole.dump().tensors, tensors[i]);
    REQUIRE(at != whole.dump().tensors.end());
    const Bytes& original = whole.data(static_cast<std::size_t>(at - whole.dump().tensors.begin()));
    for (const std::vector<Bytes>& some : values) CHECK(some[i] == original);
    CHECK(read_all(joined, i) == original);
  }
}

std::string refusal(Inputs inputs) {
  try {
    join(std::move(inputs));
  } catch (const Error& e) {
    CHECK(e.code() == ErrorCode::invalid_argument);
    return e.what();
  }
  return "none";
}

Dump one_tensor(std::string name, std::vector<Attribute> attributes = {}) {
  return {.tensors = {{std::move(name), DType::f16, {2, 10, 4}}}, .attributes = std::move(attributes)};
}

}  // namespace

TEST_CASE("join: what was selected apart is whole again") {
  const MemoryReader whole(sample());
  for (const std::uint64_t part_bytes : {2u, 10u, 24u, 1000u}) {
    CAPTURE(part_bytes);
    const auto layers =
        join(two(selected(part_bytes, "0-1", "key,value,other"), selected(part_bytes, "2-3", "key,value")));
    // The other tensors have no known layer: a range of layers leaves them in when their role is named.
    check_same(*layers, whole);
    const auto roles = join(two(selected(part_bytes, "", "key"), selected(part_bytes, "", "value,other")));
    check_same(*roles, whole);
    REQUIRE(roles->recognition() != nullptr);
    CHECK(roles->recognition()->recognised == 8);
    CHECK(roles->recognition()->model.layers == 4);
    CHECK(roles->recognition()->tensors[4].role == Role::value);
    std::vector<Attribute> attributes = roles->dump().attributes;
    CHECK(attributes.size() == sample().attributes.size());
    for (const Attribute& attribute : sample().attributes) CHECK(std::ranges::count(attributes, attribute) == 1);
  }
}

TEST_CASE("files come in the order of the numbers in their names") {
  std::vector<std::string> names{"layer.10", "layer.9", "layer.010", "layer.1.x", "layer.1", "layer", "a", "layer.9b"};
  std::ranges::sort(names, numbers_ascend);
  CHECK(names ==
        std::vector<std::string>{"a", "layer", "layer.1", "layer.1.x", "layer.9", "layer.9b", "layer.010", "layer.10"});
}

TEST_CASE("join: files of a layer each may call their tensors alike") {
  const auto layer = [](std::string file) {
    Dump dump;
    dump.tensors = {{"kv_cache", DType::f16, {2, 16, 2, 4}}};
    dump.attributes = {{"kv_cache", "note", {file}, {}, {}, {}}};
    return JoinInput{"folder/" + file + ".safetensors", std::make_unique<MemoryReader>(dump)};
  };
  Inputs files;
  for (const char* name : {"model.layers.0.self_attn.attn", "model.layers.11.self_attn.attn"}) {
    files.push_back(layer(name));
  }
  const auto joined = join(std::move(files));
  CHECK(joined->dump().tensors[1].name == "model.layers.11.self_attn.attn.kv_cache");
  CHECK(joined->dump().attributes[1].object == "model.layers.11.self_attn.attn.kv_cache");
  const Recognition recognition = recognise(joined->dump());
  CHECK(recognition.tensors[0].layer == 0u);
  CHECK(recognition.tensors[1].layer == 11u);
  CHECK(recognition.tensors[1].role == Role::pair);
  files.clear();
  for (const char* name : {"monday", "tuesday"}) files.push_back(layer(name));
  CHECK(refusal(std::move(files)) ==
        "tensor 'kv_cache' is both in folder/monday.safetensors and in "
        "folder/tuesday.safetensors");
}

TEST_CASE("join: a join of joins, and inputs without parts") {
  const MemoryReader whole(sample());
  Inputs inner = two(selected(24, "", "other"), memory(Dump{}));
  Inputs outer = two(selected(10, "0-2", "value,key"), join(std::move(inner)));
  outer.push_back({"c", selected(1000, "3", "key,value")});
  check_same(*join(std::move(outer)), whole);
}

TEST_CASE("join: parts come input by input, and each knows its index") {
  const auto joined = join(two(selected(24, "", "value"), selected(24, "", "key")));
  const auto values = selected(24, "", "value");
  REQUIRE(joined->part_count() == 2 * values->part_count());
  for (std::uint64_t i = 0; i < joined->part_count(); ++i) {
    const Part part = joined->part(i);
    CHECK(part.index == i);
    CHECK((part.slices.at(0).tensor < 4) == (i < values->part_count()));
  }
  CHECK_THROWS_AS(joined->part(joined->part_count()), Error);
  Bytes out(4);
  CHECK_THROWS_AS(joined->read({8, {0}, {4}}, out), Error);
}

TEST_CASE("join: one input is itself, none is refused") {
  auto reader = memory(sample());
  const DumpReader* self = reader.get();
  Inputs inputs;
  inputs.push_back({"a", std::move(reader)});
  CHECK(join(std::move(inputs)).get() == self);
  CHECK(refusal({}) == "nothing to join");
}

TEST_CASE("join: a tensor of two inputs is refused") {
  CHECK(refusal(two(memory(one_tensor("k")), memory(one_tensor("k")))) ==
        "tensor 'k' is both in a.safetensors and in b.safetensors");
}

TEST_CASE("join: a prompt cache of MLX stands alone, as mlx-lm loads no other arrays beside its own") {
  const Dump cache = one_tensor("0.0", {text_attribute("1.0", "KVCache"), text_attribute("2.0", "")});
  for (const bool first : {true, false}) {
    auto a = memory(first ? cache : one_tensor("k")), b = memory(first ? one_tensor("k") : cache);
    CHECK(refusal(two(std::move(a), std::move(b))).find("is a prompt cache of MLX") != std::string::npos);
  }
}

TEST_CASE("join: attributes agree or are refused") {
  const auto attributes = [](std::string format, std::string rope) {
    return std::vector<Attribute>{text_attribute("format", std::move(format)),
                                  text_attribute("rope", std::move(rope), "layers")};
  };
  const auto joined =
      join(two(memory(one_tensor("k", attributes("pt", "post"))), memory(one_tensor("v", attributes("pt", "post")))));
  CHECK(joined->dump().attributes == attributes("pt", "post"));
  CHECK(joined->recognition() == nullptr);
  CHECK(refusal(two(memory(one_tensor("k", attributes("pt", "post"))),
                    memory(one_tensor("v", attributes("np", "post"))))) ==
        "attribute 'format' is not the same in a.safetensors and in b.safetensors");
  CHECK(refusal(
            two(memory(one_tensor("k", attributes("pt", "post"))), memory(one_tensor("v", attributes("pt", "pre"))))) ==
        "attribute 'rope' of 'layers' is not the same in a.safetensors and in b.safetensors");
  // What one input says twice is its own affair.
  auto twice = attributes("pt", "post");
  twice.push_back(text_attribute("format", "np"));
  CHECK(join(two(memory(one_tensor("k", twice)), memory(one_tensor("v"))))->dump().attributes == twice);
}

TEST_CASE("join: containers keep their roles, and must be of one model") {
  const auto container = [](std::string name, std::optional<double> theta, Role role) {
    auto reader = test::sample_reader({{std::move(name), DType::f16, {2, 30, 4}, role, 1, "HTD"}});
    if (theta) reader->stated->model.rope.theta = *theta;
    return reader;
  };
  // Names that tell nothing: what a --map rule said when they were made holds.
  const auto joined = join(two(container("x", 1e4, Role::key), container("y", 1e4, Role::value)));
  REQUIRE(joined->recognition() != nullptr);
  CHECK(joined->recognition()->tensors[0].role == Role::key);
  CHECK(joined->recognition()->tensors[1].role == Role::value);
  CHECK(joined->recognition()->model.rope.theta == 1e4);
  CHECK(joined->recognition()->model.layers == 2);
  CHECK(refusal(two(container("x", 1e4, Role::key), container("y", 5e5, Role::value))).find("not of the same model") !=
        std::string::npos);
  const auto mixed = join(two(container("x", 1e4, Role::key), memory(one_tensor("layers/6/value"))));
  REQUIRE(mixed->recognition() != nullptr);
  CHECK(mixed->recognition()->tensors[1].layer == 6);
  CHECK(mixed->recognition()->model.layers == 7);
}

TEST_CASE("join: real containers, by parts and by random access, and an error that names its file") {
  const auto whole = test::sample_reader(test::sample_specs(3, 50));
  const auto first = test::sample_reader({test::sample_specs(3, 50)[1]});
  const auto second = test::sample_reader({test::sample_specs(3, 50)[0], test::sample_specs(3, 50)[2]});
  const KvzOptions options = test::options_of("key = planes,zstd\nvalue = planes,zstd", 16);
  Bytes a = test::compressed(*first, options), b = test::compressed(*second, options);
  const test::MemoryFile file_a(a), file_b(b);
  const auto joined = join(two(open_kvz(file_a.path()), open_kvz(file_b.path())));
  CHECK(test::values_of(*joined, 5) == std::vector<Bytes>{first->data(0), second->data(0), second->data(1)});
  for (std::size_t t = 0; t < 3; ++t) CHECK(read_all(*joined, t) == test::values_of(*joined)[t]);
  CHECK(joined->traits().container == nullptr);
  CHECK(joined->traits().chunk_tokens == 16);
  CHECK_FALSE(joined->traits().once);
  CHECK(open_kvz(file_a.path())->traits().container != nullptr);

  file_b.flip(8 * (b.size() / 2));  // in a frame
  try {
    test::values_of(*joined, 2);
    FAIL("no error");
  } catch (const Error& e) {
    CHECK(std::string(e.what()).starts_with(file_b.path() + ": "));  // a container knows its own
  }
}

TEST_CASE("join: an error that names no file gets the name of its input") {
  class Torn final : public BorrowedReader {
   public:
    using BorrowedReader::BorrowedReader;
    void read(const Slice&, std::span<std::byte>) override { fail(ErrorCode::corrupt, "torn"); }
    void fetch(Part&) override { fail(ErrorCode::corrupt, "torn"); }
  };
  const auto first = test::sample_reader({test::sample_specs(3, 50)[1]});
  const auto second = test::sample_reader({test::sample_specs(3, 50)[0], test::sample_specs(3, 50)[2]});
  const auto joined = join(two(std::make_unique<BorrowedReader>(*first), std::make_unique<Torn>(*second)));
  const auto text = [](const std::function<void()>& f) {
    try {
      f();
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  CHECK(text([&] { test::values_of(*joined, 2); }) == "b.safetensors: torn");
  CHECK(text([&] { read_all(*joined, 1); }) == "b.safetensors: torn");
  CHECK(text([&] { read_all(*joined, 0); }).empty());
}

TEST_CASE("join: frames of HDF5 files stay behind, and what stays behind is said") {
  const auto framed = [](std::string name) {
    Dump dump = one_tensor(std::move(name), {text_attribute("of", "00", "kvzip.hdf5")});
    dump.tensors.insert(dump.tensors.begin(), {"kvzip.hdf5", DType::u8, {100}});
    return dump;
  };
  for (const std::uint64_t part_bytes : {24u, 1000u}) {
    const MemoryReader a(framed("layers/0/key")), b(framed("layers/0/value"));
    const auto joined = join(two(memory(a.dump(), part_bytes, 3), memory(b.dump(), part_bytes, 3)));
    CHECK(joined->dump().tensors == std::vector<TensorInfo>{a.dump().tensors[1], b.dump().tensors[1]});
    CHECK(joined->dump().attributes.empty());
    CHECK(joined->recognition() == nullptr);
    CHECK(test::values_of(*joined, 2) == std::vector<Bytes>{a.data(1), b.data(1)});
    CHECK(read_all(*joined, 1) == b.data(1));
    CHECK(left_out_of(*joined) ==
          std::vector<std::string>{"tensor 'kvzip.hdf5' of a.safetensors", "tensor 'kvzip.hdf5' of b.safetensors"});
  }
  const auto attributes = [](const char* rope) { return std::vector<Attribute>{text_attribute("rope", rope)}; };
  const auto mixed =
      join(two(memory(one_tensor("k", attributes("post"))), memory(one_tensor("v", attributes("pre")))), true);
  CHECK(left_out_of(*mixed) ==
        std::vector<std::string>{"attribute 'rope' of b.safetensors (not that of a.safetensors)"});
  CHECK(left_out_of(*join(two(memory(one_tensor("k")), memory(one_tensor("v"))))).empty());
}
