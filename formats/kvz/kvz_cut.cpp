// SPDX-License-Identifier: Apache-2.0
#include "kvzip/cut.hpp"

#include <algorithm>
#include <utility>

#include "codec/fail.hpp"
#include "formats/kvz/kvz.hpp"
#include "formats/kvz/kvz_container.hpp"
#include "formats/kvz/kvz_output.hpp"
#include "formats/kvz/kvz_segments.hpp"

namespace kvzip {
namespace {

class Cutter final : public ContainerReader {
 public:
  explicit Cutter(FileHead head)
      : ContainerReader(std::move(head.header), head.minor), frames_(std::move(head.records), header_, head.end) {
    use_tables(frames_.tables());
  }

  const Tables& stored_tables() const override { return frames_.tables(); }
  void fetch(Part& part) override { fetch_from(frames_, part); }
  void read(const Slice&, std::span<std::byte>) override {
    fail(ErrorCode::invalid_argument, "what is cut is read frame by frame");
  }
  KvzSummary summary() override { return description_; }

  void write(Destination to, double share, const Progress& progress) const {
    KvzHeader less = header_;
    bool any = false;
    for (Pipeline& pipeline : less.plan.pipelines) {
      if (auto cut = pipeline.cut_to(share)) pipeline = *std::move(cut), any = true;
    }
    if (!any) fail(ErrorCode::invalid_argument, "none of its pipelines ends with a stage that can be cut");
    check_costs();
    KvzOutput out(std::move(to), less, frames_.tables());
    std::uint64_t done = 0;
    for (const PlanGroup& group : header_.plan.groups) {
      for (std::uint64_t f = group.first_frame; f < group.first_frame + group.frames; ++f) {
        Bytes coded = frames_.fetch(f);
        done += coded.size();
        out.append_frame(cut_frame(group, f, std::move(coded), share));
        if (progress) progress(done, frames_.file_bytes());
      }
    }
    out.finish({});
    if (progress) progress(frames_.file_bytes(), frames_.file_bytes());
  }

 private:
  void check_costs() const {
    Plan::Cost all;
    for (const PlanGroup& group : header_.plan.groups) {
      add_cost(group, group.first_frame, group.first_frame + group.frames, all);
    }
    require_earned(all, frames_.file_bytes());
  }

  Bytes cut_frame(const PlanGroup& group, std::uint64_t frame, Bytes coded, double share) const {
    check_frame(group, frame, coded);
    const Pipeline& pipeline = header_.plan.pipelines[group.pipeline];
    coded.resize(coded.size() - kRecordTailBytes);
    if (!pipeline.cut_to(share)) return coded;
    Bytes less;
    in_frame(frame,
             [&] { less = pipeline.cut(group.context, header_.plan.shape(header_.dump, group, frame), coded, share); });
    return less;
  }

  IndexedFrames frames_;
};

}  // namespace

void cut_kvz(const std::string& in, const std::string& out, double share, bool overwrite, const Progress& progress) {
  if (!(share >= 0 && share <= 1)) fail(ErrorCode::invalid_argument, "a share of {} is not between 0 and 1", share);
  const InputScope inputs;
  InputFile file = kvz_input(in);
  if (find_segments(file).all.size() > 1) {
    fail(ErrorCode::invalid_argument, "others were appended to it: 'kvzip compress' makes one container of it");
  }
  Cutter cutter(read_head(std::move(file)));
  if (in != "-" && cutter.lacks_tables()) cutter.use_tables(tables_beside(in));
  cutter.write(Destination(out, overwrite), share, progress);
}

}  // namespace kvzip
