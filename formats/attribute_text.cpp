// SPDX-License-Identifier: Apache-2.0
#include "formats/attribute_text.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "formats/text.hpp"

namespace kvzip {
namespace {

constexpr std::string_view kPrefix = "kvzip.attribute:";

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

std::optional<Bytes> from_hex(std::string_view text) {
  if (text.size() % 2 != 0) return std::nullopt;
  Bytes out(text.size() / 2);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const int high = hex_digit(text[2 * i]), low = hex_digit(text[2 * i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    out[i] = static_cast<std::byte>(high * 16 + low);
  }
  return out;
}

std::string escape_object(std::string_view object) {
  std::string out;
  for (const char c : object) {
    if (c == '%') {
      out += "%25";
    } else if (c == '@') {
      out += "%40";
    } else {
      out += c;
    }
  }
  return out;
}

std::string unescape_object(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const bool percent = text.starts_with("%25"), at = text.starts_with("%40");
    out += percent ? '%' : at ? '@' : text[0];
    text.remove_prefix(percent || at ? 3 : 1);
  }
  return out;
}

bool is_plain(const Attribute& a) {
  return a.object.empty() && !a.dtype && a.shape.empty() && a.data.empty() && a.strings.size() == 1 &&
         is_utf8(a.strings[0]) && !a.name.starts_with(kPrefix);
}

std::string value_text(const Attribute& a) {
  const std::string shape = fmt::format("\"shape\":[{}]", fmt::join(a.shape, ","));
  if (a.dtype) return fmt::format(R"({{"dtype":"{}",{},"data":"{}"}})", dtype_name(*a.dtype), shape, to_hex(a.data));
  const bool text = std::all_of(a.strings.begin(), a.strings.end(), [](const std::string& s) { return is_utf8(s); });
  std::string out = fmt::format(R"({{{},"{}":[)", shape, text ? "strings" : "hex_strings");
  for (std::size_t i = 0; i < a.strings.size(); ++i) {
    if (i > 0) out += ',';
    out += text ? json_string(a.strings[i]) : '"' + to_hex(std::as_bytes(std::span(a.strings[i]))) + '"';
  }
  return out + "]}";
}

/// Gathers the value of an entry. It is lax about order and repetition: the text is compared with what the gathered
/// attribute gives. Returning false stops the parser.
class ValueSax : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit ValueSax(Attribute& attribute) : attribute_(attribute) {}

  bool null() override { return false; }
  bool boolean(bool) override { return false; }
  bool number_integer(number_integer_t) override { return false; }
  bool number_float(number_float_t, const string_t&) override { return false; }
  bool binary(binary_t&) override { return false; }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override { return false; }
  bool start_object(std::size_t) override { return depth_++ == 0; }
  bool end_object() override { return true; }
  bool start_array(std::size_t) override { return depth_++ == 1; }
  bool end_array() override { return --depth_ == 1; }
  bool key(string_t& name) override {
    key_ = name;
    return true;
  }
  bool number_unsigned(number_unsigned_t value) override {
    if (depth_ != 2 || key_ != "shape" || attribute_.shape.size() >= limits::kRank) return false;
    attribute_.shape.push_back(value);
    return true;
  }
  bool string(string_t& value) override {
    if (depth_ == 1 && key_ == "dtype") return (attribute_.dtype = parse_dtype(value)).has_value();
    if (depth_ == 1 && key_ == "data") return take_hex(value, attribute_.data);
    if (depth_ != 2 || attribute_.strings.size() >= limits::kAttributeStrings) return false;
    if (key_ == "strings") return static_cast<void>(attribute_.strings.push_back(std::move(value))), true;
    Bytes bytes;
    if (key_ != "hex_strings" || !take_hex(value, bytes)) return false;
    attribute_.strings.emplace_back(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return true;
  }

 private:
  static bool take_hex(const std::string& text, Bytes& out) {
    auto bytes = from_hex(text);
    if (bytes) out = std::move(*bytes);
    return bytes.has_value();
  }

  Attribute& attribute_;
  std::string key_;
  int depth_ = 0;
};

/// The numbers of values agree with the shape. The mark of an empty group has none.
bool is_consistent(const Attribute& a) {
  const TensorInfo info{"", a.dtype.value_or(DType::u8), a.shape};
  try {
    if (a.dtype) return a.strings.empty() && info.bytes() == a.data.size();
    return (a.name.empty() && a.strings.empty()) || info.elements() == a.strings.size();
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

std::string json_string(std::string_view text) {
  return nlohmann::json(text).dump();
}

MetadataEntry metadata_entry(const Attribute& attribute, bool whole) {
  if (!is_utf8(attribute.object) || !is_utf8(attribute.name)) {
    fail(ErrorCode::invalid_argument, "attribute {} of {}: the name is not UTF-8, which safetensors demands",
         quoted(attribute.name), kvzip::quoted(attribute.object));
  }
  if (!whole && is_plain(attribute)) return {attribute.name, attribute.strings[0]};
  return {fmt::format("{}{}@{}", kPrefix, escape_object(attribute.object), attribute.name), value_text(attribute)};
}

Attribute attribute_of(MetadataEntry entry, bool whole) {
  const std::string_view key = entry.key;
  const std::size_t at = key.find('@');
  if (key.starts_with(kPrefix) && at != std::string_view::npos) {
    Attribute attribute;
    attribute.object = unescape_object(key.substr(kPrefix.size(), at - kPrefix.size()));
    attribute.name = key.substr(at + 1);
    ValueSax sax(attribute);
    if (nlohmann::json::sax_parse(entry.value, &sax) && is_consistent(attribute)) {
      const MetadataEntry again = metadata_entry(attribute, whole);
      if (again.key == entry.key && again.value == entry.value) return attribute;
    }
  }
  Attribute plain;
  plain.name = std::move(entry.key);
  plain.strings.push_back(std::move(entry.value));
  return plain;
}

}  // namespace kvzip
