// SPDX-License-Identifier: Apache-2.0
// Files that go into an output: it is readable by no more people than they are, and is refused where one of them was
// cut or written to since it was opened.
#pragma once

#include <memory>
#include <vector>

namespace kvzip {

/// Files as they were when they were opened.
class InputRecord;
using InputList = std::vector<std::shared_ptr<const InputRecord>>;

/// A reader knows its own files, and so does what is made from it. Other files may go into an output, too, as tables,
/// or queries that say which tokens matter: all that this thread opens while a scope lives goes into all outputs that
/// it finishes in that time. On one thread scopes end in the reverse of their order; other threads have their own.
class InputScope {
 public:
  InputScope() : InputScope(false) {}
  ~InputScope();
  InputScope(const InputScope&) = delete;
  InputScope& operator=(const InputScope&) = delete;

 protected:
  /// `opens`: what is noted goes into the readers that are made in it, and no further.
  explicit InputScope(bool opens);

 private:
  friend class ThreadInputs;

  std::shared_ptr<InputRecord> record_;
  InputScope* outer_;
  bool opens_;
};

}  // namespace kvzip
