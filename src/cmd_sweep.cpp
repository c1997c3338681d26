// SPDX-License-Identifier: Apache-2.0
#include <memory>

#include "codec/fail.hpp"
#include "src/cli/measure_options.hpp"
#include "src/commands.hpp"
#include "src/report/gnuplot.hpp"
#include "src/report/machine.hpp"
#include "src/report/plot_style.hpp"
#include "src/report/report.hpp"
#include "src/sweep/sweep_report.hpp"
#include "src/sweep/sweep_run.hpp"

namespace kvzip::tool {
namespace {

struct SweepArguments {
  Common common;
  SweepRequest request;
  std::vector<std::string> dumps;
  std::string presets, pipelines, grid, measure, plot, report;
  bool json = false, csv = false, markdown = false;
};

std::vector<Setting> wanted_settings(const SweepArguments& o) {
  std::vector<Setting> out;
  if (!o.presets.empty() || o.pipelines.empty()) {
    out = preset_settings(o.presets.empty() ? "all" : o.presets, "--presets");
  }
  if (!o.pipelines.empty()) {
    for (Setting& setting : file_settings(o.pipelines)) out.push_back(std::move(setting));
  }
  if (!o.grid.empty()) out = grid_settings(out, o.grid);
  make_names_differ(out);
  return out;
}

/// What may be replaced (-f), but is read here.
void refuse_inputs(const SweepArguments& o) {
  std::vector<std::string> in = o.dumps;
  for (const std::string& path : {o.request.fidelity.queries, o.request.fidelity.queries2}) in.push_back(path);
  for (const std::string& path : {o.plot, o.report}) {
    refuse_same_file(in, path);
    if (!path.empty()) refuse_read_file(path);  // presets and pipelines
  }
}

/// What cannot be written is said before hours of measuring.
void check_outputs(const SweepArguments& o) {
  if (o.json + o.csv + o.markdown > 1) throw UsageError("--json, --csv and --markdown: choose one");
  if (!o.plot.empty()) as_typed("--plot", [&] { plot_format(o.plot); });
  as_typed("--measure", [&] { find_measure(o.measure, {}); });
  for (const Role role : o.request.selecting.selection().roles) {
    if (role == Role::query || role == Role::other) throw UsageError("--role: a sweep is of keys and values");
  }
  for (const std::string& path : {o.plot, o.report}) {
    if (path.empty()) continue;
    require_gnuplot();
    refuse_existing(path, o.common.force);
  }
}

void make_folder(const std::string& path) {
  if (path.empty()) return;
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) fail_in(path, ErrorCode::io, "cannot make this folder: {}", error.message());
}

int sweep(SweepArguments& o) {
  keep_progress_apart();
  check_outputs(o);
  o.request.settings = wanted_settings(o);
  refuse_inputs(o);
  parse_chunk_tokens(o.request.chunk_tokens);
  make_folder(o.request.resume);
  o.request.quiet = o.common.quiet;
  // Of several dumps some may lack it.
  if (o.dumps.size() == 1) o.request.measure = o.measure;
  Sweep all{KVZIP_VERSION, machine_line(), command_line(), {}};
  for (const std::string& path : o.dumps) {
    all.dumps.push_back(with_file(path, [&] { return sweep_dump(path, o.request); }));
  }
  const Measure& measure = as_typed("--measure", [&]() -> const Measure& { return find_measure(o.measure, all); });
  if (!o.plot.empty()) write_plot(o.plot, all, measure, o.common.force);
  if (!o.report.empty()) write_report(o.report, all, measure, o.common.force);
  if (o.json) {
    print_json(sweep_json(all));
  } else {
    print(o.csv        ? sweep_csv(all, measure)
          : o.markdown ? sweep_markdown(all, measure, o.common.verbose > 0)
                       : sweep_text(all, measure, o.common.verbose > 0));
  }
  return kDone;
}

}  // namespace

void add_sweep(CLI::App& app, Action& action) {
  CLI::App* command =
      add_command(app, {"sweep", "compare settings: bytes against fidelity", "kvzip sweep DUMP... [OPTIONS]",
                        "  kvzip sweep cache.safetensors --presets int8,int4,kivi-2,gear-2\n"
                        "  kvzip sweep cache.safetensors --presets gear-2 \\\n"
                        "    --grid 'quant.bits=2,3,4;lowrank.rank=0,4' --report sweep.html\n\n"
                        "Each setting is written to a container, decoded, and compared: values, and what\n"
                        "attention makes of them. Keys and values only; bytes are of the whole file."});
  auto o = std::make_shared<SweepArguments>();
  command->add_option("DUMP", o->dumps, "any file kvzip reads")->required();
  add_text(*command, "--presets", o->presets, "LIST|all",
           "presets or preset files, with commas between\n(default: all)");
  add_text(*command, "--pipelines", o->pipelines, "FILE", "more settings: pipelines or rules, each with a name");
  add_text(*command, "--grid", o->grid, "GRID",
           "STAGE.FIELD=VALUE,VALUE;... tried in every\ncombination on every setting");
  add_text(*command, "--chunk-tokens", o->request.chunk_tokens, "N|all", "tokens coded together");
  add_text(*command, "--measure", o->measure, "NAME", "what the Pareto front and the plot are of");
  add_text(*command, "--plot", o->plot, "FILE", "draw rate against the measure: .svg or .png");
  add_text(*command, "--report", o->report, "FILE", "write everything as one HTML page");
  add_text(*command, "--resume", o->request.resume, "DIR", "keep finished rows there and take them up again");
  command->add_flag("--json", o->json, "everything, as JSON");
  command->add_flag("--csv", o->csv, "a line for each setting and each layer");
  command->add_flag("--markdown", o->markdown, "the tables, as Markdown");
  add_fidelity(*command, o->request.fidelity);
  add_selecting(*command, o->request.selecting, "key or value only, instead of both");
  add_recognising(*command, o->request.recognising);
  command->add_option("-j,--jobs,--threads", o->request.fidelity.threads, "threads; 0 (the default) = all")
      ->option_text("N")
      ->transform(number_in(0u, 4096u));
  add_force(*command, o->common);
  add_verbosity(*command, o->common);
  command->callback([o, &action] { action = [o] { return sweep(*o); }; });
}

}  // namespace kvzip::tool
