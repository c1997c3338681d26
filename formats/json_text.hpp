// SPDX-License-Identifier: Apache-2.0
// Large JSON that others wrote, read and written without a tree of its values, which would take many times the memory
// of the text (check_json says what others cost). JsonReader (formats/json_fields.hpp) reads it as it reads a tree.
#pragma once

#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/json_fields.hpp"

namespace kvzip {

/// A value within a text that stays where it is. What is asked of a value has to suit its type.
class JsonText {
 public:
  /// All of a text, which is one value; fail(corrupt) with `what` in front where it is not JSON (RFC 8259).
  static JsonText parse(std::string_view text, std::string_view what);

  bool is_null() const { return rest_[0] == 'n'; }
  bool is_string() const { return rest_[0] == '"'; }
  bool is_object() const { return rest_[0] == '{'; }
  bool is_array() const { return rest_[0] == '['; }
  bool is_number() const { return rest_[0] == '-' || (rest_[0] >= '0' && rest_[0] <= '9'); }
  bool is_number_unsigned() const { return whole().has_value(); }

  template <typename T>
  T get() const {
    if constexpr (std::same_as<T, std::string>) {
      return text();
    } else if constexpr (std::same_as<T, double>) {
      return real();
    } else {
      static_assert(std::unsigned_integral<T>);
      return static_cast<T>(whole().value_or(0));
    }
  }

  /// The last member of this name, as a tree has it.
  friend std::optional<JsonText> member_of(const JsonText& object, std::string_view name) {
    return object.member(name);
  }

  /// Of the values of a list.
  class Iterator {
   public:
    explicit Iterator(std::string_view rest) : rest_(rest) {}
    JsonText operator*() const { return JsonText(rest_); }
    Iterator& operator++();
    bool operator!=(const Iterator& other) const { return rest_.size() != other.rest_.size(); }

   private:
    std::string_view rest_;  // nothing: the end
  };
  Iterator begin() const;
  static Iterator end() { return Iterator({}); }

 private:
  struct Member {
    const char *name, *value;
  };
  explicit JsonText(std::string_view rest) : rest_(rest) {}
  std::optional<JsonText> member(std::string_view name) const;
  std::string_view from(const char* at) const;
  std::optional<std::uint64_t> whole() const;
  double real() const;
  std::string text() const;

  std::string_view rest_;                               // of the whole text, from this value on
  mutable std::optional<std::vector<Member>> members_;  // found when first asked for
};

/// A visitor that appends an object as text, the same bytes that the text of its tree would have.
class JsonTextWriter {
 public:
  explicit JsonTextWriter(std::string& out) : out_(out) {}
  void operator()(std::string_view name, const auto& value) {
    begin(name);
    put(value);
  }
  template <typename T>
  void optional(std::string_view name, const std::optional<T>& value) {
    if (value) (*this)(name, *value);
  }

  /// A list of what make(0), make(1) and so on return.
  void list(std::string_view name, std::size_t count, auto&& make) {
    begin(name);
    put_list(count, make);
  }
  void close() { out_ += first_ ? "{}" : "}"; }

  template <typename T>
  void put(const T& value) {
    if constexpr (HasJsonName<T>) {
      put(json_name(value));
    } else if constexpr (std::unsigned_integral<T>) {
      static_assert(!std::same_as<T, bool>);
      out_ += std::to_string(value);
    } else if constexpr (std::floating_point<T> || std::convertible_to<T, std::string_view>) {
      out_ += nlohmann::json(value).dump();
    } else {
      JsonTextWriter inner(out_);
      fields(inner, value);
      inner.close();
    }
  }
  template <typename T>
  void put(const std::optional<T>& value) {
    if (value) return put(*value);
    out_ += "null";
  }
  template <typename T, typename U>
  void put(const std::pair<T, U>& pair) {
    out_ += '[';
    put(pair.first);
    out_ += ',';
    put(pair.second);
    out_ += ']';
  }
  template <typename T>
  void put(const std::vector<T>& values) {
    put_list(values.size(), [&](std::size_t i) -> const T& { return values[i]; });
  }

 private:
  void begin(std::string_view name) {
    out_ += first_ ? "{" : ",";
    first_ = false;
    put(name);
    out_ += ':';
  }
  void put_list(std::size_t count, auto&& make) {
    out_ += '[';
    for (std::size_t i = 0; i < count; ++i) {
      if (i > 0) out_ += ',';
      put(make(i));
    }
    out_ += ']';
  }

  std::string& out_;
  bool first_ = true;
};

/// json_of(value).dump(), without a tree.
std::string json_text_of(const auto& value) {
  std::string out;
  JsonTextWriter(out).put(value);
  return out;
}

}  // namespace kvzip
