// SPDX-License-Identifier: Apache-2.0
// Messages of object headers (HDF5 File Format Specification 3.0, IV.A.2): whether what the library decodes without
// looking at the end stays before it.
#include "formats/hdf5/hdf5_messages.hpp"
#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "formats/hdf5/hdf5.hpp"

namespace kvzip::hdf5 {
namespace {

std::size_t padding(std::uint64_t version) {
  return version < 3 ? 8 : 1;
}

std::uint64_t skip_type_at(Cursor& in, int depth);

void skip_compound(Cursor& in, std::uint64_t version, std::uint64_t members, std::uint64_t size, int depth) {
  std::size_t offset_bytes = 4;
  if (version >= 3) {
    offset_bytes = 1;
    while (offset_bytes < 4 && size >> (8 * offset_bytes) != 0) ++offset_bytes;
  }
  for (std::uint64_t m = 0; m < members; ++m) {
    in.skip_name(padding(version));
    const std::uint64_t offset = in.number(offset_bytes);
    if (version == 1) in.skip(28);
    const std::uint64_t bytes = skip_type_at(in, depth + 1);
    if (offset > size || bytes > size - offset) fail(kBad, "a compound type has a member outside it");
  }
}

void skip_enumeration(Cursor& in, std::uint64_t version, std::uint64_t members, std::uint64_t size, int depth) {
  const std::uint64_t base = skip_type_at(in, depth + 1);
  if (base != size) fail(kBad, "an enumeration has another size than its values");
  for (std::uint64_t m = 0; m < members; ++m) in.skip_name(padding(version));
  in.skip(multiply(members, base));
}

void skip_array(Cursor& in, std::uint64_t version, std::uint64_t size, int depth) {
  const std::uint64_t rank = in.number(1);
  if (version < 3) in.skip(3);
  std::uint64_t elements = 1;
  for (std::uint64_t a = 0; a < rank; ++a) elements = multiply(elements, in.number(4));
  if (version < 3) in.skip(4 * rank);
  const std::uint64_t bytes = multiply(skip_type_at(in, depth + 1), elements);
  if (bytes != size) fail(kBad, "an array type has another size than its parts");
}

std::uint64_t skip_type_at(Cursor& in, int depth) {
  if (depth > limits::kHdf5TypeDepth) fail(ErrorCode::limit, "a type is nested deeper than {}", limits::kHdf5TypeDepth);
  const std::uint64_t head = in.number(1), version = head >> 4, bits = in.number(3), size = in.number(4);
  if (version == 5) fail(ErrorCode::unsupported, "a type of version 5, as HDF5 2.0 and later write");
  if (version == 4 && hdf5_version() < "1.12") {
    fail(ErrorCode::unsupported,
         "a type of version 4, as HDF5 1.12 and later write when told to; the library here is {}", hdf5_version());
  }
  if (version < 1 || version > 4 || size == 0) fail(kBad, "a type of version {} and size {}", version, size);
  switch (head & 15) {
    case 0:  // integer
    case 4:  // bit field
      in.skip(4);
      break;
    case 1:  // float
      in.skip(12);
      break;
    case 2:  // time
      in.skip(2);
      break;
    case 3:  // string
    case 7:  // reference
      break;
    case 5:  // opaque, with its tag
      in.skip(bits & 0xff);
      break;
    case 6:
      skip_compound(in, version, bits & 0xffff, size, depth);
      break;
    case 8:
      skip_enumeration(in, version, bits & 0xffff, size, depth);
      break;
    case 9:
      skip_type_at(in, depth + 1);
      break;
    case 10:
      skip_array(in, version, size, depth);
      break;
    default:
      fail(kBad, "a type of class {}", head & 15);
  }
  return size;
}

}  // namespace

std::uint64_t multiply(std::uint64_t a, std::uint64_t b) {
  std::uint64_t out = 0;
  if (__builtin_mul_overflow(a, b, &out)) fail(kBad, "a size inside an object overflows");
  return out;
}

std::uint64_t skip_type(Cursor& in) {
  return skip_type_at(in, 0);
}

Space read_space(Cursor& in) {
  const std::uint64_t version = in.number(1), rank = in.number(1), flags = in.number(1);
  if (version != 1 && version != 2) fail(kBad, "a dataspace of version {}", version);
  const std::uint64_t kind = in.number(1);
  if (version == 1) in.skip(4);
  Space out;
  out.elements = 1;
  for (std::uint64_t a = 0; a < rank; ++a) {
    out.extent.push_back(in.number(8));
    // Products that overflow are empty or too large; both are found later, where the shape is used.
    if (__builtin_mul_overflow(out.elements, out.extent.back(), &out.elements)) out.elements = ~std::uint64_t{0};
  }
  out.most = out.extent;
  for (std::uint64_t a = 0; (flags & 1) != 0 && a < rank; ++a) {
    out.most[a] = in.number(8);
    if (out.most[a] < out.extent[a]) fail(kBad, "a dataspace of {} elements, at most {}", out.extent[a], out.most[a]);
  }
  if ((flags & 2) != 0) in.skip(8 * rank);
  if (version == 2 && kind == 2) out.elements = 0;
  return out;
}

std::uint64_t check_filter_message(Cursor in) {
  const std::uint64_t version = in.number(1), count = in.number(1);
  if (version == 1) in.skip(6);
  for (std::uint64_t f = 0; f < count; ++f) {
    const std::uint64_t id = in.number(2);
    const std::uint64_t name = version == 1 || id >= 256 ? in.number(2) : 0;
    in.skip(2);
    const std::uint64_t values = in.number(2);
    in.skip(version == 1 ? (name + 7) / 8 * 8 : name);
    in.skip(4 * (values + (version == 1 ? values % 2 : 0)));
  }
  return count;
}

std::optional<std::uint64_t> read_address(Cursor& in, const RawFile& file) {
  const std::uint64_t at = in.number(8);
  if (at == kUndefined) return std::nullopt;
  if (at > file.size()) fail(kBad, "an address inside an object leads out of the file");
  return at;
}

std::uint64_t read_fill_message(Cursor in) {
  const std::uint64_t version = in.number(1);
  bool sized = version == 1;
  if (version == 3) {
    sized = (in.number(1) & 0x20) != 0;
  } else {
    in.skip(2);
    if (in.number(1) != 0) sized = true;
  }
  const std::uint64_t size = sized ? in.number(4) : 0;
  if (static_cast<std::int32_t>(size) <= 0) return 0;
  in.skip(size);
  return size;
}

}  // namespace kvzip::hdf5
