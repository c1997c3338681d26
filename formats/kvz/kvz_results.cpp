// SPDX-License-Identifier: Apache-2.0
#include "formats/kvz/kvz_results.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "codec/fail.hpp"
#include "formats/json_depth.hpp"

namespace kvzip {
namespace {

using Json = nlohmann::ordered_json;
using Parsed = nlohmann::json;

constexpr std::array<std::string_view, 5> kTargets{"ratio", "bits", "nrmse", "attention", "max-error"};

double real_of(const Parsed& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_number()) fail(ErrorCode::corrupt, "results: no number '{}'", name);
  const auto value = found->get<double>();
  if (!std::isfinite(value) || value < 0) fail(ErrorCode::corrupt, "results: '{}' is out of range", name);
  return value;
}

std::uint64_t count_of(const Parsed& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_number_unsigned()) fail(ErrorCode::corrupt, "results: no count '{}'", name);
  return found->get<std::uint64_t>();
}

/// What JSON cannot hold: an error without bound (every original 0, or a decoded value lost) is the largest number.
double storable(double value) {
  return std::isfinite(value) ? value : std::numeric_limits<double>::max();
}

const Parsed& object_in(const Parsed& json, const char* name) {
  const auto found = json.find(name);
  if (found == json.end() || !found->is_object()) fail(ErrorCode::corrupt, "results: no object '{}'", name);
  return *found;
}

}  // namespace

std::string write_kvz_results(const KvzResults& results) {
  Json json{{"target", {{"measure", results.target}, {"wanted", results.wanted}}}};
  if (results.max_error) json["bound"] = {{"max_abs", *results.max_error}};
  Json errors = Json::object();
  for (const KvzResults::Errors& e : results.errors) {
    errors[std::string(role_name(e.role))] = {{"values", e.values},
                                              {"max_abs", storable(e.max_abs)},
                                              {"rmse", storable(e.rmse)},
                                              {"nrmse", storable(e.nrmse)}};
  }
  json["errors"] = std::move(errors);
  if (const auto& a = results.attention) {
    json["attention"] = {{"output_nrmse", storable(a->output_nrmse)},
                         {"kl", storable(a->kl)},
                         {"split", a->split},
                         {"queries", a->queries}};
  }
  return json.dump();
}

KvzResults read_kvz_results(std::string_view text) {
  check_json_depth(text, "results");
  const Parsed json = Parsed::parse(text, nullptr, false);
  if (!json.is_object()) fail(ErrorCode::corrupt, "results: no JSON object");
  KvzResults out;
  const Parsed& target = object_in(json, "target");
  const auto measure = target.find("measure");
  if (measure == target.end() || !measure->is_string()) fail(ErrorCode::corrupt, "results: no measure");
  out.target = measure->get<std::string>();
  if (std::find(kTargets.begin(), kTargets.end(), out.target) == kTargets.end()) {
    fail(ErrorCode::corrupt, "results: an unknown measure");
  }
  out.wanted = real_of(target, "wanted");
  if (json.contains("bound")) out.max_error = real_of(object_in(json, "bound"), "max_abs");
  if (out.target == "max-error" && out.max_error != out.wanted) {
    fail(ErrorCode::corrupt, "results: the bound is not the one that was asked for");
  }
  const Parsed& errors = object_in(json, "errors");
  for (const Role role : {Role::key, Role::value}) {
    const std::string name(role_name(role));
    if (!errors.contains(name)) continue;
    const Parsed& e = object_in(errors, name.c_str());
    out.errors.push_back({role, count_of(e, "values"), real_of(e, "max_abs"), real_of(e, "rmse"), real_of(e, "nrmse")});
  }
  if (json.contains("attention")) {
    const Parsed& a = object_in(json, "attention");
    out.attention = {real_of(a, "output_nrmse"), real_of(a, "kl"), count_of(a, "split"), count_of(a, "queries")};
  }
  return out;
}

}  // namespace kvzip
