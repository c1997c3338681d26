// SPDX-License-Identifier: Apache-2.0
// Object headers (HDF5 File Format Specification 3.0, IV.A): their pieces, and the messages that lead elsewhere.
#include <optional>
#include <utility>

#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "formats/hdf5/hdf5_dense.hpp"
#include "formats/hdf5/hdf5_layout.hpp"
#include "formats/hdf5/hdf5_messages.hpp"
#include "formats/hdf5/hdf5_old_group.hpp"
#include "formats/hdf5/hdf5_raw.hpp"

namespace kvzip::hdf5 {
namespace {

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
  kSharedTable = 15,
  kContinuation = 16,
  kSymbolTable = 17,
  kTime = 18,
  kBTreeK = 19,
  kDriver = 20,
  kAttributeInfo = 21,
  kReferenceCount = 22,
  kFileSpace = 23,
  kCacheImage = 24,
};

/// Whether the library looks for a message of this type elsewhere when its flags say so. It ignores them otherwise.
bool can_be_shared(std::uint64_t type) {
  return type == kDataspace || type == kDatatype || type == kOldFill || type == kFill || type == kFilters ||
         type == kAttribute;
}

/// Whether an object has one message of this type at most. Type 0 is a gap.
bool comes_once(std::uint64_t type) {
  return type != 0 && type != kLink && type != kAttribute && type != kContinuation && type < 64;
}

/// Messages that lead nowhere: whether they are as long as the library reads.
void skip_message(std::uint64_t type, Cursor in) {
  switch (type) {
    case kGroupInfo: {
      in.skip(1);
      const std::uint64_t flags = in.number(1);
      return in.skip(((flags & 1) != 0 ? 4 : 0) + ((flags & 2) != 0 ? 4 : 0));
    }
    case kOldTime:
      return in.skip(14);
    case kTime:
      return in.skip(8);
    case kBTreeK:
      return in.skip(7);
    case kDriver:
      in.skip(9);
      return in.skip(in.number(2));
    case kReferenceCount:
      return in.skip(5);
    case kFileSpace: {
      if (in.number(1) == 0) return in.skip(1 + 8);  // the library looks at the end of what may follow
      in.skip(1);
      const bool persists = in.number(1) != 0;
      return in.skip(8 + 8 + 2 + 8 + (persists ? 12 * 8 : 0));
    }
    default:
      return;
  }
}

class Checker {
 public:
  explicit Checker(const RawFile& file) : file_(file) {}

  /// The size of its elements, where the object is a committed type.
  std::optional<std::uint64_t> header(std::uint64_t address, int depth);

 private:
  struct Form {
    bool old = true;
    std::uint64_t flags = 0;
  };

  void messages(Cursor in, const Form& form, int depth);
  void message(std::uint64_t type, Cursor in, int depth);
  void info(Cursor in, bool attributes, int depth);
  void link(Cursor in) const;
  void check_whole() const;
  void attribute(Cursor in, int depth);
  std::uint64_t shared_type(Cursor in, int depth);

  const RawFile& file_;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> pieces_;  // continuations of the header being read
  std::uint64_t seen_ = 0;                                       // a bit for each type of message
  std::optional<std::uint64_t> type_size_;
  std::optional<Space> space_;
  std::optional<ChunkLayout> chunks_;
  std::uint64_t old_fill_size_ = 0, fill_size_ = 0, filters_ = 0;
  std::uint64_t bytes_ = 0;
};

std::optional<std::uint64_t> Checker::header(std::uint64_t address, int depth) {
  constexpr std::uint64_t kSignature = 0x5244484f;  // "OHDR"
  constexpr std::uint64_t kChecksum = 4;
  const auto known = file_.headers().find(address);
  if (known != file_.headers().end()) return known->second;
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
  file_.claim(address, pieces_[0].first - address);
  for (std::size_t p = 0; p < pieces_.size(); ++p) {
    const auto [at, size] = pieces_[p];
    if (size > limits::kHdf5HeaderBytes - bytes_ || pieces_.size() > limits::kHdf5HeaderPieces)
      fail(ErrorCode::limit, "an object header is too long");
    bytes_ += size;
    file_.claim(at, size);
    const Bytes piece = file_.read(at, size);
    Cursor body(piece);
    if (!form.old && p > 0) {
      if (size < 4 + kChecksum) fail(kBad, "a part of an object header has {} bytes", size);
      body.skip(4);
      body = body.take(size - 4 - kChecksum);
    }
    messages(body, form, depth);
  }
  check_whole();
  // The library keeps open objects by their addresses, and takes a type that is a dataset, too, for what it is not.
  constexpr std::uint64_t kOthers =
      std::uint64_t{1} << kDataspace | std::uint64_t{1} << kLinkInfo | std::uint64_t{1} << kSymbolTable;
  const auto committed = (seen_ & kOthers) == 0 ? type_size_ : std::nullopt;
  file_.headers().emplace(address, committed);
  return committed;
}

/// What messages say of each other.
void Checker::check_whole() const {
  for (const std::uint64_t size : {old_fill_size_, fill_size_}) {
    if (size != 0 && type_size_ && size != type_size_) fail(kBad, "a fill value of another type");
  }
  if (!chunks_) return;
  if (type_size_ && chunks_->extent.back() != type_size_) fail(kBad, "chunks of other elements than its type's");
  if (space_) check_chunk_index(file_, *chunks_, *space_, filters_ > 0);
}

void Checker::messages(Cursor in, const Form& form, int depth) {
  const bool ordered = !form.old && (form.flags & 4) != 0;
  const std::size_t head = form.old ? 8 : ordered ? 6 : 4;
  while (in.left() >= head) {
    const std::uint64_t type = in.number(form.old ? 2 : 1), size = in.number(2), flags = in.number(1);
    in.skip(form.old ? 3 : ordered ? 2 : 0);
    const Cursor body = in.take(size);
    // Of two, the library would take the one, and what is checked here could be the other.
    if (comes_once(type) && std::exchange(seen_, seen_ | std::uint64_t{1} << type) >> type & 1) {
      fail(kBad, "an object header has two messages of type {}", type);
    }
    if ((flags & kFlagShared) == 0 || !can_be_shared(type)) {
      message(type, body, depth);
    } else if (type == kDatatype) {
      type_size_ = shared_type(body, depth);
    } else {
      fail(ErrorCode::unsupported, "a message of type {} is stored in another place", type);
    }
  }
  // Of a header of version 1 the library reads another message's head as long as there is a byte.
  if (form.old && in.left() > 0) fail(kBad, "an object header has {} bytes behind its messages", in.left());
}

void Checker::message(std::uint64_t type, Cursor in, int depth) {
  switch (type) {
    case kDataspace:
      space_ = read_space(in);
      return;
    case kDatatype:
      type_size_ = skip_type(in);
      return;
    case kOldFill:
      old_fill_size_ = in.number(4);
      return in.skip(old_fill_size_);
    case kFill:
      fill_size_ = read_fill_message(in);
      return;
    case kLink:
      return link(in);
    case kLayout:
      chunks_ = read_layout_message(in, file_);
      return;
    case kFilters:
      filters_ = check_filter_message(in);
      return;
    case kAttribute:
      return attribute(in, depth);
    case kLinkInfo:
    case kAttributeInfo:
      return info(in, type == kAttributeInfo, depth);
    case kExternal:
      in.skip(8);
      read_address(in, file_);
      return;
    case kSharedTable:
      fail(ErrorCode::unsupported, "its objects share messages: copy its datasets to another file with h5py");
    case kCacheImage:
      fail(ErrorCode::unsupported, "it has an image of the library's cache; repack with: h5repack IN OUT");
    case kSymbolTable: {
      const std::uint64_t tree = in.number(8), heap = in.number(8);
      return check_old_group(file_, tree, heap);
    }
    case kContinuation: {
      const std::uint64_t address = in.number(8), size = in.number(8);
      pieces_.emplace_back(address, size);
      return;
    }
    default:
      return skip_message(type, in);
  }
}

/// Links or attributes that are not in the header.
void Checker::info(Cursor in, bool attributes, int depth) {
  in.skip(1);
  const std::uint64_t flags = in.number(1);
  if ((flags & 1) != 0) in.skip(attributes ? 2 : 8);
  const bool ordered = (flags & 2) != 0;
  const auto heap = read_address(in, file_), names = read_address(in, file_);
  const auto order = ordered ? read_address(in, file_) : std::nullopt;
  if (heap.has_value() != names.has_value() || (ordered && heap.has_value() != order.has_value())) {
    fail(kBad, "an object has a heap without its trees");
  }
  if (!heap) return;
  const Dense dense{attributes, *heap, *names, order};
  check_dense(file_, dense, [&](Cursor in_heap) { attributes ? attribute(in_heap, depth) : link(in_heap); });
}

/// Every rule of the library's decoder: when that refuses one link, the library frees links it never read.
void Checker::link(Cursor in) const {
  constexpr std::uint64_t kSoft = 1, kExternalLink = 64, kFirstUserKind = 64;
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
    read_address(in, file_);
    return;
  }
  const std::uint64_t target = in.number(2);
  // Of kinds that it knows the library looks into the target.
  if (target == 0 && (kind == kSoft || kind == kExternalLink)) fail(kBad, "a link to nothing");
  in.skip(target);
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
  in.skip(multiply(size, read_space(space_field).elements));
}

std::uint64_t Checker::shared_type(Cursor in, int depth) {
  const std::uint64_t version = in.number(1), kind = in.number(1);
  if (version == 1) in.skip(14);
  if (version == 3 && kind != 2) fail(ErrorCode::unsupported, "a type is stored in a shared message");
  if (depth >= limits::kHdf5SharedTypes)
    fail(ErrorCode::limit, "types lead to others more than {} times", limits::kHdf5SharedTypes);
  const auto size = Checker(file_).header(in.number(8), depth + 1);
  if (!size) fail(kBad, "a committed type is none");
  return *size;
}

}  // namespace

void check_header(const RawFile& file, std::uint64_t address) {
  Checker(file).header(address, 0);
}

}  // namespace kvzip::hdf5
