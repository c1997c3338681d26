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
#include "codec/stages/stages.hpp"

namespace kvzip {
namespace {

enum class Split : std::uint8_t { planes, none };

bool rotates(DType dtype) {
  return dtype == DType::f16 || dtype == DType::bf16 || dtype == DType::f32 || dtype == DType::f64;
}

class Planes final : public Cloned<Planes, ExactCodec> {
 public:
  void fields(FieldVisitor& v) override {
    static constexpr std::array<std::string_view, 2> kSplits{"planes", "none"};
    v.choice("split", split_, kSplits, "planes: a stream for each byte of an element; none: the bytes as they are");
  }

  void encode(const Elements& shape, ByteView elements, StreamWriter& out) const override {
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

  void decode(const Elements& shape, StreamReader& in, std::span<std::byte> elements) const override {
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
};

}  // namespace

std::unique_ptr<ExactCodec> make_planes() {
  return std::make_unique<Planes>();
}

}  // namespace kvzip
