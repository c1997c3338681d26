// SPDX-License-Identifier: Apache-2.0
#include "src/prune/pruned_reader.hpp"

#include <algorithm>
#include <cstring>
#include <set>

#include "codec/fail.hpp"
#include "formats/hdf5/hdf5.hpp"

namespace kvzip::tool {
namespace {

constexpr std::uint64_t kSpan = 1024;  // tokens of the original that are read together at most

bool holds_tokens(const TensorRole& role, const TensorInfo& info) {
  return role.role != Role::other && role.role != Role::query && role.axes.size() == info.shape.size() &&
         info.elements() > 0;
}

/// What llama.cpp says of its cells under the same name: prune's own list takes its place.
bool is_llama_positions(const Dump& dump, const TensorInfo& info) {
  return info.name == kPositionsName && info.dtype == DType::i32 && info.shape.size() == 1 &&
         !dump.text("llama.cpp").empty();
}

}  // namespace

PrunedReader::PrunedReader(DumpReader& inner, const Recognition& recognition, Kept kept)
    : inner_(inner), kept_(std::move(kept)) {
  reads_through(inner);
  const std::vector<TensorInfo>& tensors = inner.dump().tensors;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    TensorRole role = recognition.tensors[i];
    if (role.role == Role::query) continue;
    if (is_llama_positions(inner.dump(), tensors[i])) {
      read_positions(i);
      continue;
    }
    if (tensors[i].name == kHdf5Frame) continue;  // of a file with all tokens
    if (tensors[i].name == kPositionsName) {
      fail(ErrorCode::invalid_argument, "it has a tensor '{}' already: tokens were left out before", kPositionsName);
    }
    TensorInfo info = tensors[i];
    if (holds_tokens(role, info)) {
      if (kept_.by == KeepBy::head && !role.axes.has('H')) {
        fail(ErrorCode::invalid_argument, "{}: axes {} have no heads that could keep tokens of their own", info.name,
             role.axes.text());
      }
      info.shape[role.axes.find('T')] = kept_.tokens;
    } else {
      role.role = Role::other;
    }
    dump_.tensors.push_back(std::move(info));
    sources_.push_back({i, std::move(role)});
  }
  take_attributes(recognition);
  add_positions();
  parts_ = DumpParts(dump_);
}

/// Rows are no longer one position apart, so nothing may turn keys by their row's number: of rotated keys that they are
/// is no longer said, of others by what angles.
void PrunedReader::take_attributes(const Recognition& recognition) {
  const char* gone = recognition.model.rope.state == Rope::State::pre ? "rope_theta" : "rope";
  std::set<std::string_view> dropped;
  for (std::size_t i = 0; i < recognition.tensors.size(); ++i) {
    const bool gone_too = recognition.tensors[i].role == Role::query || inner_.dump().tensors[i].name == kHdf5Frame;
    if (gone_too) dropped.insert(inner_.dump().tensors[i].name);
  }
  for (const Attribute& attribute : inner_.dump().attributes) {
    const bool turns = attribute.object.empty() && attribute.name == gone;
    if (!turns && !dropped.contains(attribute.object)) dump_.attributes.push_back(attribute);
  }
}

void PrunedReader::read_positions(std::size_t tensor) {
  const TensorInfo& info = inner_.dump().tensors[tensor];
  row_positions_.emplace(info.elements());
  inner_.read({tensor, {0}, info.shape}, std::as_writable_bytes(std::span(*row_positions_)));
}

std::uint64_t PrunedReader::position_of(std::uint64_t row) const {
  if (!row_positions_) return row;
  if (row >= row_positions_->size()) fail(ErrorCode::corrupt, "{} has no row {}", kPositionsName, row);
  return static_cast<std::uint64_t>(std::int64_t{(*row_positions_)[row]});
}

void PrunedReader::add_positions() {
  std::set<std::uint64_t> extents[3];
  for (const auto& [place, list] : kept_.lists) {
    for (std::size_t a = 0; a < 3; ++a) extents[a].insert(place[a]);
  }
  if (kept_.lists.size() != extents[0].size() * extents[1].size() * extents[2].size()) {
    fail(ErrorCode::invalid_argument,
         "its layers have not all as many heads and batch entries: their tokens cannot differ");
  }
  TensorInfo info{kPositionsName, DType::i64, {}};
  if (extents[0].size() > 1) info.shape.push_back(extents[0].size());
  if (kept_.by != KeepBy::sequence) info.shape.push_back(extents[1].size());
  if (kept_.by == KeepBy::head) info.shape.push_back(extents[2].size());
  info.shape.push_back(kept_.tokens);
  for (const auto& [place, list] : kept_.lists) {
    for (const std::uint64_t row : list) {
      const std::uint64_t token = position_of(row);
      for (unsigned byte = 0; byte < 8; ++byte) positions_.push_back(static_cast<std::byte>(token >> (8 * byte)));
    }
  }
  dump_.tensors.push_back(std::move(info));
}

void PrunedReader::fetch(Part& part) {
  fetch_by_reading(*this, part);
}

void PrunedReader::read(const Slice& slice, std::span<std::byte> out) {
  check_slice(dump_, slice, out.size());
  if (slice.tensor == sources_.size()) {
    for_each_run(dump_.tensors.back().shape, slice, [&](std::uint64_t from, std::uint64_t to, std::uint64_t count) {
      std::memcpy(out.data() + to * 8, positions_.data() + from * 8, count * 8);
    });
    return;
  }
  const Source& source = sources_[slice.tensor];
  if (source.role.role != Role::other) return read_kept(source, slice, out);
  Slice same = slice;
  same.tensor = source.tensor;
  inner_.read(same, out);
}

/// Cuts a slice into boxes that one list serves.
void PrunedReader::read_kept(const Source& source, const Slice& slice, std::span<std::byte> out) {
  const Axes& axes = source.role.axes;
  const auto cuts = [&](char axis) {
    return axis == 'B' || (axis == '2' && !kept_.runs.empty()) || (axis == 'L' && kept_.by != KeepBy::sequence) ||
           (axis == 'H' && kept_.by == KeepBy::head);
  };
  if (slice.elements() == 0) return;
  Slice box = slice;
  for (std::size_t a = 0; a < axes.size(); ++a) {
    if (cuts(axes[a])) box.count[a] = 1;
  }
  for (;;) {
    const auto index = [&](char axis, std::uint64_t without) {
      return axes.has(axis) ? box.start[axes.find(axis)] : without;
    };
    const bool heads = kept_.by == KeepBy::head;
    const std::uint64_t layer = index('L', source.role.layer.value_or(0));
    const Kept::Place place = Kept::place(kept_.by, index('B', 0), layer, heads ? index('H', 0) : 0);
    if (kept_.runs.empty()) {
      read_box(source, slice, box, kept_.lists.at(place), out);
    } else {
      read_runs(source, slice, box, kept_.runs.at(place), out);
    }
    std::size_t a = axes.size();  // one past the axis that moves
    for (; a > 0; --a) {
      if (!cuts(axes[a - 1])) continue;
      if (++box.start[a - 1] < slice.start[a - 1] + slice.count[a - 1]) break;
      box.start[a - 1] = slice.start[a - 1];
    }
    if (a == 0) return;
  }
}

/// Reads tokens that lie near each other at once, and puts those that stay to their places in `out`.
void PrunedReader::read_box(const Source& source, const Slice& slice, const Slice& box,
                            const std::vector<std::uint64_t>& list, std::span<std::byte> out) {
  const std::size_t axis = source.role.axes.find('T'), unit = slice_unit(inner_.dump().tensors[source.tensor]);
  const std::uint64_t end = box.start[axis] + box.count[axis];
  Bytes some;
  for (std::uint64_t i = box.start[axis]; i < end;) {
    std::uint64_t next = i + 1;
    while (next < end && list[next] - list[i] < kSpan) ++next;
    Slice from = box;
    from.tensor = source.tensor;
    from.start[axis] = list[i];
    from.count[axis] = list[next - 1] - list[i] + 1;
    some.resize(from.elements() * unit);
    inner_.read(from, some);
    for (; i < next; ++i) {
      Slice row = box, to = box;  // one token: of what was read, and of what is wanted
      row.start.assign(box.start.size(), 0);
      row.start[axis] = list[i] - from.start[axis];
      for (std::size_t a = 0; a < box.start.size(); ++a) to.start[a] -= slice.start[a];
      to.start[axis] = i - slice.start[axis];
      row.count[axis] = to.count[axis] = 1;
      Bytes token(row.elements() * unit);
      for_each_run(from.count, row, [&](std::uint64_t at, std::uint64_t done, std::uint64_t count) {
        std::memcpy(token.data() + done * unit, some.data() + at * unit, count * unit);
      });
      for_each_run(slice.count, to, [&](std::uint64_t at, std::uint64_t done, std::uint64_t count) {
        std::memcpy(out.data() + at * unit, token.data() + done * unit, count * unit);
      });
    }
  }
}

/// Reads tokens in order, and puts the sum of each run to its place in `out`.
void PrunedReader::read_runs(const Source& source, const Slice& slice, const Slice& box, const Kept::Runs& runs,
                             std::span<std::byte> out) {
  const Axes& axes = source.role.axes;
  const DType dtype = inner_.dump().tensors[source.tensor].dtype;
  const std::size_t axis = axes.find('T'), unit = dtype_unit(dtype);
  const bool values = source.role.role == Role::value || (axes.has('2') && box.start[axes.find('2')] == 1);
  std::uint64_t run = box.start[axis];
  const std::uint64_t end = runs.begins[run + box.count[axis]];
  Slice row = box, to = box;  // one token: of what was read, and of what is wanted
  row.start.assign(box.start.size(), 0);
  for (std::size_t a = 0; a < box.start.size(); ++a) to.start[a] -= slice.start[a];
  row.count[axis] = to.count[axis] = 1;
  std::vector<double> sum(row.elements());
  std::vector<float> floats;
  Bytes some, token(sum.size() * unit);
  for (std::uint64_t t = runs.begins[run]; t < end;) {
    Slice from = box;
    from.tensor = source.tensor;
    from.start[axis] = t;
    from.count[axis] = std::min(kSpan, end - t);
    some.resize(from.elements() * unit);
    floats.resize(from.elements());
    inner_.read(from, some);
    to_float(dtype, some, floats);
    for (const std::uint64_t last = t + from.count[axis]; t < last; ++t) {
      row.start[axis] = t - from.start[axis];
      for_each_run(from.count, row, [&](std::uint64_t at, std::uint64_t done, std::uint64_t count) {
        if (runs.weights[t] == 0) return;  // of what is not finite, too
        for (std::uint64_t e = 0; e < count; ++e) sum[done + e] += runs.weights[t] * double{floats[at + e]};
      });
      if (t + 1 < runs.begins[run + 1]) continue;
      const auto times = static_cast<double>(values ? runs.begins[run + 1] - runs.begins[run] : 1);
      std::vector<float> merged(sum.size());
      for (std::size_t e = 0; e < sum.size(); ++e) merged[e] = static_cast<float>(times * sum[e]);
      from_float(dtype, merged, token);
      to.start[axis] = run - slice.start[axis];
      for_each_run(slice.count, to, [&](std::uint64_t at, std::uint64_t done, std::uint64_t count) {
        std::memcpy(out.data() + at * unit, token.data() + done * unit, count * unit);
      });
      sum.assign(sum.size(), 0);
      ++run;
    }
  }
}

}  // namespace kvzip::tool
