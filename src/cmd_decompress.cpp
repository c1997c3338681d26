// SPDX-License-Identifier: Apache-2.0
#include <fmt/ranges.h>

#include <algorithm>
#include <memory>

#include "codec/fail.hpp"
#include "formats/collection.hpp"
#include "formats/file.hpp"
#include "formats/hdf5/hdf5.hpp"
#include "kvzip/container.hpp"
#include "src/cli/batch.hpp"
#include "src/commands.hpp"
#include "src/report/progress.hpp"
#include "src/report/report.hpp"

namespace kvzip::tool {
namespace {

struct DecompressArguments {
  Common common;
  Batch batch;
  std::string out, to, tables, like;
  Selecting selecting;
};

std::unique_ptr<DumpReader> open_container(const std::string& in) {
  auto reader = open_reader(in);
  if (reader->recognition() == nullptr) {
    fail(ErrorCode::invalid_argument, "not a .kvz container; 'kvzip convert' copies between other formats");
  }
  return reader;
}

/// ".h5"; nothing where files of the format have no name of their own.
std::string extension_of(const std::string& to) {
  for (const FileFormat& format : file_formats()) {
    if (format.name == to) return std::string(format.extensions.substr(0, format.extensions.find(' ')));
  }
  return {};
}

/// "cache.safetensors" for "cache.safetensors.kvz", and for "cache.kvz" where that is the format to write: by their
/// names other commands know what files hold. `many`: no one output can be named instead.
std::string output_for(const std::string& in, const std::string& to, bool many) {
  if (in == "-") return "-";
  constexpr std::string_view kExtension = ".kvz";
  const bool ends = in.ends_with(kExtension) && in.size() > kExtension.size();
  const std::string stem = ends ? in.substr(0, in.size() - kExtension.size()) : in;
  const std::string_view format = format_of_path(stem);
  const std::string extension = extension_of(to);
  // A name tells what a file holds.
  if (ends && !format.empty() && format != "kvz") return to.empty() || format == to ? stem : stem + extension;
  if (!to.empty() && (ends || !extension.empty())) return stem + extension;
  with_file(in, [&] { open_container(in); });  // what is none has no output
  const std::string what =
      many ? "the format with --to" : fmt::format("the output with -o, as {}", shell_word(stem + ".safetensors"));
  throw UsageError(fmt::format("{}: its name does not tell what to write: give {}", in, what));
}

/// Every key and value has its counterpart in the other file, of the same type and but for its tokens of its shape.
void require_like(DumpReader& reader, const DecompressArguments& o) {
  const auto like = with_file(o.like, [&] { return open_reader(o.like); });
  require_belonging(reader, *like, Belonging::model, o.selecting.mix);
  const Recognition& recognition = *reader.recognition();
  for (std::size_t i = 0; i < reader.dump().tensors.size(); ++i) {
    const TensorRole& role = recognition.tensors[i];
    if (role.role == Role::other || role.role == Role::query) continue;
    TensorInfo wanted = reader.dump().tensors[i];
    const auto& tensors = like->dump().tensors;
    const auto found = std::ranges::find(tensors, wanted.name, &TensorInfo::name);
    if (found == tensors.end()) {
      fail(ErrorCode::invalid_argument, "tensor {} is not in {}", printable(wanted.name), o.like);
    }
    const std::size_t tokens = role.axes.find('T');
    if (found->shape.size() == wanted.shape.size()) wanted.shape[tokens] = found->shape[tokens];
    if (*found != wanted) {
      fail(ErrorCode::invalid_argument, "tensor {} is {} [{}], and in {} it is {} [{}]", printable(wanted.name),
           dtype_name(wanted.dtype), fmt::join(reader.dump().tensors[i].shape, ", "), o.like, dtype_name(found->dtype),
           fmt::join(found->shape, ", "));
    }
  }
}

/// It keeps what HDF5 has and dumps have not.
bool has_frame(const Dump& dump) {
  return std::ranges::find(dump.tensors, kHdf5Frame, &TensorInfo::name) != dump.tensors.end();
}

Outcome decompress_file(const DecompressArguments& o, const std::string& in, const std::string& out) {
  const std::string format = output_format(out, o.to);
  const Selection selection = o.selecting.selection();
  refuse_same_file({in, o.like, o.tables}, out);
  auto reader = open_container(in);
  if (!o.like.empty()) require_like(*reader, o);
  if (!o.tables.empty()) reader->traits().container->use_tables(load_tables(o.tables));
  if (!selection.empty()) {
    const Recognition recognition = *reader->recognition();
    const bool framed = has_frame(reader->dump());
    reader = select_saying(std::move(reader), recognition, selection, !o.common.quiet);
    if (framed && !has_frame(reader->dump()) && !o.common.quiet) {
      note("a part of the file leaves out what its HDF5 file held beside tensors");
    }
  }
  DumpReader& source = reader_for(format, *reader);
  const auto writer = create_writer(out, format, source.dump(), o.common.force);
  if (!o.common.quiet) note_losses(format, source.dump(), out);
  {
    ProgressLine progress(input_name(in), !o.common.quiet);
    transcode(source, *writer, o.common.threads, progress.callback());
  }
  writer->finish();
  Outcome outcome;
  outcome.source_bytes = 0;
  for (const TensorInfo& tensor : source.dump().tensors) *outcome.source_bytes += tensor.bytes();
  if (selection.empty()) outcome.file_bytes = stored_bytes(in);
  if (o.common.verbose > 0) {
    note(fmt::format("{}: {} tensors -> {} ({})", input_name(in), reader->dump().tensors.size(),
                     out == "-" ? "standard output" : out, format));
  }
  return outcome;
}

int decompress(const DecompressArguments& o) {
  Batch batch = o.batch;
  batch.members = true;
  std::vector<BatchFile> files =
      batch_files(batch, [](std::string_view path) { return format_of_path(path) == "kvz"; });
  if (o.out.empty()) {
    for (const BatchFile& file : files) {
      if (!o.batch.folder.empty() || !collection_of(file.in)) continue;
      throw UsageError(
          fmt::format("{}: what a collection holds goes into a folder, which --output-dir names", file.in));
    }
    for (const BatchFile& file : files) require_no_collection(file.in);  // a damaged one has no names
    const bool many = files.size() > 1 || o.batch.asked();
    name_outputs(o.batch, files, [&](const std::string& in) { return output_for(in, o.to, many); });
  } else if (files.size() > 1 || !o.batch.folder.empty()) {
    throw UsageError(fmt::format("{} the output of one container; --output-dir takes those of many",
                                 is_standard_output(o.out) ? "-c (or -o -) writes" : "-o names"));
  } else if (!files.empty()) {
    files[0].out = o.out;
  }
  return run_batch(o.batch, o.common, files, [&](const BatchFile& file) {
    return with_file(file.in, [&] { return decompress_file(o, file.in, file.out); });
  });
}

}  // namespace

void add_decompress(CLI::App& app, Action& action) {
  CLI::App* command = add_command(
      app, {"decompress", "decode a .kvz container into a dump", "kvzip decompress IN... [-o OUT] [OPTIONS]",
            "  kvzip decompress cache.kvz -o cache.safetensors\n"
            "  kvzip decompress cache.kvz -o part.h5 --layers 0-3 --tokens 0:256 --role key"});
  auto o = std::make_shared<DecompressArguments>();
  command->add_option("IN", o->batch.in, "container to read");
  add_text(*command, "-o,--output", o->out, "OUT",
           "file to write; its extension gives the format\n"
           "(default: IN without .kvz)");
  add_stdout(*command, o->common, o->out);
  add_batch(*command, o->batch, true);
  add_text(*command, "--to", o->to, "FORMAT", "safetensors, hdf5, npz, npy or llama,\nwhatever OUT is called");
  add_text(*command, "--tables", o->tables, "FILE", "tables (.kvzd) that IN names; the default is INd");
  add_text(*command, "--like", o->like, "FILE", "refuse unless FILE has the same model and tensors");
  add_mix(*command, o->selecting.mix);
  add_selecting(*command, o->selecting, "only key, value, query or other; or a list: key,value");
  add_threads(*command, o->common);
  add_trust(*command);
  add_force(*command, o->common);
  add_verbosity(*command, o->common);
  command->callback([o, &action] {
    divide_threads(o->batch, o->common);
    if (o->batch.in.empty() && o->batch.names.empty()) o->batch.in.push_back(piped_input("IN"));
    action = [o] { return decompress(*o); };
  });
}

}  // namespace kvzip::tool
