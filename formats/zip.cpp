// SPDX-License-Identifier: Apache-2.0
#include "formats/zip.hpp"

#include <zlib.h>

#include <algorithm>
#include <limits>

#include "codec/fail.hpp"
#include "formats/text.hpp"
#include "formats/zip_records.hpp"

namespace kvzip {
namespace {

constexpr std::size_t kStep = std::size_t{1} << 20;
static_assert(kStep <= std::numeric_limits<uInt>::max());

std::uint32_t checksum(std::uint32_t before, ByteView bytes) {
  return static_cast<std::uint32_t>(::crc32_z(before, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

/// The bytes of a deflated member, from front to back.
class Inflater {
 public:
  Inflater(const InputFile& file, const ZipMember& member) : file_(file), member_(member) {
    if (::inflateInit2(&stream_, -MAX_WBITS) != Z_OK) fail(ErrorCode::limit, "no memory to inflate");
  }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;
  ~Inflater() { ::inflateEnd(&stream_); }

  /// Fewer bytes than `out` has only at the end.
  std::size_t next(std::span<std::byte> out) {
    std::size_t done = 0;
    while (done < out.size() && !ended_) {
      if (stream_.avail_in == 0) refill();
      const std::size_t step = std::min(out.size() - done, kStep);
      stream_.next_out = reinterpret_cast<Bytef*>(out.data() + done);
      stream_.avail_out = static_cast<uInt>(step);
      const uInt had = stream_.avail_in;
      const int status = ::inflate(&stream_, Z_NO_FLUSH);
      const std::size_t got = step - stream_.avail_out;
      done += got;
      ended_ = status == Z_STREAM_END;
      const bool stuck = got == 0 && had == stream_.avail_in && !ended_;
      if ((status != Z_OK && status != Z_STREAM_END && status != Z_BUF_ERROR) || stuck) {
        fail(ErrorCode::corrupt, "member {} is not what deflate writes", quoted(member_.name));
      }
    }
    return done;
  }

 private:
  void refill() {
    buffer_.resize(std::min<std::uint64_t>(kStep, member_.stored - taken_));
    file_.read_at(member_.begin + taken_, buffer_);
    taken_ += buffer_.size();
    stream_.next_in = reinterpret_cast<Bytef*>(buffer_.data());
    stream_.avail_in = static_cast<uInt>(buffer_.size());
  }

  const InputFile& file_;
  const ZipMember& member_;
  z_stream stream_{};
  Bytes buffer_;
  std::uint64_t taken_ = 0;
  bool ended_ = false;
};

}  // namespace

void ZipSpool::append(ByteView bytes) {
  if (!file_) {
    file_ = std::make_unique<TemporaryFile>(temporary_directory() + "/member");
    sink_ = file_->sink();
  }
  sink_->append(bytes);
  end_ += bytes.size();
}

void ZipSpool::read_at(std::uint64_t offset, std::span<std::byte> out) {
  if (out.empty()) return;
  if (!input_ || input_->size() < end_) input_ = std::make_unique<InputFile>(file_->input("the unpacked archive"));
  input_->read_at(offset, out);
}

Bytes ZipBytes::front(std::size_t most) const {
  Bytes out(std::min<std::uint64_t>(most, member_.size));
  if (member_.deflated) {
    out.resize(Inflater(file_, member_).next(out));
  } else {
    file_.read_at(member_.begin, out);
  }
  return out;
}

void ZipBytes::check() {
  std::uint32_t crc = 0;
  Bytes buffer(std::min<std::uint64_t>(kStep, member_.size + 1));
  std::uint64_t done = 0;
  if (member_.deflated) {
    unpacked_ = spool_.end();
    Inflater inflater(file_, member_);
    while (const std::size_t got = inflater.next(buffer)) {
      if (got > member_.size - done) fail(ErrorCode::corrupt, "member {}: too many bytes", quoted(member_.name));
      const ByteView some = ByteView(buffer).first(got);
      crc = checksum(crc, some);
      spool_.append(some);
      done += got;
    }
  }
  for (; !member_.deflated && done < member_.size; done += buffer.size()) {
    buffer.resize(std::min<std::uint64_t>(kStep, member_.size - done));
    file_.read_at(member_.begin + done, buffer);
    crc = checksum(crc, buffer);
  }
  if (done != member_.size || crc != member_.crc) {
    fail(ErrorCode::corrupt, "member {}: its bytes do not match their checksum", quoted(member_.name));
  }
  checked_ = true;
}

void ZipBytes::read_at(std::uint64_t offset, std::span<std::byte> out) {
  if (!checked_) check();
  if (member_.deflated) return spool_.read_at(unpacked_ + offset, out);
  file_.read_at(member_.begin + offset, out);
}

void ZipChecksum::add(std::uint64_t at, ByteView bytes) {
  if (bytes.empty()) return;
  auto here = pieces_.emplace(at, Piece{at + bytes.size(), checksum(0, bytes)}).first;
  const auto join = [this](auto first, auto second) {
    const auto length = static_cast<z_off_t>(second->second.end - second->first);
    first->second.crc = static_cast<std::uint32_t>(::crc32_combine(first->second.crc, second->second.crc, length));
    first->second.end = second->second.end;
    pieces_.erase(second);
    return first;
  };
  if (const auto next = std::next(here); next != pieces_.end() && next->first == here->second.end) join(here, next);
  if (here == pieces_.begin()) return;
  if (const auto before = std::prev(here); before->second.end == here->first) join(before, here);
}

std::string zip_local_header(const ZipMember& member) {
  const bool large = member.size >= zip::kLarge32;
  std::string out;
  zip::put(out, zip::kLocal);
  zip::put(out, std::uint16_t{45});
  zip::put(out, zip::kUtf8);
  zip::put(out, zip::kStored);
  zip::put(out, std::uint32_t{0x21} << 16);  // the first day that the format knows: no time stamps
  zip::put(out, member.crc);
  for (int i = 0; i < 2; ++i) zip::put(out, large ? zip::kLarge32 : static_cast<std::uint32_t>(member.size));
  zip::put(out, static_cast<std::uint16_t>(member.name.size()));
  zip::put(out, static_cast<std::uint16_t>(large ? 20 : 0));
  out += member.name;
  if (large) {
    zip::put(out, zip::kExtension64);
    zip::put(out, std::uint16_t{16});
    for (int i = 0; i < 2; ++i) zip::put(out, member.size);
  }
  return out;
}

std::string zip_directory(std::span<const ZipMember> members, std::uint64_t begin) {
  std::string out;
  for (const ZipMember& member : members) {
    std::string extra;
    const auto small = [&](std::uint64_t value) {
      if (value < zip::kLarge32) return static_cast<std::uint32_t>(value);
      zip::put(extra, value);
      return zip::kLarge32;
    };
    const std::uint32_t size = small(member.size), stored = small(member.size), header = small(member.header);
    zip::put(out, zip::kCentral);
    for (const std::uint16_t value : {std::uint16_t{45}, std::uint16_t{45}, zip::kUtf8, zip::kStored}) {
      zip::put(out, value);
    }
    for (const std::uint32_t value : {std::uint32_t{0x21} << 16, member.crc, stored, size}) zip::put(out, value);
    zip::put(out, static_cast<std::uint16_t>(member.name.size()));
    zip::put(out, static_cast<std::uint16_t>(extra.empty() ? 0 : extra.size() + 4));
    out.append(10, '\0');  // no comment, first file, no attributes
    zip::put(out, header);
    out += member.name;
    if (!extra.empty()) {
      zip::put(out, zip::kExtension64);
      zip::put(out, static_cast<std::uint16_t>(extra.size()));
      out += extra;
    }
  }
  const std::uint64_t size = out.size(), count = members.size();
  const bool large = begin >= zip::kLarge32 || size >= zip::kLarge32 || count >= zip::kLarge16;
  if (large) {
    zip::put(out, zip::kEnd64);
    zip::put(out, std::uint64_t{zip::kEnd64Bytes - 12});
    zip::put(out, std::uint32_t{45 << 16 | 45});
    out.append(8, '\0');
    for (const std::uint64_t value : {count, count, size, begin}) zip::put(out, value);
    zip::put(out, zip::kLocator64);
    zip::put(out, std::uint32_t{0});
    zip::put(out, begin + size);
    zip::put(out, std::uint32_t{1});
  }
  zip::put(out, zip::kEnd);
  out.append(4, '\0');
  for (int i = 0; i < 2; ++i) zip::put(out, static_cast<std::uint16_t>(std::min<std::uint64_t>(count, zip::kLarge16)));
  zip::put(out, static_cast<std::uint32_t>(std::min<std::uint64_t>(size, zip::kLarge32)));
  zip::put(out, static_cast<std::uint32_t>(std::min<std::uint64_t>(begin, zip::kLarge32)));
  out.append(2, '\0');
  return out;
}

}  // namespace kvzip
