// SPDX-License-Identifier: Apache-2.0
// MatryoshkaKV (arXiv 2410.14731): components of all heads by energy, and files that are cut to fewer of them.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>

#include "kvzip/cut.hpp"
#include "tests/contract/reference_drive.hpp"

using namespace kvzip;
using namespace kvzip::test;
namespace ref = kvzip::reference;

namespace {

constexpr std::size_t kTokens = 64, kHeads = 2, kDim = 8;
constexpr std::array<std::array<double, kDim>, kHeads> kLengths{
    {{40, 30, 12, 6, 3, 2, 1, 0.5}, {35, 10, 8, 7, 2.5, 1.5, 0.8, 0.4}}};

/// Entry of a Hadamard matrix: rows and columns are orthogonal.
double sign(std::size_t i, std::size_t j) {
  std::size_t common = i & j;
  bool odd = false;
  for (; common != 0; common &= common - 1) odd = !odd;
  return odd ? -1 : 1;
}
/// Component k of head h has the direction of row k, the course of row 1 + 8 h + k along the tokens, and its length.
/// Both are orthogonal to all others, so that these are the principal components. `kept`: how many of each head.
Matrix components(std::array<std::size_t, kHeads> kept) {
  Matrix m{kTokens, kHeads, kDim, std::vector<float>(kTokens * kHeads * kDim)};
  for (std::size_t r = 0; r < kTokens; ++r) {
    for (std::size_t h = 0; h < kHeads; ++h) {
      for (std::size_t c = 0; c < kDim; ++c) {
        double x = 0;
        for (std::size_t k = 0; k < kept[h]; ++k) x += kLengths[h][k] * sign(1 + 8 * h + k, r) * sign(k, c);
        m.at(r, h * kDim + c) = static_cast<float>(x / std::sqrt(8.0) / 8);
      }
    }
  }
  return m;
}
/// Of each head, by energy: 40, 35, 30, 12, 10, 8, 7, 6 and so on.
constexpr std::array<std::size_t, kHeads> kThree{2, 1}, kFour{3, 1}, kEight{4, 4}, kAll{8, 8};

double worst(const std::vector<float>& a, const std::vector<float>& b) {
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) most = std::max(most, std::fabs(double{a[i]} - b[i]));
  return most;
}

/// Keys and values of one layer in a container, as bytes decode.
std::string rules_of(std::string_view pipeline) {
  return fmt::format("chunk = 8192\nkey = {0}\nvalue = {0}", pipeline);
}
void write_rules(const std::string& path, const Matrix& m, std::string_view pipeline) {
  const Dump dump = dump_like(m, 1, DType::f32);
  const Recognition recognition = recognise(dump, {.map = {}, .layout = "BHTD"});
  MemoryReader source(dump, std::uint64_t{1} << 20);
  for (std::size_t i = 0; i < 2; ++i) source.data(i) = elements_of(head_first(m), DType::f32);
  const auto writer =
      create_kvz_writer(path, dump, recognition, {RuleSet::parse(rules_of(pipeline), "rules"), {}, {}}, false);
  transcode(source, *writer, 1);
  writer->finish();
}
std::vector<float> first_tensor(const std::string& path, const Matrix& like) {
  const auto reader = open_kvz(path);
  const TensorInfo& info = reader->dump().tensors.at(0);
  Bytes bytes(info.bytes());
  reader->read({0, {0, 0, 0, 0}, info.shape}, bytes);
  return token_first(values_of(bytes, DType::f32), like).v;
}

}  // namespace

TEST_CASE("matryoshka: heads get their ranks from one budget, by energy") {
  const Matrix m = components(kAll);
  const auto decoded = [&](double share) {
    return through_pipeline(fmt::format("nested:share={},pack", share), Role::key, m, DType::f32).values;
  };
  CHECK(worst(decoded(3.0 / 16), components(kThree).v) < 0.01);
  CHECK(worst(decoded(4.0 / 16), components(kFour).v) < 0.01);
  CHECK(worst(decoded(8.0 / 16), components(kEight).v) < 0.01);
  CHECK(worst(decoded(1), m.v) < 0.02);
  CHECK(worst(decoded(3.0 / 16), components(kFour).v) > 0.3);
}

TEST_CASE("matryoshka: sizes are those of the formula") {
  const Matrix m = ref::synthetic(1000, 2, 64, ref::kHalf, 95);
  const Decoded out = through_pipeline(preset_text("matryoshka", Role::key), Role::key, m, DType::f16);
  // Means; 51 of 128 components, each with a head, a direction and a number for each token.
  const double bits = 128 * 16 + 51 * (16 + 64 * 16 + 1000 * 16.0);
  MESSAGE(fmt::format("matryoshka: {} bits, formula {}", out.payload * 8, bits));
  CHECK(std::fabs(static_cast<double>(out.payload) * 8 / bits - 1) < 0.02);
}

TEST_CASE("a container that is cut decodes to the leading components, as if it had been written so") {
  const Matrix m = components(kAll);
  for (const std::string_view text :
       {"nested:share={},pack", "nested:share={}:bits=8,rans",
        "window:sink=2:recent=3,norm:kind=none:center=mean,nested:share={}:group=16:bits=8,ac"}) {
    CAPTURE(text);
    const auto pipeline = [&](double share) { return fmt::format(fmt::runtime(text), share); };
    const ScratchDirectory scratch;
    const std::string large = scratch.file("large.kvz"), cut = scratch.file("cut.kvz"),
                      small = scratch.file("small.kvz");
    write_rules(large, m, pipeline(0.5));
    write_rules(small, m, pipeline(0.25));
    cut_kvz(large, cut, 0.25, false);
    CHECK(verify_kvz(cut, 1, {}).empty());
    CHECK(std::filesystem::file_size(cut) < std::filesystem::file_size(large));
    const std::vector<float> values = first_tensor(cut, m);
    CHECK(worst(values, first_tensor(small, m)) < 1e-6);
    if (text.starts_with("nested")) CHECK(worst(values, components(kFour).v) < 0.2);
    CHECK(open_kvz(cut)->description().groups[0].pipeline == open_kvz(small)->description().groups[0].pipeline);
    // What is cut can be cut again, and never grows.
    cut_kvz(cut, large, 0.9, true);
    CHECK(first_tensor(large, m) == values);
    cut_kvz(cut, large, 0, true);
    CHECK(std::filesystem::file_size(large) < std::filesystem::file_size(cut));
  }
}

TEST_CASE("a container that is written to while it is cut leaves no file") {
  const Matrix m = components(kAll);
  const ScratchDirectory scratch;
  const std::string path = scratch.file("a.kvz"), out = scratch.file("b.kvz");
  write_rules(path, m, "nested,pack");
  const auto touch = [&](std::uint64_t, std::uint64_t) { std::ofstream(path, std::ios::app) << 'x'; };
  CHECK_THROWS_WITH_AS(cut_kvz(path, out, 0.25, false, touch),
                       doctest::Contains("a.kvz: the file was written to while it was read"), Error);
  CHECK_FALSE(std::filesystem::exists(out));
}

TEST_CASE("what cannot be cut is refused, and leaves no file") {
  const Matrix m = components(kAll);
  const ScratchDirectory scratch;
  const std::string path = scratch.file("a.kvz"), out = scratch.file("b.kvz");
  for (const std::string_view text : {"quant,pack", "nested,quant,pack", "carry,nested,pack"}) {
    write_rules(path, m, text);
    CHECK_THROWS_AS(cut_kvz(path, out, 0.25, false), Error);
    CHECK_FALSE(std::filesystem::exists(out));
    std::filesystem::remove(path);
  }
}

TEST_CASE("cutting damaged frames fails with an error or not at all") {
  const Matrix m = components(kAll);
  const TileContext context = context_of(m, Role::key, DType::f32);
  for (const std::string text : {"nested:share=0.5,pack", "nested:share=0.5:bits=3,rans"}) {
    Pipeline p = Pipeline::parse(text);
    p.resolve(context, shape_of(m));
    const Bytes payload = p.encode(context, shape_of(m), elements_of(m.v, DType::f32));
    std::size_t refused = 0;
    for (std::size_t i = 0; i < payload.size(); i += 3) {
      for (const Bytes& damaged : {Bytes(payload.begin(), payload.begin() + static_cast<std::ptrdiff_t>(i)), [&] {
                                     Bytes flipped = payload;
                                     flipped[i] ^= std::byte{0x41};
                                     return flipped;
                                   }()}) {
        try {
          p.cut(context, shape_of(m), damaged, 0.2);
        } catch (const Error&) {
          ++refused;
        }
      }
    }
    CHECK(refused > payload.size() / 3);  // every one that is too short
  }
}
