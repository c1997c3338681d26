// SPDX-License-Identifier: Apache-2.0
#include "src/report/fidelity_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <functional>

#include "src/measure/fidelity_fields.hpp"
#include "src/report/csv_fields.hpp"

namespace kvzip::tool {
namespace {

/// One kind of measure: where its figures are, and what it is called.
struct Kind {
  std::string_view id;  // in JSON and CSV
  std::optional<AttentionFigures> FidelitySummary::*figures;
  bool proxy;
};
constexpr std::array<Kind, 3> kKinds{Kind{"attention", &FidelitySummary::attention, false},
                                     Kind{"attention2", &FidelitySummary::attention2, false},
                                     Kind{"proxy", &FidelitySummary::proxy, true}};

using Visit = std::function<void(const LayerFidelity&, std::optional<std::size_t> head, const FidelitySummary&)>;

/// Every layer and, if wanted, each of its heads.
void for_each_row(const Fidelity& fidelity, bool heads, const Visit& visit) {
  for (const LayerFidelity& layer : fidelity.layers) {
    visit(layer, {}, layer.all);
    for (std::size_t h = 0; heads && h < layer.heads.size(); ++h) visit(layer, h, summarise({&layer.heads[h], 1}));
  }
}

bool batches(const Fidelity& fidelity) {
  return std::any_of(fidelity.layers.begin(), fidelity.layers.end(), [](const auto& l) { return l.batch > 0; });
}

std::vector<std::string> cells(const FidelitySummary& all, const Kind& kind) {
  const AttentionFigures& f = *(all.*kind.figures);
  std::vector<std::string> out{number_text(f.logits_nrmse), number_text(f.kl), fmt::format("{:.4f}", f.top_overlap),
                               number_text(f.output_nrmse), fmt::format("{:.6f}", f.output_cosine)};
  if (kind.proxy) out.push_back(number_text(all.pair_nrmse));
  return out;
}

std::string heading(const Fidelity& fidelity, const FidelityOptions& options, const Kind& kind) {
  const std::string decoded = fidelity.split < fidelity.tokens
                                  ? fmt::format("the first {} of {} tokens decoded", fidelity.split, fidelity.tokens)
                                  : fmt::format("all {} tokens decoded", fidelity.tokens);
  if (kind.proxy) return fmt::format("proxy for attention: keys in the place of queries, {}\n", decoded);
  const bool second = kind.figures == &FidelitySummary::attention2;
  const std::string& from = second ? options.queries2 : fidelity.queries_from;
  return fmt::format("attention{}: {} queries a head of {}, {}\n", second ? ", second queries" : "",
                     second ? fidelity.queries2 : fidelity.queries, printable(from), decoded);
}

std::string table_text(const Fidelity& fidelity, const FidelityOptions& options, const Kind& kind, bool heads) {
  const std::string mark = kind.proxy ? "proxy " : "";
  std::vector<std::string> columns{"layer"};
  const bool with_batch = batches(fidelity);
  if (with_batch) columns.emplace_back("batch");
  if (heads) columns.emplace_back("head");
  for (const std::string& name : {std::string("logits nrmse"), std::string("KL"), fmt::format("top-{}", options.top_k),
                                  std::string("output nrmse"), std::string("output cos")}) {
    columns.push_back(fmt::format(">{}{}", mark, name));
  }
  if (kind.proxy) columns.emplace_back(">proxy pair nrmse");
  Table table(std::move(columns));
  const auto add = [&](std::string layer, std::string batch, std::string head, const FidelitySummary& all) {
    if (!(all.*kind.figures)) return;
    std::vector<std::string> row{std::move(layer)};
    if (with_batch) row.push_back(std::move(batch));
    if (heads) row.push_back(std::move(head));
    for (std::string& cell : cells(all, kind)) row.push_back(std::move(cell));
    table.add(std::move(row));
  };
  for_each_row(fidelity, heads, [&](const LayerFidelity& layer, std::optional<std::size_t> head, const auto& all) {
    add(std::to_string(layer.layer), std::to_string(layer.batch), head ? std::to_string(*head) : "all", all);
  });
  add("all", "all", "all", fidelity.all);
  return table.text();
}

Json figures_json(const FidelitySummary& all, const Kind& kind) {
  Json out = json_of(*(all.*kind.figures));
  if (kind.proxy) out["pair_nrmse"] = json_number(all.pair_nrmse);
  return out;
}

Json kind_json(const Fidelity& fidelity, const FidelityOptions& options, const Kind& kind) {
  Json out{{"tokens", fidelity.tokens}, {"split", fidelity.split}, {"top_k", options.top_k}};
  if (!kind.proxy) {
    const bool second = kind.figures == &FidelitySummary::attention2;
    out["queries_from"] = second ? options.queries2 : fidelity.queries_from;
    out["queries"] = second ? fidelity.queries2 : fidelity.queries;
  }
  if (!fidelity.note.empty()) out["note"] = fidelity.note;
  Json layers = Json::array();
  for (const LayerFidelity& layer : fidelity.layers) {
    if (!(layer.all.*kind.figures)) continue;
    Json one{{"layer", layer.layer}, {"batch", layer.batch}};
    one.update(figures_json(layer.all, kind));
    Json heads = Json::array();
    for (const HeadFidelity& head : layer.heads) {
      const FidelitySummary all = summarise({&head, 1});
      heads.push_back(all.*kind.figures ? figures_json(all, kind) : Json());
    }
    one["heads"] = std::move(heads);
    layers.push_back(std::move(one));
  }
  out["layers"] = std::move(layers);
  out["total"] = figures_json(fidelity.all, kind);
  return out;
}

}  // namespace

std::string fidelity_text(const Fidelity& fidelity, const FidelityOptions& options, bool heads) {
  std::string out;
  for (const Kind& kind : kKinds) {
    if (!(fidelity.all.*kind.figures)) continue;
    out += fmt::format("{}{}{}", out.empty() ? "" : "\n", heading(fidelity, options, kind),
                       table_text(fidelity, options, kind, heads));
  }
  const LayerFidelity* worst = fidelity.worst();
  if (worst == nullptr) return out + "no keys and values whose attention could be measured\n";
  if (fidelity.all.attention || fidelity.all.proxy) {
    const Kind& kind = kKinds[fidelity.all.attention ? 0 : 2];
    const auto& of = worst->all.*kind.figures;
    out += fmt::format("worst layer{}: {}{}, output nrmse {}\n", kind.proxy ? " by the proxy" : "", worst->layer,
                       batches(fidelity) ? fmt::format(" of batch {}", worst->batch) : "",
                       number_text(of ? std::optional(of->output_nrmse) : std::nullopt));
  }
  if (!fidelity.note.empty()) out += fmt::format("note: {}\n", printable(fidelity.note));
  return out;
}

Json fidelity_json(const Fidelity& fidelity, const FidelityOptions& options) {
  Json out = Json::object();
  for (const Kind& kind : kKinds) {
    if (fidelity.all.*kind.figures) out[std::string(kind.id)] = kind_json(fidelity, options, kind);
  }
  const LayerFidelity* worst = fidelity.worst();
  if (worst != nullptr) out["worst_layer"] = worst->layer;
  return out;
}

std::string fidelity_csv(const Fidelity& fidelity) {
  std::string out =
      fmt::format("scope,measure,layer,batch,head{},pair_nrmse\n", csv_names(csv_columns(AttentionFigures())));
  const auto add = [&](std::string_view scope, std::string_view place, const FidelitySummary& all, const Kind& kind) {
    if (!(all.*kind.figures)) return;
    out += fmt::format("{},{},{}{},{}\n", scope, kind.id, place, csv_cells(csv_columns(*(all.*kind.figures))),
                       csv_number(kind.proxy ? all.pair_nrmse : std::nullopt));
  };
  for (const Kind& kind : kKinds) {
    for_each_row(fidelity, true, [&](const LayerFidelity& layer, std::optional<std::size_t> head, const auto& all) {
      const std::string place =
          fmt::format("{},{},{}", layer.layer, layer.batch, head ? std::to_string(*head) : std::string());
      add(head ? "head" : "layer", place, all, kind);
    });
    add("total", ",,", fidelity.all, kind);
  }
  return out;
}

}  // namespace kvzip::tool
