// SPDX-License-Identifier: Apache-2.0
#include "formats/raw.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "codec/fail.hpp"
#include "codec/nearest.hpp"
#include "codec/number.hpp"
#include "formats/axes_choice.hpp"
#include "formats/placed.hpp"
#include "formats/tensor_views.hpp"

namespace kvzip {
namespace {

std::vector<std::string_view> cut_at(std::string_view text, char mark) {
  std::vector<std::string_view> out;
  for (;;) {
    const std::size_t end = std::min(text.find(mark), text.size());
    out.push_back(text.substr(0, end));
    if (end == text.size()) return out;
    text.remove_prefix(end + 1);
  }
}

bool is_open(const std::optional<std::uint64_t>& extent) {
  return !extent.has_value();
}

std::string_view cache_name(Role role) {
  return role == Role::key ? "key_cache" : role == Role::value ? "value_cache" : "kv_cache";
}

/// With 1 for what is not known.
TensorInfo known_part(const RawLayout& layout) {
  TensorInfo known{{}, layout.dtype, {}};
  for (const auto& extent : layout.extents) known.shape.push_back(extent.value_or(1));
  return known;
}

/// The shape that makes so many bytes.
std::vector<std::uint64_t> shape_of(const RawLayout& layout, std::uint64_t file_bytes) {
  TensorInfo known = known_part(layout);
  const auto open = std::ranges::find_if(layout.extents, is_open);
  const std::uint64_t bytes = known.bytes();
  if (open != layout.extents.end() && bytes > 0 && file_bytes % bytes == 0) {
    known.shape[static_cast<std::size_t>(open - layout.extents.begin())] = file_bytes / bytes;
  }
  if (known.bytes() != file_bytes) {
    fail(ErrorCode::invalid_argument, "{} elements of {} [{}] take {} bytes{}, and it has {}", layout.axes.text(),
         dtype_name(layout.dtype), fmt::join(known.shape, ", "), bytes,
         open == layout.extents.end() ? "" : " or a multiple", file_bytes);
  }
  return known.shape;
}

class RawReader final : public PlacedReader {
 public:
  RawReader(InputFile file, const RawLayout& layout, const std::vector<Attribute>& attributes)
      : PlacedReader(std::move(file)) {
    const auto shape = in_file(file_.path(), [&] { return shape_of(layout, file_.size()); });
    Dump dump;
    dump.tensors.push_back({std::string(cache_name(layout.role)), layout.dtype, shape});
    dump.attributes.push_back({"", "axes", {std::string(layout.axes.text())}, {}, {}, {}});
    dump.attributes.insert(dump.attributes.end(), attributes.begin(), attributes.end());
    place(std::move(dump), {0});
  }
};

}  // namespace

RawLayout parse_raw(std::string_view text) {
  constexpr std::string_view kExample = "expected ROLE:AXES:TYPE:EXTENTS, for example kv:2LTHD:bf16:2x32x-x8x128";
  const std::vector<std::string_view> parts = cut_at(text, ':');
  if (parts.size() != 4) fail(ErrorCode::invalid_argument, "'{}': {}", text, kExample);
  RawLayout out;
  const auto role = parse_role(parts[0]);
  if (!role || *role == Role::other || *role == Role::query) {
    fail(ErrorCode::invalid_argument, "'{}': '{}' is not key, value or kv{}; {}", text, parts[0],
         did_you_mean(parts[0], role_words()), kExample);
  }
  out.role = *role;
  if (const std::string problem = axes_problem(parts[1]); !problem.empty()) {
    fail(ErrorCode::invalid_argument, "'{}': axes '{}': {}", text, parts[1], problem);
  }
  out.axes = Axes(parts[1]);
  if (out.axes.has('2') != (out.role == Role::pair)) {
    fail(ErrorCode::invalid_argument, "'{}': axis 2 (key, value) and role kv go together", text);
  }
  const auto dtype = dtype_called(parts[2]);
  if (!dtype || !is_codable_float(*dtype)) {
    fail(ErrorCode::invalid_argument, "'{}': '{}' is not a type of keys and values, as f16 or bf16", text, parts[2]);
  }
  out.dtype = *dtype;
  for (const std::string_view extent : cut_at(parts[3], 'x')) {
    std::optional<std::uint64_t> number;
    if (extent != "-") {
      number = parse_number<std::uint64_t>(extent);
      if (!number || *number == 0) fail(ErrorCode::invalid_argument, "'{}': '{}' is no extent", text, extent);
    }
    out.extents.push_back(number);
  }
  if (out.extents.size() != out.axes.size() || std::ranges::count_if(out.extents, is_open) > 1) {
    fail(ErrorCode::invalid_argument, "'{}': an extent for each axis, and - for one of them at most", text);
  }
  if (out.axes.has('2') && out.extents[out.axes.find('2')].value_or(0) != 2) {
    fail(ErrorCode::invalid_argument, "'{}': axis 2 has the extent 2", text);
  }
  return out;
}

std::optional<std::uint64_t> bytes_of(const RawLayout& layout) {
  if (std::ranges::any_of(layout.extents, is_open)) return std::nullopt;
  return known_part(layout).bytes();
}

std::unique_ptr<DumpReader> open_raw(InputFile file, const RawLayout& layout,
                                     const std::vector<Attribute>& attributes) {
  return std::make_unique<RawReader>(std::move(file), layout, attributes);
}

}  // namespace kvzip
