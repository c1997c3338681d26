// SPDX-License-Identifier: Apache-2.0
// The settings of a sweep: lists of presets, files of pipelines, grids.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "kvzip/error.hpp"
#include "src/request/request.hpp"
#include "src/sweep/settings.hpp"
#include "tests/unit/scratch_directory.hpp"

using namespace kvzip;
using namespace kvzip::test;
using namespace kvzip::tool;

namespace {

template <typename F>
std::string usage(F&& f) {
  try {
    f();
  } catch (const UsageError& error) {
    return error.what();
  }
  return {};
}
bool holds(std::string_view text, std::string_view part) {
  return text.find(part) != text.npos;
}

std::vector<std::string> names(const std::vector<Setting>& settings) {
  std::vector<std::string> out;
  for (const Setting& s : settings) out.push_back(s.name);
  return out;
}
using Names = std::vector<std::string>;

/// The pipeline of the first rule for keys.
std::string key_of(const Setting& setting) {
  for (const Rule& rule : setting.rules.rules) {
    if (rule.matches(Role::key, 0, 8)) return rule.pipeline;
  }
  return {};
}

std::vector<Setting> grid(const std::string& pipeline, const std::string& text) {
  return grid_settings({pipeline_setting(pipeline, "--pipeline")}, text);
}
std::string grid_refusal(const std::string& text) {
  return usage([&] { grid_settings(preset_settings("gear-2", "--presets"), text); });
}

}  // namespace

TEST_CASE("settings: lists of presets") {
  const auto all = preset_settings("all", "--presets");
  REQUIRE(all.size() == builtin_presets().size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    CHECK(all[i].name == builtin_presets()[i].name);
    CHECK(all[i].preset == all[i].name);
    CHECK(all[i].kind == "preset");
    CHECK(all[i].rules.text() == RuleSet::builtin(all[i].name).text());
    // Every baseline says what its own accounting leaves out.
    CHECK_FALSE(all[i].left_out.empty());
  }
  CHECK(names(preset_settings("kivi-2, int8", "--presets")) == Names{"kivi-2", "int8"});
  CHECK(preset_settings("kivi-2", "--presets")[0].family == "kivi");
  CHECK(holds(usage([] { preset_settings("kivi-2,", "--presets"); }), "empty name"));
  CHECK(holds(usage([] { preset_settings("kivi-3", "--presets"); }), "there is no preset 'kivi-3'"));

  const ScratchDirectory scratch;
  const std::string path = scratch.file("mine-3.txt", "chunk = 64\nkey[*] = cast,pack\nvalue[*] = cast,zstd\n");
  const auto mine = preset_settings("int8," + path, "--presets");
  REQUIRE(mine.size() == 2);
  CHECK(mine[1].name == "mine-3.txt");
  CHECK(mine[1].kind == "file");
  CHECK(mine[1].preset == path);
  CHECK(mine[1].rules.chunk_tokens == 64);
  CHECK_THROWS_AS(preset_settings(scratch.file("none.txt"), "--presets"), Error);
}

TEST_CASE("settings: every preset's rules survive as text") {
  for (const PresetText& preset : builtin_presets()) {
    CAPTURE(preset.name);
    const RuleSet rules = RuleSet::builtin(preset.name), again = RuleSet::parse(rules.text(), preset.name);
    CHECK(again.text() == rules.text());
    CHECK(again.chunk_tokens == rules.chunk_tokens);
    REQUIRE(again.rules.size() == rules.rules.size());
    for (std::size_t i = 0; i < rules.rules.size(); ++i) {
      const Rule &a = rules.rules[i], &b = again.rules[i];
      CHECK(a.pipeline == b.pipeline);
      CHECK(a.scope == b.scope);
      // The same layers of the same models.
      for (const Role role : {Role::key, Role::value, Role::pair, Role::query, Role::other}) {
        for (const std::uint32_t layers : {1u, 2u, 7u, 28u, 32u, 80u}) {
          for (std::uint32_t l = 0; l < layers; ++l) CHECK(a.matches(role, l, layers) == b.matches(role, l, layers));
        }
      }
    }
  }
}

TEST_CASE("settings: a file of pipelines") {
  const ScratchDirectory scratch;
  const auto settings = file_settings(scratch.file("p.txt",
                                                   "# a comment\n\nquant:bits=4,pack   # behind a pipeline\r\n"
                                                   "half: cast:to=f16,pack\n[two rules]\n# Left out: the basis\n"
                                                   "chunk = 512\nkey[0-3] = quant:bits=8,pack\n"
                                                   "key[*] = quant:bits=4,pack\nvalue[*] = quant:bits=2,pack\n"
                                                   "[other-7]\nkey = cast,pack\nvalue = cast,pack\n"));
  REQUIRE(names(settings) == Names{"quant:bits=4,pack", "half", "two rules", "other-7"});
  CHECK(settings[0].kind == "pipeline");
  CHECK(settings[0].family == "quant,pack");
  CHECK(key_of(settings[0]) == canonical_pipeline("quant:bits=4,pack"));
  CHECK(settings[1].family == "half");
  CHECK(key_of(settings[1]) == canonical_pipeline("cast:to=f16,pack"));
  CHECK(settings[2].rules.rules.size() == 3);
  CHECK(settings[2].rules.chunk_tokens == 512);
  CHECK(settings[2].left_out == "the basis");
  CHECK(settings[2].kind == "file");
  CHECK(settings[2].preset.empty());
  CHECK(settings[3].family == "other");
  CHECK(settings[3].left_out.empty());
}

TEST_CASE("settings: what a file of pipelines may not hold is told by its line") {
  const ScratchDirectory scratch;
  const auto refusal = [&](std::string_view text) {
    return usage([&] { file_settings(scratch.file("p.txt", text)); });
  };
  CHECK(holds(refusal("cast,pack\n\nnope,pack\n"), "p.txt, line 3: "));
  CHECK(holds(refusal("cast,pack\nname: quant:bits=99,pack\n"), "p.txt, line 2: "));
  CHECK(holds(refusal("[]\nkey = cast,pack\n"), "p.txt, line 1: a section without a name"));
  CHECK(holds(refusal(" : cast,pack\n"), "line 1"));
  // Rules of a section, too, by the line of the file.
  CHECK(holds(refusal("cast,pack\n[one]\nkey = cast,pack\nvalue = nope,pack\n"), "p.txt, line 4: "));
  CHECK(holds(refusal("[one]\n[two]\nkey = cast,pack\n"), "it holds no rule"));
  CHECK(holds(refusal("# nothing\n"), "it holds no pipeline"));
  CHECK_THROWS_AS(file_settings(scratch.file("none")), Error);
}

TEST_CASE("settings: a grid takes every combination") {
  const auto made = grid("quant:bits=2,lowrank:rank=2,pack", "quant.bits=3,4;lowrank.rank=1,0");
  // Names of presets stay free of commas, for plan --settings.
  const auto preset = grid_settings(preset_settings("gear-2", "--presets"), "quant.bits=3;lowrank.rank=8");
  CHECK(names(preset) == Names{"gear-2 quant.bits=3 lowrank.rank=8"});
  // 0 is no rank: the stage goes.
  std::set<std::string> found;
  for (const Setting& s : made) {
    found.insert(key_of(s));
    CHECK(s.kind == "grid");
    CHECK(s.rules.name == s.name);
    CHECK(s.family == "quant:bits=2,lowrank:rank=2,pack");
  }
  CHECK(found == std::set<std::string>{
                     canonical_pipeline("quant:bits=3,lowrank:rank=1,pack"), canonical_pipeline("quant:bits=3,pack"),
                     canonical_pipeline("quant:bits=4,lowrank:rank=1,pack"), canonical_pipeline("quant:bits=4,pack")});
  CHECK(made[1].name == "quant:bits=2,lowrank:rank=2,pack quant.bits=3 lowrank.rank=0");
}

TEST_CASE("settings: what a grid leaves as it is stays once, under its name") {
  const auto made = grid_settings(preset_settings("kivi-2,kivi-4,fp8", "--presets"), "quant.bits=2,4");
  // kivi-2 at 4 bits is kivi-4; nothing in fp8 has the stage.
  CHECK(names(made) == Names{"kivi-2", "kivi-2 quant.bits=4", "fp8"});
  CHECK(made[0].preset == "kivi-2");
  CHECK(made[0].kind == "preset");
  CHECK(made[1].preset.empty());
  CHECK(made[1].rules.text() == RuleSet::builtin("kivi-4").text());
  CHECK(made[2].kind == "preset");
}

TEST_CASE("settings: bits and levels take each other's place") {
  CHECK(key_of(grid("quant:bits=2,pack", "quant.levels=31")[0]) == canonical_pipeline("quant:levels=31,pack"));
  CHECK(key_of(grid("quant:levels=31,pack", "quant.bits=5")[0]) == canonical_pipeline("quant:bits=5,pack"));
  // Every stage of the name, and the coder.
  CHECK(key_of(grid("cast,zstd", "zstd.level=9")[0]) == canonical_pipeline("cast,zstd:level=9"));
}

TEST_CASE("settings: grids that mean nothing") {
  for (const char* text : {"", ";", "quant", "quant.bits", "quant.bits=", ".bits=2", "quant.=2", "bits=2"}) {
    CAPTURE(text);
    CHECK(holds(grid_refusal(text), "expected STAGE.FIELD=VALUE"));
  }
  CHECK(holds(grid_refusal("nope.bits=2"), "there is no stage or coder 'nope'"));
  CHECK(holds(grid_refusal("klt.bits=2"), "no pipeline has a stage or coder 'klt'"));
  // A field that there is not must not take the stage out, as 0 does.
  CHECK(holds(grid_refusal("lowrank.rnk=0"), "lowrank has no field 'rnk'"));
  CHECK(holds(grid_refusal("quant.bits=99"), "--grid quant.bits=99: "));
  CHECK(holds(grid_refusal("quant.bits=2,many"), "--grid quant.bits=many: "));
  CHECK(holds(grid_refusal("quant.bits=2,"), "--grid quant.bits=: "));
  // A second axis would undo what the first one's name says.
  CHECK(holds(grid_refusal("quant.bits=2,3;lowrank.rank=1;quant.bits=4"), "--grid quant.bits: given twice"));
  CHECK(holds(grid_refusal("quant.levels=3;quant.bits=4"), "quant.bits and quant.levels"));
  std::string many = "lowrank.rank=1";
  for (int rank = 2; rank <= 101; ++rank) many += fmt::format(",{}", rank);
  std::string levels = "quant.levels=3";
  for (int level = 4; level <= 103; ++level) levels += fmt::format(",{}", level);
  CHECK(holds(grid_refusal(many + ";" + levels), "more than 10000 settings"));
}

TEST_CASE("settings: families and equal names") {
  CHECK(family_of("kivi-2") == "kivi");
  CHECK(family_of("int8") == "int");
  CHECK(family_of("gear-l-2") == "gear-l");
  CHECK(family_of("mine-2.5") == "mine");
  CHECK(family_of("lossless") == "lossless");
  CHECK(family_of("42") == "42");
  CHECK(family_of("").empty());
  // Pipelines of the same stages are one family.
  CHECK(pipeline_setting("quant:bits=2,pack", "x").family ==
        pipeline_setting("quant:bits=7:group=32,pack", "x").family);
  CHECK(pipeline_setting("quant:bits=2,pack", "x").family != pipeline_setting("quant:bits=2,rans", "x").family);

  auto settings = preset_settings("int8,int4,int8,int8", "--presets");
  make_names_differ(settings);
  CHECK(names(settings) == Names{"int8", "int4", "int8 #2", "int8 #3"});
}
