// SPDX-License-Identifier: Apache-2.0
#include "src/sweep/sweep_run.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <map>
#include <utility>

#include "codec/fail.hpp"
#include "formats/borrowed_reader.hpp"
#include "formats/file.hpp"
#include "formats/kvz/kvz.hpp"
#include "formats/kvz/kvz_records.hpp"
#include "kvzip/container.hpp"
#include "src/bench/bench.hpp"
#include "src/measure/saliency_source.hpp"
#include "src/report/progress.hpp"
#include "src/request/request.hpp"
#include "src/request/selecting.hpp"
#include "src/sweep/sweep_rows.hpp"

namespace kvzip::tool {
namespace {

// What a setting's time goes into, about; for the time left.
constexpr double kEncodeShare = 0.2, kDecodeShare = 0.1;

/// Seconds that all threads together spent in a step.
class Stopwatch {
 public:
  template <typename F>
  void time(F&& f) {
    const double start = thread_seconds();
    f();
    nanoseconds_ += static_cast<std::uint64_t>(std::max(0.0, thread_seconds() - start) * 1e9);
  }
  double mbs(std::uint64_t bytes) const {
    const auto ns = static_cast<double>(nanoseconds_.load());
    return ns > 0 ? static_cast<double>(bytes) / ns * 1e3 : 0;
  }

 private:
  std::atomic<std::uint64_t> nanoseconds_{0};
};

/// A container's writer whose encoding is timed, and whose frames are counted by their first token.
class TimedWriter final : public DumpWriter {
 public:
  TimedWriter(std::unique_ptr<DumpWriter> inner, const Recognition& recognition)
      : inner_(std::move(inner)), recognition_(recognition) {}
  bool plans() const override { return true; }
  std::uint64_t part_count() const override { return inner_->part_count(); }
  Part part(std::uint64_t index) const override { return inner_->part(index); }
  void prepare(Part& part) const override {
    watch_.time([&] { inner_->prepare(part); });
  }
  void append(Part& part) override {
    const Slice& slice = part.slices.at(0);
    const std::size_t axis = recognition_.tensors[slice.tensor].axes.find('T');
    if (axis != Axes::npos && axis < slice.start.size()) {
      ChunkBytes& chunk = chunks_[slice.start[axis]];
      chunk.first = slice.start[axis];
      chunk.tokens = std::max(chunk.tokens, slice.count[axis]);
      for (const Bytes& frame : part.coded) chunk.bytes += frame.size() + kRecordHeaderBytes + kRecordTailBytes;
    }
    inner_->append(part);
  }
  void made_from(const InputList& inputs) override { inner_->made_from(inputs); }
  void finish() override { inner_->finish(); }

  const Stopwatch& watch() const { return watch_; }
  std::vector<ChunkBytes> chunks() const {
    std::vector<ChunkBytes> out;
    for (const auto& [first, chunk] : chunks_) out.push_back(chunk);
    return out;
  }

 private:
  std::unique_ptr<DumpWriter> inner_;
  const Recognition& recognition_;
  mutable Stopwatch watch_;
  std::map<std::uint64_t, ChunkBytes> chunks_;
};

/// A reader whose decoding is timed.
class TimedReader final : public BorrowedReader {
 public:
  using BorrowedReader::BorrowedReader;
  void expand(Part& part) const override {
    watch_.time([&] { BorrowedReader::expand(part); });
  }
  const Stopwatch& watch() const { return watch_; }

 private:
  mutable Stopwatch watch_;
};

/// The bytes of a tile belong to its members as its values do.
void add_member_sizes(const KvzGroup& group, const std::map<std::uint32_t, LayerResult*>& layers) {
  std::uint64_t values = 0, shared = 0;
  for (const KvzMember& member : group.members) {
    values += member.values;
    std::uint64_t until = group.coded_bytes;
    if (values != group.values) {
      const double share = static_cast<double>(values) / static_cast<double>(group.values);
      until = static_cast<std::uint64_t>(share * static_cast<double>(group.coded_bytes));
    }
    const std::uint64_t bytes = until - shared;
    shared += bytes;
    const auto found = layers.find(member.layer);
    if (found == layers.end() || member.role == Role::query) continue;
    LayerResult& layer = *found->second;
    (member.role == Role::value ? layer.value_bytes : layer.key_bytes) += bytes;
    (member.role == Role::value ? layer.value_values : layer.key_values) += member.values;
  }
}

/// Where a setting's frames went: kinds of bytes, and layers.
void add_sizes(SettingResult& row, const KvzSummary& summary) {
  row.file_bytes = summary.file_bytes;
  std::uint64_t named = 0;
  std::map<std::uint32_t, LayerResult*> layers;
  for (LayerResult& layer : row.layers) layers[layer.layer] = &layer;
  for (const KvzGroup& group : summary.groups) {
    for (std::size_t l = 0; l < kStreamLabels; ++l) {
      const ByteKind kind = byte_kind(static_cast<StreamLabel>(l));
      if (kind == ByteKind::headers) continue;
      row.bytes[static_cast<std::size_t>(kind)] += group.stream_bytes[l];
      named += group.stream_bytes[l];
    }
    add_member_sizes(group, layers);
  }
  row.bytes[static_cast<std::size_t>(ByteKind::headers)] = summary.file_bytes - named;
}

void add_fidelity_rows(SettingResult& row, const Fidelity& fidelity) {
  std::map<std::uint32_t, std::vector<HeadFidelity>> by_layer;  // the sequences of a batch together
  for (const LayerFidelity& layer : fidelity.layers) {
    auto& heads = by_layer[layer.layer];
    heads.insert(heads.end(), layer.heads.begin(), layer.heads.end());
  }
  for (const auto& [number, heads] : by_layer) {
    LayerResult layer;
    layer.layer = number;
    layer.all = summarise(heads);
    for (const HeadFidelity& head : heads) layer.heads.push_back(summarise({&head, 1}));
    row.layers.push_back(std::move(layer));
  }
  row.all = fidelity.all;
  const auto exact = [](const std::optional<ValueFigures>& f) {
    return !f || (f->nrmse == 0 && f->nonfinite_mismatches == 0);
  };
  const LayerFidelity* worst = fidelity.worst();
  if (worst != nullptr && !(exact(row.all.key) && exact(row.all.value))) row.worst_layer = worst->layer;
}

/// A setting that is to be measured, or was.
struct Candidate {
  const Setting* setting;
  Recipe recipe;
  RowStore store;
  std::optional<Sweep> kept;
};

/// What is the same for all settings on a dump.
class DumpSweep {
 public:
  DumpSweep(const std::string& path, const SweepRequest& request)
      : path_(path),
        request_(request),
        whole_(open_reader(path)),
        with_queries_(selected({Role::key, Role::value, Role::query})),
        meter_(*with_queries_, *with_queries_->recognition(), fidelity_options()) {
    require_file(*whole_, "a sweep");
    code_before_split();
    for (const TensorInfo& info : reader_->dump().tensors) {
      out_.source_bytes += info.bytes();
      out_.values += info.elements();
    }
    if (out_.values == 0) fail(ErrorCode::invalid_argument, "what is selected holds no values");
    out_.path = input_name(path);
    out_.model = reader_->recognition()->model.model;
    out_.dtype = dtype_name(reader_->dump().tensors.at(0).dtype);
  }

  SweepDump run() {
    std::vector<Candidate> all = candidates();
    const auto total = static_cast<std::uint64_t>(
        std::count_if(all.begin(), all.end(), [](const Candidate& one) { return !one.kept; }));
    ProgressLine line("sweep " + out_.path, !request_.quiet);
    const Progress progress = line.callback();
    measure_int8(all);
    std::uint64_t done = 0;
    std::string refused;
    for (Candidate& one : all) {
      if (one.kept) {
        take(one);
        continue;
      }
      line.label(fmt::format("sweep {}, {} of {}, {}", out_.path, done + 1, total, one.setting->name));
      const auto share = [&](double part) {
        if (!progress) return;
        const double parts = (static_cast<double>(done) + part) * static_cast<double>(out_.source_bytes);
        progress(static_cast<std::uint64_t>(parts), total * out_.source_bytes);
      };
      try {
        SettingResult row = write(*one.setting, one.recipe, &meter_, share);
        one.store.save(out_, row);
        out_.settings.push_back(std::move(row));
        if (out_.settings.size() == 1) check_measure();
      } catch (const Unsuited& error) {
        refused += fmt::format("{}{}: {}", refused.empty() ? "" : "; ", one.setting->name, error.what());
      }
      ++done;
    }
    if (out_.settings.empty()) fail(ErrorCode::invalid_argument, "no setting suits it: {}", refused);
    if (!refused.empty()) out_.note += fmt::format("{}left out: {}", out_.note.empty() ? "" : "; ", refused);
    return std::move(out_);
  }

 private:
  /// --layout and --map are of the files of queries, too, as in compare.
  FidelityOptions fidelity_options() const {
    FidelityOptions out = request_.fidelity;
    out.recognise = recognise_options(request_.recognising);
    return out;
  }

  /// Where queries ask, only what they meet decoded is coded: bits spent on later tokens, as an exact window of recent
  /// ones does, would buy nothing. Nor do the queries that ask then say which tokens matter.
  void code_before_split() {
    if (meter_.has_queries() && meter_.split() < meter_.tokens()) {
      const auto chosen = request_.selecting.selection().tokens;
      const std::uint64_t first = chosen ? chosen->first : 0;
      request_.selecting.tokens = fmt::format("{}:{}", first, first + meter_.split());
    }
    reader_ = selected({Role::key, Role::value});
    weighing_ = selected({Role::key, Role::value, Role::query});
    saliency_.emplace(*weighing_, *weighing_->recognition(), std::string(), std::string(), fidelity_options().recognise,
                      request_.fidelity.threads, progress_when_called("saliency", !request_.quiet, "layers"));
  }

  std::unique_ptr<DumpReader> selected(std::vector<Role> roles) {
    Recognising recognising = request_.recognising;
    recognising.some = true;
    recognising.say = std::exchange(say_, false);
    Selection selection = request_.selecting.selection();
    if (selection.roles.empty()) selection.roles = std::move(roles);
    // A dump from a pipe, which comes but once, has several selections.
    return select_positions(std::make_unique<BorrowedReader>(*whole_), recognise_input(*whole_, recognising, {}),
                            selection);
  }

  using Share = std::function<void(double)>;
  /// A pipeline that these tensors cannot take.
  struct Unsuited : std::runtime_error {
    using std::runtime_error::runtime_error;
  };

  /// Settings in the order asked for, with the rows that an earlier run has left.
  std::vector<Candidate> candidates() const {
    std::vector<Candidate> out;
    for (const Setting& setting : request_.settings) {
      Recipe recipe = recipe_of(path_, request_, setting);
      RowStore store(path_, request_, recipe);
      auto kept = store.load();
      out.push_back({&setting, std::move(recipe), std::move(store), std::move(kept)});
    }
    return out;
  }

  void check_measure() const {
    if (request_.measure.empty()) return;
    as_typed("--measure", [&] { find_measure(request_.measure, {{}, {}, {}, {out_}}); });
  }

  /// The size that ratios to int8 are of; a kept row knows it.
  void measure_int8(const std::vector<Candidate>& all) {
    for (const Candidate& one : all) {
      if (one.kept) out_.int8_bytes = std::max(out_.int8_bytes, one.kept->dumps[0].int8_bytes);
    }
    if (out_.int8_bytes != 0) return;
    const Setting int8 = preset_settings("int8", "--presets").at(0);
    try {
      out_.int8_bytes = write(int8, recipe_of(path_, request_, int8), nullptr, {}).file_bytes;
    } catch (const Unsuited&) {
      // Then there is no ratio to it.
    }
  }

  /// A kept row is of the same bytes; what it is called is this run's affair. What it knows of the queries holds for
  /// all.
  void take(Candidate& one) {
    SweepDump& from = one.kept->dumps.at(0);
    out_.tokens = from.tokens, out_.split = from.split;
    out_.queries = from.queries, out_.queries2 = from.queries2;
    out_.queries_from = from.queries_from, out_.note = from.note;
    describe(from.settings.at(0), *one.setting, one.recipe);
    out_.settings.push_back(std::move(from.settings.at(0)));
  }
  static void describe(SettingResult& row, const Setting& setting, const Recipe& recipe) {
    row.name = setting.name, row.family = setting.family, row.kind = setting.kind;
    row.rules = setting.rules.text();
    row.command = recipe.command;
    row.left_out = setting.left_out;
  }

  std::unique_ptr<DumpWriter> create(const TemporaryFile& file, const Recipe& recipe) {
    try {
      KvzOptions options = recipe.options;
      options.saliency = saliency_->of(options.rules);
      fit_options(*reader_, *reader_->recognition(), options, request_.fidelity.threads);
      return create_kvz_writer(file.sink(), reader_->dump(), *reader_->recognition(), options);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::invalid_argument && error.code() != ErrorCode::limit) throw;
      throw Unsuited(error.what());
    }
  }

  /// Encodes, decodes, and measures where there is a meter.
  SettingResult write(const Setting& setting, const Recipe& recipe, FidelityMeter* meter, const Share& share) {
    const auto part_of = [&](double from, double width) -> Progress {
      if (!share) return {};
      return [=](std::uint64_t done, std::uint64_t total) {
        share(from + width * static_cast<double>(done) / static_cast<double>(std::max<std::uint64_t>(1, total)));
      };
    };
    SettingResult row;
    describe(row, setting, recipe);
    const unsigned threads = request_.fidelity.threads;
    const TemporaryFile file(temporary_directory() + "/sweep");
    const PeakMemory peak;
    {
      TimedWriter writer(create(file, recipe), *reader_->recognition());
      transcode(*reader_, writer, threads, part_of(0, kEncodeShare));
      writer.finish();
      row.encode_mbs = writer.watch().mbs(out_.source_bytes);
      row.chunks = writer.chunks();
    }
    const auto coded = open_kvz(file.input(file.path()));
    if (meter == nullptr) {
      row.file_bytes = coded->summary().file_bytes;
      return row;
    }
    {
      TimedReader reader(*coded);
      for_each_part(reader, {}, {}, threads, part_of(kEncodeShare, kDecodeShare));
      row.decode_mbs = reader.watch().mbs(out_.source_bytes);
    }
    row.peak_bytes = peak.bytes();
    const Fidelity fidelity =
        meter->measure(*coded, part_of(kEncodeShare + kDecodeShare, 1 - kEncodeShare - kDecodeShare));
    out_.tokens = fidelity.tokens, out_.split = fidelity.split;
    out_.queries = fidelity.queries, out_.queries2 = fidelity.queries2;
    out_.queries_from = fidelity.queries_from, out_.note = fidelity.note;
    add_fidelity_rows(row, fidelity);
    add_sizes(row, coded->summary());
    return row;
  }

  std::string path_;
  SweepRequest request_;
  bool say_ = !request_.quiet;  // of what is not recognised, once
  std::unique_ptr<DumpReader> whole_, with_queries_;
  FidelityMeter meter_;
  std::unique_ptr<DumpReader> reader_, weighing_;  // what is coded, and the same with its queries
  std::optional<SaliencySource> saliency_;
  SweepDump out_;
};

}  // namespace

ByteKind byte_kind(StreamLabel label) {
  switch (label) {
    case StreamLabel::codes:
      return ByteKind::codes;
    case StreamLabel::scales:
      return ByteKind::scales;
    case StreamLabel::factors:
      return ByteKind::factors;
    case StreamLabel::positions:
    case StreamLabel::outliers:
      return ByteKind::outliers;
    case StreamLabel::exact:
      return ByteKind::exact;
    case StreamLabel::tables:
      return ByteKind::tables;
    case StreamLabel::flags:
      return ByteKind::headers;
  }
  return ByteKind::headers;
}

SweepDump sweep_dump(const std::string& path, const SweepRequest& request) {
  return DumpSweep(path, request).run();
}

}  // namespace kvzip::tool
