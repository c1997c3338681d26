// SPDX-License-Identifier: Apache-2.0
// Object headers (HDF5 File Format Specification 3.0, IV): whether the messages that the library decodes without
// looking at their ends stay within them.
#include <optional>

#include "formats/hdf5_raw.hpp"

namespace kvzip::hdf5 {
namespace {

constexpr auto kBad = ErrorCode::corrupt;
constexpr std::uint64_t kMaxHeaderBytes = std::uint64_t{1} << 26;
constexpr std::size_t kMaxPieces = 4096;
constexpr int kMaxTypeDepth = 16;
constexpr std::uint64_t kFlagShared = 2;

enum Message : std::uint64_t {
  kDataspace = 1,
  kLinkInfo = 2,
  kDatatype = 3,
  kOldFill = 4,
  kFill = 5,
  kLink = 6,
  kExternal = 7,
  kLayout = 8,
  kGroupInfo = 10,
  kFilters = 11,
  kAttribute = 12,
  kOldTime = 14,
  kContinuation = 16,
  kSymbolTable = 17,
  kTime = 18,
  kBTreeK = 19,
  kAttributeInfo = 21,
};

std::uint64_t multiply(std::uint64_t a, std::uint64_t b) {
  std::uint64_t out = 0;
  if (__builtin_mul_overflow(a, b, &out)) fail(kBad, "a size inside an object overflows");
  return out;
}

std::size_t padding(std::uint64_t version) {
  return version < 3 ? 8 : 1;
}

std::uint64_t skip_type(Cursor& in, int depth);

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
    const std::uint64_t bytes = skip_type(in, depth + 1);
    if (offset > size || bytes > size - offset) fail(kBad, "a compound type has a member outside it");
  }
}

void skip_enumeration(Cursor& in, std::uint64_t version, std::uint64_t members, int depth) {
  const std::uint64_t base = skip_type(in, depth + 1);
  for (std::uint64_t m = 0; m < members; ++m) in.skip_name(padding(version));
  in.skip(multiply(members, base));
}

void skip_array(Cursor& in, std::uint64_t version, std::uint64_t size, int depth) {
  const std::uint64_t rank = in.number(1);
  if (version < 3) in.skip(3);
  std::uint64_t elements = 1;
  for (std::uint64_t a = 0; a < rank; ++a) elements = multiply(elements, in.number(4));
  if (version < 3) in.skip(4 * rank);
  if (multiply(skip_type(in, depth + 1), elements) != size) fail(kBad, "an array type has another size than its parts");
}

/// Returns the size of its elements.
std::uint64_t skip_type(Cursor& in, int depth) {
  if (depth > kMaxTypeDepth) fail(ErrorCode::limit, "a type is nested deeper than {}", kMaxTypeDepth);
  const std::uint64_t head = in.number(1), version = head >> 4, bits = in.number(3), size = in.number(4);
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
      skip_enumeration(in, version, bits & 0xffff, depth);
      break;
    case 9:
      skip_type(in, depth + 1);
      break;
    case 10:
      skip_array(in, version, size, depth);
      break;
    default:
      fail(kBad, "a type of class {}", head & 15);
  }
  return size;
}

/// Returns the number of elements.
std::uint64_t skip_space(Cursor& in) {
  const std::uint64_t version = in.number(1), rank = in.number(1), flags = in.number(1);
  if (version != 1 && version != 2) fail(kBad, "a dataspace of version {}", version);
  const std::uint64_t kind = in.number(1);
  if (version == 1) in.skip(4);
  std::uint64_t elements = 1;
  for (std::uint64_t a = 0; a < rank; ++a) {
    const std::uint64_t extent = in.number(8);
    // Products that overflow are empty or too large; both are found later, where the shape is used.
    if (__builtin_mul_overflow(elements, extent, &elements)) elements = ~std::uint64_t{0};
  }
  if ((flags & 1) != 0) in.skip(8 * rank);
  if ((flags & 2) != 0) in.skip(8 * rank);
  return version == 2 && kind == 2 ? 0 : elements;
}

void check_filters(Cursor in) {
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
}

void check_fill(Cursor in) {
  const std::uint64_t version = in.number(1);
  if (version == 3) {
    const std::uint64_t flags = in.number(1);
    if ((flags & 0x20) != 0) in.skip(in.number(4));
    return;
  }
  in.skip(2);
  const bool defined = in.number(1) != 0;
  if (version == 1 || defined) {
    const std::uint64_t size = in.number(4);
    if (static_cast<std::int32_t>(size) > 0) in.skip(size);
  }
}

class Checker {
 public:
  explicit Checker(const RawFile& file) : file_(file) {}

  /// The size of the elements of the header's datatype message, if it has one.
  std::optional<std::uint64_t> header(std::uint64_t address, int depth);

 private:
  struct Form {
    bool old = true;
    std::uint64_t flags = 0;
  };

  void messages(Cursor in, const Form& form, int depth);
  void message(std::uint64_t type, Cursor in, int depth);
  bool address(Cursor& in) const;
  void info(Cursor in, std::uint64_t order_bytes) const;
  void link(Cursor in) const;
  void layout(Cursor in) const;
  void attribute(Cursor in, int depth);
  std::uint64_t shared_type(Cursor in, int depth);

  const RawFile& file_;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> pieces_;  // continuations of the header being read
  std::optional<std::uint64_t> type_size_;
  std::uint64_t bytes_ = 0;
};

std::optional<std::uint64_t> Checker::header(std::uint64_t address, int depth) {
  constexpr std::uint64_t kSignature = 0x5244484f;  // "OHDR"
  constexpr std::uint64_t kChecksum = 4;
  const Bytes start = file_.read(address, 16);
  Cursor in(start);
  Form form;
  if (in.number(4) == kSignature) {
    in.skip(1);
    form = {false, in.number(1)};
    const std::size_t width = std::size_t{1} << (form.flags & 3);
    const std::uint64_t before = 6 + ((form.flags & 0x20) != 0 ? 16 : 0) + ((form.flags & 0x10) != 0 ? 4 : 0);
    const Bytes length = file_.read(address + before, width);
    pieces_.emplace_back(address + before + width, Cursor(length).number(width));
  } else {
    in.skip(4);
    pieces_.emplace_back(address + 16, in.number(4));
  }
  for (std::size_t p = 0; p < pieces_.size(); ++p) {
    const auto [at, size] = pieces_[p];
    bytes_ += std::min(size, kMaxHeaderBytes);
    if (bytes_ >= kMaxHeaderBytes || pieces_.size() > kMaxPieces)
      fail(ErrorCode::limit, "an object header is too long");
    const Bytes piece = file_.read(at, size);
    Cursor body(piece);
    if (!form.old && p > 0) {
      if (size < 4 + kChecksum) fail(kBad, "a part of an object header has {} bytes", size);
      body.skip(4);
      body = body.take(size - 4 - kChecksum);
    }
    messages(body, form, depth);
  }
  return type_size_;
}

void Checker::messages(Cursor in, const Form& form, int depth) {
  const bool ordered = !form.old && (form.flags & 4) != 0;
  const std::size_t head = form.old ? 8 : ordered ? 6 : 4;
  while (in.left() >= head) {
    const std::uint64_t type = in.number(form.old ? 2 : 1), size = in.number(2), flags = in.number(1);
    in.skip(form.old ? 3 : ordered ? 2 : 0);
    const Cursor body = in.take(size);
    if ((flags & kFlagShared) == 0) {
      message(type, body, depth);
    } else if (type == kDatatype) {
      type_size_ = shared_type(body, depth);
    }
  }
}

void Checker::message(std::uint64_t type, Cursor in, int depth) {
  switch (type) {
    case kDataspace:
      skip_space(in);
      return;
    case kDatatype:
      type_size_ = skip_type(in, 0);
      return;
    case kOldFill:
      return in.skip(in.number(4));
    case kFill:
      return check_fill(in);
    case kLink:
      return link(in);
    case kLayout:
      return layout(in);
    case kFilters:
      return check_filters(in);
    case kAttribute:
      return attribute(in, depth);
    case kLinkInfo:
      return info(in, 8);
    case kAttributeInfo:
      return info(in, 2);
    case kGroupInfo: {
      in.skip(1);
      const std::uint64_t flags = in.number(1);
      return in.skip(((flags & 1) != 0 ? 4 : 0) + ((flags & 2) != 0 ? 4 : 0));
    }
    case kExternal:
      in.skip(8);
      address(in);
      return;
    case kOldTime:
      return in.skip(14);
    case kTime:
      return in.skip(8);
    case kBTreeK:
      return in.skip(7);
    case kSymbolTable:
      if (!address(in) || !address(in)) fail(kBad, "a group has no tree or no heap");
      return;
    case kContinuation: {
      const std::uint64_t address = in.number(8), size = in.number(8);
      pieces_.emplace_back(address, size);
      return;
    }
    default:
      return;
  }
}

/// False when it is undefined; fail(corrupt) when it leads out of the file. From an address close to 2^64 the library's
/// cache of metadata reads before its buffer.
bool Checker::address(Cursor& in) const {
  const std::uint64_t at = in.number(8);
  if (at == ~std::uint64_t{0}) return false;
  if (at > file_.size()) fail(kBad, "an address inside an object leads out of the file");
  return true;
}

/// Links or attributes that are not in the header: their heap and trees.
void Checker::info(Cursor in, std::uint64_t order_bytes) const {
  in.skip(1);
  const std::uint64_t flags = in.number(1);
  if ((flags & 1) != 0) in.skip(order_bytes);
  const bool heap = address(in), names = address(in);
  const bool order = (flags & 2) != 0 ? address(in) : heap;
  if (heap != names || heap != order) fail(kBad, "an object has a heap without its trees");
}

/// Every rule of the library's decoder: when that refuses one link, the library frees links it never read.
void Checker::link(Cursor in) const {
  constexpr std::uint64_t kSoft = 1, kFirstUserKind = 64;
  const std::uint64_t version = in.number(1), flags = in.number(1);
  const std::uint64_t kind = (flags & 8) != 0 ? in.number(1) : 0;
  if ((flags & 4) != 0) in.skip(8);
  const std::uint64_t charset = (flags & 16) != 0 ? in.number(1) : 0;
  const std::uint64_t name = in.number(std::size_t{1} << (flags & 3));
  in.skip(name);
  if (version != 1 || flags > 31 || charset > 1 || name == 0 || (kind > kSoft && kind < kFirstUserKind)) {
    fail(kBad, "a link that is none");
  }
  if (kind == 0) {
    address(in);
    return;
  }
  const std::uint64_t target = in.number(2);
  if (target == 0) fail(kBad, "a link to nothing");
  in.skip(target);
}

void Checker::layout(Cursor in) const {
  const std::uint64_t version = in.number(1);
  if (version < 3) {
    const std::uint64_t rank = in.number(1), kind = in.number(1);
    in.skip(5);
    if (kind != 0) address(in);
    in.skip(4 * rank);
    if (kind == 0) in.skip(in.number(4));
    return;
  }
  const std::uint64_t kind = in.number(1);
  if (kind == 0) in.skip(in.number(2));
  if (kind == 1) {
    address(in);
    in.skip(8);
  }
  if (kind != 2) return;
  if (version == 3) {
    const std::uint64_t rank = in.number(1);
    address(in);
    return in.skip(4 * rank);
  }
  in.skip(1);
  const std::uint64_t rank = in.number(1), width = in.number(1);
  in.skip(multiply(rank, width));
  in.skip(1 + 8);  // the kind of index, and at least its address
}

void Checker::attribute(Cursor in, int depth) {
  const std::uint64_t version = in.number(1), flags = in.number(1);
  if (version < 1 || version > 3) fail(kBad, "an attribute of version {}", version);
  const std::uint64_t name = in.number(2), type = in.number(2), space = in.number(2);
  if (version == 3) in.skip(1);
  const auto field = [&](std::uint64_t size) {
    Cursor out = in.take(size);
    if (version == 1) in.skip((8 - size % 8) % 8);
    return out;
  };
  // The library looks for the end of the name without a bound, and reads types to their own end.
  Cursor name_field = field(name);
  name_field.skip_name(1);
  Cursor type_field = field(type);
  const std::uint64_t size =
      version > 1 && (flags & 1) != 0 ? shared_type(type_field, depth) : skip_type(type_field, 0);
  Cursor space_field = field(space);
  if (version > 1 && (flags & 2) != 0) fail(ErrorCode::unsupported, "an attribute with a shared dataspace");
  in.skip(multiply(size, skip_space(space_field)));
}

std::uint64_t Checker::shared_type(Cursor in, int depth) {
  const std::uint64_t version = in.number(1), kind = in.number(1);
  if (version == 1) in.skip(14);
  if (depth > 0 || (version == 3 && kind != 2)) fail(ErrorCode::unsupported, "a type is stored in a shared message");
  const auto size = Checker(file_).header(in.number(8), depth + 1);
  if (!size) fail(kBad, "a committed type is none");
  return *size;
}

}  // namespace

void check_header(const RawFile& file, std::uint64_t address) {
  Checker(file).header(address, 0);
}

}  // namespace kvzip::hdf5
