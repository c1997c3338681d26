// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "src/cli/measure_options.hpp"
#include "src/commands.hpp"
#include "src/measure/page_ranking.hpp"
#include "src/report/progress.hpp"
#include "src/report/report.hpp"

namespace kvzip::tool {
namespace {

struct PagesArguments {
  Common common;
  Recognising recognising;
  std::string in, queries;
  std::uint32_t queries_per_head = 256;
  double scale = 0;
  bool json = false;
};

struct Measured {
  KvzPages pages;
  std::uint64_t digest_bytes = 0, key_values = 0;
  std::vector<std::pair<Asking::Layer, PageRecall>> layers;  // means
  PageRecall all{1};                                         // means
};

Measured measure(const PagesArguments& o, DumpReader& reader, Asking& asking) {
  Measured out{stored_pages(reader, o.in), 0, 0, {}, PageRecall(1)};
  out.digest_bytes = write_kvz_pages(out.pages).size();
  std::uint64_t most = 1;
  for (const auto& [layer, place] : asking.layers()) {
    const PageList& list = pages_of(out.pages, asking, layer);
    most = std::max(most, list.pages);
    out.key_values += list.tokens * list.heads * list.channels;
  }
  out.all = PageRecall(most);
  keep_progress_apart();
  ProgressLine progress(input_name(o.in), !o.common.quiet, "layers");
  const Progress show = progress.callback();
  for (const auto& [layer, place] : asking.layers()) {
    const PageRecall recall = page_recall(asking, layer, out.pages, most, {o.scale, o.common.threads});
    out.all.merge(recall);
    if (recall.queries > 0) out.layers.emplace_back(layer, recall.means());
    if (show) show(out.layers.size(), asking.layers().size());
  }
  if (out.all.queries == 0) fail(ErrorCode::invalid_argument, "no query sees a token of it");
  out.all = out.all.means();
  return out;
}

std::vector<std::string> row_of(const PageRecall::Row& row) {
  std::vector<std::string> out{std::to_string(row.pages), fmt::format("{:.4f}", row.share)};
  for (const double recall : row.recall) out.push_back(fmt::format("{:.4f}", recall));
  return out;
}

std::string text_of(const Measured& m, const Asking& asking) {
  const double bits = 8 * static_cast<double>(m.digest_bytes) / static_cast<double>(m.key_values);
  std::string out = fmt::format("pages of {} tokens, digests of {} ({:.2f} bits a value of keys); queries of {}\n\n",
                                m.pages.page_tokens, size_text(m.digest_bytes), bits, asking.from());
  Table table({">pages", ">share", ">box", ">sphere", ">both", ">best"});
  for (const PageRecall::Row& row : m.all.rows) table.add(row_of(row));
  return out + table.text();
}

Json json_of(const PageRecall& recall) {
  Json rows = Json::array();
  for (const PageRecall::Row& row : recall.rows) {
    Json one{{"pages", row.pages}, {"share", row.share}};
    for (std::size_t by = 0; by < row.recall.size(); ++by) one[PageRecall::kRankings[by]] = row.recall[by];
    rows.push_back(std::move(one));
  }
  return {{"queries", recall.queries}, {"recall", std::move(rows)}};
}

Json json_of(const PagesArguments& o, const Measured& m, const Asking& asking) {
  Json out{
      {"file", printable(o.in)},        {"queries", printable(asking.from())}, {"page_tokens", m.pages.page_tokens},
      {"digest_bytes", m.digest_bytes}, {"key_values", m.key_values},          {"all", json_of(m.all)},
      {"layers", Json::array()}};
  for (const auto& [layer, recall] : m.layers) {
    Json one{{"layer", layer.first}, {"batch", layer.second}};
    one.update(json_of(recall));
    out["layers"].push_back(std::move(one));
  }
  return out;
}

int pages(const PagesArguments& o) {
  return with_file(o.in, [&] {
    const auto reader = open_reader(o.in);
    if (reader->traits().once) throw UsageError("pages reads layer by layer: give a container as a file, not a pipe");
    const Recognition roles = recognise_input(*reader, o.recognising, {});
    Asking asking(*reader, roles, {o.queries, o.queries_per_head, recognise_options(o.recognising)});
    if (!asking.note().empty() && !o.common.quiet) note(asking.note());
    const Measured measured = measure(o, *reader, asking);
    if (o.json) {
      print_json(json_of(o, measured, asking));
    } else {
      print(text_of(measured, asking));
    }
    return kDone;
  });
}

}  // namespace

void add_pages(CLI::App& app, Action& action) {
  CLI::App* command = add_command(app, {"pages", "how well digests find the pages that queries attend to",
                                        "kvzip pages FILE [--queries FILE] [OPTIONS]",
                                        "  kvzip compress cache.safetensors -o cache.kvz --pages 16\n"
                                        "  kvzip pages cache.kvz --queries queries.safetensors"});
  auto o = std::make_shared<PagesArguments>();
  command->add_option("FILE", o->in, "a container that has pages")->required();
  add_text(*command, "--queries", o->queries, "FILE", "queries from another file than the container");
  add_queries_per_head(*command, o->queries_per_head);
  add_attention_scale(*command, o->scale);
  command->add_flag("--json", o->json, "also each layer, as JSON");
  add_recognising(*command, o->recognising);
  add_threads(*command, o->common);
  add_trust(*command);
  add_verbosity(*command, o->common);
  command->callback([o, &action] { action = [o] { return pages(*o); }; });
}

}  // namespace kvzip::tool
