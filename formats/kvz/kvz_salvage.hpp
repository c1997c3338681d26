// SPDX-License-Identifier: Apache-2.0
// A container as a dump with holes: read front to back, without an error for frames that are damaged or gone.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "formats/file.hpp"
#include "formats/kvz/kvz_container.hpp"
#include "formats/kvz/kvz_frames.hpp"
#include "kvzip/recover.hpp"

namespace kvzip {

class SalvageReader : public ContainerReader {
 public:
  using ContainerReader::ContainerReader;
  const KvzHeader& header() const { return header_; }
  /// Keeps what there is to say of a part that went through; parts come in their order.
  virtual void note(const Part& part) = 0;
  /// After the last part: reads the rest, and says what was wrong. fail(corrupt) where the records do not add up, so
  /// that frames may have been taken for others.
  virtual KvzDamage damage() = 0;
};

/// `places`: where frames stand by a sound index, so that nothing else is taken for one. `keeps_frames`: parts keep
/// their frames, as payloads, with those that are lost stored as they are. `file_bytes`: of a
/// file, so that one that asks for too much is refused at once; 0 = not known. `stream` must outlive the reader.
std::unique_ptr<SalvageReader> open_salvage(InputStream& stream, std::optional<std::vector<FrameAt>> places = {},
                                            bool keeps_frames = false, std::uint64_t file_bytes = 0);

/// Where the frames of a file stand by its index; none where that is damaged.
std::optional<std::vector<FrameAt>> places_of_frames(InputFile file);

}  // namespace kvzip
