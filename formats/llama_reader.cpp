// SPDX-License-Identifier: Apache-2.0
#include "formats/llama.hpp"

#include <algorithm>
#include <cstring>

#include "codec/fail.hpp"
#include "formats/ggml_values.hpp"
#include "formats/llama_state.hpp"
#include "formats/placed.hpp"

namespace kvzip {
namespace {

std::string prefix_of(const LlamaMemory& memory, std::size_t stream) {
  const std::string_view kind = kLlamaPrefixes[static_cast<std::size_t>(memory.kind)];
  return memory.streams.size() == 1 ? std::string(kind) : fmt::format("{}streams.{}.", kind, stream);
}

std::string rotation(const std::optional<std::uint32_t>& block) {
  return block ? fmt::to_string(*block) : std::string("unknown");
}

class LlamaReader final : public PlacedReader {
 public:
  explicit LlamaReader(InputFile file) : PlacedReader(std::move(file)) {
    const LlamaState state = read_llama_state(file_);
    add("token_ids", DType::i32, {state.tokens}, state.tokens_begin);
    std::size_t layers = 0;
    for (const LlamaMemory& memory : state.memories) {
      for (std::size_t s = 0; s < memory.streams.size(); ++s) {
        add_stream(memory.streams[s], prefix_of(memory, s), layers);
      }
      layers += memory.layers();
    }
    for (const LlamaMemory& memory : state.memories) {
      for (std::size_t s = 0; s < memory.streams.size(); ++s) add_cells(memory.streams[s], prefix_of(memory, s));
      if (memory.kind == LlamaKind::recurrent) {
        add(std::string(kLlamaKinds[2]), DType::u8, {memory.end - memory.begin}, memory.begin);
      }
    }
    if (state.end < file_.size()) add("appendix", DType::u8, {file_.size() - state.end}, state.end);
    describe(state);
    place(std::move(found_), std::move(places_));
  }

  void read(const Slice& slice, std::span<std::byte> out) override {
    const Bytes& kept = kept_.at(slice.tensor);
    if (kept.empty()) return PlacedReader::read(slice, out);
    check_slice(dump_, slice, out.size());
    const std::size_t unit = slice_unit(dump_.tensors[slice.tensor]);
    for_each_run(dump_.tensors[slice.tensor].shape, slice,
                 [&](std::uint64_t from, std::uint64_t to, std::uint64_t count) {
                   std::memcpy(out.data() + to * unit, kept.data() + from * unit, count * unit);
                 });
  }

 private:
  void add(std::string name, DType dtype, std::vector<std::uint64_t> shape, std::uint64_t begin, Bytes kept = {}) {
    found_.tensors.push_back({std::move(name), dtype, std::move(shape)});
    places_.push_back(begin);
    kept_.push_back(std::move(kept));
  }

  /// Which layers of the model these are is not said: they are counted through all caches of the file.
  void add_stream(const LlamaStream& stream, const std::string& prefix, std::size_t first_layer) {
    const std::uint64_t cells = stream.positions.size();
    const ByteView positions = std::as_bytes(std::span(stream.positions));
    if (cells > 0) add(prefix + "positions", DType::i32, {cells}, 0, {positions.begin(), positions.end()});
    for (std::size_t layer = 0; layer < stream.keys.size(); ++layer) {
      const std::string name = fmt::format("{}layers.{}", prefix, first_layer + layer);
      add_rows(stream.keys[layer], name + ".key", cells);
      if (layer < stream.values.size()) add_rows(stream.values[layer], name + ".value", cells);
    }
  }

  void add_rows(const LlamaTensor& tensor, const std::string& name, std::uint64_t cells) {
    const GgmlType& type = *tensor.type;
    const bool blocks = type.decode != nullptr;
    const std::uint64_t row = blocks ? tensor.channels / kGgmlBlock * type.bytes : tensor.channels;
    const std::vector<std::uint64_t> rows{cells, row}, columns{row, cells};
    say(name, "axes", tensor.transposed ? "CT" : "TC");
    if (blocks) say(name, std::string(kGgmlAttribute), std::string(type.name));
    add(name, blocks ? DType::u8 : type.dtype, tensor.transposed ? columns : rows, tensor.begin);
  }

  /// Sequences that all cells have are a line of text; cells of other forms are kept as they are.
  void add_cells(const LlamaStream& stream, const std::string& prefix) {
    if (stream.positions.empty()) return;
    const std::string name = prefix + "cells";
    if (stream.sequences) {
      return say("", "llama.cpp." + prefix + "sequences",
                 stream.sequences->empty() ? "none" : fmt::format("{}", fmt::join(*stream.sequences, " ")));
    }
    say(name, "count", fmt::to_string(stream.positions.size()));
    add(name, DType::u8, {stream.cells_end - stream.cells_begin}, stream.cells_begin);
  }

  void say(std::string object, std::string name, std::string value) {
    found_.attributes.push_back({std::move(object), std::move(name), {std::move(value)}, {}, {}, {}});
  }

  void describe(const LlamaState& state) {
    const auto tell = [&](std::string name, std::string value) { say({}, std::move(name), std::move(value)); };
    tell("llama.cpp", fmt::format("{} {}", state.session ? "session" : "sequence", state.version));
    if (!state.architecture.empty()) tell("llama.cpp.architecture", state.architecture);
    std::string kinds;
    for (const LlamaMemory& memory : state.memories) {
      const auto kind = static_cast<std::size_t>(memory.kind);
      kinds += fmt::format("{}{}", kinds.empty() ? "" : " ", kLlamaKinds[kind]);
      if (memory.kind == LlamaKind::recurrent) continue;
      const std::string of = fmt::format("llama.cpp.{}", kLlamaPrefixes[kind]);
      tell(of + "rotated_keys", rotation(memory.rotated_keys));
      tell(of + "rotated_values", rotation(memory.rotated_values));
      tell(of + "layers", fmt::to_string(memory.layers()));
      const bool values = std::ranges::any_of(memory.streams, [](const LlamaStream& s) { return !s.values.empty(); });
      if (memory.layers() > 0 && !values) tell(of + "values", "none");
      if (memory.streams.size() > 1) tell(of + "streams", fmt::to_string(memory.streams.size()));
      if (memory.transposed) tell(of + "transposed", "1");
    }
    if (kinds != kLlamaKinds[0]) tell("llama.cpp.memories", kinds);
    // The weights of this architecture are permuted so that rotary pairs are neighbours.
    if (state.architecture == "llama") tell("rope_layout", "interleaved");
  }

  Dump found_;
  std::vector<std::uint64_t> places_;
  std::vector<Bytes> kept_;  // by tensor: elements that do not lie side by side in the file
};

}  // namespace

std::unique_ptr<DumpReader> open_llama(InputFile file) {
  const std::string name = file.path();
  return in_file(name, [&] { return std::make_unique<LlamaReader>(std::move(file)); });
}

}  // namespace kvzip
