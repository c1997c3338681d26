// SPDX-License-Identifier: Apache-2.0
// MiniCache (arXiv 2405.14366) and KVMerger (arXiv 2407.08454) against their formulas.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "tests/contract/reference_drive.hpp"

using namespace kvzip;
using namespace kvzip::test;
namespace ref = kvzip::reference;

namespace {

/// Two tensors of the same heads in one tile.
TileContext two_members(const Matrix& one, std::array<Role, 2> roles, DType type) {
  TileContext c = context_of(one, roles[0] == roles[1] ? roles[0] : Role::pair, type);
  const std::uint32_t heads = c.heads, dim = c.head_dim;
  c.heads = 2 * heads;
  for (std::uint32_t i = 0; i < 2; ++i) {
    c.members.push_back({{i * heads * dim, heads, dim}, roles[i], roles[0] == roles[1] ? i : 0});
  }
  return c;
}
Matrix beside(const Matrix& a, const Matrix& b) {
  Matrix out{a.rows, 2 * a.heads, a.dim, {}};
  for (std::size_t r = 0; r < a.rows; ++r) {
    for (const Matrix* m : {&a, &b}) {
      const auto row = m->v.begin() + static_cast<std::ptrdiff_t>(r * m->cols());
      out.v.insert(out.v.end(), row, row + static_cast<std::ptrdiff_t>(m->cols()));
    }
  }
  return out;
}

struct Coded {
  Matrix values;
  std::size_t payload;
};
Coded through(const std::string& text, const TileContext& context, const Matrix& m,
              const std::vector<float>& saliency = {}) {
  Pipeline p = Pipeline::parse(text);
  p.resolve(context, shape_of(m));
  const Bytes elements = elements_of(m.v, context.source);
  const Bytes payload = p.encode(context, shape_of(m), elements, nullptr, nullptr, saliency);
  Bytes out(elements.size());
  p.decode(context, shape_of(m), payload, out);
  return {{m.rows, m.heads, m.dim, values_of(out, context.source)}, payload.size()};
}

/// A layer that points where the other does, more or less, with other lengths.
Matrix similar_to(const Matrix& m, std::uint64_t seed) {
  ref::Random random(seed);
  Matrix out = m;
  for (std::size_t r = 0; r < m.rows; ++r) {
    const double length = 0.5 + random.uniform(), noise = 0.2 + 2 * random.uniform() * random.uniform();
    for (std::size_t c = 0; c < m.cols(); ++c) {
      out.at(r, c) = ref::saturated(length * (m.at(r, c) + noise * random.normal()), ref::kHalf);
    }
  }
  return out;
}

double dot(const Matrix& m, std::size_t a, const Matrix& n, std::size_t b) {
  double sum = 0;
  for (std::size_t c = 0; c < m.cols(); ++c) sum += double{m.at(a, c)} * n.at(b, c);
  return sum;
}
double length(const Matrix& m, std::size_t r) {
  return std::sqrt(dot(m, r, m, r));
}

/// I = {i : d_i < d_min + gamma (d_max - d_min)} for the cosines d of the layers' tokens.
std::set<std::size_t> exact_tokens(const Matrix& a, const Matrix& b, double gamma) {
  std::vector<double> d;
  for (std::size_t r = 0; r < a.rows; ++r) d.push_back(dot(a, r, b, r) / length(a, r) / length(b, r));
  const auto [least, most] = std::minmax_element(d.begin(), d.end());
  std::set<std::size_t> out;
  for (std::size_t r = 0; r < d.size(); ++r) {
    if (d[r] < *least + gamma * (*most - *least)) out.insert(r);
  }
  return out;
}
/// e = sin((1 - t) W) / sin W u1 + sin(t W) / sin W u2
std::vector<double> arc(const Matrix& a, const Matrix& b, std::size_t r, double t) {
  const double angle = std::acos(dot(a, r, b, r) / length(a, r) / length(b, r));
  std::vector<double> e(a.cols());
  for (std::size_t c = 0; c < e.size(); ++c) {
    e[c] = std::sin((1 - t) * angle) / std::sin(angle) * a.at(r, c) / length(a, r) +
           std::sin(t * angle) / std::sin(angle) * b.at(r, c) / length(b, r);
  }
  return e;
}

}  // namespace

TEST_CASE("minicache: each layer has its own length and the direction on the arc; tokens far apart are exact") {
  const Matrix a = ref::synthetic(90, 2, 24, ref::kHalf, 61), b = similar_to(a, 62), m = beside(a, b);
  const TileContext context = two_members(a, {Role::key, Role::key}, DType::f16);
  for (const double t : {0.6, 0.25}) {
    const auto out = through(t == 0.6 ? preset_text("minicache", Role::key, 31) : "slerp:t=0.25,pack", context, m);
    const auto exact = exact_tokens(a, b, 0.05);
    CHECK(exact.size() > 0);
    CHECK(exact.size() < 30);
    for (std::size_t r = 0; r < a.rows; ++r) {
      const auto e = arc(a, b, r, t);
      for (std::size_t c = 0; c < m.cols(); ++c) {
        if (exact.count(r) == 1) {
          CHECK(out.values.at(r, c) == m.at(r, c));
        } else {
          const double expected = length(c < a.cols() ? a : b, r) * e[c % a.cols()];
          const double scale = length(c < a.cols() ? a : b, r);
          // Length, direction and result are rounded to halves.
          CHECK(std::fabs(out.values.at(r, c) - expected) < 0x1p-9 * std::fabs(expected) + 0x1p-20 * scale);
        }
      }
    }
  }
}

TEST_CASE("minicache: merged directions in 4 bits as KIVI quantises") {
  const Matrix a = ref::synthetic(70, 2, 32, ref::kHalf, 63), b = similar_to(a, 64), m = beside(a, b);
  for (const Role role : {Role::key, Role::value}) {
    const bool key = role == Role::key;
    const std::string text = preset_text("minicache-4", role, 31);
    const auto stage = text.find("slerp");  // 70 tokens are fewer than the window
    const auto out = through(text.substr(stage), two_members(a, {role, role}, DType::f32), m);
    const auto exact = exact_tokens(a, b, 0.05);
    std::vector<std::size_t> rows;
    Matrix e{0, a.heads, a.dim, {}};
    for (std::size_t r = 0; r < a.rows; ++r) {
      if (exact.count(r) == 1) continue;
      rows.push_back(r);
      for (const double x : arc(a, b, r, 0.6)) e.v.push_back(static_cast<float>(x));
    }
    e.rows = rows.size();
    const auto groups = key ? ref::along_tokens(e, 0, e.rows, 32) : ref::along_channels(e, 0, e.rows, e.dim, 32);
    const Matrix coded{e.rows, e.heads, e.dim, ref::asymmetric(e.v, groups, 4)};
    std::size_t far = 0;  // what lies in the middle of two levels may fall to either, by rounding
    for (std::size_t i = 0; i < rows.size(); ++i) {
      for (std::size_t c = 0; c < m.cols(); ++c) {
        const double scale = length(c < a.cols() ? a : b, rows[i]), expected = scale * coded.at(i, c % a.cols());
        far += std::fabs(out.values.at(rows[i], c) - expected) > 0x1p-10 * std::fabs(expected) + 1e-5 * scale;
      }
    }
    CHECK(far <= 4);
    for (const std::size_t r : exact) {
      for (std::size_t c = 0; c < m.cols(); ++c) CHECK(out.values.at(r, c) == m.at(r, c));
    }
  }
}

TEST_CASE("slerp: layers that are zero, alike or opposite, and one that is alone") {
  Matrix a{5, 1, 4, {1, 2, 3, 4, 1, 2, 3, 4, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0}}, b = a;
  for (std::size_t c = 0; c < 4; ++c) {
    b.at(0, c) = 0;                // nothing to merge with
    b.at(2, c) = 2;                // nor here
    b.at(3, c) = -3 * a.at(3, c);  // opposite
  }
  const Matrix m = beside(a, b);
  const TileContext context = two_members(a, {Role::value, Role::value}, DType::f32);
  const auto near = [](float x, double y) { return std::fabs(x - y) <= 0x1p-9 * std::fabs(y); };
  const Matrix kept = through("slerp,pack", context, m).values, all = through("slerp:gamma=0,pack", context, m).values;
  for (std::size_t c = 0; c < 8; ++c) {
    for (const std::size_t r : {0u, 1u, 2u, 4u}) {
      CHECK(near(kept.at(r, c), m.at(r, c)));
      CHECK(near(all.at(r, c), m.at(r, c)));
    }
    CHECK(kept.at(3, c) == m.at(3, c));                                  // of the least cosine
    CHECK(near(all.at(3, c), -0.2 * m.at(3, c % 4) * (c < 4 ? 1 : 3)));  // 0.4 u - 0.6 u
  }
  const Matrix alone = through("slerp,pack", context_of(a, Role::key, DType::f32), a).values;
  for (std::size_t i = 0; i < a.v.size(); ++i) CHECK(near(alone.v[i], a.v[i]));
}

TEST_CASE("minicache: the upper half is merged, at the formula's size") {
  constexpr std::size_t kLayers = 5, kTokens = 300, kHeads = 2, kDim = 64, kChannels = kHeads * kDim;
  for (const std::string preset : {"minicache", "minicache-4"}) {
    std::vector<Matrix> tensors;
    for (std::uint64_t l = 0; l < kLayers; ++l) {
      for (std::uint64_t role = 0; role < 2; ++role) {
        const Matrix first = ref::synthetic(kTokens, kHeads, kDim, ref::kHalf, 65 + role);
        tensors.push_back(l == 0 ? first : similar_to(first, 70 + 2 * l + role));
      }
    }
    const ScratchDirectory scratch;
    const std::string path = scratch.file("cache.kvz");
    write_container(path, preset, dump_like(tensors[0], kLayers, DType::f16),
                    [&](std::size_t t) { return elements_of(head_first(tensors[t]), DType::f16); });
    const auto reader = open_kvz(path);
    // Of five layers 3 and 4 are merged: 2 is below the half. Bits of a token's channels: 16, or 4 with 32 for 32.
    double bits = 0;
    for (std::size_t role = 0; role < 2; ++role) {
      const bool packed = preset == "minicache-4";
      const double window = packed ? (role == 0 ? kTokens % 128 : 128) : 0, rest = double{kTokens} - window;
      const double value_bits = packed ? 4 + 32.0 / 32 : 16;
      bits += 5 * 16 * window * kChannels + 3 * value_bits * rest * kChannels;
      Matrix a = tensors[6 + role], b = tensors[8 + role];
      a.rows = b.rows = static_cast<std::size_t>(rest);
      const auto exact = static_cast<double>(exact_tokens(a, b, 0.05).size());
      bits += (rest - exact) * (value_bits * kChannels + 2 * 16) + exact * 2 * 16 * kChannels;
    }
    double frames = 0;
    for (const KvzGroup& g : reader->summary().groups) frames += 8.0 * static_cast<double>(g.coded_bytes);
    MESSAGE(fmt::format("{}: {} bits, formula {}; {:.2f}x", preset, frames, bits,
                        2 * kLayers * kTokens * kChannels * 16.0 / frames));
    CHECK(std::fabs(frames / bits - 1) < 0.02);
  }
}

namespace {

/// The first tokens of runs: of all neighbours the most alike are joined until `count` runs are left.
std::set<std::size_t> run_starts(const Matrix& keys, std::size_t count) {
  std::vector<std::pair<double, std::size_t>> joints;
  for (std::size_t r = 1; r < keys.rows; ++r) {
    joints.emplace_back(-dot(keys, r - 1, keys, r) / length(keys, r - 1) / length(keys, r), r);
  }
  std::sort(joints.begin(), joints.end());
  std::set<std::size_t> starts{0};
  for (std::size_t i = keys.rows - count; i < joints.size(); ++i) starts.insert(joints[i].second);
  return starts;
}

/// w_i proportional to exp(-|k_p - k_i|^2 / 2 s^2), s the mean of the distances from the pivot p.
std::vector<double> gaussian(const Matrix& keys, std::size_t first, std::size_t end, std::size_t pivot) {
  std::vector<double> w;
  double mean = 0, sum = 0;
  for (std::size_t r = first; r < end; ++r) {
    w.push_back(dot(keys, r, keys, r) + dot(keys, pivot, keys, pivot) - 2 * dot(keys, r, keys, pivot));
    if (r != pivot) mean += std::sqrt(w.back()) / static_cast<double>(end - first - 1);
  }
  for (double& x : w) sum += x = end - first == 1 ? 1 : std::exp(-x / 2 / mean / mean);
  for (double& x : w) x /= sum;
  return w;
}

}  // namespace

TEST_CASE("kvmerger: runs of half as many rows, weighted by the distance from the most salient key") {
  Matrix keys = ref::synthetic(61, 2, 16, ref::kHalf, 71);
  const Matrix values = ref::synthetic(61, 2, 16, ref::kHalf, 72), m = beside(keys, values);
  std::vector<float> saliency(61);
  ref::Random random(73);
  for (float& x : saliency) x = static_cast<float>(random.normal());
  const TileContext context = two_members(keys, {Role::key, Role::value}, DType::f16);
  const std::string text = preset_text("kvmerger", Role::pair);
  const auto starts = run_starts(keys, 31);  // ceil(61 / 2)
  CHECK(starts.size() == 31);
  for (const bool asked : {true, false}) {
    const auto out = through(text, context, m, asked ? saliency : std::vector<float>{});
    for (auto start = starts.begin(); start != starts.end(); ++start) {
      const std::size_t first = *start, end = std::next(start) == starts.end() ? 61 : *std::next(start);
      const auto at = [](std::size_t r) { return static_cast<std::ptrdiff_t>(r); };
      const auto most = std::max_element(saliency.begin() + at(first), saliency.begin() + at(end));
      const auto pivot = asked ? static_cast<std::size_t>(most - saliency.begin()) : first;
      const auto w = gaussian(keys, first, end, pivot);
      for (std::size_t c = 0; c < m.cols(); ++c) {
        double expected = 0;
        for (std::size_t r = first; r < end; ++r) expected += w[r - first] * m.at(r, c);
        for (std::size_t r = first; r < end; ++r) {
          CHECK(std::fabs(out.values.at(r, c) - expected) <= 0x1p-11 * std::fabs(expected) + 1e-6);
        }
      }
    }
    // 16 bits for the channels of each row, and one for each token.
    const double bits = 31.0 * static_cast<double>(m.cols()) * 16 + 61;
    CHECK(std::fabs(static_cast<double>(out.payload) * 8 / bits - 1) < 0.02);
  }
}

TEST_CASE("runs: neighbours below the cosine stay apart, equal ones need no share") {
  // Rows point one way, three times, then another way; the last is zero, which is like no other.
  const Matrix m{6, 1, 2, {1, 0, 2, 0, 3, 0, 0, 1, 0, 3, 0, 0}};
  const auto out = through("runs:cosine=0.9:share=0,pack", context_of(m, Role::key, DType::f32), m).values;
  // Of the first run: distances 0, 1, 2 from the first row, their mean 1.5.
  const double b = std::exp(-1 / 4.5), c = std::exp(-4 / 4.5), first = (1 + 2 * b + 3 * c) / (1 + b + c);
  const double d = std::exp(-0.5), second = (1 + 3 * d) / (1 + d);
  const std::vector<double> expected{first, 0, first, 0, first, 0, 0, second, 0, second, 0, 0};
  for (std::size_t i = 0; i < expected.size(); ++i) CHECK(std::fabs(out.v[i] - expected[i]) < 1e-6);
  CHECK(through("runs:share=1,pack", context_of(m, Role::key, DType::f32), m).values.v == m.v);
}
