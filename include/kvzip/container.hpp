// SPDX-License-Identifier: Apache-2.0
// The .kvz container (man/kvz.5): its writer compresses, its reader decompresses.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kvzip/components.hpp"
#include "kvzip/io.hpp"
#include "kvzip/rules.hpp"
#include "kvzip/saliency.hpp"
#include "kvzip/tables.hpp"

namespace kvzip {

/// What was asked for, and what the writer measured while it wrote (the record "results", man/kvz.5).
struct KvzResults {
  std::string target;  // "ratio", "bits", "nrmse", "attention" or "max-error"
  double wanted = 0;
  std::optional<double> max_error;  // no finite key or value is further from its original than this

  /// Of decoded keys or values in the dump's own type.
  struct Errors {
    Role role = Role::key;
    std::uint64_t values = 0;
    double max_abs = 0, rmse = 0, nrmse = 0;
  };
  std::vector<Errors> errors;

  /// Of attention with the queries at hand; man/kvzip.1, "MEASURES OF ATTENTION".
  struct Attention {
    double output_nrmse = 0, kl = 0;
    std::uint64_t split = 0, queries = 0;  // tokens that were decoded; queries a head
  };
  std::optional<Attention> attention;
};

/// The tables of what is written: those that the container stores, and those in a file beside it, which it names by
/// hash.
struct KvzTables {
  Tables stored, beside;
};

/// The container in the same folder whose first tokens are those of another, which stores only what follows them
/// (man/kvz.5, "Shared prefixes").
struct KvzBase {
  std::string file;  // its name, without a folder
  std::uint64_t tokens = 0;
  std::uint64_t bytes = 0, hash = 0;  // of it as it was then: by these a changed one is known, which may have grown
  bool operator==(const KvzBase&) const = default;
};
/// That of this container, of which `tokens` are shared. fail(io) where it cannot be read.
KvzBase base_of(const std::string& path, std::uint64_t tokens);

struct KvzOptions {
  RuleSet rules;
  std::optional<std::uint64_t> chunk_tokens;              // --chunk-tokens; 0 = all
  std::vector<std::pair<std::string, std::string>> user;  // key=value pairs stored in the header
  /// Given: the writer decodes each tile of keys and values again, fills in `errors`, and stores all of it. A tile that
  /// breaks max_error is stored as it is, so that the bound always holds.
  std::optional<KvzResults> results{};
  KvzTables tables{};
  /// Which tokens matter more, for pipelines that make use of it (measure_saliency()); null = not known.
  std::shared_ptr<const Saliency> saliency{};
  /// Of each tile group: its tokens before the padding at their end, rows of zeros. Empty = there is none.
  std::vector<std::uint64_t> used_tokens{};
  /// Given: the dump is what follows these tokens, and its model's first position is that of its own first token.
  std::optional<KvzBase> base{};
};

/// Fills in what options take from the values of a dump, which is read with random access, where the rules ask for it:
/// `tables.stored`, with those of klt:basis=tensor from a part of each tensor's tokens that stands for all and that of
/// adapt:repeats=dump from token ids or the values of a layer; and `used_tokens`. Without it each tile stores what it
/// needs and predicts nothing, and padding counts as tokens. `threads`: 0 = all; `progress` is told of tables that are
/// fitted.
void fit_options(DumpReader& reader, const Recognition& recognition, KvzOptions& options, unsigned threads,
                 const Progress& progress = {});

/// Plans the tile groups of `dump` (fails before any data is read when a pipeline does not suit its tensors) and
/// creates the output.
/// "-" writes standard output without seeking.
std::unique_ptr<DumpWriter> create_kvz_writer(const std::string& path, const Dump& dump, const Recognition& recognition,
                                              const KvzOptions& options, bool overwrite);
/// The same to a sink, which gets its bytes as they are made.
std::unique_ptr<DumpWriter> create_kvz_writer(std::unique_ptr<Sink> sink, const Dump& dump,
                                              const Recognition& recognition, const KvzOptions& options);

/// The keys or the values of one layer in a tile group.
struct KvzMember {
  Role role = Role::other;
  std::uint32_t layer = 0;
  std::uint64_t values = 0;  // elements covered
};

/// What one tile group stores: the slices of one or more tensors that share frames.
struct KvzGroup {
  std::vector<std::size_t> tensors;  // indices into dump().tensors
  Role role = Role::other;
  std::optional<std::uint32_t> layer;  // the first one
  std::vector<KvzMember> members;      // in the order of `tensors`; none of what has no role, layer or values
  std::string pipeline;                // canonical text
  bool exact = false;                  // the pipeline gives back every bit
  std::uint64_t chunk_rows = 0;        // tokens (or elements of a pass-through tensor) per frame
  std::uint64_t restart = 0;           // frames that are decoded one after the other; 0 = each by itself
  std::uint64_t values = 0;            // elements covered
  std::uint64_t source_bytes = 0;
  std::uint64_t rows = 0;                    // tokens; 0 for what passes through
  std::uint64_t frames = 0, raw_frames = 0;  // raw: stored as they were, because coding would not shrink them
  std::uint64_t coded_bytes = 0;             // whole frame records
  std::vector<std::uint64_t> frame_bytes;    // of each of them, in order of tokens
  std::array<std::uint64_t, kStreamLabels> stream_bytes{};  // payload bytes by label; raw frames count as exact
};

struct KvzSummary {
  unsigned major = 0, minor = 0;
  std::string writer;  // "kvzip 0.2.0"
  std::string preset;  // name of the rule set
  std::vector<std::pair<std::string, std::string>> user;
  std::optional<KvzResults> results;  // not known from a pipe
  std::uint64_t file_bytes = 0;       // 0 when read from a pipe
  std::uint64_t appended = 0;         // containers behind the first (append_kvz()), whose groups count with its own
  std::uint64_t unfinished = 0;       // bytes at the end, of an append that was not finished
  std::optional<KvzBase> base{};      // its first tokens are there, and count in no group
  std::vector<KvzGroup> groups;
};

/// Adds what `more` holds behind the tokens of a container, of which no byte changes; the file is what it was until the
/// last of the new bytes is on the disk. What an append left unfinished is taken away first. The pipelines are those of
/// options.rules; tables are fitted to the new tokens. fail(invalid_argument) where the tensors do not go on those of
/// the container: names, types, roles, layers, axes and shapes but for the tokens must agree. Tensors of role other
/// grow where they have an entry for each token on both sides, else they must be what the container has. Returns the
/// bytes of the file.
std::uint64_t append_kvz(const std::string& path, DumpReader& more, const Recognition& roles, const KvzOptions& options,
                         unsigned threads, const Progress& progress = {});

inline constexpr std::uint64_t kTokensTogether = 1024;
/// Compresses a dump so that its first `tokens` tokens of all layers stand together, then the next: a container of the
/// first ones, with what has no tokens, and the others appended to it as by append_kvz(), in a file that appears when
/// it is complete. `tokens` is rounded up to what is decoded by itself: whole frames, of chained pipelines those
/// between two restart points. So values are those of a container in the order of layers, but for stages that look at
/// the end of a sequence, and for tables, which are fitted to each. Returns the tokens that stand together; where that
/// is all of them, the container is the one that create_kvz_writer() makes. `tokens` of 0 are kTokensTogether.
/// Reads with random access. fail(invalid_argument) where keys, values and queries have not all as many tokens, and
/// for a pipe; fail(limit) for more than 65536 containers.
std::uint64_t compress_by_tokens(const std::string& path, DumpReader& dump, const Recognition& roles,
                                 const KvzOptions& options, std::uint64_t tokens, unsigned threads, bool overwrite,
                                 const Progress& progress = {});
/// The same to a sink, through a temporary file.
std::uint64_t compress_by_tokens(std::unique_ptr<Sink> sink, DumpReader& dump, const Recognition& roles,
                                 const KvzOptions& options, std::uint64_t tokens, unsigned threads,
                                 const Progress& progress = {});

class KvzReader : public DumpReader {
 public:
  /// Reads frame headers of the whole file (payloads are skipped): sizes per group and stream.
  virtual KvzSummary summary() = 0;
  /// The stored description without sizes.
  virtual const KvzSummary& description() const = 0;
  /// Tables for pipelines that name some by hash, before any data is read. A container opened by its path has found
  /// those of a file beside it that is called like it with a "d" at its end. Data whose tables are missing is refused
  /// with ErrorCode::unsupported.
  virtual void use_tables(const Tables& tables) = 0;
  /// The tables that the container stores; from a pipe they are known after its first part.
  virtual const Tables& stored_tables() const = 0;
  /// fail(limit) where it asks for more than its bytes have earned (kvzip/trust.hpp). Of a file this is checked before
  /// its first data is decoded, of a pipe as frames come.
  virtual void check_cost() const {}
};

/// Opens a container. "-" is standard input: a file as any other, but that nothing is looked for beside it; of a pipe
/// parts can be fetched in order only and read() fails.
std::unique_ptr<KvzReader> open_kvz(const std::string& path);
/// The same from other places than files; `name` stands for them in messages.
std::unique_ptr<KvzReader> open_kvz(std::unique_ptr<const Source> source, std::string name = "the source");
/// `bytes` must outlive the reader.
std::unique_ptr<KvzReader> open_kvz(ByteView bytes, std::string name = "the buffer");

/// Checks every checksum and decodes every frame. Returns one line per damaged frame (empty = sound), of chained frames
/// one for what lies between two restart points; throws when the file cannot be walked at all.
std::vector<std::string> verify_kvz(const std::string& path, unsigned threads, const Progress& progress);

}  // namespace kvzip
