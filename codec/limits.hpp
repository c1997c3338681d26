// SPDX-License-Identifier: Apache-2.0
// Every limit of the codec. "format": part of man/kvz.5, a reader refuses more. "encoder only": free to change.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kvzip::limits {

inline constexpr std::size_t kStages = 15;                             // format: stages of one pipeline
inline constexpr std::size_t kPipelineText = 4096;                     // format: bytes of a pipeline's text
inline constexpr std::uint64_t kFrameValues = std::uint64_t{1} << 30;  // format: of a frame, or between restarts
inline constexpr std::size_t kStreams = 128;                           // format: streams of one frame
inline constexpr std::size_t kMembers = 4096;        // format: slots of a group whose slots state their heads
inline constexpr std::uint32_t kJointLayers = 1024;  // encoder only: layers side by side in one tile

inline constexpr std::size_t kTableName = 64;                          // format: bytes of a table's name
inline constexpr std::uint64_t kTableBytes = std::uint64_t{1} << 26;   // format: bytes of one table
inline constexpr std::uint64_t kTablesBytes = std::uint64_t{1} << 30;  // format: of all tables of a file
inline constexpr std::size_t kTables = std::size_t{1} << 16;           // format: tables of a file
inline constexpr std::uint64_t kFitValues = std::uint64_t{1} << 22;    // encoder only: values that a table is fitted to

// format: a frame may decode to at most this many elements for its payload size, so that a reader allocates only what
// the bytes present have earned. A writer pads shorter payloads with zero bytes.
inline constexpr std::uint64_t kFreeValues = std::uint64_t{1} << 16;
inline constexpr std::uint64_t kValuesPerByte = std::uint64_t{1} << 10;
inline constexpr std::uint64_t least_payload(std::uint64_t values) {
  return values <= kFreeValues ? 1 : 1 + (values - kFreeValues) / kValuesPerByte;
}

}  // namespace kvzip::limits
