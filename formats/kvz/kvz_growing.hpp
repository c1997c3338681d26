// SPDX-License-Identifier: Apache-2.0
// A container under construction behind the end of a file.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "formats/kvz/kvz_records.hpp"

namespace kvzip {

/// Takes the bytes of a container and holds its footer back, without which they are no part of the file.
class GrowingFile {
 public:
  /// Writes from `at` on. The descriptor stays open as long as the object lives.
  GrowingFile(int descriptor, std::uint64_t at, std::string name);
  /// For one container. The object must outlive it.
  std::unique_ptr<Sink> sink();
  /// Writes the footer: that of a container behind `before`, or of the file's first. The next container may follow.
  /// Returns it.
  Footer commit(const std::optional<Footer>& before);
  /// Where the file ends, without the footer that is held back.
  std::uint64_t end() const { return at_; }

 private:
  void append(ByteView bytes);
  class Tail;

  int descriptor_;
  std::uint64_t at_;
  std::string name_;
  Bytes held_;  // the last bytes, a footer at most
};

}  // namespace kvzip
