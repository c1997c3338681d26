// SPDX-License-Identifier: Apache-2.0
// Runs matrices through pipelines and containers, for comparison with the reference.
#pragma once

#include <fmt/format.h>

#include <doctest/doctest.h>

#include <cstring>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "codec/pipeline.hpp"
#include "formats/kvz/kvz.hpp"
#include "kvzip/error.hpp"
#include "tests/contract/reference.hpp"
#include "tests/support/memory_dump.hpp"
#include "tests/unit/scratch_directory.hpp"

namespace kvzip::test {

using reference::Format;
using reference::Matrix;

inline const Format& format_of(DType dtype) {
  switch (dtype) {
    case DType::f16:
      return reference::kHalf;
    case DType::bf16:
      return reference::kBfloat;
    case DType::f32:
      return reference::kSingle;
    default:
      return reference::kDouble;
  }
}

inline Bytes elements_of(const std::vector<float>& values, DType dtype) {
  const Format& f = format_of(dtype);
  const auto unit = static_cast<std::size_t>(f.width / 8);
  Bytes bytes(values.size() * unit);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::uint64_t bits = reference::bits_of(double{values[i]}, f);
    std::memcpy(bytes.data() + i * unit, &bits, unit);
  }
  return bytes;
}
inline std::vector<float> values_of(ByteView bytes, DType dtype) {
  const Format& f = format_of(dtype);
  const auto unit = static_cast<std::size_t>(f.width / 8);
  std::vector<float> values(bytes.size() / unit);
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::uint64_t bits = 0;
    std::memcpy(&bits, bytes.data() + i * unit, unit);
    values[i] = static_cast<float>(reference::value_of(bits, f));
  }
  return values;
}

/// The pipeline a preset gives to a layer.
inline std::string preset_text(std::string_view name, Role role, std::uint32_t layer = 0, std::uint32_t layers = 32) {
  for (const Rule& rule : RuleSet::builtin(name).rules) {
    if (rule.matches(role, layer, layers)) return rule.pipeline;
  }
  return {};
}

inline TileContext context_of(const Matrix& m, Role role, DType dtype) {
  TileContext c;
  c.role = role;
  c.layers = 1;
  c.heads = static_cast<std::uint32_t>(m.heads);
  c.head_dim = static_cast<std::uint32_t>(m.dim);
  c.total_tokens = m.rows;
  c.source = dtype;
  return c;
}
inline TileShape shape_of(const Matrix& m) {
  return {static_cast<std::uint32_t>(m.rows), static_cast<std::uint32_t>(m.cols()), 0, true, true};
}

struct Decoded {
  std::vector<float> values;
  Bytes elements;
  std::size_t payload = 0;
  FrameSizes sizes;
};
/// Elements of one tile through a pipeline and back.
inline Decoded through_pipeline(const std::string& text, Role role, const Matrix& m, DType dtype,
                                const Bytes& elements) {
  Pipeline pipeline = Pipeline::parse(text);
  const TileContext context = context_of(m, role, dtype);
  pipeline.resolve(context, shape_of(m));
  const Bytes payload = pipeline.encode(context, shape_of(m), elements);
  Decoded out;
  out.elements.resize(elements.size());
  pipeline.decode(context, shape_of(m), payload, out.elements);
  out.values = values_of(out.elements, dtype);
  out.payload = payload.size();
  out.sizes =
      Pipeline::sizes(ByteView(payload).first(std::min(payload.size(), Pipeline::kDirectoryBytes)), payload.size());
  return out;
}
inline Decoded through_pipeline(const std::string& text, Role role, const Matrix& m, DType dtype) {
  return through_pipeline(text, role, m, dtype, elements_of(m.v, dtype));
}

/// Keys and values of one layer.
struct Layer {
  Matrix key, value;
};

/// [1, heads, tokens, head_dim] from tokens x channels, and back.
inline std::vector<float> head_first(const Matrix& m) {
  std::vector<float> out(m.v.size());
  for (std::size_t r = 0; r < m.rows; ++r) {
    for (std::size_t c = 0; c < m.cols(); ++c) out[(c / m.dim * m.rows + r) * m.dim + c % m.dim] = m.at(r, c);
  }
  return out;
}
inline Matrix token_first(const std::vector<float>& x, const Matrix& like) {
  Matrix out{like.rows, like.heads, like.dim, std::vector<float>(x.size())};
  for (std::size_t r = 0; r < like.rows; ++r) {
    for (std::size_t c = 0; c < like.cols(); ++c)
      out.at(r, c) = x[(c / like.dim * like.rows + r) * like.dim + c % like.dim];
  }
  return out;
}

/// K and V of `layers` layers as tensors of [1, heads, tokens, head_dim].
inline Dump dump_like(const Matrix& m, std::size_t layers, DType dtype) {
  Dump dump;
  for (std::size_t l = 0; l < layers; ++l) {
    for (const char* role : {"key", "value"}) {
      dump.tensors.push_back({fmt::format("past_key_values.{}.{}", l, role), dtype, {1, m.heads, m.rows, m.dim}});
    }
  }
  return dump;
}
/// Writes a container; `element_bytes(tensor)` gives a tensor's elements. Returns the file's size.
template <typename F>
std::uint64_t write_container(const std::string& path, std::string_view preset, const Dump& dump, F&& element_bytes,
                              std::optional<std::uint64_t> chunk_tokens = std::nullopt) {
  // With no more tokens than heads the shape alone is ambiguous.
  const Recognition recognition = recognise(dump, {.map = {}, .layout = "BHTD"});
  REQUIRE(recognition.recognised == dump.tensors.size());
  MemoryReader source(dump, std::uint64_t{1} << 20);
  for (std::size_t i = 0; i < dump.tensors.size(); ++i) source.data(i) = element_bytes(i);
  const auto writer = create_kvz_writer(path, dump, recognition, {RuleSet::builtin(preset), chunk_tokens, {}}, false);
  transcode(source, *writer, 2);
  writer->finish();
  return std::filesystem::file_size(path);
}

/// A layer through a .kvz file and back.
inline Layer through_file(std::string_view preset, const Layer& layer, DType dtype,
                          std::optional<std::uint64_t> chunk_tokens = std::nullopt) {
  const ScratchDirectory scratch;
  const std::string path = scratch.file("cache.kvz");
  const auto matrix = [&](std::size_t tensor) -> const Matrix& { return tensor == 0 ? layer.key : layer.value; };
  const auto elements = [&](std::size_t tensor) { return elements_of(head_first(matrix(tensor)), dtype); };
  write_container(path, preset, dump_like(layer.key, 1, dtype), elements, chunk_tokens);
  const auto reader = open_kvz(path);
  const auto tensor = [&](std::size_t index) {
    const TensorInfo& info = reader->dump().tensors.at(index);
    Bytes bytes(info.bytes());
    if (!bytes.empty()) reader->read({index, {0, 0, 0, 0}, info.shape}, bytes);
    return token_first(values_of(bytes, dtype), matrix(index));
  };
  return {tensor(0), tensor(1)};
}

/// Places where two vectors differ in value; 0 and -0 are equal.
inline std::size_t differences(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  std::size_t count = 0;
  for (std::size_t i = 0; i < a.size(); ++i) count += !(a[i] == b[i]);
  return count;
}

inline double squared_error(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
  return sum;
}

}  // namespace kvzip::test
