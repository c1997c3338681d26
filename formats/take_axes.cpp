// SPDX-License-Identifier: Apache-2.0
#include "formats/take_axes.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "formats/name_patterns.hpp"

namespace kvzip {

void take_axes(const Dump& dump, std::size_t tensor, const Axes& axes, std::string_view how, Recognition& recognition) {
  TensorRole& role = recognition.tensors[tensor];
  const bool was_open = role.role == Role::other;
  const NameReading name = read_name(dump.tensors[tensor].name);
  if (was_open) role = {.role = name.role, .layer = name.layer, .axes = {}, .why = {}};
  role.axes = axes;
  role.why = fmt::format("name like {}; {}", name.pattern, how);
  if (axes.has('L')) role.layer.reset();
  if (was_open && role.role != Role::query) ++recognition.recognised;
  const std::uint64_t layers = axes.has('L') ? axes.extent('L', dump.tensors[tensor].shape)
                               : role.layer  ? *role.layer + 1
                                             : 0;
  recognition.model.layers = std::max(recognition.model.layers, static_cast<std::uint32_t>(layers));
}

}  // namespace kvzip
