// SPDX-License-Identifier: Apache-2.0
#include "formats/kvz/kvz_growing.hpp"

#include <algorithm>
#include <utility>

#include "codec/fail.hpp"
#include "formats/file_calls.hpp"

namespace kvzip {

class GrowingFile::Tail final : public Sink {
 public:
  explicit Tail(GrowingFile& file) : file_(file) {}
  void append(ByteView bytes) override { file_.append(bytes); }

 private:
  GrowingFile& file_;
};

GrowingFile::GrowingFile(int descriptor, std::uint64_t at, std::string name)
    : descriptor_(descriptor), at_(at), name_(std::move(name)) {}

std::unique_ptr<Sink> GrowingFile::sink() {
  return std::make_unique<Tail>(*this);
}

void GrowingFile::append(ByteView bytes) {
  const std::size_t fits = kFooterBytes - std::min(bytes.size(), kFooterBytes);
  const std::size_t leave = held_.size() - std::min(held_.size(), fits);
  write_all_at(descriptor_, at_, ByteView(held_).first(leave), name_);
  at_ += leave;
  held_.erase(held_.begin(), held_.begin() + static_cast<std::ptrdiff_t>(leave));
  if (bytes.size() > kFooterBytes) {
    const ByteView front = bytes.first(bytes.size() - kFooterBytes);
    write_all_at(descriptor_, at_, front, name_);
    at_ += front.size();
    bytes = bytes.last(kFooterBytes);
  }
  held_.insert(held_.end(), bytes.begin(), bytes.end());
}

Footer GrowingFile::commit(const std::optional<Footer>& before) {
  if (held_.size() != kFooterBytes) fail(ErrorCode::invalid_argument, "the container is not complete");
  Footer footer;
  std::copy(held_.begin(), held_.end(), footer.begin());
  if (before) {
    FooterInfo info = parse_footer(footer);
    info.before = hash64(*before);
    footer = make_footer(info);
  }
  write_all_at(descriptor_, at_, footer, name_);
  at_ += kFooterBytes;
  held_.clear();
  return footer;
}

}  // namespace kvzip
