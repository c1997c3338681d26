// SPDX-License-Identifier: Apache-2.0
// What inputs were when they were opened, and who may read them.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "kvzip/inputs.hpp"

namespace kvzip {

/// What some inputs allow.
struct InputAccess {
  unsigned mode = 0777;           // what all of them do
  std::optional<unsigned> group;  // theirs,
  bool groups_differ = false;     // unless they have several

  void add(const InputAccess& other);
};

struct WatchedFile;

/// Used by any thread.
class InputRecord {
 public:
  void add(const std::shared_ptr<const WatchedFile>& file, const InputAccess& access);
  /// Of all that were added since the start, or since forget(), open or not.
  InputAccess access() const;
  void forget();
  /// Fails where one that is still open is not what it was when it was opened: what was read may be neither.
  void require_unchanged() const;

 private:
  mutable std::mutex mutex_;
  std::vector<std::weak_ptr<const WatchedFile>> open_;
  InputAccess access_;
};

/// What is opened in it belongs to the readers that are made in it.
class OpeningScope : public InputScope {
 public:
  OpeningScope() : InputScope(true) {}
};

/// Notes an input as it is now in the scopes of this thread, with its permissions. It is watched while the result
/// lives; nothing for what is no regular file.
std::shared_ptr<const WatchedFile> watch_input(int fd, const std::string& name);

/// Of the scopes of this thread.
InputAccess input_access();
void require_inputs_unchanged();
/// What the innermost of them has noted of permissions.
void forget_inputs();

/// The same of readers' inputs.
InputAccess access_of(const InputList& inputs);
void require_unchanged(const InputList& inputs);

/// The permissions of a mode, as far as they hold for all of the group: with an access control list (acl(5)) the bits
/// of the group are the list's mask, and may be one other user's alone, so they are left out.
unsigned access_bits(int fd, unsigned mode);
unsigned access_bits(const std::string& path, unsigned mode);
/// Permissions of a new output that belongs to this group, or of one that replaces a file of these permissions, where
/// so much is allowed.
unsigned output_mode(unsigned group, std::optional<unsigned> replaced, InputAccess allowed);

}  // namespace kvzip
