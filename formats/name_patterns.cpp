// SPDX-License-Identifier: Apache-2.0
// Names are cut into words at '.', '/', '_' and the like; a vocabulary gives each word a class letter; words that only
// decorate ("self_attn", "cache") drop out; what is left is looked up in a table of a few short forms. So one row
// covers `layers.3.key`, `model.layers.3.self_attn.k_cache` and `layers/3/keys` alike. A false match would let a lossy
// pipeline at a tensor that is no cache: forms that could occur by chance are accepted only as whole names.
#include "formats/name_patterns.hpp"

#include <algorithm>
#include <array>
#include <string>

#include "codec/limits.hpp"
#include "codec/number.hpp"

namespace kvzip {
namespace {

// Class letters: R role word, L layer word, # number, P keys and values together, C cache word, M MLA latent,
// m bare "latent", E MLA rope part, r bare "rope", X of other tokens than the model's own (an encoder's), - decoration,
// ? anything else.
struct Word {
  std::string text;
  char cls = '?';
  char separator = 0;  // before the word; 0 at the start of the name
  Role role = Role::other;
  Family family = Family::plain;
  std::uint32_t number = 0;
};

struct Entry {
  std::string_view text;
  char cls;
  Role role = Role::other;
  Family family = Family::plain;
};
constexpr Entry kVocabulary[] = {
    {"key", 'R', Role::key},
    {"keys", 'R', Role::key},
    {"k", 'R', Role::key},
    {"value", 'R', Role::value},
    {"values", 'R', Role::value},
    {"v", 'R', Role::value},
    {"query", 'R', Role::query},
    {"queries", 'R', Role::query},
    {"q", 'R', Role::query},
    {"layer", 'L'},
    {"layers", 'L'},
    {"l", 'L'},
    {"block", 'L'},
    {"blocks", 'L'},
    {"blk", 'L'},
    {"kv", 'P'},
    {"kvs", 'P'},
    {"kvcache", 'P', Role::other, Family::lmcache},
    {"kvchunk", 'P', Role::other, Family::lmcache},
    {"cache", 'C'},
    {"caches", 'C'},
    {"cached", 'C'},
    {"past", 'C', Role::other, Family::hugging_face},
    {"present", 'C', Role::other, Family::hugging_face},
    {"cross", 'X'},
    {"ckv", 'M'},
    {"latent", 'm'},
    {"kpe", 'E'},
    {"rope", 'r'},
    {"self", '-'},
    {"attn", '-'},
    {"attention", '-'},
    {"decoder", '-'},
    {"model", '-'},
    {"transformer", '-'},
    {"state", '-'},
    {"states", '-'},
    {"normed", '-'},
    {"hook", '-', Role::other, Family::transformer_lens},
    {"rot", '-'},
    {"mla", '-'},
    {"and", '-'},
};

/// Two words that mean something else together.
struct Compound {
  std::string_view first, second;
  char cls;
  Family family = Family::plain;
};
constexpr Compound kCompounds[] = {
    {"transformer", "h", 'L'},
    {"prompt", "cache", 'C'},
    {"key", "values", 'P', Family::hugging_face},
    {"key", "value", 'P', Family::hugging_face},
    {"keys", "values", 'P', Family::hugging_face},
    {"kv", "cache", 'P', Family::vllm},
    {"kv", "caches", 'P', Family::vllm},
    {"attn", "attn", 'P', Family::vllm},  // vLLM's layer names: model.layers.N.self_attn.attn
    {"kv", "chunk", 'P', Family::lmcache},
    {"kv", "c", 'M'},
    {"c", "kv", 'M'},
    {"compressed", "kv", 'M'},
    {"kv", "latent", 'M'},
    {"latent", "kv", 'M'},
    {"k", "pe", 'E'},
    {"pe", "cache", 'E'},
    {"k", "rope", 'E'},
    {"key", "rope", 'E'},
};

struct Form {
  std::string_view core;  // class letters that the name ends with; the first '#' is the layer
  bool anywhere;          // may follow other words; otherwise it must be the whole name, or all after a group's '/'
  std::string_view example;
};
constexpr Form kForms[] = {
    {"L#PR", true, "layers.N.kv.key"},
    {"L#R", true, "layers.N.key"},
    {"RL#", true, "key_layer_N"},
    {"P#R", true, "past_key_values.N.key"},
    {"P##", true, "past_key_values.N.0"},
    {"L#P", true, "layers.N.kv"},
    {"PL#", true, "kv_layer_N"},
    {"P#", true, "kv_cache.N"},
    {"L#M", true, "layers.N.kv_c"},
    {"ML#", true, "kv_c_layer_N"},
    {"M#", true, "kv_c.N"},
    {"L#m", true, "layers.N.latent"},
    {"L#E", true, "layers.N.k_pe"},
    {"EL#", true, "k_pe_layer_N"},
    {"E#", true, "k_pe.N"},
    {"L#r", true, "layers.N.rope"},
    {"#PR", false, "N.kv.key"},
    {"#R", false, "N.key"},
    {"R#", false, "key_cache.N"},
    {"#P", false, "N.kv"},
    {"#M", false, "N.kv_c"},
    {"#E", false, "N.k_pe"},
    {"PR", false, "kv_cache.key"},
    {"R", false, "key_cache"},
    {"P", false, "kv_cache"},
    {"M", false, "kv_c"},
    {"E", false, "k_pe"},
};

constexpr std::string_view kSeparators = "./_-[] :";
constexpr std::string_view kDigits = "0123456789";

void classify(Word& word) {
  if (const auto number = parse_layer(word.text)) {
    word.cls = '#';
    word.number = *number;
    return;
  }
  const auto* entry = std::ranges::find(kVocabulary, std::string_view(word.text), &Entry::text);
  if (entry == std::end(kVocabulary)) return;
  word.cls = entry->cls;
  word.role = entry->role;
  word.family = entry->family;
}

std::string lowered(std::string_view text) {
  std::string out(text);
  std::ranges::transform(out, out.begin(),
                         [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return out;
}

/// Where a word such as keyCache goes on with a new one; its size where it does not, or is a known word as it is, as
/// kvCache.
std::size_t last_hump(std::string_view text) {
  if (std::ranges::find(kVocabulary, lowered(text), &Entry::text) != std::end(kVocabulary)) return text.size();
  const auto upper = [](char c) { return c >= 'A' && c <= 'Z'; };
  const auto lower = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  for (std::size_t i = text.size(); i-- > 1;) {
    if (upper(text[i]) && lower(text[i - 1])) return i;
  }
  return text.size();
}

/// "layer12" and "k3" are a word and a number; other words keep their digits.
void push_word(std::vector<Word>& reversed, std::string_view text, char separator) {
  Word word{.text = {}, .separator = separator};
  if (text.size() <= limits::kNameWord) word.text = lowered(text);
  classify(word);
  const std::size_t letters = word.text.find_last_not_of(kDigits) + 1;
  if (word.cls == '?' && letters > 0 && letters < word.text.size()) {
    Word stem{.text = word.text.substr(0, letters), .separator = separator};
    Word number{.text = word.text.substr(letters), .separator = '_'};
    classify(stem);
    classify(number);
    if (number.cls == '#' && (stem.cls == 'R' || stem.cls == 'L' || stem.cls == 'P')) {
      reversed.push_back(std::move(number));
      word = std::move(stem);
    }
  }
  reversed.push_back(std::move(word));
}

/// A word, or those of which keyCache and its like are made.
void push_words(std::vector<Word>& reversed, std::string_view text, char separator) {
  const std::size_t hump = text.size() <= limits::kNameWord ? last_hump(text) : text.size();
  if (hump == text.size()) return push_word(reversed, text, separator);
  push_word(reversed, text.substr(hump), '_');
  push_words(reversed, text.substr(0, hump), separator);
}

/// The last words of a name in order. A longer name begins with a word of class '?'.
std::vector<Word> split(std::string_view name) {
  std::vector<Word> words;
  while (!name.empty() && words.size() < limits::kNameWords) {
    const std::size_t at = name.find_last_of(kSeparators);
    const std::string_view text = at == name.npos ? name : name.substr(at + 1);
    const char separator = at == name.npos ? '\0' : name[at];
    name = at == name.npos ? std::string_view{} : name.substr(0, at);
    if (!text.empty()) push_words(words, text, separator);
  }
  if (!name.empty()) words.push_back({});
  std::ranges::reverse(words);
  // GPT-2's layers are h.N, where nothing else stands before: elsewhere h counts heads.
  if (name.empty() && words.size() > 1 && words[0].text == "h" && words[1].cls == '#') words[0].cls = 'L';
  return words;
}

void merge_compounds(std::vector<Word>& words) {
  std::vector<Word> merged;
  for (Word& word : words) {
    const auto* compound = std::ranges::find_if(kCompounds, [&](const Compound& c) {
      return !merged.empty() && merged.back().text == c.first && word.text == c.second;
    });
    if (compound == std::end(kCompounds)) {
      merged.push_back(std::move(word));
      continue;
    }
    merged.back().text.clear();
    merged.back().cls = compound->cls;
    merged.back().family = compound->family;
  }
  words = std::move(merged);
}

/// A cache word with nothing but numbers and decoration says "keys and values together": `cache`, `layers.3.cache`.
void promote_cache_word(std::vector<Word>& words) {
  const auto says_more = [](const Word& word) {
    return std::string_view("RPMmEr?").find(word.cls) != std::string::npos;
  };
  if (std::ranges::any_of(words, says_more) || std::ranges::count(words, '#', &Word::cls) > 1) return;
  const auto last = std::find_if(words.rbegin(), words.rend(), [](const Word& word) { return word.cls == 'C'; });
  if (last != words.rend()) last->cls = 'P';
}

/// Drops decoration, and the second of two words that say the same.
std::vector<Word> core_words(std::string_view name) {
  std::vector<Word> words = split(name);
  merge_compounds(words);
  promote_cache_word(words);
  std::vector<Word> core;
  bool group_before = false;
  Family family = Family::plain;
  for (Word& word : words) {
    group_before = group_before || word.separator == '/';
    if (word.cls == '-' || word.cls == 'C') {
      if (word.family == Family::transformer_lens) family = word.family;
      continue;
    }
    if (group_before) word.separator = '/';
    group_before = false;
    if (word.cls == 'R') word.family = family;
    const bool repeats =
        !core.empty() && ((word.cls == 'P' && core.back().cls == 'P') || (word.cls == 'E' && core.back().cls == 'M'));
    if (!repeats) core.push_back(std::move(word));
  }
  return core;
}

bool prefix_allowed(const Form& form, const std::vector<Word>& core, std::string_view classes) {
  const std::string_view prefix = classes.substr(0, classes.size() - form.core.size());
  if (prefix.empty()) return true;
  if (form.anywhere) return prefix.find_first_not_of("?#P") == prefix.npos;
  const bool after_group = core[prefix.size()].separator == '/';
  return after_group && prefix.front() == '?' && prefix.find_first_not_of("?#") == prefix.npos;
}

NameReading reading_of(const Form& form, const std::vector<Word>& core) {
  NameReading reading;
  reading.pattern = form.example;
  const std::size_t first = core.size() - form.core.size();
  const auto word_of = [&](char cls) -> const Word* {
    const std::size_t at = form.core.find(cls);
    return at == form.core.npos ? nullptr : &core[first + at];
  };
  if (const Word* number = word_of('#')) reading.layer = number->number;
  if (const Word* pair = word_of('P')) reading.family = pair->family;
  if (const Word* role = word_of('R')) {
    reading.kind = NameKind::single;
    reading.role = role->role;
    reading.family = role->family;
  } else if (form.core == "P##") {
    if (core.back().number > 1) return {};
    reading.kind = NameKind::single;
    reading.role = core.back().number == 0 ? Role::key : Role::value;
  } else if (word_of('P') != nullptr) {
    reading.kind = NameKind::pair;
    reading.role = Role::pair;
  } else {
    reading.kind = word_of('M') != nullptr || word_of('m') != nullptr ? NameKind::latent : NameKind::rope_part;
    reading.role = Role::key;
  }
  return reading;
}

/// OpenVINO names a state after the input and the output that it joins: past_key_values.N.keypresent.N.key.
std::string_view first_of_joined(std::string_view name) {
  constexpr std::string_view kOutput = "present.";
  const std::size_t at = name.find(kOutput);
  if (at == name.npos) return name;
  const std::string_view input = name.substr(0, at), output = name.substr(at + kOutput.size());
  const bool same = input.size() > output.size() && input.ends_with(output) &&
                    input[input.size() - output.size() - 1] == '.' && output.find('.') != output.npos;
  return same ? input : name;
}

}  // namespace

std::optional<std::uint32_t> parse_layer(std::string_view digits) {
  return parse_number<std::uint32_t>(digits, 0, limits::kLayers - 1);
}

NameReading read_name(std::string_view whole) {
  const std::string_view name = first_of_joined(whole);
  const std::vector<Word> core = core_words(name);
  std::string classes;
  for (const Word& word : core) classes += word.cls;
  for (const Form& form : kForms) {
    if (classes.ends_with(form.core) && prefix_allowed(form, core, classes)) return reading_of(form, core);
  }
  return {};
}

std::vector<std::uint32_t> numeric_path(std::string_view name) {
  std::vector<std::uint32_t> path;
  for (;;) {
    const std::size_t dot = name.find('.');
    const auto number = parse_layer(name.substr(0, dot));
    if (!number || path.size() == limits::kNameNumbers) return {};
    path.push_back(*number);
    if (dot == name.npos) break;
    name.remove_prefix(dot + 1);
  }
  return path.size() >= 2 ? path : std::vector<std::uint32_t>{};
}

}  // namespace kvzip
