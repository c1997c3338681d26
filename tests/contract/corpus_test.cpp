// SPDX-License-Identifier: Apache-2.0
// What the fuzzers keep, and some of what they would make of it: each reader, stage, coder and parser meets it in every
// build. A target that finds something ends the process.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <string>

#include "tests/contract/sample_dumps.hpp"

// tests/fuzz/NAME_fuzz.cpp, under names of their own.
extern "C" {
int kvzip_fuzz_coder(const std::uint8_t* data, std::size_t size);
int kvzip_fuzz_collection(const std::uint8_t* data, std::size_t size);
int kvzip_fuzz_container(const std::uint8_t* data, std::size_t size);
int kvzip_fuzz_container_start(int* count, char*** arguments);
int kvzip_fuzz_dump(const std::uint8_t* data, std::size_t size);
int kvzip_fuzz_hdf5(const std::uint8_t* data, std::size_t size);
std::size_t kvzip_fuzz_hdf5_mutate(std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed);
int kvzip_fuzz_pipeline(const std::uint8_t* data, std::size_t size);
int kvzip_fuzz_safetensors(const std::uint8_t* data, std::size_t size);
int kvzip_fuzz_tile(const std::uint8_t* data, std::size_t size);
}

namespace kvzip::test {
namespace {

class Numbers {
 public:
  std::size_t below(std::size_t end) {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<std::size_t>(state_ >> 33) % end;
  }

 private:
  std::uint64_t state_ = 1;
};

/// A flipped bit, a byte of extremes, bytes left out, moved or repeated, or an end of another input.
Bytes changed(Bytes bytes, const Bytes& other, Numbers& numbers) {
  if (bytes.empty()) return other;
  const std::size_t at = numbers.below(bytes.size());
  const std::size_t length = 1 + numbers.below(std::min<std::size_t>(32, bytes.size() - at));
  const auto from = bytes.begin() + static_cast<std::ptrdiff_t>(at), to = from + static_cast<std::ptrdiff_t>(length);
  switch (numbers.below(6)) {
    case 0:
      *from ^= std::byte{1} << numbers.below(8);
      break;
    case 1:
      *from = std::byte{numbers.below(2) == 0 ? std::uint8_t{0xff} : std::uint8_t{0}};
      break;
    case 2:
      bytes.erase(from, to);
      break;
    case 3:
      std::rotate(bytes.begin() + static_cast<std::ptrdiff_t>(numbers.below(at + 1)), from, to);
      break;
    case 4: {
      const Bytes again(from, to);
      bytes.insert(from, again.begin(), again.end());
      break;
    }
    default: {
      const auto cut = static_cast<std::ptrdiff_t>(numbers.below(other.size() + 1));
      bytes.erase(from, bytes.end());
      bytes.insert(bytes.end(), other.begin() + cut, other.end());
    }
  }
  return bytes;
}

using Target = int (*)(const std::uint8_t* data, std::size_t size);
using Mutator = std::size_t (*)(std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed);

Bytes mutant(Bytes bytes, Mutator mutate, unsigned seed) {
  constexpr std::size_t kRoom = 512;
  const std::size_t size = bytes.size();
  bytes.resize(size + kRoom);
  bytes.resize(mutate(reinterpret_cast<std::uint8_t*>(bytes.data()), size, bytes.size(), seed));
  return bytes;
}

/// `mutate`: the target's own mutator, if it has one.
void meet(const std::string& name, Target target, Mutator mutate = nullptr) {
  std::vector<std::string> paths;
  for (const auto& entry : std::filesystem::directory_iterator(KVZIP_TEST_DIR "/fuzz/corpus/" + name)) {
    paths.push_back(entry.path().string());
  }
  REQUIRE(!paths.empty());
  std::sort(paths.begin(), paths.end());
  const auto run = [&](const Bytes& input) {
    CHECK(target(reinterpret_cast<const std::uint8_t*>(input.data()), input.size()) == 0);
  };
  Numbers numbers;
  Bytes before = file_bytes(paths.back());
  for (const std::string& path : paths) {
    CAPTURE(path);
    Bytes input = file_bytes(path);
    run(input);
    for (int i = 0; i < 4; ++i) {
      Bytes bad = changed(input, before, numbers);
      run(bad);
      run(changed(std::move(bad), input, numbers));
    }
    for (unsigned seed = 0; mutate != nullptr && seed < 16; ++seed) run(mutant(input, mutate, seed));
    before = std::move(input);
  }
}

}  // namespace

/// What a target's own mutator leaves to libFuzzer.
extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most) {
  static Numbers numbers;
  const auto* const bytes = reinterpret_cast<const std::byte*>(data);
  const Bytes now(bytes, bytes + size), out = changed(now, now, numbers);
  size = std::min(out.size(), most);
  std::copy_n(out.begin(), size, reinterpret_cast<std::byte*>(data));
  return size;
}

TEST_CASE("corpus: containers") {
  kvzip_fuzz_container_start(nullptr, nullptr);
  meet("container", kvzip_fuzz_container);
}
TEST_CASE("corpus: collections") {
  meet("collection", kvzip_fuzz_collection);
}
TEST_CASE("corpus: coders") {
  meet("coder", kvzip_fuzz_coder);
}
TEST_CASE("corpus: dumps") {
  meet("dump", kvzip_fuzz_dump);
}
TEST_CASE("corpus: HDF5") {
  meet("hdf5", kvzip_fuzz_hdf5, kvzip_fuzz_hdf5_mutate);
}
TEST_CASE("corpus: pipelines and rules") {
  meet("pipeline", kvzip_fuzz_pipeline);
}
TEST_CASE("corpus: safetensors") {
  meet("safetensors", kvzip_fuzz_safetensors);
}
TEST_CASE("corpus: tiles") {
  meet("tile", kvzip_fuzz_tile);
}

}  // namespace kvzip::test
