// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <memory>

#include "codec/fail.hpp"
#include "kvzip/container.hpp"
#include "src/cli/measure_options.hpp"
#include "src/commands.hpp"
#include "src/measure/comparison.hpp"
#include "src/report/bound_check.hpp"
#include "src/report/csv_fields.hpp"
#include "src/report/fidelity_report.hpp"
#include "src/report/inspect_kvz.hpp"
#include "src/report/progress.hpp"
#include "src/report/report.hpp"

namespace kvzip::tool {
namespace {

constexpr double kMostLimit = 1e300;

struct Limits {
  double max_abs = 0, max_rmse = 0, max_nrmse = 0, min_snr = 0, min_cosine = 0, max_attention = 0, max_kl = 0;
};

struct CompareArguments {
  Common common;
  Recognising recognising;
  std::string a, b;
  bool json = false, csv = false, common_only = false, mix = false;
  Limits limits;
  // Which of the limits were given.
  bool max_abs = false, max_rmse = false, max_nrmse = false, min_snr = false, min_cosine = false;
  bool max_attention = false, max_kl = false;
  bool attention = false;
  FidelityOptions fidelity;

  bool any_limit() const {
    return max_abs || max_rmse || max_nrmse || min_snr || min_cosine || max_attention || max_kl;
  }
};

/// One sentence for each limit that is missed. Every limit holds for the total of every role.
std::vector<std::string> missed(const CompareArguments& o, const Comparison& comparison) {
  std::vector<std::string> out;
  if (!o.any_limit()) return out;
  for (const auto& [role, c] : comparison.roles) {
    const std::string_view name = role_name(role);
    const Distortion& d = c.distortion;
    const auto check = [&](bool given, bool met, std::string_view what, double value, std::string_view option,
                           double limit) {
      if (given && !met) out.push_back(fmt::format("{}: {} {:.6g} misses {} {:g}", name, what, value, option, limit));
    };
    if (c.unlike > 0) out.push_back(fmt::format("{}: {} elements that are not floats differ", name, c.unlike));
    if (c.measured == 0) continue;
    if (d.nonfinite_mismatches() > 0) {
      out.push_back(fmt::format("{}: {} values are not finite and differ", name, d.nonfinite_mismatches()));
    }
    check(o.max_abs, d.max_abs() <= o.limits.max_abs, "max_abs", d.max_abs(), "--max-abs", o.limits.max_abs);
    check(o.max_rmse, d.rmse() <= o.limits.max_rmse, "rmse", d.rmse(), "--max-rmse", o.limits.max_rmse);
    check(o.max_nrmse, d.nrmse() <= o.limits.max_nrmse, "nrmse", d.nrmse(), "--max-nrmse", o.limits.max_nrmse);
    check(o.min_snr, d.snr_db() >= o.limits.min_snr, "snr", d.snr_db(), "--min-snr", o.limits.min_snr);
    check(o.min_cosine, d.cosine_min() >= o.limits.min_cosine, "cosine", d.cosine_min(), "--min-cosine",
          o.limits.min_cosine);
  }
  return out;
}

/// The same for attention, of each set of queries; proxies meet no limit.
void add_missed(const CompareArguments& o, const Fidelity& fidelity, std::vector<std::string>& out) {
  const auto check = [&](std::string_view name, const std::optional<AttentionFigures>& figures) {
    if (!figures) return;
    // Not above the limit, rather than above it: no number is no pass.
    if (o.max_attention && !(figures->output_nrmse <= o.limits.max_attention)) {
      out.push_back(fmt::format("{}: output nrmse {:.6g} misses --max-attention {:g}", name, figures->output_nrmse,
                                o.limits.max_attention));
    }
    if (o.max_kl && !(figures->kl <= o.limits.max_kl)) {
      out.push_back(fmt::format("{}: KL {:.6g} misses --max-kl {:g}", name, figures->kl, o.limits.max_kl));
    }
  };
  if ((o.max_attention || o.max_kl) && !fidelity.all.attention) {
    fail(ErrorCode::invalid_argument, "limits of attention need queries; it holds none: give --queries FILE");
  }
  check("attention", fidelity.all.attention);
  check("attention, second queries", fidelity.all.attention2);
}

/// The figures of floats.
struct Figures {
  double max_abs = 0, rmse = 0, nrmse = 0, snr_db = 0, cosine_min = 0, cosine_mean = 0;
  std::uint64_t nonfinite_mismatches = 0;

  static Figures of(const Distortion& d) {
    return {d.max_abs(), d.rmse(), d.nrmse(), d.snr_db(), d.cosine_min(), d.cosine_mean(), d.nonfinite_mismatches()};
  }
};
void fields(auto& visit, Is<Figures> auto& f) {
  visit("max_abs", f.max_abs);
  visit("rmse", f.rmse);
  visit("nrmse", f.nrmse);
  visit("snr_db", f.snr_db);
  visit("cosine_min", f.cosine_min);
  visit("cosine_mean", f.cosine_mean);
  visit("nonfinite_mismatches", f.nonfinite_mismatches);
}

Json measures_json(const Compared& c) {
  Json out{{"values", c.values}, {"source_bytes", c.source_bytes}, {"same", c.same()}};
  if (c.measured > 0) out.update(json_of(Figures::of(c.distortion)));
  out["unlike"] = c.unlike;
  out["bits_per_value"] = json_number(c.bits());
  out["ratio"] = json_number(c.ratio());
  return out;
}

Json comparison_json(const CompareArguments& o, const Dump& dump, const Comparison& comparison,
                     const std::optional<Fidelity>& fidelity, const std::optional<BoundCheck>& bound,
                     const std::vector<std::string>& misses) {
  Json out{{"schema", 1}, {"original", input_name(o.a)}, {"other", input_name(o.b)}};
  Json tensors = Json::array();
  for (const TensorComparison& t : comparison.tensors) {
    Json one{{"name", dump.tensors[t.tensor].name}, {"role", role_name(t.role)}, {"layer", json_layer(t.layer)}};
    one.update(measures_json(t.all()));
    tensors.push_back(std::move(one));
  }
  out["tensors"] = std::move(tensors);
  Json roles = Json::object();
  for (const auto& [role, c] : comparison.roles) roles[std::string(role_name(role))] = measures_json(c);
  out["roles"] = std::move(roles);
  out["total"] = measures_json(comparison.total);
  if (fidelity) out.update(fidelity_json(*fidelity, o.fidelity));
  if (bound) out["bound"] = bound->json();
  if (o.any_limit()) out["thresholds"] = {{"met", misses.empty()}, {"missed", misses}};
  return out;
}

std::string csv_row(std::string_view scope, std::string_view name, std::string_view role,
                    std::optional<std::uint32_t> layer, const Compared& c) {
  CsvColumns figures = csv_columns(Figures::of(c.distortion));
  if (c.measured == 0) {
    for (CsvColumn& column : figures) column.cell.clear();
  }
  return fmt::format("{},{},{},{},{}{},{},{},{},{}\n", scope, csv_text(name), role, layer ? std::to_string(*layer) : "",
                     c.values, csv_cells(figures), c.unlike, c.source_bytes, csv_number(c.bits()),
                     csv_number(c.ratio()));
}

std::string comparison_csv(const Dump& dump, const Comparison& comparison) {
  std::string out = fmt::format("scope,name,role,layer,values{},unlike,source_bytes,bits_per_value,ratio\n",
                                csv_names(csv_columns(Figures())));
  for (const TensorComparison& t : comparison.tensors) {
    out += csv_row("tensor", dump.tensors[t.tensor].name, role_name(t.role), t.layer, t.all());
  }
  for (const auto& [role, c] : comparison.roles) out += csv_row("role", "", role_name(role), {}, c);
  return out + csv_row("total", "", "", {}, comparison.total);
}

void add_row(Table& table, std::string name, std::string role, const Compared& c) {
  std::vector<std::string> row{std::move(name), std::move(role)};
  if (c.measured > 0) {
    const Distortion& d = c.distortion;
    for (const double x : {d.max_abs(), d.rmse(), d.nrmse()}) row.push_back(number_text(x));
    row.push_back(std::isinf(d.snr_db()) && d.snr_db() > 0 ? "exact" : fmt::format("{:.2f}", d.snr_db()));
    for (const double x : {d.cosine_min(), d.cosine_mean()}) row.push_back(fmt::format("{:.6f}", x));
  } else {
    for (int i = 0; i < 6; ++i) row.emplace_back("-");
    if (c.unlike == 0) row[5] = "same";
  }
  row.push_back(number_text(c.bits()));
  row.push_back(number_text(c.ratio()));
  std::string remark;
  if (c.unlike > 0) remark = fmt::format("{} elements differ", c.unlike);
  if (c.distortion.nonfinite_mismatches() > 0) {
    remark += fmt::format("{}{} not finite", remark.empty() ? "" : ", ", c.distortion.nonfinite_mismatches());
  }
  row.push_back(remark);
  table.add(std::move(row));
}

std::string comparison_text(const CompareArguments& o, const Dump& dump, const Comparison& comparison) {
  Table table(
      {"tensor", "role", ">max_abs", ">rmse", ">nrmse", ">snr dB", ">cos min", ">cos mean", ">bits", ">ratio", ""});
  const bool each = o.common.verbose > 0 || comparison.tensors.size() <= kManyRows;
  if (each) {
    for (const TensorComparison& t : comparison.tensors) {
      add_row(table, dump.tensors[t.tensor].name, std::string(role_name(t.role)), t.all());
    }
  }
  for (const auto& [role, c] : comparison.roles) add_row(table, "all", std::string(role_name(role)), c);
  add_row(table, "total", "", comparison.total);
  std::string out = table.text();
  if (!each) out += fmt::format("({} tensors; -v shows each)\n", comparison.tensors.size());
  return out;
}

std::optional<Fidelity> measure_attention(const CompareArguments& o, DumpReader& a, DumpReader& b,
                                          const Recognition& roles) {
  if (!o.attention) return {};
  FidelityOptions options = o.fidelity;
  options.proxies = false;  // only where there are no queries
  options.threads = o.common.threads;
  options.recognise = recognise_options(o.recognising);
  FidelityMeter meter = with_file(o.a, [&] { return FidelityMeter(a, roles, options); });
  const auto measure = [&] {
    ProgressLine progress("attention", !o.common.quiet);
    return meter.measure(b, progress.callback());
  };
  return with_file(o.b, measure);
}

std::string all_text(const CompareArguments& o, const Dump& dump, const Comparison& comparison,
                     const std::optional<Fidelity>& fidelity, const std::optional<BoundCheck>& bound) {
  if (o.csv) {
    return comparison_csv(dump, comparison) + (fidelity ? "\n" + fidelity_csv(*fidelity) : std::string());
  }
  std::string text = comparison_text(o, dump, comparison);
  if (bound) text += bound->text() + "\n";
  return fidelity ? text + "\n" + fidelity_text(*fidelity, o.fidelity, o.common.verbose > 0) : text;
}

int compare(const CompareArguments& o) {
  if (o.json && o.csv) throw UsageError("--json and --csv: choose one");
  keep_progress_apart();
  if (o.a == "-" && o.b == "-") throw UsageError("only one of the two files can be standard input");
  const auto first = with_file(o.a, [&] { return open_reader(o.a); });
  const auto second = with_file(o.b, [&] { return open_reader(o.b); });
  DumpReader *const a = &form_in(second->dump(), *first), *const b = &form_in(first->dump(), *second);
  if (o.attention) {
    require_file(*a, "--attention");
    require_file(*b, "--attention");
  }
  with_file(o.b, [&] { require_belonging(*a, *b, Belonging::cache, o.mix); });
  const Recognition roles = with_file(o.a, [&] { return recognise_input(*a, o.recognising, {}); });
  const Comparison comparison = with_file(o.b, [&] {
    ProgressLine progress("compare", !o.common.quiet);
    const CompareOptions options{o.common_only, o.b != "-", o.common.threads};
    return compare_dumps(*a, *b, roles, options, progress.callback());
  });
  const std::optional<Fidelity> fidelity = measure_attention(o, *a, *b, roles);
  const std::optional<BoundCheck> bound = check_bound(*b, comparison);
  std::vector<std::string> misses = missed(o, comparison);
  if (fidelity) with_file(o.a, [&] { add_missed(o, *fidelity, misses); });
  if (o.json) {
    print_json(comparison_json(o, a->dump(), comparison, fidelity, bound, misses));
  } else {
    print(all_text(o, a->dump(), comparison, fidelity, bound));
  }
  if (bound && !bound->holds()) misses.push_back(bound->text());
  for (const std::string& miss : misses) complain(fmt::format("{}: {}", input_name(o.b), miss));
  return misses.empty() ? kDone : kMissed;
}

}  // namespace

void add_compare(CLI::App& app, Action& action) {
  CLI::App* command = add_command(
      app, {"compare", "measure how far a file is from the original", "kvzip compare ORIGINAL OTHER [OPTIONS]",
            "  kvzip compare cache.safetensors cache.kvz\n"
            "  kvzip compare cache.safetensors cache.kvz --max-nrmse 0.05 --json > out.json\n\n"
            "Limits hold for the total of each role (key, value, query, other); then tensors\n"
            "that are not floats must be equal, too. Exit status 6 says that one is missed.\n"
            "Without limits differences are only shown. Cosines are of vectors of head_dim.\n"
            "A bound that OTHER holds (compress --max-error) is checked always."});
  auto o = std::make_shared<CompareArguments>();
  command->add_option("ORIGINAL", o->a, "any file kvzip reads")->required();
  command->add_option("OTHER", o->b, "any file kvzip reads")->required();
  command->add_flag("--json", o->json, "everything, as JSON");
  command->add_flag("--csv", o->csv, "a line for each tensor, each role and all");
  command->add_flag("--common", o->common_only, "leave out tensors that only one file has");
  add_mix(*command, o->mix);
  const auto limit = [&](const char* name, double& value, const char* text) {
    const bool signed_limit = &value == &o->limits.min_snr || &value == &o->limits.min_cosine;
    const auto range = number_in(signed_limit ? -kMostLimit : 0, kMostLimit);
    return command->add_option(name, value, text)->option_text("X")->check(range);
  };
  limit("--max-abs", o->limits.max_abs, "largest absolute error");
  limit("--max-rmse", o->limits.max_rmse, "root mean squared error");
  limit("--max-nrmse", o->limits.max_nrmse, "the same over the original's root mean square");
  limit("--min-snr", o->limits.min_snr, "signal-to-noise ratio in dB");
  limit("--min-cosine", o->limits.min_cosine, "smallest cosine of any vector");
  command->add_flag("--attention", o->attention, "measure attention, too; so do the options below");
  add_fidelity(*command, o->fidelity);
  limit("--max-attention", o->limits.max_attention, "largest nrmse of attention outputs");
  limit("--max-kl", o->limits.max_kl, "largest mean KL of attention, in nats");
  add_recognising(*command, o->recognising);
  add_threads(*command, o->common);
  add_trust(*command);
  add_verbosity(*command, o->common);
  command->callback([o, command, &action] {
    o->max_abs = command->count("--max-abs") > 0;
    o->max_rmse = command->count("--max-rmse") > 0;
    o->max_nrmse = command->count("--max-nrmse") > 0;
    o->min_snr = command->count("--min-snr") > 0;
    o->min_cosine = command->count("--min-cosine") > 0;
    o->max_attention = command->count("--max-attention") > 0;
    o->max_kl = command->count("--max-kl") > 0;
    for (const char* name : {"--queries", "--queries2", "--split", "--queries-per-head", "--top-k", "--attention-scale",
                             "--max-attention", "--max-kl"}) {
      o->attention = o->attention || command->count(name) > 0;
    }
    action = [o] { return compare(*o); };
  });
}

}  // namespace kvzip::tool
