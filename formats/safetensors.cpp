// SPDX-License-Identifier: Apache-2.0
// A length of 8 bytes, a JSON header, and the tensors' bytes.
#include "formats/safetensors.hpp"

#include <cstring>

#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "formats/placed.hpp"
#include "formats/safetensors_header.hpp"

namespace kvzip {
namespace {

constexpr std::uint64_t kLengthBytes = 8;

void check_length(std::uint64_t length) {
  if (length <= limits::kSafetensorsHeader) return;
  fail(ErrorCode::limit, "a safetensors header of {} bytes is over the format's limit of {}", length,
       limits::kSafetensorsHeader);
}

class SafetensorsReader : public PlacedReader {
 public:
  explicit SafetensorsReader(InputFile file) : PlacedReader(std::move(file)) {
    if (file_.size() < kLengthBytes) {
      fail_in(file_.path(), ErrorCode::truncated, "{} bytes are too few for a safetensors file", file_.size());
    }
    std::uint64_t length = 0;
    file_.read_at(0, std::as_writable_bytes(std::span(&length, 1)));
    in_file(file_.path(), [&] { check_length(length); });
    const std::uint64_t rest = file_.size() - kLengthBytes;
    if (length > rest) {
      fail_in(file_.path(), ErrorCode::truncated, "the safetensors header has {} bytes, but only {} follow its length",
              length, rest);
    }
    std::string json(length, '\0');
    file_.read_at(kLengthBytes, std::as_writable_bytes(std::span(json)));
    SafetensorsHeader header = in_file(file_.path(), [&] { return parse_safetensors_header(json, rest - length); });
    for (std::uint64_t& begin : header.begins) begin += kLengthBytes + length;
    place(std::move(header.dump), std::move(header.begins));
  }
};

class SafetensorsWriter : public PlacedWriter {
 public:
  SafetensorsWriter(Destination to, const Dump& dump, const std::string& header) : PlacedWriter(std::move(to), dump) {
    const std::uint64_t length = header.size();
    file_.append(std::as_bytes(std::span(&length, 1)));
    file_.append(std::as_bytes(std::span(header)));
    std::uint64_t begin = kLengthBytes + length;
    for (const TensorInfo& info : dump_.tensors) {
      place(begin);
      begin += info.bytes();
    }
  }
};

}  // namespace

std::unique_ptr<DumpReader> open_safetensors(InputFile file) {
  return std::make_unique<SafetensorsReader>(std::move(file));
}

std::uint64_t safetensors_bytes(InputStream& in) {
  std::uint64_t length = 0;
  const ByteView first = in.peek(kLengthBytes);
  if (first.size() < kLengthBytes) return kUnbounded;
  std::memcpy(&length, first.data(), kLengthBytes);
  check_length(length);
  const ByteView header = in.peek(kLengthBytes + length);
  if (header.size() < kLengthBytes + length) return kUnbounded;
  const ByteView json = header.subspan(kLengthBytes);
  return kLengthBytes + length + safetensors_data_bytes({reinterpret_cast<const char*>(json.data()), json.size()});
}

std::unique_ptr<DumpWriter> create_safetensors(Destination to, const Dump& dump) {
  const std::string header = safetensors_header_text(dump);  // refuses what it cannot hold before the file is made
  return std::make_unique<SafetensorsWriter>(std::move(to), dump, header);
}

}  // namespace kvzip
