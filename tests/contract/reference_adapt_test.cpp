// SPDX-License-Identifier: Apache-2.0
// The stage `adapt`: its streams are read by a second decoder, written from man/kvz.5; small cases are worked out by
// hand; the basis is held against the same iteration in double.
#include "tests/contract/adapt_cases.hpp"

using namespace kvzip;
using namespace kvzip::test;

namespace {

/// Marks of rows of n.
std::vector<std::uint8_t> usual_rows(const std::vector<float>& rows, std::size_t n) {
  std::vector<std::uint8_t> usual;
  for (std::size_t i = 0; i < rows.size(); i += n) usual.push_back(is_usual(rows.data() + i, n) ? 1 : 0);
  return usual;
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const Matrix& m : {directed(1, 1, 5, 1), directed(17, 2, 3, 2), directed(70, 3, 12, 3), directed(33, 9, 1, 4),
                          directed(40, 3, 9, 7), directed(300, 6, 16, 5), directed(130, 1, 70, 6)}) {
    for (const std::size_t width : {0u, 1u, 8u, 30u, 64u, 256u}) {
      for (const double step : {0.05, 0.5, 3.0}) {
        Case c{m, {step, step == 0.5 ? 0.4 : 0.5, width}};
        all.push_back(c);
        c.fields.round = 0.25;
        c.saliency = weights(m.rows, width + m.rows);
        all.push_back(c);
        c.fields.growth = step == 0.5 ? 1 : width == 8 ? 0.25 : 3;
        all.push_back(c);
        c.fields.heads = step == 0.5 ? 0.5 : 1;
        all.push_back(c);
        c.saliency = weights(m.rows * m.heads, width);
        all.push_back(c);
      }
    }
  }
  for (Case c : {of_words(200, 3, 8, 12), of_words(90, 1, 70, 13), of_words(17, 2, 3, 14), of_words(2, 1, 4, 15)}) {
    for (const std::size_t width : {0u, 8u, 256u}) {
      c.fields.width = width;
      c.saliency.clear();
      all.push_back(c);
      c.saliency = weights(c.m.rows, width);
      c.fields.growth = width == 8 ? 2.5 : 1;
      all.push_back(c);
      c.fields.heads = 1;
      c.saliency = weights(c.m.rows * c.m.heads, width);
      all.push_back(c);
    }
  }
  return all;
}

}  // namespace

TEST_CASE("adapt: a decoder written from the page gives the same values, bit for bit, on every instruction set") {
  for (const Case& c : cases()) {
    CAPTURE(c.text());
    CAPTURE(c.m.rows);
    CAPTURE(c.m.cols());
    std::vector<float> left;
    const std::vector<Stream> streams = c.encoded(&left);
    const std::vector<float> expected = c.by_the_page(streams);
    const std::vector<float> found = on_every_instruction_set([&] { return c.decoded(streams); });
    CHECK(std::memcmp(found.data(), expected.data(), found.size() * sizeof(float)) == 0);
    CHECK(differences(c.decoded(streams, false), expected) == 0);
    // The encoder has followed the same basis.
    std::vector<float> rest(c.m.v.size());
    for (std::size_t i = 0; i < rest.size(); ++i) rest[i] = c.m.v[i] - expected[i];
    CHECK(differences(left, rest) == 0);
  }
}

TEST_CASE("adapt: pipelines with every kind of coder give what the page says") {
  for (const Case& c : cases()) {
    if (c.fields.step == 0.05) continue;
    const std::vector<float> expected = c.by_the_page(c.encoded());
    Pipeline codes = Pipeline::parse(c.text() + ",rans"), plain = Pipeline::parse(c.text() + ",pack");
    for (Pipeline* p : {&codes, &plain}) {
      CAPTURE(p->text());
      CAPTURE(c.m.rows);
      const TileContext context = c.context();
      p->use_tables([&](std::string_view) { return Pipeline::FoundTable{c.table(), "repeats"}; }, {});
      p->resolve(context, shape_of(c.m));
      const Bytes elements = elements_of(c.m.v, DType::f32);
      const Bytes payload = on_every_instruction_set(
          [&] { return p->encode(context, shape_of(c.m), elements, nullptr, nullptr, c.saliency); });
      if (payload[0] != std::byte{0}) continue;  // stored as it is
      const Bytes back = on_every_instruction_set([&] {
        Bytes out(elements.size());
        p->decode(context, shape_of(c.m), payload, out);
        return out;
      });
      CHECK(differences(values_of(back, DType::f32), expected) == 0);
    }
  }
}

TEST_CASE("adapt: parts end where heads do, of members of several widths, too") {
  const auto ends = [](std::size_t cols, std::size_t width, const std::vector<std::uint32_t>& edges) {
    return ref::part_ends(cols, width, edges);
  };
  using Ends = std::vector<std::size_t>;
  CHECK(ends(12, 8, {0, 3, 6, 9, 12}) == Ends{6, 12});
  CHECK(ends(12, 5, {0, 6, 12}) == Ends{5, 6, 11, 12});  // the rest of a head is a part of its own
  CHECK(ends(12, 5, {0, 5, 10}) == Ends{5, 10, 12});     // other columns than those of the heads
  CHECK(ends(13, 5, {0, 6, 12}) == Ends{5, 10, 13});
  Case c{directed(60, 1, 28, 21), {0.3, 0.4, 11}};
  TileContext several = c.context();
  several.heads = several.head_dim = 0;
  several.members = {{{0, 3, 4}, Role::key, 0}, {{12, 2, 8}, Role::value, 0}};
  c.other_context = &several;
  CHECK(several.head_edges() == std::vector<std::uint32_t>{0, 4, 8, 12, 20, 28});
  const std::vector<Stream> streams = c.encoded();
  const std::vector<float> expected = c.by_the_page(streams);
  CHECK(c.decoded(streams) == expected);
  c.other_context = nullptr;  // one head: other parts
  CHECK(c.decoded(streams) != expected);
}

TEST_CASE("adapt: two tokens of two channels, worked out by hand") {
  // rms 2; means 16 and -32 in steps of 0.5 / sqrt(8) * 2; gains 0 and 2 half octaves; codes 3, -1 and 0, 10.
  const std::vector<Stream> streams{root(0x40000000),
                                    classes_of(1, 2, {11, 13}),
                                    bits_of({0x10, 0x00}),
                                    gain_stream({31, 33}),
                                    classes_of(2, 2, {3, 1, 0, 9}, {0, 2}),
                                    bits_of({0x02})};
  const float a = 16 * 0x1.6a09e6p-2f, b = -32 * 0x1.6a09e6p-2f;
  for (const std::size_t width : {0u, 2u}) {
    Case c{{2, 1, 2, std::vector<float>(4)}, {0.5, 0.5, width}};
    CHECK(c.decoded(streams) == std::vector<float>{a + 1.5f * 2, b - 0.5f * 2, a, b + 2.5f * 2});
    CHECK(c.by_the_page(streams) == c.decoded(streams));
    c.fields.round = 0.25;  // codes stand a quarter step further out
    CHECK(c.decoded(streams) == std::vector<float>{a + 1.625f * 2, b - 0.625f * 2, a, b + 2.5625f * 2});
  }
}

TEST_CASE("adapt: the basis after sixteen tokens in one direction, worked out by hand") {
  // Sixteen times (1, 1): the covariance is 16 everywhere, and the noise 16 * 0.25 / 12 = 1/3 on the diagonal. Token
  // 16, (1, 0), is then the first vector: (16 1/3, 16), made 1 long; 17 is the second, which is orthogonal to it.
  std::vector<std::uint8_t> codes(36, 2);
  codes[33] = codes[34] = 0;
  const std::vector<Stream> streams{root(0x3f800000),
                                    classes_of(1, 2, {0, 0}),
                                    bits_of({}),
                                    gain_stream(std::vector<std::uint8_t>(18, 31)),
                                    classes_of(18, 2, codes, std::vector<std::int8_t>(18)),
                                    bits_of({0, 0, 0, 0, 0})};
  const Case c{{18, 1, 2, std::vector<float>(36)}, {0.5, 0.5, 2}};
  const std::vector<float> found = c.decoded(streams);
  const double a = 16 + 1.0 / 3, b = 16, length = std::sqrt(a * a + b * b);
  CHECK(found[31] == 1);
  CHECK(std::fabs(found[32] - a / length) < 1e-6);
  CHECK(std::fabs(found[33] - b / length) < 1e-6);
  CHECK(std::fabs(found[34] + b / length) < 1e-5);
  CHECK(std::fabs(found[35] - a / length) < 1e-5);
}

TEST_CASE("adapt: few tokens have means only where these save more than they take") {
  const auto means_of = [](const Case& c) {
    const std::vector<Stream> streams = c.encoded();
    const std::vector<int> means = ref::magnitudes_of(streams[1], streams[2]);
    return std::count_if(means.begin(), means.end(), [](int m) { return m != 0; });
  };
  for (const std::size_t rows : {1u, 2u, 3u, 15u, 16u}) {
    Case c{{rows, 2, 32, std::vector<float>(rows * 64)}, {0.5, 0.4, 64}};
    ref::Random random(rows);
    for (float& x : c.m.v) x = static_cast<float>(random.normal());
    if (rows < 3) CHECK(means_of(c) == 0);
    if (rows == 3) CHECK(means_of(c) < 8);
    if (rows == 15) CHECK(means_of(c) < 48);
    if (rows == 16) CHECK(means_of(c) > 32);
    for (std::size_t i = 0; i < c.m.v.size(); ++i) c.m.v[i] += i % 64 < 5 ? 40.0f : 0.0f;  // biases of some channels
    if (rows == 1) CHECK(means_of(c) == 0);
    if (rows >= 3) CHECK(means_of(c) >= 5);
    if (rows == 3) CHECK(means_of(c) < 16);
  }
}

TEST_CASE("adapt: the row of a tile of one is finer by an octave, as far as codes reach") {
  Case c{{1, 1, 16384, std::vector<float>(16384, 0.001f)}, {0.1, 0.5, 0}};
  CHECK(ref::gains_of(c.encoded()[3], nullptr, 1) == std::vector<int>{2});
  c.m.v[7] = 2;
  c.fields.step = 0.01;
  const std::vector<Stream> streams = c.encoded();
  const double found = c.decoded(streams)[7];
  CHECK(std::fabs(found - 2) < 2e-4);  // not cut off where codes end
  CHECK(ref::gains_of(streams[3], nullptr, 1)[0] < 2);
}

TEST_CASE("adapt: heads have the steps of their own saliency, half way or whole") {
  Case c{directed(40, 2, 8, 31), {0.5, 0.4, 8}};
  for (std::size_t r = 0; r < 40; ++r) {
    c.saliency.push_back(r % 2 == 0 ? 4.0f : 0.0f);  // of head 0
    c.saliency.push_back(r < 20 ? 6.0f : 0.0f);
  }
  const auto gains = [&](double heads) {
    c.fields.heads = heads;
    const std::vector<Stream> s = c.encoded();
    return heads == 0 ? ref::gains_of(s[3], nullptr, 1) : ref::gains_of(s[4], &s[5], 2);
  };
  // gamma 0.6 of what a row's saliency is above the head's mean, and level 0.85 of that mean: in half octaves.
  const std::vector<int> own = gains(1);
  for (std::size_t r = 0; r < 40; ++r) {
    CHECK(own[2 * r] == std::floor(0.6 * (r % 2 == 0 ? 2 : -2) + 0.85 * 2 + 0.5));
    CHECK(own[2 * r + 1] == std::floor(0.6 * (r < 20 ? 3 : -3) + 0.85 * 3 + 0.5));
  }
  // Of all heads: log2 of the mean of 2^4 or 2^0 and 2^6 or 2^0.
  const std::vector<int> all = gains(0), half = gains(0.5);
  const auto s = [](std::size_t r) { return std::log2(((r % 2 == 0 ? 16.0 : 1.0) + (r < 20 ? 64.0 : 1.0)) / 2); };
  const double mean = (s(0) + s(1) + s(20) + s(21)) / 4;
  for (std::size_t r = 0; r < 40; ++r) {
    CHECK(all[r] == std::floor(0.6 * (s(r) - mean) + 0.85 * mean + 0.5));
    const double of = (s(r) + (r % 2 == 0 ? 4 : 0)) / 2, middle = (mean + 2) / 2;
    CHECK(half[2 * r] == std::floor(0.6 * (of - middle) + 0.85 * middle + 0.5));
    const double of_other = (s(r) + (r < 20 ? 6 : 0)) / 2, other = (mean + 3) / 2;
    CHECK(half[2 * r + 1] == std::floor(0.6 * (of_other - other) + 0.85 * other + 0.5));
  }
}

TEST_CASE("adapt: without a basis no value is further off than its step allows") {
  for (const double round : {0.0, 0.3, 0.5}) {
    for (const bool weighed : {false, true}) {
      Case c{directed(120, 2, 9, 11), {0.4, round, 0}};
      if (weighed) c.saliency = weights(120, 3);
      const std::vector<Stream> streams = c.encoded();
      const std::vector<float> found = c.decoded(streams);
      std::uint32_t bits = 0;
      for (std::size_t i = 0; i < 4; ++i) bits |= std::uint32_t{streams[0].data[i]} << 8 * i;
      const double rms = std::bit_cast<float>(bits);
      const std::vector<int> codes = ref::magnitudes_of(streams[4], streams[5]);
      std::size_t beyond = 0;
      for (std::size_t i = 0; i < found.size(); ++i) {
        const double step = 0.4 * std::exp2(-0.5 * (streams[3].data[i / 18] - 31)) * rms;
        const double allowed = std::max(1 - round, 0.5) * step * (1 + 1e-5) + 1e-5 * std::fabs(c.m.v[i]);
        const bool limited = std::abs(codes[i]) == kLargestMagnitude;
        beyond += !limited && std::fabs(double{found[i]} - c.m.v[i]) > allowed;
      }
      CHECK(beyond == 0);
    }
  }
}

TEST_CASE("adapt: what streams must not hold is refused") {
  const Case c{{1, 1, 1, {0}}, {}};
  const auto refused = [&](const std::vector<Stream>& streams) {
    try {
      c.decoded(streams);
    } catch (const Error& e) {
      return e.code() == ErrorCode::corrupt || e.code() == ErrorCode::truncated;
    }
    return false;
  };
  const std::vector<Stream> good{root(0x3f800000),  classes_of(1, 1, {1}),       bits_of({1}),
                                 gain_stream({31}), classes_of(1, 1, {15}, {0}), bits_of({0xfe, 0x7f})};
  CHECK(c.decoded(good)[0] > 8000);
  // NaN, infinity, 0, negative, one step outside 1e-30 to 1e30.
  for (const std::uint32_t bits : {0x7fc00000u, 0x7f800000u, 0u, 0xbf800000u, std::bit_cast<std::uint32_t>(1e-30f) - 1,
                                   std::bit_cast<std::uint32_t>(1e30f) + 1}) {
    auto bad = good;
    bad[0] = root(bits);
    CHECK(refused(bad));
  }
  for (const std::uint32_t bits : {std::bit_cast<std::uint32_t>(1e-30f), std::bit_cast<std::uint32_t>(1e30f)}) {
    auto edge = good;
    edge[0] = root(bits);
    CHECK(!refused(edge));
  }
  auto bad = good;
  bad[5] = bits_of({0xff});  // too few
  CHECK(refused(bad));
  bad[5] = bits_of({0xff, 0x7f, 0x00});  // too many
  CHECK(refused(bad));
  bad[5] = bits_of({0xff, 0xff});  // what pads the last byte
  CHECK(refused(bad));
}

TEST_CASE("magnitudes: every instruction set writes the same streams, which plain loops read") {
  for (const std::size_t n : {0u, 1u, 3u, 4u, 70u, 259u, 1030u}) {
    for (const unsigned most : {1u, 9u, 400u, static_cast<unsigned>(kLargestMagnitude)}) {
      ref::Random random(n + most);
      Buffer<std::int16_t> values(n);
      for (std::int16_t& v : values)
        v = static_cast<std::int16_t>(static_cast<int>(random.below(2 * most + 1)) - static_cast<int>(most));
      if (n > 2) values[1] = static_cast<std::int16_t>(most), values[2] = static_cast<std::int16_t>(-values[1]);
      std::vector<Stream> streams;
      const std::vector<std::uint8_t> written = on_every_instruction_set([&] {
        streams.clear();
        StreamWriter port(streams);
        pass_magnitudes(port, 1, static_cast<std::uint32_t>(n), {}, values);
        std::vector<std::uint8_t> bytes(streams[0].data.begin(), streams[0].data.end());
        bytes.insert(bytes.end(), streams[1].data.begin(), streams[1].data.end());
        return bytes;
      });
      CHECK(ref::magnitudes_of(streams[0], streams[1]) == std::vector<int>(values.begin(), values.end()));
      on_every_instruction_set([&] {
        Given port(streams);
        Buffer<std::int16_t> read;
        pass_magnitudes(port, 1, static_cast<std::uint32_t>(n), {}, read);
        CHECK(read == values);
        return std::vector<int>();
      });
    }
  }
}

TEST_CASE("adapt: the basis stays orthonormal and is that of the same iteration in double") {
  const std::size_t n = 24;
  AdaptBasis basis(n, 0.02f);
  ref::Basis<double> wide(n, double{0.02f});
  ref::Random random(5);
  for (int run = 0; run < 8; ++run) {
    std::vector<float> rows(40 * n);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      // Variances that fall off by channel, mixed in pairs of channels.
      rows[i] = static_cast<float>(random.normal() * std::exp2(-0.25 * static_cast<double>(i % n)));
      if (i % n % 2 == 1) rows[i] += rows[i - 1] * 0.5f;
    }
    std::fill_n(rows.begin(), n, 100.0f);  // too large to teach anything
    std::vector<float> coefficients(rows.size());
    basis.project(rows.data(), n, 40, coefficients.data());
    basis.observe(coefficients.data(), usual_rows(coefficients, n));
    basis.refresh();
    for (std::size_t r = 0; r < 40; ++r) {
      std::vector<double> z(n);
      for (std::size_t k = 0; k < n; ++k) {
        for (std::size_t j = 0; j < n; ++j) z[k] += double{rows[r * n + j]} * wide.b[k * n + j];
      }
      wide.learn(z.data());
    }
    wide.refresh();
  }
  CHECK(wide.seen == 8 * 39);
  std::vector<std::vector<float>> vectors(n, std::vector<float>(n));
  double apart = 0, skew = 0;
  for (std::size_t k = 0; k < n; ++k) {
    std::vector<float> one(n), back(n);
    one[k] = 1;
    basis.combine(one.data(), 1, vectors[k].data());
    basis.project(vectors[k].data(), n, 1, back.data());
    for (std::size_t j = 0; j < n; ++j) {
      apart = std::max(apart, std::fabs(double{vectors[k][j]} - wide.b[k * n + j]));
      skew = std::max(skew, std::fabs(double{back[j]} - one[j]));
    }
  }
  CHECK(apart < 1e-3);
  CHECK(skew < 1e-4);
}

TEST_CASE("adapt: few tokens of nearly one direction leave an orthonormal basis, too") {
  const std::size_t n = 96, count = 16;
  AdaptBasis basis(n, 1e-4f);
  ref::Random random(9);
  std::vector<float> rows(count * n), z(n), back(n);
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<float>(1 + 1e-3 * random.normal());
  for (int run = 0; run < 6; ++run) {
    std::vector<float> coefficients(rows.size());
    basis.project(rows.data(), n, count, coefficients.data());
    basis.observe(coefficients.data(), usual_rows(coefficients, n));
    basis.refresh();
  }
  double skew = 0;
  for (std::size_t k = 0; k < n; ++k) {
    std::vector<float> one(n), vector(n);
    one[k] = 1;
    basis.combine(one.data(), 1, vector.data());
    basis.project(vector.data(), n, 1, back.data());
    for (std::size_t j = 0; j < n; ++j) skew = std::max(skew, std::fabs(double{back[j]} - one[j]));
  }
  CHECK(skew < 1e-5);
}

TEST_CASE("adapt: a basis that saw nothing usual stays as it is") {
  AdaptBasis basis(3, 0.1f);
  std::vector<float> rows{1e20f, 0, 0, 50, 50, 50}, row(3);
  basis.observe(rows.data(), usual_rows(rows, 3));
  basis.refresh();
  const std::vector<float> z{1, -2, 3};
  basis.combine(z.data(), 1, row.data());
  CHECK(row == z);
}
