// SPDX-License-Identifier: Apache-2.0
// Loops that do one thing only, with as much of it in flight as the machine takes.
#include "tests/bench/limits.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "codec/kernels/instruction_set.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/bench/limits.cpp"
#include <hwy/foreach_target.h>  // compiles the file once per instruction set
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace kvzip::bench::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// `rounds` times a product in each lane of six chains and a sum in six others: what hides the latency of each and fits
/// sixteen registers. Returns operations.
double multiply_add(std::size_t rounds, float* out) {
  const hn::ScalableTag<float> d;
  const auto factor = hn::Set(d, 0.99999994f),
             addend = hn::Set(d, 0.001f);  // no result becomes so small that it is slow
  auto a0 = hn::Iota(d, 0.0f), a1 = hn::Iota(d, 1.0f), a2 = hn::Iota(d, 2.0f);
  auto a3 = hn::Iota(d, 3.0f), a4 = hn::Iota(d, 4.0f), a5 = hn::Iota(d, 5.0f);
  auto b0 = hn::Iota(d, 0.0f), b1 = hn::Iota(d, 1.0f), b2 = hn::Iota(d, 2.0f);
  auto b3 = hn::Iota(d, 3.0f), b4 = hn::Iota(d, 4.0f), b5 = hn::Iota(d, 5.0f);
  for (std::size_t i = 0; i < rounds; ++i) {
    a0 = hn::Mul(a0, factor);
    b0 = hn::Add(b0, addend);
    a1 = hn::Mul(a1, factor);
    b1 = hn::Add(b1, addend);
    a2 = hn::Mul(a2, factor);
    b2 = hn::Add(b2, addend);
    a3 = hn::Mul(a3, factor);
    b3 = hn::Add(b3, addend);
    a4 = hn::Mul(a4, factor);
    b4 = hn::Add(b4, addend);
    a5 = hn::Mul(a5, factor);
    b5 = hn::Add(b5, addend);
  }
  const auto products = hn::Add(hn::Add(hn::Add(a0, a1), hn::Add(a2, a3)), hn::Add(a4, a5));
  const auto sums = hn::Add(hn::Add(hn::Add(b0, b1), hn::Add(b2, b3)), hn::Add(b4, b5));
  hn::StoreU(hn::Add(products, sums), d, out);
  return 12.0 * static_cast<double>(rounds * hn::Lanes(d));
}

/// `rounds` times two operations, of kinds that no compiler merges over rounds, in each lane of eight chains.
double integer_operations(std::size_t rounds, std::int16_t* out) {
  const hn::ScalableTag<std::int16_t> d;
  const auto least = hn::Set(d, 3), flip = hn::Set(d, 0x5555);
  auto a0 = hn::Iota(d, 0), a1 = hn::Iota(d, 1), a2 = hn::Iota(d, 2), a3 = hn::Iota(d, 3);
  auto a4 = hn::Iota(d, 4), a5 = hn::Iota(d, 5), a6 = hn::Iota(d, 6), a7 = hn::Iota(d, 7);
  for (std::size_t i = 0; i < rounds; ++i) {
    a0 = hn::Xor(hn::Max(a0, least), flip);
    a1 = hn::Xor(hn::Max(a1, least), flip);
    a2 = hn::Xor(hn::Max(a2, least), flip);
    a3 = hn::Xor(hn::Max(a3, least), flip);
    a4 = hn::Xor(hn::Max(a4, least), flip);
    a5 = hn::Xor(hn::Max(a5, least), flip);
    a6 = hn::Xor(hn::Max(a6, least), flip);
    a7 = hn::Xor(hn::Max(a7, least), flip);
  }
  const auto low = hn::Xor(hn::Xor(a0, a1), hn::Xor(a2, a3)), high = hn::Xor(hn::Xor(a4, a5), hn::Xor(a6, a7));
  hn::StoreU(hn::Xor(low, high), d, out);
  return 16.0 * static_cast<double>(rounds * hn::Lanes(d));
}

/// `rounds` times a division in each lane of eight chains, which go to and fro between a number and its inverse.
double divisions(std::size_t rounds, float* out) {
  const hn::ScalableTag<float> d;
  const auto one = hn::Set(d, 1.0f);
  auto a0 = hn::Iota(d, 2.0f), a1 = hn::Iota(d, 3.0f), a2 = hn::Iota(d, 4.0f), a3 = hn::Iota(d, 5.0f);
  auto a4 = hn::Iota(d, 6.0f), a5 = hn::Iota(d, 7.0f), a6 = hn::Iota(d, 8.0f), a7 = hn::Iota(d, 9.0f);
  for (std::size_t i = 0; i < rounds; ++i) {
    a0 = hn::Div(one, a0);
    a1 = hn::Div(one, a1);
    a2 = hn::Div(one, a2);
    a3 = hn::Div(one, a3);
    a4 = hn::Div(one, a4);
    a5 = hn::Div(one, a5);
    a6 = hn::Div(one, a6);
    a7 = hn::Div(one, a7);
  }
  const auto low = hn::Add(hn::Add(a0, a1), hn::Add(a2, a3)), high = hn::Add(hn::Add(a4, a5), hn::Add(a6, a7));
  hn::StoreU(hn::Add(low, high), d, out);
  return 8.0 * static_cast<double>(rounds * hn::Lanes(d));
}

/// n is a multiple of four vectors.
double read_all(const float* x, std::size_t n, float* out) {
  const hn::ScalableTag<float> d;
  const std::size_t lanes = hn::Lanes(d);
  auto a = hn::Zero(d), b = a, c = a, e = a;
  for (std::size_t i = 0; i + 4 * lanes <= n; i += 4 * lanes) {
    a = hn::Max(a, hn::LoadU(d, x + i));
    b = hn::Max(b, hn::LoadU(d, x + i + lanes));
    c = hn::Max(c, hn::LoadU(d, x + i + 2 * lanes));
    e = hn::Max(e, hn::LoadU(d, x + i + 3 * lanes));
  }
  hn::StoreU(hn::Max(hn::Max(a, b), hn::Max(c, e)), d, out);
  return static_cast<double>(n) * sizeof(float);
}

/// The faster of single lookups and gathers, since some machines' gathers are slow; `gathers` says which.
double look_up(const std::int32_t* table, const std::int32_t* at, std::size_t n, bool gathers, std::int32_t* out) {
  if (gathers) {
    const hn::ScalableTag<std::int32_t> d;
    auto sum = hn::Zero(d);
    for (std::size_t i = 0; i + hn::Lanes(d) <= n; i += hn::Lanes(d)) {
      sum = hn::Add(sum, hn::GatherIndex(d, table, hn::LoadU(d, at + i)));
    }
    hn::StoreU(sum, d, out);
  } else {
    std::uint32_t sums[4] = {};
    for (std::size_t i = 0; i + 4 <= n; i += 4) {
      for (std::size_t k = 0; k < 4; ++k) sums[k] += static_cast<std::uint32_t>(table[at[i + k]]);
    }
    out[0] = static_cast<std::int32_t>(sums[0] ^ sums[1] ^ sums[2] ^ sums[3]);
  }
  return static_cast<double>(n);
}

}  // namespace kvzip::bench::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvzip::bench {
namespace {

HWY_EXPORT(multiply_add);
HWY_EXPORT(integer_operations);
HWY_EXPORT(divisions);
HWY_EXPORT(read_all);
HWY_EXPORT(look_up);

/// The best of several goes; one() returns how much it did.
template <typename F>
double best_rate(F&& one) {
  double best = 0;
  for (int go = 0; go < 9; ++go) {
    const auto start = std::chrono::steady_clock::now();
    double done = 0, seconds = 0;
    while (seconds < 5e-4) {
      done += one();
      seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }
    best = std::max(best, done / seconds);
  }
  return best;
}

/// Compilers make vectors of plain loops, too: the target without vectors is held against the plainest that has them.
class VectorTarget {
 public:
  VectorTarget() {
    const std::vector<kernels::InstructionSet> targets = kernels::instruction_sets();
    if (targets.size() < 2 || targets.back().name != kernels::instruction_set_name()) return;
    before_ = targets.back().id;
    kernels::use_instruction_set(targets[targets.size() - 2].id);
  }
  ~VectorTarget() {
    if (before_ != 0) kernels::use_instruction_set(before_);
  }
  VectorTarget(const VectorTarget&) = delete;
  VectorTarget& operator=(const VectorTarget&) = delete;

 private:
  std::int64_t before_ = 0;
};

/// Measured once for each instruction set and size.
template <typename F>
double remembered(const std::string& what, std::size_t size, F&& measure) {
  const VectorTarget target;
  static std::map<std::string, double> known;
  const auto [at, fresh] =
      known.try_emplace(what + std::string(kernels::instruction_set_name()) + ' ' + std::to_string(size), 0.0);
  if (fresh) at->second = measure();
  return at->second;
}

volatile float g_float;
volatile std::int32_t g_integer;

}  // namespace

double copied_bytes_per_second(std::size_t working_set) {
  return remembered("copy", working_set, [&] {
    const std::size_t n = std::max<std::size_t>(working_set / 2, 64);
    std::vector<std::uint8_t> from(n, 1), to(n);
    return best_rate([&] {
      std::memcpy(to.data(), from.data(), n);
      g_integer = to[n / 2];
      return 2 * static_cast<double>(n);
    });
  });
}

namespace {

/// How much of its work run(out) does per second at best; what it leaves in `out` is used, so that it cannot be left
/// out.
template <typename T, typename Sink, typename Run>
double rate_of(Sink& sink, Run&& run) {
  T out[64];
  return best_rate([&] {
    const double done = run(out);
    sink = out[0];
    return done;
  });
}

}  // namespace

double read_bytes_per_second(std::size_t working_set) {
  return remembered("read", working_set, [&] {
    const std::vector<float> x((working_set / sizeof(float) + 255) / 256 * 256, 1.0f);
    return rate_of<float>(g_float, [&](float* out) { return HWY_DYNAMIC_DISPATCH(read_all)(x.data(), x.size(), out); });
  });
}

double flops_per_second() {
  return remembered("flops", 0, [] {
    return rate_of<float>(g_float, [](float* out) { return HWY_DYNAMIC_DISPATCH(multiply_add)(20000, out); });
  });
}

double lane_operations_per_second() {
  return remembered("lane operations", 0, [] {
    return rate_of<std::int16_t>(
        g_integer, [](std::int16_t* out) { return HWY_DYNAMIC_DISPATCH(integer_operations)(20000, out); });
  });
}

double divisions_per_second() {
  return remembered("divisions", 0, [] {
    return rate_of<float>(g_float, [](float* out) { return HWY_DYNAMIC_DISPATCH(divisions)(5000, out); });
  });
}

double lookups_per_second() {
  return remembered("lookups", 0, [&] {
    std::vector<std::int32_t> table(4096), at(4096);
    std::iota(table.begin(), table.end(), 0);
    for (std::size_t i = 0; i < at.size(); ++i) at[i] = static_cast<std::int32_t>(i * 2654435761u >> 7 & 4095);
    std::int32_t out[64];
    const auto rate = [&](bool gathers) {
      return best_rate([&] {
        const double done = HWY_DYNAMIC_DISPATCH(look_up)(table.data(), at.data(), at.size(), gathers, out);
        g_integer = out[0];
        return done;
      });
    };
    return std::max(rate(false), rate(true));
  });
}

}  // namespace kvzip::bench
#endif  // HWY_ONCE
