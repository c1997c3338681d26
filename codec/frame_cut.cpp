// SPDX-License-Identifier: Apache-2.0
// A frame with less of what its last stage stored, without a value decoded.
#include <algorithm>

#include "codec/frame_streams.hpp"
#include "codec/pipeline.hpp"

namespace kvzip {

std::optional<Pipeline> Pipeline::cut_to(double share) const {
  if (exact() || chained()) return {};  // what a chain learned from frames is not that of cut ones
  std::shared_ptr<const Stage> less = stages_.back()->cut_to(share);
  if (less == nullptr) return {};
  Pipeline out = *this;
  out.stages_.back().part = std::move(less);
  return out;
}

Bytes Pipeline::cut(const TileContext& context, TileShape shape, ByteView payload, double share) const {
  const std::optional<Pipeline> less = cut_to(share);
  if (!less) fail(ErrorCode::invalid_argument, "{}: its last stage cannot be cut", text());
  const std::uint64_t values = std::uint64_t{shape.rows} * shape.cols;
  if (values > limits::kFrameValues) fail(ErrorCode::limit, "a frame of {} values", values);
  if (payload.size() < limits::least_payload(values)) fail(ErrorCode::truncated, "a frame is too short for its values");
  ByteReader in(payload);
  const auto flags = in.get<std::uint8_t>();
  if (flags == kRaw) return {payload.begin(), payload.end()};
  if (flags != 0) fail(ErrorCode::corrupt, "unknown frame flags {}", flags);
  const std::uint64_t left_out = in.get_varint();
  FrameStreams streams(in, *coder_.part, nullptr);
  expect_padding(in);
  const std::size_t last = stages_.size() - 1;
  if (left_out >> last != 0) fail(ErrorCode::corrupt, "a stage is left out that cannot be");
  const std::uint64_t least =
      std::max(limits::least_payload(values),
               limits::earning_payload(less->work(context, shape), values * dtype_unit(context.source)));
  for (std::size_t i = 0; i < last; ++i) {
    if ((left_out >> i & 1) != 0) continue;
    if (stages_[i]->ends(context, shape)) return {payload.begin(), payload.end()};  // the last has nothing in it
    shape = stages_[i]->output(context, shape);
  }
  streams.select(last);
  FrameDirectory directory(nullptr);
  streams.copy_others(directory);
  std::vector<Stream> kept;
  StreamWriter writer(kept);
  stages_[last]->cut(context, shape, share, streams, writer);
  streams.finish();
  for (const Stream& s : kept) directory.add(static_cast<std::uint8_t>(last), s, *coder_.part);
  ByteWriter out;
  out.put(std::uint8_t{0});
  out.put_varint(left_out);
  directory.write(out);
  if (out.size() < least) out.bytes().resize(least);
  return std::move(out.bytes());
}

}  // namespace kvzip
