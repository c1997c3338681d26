// SPDX-License-Identifier: Apache-2.0
#include "src/sweep/settings.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <set>

#include "codec/limits.hpp"
#include "codec/nearest.hpp"
#include "codec/split.hpp"
#include "kvzip/components.hpp"
#include "kvzip/error.hpp"
#include "src/request/request.hpp"

namespace kvzip::tool {
namespace {

std::vector<std::string> split_text(std::string_view text, char separator) {
  std::vector<std::string> parts;
  for (const std::string_view part : split(text, separator)) parts.emplace_back(trimmed(part));
  return parts;
}

std::string joined(const std::vector<std::string>& parts, char separator) {
  std::string out;
  for (const std::string& part : parts) {
    if (!out.empty()) out += separator;
    out += part;
  }
  return out;
}

/// The text behind "# Left out: " in a preset file.
std::string left_out_of(std::string_view text) {
  constexpr std::string_view kMark = "# Left out: ";
  const auto at = text.find(kMark);
  if (at == std::string_view::npos) return {};
  text.remove_prefix(at + kMark.size());
  return std::string(trimmed(text.substr(0, text.find('\n'))));
}

Setting preset_setting(const std::string& name, std::string_view option) {
  Setting setting{name, family_of(name), "preset", load_rules(name, "", "", option), {}, name};
  const auto known = builtin_presets();
  const auto row = std::find_if(known.begin(), known.end(), [&](const PresetText& p) { return p.name == name; });
  if (row != known.end() && setting.rules.name == name) {
    setting.left_out = left_out_of(row->text);
  } else {
    setting.name = setting.rules.name;
    setting.family = family_of(setting.name);
    setting.kind = "file";
  }
  return setting;
}

struct GridAxis {
  std::string stage, field;
  std::vector<std::string> values;
};

/// Which of what has names may be meant.
template <typename Named>
std::string meant(std::string_view typed, const std::vector<Named>& known) {
  std::vector<std::string_view> names;
  for (const Named& one : known) names.emplace_back(one.name);
  return did_you_mean(typed, names);
}

/// A value of 0 may take a stage out, so that a slip in the field's name must not.
void check_field(const GridAxis& axis) {
  std::vector<ComponentDoc> known = describe_stages(), coders = describe_coders();
  known.insert(known.end(), coders.begin(), coders.end());
  const auto stage =
      std::find_if(known.begin(), known.end(), [&](const ComponentDoc& doc) { return doc.name == axis.stage; });
  if (stage == known.end()) {
    throw UsageError(fmt::format("--grid {}.{}: there is no stage or coder '{}'{}; see 'kvzip list'", axis.stage,
                                 axis.field, axis.stage, meant(axis.stage, known)));
  }
  if (std::none_of(stage->fields.begin(), stage->fields.end(),
                   [&](const FieldDoc& field) { return field.name == axis.field; })) {
    throw UsageError(fmt::format("--grid {}.{}: {} has no field '{}'{}; see 'kvzip list'", axis.stage, axis.field,
                                 axis.stage, axis.field, meant(axis.field, stage->fields)));
  }
}

/// A second axis would undo what the first has set and named.
void check_once(const std::vector<GridAxis>& axes, const GridAxis& axis) {
  const auto is_depth = [](const GridAxis& a) {
    return a.stage == "quant" && (a.field == "bits" || a.field == "levels");
  };
  for (const GridAxis& other : axes) {
    if (other.stage == axis.stage && other.field == axis.field) {
      throw UsageError(fmt::format("--grid {}.{}: given twice", axis.stage, axis.field));
    }
    if (is_depth(other) && is_depth(axis)) {
      throw UsageError("--grid: quant.bits and quant.levels take each other's place: give one");
    }
  }
}

std::vector<GridAxis> parse_grid(const std::string& grid) {
  std::vector<GridAxis> axes;
  for (const std::string& part : split_text(grid, ';')) {
    if (part.empty()) continue;
    const auto equals = part.find('='), dot = part.find('.');
    if (equals == std::string::npos || dot == std::string::npos || dot == 0 || dot + 1 >= equals ||
        equals + 1 == part.size()) {
      throw UsageError(fmt::format("--grid {}: expected STAGE.FIELD=VALUE,VALUE,...", part));
    }
    GridAxis axis{part.substr(0, dot), part.substr(dot + 1, equals - dot - 1),
                  split_text(part.substr(equals + 1), ',')};
    check_field(axis);
    check_once(axes, axis);
    axes.push_back(std::move(axis));
  }
  if (axes.empty()) throw UsageError("--grid: expected STAGE.FIELD=VALUE,VALUE,...");
  return axes;
}

/// The pipeline with a field of all stages (or the coder) of that name set; nothing when it has none.
std::optional<std::string> with_field(const std::string& pipeline, const GridAxis& axis, const std::string& value) {
  std::vector<std::string> parts = split_text(pipeline, ',');
  bool found = false;
  for (std::string& part : parts) {
    std::vector<std::string> items = split_text(part, ':');
    if (items[0] != axis.stage) continue;
    found = true;
    // quant takes bits or levels, never both: setting one drops the other.
    const std::string rival = axis.field == "bits" ? "levels=" : axis.field == "levels" ? "bits=" : axis.field + "=";
    std::erase_if(items, [&](const std::string& item) {
      return item.starts_with(axis.field + "=") || (items[0] == "quant" && item.starts_with(rival));
    });
    items.push_back(axis.field + "=" + value);
    part = joined(items, ':');
  }
  if (!found) return std::nullopt;
  try {
    return canonical_pipeline(joined(parts, ','));
  } catch (const Error&) {
    if (value != "0") throw;
  }
  std::erase_if(parts, [&](const std::string& part) { return split_text(part, ':')[0] == axis.stage; });
  return canonical_pipeline(joined(parts, ','));
}

/// Sets one value of one axis in all rules; false when no rule has the stage.
bool apply(Setting& setting, const GridAxis& axis, const std::string& value) {
  bool found = false, differs = false;
  for (Rule& rule : setting.rules.rules) {
    as_typed(fmt::format("--grid {}.{}={}", axis.stage, axis.field, value), [&] {
      if (const auto changed = with_field(rule.pipeline, axis, value)) {
        differs |= rule.pipeline != *changed;
        rule.pipeline = *changed;
        found = true;
      }
    });
  }
  if (differs) {
    // No comma: plan --settings takes names with commas between.
    setting.name += fmt::format(" {}.{}={}", axis.stage, axis.field, value);
    setting.kind = "grid";
    setting.preset.clear();
    setting.rules.name = setting.name;
  }
  return found;
}

}  // namespace

std::string family_of(std::string_view name) {
  std::string_view stem = name;
  while (!stem.empty() && ((stem.back() >= '0' && stem.back() <= '9') || stem.back() == '.')) stem.remove_suffix(1);
  while (stem.ends_with('-')) stem.remove_suffix(1);
  return std::string(stem.empty() ? name : stem);
}

std::vector<Setting> preset_settings(const std::string& list, std::string_view option) {
  std::vector<Setting> out;
  if (list == "all") {
    for (const PresetText& preset : builtin_presets()) out.push_back(preset_setting(std::string(preset.name), option));
    return out;
  }
  for (const std::string& name : split_text(list, ',')) {
    if (name.empty()) throw UsageError(fmt::format("{} {}: an empty name", option, list));
    out.push_back(preset_setting(name, option));
  }
  return out;
}

Setting pipeline_setting(const std::string& text, std::string_view option) {
  Setting setting;
  as_typed(option, [&] {
    setting.rules.name = canonical_pipeline(text);
    setting.rules.override_role(Role::key, setting.rules.name);
    setting.rules.override_role(Role::value, setting.rules.name);
  });
  setting.name = setting.rules.name;
  // Pipelines of the same stages and coder lie on one curve.
  std::vector<std::string> stages;
  for (const std::string& part : split_text(setting.name, ',')) stages.push_back(split_text(part, ':')[0]);
  setting.family = joined(stages, ',');
  setting.kind = "pipeline";
  return setting;
}

std::vector<Setting> file_settings(const std::string& path) {
  const std::string text = read_rules_text(path);
  std::vector<Setting> out;
  std::string section, body;
  const auto close_section = [&] {
    if (section.empty()) return;
    Setting setting{section, family_of(section), "file", {}, left_out_of(body), {}};
    setting.rules = as_typed("--pipelines", [&] { return RuleSet::parse(body, path); });
    setting.rules.name = section;
    out.push_back(std::move(setting));
    section.clear();
    body.clear();
  };
  std::size_t number = 0;
  for (const std::string& whole : split_text(text, '\n')) {
    ++number;
    const std::string line(trimmed(std::string_view(whole).substr(0, whole.find('#'))));
    if (line.starts_with('[') && line.ends_with(']')) {
      close_section();
      section = std::string(trimmed(std::string_view(line).substr(1, line.size() - 2)));
      if (section.empty()) throw UsageError(fmt::format("{}, line {}: a section without a name", path, number));
      body.assign(number, '\n');  // so that a refused rule is told by its line in the file
    } else if (!section.empty()) {
      body += whole + "\n";
    } else if (!line.empty()) {
      // A name ends with ": "; the colons of fields have no space behind them.
      const auto colon = line.find(": ");
      Setting setting =
          pipeline_setting(colon == std::string::npos ? line : std::string(trimmed(line.substr(colon + 1))),
                           fmt::format("{}, line {}", path, number));
      if (colon != std::string::npos) {
        setting.name = setting.rules.name = std::string(trimmed(line.substr(0, colon)));
        if (setting.name.empty()) throw UsageError(fmt::format("{}, line {}: a pipeline without a name", path, number));
        setting.family = family_of(setting.name);
      }
      out.push_back(std::move(setting));
    }
  }
  close_section();
  if (out.empty()) throw UsageError(fmt::format("{}: it holds no pipeline", path));
  return out;
}

std::vector<Setting> grid_settings(const std::vector<Setting>& settings, const std::string& grid) {
  std::vector<Setting> out = settings;
  for (Setting& setting : out) setting.family = setting.name;
  for (const GridAxis& axis : parse_grid(grid)) {
    std::vector<Setting> next;
    bool any = false;
    for (const Setting& setting : out) {
      bool found = false;
      for (const std::string& value : axis.values) {
        Setting changed = setting;
        if (!apply(changed, axis, value)) break;
        found = true;
        next.push_back(std::move(changed));
      }
      if (!found) next.push_back(setting);
      any |= found;
      if (next.size() > limits::kGridSettings)
        throw UsageError(fmt::format("--grid makes more than {} settings", limits::kGridSettings));
    }
    if (!any)
      throw UsageError(
          fmt::format("--grid {}.{}: no pipeline has a stage or coder '{}'", axis.stage, axis.field, axis.stage));
    out = std::move(next);
  }
  std::set<std::string> seen;
  std::erase_if(out, [&](const Setting& s) { return !seen.insert(s.rules.text()).second; });
  return out;
}

void make_names_differ(std::vector<Setting>& settings) {
  std::map<std::string, int> seen;
  for (Setting& setting : settings) {
    const int times = ++seen[setting.name];
    if (times > 1) setting.name += fmt::format(" #{}", times);
  }
}

}  // namespace kvzip::tool
