// SPDX-License-Identifier: Apache-2.0
// Words of the command line without its parser: what was asked for and cannot be, names of files, presets, tables.
#pragma once

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "codec/fail.hpp"
#include "kvzip/rules.hpp"
#include "kvzip/tables.hpp"

namespace kvzip::tool {

/// The command line as it was typed, quoted where a shell needs it; set by main().
std::string& command_line();
/// As a shell reads one word back.
std::string shell_word(const std::string& text);

/// A command line that cannot be meant: exit status 2.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A hint in words of the tool: which option settles it; empty for none.
std::string advice(Hint hint, const std::string& detail = {});
/// The error's text and the advice.
std::string error_text(const Error& error);

/// Runs f on something the user typed: what the library refuses there is a usage error.
template <typename F>
auto as_typed(std::string_view option, F&& f) {
  try {
    return f();
  } catch (const Error& error) {
    if (error.code() != ErrorCode::invalid_argument) throw;
    throw UsageError(fmt::format("{}: {}", option, error_text(error)));
  }
}

/// "standard input" for "-".
std::string input_name(const std::string& path);
/// Runs f, which has to do with a file as it was typed: an Error that names none gets this one.
template <typename F>
auto with_file(const std::string& path, F&& f) {
  return in_file(input_name(path), std::forward<F>(f));
}

/// The text of a preset or pipelines file, at most 1 MiB.
std::string read_rules_text(const std::string& path);
/// True for a name that ends with .kvzd. Tables are no dump, so nothing looks into a file for them.
bool names_tables(std::string_view path);
/// A file of tables (.kvzd).
Tables load_tables(const std::string& path);
/// A preset by name, or from a file when the text holds '/' or '.' or when only a file has that name.
RuleSet load_rules(const std::string& preset, const std::string& key, const std::string& value,
                   std::string_view option = "--preset");
/// "all" is 0; empty is nothing.
std::optional<std::uint64_t> parse_chunk_tokens(const std::string& text);

}  // namespace kvzip::tool
