// SPDX-License-Identifier: Apache-2.0
#include "codec/fields.hpp"

#include <algorithm>
#include <cmath>

#include "codec/fail.hpp"
#include "codec/nearest.hpp"
#include "codec/number.hpp"

namespace kvzip {
namespace {

class ParseVisitor : public FieldVisitor {
 public:
  ParseVisitor(std::string_view component, std::span<const std::string_view> items) : component_(component) {
    for (const std::string_view item : items) {
      const auto equals = item.find('=');
      if (equals == std::string_view::npos || equals == 0) {
        fail(ErrorCode::invalid_argument, "{}: '{}' is not name=value", component, item);
      }
      if (!items_.emplace(item.substr(0, equals), item.substr(equals + 1)).second) {
        fail(ErrorCode::invalid_argument, "{}: '{}' is given twice", component, item.substr(0, equals));
      }
    }
  }

  void integer(std::string_view name, std::uint64_t& value, std::uint64_t low, std::uint64_t high, std::string_view,
               std::string_view zero) override {
    parse(name, value, low, high, zero);
  }
  void real(std::string_view name, double& value, double low, double high, std::string_view,
            std::string_view zero) override {
    parse(name, value, low, high, zero);
  }
  void choice_index(std::string_view name, std::uint8_t& value, std::span<const std::string_view> names,
                    std::string_view) override {
    const auto* text = take(name);
    if (text == nullptr) return;
    for (std::size_t i = 0; i < names.size(); ++i) {
      if (names[i] == *text) {
        value = static_cast<std::uint8_t>(i);
        return;
      }
    }
    fail(ErrorCode::invalid_argument, "{}: {} is '{}'; it can be {}{}", component_, name, *text, fmt::join(names, ", "),
         did_you_mean(*text, names));
  }
  void text(std::string_view name, std::string& value, std::string_view range, std::string_view) override {
    const auto* given = take(name);
    if (given == nullptr) return;
    const auto plain = [](char c) {
      return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' || c == '_' ||
             c == '-';
    };
    if (given->empty() || given->size() > 64 || !std::all_of(given->begin(), given->end(), plain)) {
      fail(ErrorCode::invalid_argument, "{}: {} is '{}'; it can be {}, of at most 64 letters, digits, '.', '_' and '-'",
           component_, name, *given, range);
    }
    value = *given;
  }
  void finish() const {
    if (items_.empty()) return;
    const std::string_view name = items_.begin()->first;
    fail(ErrorCode::invalid_argument, "{} has no parameter '{}'; it has {}{}", component_, name,
         known_.empty() ? "none" : fmt::format("{}", fmt::join(known_, ", ")),
         did_you_mean(name, std::vector<std::string_view>(known_.begin(), known_.end())));
  }

 private:
  template <typename T>
  void parse(std::string_view name, T& value, T low, T high, std::string_view zero) {
    const auto* text = take(name);
    if (text == nullptr) return;
    if (!zero.empty() && *text == zero) {
      value = 0;
      return;
    }
    const auto parsed = parse_number<T>(*text, low, high);
    if (!parsed) {
      fail(ErrorCode::invalid_argument, "{}: {} is '{}'; it can be {} to {}{}{}", component_, name, *text, low, high,
           zero.empty() ? "" : " or ", zero);
    }
    value = *parsed;
  }
  const std::string* take(std::string_view name) {
    known_.emplace_back(name);
    const auto it = items_.find(name);
    if (it == items_.end()) return nullptr;
    taken_ = it->second;
    items_.erase(it);
    return &taken_;
  }

  std::string component_, taken_;
  std::map<std::string_view, std::string_view> items_;
  std::vector<std::string> known_;
};

class PrintVisitor : public FieldVisitor {
 public:
  struct Item {
    std::string name, value;
    std::string_view since;  // empty: as old as the component
    bool operator==(const Item&) const = default;
  };
  std::vector<Item> items;

  void integer(std::string_view name, std::uint64_t& value, std::uint64_t, std::uint64_t, std::string_view,
               std::string_view zero) override {
    add(name, value == 0 && !zero.empty() ? std::string(zero) : fmt::format("{}", value));
  }
  void real(std::string_view name, double& value, double, double, std::string_view, std::string_view zero) override {
    add(name, value == 0 && !zero.empty() ? std::string(zero) : fmt::format("{}", value));
  }
  void choice_index(std::string_view name, std::uint8_t& value, std::span<const std::string_view> names,
                    std::string_view) override {
    add(name, std::string(names[value]));
  }
  void text(std::string_view name, std::string& value, std::string_view, std::string_view) override {
    add(name, value);
  }
  void since(std::string_view version) override { since_ = version; }

 private:
  void add(std::string_view name, std::string value) { items.push_back({std::string(name), std::move(value), since_}); }

  std::string_view since_;
};

class DescribeVisitor : public FieldVisitor {
 public:
  std::vector<FieldDoc> docs;

  void integer(std::string_view name, std::uint64_t& value, std::uint64_t low, std::uint64_t high,
               std::string_view help, std::string_view zero) override {
    number("integer", name, value, low, high, help, zero);
  }
  void real(std::string_view name, double& value, double low, double high, std::string_view help,
            std::string_view zero) override {
    number("real", name, value, low, high, help, zero);
  }
  void choice_index(std::string_view name, std::uint8_t& value, std::span<const std::string_view> names,
                    std::string_view help) override {
    docs.push_back({std::string(name), "choice", fmt::format("{}", fmt::join(names, "|")), std::string(names[value]),
                    std::string(help)});
  }
  void text(std::string_view name, std::string& value, std::string_view range, std::string_view help) override {
    docs.push_back({std::string(name), "text", std::string(range), value, std::string(help)});
  }

 private:
  template <typename T>
  void number(std::string_view type, std::string_view name, T value, T low, T high, std::string_view help,
              std::string_view zero) {
    std::string range = fmt::format("{}..{}", low, high);
    if (!zero.empty()) range += fmt::format("|{}", zero);
    docs.push_back({std::string(name), std::string(type), range,
                    value == 0 && !zero.empty() ? std::string(zero) : fmt::format("{}", value), std::string(help)});
  }
};

}  // namespace

void parse_fields(Configurable& target, std::string_view component, std::span<const std::string_view> items) {
  ParseVisitor visitor(component, items);
  target.fields(visitor);
  visitor.finish();
}

std::string print_fields(Configurable& target, Configurable& defaults, bool all) {
  PrintVisitor ours, theirs;
  target.fields(ours);
  defaults.fields(theirs);
  std::string text;
  for (std::size_t i = 0; i < ours.items.size(); ++i) {
    const auto& item = ours.items[i];
    if ((all && item.since.empty()) || item != theirs.items[i]) text += fmt::format(":{}={}", item.name, item.value);
  }
  return text;
}

std::string_view fields_since(Configurable& target, Configurable& defaults, std::string_view since) {
  PrintVisitor ours, theirs;
  target.fields(ours);
  defaults.fields(theirs);
  for (std::size_t i = 0; i < ours.items.size(); ++i) {
    if (ours.items[i] != theirs.items[i]) since = later_version(since, ours.items[i].since);
  }
  return since;
}

std::string_view later_version(std::string_view a, std::string_view b) {
  return a.size() != b.size() ? (a.size() < b.size() ? b : a) : std::max(a, b);
}

std::vector<FieldDoc> describe_fields(Configurable& target) {
  DescribeVisitor visitor;
  target.fields(visitor);
  return std::move(visitor.docs);
}

}  // namespace kvzip
