// SPDX-License-Identifier: Apache-2.0
// A length of 8 bytes, a JSON header, and the tensors' bytes. Files are read with positioned reads and never mapped:
// another process may cut a mapped file, which would end this one.
#include "formats/safetensors.hpp"

#include <cstring>

#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "formats/parts.hpp"
#include "formats/safetensors_header.hpp"
#include "formats/text.hpp"

namespace kvzip {
namespace {

constexpr std::uint64_t kLengthBytes = 8;

/// Reads the runs of one slice, several at once where little lies between them.
class RunReader {
 public:
  RunReader(const InputFile& file, std::span<std::byte> out) : file_(file), out_(out) {}

  void add(std::uint64_t offset, std::uint64_t to, std::uint64_t bytes) {
    if (!runs_.empty() && (offset - end_ > kMaxGap || offset + bytes - runs_.front().offset > kMaxSpan)) flush();
    runs_.push_back({offset, to, bytes});
    end_ = offset + bytes;
  }

  void flush() {
    if (runs_.size() == 1) file_.read_at(runs_[0].offset, out_.subspan(runs_[0].to, runs_[0].bytes));
    if (runs_.size() > 1) {
      const std::uint64_t base = runs_.front().offset;
      scratch_.resize(end_ - base);
      file_.read_at(base, scratch_);
      for (const Run& run : runs_) {
        std::memcpy(out_.data() + run.to, scratch_.data() + (run.offset - base), run.bytes);
      }
    }
    runs_.clear();
  }

 private:
  static constexpr std::uint64_t kMaxGap = 16384, kMaxSpan = 1 << 20;
  struct Run {
    std::uint64_t offset, to, bytes;
  };

  const InputFile& file_;
  std::span<std::byte> out_;
  std::vector<Run> runs_;
  std::uint64_t end_ = 0;
  Bytes scratch_;
};

class SafetensorsReader : public DumpReader {
 public:
  explicit SafetensorsReader(InputFile file) : file_(std::move(file)) {
    file_.drop_name();
    if (file_.size() < kLengthBytes) {
      fail_in(file_.path(), ErrorCode::truncated, "{} bytes are too few for a safetensors file", file_.size());
    }
    std::uint64_t length = 0;
    file_.read_at(0, std::as_writable_bytes(std::span(&length, 1)));
    if (length > limits::kSafetensorsHeader) {
      fail_in(file_.path(), ErrorCode::limit, "a safetensors header of {} bytes is over the format's limit of {}",
              length, limits::kSafetensorsHeader);
    }
    const std::uint64_t rest = file_.size() - kLengthBytes;
    if (length > rest) {
      fail_in(file_.path(), ErrorCode::truncated, "the safetensors header has {} bytes, but only {} follow its length",
              length, rest);
    }
    std::string json(length, '\0');
    file_.read_at(kLengthBytes, std::as_writable_bytes(std::span(json)));
    SafetensorsHeader header = in_file(file_.path(), [&] { return parse_safetensors_header(json, rest - length); });
    dump_ = std::move(header.dump);
    begins_ = std::move(header.begins);
    for (std::uint64_t& begin : begins_) begin += kLengthBytes + length;
    parts_ = DumpParts(dump_);
  }

  const Dump& dump() const override { return dump_; }
  std::uint64_t part_count() const override { return parts_.count(); }
  Part part(std::uint64_t index) const override { return parts_.part(dump_, index); }

  void fetch(Part& part) override {
    part.data.resize(part.slices.size());
    for (std::size_t i = 0; i < part.slices.size(); ++i) {
      part.data[i].resize(slice_bytes(dump_, part.slices[i]));
      read(part.slices[i], part.data[i]);
    }
  }

  void read(const Slice& slice, std::span<std::byte> out) override {
    check_slice(dump_, slice, out.size());
    const TensorInfo& info = dump_.tensors[slice.tensor];
    const std::uint64_t unit = slice_unit(info), begin = begins_[slice.tensor];
    RunReader runs(file_, out);
    for_each_run(slice_shape(info), slice, [&](std::uint64_t from, std::uint64_t to, std::uint64_t count) {
      runs.add(begin + from * unit, to * unit, count * unit);
    });
    runs.flush();
  }

 private:
  InputFile file_;
  Dump dump_;
  std::vector<std::uint64_t> begins_;  // per tensor, in the file
  DumpParts parts_;
};

class SafetensorsWriter : public DumpWriter {
 public:
  SafetensorsWriter(Destination to, const Dump& dump)
      : dump_(dump), header_(safetensors_header_text(dump)), file_(std::move(to), OutputFile::Access::positioned) {
    const std::uint64_t length = header_.size();
    file_.append(std::as_bytes(std::span(&length, 1)));
    file_.append(std::as_bytes(std::span(header_)));
    std::uint64_t begin = kLengthBytes + length;
    for (const TensorInfo& info : dump_.tensors) {
      begins_.push_back(begin);
      missing_.push_back(info.bytes());
      begin += info.bytes();
    }
  }

  void append(Part& part) override {
    if (part.slices.size() != part.data.size()) {
      fail(ErrorCode::invalid_argument, "part {}: {} slices with data for {}", part.index, part.slices.size(),
           part.data.size());
    }
    for (std::size_t i = 0; i < part.slices.size(); ++i) write(part.slices[i], part.data[i]);
  }

  void finish() override {
    for (std::size_t i = 0; i < missing_.size(); ++i) {
      if (missing_[i] == 0) continue;
      fail_in(file_.path(), ErrorCode::invalid_argument, "tensor {}: {} bytes were never written",
              quoted(dump_.tensors[i].name), missing_[i]);
    }
    file_.finish();
  }

 private:
  void write(const Slice& slice, ByteView data) {
    check_slice(dump_, slice, data.size());
    const TensorInfo& info = dump_.tensors[slice.tensor];
    if (data.size() > missing_[slice.tensor]) {
      fail_in(file_.path(), ErrorCode::invalid_argument, "tensor {}: bytes were written twice", quoted(info.name));
    }
    missing_[slice.tensor] -= data.size();
    const std::uint64_t unit = slice_unit(info), begin = begins_[slice.tensor];
    for_each_run(slice_shape(info), slice, [&](std::uint64_t to, std::uint64_t from, std::uint64_t count) {
      file_.write_at(begin + to * unit, data.subspan(from * unit, count * unit));
    });
  }

  Dump dump_;
  std::string header_;
  OutputFile file_;
  std::vector<std::uint64_t> begins_, missing_;  // per tensor: where it lies, and bytes not written yet
};

}  // namespace

std::unique_ptr<DumpReader> open_safetensors(InputFile file) {
  return std::make_unique<SafetensorsReader>(std::move(file));
}

std::unique_ptr<DumpWriter> create_safetensors(Destination to, const Dump& dump) {
  return std::make_unique<SafetensorsWriter>(std::move(to), dump);
}

}  // namespace kvzip
