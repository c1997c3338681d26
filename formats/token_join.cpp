// SPDX-License-Identifier: Apache-2.0
#include "formats/token_join.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "codec/fail.hpp"
#include "formats/boxes.hpp"
#include "formats/hdf5/hdf5.hpp"
#include "formats/mlx_cache.hpp"
#include "formats/model_info.hpp"
#include "formats/name_patterns.hpp"
#include "formats/parts.hpp"
#include "formats/settle_axes.hpp"
#include "formats/text.hpp"

namespace kvzip {
namespace {

constexpr std::string_view kFirstPosition = "first_position";

/// The last part of a tensor's name.
std::string_view leaf_of(std::string_view name) {
  return name.substr(name.find_last_of("./") + 1);
}

bool lists_tokens(const Dump& dump, std::size_t tensor, std::uint64_t tokens) {
  constexpr std::array<std::string_view, 4> kLists{"positions", "position_ids", "cache_position", "attention_mask"};
  const TensorInfo& info = dump.tensors[tensor];
  const bool called = find_token_ids(dump) == tensor || std::ranges::find(kLists, leaf_of(info.name)) != kLists.end();
  return called && !info.shape.empty() && info.shape.back() == tokens && info.elements() == tokens;
}

/// Tells of one chunk, and not of all together.
bool is_of_chunk(const Attribute& attribute) {
  constexpr std::array<std::string_view, 6> kOfChunk{"token_hash", "tokens_hash", "token_ids_hash",
                                                     "chunk_hash", "prompt_hash", "safetensors:shapes"};
  return std::ranges::find(kOfChunk, attribute.name) != kOfChunk.end();
}

class TokenJoin final : public DumpReader {
 public:
  TokenJoin(std::vector<JoinInput> inputs, const RecogniseOptions& options, bool mix)
      : inputs_(std::move(inputs)), options_(options), mix_(mix) {
    const std::vector<TensorInfo>& tensors = reader(0).dump().tensors;
    for (const JoinInput& input : inputs_) reads_through(*input.reader);
    for (std::size_t i = 0; i < inputs_.size(); ++i) with_name(i, [&] { take(i); });
    dump_.tensors = tensors;
    for (std::size_t t = 0; t < tensors.size(); ++t) {
      if (joins_[t].axis) dump_.tensors[t].shape[*joins_[t].axis] = joins_[t].begins.back();
    }
    join_attributes();
    check_reading();
    for (std::size_t t = 0; t < tensors.size(); ++t) {
      if (!joins_[t].axis) check_same(t);
    }
    parts_ = DumpParts(dump_);
  }

  const Dump& dump() const override { return dump_; }
  std::uint64_t part_count() const override { return parts_.count(); }
  Part part(std::uint64_t index) const override { return parts_.part(dump_, index); }
  void fetch(Part& part) override { fetch_by_reading(*this, part); }

  void read(const Slice& slice, std::span<std::byte> out) override {
    check_slice(dump_, slice, out.size());
    const Join& join = joins_[slice.tensor];
    if (!join.axis) return read_of(0, slice, slice, out);
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      Slice whole = whole_of(i, slice.tensor);
      whole.start[*join.axis] = join.begins[i];
      if (const auto box = intersect(slice, whole)) read_of(i, relative(*box, whole), slice, out, *box);
    }
  }

 private:
  /// Of a tensor: where each input's begins along the axis, and where the last ends; no axis where it is there once.
  struct Join {
    std::optional<std::size_t> axis;
    std::vector<std::uint64_t> begins{0};
    std::vector<std::size_t> places{};  // of the tensor in each input
    Axes axes{};
  };

  DumpReader& reader(std::size_t i) const { return *inputs_[i].reader; }

  template <typename F>
  void with_name(std::size_t i, F&& step) const {
    try {
      step();
    } catch (Error& e) {
      e.add_file(inputs_[i].name);
      throw;
    }
  }

  Slice whole_of(std::size_t i, std::size_t tensor) const {
    const std::size_t place = joins_[tensor].places[i];
    const std::vector<std::uint64_t> shape = slice_shape(reader(i).dump().tensors[place]);
    return {tensor, std::vector<std::uint64_t>(shape.size(), 0), shape};
  }

  /// `from`, a part of input i's tensor, to where `box` lies in the data of `slice`.
  void read_of(std::size_t i, Slice from, const Slice& slice, std::span<std::byte> out, const Slice& box) {
    const std::size_t place = joins_[slice.tensor].places[i];
    if (box.count == slice.count) {
      from.tensor = place;
      return with_name(i, [&] { reader(i).read(from, out); });
    }
    const TensorInfo& info = dump_.tensors[slice.tensor];
    Bytes data(box.elements() * slice_unit(info));
    from.tensor = place;
    with_name(i, [&] { reader(i).read(from, data); });
    copy_box(box, slice_unit(info), box, data, slice, out);
  }
  void read_of(std::size_t i, const Slice& from, const Slice& slice, std::span<std::byte> out) {
    read_of(i, from, slice, out, slice);
  }

  void refuse_other_kinds(std::size_t i) const {
    const Dump& dump = reader(i).dump();
    if (reader(i).recognition() != nullptr) {
      fail(ErrorCode::invalid_argument, "containers are not joined along tokens: 'kvzip append' does that");
    }
    if (MlxCache(dump).present()) {
      fail(ErrorCode::invalid_argument, "a prompt cache of MLX is a whole conversation, and no chunk of one");
    }
    const std::string file = inputs_[i].name.substr(inputs_[i].name.rfind('/') + 1);
    const std::string stem = file.substr(0, file.rfind('.'));
    for (const TensorInfo& tensor : dump.tensors) {
      if (read_name(tensor.name).layer || !read_name(stem + "." + tensor.name).layer) continue;
      fail(ErrorCode::invalid_argument, "its name says that it is a layer: layers are no chunks of tokens");
    }
  }

  /// Puts an input's tensors behind those before.
  void take(std::size_t i) {
    refuse_other_kinds(i);
    const Dump& dump = reader(i).dump();
    const std::vector<TensorInfo>& first = reader(0).dump().tensors;
    if (dump.tensors.size() != first.size()) {
      fail(ErrorCode::invalid_argument, "it has {} tensors, and {} has {}", dump.tensors.size(), inputs_[0].name,
           first.size());
    }
    if (i == 0) joins_.resize(first.size());
    const Recognition roles = recognise_with_values(reader(i), options_);
    std::unordered_map<std::string_view, std::size_t> places;
    for (std::size_t t = 0; t < dump.tensors.size(); ++t) places.emplace(dump.tensors[t].name, t);
    std::uint64_t tokens = 0;
    for (std::size_t t = 0; t < first.size(); ++t) {
      const auto at = places.find(first[t].name);
      if (at == places.end()) fail(ErrorCode::invalid_argument, "it has no tensor {}", quoted(first[t].name));
      joins_[t].places.push_back(at->second);
      take_cache(i, t, roles.tensors[joins_[t].places.back()], tokens);
    }
    if (tokens == 0) refuse_without_cache(dump, roles);
    for (std::size_t t = 0; t < first.size(); ++t) take_list(i, t, tokens);
    check_position(dump);
    if (__builtin_add_overflow(tokens_, tokens, &tokens_)) fail(ErrorCode::limit, "more tokens than 64 bits can count");
  }

  [[noreturn]] static void refuse_without_cache(const Dump& dump, const Recognition& roles) {
    for (std::size_t t = 0; t < dump.tensors.size(); ++t) {
      if (roles.tensors[t].readings.empty()) continue;
      throw Error(ErrorCode::invalid_argument, fmt::format("where its tokens are is open: {}", roles.tensors[t].why),
                  Hint::layout);
    }
    throw Error(ErrorCode::invalid_argument, "no tensor was recognised as keys or values", Hint::map);
  }

  void take_cache(std::size_t i, std::size_t t, const TensorRole& role, std::uint64_t& tokens) {
    Join& join = joins_[t];
    const TensorInfo& info = reader(i).dump().tensors[join.places[i]];
    const std::size_t axis = role.axes.find('T');
    if (i == 0) join.axes = role.axes;
    if (join.axes.text() != role.axes.text()) {
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("the axes of {} are not those that it has in {}", quoted(info.name), inputs_[0].name),
                  Hint::layout);
    }
    if (role.role == Role::other || axis == Axes::npos) return;
    if (dtype_bits(info.dtype) < 8 && axis + 1 == info.shape.size()) {
      fail(ErrorCode::invalid_argument, "the tokens of {} are parts of bytes", quoted(info.name));
    }
    if (tokens != 0 && tokens != info.shape[axis]) {
      fail(ErrorCode::invalid_argument, "its layers hold {} and {} tokens: which of them follow is not known", tokens,
           info.shape[axis]);
    }
    tokens = info.shape[axis];
    add(i, t, axis);
  }

  void take_list(std::size_t i, std::size_t t, std::uint64_t tokens) {
    const Dump& dump = reader(i).dump();
    const std::size_t place = joins_[t].places[i];
    const bool before = joins_[t].axis.has_value();
    if (!joins_[t].axes.empty() || (i > 0 && !before)) return;
    const bool lists = lists_tokens(dump, place, tokens);
    if (before && !lists) {
      fail(ErrorCode::invalid_argument, "{} has an entry for each token in {}, and not here",
           quoted(dump.tensors[place].name), inputs_[0].name);
    }
    if (!lists) return;
    add(i, t, dump.tensors[place].shape.size() - 1);
  }

  /// Behind the inputs before, whose extents but for the axis must be its own.
  void add(std::size_t i, std::size_t t, std::size_t axis) {
    Join& join = joins_[t];
    const TensorInfo& info = reader(i).dump().tensors[join.places[i]];
    TensorInfo other = reader(0).dump().tensors[t];
    if (other.shape.size() == info.shape.size()) other.shape[axis] = info.shape[axis];
    if (other != info || (i > 0 && join.axis != axis)) {
      fail(ErrorCode::invalid_argument, "type or extents of {} are not those that it has in {}", quoted(info.name),
           inputs_[0].name);
    }
    join.axis = axis;
    std::uint64_t end = 0;
    if (__builtin_add_overflow(join.begins.back(), info.shape[axis], &end)) {
      fail(ErrorCode::limit, "{} has more tokens than 64 bits can count", quoted(info.name));
    }
    join.begins.push_back(end);
  }

  void check_position(const Dump& dump) {
    if (dump.text(kFirstPosition).empty() || mix_) return;
    const std::uint64_t at = read_rope(dump).first_position, begin = read_rope(reader(0).dump()).first_position;
    if (!reader(0).dump().text(kFirstPosition).empty() && at != begin + tokens_) {
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("its first token is at position {}, and the one before ends at {}", at, begin + tokens_),
                  Hint::mix);
    }
  }

  void join_attributes() {
    const auto listed = [](const Dump& dump) {
      std::vector<Attribute> out;
      for (const Attribute& attribute : dump.attributes) {
        if (!is_of_chunk(attribute)) out.push_back(attribute);
      }
      return out;
    };
    dump_.attributes = listed(reader(0).dump());
    std::map<std::pair<std::string, std::string>, std::size_t> places;  // by object and name
    for (std::size_t a = 0; a < dump_.attributes.size(); ++a) {
      places.emplace(std::pair(dump_.attributes[a].object, dump_.attributes[a].name), a);
    }
    for (std::size_t i = 1; i < inputs_.size(); ++i) {
      with_name(i, [&] {
        for (Attribute& other : listed(reader(i).dump())) {
          // What a chunk does not say is no other than what another says, but its position is that of no other.
          if (other.object.empty() && other.name == kFirstPosition) continue;
          const auto [at, fresh] = places.emplace(std::pair(other.object, other.name), dump_.attributes.size());
          if (fresh) dump_.attributes.push_back(std::move(other));
          if (!fresh && !mix_ && other.name != kHdf5Storage) check_attribute(dump_.attributes[at->second], other);
        }
      });
    }
  }

  static void check_attribute(const Attribute& own, const Attribute& other) {
    if (own == other) return;
    throw Error(ErrorCode::invalid_argument,
                fmt::format("attribute {}{} is not the same as in files before it", quoted(other.name),
                            other.object.empty() ? std::string() : " of " + quoted(other.object)),
                Hint::mix);
  }

  /// What is read of all together is what was read of each.
  void check_reading() {
    const Recognition roles = recognise_with_values(*this, options_);
    for (std::size_t t = 0; t < joins_.size(); ++t) {
      if (joins_[t].axes.text() == roles.tensors[t].axes.text()) continue;
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("the axes of {} are read as {} in the files, and otherwise in all together",
                              quoted(dump_.tensors[t].name), joins_[t].axes.text()),
                  Hint::layout);
    }
  }

  void check_same(std::size_t t) {
    const TensorInfo& info = dump_.tensors[t];
    for (std::size_t i = 1; i < inputs_.size(); ++i) {
      bool same = info == reader(i).dump().tensors[joins_[t].places[i]];
      if (same && info.bytes() > 0) same = same_bytes(i, t);
      if (same) continue;
      fail(ErrorCode::invalid_argument, "tensor {} has no axis of tokens, and is not the same in {} and in {}",
           quoted(info.name), inputs_[0].name, inputs_[i].name);
    }
  }

  bool same_bytes(std::size_t i, std::size_t t) {
    for (const Slice& slice : split_contiguous(dump_.tensors[t], t, kPartBytes)) {
      Bytes first(slice_bytes(dump_, slice)), other(first.size());
      Slice own = slice;
      own.tensor = joins_[t].places[0];
      with_name(0, [&] { reader(0).read(own, first); });
      own.tensor = joins_[t].places[i];
      with_name(i, [&] { reader(i).read(own, other); });
      if (first != other) return false;
    }
    return true;
  }

  std::vector<JoinInput> inputs_;
  RecogniseOptions options_;
  bool mix_;
  std::vector<Join> joins_;  // per tensor
  std::uint64_t tokens_ = 0;
  Dump dump_;
  DumpParts parts_;
};

}  // namespace

std::unique_ptr<DumpReader> join_tokens(std::vector<JoinInput> inputs, const RecogniseOptions& options, bool mix) {
  if (inputs.empty()) fail(ErrorCode::invalid_argument, "nothing to join");
  if (inputs.size() == 1) return std::move(inputs[0].reader);
  for (JoinInput& input : inputs) input = without_frame(std::move(input));
  return std::make_unique<TokenJoin>(std::move(inputs), options, mix);
}

}  // namespace kvzip
