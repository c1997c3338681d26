// SPDX-License-Identifier: Apache-2.0
// Parameters of stages and coders: parsing, printing, ranges, documentation; and the order of chains.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>

#include "codec/fields.hpp"
#include "codec/pipeline.hpp"
#include "kvzip/components.hpp"
#include "kvzip/error.hpp"
#include "kvzip/rules.hpp"

namespace kvzip {
namespace {

struct Sample : Configurable {
  std::uint64_t count = 3, all = 0;
  double share = 0.5, auto_real = 0;
  enum class Kind : std::uint8_t { one, two } kind = Kind::one;
  void fields(FieldVisitor& v) override {
    static constexpr std::string_view kNames[] = {"one", "two"};
    v.integer("count", count, 1, 10, "a count");
    v.integer("all", all, 0, 100, "with a name for zero", "all");
    v.real("share", share, 0, 1, "a share");
    v.real("auto_real", auto_real, 0, 1e12, "with a name for zero", "auto");
    v.choice("kind", kind, kNames, "a choice");
    v.since("1.1");
    v.text("of", of, "none|NAME", "a name");
    v.since("1.12");
    v.integer("late", late, 0, 9, "a later count");
  }
  std::string of = "none";
  std::uint64_t late = 0;
};

std::string printed(const std::vector<std::string_view>& items, bool all = false) {
  Sample sample, defaults;
  parse_fields(sample, "sample", items);
  return print_fields(sample, defaults, all);
}

std::string refusal(const std::vector<std::string_view>& items) {
  try {
    printed(items);
  } catch (const Error& e) {
    CHECK(e.code() == ErrorCode::invalid_argument);
    return e.what();
  }
  return {};
}

std::string refused_chain(std::string_view text) {
  try {
    canonical_pipeline(text);
  } catch (const Error& e) {
    CHECK(e.code() == ErrorCode::invalid_argument);
    return e.what();
  }
  return {};
}

}  // namespace

TEST_CASE("fields print what differs from the default, in declared order") {
  CHECK(printed({}).empty());
  CHECK(printed({"kind=two", "count=7"}) == ":count=7:kind=two");
  CHECK(printed({"count=3", "share=0.5", "all=all"}).empty());
  CHECK(printed({"all=0"}).empty());
  CHECK(printed({"auto_real=0.1"}) == ":auto_real=0.1");
  CHECK(printed({}, true) == ":count=3:all=all:share=0.5:auto_real=auto:kind=one");
}

TEST_CASE("fields of later versions are printed only where they differ, and say what version that takes") {
  const auto since = [](const std::vector<std::string_view>& items) {
    Sample sample, defaults;
    parse_fields(sample, "sample", items);
    return fields_since(sample, defaults, "1.0");
  };
  CHECK(printed({"of=none", "late=0"}).empty());
  CHECK(printed({"of=a.B-9_"}) == ":of=a.B-9_");
  CHECK(printed({"late=2"}, true) == ":count=3:all=all:share=0.5:auto_real=auto:kind=one:late=2");
  CHECK(since({"count=7"}) == "1.0");
  CHECK(since({"of=x"}) == "1.1");
  CHECK(since({"of=x", "late=2"}) == "1.12");
  CHECK(later_version("1.9", "1.10") == "1.10");
  CHECK(refusal({"of="}).size() > 0);
  CHECK(refusal({"of=a b"}).find("none|NAME") != std::string::npos);
  CHECK(refusal({"of=a/b"}).size() > 0);
  const std::string longest(64, 'x'), longer(65, 'x');
  CHECK(printed({"of=" + longest}) == ":of=" + longest);
  CHECK(refusal({"of=" + longer}).size() > 0);
}

TEST_CASE("fields refuse what they do not have or cannot be") {
  CHECK(refusal({"count=0"}).find("1 to 10") != std::string::npos);
  CHECK(refusal({"count=11"}).find("count is '11'") != std::string::npos);
  CHECK(refusal({"count=-1"}).size() > 0);
  CHECK(refusal({"count=1x"}).size() > 0);
  CHECK(refusal({"count="}).size() > 0);
  CHECK(refusal({"count= 1"}).size() > 0);
  CHECK(refusal({"count=99999999999999999999999"}).size() > 0);
  CHECK(refusal({"all=none"}).find("or all") != std::string::npos);
  CHECK(refusal({"share=nan"}).size() > 0);
  CHECK(refusal({"share=inf"}).size() > 0);
  CHECK(refusal({"share=1.0000001"}).size() > 0);
  CHECK(refusal({"kind=three"}).find("one, two") != std::string::npos);
  CHECK(refusal({"size=1"}).find("count, all, share") != std::string::npos);
  CHECK(refusal({"count=1", "count=1"}).find("twice") != std::string::npos);
  CHECK(refusal({"count"}).find("name=value") != std::string::npos);
  CHECK(refusal({"=1"}).find("name=value") != std::string::npos);
  CHECK(refusal({""}).find("name=value") != std::string::npos);
}

TEST_CASE("every registered component describes itself and takes the ends of its ranges") {
  const auto check = [](const std::vector<ComponentDoc>& docs, std::string_view before, std::string_view after) {
    for (const ComponentDoc& doc : docs) {
      CAPTURE(doc.name);
      CHECK_FALSE(doc.help.empty());
      CHECK_FALSE(doc.since.empty());
      for (const FieldDoc& field : doc.fields) {
        CAPTURE(field.name);
        CHECK_FALSE(field.help.empty());
        CHECK_FALSE(field.range.empty());
        // Printing a pipeline with this field at each end, and reading it again, changes nothing. Where a stage has
        // its own reasons against a value, it says so.
        std::vector<std::string> values{field.fallback};
        std::string_view rest = field.range;
        if (field.type != "choice" && field.type != "text") {
          const auto dots = rest.find("..");
          REQUIRE(dots != std::string_view::npos);
          values.emplace_back(rest.substr(0, dots));
          rest.remove_prefix(dots + 2);
        }
        for (;;) {
          const auto bar = rest.find('|');
          values.emplace_back(rest.substr(0, bar));
          if (bar == std::string_view::npos) break;
          rest.remove_prefix(bar + 1);
        }
        for (const std::string& value : values) {
          CAPTURE(value);
          const std::string text = fmt::format("{}{}:{}={}{}", before, doc.name, field.name, value, after);
          try {
            const std::string canonical = canonical_pipeline(text);
            CHECK(canonical_pipeline(canonical) == canonical);
            const std::string all = Pipeline::parse(text).text(true);
            CHECK(Pipeline::parse(all).text(true) == all);
            CHECK(canonical_pipeline(all) == canonical);
          } catch (const Error& e) {
            CHECK(std::string(e.what()).starts_with(doc.name + ": "));
            CHECK(std::string(e.what()).find("it can be") == std::string::npos);
          }
        }
      }
    }
  };
  std::vector<ComponentDoc> ends, middles, alone;
  for (const ComponentDoc& doc : describe_stages()) {
    const std::string why = refused_chain(doc.name + ",pack");
    (why.empty() ? ends : why.find("drop the values") != std::string::npos ? middles : alone).push_back(doc);
  }
  CHECK(alone.empty());
  check(ends, "", ",pack");
  check(middles, "", ",quant,pack");
  check(describe_coders(), "quant,", "");
}

TEST_CASE("senseless chains are refused with a reason") {
  CHECK(refused_chain("").find("neither a stage") != std::string::npos);
  CHECK(refused_chain("pack").find("needs a stage") != std::string::npos);
  CHECK(refused_chain("quant").find("no coder") != std::string::npos);
  CHECK(refused_chain("quant,pack,ac").find("must come last") != std::string::npos);
  CHECK(refused_chain("quant,,pack").find("neither a stage") != std::string::npos);
  CHECK(refused_chain("quant pack").find("neither a stage") != std::string::npos);
  CHECK(refused_chain("window,pack").find("drop the values") != std::string::npos);
  CHECK(refused_chain("norm,pack").find("drop the values") != std::string::npos);
  CHECK(refused_chain("norm,window,quant,pack").find("first stage") != std::string::npos);
  CHECK(refused_chain("quant,norm,pack").find("cannot follow") != std::string::npos);
  CHECK(refused_chain("quant,outliers,pack").find("cannot follow") != std::string::npos);
  CHECK(refused_chain("norm,norm,quant,pack").find("twice") != std::string::npos);
  CHECK(refused_chain("planes,quant,pack").find("alone") != std::string::npos);
  CHECK(refused_chain("quant:bits=3:levels=9,pack").find("not both") != std::string::npos);
  CHECK(refused_chain("quant:mode=sym:levels=8,pack").find("odd") != std::string::npos);
  CHECK(refused_chain("quant:levels=1,pack").find("too few") != std::string::npos);
  CHECK(refused_chain("lowrank:bits=1,pack").find("2 bits") != std::string::npos);
  std::string many;
  for (int i = 0; i < 16; ++i) many += "quant,";
  CHECK(refused_chain(many + "pack").find("15 are allowed") != std::string::npos);
  CHECK(refused_chain(std::string(5000, ',')).find("longer than") != std::string::npos);
}

}  // namespace kvzip
