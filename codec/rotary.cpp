// SPDX-License-Identifier: Apache-2.0
#include "codec/rotary.hpp"

#include <algorithm>
#include <cmath>
#include <functional>

#include "codec/buffer.hpp"
#include "codec/fail.hpp"
#include "codec/kernels/sines.hpp"
#include "codec/portable_math.hpp"

namespace kvzip {

/// Of each row the sines of all pairs, and then the cosines.
struct Turns {
  std::vector<double> frequency;
  std::uint64_t first;
  std::size_t rows;
  std::vector<float> values;  // no Buffer: a thread lets go of it while it lets go of its Buffers' memory
};

namespace {

constexpr std::size_t kMostKept = std::size_t{1} << 18;  // pairs: two megabytes
constexpr std::size_t kLeastRows = 64;                   // fewer are not worth it
constexpr double kPi = 3.14159265358979323846;
constexpr std::uint64_t kMostPositions = std::uint64_t{1} << 30;

double scaled(const Rope& rope, double f, std::size_t i, double log_theta) {
  switch (rope.scaling) {
    case Rope::Scaling::linear:
      return f / rope.factor;
    case Rope::Scaling::llama3: {
      const double turns = rope.original_context * f / (2 * kPi);  // rotations over the original context
      if (turns < rope.low_freq_factor) return f / rope.factor;
      if (turns > rope.high_freq_factor) return f;
      const double smooth = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
      return (1 - smooth) * f / rope.factor + smooth * f;
    }
    case Rope::Scaling::yarn: {
      const auto dims = static_cast<double>(rope.dims);
      const auto edge = [&](double beta) {
        return dims * portable::log(rope.original_context / (beta * 2 * kPi)) / (2 * log_theta);
      };
      const double low = std::max(std::floor(edge(32)), 0.0);
      const double high = std::max(std::min(std::ceil(edge(1)), dims - 1), low + 0.001);
      const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
      return f / rope.factor * ramp + f * (1 - ramp);
    }
    case Rope::Scaling::none:
      break;
  }
  return f;
}

}  // namespace

void check_rotary(const Rope& rope, std::uint64_t head_dim, std::uint64_t positions) {
  if (rope.dims % 2 != 0 || rope.dims == 0 || rope.dims > head_dim) {
    fail(ErrorCode::invalid_argument, "rope: {} rotary dimensions do not fit heads of {}", rope.dims, head_dim);
  }
  // No frequency above 1 and no position above 2^30, so that every angle stays where sincos() holds.
  if (!(rope.theta > 1) || !(rope.factor >= 1) || !(rope.high_freq_factor > rope.low_freq_factor) ||
      !(rope.original_context > 0) || !(rope.low_freq_factor > 0)) {
    fail(ErrorCode::invalid_argument, "rope: theta, factor, low, high or context make no sense");
  }
  if (positions > kMostPositions) fail(ErrorCode::limit, "rope: positions beyond 2^30");
}

Rotary::Rotary(const Rope& rope) {
  const std::size_t half = rope.dims / 2;
  const double log_theta = portable::log(rope.theta);
  for (std::size_t i = 0; i < half; ++i) {
    const double base = portable::exp(-log_theta * (2.0 * static_cast<double>(i) / static_cast<double>(rope.dims)));
    frequency_.push_back(scaled(rope, base, i, log_theta));
  }
  const bool interleaved = rope.layout == Rope::Layout::interleaved;
  step_ = interleaved ? 2 : 1;
  partner_ = interleaved ? 1 : half;
}

std::shared_ptr<const Turns> Rotary::turns(std::uint64_t first, std::size_t rows) const {
  const std::size_t half = frequency_.size();
  if (rows < kLeastRows || rows * half > kMostKept) return nullptr;
  std::shared_ptr<const Turns> kept = kept_turns();
  if (kept != nullptr && kept->first == first && kept->rows >= rows && kept->frequency == frequency_) return kept;
  const auto made = std::make_shared<Turns>(Turns{frequency_, first, rows, {}});
  made->values.resize(2 * rows * half);
  for (std::size_t t = 0; t < rows; ++t) {
    float* row = made->values.data() + 2 * t * half;
    kernels::sines(static_cast<double>(first + t), frequency_.data(), half, row, row + half);
  }
  keep_turns(made);
  return made;
}

void Rotary::turn(std::uint64_t first, int direction, std::size_t rows, std::size_t heads, std::size_t head_dim,
                  float* x, std::size_t stride) const {
  if (stride == 0) stride = heads * head_dim;
  const std::size_t half = frequency_.size();
  std::vector<float> own(2 * half);
  const std::shared_ptr<const Turns> all = turns(first, rows);
  for (std::size_t t = 0; t < rows; ++t, x += stride) {
    if (all == nullptr) {
      kernels::sines(static_cast<double>(first + t), frequency_.data(), half, own.data(), own.data() + half);
    } else {
      std::copy_n(all->values.data() + 2 * t * half, 2 * half, own.data());
    }
    float *sine = own.data(), *cosine = sine + half;
    if (direction < 0) std::transform(sine, cosine, sine, std::negate<>());
    for (std::size_t h = 0; h < heads; ++h) {
      float* head = x + h * head_dim;
      for (std::size_t i = 0; i < half; ++i) {
        const float a = head[i * step_], b = head[i * step_ + partner_];
        head[i * step_] = a * cosine[i] - b * sine[i];
        head[i * step_ + partner_] = b * cosine[i] + a * sine[i];
      }
    }
  }
}

}  // namespace kvzip
