// SPDX-License-Identifier: Apache-2.0
// Dumps through a container and back: dtypes, shapes, layouts, threads, pipes, random access.
#include <fmt/format.h>

#include <doctest/doctest.h>

#include <set>
#include <thread>

#include "formats/boxes.hpp"
#include "formats/parts.hpp"
#include "kvzip/error.hpp"
#include "tests/contract/sample_dumps.hpp"
#include "tests/support/container_parts.hpp"

namespace kvzip::test {
namespace {

constexpr std::string_view kLossless = "key = planes,ac\nvalue = planes,zstd\nquery = planes,pack";
constexpr std::string_view kKivi =
    "key = window:recent=8:rule=modulo,quant:bits=2:axis=channel:group=4,pack\n"
    "value = window:recent=8,quant:bits=2:axis=token-head:group=4,pack";

/// Where a tensor's element comes from: sequence (kind, layer, batch) and place in it.
struct Place {
  std::array<std::uint64_t, 3> sequence;
  std::uint64_t head, token, dim;
};

constexpr std::uint64_t kHeads = 3, kTokens = 21, kDim = 4, kLayers = 2, kBatch = 2;

std::uint64_t extent(char axis) {
  switch (axis) {
    case 'B':
      return kBatch;
    case 'L':
      return kLayers;
    case '2':
      return 2;
    case 'H':
      return kHeads;
    case 'T':
      return kTokens;
    case 'D':
      return kDim;
    default:
      return kHeads * kDim;
  }
}

std::vector<Place> places(const std::string& axes) {
  std::uint64_t count = 1;
  for (const char a : axes) count *= extent(a);
  std::vector<Place> out;
  for (std::uint64_t i = 0; i < count; ++i) {
    Place p{{0, 0, 0}, 0, 0, 0};
    std::uint64_t rest = i;
    for (std::size_t a = axes.size(); a-- > 0; rest /= extent(axes[a])) {
      const std::uint64_t at = rest % extent(axes[a]);
      if (axes[a] == '2') p.sequence[0] = at;
      if (axes[a] == 'L') p.sequence[1] = at;
      if (axes[a] == 'B') p.sequence[2] = at;
      if (axes[a] == 'H') p.head = at;
      if (axes[a] == 'T') p.token = at;
      if (axes[a] == 'D') p.dim = at;
      if (axes[a] == 'C') p.head = at / kDim, p.dim = at % kDim;
    }
    out.push_back(p);
  }
  return out;
}

std::size_t htd_index(const Place& p) {
  return (p.head * kTokens + p.token) * kDim + p.dim;
}

}  // namespace

TEST_CASE("every dtype, scalars, empty tensors and attributes come back") {
  std::vector<Spec> specs;
  for (const DType type : all_dtypes()) {
    const std::string name(dtype_name(type));
    specs.push_back({"pass/" + name, type, {3, 8}, Role::other, {}, ""});
    specs.push_back({"empty/" + name, type, {3, 0, 8}, Role::other, {}, ""});
    if (dtype_bits(type) >= 8) specs.push_back({"scalar/" + name, type, {}, Role::other, {}, ""});
    if (is_codable_float(type)) {
      const auto layer = static_cast<std::uint32_t>(type);
      specs.push_back({"k/" + name, type, {2, 5, 4}, Role::key, layer, "HTD"});
      specs.push_back({"v/" + name, type, {5, 8}, Role::value, layer, "TC"});
      specs.push_back({"none/" + name, type, {2, 0, 4}, Role::key, layer, "HTD"});
      specs.push_back({"one/" + name, type, {1, 1, 1}, Role::query, layer, "HTD"});
    }
  }
  specs.push_back({"\xc3\xa9\xe2\x82\xac \"quoted\\\n", DType::u8, {1}, Role::other, {}, ""});
  auto reader = sample_reader(specs, Fill::specials);
  Dump& mutable_dump = const_cast<Dump&>(reader->dump());
  mutable_dump.attributes = {text_attribute("format", "pt"),
                             text_attribute("n", std::string("\xff\0 not UTF-8", 12), "pass/F16"),
                             {"group", "", {}, {}, {}, {}},
                             {"", "many", {"a", "b", "c", "d", "", "f"}, {}, {2, 3}, {}},
                             {"", "none", {}, {}, {0}, {}},
                             {"", "pi", {}, DType::f64, {}, Bytes(8, std::byte{0x40})},
                             {"", "ids", {}, DType::i16, {3}, Bytes(6, std::byte{7})}};
  for (const std::string_view rules :
       {kLossless, std::string_view("other = planes,ac\nkey = planes,pack\nvalue = planes,pack")}) {
    const Bytes container = compressed(*reader, options_of(rules, 2));
    CHECK(decompressed(container, 2) == originals(*reader));
    CHECK(decompressed_stream(container) == originals(*reader));
    const MemoryFile file(container);
    const auto opened = open_kvz(file.path());
    CHECK(opened->dump().tensors == reader->dump().tensors);
    CHECK(opened->dump().attributes == reader->dump().attributes);
    for (std::size_t i = 0; i < specs.size(); ++i) {
      CHECK(opened->recognition()->tensors[i].role == specs[i].role);
      CHECK(opened->recognition()->tensors[i].axes == Axes(specs[i].axes));
      CHECK(opened->recognition()->tensors[i].layer == specs[i].layer);
    }
    CHECK(opened->description().user == std::vector<std::pair<std::string, std::string>>{{"key", "value"}});
    CHECK(verify_kvz(file.path(), 2, {}).empty());
  }
}

TEST_CASE("dumps with nothing in them come back, from files and pipes, and only whole") {
  for (const std::vector<Spec>& specs :
       {std::vector<Spec>{}, std::vector<Spec>{{"empty", DType::f16, {0, 4}, Role::key, 0, "TC"}}}) {
    auto reader = sample_reader(specs);
    const Bytes container = compressed(*reader, options_of(kLossless));
    CHECK(decompressed(container) == originals(*reader));
    CHECK(decompressed_stream(container) == originals(*reader));
    for (std::size_t n = 0; n < container.size(); ++n) {
      CHECK_THROWS_AS(decompressed_stream(ByteView(container).first(n)), Error);
    }
  }
}

TEST_CASE("files and decoded values do not depend on the number of threads") {
  for (const PresetText& preset : builtin_presets()) {
    CAPTURE(preset.name);
    auto reader = sample_reader(sample_specs(3, 150));
    KvzOptions options{RuleSet::builtin(preset.name), {}, {}};
    if (!options.rules.chunk_tokens) options.chunk_tokens = 32;
    const Bytes one = compressed(*reader, options, 1);
    const auto values = decompressed(one, 1);
    for (const unsigned threads : {2u, 5u}) {
      CHECK(compressed(*reader, options, threads) == one);
      CHECK(decompressed(one, threads) == values);
    }
    CHECK(decompressed_stream(one) == values);
  }
}

TEST_CASE("nor do those of tiles that fill the lanes of rans and pay for its table") {
  for (const PresetText& preset : builtin_presets()) {
    if (preset.text.find("rans") == std::string_view::npos) continue;
    CAPTURE(preset.name);
    auto reader = sample_reader(sample_specs(2, 300, DType::bf16, 2, 64));
    const KvzOptions options{RuleSet::builtin(preset.name), 128, {}};
    const Bytes one = compressed(*reader, options, 1);
    const auto values = decompressed(one, 1);
    for (const unsigned threads : {2u, 5u}) {
      CHECK(compressed(*reader, options, threads) == one);
      CHECK(decompressed(one, threads) == values);
    }
  }
}

TEST_CASE("every layout is stored as the same tiles") {
  // The sequences alone, in the plainest layout.
  std::vector<Spec> plain;
  for (std::uint64_t kind = 0; kind < 2; ++kind) {
    for (std::uint32_t l = 0; l < kLayers; ++l) {
      for (std::uint64_t b = 0; b < kBatch; ++b) {
        const Role role = kind == 0 ? Role::key : Role::value;
        plain.push_back({fmt::format("{}.{}.{}", kind, l, b), DType::f16, {kHeads, kTokens, kDim}, role, l, "HTD"});
      }
    }
  }
  auto reader = sample_reader(plain);
  reader->stated->model.head_dim = kDim;
  const auto index = [](const Place& p) { return (p.sequence[0] * kLayers + p.sequence[1]) * kBatch + p.sequence[2]; };
  const std::vector<Bytes> exact = originals(*reader);
  const std::vector<Bytes> coarse = decompressed(compressed(*reader, options_of(kKivi, 16)));
  CHECK(exact != coarse);

  for (const std::string axes : {"HTD", "THD", "TC", "CT", "HDT", "DHT", "BHTD", "BTHD", "TBHD", "LBHTD", "2LTHD",
                                 "L2THD", "HTD2", "2LBTC", "DTH2LB"}) {
    CAPTURE(axes);
    const bool pair = axes.find('2') != std::string::npos, layers = axes.find('L') != std::string::npos;
    const auto from = places(axes);
    const auto arranged = [&](const std::vector<Bytes>& sequences) {
      Bytes data(from.size() * 2);
      for (std::size_t i = 0; i < from.size(); ++i) {
        std::memcpy(data.data() + i * 2, sequences[index(from[i])].data() + htd_index(from[i]) * 2, 2);
      }
      return data;
    };
    Spec spec{"tensor", DType::f16, {}, pair ? Role::pair : Role::key, {}, axes};
    if (!layers) spec.layer = 0;
    for (const char a : axes) spec.shape.push_back(extent(a));
    auto other = sample_reader({spec});
    other->stated->model.layers = kLayers;
    other->stated->model.head_dim = kDim;
    other->data(0) = arranged(exact);
    CHECK(decompressed(compressed(*other, options_of(kLossless, 16)))[0] == arranged(exact));
    CHECK(decompressed(compressed(*other, options_of(kKivi, 16)))[0] == arranged(coarse));
  }
}

TEST_CASE("any box can be read on its own") {
  std::vector<Spec> specs = sample_specs(2, 37);
  specs.push_back({"stack", DType::bf16, {2, 2, 19, 3, 4}, Role::pair, {}, "2LTHD"});
  specs.push_back({"bits", DType::f4, {6, 7}, Role::other, {}, ""});
  specs.push_back({"large", DType::u16, {700, 1000}, Role::other, {}, ""});
  auto reader = sample_reader(specs);
  const Bytes container = compressed(*reader, options_of(kKivi, 8));
  const auto whole = decompressed(container);
  const MemoryFile file(container);
  const auto opened = open_kvz(file.path());
  Random random(3);
  for (int i = 0; i < 400; ++i) {
    const std::size_t t = random.below(specs.size());
    const TensorInfo& info = opened->dump().tensors[t];
    Slice slice{t, {}, {}};
    for (const std::uint64_t n : slice_shape(info)) {
      slice.start.push_back(random.below(n));
      slice.count.push_back(random.below(4) == 0 ? n - slice.start.back() : 1 + random.below(n - slice.start.back()));
    }
    Bytes out(slice_bytes(opened->dump(), slice));
    opened->read(slice, out);
    CHECK(out == gather(info, whole[t], slice));
  }
  Bytes byte(1);
  CHECK_THROWS_AS(opened->read({1, {0, 0, 0}, {1, 1, 1}}, byte), Error);   // two bytes
  CHECK_THROWS_AS(opened->read({1, {0, 37, 0}, {1, 1, 1}}, byte), Error);  // beyond the tensor
  CHECK_THROWS_AS(opened->read({99, {0, 0, 0}, {1, 1, 1}}, byte), Error);
}

TEST_CASE("reading a box touches the frames that hold it and no others") {
  auto reader = sample_reader(sample_specs(2, 64));
  const Bytes container = compressed(*reader, options_of(kLossless, 16));
  const auto whole = decompressed(container);
  const MemoryFile sound(container);
  const auto plan = open_kvz(sound.path());
  const std::vector<Slice> slices{{1, {0, 20, 0}, {2, 5, 4}}, {4, {1, 31, 0}, {1, 2, 4}}, {2, {0, 0, 3}, {1, 64, 1}}};
  for (const Slice& slice : slices) {
    // Every other frame's payload is damaged; the records around it stay in order.
    auto records = take_apart(container);
    std::uint64_t frame = 0, touched = 0;
    std::vector<std::uint64_t> flips;
    std::uint64_t at = kPreludeBytes;
    for (const RawRecord& r : records) {
      if (r.type == record_type(RecordType::frame)) {
        const Part part = plan->part(frame++);
        const bool needed = std::any_of(part.slices.begin(), part.slices.end(),
                                        [&](const Slice& s) { return intersect(s, slice).has_value(); });
        touched += needed;
        if (!needed) flips.push_back((at + kRecordHeaderBytes) * 8);
      }
      at += kRecordHeaderBytes + r.payload.size() + kRecordTailBytes;
    }
    CHECK(touched == (slice.count[1] == 64 ? 4u : slice.start[1] == 31 ? 2u : 1u));
    const MemoryFile file(container);
    for (const std::uint64_t bit : flips) file.flip(bit);
    const auto opened = open_kvz(file.path());
    const TensorInfo& info = opened->dump().tensors[slice.tensor];
    Bytes out(slice_bytes(opened->dump(), slice));
    opened->read(slice, out);
    CHECK(out == gather(info, whole[slice.tensor], slice));
    CHECK(verify_kvz(file.path(), 2, {}).size() == flips.size());
  }
}

TEST_CASE("a container goes through a pipe in both directions") {
  auto reader = sample_reader(sample_specs(2, 50));
  const Bytes container = compressed(*reader, options_of(kKivi, 16));
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const FileDescriptor out(ends[0]);
  std::thread feed([&, fd = ends[1]] {
    for (std::size_t at = 0; at < container.size();) {  // in small, odd pieces
      const std::size_t n = std::min<std::size_t>(container.size() - at, 37);
      if (::write(fd, container.data() + at, n) != static_cast<ssize_t>(n)) break;
      at += n;
    }
    ::close(fd);
  });
  InputStream stream(out.get(), "pipe");
  const auto opened = open_kvz(stream);
  Part first = opened->part(0);
  Bytes some(8);
  CHECK_THROWS_AS(opened->read({0, {0, 0}, {1, 1}}, some), Error);
  CHECK_THROWS_AS(opened->summary(), Error);
  CHECK(values_of(*opened) == decompressed(container));
  feed.join();
}

}  // namespace kvzip::test
