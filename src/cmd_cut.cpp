// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <filesystem>
#include <memory>

#include "formats/collection.hpp"
#include "formats/file.hpp"
#include "kvzip/cut.hpp"
#include "src/cli/batch.hpp"
#include "src/commands.hpp"
#include "src/report/progress.hpp"
#include "src/report/report.hpp"

namespace kvzip::tool {
namespace {

struct CutArguments {
  Common common;
  std::string in, out;
  double share = 0;
};

int cut_file(const CutArguments& o) {
  refuse_same_file({o.in}, o.out);
  refuse_existing(o.out, o.common.force);
  require_no_collection(o.in);
  if (is_standard_output(o.out)) keep_progress_apart();
  {
    ProgressLine progress(input_name(o.in), !o.common.quiet);
    cut_kvz(o.in, o.out, o.share, o.common.force, progress.callback());
  }
  if (!o.common.quiet && !is_stream_output(o.out)) {
    const auto bytes = o.in == "-" ? std::nullopt : stored_bytes(o.in);
    note(fmt::format("{}: {}{}", input_name(o.in), bytes ? size_text(*bytes) + " -> " : "",
                     size_text(std::filesystem::file_size(o.out))));
  }
  return kDone;
}

}  // namespace

void add_cut(CLI::App& app, Action& action) {
  CLI::App* command =
      add_command(app, {"cut", "keep fewer components of a container", "kvzip cut FILE -o OUT --share S [OPTIONS]",
                        "  kvzip cut cache.kvz -o small.kvz --share 0.2\n"
                        "  kvzip cut cache.kvz -o - --share 0.1 | ssh host 'cat >small.kvz'\n\n"
                        "For pipelines that end with the stage nested, such as those of the preset\n"
                        "matryoshka. No value is decoded, and nothing is fitted anew."});
  auto o = std::make_shared<CutArguments>();
  command->add_option("FILE", o->in, "container to read")->required();
  add_text(*command, "-o,--output", o->out, "OUT", "container to write")->required();
  command->add_option("--share", o->share, "components to keep, as a share of channels, 0 to 1")
      ->option_text("S")
      ->transform(number_in(0.0, 1.0))
      ->required();
  add_trust(*command);
  add_force(*command, o->common);
  add_verbosity(*command, o->common);
  command->callback([o, &action] { action = [o] { return with_file(o->in, [&] { return cut_file(*o); }); }; });
}

}  // namespace kvzip::tool
