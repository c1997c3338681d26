// SPDX-License-Identifier: Apache-2.0
// A frame's payload: elements through the stages to streams and bytes, and back. Layout in man/kvz.5, "Frame payload".
#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "codec/bytes.hpp"
#include "codec/fail.hpp"
#include "codec/kernels/rows.hpp"
#include "codec/limits.hpp"
#include "codec/pipeline.hpp"
#include "codec/specials.hpp"
#include "codec/stage_clock.hpp"

namespace kvzip {
namespace {

constexpr std::uint8_t kRaw = 1;  // flags: the payload holds the elements themselves
constexpr std::uint8_t kSpecials =
    15;  // directory: the stage number of the stream of NaN, infinities and values beyond float

/// One stream's place in the directory.
struct Entry {
  std::uint8_t stage;
  StreamLabel label;
  std::uint64_t table_size, body_size;
};

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

class Directory {
 public:
  explicit Directory(StageClock* clock) : clock_(clock) {}
  void add(std::uint8_t stage, const Stream& stream, const Coder& coder) {
    const StageTime time(clock_, StageClock::kCoder);
    Bytes table, body;
    coder.encode(stream, table, body);
    add_plain(stage, stream.label, std::move(table), std::move(body));
  }
  void add_plain(std::uint8_t stage, StreamLabel label, Bytes table, Bytes body) {
    size_ += table.size() + body.size();
    entries_.push_back({stage, label, table.size(), body.size()});
    bodies_.push_back(std::move(table));
    bodies_.push_back(std::move(body));
  }
  void write(ByteWriter& out) const {
    constexpr std::size_t kMostOfEntry = 1 + 2 * 10;
    out.bytes().reserve(out.size() + 10 + entries_.size() * kMostOfEntry + size_);
    out.put_varint(entries_.size());
    for (const Entry& e : entries_) {
      out.put(static_cast<std::uint8_t>(e.stage << 4 | static_cast<std::uint8_t>(e.label)));
      out.put_varint(e.table_size);
      out.put_varint(e.body_size);
    }
    for (const Bytes& body : bodies_) out.put_bytes(body);
  }

 private:
  StageClock* clock_;
  std::vector<Entry> entries_;
  std::vector<Bytes> bodies_;  // table and body of each entry
  std::size_t size_ = 0;       // of all of them
};

std::vector<Entry> read_directory(ByteReader& in) {
  const std::uint64_t count = in.get_varint();
  if (count > limits::kStreams) fail(ErrorCode::corrupt, "a frame of {} streams", count);
  std::vector<Entry> entries(count);
  for (Entry& e : entries) {
    const auto tag = in.get<std::uint8_t>();
    e.stage = tag >> 4;
    e.label = static_cast<StreamLabel>(tag & 15);
    if ((tag & 15) >= kStreamLabels) fail(ErrorCode::corrupt, "unknown stream label {}", tag & 15);
    e.table_size = in.get_varint();
    e.body_size = in.get_varint();
  }
  return entries;
}

void expect_padding(ByteReader& in) {
  for (const std::byte b : in.take(in.left())) {
    if (b != std::byte{0}) fail(ErrorCode::corrupt, "padding that is not zero");
  }
}

}  // namespace

/// Hands a stage its streams, in order.
class FrameStreams final : public StreamReader {
 public:
  FrameStreams(ByteReader& in, const Coder& coder, StageClock* clock) : coder_(coder), clock_(clock) {
    for (const Entry& e : read_directory(in)) parts_.push_back({e, {}, {}, false});
    for (Part& p : parts_) {
      p.table = in.take(p.entry.table_size);
      p.body = in.take(p.entry.body_size);
    }
  }
  void select(std::size_t stage) { stage_ = stage; }
  void get(Stream& stream) override {
    for (Part& p : parts_) {
      if (p.used || p.entry.stage != stage_) continue;
      p.used = true;
      const StageTime time(clock_, StageClock::kCoder);
      coder_.decode(stream, p.table, p.body);
      const bool lists = stream.type == StreamType::positions;
      if (stream.type != StreamType::bytes &&
          (lists ? stream.positions.size() != stream.count() : stream.data.size() != stream.size())) {
        fail(ErrorCode::corrupt, "a stream of the wrong size");
      }
      return;
    }
    fail(ErrorCode::truncated, "a stream is missing");
  }
  /// The body of the specials; empty when there are none.
  ByteView take_specials() {
    for (Part& p : parts_) {
      if (p.entry.stage != kSpecials || p.used) continue;
      p.used = true;
      if (p.body.empty() || !p.table.empty()) fail(ErrorCode::corrupt, "a damaged list of special values");
      return p.body;
    }
    return {};
  }
  void finish() const {
    for (const Part& p : parts_) {
      if (!p.used) fail(ErrorCode::corrupt, "a stream belongs to no stage");
    }
  }

 private:
  struct Part {
    Entry entry;
    ByteView table, body;
    bool used;
  };
  std::vector<Part> parts_;
  const Coder& coder_;
  StageClock* clock_;
  std::size_t stage_ = 0;
};

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
  Directory directory(clock);
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
    Tile tile = left_out == 0 ? std::move(source) : source;  // the last use
    ByteWriter out;
    out.put(std::uint8_t{0});
    out.put_varint(left_out);
    Directory directory(clock);
    if (!specials.empty()) {
      directory.add_plain(kSpecials, StreamLabel::exact, {},
                          specials_bytes(specials, elements, dtype_unit(context.source)));
    }
    for (std::size_t i = 0; i < stages_.size(); ++i) {
      if ((left_out >> i & 1) != 0) continue;
      std::vector<Stream> streams;
      StreamWriter writer(streams);
      EncodeContext to{writer, i + 1 < stages_.size()};  // the last one is never left out
      to.state = chain.states[i].get();
      {
        const StageTime time(clock, i);
        stages_[i]->encode(tile, to);
      }
      if (to.wanted && !to.finite) keep_finite(tile.values, stages_[i]->kind() == StageKind::additive);
      for (const Stream& s : streams) directory.add(static_cast<std::uint8_t>(i), s, *coder_.part);
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
  for (std::size_t i = 0; i < stages_.size(); ++i) {
    shapes.push_back((left_out >> i & 1) != 0 ? shapes.back() : stages_[i]->output(context, shapes.back()));
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
  for (const Entry& e : read_directory(in)) {
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
