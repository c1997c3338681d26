// SPDX-License-Identifier: Apache-2.0
// Containers in one file, as in a folder: a tar archive of them (man/kvz.5, "Collections"). A name that leads into one,
// FILE/NAME, opens as a file of its own (InputFile), beside which the other members stand.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/file.hpp"
#include "kvzip/error.hpp"

namespace kvzip {

struct CollectionMember {
  std::string name;
  std::uint64_t begin = 0, bytes = 0;  // in the file
};

/// A tar archive that begins with a container; by the first bytes of a file, as far as they tell.
bool begins_collection(ByteView first);
/// The same, by as many bytes as there can be before the container.
bool begins_collection(const InputFile& file);
/// The same of a regular file of this name.
bool is_collection(const std::string& path);
/// The same of any tar archive, as one is whose first container is damaged.
bool is_archive(const std::string& path);
/// In their order, each a container's bytes inside the file, under a name of its own that a base can have.
std::vector<CollectionMember> read_collection(const InputFile& file);
/// Of a collection that may be cut or damaged: what the headers up to there tell of. Of a last member that is cut,
/// `bytes` are those that are there.
struct CutCollection {
  std::vector<CollectionMember> members;
  std::optional<Error> why;  // what ended it, or is wrong with its first member that is no container; nothing else
};
CutCollection salvage_collection(const InputFile& file);
/// FILE/NAME of each.
std::vector<std::string> member_paths(const std::string& path);

/// The FILE of FILE/NAME where that is a collection.
std::optional<std::string> collection_of(const std::string& path);
/// Nothing where no member has this name.
std::optional<CollectionMember> find_member(const InputFile& file, std::string_view name);

/// What a command says that takes one dump: what is damaged, or else how to name one of the members.
[[noreturn]] void refuse_collection(const InputFile& file);
/// The same of a name, where it is one of a collection.
void require_no_collection(const std::string& path);

/// A collection under construction: nothing has its name before finish().
class CollectionWriter {
 public:
  CollectionWriter(const std::string& path, bool overwrite) : path_(path), file_(path, overwrite) {}
  /// Takes the bytes of the next member, whose name no other has; one at a time. It counts once the sink's finish() is
  /// called.
  std::unique_ptr<Sink> add(const std::string& name);
  std::size_t size() const { return members_.size(); }
  /// A name that opens the member while this object lives.
  std::string path_of(const std::string& name) const { return file_.path() + "/" + name; }
  /// The same without counting what was written as an input (formats/inputs.hpp).
  InputFile member(std::string_view name) const;
  /// Readable by those who may read all inputs that were opened before members were finished.
  void finish();

 private:
  class MemberSink;

  std::string path_;
  PendingFile file_;
  std::vector<CollectionMember> members_;
  InputAccess access_;
  std::uint64_t end_ = 0;  // behind the last member
};

}  // namespace kvzip
