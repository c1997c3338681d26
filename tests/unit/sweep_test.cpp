// SPDX-License-Identifier: Apache-2.0
// What a sweep says of a setting against the same done by hand: its own command, and a comparison of the two files.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <numeric>

#include "formats/selection.hpp"
#include "kvzip/container.hpp"
#include "kvzip/error.hpp"
#include "src/commands.hpp"
#include "src/measure/comparison.hpp"
#include "src/sweep/sweep_report.hpp"
#include "src/sweep/sweep_run.hpp"
#include "src/synth/synth.hpp"
#include "tests/support/dump_file.hpp"
#include "tests/unit/scratch_directory.hpp"

using namespace kvzip;
using namespace kvzip::test;
using namespace kvzip::tool;

namespace {

namespace fs = std::filesystem;

SynthOptions small(std::uint64_t tokens = 300) {
  SynthOptions o;
  o.layers = 3;
  o.heads = 2;
  o.head_dim = 16;
  o.query_heads = 4;
  o.tokens = tokens;
  o.dtype = DType::f16;
  o.seed = 3;
  return o;
}

std::string write_synth(const ScratchDirectory& scratch, const SynthOptions& options, std::string_view name = "a") {
  SynthReader reader(options);
  return write_dump(reader, scratch.file(std::string(name) + ".safetensors"));
}

SweepRequest request_of(std::vector<Setting> settings) {
  SweepRequest out;
  out.settings = std::move(settings);
  out.fidelity.threads = 1;
  out.fidelity.queries_per_head = 20;
  out.quiet = true;
  return out;
}
SweepRequest request_of(const std::string& presets) {
  return request_of(preset_settings(presets, "--presets"));
}

/// Runs a row's command as the shell would, with files in `scratch`.
std::string run_command(const SettingResult& row, const ScratchDirectory& scratch) {
  std::string out = scratch.file("out.kvz");
  std::string text = row.command;
  const auto replace = [&](std::string_view what, const std::string& with) {
    const auto at = text.find(what);
    if (at != text.npos) text.replace(at, what.size(), with);
  };
  replace("OUT.kvz", out);
  if (text.find("./RULES.txt") != text.npos) {
    replace("./RULES.txt", scratch.file("RULES.txt", row.rules));
  }
  CLI::App app("", "kvzip");
  Action action;
  add_compress(app, action);
  app.parse(text + " -q -f", true);
  CHECK(action() == kDone);
  return out;
}

std::uint64_t sum(std::span<const std::uint64_t> numbers) {
  return std::accumulate(numbers.begin(), numbers.end(), std::uint64_t{0});
}

/// Bytes of a file by the words of its own summary.
void check_bytes(const SettingResult& row, const std::string& file) {
  const KvzSummary summary = open_kvz(file)->summary();
  CHECK(row.file_bytes == fs::file_size(file));
  CHECK(sum(row.bytes) == row.file_bytes);
  std::array<std::uint64_t, kStreamLabels> streams{};
  std::map<std::uint32_t, std::uint64_t> layers;
  std::uint64_t frames = 0, values = 0;
  bool together = false;  // layers share frames, and each has its part of them
  for (const KvzGroup& group : summary.groups) {
    for (std::size_t l = 0; l < kStreamLabels; ++l) streams[l] += group.stream_bytes[l];
    layers[group.layer.value_or(0)] += group.coded_bytes;
    for (const KvzMember& member : group.members) {
      if (member.layer == group.members[0].layer) continue;
      together = true;
      layers.try_emplace(member.layer);
    }
    frames += group.coded_bytes;
    values += group.values;
  }
  const auto stream = [&](StreamLabel label) { return streams[static_cast<std::size_t>(label)]; };
  const auto kind = [&](ByteKind k) { return row.bytes[static_cast<std::size_t>(k)]; };
  CHECK(kind(ByteKind::codes) == stream(StreamLabel::codes));
  CHECK(kind(ByteKind::scales) == stream(StreamLabel::scales));
  CHECK(kind(ByteKind::factors) == stream(StreamLabel::factors));
  CHECK(kind(ByteKind::outliers) == stream(StreamLabel::positions) + stream(StreamLabel::outliers));
  CHECK(kind(ByteKind::exact) == stream(StreamLabel::exact));
  CHECK(kind(ByteKind::tables) == stream(StreamLabel::tables));
  // Layers are their frames; what is not in a frame is a header.
  REQUIRE(row.layers.size() == layers.size());
  std::uint64_t layer_bytes = 0, layer_values = 0;
  for (const LayerResult& layer : row.layers) {
    if (!together) CHECK(layer.key_bytes + layer.value_bytes == layers.at(layer.layer));
    layer_bytes += layer.key_bytes + layer.value_bytes;
    layer_values += layer.key_values + layer.value_values;
  }
  CHECK(layer_bytes == frames);
  CHECK(layer_values == values);
  CHECK(row.file_bytes - frames <= kind(ByteKind::headers));
  std::uint64_t chunk_bytes = 0, tokens = 0;
  for (const ChunkBytes& chunk : row.chunks) {
    CHECK(chunk.first == tokens);
    tokens += chunk.tokens;
    chunk_bytes += chunk.bytes;
  }
  CHECK(chunk_bytes == frames);
}

void check_figures(const std::optional<ValueFigures>& row, const Distortion& want) {
  REQUIRE(row);
  CHECK(row->values == want.values());
  CHECK(row->nrmse == doctest::Approx(want.nrmse()).epsilon(1e-12));
  CHECK(row->max_abs == want.max_abs());
  CHECK(row->cosine_min == doctest::Approx(want.cosine_min()).epsilon(1e-9));
  CHECK(row->cosine_mean == doctest::Approx(want.cosine_mean()).epsilon(1e-9));
  CHECK(row->nonfinite_mismatches == want.nonfinite_mismatches());
  if (want.nrmse() > 0) CHECK(row->snr_db == doctest::Approx(-20 * std::log10(want.nrmse())).epsilon(1e-9));
}

/// Errors by `kvzip compare` of the dump and the file.
void check_errors(const SettingResult& row, const std::string& dump, std::uint64_t tokens, const std::string& file) {
  auto whole = open_reader(dump);
  const Recognition recognition = recognise(whole->dump(), {});
  const auto original = select(std::move(whole), recognition, parse_selection("", fmt::format("0:{}", tokens), ""));
  const auto decoded = open_reader(file);
  CompareOptions options;
  options.common = true;
  options.threads = 1;
  const Comparison compared = compare_dumps(*original, *decoded, recognise(original->dump(), {}), options, {});
  check_figures(row.all.key, compared.roles.at(Role::key).distortion);
  check_figures(row.all.value, compared.roles.at(Role::value).distortion);
  for (const TensorComparison& tensor : compared.tensors) {
    const auto layer = std::find_if(row.layers.begin(), row.layers.end(),
                                    [&](const LayerResult& l) { return l.layer == tensor.layer; });
    REQUIRE(layer != row.layers.end());
    check_figures(tensor.role == Role::key ? layer->all.key : layer->all.value, tensor.all().distortion);
  }
}

void check_worst(const SettingResult& row) {
  const auto error = [](const LayerResult& l) { return l.all.attention ? l.all.attention->output_nrmse : 0; };
  const auto worst = std::max_element(row.layers.begin(), row.layers.end(),
                                      [&](const LayerResult& a, const LayerResult& b) { return error(a) < error(b); });
  if (row.all.key->nrmse == 0 && row.all.value->nrmse == 0) {
    CHECK_FALSE(row.worst_layer);
  } else {
    CHECK(row.worst_layer == worst->layer);
  }
}

/// A sweep as text, without what a clock or the memory says.
std::string timeless(SweepDump dump) {
  for (SettingResult& row : dump.settings) {
    row.encode_mbs = row.decode_mbs = 0;
    row.peak_bytes.reset();
  }
  return sweep_json({"", "", "", {std::move(dump)}}).dump();
}

std::vector<Setting> every_kind(const ScratchDirectory& scratch) {
  std::vector<Setting> out = preset_settings("all", "--presets");
  const auto add = [&](std::vector<Setting> more) { std::move(more.begin(), more.end(), std::back_inserter(out)); };
  add(preset_settings(scratch.file("mine.txt", "chunk = 100\nkv[*] = quant:bits=4,pack\n"), "--presets"));
  add(file_settings(scratch.file("p.txt",
                                 "quant:bits=3,rans\nnamed 1: cast,pack\n"
                                 "[by layer]\nchunk = 64\nkey[0-1] = quant:bits=8,pack\nkey[*] = quant:bits=4,pack\n"
                                 "value[*] = quant:bits=2,pack\n"
                                 "[whole]\nchunk = all\nkey = quant:bits=2,pack\nvalue = quant:bits=2,pack\n")));
  add(grid_settings(preset_settings("gear-2", "--presets"), "quant.bits=3;lowrank.rank=0,2"));
  make_names_differ(out);
  return out;
}

}  // namespace

TEST_CASE("sweep: a row is what its command and a comparison give") {
  const ScratchDirectory scratch;
  const std::string dump = write_synth(scratch, small());
  const SweepDump swept = sweep_dump(dump, request_of(every_kind(scratch)));
  CHECK(swept.values == 2 * 3 * 2 * 225 * 16);  // those before the split
  CHECK(swept.source_bytes == 2 * swept.values);
  CHECK(swept.tokens == 300);
  CHECK(swept.split == 225);
  CHECK(swept.queries == 20);
  CHECK(swept.dtype == "F16");
  CHECK(swept.settings.size() == builtin_presets().size() + 7);
  for (const SettingResult& row : swept.settings) {
    CAPTURE(row.name);
    CAPTURE(row.command);
    const std::string file = run_command(row, scratch);
    check_bytes(row, file);
    check_errors(row, dump, swept.split, file);
    check_worst(row);
    CHECK(row.encode_mbs > 0);
    CHECK(row.decode_mbs > 0);
    if (row.name == "int8") CHECK(swept.int8_bytes == row.file_bytes);
    for (const LayerResult& layer : row.layers) {
      CHECK(layer.key_values == layer.value_values);
      // Frames of both belong to both alike.
      if (row.name == "mine.txt") CHECK(layer.value_bytes - layer.key_bytes <= 1);
    }
  }
}

TEST_CASE("sweep: int8's size is known where int8 is not asked for") {
  const ScratchDirectory scratch;
  const std::string dump = write_synth(scratch, small(40));
  const SweepDump with = sweep_dump(dump, request_of("int8,int4")), without = sweep_dump(dump, request_of("int4"));
  CHECK(with.int8_bytes == with.settings.at(0).file_bytes);
  CHECK(without.int8_bytes == with.int8_bytes);
}

TEST_CASE("sweep: a selection, chunks and one role are in the command") {
  const ScratchDirectory scratch;
  const std::string dump = write_synth(scratch, small());
  SweepRequest request = request_of("int4,cachegen-2");
  request.selecting.layers = "1-2";
  request.selecting.tokens = "10:200";
  request.chunk_tokens = "50";
  for (const char* role : {"", "key"}) {
    request.selecting.role = role;
    const SweepDump swept = sweep_dump(dump, request);
    CHECK(swept.tokens == 190);
    CHECK(swept.values == (*role == '\0' ? 2u * 142 : 190) * 2 * 2 * 16);  // keys alone: nothing asks
    for (const SettingResult& row : swept.settings) {
      CAPTURE(row.command);
      check_bytes(row, run_command(row, scratch));
      CHECK(row.chunks.size() == (*role == '\0' ? 3 : 4));
      CHECK(row.all.key);
      CHECK(row.all.value.has_value() == (*role == '\0'));
      CHECK(row.layers.size() == 2);
    }
  }
}

TEST_CASE("sweep: rows do not depend on threads") {
  const ScratchDirectory scratch;
  const std::string dump = write_synth(scratch, small());
  SweepRequest request = request_of("kivi-2,gear-2,cachegen-2,lossless,kvtc-2");
  const std::string one = timeless(sweep_dump(dump, request));
  for (const unsigned threads : {2u, 5u}) {
    request.fidelity.threads = threads;
    CHECK(timeless(sweep_dump(dump, request)) == one);
  }
}

TEST_CASE("sweep: finished rows are taken up again") {
  const ScratchDirectory scratch;
  const std::string dump = write_synth(scratch, small(60));
  SweepRequest request = request_of("int4,kivi-2");
  request.resume = scratch.file("rows");
  fs::create_directory(request.resume);
  const auto text = [](const SweepDump& d) { return sweep_json({"", "", "", {d}}).dump(); };
  const SweepDump first = sweep_dump(dump, request);
  const auto files = [&] { return std::distance(fs::directory_iterator(request.resume), fs::directory_iterator()); };
  CHECK(files() == 2);
  // Speeds as well: nothing was measured.
  CHECK(text(sweep_dump(dump, request)) == text(first));
  CHECK(files() == 2);

  SUBCASE("other settings join them; names and families are those of the run") {
    request.settings = grid_settings(preset_settings("int4,kivi-2", "--presets"), "quant.bits=2,4");
    const SweepDump more = sweep_dump(dump, request);
    REQUIRE(more.settings.size() == 4);
    CHECK(files() == 4);
    CHECK(more.settings[1].name == "int4");
    CHECK(more.settings[2].name == "kivi-2");
    CHECK(more.settings[2].family == "kivi-2");
    CHECK(more.settings[2].encode_mbs == first.settings[1].encode_mbs);
  }
  SUBCASE("a damaged row is measured again") {
    for (const auto& entry : fs::directory_iterator(request.resume)) {
      fs::resize_file(entry.path(), fs::file_size(entry.path()) / 2);
    }
    const SweepDump again = sweep_dump(dump, request);
    CHECK(timeless(again) == timeless(first));
    CHECK(text(sweep_dump(dump, request)) == text(again));
  }
  SUBCASE("a changed dump is measured anew") {
    SynthOptions other = small(60);
    other.seed = 4;
    fs::remove(dump);
    write_synth(scratch, other);
    const SweepDump again = sweep_dump(dump, request);
    CHECK(files() == 4);
    CHECK(again.settings[0].all.key->nrmse != first.settings[0].all.key->nrmse);
  }
  SUBCASE("other options are measured anew") {
    request.fidelity.queries_per_head = 3;
    CHECK(sweep_dump(dump, request).queries == 3);
    CHECK(files() == 4);
    request.fidelity.split = 50;
    CHECK(sweep_dump(dump, request).split == 50);
    CHECK(files() == 6);
    request.chunk_tokens = "10";
    CHECK(sweep_dump(dump, request).settings[0].chunks.size() == 5);
    CHECK(files() == 8);
    request.selecting.layers = "0";
    CHECK(sweep_dump(dump, request).settings[0].layers.size() == 1);
    CHECK(files() == 10);
    request.fidelity.top_k = 3;
    sweep_dump(dump, request);
    CHECK(files() == 12);
    request.fidelity.queries2 = write_synth(scratch, small(61), "later");
    CHECK(sweep_dump(dump, request).settings[0].all.attention2);
    CHECK(files() == 14);
  }
}

TEST_CASE("sweep: settings that a dump cannot take are left out and said") {
  const ScratchDirectory scratch;
  const std::string path = write_cache(
      {{"layers.0.key", 2, 8, 6, std::vector<float>(96, 1)}, {"layers.0.value", 2, 8, 6, std::vector<float>(96, 1)}},
      DType::f32, scratch.file("a.safetensors"));
  // The dump does not say how its keys are rotated.
  std::vector<Setting> settings = preset_settings("int8", "--presets");
  settings.push_back(pipeline_setting("rope,quant:bits=4,pack", "--pipeline"));
  const SweepDump swept = sweep_dump(path, request_of(settings));
  REQUIRE(swept.settings.size() == 1);
  CHECK(swept.note.find("left out: rope,quant:bits=4,pack: ") != std::string::npos);
  settings.erase(settings.begin());
  CHECK_THROWS_WITH_AS(sweep_dump(path, request_of(settings)),
                       doctest::Contains("no setting suits it: rope,quant:bits=4,pack: "), Error);
}

TEST_CASE("sweep: one token, constants, no queries, empty tensors, keys alone") {
  const ScratchDirectory scratch;
  const auto sweep_of = [&](const std::vector<CacheTensor>& tensors, std::size_t left_out = 0) {
    const std::string path = write_cache(tensors, DType::bf16, scratch.file("a.safetensors"));
    SweepDump out = sweep_dump(path, request_of("all"));
    CHECK(out.settings.size() + left_out == builtin_presets().size());
    for (const SettingResult& row : out.settings) {
      CAPTURE(row.name);
      check_bytes(row, run_command(row, scratch));
      CHECK_FALSE(row.all.attention);
    }
    // Every form of output has an answer.
    const Sweep all{"", "", "", {out}};
    CHECK_FALSE(sweep_text(all, find_measure("", all), true).empty());
    CHECK_FALSE(sweep_csv(all, find_measure("", all)).empty());
    CHECK(sweep_json(read_sweep(sweep_json(all).dump())).dump() == sweep_json(all).dump());
    return out;
  };
  const auto values = [](std::size_t n) {
    std::vector<float> out(n);
    for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<float>(i % 7) - 3.5f;
    return out;
  };
  SUBCASE("one token") {
    CHECK(sweep_of({{"layers.0.key", 2, 1, 8, values(16)}, {"layers.0.value", 2, 1, 8, values(16)}}).tokens == 1);
  }
  SUBCASE("constants and zeros") {
    const SweepDump out = sweep_of({{"layers.0.key", 2, 20, 8, std::vector<float>(320, 1.5f)},
                                    {"layers.0.value", 2, 20, 8, std::vector<float>(320)}});
    for (const SettingResult& row : out.settings) CHECK(row.all.value->nrmse == 0);
  }
  SUBCASE("keys alone, which rules of both together do not take") {
    const SweepDump out = sweep_of({{"layers.0.key", 2, 20, 8, values(320)}}, 2);
    for (const std::string name : {"aquakv: ", "kvmerger: "}) CHECK(out.note.find(name) != std::string::npos);
    for (const SettingResult& row : out.settings) CHECK((row.all.key && !row.all.value));
  }
  SUBCASE("an empty tensor beside others") {
    const SweepDump out = sweep_of({{"layers.0.key", 2, 20, 8, values(320)},
                                    {"layers.0.value", 2, 20, 8, values(320)},
                                    {"layers.1.key", 2, 0, 8, {}},
                                    {"layers.1.value", 2, 0, 8, {}}});
    CHECK(out.values == 640);
  }
  SUBCASE("nothing but empty tensors") {
    const std::string path = write_cache({{"layers.0.key", 2, 0, 8, {}}, {"layers.0.value", 2, 0, 8, {}}}, DType::bf16,
                                         scratch.file("a.safetensors"));
    CHECK_THROWS_WITH_AS(sweep_dump(path, request_of("int8")), doctest::Contains("holds no values"), Error);
  }
  SUBCASE("infinities and what is not a number") {
    std::vector<float> odd = values(320);
    odd[3] = INFINITY, odd[50] = NAN;
    sweep_of({{"layers.0.key", 2, 20, 8, odd}, {"layers.0.value", 2, 20, 8, odd}});
  }
}
