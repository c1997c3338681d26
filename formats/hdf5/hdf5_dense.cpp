// SPDX-License-Identifier: Apache-2.0
#include "formats/hdf5/hdf5_dense.hpp"

#include <algorithm>
#include <vector>

#include "codec/fail.hpp"
#include "formats/hdf5/hdf5_btree2.hpp"
#include "formats/hdf5/hdf5_fractal_heap.hpp"

namespace kvzip::hdf5 {
namespace {

/// Heap IDs of links have 7 bytes and follow what they are sorted by; those of attributes have 8 and come first.
constexpr std::uint64_t kLinkId = 7, kAttributeId = 8;

std::uint64_t read_id(Cursor record, bool attributes, const Tree2Form& form) {
  if (!attributes) record.skip(form.record_bytes - kLinkId);
  const std::uint64_t id = record.number(attributes ? kAttributeId : kLinkId);
  // The library looks for those in a heap that is then not there.
  if (attributes && (record.number(1) & 2) != 0) fail(ErrorCode::unsupported, "an attribute is in a shared message");
  return id;
}

}  // namespace

void check_dense(const RawFile& file, const Dense& dense, const std::function<void(Cursor)>& visit) {
  const Tree2Form names = dense.attributes ? Tree2Form{8, 17} : Tree2Form{5, 11};
  const Tree2Form order = dense.attributes ? Tree2Form{9, 13} : Tree2Form{6, 15};
  const FractalHeap heap(file, dense.heap, dense.attributes ? kAttributeId : kLinkId);
  std::vector<std::uint64_t> ids;
  walk_tree2(file, dense.names, names, [&](Cursor r) { ids.push_back(read_id(r, dense.attributes, names)); });
  std::ranges::sort(ids);
  if (dense.order) {
    walk_tree2(file, *dense.order, order, [&](Cursor r) {
      const bool known = std::ranges::binary_search(ids, read_id(r, dense.attributes, order));
      if (!known) fail(kBad, "an object's indexes lead to different links or attributes");
    });
  }
  heap.each(ids, visit);
}

}  // namespace kvzip::hdf5
