// SPDX-License-Identifier: Apache-2.0
// The order that names of files say, where they do: hashes say none.
#include <algorithm>
#include <utility>

#include "codec/fail.hpp"
#include "codec/number.hpp"
#include "formats/text.hpp"
#include "formats/token_join.hpp"

namespace kvzip {
namespace {

constexpr std::string_view kOrderHelp =
    "name them in their order, or list them as \"files\" of a kvzip.json beside them";

struct NumberedName {
  std::string path, text;  // the name with 0 for each number
  std::vector<std::uint64_t> numbers;
};

NumberedName numbered(std::string path) {
  constexpr std::string_view kDigits = "0123456789";
  NumberedName out{std::move(path), {}, {}};
  std::string_view rest = std::string_view(out.path).substr(out.path.rfind('/') + 1);
  while (!rest.empty()) {
    const std::size_t digits = std::min(rest.find_first_not_of(kDigits), rest.size());
    if (digits == 0) {
      out.text += rest[0];
      rest.remove_prefix(1);
      continue;
    }
    const auto number = parse_number<std::uint64_t>(rest.substr(0, digits));
    out.text += number ? std::string("0") : std::string(rest.substr(0, digits));
    if (number) out.numbers.push_back(*number);
    rest.remove_prefix(digits);
  }
  return out;
}

}  // namespace

std::vector<std::string> in_order_of_names(std::vector<std::string> paths) {
  if (paths.size() < 2) return paths;
  std::vector<NumberedName> names;
  names.reserve(paths.size());
  for (std::string& path : paths) names.push_back(numbered(std::move(path)));
  std::vector<std::size_t> differ;
  for (std::size_t n = 0; n < names[0].numbers.size(); ++n) {
    const auto other = [&](const NumberedName& name) {
      return name.text == names[0].text && name.numbers[n] != names[0].numbers[n];
    };
    if (std::ranges::any_of(names, other)) differ.push_back(n);
  }
  const auto alike = [&](const NumberedName& name) { return name.text == names[0].text; };
  if (!std::ranges::all_of(names, alike) || differ.size() != 1) {
    fail(ErrorCode::invalid_argument, "the names of these {} files do not say which tokens come first: {}",
         names.size(), kOrderHelp);
  }
  const std::size_t n = differ[0];
  std::ranges::sort(names, {}, [n](const NumberedName& name) { return name.numbers[n]; });
  for (std::size_t i = 1; i < names.size(); ++i) {
    if (names[i].numbers[n] - names[i - 1].numbers[n] == names[1].numbers[n] - names[0].numbers[n] &&
        names[i].numbers[n] != names[i - 1].numbers[n])
      continue;
    fail(ErrorCode::invalid_argument,
         "the numbers {} and {} in the names of files are not as far apart as {} and {}: if {}",
         names[i - 1].numbers[n], names[i].numbers[n], names[0].numbers[n], names[1].numbers[n],
         fmt::format("none is missing, {}", kOrderHelp));
  }
  std::vector<std::string> out;
  for (NumberedName& name : names) out.push_back(std::move(name.path));
  return out;
}

}  // namespace kvzip
