// SPDX-License-Identifier: Apache-2.0
// One of the two files sets the pace: its parts are decoded as in any transfer, and the same elements are read from the
// other. A container sets it when there is one, so that each of its frames is decoded once.
#include "src/measure/comparison.hpp"

#include <algorithm>
#include <cstring>
#include <memory>
#include <unordered_map>

#include "codec/fail.hpp"
#include "formats/ggml_values.hpp"
#include "formats/hdf5/hdf5.hpp"
#include "kvzip/container.hpp"

namespace kvzip::tool {
namespace {

constexpr std::uint64_t kBoxBytes = std::uint64_t{4} << 20;
constexpr std::size_t kPieceValues = std::size_t{1} << 18;  // floats converted at a time
constexpr std::size_t kNone = Axes::npos;

/// The axis whose vectors the cosine is of: head_dim, or all channels where heads are merged; without known axes the
/// last one.
std::size_t row_axis(const TensorComparison& t, std::size_t rank) {
  if (t.axes.size() == rank) {
    for (std::size_t a = 0; a < rank; ++a) {
      if (Axes::is_channel(t.axes[a])) return a;
    }
  }
  return rank == 0 ? 0 : rank - 1;
}

std::size_t pair_axis(const TensorComparison& t, std::size_t rank) {
  return t.role == Role::pair && t.axes.size() == rank ? t.axes.find('2') : kNone;
}

/// A box of floats, both sides: adds its vectors along `axis`.
void add_rows(Distortion& out, const std::vector<std::uint64_t>& count, std::size_t axis, DType dtype_a, ByteView a,
              DType dtype_b, ByteView b) {
  const std::size_t unit_a = dtype_unit(dtype_a), unit_b = dtype_unit(dtype_b);
  const std::size_t values = a.size() / unit_a;
  std::size_t length = 1, inner = 1;
  if (!count.empty()) length = count[axis];
  for (std::size_t i = axis + 1; i < count.size(); ++i) inner *= count[i];
  if (values == 0 || length == 0) return;
  // Whole groups of rows that lie interleaved; one row when they do not.
  const std::size_t group = length * inner;
  const std::size_t piece = std::max(kPieceValues / group, std::size_t{1}) * group;
  std::vector<float> x(std::min(piece, values)), y(x.size()), row_x(inner > 1 ? length : 0), row_y(row_x.size());
  for (std::size_t at = 0; at < values; at += piece) {
    const std::size_t n = std::min(piece, values - at);
    const std::span<float> left(x.data(), n), right(y.data(), n);
    to_float(dtype_a, a.subspan(at * unit_a, n * unit_a), left);
    to_float(dtype_b, b.subspan(at * unit_b, n * unit_b), right);
    if (inner == 1) {
      out.add(left, right, length);
      continue;
    }
    for (std::size_t row = 0; row < n / length; ++row) {
      const std::size_t first = row / inner * group + row % inner;
      for (std::size_t i = 0; i < length; ++i) {
        row_x[i] = left[first + i * inner];
        row_y[i] = right[first + i * inner];
      }
      out.add(row_x, row_y, length);
    }
  }
}

std::uint64_t count_unlike(ByteView a, ByteView b, std::size_t unit) {
  std::uint64_t unlike = 0;
  if (std::memcmp(a.data(), b.data(), a.size()) == 0) return 0;
  for (std::size_t at = 0; at < a.size(); at += unit) {
    unlike += std::memcmp(a.data() + at, b.data() + at, unit) != 0 ? 1 : 0;
  }
  return unlike;
}

class Comparer {
 public:
  Comparer(DumpReader& a, DumpReader& b, std::vector<TensorComparison>& tensors)
      : a_(a), b_(b), b_leads_(b.recognition() != nullptr), tensors_(tensors) {
    of_leader_.assign(leader().dump().tensors.size(), kNone);
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      of_leader_[b_leads_ ? tensors[i].other : tensors[i].tensor] = i;
    }
    choose_boxed();
  }

  DumpReader& leader() { return b_leads_ ? b_ : a_; }

  /// A part of the leader's.
  void add(const Part& part) {
    for (std::size_t i = 0; i < part.slices.size(); ++i) {
      const std::size_t at = of_leader_[part.slices[i].tensor];
      if (at == kNone || boxed_[at]) continue;
      TensorComparison& t = tensors_[at];
      Slice slice = part.slices[i];
      slice.tensor = b_leads_ ? t.tensor : t.other;
      const Bytes followed = read(b_leads_ ? a_ : b_, slice);
      compare(t, slice, b_leads_ ? followed : part.data[i], b_leads_ ? part.data[i] : followed);
    }
  }

  /// The tensors whose parts do not hold whole rows, or hold keys and values together.
  void compare_boxed() {
    for (std::size_t i = 0; i < tensors_.size(); ++i) {
      if (boxed_[i]) for_each_box(tensors_[i]);
    }
  }

 private:
  void choose_boxed() {
    boxed_.assign(tensors_.size(), false);
    for (std::size_t i = 0; i < tensors_.size(); ++i) {
      const std::size_t rank = a_.dump().tensors[tensors_[i].tensor].shape.size();
      boxed_[i] = tensors_[i].floats && pair_axis(tensors_[i], rank) != kNone;
    }
    for (std::uint64_t p = 0; p < leader().part_count(); ++p) {
      for (const Slice& slice : leader().part(p).slices) {
        const std::size_t at = of_leader_[slice.tensor];
        if (at == kNone || !tensors_[at].floats || slice.count.empty()) continue;
        const std::size_t axis = row_axis(tensors_[at], slice.count.size());
        if (slice.count[axis] != leader().dump().tensors[slice.tensor].shape[axis]) boxed_[at] = true;
      }
    }
  }

  static Bytes read(DumpReader& reader, const Slice& slice) {
    Bytes out(slice.elements() * slice_unit(reader.dump().tensors[slice.tensor]));
    reader.read(slice, out);
    return out;
  }

  void compare(TensorComparison& t, const Slice& slice, const Bytes& a, const Bytes& b) const {
    const TensorInfo& left = a_.dump().tensors[t.tensor];
    const TensorInfo& right = b_.dump().tensors[t.other];
    if (!t.floats) {
      t.half[0].unlike += count_unlike(a, b, slice_unit(left));
      return;
    }
    if (t.exact) t.exact->add(largest_difference(left.dtype, a, right.dtype, b));
    const std::size_t pair = pair_axis(t, slice.count.size());
    const bool second = pair != kNone && slice.start[pair] > 0;
    add_rows(t.half[second ? 1 : 0].distortion, slice.count, row_axis(t, slice.count.size()), left.dtype, a,
             right.dtype, b);
  }

  /// Boxes of whole rows, keys or values, cut along the tokens first: containers are, too.
  void for_each_box(TensorComparison& t) {
    const TensorInfo& info = a_.dump().tensors[t.tensor];
    const std::size_t rank = info.shape.size(), row = row_axis(t, rank), pair = pair_axis(t, rank);
    std::vector<std::uint64_t> step = info.shape;
    if (std::find(step.begin(), step.end(), 0u) != step.end()) return;
    if (pair != kNone) step[pair] = 1;
    std::vector<std::size_t> order;
    const std::size_t tokens = t.axes.size() == rank ? t.axes.find('T') : kNone;
    if (tokens != kNone) order.push_back(tokens);
    for (std::size_t axis = 0; axis < rank; ++axis) {
      if (axis != tokens && axis != row) order.push_back(axis);
    }
    std::uint64_t bytes = slice_unit(info);
    for (const std::uint64_t n : step) bytes *= n;
    for (const std::size_t axis : order) {
      if (bytes <= kBoxBytes) break;
      const std::uint64_t each = bytes / step[axis];
      step[axis] = std::clamp<std::uint64_t>(kBoxBytes / each, 1, step[axis]);
      bytes = each * step[axis];
    }
    Slice box{t.tensor, std::vector<std::uint64_t>(rank, 0), step};
    do {
      for (std::size_t a = 0; a < rank; ++a) box.count[a] = std::min(step[a], info.shape[a] - box.start[a]);
      Slice same = box;
      same.tensor = t.other;
      compare(t, box, read(a_, box), read(b_, same));
    } while (advance(box.start, step, info.shape));
  }

  static bool advance(std::vector<std::uint64_t>& start, const std::vector<std::uint64_t>& step,
                      const std::vector<std::uint64_t>& shape) {
    for (std::size_t a = start.size(); a-- > 0;) {
      start[a] += step[a];
      if (start[a] < shape[a]) return true;
      start[a] = 0;
    }
    return false;
  }

  DumpReader& a_;
  DumpReader& b_;
  bool b_leads_;
  std::vector<TensorComparison>& tensors_;
  std::vector<std::size_t> of_leader_;
  std::vector<bool> boxed_;
};

/// A bound may be stored, which a pipe says only at its end.
bool is_bounded(DumpReader& other, std::size_t tensor) {
  if (other.traits().container == nullptr) return false;
  const Role role = other.recognition()->tensors[tensor].role;
  return role == Role::key || role == Role::value || role == Role::pair;
}

std::vector<TensorComparison> match(const DumpReader& original, DumpReader& other, const Recognition& roles,
                                    bool common) {
  const auto& left = original.dump().tensors;
  const auto& right = other.dump().tensors;
  std::unordered_map<std::string_view, std::size_t> place;
  // What HDF5 files hold beside their tensors depends on who wrote them.
  for (std::size_t i = 0; i < right.size(); ++i) {
    if (right[i].name != kHdf5Frame) place.emplace(right[i].name, i);
  }
  std::vector<TensorComparison> out;
  for (std::size_t i = 0; i < left.size(); ++i) {
    if (left[i].name == kHdf5Frame) continue;
    const auto found = place.find(left[i].name);
    if (found == place.end()) {
      if (common) continue;
      fail(ErrorCode::invalid_argument, "tensor {} is in the first file only; --common leaves it out", left[i].name);
    }
    const TensorInfo& twin = right[found->second];
    if (twin.shape != left[i].shape) {
      fail(ErrorCode::invalid_argument, "tensor {} has shape [{}] in the first file and [{}] in the second", twin.name,
           fmt::join(left[i].shape, ", "), fmt::join(twin.shape, ", "));
    }
    const bool floats = is_codable_float(left[i].dtype) && is_codable_float(twin.dtype);
    if (!floats && left[i].dtype != twin.dtype) {
      fail(ErrorCode::invalid_argument, "tensor {} is {} in the first file and {} in the second", twin.name,
           dtype_name(left[i].dtype), dtype_name(twin.dtype));
    }
    const TensorRole* role = &roles.tensors[i];
    // What was said when a container was made still holds.
    if (role->role == Role::other && other.recognition() != nullptr)
      role = &other.recognition()->tensors[found->second];
    TensorComparison t{i, found->second, role->role, role->layer, role->axes, floats, {}};
    if (floats && is_bounded(other, found->second)) t.exact.emplace();
    out.push_back(std::move(t));
    place.erase(found);
  }
  if (!common && !place.empty()) {
    const auto first =
        std::min_element(place.begin(), place.end(), [](auto& x, auto& y) { return x.second < y.second; });
    fail(ErrorCode::invalid_argument, "tensor {} is in the second file only; --common leaves it out", first->first);
  }
  if (out.empty()) fail(ErrorCode::invalid_argument, "the files have no tensor in common");
  return out;
}

/// What each tensor of a file takes, and those that it stands for. Tensors that share frames share their bytes by their
/// elements.
std::vector<double> coded_bytes(DumpReader& reader, KvzSummary* summary) {
  const Dump& dump = reader.dump();
  std::vector<double> out;
  if (summary == nullptr) {
    for (const TensorInfo& info : dump.tensors) out.push_back(static_cast<double>(info.bytes()));
    return out;
  }
  out.resize(dump.tensors.size());
  DumpReader* under = stored_blocks(reader);
  const Dump& stored = under != nullptr ? under->dump() : dump;
  for (const KvzGroup& group : summary->groups) {
    double elements = 0;
    for (const std::size_t t : group.tensors) elements += static_cast<double>(stored.tensors[t].elements());
    for (const std::size_t t : group.tensors) {
      if (elements == 0) continue;
      const double share = static_cast<double>(stored.tensors[t].elements()) / elements;
      out[shown_as(reader, t)] += static_cast<double>(group.coded_bytes) * share;
    }
  }
  return out;
}

}  // namespace

std::optional<double> Compared::bits() const {
  if (!coded_bytes || values == 0) return {};
  return *coded_bytes * 8 / static_cast<double>(values);
}

std::optional<double> Compared::ratio() const {
  if (!coded_bytes || *coded_bytes == 0) return {};
  return static_cast<double>(source_bytes) / *coded_bytes;
}

void Compared::merge(const Compared& other) {
  distortion.merge(other.distortion);
  measured += other.measured;
  unlike += other.unlike;
  values += other.values;
  source_bytes += other.source_bytes;
  if (other.coded_bytes) coded_bytes = coded_bytes.value_or(0) + *other.coded_bytes;
}

Compared TensorComparison::all() const {
  Compared out = half[0];
  out.merge(half[1]);
  return out;
}

Comparison compare_dumps(DumpReader& original, DumpReader& other, const Recognition& roles,
                         const CompareOptions& options, const Progress& progress) {
  Comparison out;
  out.tensors = match(original, other, roles, options.common);
  Comparer comparer(original, other, out.tensors);
  const PartStep add = [&](Part& part) { comparer.add(part); };
  for_each_part(comparer.leader(), {}, add, options.threads, progress);
  comparer.compare_boxed();

  std::optional<KvzSummary> summary;
  KvzReader* kvz = other.traits().container;
  if (kvz != nullptr && options.other_sizes) summary = kvz->summary();
  const bool sizes = kvz == nullptr || summary;
  std::vector<double> coded;
  if (sizes) coded = coded_bytes(other, summary ? &*summary : nullptr);
  for (TensorComparison& t : out.tensors) {
    const TensorInfo& info = original.dump().tensors[t.tensor];
    const bool pair = pair_axis(t, info.shape.size()) != kNone;
    const std::uint64_t parts = pair ? 2 : 1;
    for (std::uint64_t h = 0; h < parts; ++h) {
      Compared& half = t.half[h];
      half.measured = t.floats ? 1 : 0;
      half.values = info.elements() / parts;
      half.source_bytes = info.bytes() / parts;
      if (sizes) half.coded_bytes = coded[t.other] / static_cast<double>(parts);
    }
    out.roles[pair ? Role::key : t.role].merge(t.half[0]);
    if (pair) out.roles[Role::value].merge(t.half[1]);
    out.total.merge(t.all());
  }
  // All in: headers and index belong to no tensor, but to the file.
  if (summary && summary->file_bytes > 0) out.total.coded_bytes = static_cast<double>(summary->file_bytes);
  return out;
}

}  // namespace kvzip::tool
