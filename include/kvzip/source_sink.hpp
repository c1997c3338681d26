// SPDX-License-Identifier: Apache-2.0
// Where bytes come from and go to when that is not a file: memory, an object store, a socket.
#pragma once

#include <cstdint>
#include <span>

#include "kvzip/dtype.hpp"

namespace kvzip {

/// Bytes to read, at any position.
class Source {
 public:
  virtual ~Source() = default;
  /// Must not change while a reader has the source.
  virtual std::uint64_t size() const = 0;
  /// Fills `out`; offset + out.size() is at most size(). May be called from several threads at once. Throws what it
  /// likes when it cannot, best an Error(io).
  virtual void read_at(std::uint64_t offset, std::span<std::byte> out) const = 0;
};

/// Bytes to write, front to back. One caller at a time.
class Sink {
 public:
  virtual ~Sink() = default;
  /// Takes all of `bytes`, or throws.
  virtual void append(ByteView bytes) = 0;
  /// Called once, after the last byte, when the output is complete; never after a failure.
  virtual void finish() {}
};

/// Appends to a vector, which must outlive it.
class MemorySink final : public Sink {
 public:
  explicit MemorySink(Bytes& out) : out_(out) {}
  void append(ByteView bytes) override { out_.insert(out_.end(), bytes.begin(), bytes.end()); }

 private:
  Bytes& out_;
};

}  // namespace kvzip
