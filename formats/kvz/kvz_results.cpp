// SPDX-License-Identifier: Apache-2.0
#include "formats/kvz/kvz_results.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>

#include "codec/fail.hpp"
#include "formats/json_depth.hpp"
#include "formats/json_fields.hpp"

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

std::optional<double> difference(std::span<const double> a, std::span<const double> b) {
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::isfinite(a[i]) && std::isfinite(b[i])) {
      largest = std::max(largest, std::fabs(a[i] - b[i]));
    } else if (!(a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i])))) {
      return {};
    }
  }
  return largest;
}

/// Elements from `at` on. F64 does not pass through floats: as such two values could lie closer than they do.
void to_double(DType dtype, ByteView elements, std::size_t at, std::span<double> out, std::span<float> narrow) {
  const std::size_t unit = dtype_unit(dtype);
  const ByteView piece = elements.subspan(at * unit, out.size() * unit);
  if (dtype == DType::f64) {
    std::memcpy(out.data(), piece.data(), piece.size());
    return;
  }
  to_float(dtype, piece, narrow.first(out.size()));
  std::copy_n(narrow.begin(), out.size(), out.begin());
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
  check_json_depth(text, "results");
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

std::optional<double> largest_difference(DType dtype_a, ByteView a, DType dtype_b, ByteView b) {
  constexpr std::size_t kPiece = 4096;
  const std::size_t values = a.size() / dtype_unit(dtype_a);
  if (values != b.size() / dtype_unit(dtype_b)) fail(ErrorCode::invalid_argument, "two sizes");
  std::vector<double> x(std::min(kPiece, values)), y(x.size());
  std::vector<float> narrow(x.size());
  double largest = 0;
  for (std::size_t at = 0; at < values; at += kPiece) {
    const std::size_t n = std::min(kPiece, values - at);
    to_double(dtype_a, a, at, {x.data(), n}, narrow);
    to_double(dtype_b, b, at, {y.data(), n}, narrow);
    const auto piece = difference(std::span(x).first(n), std::span(y).first(n));
    if (!piece) return {};
    largest = std::max(largest, *piece);
  }
  return largest;
}

}  // namespace kvzip
