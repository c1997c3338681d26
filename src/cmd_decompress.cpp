// SPDX-License-Identifier: Apache-2.0
#include <memory>

#include "codec/fail.hpp"
#include "kvzip/container.hpp"
#include "src/cli/selecting.hpp"
#include "src/commands.hpp"
#include "src/report/report.hpp"

namespace kvzip::tool {
namespace {

struct Options {
  Common common;
  std::string in, out, to, tables;
  Selecting selecting;
};

/// "cache.safetensors" for "cache.safetensors.kvz".
std::string output_for(const std::string& in) {
  if (in == "-") return "-";
  constexpr std::string_view kExtension = ".kvz";
  const std::string out = in.ends_with(kExtension) ? in.substr(0, in.size() - kExtension.size()) : std::string();
  const std::string_view format = format_of_path(out);
  if (format.empty() || format == "kvz") {
    throw UsageError(fmt::format("{}: its name does not tell what to write: give the output with -o", in));
  }
  return out;
}

int decompress(const Options& o) {
  const std::string out = o.out.empty() ? output_for(o.in) : o.out;
  const std::string format = output_format(out, o.to);
  const Selection selection = o.selecting.selection();
  refuse_same_file(o.in, out);
  return with_file(o.in, [&] {
    auto reader = open_reader(o.in);
    if (reader->recognition() == nullptr) {
      fail(ErrorCode::invalid_argument, "not a .kvz container; 'kvzip convert' copies between other formats");
    }
    if (!o.tables.empty()) reader->traits().container->use_tables(load_tables(o.tables));
    if (!selection.empty()) {
      const Recognition recognition = *reader->recognition();
      const std::string said = selection_note(reader->dump(), recognition, selection);
      if (!o.common.quiet && !said.empty()) note(said);
      reader = select(std::move(reader), recognition, selection);
    }
    const auto writer = create_writer(out, format, reader->dump(), o.common.force);
    if (!o.common.quiet) note_losses(format, reader->dump(), out);
    {
      ProgressLine progress(input_name(o.in), !o.common.quiet);
      transcode(*reader, *writer, o.common.threads, progress.callback());
    }
    writer->finish();
    if (o.common.verbose > 0) {
      note(fmt::format("{}: {} tensors -> {} ({})", input_name(o.in), reader->dump().tensors.size(),
                       out == "-" ? "standard output" : out, format));
    }
    return kDone;
  });
}

}  // namespace

void add_decompress(CLI::App& app, Action& action) {
  CLI::App* command =
      add_command(app, {"decompress", "decode a .kvz container into a dump", "kvzip decompress IN [-o OUT] [OPTIONS]",
                        "  kvzip decompress cache.kvz -o cache.safetensors\n"
                        "  kvzip decompress cache.kvz -o part.h5 --layers 0-3 --tokens 0:256 --role key"});
  auto o = std::make_shared<Options>();
  command->add_option("IN", o->in, "container to read");
  add_text(*command, "-o,--output", o->out, "OUT",
           "file to write; its extension gives the format\n"
           "(default: IN without .kvz)");
  add_text(*command, "--to", o->to, "FORMAT", "safetensors, hdf5, npz or npy, whatever OUT is called");
  add_text(*command, "--tables", o->tables, "FILE", "tables (.kvzd) that IN names; the default is INd");
  add_selecting(*command, o->selecting, "only key, value, query or other; or a list: key,value");
  add_threads(*command, o->common);
  add_trust(*command);
  add_force(*command, o->common);
  add_verbosity(*command, o->common);
  command->callback([o, &action] {
    if (o->in.empty()) o->in = piped_input("IN");
    action = [o] { return decompress(*o); };
  });
}

}  // namespace kvzip::tool
