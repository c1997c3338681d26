// SPDX-License-Identifier: Apache-2.0
#include "src/load/load_schedule.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "codec/number.hpp"

namespace kvzip::tool {
namespace {

/// The next number of a line; fail(invalid_argument) on anything else.
double take_number(std::string_view& rest, std::size_t line, std::string_view what) {
  rest.remove_prefix(std::min(rest.find_first_not_of(" \t"), rest.size()));
  const std::string_view word = rest.substr(0, rest.find_first_of(" \t"));
  const auto value = parse_number<double>(word, 0);
  if (!value) {
    fail(ErrorCode::invalid_argument, "line {}: expected SECONDS MBIT_PER_S, {} is not a number of 0 or more", line,
         what);
  }
  rest.remove_prefix(word.size());
  return *value;
}

class Simulation {
 public:
  Simulation(const LoadProblem& problem, const BandwidthTrace& trace, LoadPolicy policy)
      : p_(problem), trace_(trace), policy_(policy), estimate_(problem.initial) {
    schedule_.policy = policy;
    bytes_left_.resize(p_.levels.size());
    for (std::size_t l = 0; l < p_.levels.size(); ++l) {
      for (const std::uint64_t bytes : p_.levels[l].bytes) bytes_left_[l] += static_cast<double>(bytes);
    }
    for (const LoadChunk& chunk : p_.chunks) tokens_left_ += static_cast<double>(chunk.tokens);
    all_tokens_ = tokens_left_;
  }

  LoadSchedule run() {
    for (std::size_t c = 0; c < p_.chunks.size(); ++c) {
      perform(c, policy_ == LoadPolicy::paper ? paper_choice() : split_choice(c));
      tokens_left_ -= static_cast<double>(p_.chunks[c].tokens);
      for (std::size_t l = 0; l < p_.levels.size(); ++l) bytes_left_[l] -= static_cast<double>(p_.levels[l].bytes[c]);
    }
    schedule_.ready = ready_;
    schedule_.met = ready_ <= p_.slo;
    if (all_tokens_ > 0) schedule_.error /= all_tokens_;
    return std::move(schedule_);
  }

 private:
  using Choice = std::optional<std::size_t>;  // a level, or none: recompute

  /// Section 5.3: what is left of the context in one configuration must fit what is left of the time. Text comes first,
  /// because it loses nothing; without an idea of the throughput, the level in the middle; when nothing fits, the
  /// smallest of what is left, which the paper leaves open.
  Choice paper_choice() const {
    const double time = p_.slo - now_;
    if (!estimate_ && schedule_.steps.empty()) return p_.levels.size() / 2;
    if (tokens_left_ * p_.recompute <= time) return {};
    if (!estimate_) return p_.levels.size() / 2;
    for (std::size_t l = 0; l < p_.levels.size(); ++l) {
      if (8 * bytes_left_[l] / *estimate_ <= time) return l;
    }
    const auto least = std::min_element(bytes_left_.begin(), bytes_left_.end());
    return static_cast<std::size_t>(least - bytes_left_.begin());
  }

  /// Released code, src/utils.py, config_selection: each chunk has the same share of the time, the bandwidth while it
  /// is sent is known, and text is what is left when no level fits.
  Choice split_choice(std::size_t chunk) const {
    const double share = p_.slo / static_cast<double>(p_.chunks.size());
    for (std::size_t l = 0; l < p_.levels.size(); ++l) {
      if (trace_.arrival(p_.levels[l].bytes[chunk], now_) - now_ < share) return l;
    }
    return {};
  }

  void perform(std::size_t c, Choice choice) {
    const double tokens = static_cast<double>(p_.chunks[c].tokens);
    LoadStep step;
    step.level = choice;
    step.start = now_;
    if (policy_ == LoadPolicy::paper) step.estimate = estimate_;
    if (choice) {
      const LoadLevel& level = p_.levels[*choice];
      step.bytes = level.bytes[c];
      step.end = trace_.arrival(step.bytes, now_);
      // Decoding goes on while the next chunk arrives.
      step.ready = std::max(step.end, ready_) + tokens * p_.decode;
      if (step.end > step.start) step.throughput = 8 * static_cast<double>(step.bytes) / (step.end - step.start);
      if (step.throughput) estimate_ = step.throughput;
      schedule_.bytes += step.bytes;
      schedule_.error += level.error * tokens;
      if (step.bytes > 0) schedule_.last_byte = step.end;
    } else {
      // A chunk's prefill attends to all chunks before it.
      step.start = std::max(now_, ready_);
      step.end = step.ready = step.start + tokens * p_.recompute;
    }
    now_ = step.end;
    ready_ = step.ready;
    schedule_.steps.push_back(step);
  }

  const LoadProblem& p_;
  const BandwidthTrace& trace_;
  LoadPolicy policy_;
  LoadSchedule schedule_;
  std::optional<double> estimate_;
  std::vector<double> bytes_left_;
  double tokens_left_ = 0, all_tokens_ = 0, now_ = 0, ready_ = 0;
};

}  // namespace

BandwidthTrace BandwidthTrace::parse(std::string_view text) {
  constexpr double kMegabit = 1e6;
  BandwidthTrace out;
  std::size_t number = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string_view line = text.substr(at, end - at);
    at = end + 1;
    ++number;
    line = line.substr(0, line.find('#'));
    line = line.substr(0, line.find_last_not_of(" \t\r") + 1);
    if (line.find_first_not_of(" \t") == line.npos) continue;
    const double from = take_number(line, number, "the time"), rate = take_number(line, number, "the bandwidth");
    if (!line.empty()) fail(ErrorCode::invalid_argument, "line {}: expected SECONDS MBIT_PER_S and no more", number);
    if (out.steps_.empty() && from != 0)
      fail(ErrorCode::invalid_argument, "line {}: a trace begins at 0 seconds", number);
    if (!out.steps_.empty() && from <= out.steps_.back().from) {
      fail(ErrorCode::invalid_argument, "line {}: times must ascend", number);
    }
    const double bits = rate * kMegabit;
    if (!std::isfinite(bits)) fail(ErrorCode::invalid_argument, "line {}: the bandwidth has no end", number);
    out.steps_.push_back({from, bits});
  }
  if (out.steps_.empty()) fail(ErrorCode::invalid_argument, "a trace of bandwidth holds at least one line");
  if (out.steps_.back().bits_per_second <= 0) {
    fail(ErrorCode::invalid_argument, "the last bandwidth holds on for ever and cannot be 0");
  }
  return out;
}

double BandwidthTrace::arrival(std::uint64_t bytes, double start) const {
  double bits = 8 * static_cast<double>(bytes), now = start;
  const auto after = std::upper_bound(steps_.begin(), steps_.end(), start,
                                      [](double time, const Step& step) { return time < step.from; });
  for (auto step = after - 1; step != steps_.end(); ++step) {
    const double until = step + 1 == steps_.end() ? std::numeric_limits<double>::infinity() : (step + 1)->from;
    const double room = step->bits_per_second > 0 ? step->bits_per_second * (until - now) : 0;
    if (bits <= room) return now + (bits > 0 ? bits / step->bits_per_second : 0);
    bits -= room;
    now = until;
  }
  return now;
}

std::string_view policy_name(LoadPolicy policy) {
  return policy == LoadPolicy::paper ? "paper" : "equal-split";
}

LoadSchedule plan_load(const LoadProblem& problem, const BandwidthTrace& trace, LoadPolicy policy) {
  if (problem.levels.empty()) fail(ErrorCode::invalid_argument, "there is no quality to choose from");
  for (const LoadLevel& level : problem.levels) {
    if (level.bytes.size() != problem.chunks.size()) {
      fail(ErrorCode::invalid_argument, "{}: has {} chunks of {}", level.name, level.bytes.size(),
           problem.chunks.size());
    }
  }
  return Simulation(problem, trace, policy).run();
}

std::uint64_t chunk_count(std::uint64_t all_tokens, std::uint64_t tokens) {
  const std::uint64_t count = all_tokens / tokens + (all_tokens % tokens != 0);
  if (count > limits::kLoadChunks)
    fail(ErrorCode::limit, "{} chunks of {} tokens: more than {}", count, tokens, limits::kLoadChunks);
  return count;
}

std::optional<std::vector<std::uint64_t>> chunk_bytes(const std::vector<ChunkBytes>& frames, std::uint64_t all_tokens,
                                                      std::uint64_t tokens) {
  std::vector<std::uint64_t> out(chunk_count(all_tokens, tokens));
  for (const ChunkBytes& frame : frames) {
    if (frame.tokens == 0) continue;
    if (frame.first >= all_tokens || frame.tokens > all_tokens - frame.first) return {};
    const std::uint64_t chunk = frame.first / tokens;
    if ((frame.first + frame.tokens - 1) / tokens != chunk) return {};
    if (frame.bytes > std::numeric_limits<std::uint64_t>::max() - out[chunk]) return {};
    out[chunk] += frame.bytes;
  }
  // What costs nothing was not measured.
  if (std::find(out.begin(), out.end(), std::uint64_t{0}) != out.end()) return {};
  return out;
}

}  // namespace kvzip::tool
