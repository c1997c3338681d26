// SPDX-License-Identifier: Apache-2.0
// Structures as JSON, and back. A structure declares its members once, beside itself:
//
//   void fields(auto& visit, Is<Speed> auto& s) { visit("median", s.median); ... }
//
// Members are whole numbers, floating-point numbers, texts, other structures, and optionals, vectors and pairs of
// these; and types that a text stands for: those with `json_name(value)` and `from_json_name(text, value)`, which says
// whether there is such a value. `visit.optional("layer", t.layer)` is a member that need not be there, while one that
// the brackets declare has null for nothing.
#pragma once

#include <fmt/format.h>

#include <cmath>
#include <concepts>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "codec/fail.hpp"
#include "formats/text.hpp"

namespace kvzip {

/// T itself, or T that is only read.
template <typename T, typename U>
concept Is = std::same_as<std::remove_const_t<T>, U>;

template <typename T>
concept HasJsonName = requires(T& value, std::string_view text) {
  { from_json_name(text, value) } -> std::same_as<bool>;
  { json_name(value) } -> std::convertible_to<std::string_view>;
};

/// A visitor that makes an object. What is not finite becomes `infinite`, because JSON has no such numbers.
class JsonWriter {
 public:
  using Json = nlohmann::ordered_json;

  explicit JsonWriter(Json infinite = nullptr) : infinite_(std::move(infinite)) {}
  void operator()(std::string_view name, const auto& value) { object_[std::string(name)] = of(value); }
  template <typename T>
  void optional(std::string_view name, const std::optional<T>& value) {
    if (value) (*this)(name, *value);
  }

  template <typename T>
  Json of(const T& value) const {
    if constexpr (HasJsonName<T>) {
      return Json(json_name(value));
    } else if constexpr (std::floating_point<T>) {
      return std::isfinite(value) ? Json(value) : infinite_;
    } else if constexpr (std::integral<T> || std::convertible_to<T, std::string_view>) {
      return Json(value);
    } else {
      JsonWriter inner(infinite_);
      fields(inner, value);
      return std::move(inner.object_);
    }
  }
  template <typename T>
  Json of(const std::optional<T>& value) const {
    return value ? of(*value) : Json(nullptr);
  }
  template <typename T, typename U>
  Json of(const std::pair<T, U>& pair) const {
    return Json::array({of(pair.first), of(pair.second)});
  }
  template <typename T>
  Json of(const std::vector<T>& values) const {
    Json out = Json::array();
    for (const T& value : values) out.push_back(of(value));
    return out;
  }

 private:
  Json infinite_, object_ = Json::object();
};

/// The members of a structure as an object.
nlohmann::ordered_json json_of(const auto& value, nlohmann::ordered_json infinite = nullptr) {
  return JsonWriter(std::move(infinite)).of(value);
}

/// How a reader takes numbers: null for infinity, none but finite ones from 0 on, or any.
enum class JsonNumbers : std::uint8_t { null_is_infinity, finite_from_0, any };

/// The member of an object in a tree; false where there is none.
template <typename Json>
requires requires(const Json& tree) {
  tree.find(std::string());
}
const Json* member_of(const Json& object, std::string_view name) {
  const auto at = object.find(std::string(name));
  return at == object.end() ? nullptr : &*at;
}

/// Where a value is, for messages: a member or an element of what is around it.
struct JsonPlace {
  const JsonPlace* around = nullptr;
  std::string_view name = {};
  std::optional<std::size_t> index = {};

  std::string text() const {
    if (around == nullptr) return std::string(name);
    const std::string outer = around->text();
    if (index) return fmt::format("{}[{}]", outer, *index);
    return outer.empty() ? std::string(name) : fmt::format("{}.{}", outer, name);
  }
};

/// A visitor that reads hostile JSON, a tree or JsonText; fail(corrupt), with `what` in front, where a member is
/// missing or is not of its type, fail(unsupported) for a text that stands for nothing. Members that nothing asks for
/// are left alone.
template <typename Json>
class JsonReader {
 public:
  JsonReader(const Json& object, std::string_view what, JsonNumbers numbers, const JsonPlace& place = kTop)
      : object_(object), what_(what), numbers_(numbers), place_(place) {}

  void operator()(std::string_view name, auto&& value) const {
    const JsonPlace place{&place_, name, {}};
    const auto in = member_of(object_, name);
    if (!in) fail(ErrorCode::corrupt, "{}: {} is missing", what_, place.text());
    read(*in, place, value);
  }
  template <typename T>
  void optional(std::string_view name, std::optional<T>& value) const {
    const auto in = member_of(object_, name);
    if (in) read(*in, {&place_, name, {}}, value.emplace());
  }
  /// The object itself.
  void read(auto& value) const { read(object_, place_, value); }

 private:
  static constexpr JsonPlace kTop{};

  void require(bool holds, const JsonPlace& place, std::string_view expected) const {
    if (holds) return;
    const std::string text = place.text();
    fail(ErrorCode::corrupt, "{}: {} is not {}", what_, text.empty() ? "this" : text, expected);
  }

  template <typename T>
  void read(const Json& in, const JsonPlace& place, T& value) const {
    if constexpr (HasJsonName<T>) {
      std::string text;
      read(in, place, text);
      if (from_json_name(text, value)) return;
      fail(ErrorCode::unsupported, "{}: {} is {}, which this version does not know", what_, place.text(), quoted(text));
    } else if constexpr (std::same_as<T, std::string>) {
      require(in.is_string(), place, "text");
      value = in.template get<std::string>();
    } else if constexpr (std::unsigned_integral<T>) {
      require(in.is_number_unsigned() && in.template get<std::uint64_t>() <= std::numeric_limits<T>::max(), place,
              "a whole number of its range");
      value = in.template get<T>();
    } else if constexpr (std::same_as<T, double>) {
      value = number(in, place);
    } else {
      require(in.is_object(), place, "an object");
      JsonReader inner(in, what_, numbers_, place);
      fields(inner, value);
    }
  }
  template <typename T>
  void read(const Json& in, const JsonPlace& place, std::optional<T>& value) const {
    if (in.is_null()) return value.reset();
    read(in, place, value.emplace());
  }
  template <typename T>
  void read(const Json& in, const JsonPlace& place, std::vector<T>& values) const {
    require(in.is_array(), place, "a list");
    values.clear();
    for (const Json& one : in) {
      const JsonPlace inner{&place, {}, values.size()};
      read(one, inner, values.emplace_back());
    }
  }
  template <typename T, typename U>
  void read(const Json& in, const JsonPlace& place, std::pair<T, U>& pair) const {
    require(in.is_array(), place, "a list");
    std::size_t count = 0;
    for (const Json& one : in) {
      if (count == 0) read(one, {&place, {}, 0}, pair.first);
      if (count == 1) read(one, {&place, {}, 1}, pair.second);
      ++count;
    }
    require(count == 2, place, "a pair");
  }
  double number(const Json& in, const JsonPlace& place) const {
    if (numbers_ == JsonNumbers::null_is_infinity) {
      require(in.is_number() || in.is_null(), place, "a number");
      return in.is_null() ? std::numeric_limits<double>::infinity() : in.template get<double>();
    }
    require(in.is_number(), place, "a number");
    const auto value = in.template get<double>();
    if (numbers_ == JsonNumbers::any) return value;
    require(std::isfinite(value) && value >= 0, place, "a number from 0 on");
    return value;
  }

  const Json& object_;
  std::string_view what_;
  JsonNumbers numbers_;
  const JsonPlace& place_;
};

}  // namespace kvzip
