// SPDX-License-Identifier: Apache-2.0
#include "formats/llama.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "codec/fail.hpp"
#include "formats/llama_state.hpp"
#include "formats/placed.hpp"

namespace kvzip {
namespace {

/// Of a tensor whose elements are not in the file as they are.
struct Kept {
  Bytes bytes;
  const GgmlType* type = nullptr;
};

class LlamaReader final : public PlacedReader {
 public:
  explicit LlamaReader(InputFile file) : PlacedReader(std::move(file)) {
    const LlamaState state = read_llama_state(file_);
    add("token_ids", DType::i32, {state.tokens}, state.tokens_begin);
    for (std::size_t s = 0; s < state.streams.size(); ++s) {
      add_stream(state.streams[s], state.streams.size() == 1 ? std::string() : fmt::format("streams.{}.", s));
    }
    if (state.end < file_.size()) add("appendix", DType::u8, {file_.size() - state.end}, state.end);
    describe(state);
    place(std::move(found_), std::move(places_));
  }

  void read(const Slice& slice, std::span<std::byte> out) override {
    const Kept& kept = kept_.at(slice.tensor);
    if (kept.bytes.empty() && kept.type == nullptr) return PlacedReader::read(slice, out);
    check_slice(dump_, slice, out.size());
    const TensorInfo& info = dump_.tensors[slice.tensor];
    const std::size_t unit = slice_unit(info);
    for_each_run(info.shape, slice, [&](std::uint64_t from, std::uint64_t to, std::uint64_t count) {
      const std::span<std::byte> run = out.subspan(to * unit, count * unit);
      if (kept.type != nullptr) return decode(*kept.type, begins_[slice.tensor], from, run);
      std::memcpy(run.data(), kept.bytes.data() + from * unit, run.size());
    });
  }

 private:
  void add(std::string name, DType dtype, std::vector<std::uint64_t> shape, std::uint64_t begin, Kept kept = {}) {
    found_.tensors.push_back({std::move(name), dtype, std::move(shape)});
    places_.push_back(begin);
    kept_.push_back(std::move(kept));
  }

  void add_stream(const LlamaStream& stream, const std::string& prefix) {
    const std::uint64_t cells = stream.positions.size();
    const ByteView positions = std::as_bytes(std::span(stream.positions));
    if (cells > 0) add(prefix + "positions", DType::i32, {cells}, 0, {{positions.begin(), positions.end()}, nullptr});
    for (std::size_t layer = 0; layer < stream.keys.size(); ++layer) {
      add_rows(stream.keys[layer], fmt::format("{}layers.{}.key", prefix, layer), cells);
      if (layer < stream.values.size()) {
        add_rows(stream.values[layer], fmt::format("{}layers.{}.value", prefix, layer), cells);
      }
    }
  }

  void add_rows(const LlamaTensor& tensor, const std::string& name, std::uint64_t cells) {
    const GgmlType& type = *tensor.type;
    const std::vector<std::uint64_t> rows{cells, tensor.channels}, columns{tensor.channels, cells};
    found_.attributes.push_back({name, "axes", {tensor.transposed ? "CT" : "TC"}, {}, {}, {}});
    if (type.decode != nullptr) found_.attributes.push_back({name, "ggml_type", {std::string(type.name)}, {}, {}, {}});
    add(name, type.dtype, tensor.transposed ? columns : rows, tensor.begin,
        {{}, type.decode == nullptr ? nullptr : tensor.type});
  }

  void describe(const LlamaState& state) {
    const auto say = [&](std::string name, std::string value) {
      found_.attributes.push_back({"", std::move(name), {std::move(value)}, {}, {}, {}});
    };
    say("llama.cpp", fmt::format("{} {}", state.session ? "session" : "sequence", state.version));
    const auto rotation = [](const std::optional<std::uint32_t>& block) {
      return block ? fmt::to_string(*block) : std::string("unknown");
    };
    say("llama.cpp.rotated_keys", rotation(state.rotated_keys));
    say("llama.cpp.rotated_values", rotation(state.rotated_values));
    if (!state.architecture.empty()) say("llama.cpp.architecture", state.architecture);
    // The weights of this architecture are permuted so that rotary pairs are neighbours.
    if (state.architecture == "llama") say("rope_layout", "interleaved");
  }

  /// Elements from `from` on of a tensor that lies in blocks; a row is a whole number of them.
  void decode(const GgmlType& type, std::uint64_t begin, std::uint64_t from, std::span<std::byte> out) const {
    constexpr std::uint64_t kBlocks = 4096;  // at a time
    std::array<float, kGgmlBlock> values{};
    Bytes blocks;
    std::uint64_t done = 0, left = out.size() / sizeof(float);
    while (left > 0) {
      const std::uint64_t first = (from + done) / kGgmlBlock;
      const std::uint64_t last = std::min((from + done + left - 1) / kGgmlBlock + 1, first + kBlocks);
      blocks.resize((last - first) * type.bytes);
      file_.read_at(begin + first * type.bytes, blocks);
      for (std::uint64_t b = first; b < last; ++b) {
        type.decode(ByteView(blocks).subspan((b - first) * type.bytes, type.bytes), values);
        const std::uint64_t skip = from + done - b * kGgmlBlock;
        const std::uint64_t count = std::min(left, kGgmlBlock - skip);
        std::memcpy(out.data() + done * sizeof(float), values.data() + skip, count * sizeof(float));
        done += count;
        left -= count;
      }
    }
  }

  Dump found_;
  std::vector<std::uint64_t> places_;
  std::vector<Kept> kept_;  // by tensor
};

}  // namespace

std::unique_ptr<DumpReader> open_llama(InputFile file) {
  const std::string name = file.path();
  return in_file(name, [&] { return std::make_unique<LlamaReader>(std::move(file)); });
}

}  // namespace kvzip
