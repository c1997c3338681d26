// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <memory>

#include "src/commands.hpp"
#include "src/report/progress.hpp"
#include "src/report/report.hpp"
#include "src/synth/synth.hpp"

namespace kvzip::tool {
namespace {

struct SynthArguments {
  Common common;
  SynthOptions synth;
  std::string out, to, dtype = "f16";
  bool no_query = false;
  bool query_heads_given = false;
};

DType parse_float_type(const std::string& text) {
  if (text == "f16") return DType::f16;
  if (text == "bf16") return DType::bf16;
  return DType::f32;
}

int synth(const SynthArguments& o) {
  const std::string format = output_format(o.out, o.to);
  SynthOptions options = o.synth;
  options.dtype = parse_float_type(o.dtype);
  if (!o.query_heads_given) options.query_heads = options.heads > 0xffffffff / 4 ? options.heads : 4 * options.heads;
  if (o.no_query) options.query_heads = 0;
  SynthReader reader = as_typed("synth", [&] { return SynthReader(options); });
  return with_file(o.out, [&] {
    const auto writer = create_writer(o.out, format, reader.dump(), o.common.force);
    ProgressLine progress(o.out, !o.common.quiet);
    transcode(reader, *writer, o.common.threads, progress.callback());
    writer->finish();
    return kDone;
  });
}

}  // namespace

void add_synth(CLI::App& app, Action& action) {
  CLI::App* command =
      add_command(app, {"synth", "write a realistic dump of any size",
                        "kvzip synth -o OUT --layers N --heads H --head-dim D --tokens T [OPTIONS]",
                        "  kvzip synth -o small.h5 --layers 8 --heads 2 --head-dim 128 --tokens 1024\n"
                        "  kvzip synth -o llama.h5 --layers 32 --heads 8 --head-dim 128 --tokens 8192 \\\n"
                        "    --dtype bf16 --no-query --seed 1"});
  auto o = std::make_shared<SynthArguments>();
  add_text(*command, "-o,--output", o->out, "OUT", "file to write; its extension gives the format")->required();
  const auto add_count = [&](const char* name, auto& value, const char* unit, const char* text) {
    using Count = std::remove_reference_t<decltype(value)>;
    return command->add_option(name, value, text)->option_text(unit)->transform(number_in<Count>(0));
  };
  add_count("--layers", o->synth.layers, "N", "layers")->required();
  add_count("--heads", o->synth.heads, "H", "heads of keys and values")->required();
  add_count("--head-dim", o->synth.head_dim, "D", "channels of a head")->required();
  add_count("--tokens", o->synth.tokens, "T", "tokens")->required();
  add_count("--query-heads", o->synth.query_heads, "Q", "heads of queries (default: 4 for each of H)");
  command->add_flag("--no-query", o->no_query, "no queries");
  command->add_option("--dtype", o->dtype, "f16 (default), bf16 or f32")
      ->option_text("TYPE")
      ->check(one_of({"f16", "bf16", "f32"}));
  command->add_option("--rope-theta", o->synth.rope_theta, "base of the rotary embedding (default: 500000);\n0 = none")
      ->option_text("X")
      ->transform(number_in(0.0, 1e12));
  add_count("--seed", o->synth.seed, "S", "same seed, same dump (default: 0)");
  add_text(*command, "--to", o->to, "FORMAT", "safetensors or hdf5, whatever OUT is called");
  add_threads(*command, o->common);
  add_force(*command, o->common);
  add_verbosity(*command, o->common);
  command->callback([o, command, &action] {
    o->query_heads_given = command->count("--query-heads") > 0;
    action = [o] { return synth(*o); };
  });
}

}  // namespace kvzip::tool
