// SPDX-License-Identifier: Apache-2.0
// A frame's payload: elements through the stages to streams and bytes, and back. Layout in man/kvz.5, "Frame payload".
#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "codec/bytes.hpp"
#include "codec/fail.hpp"
#include "codec/frame_streams.hpp"
#include "codec/kernels/rows.hpp"
#include "codec/limits.hpp"
#include "codec/pipeline.hpp"
#include "codec/specials.hpp"
#include "codec/stage_clock.hpp"

namespace kvzip {
namespace {

constexpr std::size_t kBlock = 4096;  // values converted and checked while they are in the first cache

/// Elements to the tile's floats. Non-finite values leave it before any stage sees it; their place takes the channel's
/// last finite value, or 0.
std::vector<std::size_t> load(Tile& tile, ByteView elements, StageClock* clock) {
  const StageTime time(clock, StageClock::kConvert);
  const std::size_t unit = dtype_unit(tile.context->source), values = tile.values.size();
  float* v = tile.values.data();
  std::vector<std::size_t> at;
  float largest = 0;
  for (std::size_t i = 0; i < values; i += kBlock) {
    const std::size_t n = std::min(kBlock, values - i);
    to_float(tile.context->source, elements.subspan(i * unit, n * unit), {v + i, n});
    float magnitude = kernels::largest_magnitude(v + i, n);
    if (!std::isfinite(magnitude)) {
      for (std::size_t j = i; j < i + n; ++j) {
        if (std::isfinite(v[j])) continue;
        at.push_back(j);
        v[j] = j >= tile.shape.cols ? v[j - tile.shape.cols] : 0.0f;
      }
      magnitude = kernels::largest_magnitude(v + i, n);
    }
    largest = std::max(largest, magnitude);
  }
  take_strays(tile.values, tile.shape.cols, largest, at);
  return at;
}

/// Arithmetic on values near the largest float may overflow inside a stage. The next one sees finite values only: the
/// largest float after a transform, nothing left to approximate after a part that is added back.
void keep_finite(std::span<float> values, bool additive) {
  if (kernels::all_finite(values.data(), values.size())) return;
  for (float& v : values) {
    if (!std::isfinite(v)) v = additive || std::isnan(v) ? 0.0f : std::copysign(dtype_max(DType::f32), v);
  }
}

/// What was decoded to elements. Arithmetic on hostile or extreme numbers may leave the finite range; what is stored
/// stays inside it.
void save(Tile& tile, std::span<std::byte> elements, StageClock* clock) {
  const StageTime time(clock, StageClock::kConvert);
  const std::size_t unit = dtype_unit(tile.context->source), values = tile.values.size();
  for (std::size_t i = 0; i < values; i += kBlock) {
    const std::span<float> block(tile.values.data() + i, std::min(kBlock, values - i));
    keep_finite(block, false);
    from_float(tile.context->source, block, elements.subspan(i * unit, block.size() * unit));
  }
}

}  // namespace

Bytes Pipeline::raw(ByteView elements) {
  Bytes payload;
  payload.reserve(elements.size() + 1);
  payload.push_back(std::byte{kRaw});
  payload.insert(payload.end(), elements.begin(), elements.end());
  return payload;
}

Bytes Pipeline::encode(const TileContext& context, TileShape shape, ByteView elements, const Chain* chain,
                       StageClock* clock, std::span<const float> saliency) const {
  const StageTime time(clock, StageClock::kFrame);
  Chain fresh;
  if (chain == nullptr) chain = &(fresh = begin_chain());
  Bytes payload = exact() ? encode_exact(context, shape, elements, clock)
                          : encode_floats(context, shape, elements, saliency, *chain, clock);
  const std::uint64_t least = std::max(limits::least_payload(std::uint64_t{shape.rows} * shape.cols),
                                       limits::earning_payload(work(context, shape), elements.size()));
  if (payload.size() < least) payload.resize(least);
  if (payload.size() >= elements.size() + 1) return raw(elements);
  return payload;
}

Bytes Pipeline::encode_exact(const TileContext& context, TileShape shape, ByteView elements, StageClock* clock) const {
  const StageTime stage_time(clock, 0);
  std::vector<Stream> streams;
  StreamWriter writer(streams);
  exact_->encode({context.source, shape.rows, shape.cols, context.head_dim}, elements, writer);
  FrameDirectory directory(clock);
  for (const Stream& s : streams) directory.add(0, s, *coder_.part);
  ByteWriter out;
  out.put(std::uint8_t{0});
  out.put_varint(0);
  directory.write(out);
  return std::move(out.bytes());
}

std::vector<Table> Pipeline::fit_tables(const TileContext& context, std::span<const SampleTile> tiles,
                                        std::string_view name) const {
  std::vector<Table> tables;
  const Chain empty = begin_chain();  // as if each sample stood at a restart point
  for (std::size_t i = 0; i < stages_.size(); ++i) {
    if (stages_[i]->lacks_table() != kFittedTable) continue;
    std::optional<Tile> all;  // the rows that the stage will see
    for (const SampleTile& sample : tiles) {
      Tile tile(context, sample.shape);
      load(tile, sample.elements, nullptr);
      for (std::size_t before = 0; before < i; ++before) {
        std::vector<Stream> streams;
        StreamWriter writer(streams);
        EncodeContext to{writer};
        to.state = empty.states[before].get();
        stages_[before]->encode(tile, to);
        keep_finite(tile.values, stages_[before]->kind() == StageKind::additive);
      }
      if (!all) {
        all = std::move(tile);
        continue;
      }
      all->values.insert(all->values.end(), tile.values.begin(), tile.values.end());
      all->shape.rows += tile.shape.rows;
    }
    if (!all || all->values.empty()) continue;
    all->taken.clear();
    tables.push_back(stages_[i]->fit_table(*all));
    tables.back().name = table_name(name, i);
  }
  return tables;
}

Bytes Pipeline::encode_floats(const TileContext& context, TileShape shape, ByteView elements,
                              std::span<const float> saliency, const Chain& chain, StageClock* clock) const {
  Tile source(context, shape);
  source.saliency.assign(saliency.begin(), saliency.end());
  const std::vector<std::size_t> specials = load(source, elements, clock);
  std::uint64_t trials = 0;
  for (std::size_t i = 0; i < stages_.size(); ++i) trials |= static_cast<std::uint64_t>(stages_[i]->trial()) << i;

  Bytes best;
  // Every combination of optional stages; a pipeline has one or two of them, so this is two or four encodings.
  for (std::uint64_t left_out = trials;; left_out = (left_out - 1) & trials) {
    Tile tile = left_out == 0 ? std::move(source) : source;  // NOLINT(bugprone-use-after-move): the last use
    ByteWriter out;
    out.put(std::uint8_t{0});
    out.put_varint(left_out);
    FrameDirectory directory(clock);
    if (!specials.empty()) {
      directory.add_plain(kSpecials, StreamLabel::exact, {},
                          specials_bytes(specials, elements, dtype_unit(context.source)));
    }
    for (std::size_t i = 0; i < stages_.size(); ++i) {
      if ((left_out >> i & 1) != 0) continue;
      std::vector<Stream> streams;
      StreamWriter writer(streams);
      const bool ends = stages_[i]->ends(context, tile.shape);
      EncodeContext to{writer, i + 1 < stages_.size() && !ends};  // the last one is never left out
      to.state = chain.states[i].get();
      {
        const StageTime time(clock, i);
        stages_[i]->encode(tile, to);
      }
      if (to.wanted && !to.finite) keep_finite(tile.values, stages_[i]->kind() == StageKind::additive);
      for (const Stream& s : streams) directory.add(static_cast<std::uint8_t>(i), s, *coder_.part);
      if (ends) break;
    }
    directory.write(out);
    if (best.empty() || out.size() < best.size()) best = std::move(out.bytes());
    if (left_out == 0) return best;
  }
}

void Pipeline::decode(const TileContext& context, TileShape shape, ByteView payload, std::span<std::byte> elements,
                      Chain* chain, StageClock* clock) const {
  const StageTime time(clock, StageClock::kFrame);
  const std::uint64_t values = std::uint64_t{shape.rows} * shape.cols;
  if (values > limits::kFrameValues) fail(ErrorCode::limit, "a frame of {} values", values);
  if (payload.size() < limits::least_payload(values)) fail(ErrorCode::truncated, "a frame is too short for its values");
  ByteReader in(payload);
  const auto flags = in.get<std::uint8_t>();
  if (flags == kRaw) {
    if (in.left() != elements.size()) fail(ErrorCode::corrupt, "a raw frame of {} bytes", in.left());
    std::memcpy(elements.data(), in.take(elements.size()).data(), elements.size());
    if (chain != nullptr) *chain = begin_chain();
    return;
  }
  if (flags != 0) fail(ErrorCode::corrupt, "unknown frame flags {}", flags);
  const std::uint64_t left_out = in.get_varint();
  for (std::size_t i = 0; i < 64; ++i) {
    if ((left_out >> i & 1) != 0 && (i >= stages_.size() || !stages_[i]->trial())) {
      fail(ErrorCode::corrupt, "a stage is left out that cannot be");
    }
  }
  FrameStreams streams(in, *coder_.part, clock);
  if (exact()) {
    const StageTime stage_time(clock, 0);
    exact_->decode({context.source, shape.rows, shape.cols, context.head_dim}, streams, elements);
  } else {
    Chain fresh;
    if (chain == nullptr) chain = &(fresh = begin_chain());
    decode_floats(context, shape, left_out, streams, elements, *chain, clock);
  }
  if (const ByteView specials = streams.take_specials(); !specials.empty()) {
    restore_specials(specials, dtype_unit(context.source), elements);
  }
  streams.finish();
  expect_padding(in);
}

void Pipeline::decode_floats(const TileContext& context, TileShape shape, std::uint64_t left_out, FrameStreams& streams,
                             std::span<std::byte> elements, Chain& chain, StageClock* clock) const {
  std::vector<TileShape> shapes{shape};
  bool ended = false;
  for (std::size_t i = 0; i < stages_.size(); ++i) {
    if (ended) left_out |= std::uint64_t{1} << i;
    const bool used = (left_out >> i & 1) == 0;
    ended = ended || (used && stages_[i]->ends(context, shapes.back()));
    shapes.push_back(used ? stages_[i]->output(context, shapes.back()) : shapes.back());
  }
  Tile tile(context, shapes.back());
  DecodeContext from{streams, true};
  for (std::size_t i = stages_.size(); i-- > 0;) {
    if ((left_out >> i & 1) != 0) {
      if (chain.states[i] != nullptr) chain.states[i] = stages_[i]->begin_chain();
      continue;
    }
    streams.select(i);
    from.state = chain.states[i].get();
    if (from.blank && !stages_[i]->begins()) {
      std::fill(tile.values.begin(), tile.values.end(), 0.0f);
      from.blank = false;
    }
    try {
      const StageTime stage_time(clock, i);
      stages_[i]->decode(tile, shapes[i], from);
    } catch (Error& e) {
      e.add_where(fmt::format("stage '{}'", stages_[i].row->name));
      throw;
    }
    from.blank = false;
  }
  save(tile, elements, clock);
}

FrameSizes Pipeline::sizes(ByteView front, std::uint64_t payload_bytes) {
  FrameSizes sizes;
  ByteReader in(front);
  const auto flags = in.get<std::uint8_t>();
  if (flags == kRaw) {
    sizes.raw = true;
    sizes.bytes[static_cast<std::size_t>(StreamLabel::exact)] = payload_bytes;
    return sizes;
  }
  in.get_varint();
  std::uint64_t named = 0;
  for (const FrameEntry& e : read_directory(in)) {
    sizes.bytes[static_cast<std::size_t>(e.label)] += e.body_size;
    sizes.bytes[static_cast<std::size_t>(StreamLabel::tables)] += e.table_size;
    for (const std::uint64_t size : {e.body_size, e.table_size}) {
      if (size > payload_bytes - named) fail(ErrorCode::corrupt, "streams longer than their frame");
      named += size;
    }
  }
  sizes.bytes[static_cast<std::size_t>(StreamLabel::flags)] += payload_bytes - named;
  return sizes;
}

}  // namespace kvzip
