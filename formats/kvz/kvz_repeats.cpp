// SPDX-License-Identifier: Apache-2.0
#include "formats/kvz/kvz_repeats.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <unordered_map>

#include "codec/bytes.hpp"
#include "codec/limits.hpp"
#include "codec/splitmix64.hpp"
#include "formats/kvz/kvz_fit.hpp"
#include "formats/kvz/kvz_plan.hpp"
#include "formats/kvz/tile_walk.hpp"
#include "formats/model_info.hpp"

namespace kvzip {
namespace {

constexpr std::uint64_t kWorthIt = 16;  // one token in so many must be a repeat
constexpr std::size_t kChannels = 32;   // of a row that are compared

/// `token` numbers what is the same alike. Rows behind the tokens, padding, repeat nothing.
Bytes table_of(const std::vector<std::uint64_t>& token, std::uint64_t rows) {
  std::unordered_map<std::uint64_t, std::size_t> last;
  ByteWriter out;
  std::uint64_t repeats = 0;
  for (std::size_t t = 0; t < token.size(); ++t) {
    const auto [at, is_new] = last.try_emplace(token[t], t);
    out.put(static_cast<std::uint32_t>(t - at->second));
    repeats += is_new ? 0 : 1;
    at->second = t;
  }
  out.bytes().resize(rows * sizeof(std::uint32_t));
  return repeats * kWorthIt < token.size() ? Bytes() : std::move(out.bytes());
}

/// Empty when there is no list of one sequence.
std::vector<std::uint64_t> listed_tokens(DumpReader& reader) {
  const auto ids = find_token_ids(reader.dump());
  if (!ids) return {};
  const TensorInfo& info = reader.dump().tensors[*ids];
  if (info.elements() != info.shape.back() || info.elements() > limits::kRepeatsTokens) return {};
  Bytes data(info.bytes());
  if (!data.empty()) reader.read({*ids, std::vector<std::uint64_t>(info.shape.size(), 0), info.shape}, data);
  const std::size_t width = data.size() / std::max<std::size_t>(1, info.shape.back());
  std::vector<std::uint64_t> tokens(info.shape.back());
  for (std::size_t t = 0; t < tokens.size(); ++t) std::memcpy(&tokens[t], data.data() + t * width, width);
  return tokens;
}

/// The first channels of a group's rows.
struct Rows {
  std::size_t width = 0;
  std::vector<float> values;
  std::size_t count() const { return width == 0 ? 0 : values.size() / width; }
  const float* row(std::size_t r) const { return values.data() + r * width; }
};

Rows read_rows(DumpReader& reader, const Plan& plan, const PlanGroup& group, std::uint64_t used, unsigned threads) {
  std::vector<std::uint64_t> frames((used - 1) / group.chunk + 1);
  std::iota(frames.begin(), frames.end(), group.first_frame);
  Rows rows;
  rows.width = std::min<std::size_t>(kChannels, group.context.channels());
  const auto visit = [&](const PlannedTile& tile) {
    const std::size_t row_bytes = tile.shape.cols * dtype_unit(group.context.source);
    std::vector<float> values(std::size_t{tile.shape.rows} * rows.width);
    for (std::size_t r = 0; r < tile.shape.rows; ++r) {
      to_float(group.context.source,
               tile.elements.subspan(r * row_bytes, rows.width * dtype_unit(group.context.source)),
               std::span(values).subspan(r * rows.width, rows.width));
    }
    return values;
  };
  const auto merge = [&](const PlannedTile&, const std::vector<float>& values) {
    rows.values.insert(rows.values.end(), values.begin(), values.end());
  };
  for_each_tile<std::vector<float>>(reader, plan, frames, visit, merge, threads);
  rows.values.resize(used * rows.width);
  return rows;
}

bool alike(const float* a, const float* b, std::size_t n) {
  constexpr double kDifference = 0x1p-14;  // of a row's energy: what rounding to 8 bits leaves stays well below
  double difference = 0, energy = 0;
  for (std::size_t c = 0; c < n; ++c) {
    difference += (double{a[c]} - b[c]) * (double{a[c]} - b[c]);
    energy += double{a[c]} * a[c];
  }
  return difference <= kDifference * energy;
}

/// Rows that are alike get one number. They are looked for among neighbours by a weighted sum of their channels.
std::vector<std::uint64_t> number_rows(const Rows& rows) {
  constexpr std::size_t kNeighbours = 8;
  std::vector<double> sum(rows.count());
  std::vector<std::uint32_t> order;
  for (std::size_t r = 0; r < rows.count(); ++r) {
    for (std::size_t c = 0; c < rows.width; ++c) {
      sum[r] += (static_cast<double>(splitmix64(0, c) >> 40) - 0x1p23) * rows.row(r)[c];
    }
    if (std::isfinite(sum[r])) order.push_back(static_cast<std::uint32_t>(r));
  }
  std::sort(order.begin(), order.end(),
            [&](std::uint32_t a, std::uint32_t b) { return sum[a] != sum[b] ? sum[a] < sum[b] : a < b; });
  std::vector<std::uint64_t> number(rows.count());
  std::iota(number.begin(), number.end(), 0);
  for (std::size_t i = 1; i < order.size(); ++i) {
    for (std::size_t back = 1; back <= std::min(kNeighbours, i); ++back) {
      if (!alike(rows.row(order[i]), rows.row(order[i - back]), rows.width)) continue;
      number[order[i]] = number[order[i - back]];
      break;
    }
  }
  return number;
}

/// One that has keys or values; `used` are its tokens, without padding.
struct Sequence {
  const PlanGroup* group = nullptr;
  std::uint64_t used = 0;
};

}  // namespace

Bytes find_repeats(DumpReader& reader, const Recognition& recognition, unsigned threads) {
  // Any rules that cut keys and values into tiles will do.
  const RuleSet rules = RuleSet::parse("key = planes,pack\nvalue = planes,pack\n", "tiles");
  const Plan plan = make_plan(reader.dump(), recognition, rules, {});
  std::map<std::pair<std::uint32_t, Role>, Sequence> sequences;
  std::uint64_t counted = 0;  // rows of a sequence that the list is of
  std::vector<std::uint64_t> ids = listed_tokens(reader);
  for (const PlanGroup& group : plan.groups) {
    const Role role = group.context.role;
    if (!group.tiled || group.frames == 0 || (role != Role::key && role != Role::value)) continue;
    if (!is_codable_float(group.context.source)) continue;
    const Sequence one{&group, tokens_of_group(reader, group)};
    if (!sequences.try_emplace({group.context.layer, role}, one).second) return {};  // several sequences
    if (group.rows != ids.size() && one.used != ids.size()) continue;
    counted = group.rows;
    ids.resize(one.used);
  }
  if (!ids.empty() && counted != 0) return table_of(ids, counted);
  // Keys tell tokens apart where they are a latent without rotation.
  for (const Role role : {Role::value, Role::key}) {
    const auto found = sequences.empty() ? sequences.end() : sequences.find({sequences.begin()->first.first, role});
    if (found == sequences.end() || found->second.group->rows > limits::kRepeatsTokens) continue;
    const auto& [group, used] = found->second;
    Bytes table = table_of(number_rows(read_rows(reader, plan, *group, used, threads)), group->rows);
    if (!table.empty()) return table;
  }
  return {};
}

}  // namespace kvzip
