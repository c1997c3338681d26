// SPDX-License-Identifier: Apache-2.0
#include "formats/join.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <unordered_map>
#include <utility>

#include "codec/fail.hpp"
#include "formats/borrowed_reader.hpp"
#include "formats/hdf5/hdf5.hpp"
#include "formats/hdf5/hdf5_frame.hpp"
#include "formats/left_out.hpp"
#include "formats/mlx_cache.hpp"
#include "formats/name_patterns.hpp"
#include "formats/parts.hpp"
#include "formats/settle_axes.hpp"
#include "formats/text.hpp"
#include "formats/without_tensor.hpp"

namespace kvzip {
namespace {

/// "model.layers.0" of "folder/model.layers.0.safetensors".
std::string file_stem(const std::string& path) {
  const std::string name = path.substr(path.rfind('/') + 1);
  return name.substr(0, name.rfind('.'));
}

/// An input without the frame of an HDF5 file, from which that file alone can be made again.
class Frameless final : public BorrowedReader, public LeavesOut {
 public:
  Frameless(std::unique_ptr<DumpReader> rest, bool states_roles, std::vector<std::string> beside)
      : BorrowedReader(*rest), rest_(std::move(rest)), states_roles_(states_roles), beside_(std::move(beside)) {}
  const Recognition* recognition() const override { return states_roles_ ? rest_->recognition() : nullptr; }
  std::vector<std::string> left_out() const override { return beside_; }

 private:
  std::unique_ptr<DumpReader> rest_;
  bool states_roles_;
  std::vector<std::string> beside_;
};

class JoinReader final : public DumpReader, public LeavesOut {
 public:
  JoinReader(std::vector<JoinInput> inputs, bool mix) : mix_(mix) {
    inputs_.reserve(inputs.size());
    for (JoinInput& input : inputs) {
      input = without_frame(std::move(input));
      DumpReader& reader = *input.reader;
      reads_through(reader);
      if (MlxCache(reader.dump()).present()) {
        throw Error(
            ErrorCode::invalid_argument,
            fmt::format("{} is a prompt cache of MLX, which mlx-lm loads only without other arrays beside its own",
                        input.name),
            Hint::alone);
      }
      inputs_.push_back({std::move(input), dump_.tensors.size(), parts_});
      const std::vector<TensorInfo>& tensors = reader.dump().tensors;
      dump_.tensors.insert(dump_.tensors.end(), tensors.begin(), tensors.end());
      if (__builtin_add_overflow(parts_, reader.part_count(), &parts_)) {
        fail(ErrorCode::limit, "the files together have more parts than 64 bits can count");
      }
    }
    name_by_files();
    check_names();
    join_attributes();
    join_recognition();
  }

  const Dump& dump() const override { return dump_; }
  const Recognition* recognition() const override { return recognition_ ? &*recognition_ : nullptr; }
  std::uint64_t part_count() const override { return parts_; }

  Part part(std::uint64_t index) const override {
    const Input& input = with_part(index);
    Part part = input.reader().part(index - input.first_part);
    part.index = index;
    for (Slice& slice : part.slices) slice.tensor += input.first_tensor;
    return part;
  }

  /// Until expand(), the part is the input's but for its index.
  void fetch(Part& part) override {
    const Input& input = with_part(part.index);
    for (Slice& slice : part.slices) slice.tensor -= input.first_tensor;
    part.index -= input.first_part;
    with_name(input, [&] { input.reader().fetch(part); });
    part.index += input.first_part;
  }

  void expand(Part& part) const override {
    const Input& input = with_part(part.index);
    part.index -= input.first_part;
    with_name(input, [&] { input.reader().expand(part); });
    part.index += input.first_part;
    for (Slice& slice : part.slices) slice.tensor += input.first_tensor;
  }

  void read(const Slice& slice, std::span<std::byte> out) override {
    check_slice(dump_, slice, out.size());
    const Input& input = with_tensor(slice.tensor);
    Slice own = slice;
    own.tensor -= input.first_tensor;
    with_name(input, [&] { input.reader().read(own, out); });
  }

  ReaderTraits traits() override {
    ReaderTraits joined = inputs_[0].reader().traits();
    joined.container = nullptr;
    for (const Input& input : inputs_) {
      const ReaderTraits one = input.reader().traits();
      joined.once = joined.once || one.once;
      joined.chunk_tokens = std::max(joined.chunk_tokens, one.chunk_tokens);
      // What is said of some says nothing of all.
      joined.max_error =
          joined.max_error && one.max_error ? std::optional(std::max(*joined.max_error, *one.max_error)) : std::nullopt;
    }
    return joined;
  }

  std::vector<std::string> left_out() const override {
    std::vector<std::string> out = other_attributes_;
    for (const Input& input : inputs_) {
      for (std::string& one : left_out_of(input.reader())) out.push_back(std::move(one));
    }
    return out;
  }

 private:
  struct Input {
    JoinInput from;
    std::size_t first_tensor = 0;
    std::uint64_t first_part = 0;
    DumpReader& reader() const { return *from.reader; }
  };

  /// The last input that starts at or before `at`; those without any come before it.
  template <typename T>
  const Input& holding(T at, T Input::*first) const {
    const auto after = std::upper_bound(inputs_.begin(), inputs_.end(), at,
                                        [&](T value, const Input& input) { return value < input.*first; });
    return *(after - 1);
  }
  const Input& with_part(std::uint64_t index) const {
    if (index >= parts_) fail(ErrorCode::invalid_argument, "there is no part {} of {}", index, parts_);
    return holding(index, &Input::first_part);
  }
  const Input& with_tensor(std::size_t tensor) const { return holding(tensor, &Input::first_tensor); }

  template <typename F>
  static void with_name(const Input& input, F&& step) {
    try {
      step();
    } catch (Error& e) {
      e.add_file(input.from.name);
      throw;
    }
  }

  /// Files of one layer each may call their tensors alike, and say the layer in their own names only, as vLLM's do:
  /// then the tensors are called by both.
  void name_by_files() {
    std::unordered_map<std::string_view, std::size_t> count;
    for (const TensorInfo& tensor : dump_.tensors) ++count[tensor.name];
    std::map<std::size_t, std::string> names;
    for (std::size_t i = 0; i < dump_.tensors.size(); ++i) {
      const std::string& name = dump_.tensors[i].name;
      if (count[name] < 2) continue;
      std::string both = file_stem(with_tensor(i).from.name) + "." + name;
      const NameReading alone = read_name(name), together = read_name(both);
      if (alone.layer || !together.layer || together.role != alone.role) return;
      names.emplace(i, std::move(both));
    }
    for (auto& [tensor, name] : names) {
      names_[{&with_tensor(tensor), dump_.tensors[tensor].name}] = name;
      dump_.tensors[tensor].name = std::move(name);
    }
  }

  void check_names() const {
    std::unordered_map<std::string_view, std::size_t> seen;
    for (std::size_t i = 0; i < dump_.tensors.size(); ++i) {
      const auto [at, fresh] = seen.emplace(dump_.tensors[i].name, i);
      if (fresh) continue;
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("tensor {} is both in {} and in {}", quoted(dump_.tensors[i].name),
                              with_tensor(at->second).from.name, with_tensor(i).from.name),
                  Hint::follow);
    }
  }

  void join_attributes() {
    std::map<std::pair<std::string, std::string>, const Input*> owner;  // of an object's attribute
    for (const Input& input : inputs_) {
      for (Attribute attribute : input.reader().dump().attributes) {
        const auto renamed = names_.find({&input, attribute.object});
        if (renamed != names_.end()) attribute.object = renamed->second;
        const auto [at, fresh] = owner.emplace(std::pair(attribute.object, attribute.name), &input);
        if (fresh || at->second == &input) {
          dump_.attributes.push_back(attribute);
          continue;
        }
        const std::vector<Attribute>& others = at->second->reader().dump().attributes;
        if (std::find(others.begin(), others.end(), attribute) != others.end()) continue;
        const std::string what =
            fmt::format("attribute {}{}", quoted(attribute.name),
                        attribute.object.empty() ? std::string() : " of " + quoted(attribute.object));
        if (!mix_) {
          fail(ErrorCode::invalid_argument, "{} is not the same in {} and in {}", what, at->second->from.name,
               input.from.name);
        }
        other_attributes_.push_back(
            fmt::format("{} of {} (not that of {})", what, input.from.name, at->second->from.name));
      }
    }
  }

  void join_recognition() {
    const Input* stating = nullptr;
    for (const Input& input : inputs_) {
      const Recognition* stated = input.reader().recognition();
      if (stated == nullptr) continue;
      if (stating == nullptr) {
        stating = &input;
        recognition_.emplace().model = stated->model;
      }
      ModelInfo& model = recognition_->model;
      const std::uint32_t layers = std::max(model.layers, stated->model.layers);
      std::map<std::uint32_t, LayerAttention> own = stated->model.own;
      own.insert(model.own.begin(), model.own.end());
      for (const auto& [layer, attention] : stated->model.own) model.own.insert_or_assign(layer, attention);
      const bool alike = model.own == own;
      if (mix_) {
        model.layers = layers;
        continue;
      }
      model.layers = stated->model.layers;
      model.own = stated->model.own;
      if (model != stated->model || !alike) {
        fail(ErrorCode::invalid_argument, "{} and {} are not of the same model, or not at the same position",
             stating->from.name, input.from.name);
      }
      model.layers = layers;
      model.own = std::move(own);
    }
    if (!recognition_) return;
    for (const Input& input : inputs_) {
      Recognition own;
      with_name(input, [&] { own = recognise_with_values(input.reader()); });
      recognition_->tensors.insert(recognition_->tensors.end(), own.tensors.begin(), own.tensors.end());
      recognition_->recognised += own.recognised;
      recognition_->model.layers = std::max(recognition_->model.layers, own.model.layers);
    }
  }

  bool mix_;
  std::map<std::pair<const Input*, std::string>, std::string> names_;  // new ones of an input's tensors
  std::vector<Input> inputs_;
  Dump dump_;
  std::vector<std::string> other_attributes_;  // that gave way to those of an input before
  std::optional<Recognition> recognition_;
  std::uint64_t parts_ = 0;
};

}  // namespace

JoinInput without_frame(JoinInput input) {
  const auto frame = hdf5::frame_of(input.reader->dump());
  if (!frame) return input;
  std::vector<std::string> beside = hdf5_left_out(*input.reader);
  if (beside.empty()) beside.push_back(fmt::format("tensor {}", quoted(kHdf5Frame)));
  for (std::string& one : beside) one += " of " + input.name;
  const bool states_roles = input.reader->recognition() != nullptr;
  const Recognition roles = states_roles ? *input.reader->recognition() : recognise(input.reader->dump());
  input.reader = std::make_unique<Frameless>(without_tensor(std::move(input.reader), roles, *frame), states_roles,
                                             std::move(beside));
  return input;
}

std::unique_ptr<DumpReader> join(std::vector<JoinInput> inputs, bool mix) {
  if (inputs.empty()) fail(ErrorCode::invalid_argument, "nothing to join");
  if (inputs.size() == 1) return std::move(inputs[0].reader);
  return std::make_unique<JoinReader>(std::move(inputs), mix);
}

}  // namespace kvzip
