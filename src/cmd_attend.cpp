// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "src/cli/measure_options.hpp"
#include "src/commands.hpp"
#include "src/measure/attention_outputs.hpp"
#include "src/report/progress.hpp"
#include "src/report/report.hpp"

namespace kvzip::tool {
namespace {

struct AttendArguments {
  Common common;
  Recognising recognising;
  std::string in, out, to, queries;
  double scale = 0;
  std::uint64_t pages = 0;  // 0 = all
};

/// A tensor for each layer, in their order: query heads x queries x channels of a value.
Dump outputs_dump(const Asking& asking) {
  const bool batched = std::ranges::any_of(asking.layers(), [](const auto& layer) { return layer.first.second > 0; });
  Dump out;
  for (const auto& [layer, place] : asking.layers()) {
    std::string name = batched ? fmt::format("layers.{}.batch.{}.attention", layer.first, layer.second)
                               : fmt::format("layers.{}.attention", layer.first);
    const std::vector<std::uint64_t> shape{asking.query_heads(layer), asking.count(layer), place.values[0].dims};
    out.tensors.push_back({std::move(name), DType::f32, shape});
  }
  return out;
}

Part part_of(const TensorInfo& tensor, std::size_t index, const std::vector<float>& data) {
  Part part;
  part.index = index;
  part.slices = {{index, std::vector<std::uint64_t>(tensor.shape.size(), 0), tensor.shape}};
  from_float(DType::f32, data, part.data.emplace_back(tensor.bytes()));
  return part;
}

int attend_file(const AttendArguments& o) {
  const std::string format = output_format(o.out, o.to);
  refuse_same_file({o.in, o.queries}, o.out);
  return with_file(o.in, [&] {
    const auto reader = open_reader(o.in);
    if (reader->traits().once) throw UsageError("attend reads layer by layer: give a container as a file, not a pipe");
    const Recognition roles = recognise_input(*reader, o.recognising, {});
    Asking asking(*reader, roles, {o.queries, 0, recognise_options(o.recognising)});
    if (!asking.note().empty() && !o.common.quiet) note(asking.note());
    std::optional<KvzPages> pages;
    if (o.pages > 0) pages = stored_pages(*reader, o.in);
    const Dump outputs = outputs_dump(asking);
    const auto writer = create_writer(o.out, format, outputs, o.common.force);
    std::uint64_t left_out = 0, read = 0, tokens = 0;
    {
      ProgressLine progress(input_name(o.in), !o.common.quiet, "layers");
      const Progress show = progress.callback();
      std::size_t index = 0;
      for (const auto& [layer, place] : asking.layers()) {
        const AttentionOutputs of =
            attend(asking, layer, {o.scale, o.common.threads, pages ? &*pages : nullptr, o.pages});
        Part part = part_of(outputs.tensors[index], index, of.data);
        writer->append(part);
        left_out += of.left_out;
        read += of.read;
        tokens += place.keys[0].tokens;
        ++index;
        if (show) show(index, outputs.tensors.size());
      }
    }
    writer->finish();
    if (left_out > 0 && !o.common.quiet) {
      note(fmt::format("{} pairs of a query and a token are left out: not finite", left_out));
    }
    if (o.common.verbose > 0) note(fmt::format("{} of {} tokens of layers were decoded", read, tokens));
    return kDone;
  });
}

}  // namespace

void add_attend(CLI::App& app, Action& action) {
  CLI::App* command =
      add_command(app, {"attend", "attention outputs of queries over a stored cache",
                        "kvzip attend FILE -o OUT [--queries FILE] [OPTIONS]",
                        "  kvzip attend cache.kvz --queries queries.safetensors -o outputs.safetensors\n"
                        "  kvzip attend cache.safetensors -o outputs.h5\n\n"
                        "OUT has a tensor of F32 for each layer: query heads x queries x channels. Never\n"
                        "more than some chunks of one layer are decoded at a time."});
  auto o = std::make_shared<AttendArguments>();
  command->add_option("FILE", o->in, "any file kvzip reads")->required();
  add_text(*command, "-o,--output", o->out, "OUT", "file to write; its extension gives the format")->required();
  add_text(*command, "--to", o->to, "FORMAT", "safetensors, hdf5, npz or npy, whatever OUT is called");
  add_text(*command, "--queries", o->queries, "FILE", "queries from another file than the dump");
  command->add_option("--pages", o->pages, "each query attends to its first K pages only")
      ->option_text("K")
      ->transform(number_in<std::uint64_t>(1));
  add_attention_scale(*command, o->scale);
  add_recognising(*command, o->recognising);
  add_threads(*command, o->common);
  add_trust(*command);
  add_force(*command, o->common);
  add_verbosity(*command, o->common);
  command->callback([o, &action] { action = [o] { return attend_file(*o); }; });
}

}  // namespace kvzip::tool
