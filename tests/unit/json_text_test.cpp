// SPDX-License-Identifier: Apache-2.0
// JSON without a tree is the same JSON: the tree of another library says what is one, and what it holds.
#include "formats/json_text.hpp"

#include <doctest/doctest.h>

#include <random>

#include "kvzip/error.hpp"

namespace kvzip::test {

struct Leaf {
  std::string text;
  std::optional<double> real;  // null for none
  std::vector<std::uint64_t> whole;
  std::optional<std::pair<std::string, std::string>> pair;  // absent for none
};
void fields(auto& visit, Is<Leaf> auto& leaf) {
  visit("text", leaf.text);
  visit("real", leaf.real);
  visit("whole", leaf.whole);
  visit.optional("pair", leaf.pair);
}
struct Root {
  std::vector<Leaf> leaves;
};
void fields(auto& visit, Is<Root> auto& root) {
  visit("leaves", root.leaves);
}

namespace {

using namespace std::string_view_literals;

bool is_json(std::string_view text) {
  try {
    JsonText::parse(text, "text");
    return true;
  } catch (const Error& e) {
    CHECK(e.code() == ErrorCode::corrupt);
    return false;
  }
}

Root read(std::string_view text) {
  Root root;
  const JsonText json = JsonText::parse(text, "text");
  JsonReader(json, "text", JsonNumbers::any).read(root);
  return root;
}
std::string said(std::string_view text) {
  try {
    read(text);
  } catch (const Error& e) {
    return e.what();
  }
  return {};
}

constexpr const char* kText =
    R"( {"x":[{},[],{"a":[1,"]}",{"b":null}]},true,false], "leaves" : [ {"text":"a\u00e9\ud83d\ude00\n\"b","real":-1.5e-3,)"
    R"("whole":[0,18446744073709551615],"pair":["p","q"]},{"whole":[],"real":null,"text":"é","text":"last"} ],"y":""} )";

}  // namespace

TEST_CASE("JSON text: members by name, the last of equal ones; lists; texts with escapes") {
  const Root root = read(kText);
  REQUIRE(root.leaves.size() == 2);
  CHECK(root.leaves[0].text == "aé😀\n\"b");
  CHECK(root.leaves[0].real == -1.5e-3);
  CHECK(root.leaves[0].whole == std::vector<std::uint64_t>{0, ~std::uint64_t{0}});
  CHECK(root.leaves[0].pair == std::pair<std::string, std::string>("p", "q"));
  CHECK(root.leaves[1].text == "last");
  CHECK_FALSE(root.leaves[1].real);
  CHECK_FALSE(root.leaves[1].pair);
  // A name may be written with escapes.
  CHECK(read(R"({"le\u0061ves":[]})").leaves.empty());
}

TEST_CASE("JSON text: errors name the member") {
  CHECK(said(R"({"leaves":7})") == "text: leaves is not a list");
  CHECK(said(R"({"leaves":[{"text":"","real":1,"whole":[1,-1]}]})") ==
        "text: leaves[0].whole[1] is not a whole number of its range");
  CHECK(said(R"({"leaves":[{"text":"","real":1,"whole":[18446744073709551616]}]})") ==
        "text: leaves[0].whole[0] is not a whole number of its range");
  CHECK(said(R"({"leaves":[{"text":"","real":1,"whole":[],"pair":["a","b","c"]}]})") ==
        "text: leaves[0].pair is not a pair");
  CHECK(said(R"({})") == "text: leaves is missing");
  CHECK(said("[]") == "text: this is not an object");
}

TEST_CASE("JSON text: what it reads is what the tree has") {
  for (const std::string_view text : {""sv, "\xef\xbb\xbf{}"sv, "{}\0"sv, "{\"a\":1e999}"sv}) {
    CAPTURE(text);
    CHECK_FALSE(is_json(text));
  }
  std::minstd_rand random(1);
  const std::string pieces = "{}[]\",:\\u0+-.1a \xc3\xa9\x01";
  std::size_t taken = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string text = kText;
    for (auto change = random() % 3; change > 0; --change) {
      const std::size_t at = random() % text.size();
      const char piece = pieces[random() % pieces.size()];
      if (random() % 2 == 0) {
        text[at] = piece;
      } else if (random() % 2 == 0) {
        text.insert(at, 1, piece);
      } else {
        text.erase(at, 1);
      }
    }
    CAPTURE(text);
    const nlohmann::json tree = nlohmann::json::parse(text, nullptr, false);
    REQUIRE(is_json(text) == !tree.is_discarded());
    if (tree.is_discarded() || !tree.is_object()) continue;
    Root by_tree, by_text;
    std::string tree_said, text_said;
    try {
      JsonReader(tree, "text", JsonNumbers::any).read(by_tree);
    } catch (const Error& e) {
      tree_said = e.what();
    }
    try {
      by_text = read(text);
    } catch (const Error& e) {
      text_said = e.what();
    }
    REQUIRE(text_said == tree_said);
    if (tree_said.empty()) REQUIRE(json_text_of(by_text) == json_of(by_tree).dump());
    taken += tree_said.empty();
  }
  CHECK(taken > 5000);
}

TEST_CASE("JSON text: what is written is the text of the tree") {
  Root root;
  CHECK(json_text_of(root) == json_of(root).dump());
  root.leaves = {{"a\"\\\n\x1f é", 0.1, {1, ~std::uint64_t{0}}, {}},
                 {"", std::nullopt, {}, {}},
                 {"", 1e300, {}, {}},
                 {"", 500000, {}, {}},
                 {"", std::numeric_limits<double>::infinity(), {}, {}}};
  CHECK(json_text_of(root) == json_of(root).dump());
  root.leaves[0].text = "\xff";
  CHECK_THROWS_AS(json_text_of(root), nlohmann::json::exception);
}

}  // namespace kvzip::test
