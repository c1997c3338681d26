// SPDX-License-Identifier: Apache-2.0
#include "formats/json_text.hpp"

#include <charconv>

#include "codec/fail.hpp"

namespace kvzip {
namespace {

constexpr std::string_view kSpace = " \t\n\r";

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

std::string text_of(std::string_view rest) {
  const std::string_view quoted_text = rest.substr(0, text_bytes(rest));
  if (quoted_text.find('\\') != std::string_view::npos) return nlohmann::json::parse(quoted_text).get<std::string>();
  return std::string(quoted_text.substr(1, quoted_text.size() - 2));
}

}  // namespace

JsonText JsonText::parse(std::string_view text, std::string_view what) {
  // The library passes over a byte-order mark, and takes a NUL for the end.
  if (text.starts_with("\xef\xbb\xbf") || text.find('\0') != std::string_view::npos || !nlohmann::json::accept(text)) {
    fail(ErrorCode::corrupt, "{}: it is not JSON", what);
  }
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
  return nlohmann::json::parse(rest_.substr(0, value_bytes(rest_))).get<double>();
}

std::string JsonText::text() const {
  return text_of(rest_);
}

}  // namespace kvzip
