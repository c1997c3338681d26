// SPDX-License-Identifier: Apache-2.0
#include "formats/kvz/kvz_growth.hpp"

#include <algorithm>
#include <unordered_map>

#include "codec/fail.hpp"
#include "formats/text.hpp"

namespace kvzip {
namespace {

/// Else tokens of one layer would stand beside those of others.
void check_even(const Dump& more, const Recognition& roles) {
  const std::uint64_t tokens = tokens_of(more, roles);
  for (std::size_t i = 0; i < more.tensors.size(); ++i) {
    const TensorRole& role = roles.tensors[i];
    if (role.role == Role::other || role.axes.extent('T', more.tensors[i].shape) == tokens) continue;
    fail(ErrorCode::invalid_argument, "tensor {} has {} tokens, and others have {}", quoted(more.tensors[i].name),
         role.axes.extent('T', more.tensors[i].shape), tokens);
  }
}

}  // namespace

std::size_t growing_axis(const TensorInfo& tensor, const TensorRole& role) {
  if (dtype_bits(tensor.dtype) < 8 || tensor.shape.empty()) return Axes::npos;
  return role.role == Role::other ? 0 : role.axes.find('T');
}

std::vector<std::size_t> plan_growth(const Dump& file, const Recognition& roles, const Dump& more,
                                     const Recognition& roles_of_more) {
  std::unordered_map<std::string_view, std::size_t> place;
  for (std::size_t i = 0; i < file.tensors.size(); ++i) place.emplace(file.tensors[i].name, i);
  std::vector<std::size_t> growth;
  std::vector<bool> grows(file.tensors.size(), false);
  for (std::size_t i = 0; i < more.tensors.size(); ++i) {
    const TensorInfo& info = more.tensors[i];
    const TensorRole& role = roles_of_more.tensors[i];
    const auto found = place.find(info.name);
    if (found == place.end()) {
      fail(ErrorCode::invalid_argument, "tensor {} has nothing to go on from", quoted(info.name));
    }
    if (grows[found->second]) fail(ErrorCode::invalid_argument, "tensor {} stands twice", quoted(info.name));
    TensorInfo wanted = file.tensors[found->second];
    const TensorRole& known = roles.tensors[found->second];
    const std::size_t axis = growing_axis(wanted, known);
    if (axis == Axes::npos) fail(ErrorCode::invalid_argument, "tensor {} cannot grow", quoted(info.name));
    if (info.shape.size() == wanted.shape.size()) wanted.shape[axis] = info.shape[axis];
    if (wanted != info || known.role != role.role || known.axes != role.axes || known.layer != role.layer) {
      fail(ErrorCode::invalid_argument, "tensor {} is not of the type, role, axes or shape of what it is to go on from",
           quoted(info.name));
    }
    grows[found->second] = true;
    growth.push_back(found->second);
  }
  check_even(more, roles_of_more);
  for (std::size_t i = 0; i < grows.size(); ++i) {
    if (!grows[i] && roles.tensors[i].role != Role::other) {
      fail(ErrorCode::invalid_argument, "tensor {} has nothing that goes on", quoted(file.tensors[i].name));
    }
  }
  return growth;
}

std::uint64_t grow_tensor(TensorInfo& tensor, const TensorInfo& more, std::size_t axis) {
  const std::uint64_t before = tensor.shape[axis];
  if (__builtin_add_overflow(before, more.shape[axis], &tensor.shape[axis])) {
    fail(ErrorCode::limit, "more tokens than 64 bits can count");
  }
  tensor.bytes();  // fails where the whole is larger
  return before;
}

std::uint64_t tokens_of(const Dump& dump, const Recognition& roles) {
  std::uint64_t tokens = 0;
  for (std::size_t i = 0; i < dump.tensors.size(); ++i) {
    const TensorRole& role = roles.tensors[i];
    if (role.role == Role::other || role.role == Role::query) continue;
    tokens = std::max(tokens, role.axes.extent('T', dump.tensors[i].shape));
  }
  return tokens;
}

}  // namespace kvzip
