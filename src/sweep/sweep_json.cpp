// SPDX-License-Identifier: Apache-2.0
// A sweep as JSON and back. Members are declared once; what is derived from them is written for other readers and not
// read.
#include <cmath>
#include <concepts>
#include <limits>

#include "codec/fail.hpp"
#include "formats/json_depth.hpp"
#include "src/sweep/sweep_report.hpp"

namespace kvzip::tool {
namespace {

constexpr unsigned kSchema = 1;

template <typename T, typename U>
concept Is = std::same_as<std::remove_const_t<T>, U>;

void members(auto& a, Is<ValueFigures> auto& f) {
  a("values", f.values);
  a("nonfinite_mismatches", f.nonfinite_mismatches);
  a("max_abs", f.max_abs);
  a("nrmse", f.nrmse);
  a("snr_db", f.snr_db);
  a("cosine_min", f.cosine_min);
  a("cosine_mean", f.cosine_mean);
}

void members(auto& a, Is<AttentionFigures> auto& f) {
  a("logits_nrmse", f.logits_nrmse);
  a("kl", f.kl);
  a("top_overlap", f.top_overlap);
  a("output_nrmse", f.output_nrmse);
  a("output_cosine", f.output_cosine);
}

void members(auto& a, Is<FidelitySummary> auto& f) {
  a("key", f.key);
  a("value", f.value);
  a("attention", f.attention);
  a("attention2", f.attention2);
  a("proxy", f.proxy);
  a("proxy_pair_nrmse", f.pair_nrmse);
}

void members(auto& a, Is<ChunkBytes> auto& c) {
  a("first", c.first);
  a("tokens", c.tokens);
  a("bytes", c.bytes);
}

void members(auto& a, Is<LayerResult> auto& l) {
  a("layer", l.layer);
  a("key_values", l.key_values);
  a("value_values", l.value_values);
  a("key_bytes", l.key_bytes);
  a("value_bytes", l.value_bytes);
  a("errors", l.all);
  a("heads", l.heads);
}

void members(auto& a, Is<SettingResult> auto& s) {
  a("name", s.name);
  a("family", s.family);
  a("kind", s.kind);
  a("rules", s.rules);
  a("command", s.command);
  a("left_out", s.left_out);
  a("file_bytes", s.file_bytes);
  a("bytes", s.bytes);
  a("encode_mbs", s.encode_mbs);
  a("decode_mbs", s.decode_mbs);
  a("peak_bytes", s.peak_bytes);
  a("errors", s.all);
  a("worst_layer", s.worst_layer);
  a("layers", s.layers);
  a("chunks", s.chunks);
}

void members(auto& a, Is<SweepDump> auto& d) {
  a("path", d.path);
  a("model", d.model);
  a("source_bytes", d.source_bytes);
  a("values", d.values);
  a("int8_bytes", d.int8_bytes);
  a("tokens", d.tokens);
  a("split", d.split);
  a("queries", d.queries);
  a("queries2", d.queries2);
  a("dtype", d.dtype);
  a("queries_from", d.queries_from);
  a("note", d.note);
  a("settings", d.settings);
}

void members(auto& a, Is<Sweep> auto& s) {
  a("kvzip", s.version);
  a("machine", s.machine);
  a("command", s.command);
  a("dumps", s.dumps);
}

using Kinds = std::array<std::uint64_t, kByteKinds.size()>;

struct JsonOut {
  Json json = Json::object();

  void operator()(const char* name, const auto& value) { json[name] = of(value); }

  template <typename T>
  static Json of(const T& value) {
    if constexpr (std::same_as<T, double>) {
      return json_number(value);
    } else if constexpr (std::same_as<T, Kinds>) {
      Json out = Json::object();
      for (std::size_t k = 0; k < value.size(); ++k) out[std::string(kByteKinds[k])] = value[k];
      return out;
    } else if constexpr (std::constructible_from<Json, T> && (std::integral<T> || std::same_as<T, std::string>)) {
      return Json(value);
    } else {
      JsonOut out;
      members(out, value);
      return std::move(out.json);
    }
  }
  template <typename T>
  static Json of(const std::optional<T>& value) {
    return value ? of(*value) : Json(nullptr);
  }
  template <typename T>
  static Json of(const std::vector<T>& values) {
    Json out = Json::array();
    for (const T& value : values) out.push_back(of(value));
    return out;
  }
};

/// Every member must be there, of its type; others are left alone.
struct JsonIn {
  const Json& json;
  std::string place;

  [[noreturn]] static void refuse(const std::string& place, std::string_view expected) {
    fail(ErrorCode::corrupt, "not a sweep of kvzip: {} is not {}", place, expected);
  }

  void operator()(const char* name, auto& value) {
    const auto at = json.find(name);
    const std::string where = place.empty() ? name : fmt::format("{}.{}", place, name);
    if (at == json.end()) fail(ErrorCode::corrupt, "not a sweep of kvzip: {} is missing", where);
    read(*at, where, value);
  }

  template <typename T>
  static void read(const Json& in, const std::string& where, T& value) {
    if constexpr (std::same_as<T, std::string>) {
      if (!in.is_string()) refuse(where, "text");
      value = in.get<std::string>();
    } else if constexpr (std::unsigned_integral<T>) {
      if (!in.is_number_unsigned() || in.get<std::uint64_t>() > std::numeric_limits<T>::max()) {
        refuse(where, "a whole number of its range");
      }
      value = in.get<T>();
    } else if constexpr (std::same_as<T, double>) {
      // JSON has no infinity, and that is what the figures that it lost were.
      if (!in.is_number() && !in.is_null()) refuse(where, "a number");
      value = in.is_null() ? std::numeric_limits<double>::infinity() : in.get<double>();
    } else {
      if (!in.is_object()) refuse(where, "an object");
      JsonIn inner{in, where};
      members(inner, value);
    }
  }
  static void read(const Json& in, const std::string& where, Kinds& value) {
    if (!in.is_object()) refuse(where, "an object");
    JsonIn inner{in, where};
    for (std::size_t k = 0; k < value.size(); ++k) inner(std::string(kByteKinds[k]).c_str(), value[k]);
  }
  static void read(const Json& in, const std::string& where, std::optional<double>& value) {
    if (in.is_null()) return value.reset();
    read(in, where, value.emplace());
  }
  template <typename T>
  static void read(const Json& in, const std::string& where, std::optional<T>& value) {
    if (in.is_null()) return value.reset();
    read(in, where, value.emplace());
  }
  template <typename T>
  static void read(const Json& in, const std::string& where, std::vector<T>& values) {
    if (!in.is_array()) refuse(where, "a list");
    values.clear();
    for (const Json& one : in) {
      const std::string inner = fmt::format("{}[{}]", where, values.size());
      read(one, inner, values.emplace_back());
    }
  }
};

/// An error of nothing is the SNR that has no end; the other infinity is that of an infinite error.
void mend_snr(FidelitySummary& errors) {
  for (auto* figures : {&errors.key, &errors.value}) {
    if (!*figures || std::isfinite((*figures)->snr_db)) continue;
    (*figures)->snr_db = ((*figures)->nrmse == 0 ? 1 : -1) * std::numeric_limits<double>::infinity();
  }
}

void add_derived(Json& out, const SweepDump& dump) {
  for (std::size_t i = 0; i < dump.settings.size(); ++i) {
    const SettingResult& setting = dump.settings[i];
    Json& one = out["settings"][i];
    one["bits_per_value"] = json_number(bits_of(setting.file_bytes, dump.values));
    one["ratio"] = json_number(ratio_of(dump.source_bytes, setting.file_bytes));
    one["ratio_to_int8"] = json_number(ratio_to_int8(dump, setting));
  }
}

}  // namespace

Json sweep_json(const Sweep& sweep) {
  Json out{{"schema", kSchema}, {"kind", "sweep"}};
  out.update(JsonOut::of(sweep));
  for (std::size_t d = 0; d < sweep.dumps.size(); ++d) add_derived(out["dumps"][d], sweep.dumps[d]);
  return out;
}

Sweep read_sweep(std::string_view text) {
  check_json_depth(text, "not a sweep of kvzip");
  Json json;
  try {
    json = Json::parse(text);
  } catch (const Json::exception&) {
    fail(ErrorCode::corrupt, "not a sweep of kvzip: not sound JSON");
  }
  if (!json.is_object() || !json.contains("kind") || json["kind"] != "sweep") {
    fail(ErrorCode::corrupt, "not a sweep of kvzip: make one with 'kvzip sweep --json'");
  }
  if (!json.contains("schema") || !json["schema"].is_number_unsigned()) JsonIn::refuse("schema", "a number");
  if (json["schema"] != kSchema) {
    fail(ErrorCode::unsupported, "a sweep of schema {}; this build reads {}", json["schema"].get<std::uint64_t>(),
         kSchema);
  }
  Sweep sweep;
  JsonIn::read(json, "", sweep);
  for (SweepDump& dump : sweep.dumps) {
    for (SettingResult& setting : dump.settings) {
      mend_snr(setting.all);
      for (LayerResult& layer : setting.layers) {
        mend_snr(layer.all);
        for (FidelitySummary& head : layer.heads) mend_snr(head);
      }
    }
  }
  return sweep;
}

}  // namespace kvzip::tool
