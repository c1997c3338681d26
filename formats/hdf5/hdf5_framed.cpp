// SPDX-License-Identifier: Apache-2.0
// Parts come in any order, and a frame is of use only when it is whole: both are collected in temporary files, and the
// library then writes the tensors into the file that the frame spans.
#include "formats/hdf5/hdf5_framed.hpp"

#include <hdf5.h>

#include <algorithm>
#include <map>
#include <optional>

#include "codec/fail.hpp"
#include "formats/file_calls.hpp"
#include "formats/hdf5/hdf5.hpp"
#include "formats/hdf5/hdf5_driver.hpp"
#include "formats/hdf5/hdf5_frame.hpp"
#include "formats/hdf5/hdf5_output.hpp"
#include "formats/hdf5/hdf5_space.hpp"
#include "formats/hdf5/hdf5_types.hpp"
#include "formats/parts.hpp"

namespace kvzip::hdf5 {
namespace {

constexpr auto kIo = ErrorCode::io;

// The library fails on what the frame says as a rule; where the system refuses, fail_library() knows.
/// Filtered chunks get other lengths: those that the file says it has are given up, which needs no look at them.
void drop_filtered_chunks(Id dataset) {
  const Handle options = own(H5Dget_create_plist(dataset), H5Pclose, kBad, "cannot read its layout");
  if (H5Pget_layout(options.get()) != H5D_CHUNKED || H5Pget_nfilters(options.get()) <= 0) return;
  const Handle space = own(H5Dget_space(dataset), H5Sclose, kBad, "cannot read its shape");
  const std::vector<std::uint64_t> shape = read_shape(space.get());
  const std::vector<hsize_t> none(shape.size(), 0), all(shape.begin(), shape.end());
  check(H5Dset_extent(dataset, none.data()), kBad, "cannot empty it");
  check(H5Dset_extent(dataset, all.data()), kBad, "cannot empty it");
}

/// A dataset that is written slice by slice.
class Target {
 public:
  Target(Id file, const std::string& name)
      : dataset_(own(H5Dopen2(file, ("/" + name).c_str(), H5P_DEFAULT), H5Dclose, kBad, "cannot open")),
        type_(own(H5Dget_type(dataset_.get()), H5Tclose, kBad, "cannot read its type")) {
    const auto element = read_type(type_.get());
    if (!element) fail(kBad, "it has changed");
    swap_ = element->swap;
    drop_filtered_chunks(dataset_.get());
  }
  void write(const Slice& slice, Bytes& data) {
    swap_bytes(data, swap_);
    const Handle space = own(H5Dget_space(dataset_.get()), H5Sclose, kBad, "cannot read its shape");
    const Handle memory = select_slice(space.get(), slice, kBad);
    check(H5Dwrite(dataset_.get(), type_.get(), memory.get(), space.get(), H5P_DEFAULT, data.data()), kBad,
          "cannot write");
  }
  void close() { check(dataset_.close(), kBad, "cannot complete"); }

 private:
  Handle dataset_, type_;
  std::size_t swap_ = 1;
};

class FramedWriter final : public DumpWriter {
 public:
  FramedWriter(Destination to, const Dump& dump, std::size_t frame)
      : frame_(frame), missing_(dump.tensors[frame].bytes()), plain_(without_frame(dump)) {
    if (!fits_frame(dump)) {
      writer_ = create_plain(std::move(to), plain_);
      return;
    }
    const std::string place = temporary_directory() + "/kvzip";
    output_.emplace(std::move(to));
    frame_file_.emplace(place);
    frame_name_ = copy_name(output_->path());
    values_.emplace(place);
    writer_ = create_plain(*values_, output_->path(), plain_);
  }

  void append(Part& part) override {
    if (part.slices.size() != part.data.size()) {
      fail(ErrorCode::invalid_argument, "part {}: {} slices with data for {}", part.index, part.slices.size(),
           part.data.size());
    }
    for (std::size_t i = 0; i < part.slices.size(); ++i) {
      Slice slice = part.slices[i];
      if (slice.tensor == frame_) {
        add_frame(slice, part.data[i]);
        continue;
      }
      if (slice.tensor > frame_) --slice.tensor;
      Part one;
      one.index = part.index;
      one.slices.push_back(std::move(slice));
      one.data.push_back(std::move(part.data[i]));
      writer_->append(one);
    }
  }

  void made_from(const InputList& inputs) override {
    writer_->made_from(inputs);
    if (output_) output_->made_from(inputs);
  }

  void finish() override {
    if (missing_ != 0) fail(ErrorCode::invalid_argument, "{}: {} bytes were never written", kHdf5Frame, missing_);
    writer_->finish();
    if (!output_) return;
    make_again();
    output_->finish();
  }

 private:
  void add_frame(const Slice& slice, ByteView data) {
    if (data.size() > missing_ || slice.count != std::vector<std::uint64_t>{data.size()}) {
      fail(ErrorCode::invalid_argument, "{}: bytes that it does not have", kHdf5Frame);
    }
    missing_ -= data.size();
    if (frame_file_) write_all_at(frame_file_->descriptor(), slice.start.at(0), data, frame_name_);
  }

  void make_again() {
    constexpr std::uint64_t kSlack = std::uint64_t{1} << 20;  // what filters may add
    std::uint64_t most = kSlack;
    for (const TensorInfo& info : plain_.tensors) {
      const std::uint64_t bytes = info.bytes();
      if (__builtin_add_overflow(most, bytes, &most) || __builtin_add_overflow(most, bytes / 8, &most)) {
        fail(ErrorCode::limit, "the tensors together are larger than 64 bits can count");
      }
    }
    expand_frame(frame_file_->input("what was beside the tensors"), most, output_->bytes());
    if (plain_.tensors.empty()) return;
    const Session session;
    require_memory();
    // The same checks as of any file, before the library may change it.
    const std::vector<Slice> slices = slices_of(*open_hdf5(output_->input(), false));
    output_->bytes().run([&] { write_values(slices); });
  }

  void write_values(const std::vector<Slice>& slices) {
    const auto values = open_hdf5(values_->input("the values"), false);
    std::map<std::string_view, std::size_t> by_name;
    for (std::size_t t = 0; t < values->dump().tensors.size(); ++t) by_name.emplace(values->dump().tensors[t].name, t);
    Handle file = open_output(output_->bytes());
    std::optional<Target> target;
    for (std::size_t i = 0; i < slices.size(); ++i) {
      const std::string& name = names_[slices[i].tensor];
      if (i == 0 || slices[i].tensor != slices[i - 1].tensor) {
        if (target) target->close();
        target.emplace(file.get(), name);
      }
      Slice slice = slices[i];
      slice.tensor = by_name.at(name);
      Bytes data(slice_bytes(values->dump(), slice));
      if (data.empty()) continue;
      require_memory();
      values->read(slice, data);
      target->write(slice, data);
      output_->bytes().require_written();
    }
    if (target) target->close();
    target.reset();
    check(file.close(), kIo, "cannot complete the file");
  }

  /// How the file wants its tensors; fail(corrupt) when they are not those that there are.
  std::vector<Slice> slices_of(DumpReader& made) {
    const auto sorted = [](std::vector<TensorInfo> tensors) {
      std::ranges::sort(tensors, {}, &TensorInfo::name);
      return tensors;
    };
    if (sorted(made.dump().tensors) != sorted(plain_.tensors)) {
      fail(kBad, "tensor {} is not of these tensors", kHdf5Frame);
    }
    for (const TensorInfo& info : made.dump().tensors) names_.push_back(info.name);
    std::vector<Slice> out;
    for (std::uint64_t p = 0; p < made.part_count(); ++p) {
      for (Slice& slice : made.part(p).slices) out.push_back(std::move(slice));
    }
    return out;
  }

  std::size_t frame_;
  std::uint64_t missing_;  // bytes of the frame
  Dump plain_;
  std::optional<WrittenFile> output_;
  std::optional<TemporaryFile> frame_file_, values_;
  std::string frame_name_;
  std::unique_ptr<DumpWriter> writer_;
  std::vector<std::string> names_;  // of the tensors as the file to be made has them
};

}  // namespace

std::unique_ptr<DumpWriter> create_framed(Destination to, const Dump& dump, std::size_t frame) {
  return std::make_unique<FramedWriter>(std::move(to), dump, frame);
}

}  // namespace kvzip::hdf5
