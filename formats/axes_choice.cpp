// SPDX-License-Identifier: Apache-2.0
// The shape table: for each kind of name, the axis orders in use. A convention is what such names stand for; an
// alternative is taken only when the metadata rules every convention out and confirms it. Two orders that survive
// equally well are an ambiguity, which is reported and never settled by a guess.
#include "formats/axes_choice.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace kvzip {
namespace {

// No known model has more key/value heads; an unconfirmed H beyond this is far more likely a token axis.
constexpr std::uint64_t kMaxPlausibleHeads = 256;
// Width of a vLLM MLA cache row: 512 latent and 64 rotary channels.
constexpr std::uint64_t kMlaRow = 576;

enum class Layered : bool { no, yes };

/// Axis orders in use under one kind of name; several of one rank are told apart by shape and metadata.
struct Row {
  NameKind kind;
  Layered layered;  // does the name give the layer?
  Family family;
  std::string_view conventions, alternatives;
};

constexpr auto kSingle = NameKind::single, kPair = NameKind::pair;
constexpr auto kNo = Layered::no, kYes = Layered::yes;

constexpr Row kRows[] = {
    {kSingle, kYes, Family::plain, "BHTD HTD TC", "BTHD THD BTC"},
    {kSingle, kYes, Family::transformer_lens, "BTHD THD TC", ""},
    {kSingle, kNo, Family::plain, "LBHTD LHTD BHTD HTD LTC TC", "LBTHD LTHD BTHD LBTC THD BTC"},
    {kPair, kYes, Family::plain, "2BHTD 2BTHD 2THD 2HTD T2HD 2TC T2C", ""},
    {kPair, kYes, Family::hugging_face, "2BHTD 2HTD 2TC T2C", "2BTHD 2THD"},
    {kPair, kYes, Family::vllm, "2THD T2HD 2TC T2C", "2HTD"},
    {kPair, kYes, Family::lmcache, "2THD T2HD 2TC T2C", "2HTD"},
    {kPair, kYes, Family::lmcache_heads_first, "2HTD 2TC T2C", "2THD T2HD"},
    {kPair, kNo, Family::plain, "L2BHTD 2LBHTD L2THD L2HTD 2LTHD 2LHTD 2THD 2HTD T2HD 2LTC L2TC 2TC T2C", ""},
    {kPair, kNo, Family::hugging_face, "L2BHTD 2LBHTD L2HTD 2LHTD 2HTD 2LTC L2TC 2TC T2C", "L2BTHD L2THD 2LTHD"},
    {kPair, kNo, Family::vllm, "2THD T2HD 2TC T2C", "2HTD 2LTC L2TC L2THD 2LTHD"},
    {kPair, kNo, Family::lmcache, "L2THD 2LTHD 2LTC L2TC 2TC T2C", "L2HTD 2LHTD"},
    {kPair, kNo, Family::lmcache_heads_first, "L2HTD 2LHTD 2LTC L2TC 2TC T2C", "L2THD 2LTHD"},
};

using Shape = std::vector<std::uint64_t>;

/// How well a reading agrees with the metadata. Head dimensions may differ between keys and values, so D confirms but
/// never contradicts; a dump may hold fewer layers than its model.
struct Agreement {
  bool possible = true, heads_confirmed = false, structure_confirmed = false;
  unsigned confirmed = 0;
};

Agreement agreement(const Axes& axes, const Shape& shape, const ModelFacts& facts, Role role) {
  Agreement result;
  const std::uint64_t heads = role == Role::query ? facts.heads : facts.kv_heads;
  if (axes.size() != shape.size() || !fit_problem(axes, shape).empty()) return {.possible = false};
  for (std::size_t a = 0; a < axes.size(); ++a) {
    const std::uint64_t extent = shape[a];
    bool confirms = false;
    if (axes[a] == 'L' && facts.layers != 0) {
      confirms = extent == facts.layers;
      result.possible = result.possible && extent <= facts.layers;
    } else if (axes[a] == 'H' && heads != 0) {
      confirms = result.heads_confirmed = extent == heads;
      result.possible = result.possible && confirms;
    } else if (axes[a] == 'C' && heads != 0 && facts.head_dim != 0) {
      confirms = extent / heads == facts.head_dim && extent % heads == 0;
    } else if (axes[a] == 'D' && facts.head_dim != 0 && extent == facts.head_dim) {
      ++result.confirmed;
    }
    result.structure_confirmed = result.structure_confirmed || confirms;
    result.confirmed += confirms ? 1 : 0;
  }
  return result;
}

/// The row for a reading: its family's, or the plain one where the family has none of its own.
const Row* find_row(const NameReading& reading) {
  const Row* plain = nullptr;
  for (const Row& row : kRows) {
    if (row.kind != reading.kind || (row.layered == kYes) != reading.layer.has_value()) continue;
    if (row.family == reading.family) return &row;
    if (row.family == Family::plain) plain = &row;
  }
  return plain;
}

std::string shape_text(const Shape& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

/// The orders in `list` that agree best with shape and metadata; several when the choice is open.
std::vector<Axes> best_of(std::string_view list, bool need_confirmation, const Shape& shape, const ModelFacts& facts,
                          Role role) {
  std::vector<Axes> best;
  unsigned best_confirmed = 0;
  while (!list.empty()) {
    const std::size_t space = std::min(list.find(' '), list.size());
    const Axes axes(list.substr(0, space));
    list.remove_prefix(std::min(space + 1, list.size()));
    const Agreement fit = agreement(axes, shape, facts, role);
    if (!fit.possible || (need_confirmation && !fit.structure_confirmed)) continue;
    if (fit.confirmed > best_confirmed) best.clear();
    if (!best.empty() && fit.confirmed < best_confirmed) continue;
    best.push_back(axes);
    best_confirmed = fit.confirmed;
  }
  return best;
}

/// MLA caches have no head axis, or one of a single head.
AxesChoice choose_latent(const NameReading& reading, const Shape& shape) {
  const std::string what = reading.kind == NameKind::rope_part ? "MLA rope part" : "MLA latent";
  const bool layered = reading.layer.has_value();
  if (shape.size() == 2) return {"TD", what, {}};
  if (shape.size() == 3 && shape[1] == 1 && shape[0] != 1) return {"THD", what, {}};
  if (shape.size() == 3 && (layered || shape[0] == 1)) return {"BTD", what, {}};
  if (shape.size() == 4 && layered && shape[1] == 1) return {"BHTD", what, {}};
  return {{}, fmt::format("{} of shape {}: the meaning of its axes is open", what, shape_text(shape)), Hint::layout};
}

/// vLLM's MLA cache has the name of a pair.
bool is_mla_row(const NameReading& reading, const Shape& shape) {
  if (reading.kind != kPair || shape.size() < 2 || shape.back() != kMlaRow) return false;
  return shape.size() == 2 || (shape.size() == 3 && shape[0] != 2 && shape[1] != 2 && (shape[0] == 1 || shape[1] == 1));
}

}  // namespace

std::string axes_problem(std::string_view text) {
  if (text.size() > Axes::kLetters.size()) return "more letters than there are axes";
  for (std::size_t a = 0; a < text.size(); ++a) {
    if (Axes::kLetters.find(text[a]) == text.npos) return fmt::format("axes are letters of {}", Axes::kLetters);
    if (text.find(text[a], a + 1) != text.npos) return fmt::format("axis {} is given twice", text[a]);
  }
  const Axes axes(text);
  if (!axes.has('T')) return "the token axis T is missing";
  if (axes.has('D') == axes.has('C')) return "exactly one of D (head_dim) and C (heads x head_dim merged) is needed";
  if (axes.has('C') && axes.has('H')) return "C already holds the heads: use H with D";
  return {};
}

std::string fit_problem(const Axes& axes, const std::vector<std::uint64_t>& shape) {
  if (axes.size() != shape.size()) {
    return fmt::format("{} are {} axes, but the tensor has {}", axes.text(), axes.size(), shape.size());
  }
  for (std::size_t a = 0; a < axes.size(); ++a) {
    if (axes[a] == '2' && shape[a] != 2) return fmt::format("axis 2 of {} has {} entries", axes.text(), shape[a]);
    if (axes[a] == 'L' && shape[a] > kMaxLayers)
      return fmt::format("axis L of {} has {} entries", axes.text(), shape[a]);
  }
  return {};
}

AxesChoice choose_axes(const NameReading& reading, const std::vector<std::uint64_t>& shape, const ModelFacts& facts) {
  if (reading.kind == NameKind::latent || reading.kind == NameKind::rope_part || is_mla_row(reading, shape)) {
    return choose_latent(reading, shape);
  }
  std::vector<Axes> best;
  if (const Row* row = find_row(reading)) {
    best = best_of(row->conventions, false, shape, facts, reading.role);
    if (best.empty()) best = best_of(row->alternatives, true, shape, facts, reading.role);
  }
  if (best.empty()) {
    return {{}, fmt::format("shape {} fits no known layout of this name", shape_text(shape)), Hint::layout_or_map};
  }
  if (best.size() > 1) {
    std::vector<std::string_view> texts;
    for (const Axes& axes : best) texts.push_back(axes.text());
    return {{}, fmt::format("ambiguous, {}", fmt::join(texts, " or ")), Hint::layout};
  }
  const Agreement fit = agreement(best[0], shape, facts, reading.role);
  if (const auto heads = best[0].extent('H', shape); heads > kMaxPlausibleHeads && !fit.heads_confirmed) {
    return {{}, fmt::format("{} would mean {} heads", best[0].text(), heads), Hint::layout};
  }
  return {best[0], fit.structure_confirmed ? "confirmed by the metadata" : "by convention", {}};
}

}  // namespace kvzip
