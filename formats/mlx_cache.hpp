// SPDX-License-Identifier: Apache-2.0
// Prompt caches as mlx-lm saves them: arrays named by their place in a tree, classes in the metadata.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "formats/name_patterns.hpp"
#include "kvzip/dump.hpp"

namespace kvzip {

/// Said of the keys and values of a RotatingKVCache.
inline constexpr std::string_view kRingRemark = "a ring: once it is full, its rows are not in the order of time";

/// A cache of the list, or one of several that stand in its place.
struct MlxPart {
  std::string prefix, type;  // of the names of its arrays, and its class, empty where that is not known
};

/// Layer N is array N.0 (keys), N.1 (values) and its scalars. The metadata is a list, flattened: to 0.31 cache info,
/// user metadata, classes (2.N); from 0.32 user metadata, classes (1.N), and scalars (2.J.0 says where, 2.J.1 what).
class MlxCache {
 public:
  explicit MlxCache(const Dump& dump);

  /// Every tensor has such a name, and the metadata is such a list.
  bool present() const { return present_; }

  /// Scalars are arrays, as from 0.32 on; before, they are texts 0.N.K, or not there.
  bool has_scalars() const { return scalars_; }
  std::vector<MlxPart> parts(const Dump& dump) const;

  /// Kind unknown: no keys or values, and `why` says what instead. Else `why` is what else there is to know, if any.
  NameReading read(const TensorInfo& tensor, std::string& why) const;

 private:
  std::string_view class_of(std::string_view name) const;
  std::string nested_class(std::string_view sub_cache) const;

  std::unordered_map<std::string_view, std::string_view> classes_;   // by layer, as text
  std::unordered_map<std::string_view, const TensorInfo*> tensors_;  // by name, where caches are nested
  bool present_ = false, scalars_ = false;
};

}  // namespace kvzip
