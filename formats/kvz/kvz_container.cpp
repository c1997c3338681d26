// SPDX-License-Identifier: Apache-2.0
#include "formats/kvz/kvz_container.hpp"

#include <algorithm>
#include <utility>

#include "codec/bytes.hpp"
#include "codec/limits.hpp"
#include "kvzip/trust.hpp"

namespace kvzip {
namespace {

KvzGroup describe(const PlanGroup& group, const KvzHeader& header) {
  KvzGroup d;
  for (const PlanSlot& slot : group.slots) {
    d.tensors.push_back(slot.tensor);
    if (!group.tiled) d.values += header.dump.tensors[slot.tensor].elements();
  }
  d.role = group.context.role;
  for (const TileMember& m : group.context.members) {
    d.members.push_back({m.role, m.layer, group.rows * m.heads * m.head_dim});
  }
  const TensorRole& tensor = header.recognition.tensors[group.slots[0].tensor];
  if (!group.tiled && tensor.layer && (tensor.role == Role::key || tensor.role == Role::value)) {
    d.members.push_back({tensor.role, *tensor.layer, d.values});
  }
  if (group.tiled) {
    d.layer = group.context.layer;
    d.values = group.rows * group.context.channels();
    d.rows = group.rows;
  }
  d.pipeline = header.plan.pipelines[group.pipeline].text();
  d.exact = header.plan.pipelines[group.pipeline].exact();
  d.chunk_rows = group.chunk;
  const TensorInfo& info = header.dump.tensors[group.slots[0].tensor];
  d.source_bytes = group.tiled ? d.values * dtype_unit(info.dtype) : info.bytes();
  d.frames = group.frames;
  d.restart = group.restart;
  return d;
}

ByteView payload_of(ByteView coded) {
  return coded.first(coded.size() - kRecordTailBytes);
}

}  // namespace

KvzHeader header_of(Record record, const PreludeInfo& prelude) {
  const unsigned minor = prelude.minor;
  if (!record.is(RecordType::header)) fail(ErrorCode::corrupt, "the header is missing");
  if (!record.sound()) fail(ErrorCode::corrupt, "the header's checksum does not match");
  const Bytes text = unpack_description(record.header, std::move(record.payload));
  try {
    return read_kvz_header({reinterpret_cast<const char*>(text.data()), text.size()}, prelude.features);
  } catch (const Error& e) {
    if (minor <= kKvzMinor || e.code() != ErrorCode::corrupt) throw;
    fail(ErrorCode::unsupported, "format {}.{} is newer than this build's {}.{} ({})", kKvzMajor, minor, kKvzMajor,
         kKvzMinor, e.what());
  }
}

FileHead read_head(InputFile file, bool shared) {
  RecordFile records{std::move(file)};
  Prelude prelude;
  records.read_at(0, prelude);
  const PreludeInfo info = check_prelude(prelude, FileKind::container, shared);
  Record record = records.record_at(kPreludeBytes, 0);
  const std::uint64_t end = kPreludeBytes + kRecordOverhead + record.header.stored;
  return {std::move(records), header_of(std::move(record), info), info.minor, end};
}

bool earned(const Plan::Cost& cost, std::uint64_t stored) {
  return limits::earned(cost.work, cost.decoded, static_cast<double>(stored));
}

void require_earned(const Plan::Cost& cost, std::uint64_t stored) {
  if (trusts_files() || earned(cost, stored)) return;
  if (cost.work > limits::kFreeWork + limits::kWorkPerByte * static_cast<double>(stored)) {
    fail(ErrorCode::limit, "{} bytes ask for {:.2g} multiplications to be decoded: more than files of kvzip do", stored,
         cost.work);
  }
  fail(ErrorCode::limit, "{} bytes would become {:.4g} GB: more than files of kvzip do", stored, cost.decoded / 1e9);
}

ContainerReader::ContainerReader(KvzHeader header, unsigned minor, std::string file)
    : header_(std::move(header)), file_(std::move(file)) {
  description_.major = kKvzMajor;
  description_.minor = minor;
  description_.writer = header_.writer;
  description_.preset = header_.preset;
  description_.user = header_.user;
  description_.base = header_.base;
  for (const PlanGroup& group : header_.plan.groups) description_.groups.push_back(describe(group, header_));
}

ReaderTraits ContainerReader::traits() {
  ReaderTraits out;
  out.container = this;
  for (const PlanGroup& group : header_.plan.groups) {
    if (group.tiled) out.chunk_tokens = std::max(out.chunk_tokens, group.chunk * group.frames_of_part());
  }
  if (description_.results) out.max_error = description_.results->max_error;
  return out;
}

std::set<std::string> ContainerReader::lacking_tables() const {
  std::set<std::string> lacking;
  for (const Pipeline& pipeline : header_.plan.pipelines) {
    for (std::string& reference : pipeline.lacking_tables()) {
      if (!reference.empty()) lacking.insert(std::move(reference));
    }
  }
  return lacking;
}

void ContainerReader::decode(Part& part) const {
  const Plan& plan = header_.plan;
  const PlanGroup& group = plan.group(part);
  const auto [first, last] = plan.frames_of(part);
  if (part.coded.size() != last - first) fail(ErrorCode::invalid_argument, "part {} was not fetched", part.index);
  // All of them have earned their memory before any is taken.
  for (std::uint64_t f = first; f < last; ++f) check_frame(group, f, part.coded[f - first]);
  const TileShape all = plan.shape(header_.dump, part);
  const std::size_t row_bytes = all.cols * dtype_unit(group.context.source);
  Buffer<std::byte> tile(all.rows * row_bytes);
  Chain chain = plan.pipelines[group.pipeline].begin_chain();
  std::span<std::byte> rest(tile);
  for (std::uint64_t f = first; f < last; ++f) {
    const std::span<std::byte> elements = rest.first(plan.shape(header_.dump, group, f).rows * row_bytes);
    decode_frame(group, f, part.coded[f - first], elements, chain);
    rest = rest.subspan(elements.size());
  }
  scatter_tile(plan, header_.dump, tile, part);
  part.coded.clear();
  part.coded.shrink_to_fit();
}

void ContainerReader::decode_frame(const PlanGroup& group, std::uint64_t frame, ByteView coded,
                                   std::span<std::byte> elements, Chain& chain) const {
  const TileShape shape = header_.plan.shape(header_.dump, group, frame);
  in_frame(frame, [&] {
    header_.plan.pipelines[group.pipeline].decode(group.context, shape, payload_of(coded), elements, &chain);
  });
}

void ContainerReader::add_cost(const PlanGroup& group, std::uint64_t first, std::uint64_t last, Plan::Cost& sum) const {
  if (first == last) return;
  in_frame(first, [&] {
    const Plan::Cost cost = header_.plan.cost(header_.dump, group, first, last);
    sum.work += cost.work;
    sum.decoded += cost.decoded;
  });
}

void ContainerReader::check_earned(const PlanGroup& group, std::uint64_t frame, std::uint64_t payload) const {
  const TileShape shape = header_.plan.shape(header_.dump, group, frame);
  if (payload < limits::least_payload(std::uint64_t{shape.rows} * shape.cols)) {
    fail(ErrorCode::corrupt, "{} bytes are too few for its values", payload);
  }
}

void ContainerReader::check_frame(const PlanGroup& group, std::uint64_t frame, ByteView coded) const {
  in_frame(frame, [&] {
    if (coded.size() < kRecordTailBytes) fail(ErrorCode::truncated, "{} bytes", coded.size());
    const ByteView payload = payload_of(coded);
    if (hash64(payload) != ByteReader(coded.last(kRecordTailBytes)).get<std::uint64_t>()) {
      fail(ErrorCode::corrupt, "its checksum does not match");
    }
    check_earned(group, frame, payload.size());
  });
}

}  // namespace kvzip
