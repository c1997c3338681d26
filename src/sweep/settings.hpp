// SPDX-License-Identifier: Apache-2.0
// The settings of a sweep or a bench: presets, pipelines, and grids over their fields.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "kvzip/rules.hpp"

namespace kvzip::tool {

struct Setting {
  std::string name, family, kind;  // kind: "preset", "file", "pipeline" or "grid"
  RuleSet rules;
  std::string left_out;  // of a baseline: what its original does not count; the preset's comment "Left out: "
  std::string preset;    // what --preset takes to give these rules, or nothing
};

/// Names with commas between: presets and preset files; "all" is every built-in preset.
std::vector<Setting> preset_settings(const std::string& list, std::string_view option);
/// One pipeline for keys and values.
Setting pipeline_setting(const std::string& text, std::string_view option);
/// A pipelines file: a line `PIPELINE` or `NAME: PIPELINE` for keys and values alike, or a section `[NAME]` followed by
/// the rules of a preset file.
std::vector<Setting> file_settings(const std::string& path);
/// Every setting with every combination of values: "quant.bits=2,3,4;lowrank.rank=0,4". A field is set in all stages of
/// that name; STAGE.FIELD=0 takes the stage out where the field cannot be 0. Settings that a combination leaves as
/// they are keep their names and stay once. UsageError when nothing has the stage, or it has no such field or value.
std::vector<Setting> grid_settings(const std::vector<Setting>& settings, const std::string& grid);
/// Makes names differ: of equal names the later ones get "#2", "#3", ...
void make_names_differ(std::vector<Setting>& settings);
/// What a curve of a plot joins: the name without a number at its end ("kivi-2" -> "kivi", "int8" -> "int").
std::string family_of(std::string_view name);

}  // namespace kvzip::tool
