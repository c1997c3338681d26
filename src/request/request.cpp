// SPDX-License-Identifier: Apache-2.0
#include "src/request/request.hpp"

#include <algorithm>
#include <filesystem>

#include "codec/limits.hpp"
#include "codec/number.hpp"
#include "codec/pipeline.hpp"
#include "formats/file.hpp"

namespace kvzip::tool {

std::string& command_line() {
  static std::string text;
  return text;
}

std::string shell_word(const std::string& text) {
  constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/:=,%+@";
  if (!text.empty() && text.find_first_not_of(kPlain) == std::string::npos) return text;
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

std::string input_name(const std::string& path) {
  return path == "-" ? "standard input" : path;
}

std::string advice(Hint hint, const std::string& detail) {
  switch (hint) {
    case Hint::layout:
      return "--layout settles it";
    case Hint::map:
      return "--map can give its role";
    case Hint::layout_or_map:
      return "--layout or --map says what it is";
    case Hint::metadata:
      return fmt::format("--meta {} gives it", detail);
    case Hint::chunk_tokens:
      return "--chunk-tokens makes it smaller";
    case Hint::overwrite:
      return "-f overwrites it";
    case Hint::follow:
      return "if their tokens follow each other, --join tokens takes them so; --share-prefix makes a container of "
             "each, "
             "in one file that -o NAME.kvz.tar names";
    case Hint::mix:
      return "--mix goes on";
    case Hint::alone:
      return "compress it by itself; --queries takes queries from another file";
    case Hint::memory:
      return "--memlimit may allow more";
    case Hint::halves:
      return "--map P=kv:AXES:halves, without 2 among the axes, takes them apart";
    case Hint::none:
      break;
  }
  return {};
}

std::string error_text(const Error& error) {
  const std::string help = advice(error.hint(), error.hint_detail());
  return help.empty() ? error.what() : fmt::format("{} ({})", error.what(), help);
}

std::string read_rules_text(const std::string& path) {
  return with_file(path, [&] { return read_text(path, limits::kRulesText, "a file of rules or a mask"); });
}

bool names_tables(std::string_view path) {
  return path.ends_with(".kvzd");
}

Tables load_tables(const std::string& path) {
  return with_file(path, [&] { return read_tables(path); });
}

RuleSet load_rules(const std::string& preset, const std::string& key, const std::string& value,
                   std::string_view option) {
  const auto known = builtin_presets();
  const bool builtin = std::any_of(known.begin(), known.end(), [&](const PresetText& p) { return p.name == preset; });
  std::error_code ignored;
  RuleSet rules;
  if (preset.find_first_of("/.") != std::string::npos ||
      (!builtin && std::filesystem::is_regular_file(preset, ignored))) {
    const std::string name = std::filesystem::path(preset).filename().string();
    rules = with_file(preset, [&] { return RuleSet::parse(read_rules_text(preset), name); });
  } else {
    rules = as_typed(option, [&] { return RuleSet::builtin(preset); });
  }
  if (!key.empty()) as_typed("--key", [&] { rules.override_role(Role::key, canonical_pipeline(key)); });
  if (!value.empty()) as_typed("--value", [&] { rules.override_role(Role::value, canonical_pipeline(value)); });
  return rules;
}

std::optional<std::uint64_t> parse_chunk_tokens(const std::string& text) {
  if (text.empty()) return {};
  if (text == "all") return 0;
  constexpr std::uint64_t kMost = std::uint64_t{1} << 50;
  const auto tokens = parse_number<std::uint64_t>(text, 0, kMost);
  if (!tokens) throw UsageError(fmt::format("--chunk-tokens {}: expected a number of tokens, or 'all'", text));
  if (*tokens == 0) throw UsageError("--chunk-tokens 0: a chunk holds at least one token; 'all' makes one chunk");
  return tokens;
}

}  // namespace kvzip::tool
