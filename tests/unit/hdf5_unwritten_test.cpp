// SPDX-License-Identifier: Apache-2.0
// HDF5 outputs of which a part cannot be written: the library writes late, and says of some of it nothing.
#include <fstream>
#include <iterator>

#include "kvzip/io.hpp"
#include "tests/support/failing_call.hpp"
#include "tests/support/memory_dump.hpp"
#include "tests/unit/hdf5_support.hpp"

using namespace hdf5_test;
using test::Call;
using test::FailingCall;

namespace {

std::string file_bytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// Chunks that parts end within, and tensors that are written in pieces.
std::unique_ptr<DumpReader> made_up() {
  Dump dump;
  dump.tensors = {{"a", DType::f16, {64, 48}}, {"b", DType::f32, {4000}}, {"c", DType::u8, {100}}};
  dump.attributes = {text("a", std::string(kHdf5Storage), "chunks=5,7"), text("", "note", std::string(3000, 'x'))};
  return std::make_unique<test::MemoryReader>(std::move(dump), 1000);
}

void write_to(Destination to, DumpReader& reader) {
  const auto writer = create_hdf5(std::move(to), reader.dump());
  transcode(reader, *writer, 1);
  writer->finish();
}

/// What write() raises while the nth write of the process fails, once or from then on; nothing where there is none.
std::optional<Error> failure_at(std::uint64_t n, bool once, const auto& write) {
  const FailingCall full(Call::pwrite, ENOSPC, n, once ? 1 : FailingCall::kAll);
  std::optional<Error> out;
  try {
    write();
  } catch (const Error& error) {
    out = error;
  }
  CHECK(out.has_value() == full.reached());
  return out;
}

/// Each write in turn fails; `check` sees the error, and that there was none at last. How many writes there are.
std::uint64_t each_write_fails(const auto& write, const auto& check) {
  std::uint64_t writes = 0;
  for (const bool once : {true, false}) {
    std::optional<Error> error;
    std::uint64_t n = 0;
    do {
      ++n;
      CAPTURE(n);
      CAPTURE(once);
      error = failure_at(n, once, write);
      check(error);
    } while (error);
    writes = n - 1;
  }
  return writes;
}

struct Collected final : Sink {
  std::string& bytes;
  bool& finished;
  Collected(std::string& to, bool& done) : bytes(to), finished(done) {}
  void append(ByteView more) override { bytes.append(reinterpret_cast<const char*>(more.data()), more.size()); }
  void finish() override { finished = true; }
};

}  // namespace

TEST_CASE("hdf5: whichever write fails, there is an error that names the output, and no output") {
  for (const char* name : {"made up", "types.h5", "beside.h5", "structure.h5"}) {
    CAPTURE(name);
    const Scratch scratch;
    const std::string path = scratch / "out.h5";
    const auto reader = std::string(name) == "made up" ? made_up() : open_reader(golden(name));
    const auto write = [&] { write_to({path, false}, *reader); };
    write();
    const std::string whole = file_bytes(path);
    std::filesystem::remove(path);
    const auto check = [&](const std::optional<Error>& error) {
      if (!error) {
        CHECK(file_bytes(path) == whole);
        std::filesystem::remove(path);
        return;
      }
      CHECK(error->code() == ErrorCode::io);
      CHECK(error->file().find(path) != std::string::npos);
      CHECK(error->message().find("No space left on device") != std::string::npos);
      CHECK(std::filesystem::is_empty(scratch.path));
    };
    CHECK(each_write_fails(write, check) > 5);
  }
}

TEST_CASE("hdf5: whichever write fails, a sink gets none of an output that lacks it") {
  for (const char* name : {"types.h5", "beside.h5"}) {
    CAPTURE(name);
    const auto reader = open_reader(golden(name));
    std::string whole, bytes;
    bool finished = false;
    write_to(Destination(std::make_unique<Collected>(whole, finished)), *reader);
    REQUIRE(finished);
    const auto write = [&] {
      bytes.clear();
      finished = false;
      write_to(Destination(std::make_unique<Collected>(bytes, finished)), *reader);
    };
    const auto check = [&](const std::optional<Error>& error) {
      CHECK(finished == !error);
      CHECK(bytes == (error ? "" : whole));
      if (error) CHECK(error->file().find("temporary copy of the output in ") == 0);
    };
    CHECK(each_write_fails(write, check) > 5);
  }
}
