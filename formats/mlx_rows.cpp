// SPDX-License-Identifier: Apache-2.0
#include "formats/mlx_rows.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "codec/limits.hpp"
#include "codec/number.hpp"
#include "formats/borrowed_reader.hpp"
#include "formats/left_out.hpp"
#include "formats/mlx_cache.hpp"
#include "formats/text.hpp"

namespace kvzip {
namespace {

using Count = MlxRows::Count;
constexpr const char* kOfAllTokens = "its state is of all tokens";

template <typename T>
std::vector<std::int64_t> widened(ByteView bytes) {
  std::vector<T> own(bytes.size() / sizeof(T));
  std::memcpy(own.data(), bytes.data(), bytes.size());
  return {own.begin(), own.end()};
}

template <typename T>
Bytes narrowed(const std::vector<std::int64_t>& values) {
  const std::vector<T> own(values.begin(), values.end());
  const ByteView bytes = std::as_bytes(std::span(own));
  return {bytes.begin(), bytes.end()};
}

/// What the caches of a dump say.
class CountReader {
 public:
  CountReader(DumpReader& reader, const MlxCache& mlx) : reader_(reader), mlx_(mlx) {}

  MlxRows read(const MlxPart& part) {
    MlxRows out;
    out.prefix = part.prefix;
    out.type = part.type;
    if (part.in_list && mlx_.has_scalars()) {
      const auto spelt = mlx_.tensor(part.named);
      out.type = spelt ? stated_class(reader_, *spelt) : std::string();
      if (out.type != part.type) {
        out.whole = kOfAllTokens;
        return out;
      }
    }
    const auto keys = mlx_.tensor(part.prefix + ".0");
    const bool rows = keys && reader_.dump().tensors[*keys].shape.size() == 4;
    if (part.type == "KVCache" || part.type == "ConcatenateKVCache") {
      if (rows) plain(out, extent(*keys));
    } else if (part.type == "RotatingKVCache") {
      if (rows) rotating(out, part, extent(*keys));
    } else if (part.type == "ChunkedKVCache") {
      if (rows) chunked(out, part, extent(*keys));
    } else if (part.type == "BatchKVCache") {
      if (rows) batch(out, extent(*keys));
    } else if (part.type.starts_with("Quantized")) {
      out.whole = "its keys and values are quantised";
      if (const auto end = end_of(out, 2)) out.used = static_cast<std::uint64_t>(*end);
    } else {
      out.whole = part.type.ends_with("RotatingKVCache") ? "its rows are a ring" : kOfAllTokens;
    }
    return out;
  }

 private:
  std::uint64_t extent(std::size_t keys) const { return reader_.dump().tensors[keys].shape[2]; }

  /// An array of integers, from 0.32 on.
  std::optional<Count> array(const MlxRows& cache, unsigned place, Count::Is is) {
    const auto found = mlx_.tensor(fmt::format("{}.{}", cache.prefix, place));
    if (!mlx_.has_scalars() || !found) return std::nullopt;
    const TensorInfo& info = reader_.dump().tensors[*found];
    const bool integers = info.dtype == DType::i32 || info.dtype == DType::i64;
    if (!integers || info.shape.size() > 1 || info.elements() == 0 || info.elements() > limits::kMlxEntries) return {};
    Bytes bytes(info.bytes());
    reader_.read({*found, std::vector<std::uint64_t>(info.shape.size(), 0), info.shape}, bytes);
    Count out{info.name, false, is,
              info.dtype == DType::i32 ? widened<std::int32_t>(bytes) : widened<std::int64_t>(bytes)};
    const auto odd = [](std::int64_t v) { return v < 0 || v > limits::kMlxPosition; };
    return std::ranges::any_of(out.values, odd) ? std::nullopt : std::optional(std::move(out));
  }

  /// Text K of what a cache says of itself, to 0.31.
  std::optional<Count> text(const MlxPart& part, unsigned place, Count::Is is) const {
    if (mlx_.has_scalars()) return std::nullopt;
    const std::string name = fmt::format("{}.{}", part.said, place);
    const auto value =
        parse_number<std::int64_t>(mlx_.text(name).value_or(std::string_view()), 0, limits::kMlxPosition);
    return value ? std::optional(Count{name, true, is, {*value}}) : std::nullopt;
  }

  std::optional<std::int64_t> end_of(MlxRows& out, unsigned place) {
    auto count = array(out, place, Count::Is::end);
    if (!count || count->values.size() != 1) return std::nullopt;
    const std::int64_t value = count->values[0];
    if (out.whole.empty()) out.counts.push_back(std::move(*count));
    return value;
  }

  /// To 0.31, and with a class that keeps no more than it uses, all rows count.
  void plain(MlxRows& out, std::uint64_t rows) {
    const auto end = end_of(out, 2);
    out.first = 0;
    out.used = end ? std::min(rows, static_cast<std::uint64_t>(*end)) : rows;
  }

  void chunked(MlxRows& out, const MlxPart& part, std::uint64_t rows) {
    const auto end = end_of(out, 2);
    auto start = mlx_.has_scalars() ? array(out, 4, Count::Is::start) : text(part, 1, Count::Is::start);
    if (!start || start->values.size() != 1) return;
    const auto first = static_cast<std::uint64_t>(start->values[0]);
    out.first = first;
    const std::uint64_t last = end ? static_cast<std::uint64_t>(*end) : first + rows;
    out.used = std::min(rows, last - std::min(last, first));
    out.counts.push_back(std::move(*start));
  }

  /// Rows are in the order of time until there are more tokens than rows; then the oldest, but for `keep`, are
  /// overwritten.
  void rotating(MlxRows& out, const MlxPart& part, std::uint64_t rows) {
    const bool now = mlx_.has_scalars();
    // Five numbers to 0.28, the third of which is the step by which it grows, and four to 0.31.
    const unsigned step = text(part, 4, Count::Is::end) ? 1 : 0;
    auto end = now ? array(out, 2, Count::Is::end) : text(part, 2 + step, Count::Is::end);
    auto next = now ? array(out, 5, Count::Is::end) : text(part, 3 + step, Count::Is::end);
    auto keep = now ? array(out, 3, Count::Is::start) : text(part, 0, Count::Is::start);
    for (const std::optional<Count>* count : {&end, &next, &keep}) {
      if (!*count || (*count)->values.size() != 1) return;
    }
    const auto offset = static_cast<std::uint64_t>(end->values[0]);
    out.counts.push_back(std::move(*end));
    if (offset <= rows) {
      out.first = 0;
      out.used = offset;
      out.counts.push_back(std::move(*next));
      return;
    }
    if (rows == 0) return;
    out.first = offset - rows;
    out.used = rows;
    out.whole = "its rows are a ring that is full";
    const std::int64_t oldest = next->values[0] % static_cast<std::int64_t>(rows);
    if (keep->values[0] == 0 && oldest >= 0) out.turn = static_cast<std::uint64_t>(oldest);
    out.mixed = keep->values[0] != 0 || oldest != 0;
    out.least = keep->values[0] > 0 ? 0 : offset - rows;
  }

  void batch(MlxRows& out, std::uint64_t rows) {
    auto ends = array(out, 2, Count::Is::end), next = array(out, 4, Count::Is::end);
    const auto left = array(out, 3, Count::Is::start);
    if (!ends || !next || next->values.size() != 1 || !left) {
      out.whole = "its entries begin at different rows";
      return;
    }
    out.first = 0;
    out.used = std::min(rows, static_cast<std::uint64_t>(next->values[0]));
    if (std::ranges::any_of(left->values, [](std::int64_t v) { return v != 0; })) {
      out.whole = "its entries begin at different rows";
    }
    out.counts = {std::move(*ends), std::move(*next)};
  }

  DumpReader& reader_;
  const MlxCache& mlx_;
};

/// Keys and values, which are cut by their rows, or a number. What else a cache holds is of tokens that nothing tells.
bool follows_tokens(const MlxRows& cache, const TensorInfo& info) {
  const std::string_view array = std::string_view(info.name).substr(cache.prefix.size());
  if (array != ".0" && array != ".1") return info.shape.size() < 2;
  return info.shape.size() == 4 || std::ranges::find(info.shape, 0u) != info.shape.end();
}

std::int64_t moved(std::int64_t value, Count::Is is, const std::pair<std::uint64_t, std::uint64_t>& tokens) {
  auto position = static_cast<std::uint64_t>(value);
  if (is == Count::Is::end) position = std::min(position, tokens.second);
  return static_cast<std::int64_t>(position - std::min(position, tokens.first));
}

class MlxCounts final : public BorrowedReader, public LeavesOut {
 public:
  MlxCounts(std::unique_ptr<DumpReader> rest, const std::vector<MlxRows>& caches,
            const std::pair<std::uint64_t, std::uint64_t>& tokens)
      : BorrowedReader(*rest), rest_(std::move(rest)), dump_(rest_->dump()) {
    std::map<std::string_view, const Count*> counts;
    for (const MlxRows& cache : caches) {
      for (const Count& count : cache.counts) counts.emplace(count.name, &count);
    }
    const auto values_of = [&](const Count& count) {
      std::vector<std::int64_t> out;
      for (const std::int64_t value : count.values) out.push_back(moved(value, count.is, tokens));
      return out;
    };
    for (std::size_t t = 0; t < dump_.tensors.size(); ++t) {
      const TensorInfo& info = dump_.tensors[t];
      const auto found = counts.find(info.name);
      if (found == counts.end() || found->second->attribute) continue;
      const auto values = values_of(*found->second);
      Bytes bytes = info.dtype == DType::i32 ? narrowed<std::int32_t>(values) : narrowed<std::int64_t>(values);
      if (bytes.size() == info.bytes()) arrays_.emplace(t, std::move(bytes));
    }
    for (Attribute& a : dump_.attributes) {
      const auto found = counts.find(a.name);
      if (!a.object.empty() || found == counts.end() || !found->second->attribute) continue;
      a.strings = {fmt::to_string(values_of(*found->second)[0])};
    }
  }

  const Dump& dump() const override { return dump_; }
  void expand(Part& part) const override {
    rest_->expand(part);
    for (std::size_t i = 0; i < part.slices.size(); ++i) put(part.slices[i], part.data[i]);
  }
  void read(const Slice& slice, std::span<std::byte> out) override {
    rest_->read(slice, out);
    put(slice, out);
  }
  std::vector<std::string> left_out() const override { return left_out_of(*rest_); }

 private:
  void put(const Slice& slice, std::span<std::byte> out) const {
    const auto found = arrays_.find(slice.tensor);
    if (found == arrays_.end()) return;
    const std::size_t unit = slice_unit(dump_.tensors[slice.tensor]), from = slice.start.empty() ? 0 : slice.start[0];
    std::memcpy(out.data(), found->second.data() + from * unit, out.size());
  }

  std::unique_ptr<DumpReader> rest_;
  Dump dump_;
  std::map<std::size_t, Bytes> arrays_;  // by tensor: what is read in its place
};

}  // namespace

std::vector<MlxRows> mlx_rows(DumpReader& reader) {
  std::vector<MlxRows> out;
  if (reader.traits().once) return out;
  const MlxCache mlx(reader.dump());
  if (!mlx.present()) return out;
  CountReader counts(reader, mlx);
  for (const MlxPart& part : mlx.parts()) out.push_back(counts.read(part));
  const std::vector<TensorInfo>& tensors = reader.dump().tensors;
  for (std::size_t t = 0; t < tensors.size(); ++t) {
    const auto part = mlx.part_of(tensors[t].name);
    if (!part || !tensors[t].name.starts_with(out[*part].prefix + ".")) continue;
    MlxRows& cache = out[*part];
    cache.tensors.push_back(t);
    if (cache.whole.empty() && !follows_tokens(cache, tensors[t])) {
      cache.whole = "it has other arrays than keys and values of four axes";
    }
  }
  return out;
}

std::uint64_t mlx_end(const std::vector<MlxRows>& caches) {
  std::uint64_t end = 0;
  for (const MlxRows& cache : caches) end = std::max(end, cache.first.value_or(0) + cache.used);
  return end;
}

std::unique_ptr<DumpReader> with_mlx_counts(std::unique_ptr<DumpReader> reader, const std::vector<MlxRows>& caches,
                                            std::pair<std::uint64_t, std::uint64_t> tokens) {
  if (std::ranges::all_of(caches, [](const MlxRows& cache) { return cache.counts.empty(); })) return reader;
  return std::make_unique<MlxCounts>(std::move(reader), caches, tokens);
}

}  // namespace kvzip
