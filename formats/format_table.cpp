// SPDX-License-Identifier: Apache-2.0
#include "formats/format_table.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>

#include "codec/fail.hpp"
#include "formats/collection.hpp"
#include "formats/file_calls.hpp"
#include "formats/folder.hpp"
#include "formats/ggml_values.hpp"
#include "formats/hdf5/hdf5.hpp"
#include "formats/kvz/kvz.hpp"
#include "formats/kvz/kvz_records.hpp"
#include "formats/llama.hpp"
#include "formats/llama_state.hpp"
#include "formats/lmcache.hpp"
#include "formats/mlx_quantised.hpp"
#include "formats/npy.hpp"
#include "formats/npy_header.hpp"
#include "formats/safetensors.hpp"
#include "formats/sidecar.hpp"

namespace kvzip {
namespace {

using namespace std::string_view_literals;

constexpr std::string_view kKvzMagic = "\x89KVZ\r\n\x1a\n"sv, kHdf5Magic = "\x89HDF\r\n\x1a\n"sv;

std::string_view as_text(ByteView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// HDF5 allows a block of foreign bytes before its own, of 512 bytes or a doubling of that.
bool is_hdf5(ByteView first) {
  const std::string_view text = as_text(first);
  for (std::size_t at = 0; at < text.size(); at = at == 0 ? 512 : at * 2) {
    if (text.substr(at).starts_with(kHdf5Magic)) return true;
  }
  return false;
}

/// The same behind a block that is longer than what a probe sees.
bool is_hdf5_behind(const InputFile& file) {
  return find_superblock(file, kProbeBytes) != file.size();
}

/// There is no magic number: a plausible length and the JSON text after it must do. White space there is an error that
/// the reader explains better than a failure to recognise the file would.
bool is_safetensors(ByteView first) {
  constexpr std::uint64_t kPlausibleHeader = std::uint64_t{1} << 32;
  std::uint64_t length = 0;
  if (first.size() <= sizeof length) return false;
  std::memcpy(&length, first.data(), sizeof length);
  const char start = as_text(first)[sizeof length];
  return length >= 2 && length < kPlausibleHeader && "{ \t\r\n"sv.find(start) != std::string_view::npos;
}

bool is_npy(ByteView first) {
  return as_text(first).starts_with(kNumpyMagic);
}

/// The numbers 0x6767736e, "ggsn", and 0x67677371, "ggsq", in little-endian order.
bool is_llama(ByteView first) {
  return as_text(first).starts_with(kLlamaSession) || as_text(first).starts_with(kLlamaSequence);
}

/// A zip archive whose first member is an array, or that has none. PyTorch's archives begin with a pickle.
bool is_npz(ByteView first) {
  constexpr std::size_t kNameAt = 30;
  const std::string_view text = as_text(first);
  if (text.starts_with("PK\x05\x06"sv)) return true;
  if (text.size() < kNameAt || !text.starts_with("PK\x03\x04"sv)) return false;
  std::uint16_t length = 0;
  std::memcpy(&length, text.data() + kNameAt - 4, sizeof length);
  return text.substr(kNameAt, length).ends_with(".npy");
}

std::unique_ptr<DumpReader> open_hdf5_file(InputFile file) {
  return open_hdf5(std::move(file), true);
}

std::unique_ptr<DumpReader> open_kvz_file(InputFile file) {
  file.drop_name();
  const std::string name = file.path();
  return in_file(name, [&] { return open_kvz(std::move(file)); });
}

constexpr std::array kFormats{
    Format{"safetensors", ".safetensors", "tensors of machine learning frameworks", is_safetensors, open_safetensors,
           create_safetensors, nullptr, safetensors_bytes},
    Format{"hdf5", ".h5 .hdf5 .hdf", "HDF5, every dataset a tensor", is_hdf5, open_hdf5_file, create_hdf5, hdf5_losses},
    Format{"npz", ".npz", "arrays of NumPy in a zip archive", is_npz, open_npz, create_npz},
    Format{"npy", ".npy", "one array of NumPy", is_npy, open_npy, create_npy, npy_losses, npy_bytes},
    Format{"llama", "", "sessions and slots of llama.cpp", is_llama, open_llama, create_llama, llama_losses},
    Format{"lmcache", ".data", "chunks of LMCache's file connector", is_lmcache, open_lmcache, nullptr, nullptr,
           lmcache_bytes},
    Format{"kvz", ".kvz", "the container of kvzip", begins_container, open_kvz_file, nullptr},
};

constexpr std::string_view kConvert = "convert it to safetensors or HDF5 first";
constexpr std::string_view kPickle =
    "convert it to safetensors or HDF5 first; kvzip never loads pickles, because loading one runs code (in Python: "
    "t = torch.load(FILE, weights_only=True); safetensors.torch.save_file(t, OUT), for a dictionary of tensors)";
constexpr std::string_view kUnpack = "unpack it first";
constexpr std::string_view kPull = "the file itself is elsewhere: fetch it with 'git lfs pull'";

struct Foreign {
  std::string_view magic, what, advice;
};
constexpr std::array kForeign{
    Foreign{"PK\x03\x04"sv, "a zip archive, as PyTorch (.pt) writes", kPickle},
    Foreign{"\x80\x02"sv, "a Python pickle", kPickle},
    Foreign{"\x80\x03"sv, "a Python pickle", kPickle},
    Foreign{"\x80\x04"sv, "a Python pickle", kPickle},
    Foreign{"\x80\x05"sv, "a Python pickle", kPickle},
    Foreign{"GGUF"sv, "a GGUF model", kConvert},
    Foreign{"version https://git-lfs"sv, "a pointer of git-lfs", kPull},
    Foreign{"\x1f\x8b"sv, "compressed with gzip", kUnpack},
    Foreign{"\x28\xb5\x2f\xfd"sv, "compressed with zstd", kUnpack},
    Foreign{"\xfd"
            "7zXZ"sv,
            "compressed with xz", kUnpack},
};

/// What a transfer in text mode makes of a magic number: line ends changed, the high bit of the first byte cleared, or
/// that byte taken for Latin-1 or for an error and written in UTF-8.
bool is_damaged(std::string_view text, std::string_view magic) {
  const std::string_view letters = magic.substr(1, 3);
  for (const std::string_view lead : {"\x89"sv, "\x09"sv, "\xc2\x89"sv, "\xef\xbf\xbd"sv}) {
    if (text.starts_with(lead) && text.substr(lead.size()).starts_with(letters)) return true;
  }
  return false;
}

[[noreturn]] void fail_unknown(std::string_view text, const std::string& path) {
  if (text.empty()) fail_in(path, ErrorCode::truncated, "the file is empty");
  for (const std::string_view magic : {kKvzMagic, kHdf5Magic}) {
    const bool kvz = magic == kKvzMagic;
    if (text.size() < magic.size() && magic.starts_with(text)) {
      fail_in(path, ErrorCode::truncated, "only the first {} bytes are there", text.size());
    }
    if (is_damaged(text, magic)) {
      fail_in(path, ErrorCode::corrupt,
              "{} damaged by a transfer in text mode (line ends or character set were changed)",
              kvz ? "a .kvz file" : "an HDF5 file");
    }
  }
  for (const Foreign& foreign : kForeign) {
    if (text.starts_with(foreign.magic)) {
      fail_in(path, ErrorCode::unsupported, "looks like {}: {}", foreign.what, foreign.advice);
    }
  }
  if (begins_collection(std::as_bytes(std::span(text)))) {
    fail_in(path, ErrorCode::unsupported,
            "a collection of containers: it is read from a file, not from a pipe, or 'tar xf' makes each a file");
  }
  // A tar archive has its magic number behind the first name.
  if (text.size() > 262 && text.substr(257).starts_with("ustar")) {
    fail_in(path, ErrorCode::unsupported, "looks like a tar archive: {}", kUnpack);
  }
  fail_in(path, ErrorCode::unsupported,
          "not a format that kvzip knows (safetensors, HDF5, NumPy, llama.cpp, chunks of LMCache, kvz); bare elements "
          "have to be told what they are, as by a kvzip.json beside them");
}

/// What stands for values is shown as these.
std::unique_ptr<DumpReader> values_of(std::unique_ptr<DumpReader> reader) {
  return mlx_values(ggml_values(std::move(reader)));
}

std::unique_ptr<DumpReader> open_stdin() {
  InputStream& in = stdin_stream();
  refuse_terminal(in);
  const auto watched = watch_input(in.descriptor(), in.name());  // its permissions, when it is a file
  const Format& format = probe_format(in.peek(kProbeBytes), in.name());
  if (format.probe == begins_container) return values_of(open_kvz("-"));
  return values_of(format.open(open_input("-")));
}

const Format* find_format(ByteView first) {
  const auto found = std::find_if(kFormats.begin(), kFormats.end(), [&](const Format& f) { return f.probe(first); });
  return found == kFormats.end() ? nullptr : found;
}

Bytes first_of(const InputFile& file) {
  Bytes first(std::min<std::uint64_t>(file.size(), kProbeBytes));
  file.read_at(0, first);
  return first;
}

std::unique_ptr<DumpReader> open_file(InputFile file) {
  const Bytes first = first_of(file);
  if (begins_collection(file)) refuse_collection(file);
  if (is_hdf5_behind(file)) return values_of(open_hdf5_file(std::move(file)));
  const Format& format = probe_format(first, file.path());
  return values_of(format.open(std::move(file)));
}

/// What is written beside a file counts only where it says nothing of itself.
std::optional<Sidecar> told_of(const InputFile& file, const std::string& path) {
  const Bytes first = first_of(file);
  if (find_format(first) != nullptr || begins_collection(file) || is_hdf5_behind(file)) return std::nullopt;
  auto told = sidecar_of_file(path);
  return told && told->raw ? std::move(told) : std::nullopt;
}

std::unique_ptr<DumpWriter> create(Destination to, std::string_view format, const Dump& dump) {
  std::string names;
  for (const Format& row : kFormats) {
    if (row.create == nullptr) continue;
    if (row.name == format) return row.create(std::move(to), dump);
    names += names.empty() ? "" : ", ";
    names += row.name;
  }
  fail(ErrorCode::invalid_argument, "there is no format '{}' to write tensors in (there are: {})", format, names);
}

}  // namespace

std::span<const Format> format_table() {
  return kFormats;
}

const Format& probe_format(ByteView first, const std::string& path) {
  const Format* found = find_format(first);
  if (found == nullptr) fail_unknown(as_text(first), path);
  return *found;
}

InputFile open_input(const std::string& path) {
  std::uint64_t most = kUnbounded;
  const Look look = [&](InputStream& in) {
    const Format& format = probe_format(in.peek(kProbeBytes), in.name());
    if (format.stated_bytes != nullptr) most = in_file(in.name(), [&] { return format.stated_bytes(in); });
    return most;
  };
  InputFile file = path == "-" ? InputFile::spool_stdin(look(stdin_stream())) : InputFile(path, look);
  if (file.size() > most) {
    fail_in(file.path(), ErrorCode::corrupt, "it goes on behind the {} bytes that its header tells of", most);
  }
  return file;
}

std::unique_ptr<DumpReader> open_reader(const std::string& path) {
  const OpeningScope inputs;
  if (path == "-") return open_stdin();
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) return open_folder(path);
  InputFile file = open_input(path);
  if (const auto told = told_of(file, path)) return open_raw(std::move(file), *told->raw, told->attributes);
  return open_file(std::move(file));
}

std::unique_ptr<DumpReader> open_reader(std::unique_ptr<const Source> source, std::string name) {
  return open_file(InputFile(std::move(source), std::move(name)));
}

std::unique_ptr<DumpReader> open_reader(ByteView bytes, std::string name) {
  return open_file(InputFile(bytes, std::move(name)));
}
std::unique_ptr<DumpWriter> create_writer(const std::string& path, std::string_view format, const Dump& dump,
                                          bool overwrite) {
  return create(Destination(path, overwrite), format, dump);
}

std::unique_ptr<DumpWriter> create_writer(std::unique_ptr<Sink> sink, std::string_view format, const Dump& dump) {
  return create(Destination(std::move(sink)), format, dump);
}

std::vector<std::string> format_losses(std::string_view format, const Dump& dump, std::string_view path) {
  const auto row = std::ranges::find(kFormats, format, &Format::name);
  return row == kFormats.end() || row->losses == nullptr ? std::vector<std::string>() : row->losses(dump, path);
}

std::vector<FileFormat> file_formats() {
  std::vector<FileFormat> out;
  for (const Format& row : kFormats) out.push_back({row.name, row.extensions, row.help, row.create != nullptr});
  return out;
}

std::string_view format_of_path(std::string_view path) {
  const std::string_view name = path.substr(path.rfind('/') + 1);
  const std::size_t dot = name.rfind('.');
  if (dot == std::string_view::npos) return {};
  std::string extension(name.substr(dot));
  for (char& c : extension) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  for (const Format& row : kFormats) {
    std::string_view rest = row.extensions;
    while (!rest.empty()) {
      const std::string_view one = rest.substr(0, rest.find(' '));
      if (one == extension) return row.name;
      rest.remove_prefix(std::min(rest.size(), one.size() + 1));
    }
  }
  return {};
}

}  // namespace kvzip
