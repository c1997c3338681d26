// SPDX-License-Identifier: Apache-2.0
#include "src/bench/bench.hpp"

#include <malloc.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <numeric>
#include <sstream>

#include "codec/fail.hpp"
#include "formats/kvz/kvz_records.hpp"

namespace kvzip::tool {
namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// A line "NAME: N kB" of /proc/self/status, in bytes.
std::optional<std::uint64_t> status_bytes(const std::string& name) {
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with(name + ":")) continue;
    std::uint64_t kibibytes = 0;
    if (std::istringstream(line.substr(name.size() + 1)) >> kibibytes) return kibibytes * 1024;
  }
  return {};
}

/// Calls once(piece, steps) for all pieces; the time of check(piece, result) and of what is told does not count.
template <typename Once, typename Check>
PassSeconds pass_over(const Codec& codec, std::size_t steps, const TellPass& tell, Once&& once, Check&& check) {
  PassSeconds seconds(1 + steps);
  for (std::size_t i = 0; i < codec.pieces(); ++i) {
    const Clock::time_point start = Clock::now();
    const auto result = once(i, std::span(seconds).subspan(1));
    seconds[0] += since(start);
    check(i, result);
    tell(static_cast<double>(i + 1) / static_cast<double>(codec.pieces()), seconds[0]);
  }
  return seconds;
}

Direction summarise(const std::vector<PassSeconds>& passes, std::uint64_t bytes,
                    const std::vector<std::uint64_t>& step_bytes) {
  const auto column = [&](std::size_t c) {
    std::vector<double> out;
    for (const PassSeconds& pass : passes) out.push_back(pass[c]);
    return out;
  };
  const double all = median_of(column(0));
  Direction out{speed_of(bytes, column(0)), {}};
  for (std::size_t s = 0; s < step_bytes.size(); ++s) {
    const std::vector<double> seconds = column(1 + s);
    out.steps.push_back({speed_of(step_bytes[s], seconds), all > 0 ? median_of(seconds) / all : 0});
  }
  return out;
}

[[noreturn]] void fail_round_trip(const Codec& codec, std::size_t piece, std::string_view what) {
  fail(ErrorCode::corrupt, "{}: the round trip fails: {}; this is a bug in kvzip, please report it",
       codec.piece_name(piece), what);
}

std::vector<PassSeconds> encode_passes(Codec& codec, const Effort& effort, std::size_t steps, std::vector<Bytes>& coded,
                                       const Share& told) {
  const auto pass = [&](const TellPass& tell) {
    const bool first = coded.empty();
    return pass_over(
        codec, steps, tell, [&](std::size_t i, std::span<double> s) { return codec.encode(i, s); },
        [&](std::size_t i, ByteView bytes) {
          if (first) {
            coded.emplace_back(bytes.begin(), bytes.end());
          } else if (!same_bytes(bytes, coded[i])) {
            fail_round_trip(codec, i, "encoding it again gives other bytes");
          }
        });
  };
  return repeat(effort, pass, told);
}

std::vector<PassSeconds> decode_passes(Codec& codec, const Effort& effort, std::size_t steps,
                                       const std::vector<Bytes>& coded, std::vector<Bytes>& decoded,
                                       const Share& told) {
  std::vector<std::uint64_t> hashes;
  const auto pass = [&](const TellPass& tell) {
    const bool first = hashes.empty();
    return pass_over(
        codec, steps, tell,
        [&](std::size_t i, std::span<double> s) {
          codec.decode(i, coded[i], decoded[i], s);
          return i;
        },
        [&](std::size_t i, std::size_t) {
          const std::uint64_t hash = hash64(decoded[i]);
          if (!first && hash != hashes[i]) fail_round_trip(codec, i, "decoding it again gives other bytes");
          if (!first) return;
          hashes.push_back(hash);
          if (codec.exact(i) && !same_bytes(decoded[i], codec.source(i))) {
            fail_round_trip(codec, i, "it should come back bit for bit, and does not");
          }
        });
  };
  return repeat(effort, pass, told);
}

}  // namespace

double thread_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

bool same_bytes(ByteView a, ByteView b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size()) == 0);
}

std::vector<PassSeconds> repeat(const Effort& effort, const std::function<PassSeconds(const TellPass&)>& pass,
                                const Share& told) {
  double before = 0, one = 0;  // seconds: of passes that are done, and of one
  double most = 0;             // told; what the work seems to be may grow
  const TellPass tell = [&](double share, double seconds) {
    if (!told) return;
    const double each = one > 0 ? one : seconds / share;
    const double more = std::min(each * effort.passes, std::max(each, effort.seconds));
    const double all = each < effort.seconds ? each + more : each;
    if (all > 0) most = std::max(most, std::min(1.0, (before + seconds) / all));
    told(most);
  };
  std::vector<PassSeconds> passes{pass(tell)};
  before = one = passes[0][0];
  if (one < effort.seconds) {
    passes.clear();
    double seconds = 0;
    do {
      passes.push_back(pass(tell));
      seconds += passes.back()[0];
      before = one + seconds;
    } while (passes.size() < effort.passes && seconds < effort.seconds);
  }
  if (told) told(1);
  return passes;
}

double median_of(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

Speed speed_of(std::uint64_t bytes, const std::vector<double>& seconds) {
  std::vector<double> speeds;
  for (const double s : seconds) speeds.push_back(s > 0 ? static_cast<double>(bytes) / s / 1e9 : 0);
  if (speeds.empty()) return {};
  const auto [min, max] = std::minmax_element(speeds.begin(), speeds.end());
  return {median_of(speeds), *min, *max, speeds.size()};
}

PeakMemory::PeakMemory() {
  // What earlier work freed must not serve this one unseen.
  malloc_trim(0);
  // "5" makes the high-water mark start anew, proc(5).
  std::ofstream reset("/proc/self/clear_refs");
  if (reset << "5" << std::flush) before_ = status_bytes("VmRSS");
}

std::optional<std::uint64_t> PeakMemory::bytes() const {
  const auto peak = before_ ? status_bytes("VmHWM") : std::nullopt;
  if (!peak) return {};
  return *peak - std::min(*peak, *before_);
}

Measured measure(Codec& codec, const Effort& effort, const Share& told) {
  Measured out;
  for (std::size_t i = 0; i < codec.pieces(); ++i) {
    // Written here once, so that the first pass does not pay for the pages.
    out.decoded.emplace_back(codec.source(i).size());
    out.source_bytes += codec.source(i).size();
  }
  const std::vector<std::uint64_t> step_bytes = codec.step_bytes();
  const PeakMemory peak;
  const Clock::time_point start = Clock::now();
  const double used = thread_seconds();
  const auto half = [&](double from) {
    return told ? Share([&told, from](double share) { told(from + share / 2); }) : Share();
  };
  const auto encoded = encode_passes(codec, effort, step_bytes.size(), out.coded, half(0));
  const auto decoded = decode_passes(codec, effort, step_bytes.size(), out.coded, out.decoded, half(0.5));
  out.peak_bytes = peak.bytes();
  out.seconds = since(start);
  out.waited = std::max(0.0, out.seconds - (thread_seconds() - used));
  out.encode = summarise(encoded, out.source_bytes, step_bytes);
  out.decode = summarise(decoded, out.source_bytes, step_bytes);
  return out;
}

}  // namespace kvzip::tool
