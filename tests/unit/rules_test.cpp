// SPDX-License-Identifier: Apache-2.0
// Preset text: what its lines mean, and what is refused with the line's number.
#include <fmt/format.h>

#include <doctest/doctest.h>

#include "kvzip/error.hpp"
#include "kvzip/rules.hpp"

namespace kvzip {
namespace {

std::string refusal(std::string_view text) {
  try {
    RuleSet::parse(text, "mine.txt");
  } catch (const Error& e) {
    CHECK(e.code() == ErrorCode::invalid_argument);
    return e.what();
  }
  return {};
}

Rule rule(std::string_view left) {
  return RuleSet::parse(fmt::format("{} = planes,pack", left), "x").rules.at(0);
}

}  // namespace

TEST_CASE("comments, blank lines, spaces and line ends do not matter") {
  const RuleSet set = RuleSet::parse(
      "# first\r\n\r\n  key[ 0 - 3 ]=quant:bits=2,pack   # why\r\n\tchunk=all\nvalue = planes,ac", "mine");
  CHECK(set.name == "mine");
  REQUIRE(set.rules.size() == 2);
  CHECK(set.rules[0].pipeline == "quant:bits=2,pack");
  CHECK(set.rules[0].to == 3);
  CHECK(set.rules[1].any_layer);
  CHECK(set.chunk_tokens == 0);
  CHECK(RuleSet::parse("chunk = 64\nkey = planes,pack", "x").chunk_tokens == 64);
  CHECK_FALSE(RuleSet::parse("key = planes,pack", "x").chunk_tokens.has_value());
}

TEST_CASE("layers: all, absolute, percent, and by the size of the model") {
  CHECK(rule("key").matches(Role::key, 7, 8));
  CHECK(rule("key[*]").matches(Role::key, 7, 8));
  CHECK_FALSE(rule("key[*]").matches(Role::value, 7, 8));
  CHECK(rule("key[3]").matches(Role::key, 3, 8));
  CHECK_FALSE(rule("key[3]").matches(Role::key, 2, 8));
  CHECK(rule("key[2-3]").matches(Role::key, 3, 8));
  CHECK_FALSE(rule("key[2-3]").matches(Role::key, 4, 8));
  // Percent: from included, to not, so that adjoining ranges share no layer.
  CHECK(rule("key[0%-50%]").matches(Role::key, 3, 8));
  CHECK_FALSE(rule("key[0%-50%]").matches(Role::key, 4, 8));
  CHECK(rule("key[50%-100%]").matches(Role::key, 4, 8));
  CHECK(rule("key[87.5%-100%]").matches(Role::key, 7, 8));
  CHECK_FALSE(rule("key[0%-100%]").matches(Role::key, 0, 0));
  CHECK(rule("key[* of 4-8]").matches(Role::key, 0, 8));
  CHECK_FALSE(rule("key[* of 4-8]").matches(Role::key, 0, 9));
  CHECK(rule("key[1-2 of 8]").matches(Role::key, 1, 8));
  CHECK_FALSE(rule("key[1-2 of 8]").matches(Role::key, 1, 7));
}

TEST_CASE("roles and scopes") {
  CHECK(rule("kv[*]").scope == Rule::Scope::pair);
  CHECK(rule("kv").role == Role::pair);
  CHECK(rule("key/head[*]").scope == Rule::Scope::head);
  CHECK(rule("query").role == Role::query);
  CHECK(rule("key/layers=4[*]").joint_layers == 4);
  CHECK(rule("key/layers=4").scope == Rule::Scope::tensor);
  CHECK(rule("kv/layers=1024[0-31]").joint_layers == 1024);
  CHECK(rule("kv/layers=2").scope == Rule::Scope::pair);
  CHECK(rule("key").joint_layers == 1);
  CHECK(rule("other").role == Role::other);
}

TEST_CASE("what makes no sense is refused with its line") {
  CHECK(refusal("key = planes,pack\nvalues = planes,pack").starts_with("mine.txt, line 2: "));
  CHECK(refusal("").find("no rule") != std::string::npos);
  CHECK(refusal("# nothing\nchunk = 3").find("no rule") != std::string::npos);
  CHECK(refusal("key planes,pack").find("is not ROLE[LAYERS]") != std::string::npos);
  CHECK(refusal("key[0-1 = planes,pack").size() > 0);
  CHECK(refusal("key[0-1]x = planes,pack").find("closing") != std::string::npos);
  CHECK(refusal("key[5-1] = planes,pack").find("backwards") != std::string::npos);
  for (const char* layers : {"", "a", "1-", "-1", "1-2-3", "nan", "1%-2", "%", "* of", "* of x", "1 of -1"}) {
    CAPTURE(layers);
    CHECK(refusal(fmt::format("key[{}] = planes,pack", layers)).size() > 0);
  }
  CHECK(refusal("key = ").size() > 0);
  CHECK(refusal("key = planes").find("coder") != std::string::npos);
  CHECK(refusal("chunk = many\nkey = planes,pack").size() > 0);
  CHECK(refusal("pair = planes,pack").find("not a role") != std::string::npos);
  CHECK(refusal("chunk = -1\nkey = planes,pack").size() > 0);
  CHECK(refusal("kv/head = planes,pack").find("one head") != std::string::npos);
  for (const char* scope : {"", "layer=2", "layers", "layers=", "layers=0", "layers=-1", "layers=x", "layers=1025",
                            "layers=2/head", "head/layers=2", "tail"}) {
    CAPTURE(scope);
    CHECK(refusal(fmt::format("key/{}[*] = planes,pack", scope)).starts_with("mine.txt, line 1: "));
  }
  CHECK(refusal("other/layers=2 = planes,pack").size() > 0);
  CHECK(refusal("key/layers=2 planes,pack").size() > 0);
}

TEST_CASE("rules print as what was read") {
  constexpr std::string_view kText =
      "chunk = 64\nkey/layers=4[0-31] = quant:bits=2,pack\nkv/layers=2[0%-50% of 8-9] = planes,pack\n"
      "value/head[*] = planes,ac\nkv[3-3] = planes,zstd\n";
  const std::string text = RuleSet::parse(kText, "x").text();
  CHECK(text == kText);
  CHECK(RuleSet::parse(text, "x").text() == text);
}

TEST_CASE("an override comes first and ends rules for pairs") {
  RuleSet set = RuleSet::parse("kv = planes,pack\nkey = planes,zstd\nvalue = planes,zstd", "x");
  set.override_role(Role::value, "quant:bits=4,ac");
  REQUIRE(set.rules.size() == 3);
  CHECK(set.rules[0].role == Role::value);
  CHECK(set.rules[0].pipeline == "quant:bits=4,ac");
  CHECK(set.rules[0].any_layer);
  CHECK(set.rules[1].role == Role::key);
  CHECK_THROWS_AS(set.override_role(Role::key, "quant"), Error);
}

}  // namespace kvzip
