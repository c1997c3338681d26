// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <memory>

#include "codec/fail.hpp"
#include "kvzip/container.hpp"
#include "src/commands.hpp"
#include "src/report/progress.hpp"
#include "src/report/report.hpp"

namespace kvzip::tool {
namespace {

struct ConvertArguments {
  Common common;
  Recognising recognising;
  std::string in, out, to;
};

/// A container's own tables, for other files to name by hash.
int convert_tables(const ConvertArguments& o) {
  if (!o.to.empty()) throw UsageError("--to is of tensors, and a .kvzd holds tables");
  refuse_same_file({o.in}, o.out);
  return with_file(o.in, [&] {
    const auto reader = open_reader(o.in);
    const ReaderTraits traits = reader->traits();
    if (traits.container == nullptr || traits.once || traits.container->stored_tables().empty()) {
      fail(ErrorCode::invalid_argument, "only a container in a file that stores tables can become a .kvzd");
    }
    write_tables(o.out, traits.container->stored_tables(), o.common.force);
    if (o.common.verbose > 0) {
      note(fmt::format("{}: {} tables -> {}", input_name(o.in), traits.container->stored_tables().all().size(), o.out));
    }
    return kDone;
  });
}

int convert(const ConvertArguments& o) {
  if (names_tables(o.out)) return convert_tables(o);
  const std::string format = output_format(o.out, o.to);
  refuse_same_file({o.in}, o.out);
  return with_file(o.in, [&] {
    const auto reader = open_inputs({o.in}, false, o.recognising);
    Recognising recognising = o.recognising;
    recognising.say = !o.common.quiet;
    recognise_input(*reader, recognising, {});
    DumpReader& source = reader_for(format, *reader);
    const auto writer = create_writer(o.out, format, source.dump(), o.common.force);
    if (!o.common.quiet) note_losses(format, source.dump(), o.out);
    {
      ProgressLine progress(input_name(o.in), !o.common.quiet);
      transcode(source, *writer, o.common.threads, progress.callback());
    }
    writer->finish();
    if (o.common.verbose > 0) {
      note(fmt::format("{}: {} tensors -> {} ({})", input_name(o.in), reader->dump().tensors.size(), o.out, format));
    }
    return kDone;
  });
}

}  // namespace

void add_convert(CLI::App& app, Action& action) {
  CLI::App* command =
      add_command(app, {"convert", "copy tensors from one file format to another", "kvzip convert IN OUT [OPTIONS]",
                        "  kvzip convert cache.h5 cache.safetensors\n"
                        "  kvzip convert cache.safetensors - --to hdf5 > cache.h5"});
  auto o = std::make_shared<ConvertArguments>();
  command->add_option("IN", o->in, "any file kvzip reads")->required();
  command->add_option("OUT", o->out, "file to write; its extension gives the format")->required();
  add_text(*command, "--to", o->to, "FORMAT", "safetensors, hdf5, npz, npy or llama,\nwhatever OUT is called");
  add_recognising(*command, o->recognising);
  add_views(*command, o->recognising);
  add_threads(*command, o->common);
  add_trust(*command);
  add_force(*command, o->common);
  add_verbosity(*command, o->common);
  command->callback([o, &action] { action = [o] { return convert(*o); }; });
}

}  // namespace kvzip::tool
