// SPDX-License-Identifier: Apache-2.0
// Readers and writers of dumps, and the one loop between them.
#pragma once

#include <any>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvzip/dump.hpp"
#include "kvzip/inputs.hpp"
#include "kvzip/layout.hpp"
#include "kvzip/source_sink.hpp"

namespace kvzip {

/// The unit that moves from a reader to a writer: some slices and their element bytes, or their coded form.
struct Part {
  std::uint64_t index = 0;  // position in the order of whoever made the parts
  std::vector<Slice> slices;
  std::vector<Bytes> data;   // data[i]: the elements of slices[i], row-major, little-endian
  std::vector<Bytes> coded;  // frames, between fetch and expand or between prepare and append
  std::size_t group = 0;     // of a container's parts: the tile group, as the container numbers them
  std::any result;           // what a step on any thread leaves for the step that follows in order
};

class KvzReader;

/// What a reader is beyond its dump. Of a container from a pipe some is known only after its last part.
struct ReaderTraits {
  KvzReader* container = nullptr;     // itself, when it is one whole container
  bool once = false;                  // comes from a pipe: each part is fetched once, and read() fails
  std::uint64_t chunk_tokens = 0;     // of the longest parts of keys and values; 0 = not cut along the tokens
  std::optional<double> max_error{};  // no finite key or value is further from its original than this
};

class DumpReader {
 public:
  DumpReader();
  virtual ~DumpReader() = default;
  virtual const Dump& dump() const = 0;

  /// The parts this reader reads best, covering every element of every tensor once.
  virtual std::uint64_t part_count() const = 0;
  virtual Part part(std::uint64_t index) const = 0;  // slices only
  /// Reads what expand() needs. One caller at a time, ascending parts (parts may be left out). `part` is what part()
  /// gave; until expand() its index stays, and its slices are the reader's own affair.
  virtual void fetch(Part& part) = 0;
  /// Turns fetched bytes into `data`, of the slices that part() gave. Any thread.
  virtual void expand(Part&) const {}

  /// Random access: the elements of one slice. One caller at a time. `out` has exactly the slice's bytes.
  virtual void read(const Slice& slice, std::span<std::byte> out) = 0;

  /// A container states its own roles; other readers give nothing and recognise() is used.
  virtual const Recognition* recognition() const { return nullptr; }

  virtual ReaderTraits traits() { return {}; }

  /// The files that it was opened from. Those who read all of its parts fail where one of them has changed since.
  const InputList& inputs() const { return inputs_; }

 protected:
  /// Its values come from another reader's, and so from these files.
  void reads_through(const DumpReader& inner);

 private:
  InputList inputs_;
};

class DumpWriter {
 public:
  virtual ~DumpWriter() = default;
  /// A writer with its own idea of the parts (a container) says so; otherwise the reader's parts are used.
  virtual bool plans() const { return false; }
  virtual std::uint64_t part_count() const { return 0; }
  virtual Part part(std::uint64_t) const { return {}; }
  /// Turns `data` into `coded`. Any thread.
  virtual void prepare(Part&) const {}
  /// Stores a part. One caller at a time; a writer that plans gets its parts in order, others in the reader's order.
  virtual void append(Part& part) = 0;
  /// Called by transcode(): what comes is made from these files. A file that is written is readable by no more people.
  virtual void made_from(const InputList&) {}
  /// Completes the output and gives it its final name. Without it nothing appears under that name.
  virtual void finish() = 0;
};

/// Called with bytes of source elements done and in all; from one thread at a time.
using Progress = std::function<void(std::uint64_t done, std::uint64_t total)>;

/// Moves everything from reader to writer through a bounded pipeline: reading and writing are serial and in order,
/// expand and prepare run on `threads` threads (0 = all). Output does not depend on `threads`. Does not call finish().
void transcode(DumpReader& in, DumpWriter& out, unsigned threads, const Progress& progress = {});

/// A step on a part; none = nothing to do.
using PartStep = std::function<void(Part& part)>;
/// Reads every part of a dump: `visit` runs on any of `threads` threads (0 = all) and leaves what it found in the
/// part's result, `merge` runs for one part at a time, in their order. Of several errors that of the first part in
/// order is thrown, once all parts before it are merged.
void for_each_part(DumpReader& reader, const PartStep& visit, const PartStep& merge, unsigned threads,
                   const Progress& progress = {});

/// Opens a dump or container by content (magic bytes), never by name. "-" reads standard input; formats that need
/// seeking are first copied to an unnamed temporary file. Blocks of llama.cpp and quantised caches of MLX are shown as
/// the values that they stand for, those of containers, too.
std::unique_ptr<DumpReader> open_reader(const std::string& path);
/// The same from other places than files; `name` stands for them in messages. HDF5 is copied to a temporary file first.
std::unique_ptr<DumpReader> open_reader(std::unique_ptr<const Source> source, std::string name = "the source");
/// `bytes` must outlive the reader.
std::unique_ptr<DumpReader> open_reader(ByteView bytes, std::string name = "the buffer");
/// What such a reader has in place of values: with a pipeline without loss, this is what comes back as it was. Null for
/// any other reader.
DumpReader* stored_blocks(DumpReader& reader);
/// The reader that a file of this format is to be written from: what is stored, where the format holds that.
DumpReader& reader_for(std::string_view format, DumpReader& reader);
/// Creates a writer for a dump. `format` is a name from the format table ("safetensors", "hdf5", "npz"); "-" writes
/// standard output.
std::unique_ptr<DumpWriter> create_writer(const std::string& path, std::string_view format, const Dump& dump,
                                          bool overwrite);
/// The same to a sink, which gets its bytes in finish(): these formats are written out of order, so that they are
/// collected in a temporary file.
std::unique_ptr<DumpWriter> create_writer(std::unique_ptr<Sink> sink, std::string_view format, const Dump& dump);
/// What a file of this format and name would not say of a dump, a phrase each; empty where it says all.
std::vector<std::string> format_losses(std::string_view format, const Dump& dump, std::string_view path);
/// A file format: a row of `kvzip list formats`.
struct FileFormat {
  std::string_view name;
  std::string_view extensions;  // separated by spaces, the usual one first
  std::string_view help;        // one line
  bool writable = false;        // create_writer() can; the container has create_kvz_writer()
};
std::vector<FileFormat> file_formats();
/// The format a file name's extension asks for; empty when unknown.
std::string_view format_of_path(std::string_view path);

}  // namespace kvzip
