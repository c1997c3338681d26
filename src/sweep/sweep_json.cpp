// SPDX-License-Identifier: Apache-2.0
// A sweep as JSON and back. Members are declared once; what is derived from them is written for other readers and not
// read.
#include <cmath>
#include <limits>

#include "codec/fail.hpp"
#include "formats/json_fields.hpp"
#include "formats/json_limits.hpp"
#include "src/measure/fidelity_fields.hpp"
#include "src/sweep/sweep_report.hpp"

namespace kvzip::tool {

void fields(auto& visit, Is<ChunkBytes> auto& c) {
  visit("first", c.first);
  visit("tokens", c.tokens);
  visit("bytes", c.bytes);
}

/// An array as an object with a member for each kind of bytes.
template <typename Bytes>
struct ByKind {
  Bytes& bytes;
};
template <typename Bytes>
ByKind(Bytes&) -> ByKind<Bytes>;
template <typename Bytes>
void fields(auto& visit, const ByKind<Bytes>& kinds) {
  for (std::size_t k = 0; k < kByteKinds.size(); ++k) visit(kByteKinds[k], kinds.bytes[k]);
}

void fields(auto& visit, Is<LayerResult> auto& l) {
  visit("layer", l.layer);
  visit("key_values", l.key_values);
  visit("value_values", l.value_values);
  visit("key_bytes", l.key_bytes);
  visit("value_bytes", l.value_bytes);
  visit("errors", l.all);
  visit("heads", l.heads);
}

void fields(auto& visit, Is<SettingResult> auto& s) {
  visit("name", s.name);
  visit("family", s.family);
  visit("kind", s.kind);
  visit("rules", s.rules);
  visit("command", s.command);
  visit("left_out", s.left_out);
  visit("file_bytes", s.file_bytes);
  visit("bytes", ByKind{s.bytes});
  visit("encode_mbs", s.encode_mbs);
  visit("decode_mbs", s.decode_mbs);
  visit("peak_bytes", s.peak_bytes);
  visit("errors", s.all);
  visit("worst_layer", s.worst_layer);
  visit("layers", s.layers);
  visit("chunks", s.chunks);
}

void fields(auto& visit, Is<SweepDump> auto& d) {
  visit("path", d.path);
  visit("model", d.model);
  visit("source_bytes", d.source_bytes);
  visit("values", d.values);
  visit("int8_bytes", d.int8_bytes);
  visit("tokens", d.tokens);
  visit("split", d.split);
  visit("queries", d.queries);
  visit("queries2", d.queries2);
  visit("dtype", d.dtype);
  visit("queries_from", d.queries_from);
  visit("note", d.note);
  visit("settings", d.settings);
}

void fields(auto& visit, Is<Sweep> auto& s) {
  visit("kvzip", s.version);
  visit("machine", s.machine);
  visit("command", s.command);
  visit("dumps", s.dumps);
}

namespace {

constexpr unsigned kSchema = 1;
constexpr std::string_view kNotOne = "not a sweep of kvzip";

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
  out.update(json_of(sweep));
  for (std::size_t d = 0; d < sweep.dumps.size(); ++d) add_derived(out["dumps"][d], sweep.dumps[d]);
  return out;
}

Sweep read_sweep(std::string_view text) {
  check_json(text, kNotOne);
  Json json;
  try {
    json = Json::parse(text);
  } catch (const Json::exception&) {
    fail(ErrorCode::corrupt, "{}: not sound JSON", kNotOne);
  }
  if (!json.is_object() || !json.contains("kind") || json["kind"] != "sweep") {
    fail(ErrorCode::corrupt, "{}: make one with 'kvzip sweep --json'", kNotOne);
  }
  if (!json.contains("schema") || !json["schema"].is_number_unsigned()) {
    fail(ErrorCode::corrupt, "{}: schema is not a number", kNotOne);
  }
  if (json["schema"] != kSchema) {
    fail(ErrorCode::unsupported, "a sweep of schema {}; this build reads {}", json["schema"].get<std::uint64_t>(),
         kSchema);
  }
  Sweep sweep;
  JsonReader(json, kNotOne, JsonNumbers::null_is_infinity).read(sweep);
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
