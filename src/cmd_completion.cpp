// SPDX-License-Identifier: Apache-2.0
// Scripts that complete command lines, made from the parser itself so that they know what it knows.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "codec/kernels/instruction_set.hpp"
#include "kvzip/components.hpp"
#include "kvzip/io.hpp"
#include "kvzip/rules.hpp"
#include "src/commands.hpp"
#include "src/report/report.hpp"
#include "src/sweep/sweep.hpp"

namespace kvzip::tool {
namespace {

struct Word {
  std::string name, help;
  bool value = false;                // something follows
  std::vector<std::string> choices;  // what may follow
  bool files = false;                // a file may follow, too
  bool pipeline = false;             // the choices are stages and coders, with commas between
};

std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

bool is_pipeline(std::string_view option) {
  return option == "--key" || option == "--value" || option == "--pipeline";
}

std::vector<ComponentDoc> components() {
  std::vector<ComponentDoc> out = describe_stages(), coders = describe_coders();
  out.insert(out.end(), coders.begin(), coders.end());
  return out;
}

std::vector<std::string> choices_of(std::string_view option) {
  std::vector<std::string> out;
  if (is_pipeline(option)) {
    for (const ComponentDoc& component : components()) out.push_back(component.name);
  } else if (option == "--measure") {
    for (const Measure& measure : measures()) out.emplace_back(measure.id);
  } else if (option == "--target") {
    for (const kernels::InstructionSet& set : kernels::instruction_sets()) out.emplace_back(set.name);
  } else if (option == "--memlimit") {
    out = {"512M", "1G", "4G", "16G", "50%", "none"};
  }
  if (option == "--preset" || option == "--presets") {
    for (const PresetText& preset : builtin_presets()) out.emplace_back(preset.name);
  } else if (option == "--to") {
    for (const FileFormat& format : file_formats()) {
      if (format.writable) out.emplace_back(format.name);
    }
  } else if (option == "--role") {
    out = {"key", "value", "query", "other", "kv"};
  } else if (option == "--order") {
    out = {"layer", "token"};
  }
  return out;
}

/// What a check of a list of words, "{a,b}", takes.
std::vector<std::string> members_of(const CLI::Option& option) {
  std::vector<std::string> out;
  const std::string text = option.get_type_name();
  const std::size_t begin = text.find('{'), end = text.find('}');
  if (begin == text.npos || end == text.npos || end < begin) return out;
  for (std::size_t at = begin + 1; at < end;) {
    const std::size_t comma = std::min(text.find(',', at), end);
    out.push_back(text.substr(at, comma - at));
    at = comma + 1;
  }
  return out;
}

/// By what the help calls the value.
bool takes_files(const CLI::Option& option) {
  const std::string& value = option.get_option_text();
  constexpr std::array<std::string_view, 7> kFiles{"FILE", "DIR", "OUT", "PATH", "DUMP", "TRACE", "LIST|all"};
  return std::ranges::any_of(kFiles, [&](std::string_view word) { return value.find(word) != value.npos; });
}

/// What the command's arguments without a name can be, where that is a list of words.
std::vector<std::string> operand_choices(const CLI::App& app) {
  std::vector<std::string> out;
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_positional()) out = members_of(*option);
  }
  return out;
}

/// What stands in place of a command, beside the options of all of them, and is no option to the parser.
std::vector<Word> words_before() {
  std::vector<Word> out{{"-d", "as decompress", false, {}}, {"--decompress", "as decompress", false, {}},
                        {"-t", "as verify", false, {}},     {"--test", "as verify", false, {}},
                        {"-l", "as inspect", false, {}},    {"--list", "as inspect", false, {}}};
  for (int level = 1; level <= 9; ++level) {
    out.push_back({fmt::format("-{}", level), fmt::format("as compress -{}", level), false, {}});
  }
  return out;
}

/// CompletionArguments by all of their names: "-o", "--output".
std::vector<Word> options_of(const CLI::App& app) {
  std::vector<Word> out;
  for (const CLI::Option* option : app.get_options()) {
    std::vector<std::string> names;
    for (const std::string& name : option->get_snames()) names.push_back("-" + name);
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    for (std::string& name : names) {
      std::vector<std::string> choices = members_of(*option);
      if (choices.empty()) choices = choices_of(name);
      const bool pipeline = is_pipeline(name);
      out.push_back({std::move(name), first_line(option->get_description()), option->get_items_expected_max() > 0,
                     std::move(choices), takes_files(*option), pipeline});
    }
  }
  return out;
}

std::vector<const CLI::App*> commands_of(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

std::string names_of(const std::vector<Word>& words) {
  std::string out;
  for (const Word& word : words) out += (out.empty() ? "" : " ") + word.name;
  return out;
}

/// In single quotes of a shell.
std::string shell_quoted(std::string_view text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

/// A case of bash's that completes what follows an option; none where that may be any file.
std::string bash_value(const std::string& command, const Word& option) {
  if (!option.value || (option.files && option.choices.empty())) return {};
  std::string does;
  if (!option.choices.empty()) {
    does = fmt::format("{} '{}'{}", option.pipeline ? "_kvzip_pipeline" : "_kvzip_words",
                       fmt::join(option.choices, " "), option.files ? " && " : "; ");
  }
  return fmt::format("    {}:{}) {}return ;;\n", command, option.name, does);
}

/// What stages and coders have, each a case of bash's.
std::string bash_fields() {
  std::string out;
  for (const ComponentDoc& component : components()) {
    std::string names;
    for (const FieldDoc& field : component.fields) names += (names.empty() ? "" : " ") + field.name + "=";
    if (!names.empty()) out += fmt::format("    {}) _kvzip_words '{}' ;;\n", component.name, names);
  }
  return out;
}

std::string bash(const CLI::App& app) {
  std::string commands, cases, values;
  for (const CLI::App* command : commands_of(app)) {
    commands += command->get_name() + " ";
    const std::vector<Word> options = options_of(*command);
    const std::vector<std::string> operands = operand_choices(*command);
    cases += fmt::format("    {}) words='{}' operands='{}' ;;\n", command->get_name(), names_of(options),
                         fmt::join(operands, " "));
    for (const Word& option : options) values += bash_value(command->get_name(), option);
  }
  return fmt::format(R"(# bash completion of kvzip: source <(kvzip completion bash)
# What the current word, or what follows its last comma, becomes: one of these that is not before it.
_kvzip_words() {{
  local before='' left='' word
  [[ $cur != *,* ]] || before=${{cur%,*}},
  for word in $1; do
    [[ ,$before == *",$word,"* ]] || left+=" $word"
  done
  mapfile -t COMPREPLY < <(compgen -P "$before" -W "$left" -- "${{cur#"$before"}}")
  ((${{#COMPREPLY[@]}} > 0))
}}
# A stage or coder, or behind its colon what it has.
_kvzip_pipeline() {{
  local part=${{value##*,}}
  [[ $part == *:* ]] || {{ _kvzip_words "$1" && return; }}
  [[ $part == *:* && ${{part##*:}} != *=* ]] || return
  compopt -o nospace 2>/dev/null
  case ${{part%%:*}} in
{5}  esac
}}
_kvzip() {{
  local cur=${{COMP_WORDS[COMP_CWORD]}} at=$COMP_CWORD prev value='' command='' words='' operands='' word
  # Colons and equals signs are words of their own.
  while ((at > 1)) && [[ ${{COMP_WORDS[at]}} == [:=] || ${{COMP_WORDS[at - 1]}} == [:=] ]]; do
    value=${{COMP_WORDS[at]}}$value
    at=$((at - 1))
  done
  value=${{COMP_WORDS[at]}}$value prev=${{COMP_WORDS[at - 1]}}
  [[ $value != --*=* ]] || prev=${{value%%=*}} value=${{value#*=}}
  [[ $cur != [:=] ]] || cur=''
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    case $word in
      --*) continue ;;
      -*d*) command=decompress ;;
      -*t*) command=verify ;;
      -*l*) command=inspect ;;
      -*) command=compress && continue ;;
      *) command=${{command:-$word}} ;;
    esac
    break
  done
  case $command:$prev in
{1}  esac
  case $command in
    '') words='{0}help {3} {4}' ;;
    help) operands='{0}' ;;
{2}  esac
  if [[ -z $command || $cur == -* ]]; then
    _kvzip_words "$words"
  elif [[ -n $operands ]]; then
    _kvzip_words "$operands"
  else
    mapfile -t COMPREPLY < <(compgen -f -- "$cur")
  fi
}}
complete -o filenames -F _kvzip kvzip
)",
                     commands, values, cases, names_of(options_of(app)), names_of(words_before()), bash_fields());
}

/// An option as _arguments takes it: '--preset[how to code]:value:(a b)'.
std::string zsh_option(const Word& option) {
  std::string help;
  for (const char c : option.help) help += c == '[' || c == ']' || c == ':' ? std::string("\\") + c : std::string(1, c);
  std::string out = fmt::format("*{}[{}]", option.name, help);
  if (option.value && option.choices.empty()) out += option.files ? ":value:_files" : ":value: ";
  if (!option.choices.empty()) out += fmt::format(":value:({})", fmt::join(option.choices, " "));
  return shell_quoted(out);
}

std::string zsh(const CLI::App& app) {
  std::string commands, cases, names;
  for (const CLI::App* command : commands_of(app)) {
    names += " " + command->get_name();
    commands += fmt::format("    {}\n", shell_quoted(command->get_name() + ":" + command->get_description()));
    cases += fmt::format("    {})\n      _arguments", command->get_name());
    for (const Word& option : options_of(*command)) cases += " \\\n        " + zsh_option(option);
    cases += " \\\n        '*:file:_files' ;;\n";
  }
  return fmt::format(R"(#compdef kvzip
# zsh completion of kvzip: kvzip completion zsh >DIR/_kvzip, of a DIR in fpath
_kvzip() {{
  local -a commands
  commands=(
{0}    'help:show the page of a command'
  )
  if ((CURRENT == 2)); then
    if [[ $words[2] == -* ]]; then compadd -- {2}; else _describe command commands; fi
    return
  fi
  local command=$words[2]
  words=("${{words[@]:1}}")
  ((CURRENT--))
  case $command in
    help) compadd --{3} ;;
{1}  esac
}}
if [[ $funcstack[1] == _kvzip ]]; then _kvzip "$@"; else compdef _kvzip kvzip; fi
)",
                     commands, cases, names_of(options_of(app)) + " " + names_of(words_before()), names);
}

std::string fish(const CLI::App& app) {
  std::string out = "# fish completion of kvzip: kvzip completion fish >~/.config/fish/completions/kvzip.fish\n";
  out += "complete -c kvzip -n __fish_use_subcommand -f -a help -d 'show the page of a command'\n";
  for (const Word& word : words_before()) {
    const bool longer = word.name.starts_with("--");
    out += fmt::format("complete -c kvzip -n __fish_use_subcommand -{} {} -d {}\n", longer ? "l" : "s",
                       word.name.substr(longer ? 2 : 1), shell_quoted(word.help));
  }
  for (const CLI::App* command : commands_of(app)) {
    out += fmt::format("complete -c kvzip -n '__fish_seen_subcommand_from help' -f -a {}\n", command->get_name());
    out += fmt::format("complete -c kvzip -n __fish_use_subcommand -f -a {} -d {}\n", command->get_name(),
                       shell_quoted(command->get_description()));
    for (const Word& option : options_of(*command)) {
      const bool longer = option.name.starts_with("--");
      out += fmt::format("complete -c kvzip -n '__fish_seen_subcommand_from {}' -{} {} -d {}", command->get_name(),
                         longer ? "l" : "s", option.name.substr(longer ? 2 : 1), shell_quoted(option.help));
      if (option.value) out += option.files ? " -r" : " -x";
      if (!option.choices.empty()) out += fmt::format(" -a '{}'", fmt::join(option.choices, " "));
      out += "\n";
    }
  }
  return out;
}

}  // namespace

void add_completion(CLI::App& app, Action& action) {
  CLI::App* command =
      add_command(app, {"completion", "print a script that completes command lines", "kvzip completion bash|zsh|fish",
                        "  kvzip completion bash >kvzip.bash && source kvzip.bash\n"
                        "  kvzip completion fish >~/.config/fish/completions/kvzip.fish"});
  auto shell = std::make_shared<std::string>();
  command->add_option("SHELL", *shell, "whose language")->required()->check(one_of({"bash", "zsh", "fish"}));
  command->callback([shell, &app, &action] {
    action = [shell, &app] {
      print(*shell == "bash" ? bash(app) : *shell == "zsh" ? zsh(app) : fish(app));
      return static_cast<int>(kDone);
    };
  });
}

}  // namespace kvzip::tool
