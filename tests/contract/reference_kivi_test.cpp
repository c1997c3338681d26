// SPDX-License-Identifier: Apache-2.0
// KIVI (arXiv 2402.02750): decoded values against the formulas, and the two rules of the recent window.
#include <fmt/format.h>

#include "tests/contract/reference_drive.hpp"

using namespace kvzip;
using namespace kvzip::test;
namespace ref = kvzip::reference;

namespace {

constexpr std::size_t kGroup = 32, kWindow = 128;

/// Keys: the first floor(T / R) R tokens in groups of g tokens per channel; the last T mod R stay.
std::vector<float> kivi_key(const Matrix& m, int bits, const Format& f) {
  const std::size_t quantised = m.rows / kWindow * kWindow;
  auto x = ref::asymmetric(m.v, ref::along_tokens(m, 0, quantised, kGroup), bits);
  ref::to_format(x, f);
  return x;
}
/// Values: all but the last R tokens in groups of g channels of a head per token.
std::vector<float> kivi_value(const Matrix& m, int bits, const Format& f) {
  const std::size_t quantised = m.rows - std::min(m.rows, kWindow);
  auto x = ref::asymmetric(m.v, ref::along_channels(m, 0, quantised, m.dim, kGroup), bits);
  ref::to_format(x, f);
  return x;
}

std::size_t exact_rows(const Matrix& a, const Matrix& b) {
  std::size_t count = 0;
  for (std::size_t r = 0; r < a.rows; ++r) {
    const auto row = static_cast<std::ptrdiff_t>(r * a.cols()), next = static_cast<std::ptrdiff_t>((r + 1) * a.cols());
    count += std::equal(a.v.begin() + row, a.v.begin() + next, b.v.begin() + row);
  }
  return count;
}

}  // namespace

TEST_CASE("kivi: decoded values are those of the formulas") {
  for (const int bits : {2, 4}) {
    const std::string preset = fmt::format("kivi-{}", bits);
    for (const DType dtype : {DType::f16, DType::bf16, DType::f32}) {
      CAPTURE(preset);
      CAPTURE(dtype_name(dtype));
      const Format& f = format_of(dtype);
      // 300 tokens: two full windows of keys; head_dim 80 ends each head with a short group of values.
      const Matrix key = ref::synthetic(300, 3, 64, f, 1), value = ref::synthetic(300, 3, 80, f, 2);
      const auto k = through_pipeline(preset_text(preset, Role::key), Role::key, key, dtype);
      const auto v = through_pipeline(preset_text(preset, Role::value), Role::value, value, dtype);
      CHECK_FALSE(k.sizes.raw);
      CHECK_FALSE(v.sizes.raw);
      CHECK(differences(k.values, kivi_key(key, bits, f)) == 0);
      CHECK(differences(v.values, kivi_value(value, bits, f)) == 0);
      CHECK(differences(k.values, key.v) > key.v.size() / 2);
      CHECK(differences(v.values, value.v) > value.v.size() / 3);
    }
  }
}

TEST_CASE("kivi: the recent window for lengths around multiples of 128") {
  for (const std::size_t tokens : {0u, 1u, 31u, 127u, 128u, 129u, 255u, 256u, 257u, 300u, 384u}) {
    CAPTURE(tokens);
    const Matrix key = ref::synthetic(tokens, 2, 64, ref::kHalf, 10 + tokens);
    const Matrix value = ref::synthetic(tokens, 2, 64, ref::kHalf, 20 + tokens);
    // The preset's chunk of 256 tokens, one chunk over the whole sequence, and chunks that end inside a window.
    const Layer chunks = through_file("kivi-2", {key, value}, DType::f16);
    const Layer whole = through_file("kivi-2", {key, value}, DType::f16, 0);
    const Layer uneven = through_file("kivi-2", {key, value}, DType::f16, 96);
    CHECK(differences(uneven.key.v, whole.key.v) == 0);
    CHECK(differences(uneven.value.v, whole.value.v) == 0);
    CHECK(differences(chunks.key.v, whole.key.v) == 0);
    CHECK(differences(chunks.value.v, whole.value.v) == 0);
    CHECK(differences(chunks.key.v, kivi_key(key, 2, ref::kHalf)) == 0);
    CHECK(differences(chunks.value.v, kivi_value(value, 2, ref::kHalf)) == 0);
    CHECK(exact_rows(chunks.key, key) == tokens % kWindow);
    CHECK(exact_rows(chunks.value, value) == std::min<std::size_t>(tokens, kWindow));
    if (tokens < kWindow) {
      CHECK(differences(chunks.key.v, key.v) == 0);
      CHECK(differences(chunks.value.v, value.v) == 0);
    }
  }
}

TEST_CASE("kivi: what the window keeps is kept bit for bit") {
  // Values that no arithmetic would leave alone: -0, subnormals, NaN with a payload.
  Matrix m = ref::synthetic(130, 1, 32, ref::kHalf, 3);
  Bytes elements = elements_of(m.v, DType::f16);
  const std::uint16_t odd[] = {0x8000, 0x0001, 0x83ff, 0x7e55, 0xfd01, 0x7c00, 0xfc00, 0x7bff};
  std::memcpy(elements.data() + std::size_t{129} * 32 * 2, odd, sizeof odd);
  for (const Role role : {Role::key, Role::value}) {
    const auto out = through_pipeline(preset_text("kivi-2", role), role, m, DType::f16, elements);
    const std::size_t first = role == Role::key ? 128 : 2;
    CHECK(std::equal(out.elements.begin() + static_cast<std::ptrdiff_t>(first * 64), out.elements.end(),
                     elements.begin() + static_cast<std::ptrdiff_t>(first * 64)));
  }
}
