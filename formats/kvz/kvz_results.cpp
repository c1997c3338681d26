// SPDX-License-Identifier: Apache-2.0
#include "formats/kvz/kvz_results.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "codec/fail.hpp"
#include "formats/json_fields.hpp"
#include "formats/json_limits.hpp"

namespace kvzip {

/// Members of the records; the role of errors is the name of theirs.
void fields(auto& visit, Is<KvzResults::Errors> auto& e) {
  visit("values", e.values);
  visit("max_abs", e.max_abs);
  visit("rmse", e.rmse);
  visit("nrmse", e.nrmse);
}
void fields(auto& visit, Is<KvzResults::Attention> auto& a) {
  visit("output_nrmse", a.output_nrmse);
  visit("kl", a.kl);
  visit("split", a.split);
  visit("queries", a.queries);
}

namespace {

using Json = nlohmann::ordered_json;
using Parsed = nlohmann::json;

constexpr std::array<std::string_view, 5> kMeasures{"ratio", "bits", "nrmse", "attention", "max-error"};

/// What JSON cannot hold: an error without bound (every original 0, or a decoded value lost) is the largest number.
constexpr double kNoBound = std::numeric_limits<double>::max();

struct Asked {
  std::string measure;
  double wanted = 0;
};
void fields(auto& visit, Is<Asked> auto& a) {
  visit("measure", a.measure);
  visit("wanted", a.wanted);
}

struct Bound {
  double max_abs = 0;
};
void fields(auto& visit, Is<Bound> auto& b) {
  visit("max_abs", b.max_abs);
}

template <typename T>
T read_member(const Parsed& json, std::string_view name) {
  T out;
  JsonReader(json, "results", JsonNumbers::finite_from_0)(name, out);
  return out;
}

}  // namespace

std::string write_kvz_results(const KvzResults& results) {
  Json json{{"target", json_of(Asked{results.target, results.wanted}, kNoBound)}};
  if (results.max_error) json["bound"] = json_of(Bound{*results.max_error});
  json["errors"] = Json::object();
  for (const KvzResults::Errors& e : results.errors)
    json["errors"][std::string(role_name(e.role))] = json_of(e, kNoBound);
  if (results.attention) json["attention"] = json_of(*results.attention, kNoBound);
  return json.dump();
}

KvzResults read_kvz_results(std::string_view text) {
  check_json(text, "results");
  const Parsed json = Parsed::parse(text, nullptr, false);
  if (!json.is_object()) fail(ErrorCode::corrupt, "results: no JSON object");
  KvzResults out;
  const auto target = read_member<Asked>(json, "target");
  out.target = target.measure;
  out.wanted = target.wanted;
  if (std::find(kMeasures.begin(), kMeasures.end(), out.target) == kMeasures.end()) {
    fail(ErrorCode::corrupt, "results: an unknown measure");
  }
  if (json.contains("bound")) out.max_error = read_member<Bound>(json, "bound").max_abs;
  if (out.target == "max-error" && out.max_error != out.wanted) {
    fail(ErrorCode::corrupt, "results: the bound is not the one that was asked for");
  }
  const auto errors = json.find("errors");
  if (errors == json.end() || !errors->is_object()) fail(ErrorCode::corrupt, "results: no object 'errors'");
  for (const Role role : {Role::key, Role::value}) {
    const std::string name(role_name(role));
    if (!errors->contains(name)) continue;
    out.errors.push_back(read_member<KvzResults::Errors>(*errors, name));
    out.errors.back().role = role;
  }
  if (json.contains("attention")) out.attention = read_member<KvzResults::Attention>(json, "attention");
  return out;
}

}  // namespace kvzip
