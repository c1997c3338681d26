// SPDX-License-Identifier: Apache-2.0
#include <hdf5.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <optional>
#include <set>
#include <unordered_set>

#include "codec/fail.hpp"
#include "formats/file.hpp"
#include "formats/hdf5/hdf5.hpp"
#include "formats/hdf5/hdf5_attributes.hpp"
#include "formats/hdf5/hdf5_driver.hpp"
#include "formats/hdf5/hdf5_frame.hpp"
#include "formats/hdf5/hdf5_framed.hpp"
#include "formats/hdf5/hdf5_output.hpp"
#include "formats/hdf5/hdf5_space.hpp"
#include "formats/hdf5/hdf5_storage.hpp"
#include "formats/hdf5/hdf5_types.hpp"
#include "formats/parts.hpp"
#include "formats/text.hpp"

namespace kvzip {
namespace hdf5 {
namespace {

constexpr auto kIo = ErrorCode::io;
constexpr auto kArgument = ErrorCode::invalid_argument;

/// fail() unless HDF5 can make an object of this path and find it again under it.
void check_path(std::string_view path) {
  const auto refuse = [&] { fail(kArgument, "HDF5 cannot hold an object named {}", quoted(path)); };
  if (!is_utf8(path) || path.find('\0') != std::string_view::npos) refuse();
  for (std::size_t begin = 0; begin <= path.size();) {
    const std::size_t end = std::min(path.find('/', begin), path.size());
    const std::string_view component = path.substr(begin, end - begin);
    if (component.empty() || component == "." || component == "..") refuse();
    begin = end + 1;
  }
}

/// What the file will hold beside the datasets' data, checked before anything is written.
struct Layout {
  struct Object {
    std::string path;
    const TensorInfo* tensor = nullptr;  // none: a group
    DType stored = DType::u8;            // the type of a tensor's elements in the file
    Storage storage = {};
  };
  std::vector<Object> objects;  // in order of creation: each after the group that holds it
  std::unordered_set<std::string> datasets, groups;
  std::vector<Attribute> attributes;

  void add_group(const std::string& path) {
    if (path.empty() || groups.contains(path)) return;
    add_parents(path);
    if (datasets.contains(path)) fail(kArgument, "{} is both a tensor and a group", quoted(path));
    groups.insert(path);
    objects.push_back({path, nullptr});
  }
  void add_parents(const std::string& path) {
    for (std::size_t slash = path.find('/'); slash != std::string::npos; slash = path.find('/', slash + 1)) {
      const std::string parent = path.substr(0, slash);
      if (datasets.contains(parent)) fail(kArgument, "{} is both a tensor and a group", quoted(parent));
      if (groups.insert(parent).second) objects.push_back({parent, nullptr});
    }
  }
};

Attribute text_attribute(const std::string& object, std::string name, std::string_view value) {
  return {object, std::move(name), {std::string(value)}, {}, {}, {}};
}

Attribute shape_attribute(const TensorInfo& info) {
  Attribute out{info.name, "kvzip.shape", {}, DType::u64, {info.shape.size()}, {}};
  out.data.resize(info.shape.size() * sizeof(std::uint64_t));
  if (!info.shape.empty()) std::memcpy(out.data.data(), info.shape.data(), out.data.size());
  return out;
}

/// An attribute of this name gives the type of the tensor.
bool names_type(const TensorInfo& info, const std::vector<Attribute>& attributes, std::string_view name) {
  return std::any_of(attributes.begin(), attributes.end(), [&](const Attribute& a) {
    return a.object == info.name && a.name == name && !a.dtype && a.strings.size() == 1 &&
           parse_type_name(a.strings[0]) == info.dtype;
  });
}

/// Bits of a type that h5py lacks lie in integers where an attribute names the type, as programs write and read them;
/// a float type beside that attribute would be converted first, and its bits then be taken for the type's. What the
/// reader found in a float type all the same has kvzip.dtype.
bool lies_in_integers(const TensorInfo& info, const std::vector<Attribute>& attributes, bool own) {
  return !own && is_bits_elsewhere(info.dtype) &&
         (names_type(info, attributes, "dtype") || names_type(info, attributes, "torch_dtype"));
}

Layout plan_layout(const Dump& dump) {
  Layout layout;
  for (const TensorInfo& info : dump.tensors) {
    check_path(info.name);
    if (info.shape.size() > H5S_MAX_RANK) {
      fail(ErrorCode::limit, "tensor {}: HDF5 holds at most {} dimensions", quoted(info.name), H5S_MAX_RANK);
    }
    if (!layout.datasets.insert(info.name).second) fail(kArgument, "two tensors are named {}", quoted(info.name));
  }
  std::set<std::pair<std::string, std::string>> seen, silent;
  const auto add = [&](Attribute attribute) {
    check_attribute(attribute);
    if (seen.emplace(attribute.object, attribute.name).second) layout.attributes.push_back(std::move(attribute));
  };
  StoragePlan storage = plan_storage(dump);
  for (std::size_t t = 0; t < dump.tensors.size(); ++t) {
    const TensorInfo& info = dump.tensors[t];
    layout.add_parents(info.name);
    const bool own = is_bits_elsewhere(info.dtype) && names_type(info, dump.attributes, "kvzip.dtype");
    const bool integers = lies_in_integers(info, dump.attributes, own);
    const DType unit = dtype_bits(info.dtype) == 16 ? DType::u16 : DType::u8;
    layout.objects.push_back({info.name, &info, integers ? unit : info.dtype, std::move(storage.tensors[t])});
    if (storage.stated[t]) silent.emplace(info.name, kHdf5Storage);
    if (needs_name(info.dtype) && !integers) {
      add(text_attribute(info.name, "kvzip.dtype", dtype_name(info.dtype)));
    } else if (own) {
      silent.emplace(info.name, "kvzip.dtype");
    }
    if (dtype_bits(info.dtype) < 8) add(shape_attribute(info));
  }
  silent.insert(seen.begin(), seen.end());  // the tensors' own notation; the dump's values of these names give way
  for (const Attribute& attribute : dump.attributes) {
    if (!attribute.object.empty()) check_path(attribute.object);
    if (!layout.datasets.contains(attribute.object)) layout.add_group(attribute.object);
    if (attribute.name.empty() && attribute.strings.empty() && !attribute.dtype) continue;
    const std::pair<std::string, std::string> key(attribute.object, attribute.name);
    if (silent.contains(key)) continue;
    if (seen.contains(key)) {
      fail(kArgument, "attribute {} of {} is given twice", quoted(attribute.name), quoted("/" + attribute.object));
    }
    add(attribute);
  }
  return layout;
}

/// Objects without times, with their attributes in order: the same dump gives the same bytes.
Handle make_options(Id kind) {
  Handle options = own(H5Pcreate(kind), H5Pclose, kIo, "cannot describe an object");
  constexpr unsigned kOrder = H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED;
  check(H5Pset_obj_track_times(options.get(), false), kIo, "cannot describe an object");
  check(H5Pset_attr_creation_order(options.get(), kOrder), kIo, "cannot describe an object");
  if (kind != H5P_DATASET_CREATE) {
    check(H5Pset_link_creation_order(options.get(), kOrder), kIo, "cannot describe a group");
  }
  return options;
}

using MakeOutput = std::function<std::unique_ptr<WrittenFile>()>;

class Writer final : public DumpWriter {
 public:
  /// `to` makes the output, once it is known that the dump fits into one.
  Writer(const MakeOutput& to, const Dump& dump) : dump_(dump), layout_(plan_layout(dump_)), output_(to()) {
    for (const TensorInfo& info : dump_.tensors) missing_.push_back(info.bytes());
    in_file(output_->path(), [&] { output_->bytes().run([&] { create(); }); });
  }

  ~Writer() override {
    const Session session;
    data_ = Handle();
    type_ = Handle();
    access_ = Handle();
    file_ = Handle();
  }

  void append(Part& part) override {
    if (part.slices.size() != part.data.size()) {
      fail(kArgument, "part {}: {} slices with data for {}", part.index, part.slices.size(), part.data.size());
    }
    for (std::size_t i = 0; i < part.slices.size(); ++i) write(part.slices[i], part.data[i]);
  }

  void made_from(const InputList& inputs) override { output_->made_from(inputs); }

  void finish() override {
    for (std::size_t t = 0; t < missing_.size(); ++t) {
      if (missing_[t] == 0) continue;
      fail_in(output_->path(), kArgument, "tensor {}: {} bytes were never written", quoted(dump_.tensors[t].name),
              missing_[t]);
    }
    {
      const Session session;
      require_memory();
      in_file(output_->path(), [&] { output_->bytes().run([&] { close(); }); });
    }
    output_->finish();
  }

 private:
  void create() {
    const Handle options = make_options(H5P_FILE_CREATE);
    file_ = create_output(output_->bytes(), options.get());
    // Parts that end within chunks leave them here for the next part.
    constexpr std::size_t kCacheBytes = std::size_t{8} << 20, kSlots = 10007;
    access_ = own(H5Pcreate(H5P_DATASET_ACCESS), H5Pclose, kIo, "cannot describe access");
    check(H5Pset_chunk_cache(access_.get(), kSlots, kCacheBytes, 1.0), kIo, "cannot describe access");
    const Handle link = own(H5Pcreate(H5P_LINK_CREATE), H5Pclose, kIo, "cannot describe a link");
    check(H5Pset_char_encoding(link.get(), H5T_CSET_UTF8), kIo, "cannot describe a link");
    create_objects(link.get());
    create_attributes();
  }

  void close() {
    type_ = Handle();
    check(data_.close(), kIo, "cannot complete a dataset");
    check(file_.close(), kIo, "cannot complete the file");
  }

  void create_objects(Id link) {
    const Handle group_options = make_options(H5P_GROUP_CREATE);
    for (const auto& [path, tensor, stored, storage] : layout_.objects) {
      require_memory();
      const std::string what = fmt::format("cannot create {}", quoted(path));
      if (tensor == nullptr) {
        own(H5Gcreate2(file_.get(), path.c_str(), link, group_options.get(), H5P_DEFAULT), H5Gclose, kIo, what);
        continue;
      }
      const Handle type = make_type(stored), options = make_options(H5P_DATASET_CREATE);
      set_storage(options.get(), storage, type.get());
      const Handle space = make_space(slice_shape(*tensor), storage);
      own(H5Dcreate2(file_.get(), path.c_str(), type.get(), space.get(), link, options.get(), H5P_DEFAULT), H5Dclose,
          kIo, what);
    }
  }

  void create_attributes() {
    for (const Attribute& attribute : layout_.attributes) {
      require_memory();
      const Handle object = own(H5Oopen(file_.get(), ("/" + attribute.object).c_str(), H5P_DEFAULT), H5Oclose, kIo,
                                fmt::format("cannot open {}", quoted(attribute.object)));
      write_attribute(object.get(), attribute);
    }
    layout_ = {};
  }

  void write(const Slice& slice, ByteView data) {
    check_slice(dump_, slice, data.size());
    const TensorInfo& info = dump_.tensors[slice.tensor];
    if (data.size() > missing_[slice.tensor]) {
      fail_in(output_->path(), kArgument, "tensor {}: bytes were written twice", quoted(info.name));
    }
    missing_[slice.tensor] -= data.size();
    if (data.empty()) return;
    const Session session;
    require_memory();
    in_file(output_->path(), [&] { output_->bytes().run([&] { write_dataset(slice, data); }); });
  }

  void write_dataset(const Slice& slice, ByteView data) {
    const TensorInfo& info = dump_.tensors[slice.tensor];
    const auto what = [&] { return fmt::format("cannot write dataset {}", quoted(info.name)); };
    if (open_ != slice.tensor) {
      open_.reset();
      check(data_.close(), kIo, what());
      data_ = own(H5Dopen2(file_.get(), ("/" + info.name).c_str(), access_.get()), H5Dclose, kIo, what());
      type_ = own(H5Dget_type(data_.get()), H5Tclose, kIo, what());
      open_ = slice.tensor;
    }
    const Handle space = own(H5Dget_space(data_.get()), H5Sclose, kIo, what());
    const Handle memory = select_slice(space.get(), slice, kIo);
    const std::size_t swap = swap_of_file(type_.get());
    if (swap > 1) {
      swapped_.assign(data.begin(), data.end());
      swap_bytes(swapped_, swap);
      data = swapped_;
    }
    check(H5Dwrite(data_.get(), type_.get(), memory.get(), space.get(), H5P_DEFAULT, data.data()), kIo, what());
  }

  Dump dump_;
  Layout layout_;
  std::unique_ptr<WrittenFile> output_;
  std::vector<std::uint64_t> missing_;  // bytes per tensor
  Handle file_, access_, data_, type_;  // data_ and type_: the dataset written last
  std::optional<std::size_t> open_;     // its tensor
  Bytes swapped_;                       // what was written last, big-endian
};

}  // namespace

std::unique_ptr<DumpWriter> create_plain(Destination to, const Dump& dump) {
  const Session session;
  return std::make_unique<Writer>([&] { return std::make_unique<WrittenFile>(std::move(to)); }, dump);
}

std::unique_ptr<DumpWriter> create_plain(const TemporaryFile& part, const std::string& path, const Dump& dump) {
  const Session session;
  return std::make_unique<Writer>([&] { return std::make_unique<WrittenFile>(part, path); }, dump);
}
}  // namespace hdf5

std::unique_ptr<DumpWriter> create_hdf5(Destination to, const Dump& dump) {
  const auto frame = hdf5::frame_of(dump);
  return frame ? hdf5::create_framed(std::move(to), dump, *frame) : hdf5::create_plain(std::move(to), dump);
}

std::vector<std::string> hdf5_losses(const Dump& dump, std::string_view) {
  const bool framed = hdf5::frame_of(dump).has_value();
  if (framed && hdf5::fits_frame(dump)) return {};
  std::vector<std::string> out;
  if (framed) out.emplace_back("what its HDF5 file held beside all of its tensors");
  const std::vector<std::size_t> merged = hdf5::plan_storage(dump).merged;
  if (!merged.empty()) {
    const std::string others = merged.size() > 1 ? fmt::format(" and {} more", merged.size() - 1) : std::string();
    out.push_back(fmt::format("so many chunks as {}{} had", quoted(dump.tensors[merged[0]].name), others));
  }
  return out;
}

}  // namespace kvzip
