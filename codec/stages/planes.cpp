// SPDX-License-Identifier: Apache-2.0
// Exact storage: element bytes split into planes, so that the coder sees exponents apart from mantissas. Float elements
// of 2, 4 and 8 bytes are first rotated left by one bit, which moves the (incompressible) sign to the lowest place and
// puts a bfloat16's or float's whole exponent into one byte. The idea of exponent planes is ZipNN's (arXiv 2411.05239).
#include "codec/stages/planes.hpp"

#include "codec/kernels/planes.hpp"
#include "codec/stages/stages.hpp"
#include "kvzip/error.hpp"

namespace kvzip {
namespace {

bool rotates(DType dtype) {
  return dtype == DType::f16 || dtype == DType::bf16 || dtype == DType::f32 || dtype == DType::f64;
}

Stream plane(std::uint32_t rows, std::uint32_t cols, std::uint32_t head_dim) {
  Stream s;
  s.label = StreamLabel::exact;
  s.type = StreamType::symbols;
  s.alphabet = 256;
  s.rows = rows;
  s.cols = cols;
  s.head_dim = head_dim;
  return s;
}

class Planes final : public Stage {
 public:
  StageKind kind() const override { return StageKind::exact; }
  bool carries() const override { return true; }
  void fields(FieldVisitor&) override {}
  void encode(Tile&, StreamWriter&) const override { refuse(); }
  void decode(Tile&, TileShape, StreamReader&) const override { refuse(); }

 private:
  [[noreturn]] static void refuse() { fail(ErrorCode::invalid_argument, "planes works on element bytes only"); }
};

}  // namespace

std::vector<Stream> split_planes(ByteView elements, DType dtype, std::uint32_t rows, std::uint32_t cols,
                                 std::uint32_t head_dim) {
  std::vector<Stream> planes(dtype_unit(dtype), plane(rows, cols, head_dim));
  std::vector<std::uint8_t*> data;
  for (Stream& p : planes) {
    p.data.resize(p.count());
    data.push_back(p.data.data());
  }
  kernels::split_planes(elements.data(), planes[0].count(), static_cast<unsigned>(planes.size()), rotates(dtype),
                        data.data());
  return planes;
}

void join_planes(StreamReader& in, DType dtype, std::uint32_t rows, std::uint32_t cols, std::uint32_t head_dim,
                 std::span<std::byte> elements) {
  std::vector<Stream> planes(dtype_unit(dtype), plane(rows, cols, head_dim));
  std::vector<const std::uint8_t*> data;
  for (Stream& p : planes) {
    in.get(p);
    data.push_back(p.data.data());
  }
  kernels::join_planes(data.data(), planes[0].count(), static_cast<unsigned>(planes.size()), rotates(dtype),
                       elements.data());
}

std::unique_ptr<Stage> make_planes() {
  return std::make_unique<Planes>();
}

}  // namespace kvzip
