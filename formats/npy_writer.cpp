// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <map>
#include <set>

#include "codec/fail.hpp"
#include "formats/attribute_text.hpp"
#include "formats/npy.hpp"
#include "formats/npy_header.hpp"
#include "formats/placed.hpp"
#include "formats/safetensors_entry.hpp"
#include "formats/text.hpp"
#include "formats/zip.hpp"

namespace kvzip {
namespace {

bool is_header(const Attribute& a) {
  return !a.object.empty() && a.name == kNumpyAttribute && a.strings.size() == 1 && a.shape.empty() && !a.dtype;
}

std::map<std::string_view, std::string_view> headers_of(const Dump& dump) {
  std::map<std::string_view, std::string_view> out;
  for (const Attribute& attribute : dump.attributes) {
    if (is_header(attribute)) out.emplace(attribute.object, attribute.strings[0]);
  }
  return out;
}

/// The header of a tensor; `given` are those of arrays that a dump has no type for.
std::string header_of(const TensorInfo& info, const std::map<std::string_view, std::string_view>& given) {
  const auto type = numpy_type(info.dtype);
  if (!type) {
    fail(ErrorCode::unsupported, "tensor {}: NumPy has no arrays of {}", quoted(info.name), dtype_name(info.dtype));
  }
  const auto own = given.find(info.name);
  const bool bytes = info.dtype == DType::u8 && info.shape.size() == 1;
  return numpy_header(own != given.end() && bytes ? std::string(own->second) : numpy_header_text(*type, info.shape));
}

ByteView as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text));
}

class NpyWriter final : public PlacedWriter {
 public:
  NpyWriter(Destination to, const Dump& dump, const std::string& header) : PlacedWriter(std::move(to), dump) {
    file_.append(as_bytes(header));
    place(header.size());
  }
};

/// UTF-8 as a NumPy text without dimensions.
std::string text_array(std::string_view text) {
  std::string data;
  std::uint64_t length = 0;
  for (std::size_t at = 0; at < text.size(); ++length) {
    const auto lead = static_cast<unsigned char>(text[at]);
    const std::size_t bytes = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    std::uint32_t c = bytes == 1 ? lead : lead & (0x7fu >> bytes);
    for (std::size_t i = 1; i < bytes; ++i) c = c << 6 | (static_cast<unsigned char>(text[at + i]) & 0x3f);
    for (int i = 0; i < 4; ++i) data += static_cast<char>(c >> (8 * i) & 0xff);
    at += bytes;
  }
  if (length == 0) data.assign(4, '\0');  // NumPy's texts have at least one place
  return numpy_header(numpy_header_text(fmt::format("<U{}", std::max<std::uint64_t>(length, 1)), {})) + data;
}

struct Text {
  std::string name, array;
};

std::vector<Text> texts_of(const Dump& dump) {
  std::vector<Text> out;
  std::set<std::string_view> tensors;
  for (const TensorInfo& info : dump.tensors) tensors.insert(info.name);
  const auto add = [&](const Attribute& attribute) {
    // Arrays and metadata share their names here; MLX has both a tensor and an entry 1.0.
    const MetadataEntry entry = metadata_entry(attribute, attribute.object.empty() && tensors.contains(attribute.name));
    if (entry.value.ends_with('\0')) {
      fail(ErrorCode::unsupported, "attribute {}: a text of NumPy cannot end with zeros", quoted(attribute.name));
    }
    out.push_back({entry.key, text_array(entry.value)});
  };
  for (const Attribute& attribute : dump.attributes) {
    if (!is_header(attribute)) add(attribute);
  }
  for (const TensorInfo& info : dump.tensors) {
    if (is_raw_in_numpy(info.dtype)) add({info.name, "kvzip.dtype", {std::string(dtype_name(info.dtype))}, {}, {}, {}});
  }
  return out;
}

class NpzWriter final : public PlacedWriter {
 public:
  NpzWriter(Destination to, const Dump& dump, std::vector<std::string> headers, const std::vector<Text>& texts)
      : PlacedWriter(std::move(to), dump), headers_(std::move(headers)), sums_(headers_.size()) {
    for (std::size_t i = 0; i < headers_.size(); ++i) {
      const TensorInfo& info = dump_.tensors[i];
      place(begin_member(info.name, headers_[i], headers_[i].size() + info.bytes()));
      sums_[i].add(0, as_bytes(headers_[i]));
    }
    for (const Text& text : texts) {
      begin_member(text.name, text.array, text.array.size());
      sums_.emplace_back().add(0, as_bytes(text.array));
    }
  }

 private:
  /// Gives the place behind what is written of the member now.
  std::uint64_t begin_member(std::string_view name, std::string_view front, std::uint64_t size) {
    ZipMember member{.name = fmt::format("{}.npy", name), .header = end_, .stored = size, .size = size};
    const std::string header = zip_local_header(member);
    file_.write_at(end_, as_bytes(header));
    member.begin = end_ + header.size();
    file_.write_at(member.begin, as_bytes(front));
    end_ = member.begin + size;
    members_.push_back(std::move(member));
    return members_.back().begin + front.size();
  }

  void wrote(std::size_t tensor, std::uint64_t at, ByteView bytes) override {
    sums_[tensor].add(headers_[tensor].size() + at, bytes);
  }

  void complete() override {
    for (std::size_t i = 0; i < members_.size(); ++i) {
      members_[i].crc = sums_[i].value();
      file_.write_at(members_[i].header + kZipChecksumAt, std::as_bytes(std::span(&members_[i].crc, 1)));
    }
    file_.write_at(end_, as_bytes(zip_directory(members_, end_)));
  }

  std::vector<std::string> headers_;
  std::vector<ZipChecksum> sums_;
  std::vector<ZipMember> members_;
  std::uint64_t end_ = 0;
};

void check_names(const Dump& dump, const std::vector<Text>& texts) {
  constexpr std::size_t kMaxName = 65535 - 4;
  std::vector<std::string_view> names;
  for (const TensorInfo& info : dump.tensors) names.push_back(info.name);
  for (const Text& text : texts) names.push_back(text.name);
  require_distinct(
      names, [](std::string_view name) { return name; }, ErrorCode::unsupported, "npz");
  for (const std::string_view name : names) {
    if (name.size() <= kMaxName && is_utf8(name) && name.find('\0') == name.npos) continue;
    fail(ErrorCode::unsupported, "npz cannot hold the name {}", quoted(name));
  }
}

}  // namespace

std::unique_ptr<DumpWriter> create_npy(Destination to, const Dump& dump) {
  if (dump.tensors.size() != 1) {
    fail_in(to.path, ErrorCode::unsupported, "a .npy file holds one array, and these are {}: write .npz",
            dump.tensors.size());
  }
  const std::string header = header_of(dump.tensors[0], headers_of(dump));
  return std::make_unique<NpyWriter>(std::move(to), dump, header);
}

std::unique_ptr<DumpWriter> create_npz(Destination to, const Dump& dump) {
  std::vector<std::string> headers;
  const auto given = headers_of(dump);
  for (const TensorInfo& info : dump.tensors) headers.push_back(header_of(info, given));
  const std::vector<Text> texts = texts_of(dump);
  check_names(dump, texts);
  return std::make_unique<NpzWriter>(std::move(to), dump, std::move(headers), texts);
}

std::vector<std::string> npy_losses(const Dump& dump, std::string_view path) {
  std::vector<std::string> out;
  for (const TensorInfo& info : dump.tensors) {
    if (numpy_tensor_name(path) != info.name) out.push_back("the name " + quoted(info.name));
    if (is_raw_in_numpy(info.dtype)) out.push_back(fmt::format("the type {}", dtype_name(info.dtype)));
  }
  const auto rest = std::ranges::count_if(dump.attributes, [](const Attribute& a) { return !is_header(a); });
  if (rest > 0) out.push_back(fmt::format("{} entries of metadata", rest));
  return out;
}

}  // namespace kvzip
