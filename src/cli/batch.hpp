// SPDX-License-Identifier: Apache-2.0
// Many inputs, each with an output of its own.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "src/cli/options.hpp"

namespace kvzip::tool {

struct Batch {
  std::vector<std::string> in;  // as typed: files, and folders with -r
  std::string names, folder;    // --files0-from, --output-dir
  bool joins = false;           // a folder is one input
  bool members = false;         // of a collection each is an input
  unsigned jobs = 1;            // files at a time
  bool recursive = false, keep_going = false, skip_existing = false, json = false, quiet = false;

  /// True where something was asked for that only many files need.
  bool asked() const { return recursive || !names.empty() || !folder.empty(); }
};
/// `outputs`: also options about what is written.
void add_batch(CLI::App& app, Batch& batch, bool outputs);
/// What a batch takes from other options. Files at a time share the processors, where -j does not say how many threads
/// each has.
void divide_threads(Batch& batch, Common& common);

/// UsageError for -0 and -10, which look like levels; as names of files they would fail in a way that says nothing.
void check_level_words(const std::vector<std::string>& names);

/// An error as it is told, and its exit status; nothing where `f` ended well.
struct Failure {
  int status = kError;
  std::string text;
  bool memory = false;  // there was too little
};
std::optional<Failure> failure_of(const std::function<void()>& f);

struct BatchFile {
  std::string in;
  std::string below{};  // what --output-dir mirrors: the path below the folder that was searched, or the file's name
  std::string out{};    // empty = none
  std::optional<Failure> failed{};  // it was no input to begin with
};
/// --files0-from: names of a file or, as "-", of standard input, with a zero byte behind each; the last can do without.
/// UsageError for an empty one.
std::vector<std::string> read_names(const std::string& path);
/// What a search in folders takes for a collection: .kvz.tar, whatever it holds, and any other .tar that begins as one.
bool is_collection_name(const std::string& path);
/// All files, in the order of the command line, those of a folder by name; each once. In folders, regular files whose
/// extension `wanted` takes, and with `members` collections; links are not followed, which is said. UsageError for a
/// folder without -r, fail(io) for what cannot be read; where the batch keeps going these are files that failed.
std::vector<BatchFile> batch_files(const Batch& batch, const std::function<bool(std::string_view path)>& wanted);
/// Says where outputs go: `name` in place of the input's, beside it or below --output-dir. UsageError where two are
/// one.
void name_outputs(const Batch& batch, std::vector<BatchFile>& files,
                  const std::function<std::string(const std::string&)>& name);

/// --skip-existing leaves it out: its output is there, and a file.
bool is_done_before(const Batch& batch, const BatchFile& file);

/// What became of one file.
struct Outcome {
  int status = kDone;
  bool skipped = false;
  bool starved = false;  // failed for want of memory beside others, which is not told: it is tried again alone
  std::optional<std::uint64_t> source_bytes, file_bytes;  // of tensors, and of the container
  std::uint64_t shared_tokens = 0, shared_bytes = 0;      // that another container has
};
/// Where files wait for each other.
struct Turns {
  std::vector<unsigned> rank{};  // of each file: those of a lower rank end before one of a higher begins; empty = none
  std::function<void(std::size_t file, const Outcome&)> done{};  // told in this process, before a higher rank begins
};
/// Runs `one` on each file, in a process of its own where there are several jobs, whose output's folder is made: its
/// errors are told and are its status, and end the batch unless it keeps going. With --json a line for each file; with
/// several a summary. Returns the highest status.
int run_batch(const Batch& batch, const Common& common, const std::vector<BatchFile>& files,
              const std::function<Outcome(const BatchFile&)>& one, const Turns& turns = {});

}  // namespace kvzip::tool
