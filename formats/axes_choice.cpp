// SPDX-License-Identifier: Apache-2.0
// The shape table: for each kind of name, the axis orders in use. A convention is what such names stand for; an
// alternative is taken only when the dump confirms it and no convention. Two orders that survive equally well are an
// ambiguity, which is reported and never settled by a guess: what looks like more heads than tokens, more sequences
// than tokens, heads wider than any model's, a square of numbers.
#include "formats/axes_choice.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "codec/limits.hpp"

namespace kvzip {
namespace {

// Channels of a head, or of all of a layer, come in eights.
constexpr std::uint64_t kChannelStep = 8, kManyChannels = 64;

// No known model has more key/value heads; an unconfirmed H beyond this is far more likely a token axis.
constexpr std::uint64_t kMaxPlausibleHeads = 256;
// Wider heads are more likely several heads side by side, unless the metadata says so.
constexpr std::uint64_t kMaxPlausibleDim = 256;
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
    {kSingle, kYes, Family::mlx, "BHTD", ""},
    {kSingle, kNo, Family::mlx, "BHTD", ""},
    {kSingle, kYes, Family::transformer_lens, "BTHD THD TC", ""},
    {kSingle, kYes, Family::flax, "BTHD BHDT BHTD", ""},
    {kSingle, kNo, Family::flax, "LBTHD LBHDT LBHTD BTHD BHDT BHTD", ""},
    {kSingle, kNo, Family::plain, "LBHTD LHTD BHTD HTD LTC TC", "LBTHD LTHD BTHD LBTC THD BTC"},
    {kPair, kYes, Family::plain, "2BHTD 2BTHD 2THD 2HTD T2HD 2TC T2C", ""},
    {kPair, kYes, Family::hugging_face, "2BHTD B2HTD 2HTD 2TC T2C", "2BTHD B2THD 2THD"},
    {kPair, kYes, Family::vllm, "2THD T2HD 2TC T2C", "2HTD"},
    {kPair, kYes, Family::lmcache, "2THD T2HD 2TC T2C", "2HTD"},
    {kPair, kYes, Family::lmcache_heads_first, "2HTD 2TC T2C", "2THD T2HD"},
    {kPair, kNo, Family::plain, "L2BHTD 2LBHTD L2THD L2HTD 2LTHD 2LHTD 2THD 2HTD T2HD 2LTC L2TC 2TC T2C",
     "L2BTHD 2LBTHD"},
    {kPair, kNo, Family::hugging_face, "L2BHTD 2LBHTD L2HTD 2LHTD 2HTD 2LTC L2TC 2TC T2C", "L2BTHD 2LBTHD L2THD 2LTHD"},
    {kPair, kNo, Family::vllm, "2THD T2HD 2TC T2C", "2HTD 2LTC L2TC L2THD 2LTHD"},
    {kPair, kNo, Family::lmcache, "L2THD 2LTHD 2LTC L2TC 2TC T2C", "L2HTD 2LHTD"},
    {kPair, kNo, Family::lmcache_heads_first, "L2HTD 2LHTD 2LTC L2TC 2TC T2C", "L2THD 2LTHD"},
};

using Shape = std::vector<std::uint64_t>;

/// How well a reading agrees with what the dump says. Head dimensions may differ between keys and values, and there may
/// be more token ids than tokens or fewer, so D and T confirm but never contradict; a dump may hold fewer layers than
/// its model.
struct Agreement {
  bool possible = true, heads_confirmed = false, tokens_confirmed = false, structure_confirmed = false;
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
    } else if (axes[a] == 'T' && facts.tokens != 0) {
      confirms = result.tokens_confirmed = extent == facts.tokens;
    } else if (axes[a] == 'D' && facts.head_dim != 0 && extent == facts.head_dim) {
      ++result.confirmed;
    }
    result.structure_confirmed = result.structure_confirmed || confirms;
    result.confirmed += confirms ? 1 : 0;
  }
  return result;
}

/// The row for a reading: its family's, or the plain one where the family has none of its own. With an axis of
/// sequences or of layers besides, a name of vLLM's is only a name: pages have none, and five axes at most.
const Row* find_row(const NameReading& reading, const Shape& shape) {
  const bool sequences = shape.size() == 5 && shape[0] == 2 && shape[1] == 1 && reading.layer.has_value();
  const bool any = reading.family == Family::vllm && (shape.size() > 5 || sequences);
  const Row* plain = nullptr;
  for (const Row& row : kRows) {
    if (row.kind != reading.kind || (row.layered == kYes) != reading.layer.has_value()) continue;
    if (row.family == reading.family && !any) return &row;
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

/// Flax keeps keys as [batch, tokens, heads, channels], or, in T5X and older versions, with channels before tokens,
/// under one name: what makes of a shape heads of no usual width, or more of them than any model has, is not meant.
void drop_implausible(std::vector<Axes>& readings, const Shape& shape) {
  constexpr std::uint64_t kNarrow = 32;
  std::erase_if(readings, [&](const Axes& axes) {
    const std::uint64_t channels = axes.extent('D', shape), heads = axes.extent('H', shape);
    const bool usual = channels >= kNarrow && channels <= kMaxPlausibleDim && channels % kChannelStep == 0;
    return !usual || heads > kMaxPlausibleHeads || (axes.text().ends_with("HTD") && heads >= axes.extent('T', shape));
  });
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

bool lists(const Row& row, const Axes& axes) {
  for (std::string_view list : {row.conventions, row.alternatives}) {
    while (!list.empty()) {
      const std::size_t space = std::min(list.find(' '), list.size());
      if (list.substr(0, space) == axes.text()) return true;
      list.remove_prefix(std::min(space + 1, list.size()));
    }
  }
  return false;
}

AxesChoice open_choice(std::vector<Axes> readings, const Shape& shape, std::string_view else_what = {}) {
  std::vector<std::string> texts;
  for (const Axes& axes : readings) texts.push_back(extents_text(axes, shape));
  if (!else_what.empty()) texts.emplace_back(else_what);
  return {.axes = {},
          .why = fmt::format("ambiguous, {}", fmt::join(texts, " or ")),
          .hint = Hint::layout,
          .readings = std::move(readings)};
}

AxesChoice no_fit(const NameReading& reading, const Shape& shape) {
  const bool vllm = reading.kind == kPair && reading.family == Family::vllm && shape.size() >= 3;
  const bool pages = vllm && shape.size() > 4;
  return {.axes = {},
          .why = fmt::format("shape {} {}", shape_text(shape),
                             pages  ? "is that of pages of a cache without their table"
                             : vllm ? "is that of keys and values side by side in the last axis"
                                    : "fits no known layout of this name"),
          .hint = pages  ? Hint::none
                  : vllm ? Hint::halves
                         : Hint::layout_or_map,
          .readings = {}};
}

/// The same axes with those of tokens and channels exchanged, where the extents look more like that: channels before
/// tokens, as in some layouts that multiply by keys. None otherwise.
Axes channels_for_tokens(const Axes& axes, const Shape& shape) {
  const char last = axes.has('D') ? 'D' : 'C';
  const std::uint64_t tokens = axes.extent('T', shape), channels = axes.extent(last, shape);
  const bool odd = channels > kManyChannels && channels % kChannelStep != 0;
  if (!odd || tokens < 2 * kChannelStep || tokens % kChannelStep != 0) return {};
  std::string text(axes.text());
  std::swap(text[axes.find('T')], text[axes.find(last)]);
  return Axes(text);
}

/// Other orders whose extents are plausible, too, where only custom speaks for `axes`.
std::vector<Axes> rivals_of(const Row& row, const Axes& axes, const Shape& shape) {
  constexpr std::uint64_t kFewChannels = 32, kOfHeads = 64;
  std::vector<Axes> rivals;
  const char last = axes.has('D') ? 'D' : 'C';
  if (row.family == Family::mlx || !axes.has('T')) return rivals;
  const std::uint64_t tokens = axes.extent('T', shape);
  const Axes swapped = heads_for_tokens(axes);
  if (!swapped.empty() && lists(row, swapped) && tokens > 1 && tokens <= kMaxPlausibleHeads) rivals.push_back(swapped);
  const bool like_one = tokens % kChannelStep == 0 && tokens >= kFewChannels && tokens <= kMaxPlausibleDim;
  const bool like_all = tokens != 0 && tokens % kOfHeads == 0;
  if ((last == 'D' ? like_one : like_all) && axes.extent(last, shape) > 1) {
    std::string text(axes.text());
    std::swap(text[axes.find('T')], text[axes.find(last)]);
    rivals.emplace_back(text);
  }
  return rivals;
}

/// What speaks against a reading that only its name supports: an empty `why` when nothing does.
AxesChoice doubt(const Row& row, const NameReading& reading, const Axes& axes, const Agreement& fit, const Shape& shape,
                 const ModelFacts& facts) {
  const std::uint64_t heads = axes.extent('H', shape), tokens = axes.extent('T', shape);
  const Axes swapped = heads_for_tokens(axes);
  if (!swapped.empty() && lists(row, swapped) && tokens != 0 && heads > 1 && heads >= tokens && !fit.heads_confirmed &&
      !(fit.tokens_confirmed && heads != tokens)) {
    return open_choice({axes, swapped}, shape);
  }
  if (axes.text() == "T2HD" && heads >= tokens && heads > 1 && !fit.structure_confirmed) {
    return open_choice({axes}, shape, "layers or sequences of two heads");
  }
  if (axes.text() == "2TC" && reading.family == Family::hugging_face && !fit.structure_confirmed) {
    return open_choice({axes}, shape, "two sequences with keys and values side by side");
  }
  if (heads > kMaxPlausibleHeads && !fit.heads_confirmed && !fit.tokens_confirmed) {
    return {.axes = {},
            .why = fmt::format("{} would mean {} heads", axes.text(), heads),
            .hint = Hint::layout,
            .readings = {axes}};
  }
  if (axes.extent('B', shape) > std::max<std::uint64_t>(tokens, 1) && reading.family != Family::mlx &&
      !fit.tokens_confirmed && tokens != 0) {
    // Megatron and ChatGLM have the sequences behind the tokens.
    constexpr std::uint64_t kFewSequences = 4;
    std::vector<Axes> readings{axes};
    if (axes.text() == "BHTD" && shape[1] <= kFewSequences) readings.emplace_back("TBHD");
    return open_choice(std::move(readings), shape, "pages of a cache without their table");
  }
  const Axes turned = channels_for_tokens(axes, shape);
  if (!turned.empty() && fit.confirmed == 0 && reading.family != Family::mlx) return open_choice({axes, turned}, shape);
  if (axes.text() == "HTD" && lists(row, "BTC") && shape[2] > kMaxPlausibleDim && fit.confirmed == 0) {
    return open_choice({axes, "BTC"}, shape);
  }
  if (axes.text() == "TC" && shape[0] == shape[1] && shape[0] > 1 && !fit.tokens_confirmed) {
    return open_choice({axes}, shape, "a square of weights");
  }
  const bool side_by_side = axes.text() == "T2C" && row.family != Family::lmcache &&
                            row.family != Family::lmcache_heads_first && !(facts.kv_heads != 0 && facts.kv_heads != 2);
  if (side_by_side) return open_choice({axes}, shape, "2 heads with keys and values side by side");
  return {};
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
    if (axes[a] == 'L' && shape[a] > limits::kLayers)
      return fmt::format("axis L of {} has {} entries", axes.text(), shape[a]);
  }
  return {};
}

Axes heads_for_tokens(const Axes& axes) {
  const std::size_t heads = axes.find('H'), tokens = axes.find('T');
  if (heads == Axes::npos || tokens == Axes::npos) return {};
  std::string text(axes.text());
  std::swap(text[heads], text[tokens]);
  return Axes(text);
}

bool either_order_in_use(const NameReading& reading, const Axes& axes, const Shape& shape) {
  const Row* row = find_row(reading, shape);
  const Axes other = heads_for_tokens(axes);
  return row != nullptr && !other.empty() && lists(*row, axes) && lists(*row, other);
}

std::string extents_text(const Axes& axes, const Shape& shape) {
  constexpr std::string_view kKnown = "LBHTDC";
  constexpr std::string_view kNames[] = {"layers", "sequences", "heads", "tokens", "channels a head", "channels"};
  std::vector<std::string> parts;
  for (std::size_t a = 0; a < axes.size() && a < shape.size(); ++a) {
    const std::size_t at = kKnown.find(axes[a]);
    if (at == kKnown.npos || (axes[a] == 'B' && shape[a] == 1)) continue;
    parts.push_back(fmt::format("{} {}", shape[a], kNames[at]));
  }
  return fmt::format("{} ({})", axes.text(), fmt::join(parts, ", "));
}

AxesChoice choose_axes(const NameReading& reading, const Shape& shape, const ModelFacts& facts) {
  if (reading.kind == NameKind::latent || reading.kind == NameKind::rope_part || is_mla_row(reading, shape)) {
    return choose_latent(reading, shape);
  }
  if (reading.kind == kPair && shape.size() == 3 && shape[0] == 2 && shape[2] == kMlaRow && facts.kv_heads == 0) {
    return open_choice({"2TC", "BTD"}, shape, "");
  }
  const Row* row = find_row(reading, shape);
  if (row == nullptr) return no_fit(reading, shape);
  std::vector<Axes> best = best_of(row->conventions, false, shape, facts, reading.role);
  const std::vector<Axes> confirmed = best_of(row->alternatives, true, shape, facts, reading.role);
  const auto score = [&](const std::vector<Axes>& axes) {
    return axes.empty() ? 0 : agreement(axes[0], shape, facts, reading.role).confirmed;
  };
  if (best.empty() || score(confirmed) > score(best)) best = confirmed;
  if (row->family == Family::flax && best.size() > 1) {
    std::vector<Axes> plausible = best;
    drop_implausible(plausible, shape);
    if (!plausible.empty()) best = std::move(plausible);
  }
  std::string contradicted;
  ModelFacts used = facts;
  if (best.empty() && facts.kv_heads != 0) {
    // Layers of one model differ: what its metadata says of all is no more than what the name says of this one.
    used.heads = used.kv_heads = 0;
    best = best_of(row->conventions, false, shape, used, reading.role);
    contradicted = fmt::format("; the {} KV heads of the metadata are not those of this tensor", facts.kv_heads);
  }
  if (best.empty()) return no_fit(reading, shape);
  if (best.size() > 1) return open_choice(std::move(best), shape);
  const Agreement fit = agreement(best[0], shape, used, reading.role);
  AxesChoice choice = doubt(*row, reading, best[0], fit, shape, used);
  if (!choice.why.empty()) return choice;
  const std::string_view source = reading.family == Family::mlx ? "as mlx-lm writes them"
                                  : fit.structure_confirmed     ? "confirmed by the metadata"
                                                                : "by convention";
  return {.axes = best[0],
          .why = fmt::format("{}{}", source, contradicted),
          .hint = {},
          .readings = {},
          .firm = fit.structure_confirmed,
          .rivals = fit.confirmed == 0 ? rivals_of(*row, best[0], shape) : std::vector<Axes>{}};
}

}  // namespace kvzip
