// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <memory>

#include "codec/fail.hpp"
#include "codec/split.hpp"
#include "src/commands.hpp"
#include "src/load/load_source.hpp"
#include "src/report/report.hpp"

namespace kvzip::tool {
namespace {

constexpr double kMega = 1e6;

struct PlanArguments {
  std::vector<std::string> files;
  std::string trace, policy = "both", measure, dump, settings;
  double slo = 0, recompute_ms = 0, initial_mbps = 0, decode_mbs = 0;
  std::uint64_t chunk_tokens = 1536;  // the paper's 1.5K
  bool json = false, csv = false, quiet = false;
};

std::vector<std::string> split_list(const std::string& list) {
  std::vector<std::string> out;
  if (list.empty()) return out;
  for (const std::string_view part : split(list, ',')) {
    out.emplace_back(trimmed(part));
    if (out.back().empty()) throw UsageError(fmt::format("--settings {}: an empty name", list));
  }
  return out;
}

LoadSource read_source(const PlanArguments& o) {
  const bool sweep = o.files.size() == 1 && with_file(o.files[0], [&] { return is_sweep_text(o.files[0]); });
  if (sweep) {
    return read_sweep_levels(o.files[0], {o.dump, o.measure, split_list(o.settings)}, o.chunk_tokens);
  }
  if (!o.measure.empty() || !o.dump.empty() || !o.settings.empty()) {
    throw UsageError("--measure, --dump and --settings are of a sweep; containers do not know their errors");
  }
  return read_containers(o.files, o.chunk_tokens);
}

LoadProblem problem_of(const PlanArguments& o, const LoadSource& source) {
  LoadProblem out{source.chunks, source.levels, o.slo, o.recompute_ms / 1000, {}, 0};
  if (o.initial_mbps > 0) out.initial = o.initial_mbps * kMega;
  if (o.decode_mbs > 0) {
    out.decode = static_cast<double>(source.source_bytes) / static_cast<double>(source.tokens) / (o.decode_mbs * kMega);
  }
  return out;
}

std::string choice_name(const LoadSource& source, const LoadStep& step) {
  return step.level ? source.levels[*step.level].name : "recompute";
}

std::optional<double> mbps(std::optional<double> bits) {
  return bits ? std::optional<double>(*bits / kMega) : std::nullopt;
}

std::optional<double> quality(const LoadSource& source, const LoadSchedule& schedule) {
  return source.measure.empty() ? std::nullopt : std::optional<double>(schedule.error);
}

std::string schedule_text(const PlanArguments& o, const LoadSource& source, const LoadSchedule& schedule) {
  Table table({">chunk", ">tokens", "choice", ">bytes", ">start s", ">end s", ">ready s", ">Mbit/s", ">estimate"});
  for (std::size_t c = 0; c < schedule.steps.size(); ++c) {
    const LoadStep& step = schedule.steps[c];
    table.add({std::to_string(c), std::to_string(source.chunks[c].tokens), choice_name(source, step),
               step.level ? std::to_string(step.bytes) : "-", fmt::format("{:.4f}", step.start),
               fmt::format("{:.4f}", step.end), fmt::format("{:.4f}", step.ready), number_text(mbps(step.throughput)),
               number_text(mbps(step.estimate))});
  }
  std::string out = fmt::format("\npolicy {}\n{}", policy_name(schedule.policy), table.text());
  out += fmt::format("last byte {:.4f} s, ready {:.4f} s: the SLO of {} s {}\n", schedule.last_byte, schedule.ready,
                     o.slo, schedule.met ? "holds" : "is missed");
  out += fmt::format("{} sent, {} bits per value of the whole", size_text(schedule.bytes),
                     number_text(bits_of(schedule.bytes, source.values)));
  if (!source.measure.empty()) out += fmt::format("; {}, mean over tokens: {:.4g}", source.measure, schedule.error);
  return out + "\n";
}

std::string plan_text(const PlanArguments& o, const LoadSource& source, const std::vector<LoadSchedule>& schedules) {
  std::string out =
      fmt::format("{} tokens in {} chunks; qualities, best first:\n", source.tokens, source.chunks.size());
  Table levels({"quality", ">bytes", fmt::format(">{}", source.measure.empty() ? "error" : source.measure)});
  for (const LoadLevel& level : source.levels) {
    std::uint64_t bytes = 0;
    for (const std::uint64_t b : level.bytes) bytes += b;
    levels.add({level.name, std::to_string(bytes), source.measure.empty() ? "not known" : number_text(level.error)});
  }
  out += levels.text();
  for (const LoadSchedule& schedule : schedules) out += schedule_text(o, source, schedule);
  return out;
}

std::string plan_csv(const LoadSource& source, const std::vector<LoadSchedule>& schedules) {
  const auto number = [](std::optional<double> value) { return value ? fmt::format("{}", *value) : std::string(); };
  std::string out = "policy,chunk,first_token,tokens,choice,bytes,start,end,ready,mbps,estimate_mbps\n";
  for (const LoadSchedule& schedule : schedules) {
    for (std::size_t c = 0; c < schedule.steps.size(); ++c) {
      const LoadStep& s = schedule.steps[c];
      out += fmt::format("{},{},{},{},{},{},{},{},{},{},{}\n", policy_name(schedule.policy), c, source.chunks[c].first,
                         source.chunks[c].tokens, csv_text(choice_name(source, s)), s.bytes, s.start, s.end, s.ready,
                         number(mbps(s.throughput)), number(mbps(s.estimate)));
    }
  }
  return out;
}

Json step_json(const LoadSource& source, const LoadStep& step, const LoadChunk& chunk) {
  return {{"first_token", chunk.first},
          {"tokens", chunk.tokens},
          {"choice", choice_name(source, step)},
          {"recompute", !step.level},
          {"bytes", step.bytes},
          {"start", step.start},
          {"end", step.end},
          {"ready", step.ready},
          {"mbps", json_number(mbps(step.throughput))},
          {"estimate_mbps", json_number(mbps(step.estimate))}};
}

Json plan_json(const PlanArguments& o, const LoadSource& source, const std::vector<LoadSchedule>& schedules) {
  Json out{{"schema", 1},
           {"slo", o.slo},
           {"tokens", source.tokens},
           {"chunk_tokens", o.chunk_tokens},
           {"recompute_ms_per_token", o.recompute_ms},
           {"measure", source.measure.empty() ? Json(nullptr) : Json(source.measure)}};
  out["levels"] = Json::array();
  for (const LoadLevel& level : source.levels) {
    out["levels"].push_back({{"name", level.name},
                             {"error", source.measure.empty() ? Json(nullptr) : json_number(level.error)},
                             {"bytes", level.bytes}});
  }
  out["schedules"] = Json::array();
  for (const LoadSchedule& schedule : schedules) {
    Json one{{"policy", policy_name(schedule.policy)},
             {"met", schedule.met},
             {"last_byte", schedule.last_byte},
             {"ready", schedule.ready},
             {"bytes", schedule.bytes},
             {"bits_per_value", json_number(bits_of(schedule.bytes, source.values))},
             {"error", json_number(quality(source, schedule))},
             {"chunks", Json::array()}};
    for (std::size_t c = 0; c < schedule.steps.size(); ++c) {
      one["chunks"].push_back(step_json(source, schedule.steps[c], source.chunks[c]));
    }
    out["schedules"].push_back(std::move(one));
  }
  return out;
}

int plan(const PlanArguments& o) {
  if (o.json && o.csv) throw UsageError("--json and --csv: choose one");
  for (const double value : {o.slo, o.recompute_ms, o.initial_mbps, o.decode_mbs}) {
    if (!std::isfinite(value)) throw UsageError("times and speeds are finite numbers");
  }
  const LoadSource source = read_source(o);
  const BandwidthTrace trace = read_trace(o.trace);
  const LoadProblem problem = problem_of(o, source);
  std::vector<LoadSchedule> schedules;
  if (o.policy != "equal-split") schedules.push_back(plan_load(problem, trace, LoadPolicy::paper));
  if (o.policy != "paper") schedules.push_back(plan_load(problem, trace, LoadPolicy::equal_split));
  if (o.json) {
    print_json(plan_json(o, source, schedules));
  } else {
    print(o.csv ? plan_csv(source, schedules) : plan_text(o, source, schedules));
  }
  if (!o.quiet && !source.skipped.empty()) {
    note(fmt::format("left out, because their frames do not end with chunks of {} tokens or they lack the measure: {}",
                     o.chunk_tokens, fmt::join(source.skipped, ", ")));
  }
  const bool met = std::any_of(schedules.begin(), schedules.end(), [](const LoadSchedule& s) { return s.met; });
  return met ? kDone : kMissed;
}

}  // namespace

void add_plan(CLI::App& app, Action& action) {
  CLI::App* command = add_command(
      app,
      {"plan", "simulate loading a cache by a deadline",
       "kvzip plan FILE... --bandwidth TRACE --slo S --recompute-ms-per-token X",
       "  kvzip plan high.kvz low.kvz --bandwidth trace.txt --slo 2 \\\n      --recompute-ms-per-token 0.4\n"
       "  kvzip plan sweep.json --bandwidth trace.txt --slo 2 \\\n      --recompute-ms-per-token 0.4 --policy paper"});
  auto o = std::make_shared<PlanArguments>();
  command->add_option("FILE", o->files, "containers of one cache, or a sweep's JSON")->required();
  add_text(*command, "--bandwidth", o->trace, "TRACE", "lines of SECONDS MBIT_PER_S")->required();
  const auto number = [&](const char* name, double& value, const char* unit, const char* help) {
    return command->add_option(name, value, help)->option_text(unit)->transform(number_in(0.0, 1e9));
  };
  number("--slo", o->slo, "S", "seconds until the cache must be there")->required();
  number("--recompute-ms-per-token", o->recompute_ms, "X", "time to compute a token from text")->required();
  command->add_option("--chunk-tokens", o->chunk_tokens, "tokens of a chunk (default: 1536)")
      ->option_text("N")
      ->transform(number_in(std::uint64_t{1}, std::uint64_t{1} << 48));
  add_text(*command, "--policy", o->policy, "NAME", "paper, equal-split or both (default)")
      ->check(one_of({"paper", "equal-split", "both"}));
  number("--initial-mbps", o->initial_mbps, "X", "Mbit/s expected before the first chunk");
  number("--decode-mbs", o->decode_mbs, "X", "MB/s of source bytes when decoding");
  add_text(*command, "--measure", o->measure, "NAME", "of a sweep: what quality is");
  add_text(*command, "--dump", o->dump, "PATH", "of a sweep: the dump, where it has several");
  add_text(*command, "--settings", o->settings, "LIST", "of a sweep: these, not the Pareto front");
  command->add_flag("--json", o->json, "everything, as JSON");
  command->add_flag("--csv", o->csv, "a line for each chunk");
  command->add_flag("-q,--quiet", o->quiet, "say nothing but errors");
  command->callback([o, &action] { action = [o] { return plan(*o); }; });
}

}  // namespace kvzip::tool
