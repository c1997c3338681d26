// SPDX-License-Identifier: Apache-2.0
// Exact storage: element bytes split into planes, so that the coder sees exponents apart from mantissas. Float elements
// of 2, 4 and 8 bytes are first rotated left by one bit, which moves the (incompressible) sign to the lowest place and
// puts a bfloat16's or float's whole exponent into one byte. The idea of exponent planes is ZipNN's (arXiv 2411.05239).
#include "codec/stages/planes.hpp"

#include <bit>
#include <cstring>

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

template <typename T>
void split(ByteView elements, bool rotate, std::vector<Stream>& planes) {
  for (std::size_t i = 0; i < planes[0].data.size(); ++i) {
    T v;
    std::memcpy(&v, elements.data() + i * sizeof v, sizeof v);
    if (rotate) v = std::rotl(v, 1);
    for (std::size_t p = 0; p < sizeof v; ++p) {
      planes[p].data[i] = static_cast<std::uint8_t>(v >> (8 * (sizeof v - 1 - p)));
    }
  }
}

template <typename T>
void join(const std::vector<Stream>& planes, bool rotate, std::span<std::byte> elements) {
  for (std::size_t i = 0; i < planes[0].data.size(); ++i) {
    T v = 0;
    for (std::size_t p = 0; p < sizeof v; ++p) v = static_cast<T>((std::uint64_t{v} << 8) | planes[p].data[i]);
    if (rotate) v = std::rotr(v, 1);
    std::memcpy(elements.data() + i * sizeof v, &v, sizeof v);
  }
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
  for (Stream& p : planes) p.data.resize(p.count());
  switch (planes.size()) {
    case 1:
      split<std::uint8_t>(elements, false, planes);
      break;
    case 2:
      split<std::uint16_t>(elements, rotates(dtype), planes);
      break;
    case 4:
      split<std::uint32_t>(elements, rotates(dtype), planes);
      break;
    default:
      split<std::uint64_t>(elements, rotates(dtype), planes);
      break;
  }
  return planes;
}

void join_planes(StreamReader& in, DType dtype, std::uint32_t rows, std::uint32_t cols, std::uint32_t head_dim,
                 std::span<std::byte> elements) {
  std::vector<Stream> planes(dtype_unit(dtype), plane(rows, cols, head_dim));
  for (Stream& p : planes) in.get(p);
  switch (planes.size()) {
    case 1:
      join<std::uint8_t>(planes, false, elements);
      break;
    case 2:
      join<std::uint16_t>(planes, rotates(dtype), elements);
      break;
    case 4:
      join<std::uint32_t>(planes, rotates(dtype), elements);
      break;
    default:
      join<std::uint64_t>(planes, rotates(dtype), elements);
      break;
  }
}

std::unique_ptr<Stage> make_planes() {
  return std::make_unique<Planes>();
}

}  // namespace kvzip
