// SPDX-License-Identifier: Apache-2.0
// Writes a container front to back, without seeking: prelude, header, frames in plan order, index, end, footer.
#include "codec/fail.hpp"
#include "formats/file.hpp"
#include "formats/kvz/kvz.hpp"
#include "formats/kvz/kvz_encoder.hpp"
#include "formats/kvz/kvz_header.hpp"
#include "formats/kvz/kvz_output.hpp"

namespace kvzip {
namespace {

class KvzWriter final : public DumpWriter {
 public:
  KvzWriter(Destination to, KvzHeader header, const Tables& tables, std::unique_ptr<TileEncoder> encoder)
      : header_(std::move(header)), encoder_(std::move(encoder)), out_(std::move(to), header_, tables) {}

  bool plans() const override { return true; }
  std::uint64_t part_count() const override { return header_.plan.parts; }
  Part part(std::uint64_t index) const override { return header_.plan.part(header_.dump, index); }

  void prepare(Part& part) const override {
    const PlanGroup& group = header_.plan.group(part);
    const Pipeline& pipeline = header_.plan.pipelines[group.pipeline];
    const Buffer<std::byte> tile = gather_tile(header_.plan, header_.dump, part);
    Buffer<std::byte> decoded;
    Chain chain = pipeline.begin_chain();
    std::size_t at = 0;
    const auto [first, last] = header_.plan.frames_of(part);
    for (std::uint64_t frame = first; frame < last; ++frame) {
      const TileShape shape = header_.plan.shape(header_.dump, group, frame);
      const std::size_t bytes = std::size_t{shape.rows} * shape.cols * dtype_unit(group.context.source);
      decoded.resize(frame + 1 < last ? bytes : 0);  // takes the chain to the next frame, where there is one
      part.coded.push_back(
          encoder_->encode({pipeline, group, shape, ByteView(tile).subspan(at, bytes), chain}, decoded, part.result));
      at += bytes;
    }
  }

  void append(Part& part) override {
    if (part.index != parts_) fail(ErrorCode::invalid_argument, "part {} appended as part {}", part.index, parts_);
    for (const Bytes& coded : part.coded) out_.append_frame(coded);
    ++parts_;
    encoder_->merge(part.result);
  }

  void made_from(const InputList& inputs) override { out_.made_from(inputs); }

  void finish() override {
    if (parts_ != header_.plan.parts)
      fail(ErrorCode::invalid_argument, "{} of {} parts written", parts_, header_.plan.parts);
    out_.finish(encoder_->results());
  }

 private:
  KvzHeader header_;
  std::unique_ptr<TileEncoder> encoder_;
  KvzOutput out_;
  std::uint64_t parts_ = 0;
};

std::unique_ptr<DumpWriter> create(Destination to, const Dump& dump, const Recognition& recognition,
                                   const KvzOptions& options) {
  KvzHeader header{
      "kvzip " KVZIP_VERSION,
      options.rules.name,
      options.user,
      dump,
      recognition,
      make_plan(dump, recognition, options.rules, options.chunk_tokens, &options.tables, options.used_tokens),
      options.base};
  auto encoder = std::make_unique<TileEncoder>(options.saliency);
  if (options.results) encoder = make_checked_encoder(std::move(encoder), *options.results);
  return std::make_unique<KvzWriter>(std::move(to), std::move(header), options.tables.stored, std::move(encoder));
}

}  // namespace

std::unique_ptr<DumpWriter> create_kvz_writer(const std::string& path, const Dump& dump, const Recognition& recognition,
                                              const KvzOptions& options, bool overwrite) {
  return create(Destination(path, overwrite), dump, recognition, options);
}

std::unique_ptr<DumpWriter> create_kvz_writer(std::unique_ptr<Sink> sink, const Dump& dump,
                                              const Recognition& recognition, const KvzOptions& options) {
  return create(Destination(std::move(sink)), dump, recognition, options);
}

}  // namespace kvzip
