// SPDX-License-Identifier: Apache-2.0
// Object headers (HDF5 File Format Specification 3.0, IV.A): their pieces, and the messages that lead elsewhere.
#include <optional>

#include "codec/fail.hpp"
#include "formats/hdf5/hdf5_messages.hpp"
#include "formats/hdf5/hdf5_raw.hpp"

namespace kvzip::hdf5 {
namespace {

constexpr std::uint64_t kMaxHeaderBytes = std::uint64_t{1} << 26;
constexpr std::size_t kMaxPieces = 4096;
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
  void symbol_table(Cursor in) const;
  void group_tree(std::uint64_t at, std::uint64_t level) const;
  void symbols(std::uint64_t at) const;
  void link(Cursor in) const;
  void layout(Cursor in);
  void chunks(Cursor in, std::uint64_t version);
  void attribute(Cursor in, int depth);
  std::uint64_t shared_type(Cursor in, int depth);

  const RawFile& file_;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> pieces_;  // continuations of the header being read
  std::optional<std::uint64_t> type_size_, chunk_unit_;
  std::uint64_t fill_size_ = 0;
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
  if (chunk_unit_ && type_size_ && chunk_unit_ != type_size_) fail(kBad, "chunks of other elements than its type's");
  if (fill_size_ != 0 && type_size_ && fill_size_ != type_size_) fail(kBad, "a fill value of another type");
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
      type_size_ = skip_type(in);
      return;
    case kOldFill:
      fill_size_ = in.number(4);
      return in.skip(fill_size_);
    case kFill:
      fill_size_ = read_fill_message(in);
      return;
    case kLink:
      return link(in);
    case kLayout:
      return layout(in);
    case kFilters:
      return check_filter_message(in);
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
      return symbol_table(in);
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

/// An old group's tree, and the heap of its names, for which the library allocates whatever size it states.
void Checker::symbol_table(Cursor in) const {
  constexpr std::uint64_t kSignature = 0x50414548;  // "HEAP"
  constexpr std::uint64_t kMostLevels = 32;
  const std::uint64_t tree = in.number(8);
  const Bytes node = file_.read(tree, 6);
  const auto level = std::to_integer<std::uint64_t>(node[5]);
  if (level > kMostLevels) fail(kBad, "a group's tree is too high");
  group_tree(tree, level);
  const Bytes heap = file_.read(in.number(8), 32);
  Cursor fields(heap);
  if (fields.number(4) != kSignature) fail(kBad, "a group has no heap of names");
  fields.skip(4);
  const std::uint64_t size = fields.number(8);
  fields.skip(8);
  file_.check(fields.number(8), size);
}

/// A node of the tree of an old group, and all below it (III.A.1). Levels fall, so that no node is its own.
void Checker::group_tree(std::uint64_t at, std::uint64_t level) const {
  constexpr std::uint64_t kSignature = 0x45455254;  // "TREE"
  file_.count_node();
  const Bytes head = file_.read(at, 24);
  Cursor in(head);
  if (in.number(4) != kSignature || in.number(1) != 0 || in.number(1) != level) fail(kBad, "a group has no tree");
  const std::uint64_t children = in.number(2);
  address(in);
  address(in);
  const Bytes body = file_.read(at + head.size(), children * 16 + 8);
  Cursor child(body);
  for (std::uint64_t c = 0; c < children; ++c) {
    child.skip(8);
    if (level == 0) {
      symbols(child.number(8));
    } else {
      group_tree(child.number(8), level - 1);
    }
  }
}

/// The names and addresses of some of a group's objects (III.B).
void Checker::symbols(std::uint64_t at) const {
  constexpr std::uint64_t kSignature = 0x444f4e53;  // "SNOD"
  file_.count_node();
  const Bytes head = file_.read(at, 8);
  Cursor in(head);
  if (in.number(4) != kSignature) fail(kBad, "a group has no symbols");
  in.skip(2);
  const std::uint64_t count = in.number(2);
  const Bytes body = file_.read(at + head.size(), count * 40);
  Cursor symbol(body);
  for (std::uint64_t s = 0; s < count; ++s) {
    symbol.skip(8);
    address(symbol);
    symbol.skip(24);
  }
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

void Checker::layout(Cursor in) {
  const std::uint64_t version = in.number(1);
  if (version < 3) {
    const std::uint64_t rank = in.number(1), kind = in.number(1);
    in.skip(5);
    if (kind != 0) address(in);
    for (std::uint64_t a = 0; a < rank; ++a) {
      const std::uint64_t extent = in.number(4);
      if (kind != 2) continue;
      if (extent == 0) fail(kBad, "chunks without elements");
      chunk_unit_ = extent;
    }
    if (kind == 2 && rank < 2) fail(kBad, "chunks of {} dimensions", rank);
    if (kind == 0) in.skip(in.number(4));
    return;
  }
  if (version > 4) {
    fail(ErrorCode::unsupported,
         "it has a layout message of version {}, as HDF5 2.0 and later write: write it with h5py's "
         "libver=('earliest', 'v114'), or repack it with the h5repack of that release",
         version);
  }
  const std::uint64_t kind = in.number(1);
  if (kind == 0) in.skip(in.number(2));
  if (kind == 1) {
    address(in);
    in.skip(8);
  }
  if (kind == 2) chunks(in, version);
}

/// Dimensions of chunks, the size of an element last.
void Checker::chunks(Cursor in, std::uint64_t version) {
  constexpr std::uint64_t kMaxRank = 32;
  if (version == 4) in.skip(1);
  const std::uint64_t rank = in.number(1);
  std::uint64_t width = 4;
  if (version == 3) {
    address(in);
  } else {
    width = in.number(1);
  }
  if (rank < 2 || rank > kMaxRank + 1 || width == 0 || width > 8) fail(kBad, "chunks of {} dimensions", rank);
  for (std::uint64_t a = 0; a < rank; ++a) {
    chunk_unit_ = in.number(width);
    if (chunk_unit_ == 0) fail(kBad, "chunks without elements");
  }
  if (version == 4) in.skip(1 + 8);  // the kind of index, and at least its address
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
  const std::uint64_t size = version > 1 && (flags & 1) != 0 ? shared_type(type_field, depth) : skip_type(type_field);
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
