// SPDX-License-Identifier: Apache-2.0
// Memory that goes from one tile to the next.
#pragma once

namespace kvzip {

/// While one of these lives, threads that encode or decode keep the arrays of their last tiles, up to 96 MiB each, for
/// the next ones: fresh memory costs more than many of the loops that fill it. The last one that goes gives all of it
/// back, of all threads. transcode() has one for as long as it runs; a program that uses TileCodec again and again, or
/// runs many short transcode(), may want its own. Without one nothing is kept.
class KeepMemory {
 public:
  KeepMemory();
  ~KeepMemory();
  KeepMemory(const KeepMemory&) = delete;
  KeepMemory& operator=(const KeepMemory&) = delete;
};

}  // namespace kvzip
