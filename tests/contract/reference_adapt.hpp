// SPDX-License-Identifier: Apache-2.0
// A second decoder of the stage `adapt`, written from man/kvz.5 with plain loops.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

#include "codec/stream.hpp"

namespace kvzip::reference {

struct AdaptFields {
  double step = 0.5, round = 0.4;
  std::size_t width = 256;
  double growth = 0.5;
  std::vector<std::uint32_t> repeats{};  // of each row: how far above it its token stood last; empty: none
  double heads = 0;
};

/// 2^(g / 2) as a float.
inline float half_octaves(int g) {
  float x = g % 2 == 0 ? 1.0f : 0x1.6a09e6p-1f;
  const int whole = g % 2 == 0 ? g / 2 : (g + 1) / 2;
  for (int i = 0; i < whole; ++i) x *= 2;
  for (int i = 0; i > whole; --i) x /= 2;
  return x;
}

/// Integers of two streams: classes, and bits of the others.
inline std::vector<int> magnitudes_of(const Stream& classes, const Stream& bits) {
  static constexpr int kBase[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 24, 32, 64, 320};
  static constexpr int kBits[] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 3, 5, 8, 14};
  std::size_t at = 0;
  const auto bit = [&] {
    const int b = bits.data[at / 8] >> at % 8 & 1;
    ++at;
    return b;
  };
  std::vector<int> out;
  for (const std::uint8_t c : classes.data) {
    int x = kBase[c];
    const bool negative = c != 0 && bit() == 1;
    for (int i = 0; i < kBits[c]; ++i) x += bit() << i;
    out.push_back(negative ? -x : x);
  }
  return out;
}

inline double dot(const float* a, const float* b, std::size_t n) {
  double d[8] = {};
  for (std::size_t i = 0; i < n; ++i) d[i < n - n % 8 ? i % 8 : 0] += double{a[i]} * double{b[i]};
  return ((d[0] + d[1]) + (d[2] + d[3])) + ((d[4] + d[5]) + (d[6] + d[7]));
}

/// The basis of one part. T is float for what the page says, double for what it approximates.
template <typename T>
struct Basis {
  std::size_t n;
  T noise;
  std::vector<T> b, k;
  double seen = 0;

  Basis(std::size_t columns, T noise_of_one) : n(columns), noise(noise_of_one), b(n * n), k(n * n) {
    for (std::size_t i = 0; i < n; ++i) b[i * n + i] = 1;
  }
  std::vector<T> row_of(const T* z) const {
    std::vector<T> y(n);
    for (std::size_t j = 0; j < n; ++j) {
      for (std::size_t i = 0; i < n; ++i) y[j] += z[i] * b[i * n + j];
    }
    return y;
  }
  std::vector<T> coefficients_of(const T* y) const {
    std::vector<T> z(n);
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = 0; j < n; ++j) z[i] += y[j] * b[i * n + j];
    }
    return z;
  }
  static double product(const T* a, const T* c, std::size_t n) {
    if constexpr (std::is_same_v<T, float>) return dot(a, c, n);
    double sum = 0;
    for (std::size_t i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(c[i]);
    return sum;
  }
  void learn(const T* z) {
    if (!(product(z, z, n) <= 16.0 * static_cast<double>(n))) return;
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = 0; j <= i; ++j) k[i * n + j] += z[i] * z[j];
    }
    ++seen;
  }
  void refresh() {
    const T f = noise * static_cast<T>(seen);
    std::vector<std::size_t> which;
    for (std::size_t v = 0; v < n; ++v) {
      if (k[v * n + v] > T(0.25) * f) which.push_back(v);
    }
    const std::size_t m = which.size();
    std::vector<T> u(m * m), l(m * m);
    for (std::size_t i = 0; i < m; ++i) {
      for (std::size_t j = 0; j < m; ++j) u[i * m + j] = k[which[std::max(i, j)] * n + which[std::min(i, j)]];
      u[i * m + i] += f;
    }
    if (!factorise(m, u, l)) return;
    const std::vector<T> before = b;
    for (std::size_t i = 0; i < m; ++i) {
      for (std::size_t j = 0; j < n; ++j) {
        T sum = 0;
        for (std::size_t h = 0; h < m; ++h) sum += u[i * m + h] * before[which[h] * n + j];
        b[which[i] * n + j] = sum;
      }
    }
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = 0; j < i; ++j) k[i * n + j] = 0;
    }
    for (std::size_t i = 0; i < m; ++i) {
      for (std::size_t j = 0; j <= i; ++j) {
        T sum = 0;
        for (std::size_t h = j; h < m; ++h) sum += u[i * m + h] * l[h * m + j];
        k[which[i] * n + which[j]] = i == j ? sum - f : sum;
      }
    }
  }
  /// u becomes orthonormal, l times it what u was.
  static bool factorise(std::size_t m, std::vector<T>& u, std::vector<T>& l) {
    bool again = false;
    if (!pass(m, u, l, again)) return false;
    for (int i = 0; i < 3 && again; ++i) {
      const std::vector<T> before = l;
      std::vector<T> now(m * m);
      if (!pass(m, u, now, again)) return false;
      for (std::size_t r = 0; r < m; ++r) {
        for (std::size_t c = 0; c < m; ++c) {
          l[r * m + c] = 0;
          for (std::size_t h = 0; h < m; ++h) l[r * m + c] += before[r * m + h] * now[h * m + c];
        }
      }
    }
    return true;
  }
  static bool pass(std::size_t m, std::vector<T>& u, std::vector<T>& l, bool& again) {
    again = false;
    std::vector<double> whole;
    for (std::size_t v = 0; v < m; ++v) whole.push_back(product(&u[v * m], &u[v * m], m));
    for (std::size_t b = 0; b < m; b += 16) {
      const std::size_t e = std::min(m, b + 16);
      for (std::size_t v = b; v < e; ++v) {
        const double energy = product(&u[v * m], &u[v * m], m);
        if (!(energy > 1e-30) || std::isinf(energy)) return false;
        if (energy < whole[v] / 1024) again = true;
        l[v * m + v] = static_cast<T>(std::sqrt(energy));
        const T c = static_cast<T>(1 / std::sqrt(energy));
        for (std::size_t j = 0; j < m; ++j) u[v * m + j] *= c;
        for (std::size_t i = v + 1; i < e; ++i) {
          const T p = static_cast<T>(product(&u[v * m], &u[i * m], m));
          l[i * m + v] = p;
          for (std::size_t j = 0; j < m; ++j) u[i * m + j] -= u[v * m + j] * p;
        }
      }
      for (std::size_t i = e; i < m; ++i) {
        for (std::size_t v = b; v < e; ++v) {
          for (std::size_t j = 0; j < m; ++j) l[i * m + v] += u[i * m + j] * u[v * m + j];
        }
        for (std::size_t v = b; v < e; ++v) {
          for (std::size_t j = 0; j < m; ++j) u[i * m + j] -= l[i * m + v] * u[v * m + j];
        }
      }
    }
    return true;
  }
};

/// Where the parts of `cols` columns end; `edges` are the columns where heads begin, and the end of the last one.
inline std::vector<std::size_t> part_ends(std::size_t cols, std::size_t width,
                                          const std::vector<std::uint32_t>& edges) {
  std::vector<std::size_t> ends;
  for (std::size_t b = 0; b < cols; b = ends.back()) {
    std::size_t e = std::min(cols, b + width), end = e;
    if (e < cols && edges.back() == cols) {
      for (const std::size_t head : edges) {
        if (head > b && head <= e) end = head;
      }
    }
    ends.push_back(end);
  }
  return ends;
}

/// The rows that predict each row: those before it with its token and the one before that, else those with its token.
inline std::vector<std::vector<std::size_t>> sources(const std::vector<std::uint32_t>& distance) {
  std::vector<std::size_t> token(distance.size());
  std::vector<std::vector<std::size_t>> out(distance.size());
  for (std::size_t t = 0; t < distance.size(); ++t) {
    token[t] = distance[t] > 0 && distance[t] <= t ? token[t - distance[t]] : t;
    for (std::size_t u = 1; u < t; ++u) {
      if (token[u] == token[t] && token[u - 1] == token[t - 1]) out[t].push_back(u);
    }
    if (!out[t].empty()) continue;
    for (std::size_t u = 0; u < t; ++u) {
      if (token[u] == token[t]) out[t].push_back(u);
    }
  }
  return out;
}

/// Predictions of one part, row by row.
struct Predictions {
  std::size_t n, cols, begin;
  std::vector<float> with, own, mean;
  std::vector<bool> usual;
  Predictions(std::size_t width, std::size_t row, std::size_t first)
      : n(width), cols(row), begin(first), with(n, 0.5f), own(n, 1.0f), mean(n) {}

  /// Adds to row t of z; rows before `from` count as their y in this basis.
  void predict(std::size_t t, std::size_t from, const std::vector<std::size_t>& of, const Basis<float>& basis,
               const std::vector<float>& y, std::vector<float>& z) {
    std::vector<float> before(n);
    float count = 0;
    for (const std::size_t u : of) {
      if (!usual[u]) continue;
      ++count;
      for (std::size_t k = 0; u < from && k < n; ++k) before[k] += y[u * cols + begin + k];
    }
    mean = basis.coefficients_of(before.data());
    for (const std::size_t u : of) {
      for (std::size_t k = 0; usual[u] && u >= from && k < n; ++k) mean[k] += z[u * cols + begin + k];
    }
    for (std::size_t k = 0; k < n; ++k) {
      mean[k] *= count == 0 ? 0 : 1 / count;
      z[t * cols + begin + k] += mean[k] * std::clamp(with[k] / own[k], 0.0f, 1.0f);
    }
  }
  void learn(std::size_t t, bool predicted, const std::vector<float>& z) {
    const float* row = &z[t * cols + begin];
    usual.push_back(dot(row, row, n) <= 16.0 * static_cast<double>(n));
    for (std::size_t k = 0; usual[t] && predicted && k < n; ++k) {
      with[k] = with[k] * (63.0f / 64) + mean[k] * row[k];
      own[k] = own[k] * (63.0f / 64) + (mean[k] * mean[k] + 0x1p-20f);
    }
  }
};

/// The gain of each row in each part, row by row.
inline std::vector<int> gains_of(const Stream& first, const Stream* others, std::size_t parts) {
  std::vector<int> gains;
  for (std::size_t t = 0; t < first.rows; ++t) {
    gains.push_back(first.data[t] - 31);
    for (std::size_t p = 1; p < parts; ++p) {
      int g = gains.back() + others->data[t * (parts - 1) + p - 1];
      if (g > 31) g -= 63;
      gains.push_back(g);
    }
  }
  return gains;
}

/// What the stage adds to zeros: `streams` are its six, one more where parts may have gains of their own, one more
/// where they have, and two more where rows are predicted.
inline std::vector<float> adapt_decoded(const std::vector<Stream>& streams, std::size_t rows, std::size_t cols,
                                        const std::vector<std::uint32_t>& edges, const AdaptFields& fields) {
  std::uint32_t bits = 0;
  for (std::size_t i = 0; i < 4; ++i) bits |= std::uint32_t{streams[0].data[i]} << 8 * i;
  const float rms = std::bit_cast<float>(bits), s = static_cast<float>(fields.step);
  const std::vector<int> means = magnitudes_of(streams[1], streams[2]);
  const auto of = sources(fields.repeats.empty() ? std::vector<std::uint32_t>(rows) : fields.repeats);
  const std::vector<std::size_t> ends = fields.width == 0 ? std::vector{cols} : part_ends(cols, fields.width, edges);
  const bool may = fields.heads > 0 && ends.size() > 1, apart = may && streams[3].data[0] == 1;
  const std::size_t of_gains = may ? 4 : 3, first = of_gains + (apart ? 2 : 1);
  const std::vector<int> gains =
      gains_of(streams[of_gains], apart ? &streams[of_gains + 1] : nullptr, apart ? ends.size() : 1);
  std::vector<int> plain = magnitudes_of(streams[first], streams[first + 1]), codes, others;
  if (streams.size() > first + 2) others = magnitudes_of(streams[first + 2], streams[first + 3]);
  for (std::size_t t = 0, at[2]{}; t < rows; ++t) {
    std::size_t& from = at[of[t].empty() ? 0 : 1];
    const std::vector<int>& some = of[t].empty() ? plain : others;
    for (std::size_t c = 0; c < cols; ++c) codes.push_back(some.at(from++));
  }
  const float u = static_cast<float>(0.5 - fields.round);
  std::vector<float> z(rows * cols), y;
  for (std::size_t t = 0; t < rows; ++t) {
    for (std::size_t c = 0, part = 0; c < cols; ++c) {
      if (apart && c == ends[part]) ++part;
      const float step = s * half_octaves(-gains[apart ? t * ends.size() + part : t]);
      const int q = codes[t * cols + c];
      if (q != 0) z[t * cols + c] = (q > 0 ? static_cast<float>(q) + u : static_cast<float>(q) - u) * step;
    }
  }
  y.resize(z.size());
  std::size_t begin = 0;
  for (const std::size_t end : ends) {
    Basis<float> basis(end - begin, static_cast<float>(fields.step * fields.step / 12));
    Predictions predictions(end - begin, cols, begin);
    for (std::size_t from = 0, to = 0; from < rows; from = to) {
      const double grown = fields.growth * static_cast<double>(std::max((end - begin) / 2, from));
      to = std::min(rows, from + std::max<std::size_t>(16, static_cast<std::size_t>(grown)));
      for (std::size_t t = from; t < to; ++t) {
        if (!of[t].empty()) predictions.predict(t, from, of[t], basis, y, z);
        predictions.learn(t, !of[t].empty(), z);
      }
      for (std::size_t t = from; t < to; ++t) {
        const std::vector<float> row = basis.row_of(&z[t * cols + begin]);
        std::copy(row.begin(), row.end(), y.begin() + static_cast<std::ptrdiff_t>(t * cols + begin));
        if (to < rows && fields.width != 0) basis.learn(&z[t * cols + begin]);
      }
      if (to < rows && fields.width != 0) basis.refresh();
    }
    begin = end;
  }
  int finer = rows == 0 ? 0 : 2;
  while (finer < 8 && rows >> (finer - 1) != 0) ++finer;
  for (std::size_t i = 0; i < y.size(); ++i) {
    y[i] = y[i] * rms + static_cast<float>(means[i % cols]) * (s * half_octaves(-finer) * rms);
  }
  return y;
}

}  // namespace kvzip::reference
