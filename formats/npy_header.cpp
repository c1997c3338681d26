// SPDX-License-Identifier: Apache-2.0
// Only what numpy.save writes is understood of Python's syntax; nothing is evaluated.
#include "formats/npy_header.hpp"

#include <algorithm>
#include <cstring>

#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "codec/number.hpp"
#include "formats/text.hpp"

namespace kvzip {
namespace {

struct TypeName {
  std::string_view name;  // without the byte order
  DType dtype;
};
// NumPy itself has nothing like BF16; as V2 the package ml_dtypes writes its bfloat16 and no other type. The types of
// one byte that it writes as V1 cannot be told apart.
constexpr TypeName kTypes[] = {
    {"b1", DType::boolean}, {"u1", DType::u8},  {"i1", DType::i8},   {"u2", DType::u16},
    {"i2", DType::i16},     {"f2", DType::f16}, {"V2", DType::bf16}, {"u4", DType::u32},
    {"i4", DType::i32},     {"f4", DType::f32}, {"c8", DType::c64},  {"u8", DType::u64},
    {"i8", DType::i64},     {"f8", DType::f64}, {"V1", DType::u8},   {"f1", DType::f8_e5m2},
};

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  NumpyArray run() {
    NumpyArray array;
    bool has_type = false, has_order = false, has_shape = false;
    expect('{');
    while (!take('}')) {
      const std::string_view key = string();
      expect(':');
      if (key == "descr" && !has_type) {
        has_type = true;
        if (peek() == '[') {
          skip_list();
        } else {
          array.type = string();
        }
      } else if (key == "fortran_order" && !has_order) {
        has_order = true;
        array.fortran = boolean();
      } else if (key == "shape" && !has_shape) {
        has_shape = true;
        array.shape = shape();
      } else {
        bad("the key " + quoted(key));
      }
      if (!take(',') && peek() != '}') bad("no comma");
    }
    if (peek() != '\0' || at_ < text_.size()) bad("more after its end");
    if (!has_type || !has_order || !has_shape) bad("no descr, fortran_order or shape");
    return array;
  }

 private:
  [[noreturn]] static void bad(const std::string& what) {
    fail(ErrorCode::corrupt, "NumPy header: {} in its dictionary", what);
  }
  char peek() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool take(char c) {
    const bool there = peek() == c;
    if (there) ++at_;
    return there;
  }
  void expect(char c) {
    if (!take(c)) bad(fmt::format("no '{}'", c));
  }
  /// As it stands, escapes and all: no name of a type or key has any, and of fields none is wanted.
  std::string_view string() {
    const char quote = peek();
    if (quote != '\'' && quote != '"') bad("no text where one is due");
    const std::size_t begin = ++at_;
    while (at_ < text_.size() && text_[at_] != quote) at_ += text_[at_] == '\\' ? 2 : 1;
    if (at_ >= text_.size()) bad("a text without an end");
    const std::string_view found = text_.substr(begin, at_++ - begin);
    return found;
  }
  bool boolean() {
    peek();
    for (const std::string_view word : {"True", "False"}) {
      if (!text_.substr(at_).starts_with(word)) continue;
      at_ += word.size();
      return word == "True";
    }
    bad("neither True nor False");
  }
  std::vector<std::uint64_t> shape() {
    std::vector<std::uint64_t> out;
    expect('(');
    while (!take(')')) {
      const std::size_t begin = (peek(), at_);
      while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') ++at_;
      const auto value = parse_number<std::uint64_t>(text_.substr(begin, at_ - begin), 0, INT64_MAX);
      if (!value) bad("a shape that is no list of whole numbers");
      if (out.size() == limits::kRank) fail(ErrorCode::limit, "NumPy header: more than {} dimensions", limits::kRank);
      out.push_back(*value);
      take('L');  // a long integer of Python 2
      if (!take(',') && peek() != ')') bad("a shape that is no list of whole numbers");
    }
    return out;
  }
  /// The fields of a type: nested lists, tuples, texts and numbers.
  void skip_list() {
    std::size_t depth = 0;
    do {
      const char c = peek();
      if (c == '\0') bad("a list without an end");
      if (c == '\'' || c == '"') {
        string();
        continue;
      }
      if (c == '[' || c == '(') ++depth;
      if (c == ']' || c == ')') --depth;
      ++at_;
    } while (depth > 0);
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

/// Bytes of magic number, version and length, and the length of the text.
std::pair<std::size_t, std::size_t> header_length(ByteView front) {
  constexpr std::size_t kVersionAt = 6, kLengthAt = 8;
  const std::string_view text(reinterpret_cast<const char*>(front.data()), front.size());
  if (text.size() < kLengthAt + 2) fail(ErrorCode::truncated, "{} bytes are too few for a NumPy array", text.size());
  if (!text.starts_with(kNumpyMagic)) fail(ErrorCode::corrupt, "no NumPy array");
  const auto major = static_cast<unsigned char>(text[kVersionAt]);
  if (major < 1 || major > 3) fail(ErrorCode::unsupported, "NumPy format version {}", major);
  const std::size_t bytes = major == 1 ? 2 : 4;
  std::uint32_t length = 0;
  if (text.size() >= kLengthAt + bytes) std::memcpy(&length, text.data() + kLengthAt, bytes);
  return {kLengthAt + bytes, length};
}

}  // namespace

std::size_t numpy_header_bytes(ByteView start, std::uint64_t size) {
  const auto [before, length] = header_length(start);
  if (length > limits::kNumpyHeader) fail(ErrorCode::limit, "NumPy header: {} bytes are too many", length);
  if (before + length > size) {
    fail(ErrorCode::truncated, "NumPy header: {} bytes, but the file has {}", before + length, size);
  }
  return before + length;
}

NumpyArray parse_numpy_header(ByteView header) {
  const auto [before, length] = header_length(header);
  const std::string_view text(reinterpret_cast<const char*>(header.data()) + before, length);
  NumpyArray array = Parser(text).run();
  array.text = text.substr(0, text.find_last_of('}') + 1);
  array.begin = before + length;
  if (array.type.size() < 3) return array;
  const char order = array.type[0];
  const std::string_view name = std::string_view(array.type).substr(1);
  const auto* known = std::ranges::find(kTypes, name, &TypeName::name);
  if (known == std::end(kTypes) || std::string_view("<>|=").find(order) == std::string_view::npos) return array;
  array.dtype = known->dtype;
  array.reversed = order == '>' && dtype_unit(known->dtype) > 1 && known->dtype != DType::bf16;
  return array;
}

std::string numpy_tensor_name(std::string_view path) {
  constexpr std::string_view kExtension = ".npy";
  const std::string_view name = path.substr(path.rfind('/') + 1);
  const bool named = name.ends_with(kExtension) && name.size() > kExtension.size();
  return std::string(named ? name.substr(0, name.size() - kExtension.size()) : "array");
}

bool is_raw_in_numpy(DType dtype) {
  return dtype_bits(dtype) == 8 && dtype != DType::boolean && dtype != DType::u8 && dtype != DType::i8;
}

std::optional<std::string_view> numpy_type(DType dtype) {
  switch (dtype) {
    case DType::boolean:
      return "|b1";
    case DType::u8:
      return "|u1";
    case DType::i8:
      return "|i1";
    case DType::i16:
      return "<i2";
    case DType::u16:
      return "<u2";
    case DType::f16:
      return "<f2";
    case DType::bf16:
      return "<V2";
    case DType::i32:
      return "<i4";
    case DType::u32:
      return "<u4";
    case DType::f32:
      return "<f4";
    case DType::c64:
      return "<c8";
    case DType::f64:
      return "<f8";
    case DType::i64:
      return "<i8";
    case DType::u64:
      return "<u8";
    default:
      break;
  }
  if (is_raw_in_numpy(dtype)) return "|V1";
  return std::nullopt;
}

std::string numpy_header_text(std::string_view type, const std::vector<std::uint64_t>& shape) {
  return fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}{}), }}", type, fmt::join(shape, ", "),
                     shape.size() == 1 ? "," : "");
}

std::string numpy_header(std::string_view text) {
  constexpr std::size_t kAlign = 64;
  const bool large = text.size() + kAlign > 65535;
  std::string out(kNumpyMagic);
  out += large ? '\2' : '\1';
  out += '\0';
  const std::size_t before = out.size() + (large ? 4 : 2);
  const std::size_t length = (before + text.size() + 1 + kAlign - 1) / kAlign * kAlign - before;
  for (std::size_t i = 0; i < before - 8; ++i) out += static_cast<char>(length >> (8 * i) & 0xff);
  out += text;
  out.resize(before + length - 1, ' ');
  return out + '\n';
}

}  // namespace kvzip
