// SPDX-License-Identifier: Apache-2.0
// HDF5 files put together byte by byte, as no writer would: of the oldest kind, whose structures have no checksums.
// Numbers of sections are those of the HDF5 File Format Specification 3.0.
#pragma once

#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/file.hpp"
#include "formats/hdf5/hdf5_raw.hpp"
#include "tests/unit/hdf5_support.hpp"

namespace hdf5_test {

using namespace kvzip;

/// Zeros, but for what was put somewhere: of any length.
class SparseSource final : public Source {
 public:
  explicit SparseSource(std::uint64_t size) : size_(size) {}
  void put(std::uint64_t at, std::string bytes) { pieces_.emplace(at, std::move(bytes)); }
  std::uint64_t size() const override { return size_; }
  void read_at(std::uint64_t offset, std::span<std::byte> out) const override {
    std::fill(out.begin(), out.end(), std::byte{0});
    // Pieces lie apart.
    auto piece = pieces_.upper_bound(offset);
    if (piece != pieces_.begin()) --piece;
    for (; piece != pieces_.end() && piece->first < offset + out.size(); ++piece) {
      const auto& [at, bytes] = *piece;
      const std::uint64_t begin = std::max(at, offset), end = std::min(at + bytes.size(), offset + out.size());
      if (begin < end) std::memcpy(out.data() + (begin - offset), bytes.data() + (begin - at), end - begin);
    }
  }

 private:
  std::uint64_t size_;
  std::map<std::uint64_t, std::string> pieces_;
};

inline constexpr std::uint64_t kNowhere = hdf5::kUndefined;

/// Little-endian, of so many bytes.
inline std::string le(std::uint64_t value, std::size_t bytes) {
  std::string out(bytes, '\0');
  std::memcpy(out.data(), &value, std::min(bytes, sizeof value));
  return out;
}
template <typename... T>
std::string le64(T... values) {
  return (le(static_cast<std::uint64_t>(values), 8) + ...);
}
inline std::string rounded(std::string text) {
  text.resize((text.size() + 7) / 8 * 8);
  return text;
}

/// A message of an object header (IV.A.1.a).
inline std::string message(std::uint64_t type, const std::string& body) {
  return le(type, 2) + le(rounded(body).size(), 2) + le(0, 4) + rounded(body);
}
inline std::string continuation(std::uint64_t at, std::uint64_t bytes) {
  return message(16, le64(at, bytes));
}
/// What makes a group of which all links are in its header.
inline std::string link_info() {
  return message(2, le(0, 2) + le64(kNowhere, kNowhere));
}
inline std::string link(std::string_view name, std::uint64_t at) {
  return message(6, le(1, 2) + le(name.size(), 1) + std::string(name) + le64(at));
}
inline std::string symbol_table(std::uint64_t tree, std::uint64_t heap) {
  return message(17, le64(tree, heap));
}

/// An object header: its prefix, and how many bytes of messages follow.
inline std::string header_prefix(std::size_t messages, std::uint64_t bytes) {
  return le(1, 2) + le(messages, 2) + le(1, 4) + le(bytes, 8);
}
inline std::string header(const std::vector<std::string>& messages) {
  std::string body;
  for (const std::string& m : messages) body += m;
  return header_prefix(messages.size(), body.size()) + body;
}

inline const std::string kByteType = le(0x10, 4) + le(1, 4) + le(0, 2) + le(8, 2);  // an unsigned integer of one byte
inline std::string space(const std::vector<std::uint64_t>& shape) {
  std::string out = le(1, 1) + le(shape.size(), 1) + le(0, 6);
  for (const std::uint64_t n : shape) out += le64(n);
  return out;
}
/// An attribute (IV.A.2.m, version 3). The type is `type`, or where that leads to.
inline std::string attribute(const std::string& name, const std::string& type, const std::vector<std::uint64_t>& shape,
                             const std::string& value, bool committed = false) {
  return message(12, le(3, 1) + le(committed ? 1 : 0, 1) + le(name.size() + 1, 2) + le(type.size(), 2) +
                         le(space(shape).size(), 2) + le(0, 1) + name + '\0' + type + space(shape) + value);
}
/// A dataset of bytes, zeros where nothing was written.
inline std::string dataset(const std::vector<std::uint64_t>& shape, const std::string& layout,
                           const std::vector<std::string>& more = {}) {
  const std::string zeros = le(2, 1) + le(3, 1) + le(2, 1) + le(1, 1) + le(0, 4);
  std::vector<std::string> all{message(1, space(shape)), message(3, kByteType), message(5, zeros), message(8, layout)};
  all.insert(all.end(), more.begin(), more.end());
  return header(all);
}
/// In one piece, of which nothing was.
inline std::string unwritten(const std::vector<std::uint64_t>& shape) {
  return dataset(shape, le(3, 1) + le(1, 1) + le64(kNowhere, 0));
}
/// In such chunks, of which the tree at `index` knows.
inline std::string chunked(const std::vector<std::uint64_t>& shape, const std::vector<std::uint64_t>& chunk,
                           std::uint64_t index = kNowhere, const std::vector<std::string>& more = {}) {
  std::string layout = le(3, 1) + le(2, 1) + le(chunk.size() + 1, 1) + le64(index);
  for (const std::uint64_t n : chunk) layout += le(n, 4);
  return dataset(shape, layout + le(1, 4), more);
}

class Handmade {
 public:
  /// Where these bytes are then, with so many behind them that readers may look at.
  std::uint64_t add(const std::string& bytes, std::uint64_t room = 0) {
    const std::uint64_t at = next();
    pieces_.emplace_back(at, bytes);
    end_ = at + std::max<std::uint64_t>(bytes.size(), room);
    return at;
  }
  /// Where the next bytes will be.
  std::uint64_t next() const { return (end_ + 7) / 8 * 8; }
  /// What `root` begins with is the root group; II.A, version 0. So many children of a node, and symbols of a leaf.
  InputFile file(std::uint64_t root, std::uint64_t bytes = 0, std::uint64_t children = 32, std::uint64_t symbols = 8) {
    const std::uint64_t size = std::max(bytes, next());
    auto source = std::make_unique<SparseSource>(size);
    source->put(0, std::string("\x89HDF\r\n\x1a\n\0\0\0\0\0\x08\x08\0", 16) + le(symbols / 2, 2) + le(children / 2, 2) +
                       le(0, 4) + le64(0, kNowhere, size, kNowhere, 0, root, 0, 0, 0));
    for (auto& [at, piece] : pieces_) source->put(at, piece);
    return {std::move(source), "handmade.h5"};
  }

 private:
  static constexpr std::uint64_t kSuperblock = 96;
  std::uint64_t end_ = kSuperblock;
  std::vector<std::pair<std::uint64_t, std::string>> pieces_;
};

/// A file whose one object in the root group is this.
inline InputFile file_of(const std::string& object, std::uint64_t bytes = 0) {
  Handmade made;
  const std::uint64_t at = made.add(object);
  return made.file(made.add(header({link_info(), link("t", at)})), bytes);
}

inline void check_taken(auto&& action) {
  std::string said;
  try {
    action();
  } catch (const Error& error) {
    said = error.what();
  }
  CHECK(said == "");
}
inline void check_refused(ErrorCode code, std::string_view why, auto&& action) {
  std::optional<ErrorCode> found;
  std::string said;
  try {
    action();
  } catch (const Error& error) {
    found = error.code();
    said = error.what();
  }
  CAPTURE(said);
  CHECK(found == code);
  CHECK(said.find(why) != std::string::npos);
}
inline std::unique_ptr<DumpReader> open(InputFile file) {
  return open_hdf5(std::move(file), false);
}
inline void check_refused(ErrorCode code, std::string_view why, InputFile file) {
  check_refused(code, why, [&] { open(std::move(file)); });
}

}  // namespace hdf5_test
