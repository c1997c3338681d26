// SPDX-License-Identifier: Apache-2.0
#include "src/load/load_source.hpp"

#include <algorithm>
#include <filesystem>
#include <numeric>

#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "codec/nearest.hpp"
#include "formats/file.hpp"
#include "kvzip/container.hpp"
#include "src/report/markup.hpp"

namespace kvzip::tool {
namespace {

/// What is the same in all containers of one cache.
struct Cache {
  std::vector<TensorInfo> tensors;  // keys and values, by name
  std::uint64_t tokens = 0, source_bytes = 0, values = 0;
};

/// In messages.
std::string called(const std::string& path) {
  return path == "-" ? "standard input" : path;
}

bool is_cache(Role role) {
  return role == Role::key || role == Role::value || role == Role::pair;
}

Cache cache_of(const KvzReader& reader, const KvzSummary& summary) {
  Cache out;
  const Recognition& recognition = *reader.recognition();
  for (std::size_t t = 0; t < recognition.tensors.size(); ++t) {
    if (is_cache(recognition.tensors[t].role)) out.tensors.push_back(reader.dump().tensors[t]);
  }
  std::sort(out.tensors.begin(), out.tensors.end(),
            [](const TensorInfo& a, const TensorInfo& b) { return a.name < b.name; });
  for (const KvzGroup& group : summary.groups) {
    if (!is_cache(group.role)) continue;
    out.tokens = std::max(out.tokens, group.rows);
    out.source_bytes += group.source_bytes;
    out.values += group.values;
  }
  return out;
}

std::vector<ChunkBytes> frames_of(const KvzSummary& summary) {
  std::vector<ChunkBytes> out;
  for (const KvzGroup& group : summary.groups) {
    if (!is_cache(group.role)) continue;
    if (group.rows == 0) fail(ErrorCode::invalid_argument, "its keys and values are not cut by tokens");
    for (std::uint64_t f = 0; f < group.frame_bytes.size(); ++f) {
      const std::uint64_t first = f * group.chunk_rows, tokens = std::min(group.chunk_rows, group.rows - first);
      // Frames up to the next restart point need those before them: the quality cannot change there.
      if (group.restart != 0 && f % group.restart != 0) {
        out.back().tokens += tokens;
        out.back().bytes += group.frame_bytes[f];
      } else {
        out.push_back({first, tokens, group.frame_bytes[f]});
      }
    }
  }
  return out;
}

void set_chunks(LoadSource& source, std::uint64_t chunk_tokens) {
  if (source.tokens == 0) fail(ErrorCode::invalid_argument, "there are no tokens to load");
  source.chunks.reserve(chunk_count(source.tokens, chunk_tokens));
  for (std::uint64_t first = 0; first < source.tokens;) {
    const std::uint64_t tokens = std::min(chunk_tokens, source.tokens - first);
    source.chunks.push_back({first, tokens});
    first += tokens;
  }
}

LoadLevel container_level(const std::string& path, const Cache& cache, const KvzSummary& summary,
                          std::uint64_t chunk_tokens) {
  auto bytes = chunk_bytes(frames_of(summary), cache.tokens, chunk_tokens);
  if (!bytes) {
    fail(ErrorCode::invalid_argument,
         "its frames do not end where chunks of {} tokens do: give a multiple of their length with --chunk-tokens, or "
         "compress with a --chunk-tokens that divides it",
         chunk_tokens);
  }
  return {path, 0, std::move(*bytes)};
}

const SweepDump& chosen_dump(const Sweep& sweep, const std::string& path) {
  if (path.empty() && sweep.dumps.size() == 1) return sweep.dumps[0];
  for (const SweepDump& dump : sweep.dumps) {
    if (dump.path == path) return dump;
  }
  std::string known;
  for (const SweepDump& dump : sweep.dumps)
    known += fmt::format("{}{}", known.empty() ? "" : ", ", plain_text(dump.path, 200));
  fail(ErrorCode::invalid_argument, "choose one dump of the sweep with --dump: it has {}",
       known.empty() ? "none" : known);
}

/// Settings that were asked for, in any order.
std::vector<bool> named_settings(const SweepDump& dump, const std::vector<std::string>& names) {
  std::vector<bool> out(dump.settings.size());
  for (const std::string& name : names) {
    const auto at = std::find_if(dump.settings.begin(), dump.settings.end(),
                                 [&](const SettingResult& s) { return s.name == name; });
    if (at == dump.settings.end()) {
      std::vector<std::string_view> known;
      for (const SettingResult& s : dump.settings) known.emplace_back(s.name);
      const std::string meant(nearest(name, known));
      fail(ErrorCode::invalid_argument, "the sweep has no setting '{}'{}", plain_text(name, 100),
           meant.empty() ? meant : fmt::format("; did you mean '{}'?", plain_text(meant, 100)));
    }
    out[static_cast<std::size_t>(at - dump.settings.begin())] = true;
  }
  return out;
}

}  // namespace

LoadSource read_containers(const std::vector<std::string>& paths, std::uint64_t chunk_tokens) {
  LoadSource out;
  Cache first;
  for (const std::string& path : paths) {
    in_file(called(path), [&] {
      const auto reader = open_kvz(path);
      const KvzSummary summary = reader->summary();
      if (summary.appended > 0) {
        fail(ErrorCode::invalid_argument, "others were appended to it: 'kvzip compress' makes one container of it");
      }
      Cache cache = cache_of(*reader, summary);
      if (cache.tensors.empty()) fail(ErrorCode::invalid_argument, "it holds no keys and values");
      if (out.levels.empty()) {
        first = cache;
      } else if (cache.tensors != first.tensors) {
        fail(ErrorCode::invalid_argument, "its keys and values are not those of {}", paths[0]);
      }
      out.levels.push_back(container_level(path, cache, summary, chunk_tokens));
    });
  }
  out.tokens = first.tokens;
  out.source_bytes = first.source_bytes;
  out.values = first.values;
  set_chunks(out, chunk_tokens);
  const auto total = [](const LoadLevel& l) {
    return std::accumulate(l.bytes.begin(), l.bytes.end(), std::uint64_t{0});
  };
  std::stable_sort(out.levels.begin(), out.levels.end(),
                   [&](const LoadLevel& a, const LoadLevel& b) { return total(a) > total(b); });
  return out;
}

bool is_sweep_text(const std::string& path) {
  if (path == "-") refuse_terminal(stdin_stream());
  if (path == "-") return true;  // containers need positions
  const auto bytes = stored_bytes(path);
  std::error_code ignored;
  // Looking into a pipe takes its bytes away.
  if (!bytes && std::filesystem::exists(path, ignored) && !std::filesystem::is_directory(path, ignored)) return true;
  const InputFile file(path);
  std::byte first{};
  if (file.size() == 0) return false;
  file.read_at(0, std::span(&first, 1));
  return first == std::byte{'{'};
}

/// What the settings have coded: where queries asked, only the tokens before the split. Sweeps of 0.1 coded all.
std::uint64_t coded_tokens(const SweepDump& dump) {
  const auto later = [&](const ChunkBytes& chunk) { return chunk.first + chunk.tokens > dump.split; };
  const bool all = std::any_of(dump.settings.begin(), dump.settings.end(), [&](const SettingResult& setting) {
    return std::any_of(setting.chunks.begin(), setting.chunks.end(), later);
  });
  return all || dump.queries == 0 ? dump.tokens : dump.split;
}

LoadSource sweep_levels(const Sweep& sweep, const SweepChoice& choice, std::uint64_t chunk_tokens) {
  const SweepDump& dump = chosen_dump(sweep, choice.dump);
  Sweep one;
  one.dumps = {dump};
  const Measure& measure = find_measure(choice.measure, one);
  LoadSource out;
  out.measure = measure.label;
  out.tokens = coded_tokens(dump);
  out.source_bytes = dump.source_bytes;
  out.values = dump.values;
  set_chunks(out, chunk_tokens);
  const std::vector<bool> named = named_settings(dump, choice.settings);
  SweepDump usable;
  std::vector<LoadLevel> levels;
  for (std::size_t i = 0; i < dump.settings.size(); ++i) {
    const SettingResult& s = dump.settings[i];
    if (!choice.settings.empty() && !named[i]) continue;
    const auto error = measure.of(s.all);
    auto bytes = chunk_bytes(s.chunks, out.tokens, chunk_tokens);
    if (!error || !bytes) {
      out.skipped.push_back(s.name);
      continue;
    }
    usable.settings.push_back(s);
    levels.push_back({s.name, *error, std::move(*bytes)});
  }
  const std::vector<bool> front = pareto_front(usable, measure);
  for (std::size_t i = 0; i < levels.size(); ++i) {
    if (front[i] || !choice.settings.empty()) out.levels.push_back(std::move(levels[i]));
  }
  if (out.levels.empty()) {
    fail(ErrorCode::invalid_argument, "no setting of the sweep has {} and frames that end where chunks of {} tokens do",
         measure.id, chunk_tokens);
  }
  std::stable_sort(out.levels.begin(), out.levels.end(),
                   [](const LoadLevel& a, const LoadLevel& b) { return a.error < b.error; });
  return out;
}

LoadSource read_sweep_levels(const std::string& path, const SweepChoice& choice, std::uint64_t chunk_tokens) {
  return in_file(called(path), [&] {
    return sweep_levels(read_sweep(read_text(path, limits::kSweepText, "a sweep")), choice, chunk_tokens);
  });
}

BandwidthTrace read_trace(const std::string& path) {
  return in_file(called(path),
                 [&] { return BandwidthTrace::parse(read_text(path, limits::kTraceText, "a trace of bandwidth")); });
}

}  // namespace kvzip::tool
