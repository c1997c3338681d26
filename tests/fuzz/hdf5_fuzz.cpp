// SPDX-License-Identifier: Apache-2.0
// Any bytes, read as HDF5, either give an Error or a dump that can be read whole.
// Checksums keep what libFuzzer does to an input from most of what new files have: its changes go into structures here,
// too, and checksums that were right become so again.
#include <algorithm>
#include <cstdlib>
#include <span>

#include "codec/splitmix64.hpp"
#include "formats/hdf5/hdf5.hpp"
#include "kvzip/error.hpp"
#include "kvzip/layout.hpp"
#include "tests/support/hdf5_checksums.hpp"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most);

namespace {

using namespace kvzip;
using test::FileBytes;
using test::Structure;

std::unique_ptr<DumpReader> open(ByteView bytes) {
  return open_hdf5(InputFile(bytes, "input"), true);
}

/// Whether input gets as far as the HDF5 library at all.
bool opens_files() {
  InputFile seed(KVZIP_TEST_DIR "/fuzz/corpus/hdf5/small.h5");
  Bytes bytes(seed.size());
  seed.read_at(0, bytes);
  return open(bytes)->dump().tensors.size() == 1;
}

/// One input's change.
class Mutation {
 public:
  Mutation(std::uint8_t* data, std::size_t size, std::size_t most, std::uint64_t seed)
      : data_(data),
        most_(most),
        seed_(seed),
        file_(data, size),
        found_(test::find_structures(file_)),
        base_(test::base_of(file_, found_)) {}

  std::size_t run() {
    if (found_.empty() || below(8) == 0) {
      file_ = {data_, LLVMFuzzerMutate(data_, file_.size(), below(2) == 0 ? file_.size() : most_)};
    } else {
      for (std::size_t n = 1 + below(3); n > 0; --n) change(any());
    }
    test::seal(file_, found_);
    return file_.size();
  }

 private:
  std::size_t below(std::uint64_t end) { return static_cast<std::size_t>(splitmix64(seed_, turn_++) % end); }
  Structure any() { return found_[below(found_.size())]; }
  FileBytes bytes_of(const Structure& s) const { return file_.subspan(s.begin, s.end - s.begin); }

  void change(const Structure& s) {
    const FileBytes bytes = bytes_of(s);
    switch (below(12)) {
      case 0:
        LLVMFuzzerMutate(bytes.data(), bytes.size(), bytes.size());
        break;
      case 1:
        bytes[below(bytes.size())] ^= static_cast<std::uint8_t>(1u << below(8));
        break;
      case 2:
        copy(bytes_of(any()), bytes);
        break;
      case 3:
        if (s.checked) append(s);
        break;
      case 4:
        if (s.length) change_number(s.length->field, s.length->width);
        break;
      case 5:
      case 6:
        redirect(bytes);
        break;
      default: {
        const std::size_t width = std::size_t{1} << below(4);
        if (bytes.size() > kSignature + width) {
          change_number(s.begin + kSignature + below(bytes.size() - kSignature - width), width);
        }
      }
    }
  }

  /// Some bytes from one place to another.
  void copy(FileBytes from, FileBytes to) {
    from = from.subspan(below(from.size()));
    to = to.subspan(below(to.size()));
    std::memmove(to.data(), from.data(), 1 + below(std::min(from.size(), to.size())));
  }

  /// One more of these at the end, and maybe zeros behind it; a new superblock states where that is.
  void append(const Structure& s) {
    constexpr std::size_t kEndField = 28;
    const std::size_t size = s.end - s.begin, begin = file_.size();
    if (size > most_ - begin) return;
    const std::size_t zeros = below(4) == 0 ? below(most_ - begin - size + 1) : 0;
    std::memcpy(data_ + begin, data_ + s.begin, size);
    std::fill_n(data_ + begin + size, zeros, std::uint8_t{0});
    file_ = {data_, begin + size + zeros};
    found_.push_back({begin, begin + size, begin + s.sum - s.begin, true, {}});
    if (found_[0].checked) set(base_ + kEndField, 8, file_.size() - base_);
  }

  /// An address of a structure, of those in `bytes`, becomes another's.
  void redirect(FileBytes bytes) {
    std::vector<std::size_t> places;
    for (std::size_t at = kSignature; at + 8 <= bytes.size(); ++at) {
      const std::uint64_t address = test::number_at(bytes, at, 8);
      const auto is_there = [&](const Structure& s) { return s.begin == address + base_; };
      if (address != 0 && address < file_.size() && std::ranges::any_of(found_, is_there)) places.push_back(at);
    }
    if (!places.empty()) test::put_number(bytes, places[below(places.size())], 8, any().begin - base_);
  }

  void set(std::size_t at, std::size_t width, std::uint64_t value) {
    if (at + width <= file_.size()) test::put_number(file_, at, width, value);
  }
  void change_number(std::size_t at, std::size_t width) { set(at, width, number(test::number_at(file_, at, width))); }

  /// In place of `old`: near it, a size that is round or nearly so, or a place or a size of something in the file.
  std::uint64_t number(std::uint64_t old) {
    const auto near = [&](std::uint64_t value) { return value + below(5) - 2; };
    const Structure s = any();
    switch (below(9)) {
      case 0:
        return near(old);
      case 1:
        return old << below(9);
      case 2:
        return old >> below(9);
      case 3:
        return near(std::uint64_t{1} << below(64));
      case 4:
        return below(33);
      case 5:
        return ~std::uint64_t{0} - below(3);
      case 6:
        return s.begin - base_;
      case 7:
        return near(s.end - s.begin);
      default:
        return near(file_.size());
    }
  }

  static constexpr std::size_t kSignature = 4;

  std::uint8_t* data_;
  std::size_t most_;
  std::uint64_t seed_, turn_ = 0;
  FileBytes file_;
  std::vector<Structure> found_;
  std::size_t base_;
};

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed) {
  return Mutation(data, size, most, seed).run();
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 24;  // of a dump: chunks that are not stored cost nothing
  static const bool opens = opens_files();
  if (!opens) std::abort();
  try {
    const auto reader = open(std::as_bytes(std::span(data, size)));
    recognise(reader->dump());
    std::uint64_t bytes = 0;
    for (std::uint64_t i = 0; i < reader->part_count() && bytes < kMostBytes; ++i) {
      Part part = reader->part(i);
      reader->fetch(part);
      reader->expand(part);
      for (const Bytes& one : part.data) bytes += std::max<std::uint64_t>(one.size(), 1);
    }
  } catch (const Error&) {
  }
  return 0;
}
