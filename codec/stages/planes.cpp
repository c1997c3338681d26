// SPDX-License-Identifier: Apache-2.0
// Exact storage: element bytes split into planes, so that the coder sees exponents apart from mantissas. Float elements
// of 2, 4 and 8 bytes are first rotated left by one bit, which moves the (incompressible) sign to the lowest place and
// puts a bfloat16's or float's whole exponent into one byte. The idea of exponent planes is ZipNN's (arXiv 2411.05239).
// Without the split the coder sees the bytes as the dump has them: what a general-purpose compressor would see.
#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

#include "codec/fail.hpp"
#include "codec/kernels/byte_planes.hpp"
#include "codec/side.hpp"
#include "codec/stages/stages.hpp"

namespace kvzip {
namespace {

enum class Split : std::uint8_t { planes, none };
enum class Rows : std::uint8_t { all, used };

bool rotates(DType dtype) {
  return dtype == DType::f16 || dtype == DType::bf16 || dtype == DType::f32 || dtype == DType::f64;
}

class Planes final : public Cloned<Planes, ExactCodec> {
 public:
  void fields(FieldVisitor& v) override {
    static constexpr std::array<std::string_view, 2> kSplits{"planes", "none"};
    static constexpr std::array<std::string_view, 2> kRows{"all", "used"};
    v.choice("split", split_, kSplits, "planes: a stream for each byte of an element; none: the bytes as they are");
    v.since("1.1");
    v.choice("rows", rows_, kRows, "used: rows of zeros at the end of a tile, padding, take no room");
  }

  void leave_out_padding() override { rows_ = Rows::used; }

  void encode(const Elements& all, ByteView elements, StreamWriter& out) const override {
    Elements shape = all;
    if (rows_ == Rows::used) {
      shape.rows = used_rows(all, elements);
      pass_integer(out, StreamLabel::flags, shape.rows);
      elements = elements.first(shape.rows * row_bytes(all));
    }
    std::vector<Stream> streams = empty_streams(shape);
    for (Stream& s : streams) s.allocate();
    if (split_ == Split::none) {
      if (!elements.empty()) std::memcpy(streams[0].data.data(), elements.data(), elements.size());
    } else {
      std::vector<std::uint8_t*> data;
      for (Stream& s : streams) data.push_back(s.data.data());
      kernels::split_planes(elements.data(), streams[0].count(), static_cast<unsigned>(streams.size()),
                            rotates(shape.dtype), data.data());
    }
    for (Stream& s : streams) out.put(std::move(s));
  }

  void decode(const Elements& all, StreamReader& in, std::span<std::byte> elements) const override {
    Elements shape = all;
    if (rows_ == Rows::used) {
      pass_integer(in, StreamLabel::flags, shape.rows);
      if (shape.rows > all.rows) fail(ErrorCode::corrupt, "planes: more rows than the tile has");
      const auto padding = elements.subspan(shape.rows * row_bytes(all));
      std::fill(padding.begin(), padding.end(), std::byte{0});
      elements = elements.first(shape.rows * row_bytes(all));
    }
    std::vector<Stream> streams = empty_streams(shape);
    for (Stream& s : streams) in.get(s);
    if (split_ == Split::none) {
      if (!elements.empty()) std::memcpy(elements.data(), streams[0].data.data(), elements.size());
      return;
    }
    std::vector<const std::uint8_t*> data;
    for (const Stream& s : streams) data.push_back(s.data.data());
    kernels::join_planes(data.data(), streams[0].count(), static_cast<unsigned>(streams.size()), rotates(shape.dtype),
                         elements.data());
  }

 private:
  static std::size_t row_bytes(const Elements& e) { return std::size_t{e.cols} * dtype_unit(e.dtype); }

  static std::uint32_t used_rows(const Elements& e, ByteView elements) {
    const auto last = std::find_if(elements.rbegin(), elements.rend(), [](std::byte b) { return b != std::byte{0}; });
    const auto bytes = static_cast<std::size_t>(elements.rend() - last);
    return bytes == 0 ? 0 : static_cast<std::uint32_t>((bytes - 1) / row_bytes(e) + 1);
  }

  /// A stream for each byte of an element, or one with `unit` bytes for each column.
  std::vector<Stream> empty_streams(const Elements& e) const {
    const auto unit = static_cast<std::uint32_t>(dtype_unit(e.dtype));
    if (split_ == Split::planes) {
      return std::vector<Stream>(unit, symbol_stream(StreamLabel::exact, e.rows, e.cols, 256, e.head_dim));
    }
    if (e.cols > std::numeric_limits<std::uint32_t>::max() / unit) {
      fail(ErrorCode::limit, "planes: {} channels are too many to be stored whole", e.cols);
    }
    return {symbol_stream(StreamLabel::exact, e.rows, e.cols * unit, 256, std::min(e.head_dim, e.cols) * unit)};
  }

  Split split_ = Split::planes;
  Rows rows_ = Rows::all;
};

}  // namespace

std::unique_ptr<ExactCodec> make_planes() {
  return std::make_unique<Planes>();
}

}  // namespace kvzip
