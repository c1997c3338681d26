// SPDX-License-Identifier: Apache-2.0
#include "formats/kvz/kvz_fit.hpp"

#include <algorithm>

#include "formats/used_rows.hpp"

namespace kvzip {

std::uint64_t tokens_of_group(DumpReader& reader, const PlanGroup& group) {
  std::uint64_t used = 0;
  for (const PlanSlot& slot : group.slots)
    used = std::max(used, used_tokens(reader, slot.tensor, slot.axes, slot.fixed));
  return used == 0 ? group.rows : used;
}

std::vector<std::uint64_t> find_used_tokens(DumpReader& reader, const Recognition& recognition,
                                            const KvzOptions& options) {
  const Plan plan = make_plan(reader.dump(), recognition, options.rules, options.chunk_tokens);
  std::vector<std::uint64_t> used;
  bool padded = false;
  for (const PlanGroup& group : plan.groups) {
    used.push_back(group.tiled && group.frames > 0 ? tokens_of_group(reader, group) : group.rows);
    padded = padded || used.back() < group.rows;
  }
  if (!padded) used.clear();
  return used;
}

void fit_options(DumpReader& reader, const Recognition& recognition, KvzOptions& options, unsigned threads,
                 const Progress& progress) {
  options.used_tokens = find_used_tokens(reader, recognition, options);
  options.tables.stored = fit_tables(reader, recognition, options, threads, progress);
}

}  // namespace kvzip
