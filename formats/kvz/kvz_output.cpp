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
PreludeInfo needed(const Plan& plan, const Tables& tables) {
  PreludeInfo needs = plan.needs();
  if (!tables.empty()) needs.minor = std::max(needs.minor, 1u);
  return needs;
}

}  // namespace

KvzOutput::KvzOutput(Destination to, const KvzHeader& header, const Tables& tables) : out_(std::move(to)) {
  out_.append(make_prelude(needed(header.plan, tables)));
  const std::string text = write_kvz_header(header);
  const Packed packed = pack_description(std::as_bytes(std::span(text)));
  append_record(RecordType::header, packed.flags, packed.stored, text.size());
  for (const auto& table : tables.all()) {
    const Bytes payload = table_payload(*table);
    const Packed stored = pack_description(payload);
    append_record(RecordType::table, stored.flags, stored.stored, payload.size());
  }
}

void KvzOutput::append_frame(ByteView payload) {
  index_.put_varint(out_.position() - index_end_);
  index_.put_varint(payload.size());
  append_record(RecordType::frame, 0, payload, payload.size());
  index_end_ = out_.position();
  ++frames_;
}

void KvzOutput::finish(const std::optional<KvzResults>& results) {
  if (results) {
    const std::string text = write_kvz_results(*results);
    append_record(RecordType::results, 0, std::as_bytes(std::span(text)), text.size());
  }
  FooterInfo footer{out_.position(), 0};
  const Packed packed = pack_description(index_.view());
  append_record(RecordType::index, packed.flags, packed.stored, index_.size());
  ByteWriter end;
  end.put(std::uint64_t{sequence_} + 1);
  end.put(frames_);
  end.put(hash64(hashes_.view()));
  append_record(RecordType::end, 0, end.view(), end.size());
  footer.file_bytes = out_.position() + kFooterBytes;
  out_.append(make_footer(footer));
  out_.finish();
}

void KvzOutput::append_record(RecordType type, std::uint16_t flags, ByteView payload, std::uint64_t decoded) {
  out_.append(make_record_header({static_cast<std::uint16_t>(type), flags, payload.size(), decoded, sequence_++}));
  out_.append(payload);
  const std::uint64_t hash = hash64(payload);
  hashes_.put(hash);
  ByteWriter tail;
  tail.put(hash);
  out_.append(tail.view());
}

}  // namespace kvzip
