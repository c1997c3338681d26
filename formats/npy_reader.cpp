// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "formats/attribute_text.hpp"
#include "formats/npy.hpp"
#include "formats/npy_header.hpp"
#include "formats/parts.hpp"
#include "formats/run_reader.hpp"
#include "formats/text.hpp"
#include "formats/zip.hpp"

namespace kvzip {
namespace {

constexpr std::string_view kExtension = ".npy";

std::vector<std::uint64_t> mirrored(std::vector<std::uint64_t> values) {
  std::ranges::reverse(values);
  return values;
}

/// Elements whose first axis runs fastest in `in`, to where its last does; `count` is the box as `out` has it.
void turn(const std::vector<std::uint64_t>& count, std::size_t unit, ByteView in, std::span<std::byte> out) {
  std::vector<std::uint64_t> stride(count.size()), index(count.size(), 0);
  std::uint64_t step = 1;
  for (std::size_t a = 0; a < count.size(); step *= count[a++]) stride[a] = step;
  std::uint64_t from = 0;
  for (std::size_t to = 0; to < out.size(); to += unit) {
    std::memcpy(out.data() + to, in.data() + from * unit, unit);
    for (std::size_t a = count.size(); a-- > 0;) {
      from += stride[a];
      if (++index[a] < count[a]) break;
      from -= stride[a] * count[a];
      index[a] = 0;
    }
  }
}

void reverse_bytes(std::span<std::byte> data, std::size_t unit) {
  for (std::size_t at = 0; at < data.size(); at += unit) std::ranges::reverse(data.subspan(at, unit));
}

/// UTF-32 as NumPy has it, padded with zeros; nothing for what is no text.
std::optional<std::string> utf32_text(std::span<std::byte> data, bool reversed) {
  if (reversed) reverse_bytes(data, 4);
  std::string out;
  while (data.size() >= 4 && std::ranges::all_of(data.last(4), [](std::byte b) { return b == std::byte{0}; })) {
    data = data.first(data.size() - 4);
  }
  for (std::size_t at = 0; at < data.size(); at += 4) {
    std::uint32_t c = 0;
    std::memcpy(&c, data.data() + at, 4);
    if (c > 0x10ffff) return std::nullopt;
    const auto rest = [&](int shift) { return static_cast<char>(0x80 | (c >> shift & 0x3f)); };
    if (c < 0x80) {
      out += static_cast<char>(c);
    } else if (c < 0x800) {
      out += {static_cast<char>(0xc0 | c >> 6), rest(0)};
    } else if (c < 0x10000) {
      out += {static_cast<char>(0xe0 | c >> 12), rest(6), rest(0)};
    } else {
      out += {static_cast<char>(0xf0 | c >> 18), rest(12), rest(6), rest(0)};
    }
  }
  if (!is_utf8(out)) return std::nullopt;  // halves of a surrogate pair
  return out;
}

/// An array and where its bytes come from.
struct Placed {
  NumpyArray array;
  ReadAt read_at;      // from the front of the .npy file
  std::uint64_t size;  // of that file
};

/// One or several arrays.
class NumpyReader final : public DumpReader {
 public:
  explicit NumpyReader(InputFile file) : file_(std::move(file)) { file_.drop_name(); }

  void open_single() {
    const auto front = [this](std::size_t most) {
      Bytes out(std::min<std::uint64_t>(most, file_.size()));
      file_.read_at(0, out);
      return out;
    };
    add(numpy_tensor_name(file_.path()), header_of(front, file_.size()), file_.size(),
        [this](std::uint64_t at, std::span<std::byte> out) { file_.read_at(at, out); });
    finish();
  }

  void open_archive() {
    members_ = read_zip_directory(file_);
    bytes_.reserve(members_.size());
    for (const ZipMember& member : members_) {
      bytes_.emplace_back(file_, member, spool_);
      ZipBytes& bytes = bytes_.back();
      const ReadAt read_at = [&bytes](std::uint64_t at, std::span<std::byte> out) { bytes.read_at(at, out); };
      const std::string& name = member.name;
      if (name.ends_with(kExtension)) {
        const auto front = [&](std::size_t most) { return bytes.front(most); };
        try {
          add(name.substr(0, name.size() - kExtension.size()), header_of(front, member.size), member.size, read_at);
        } catch (Error& error) {
          error.add_where("member " + quoted(name));
          throw;
        }
      } else if (!name.ends_with('/')) {
        add_bytes(name, member.size, read_at);
      }
    }
    finish();
  }

  const Dump& dump() const override { return dump_; }
  std::uint64_t part_count() const override { return parts_.count(); }
  /// Boxes of elements that are neighbours in the file.
  Part part(std::uint64_t index) const override {
    Part part = parts_.part(stored_, index);
    for (Slice& slice : part.slices) {
      if (!arrays_[slice.tensor].array.fortran) continue;
      slice.start = mirrored(std::move(slice.start));
      slice.count = mirrored(std::move(slice.count));
    }
    return part;
  }
  void fetch(Part& part) override { fetch_by_reading(*this, part); }
  void read(const Slice& slice, std::span<std::byte> out) override {
    check_slice(dump_, slice, out.size());
    const TensorInfo& info = dump_.tensors[slice.tensor];
    const Placed& from = arrays_[slice.tensor];
    in_file(file_.path(), [&] {
      if (from.array.fortran) {
        Bytes turned(out.size());
        const Slice box{slice.tensor, mirrored(slice.start), mirrored(slice.count)};
        read_runs(box, turned);
        turn(slice.count, slice_unit(info), turned, out);
      } else {
        read_runs(slice, out);
      }
    });
    const bool complex = info.dtype == DType::c64;
    if (from.array.reversed) reverse_bytes(out, complex ? slice_unit(info) / 2 : slice_unit(info));
  }

 private:
  void read_runs(const Slice& box, std::span<std::byte> out) const {
    const Placed& from = arrays_[box.tensor];
    const std::uint64_t unit = slice_unit(dump_.tensors[box.tensor]);
    RunReader runs(from.read_at, out);
    for_each_run(stored_.tensors[box.tensor].shape, box, [&](std::uint64_t at, std::uint64_t to, std::uint64_t count) {
      runs.add(from.array.begin + at * unit, to * unit, count * unit);
    });
    runs.flush();
  }

  template <typename F>
  static NumpyArray header_of(F front, std::uint64_t size) {
    return parse_numpy_header(front(numpy_header_bytes(front(kNumpyStart), size)));
  }

  void add(std::string name, NumpyArray header, std::uint64_t size, ReadAt read_at) {
    Placed placed{std::move(header), std::move(read_at), size};
    NumpyArray& array = placed.array;
    const std::uint64_t rest = size - array.begin;
    if (take_text(name, placed)) return;
    TensorInfo info{std::move(name), array.dtype.value_or(DType::u8), array.shape};
    if (!array.dtype) {
      info.shape = {rest};
      array.fortran = false;
      dump_.attributes.push_back({info.name, std::string(kNumpyAttribute), {array.text}, {}, {}, {}});
    } else if (const std::uint64_t bytes = info.bytes(); bytes != rest) {
      fail(bytes > rest ? ErrorCode::truncated : ErrorCode::corrupt, "the array {} [{}] needs {} bytes, but has {}",
           array.type, fmt::join(array.shape, ", "), bytes, rest);
    }
    dump_.tensors.push_back(std::move(info));
    arrays_.push_back(std::move(placed));
  }

  void add_bytes(const std::string& name, std::uint64_t size, ReadAt read_at) {
    dump_.tensors.push_back({name, DType::u8, {size}});
    arrays_.push_back({{}, std::move(read_at), size});
  }

  /// A text without dimensions, in an archive, is metadata.
  bool take_text(const std::string& name, const Placed& placed) {
    const std::string_view type = placed.array.type;
    const std::uint64_t rest = placed.size - placed.array.begin;
    const bool text = type.size() > 1 && type[1] == 'U' && placed.array.shape.empty() && rest % 4 == 0;
    if (members_.empty() || !text || rest > limits::kNumpyText) return false;
    Bytes data(rest);
    placed.read_at(placed.array.begin, data);
    auto value = utf32_text(data, type[0] == '>');
    if (value) dump_.attributes.push_back(attribute_of({name, std::move(*value)}));
    return value.has_value();
  }

  void finish() {
    name_types();
    name_texts();
    stored_ = dump_;
    for (std::size_t i = 0; i < arrays_.size(); ++i) {
      if (arrays_[i].array.fortran) stored_.tensors[i].shape = mirrored(std::move(stored_.tensors[i].shape));
    }
    parts_ = DumpParts(stored_);
    std::map<std::string_view, std::size_t> seen;
    for (std::size_t i = 0; i < dump_.tensors.size(); ++i) {
      if (!seen.emplace(dump_.tensors[i].name, i).second) {
        fail(ErrorCode::corrupt, "two arrays {}", quoted(dump_.tensors[i].name));
      }
    }
  }

  /// Raw bytes of which the archive's own metadata knows the type.
  void name_types() {
    std::map<std::string_view, DType> types;
    for (const Attribute& a : dump_.attributes) {
      if (a.name != "kvzip.dtype" || a.strings.size() != 1 || !a.shape.empty()) continue;
      if (const auto type = parse_dtype(a.strings[0]); type && is_raw_in_numpy(*type)) types.emplace(a.object, *type);
    }
    std::set<std::string_view> done;
    for (std::size_t i = 0; i < arrays_.size(); ++i) {
      TensorInfo& info = dump_.tensors[i];
      const auto known = types.find(info.name);
      if (known == types.end() || info.dtype != DType::u8 || !arrays_[i].array.dtype) continue;
      info.dtype = known->second;
      done.insert(info.name);
    }
    std::erase_if(dump_.attributes,
                  [&](const Attribute& a) { return a.name == "kvzip.dtype" && done.contains(a.object); });
  }

  /// Metadata that could not keep its name beside a tensor of that name.
  void name_texts() {
    std::set<std::string_view> names;
    for (const TensorInfo& info : dump_.tensors) names.insert(info.name);
    for (Attribute& a : dump_.attributes) {
      if (!a.object.empty() || a.dtype || a.strings.size() != 1 || !a.shape.empty()) continue;
      Attribute taken = attribute_of({a.name, a.strings[0]}, true);
      if (taken.name != a.name && taken.object.empty() && names.contains(taken.name)) a = std::move(taken);
    }
  }

  InputFile file_;
  std::vector<ZipMember> members_;
  ZipSpool spool_;
  std::vector<ZipBytes> bytes_;
  Dump dump_, stored_;  // stored_: shapes as they lie in the file
  std::vector<Placed> arrays_;
  DumpParts parts_;
};

}  // namespace

std::unique_ptr<DumpReader> open_npy(InputFile file) {
  const std::string name = file.path();
  auto reader = std::make_unique<NumpyReader>(std::move(file));
  in_file(name, [&] { reader->open_single(); });
  return reader;
}

std::uint64_t npy_bytes(InputStream& in) {
  const ByteView start = in.peek(kNumpyStart);
  if (start.size() < kNumpyStart) return kUnbounded;
  const std::size_t header = numpy_header_bytes(start, kUnbounded);
  const ByteView front = in.peek(header);
  if (front.size() < header) return kUnbounded;
  const NumpyArray array = parse_numpy_header(front);
  std::uint64_t end = 0;
  const bool known =
      array.dtype && !__builtin_add_overflow(array.begin, TensorInfo{{}, *array.dtype, array.shape}.bytes(), &end);
  return known ? end : kUnbounded;
}

std::unique_ptr<DumpReader> open_npz(InputFile file) {
  const std::string name = file.path();
  auto reader = std::make_unique<NumpyReader>(std::move(file));
  in_file(name, [&] { reader->open_archive(); });
  return reader;
}

}  // namespace kvzip
