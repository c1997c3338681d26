// SPDX-License-Identifier: Apache-2.0
// One declaration of a stage's or coder's parameters: parses, prints, range-checks and documents them.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvzip/components.hpp"

namespace kvzip {

class FieldVisitor {
 public:
  virtual ~FieldVisitor() = default;
  /// `zero` names the value 0 ("all", "auto"); it must then be inside the range.
  virtual void integer(std::string_view name, std::uint64_t& value, std::uint64_t low, std::uint64_t high,
                       std::string_view help, std::string_view zero = {}) = 0;
  virtual void real(std::string_view name, double& value, double low, double high, std::string_view help,
                    std::string_view zero = {}) = 0;
  virtual void choice_index(std::string_view name, std::uint8_t& value, std::span<const std::string_view> names,
                            std::string_view help) = 0;
  /// 1 to 64 letters, digits, '.', '_' and '-'. `range`: what it can be, for people: "all|NAME".
  virtual void text(std::string_view name, std::string& value, std::string_view range, std::string_view help) = 0;
  /// Fields declared after this came with that container version. They are stored only where they differ from their
  /// defaults, so that older readers take all other texts.
  virtual void since(std::string_view /*version*/) {}
  template <typename E>
  void choice(std::string_view name, E& value, std::span<const std::string_view> names, std::string_view help) {
    auto index = static_cast<std::uint8_t>(value);
    choice_index(name, index, names, help);
    value = static_cast<E>(index);
  }
};

/// Anything with fields: a stage or a coder.
class Configurable {
 public:
  virtual ~Configurable() = default;
  virtual void fields(FieldVisitor& visitor) = 0;
};

/// "name=value" items to fields; fail(invalid_argument) for unknown names, bad values, repeats.
void parse_fields(Configurable& target, std::string_view component, std::span<const std::string_view> items);
/// ":name=value" for each field that differs from the default (or for all that version 1.0 had), in declared order.
std::string print_fields(Configurable& target, Configurable& defaults, bool all);
/// The later of `since` and the versions of all fields that differ from their defaults.
std::string_view fields_since(Configurable& target, Configurable& defaults, std::string_view since);
/// Of two versions of one major, the one with more digits is the later one.
std::string_view later_version(std::string_view a, std::string_view b);
std::vector<FieldDoc> describe_fields(Configurable& target);

}  // namespace kvzip
