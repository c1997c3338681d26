// SPDX-License-Identifier: Apache-2.0
// What readers know of their files, and what is made from them, without a scope: as programs use the library.
#include <thread>

#include "formats/borrowed_reader.hpp"
#include "formats/join.hpp"
#include "formats/selection.hpp"
#include "formats/token_join.hpp"
#include "kvzip/container.hpp"
#include "kvzip/rules.hpp"
#include "tests/support/memory_dump.hpp"
#include "tests/unit/file_support.hpp"

namespace kvzip {
namespace {

using namespace test;

/// Files made under a mask of 022, in a folder of their own.
struct Files {
  ScratchDirectory scratch;
  mode_t mask = ::umask(022);
  ~Files() { ::umask(mask); }

  /// Of one layer; some format's, or a container.
  std::string dump(const std::string& name, std::string_view format, unsigned mode, const char* layer = "0") const {
    Dump all;
    for (const char* half : {"key", "value"}) {
      all.tensors.push_back({std::string("layers.") + layer + "." + half, DType::f16, {2, 8, 4}});
    }
    all.attributes.push_back(text_attribute("axes", "HTD"));
    MemoryReader reader(all);
    const std::string path = write(reader, name, format);
    ::chmod(path.c_str(), mode);
    return path;
  }

  std::string write(DumpReader& reader, const std::string& name, std::string_view format) const {
    const std::string path = scratch.file(name);
    std::filesystem::remove(path);
    KvzOptions options;
    options.rules = RuleSet::builtin("lossless");
    const auto writer = format == "kvz"
                            ? create_kvz_writer(path, reader.dump(), recognise(reader.dump(), {}), options, false)
                            : create_writer(path, format, reader.dump(), false);
    transcode(reader, *writer, 2);
    writer->finish();
    return path;
  }

  unsigned made_of(DumpReader& reader, std::string_view format) const { return mode_of(write(reader, "out", format)); }
};

/// What code_of() gives for reading all of it.
std::optional<ErrorCode> refusal(DumpReader& reader) {
  return code_of([&] { for_each_part(reader, {}, {}, 1); });
}

TEST_CASE("inputs: what is made from a reader is as private as its file, and nothing else is") {
  const Files files;
  for (const std::string_view from : {"safetensors", "hdf5", "npz", "kvz"}) {
    CAPTURE(from);
    const auto secret = open_reader(files.dump("secret", from, 0600)),
               open = open_reader(files.dump("open", from, 0644));
    for (const std::string_view to : {"safetensors", "hdf5", "npz", "kvz"}) {
      CAPTURE(to);
      CHECK(files.made_of(*secret, to) == 0600);
      CHECK(files.made_of(*open, to) == 0644);
    }
  }
  const auto container = open_kvz(files.dump("own", "kvz", 0640));
  CHECK(files.made_of(*container, "npz") == 0640);
}

TEST_CASE("inputs: readers on readers know the files of these") {
  const Files files;
  const std::string secret = files.dump("secret", "safetensors", 0600),
                    open = files.dump("open", "safetensors", 0644, "1");
  const auto two = [&](const std::string& a, const std::string& b) {
    std::vector<JoinInput> inputs;
    inputs.push_back({a, open_reader(a)});
    inputs.push_back({b, open_reader(b)});
    return inputs;
  };
  CHECK(files.made_of(*join(two(open, secret)), "kvz") == 0600);
  CHECK(files.made_of(*join_tokens(two(secret, secret)), "kvz") == 0600);
  CHECK(files.made_of(*join_tokens(two(open, open)), "kvz") == 0644);
  auto reader = open_reader(secret);
  BorrowedReader borrowed(*reader);
  CHECK(files.made_of(borrowed, "npz") == 0600);
  const Recognition roles = recognise(reader->dump(), {});
  Selection front;
  front.tokens = {0, 4};
  const auto some = select(std::move(reader), roles, front);
  CHECK(files.made_of(*some, "npz") == 0600);
  ::truncate(secret.c_str(), 100);
  CHECK(refusal(*some) == ErrorCode::truncated);
}

TEST_CASE("inputs: a file that changes is refused to those who read it, and to nobody else") {
  const Files files;
  for (const std::string_view format : {"safetensors", "hdf5", "npz", "kvz"}) {
    CAPTURE(format);
    const std::string path = files.dump("changed", format, 0644);
    const auto changed = open_reader(path), other = open_reader(files.dump("other", format, 0644));
    CHECK_FALSE(refusal(*changed));
    const timespec long_ago[2] = {{1000, 0}, {1000, 0}};
    ::utimensat(AT_FDCWD, path.c_str(), long_ago, 0);
    CHECK(refusal(*changed) == ErrorCode::io);
    CHECK(code_of([&] { files.write(*changed, "out", "kvz"); }) == ErrorCode::io);
    CHECK_FALSE(std::filesystem::exists(files.scratch.file("out")));
    CHECK_FALSE(refusal(*other));
    CHECK(files.made_of(*other, "kvz") == 0644);
    CHECK_FALSE(refusal(*open_reader(path)));  // as it is now
  }
}

TEST_CASE("inputs: a file that changes behind its last part is refused before the output has its name") {
  const Files files;
  for (const std::string_view format : {"safetensors", "hdf5", "npz", "kvz"}) {
    CAPTURE(format);
    const std::string path = files.dump("changed", "safetensors", 0644), out = files.scratch.file("out");
    const auto write = [&](bool to_sink) {
      const auto reader = open_reader(path);
      KvzOptions options;
      options.rules = RuleSet::builtin("lossless");
      const Recognition roles = recognise(reader->dump(), {});
      Bytes bytes;
      auto sink = std::make_unique<MemorySink>(bytes);
      std::unique_ptr<DumpWriter> writer;
      if (format == "kvz") {
        writer = to_sink ? create_kvz_writer(std::move(sink), reader->dump(), roles, options)
                         : create_kvz_writer(out, reader->dump(), roles, options, false);
      } else {
        writer = to_sink ? create_writer(std::move(sink), format, reader->dump())
                         : create_writer(out, format, reader->dump(), false);
      }
      transcode(*reader, *writer, 1);
      const timespec long_ago[2] = {{1000, 0}, {1000, 0}};
      ::utimensat(AT_FDCWD, path.c_str(), long_ago, 0);
      writer->finish();
    };
    for (const bool to_sink : {false, true}) {
      CAPTURE(to_sink);
      CHECK(code_of([&] { write(to_sink); }) == ErrorCode::io);
      CHECK_FALSE(std::filesystem::exists(out));
      files.dump("changed", "safetensors", 0644);
    }
  }
}

TEST_CASE("inputs: a scope takes in what no reader of an output has") {
  const Files files;
  const auto open = open_reader(files.dump("open", "npz", 0644));
  {
    const InputScope inputs;
    (void)open_reader(files.dump("queries", "npz", 0600));
    CHECK(files.made_of(*open, "kvz") == 0600);
    std::thread([&] { CHECK(files.made_of(*open, "npz") == 0644); }).join();
  }
  CHECK(files.made_of(*open, "kvz") == 0644);
}

TEST_CASE("inputs: containers that grow, or begin in another, are as private as all of it") {
  const Files files;
  const std::string path = files.dump("grown", "kvz", 0644);
  const auto more = open_reader(files.dump("more", "npz", 0600));
  KvzOptions options;
  options.rules = RuleSet::builtin("lossless");
  append_kvz(path, *more, recognise(more->dump(), {}), options, 1);
  CHECK(mode_of(path) == 0600);
  const std::string ordered = files.scratch.file("ordered");
  options.rules = RuleSet::parse("chunk = 4\nkv = quant:bits=8:axis=token,rans", "test");
  compress_by_tokens(ordered, *more, recognise(more->dump(), {}), options, 4, 1, false);
  CHECK(mode_of(ordered) == 0600);
}

}  // namespace
}  // namespace kvzip
