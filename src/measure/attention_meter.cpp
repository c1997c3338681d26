// SPDX-License-Identifier: Apache-2.0
// Softmax over tokens that come in pieces (online softmax: Milakov and Gimelshein, arXiv 1805.02867; with outputs:
// FlashAttention, arXiv 2205.14135 section 3.1), for two sides at once.
//
// With s and s' the logits of a pair, d = s - s' comes from its own product q.(k - k'), so that a small error is not
// the difference of two large logits. m is the running maximum of s and m - r that of s'; u = s - m, e = d - r. Kept
// are
//   Z = sum w,  A = sum (w' - w),  B = sum (w' - w + w e),  with w = exp(u) and w' = exp(u - e), so that Z' = Z + A and
//   KL(p || p') = E_p[e] + log(Z' / Z) = B / Z - (x - log(1 + x)) with x = A / Z:
// both terms are of second order in e, so that a small KL is not the difference of two larger numbers, and equal
// inputs give 0.
#include "src/measure/attention_meter.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <utility>
#include <vector>

#include "codec/fail.hpp"
#include "codec/kernels/attention.hpp"
#include "codec/portable_math.hpp"

namespace kvzip {
namespace {

using kernels::kQueryTile, kernels::kTokenBlock, kernels::kTokenPanel;

constexpr float kLargestNumber = 1e30f;  // products of weights and numbers stay floats
constexpr std::uint64_t kMostTokens = std::uint64_t{1} << 32;

bool usable(const float* x, std::size_t n) {
  bool good = true;
  for (std::size_t i = 0; i < n; ++i) good &= std::fabs(x[i]) <= kLargestNumber;
  return good;
}

/// exp(), where what is far below the largest weight is none.
double weight_of(double logit) {
  constexpr double kLeast = -700;
  return logit < kLeast ? 0 : portable::exp(std::min(logit, -kLeast));
}

}  // namespace

// Of these types are members of State, which is not of this file alone: hence a name.
namespace meter {

/// The tokens with the largest logits; of equal ones the earlier.
class TopTokens {
 public:
  /// Logits of the tokens from `first` on, less `change` unless that is null; none is larger than `largest`.
  void add(const float* logits, const float* change, std::size_t count, float largest, std::uint32_t first,
           std::size_t k) {
    if (heap_.size() == k && !(largest > heap_.front().first)) return;
    constexpr std::size_t kSome = 16;  // few tokens get in, so looking at several at once pays
    for (std::size_t begin = 0; begin < count; begin += kSome) {
      const std::size_t end = std::min(begin + kSome, count);
      const float bar = heap_.size() == k ? heap_.front().first : kernels::kNoLogit;
      bool any = false;
      for (std::size_t t = begin; t < end; ++t) any |= (change == nullptr ? logits[t] : logits[t] - change[t]) > bar;
      for (std::size_t t = begin; any && t < end; ++t) {
        if (logits[t] != kernels::kNoLogit) offer(change == nullptr ? logits[t] : logits[t] - change[t], first + t, k);
      }
    }
  }
  /// The share of these tokens that the other holds, too; both have seen the same tokens.
  double overlap(const TopTokens& other) const {
    const auto tokens = [](const TopTokens& top) {
      std::vector<std::uint32_t> out;
      for (const auto& [logit, token] : top.heap_) out.push_back(token);
      std::sort(out.begin(), out.end());
      return out;
    };
    std::vector<std::uint32_t> common;
    std::ranges::set_intersection(tokens(*this), tokens(other), std::back_inserter(common));
    return static_cast<double>(common.size()) / static_cast<double>(heap_.size());
  }

 private:
  using Entry = std::pair<float, std::uint32_t>;
  static bool before(const Entry& a, const Entry& b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  }
  void offer(float logit, std::uint64_t token, std::size_t k) {
    if (heap_.size() == k) {
      if (!(logit > heap_.front().first)) return;
      std::pop_heap(heap_.begin(), heap_.end(), before);
      heap_.pop_back();
    }
    heap_.emplace_back(logit, static_cast<std::uint32_t>(token));
    std::push_heap(heap_.begin(), heap_.end(), before);
  }
  std::vector<Entry> heap_;  // the smallest, and of those the latest, in front
};

/// Floats on cache lines of their own: loads of whole vectors that cross lines cost twice.
template <typename T>
struct LineAllocator {
  using value_type = T;
  static constexpr std::align_val_t kLine{64};
  LineAllocator() = default;
  template <typename U>
  LineAllocator(const LineAllocator<U>&) {}
  T* allocate(std::size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), kLine)); }
  void deallocate(T* p, std::size_t) noexcept { ::operator delete(p, kLine); }
  bool operator==(const LineAllocator&) const { return true; }
};
using Lines = std::vector<float, LineAllocator<float>>;

struct Query {
  bool finite = true, any = false;
  float m = 0, r = 0;
  double weights = 0, change = 0, second = 0;  // Z, A, B
  double logit_error = 0, logit_energy = 0;
  std::uint64_t left_out = 0;
  TopTokens top, top_decoded;

  struct Factors {
    double original = 1, decoded = 1;
  };
  /// Moves the references to m and r; sums over tokens become sums of the new weights.
  Factors move(float to_m, float to_r) {
    Factors f;
    if (any && to_m == m && to_r == r) return f;
    if (any) {
      const double fall = double{m} - to_m, turn = double{to_r} - r;
      f = {weight_of(fall), weight_of(fall + turn)};
      // f' - f, and f' - f - f turn, of second order in turn as B is.
      const bool small = std::fabs(turn) < 1;
      const double first = small ? f.original * portable::expm1(turn) : f.decoded - f.original;
      second = f.original * second + first * change + (first - f.original * turn) * weights;
      change = f.decoded * change + first * weights;
      weights *= f.original;
    }
    any = true;
    m = to_m;
    r = to_r;
    return f;
  }

  double divergence() const {
    const double x = change / weights;
    return std::max(second / weights - (x - portable::log1p(x)), 0.0);
  }
};

}  // namespace meter

using meter::Lines, meter::Query;

namespace {

/// How many of these ascending positions are not above `position`.
std::size_t up_to(std::uint64_t position, std::span<const std::uint64_t> positions) {
  return static_cast<std::size_t>(std::upper_bound(positions.begin(), positions.end(), position) - positions.begin());
}

}  // namespace

struct AttentionMeter::State {
  Shape shape;
  std::vector<std::uint64_t> positions;
  std::size_t tiles = 0;     // of one head
  Lines queries;             // times the scale: head, tile, channel, query
  std::vector<Query> state;  // tiles * kQueryTile of each head
  std::vector<double> out, out_decoded;
  std::vector<AttentionError> errors;
  std::uint64_t next_position = 0, tokens = 0;

  // The tokens of one block that are not left out.
  std::size_t kept = 0;
  std::array<std::uint64_t, kTokenBlock> position{};
  std::array<std::size_t, kTokenBlock> taken{};  // their places in the block
  Lines keys, values, decoded_keys, decoded_values;
  Lines panels, differences, added;
  bool same_keys = false;

  State(const Shape& s, std::span<const float> q, std::span<const std::uint64_t> at);
  void take(std::span<const std::uint64_t> block, const std::array<const float*, 4>& rows);
  void pack();
  void run_block(std::span<const std::uint64_t> block);
  Query::Factors weigh(Query& query, std::size_t hidden, std::size_t sees, std::size_t width, float* s, float* d) const;
  void run_tile(std::size_t head, std::size_t tile, std::span<const std::uint64_t> block);
  std::size_t seen(std::uint64_t query) const;
  std::uint64_t before_window(std::uint64_t query) const {
    return shape.window == 0 || query < shape.window ? 0 : query - shape.window + 1;
  }
  void finish_query(std::size_t at, AttentionError& error) const;
};

AttentionMeter::State::State(const Shape& s, std::span<const float> q, std::span<const std::uint64_t> at)
    : shape(s), positions(at.begin(), at.end()) {
  if (s.query_heads == 0 || s.head_dim == 0 || s.value_dim == 0 || s.top_k == 0 || !std::isfinite(s.scale) ||
      s.scale < 0 || !std::is_sorted(at.begin(), at.end()) ||
      q.size() != std::size_t{s.query_heads} * at.size() * s.head_dim) {
    fail(ErrorCode::invalid_argument, "attention: {} values are not queries of {} heads, {} positions, {} channels",
         q.size(), s.query_heads, at.size(), s.head_dim);
  }
  const double scale = s.scale != 0 ? s.scale : 1 / std::sqrt(static_cast<double>(s.head_dim));
  const std::size_t dim = s.head_dim;
  tiles = (at.size() + kQueryTile - 1) / kQueryTile;
  state.resize(s.query_heads * tiles * kQueryTile);
  queries.assign(state.size() * dim, 0.0f);
  out.assign(state.size() * s.value_dim, 0.0);
  out_decoded = out;
  for (std::size_t head = 0; head < s.query_heads; ++head) {
    for (std::size_t i = 0; i < at.size(); ++i) {
      const std::size_t tile = head * tiles + i / kQueryTile, lane = i % kQueryTile;
      const float* from = q.data() + (head * at.size() + i) * dim;
      state[tile * kQueryTile + lane].finite = usable(from, dim);
      if (!usable(from, dim)) continue;
      for (std::size_t c = 0; c < dim; ++c) {
        queries[(tile * dim + c) * kQueryTile + lane] = static_cast<float>(scale * from[c]);
      }
    }
  }
  panels.resize(kTokenBlock * dim);
  for (Lines* block : {&keys, &decoded_keys, &differences}) block->resize(panels.size());
  for (Lines* block : {&values, &decoded_values}) block->resize(kTokenBlock * std::size_t{s.value_dim});
  added.resize(2 * kQueryTile * s.value_dim);
}

/// rows: keys, values, decoded keys, decoded values of up to kTokenBlock tokens.
void AttentionMeter::State::take(std::span<const std::uint64_t> block, const std::array<const float*, 4>& rows) {
  const std::array<std::size_t, 4> dims{shape.head_dim, shape.value_dim, shape.head_dim, shape.value_dim};
  kept = 0;
  for (std::size_t t = 0; t < block.size(); ++t) {
    bool good = true;
    for (std::size_t i = 0; i < 4; ++i) good = good && usable(rows[i] + t * dims[i], dims[i]);
    if (!good) continue;
    taken[kept] = t;
    position[kept++] = block[t];
  }
  const std::array<Lines*, 4> to{&keys, &values, &decoded_keys, &decoded_values};
  for (std::size_t i = 0; i < 4; ++i) {
    for (std::size_t t = 0; t < kept; ++t) {
      std::memcpy(to[i]->data() + t * dims[i], rows[i] + taken[t] * dims[i], dims[i] * sizeof(float));
    }
  }
}

void AttentionMeter::State::pack() {
  const std::size_t n = kept * shape.head_dim;
  kernels::pack_panels(keys.data(), kept, shape.head_dim, panels.data());
  same_keys = std::equal(keys.data(), keys.data() + n, decoded_keys.data());
  if (same_keys) return;
  kernels::pack_difference(keys.data(), decoded_keys.data(), kept, shape.head_dim, differences.data());
}

/// Tokens of the block that are not left out and that a query at this position sees.
std::size_t AttentionMeter::State::seen(std::uint64_t query) const {
  return up_to(query, std::span(position).first(kept));
}

void AttentionMeter::State::run_block(std::span<const std::uint64_t> block) {
  pack();
  for (std::size_t head = 0; head < shape.query_heads; ++head) {
    for (std::size_t tile = 0; tile < tiles; ++tile) run_tile(head, tile, block);
  }
}

/// Logits s and differences d of one query with its tokens become weights w and w'. Those of the first `hidden` tokens
/// become no numbers, which weigh nothing.
Query::Factors AttentionMeter::State::weigh(Query& query, std::size_t hidden, std::size_t sees, std::size_t width,
                                            float* s, float* d) const {
  std::fill_n(s, hidden, std::numeric_limits<float>::quiet_NaN());
  const kernels::LogitRange range = kernels::check_logits(s, d, sees, width);
  query.left_out += range.left_out - hidden;
  if (sees == range.left_out) {
    std::fill(s, s + width, 0.0f);
    std::fill(d, d + width, 0.0f);
    return {};
  }
  query.logit_energy += range.squares;
  query.logit_error += range.squared_error;
  const auto first = static_cast<std::uint32_t>(tokens);
  query.top.add(s, nullptr, sees, range.largest, first, shape.top_k);
  query.top_decoded.add(s, d, sees, range.largest_decoded, first, shape.top_k);
  const float was = query.m - query.r;
  const float m = query.any ? std::max(query.m, range.largest) : range.largest;
  const float m_decoded = query.any ? std::max(was, range.largest_decoded) : range.largest_decoded;
  const bool still = query.any && m == query.m && m_decoded == was;
  const Query::Factors factors = query.move(m, still ? query.r : m - m_decoded);
  const kernels::WeightSums sums = kernels::weigh(s, d, width, query.m, query.r);
  query.weights += sums.weights;
  query.change += sums.change;
  query.second += sums.second;
  return factors;
}

void AttentionMeter::State::run_tile(std::size_t head, std::size_t tile, std::span<const std::uint64_t> block) {
  alignas(64) std::array<float, kQueryTile * kTokenBlock> s, d;
  const std::size_t begin = tile * kQueryTile, asking = std::min(kQueryTile, positions.size() - begin);
  const std::uint64_t last = positions[begin + asking - 1];
  if (last < block.front()) return;
  const std::size_t dim = shape.head_dim, vdim = shape.value_dim, base = (head * tiles + tile) * kQueryTile;
  const std::size_t some = seen(last), width = (some + kTokenPanel - 1) / kTokenPanel * kTokenPanel;
  kernels::tile_logits(queries.data() + base * dim, panels.data(), dim, some, s.data());
  if (same_keys) {
    d.fill(0);
  } else {
    kernels::tile_logits(queries.data() + base * dim, differences.data(), dim, some, d.data());
  }
  std::array<Query::Factors, kQueryTile> factors;
  for (std::size_t i = 0; i < kQueryTile; ++i) {
    Query& query = state[base + i];
    const bool asks = i < asking && query.finite && positions[begin + i] >= block.front();
    const std::size_t sees = asks ? seen(positions[begin + i]) : 0;
    const std::uint64_t gone = asks ? before_window(positions[begin + i]) : 0;  // positions below this are not seen
    const std::size_t hidden = gone == 0 ? 0 : seen(gone - 1);
    if (asks) {
      const std::size_t passed = gone == 0 ? 0 : up_to(gone - 1, block);
      query.left_out += up_to(positions[begin + i], block) - passed - (sees - hidden);
    }
    factors[i] = weigh(query, hidden, sees, width, s.data() + i * kTokenBlock, d.data() + i * kTokenBlock);
  }
  kernels::tile_outputs(s.data(), values.data(), some, vdim, added.data());
  kernels::tile_outputs(d.data(), decoded_values.data(), some, vdim, added.data() + kQueryTile * vdim);
  for (std::size_t i = 0; i < asking; ++i) {
    kernels::scale_and_add(added.data() + i * vdim, vdim, factors[i].original, out.data() + (base + i) * vdim);
    kernels::scale_and_add(added.data() + (kQueryTile + i) * vdim, vdim, factors[i].decoded,
                           out_decoded.data() + (base + i) * vdim);
  }
}

void AttentionMeter::State::finish_query(std::size_t at, AttentionError& error) const {
  const Query& query = state[at];
  error.left_out += query.left_out;
  if (!query.any) return;
  ++error.queries;
  error.logit_error += query.logit_error;
  error.logit_energy += query.logit_energy;
  error.divergence += query.divergence();
  error.overlap += query.top.overlap(query.top_decoded);
  const double z = query.weights, z_decoded = query.weights + query.change;
  double wrong = 0, energy = 0, energy_decoded = 0, dot = 0;
  for (std::size_t c = 0; c < shape.value_dim; ++c) {
    const double a = out[at * shape.value_dim + c] / z, b = out_decoded[at * shape.value_dim + c] / z_decoded;
    wrong += (a - b) * (a - b);
    energy += a * a;
    energy_decoded += b * b;
    dot += a * b;
  }
  error.output_error += wrong;
  error.output_energy += energy;
  if (wrong == 0) {
    error.cosine += 1;
  } else if (energy > 0 && energy_decoded > 0) {
    error.cosine += std::clamp(dot / (std::sqrt(energy) * std::sqrt(energy_decoded)), -1.0, 1.0);
  }
}

AttentionMeter::AttentionMeter(const Shape& shape, std::span<const float> queries,
                               std::span<const std::uint64_t> positions)
    : state_(std::make_unique<State>(shape, queries, positions)) {}
AttentionMeter::~AttentionMeter() = default;
AttentionMeter::AttentionMeter(AttentionMeter&&) noexcept = default;
AttentionMeter& AttentionMeter::operator=(AttentionMeter&&) noexcept = default;

void AttentionMeter::add(std::span<const std::uint64_t> positions, std::span<const float> keys,
                         std::span<const float> values, std::span<const float> decoded_keys,
                         std::span<const float> decoded_values) {
  State& s = *state_;
  const std::size_t dim = s.shape.head_dim, vdim = s.shape.value_dim, tokens = positions.size();
  const bool ascend = std::adjacent_find(positions.begin(), positions.end(), std::greater_equal<>()) == positions.end();
  if (keys.size() != tokens * dim || decoded_keys.size() != keys.size() || values.size() != tokens * vdim ||
      decoded_values.size() != values.size() || tokens > kMostTokens - s.tokens || !ascend ||
      (tokens != 0 && (positions.front() < s.next_position || positions.back() > (std::uint64_t{1} << 63)))) {
    fail(ErrorCode::invalid_argument, "attention: keys and values do not belong together, or positions go back");
  }
  for (std::size_t t = 0; t < tokens; t += kTokenBlock) {
    const std::span<const std::uint64_t> block = positions.subspan(t, std::min(kTokenBlock, tokens - t));
    if (!s.positions.empty() && s.positions.back() >= block.front()) {
      s.take(block, {keys.data() + t * dim, values.data() + t * vdim, decoded_keys.data() + t * dim,
                     decoded_values.data() + t * vdim});
      s.run_block(block);
    }
    s.tokens += block.size();
  }
  if (tokens != 0) s.next_position = positions.back() + 1;
}

std::span<const AttentionError> AttentionMeter::finish() {
  State& s = *state_;
  s.errors.assign(s.shape.query_heads, {});
  for (std::size_t head = 0; head < s.shape.query_heads; ++head) {
    for (std::size_t i = 0; i < s.positions.size(); ++i) {
      s.finish_query(head * s.tiles * kQueryTile + i, s.errors[head]);
    }
  }
  return s.errors;
}

}  // namespace kvzip
