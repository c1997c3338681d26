// SPDX-License-Identifier: Apache-2.0
#include "src/cli/batch.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <filesystem>
#include <map>
#include <new>
#include <set>
#include <thread>
#include <utility>

#include "formats/file.hpp"
#include "src/cli/workers.hpp"
#include "src/report/progress.hpp"
#include "src/report/report.hpp"

namespace kvzip::tool {
namespace {

namespace fs = std::filesystem;

Json outcome_json(const BatchFile& file, const Outcome& outcome, const std::string& error,
                  std::optional<double> seconds) {
  const auto number = [](const std::optional<std::uint64_t>& n) { return n ? Json(*n) : Json(nullptr); };
  Json out{{"schema", 1},
           {"input", file.in},
           {"output", file.out.empty() ? Json(nullptr) : Json(file.out)},
           {"outcome", outcome.skipped           ? "skipped"
                       : outcome.status == kDone ? "done"
                                                 : "failed"},
           {"status", outcome.status},
           {"error", error.empty() ? Json(nullptr) : Json(error)},
           {"source_bytes", number(outcome.source_bytes)},
           {"file_bytes", number(outcome.file_bytes)},
           {"seconds", json_number(seconds)}};
  if (outcome.shared_tokens > 0) {
    out["shared_tokens"] = outcome.shared_tokens;
    out["shared_bytes"] = outcome.shared_bytes;
  }
  add_bytes_of_name(out, "input", file.in);
  add_bytes_of_name(out, "output", file.out);
  return out;
}

/// Counts for the line at the end.
struct Summary {
  std::size_t done = 0, skipped = 0, failed = 0;
  std::uint64_t source = 0, coded = 0, shared = 0, tokens = 0;

  void add(const Outcome& outcome) {
    ++(outcome.skipped ? skipped : outcome.status == kDone ? done : failed);
    if (!outcome.source_bytes || !outcome.file_bytes) return;
    shared += outcome.shared_bytes;
    tokens += outcome.shared_tokens;
    source += *outcome.source_bytes;
    coded += *outcome.file_bytes;
  }
  std::string text(std::size_t files) const {
    std::string line = fmt::format("{} files: {} done", files, done);
    if (skipped > 0) line += fmt::format(", {} skipped", skipped);
    if (failed > 0) line += fmt::format(", {} failed", failed);
    if (const std::size_t left = files - done - skipped - failed; left > 0) line += fmt::format(", {} not tried", left);
    if (coded > 0) {
      line += fmt::format("; {} in dumps, {} in containers ({:.2f}x)", size_text(source), size_text(coded),
                          ratio_of(source, coded).value_or(0));
    }
    if (tokens > 0) line += fmt::format("; {} tokens, {} in dumps, stored once", tokens, size_text(shared));
    return line;
  }
};

/// One file of a batch: its errors are told, and its line is written.
Outcome try_file(const Batch& batch, const BatchFile& file, const std::function<Outcome(const BatchFile&)>& one,
                 bool alone) {
  // Each output is as private as its own input, not as the most private of all.
  forget_inputs();
  give_memory_back();  // and has as much as the first
  Outcome outcome;
  const auto start = std::chrono::steady_clock::now();
  std::optional<Failure> failure = file.failed;
  if (!failure) {
    failure = failure_of([&] {
      outcome.skipped = is_done_before(batch, file);
      if (outcome.skipped) return;
      if (!batch.folder.empty()) make_folder_of(file.out, file.in, file.below);
      outcome = one(file);
    });
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  if (failure) {
    outcome.status = failure->status;
    std::error_code ignored;
    const bool piped = fs::is_other(file.in, ignored);  // what was read of it is gone
    outcome.starved = failure->memory && !alone && !piped;
    if (outcome.starved) return outcome;
    complain(failure->text);
  }
  if (batch.json) {
    const std::string error = outcome.status == kDone ? std::string() : last_complaint();
    print_json_line(outcome_json(file, outcome, error, took.count()));
  }
  return outcome;
}

using Outcomes = std::vector<std::optional<Outcome>>;

Outcomes in_order(const Batch& batch, const std::vector<BatchFile>& files,
                  const std::function<Outcome(const BatchFile&)>& one, const Turns& turns) {
  Outcomes outcomes(files.size());
  for (std::size_t i = 0; i < files.size(); ++i) {
    outcomes[i] = try_file(batch, files[i], one, true);
    if (turns.done) turns.done(i, *outcomes[i]);
    if (outcomes[i]->status != kDone && !batch.keep_going) break;
  }
  return outcomes;
}

/// Each in this process, which has all the memory that may be used: a new one would not have what this one holds.
void try_starved_again(const Batch& batch, Outcomes& outcomes,
                       const std::function<std::optional<Outcome>(std::size_t)>& one) {
  const auto fails = [](const std::optional<Outcome>& o) { return o && o->status != kDone && !o->starved; };
  bool failed = std::any_of(outcomes.begin(), outcomes.end(), fails);
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    if (!outcomes[i] || !outcomes[i]->starved) continue;
    outcomes[i].reset();
    if (failed && !batch.keep_going) continue;
    outcomes[i] = one(i);
    failed = failed || fails(outcomes[i]);
  }
}

/// A worker that is killed writes no line of its own.
void say_killed(const Batch& batch, const BatchFile& file, int signal) {
  complain(fmt::format("{}: the process at work on it {}", input_name(file.in),
                       signal == 0 ? "gave up" : fmt::format("was ended by signal {}", signal)));
  if (!batch.json) return;
  Outcome outcome;
  outcome.status = kError;
  print_json_line(outcome_json(file, outcome, last_complaint(), {}));
}

/// One rank after the other.
Outcomes side_by_side(const Batch& batch, const std::vector<BatchFile>& files,
                      const std::function<Outcome(const BatchFile&)>& one, const Turns& turns) {
  const MemoryShares shares = share_memory(std::min<std::size_t>(batch.jobs, files.size()));
  ProgressLine line("all", !batch.quiet, "files");
  const Progress show = line.callback();
  Totals before;
  const auto watch = [&](const Totals& now) {
    line.written(before.coded + now.coded, before.source + now.source);
    if (show) show(before.files + now.files, files.size());
  };
  std::map<unsigned, std::vector<std::size_t>> ranks;
  for (std::size_t i = 0; i < files.size(); ++i) ranks[turns.rank.empty() ? 0 : turns.rank[i]].push_back(i);
  Outcomes outcomes(files.size());
  bool failed = false;
  for (const auto& rank : ranks) {
    if (failed && !batch.keep_going) break;
    const std::vector<std::size_t>& some = rank.second;
    const auto killed = [&](std::size_t i, int signal) { say_killed(batch, files[some[i]], signal); };
    const auto beside = [&](std::size_t i) { return try_file(batch, files[some[i]], one, false); };
    const auto alone = [&](std::size_t i) { return try_file(batch, files[some[i]], one, true); };
    Outcomes got = run_workers({shares, some.size(), batch.keep_going}, beside, killed, watch);
    try_starved_again(batch, got, alone);
    for (std::size_t i = 0; i < some.size(); ++i) {
      outcomes[some[i]] = got[i];
      failed = failed || (got[i] && got[i]->status != kDone);
      if (got[i]) before.add(*got[i]);
      if (turns.done && got[i]) turns.done(some[i], *got[i]);
    }
  }
  return outcomes;
}

}  // namespace

std::optional<Failure> failure_of(const std::function<void()>& f) {
  try {
    f();
    return std::nullopt;
  } catch (const UsageError& error) {
    return Failure{kUsage, error.what()};
  } catch (const Error& error) {
    return Failure{exit_status(error.code()), error_text(error), error.hint() == Hint::memory};
  } catch (const std::bad_alloc&) {
    return Failure{kError, memory_advice(), true};
  } catch (const std::exception& error) {
    return Failure{kError, error.what()};
  }
}

bool is_done_before(const Batch& batch, const BatchFile& file) {
  std::error_code ignored;
  return batch.skip_existing && !file.out.empty() && fs::is_regular_file(file.out, ignored);
}

void add_batch(CLI::App& app, Batch& batch, bool outputs) {
  app.add_flag("-r,--recursive", batch.recursive, "folders: all files in them of a fitting name");
  add_text(app, "--files0-from", batch.names, "FILE", "more inputs: names that end with a zero byte");
  app.add_flag("--json", batch.json, "a line of JSON for each file");
  app.add_option("--jobs", batch.jobs, "files at a time; 0 = as many as processors")
      ->option_text("N")
      ->transform(number_in(0u, 4096u));
  if (!outputs) return;
  app.add_flag("--keep-going", batch.keep_going, "after a file that fails, go on with the next");
  add_text(app, "--output-dir", batch.folder, "DIR", "where outputs go, in folders like the inputs'");
  app.add_flag("--skip-existing", batch.skip_existing, "leave out files whose output exists");
}

void divide_threads(Batch& batch, Common& common) {
  batch.quiet = common.quiet;
  const unsigned processors = std::max(1u, std::thread::hardware_concurrency());
  if (batch.jobs == 0) batch.jobs = processors;
  if (batch.jobs > 1 && common.threads == 0) common.threads = std::max(1u, processors / batch.jobs);
}

void check_level_words(const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    if (name.size() < 2 || name[0] != '-' || name.find_first_not_of("0123456789", 1) != name.npos) continue;
    throw UsageError(fmt::format("levels are -1 to -9; a file of this name is ./{}", name));
  }
}

void name_outputs(const Batch& batch, std::vector<BatchFile>& files,
                  const std::function<std::string(const std::string&)>& name) {
  std::map<std::string, std::string> inputs;  // by output
  std::set<std::pair<std::uint64_t, std::uint64_t>> read;
  for (const BatchFile& file : files) {
    if (const auto id = identity_of_input(file.in)) read.emplace(id->device, id->inode);
  }
  for (BatchFile& file : files) {
    if (file.failed) continue;
    if (file.in == "-" && !batch.folder.empty()) {
      throw UsageError("standard input has no name for a file in --output-dir: give one with -o");
    }
    const auto give_name = [&] {
      file.out = batch.folder.empty() ? name(file.in) : (fs::path(batch.folder) / name(file.below)).string();
      // One that is there may be another's input, which is still to be read.
      const auto id = is_stream_output(file.out) ? std::nullopt : file_identity(file.out);
      if (id && read.contains({id->device, id->inode}) && !is_done_before(batch, file)) fail_same_file(file.out);
    };
    if (!batch.keep_going) {
      give_name();
    } else if ((file.failed = failure_of(give_name))) {
      continue;
    }
    const auto [at, fresh] = inputs.try_emplace(fs::path(file.out).lexically_normal().string(), file.in);
    if (!fresh) throw UsageError(fmt::format("{} and {} would both become {}", at->second, file.in, file.out));
  }
}

int run_batch(const Batch& batch, const Common& common, const std::vector<BatchFile>& files,
              const std::function<Outcome(const BatchFile&)>& one, const Turns& turns) {
  for (const BatchFile& file : files) {
    if (batch.json && is_standard_output(file.out)) throw UsageError("--json and an output share standard output");
    if (batch.jobs > 1 && files.size() > 1 && is_standard_output(file.out)) {
      throw UsageError("--jobs: outputs of several inputs would mix on standard output");
    }
  }
  const auto writes = [&](const BatchFile& file) { return is_standard_output(file.out); };
  if (batch.json || std::any_of(files.begin(), files.end(), writes)) keep_progress_apart();
  if (files.size() > 1) give_up_silent_pipes();
  if (files.empty() && !common.quiet) {
    note(batch.recursive ? "there is no file of a fitting name"
                         : fmt::format("there is no file: none is named in {}", input_name(batch.names)));
  }
  const auto outcomes =
      batch.jobs > 1 && files.size() > 1 ? side_by_side(batch, files, one, turns) : in_order(batch, files, one, turns);
  int worst = kDone;
  Summary summary;
  for (const auto& outcome : outcomes) {
    if (!outcome) continue;
    summary.add(*outcome);
    worst = std::max(worst, outcome->status);
  }
  if (files.size() > 1 && !common.quiet) note(summary.text(files.size()));
  return worst;
}

}  // namespace kvzip::tool
