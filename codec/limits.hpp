// SPDX-License-Identifier: Apache-2.0
// Limits of the container, and those that more than one reader of dumps keeps; what bounds the structures of one format
// stands beside its rule. "format": part of man/kvz.5, a reader refuses more. "encoder only": free to change.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kvzip::limits {

inline constexpr std::size_t kStages = 15;                             // format: stages of one pipeline
inline constexpr std::size_t kPipelineText = 4096;                     // format: bytes of a pipeline's text
inline constexpr std::uint64_t kFrameValues = std::uint64_t{1} << 30;  // format: of a frame, or between restarts
inline constexpr std::size_t kStreams = 128;                           // format: streams of one frame
inline constexpr std::uint64_t kFrames = std::uint64_t{1} << 28;       // format: frames of a file
inline constexpr std::size_t kRank = 32;                               // format: dimensions of a tensor
inline constexpr std::size_t kMembers = 4096;        // format: slots of a group whose slots state their heads
inline constexpr std::uint32_t kJointLayers = 1024;  // encoder only: layers side by side in one tile

inline constexpr std::size_t kTableName = 64;                            // format: bytes of a table's name
inline constexpr std::uint64_t kTableBytes = std::uint64_t{1} << 26;     // format: bytes of one table
inline constexpr std::uint64_t kTablesBytes = std::uint64_t{1} << 30;    // format: of all tables of a file
inline constexpr std::size_t kTables = std::size_t{1} << 16;             // format: tables of a file
inline constexpr std::uint64_t kRepeatsTokens = std::uint64_t{1} << 20;  // encoder only: tokens of a table of repeats
inline constexpr std::uint64_t kFitValues = std::uint64_t{1} << 22;  // encoder only: values that a table is fitted to

inline constexpr std::uint64_t kDescription = std::uint64_t{1} << 28;  // format: unpacked bytes of a header or index
inline constexpr std::uint64_t kDescriptionRatio = 1024;               // format: of unpacked to stored bytes
inline constexpr std::uint64_t kResults = std::uint64_t{1} << 16;      // format: bytes of a results record
inline constexpr std::size_t kCollectionMembers = 4096;                // format: containers of a collection
inline constexpr std::uint64_t kPaxBytes = std::uint64_t{1} << 16;     // format: of records about one of them
inline constexpr int kJsonDepth = 16;                                  // format: of nested lists and objects
inline constexpr std::uint64_t kJsonItems = std::uint64_t{1} << 22;    // format: commas and opening brackets of a text
inline constexpr std::uint64_t kSafetensorsHeader = 100'000'000;       // what other readers of safetensors allow
inline constexpr std::size_t kSafetensorsTensors = std::size_t{1} << 18;
inline constexpr std::size_t kSafetensorsEntries = std::size_t{1} << 20;  // of its metadata

// format: a frame may decode to at most this many elements for its payload size, so that a reader allocates only what
// the bytes present have earned. A writer pads shorter payloads with zero bytes.
inline constexpr std::uint64_t kFreeValues = std::uint64_t{1} << 16;
inline constexpr std::uint64_t kValuesPerByte = std::uint64_t{1} << 10;
inline constexpr std::uint64_t least_payload(std::uint64_t values) {
  return values <= kFreeValues ? 1 : 1 + (values - kFreeValues) / kValuesPerByte;
}

// format: what a whole file may ask of a reader for its size, in work (Stage::work) and in decoded bytes. A reader may
// do more for a file that its user trusts. Writers pad each frame so that all of them together stay within this.
inline constexpr double kFreeWork = 0x1p30, kWorkPerByte = 0x1p16;
inline constexpr std::uint64_t kFreeBytes = std::uint64_t{1} << 28, kBytesPerByte = 4096;
inline constexpr bool earned(double work, double decoded, double stored) {
  return work <= kFreeWork + kWorkPerByte * stored &&
         decoded <= static_cast<double>(kFreeBytes) + static_cast<double>(kBytesPerByte) * stored;
}
/// Bytes of a payload that earn this by themselves.
inline constexpr std::uint64_t earning_payload(double work, std::uint64_t decoded) {
  const auto for_work = static_cast<std::uint64_t>(work / kWorkPerByte), for_bytes = decoded / kBytesPerByte;
  return for_work > for_bytes ? for_work : for_bytes;
}

}  // namespace kvzip::limits
