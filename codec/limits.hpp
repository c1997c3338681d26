// SPDX-License-Identifier: Apache-2.0
// What input may ask for: counts, depths, bytes and shares, of containers first, then of every other file that is read.
// Parameters of stages have their ranges with their fields; sizes of buffers and what only makes something faster
// stand where they are used.
// "format": part of man/kvz.5, a reader refuses more. "encoder only": free to change. Beyond the others a file is
// refused or, where the comment says so, what is beyond is left alone.
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
/// For one more table of so many bytes, where there are some of so many together.
inline constexpr bool room_for_table(std::size_t tables, std::uint64_t held, std::uint64_t bytes) {
  return tables < kTables && bytes <= kTableBytes && held <= kTablesBytes && bytes <= kTablesBytes - held;
}

inline constexpr std::uint64_t kDescription = std::uint64_t{1} << 28;  // format: unpacked bytes of a header or index
inline constexpr std::uint64_t kDescriptionRatio = 1024;               // format: of unpacked to stored bytes
// format: what a description may unfold to beyond this much has to be earned by its stored bytes. Headers of 60,000 and
// of 100,000 tensors whose names differ in a number unfold 81- and 108-fold; what unfolds further is stored as it is.
inline constexpr std::uint64_t kFreeDescription = std::uint64_t{1} << 24, kFreeTables = std::uint64_t{1} << 20;
inline constexpr std::uint64_t kDescriptionPerByte = 128;
inline constexpr bool may_unfold(std::uint64_t decoded, std::uint64_t stored, std::uint64_t free) {
  return decoded <= kDescription && decoded / kDescriptionRatio <= stored &&
         (decoded <= free || (decoded - free) / kDescriptionPerByte <= stored);
}
inline constexpr std::uint64_t kResults = std::uint64_t{1} << 16;    // format: bytes of a results record
inline constexpr std::size_t kCollectionMembers = 4096;              // format: containers of a collection
inline constexpr std::uint64_t kPaxBytes = std::uint64_t{1} << 16;   // format: of records about one of them
inline constexpr int kJsonDepth = 16;                                // format: of nested lists and objects
inline constexpr std::uint64_t kJsonItems = std::uint64_t{1} << 22;  // format: commas and opening brackets of a text
inline constexpr std::size_t kSegments = 65536;                      // containers that were appended to one file
inline constexpr std::uint32_t kPageTokens = 1u << 16;               // of a page that is summed up
// Containers that a reader opens for one: each begins with tokens of the next. Identities are hashes of what names the
// next one, so that no chain of them can be closed; the bound is for those that are merely long.
inline constexpr unsigned kBases = 16;
inline constexpr std::size_t kPlanGroups = std::size_t{1} << 20;  // encoder only: sparse files can claim any layers
inline constexpr bool room_for_groups(std::uint64_t there, std::uint64_t more) {
  return there <= kPlanGroups && more <= kPlanGroups - there;
}
// What is left of damaged containers. A frame may be gone without its bytes; so many more of them than bytes are there
// are in no file that was cut. Headers of records made on purpose could ask that the square of the file's size is
// hashed: so many bytes may be for records that turn out to be none.
inline constexpr std::uint64_t kFreeLostFrames = std::uint64_t{1} << 20, kLostFramesPerByte = 16;
inline constexpr std::uint64_t kFreeWaste = std::uint64_t{64} << 20, kWastePerByte = 8;

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

// Dumps of any format. A model's numbers beyond these are not its numbers, so that nothing sized by them can be blown
// up by a name or an attribute.
inline constexpr std::uint32_t kLayers = 65536;
inline constexpr std::uint32_t kHeads = 65536, kHeadDim = 65536;
inline constexpr std::size_t kSpecialLayers = 4096;                  // layers, and attributes of some layers
inline constexpr std::size_t kLayerList = std::size_t{1} << 16;      // bytes; of a longer list nothing is read
inline constexpr std::size_t kNameWords = 24, kNameWord = 24;        // words, and bytes of one; more say nothing
inline constexpr std::size_t kNameNumbers = 5;                       // of a dotted list; more say nothing
inline constexpr std::uint64_t kHeadBoxes = std::uint64_t{1} << 20;  // as tile groups: a short file can claim any batch
inline constexpr std::uint64_t kCells = std::uint64_t{1} << 24;  // positions of a cache's rows; no more are looked at
inline constexpr std::uint64_t kTokenList = std::uint64_t{1} << 26;     // bytes; longer lists are not compared
inline constexpr std::uint64_t kSidecar = std::uint64_t{1} << 20;       // bytes
inline constexpr std::size_t kAttributeStrings = std::size_t{1} << 20;  // of one attribute that is a text of several
// Elements that are looked at for rotary embedding, of a tensor and of all: files may say much and hold little.
inline constexpr std::uint64_t kRopeElements = std::uint64_t{1} << 22, kRopeDump = std::uint64_t{1} << 28;
inline constexpr std::uint64_t kGgmlRow = std::uint64_t{1} << 56;  // bytes in blocks: those of the values fit 64 bits

inline constexpr std::uint64_t kSafetensorsHeader = 100'000'000;  // bytes: what other readers of safetensors allow
inline constexpr std::size_t kSafetensorsTensors = std::size_t{1} << 18;
inline constexpr std::size_t kSafetensorsEntries = std::size_t{1} << 20;  // of its metadata
inline constexpr std::size_t kSafetensorsDepth = 16;  // of lists and objects that entries have beside the three known

inline constexpr std::size_t kNumpyHeader = std::size_t{1} << 20;    // bytes
inline constexpr std::uint64_t kNumpyText = std::uint64_t{4} << 20;  // bytes of a member that is text
inline constexpr std::uint64_t kZipMembers = std::uint64_t{1} << 20;
inline constexpr std::uint64_t kZipDirectory = std::uint64_t{1} << 28;  // bytes
inline constexpr std::uint64_t kZipRatio = 1032;                        // deflate codes at most 258 bytes in two bits

// MLX, of what a cache says of itself; what says more is taken as it is.
inline constexpr unsigned kMlxTexts = 5;                            // of a part
inline constexpr std::uint64_t kMlxLetters = 64;                    // of a class's name
inline constexpr std::uint64_t kMlxEntries = 65536;                 // of a list
inline constexpr std::uint64_t kMlxWords = std::uint64_t{1} << 48;  // of an array of codes
inline constexpr std::int64_t kMlxPosition = std::int64_t{1} << 48;

inline constexpr std::size_t kLmcacheGroups = 16;
inline constexpr std::int32_t kLmcacheFormats = 16;  // larger numbers of one are none

inline constexpr std::uint32_t kLlamaLayers = 4096, kLlamaSequences = 65536, kLlamaStreams = 1024;
inline constexpr std::uint32_t kLlamaName = 256;  // bytes of an architecture's
// What a list of sequences, given once, may grow to when every cell has it; they are put together in memory.
inline constexpr std::uint64_t kLlamaCellBytes = std::uint64_t{1} << 30;

// HDF5. What the library would go through without asking is checked first.
inline constexpr std::size_t kHdf5Links = std::size_t{1} << 20;
inline constexpr std::uint64_t kHdf5NameBytes = std::uint64_t{1} << 26;       // of all links; and of paths
inline constexpr std::uint64_t kHdf5AttributeBytes = std::uint64_t{1} << 26;  // that they all take in memory
inline constexpr int kHdf5GroupDepth = 64;
inline constexpr int kHdf5TypeDepth = 16;                                  // of types within types
inline constexpr int kHdf5SharedTypes = 8;                                 // attributes of a type have types
inline constexpr std::size_t kHdf5Rank = 32;                               // HDF5's own
inline constexpr std::uint64_t kHdf5HeaderBytes = std::uint64_t{1} << 26;  // of an object's header
inline constexpr std::size_t kHdf5HeaderPieces = 4096;
inline constexpr std::size_t kHdf5Structures = std::size_t{1} << 22;  // of the file
inline constexpr std::uint64_t kHdf5TreeLevels = 32;                  // of version 1
inline constexpr std::uint64_t kHdf5BtreeDepth = 16;  // of nodes that are half full, more than any file has bytes
inline constexpr std::uint64_t kHdf5BtreeNode = std::uint64_t{1} << 16;    // bytes
inline constexpr std::uint64_t kHdf5IndexChunks = std::uint64_t{1} << 26;  // the library goes through all
inline constexpr std::uint64_t kHdf5HeapBytes = std::uint64_t{1} << 27;    // of all text of variable length
inline constexpr std::uint64_t kHdf5HeapObject = (std::uint64_t{1} << 26) + (std::uint64_t{1} << 18);  // of a dense one
// Of one chunk, which is held in memory whole, and of a file: bytes that are free, and for each byte of the file. A
// file may do more that its user trusts (RawFile::count_stated()).
inline constexpr std::uint64_t kHdf5Expansion = 4096;
inline constexpr std::uint64_t kHdf5FreeBytes = std::uint64_t{1} << 30, kHdf5FreeChunkBytes = std::uint64_t{1} << 26;
inline constexpr std::uint64_t kHdf5FreeChunks = 1 << 16, kHdf5BytesPerChunk = 8;  // a record in any index of chunks
inline constexpr std::uint64_t kHdf5ChunkBytes = std::uint64_t{1} << 30;           // HDF5's own is 2^32 - 1
// What is written may take beyond its data, where another file's chunks are asked for: chunks, and bytes at the ends.
inline constexpr std::uint64_t kHdf5DataPerChunk = 4096;
inline constexpr std::uint64_t kHdf5FreePadding = std::uint64_t{64} << 20, kHdf5Padding = 3;
inline constexpr std::size_t kFilterParameters = 4096;  // of the filter, four bytes each

// Of the tool: texts that it reads and what options may make.
inline constexpr std::size_t kRulesText = std::size_t{1} << 20;        // bytes of a preset of one's own
inline constexpr std::uint64_t kSweepText = std::uint64_t{1} << 28;    // bytes of a sweep that is read
inline constexpr std::uint64_t kSweepRow = std::uint64_t{1} << 28;     // and of what one of its rows is kept in
inline constexpr std::uint64_t kTraceText = std::uint64_t{64} << 20;   // bytes of a trace of bandwidth
inline constexpr std::uint64_t kLoadChunks = std::uint64_t{1} << 20;   // that loads are planned in
inline constexpr std::size_t kGridSettings = 10000;                    // a slip of the keyboard, not a wish
inline constexpr std::size_t kInputNames = std::size_t{1} << 28;       // bytes of a list of names and their strings
inline constexpr std::size_t kInputName = (std::size_t{1} << 16) - 1;  // more than PATH_MAX and a member's name

}  // namespace kvzip::limits
