// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <memory>

#include "codec/fail.hpp"
#include "codec/kernels/instruction_set.hpp"
#include "codec/nearest.hpp"
#include "src/bench/bench_io.hpp"
#include "src/bench/bench_report.hpp"
#include "src/commands.hpp"
#include "src/report/progress.hpp"
#include "src/sweep/settings.hpp"

namespace kvzip::tool {
namespace {

// One of each kind: exact, near exact, plain, KIVI, GEAR, CacheGen.
constexpr std::string_view kDefaultPresets = "lossless,near-lossless,int4,kivi-2,gear-2,cachegen-2";

struct BenchArguments {
  Common common;
  Recognising recognising;
  std::vector<std::string> files, pipelines;
  std::string presets, chunk_tokens, target;
  Selecting selecting;
  bool json = false, csv = false, markdown = false, io = false;
  Effort effort;
};

std::vector<Setting> wanted_codecs(const BenchArguments& o) {
  std::vector<Setting> out;
  std::string list = o.presets;
  if (list.empty() && o.pipelines.empty()) list = kDefaultPresets;
  if (!list.empty()) out = preset_settings(list, "--presets");
  for (const std::string& text : o.pipelines) out.push_back(pipeline_setting(text, "--pipeline"));
  return out;
}

void choose_instruction_set(const std::string& name) {
  if (name.empty()) return;
  std::vector<std::string_view> known;
  const std::vector<kernels::InstructionSet> sets = kernels::instruction_sets();
  for (const kernels::InstructionSet& set : sets) {
    if (set.name == name) return kernels::use_instruction_set(set.id);
    known.emplace_back(set.name);
  }
  throw UsageError(fmt::format("--target {}: this machine and build have {}{}", name, fmt::join(known, ", "),
                               did_you_mean(name, known)));
}

void forget_bytes(Measured& measured) {
  measured.coded = {};
  measured.decoded = {};
}

BenchRow bench_peer(const std::string& name, std::unique_ptr<Codec> codec, const Effort& effort, const Share& told) {
  BenchRow row{name, "peer", measure(*codec, effort, told), {}, 0, {}};
  for (const Bytes& coded : row.measured.coded) row.coded_bytes += coded.size();
  forget_bytes(row.measured);
  return row;
}

BenchRow bench_rules(const Setting& wanted, DumpReader& reader, const BenchArguments& o, const Share& told) {
  TiledDump dump(reader, *reader.recognition(), wanted.rules, parse_chunk_tokens(o.chunk_tokens));
  BenchRow row{wanted.rules.name, wanted.kind, measure(dump, o.effort, told), dump.steps(), 0, {}};
  row.errors = dump.errors(row.measured.decoded);
  row.coded_bytes = dump.file_bytes(row.measured.coded, row.measured.decoded);
  forget_bytes(row.measured);
  return row;
}

BenchFile bench_file(const BenchArguments& o, const std::string& path, const std::vector<Setting>& codecs) {
  const auto reader = open_selected({path}, o.selecting, o.recognising, {Role::key, Role::value});
  require_file(*reader, "bench");
  BenchFile file{input_name(path), reader->dump().tensors.size(), 0, 0, {}};
  for (const TensorInfo& info : reader->dump().tensors) {
    file.bytes += info.bytes();
    file.values += info.elements();
  }
  if (file.bytes == 0) fail(ErrorCode::invalid_argument, "what is selected holds no values");
  ProgressLine line("bench " + file.name, !o.common.quiet);
  const Progress progress = line.callback();
  const std::size_t rows = codecs.size() + 3;
  Share told;
  if (progress) {
    told = [&](double share) {
      const auto bytes = static_cast<std::uint64_t>(share * static_cast<double>(file.bytes));
      progress(file.rows.size() * file.bytes + std::min(bytes, file.bytes), rows * file.bytes);
    };
  }
  const auto add = [&](BenchRow row) { file.rows.push_back(std::move(row)); };
  {
    const std::vector<Bytes> tensors = read_tensors(*reader);
    add(bench_peer(kCopyName, make_copy(tensors), o.effort, told));
    add(bench_peer(kPeerName, make_zstd_peer(tensors, 1), o.effort, told));
    add(bench_peer("zstd -3", make_zstd_peer(tensors, 3), o.effort, told));
  }
  for (const Setting& wanted : codecs) add(bench_rules(wanted, *reader, o, told));
  return file;
}

/// Another program on the same processor makes figures too low, and nothing in them shows it.
void say_if_busy(const Bench& bench) {
  constexpr double kNoticeable = 0.03;
  double seconds = 0, waited = 0;
  for (const BenchFile& file : bench.files) {
    for (const BenchRow& row : file.rows) {
      seconds += row.measured.seconds;
      waited += row.measured.waited;
    }
  }
  if (waited <= kNoticeable * seconds) return;
  note(fmt::format("the processor did other work for {:.0f} % of the time: speeds are too low, measure again",
                   100 * waited / seconds));
}

int bench_reads(const BenchArguments& o) {
  const Selection parts = o.selecting.selection();
  const bool coding = !o.presets.empty() || !o.pipelines.empty() || !o.chunk_tokens.empty() || !o.target.empty();
  if (coding || o.csv || o.markdown || parts.layers || parts.last_tokens || !parts.roles.empty()) {
    throw UsageError("--io measures reads of a container: it goes with --tokens A:B, --json, --runs and --min-time");
  }
  std::vector<BenchIo> files;
  for (const std::string& path : o.files) {
    ProgressLine line("bench " + input_name(path), !o.common.quiet, "reads");
    files.push_back(with_file(
        path, [&] { return bench_io(path, parts.tokens.value_or(TokenRange{}), o.effort, line.callback()); }));
  }
  if (o.json) {
    print_json(bench_io_json(files));
  } else {
    print(bench_io_text(files));
  }
  return kDone;
}

int bench(const BenchArguments& o) {
  keep_progress_apart();
  if (o.io) return bench_reads(o);
  if (o.json + o.csv + o.markdown > 1) throw UsageError("--json, --csv and --markdown: choose one");
  const std::vector<Setting> codecs = wanted_codecs(o);
  choose_instruction_set(o.target);
  Bench all{o.effort, {}};
  for (const std::string& path : o.files) {
    try {
      all.files.push_back(with_file(path, [&] { return bench_file(o, path, codecs); }));
    } catch (const std::bad_alloc&) {
      fail(ErrorCode::limit,
           "{}: memory must hold three times what is measured; measure a part with --layers or --tokens",
           input_name(path));
    }
  }
  if (o.json) {
    print_json(bench_json(all));
  } else {
    print(o.csv ? bench_csv(all) : o.markdown ? bench_markdown(all) : bench_text(all));
  }
  if (!o.common.quiet) say_if_busy(all);
  return kDone;
}

}  // namespace

void add_bench(CLI::App& app, Action& action) {
  CLI::App* command =
      add_command(app, {"bench", "measure the speed of presets and of each stage", "kvzip bench FILE... [OPTIONS]",
                        "  kvzip bench cache.safetensors --presets all --markdown\n"
                        "  kvzip bench cache.safetensors --pipeline quant:bits=4,pack --layers 0-3\n\n"
                        "In memory, on one thread, keys and values only; memcpy and zstd on the same\n"
                        "bytes. The round trip is checked. Each codec runs until there are --runs passes\n"
                        "or they took --min-time together."});
  auto o = std::make_shared<BenchArguments>();
  command->add_option("FILE", o->files, "any file kvzip reads")->required();
  add_text(*command, "--presets", o->presets, "LIST|all", "presets or preset files, with commas between");
  add_texts(*command, "--pipeline", o->pipelines, "SPEC", "a pipeline for keys and values");
  add_text(*command, "--chunk-tokens", o->chunk_tokens, "N|all", "tokens coded together");
  command->add_option("--runs", o->effort.passes, "passes of each codec at most (default: 10)")
      ->option_text("N")
      ->transform(number_in(1u, 1000000u));
  command->add_option("--min-time", o->effort.seconds, "seconds after which no pass begins (default: 1)")
      ->option_text("S")
      ->transform(number_in(0.0, 86400.0));
  add_text(*command, "--target", o->target, "NAME", "instruction set of the kernels, instead of the best");
  command->add_flag("--io", o->io, "of containers: extents of reads, and their speed");
  command->add_flag("--json", o->json, "everything, as JSON");
  command->add_flag("--csv", o->csv, "a line for each codec and each step");
  command->add_flag("--markdown", o->markdown, "the tables, as Markdown");
  add_selecting(*command, o->selecting, "these roles, instead of key,value");
  add_recognising(*command, o->recognising);
  command->add_flag("-q,--quiet", o->common.quiet, "say nothing but errors");
  add_progress(*command);
  command->callback([o, &action] { action = [o] { return bench(*o); }; });
}

}  // namespace kvzip::tool
