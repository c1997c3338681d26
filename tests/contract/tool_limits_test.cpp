// SPDX-License-Identifier: Apache-2.0
// Limits of texts that the tool reads and of what its options may make, each at its edge. Long texts come through pipes
// and are made on their way.
#include <fmt/format.h>

#include <csignal>

#include "codec/limits.hpp"
#include "formats/kvz/kvz_records.hpp"
#include "src/cli/batch.hpp"
#include "src/load/load_source.hpp"
#include "src/report/report.hpp"
#include "src/sweep/settings.hpp"
#include "src/sweep/sweep_rows.hpp"
#include "tests/contract/allocation.hpp"
#include "tests/support/made_up_sweep.hpp"
#include "tests/unit/file_support.hpp"

namespace kvzip::test {
namespace {

using namespace tool;

std::string message_of(auto&& action) {
  try {
    action();
  } catch (const std::exception& error) {
    return error.what();
  }
  return {};
}

/// A pipe that gives a text and then `block` again and again, `bytes` in all.
class Pipe {
 public:
  Pipe(const ScratchDirectory& scratch, std::string text, const std::string& block, std::uint64_t bytes)
      : path_(scratch.file("pipe")) {
    REQUIRE(::mkfifo(path_.c_str(), 0600) == 0);
    std::fflush(nullptr);
    child_ = ::fork();
    if (child_ == 0) give(std::move(text), block, bytes);
  }
  /// Who had enough before the end has left the child with a broken pipe.
  ~Pipe() {
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
    ::unlink(path_.c_str());
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  const std::string& path() const { return path_; }

 private:
  [[noreturn]] void give(std::string text, const std::string& block, std::uint64_t bytes) const {
    const int fd = ::open(path_.c_str(), O_WRONLY);
    while (bytes > 0) {
      text.resize(std::min<std::uint64_t>(text.size(), bytes));
      for (std::string_view rest = text; !rest.empty();) {
        const ssize_t put = ::write(fd, rest.data(), rest.size());
        if (put <= 0) ::_exit(1);
        rest.remove_prefix(static_cast<std::size_t>(put));
      }
      bytes -= text.size();
      text = block;
    }
    ::_exit(0);
  }

  std::string path_;
  pid_t child_ = -1;
};

}  // namespace

TEST_CASE("tool limits: bytes of a trace of bandwidth") {
  const ScratchDirectory scratch;
  const auto arrival = [&](std::uint64_t bytes) {
    const Pipe pipe(scratch, "0 8\n#", std::string(1 << 20, '.'), bytes);
    return read_trace(pipe.path()).arrival(3000000, 0);
  };
  CHECK(arrival(limits::kTraceText) == 3);
  CHECK(message_of([&] { arrival(limits::kTraceText + 1); }).ends_with("pipe: too long for a trace of bandwidth"));
}

TEST_CASE("tool limits: bytes of a sweep") {
  // Lists within lists: who looks into the text refuses it at once.
  const ScratchDirectory scratch;
  const auto said = [&](std::uint64_t bytes) {
    const Pipe pipe(scratch, std::string(limits::kJsonDepth + 1, '['), std::string(1 << 20, '.'), bytes);
    return message_of([&] { read_sweep_levels(pipe.path(), {}, 1); });
  };
  CHECK(said(limits::kSweepText).ends_with(fmt::format("more than {} nested lists", limits::kJsonDepth)));
  CHECK(said(limits::kSweepText + 1).ends_with("pipe: too long for a sweep"));
}

TEST_CASE("tool limits: bytes of a row that --resume keeps") {
  const ScratchDirectory scratch;
  const Sweep sweep = made_up_sweep();
  SweepRequest request;
  request.resume = scratch.file("rows");
  std::filesystem::create_directory(request.resume);
  const RowStore store(scratch.file("dump", "x"), request, {});
  store.save(sweep.dumps[0], sweep.dumps[0].settings[3]);
  REQUIRE(store.load());
  CHECK(store.load()->dumps[0].settings[0].name == sweep.dumps[0].settings[3].name);
  // The file made longer, with something like a checksum at its end. What is read of it shows in memory alone: in
  // either case it is not the row.
  const std::string file = std::filesystem::directory_iterator(request.resume)->path().string();
  const auto held = [&](std::uint64_t bytes) {
    std::filesystem::resize_file(file, bytes - 5);
    std::ofstream(file, std::ios::binary | std::ios::app) << "xxh3 ";
    const std::size_t before = allocated_now();
    reset_allocated_most();
    CHECK_FALSE(store.load());
    CHECK(last_complaint() == fmt::format("{}: damaged or changed: this row is measured again", file));
    return allocated_most() - before;
  };
  const std::size_t at = held(limits::kSweepRow), beyond = held(limits::kSweepRow + 1);
  CHECK(beyond < std::size_t{1} << 16);
  if (at > 0) CHECK(at > limits::kSweepRow);  // memory is not counted where a sanitiser does that
}

TEST_CASE("tool limits: settings of a grid") {
  const auto settings = [](std::size_t values) {
    std::string grid = "quant.group=";
    for (std::size_t v = 1; v <= values; ++v) grid += fmt::format("{}{}", v > 1 ? "," : "", v);
    return grid_settings({pipeline_setting("quant:bits=4,pack", "--pipeline")}, grid).size();
  };
  CHECK(settings(limits::kGridSettings) == limits::kGridSettings);
  CHECK(message_of([&] { settings(limits::kGridSettings + 1); }) ==
        fmt::format("--grid makes more than {} settings", limits::kGridSettings));
}

TEST_CASE("tool limits: chunks that loads are planned in") {
  CHECK(chunk_count(limits::kLoadChunks, 1) == limits::kLoadChunks);
  CHECK(chunk_count(limits::kLoadChunks * 7 - 6, 7) == limits::kLoadChunks);
  CHECK(chunk_bytes({{0, 1, 5}}, limits::kLoadChunks, limits::kLoadChunks) == std::vector<std::uint64_t>{5});
  CHECK(message_of([&] { chunk_count(limits::kLoadChunks + 1, 1); }) ==
        fmt::format("{} chunks of 1 tokens: more than {}", limits::kLoadChunks + 1, limits::kLoadChunks));
  CHECK(message_of([&] { chunk_count(limits::kLoadChunks * 7 + 1, 7); }) ==
        fmt::format("{} chunks of 7 tokens: more than {}", limits::kLoadChunks + 1, limits::kLoadChunks));
}

TEST_CASE("tool limits: bytes of a name of a list, and of all of them") {
  const ScratchDirectory scratch;
  const auto names = [&](std::size_t bytes) {
    return read_names(scratch.file("list", std::string(bytes, 'n') + std::string("\0m", 2)));
  };
  CHECK(names(limits::kInputName) == std::vector<std::string>{std::string(limits::kInputName, 'n'), "m"});
  CHECK(message_of([&] {
          names(limits::kInputName + 1);
        }).ends_with(fmt::format("list: a name of more than {} bytes; a zero byte ends each", limits::kInputName)));
  // As many of the longest as there can be, and one that fills what is left.
  constexpr std::size_t kLong = limits::kInputName + sizeof(std::string);
  constexpr std::size_t kMany = limits::kInputNames / kLong, kLast = limits::kInputNames % kLong - sizeof(std::string);
  static_assert(limits::kInputNames % kLong > sizeof(std::string));
  const auto all = [&](std::size_t last) {
    const std::string name = std::string(limits::kInputName, 'n') + std::string(1, '\0');
    const Pipe pipe(scratch, name, name, kMany * name.size() + last);
    return read_names(pipe.path());
  };
  {
    const std::vector<std::string> most = all(kLast);
    REQUIRE(most.size() == kMany + 1);
    CHECK(most.back().size() == kLast);
  }
  CHECK(message_of([&] { all(kLast + 1); }).ends_with("pipe: too long for a list of names"));
}

}  // namespace kvzip::test
