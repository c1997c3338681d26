// SPDX-License-Identifier: Apache-2.0
#include "formats/json_text.hpp"

#include <charconv>

#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "formats/text.hpp"

namespace kvzip {
namespace {

constexpr std::string_view kSpace = " \t\n\r";

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

/// The grammar; what has passed is walked through without looking again.
class Syntax {
 public:
  Syntax(std::string_view text, std::string_view what) : text_(text), what_(what) {}

  void all() {
    skip_space();
    value(1);
    skip_space();
    require(at_ == text_.size());
  }

 private:
  char next() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  void require(bool holds) const {
    if (!holds) fail(ErrorCode::corrupt, "{}: it is not JSON", what_);
  }
  void take(char c) {
    require(next() == c);
    ++at_;
  }
  bool take_if(char c) {
    if (next() != c) return false;
    ++at_;
    return true;
  }
  void skip_space() { at_ = std::min(text_.find_first_not_of(kSpace, at_), text_.size()); }
  void word(std::string_view expected) {
    require(text_.substr(at_).starts_with(expected));
    at_ += expected.size();
  }

  void value(int depth) {
    switch (next()) {
      case '{':
        return list(depth, '}');
      case '[':
        return list(depth, ']');
      case '"':
        return text();
      case 't':
        return word("true");
      case 'f':
        return word("false");
      case 'n':
        return word("null");
      default:
        return number();
    }
  }

  void list(int depth, char close) {
    require(depth <= limits::kJsonDepth);
    ++at_;
    skip_space();
    if (take_if(close)) return;
    for (;;) {
      if (close == '}') {
        require(next() == '"');
        text();
        skip_space();
        take(':');
        skip_space();
      }
      value(depth + 1);
      skip_space();
      if (take_if(close)) return;
      take(',');
      skip_space();
    }
  }

  void text() {
    ++at_;
    for (;;) {
      require(at_ < text_.size());
      const auto c = static_cast<unsigned char>(text_[at_]);
      require(c >= 0x20);
      if (c >= 0x80) {
        beyond_ascii();
      } else if (c == '\\') {
        escape();
      } else {
        ++at_;
        if (c == '"') return;
      }
    }
  }
  void beyond_ascii() {
    const std::size_t first = at_;
    while (static_cast<unsigned char>(next()) >= 0x80) ++at_;
    require(is_utf8(text_.substr(first, at_ - first)));
  }
  void escape() {
    ++at_;
    const char kind = next();
    require(kind != '\0' && std::string_view("\"\\/bfnrtu").find(kind) != std::string_view::npos);
    ++at_;
    if (kind != 'u') return;
    const unsigned unit = utf16_unit();
    require(unit < 0xdc00 || unit > 0xdfff);
    if (unit < 0xd800 || unit > 0xdbff) return;
    word("\\u");
    const unsigned second = utf16_unit();
    require(second >= 0xdc00 && second <= 0xdfff);
  }
  unsigned utf16_unit() {
    const std::string_view digits = text_.substr(at_, 4);
    unsigned unit = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), unit, 16);
    require(digits.size() == 4 && error == std::errc() && end == digits.data() + 4);
    at_ += 4;
    return unit;
  }

  void number() {
    take_if('-');
    if (!take_if('0')) digits();
    if (take_if('.')) digits();
    if (take_if('e') || take_if('E')) {
      if (!take_if('+')) take_if('-');
      digits();
    }
  }
  void digits() {
    require(is_digit(next()));
    while (is_digit(next())) ++at_;
  }

  std::string_view text_, what_;
  std::size_t at_ = 0;
};

/// Bytes of the text in quotes that `rest` begins with.
std::size_t text_bytes(std::string_view rest) {
  std::size_t at = 1;
  while (rest[at] != '"') at += rest[at] == '\\' ? 2 : 1;
  return at + 1;
}

/// Bytes of the value that `rest` begins with.
std::size_t value_bytes(std::string_view rest) {
  if (rest[0] == '"') return text_bytes(rest);
  if (rest[0] != '{' && rest[0] != '[') return std::min(rest.find_first_of(",]} \t\n\r"), rest.size());
  std::size_t at = 1;
  for (int depth = 1; depth > 0;) {
    const char c = rest[at];
    depth += (c == '{' || c == '[') - (c == '}' || c == ']');
    at += c == '"' ? text_bytes(rest.substr(at)) : 1;
  }
  return at;
}

std::string_view after_space(std::string_view rest) {
  return rest.substr(std::min(rest.find_first_not_of(kSpace), rest.size()));
}
/// What follows the first `bytes`, a comma or colon and space.
std::string_view after(std::string_view rest, std::size_t bytes) {
  rest = after_space(rest.substr(bytes));
  return rest[0] == ',' || rest[0] == ':' ? after_space(rest.substr(1)) : rest;
}

/// A small value as a tree: texts with escapes, numbers that are not whole.
nlohmann::json as_tree(std::string_view value) {
  nlohmann::json tree = nlohmann::json::parse(value, nullptr, false);
  if (tree.is_discarded()) fail(ErrorCode::corrupt, "a number is too large");
  return tree;
}

std::string text_of(std::string_view rest) {
  const std::string_view quoted_text = rest.substr(0, text_bytes(rest));
  if (quoted_text.find('\\') != std::string_view::npos) return as_tree(quoted_text).get<std::string>();
  return std::string(quoted_text.substr(1, quoted_text.size() - 2));
}

}  // namespace

JsonText JsonText::parse(std::string_view text, std::string_view what) {
  Syntax(text, what).all();
  return JsonText(after_space(text));
}

std::string_view JsonText::from(const char* at) const {
  return rest_.substr(static_cast<std::size_t>(at - rest_.data()));
}

std::optional<JsonText> JsonText::member(std::string_view name) const {
  if (!members_) {
    members_.emplace();
    for (std::string_view rest = after_space(rest_.substr(1)); rest[0] != '}';) {
      const std::string_view value = after(rest, text_bytes(rest));
      members_->push_back({rest.data(), value.data()});
      rest = after(value, value_bytes(value));
    }
  }
  for (std::size_t i = members_->size(); i-- > 0;) {
    const std::string_view rest = from((*members_)[i].name);
    const std::string_view plain = rest.substr(1, name.size());
    const bool same = plain == name && rest[name.size() + 1] == '"';
    if (same || (rest.substr(1, text_bytes(rest) - 2).find('\\') != std::string_view::npos && text_of(rest) == name)) {
      return JsonText(from((*members_)[i].value));
    }
  }
  return std::nullopt;
}

JsonText::Iterator& JsonText::Iterator::operator++() {
  rest_ = after(rest_, value_bytes(rest_));
  if (rest_[0] == ']') rest_ = {};
  return *this;
}

JsonText::Iterator JsonText::begin() const {
  const std::string_view first = after_space(rest_.substr(1));
  return Iterator(first[0] == ']' ? std::string_view() : first);
}

std::optional<std::uint64_t> JsonText::whole() const {
  const std::string_view value = rest_.substr(0, is_number() ? value_bytes(rest_) : 0);
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (value.empty() || error != std::errc() || end != value.data() + value.size()) return std::nullopt;
  return number;
}

double JsonText::real() const {
  return as_tree(rest_.substr(0, value_bytes(rest_))).get<double>();
}

std::string JsonText::text() const {
  return text_of(rest_);
}

}  // namespace kvzip
