// SPDX-License-Identifier: Apache-2.0
// Containers in the order of tokens: what they decode to, and where the first tokens stand.
#include <doctest/doctest.h>

#include <filesystem>

#include "formats/borrowed_reader.hpp"
#include "formats/selection.hpp"
#include "kvzip/container.hpp"
#include "kvzip/error.hpp"
#include "tests/contract/sample_dumps.hpp"
#include "tests/unit/scratch_directory.hpp"

namespace kvzip::test {
namespace {

constexpr std::string_view kExact = "key = planes,ac\nvalue = planes,ac";
constexpr std::uint64_t kTokens = 40;

std::unique_ptr<MemoryReader> dump_of(std::uint64_t tokens = kTokens) {
  return sample_reader(sample_specs(2, tokens));
}

struct Written {
  Bytes file;
  std::uint64_t together = 0;
};
Written by_tokens(MemoryReader& reader, const KvzOptions& options, std::uint64_t tokens, unsigned threads = 1) {
  const ScratchDirectory scratch;
  const std::string path = scratch.file("a.kvz");
  Written out;
  out.together = compress_by_tokens(path, reader, *reader.recognition(), options, tokens, threads, false);
  out.file = file_bytes(path);
  return out;
}

std::unique_ptr<DumpReader> part_of(MemoryReader& reader, std::uint64_t first, std::uint64_t end) {
  Selection selection;
  selection.tokens = {first, end};
  if (first > 0) selection.roles = {Role::key, Role::value};
  return select(std::make_unique<BorrowedReader>(reader), *reader.recognition(), selection);
}

std::string refusal(MemoryReader& reader, std::uint64_t tokens, std::optional<std::uint64_t> chunk = {}) {
  const ScratchDirectory scratch;
  const std::string path = scratch.file("a.kvz");
  try {
    compress_by_tokens(path, reader, *reader.recognition(), options_of(kExact, chunk), tokens, 1, false);
  } catch (const Error& error) {
    CHECK(!std::filesystem::exists(path));
    return error.what();
  }
  return {};
}

}  // namespace

TEST_CASE("in the order of tokens a dump decodes to what it does in that of layers") {
  const auto reader = dump_of();
  for (const std::string_view rules :
       {kExact, std::string_view("key = quant:bits=4,pack\nvalue = delta,quant:bits=3,rans"),
        std::string_view("restart = 2\nkey = carry,uniform,rans\nvalue = adapt:step=0.3,rans")}) {
    CAPTURE(rules);
    KvzOptions options = options_of(rules, 4);
    options.saliency = std::make_shared<Saliency>(measure_saliency(*reader, *reader->recognition()));
    const std::vector<Bytes> want = decompressed(compressed(*reader, options));
    for (const std::uint64_t tokens : {1u, 8u, 12u, 32u}) {
      CAPTURE(tokens);
      const Written got = by_tokens(*reader, options, tokens, 3);
      CHECK(decompressed(got.file) == want);
      CHECK(by_tokens(*reader, options, tokens).file == got.file);
      const auto container = open_kvz(ByteView(got.file));
      const KvzSummary summary = container->summary();
      CHECK(summary.appended + 1 == (kTokens + got.together - 1) / got.together);
      CHECK(container->dump().tensors == reader->dump().tensors);
      const MemoryFile file(got.file);
      CHECK(verify_kvz(file.path(), 1, {}).empty());
    }
  }
}

TEST_CASE("the first tokens are a container of their own at the front, and each next one is appended") {
  const auto reader = dump_of();
  const KvzOptions options = options_of(kExact, 4);
  const Written got = by_tokens(*reader, options, 16);
  CHECK(got.together == 16);
  const ScratchDirectory scratch;
  const std::string path = scratch.file("grown.kvz");
  const auto first = part_of(*reader, 0, 16);
  const auto writer = create_kvz_writer(path, first->dump(), *first->recognition(), options, false);
  transcode(*first, *writer, 1);
  writer->finish();
  for (const auto& [begin, end] : {std::pair<std::uint64_t, std::uint64_t>{16, 32}, {32, 40}}) {
    const auto next = part_of(*reader, begin, end);
    append_kvz(path, *next, *next->recognition(), options, 1);
  }
  CHECK(file_bytes(path) == got.file);
}

TEST_CASE("opening a file of several containers follows none of their records") {
  class Counting final : public Source {
   public:
    Counting(const Bytes& bytes, std::size_t& calls) : bytes_(bytes), calls_(calls) {}
    std::uint64_t size() const override { return bytes_.size(); }
    void read_at(std::uint64_t offset, std::span<std::byte> out) const override {
      ++calls_;
      std::copy_n(bytes_.begin() + static_cast<std::ptrdiff_t>(offset), out.size(), out.begin());
    }

   private:
    const Bytes& bytes_;
    std::size_t& calls_;
  };
  const auto reader = dump_of();
  const Written got = by_tokens(*reader, options_of(kExact, 1), 20);
  std::size_t calls = 0;
  const auto container = open_kvz(std::make_unique<Counting>(got.file, calls));
  CHECK(container->description().appended == 1);
  CHECK(calls < 60);  // of 160 frames
}

TEST_CASE("tokens that stand together are whole frames, or lie between restart points") {
  const auto reader = dump_of();
  const auto together = [&](std::string_view rules, std::optional<std::uint64_t> chunk, std::uint64_t tokens) {
    return by_tokens(*reader, options_of(rules, chunk), tokens).together;
  };
  constexpr std::string_view kChained = "restart = 3\nkey = carry,uniform,rans\nvalue = planes,ac";
  CHECK(together(kExact, 4, 1) == 4);
  CHECK(together(kExact, 4, 4) == 4);
  CHECK(together(kExact, 4, 5) == 8);
  CHECK(together(kChained, 4, 1) == 12);
  CHECK(together(kChained, 4, 13) == 24);
  // All of them: the container is as in the order of layers.
  for (const auto& [chunk, tokens] :
       {std::pair<std::uint64_t, std::uint64_t>{4, 40}, {4, 37}, {4, ~std::uint64_t{0}}, {0, 1}, {64, 2}}) {
    const Written got = by_tokens(*reader, options_of(kExact, chunk), tokens);
    CHECK(got.together == kTokens);
    CHECK(got.file == compressed(*reader, options_of(kExact, chunk)));
  }
}

TEST_CASE("what has no order of tokens is refused before anything is written") {
  auto specs = sample_specs(2, 8);
  specs[1].shape[1] = 7;
  const auto uneven = sample_reader(specs);
  CHECK(refusal(*uneven, 4).find("'layers.0.key' has 7 tokens, and others have 8") != std::string::npos);
  const auto none = sample_reader({{"scale", DType::f32, {3}, Role::other, {}, ""}});
  CHECK(refusal(*none, 4).find("no keys or values") != std::string::npos);
  const auto query = sample_reader({{"layers.0.key", DType::f16, {2, 8, 4}, Role::key, 0, "HTD"},
                                    {"layers.0.query", DType::f16, {2, 3, 4}, Role::query, 0, "HTD"}});
  CHECK(refusal(*query, 4).find("'layers.0.query' has 3 tokens") != std::string::npos);
  const auto many = sample_reader({{"layers.0.key", DType::f16, {1, 65537, 1}, Role::key, 0, "HTD"}});
  CHECK(refusal(*many, 1, 1).find("more than 65536 containers") != std::string::npos);
}

}  // namespace kvzip::test
