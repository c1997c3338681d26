// SPDX-License-Identifier: Apache-2.0
// A container in the order of tokens: the first tokens are one, and the next are appended to it as others, in a file
// that nobody sees before the last of them is there (man/kvz.5, "Appended containers").
#include <fcntl.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "formats/borrowed_reader.hpp"
#include "formats/file_calls.hpp"
#include "formats/kvz/kvz_growing.hpp"
#include "formats/kvz/kvz_growth.hpp"
#include "formats/kvz/kvz_plan.hpp"
#include "formats/kvz/kvz_segments.hpp"
#include "formats/kvz/kvz_source.hpp"
#include "formats/selection.hpp"
#include "formats/text.hpp"
#include "kvzip/container.hpp"

namespace kvzip {
namespace {

using Tokens = std::pair<std::uint64_t, std::uint64_t>;  // the first, and one past the last

/// The tokens of every tensor that has some.
std::uint64_t even_tokens(const Dump& dump, const Recognition& roles) {
  const std::uint64_t tokens = tokens_of(dump, roles);
  if (tokens == 0) fail(ErrorCode::invalid_argument, "it has no keys or values of tokens that could give the order");
  for (std::size_t i = 0; i < dump.tensors.size(); ++i) {
    const TensorRole& role = roles.tensors[i];
    if (role.role == Role::other || role.axes.extent('T', dump.tensors[i].shape) == tokens) continue;
    // What is appended has as many tokens of each.
    fail(ErrorCode::invalid_argument,
         "tensor {} has {} tokens, and others have {}: they cannot stand in the order of tokens{}",
         quoted(dump.tensors[i].name), role.axes.extent('T', dump.tensors[i].shape), tokens,
         role.role == Role::query ? ", but keys and values can without queries" : "");
  }
  return tokens;
}

/// What measure_saliency() says of some of the tokens of all.
std::shared_ptr<const Saliency> saliency_of(const std::shared_ptr<const Saliency>& all, std::uint64_t tokens,
                                            Tokens some) {
  if (!all) return nullptr;
  auto out = std::make_shared<Saliency>();
  out->from_queries = all->from_queries;
  out->by_proxy = all->by_proxy;
  for (const auto& [head, weights] : all->heads) {
    if (weights.size() != tokens) continue;
    const auto first = weights.begin();
    out->heads.emplace(head, std::vector<float>(first + static_cast<std::ptrdiff_t>(some.first),
                                                first + static_cast<std::ptrdiff_t>(some.second)));
  }
  return out;
}

template <typename Out>
void pass_on(const InputFile& made, Out& out) {
  constexpr std::uint64_t kStep = std::uint64_t{4} << 20;
  Bytes some;
  for (std::uint64_t at = 0; at < made.size(); at += some.size()) {
    some.resize(std::min(kStep, made.size() - at));
    made.read_at(at, some);
    out.append(some);
  }
}

class Ordered {
 public:
  Ordered(DumpReader& dump, const Recognition& roles, const KvzOptions& options, unsigned threads,
          const Progress& progress)
      : dump_(dump), roles_(roles), options_(options), threads_(threads), progress_(progress) {
    for (const TensorInfo& tensor : dump.dump().tensors) bytes_ += tensor.bytes();
  }

  /// Writes a container for each `together` of the tokens, from the start of the file on.
  void write(int descriptor, const std::string& name, std::uint64_t tokens, std::uint64_t together) {
    GrowingFile file(descriptor, 0, name);
    for (std::uint64_t first = 0; first < tokens; first += std::min(together, tokens - first)) {
      const std::uint64_t begin = file.end();
      write_some(file, tokens, {first, first + std::min(together, tokens - first)});
      const RecordFile written(InputFile(copy_of(descriptor, name), name));
      const std::uint64_t described = written.header_at(begin + kPreludeBytes).decoded;
      check_room(segments_, described);
      segments_.described += described;
      before_ = file.commit(before_);
      segments_.all.push_back({begin, file.end() - begin});
    }
  }

 private:
  static FileDescriptor copy_of(int descriptor, const std::string& name) {
    FileDescriptor copy(::fcntl(descriptor, F_DUPFD_CLOEXEC, 0));
    if (copy.get() < 0) fail_errno(name, "open");
    return copy;
  }

  void write_some(GrowingFile& file, std::uint64_t tokens, Tokens some) {
    Selection selection;
    selection.tokens = some;
    // What has no tokens is in the first one.
    if (some.first > 0) selection.roles = {Role::key, Role::value, Role::query};
    const auto view = select(std::make_unique<BorrowedReader>(dump_), roles_, selection);
    KvzOptions options = options_;
    options.saliency = saliency_of(options_.saliency, tokens, some);
    fit_options(*view, *view->recognition(), options, threads_);
    const auto writer = create_kvz_writer(file.sink(), view->dump(), *view->recognition(), options);
    std::uint64_t size = 0;
    transcode(*view, *writer, threads_, [&](std::uint64_t done, std::uint64_t all) {
      size = all;
      if (progress_) progress_(done_ + done, bytes_);
    });
    done_ += size;
    writer->finish();
  }

  DumpReader& dump_;
  const Recognition& roles_;
  const KvzOptions& options_;
  unsigned threads_;
  const Progress& progress_;
  std::uint64_t bytes_ = 0, done_ = 0;
  Segments segments_;
  std::optional<Footer> before_;
};

/// `wanted` tokens, and as many more as whole frames, or what lies between restart points, take; all where that is
/// more.
std::uint64_t tokens_together(DumpReader& reader, const Recognition& roles, const KvzOptions& options,
                              std::uint64_t wanted) {
  if (reader.traits().once) {
    fail(ErrorCode::invalid_argument, "the order of tokens reads it out of its own order: not from a pipe");
  }
  const Dump& dump = reader.dump();
  if (wanted == 0) wanted = kTokensTogether;
  const std::uint64_t tokens = even_tokens(dump, roles);
  const Plan plan = make_plan(dump, roles, options.rules, options.chunk_tokens, &options.tables);
  std::uint64_t unit = 1;
  for (const PlanGroup& group : plan.groups) {
    if (!group.tiled) continue;
    std::uint64_t own = 0;  // of what is decoded by itself
    if (__builtin_mul_overflow(group.chunk, std::max<std::uint64_t>(group.restart, 1), &own)) own = tokens;
    unit = std::max(unit, own);
  }
  std::uint64_t together = 0;
  const std::uint64_t units = wanted / unit + (wanted % unit != 0 ? 1 : 0);
  if (__builtin_mul_overflow(units, unit, &together) || together >= tokens) return tokens;
  if ((tokens - 1) / together >= limits::kSegments) {
    fail(ErrorCode::limit, "{} tokens at a time are more than {} containers", together, limits::kSegments);
  }
  return together;
}

/// For what cannot be read again, as the file is while it grows.
template <typename Out>
std::uint64_t write_aside(Out& out, const std::string& name, DumpReader& dump, const Recognition& roles,
                          const KvzOptions& options, std::uint64_t wanted, unsigned threads, const Progress& progress) {
  const std::uint64_t together = tokens_together(dump, roles, options, wanted);
  const TemporaryFile aside(temporary_directory() + "/container");
  Ordered(dump, roles, options, threads, progress)
      .write(aside.descriptor(), name, tokens_of(dump.dump(), roles), together);
  pass_on(aside.input(name), out);
  out.finish();
  return together;
}

}  // namespace

std::uint64_t compress_by_tokens(const std::string& path, DumpReader& dump, const Recognition& roles,
                                 const KvzOptions& options, std::uint64_t wanted, unsigned threads, bool overwrite,
                                 const Progress& progress) {
  if (is_stream_output(path)) {
    OutputFile out(path, overwrite);
    return write_aside(out, path, dump, roles, options, wanted, threads, progress);
  }
  const std::uint64_t together = tokens_together(dump, roles, options, wanted);
  PendingFile out(path, overwrite);
  Ordered(dump, roles, options, threads, progress)
      .write(out.descriptor(), path, tokens_of(dump.dump(), roles), together);
  out.commit();
  return together;
}

std::uint64_t compress_by_tokens(std::unique_ptr<Sink> sink, DumpReader& dump, const Recognition& roles,
                                 const KvzOptions& options, std::uint64_t wanted, unsigned threads,
                                 const Progress& progress) {
  return write_aside(*sink, "the container", dump, roles, options, wanted, threads, progress);
}

}  // namespace kvzip
