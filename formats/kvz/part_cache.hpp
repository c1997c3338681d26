// SPDX-License-Identifier: Apache-2.0
// Decoded parts, kept for requests in their neighbourhood.
#pragma once

#include <algorithm>
#include <cstdint>
#include <list>
#include <utility>

#include "kvzip/io.hpp"

namespace kvzip {

class PartCache {
 public:
  static constexpr std::uint64_t kBytes = std::uint64_t{64} << 20;

  /// At most so many bytes, but always the last part.
  explicit PartCache(std::uint64_t most = kBytes) : most_(most) {}

  /// The part with its data: decode(part) fills it when it is not here. Valid until the next call.
  template <typename Decode>
  const Part& get(Part wanted, Decode&& decode) {
    const auto found =
        std::find_if(parts_.begin(), parts_.end(), [&](const Part& p) { return p.index == wanted.index; });
    if (found != parts_.end()) {
      parts_.splice(parts_.begin(), parts_, found);
      return parts_.front();
    }
    decode(wanted);
    bytes_ += bytes_of(wanted);
    parts_.push_front(std::move(wanted));
    while (bytes_ > most_ && parts_.size() > 1) {
      bytes_ -= bytes_of(parts_.back());
      parts_.pop_back();
    }
    return parts_.front();
  }

 private:
  static std::uint64_t bytes_of(const Part& part) {
    std::uint64_t bytes = 0;
    for (const Bytes& b : part.data) bytes += b.size();
    return bytes;
  }

  std::list<Part> parts_;  // the last one asked for first
  std::uint64_t most_, bytes_ = 0;
};

}  // namespace kvzip
