// SPDX-License-Identifier: Apache-2.0
// Exact storage: element bytes split into planes, so that the coder sees exponents apart from mantissas. Float elements
// of 2, 4 and 8 bytes are first rotated left by one bit, which moves the (incompressible) sign to the lowest place and
// puts a bfloat16's or float's whole exponent into one byte. The idea of exponent planes is ZipNN's (arXiv 2411.05239).
// Without the split the coder sees the bytes as the dump has them: what a general-purpose compressor would see.
#include "codec/stages/planes.hpp"

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

Stream byte_stream(std::uint32_t rows, std::uint32_t cols, std::uint32_t head_dim) {
  Stream s;
  s.label = StreamLabel::exact;
  s.type = StreamType::symbols;
  s.alphabet = 256;
  s.rows = rows;
  s.cols = cols;
  s.head_dim = head_dim;
  return s;
}

/// The elements as they are, `unit` bytes for each column.
Stream whole_stream(DType dtype, std::uint32_t rows, std::uint32_t cols, std::uint32_t head_dim) {
  const auto unit = static_cast<std::uint32_t>(dtype_unit(dtype));
  if (cols > std::numeric_limits<std::uint32_t>::max() / unit) {
    fail(ErrorCode::limit, "planes: {} channels are too many to be stored whole", cols);
  }
  return byte_stream(rows, cols * unit, std::min(head_dim, cols) * unit);
}

class Planes final : public ExactStage {
 public:
  void fields(FieldVisitor& v) override {
    static constexpr std::array<std::string_view, 2> kSplits{"planes", "none"};
    v.choice("split", split_, kSplits, "planes: a stream for each byte of an element; none: the bytes as they are");
  }

  std::vector<Stream> split(ByteView elements, DType dtype, std::uint32_t rows, std::uint32_t cols,
                            std::uint32_t head_dim) const override {
    if (split_ == Split::none) {
      std::vector<Stream> whole(1, whole_stream(dtype, rows, cols, head_dim));
      whole[0].data.resize(elements.size());
      if (!elements.empty()) std::memcpy(whole[0].data.data(), elements.data(), elements.size());
      return whole;
    }
    std::vector<Stream> planes(dtype_unit(dtype), byte_stream(rows, cols, head_dim));
    std::vector<std::uint8_t*> data;
    for (Stream& p : planes) {
      p.data.resize(p.count());
      data.push_back(p.data.data());
    }
    kernels::split_planes(elements.data(), planes[0].count(), static_cast<unsigned>(planes.size()), rotates(dtype),
                          data.data());
    return planes;
  }

  void join(StreamReader& in, DType dtype, std::uint32_t rows, std::uint32_t cols, std::uint32_t head_dim,
            std::span<std::byte> elements) const override {
    if (split_ == Split::none) {
      Stream whole = whole_stream(dtype, rows, cols, head_dim);
      in.get(whole);
      if (!elements.empty()) std::memcpy(elements.data(), whole.data.data(), elements.size());
      return;
    }
    std::vector<Stream> planes(dtype_unit(dtype), byte_stream(rows, cols, head_dim));
    std::vector<const std::uint8_t*> data;
    for (Stream& p : planes) {
      in.get(p);
      data.push_back(p.data.data());
    }
    kernels::join_planes(data.data(), planes[0].count(), static_cast<unsigned>(planes.size()), rotates(dtype),
                         elements.data());
  }

 private:
  Split split_ = Split::planes;
};

[[noreturn]] void refuse() {
  fail(ErrorCode::invalid_argument, "planes works on element bytes only");
}

}  // namespace

void ExactStage::encode(Tile&, StreamWriter&) const {
  refuse();
}
void ExactStage::decode(Tile&, TileShape, StreamReader&) const {
  refuse();
}

std::unique_ptr<Stage> make_planes() {
  return std::make_unique<Planes>();
}

}  // namespace kvzip
