// SPDX-License-Identifier: Apache-2.0
// Prompt caches as mlx-lm saves them: arrays named by their place in a tree, classes in the metadata.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "formats/name_patterns.hpp"
#include "kvzip/dump.hpp"
#include "kvzip/io.hpp"

namespace kvzip {

/// Said of the keys and values of a RotatingKVCache.
inline constexpr std::string_view kRingRemark = "a ring: once it is full, its rows are not in the order of time";

/// A cache of the list, or one of several that stand in its place (CacheList).
struct MlxPart {
  /// Of the names of its arrays; and its class, empty where that is not known. From code points it is a guess by their
  /// number, which stated_class() settles.
  std::string prefix, type;
  std::string named;  // what says the class: a text, or in a CacheList from 0.32 on, an array of code points
  std::string said;   // what texts about it, to 0.31, are called: this, or this and a number
  /// Of a CacheList the first cache that has keys and values is the layer's; what stands behind it (an index, a second
  /// attention) has no layer.
  std::optional<std::uint32_t> layer;
  bool in_list = false;
};

/// Layer N is array N.0 (keys), N.1 (values) and its scalars. The metadata is a list, flattened: to 0.31 cache info,
/// user metadata, classes (2.N); from 0.32 user metadata, classes (1.N), and scalars (2.J.0 says where, 2.J.1 what).
/// Cache J of a CacheList has N.J.0.0 and so on, and its class in array N.J.1; in 0.31 N.J.0 and so on, its class in
/// the text 0.N.0.J and what it says of itself in 0.N.1.J; before, all arrays of all of them are N.0 and so on, and
/// nothing says where one begins or of what class it is.
class MlxCache {
 public:
  explicit MlxCache(const Dump& dump);

  /// Every tensor has such a name, and the metadata is such a list.
  bool present() const { return present_; }

  /// Scalars are arrays, as from 0.32 on; before, they are texts, or not there.
  bool has_scalars() const { return scalars_; }
  /// In the order of their first tensors.
  const std::vector<MlxPart>& parts() const { return parts_; }
  /// Place in parts() of the one that a tensor belongs to.
  std::optional<std::size_t> part_of(std::string_view tensor) const;

  /// A text of the file.
  std::optional<std::string_view> text(const std::string& name) const;
  /// Place of a tensor of the dump.
  std::optional<std::size_t> tensor(const std::string& name) const;

  /// Kind unknown: no keys or values, and `why` says what instead. Else `why` is what else there is to know, if any.
  NameReading read(const TensorInfo& tensor, std::string& why) const;

 private:
  std::string prefix_of(std::string_view tensor) const;
  MlxPart described(const std::string& prefix) const;
  std::string nested_class(const std::string& array) const;
  bool has_rows(const MlxPart& part) const;
  void give_layers();

  const Dump& dump_;
  std::unordered_map<std::string_view, std::string_view> texts_;
  std::unordered_map<std::string_view, std::size_t> tensors_;
  std::unordered_map<std::string, std::size_t> by_prefix_;
  std::vector<MlxPart> parts_;
  bool present_ = false, scalars_ = false;
};

/// The class that an array of code points spells; empty where it is no such array.
std::string stated_class(DumpReader& reader, std::size_t array);

}  // namespace kvzip
