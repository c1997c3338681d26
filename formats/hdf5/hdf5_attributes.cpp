// SPDX-License-Identifier: Apache-2.0
#include "formats/hdf5/hdf5_attributes.hpp"

#include <hdf5.h>

#include <algorithm>
#include <new>
#include <optional>

#include "codec/fail.hpp"
#include "formats/hdf5/hdf5_space.hpp"
#include "formats/hdf5/hdf5_types.hpp"
#include "formats/text.hpp"

namespace kvzip::hdf5 {
namespace {

struct NameList {
  std::vector<std::pair<H5O_msg_crt_idx_t, std::string>> names;  // with the order of creation, where it is tracked
  std::uint64_t budget = 0;
  bool over = false, failed = false;
};

herr_t note_name(hid_t, const char* name, const H5A_info_t* info, void* data) noexcept {
  NameList& list = *static_cast<NameList*>(data);
  try {
    std::string text(name);
    const std::uint64_t cost = text.size() + sizeof(Attribute);
    list.over = cost > list.budget;
    if (list.over) return -1;
    list.budget -= cost;
    list.names.emplace_back(info->corder, std::move(text));
  } catch (...) {
    list.failed = true;
    return -1;
  }
  return 0;
}

std::uint64_t product(const std::vector<std::uint64_t>& shape) {
  std::uint64_t count = 1;
  for (const std::uint64_t n : shape) {
    if (__builtin_mul_overflow(count, n, &count)) fail(ErrorCode::limit, "its shape is too large");
  }
  return count;
}

/// Copies references of variable-length strings as they lie in the file. The library would follow them.
herr_t keep_references(hid_t, hid_t, H5T_cdata_t* state, std::size_t, std::size_t, std::size_t, void*, void*,
                       hid_t) noexcept {
  state->need_bkg = H5T_BKG_NO;
  return 0;
}

constexpr std::size_t kReferenceBytes = 16;  // length 4, address of the heap collection 8, index 4

/// While it lives, variable-length elements can be read as opaque references.
class ReferenceConversion {
 public:
  explicit ReferenceConversion(Id text)
      : text_(text), opaque_(own(H5Tcreate(H5T_OPAQUE, kReferenceBytes), H5Tclose, ErrorCode::io, "cannot read text")) {
    check(H5Tset_tag(opaque_.get(), "reference"), ErrorCode::io, "cannot read text");
    check(H5Tregister(H5T_PERS_SOFT, "references", text_, opaque_.get(), keep_references), ErrorCode::io,
          "cannot read text");
  }
  ~ReferenceConversion() { H5Tunregister(H5T_PERS_SOFT, "references", text_, opaque_.get(), keep_references); }
  ReferenceConversion(const ReferenceConversion&) = delete;
  ReferenceConversion& operator=(const ReferenceConversion&) = delete;
  Id type() const { return opaque_.get(); }

 private:
  Id text_;
  Handle opaque_;
};

/// References and variable-length lists point into their own file; nothing else may be left out.
bool is_left_out(Id type) {
  return H5Tdetect_class(type, H5T_REFERENCE) > 0 || H5Tdetect_class(type, H5T_VLEN) > 0;
}

Handle make_string_type() {
  Handle type = own(H5Tcopy(H5T_C_S1), H5Tclose, ErrorCode::io, "cannot make the string type");
  check(H5Tset_size(type.get(), H5T_VARIABLE), ErrorCode::io, "cannot make the string type");
  check(H5Tset_cset(type.get(), H5T_CSET_UTF8), ErrorCode::io, "cannot make the string type");
  return type;
}

/// The library lists attributes in a table, and where one of them cannot be decoded it frees what it never filled in.
/// When it looks for a name it decodes them one by one.
void decode_all(Id object) {
  constexpr const char* kNobody = "\x01kvzip";  // a file that has it stops the search
  if (check(H5Aexists(object, kNobody), kBad, "cannot read attributes") > 0) {
    fail(kBad, "there is an attribute named {}", quoted(kNobody));
  }
}

}  // namespace

void AttributeReader::spend(std::uint64_t count, std::uint64_t unit) {
  if (unit != 0 && count > budget_ / unit) {
    fail(ErrorCode::limit, "the file has more than {} MiB of attributes", limits::kHdf5AttributeBytes >> 20);
  }
  budget_ -= count * unit;
}

std::vector<std::string> AttributeReader::names(Id object, bool by_creation) {
  decode_all(object);
  NameList list;
  list.budget = budget_;
  hsize_t position = 0;
  // For any other order the library makes a table, as it does of links.
  const auto result = H5Aiterate2(object, H5_INDEX_NAME, H5_ITER_NATIVE, &position, note_name, &list);
  if (list.over) spend(budget_ + 1, 1);
  if (list.failed) throw std::bad_alloc();
  check(result, kBad, "cannot list attributes");
  budget_ = list.budget;
  std::stable_sort(list.names.begin(), list.names.end(),
                   [&](const auto& a, const auto& b) { return by_creation ? a.first < b.first : a.second < b.second; });
  std::vector<std::string> out;
  for (auto& [order, name] : list.names) out.push_back(std::move(name));
  return out;
}

void AttributeReader::variable_strings(Id id, std::uint64_t count, Attribute& out) {
  spend(count, kReferenceBytes + sizeof(std::string));
  const Handle type = make_string_type();
  const ReferenceConversion conversion(type.get());
  Bytes references(static_cast<std::size_t>(count) * kReferenceBytes);
  check(H5Aread(id, conversion.type(), references.data()), kBad, "cannot read it");
  Cursor in(references);
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t length = in.number(4), address = in.number(8), index = in.number(4);
    spend(length, 1);
    out.strings.push_back(heap_.text(length, address, index));
  }
}

void AttributeReader::fixed_strings(Id id, Id type, std::uint64_t count, Attribute& out) {
  const std::size_t size = H5Tget_size(type);
  const H5T_str_t padding = H5Tget_strpad(type);
  spend(count, size + sizeof(std::string));
  std::vector<char> bytes(static_cast<std::size_t>(count) * size);
  check(H5Aread(id, type, bytes.data()), kBad, "cannot read it");
  for (std::uint64_t i = 0; i < count; ++i) {
    std::string text(bytes.data() + i * size, size);
    if (padding == H5T_STR_NULLTERM) text.resize(std::min(text.find('\0'), text.size()));
    const std::size_t last = text.find_last_not_of(padding == H5T_STR_SPACEPAD ? ' ' : '\0');
    text.resize(last == std::string::npos ? 0 : last + 1);
    out.strings.push_back(std::move(text));
  }
}

void AttributeReader::numbers(Id id, Id type, std::uint64_t count, Attribute& out) {
  const auto element = read_type(type);
  if (!element || !element->dtype || element->size == 0) {
    fail(ErrorCode::unsupported, "its type ({}) has no place in a dump; store it as strings or numbers",
         describe_type(type));
  }
  out.dtype = element->dtype;
  if (count == 0) return;
  spend(count, element->size);
  out.data.resize(static_cast<std::size_t>(count) * element->size);
  check(H5Aread(id, type, out.data.data()), kBad, "cannot read it");
  swap_bytes(out.data, element->swap);
}

Attribute AttributeReader::attribute(Id object, const std::string& name) {
  const Handle id = own(H5Aopen(object, name.c_str(), H5P_DEFAULT), H5Aclose, kBad, "cannot open it");
  const Handle type = own(H5Aget_type(id.get()), H5Tclose, kBad, "cannot read its type");
  const Handle space = own(H5Aget_space(id.get()), H5Sclose, kBad, "cannot read its shape");
  if (name.empty()) fail(kBad, "it has no name");
  if (!is_utf8(name)) fail(ErrorCode::unsupported, "its name is not UTF-8");
  if (is_left_out(type.get())) {
    fail(ErrorCode::unsupported, "its type ({}) points into its own file", describe_type(type.get()));
  }
  Attribute out;
  out.name = name;
  const bool no_value = H5Sget_simple_extent_type(space.get()) == H5S_NULL;
  out.shape = no_value ? std::vector<std::uint64_t>{0} : read_shape(space.get());
  const std::uint64_t count = product(out.shape);
  if (H5Tget_class(type.get()) != H5T_STRING) {
    numbers(id.get(), type.get(), count, out);
    return out;
  }
  if (count == 0) return out;
  if (H5Tis_variable_str(type.get()) > 0) {
    variable_strings(id.get(), count, out);
  } else {
    fixed_strings(id.get(), type.get(), count, out);
  }
  for (const std::string& text : out.strings) {
    const bool good = is_utf8(text) && text.find('\0') == std::string::npos;
    if (!good) fail(ErrorCode::unsupported, "its text is not UTF-8 without NUL");
  }
  return out;
}

std::vector<Attribute> AttributeReader::read(Id object, bool by_creation, const std::string& path) {
  std::vector<Attribute> out;
  for (const std::string& name : names(object, by_creation)) {
    try {
      Attribute found = attribute(object, name);
      found.object = path;
      out.push_back(std::move(found));
    } catch (Error& error) {
      if (error.code() == ErrorCode::unsupported) {
        left_out_.push_back(fmt::format("attribute {} of {} ({})", quoted(name), quoted("/" + path), error.message()));
        continue;
      }
      error.add_where(fmt::format("attribute {} of {}", quoted(name), quoted("/" + path)));
      throw;
    }
  }
  return out;
}

void check_attribute(const Attribute& attribute) {
  constexpr auto kArgument = ErrorCode::invalid_argument;
  const auto bad_text = [](const std::string& text) { return !is_utf8(text) || text.find('\0') != std::string::npos; };
  if (attribute.name.empty() || bad_text(attribute.name)) {
    fail(kArgument, "HDF5 cannot name an attribute of {} {}", quoted("/" + attribute.object), quoted(attribute.name));
  }
  const auto refuse = [&](ErrorCode code, std::string_view why) {
    fail(code, "attribute {} of {}: {}", quoted(attribute.name), quoted("/" + attribute.object), why);
  };
  if (attribute.shape.size() > H5S_MAX_RANK) refuse(ErrorCode::limit, "HDF5 holds at most 32 dimensions");
  const std::uint64_t count = product(attribute.shape);
  if (!attribute.dtype) {
    if (count != attribute.strings.size()) refuse(kArgument, "its shape does not fit its strings");
    for (const std::string& text : attribute.strings) {
      if (bad_text(text)) refuse(kArgument, "its text is not UTF-8 without NUL, as HDF5 strings are");
    }
    return;
  }
  const DType dtype = *attribute.dtype;
  if (needs_name(dtype) && dtype != DType::f8_e4m3) refuse(ErrorCode::unsupported, "HDF5 has no such element type");
  const std::size_t unit = dtype_unit(dtype);
  if (attribute.data.size() % unit != 0 || attribute.data.size() / unit != count) {
    refuse(kArgument, "its shape does not fit its data");
  }
}

void write_attribute(Id object, const Attribute& attribute) {
  constexpr auto kIo = ErrorCode::io;
  const auto what = [&](std::string_view act) {
    return fmt::format("cannot {} attribute {} of {}", act, quoted(attribute.name), quoted("/" + attribute.object));
  };
  const Handle type = attribute.dtype ? make_type(*attribute.dtype) : make_string_type();
  const Handle space = make_space(attribute.shape);
  const Handle options = own(H5Pcreate(H5P_ATTRIBUTE_CREATE), H5Pclose, kIo, what("describe"));
  check(H5Pset_char_encoding(options.get(), H5T_CSET_UTF8), kIo, what("describe"));
  const Handle id = own(H5Acreate2(object, attribute.name.c_str(), type.get(), space.get(), options.get(), H5P_DEFAULT),
                        H5Aclose, kIo, what("create"));
  if (attribute.dtype) {
    if (attribute.data.empty()) return;
    check(H5Awrite(id.get(), type.get(), attribute.data.data()), kIo, what("write"));
    return;
  }
  if (attribute.strings.empty()) return;
  std::vector<const char*> text;
  for (const std::string& value : attribute.strings) text.push_back(value.c_str());
  check(H5Awrite(id.get(), type.get(), text.data()), kIo, what("write"));
}

}  // namespace kvzip::hdf5
