// SPDX-License-Identifier: Apache-2.0
// The memory stream is written piece by piece without marks (llama_kv_cache::state_write in llama.cpp), and whether
// cells carry an extension is not said: the lengths that are in use are tried, and every number must make sense.
#include "formats/llama_state.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <span>

#include "codec/fail.hpp"
#include "codec/limits.hpp"

namespace kvzip {
namespace {

/// What was tried does not fit the bytes.
struct Misfit {};

/// Numbers from front to back.
class Cursor {
 public:
  Cursor(const InputFile& file, std::uint64_t at) : file_(file), at_(at) {}
  std::uint64_t at() const { return at_; }
  std::uint64_t left() const { return file_.size() - at_; }

  template <typename T>
  T take() {
    if (left() < sizeof(T)) throw Misfit();
    if (at_ < from_ || at_ + sizeof(T) > from_ + buffer_.size()) fill();
    T value;
    std::memcpy(&value, buffer_.data() + (at_ - from_), sizeof value);
    at_ += sizeof value;
    return value;
  }
  void go_back(std::uint64_t at) { at_ = at; }
  void skip(std::uint64_t bytes) {
    if (left() < bytes) throw Misfit();
    at_ += bytes;
  }
  /// Passes over count items of `size` bytes; gives where they begin.
  std::uint64_t pass(std::uint64_t count, std::uint64_t size) {
    std::uint64_t bytes = 0;
    if (__builtin_mul_overflow(count, size, &bytes)) throw Misfit();
    const std::uint64_t begin = at_;
    skip(bytes);
    return begin;
  }

 private:
  void fill() {
    constexpr std::uint64_t kStep = 4096;
    from_ = at_;
    buffer_.resize(std::min(kStep, left()));
    file_.read_at(from_, buffer_);
  }

  const InputFile& file_;
  std::uint64_t at_, from_ = 0;
  Bytes buffer_;
};

void require(bool holds) {
  if (!holds) throw Misfit();
}

void read_cells(Cursor& in, std::uint32_t cells, std::uint32_t extension, LlamaStream& stream) {
  constexpr std::uint64_t kLeast = 8;  // bytes of a cell
  require(cells <= in.left() / kLeast);
  stream.cells_begin = in.at();
  stream.positions.reserve(cells);
  std::vector<std::int32_t> ids, own;
  bool alike = extension == 0;
  for (std::uint32_t i = 0; i < cells; ++i) {
    stream.positions.push_back(in.take<std::int32_t>());
    const auto sequences = in.take<std::uint32_t>();
    require(stream.positions.back() >= -1 && sequences <= limits::kLlamaSequences);
    in.skip(extension);
    own.clear();
    for (std::uint32_t s = 0; s < sequences; ++s) {
      own.push_back(in.take<std::int32_t>());
      require(own.back() >= 0 && static_cast<std::uint32_t>(own.back()) < limits::kLlamaSequences);
    }
    if (i == 0) ids = own;
    alike = alike && own == ids;
  }
  stream.cells_end = in.at();
  if (alike) stream.sequences = std::move(ids);
}

LlamaTensor read_rows(Cursor& in, std::uint64_t cells) {
  LlamaTensor tensor{.type = find_ggml_type(in.take<std::int32_t>())};
  const auto row = in.take<std::uint64_t>();
  require(tensor.type != nullptr && row > 0 && row % tensor.type->bytes == 0);
  tensor.channels = tensor.type->elements_in_row(row);
  tensor.begin = in.pass(cells, row);
  return tensor;
}

LlamaTensor read_columns(Cursor& in, std::uint64_t cells) {
  LlamaTensor tensor{.type = find_ggml_type(in.take<std::int32_t>()), .transposed = true};
  const auto element = in.take<std::uint32_t>();
  tensor.channels = in.take<std::uint32_t>();
  require(tensor.type != nullptr && tensor.type->decode == nullptr && element == tensor.type->bytes);
  require(tensor.channels > 0);
  tensor.begin = in.pass(tensor.channels, cells * element);
  return tensor;
}

/// What nothing in the file says.
struct Guess {
  std::uint32_t extension = 0;
  bool has_values = true;
};

LlamaStream read_stream(Cursor& in, const Guess& guess, bool states_rotation, LlamaMemory& memory) {
  LlamaStream stream;
  const auto cells = in.take<std::uint32_t>();
  if (cells == 0) return stream;
  read_cells(in, cells, guess.extension, stream);
  const auto transposed = in.take<std::uint32_t>(), layers = in.take<std::uint32_t>();
  require(transposed <= 1 && layers <= limits::kLlamaLayers);
  memory.transposed = transposed == 1;
  if (states_rotation) {
    memory.rotated_keys = in.take<std::uint32_t>();
    memory.rotated_values = in.take<std::uint32_t>();
    require(*memory.rotated_keys <= limits::kHeadDim && *memory.rotated_values <= limits::kHeadDim);
  }
  for (std::uint32_t i = 0; i < layers; ++i) stream.keys.push_back(read_rows(in, cells));
  for (std::uint32_t i = 0; i < layers && guess.has_values; ++i) {
    stream.values.push_back(transposed == 1 ? read_columns(in, cells) : read_rows(in, cells));
  }
  return stream;
}

LlamaMemory read_cache(Cursor& in, const Guess& guess, bool states_rotation) {
  LlamaMemory memory;
  memory.begin = in.at();
  const auto streams = in.take<std::uint32_t>();
  require(streams >= 1 && streams <= limits::kLlamaStreams);
  for (std::uint32_t i = 0; i < streams; ++i) {
    memory.streams.push_back(read_stream(in, guess, states_rotation, memory));
  }
  memory.end = in.at();
  return memory;
}

/// Of one kind and layer, a row for each cell.
struct RecurrentRows {
  std::int32_t type = 0;
  std::uint64_t row = 0, end = 0;
  std::uint64_t second = 0;  // bytes of a row of the second kind behind them; 0 = there are none
  bool like(const RecurrentRows& other) const { return type == other.type && row == other.row; }
};

const GgmlType* find_plain_type(std::int32_t code) {
  const GgmlType* type = find_ggml_type(code);
  return type != nullptr && type->decode == nullptr ? type : nullptr;
}

/// Behind the first rows of a layer may lie second ones, of the same type: what a convolution over per-layer embeddings
/// remembers. Of them only the size of a row is said, where a type would stand, and that is never such a small number.
std::vector<RecurrentRows> read_recurrent_rows(Cursor& in, std::uint32_t cells, std::size_t most) {
  std::vector<RecurrentRows> out;
  try {
    while (out.size() < most) {
      const std::uint64_t at = in.at();
      RecurrentRows rows{in.take<std::int32_t>()};
      if (const GgmlType* type = find_plain_type(rows.type)) {
        rows.row = in.take<std::uint64_t>();
        require(rows.row % type->bytes == 0);
        in.pass(cells, rows.row);
        rows.end = in.at();
        out.push_back(rows);
        continue;
      }
      require(!out.empty() && out.back().second == 0);
      in.go_back(at);
      const auto second = in.take<std::uint64_t>();
      require(second > 0 && second % find_plain_type(out.back().type)->bytes == 0);
      in.pass(cells, second);
      out.back().second = second;
    }
  } catch (const Misfit&) {  // what follows is something else
  }
  return out;
}

/// As many rows of the first kind as of the second, those of a kind alike, and second rows behind the first only.
bool are_recurrent(std::span<const RecurrentRows> rows) {
  const std::size_t layers = rows.size() / 2;
  std::uint64_t second = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (!rows[i].like(rows[i < layers ? 0 : layers])) return false;
    if (rows[i].second == 0 || i + 1 == rows.size()) continue;  // behind the last ones lies something else
    if (i >= layers || (second != 0 && rows[i].second != second)) return false;
    second = rows[i].second;
  }
  return true;
}

/// llama_memory_recurrent::state_write: cells, then rows of each of two kinds for every layer that has them, and how
/// many those are is not said.
LlamaMemory read_recurrent(Cursor& in) {
  LlamaMemory memory;
  memory.begin = in.at();
  const auto cells = in.take<std::uint32_t>();
  LlamaStream unused;
  read_cells(in, cells, 0, unused);
  require(in.take<std::uint32_t>() == 0);
  const auto layers = in.take<std::uint32_t>();
  require(layers >= 1 && layers <= limits::kLlamaLayers);
  const std::vector<RecurrentRows> rows = read_recurrent_rows(in, cells, 2 * std::size_t{layers});
  for (std::size_t count = rows.size() / 2; count > 0; --count) {
    if (!are_recurrent(std::span(rows).first(2 * count))) continue;
    memory.end = rows[2 * count - 1].end;
    in.go_back(memory.end);
    return memory;
  }
  throw Misfit();
}

/// Which memories a file may hold, by their letters: those of attention, window, recurrent and index.
constexpr std::array<std::string_view, 7> kPlans{"a", "aw", "ar", "awr", "ai", "ari", "r"};

bool has_cells(const LlamaMemory& memory) {
  return memory.kind == LlamaKind::recurrent ||
         std::ranges::any_of(memory.streams, [](const LlamaStream& stream) { return !stream.positions.empty(); });
}

/// Nothing where the plan or the guess does not fit.
std::optional<LlamaState> read_memories(const InputFile& file, std::uint64_t begin, const LlamaState& start,
                                        std::string_view plan, const Guess& guess) {
  constexpr std::string_view kLetters = "awri";
  const bool states_rotation = start.version == (start.session ? 11u : 4u);
  LlamaState state = start;
  Cursor in(file, begin);
  try {
    for (const char letter : plan) {
      const auto kind = static_cast<LlamaKind>(kLetters.find(letter));
      const Guess own{guess.extension, kind == LlamaKind::attention ? guess.has_values : kind == LlamaKind::window};
      state.memories.push_back(kind == LlamaKind::recurrent ? read_recurrent(in)
                                                            : read_cache(in, own, states_rotation));
      state.memories.back().kind = kind;
    }
  } catch (const Misfit&) {
    return std::nullopt;
  }
  state.end = in.at();
  // A model all of whose layers have windows has a first cache of cells without layers, and then a second one.
  const bool cells = std::ranges::any_of(state.memories, has_cells);
  const bool layers = std::ranges::any_of(state.memories, [](const LlamaMemory& memory) {
    return memory.kind == LlamaKind::recurrent || memory.layers() > 0;
  });
  // An empty cache is few bytes, which may be the beginning of something else.
  const bool sure = state.end == file.size() || plan.size() == 1 || has_cells(state.memories.back());
  return (cells && !layers) || !sure ? std::nullopt : std::optional(std::move(state));
}

/// A cache without values ends the file, or what follows is not the beginning of values that were cut.
bool ends_without_values(const InputFile& file, std::uint64_t at) {
  if (at == file.size()) return true;
  try {
    Cursor in(file, at);
    const GgmlType* type = find_ggml_type(in.take<std::int32_t>());
    const auto row = in.take<std::uint64_t>();
    if (type == nullptr) return true;
    const bool columns = static_cast<std::uint32_t>(row) == type->bytes;
    return !columns && (row == 0 || row % type->bytes != 0);
  } catch (const Misfit&) {
    return false;
  }
}

LlamaState read_start(Cursor& in) {
  LlamaState state;
  char magic[4];
  for (char& c : magic) c = in.take<char>();
  state.session = std::string_view(magic, sizeof magic) == kLlamaSession;
  state.version = in.take<std::uint32_t>();
  const std::uint32_t least = state.session ? 9 : 2, most = state.session ? 11 : 4;
  if (state.version < least || state.version > most) {
    fail(ErrorCode::unsupported, "a llama.cpp {} of version {}; this kvzip knows {} to {}",
         state.session ? "session" : "sequence", state.version, least, most);
  }
  state.tokens = in.take<std::uint32_t>();
  state.tokens_begin = in.pass(state.tokens, sizeof(std::int32_t));
  if (state.session && state.version >= 10) {
    const auto length = in.take<std::uint32_t>();
    require(length <= limits::kLlamaName);
    for (std::uint32_t i = 0; i < length; ++i) state.architecture += in.take<char>();
  }
  return state;
}

}  // namespace

LlamaState read_llama_state(const InputFile& file) {
  Cursor in(file, 0);
  LlamaState start;
  try {
    start = read_start(in);
  } catch (const Misfit&) {
    fail(ErrorCode::truncated, "a llama.cpp state that ends at byte {}, before its memory", file.size());
  }
  std::optional<LlamaState> best;  // that explains most of the file
  for (const bool has_values : {true, false}) {
    for (const std::uint32_t extension : {0u, 8u, 12u}) {
      for (const std::string_view plan : kPlans) {
        auto found = read_memories(file, in.at(), start, plan, {extension, has_values});
        if (!found) continue;
        if (found->end == file.size()) return std::move(*found);
        if (!has_values && plan == "a" && !ends_without_values(file, found->end)) continue;
        if (!best || found->end > best->end) best = std::move(found);
      }
    }
  }
  if (best) return std::move(*best);
  fail(ErrorCode::unsupported,
       "a llama.cpp {} whose memory is none that this kvzip knows (keys and values in f32, f16, bf16, q4_0, q4_1, "
       "q5_0, q5_1, q8_0 or iq4_nl, and recurrent states in the first three), or that was cut",
       start.session ? "session" : "sequence");
}

std::size_t LlamaMemory::layers() const {
  std::size_t most = 0;
  for (const LlamaStream& stream : streams) most = std::max(most, stream.keys.size());
  return most;
}

}  // namespace kvzip
