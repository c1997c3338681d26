// SPDX-License-Identifier: Apache-2.0
#include "formats/kvz/kvz_output.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "formats/kvz/kvz_results.hpp"
#include "formats/kvz/kvz_tables.hpp"

namespace kvzip {
namespace {

/// The least that a reader of the file must know.
PreludeInfo needed(const KvzHeader& header, const Tables& tables) {
  PreludeInfo needs = header.plan.needs();
  if (header.base) needs = {std::max(needs.minor, 1u), needs.features | kSharedFeature};
  if (!tables.empty()) needs.minor = std::max(needs.minor, 1u);
  return needs;
}

}  // namespace

void RecordAppender::append(RecordType type, std::uint16_t flags, ByteView payload, std::uint64_t decoded) {
  out_.append(make_record_header({static_cast<std::uint16_t>(type), flags, payload.size(), decoded, sequence_++}));
  out_.append(payload);
  const std::uint64_t hash = hash64(payload);
  hashes_.put(hash);
  ByteWriter tail;
  tail.put(hash);
  out_.append(tail.view());
}

void RecordAppender::end(std::uint16_t index_flags, ByteView index, std::uint64_t index_decoded, std::uint64_t frames) {
  FooterInfo footer{out_.position(), 0};
  append(RecordType::index, index_flags, index, index_decoded);
  ByteWriter end;
  end.put(std::uint64_t{sequence_} + 1);
  end.put(frames);
  end.put(hash64(hashes_.view()));
  append(RecordType::end, 0, end.view(), end.size());
  footer.file_bytes = out_.position() + kFooterBytes;
  out_.append(make_footer(footer));
}

KvzOutput::KvzOutput(Destination to, const KvzHeader& header, const Tables& tables)
    : out_(std::make_unique<OutputFile>(std::move(to))), records_(*out_) {
  out_->append(make_prelude(needed(header, tables)));
  const std::string text = write_kvz_header(header);
  const Packed packed = pack_description(std::as_bytes(std::span(text)));
  records_.append(RecordType::header, packed.flags, packed.stored, text.size());
  std::uint64_t before = 0;
  for (const auto& table : tables.all()) {
    const Bytes payload = table_payload(*table);
    const Packed stored = pack_description(payload, free_of(before));
    before += table->bytes.size();
    records_.append(RecordType::table, stored.flags, stored.stored, payload.size());
  }
}

void KvzOutput::append_frame(ByteView payload) {
  index_.put_varint(out_->position() - index_end_);
  index_.put_varint(payload.size());
  records_.append(RecordType::frame, 0, payload, payload.size());
  index_end_ = out_->position();
  ++frames_;
}

void KvzOutput::finish(const std::optional<KvzResults>& results) {
  if (results) {
    const std::string text = write_kvz_results(*results);
    records_.append(RecordType::results, 0, std::as_bytes(std::span(text)), text.size());
  }
  const Packed packed = pack_description(index_.view());
  records_.end(packed.flags, packed.stored, index_.size(), frames_);
  out_->finish();
}

}  // namespace kvzip
