// SPDX-License-Identifier: Apache-2.0
#include "formats/hdf5/hdf5_walk.hpp"
#include "codec/fail.hpp"

// Later releases keep the functions of 1.10 behind this.
#define H5_USE_110_API
#include <hdf5.h>

#include <algorithm>
#include <new>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "codec/limits.hpp"
#include "formats/hdf5/hdf5.hpp"
#include "formats/hdf5/hdf5_attributes.hpp"
#include "formats/hdf5/hdf5_dataset.hpp"
#include "formats/hdf5/hdf5_raw.hpp"
#include "formats/hdf5/hdf5_storage.hpp"
#include "formats/name_patterns.hpp"
#include "formats/text.hpp"

namespace kvzip::hdf5 {
namespace {

struct Link {
  std::string name;
  H5L_type_t type;
  haddr_t address;     // of a hard link's object
  std::int64_t order;  // of creation, where it is tracked
};
struct LinkList {
  std::vector<Link> links;
  std::size_t links_left = 0;    // what the file may still have
  std::uint64_t bytes_left = 0;  // in names: many links may share one long name in the file
  bool over = false, failed = false;
};

herr_t note_link(hid_t, const char* name, const H5L_info_t* info, void* data) noexcept {
  LinkList& list = *static_cast<LinkList*>(data);
  try {
    std::string text(name);
    list.over = list.links_left == 0 || text.size() > list.bytes_left;
    if (list.over) return -1;
    list.links_left -= 1;
    list.bytes_left -= text.size();
    const haddr_t address = info->type == H5L_TYPE_HARD ? info->u.address : HADDR_UNDEF;
    list.links.push_back({std::move(text), info->type, address, info->corder});
  } catch (...) {
    list.failed = true;
    return -1;
  }
  return 0;
}

bool tracks_links(Id group) {
  const Handle options = own(H5Gget_create_plist(group), H5Pclose, kBad, "cannot read a group");
  unsigned flags = 0;
  return H5Pget_link_creation_order(options.get(), &flags) >= 0 && (flags & H5P_CRT_ORDER_TRACKED) != 0;
}

bool tracks_attributes(Id options) {
  unsigned flags = 0;
  return H5Pget_attr_creation_order(options, &flags) >= 0 && (flags & H5P_CRT_ORDER_TRACKED) != 0;
}

/// Link names that HDF5 would take for something else in a path.
void check_name(const std::string& name) {
  if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos) {
    fail(kBad, "there is an object named {}", quoted(name));
  }
}

[[noreturn]] void fail_names() {
  fail(ErrorCode::limit, "the file has more than {} objects, or more than {} MiB of names", limits::kHdf5Links,
       limits::kHdf5NameBytes >> 20);
}

class Walker {
 public:
  Walker(Contents& out, const RawFile& raw) : out_(out), raw_(raw), heap_(raw), attributes_(heap_, out.left_out) {}

  void visit_root(Id root) {
    H5O_info_t info;
    check(H5Oget_info2(root, &info, H5O_INFO_BASIC), kBad, "cannot read the root group");
    seen_.insert(info.addr);
    check_header(raw_, info.addr);
    visit_group(root, "", 0);
  }

 private:
  void visit_group(Id group, const std::string& path, int depth) {
    if (depth > limits::kHdf5GroupDepth)
      fail(ErrorCode::limit, "groups are nested deeper than {}", limits::kHdf5GroupDepth);
    const std::size_t before = out_.dump.tensors.size() + out_.dump.attributes.size();
    {
      const Handle options = own(H5Gget_create_plist(group), H5Pclose, kBad, "cannot read a group");
      take(attributes_.read(group, tracks_attributes(options.get()), path));
    }
    for (const Link& link : list_links(group)) visit_link(group, path, link, depth);
    const bool empty = out_.dump.tensors.size() + out_.dump.attributes.size() == before;
    if (empty && !path.empty()) take({Attribute{path, "", {}, {}, {}, {}}});
  }

  void visit_link(Id group, const std::string& path, const Link& link, int depth) {
    require_memory();
    check_name(link.name);
    if (!is_utf8(link.name)) return leave_out(link.name, "its name is not UTF-8");
    const std::string name = path.empty() ? link.name : path + "/" + link.name;
    if (name.size() > path_budget_) fail_names();
    path_budget_ -= name.size();
    if (link.type == H5L_TYPE_SOFT) return leave_out(name, "a soft link");
    if (link.type != H5L_TYPE_HARD) {
      fail(ErrorCode::unsupported, "{} is a link to another file; give that file instead", quoted(name));
    }
    // An object met before: under another name, or on the way here.
    if (!seen_.insert(link.address).second) return visit_again(link.address, name);
    try {
      check_header(raw_, link.address);
    } catch (Error& error) {
      error.add_where(quoted(name));
      throw;
    }
    const Handle object = own(H5Oopen(group, link.name.c_str(), H5P_DEFAULT), H5Oclose, kBad,
                              fmt::format("cannot open {}", quoted(name)));
    switch (H5Iget_type(object.get())) {
      case H5I_GROUP:
        return visit_group(object.get(), name, depth + 1);
      case H5I_DATASET:
        return visit_dataset(object.get(), name, link.address);
      case H5I_DATATYPE:
        return leave_out(name, "a committed type");
      default:
        fail(ErrorCode::unsupported, "{} is neither a group nor a dataset", quoted(name));
    }
  }

  void leave_out(const std::string& name, std::string_view why) {
    out_.left_out.push_back(fmt::format("{} ({})", quoted(name), why));
  }

  /// A dataset that has its tensor already is known by the name that says what it is, else by its first.
  void visit_again(haddr_t address, const std::string& name) {
    const auto found = tensors_.find(address);
    if (found == tensors_.end()) return leave_out(name, "another name of what was read");
    std::string& known = out_.dump.tensors[found->second].name;
    std::string other = name;
    if (read_name(known).kind == NameKind::unknown && read_name(name).kind != NameKind::unknown) {
      for (Attribute& attribute : out_.dump.attributes) {
        if (attribute.object == known) attribute.object = name;
      }
      std::swap(known, other);
    }
    leave_out(other, "another name of " + quoted(known));
  }

  void visit_dataset(Id dataset, const std::string& name, haddr_t address) {
    const Handle options =
        own(H5Dget_create_plist(dataset), H5Pclose, kBad, fmt::format("cannot read {}", quoted(name)));
    std::vector<Attribute> attributes = attributes_.read(dataset, tracks_attributes(options.get()), name);
    StoredTensor stored;
    try {
      TensorInfo info = describe_dataset(dataset, raw_, attributes, stored);
      info.name = name;
      add_storage(dataset, name, stored, attributes);
      tensors_.emplace(address, out_.dump.tensors.size());
      out_.dump.tensors.push_back(std::move(info));
    } catch (Error& error) {
      if (error.code() == ErrorCode::unsupported && !stored.typed) return leave_out(name, error.message());
      error.add_where(fmt::format("dataset {}", quoted(name)));
      throw;
    }
    out_.stored.push_back(std::move(stored));
    take(std::move(attributes));
  }

  /// What an attribute of that name said before gives way to what is so.
  static void add_storage(Id dataset, const std::string& name, const StoredTensor& stored,
                          std::vector<Attribute>& attributes) {
    std::string lies = storage_text(read_storage(dataset, stored.chunk.extent, stored.swap));
    if (lies.empty()) return;
    std::erase_if(attributes, [](const Attribute& a) { return a.name == kHdf5Storage; });
    attributes.push_back({name, std::string(kHdf5Storage), {std::move(lies)}, {}, {}, {}});
  }

  std::vector<Link> list_links(Id group) {
    LinkList list;
    list.links_left = links_left_;
    list.bytes_left = name_budget_;
    hsize_t position = 0;
    // In any other order the library sorts a table first, and when part of a group cannot be read it frees the whole
    // table, the rest that it never filled included.
    const auto result = H5Literate(group, H5_INDEX_NAME, H5_ITER_NATIVE, &position, note_link, &list);
    if (list.over) fail_names();
    if (list.failed) throw std::bad_alloc();
    check(result, kBad, "cannot list a group");
    links_left_ = list.links_left;
    name_budget_ = list.bytes_left;
    const bool by_creation = tracks_links(group);
    std::stable_sort(list.links.begin(), list.links.end(),
                     [&](const Link& a, const Link& b) { return by_creation ? a.order < b.order : a.name < b.name; });
    return std::move(list.links);
  }

  void take(std::vector<Attribute> attributes) {
    for (Attribute& attribute : attributes) out_.dump.attributes.push_back(std::move(attribute));
  }

  Contents& out_;
  const RawFile& raw_;
  Heap heap_;
  AttributeReader attributes_;
  std::uint64_t name_budget_ = limits::kHdf5NameBytes, path_budget_ = limits::kHdf5NameBytes;
  std::size_t links_left_ = limits::kHdf5Links;
  std::unordered_set<haddr_t> seen_;
  std::unordered_map<haddr_t, std::size_t> tensors_;  // by the address of their dataset
};

}  // namespace

Contents walk(Id file, const InputFile& input) {
  Contents out;
  const RawFile raw(input);
  if (raw.user_block() > 0) out.left_out.push_back(fmt::format("a user block of {} bytes", raw.user_block()));
  const Handle root = own(H5Gopen2(file, "/", H5P_DEFAULT), H5Gclose, kBad, "cannot open the root group");
  Walker(out, raw).visit_root(root.get());
  return out;
}

}  // namespace kvzip::hdf5
