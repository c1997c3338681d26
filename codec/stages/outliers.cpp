// SPDX-License-Identifier: Apache-2.0
// Sparse outliers stored exactly, as GEAR (arXiv 2403.05527 section 3, S = Filter(X)): of each vector the floor(n s /
// 2) smallest and as many largest values, for keys along the tokens of a channel, for values along the channels of a
// token. The place of an outlier takes the mean of its vector, so that it widens no quantisation range. GEAR's released
// code draws the count for keys from the channel count instead of the vector's length; the paper's per-vector share is
// used here.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <optional>
#include <span>

#include "codec/buffer.hpp"
#include "codec/kernels/select.hpp"
#include "codec/side.hpp"
#include "codec/stages/stages.hpp"
#include "kvzip/error.hpp"

namespace kvzip {
namespace {

enum class Axis : std::uint8_t { channel, token, tile };
enum class Select : std::uint8_t { ends, magnitude };

/// `count` vectors of `length` values; `taken` of each are outliers. Value j of vector i is at i * step + j * stride.
struct Vectors {
  std::uint32_t count, length, taken;
  std::size_t step, stride;
};

/// A candidate as one number: its value's rank among floats in the upper half, its place in the lower. Numbers ascend
/// with the values, of equal values (0 and -0 are) with the places.
std::uint64_t candidate(float value, std::uint32_t at) {
  const auto bits = std::bit_cast<std::uint32_t>(value + 0.0f);
  const std::uint32_t rank = bits ^ ((bits >> 31) != 0 ? 0xffffffffu : 0x80000000u);
  return std::uint64_t{rank} << 32 | at;
}
/// Turns the order of values around, not that of places.
constexpr std::uint64_t kDescending = 0xffffffff00000000u;

/// The number that n others are smaller than; all differ. Quickselect without branches on data for the few numbers that
/// are the rule.
std::uint64_t nth_smallest(std::span<std::uint64_t> numbers, std::size_t n) {
  constexpr std::size_t kFew = 512;
  if (numbers.size() > kFew) {
    std::nth_element(numbers.begin(), numbers.begin() + static_cast<std::ptrdiff_t>(n), numbers.end());
    return numbers[n];
  }
  for (;;) {
    std::swap(numbers[numbers.size() / 2], numbers.back());
    const std::uint64_t pivot = numbers.back();
    std::size_t below = 0;
    for (std::uint64_t& x : numbers.first(numbers.size() - 1)) {
      const std::uint64_t now = x;
      x = numbers[below];
      numbers[below] = now;
      below += static_cast<std::size_t>(now < pivot);
    }
    if (below == n) return pivot;
    std::swap(numbers[below], numbers.back());
    if (n < below) {
      numbers = numbers.first(below);
    } else {
      numbers = numbers.subspan(below + 1);
      n -= below + 1;
    }
  }
}

/// Takes the outliers of a tile, vector by vector. A sample of each vector gives bounds that the outliers most likely
/// lie beyond; one pass collects all that lies beyond them, and only among these is the exact choice made. Where the
/// sample misled, every value of the vector is a candidate: bounds never change what is chosen.
class Picker {
 public:
  Picker(const Vectors& v, Select select, const float* values) : v_(v), select_(select), values_(values) {
    const double wanted = select == Select::ends ? v.taken / 2 : v.taken;
    sample_ = std::min(v.length, std::clamp(v.length / 8, 64u, 512u));
    // Of the sample, this many are expected beyond the least outlier; three deviations and one more are added.
    for (;; sample_ /= 2) {
      const double expected = wanted * sample_ / v.length;
      which_ = static_cast<std::uint32_t>(std::ceil(expected + 3 * std::sqrt(expected))) + 1;
      if (which_ <= kMostKept || sample_ <= 64) break;
    }
    guided_ = which_ <= kMostKept && which_ <= sample_;
    together_ = std::min(v.count, v.stride == 1 ? 16u : 1024u);
    room_ = static_cast<std::uint32_t>(
        std::min<std::uint64_t>(v.length, std::uint64_t{v.length} * which_ * 4 / sample_ + 64));
    // An odd number of cache lines: where the lanes' candidates end differs in all bits that choose a place in a cache.
    constexpr std::uint32_t kLine = 64 / sizeof(std::uint64_t);
    room_ = ((room_ + kLine - 1) / kLine | 1) * kLine;
    if (!guided_) return;
    // Not at equal distances, so that no period of the channels is met every time.
    const std::uint32_t apart = v.length / sample_;
    for (std::uint64_t s = 0; s < sample_; ++s) {
      sampled_.push_back(static_cast<std::uint32_t>(s * v.length / sample_ + s * 5 % apart));
    }
    samples_.resize(std::size_t{sample_} * together_);
    kept_.resize(std::size_t{2} * which_ * kernels::kMostLanes);
    least_.resize(together_);
    most_.resize(together_);
    low_.resize(v.stride == 1 ? 0 : together_);
    high_.resize(low_.size());
    places_.resize(v.stride == 1 ? std::min(v.length, kPiece) : together_);
    found_.resize(std::size_t{room_} * together_);
  }

  /// Calls take(vector, its mean, the ascending places of its outliers) for every vector.
  template <typename F>
  void pick(F&& take) {
    for (first_ = 0; first_ < v_.count; first_ += together_) {
      lanes_ = std::min(together_, v_.count - first_);
      sums_.assign(lanes_, 0);
      counts_.assign(lanes_, 0);
      bounds_.assign(lanes_, {});
      if (v_.stride == 1) {
        scan_rows();
      } else {
        scan_columns();
      }
      for (std::uint32_t i = 0; i < lanes_; ++i) {
        choose(i);
        take(first_ + i, static_cast<float>(sums_[i] / v_.length),
             std::span<const std::uint32_t>(chosen_.data(), v_.taken));
      }
    }
  }

 private:
  static constexpr std::uint32_t kMostKept = 16;
  static constexpr std::uint32_t kPiece = 4096;
  struct Bounds {
    float low, high;
  };

  const float* vector(std::uint32_t lane) const { return values_ + (first_ + lane) * v_.step; }

  void set_bounds() {
    if (v_.stride == 1) {
      for (std::uint32_t i = 0; i < lanes_; ++i) {
        for (std::size_t s = 0; s < sample_; ++s) samples_[s * lanes_ + i] = vector(i)[sampled_[s]];
      }
    } else {
      for (std::size_t s = 0; s < sample_; ++s) {
        std::copy_n(vector(0) + sampled_[s] * v_.stride, lanes_, samples_.data() + s * lanes_);
      }
    }
    if (select_ == Select::magnitude) {
      for (float& x : samples_) x = std::fabs(x);
    }
    kernels::column_extremes(samples_.data(), sample_, lanes_, which_, kept_.data(), least_.data(), most_.data());
    for (std::uint32_t i = 0; i < lanes_; ++i) {
      bounds_[i] = {select_ == Select::magnitude ? -most_[i] : least_[i], most_[i]};
    }
  }

  void note(std::uint32_t lane, float value, std::uint32_t at) {
    std::uint32_t& n = counts_[lane];
    if (n < room_) found_[std::size_t{lane} * room_ + n] = candidate_of(value, at);
    ++n;
  }
  std::uint64_t candidate_of(float value, std::uint32_t at) const {
    return candidate(select_ == Select::magnitude ? -std::fabs(value) : value, at);
  }

  double sum(std::uint32_t lane) const {
    double sum = 0;
    for (std::uint32_t j = 0; j < v_.length; j += kPiece) {
      sum += kernels::sum(vector(lane) + j, std::min(kPiece, v_.length - j));
    }
    return sum;
  }

  void scan_rows() {
    for (std::uint32_t i = 0; i < lanes_; ++i) sums_[i] = sum(i);  // in order, which brings the vectors near
    if (!guided_) return;
    set_bounds();
    for (std::uint32_t i = 0; i < lanes_; ++i) {
      const Bounds b = bounds_[i];
      for (std::uint32_t j = 0; j < v_.length; j += kPiece) {
        const float* x = vector(i) + j;
        const std::uint32_t n = std::min(kPiece, v_.length - j);
        const std::size_t hits = kernels::places_beyond(x, n, b.low, b.high, places_.data());
        note_all(i, x, j, {places_.data(), hits});
      }
    }
  }

  /// note() for many places of one piece of a vector, x its values from place `from` on.
  void note_all(std::uint32_t lane, const float* x, std::uint32_t from, std::span<const std::uint32_t> places) {
    const std::uint32_t n = counts_[lane];
    counts_[lane] += static_cast<std::uint32_t>(places.size());
    if (counts_[lane] > room_) return;  // choose() then looks at every value
    const Select select = select_;
    std::uint64_t* to = found_.data() + std::size_t{lane} * room_ + n;
    for (const std::uint32_t at : places) {
      *to++ = candidate(select == Select::magnitude ? -std::fabs(x[at]) : x[at], from + at);
    }
  }

  void scan_columns() {
    if (guided_) set_bounds();
    for (std::uint32_t i = 0; guided_ && i < lanes_; ++i) {
      low_[i] = bounds_[i].low;
      high_[i] = bounds_[i].high;
    }
    for (std::uint32_t j = 0; j < v_.length; ++j) {
      const float* x = vector(0) + j * v_.stride;
      kernels::add_to_columns(x, lanes_, sums_.data());
      if (!guided_) continue;
      const std::size_t hits = kernels::places_beyond(x, lanes_, low_.data(), high_.data(), places_.data());
      for (std::size_t h = 0; h < hits; ++h) note(places_[h], x[places_[h]], j);
    }
  }

  /// The exact choice for one vector of the present ones, among its candidates or among all its values.
  void choose(std::uint32_t lane) {
    const Bounds b = bounds_[lane];
    if (guided_ && counts_[lane] <= room_) {
      if (choose_among({found_.data() + std::size_t{lane} * room_, counts_[lane]}, b)) return;
    }
    all_.resize(v_.length);
    for (std::uint32_t j = 0; j < v_.length; ++j) all_[j] = candidate_of(vector(lane)[j * v_.stride], j);
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    choose_among(all_, {kInfinity, -kInfinity});
  }

  /// False when there are too few candidates beyond a bound to be sure.
  bool choose_among(std::span<const std::uint64_t> candidates, Bounds b) {
    if (select_ == Select::magnitude) {
      const auto last = nth(candidates, v_.taken, 0, [](std::uint64_t) { return true; });
      if (last) keep(candidates, [&](std::uint64_t c) { return c <= *last; });
      return last.has_value();
    }
    // Half of them from each end; the largest are sought among what the smallest leave, so that none is taken twice.
    const std::size_t half = v_.taken / 2;
    const std::uint64_t low = candidate(b.low, ~0u), high = candidate(b.high, 0);
    const auto low_last = nth(candidates, half, 0, [&](std::uint64_t c) { return c <= low; });
    if (!low_last) return false;
    const std::uint64_t first = std::max(high, *low_last + 1);
    const auto high_last = nth(candidates, half, kDescending, [&](std::uint64_t c) { return c >= first; });
    if (!high_last) return false;
    keep(candidates, [&](std::uint64_t c) {
      // No `||`, which may branch.
      return (static_cast<unsigned>(c <= *low_last) | static_cast<unsigned>((c ^ kDescending) <= *high_last)) != 0;
    });
    return true;
  }

  /// Of the wanted candidates, each turned by `mask`, the n-th smallest, counted from 1, if there are so many. This and
  /// keep() store every candidate and step on past the wanted ones: which these are no branch predictor can guess.
  template <typename Wanted>
  std::optional<std::uint64_t> nth(std::span<const std::uint64_t> candidates, std::size_t n, std::uint64_t mask,
                                   Wanted wanted) {
    order_.resize(std::max(order_.size(), candidates.size() + 1));
    std::uint64_t* order = order_.data();
    std::size_t count = 0;
    for (const std::uint64_t c : candidates) {
      order[count] = c ^ mask;
      count += static_cast<std::size_t>(wanted(c));
    }
    if (count < n) return std::nullopt;
    return nth_smallest({order, count}, n - 1);
  }
  template <typename Wanted>
  void keep(std::span<const std::uint64_t> candidates, Wanted wanted) {
    chosen_.resize(v_.taken + std::size_t{1});
    std::uint32_t* chosen = chosen_.data();
    std::size_t count = 0;
    for (const std::uint64_t c : candidates) {
      chosen[count] = static_cast<std::uint32_t>(c);
      count += static_cast<std::size_t>(wanted(c));
    }
  }

  const Vectors v_;
  const Select select_;
  const float* values_;
  bool guided_ = false;            // bounds from samples are worth their while
  std::uint32_t sample_, which_;   // values sampled of a vector; the one of them that bounds, from either end
  std::uint32_t together_, room_;  // vectors scanned together; candidates kept of each
  std::uint32_t first_ = 0, lanes_ = 0;
  std::vector<float> samples_, kept_, least_, most_, low_, high_;
  std::vector<std::uint32_t> sampled_, places_, counts_;
  std::vector<double> sums_;
  std::vector<Bounds> bounds_;
  std::vector<std::uint32_t> chosen_;
  Buffer<std::uint64_t> found_;
  std::vector<std::uint64_t> all_, order_;
};

class Outliers final : public Cloned<Outliers, Stage> {
 public:
  StageKind kind() const override { return StageKind::elements; }

  void fields(FieldVisitor& v) override {
    static constexpr std::array<std::string_view, 3> kAxes{"channel", "token", "tile"};
    static constexpr std::array<std::string_view, 2> kSelects{"ends", "magnitude"};
    v.real("share", share_, 0, 0.5, "share of each vector's values");
    v.integer("count", count_, 0, 1u << 20, "values per vector, instead of a share", "share");
    v.choice("axis", axis_, kAxes, "a vector is one channel's tokens, one token's channels, or the whole tile");
    v.choice("select", select_, kSelects, "ends: half smallest, half largest; magnitude: largest absolute values");
  }

  void encode(Tile& tile, EncodeContext& to) const override {
    const Vectors v = vectors(tile.shape);
    Stream positions = position_stream(v.count, v.taken, v.length);
    std::vector<float> values;
    values.reserve(positions.count());
    positions.positions.reserve(positions.count());
    if (tile.taken.empty()) tile.taken.assign(tile.values.size(), 0);
    if (v.taken != 0) {
      const auto place_of = [&](std::uint32_t vector, std::uint32_t j) { return vector * v.step + j * v.stride; };
      const auto take = [&](std::uint32_t vector, float mean, std::span<const std::uint32_t> outliers) {
        for (std::size_t k = 0; k < outliers.size(); ++k) {
          if (k + kAhead < outliers.size()) {
            const std::size_t ahead = place_of(vector, outliers[k + kAhead]);
            __builtin_prefetch(&tile.values[ahead], 1);
            __builtin_prefetch(&tile.taken[ahead], 1);
          }
          const std::size_t place = place_of(vector, outliers[k]);
          values.push_back(tile.values[place]);
          positions.positions.push_back(outliers[k]);
          tile.values[place] = mean;
          tile.taken[place] = 1;
        }
      };
      Picker(v, select_, tile.values.data()).pick(take);
    }
    to.finite = true;  // a mean of finite values is finite
    pass_outliers(to.out, v, tile.context->source, positions, values);
  }

  void decode(Tile& tile, TileShape in, DecodeContext& from) const override {
    const Vectors v = vectors(in);
    Stream positions = position_stream(v.count, v.taken, v.length);
    std::vector<float> values;
    pass_outliers(from.in, v, tile.context->source, positions, values);
    for (std::uint32_t i = 0; v.taken > 0 && i < v.count; ++i) {
      float* base = tile.values.data() + i * v.step;
      for (std::uint32_t k = 0; k < v.taken; ++k) {
        const std::size_t at = std::size_t{i} * v.taken + k;
        base[positions.positions[at] * v.stride] = values[at];
      }
    }
  }

 private:
  /// Outliers of a channel are rows apart, where no machine sees the next ones coming.
  static constexpr std::size_t kAhead = 16;

  Vectors vectors(TileShape shape) const {
    Vectors v{};
    switch (axis_) {
      case Axis::channel:
        v = {shape.cols, shape.rows, 0, 1, shape.cols};
        break;
      case Axis::token:
        v = {shape.rows, shape.cols, 0, shape.cols, 1};
        break;
      case Axis::tile:
        v = {1, static_cast<std::uint32_t>(std::size_t{shape.rows} * shape.cols), 0, 0, 1};
        break;
    }
    const double wanted = count_ != 0 ? static_cast<double>(count_) : static_cast<double>(v.length) * share_;
    const double most = std::min(wanted, static_cast<double>(v.length));
    v.taken = select_ == Select::ends ? 2 * static_cast<std::uint32_t>(most / 2) : static_cast<std::uint32_t>(most);
    return v;
  }
  static void pass_outliers(StreamPort& port, const Vectors& v, DType source, Stream& positions,
                            std::vector<float>& values) {
    port.pass(positions);
    pass_source(port, {StreamLabel::outliers, v.count, v.taken}, source, values);
  }

  double share_ = 0.02;
  std::uint64_t count_ = 0;
  Axis axis_ = Axis::channel;
  Select select_ = Select::ends;
};

}  // namespace

std::unique_ptr<Stage> make_outliers() {
  return std::make_unique<Outliers>();
}

}  // namespace kvzip
