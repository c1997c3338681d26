// SPDX-License-Identifier: Apache-2.0
#include <hdf5.h>
#include <sys/stat.h>

#include <algorithm>
#include <list>
#include <optional>

#include "codec/fail.hpp"
#include "formats/file.hpp"
#include "formats/hdf5/hdf5.hpp"
#include "formats/hdf5/hdf5_boxes.hpp"
#include "formats/hdf5/hdf5_driver.hpp"
#include "formats/hdf5/hdf5_frame.hpp"
#include "formats/hdf5/hdf5_raw.hpp"
#include "formats/hdf5/hdf5_space.hpp"
#include "formats/hdf5/hdf5_types.hpp"
#include "formats/hdf5/hdf5_walk.hpp"
#include "formats/left_out.hpp"
#include "formats/parts.hpp"
#include "formats/text.hpp"

namespace kvzip {
namespace hdf5 {
namespace {

constexpr std::uint64_t kCacheBytes = std::uint64_t{64} << 20;      // unpacked chunks of one dataset
constexpr std::uint64_t kAllCacheBytes = std::uint64_t{256} << 20;  // of all datasets kept open
constexpr std::size_t kMaxOpen = 32;

/// A dataset kept open, so that its chunk cache survives from one slice to the next.
struct OpenDataset {
  std::size_t tensor = 0;
  std::uint64_t cache_bytes = 0;
  Handle id, type, space;
  std::optional<Chunks> chunks;
};

class Reader final : public DumpReader, public LeavesOut {
 public:
  Reader(InputFile input, bool carry) : input_(std::move(input)) {
    input_.drop_name();
    try {
      require_memory();
      check_superblock(input_);
      file_ = open_input(input_);
      contents_ = walk(file_.get(), input_);
      if (carry) add_frame();
      if (contents_.dump.tensors.empty() && !contents_.left_out.empty()) {
        fail(ErrorCode::unsupported, "it holds no tensors, but {}", fmt::join(contents_.left_out, ", "));
      }
    } catch (Error& error) {
      error.add_file(input_.path());
      throw;
    }
    first_part_.push_back(0);
    for (std::size_t t = 0; t < contents_.dump.tensors.size(); ++t) {
      first_part_.push_back(add_counts(first_part_.back(), plan(t).count()));
    }
  }

  ~Reader() override {
    const Session session;
    open_.clear();
    file_.close();
  }

  const Dump& dump() const override { return contents_.dump; }
  const std::vector<std::string>& beside_tensors() const { return contents_.left_out; }
  std::vector<std::string> left_out() const override {
    return frame_ ? std::vector<std::string>() : contents_.left_out;
  }
  std::uint64_t part_count() const override { return first_part_.back(); }

  Part part(std::uint64_t index) const override {
    if (index >= part_count()) fail(ErrorCode::invalid_argument, "there is no part {}", index);
    const auto after = std::upper_bound(first_part_.begin(), first_part_.end(), index);
    Slice slice;
    slice.tensor = static_cast<std::size_t>(after - first_part_.begin()) - 1;
    plan(slice.tensor).box(index - first_part_[slice.tensor], slice.start, slice.count);
    Part part;
    part.index = index;
    part.slices.push_back(std::move(slice));
    return part;
  }

  void fetch(Part& part) override { fetch_by_reading(*this, part); }

  void read(const Slice& slice, std::span<std::byte> out) override {
    check_slice(contents_.dump, slice, out.size());
    if (out.empty()) return;
    if (frame_ && slice.tensor + 1 == contents_.dump.tensors.size()) return frame_->read(input_, slice.start[0], out);
    const Session session;
    try {
      require_memory();
      OpenDataset& dataset = open_dataset(slice.tensor);
      if (dataset.chunks) {
        dataset.chunks->read(dataset.id.get(), slice, out);
      } else {
        const Handle memory = select_slice(dataset.space.get(), slice, kBad);
        check(H5Dread(dataset.id.get(), dataset.type.get(), memory.get(), dataset.space.get(), H5P_DEFAULT, out.data()),
              kBad, "cannot read");
      }
    } catch (Error& error) {
      const std::string& name = contents_.dump.tensors[slice.tensor].name;
      error.add_where(fmt::format("dataset {}", quoted(name)));
      error.add_file(input_.path());
      throw;
    }
    check_uncut();
    swap_bytes(out, contents_.stored[slice.tensor].swap);
  }

 private:
  /// The last tensor.
  void add_frame() {
    Dump& dump = contents_.dump;
    const auto taken = [](const TensorInfo& t) { return t.name == kHdf5Frame; };
    if (contents_.left_out.empty() || std::ranges::any_of(dump.tensors, taken)) return;
    const auto holes = find_holes(file_.get(), input_, contents_);
    if (!holes) return;
    frame_.emplace(input_.size(), *holes);
    dump.attributes.push_back({std::string(kHdf5Frame), "of", {frame_key(dump)}, {}, {}, {}});
    dump.tensors.push_back({std::string(kHdf5Frame), DType::u8, {frame_->size()}});
    contents_.stored.emplace_back();
  }

  /// What the library keeps of metadata may lead to what was there before.
  void check_uncut() const {
    struct stat now {};
    if (::fstat(input_.descriptor(), &now) != 0 || static_cast<std::uint64_t>(now.st_size) >= input_.size()) return;
    fail_in(input_.path(), ErrorCode::truncated, "the file was cut from {} to {} bytes while it was read",
            input_.size(), now.st_size);
  }

  static std::uint64_t add_counts(std::uint64_t a, std::uint64_t b) {
    if (b > ~a) fail(ErrorCode::limit, "the tensors have more elements than can be counted");
    return a + b;
  }

  BoxGrid plan(std::size_t tensor) const {
    const TensorInfo& info = contents_.dump.tensors[tensor];
    return {slice_shape(info), contents_.stored[tensor].chunk.extent, slice_unit(info), kPartBytes};
  }

  /// Bytes of the chunks that one row of them along the first axis has, within bounds; at least one chunk. Chunks
  /// without filters need no cache: the library reads parts of them from the file.
  std::uint64_t cache_bytes(std::size_t tensor) const {
    const auto& [extent, chunk_bytes, filters] = contents_.stored[tensor].chunk;
    if (filters.empty()) return 0;
    const std::vector<std::uint64_t> shape = slice_shape(contents_.dump.tensors[tensor]);
    std::uint64_t bytes = chunk_bytes;
    for (std::size_t a = 1; a < extent.size() && bytes < kCacheBytes; ++a) {
      bytes *= std::min(kCacheBytes, shape[a] / extent[a] + 1);
    }
    return std::max(chunk_bytes, std::min(bytes, kCacheBytes));
  }

  OpenDataset& open_dataset(std::size_t tensor) {
    const auto found =
        std::find_if(open_.begin(), open_.end(), [&](const OpenDataset& d) { return d.tensor == tensor; });
    if (found != open_.end()) {
      open_.splice(open_.begin(), open_, found);
      return open_.front();
    }
    OpenDataset dataset;
    dataset.tensor = tensor;
    dataset.cache_bytes = cache_bytes(tensor);
    const auto total = [&] {
      std::uint64_t sum = dataset.cache_bytes;
      for (const OpenDataset& other : open_) sum += other.cache_bytes;
      return sum;
    };
    while (!open_.empty() && (open_.size() >= kMaxOpen || total() > kAllCacheBytes)) open_.pop_back();
    open_file_dataset(dataset);
    open_.push_front(std::move(dataset));
    return open_.front();
  }

  void open_file_dataset(OpenDataset& dataset) const {
    const TensorInfo& info = contents_.dump.tensors[dataset.tensor];
    const Handle options = own(H5Pcreate(H5P_DATASET_ACCESS), H5Pclose, ErrorCode::io, "cannot open");
    const ChunkForm& chunk = contents_.stored[dataset.tensor].chunk;
    const bool here = has_plain_filters(chunk);
    // The library's advice is a prime about a hundred times the number of chunks; more buys nothing here. And 1: a
    // chunk that was read whole is the first to go. No bytes: chunks without filters are not read whole, whatever size
    // their records state.
    const std::size_t slots = chunk.bytes == 0 || dataset.cache_bytes / chunk.bytes < 500 ? 10007 : 100003;
    check(H5Pset_chunk_cache(options.get(), slots, here ? 0 : dataset.cache_bytes, 1.0), ErrorCode::io, "cannot open");
    dataset.id = own(H5Dopen2(file_.get(), ("/" + info.name).c_str(), options.get()), H5Dclose, kBad, "cannot open");
    dataset.type = own(H5Dget_type(dataset.id.get()), H5Tclose, kBad, "cannot read its type");
    dataset.space = own(H5Dget_space(dataset.id.get()), H5Sclose, kBad, "cannot read its shape");
    // The buffer was sized from what the walk found.
    if (H5Tget_size(dataset.type.get()) != slice_unit(info) || read_shape(dataset.space.get()) != slice_shape(info)) {
      fail(kBad, "it has changed");
    }
    if (here) dataset.chunks.emplace(chunk, dataset.cache_bytes, fill_value(dataset));
  }

  static Bytes fill_value(const OpenDataset& dataset) {
    const Handle layout = own(H5Dget_create_plist(dataset.id.get()), H5Pclose, kBad, "cannot read its layout");
    Bytes fill(H5Tget_size(dataset.type.get()));
    H5D_fill_value_t state = H5D_FILL_VALUE_UNDEFINED;
    check(H5Pfill_value_defined(layout.get(), &state), kBad, "cannot read its fill value");
    if (state == H5D_FILL_VALUE_USER_DEFINED) {
      check(H5Pget_fill_value(layout.get(), dataset.type.get(), fill.data()), kBad, "cannot read its fill value");
    }
    return fill;
  }

  InputFile input_;
  Handle file_;
  Contents contents_;
  std::optional<Frame> frame_;
  std::vector<std::uint64_t> first_part_;
  std::list<OpenDataset> open_;  // the latest first
};

}  // namespace
}  // namespace hdf5

std::unique_ptr<DumpReader> open_hdf5(InputFile file, bool carry) {
  const hdf5::Session session;
  return std::make_unique<hdf5::Reader>(std::move(file), carry);
}

std::vector<std::string> hdf5_left_out(const DumpReader& reader) {
  const auto* hdf5 = dynamic_cast<const hdf5::Reader*>(&reader);
  return hdf5 == nullptr ? std::vector<std::string>() : hdf5->beside_tensors();
}

std::unique_ptr<DumpReader> open_hdf5(const std::string& path) {
  return open_hdf5(InputFile(path), false);
}

}  // namespace kvzip
