// SPDX-License-Identifier: Apache-2.0
// What open_llama() makes of a file says all that is in it; here it becomes the same file again.
#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <utility>

#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "codec/number.hpp"
#include "formats/ggml_values.hpp"
#include "formats/llama.hpp"
#include "formats/llama_state.hpp"
#include "formats/placed.hpp"
#include "formats/text.hpp"

namespace kvzip {
namespace {

constexpr std::uint32_t kMost = 0xffffffff;

template <typename T>
std::string bytes_of(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

/// The cells of a stream. Positions come part by part, so that they are put between the rest at the end.
struct Cells {
  std::uint64_t begin = 0, count = 0;
  std::string rest;                  // of each cell, behind its position
  std::optional<std::size_t> whole;  // the tensor that holds cells as they were
  std::size_t positions = 0;         // the tensor
  std::string seen;                  // its bytes
};

/// A file's pieces from front to back: numbers, and places of tensors.
class Sketch {
 public:
  explicit Sketch(const Dump& dump) : dump_(dump), begins(dump.tensors.size()) {
    for (std::size_t i = 0; i < dump.tensors.size(); ++i) by_name_.emplace(dump.tensors[i].name, i);
    for (const auto& [tensor, type] : ggml_blocks(dump)) blocks_.emplace(tensor, type);
    start();
    std::string kinds = dump.text("llama.cpp.memories");
    if (kinds.empty()) kinds = kLlamaKinds[0];
    for (std::string_view rest = kinds; !rest.empty();) {
      const std::size_t end = std::min(rest.find(' '), rest.size());
      memory(rest.substr(0, end));
      rest.remove_prefix(std::min(rest.size(), end + 1));
    }
    if (const auto more = find("appendix")) put_tensor(*more, DType::u8, 1);
    for (std::size_t i = 0; i < begins.size(); ++i) {
      if (!begins[i]) refuse("has no place for tensor {}", quoted(dump.tensors[i].name));
    }
  }

 private:
  const Dump& dump_;
  std::map<std::string_view, std::size_t> by_name_;
  std::map<std::size_t, const GgmlType*> blocks_;
  std::uint64_t at_ = 0;
  std::size_t first_layer_ = 0;  // of the memory at hand
  bool session_ = false;
  std::uint64_t version_ = 0;

 public:
  std::vector<std::optional<std::uint64_t>> begins;         // by tensor
  std::vector<std::pair<std::uint64_t, std::string>> text;  // what lies between tensors
  std::vector<Cells> cells;

 private:
  template <typename... Args>
  [[noreturn]] static void refuse(fmt::format_string<Args...> what, Args&&... args) {
    fail(ErrorCode::unsupported, "a file of llama.cpp {}", fmt::format(what, std::forward<Args>(args)...));
  }

  std::uint64_t number(std::string_view name, std::optional<std::uint64_t> otherwise,
                       std::uint64_t most = kMost) const {
    const std::string value = dump_.text(name);
    if (value.empty() && otherwise) return *otherwise;
    const auto found = parse_number<std::uint64_t>(value, 0, most);
    if (!found) refuse("needs a number as {}, which is {}", name, quoted(value));
    return *found;
  }

  std::optional<std::size_t> find(std::string_view name) const {
    const auto found = by_name_.find(name);
    return found == by_name_.end() ? std::nullopt : std::optional(found->second);
  }

  void pass(std::uint64_t bytes) {
    if (__builtin_add_overflow(at_, bytes, &at_)) fail(ErrorCode::limit, "a file longer than 64 bits can count");
  }
  template <typename T>
  void put(T value) {
    put_text(bytes_of(value));
  }
  void put_text(const std::string& piece) {
    if (text.empty() || text.back().first + text.back().second.size() != at_) text.emplace_back(at_, std::string());
    text.back().second += piece;
    pass(piece.size());
  }
  void put_tensor(std::size_t tensor, DType dtype, std::size_t rank) {
    const TensorInfo& info = dump_.tensors[tensor];
    if (info.dtype != dtype || info.shape.size() != rank || begins[tensor]) {
      refuse("cannot hold tensor {} as it is", quoted(info.name));
    }
    begins[tensor] = at_;
    pass(info.bytes());
  }

  void start() {
    const std::string what = dump_.text("llama.cpp");
    session_ = what.starts_with("session ");
    const std::size_t space = what.find(' ');
    const auto version = parse_number<std::uint64_t>(what.substr(space + 1), session_ ? 9 : 2, session_ ? 11 : 4);
    if ((!session_ && !what.starts_with("sequence ")) || !version) {
      refuse("can be made of what was one, and metadata llama.cpp is {}", quoted(what));
    }
    version_ = *version;
    put_text(std::string(session_ ? kLlamaSession : kLlamaSequence));
    put(static_cast<std::uint32_t>(version_));
    const auto tokens = find("token_ids");
    if (!tokens || dump_.tensors[*tokens].elements() > kMost) refuse("needs token_ids");
    put(static_cast<std::uint32_t>(dump_.tensors[*tokens].elements()));
    put_tensor(*tokens, DType::i32, 1);
    if (!session_ || version_ < 10) return;
    const std::string architecture = dump_.text("llama.cpp.architecture");
    if (architecture.size() > limits::kLlamaName) refuse("has no architecture of {} bytes", architecture.size());
    put(static_cast<std::uint32_t>(architecture.size()));
    put_text(architecture);
  }

  void memory(std::string_view name) {
    const auto* const kind = std::ranges::find(kLlamaKinds, name);
    if (kind == kLlamaKinds.end()) refuse("has no memory {}", quoted(name));
    if (name == kLlamaKinds[2]) {
      const auto states = find(name);
      if (!states) refuse("needs tensor {}", quoted(name));
      return put_tensor(*states, DType::u8, 1);
    }
    const std::string of(kLlamaPrefixes[static_cast<std::size_t>(kind - kLlamaKinds.begin())]);
    const std::uint64_t streams = number(fmt::format("llama.cpp.{}streams", of), 1, limits::kLlamaStreams);
    put(static_cast<std::uint32_t>(streams));
    std::size_t layers = 0;
    for (std::uint64_t s = 0; s < streams; ++s) {
      layers = std::max(layers, stream(of, streams == 1 ? of : fmt::format("{}streams.{}.", of, s)));
    }
    first_layer_ += layers;
  }

  /// Gives how many layers it has.
  std::size_t stream(const std::string& of, const std::string& prefix) {
    const auto positions = find(prefix + "positions");
    if (!positions) {
      const bool cells = find(prefix + "cells") || !dump_.text("llama.cpp." + prefix + "sequences").empty();
      if (cells) refuse("needs tensor {}", quoted(prefix + "positions"));
      put(std::uint32_t{0});
      return 0;
    }
    Cells own{.begin = 0,
              .count = dump_.tensors[*positions].elements(),
              .rest = {},
              .whole = {},
              .positions = *positions,
              .seen = {}};
    if (own.count == 0 || own.count > kMost) refuse("has no streams of {} cells", own.count);
    put(static_cast<std::uint32_t>(own.count));
    own.begin = at_;
    put_tensor(*positions, DType::i32, 1);
    at_ = own.begin;
    put_cells(prefix, own);
    std::vector<std::size_t> keys, values;
    gather(prefix, "key", keys);
    gather(prefix, "value", values);
    // Files of older versions do not say how many there were.
    const auto layers = number(fmt::format("llama.cpp.{}layers", of), std::max<std::size_t>(keys.size(), 1));
    const bool alone = dump_.text(fmt::format("llama.cpp.{}layers", of)).empty()
                           ? values.empty()
                           : dump_.text(fmt::format("llama.cpp.{}values", of)) == "none";
    if (keys.size() != layers || values.size() != (alone ? 0 : layers)) {
      refuse("needs keys, and values, of all layers: {} and {} are here, of {}", keys.size(), values.size(), layers);
    }
    if (layers > limits::kLlamaLayers) refuse("has no more than {} layers, not {}", limits::kLlamaLayers, layers);
    const bool transposed =
        values.empty() ? dump_.text(fmt::format("llama.cpp.{}transposed", of)) == "1" : is_transposed(values[0]);
    put(std::uint32_t{transposed ? 1u : 0u});
    put(static_cast<std::uint32_t>(keys.size()));
    if (version_ == (session_ ? 11u : 4u)) {
      put(static_cast<std::uint32_t>(number(fmt::format("llama.cpp.{}rotated_keys", of), {})));
      put(static_cast<std::uint32_t>(number(fmt::format("llama.cpp.{}rotated_values", of), {})));
    }
    for (const std::size_t key : keys) put_rows(key, false, own.count);
    for (const std::size_t value : values) put_rows(value, transposed, own.count);
    cells.push_back(std::move(own));
    return keys.size();
  }

  void put_cells(const std::string& prefix, Cells& own) {
    const std::string name = prefix + "cells";
    own.whole = find(name);
    if (own.whole) {
      const auto count = std::ranges::find_if(
          dump_.attributes, [&](const Attribute& a) { return a.object == name && a.name == "count"; });
      const bool fits = count != dump_.attributes.end() && count->strings.size() == 1 &&
                        count->strings[0] == fmt::to_string(own.count);
      if (!fits) refuse("needs all of its cells; tokens were left out");
      if (dump_.tensors[*own.whole].bytes() < own.count * 8) refuse("has cells of 8 bytes or more");
      return put_tensor(*own.whole, DType::u8, 1);
    }
    std::string ids = dump_.text("llama.cpp." + prefix + "sequences");
    std::string sequences;
    std::uint32_t count = 0;
    for (std::string_view rest = ids == "none" ? std::string_view() : ids; !rest.empty(); ++count) {
      const std::size_t end = std::min(rest.find(' '), rest.size());
      const auto id = parse_number<std::int32_t>(rest.substr(0, end), 0, 65535);
      if (count == limits::kLlamaSequences) refuse("has no cells of more than {} sequences", count);
      if (!id) refuse("needs the sequences of its cells, which are {}", quoted(ids));
      sequences += bytes_of(*id);
      rest.remove_prefix(std::min(rest.size(), end + 1));
    }
    if (ids.empty()) refuse("needs the sequences of its cells");
    own.rest = bytes_of(count) + sequences;
    const std::uint64_t bytes = own.count * (sizeof(std::int32_t) + own.rest.size());
    if (bytes > limits::kLlamaCellBytes) {
      fail(ErrorCode::limit, "{} cells that are each of {} sequences would need {} bytes", own.count, count, bytes);
    }
    pass(bytes);
  }

  void gather(const std::string& prefix, std::string_view role, std::vector<std::size_t>& out) const {
    while (const auto found = find(fmt::format("{}layers.{}.{}", prefix, first_layer_ + out.size(), role))) {
      out.push_back(*found);
    }
  }

  bool is_transposed(std::size_t tensor) const {
    return std::ranges::any_of(dump_.attributes, [&](const Attribute& a) {
      return a.object == dump_.tensors[tensor].name && a.name == "axes" && a.strings == std::vector<std::string>{"CT"};
    });
  }

  void put_rows(std::size_t tensor, bool transposed, std::uint64_t cells) {
    const TensorInfo& info = dump_.tensors[tensor];
    const auto found = blocks_.find(tensor);
    const GgmlType* type = found != blocks_.end() ? found->second : plain_ggml_type(info.dtype);
    if (type == nullptr || info.shape.size() != 2 || is_transposed(tensor) != transposed) {
      refuse("cannot hold tensor {} as it is", quoted(info.name));
    }
    const std::uint64_t channels = info.shape[transposed ? 0 : 1];
    if (info.shape[transposed ? 1 : 0] != cells) {
      refuse("needs all {} tokens of tensor {}, which has {}", cells, quoted(info.name),
             info.shape[transposed ? 1 : 0]);
    }
    put(type->code);
    if (transposed) {
      if (found != blocks_.end() || channels > kMost) refuse("cannot hold tensor {} as it is", quoted(info.name));
      put(static_cast<std::uint32_t>(type->bytes));
      put(static_cast<std::uint32_t>(channels));
    } else {
      put(info.bytes() / cells);
    }
    put_tensor(tensor, info.dtype, 2);
  }
};

class LlamaWriter final : public PlacedWriter {
 public:
  LlamaWriter(Destination to, const Dump& dump, Sketch sketch)
      : PlacedWriter(std::move(to), dump), cells_(std::move(sketch.cells)) {
    for (const auto& begin : sketch.begins) place(*begin);
    for (const auto& [at, piece] : sketch.text) file_.write_at(at, std::as_bytes(std::span(piece)));
  }

 private:
  void wrote(std::size_t tensor, std::uint64_t at, ByteView bytes) override {
    for (Cells& cells : cells_) {
      if (tensor != cells.whole.value_or(cells.positions)) continue;
      if (cells.seen.size() < at + bytes.size()) cells.seen.resize(at + bytes.size());
      std::copy_n(reinterpret_cast<const char*>(bytes.data()), bytes.size(),
                  cells.seen.begin() + static_cast<std::ptrdiff_t>(at));
    }
  }

  void complete() override {
    constexpr std::uint64_t kPosition = sizeof(std::int32_t);
    for (const Cells& cells : cells_) {
      std::string all;
      if (cells.whole) all = cells.seen;
      for (std::uint64_t i = 0; i < cells.count && !cells.whole; ++i) {
        all.append(cells.seen, i * kPosition, kPosition);
        all += cells.rest;
      }
      file_.write_at(cells.begin, std::as_bytes(std::span(all)));
    }
  }

  std::vector<Cells> cells_;
};

}  // namespace

std::unique_ptr<DumpWriter> create_llama(Destination to, const Dump& dump) {
  const std::string name = to.path;
  return in_file(name, [&] { return std::make_unique<LlamaWriter>(std::move(to), dump, Sketch(dump)); });
}

std::vector<std::string> llama_losses(const Dump& dump, std::string_view) {
  std::vector<std::string> out;
  const auto blocks = ggml_blocks(dump);
  std::map<std::string_view, const TensorInfo*> by_name;
  for (std::size_t i = 0; i < dump.tensors.size(); ++i) {
    if (!blocks.contains(i)) by_name.emplace(dump.tensors[i].name, &dump.tensors[i]);
  }
  std::size_t decoded = 0, others = 0;
  const Attribute* first = nullptr;
  constexpr std::array<std::string_view, 3> kOfTensors{"axes", kGgmlAttribute, "count"};
  for (const Attribute& a : dump.attributes) {
    const bool known = a.object.empty() ? a.name.starts_with("llama.cpp") || a.name == "rope_layout"
                                        : std::ranges::find(kOfTensors, a.name) != kOfTensors.end();
    others += known ? 0 : 1;
    if (a.name != kGgmlAttribute || !by_name.contains(a.object)) continue;
    ++decoded;
    if (first == nullptr) first = &a;
  }
  if (decoded > 0) {
    out.push_back(fmt::format("the type {} of {} tensors, which become {}",
                              first->strings.empty() ? "" : first->strings[0], decoded,
                              dtype_name(by_name[first->object]->dtype)));
  }
  if (others > 0) out.push_back(fmt::format("{} entries of metadata", others));
  return out;
}

}  // namespace kvzip
