// SPDX-License-Identifier: Apache-2.0
#include "src/request/recognising.hpp"

#include <algorithm>
#include <map>

#include "formats/hdf5/hdf5.hpp"
#include "formats/identity.hpp"
#include "formats/left_out.hpp"
#include "formats/model_info.hpp"
#include "formats/settle_axes.hpp"
#include "formats/tensor_views.hpp"
#include "src/report/report.hpp"
#include "src/request/request.hpp"

namespace kvzip::tool {

std::string why_text(const TensorInfo& tensor, const TensorRole& role) {
  std::vector<std::string> options;
  for (const Axes& axes : role.readings) options.push_back(fmt::format("--layout {}", axes.text()));
  if (options.size() == 1) {
    options.push_back(fmt::format("--map {}=other", shell_word(printable(tensor.name))));
  }
  const std::string help =
      options.empty() ? advice(role.hint) : fmt::format("{} settles it", fmt::join(options, " or "));
  return help.empty() ? role.why : fmt::format("{}: {}", role.why, help);
}

std::string unrecognised_text(const Dump& dump, const Recognition& recognition) {
  std::size_t floats = 0, open = 0;
  std::map<std::string_view, std::vector<std::size_t>> reasons;
  for (std::size_t i = 0; i < dump.tensors.size(); ++i) {
    const TensorInfo& tensor = dump.tensors[i];
    const TensorRole& role = recognition.tensors[i];
    const bool empty = std::find(tensor.shape.begin(), tensor.shape.end(), 0u) != tensor.shape.end();
    if (!is_codable_float(tensor.dtype) || empty) continue;
    ++floats;
    if (role.role != Role::other || role.asked) continue;
    ++open;
    reasons[role.why].push_back(i);
  }
  if (open == 0) return {};
  const auto most = std::max_element(reasons.begin(), reasons.end(),
                                     [](const auto& a, const auto& b) { return a.second.size() < b.second.size(); });
  const std::size_t first = most->second[0];
  std::string out =
      fmt::format("{} of {} float tensors stay lossless, as '{}': {}", open, floats,
                  printable(dump.tensors[first].name), why_text(dump.tensors[first], recognition.tensors[first]));
  if (reasons.size() > 1) out += fmt::format("; {} for other reasons", open - most->second.size());
  return out + "; 'kvzip inspect --why' shows all";
}

std::string left_out_text(const DumpReader& reader) {
  constexpr std::size_t kShown = 8;
  std::vector<std::string> what = left_out_of(reader);
  const bool kept = what.empty();
  if (kept) what = hdf5_left_out(reader);
  if (what.empty()) return {};
  const std::size_t more = what.size() - std::min(what.size(), kShown);
  what.resize(what.size() - more);
  return fmt::format("{}: {}{}", kept ? "kept as bytes, for HDF5 only" : "left out", fmt::join(what, "; "),
                     more == 0 ? "" : fmt::format("; and {} more", more));
}

KeyValues parse_meta(const std::vector<std::string>& texts) {
  KeyValues out;
  for (const std::string& text : texts) {
    const std::size_t at = text.find('=');
    if (at == 0 || at == std::string::npos) throw UsageError(fmt::format("--meta {}: expected KEY=VALUE", text));
    std::string name = text.substr(0, at);
    const auto same = [&](const auto& pair) { return pair.first == name; };
    if (std::any_of(out.begin(), out.end(), same)) throw UsageError(fmt::format("--meta {} is given twice", name));
    std::string value = text.substr(at + 1);
    if (const std::string problem = metadata_problem(name, value); !problem.empty()) {
      throw UsageError(fmt::format("--meta {}: {}", text, problem));
    }
    out.emplace_back(std::move(name), std::move(value));
  }
  return out;
}

std::unique_ptr<DumpReader> viewed(std::unique_ptr<DumpReader> reader, const Recognising& options) {
  std::vector<TensorView> views;
  for (const std::string& text : options.map) {
    MapText map = as_typed("--map", [&] { return parse_map_text(text); });
    if (map.view) views.push_back(std::move(*map.view));
  }
  return view(std::move(reader), views);
}

RecogniseOptions recognise_options(const Recognising& options) {
  RecogniseOptions out;
  out.layout = options.layout;
  const std::string problem = options.layout.empty() ? std::string() : axes_problem(options.layout);
  if (!problem.empty()) throw UsageError(fmt::format("--layout {}: {}, for example BHTD", options.layout, problem));
  for (const std::string& text : options.map) {
    as_typed("--map", [&] {
      const MapText map = parse_map_text(text);
      if (map.view && !options.views) {
        throw UsageError(fmt::format("--map {}: this command reads tensors as they are; see kvzip convert", text));
      }
      for (const std::string& rule : map.rules) out.map.push_back(parse_map_rule(rule));
    });
  }
  return out;
}

Recognition recognise_input(DumpReader& reader, const Recognising& options, const KeyValues& meta) {
  const RecogniseOptions wanted = recognise_options(options);
  Recognition found;
  const bool overridden = !options.layout.empty() || !options.map.empty();
  if (reader.recognition() != nullptr && !overridden) {
    found = *reader.recognition();
  } else {
    Dump seen = reader.dump();
    for (const auto& entry : meta) {
      const auto& name = entry.first;
      std::erase_if(seen.attributes, [&](const Attribute& a) { return a.object.empty() && a.name == name; });
      seen.attributes.push_back({"", name, {entry.second}, {}, {}, {}});
    }
    found = recognise(seen, wanted);
    settle_by_values(reader, found);
  }
  const std::string open = unrecognised_text(reader.dump(), found);
  if ((options.strict || options.some) && found.recognised == 0) {
    fail(ErrorCode::invalid_argument,
         "none of its {} tensors was recognised as key or value; see 'kvzip inspect', and name them with --map{}{}",
         found.tensors.size(), open.empty() ? "" : "; ", open);
  }
  if (options.strict && !open.empty()) fail(ErrorCode::invalid_argument, "{} (--strict)", open);
  const std::string left_out = options.say ? left_out_text(reader) : std::string();
  if (!left_out.empty()) note(left_out);
  if (options.say && !open.empty()) note(open);
  const std::string scales = options.say ? missing_scales_text(reader.dump(), found) : std::string();
  if (!scales.empty()) note(scales);
  return found;
}

}  // namespace kvzip::tool
