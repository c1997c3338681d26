// SPDX-License-Identifier: Apache-2.0
// A container under construction: frames go in, everything around them is made here.
#pragma once

#include <cstdint>
#include <optional>

#include "codec/bytes.hpp"
#include "formats/file.hpp"
#include "formats/kvz/kvz_header.hpp"
#include "formats/kvz/kvz_records.hpp"
#include "kvzip/container.hpp"

namespace kvzip {

class KvzOutput {
 public:
  /// Writes all that stands before the first frame.
  KvzOutput(Destination to, const KvzHeader& header, const Tables& tables);
  /// The payload of the next frame.
  void append_frame(ByteView payload);
  /// Writes all that follows the last frame, and gives the output its name.
  void finish(const std::optional<KvzResults>& results);

 private:
  void append_record(RecordType type, std::uint16_t flags, ByteView payload, std::uint64_t decoded);

  OutputFile out_;
  ByteWriter index_, hashes_;
  std::uint64_t index_end_ = 0, frames_ = 0;
  std::uint32_t sequence_ = 0;
};

}  // namespace kvzip
