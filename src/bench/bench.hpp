// SPDX-License-Identifier: Apache-2.0
// Measuring speed: passes over pieces in memory, on one thread, each piece's round trip checked.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kvzip/io.hpp"

namespace kvzip::tool {

/// Passes are repeated until there are this many, or until together they took this long, whichever comes first.
struct Effort {
  unsigned passes = 10;
  double seconds = 1;
};

/// Seconds of one pass: in all, then in each step.
using PassSeconds = std::vector<double>;
/// Told what share of the work is done, from 0 to 1.
using Share = std::function<void(double)>;
/// A pass may tell what share of it is done, and in how many seconds.
using TellPass = std::function<void(double share, double seconds)>;
/// Runs passes. The first one warms up; it counts only when it alone takes effort.seconds. `told` is an estimate from
/// the time that the first one takes.
std::vector<PassSeconds> repeat(const Effort& effort, const std::function<PassSeconds(const TellPass&)>& pass,
                                const Share& told = {});

/// In 1e9 bytes a second; 0 where no time was spent.
struct Speed {
  double median = 0, min = 0, max = 0;
  std::size_t passes = 0;
};
Speed speed_of(std::uint64_t bytes, const std::vector<double>& seconds);
/// The median of an even number of values is the mean of the middle two; 0 of none.
double median_of(std::vector<double> values);

/// Processor time of this thread.
double thread_seconds();

/// By memcmp: std::equal goes through std::byte one by one, and checks would take longer than what they check.
bool same_bytes(ByteView a, ByteView b);

/// Something that turns pieces into bytes and back.
class Codec {
 public:
  virtual ~Codec() = default;
  virtual std::size_t pieces() const = 0;
  virtual ByteView source(std::size_t piece) const = 0;
  /// What to call the piece in an error.
  virtual std::string piece_name(std::size_t piece) const = 0;
  /// Whether decoding gives the source back bit for bit.
  virtual bool exact(std::size_t piece) const = 0;

  /// Steps whose time is told apart, and the source bytes that go through each.
  virtual std::vector<std::uint64_t> step_bytes() const { return {}; }
  /// Adds the seconds of each step to `steps`. The bytes are valid until the next call.
  virtual ByteView encode(std::size_t piece, std::span<double> steps) = 0;
  virtual void decode(std::size_t piece, ByteView coded, std::span<std::byte> out, std::span<double> steps) = 0;
};

struct StepSpeed {
  Speed speed;
  double share = 0;  // of the time of a pass
};
struct Direction {
  Speed speed;
  std::vector<StepSpeed> steps;
};
struct Measured {
  Direction encode, decode;
  std::uint64_t source_bytes = 0;
  std::optional<std::uint64_t> peak_bytes;  // memory beyond the source and the decoded bytes
  double seconds = 0, waited = 0;           // of all passes, and how much of it the processor did other work
  std::vector<Bytes> coded, decoded;        // of each piece
};
/// Throws Error when a piece does not come back as it must: exact pieces bit for bit, and every pass gives the bytes of
/// the first one.
Measured measure(Codec& codec, const Effort& effort, const Share& told = {});

/// The most memory the process held beyond what it held when the object was made. Linux counts that; where it does not,
/// there is no number.
class PeakMemory {
 public:
  PeakMemory();
  std::optional<std::uint64_t> bytes() const;

 private:
  std::optional<std::uint64_t> before_;
};

}  // namespace kvzip::tool
