// SPDX-License-Identifier: Apache-2.0
// The header is parsed event by event, so that repeated keys are seen, their order is kept and depth costs nothing.
#include "formats/safetensors_header.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "formats/attribute_text.hpp"
#include "formats/safetensors_entry.hpp"
#include "formats/text.hpp"

namespace kvzip {
namespace {

struct Entry {
  TensorInfo info;
  std::array<std::uint64_t, 2> offsets{};
  std::vector<MetadataEntry> extras;  // key and JSON
};

class HeaderSax : public nlohmann::json_sax<nlohmann::json> {
 public:
  std::vector<Entry> entries;
  std::vector<MetadataEntry> metadata;

  bool null() override;
  bool boolean(bool value) override { return extra_or_unexpected(value ? "true" : "false"); }
  bool binary(binary_t&) override { unexpected("binary data"); }
  bool number_integer(number_integer_t value) override { return extra_or_unexpected(fmt::to_string(value)); }
  bool number_float(number_float_t, const string_t& text) override { return extra_or_unexpected(text); }
  bool number_unsigned(number_unsigned_t value) override;
  bool string(string_t& value) override;
  bool start_object(std::size_t) override;
  bool key(string_t& name) override;
  bool end_object() override;
  bool start_array(std::size_t) override;
  bool end_array() override;
  bool parse_error(std::size_t position, const std::string& token, const nlohmann::detail::exception& error) override;

 private:
  enum class State : std::uint8_t { outside, top, entry, metadata, array, extra };
  enum Key : unsigned { dtype, shape, data_offsets, none };

  bool extra_key(const string_t& name);
  [[noreturn]] void unexpected(std::string_view found) const;
  std::string tensor() const { return "tensor " + quoted(name_); }
  bool extra_or_unexpected(std::string_view found);
  void meet_metadata();
  void add_extra(std::string_view text);
  void close_extra(std::string_view text);
  void finish_entry();

  State state_ = State::outside;
  std::string name_;     // the key at the top that is being read
  unsigned key_ = none;  // the key within a tensor's entry
  unsigned seen_ = 0;    // bits of the keys of the entry
  std::size_t offsets_ = 0;
  std::size_t extra_depth_ = 0;  // open arrays and objects of the extra key that is being read
  bool has_metadata_ = false;
  Entry entry_;
};

void HeaderSax::unexpected(std::string_view found) const {
  switch (state_) {
    case State::outside:
    case State::top:
      fail(ErrorCode::corrupt, "header: {} must be a JSON object, not {}", quoted(name_), found);
    case State::metadata:
      fail(ErrorCode::corrupt, "header: {} {} must be a string, not {}", kMetadata, quoted(metadata.back().key), found);
    case State::array:
      fail(ErrorCode::corrupt, "{}: {} must hold whole numbers from 0 to {}, not {}", tensor(), kEntryKeys[key_],
           kMaxNumber, found);
    case State::entry:
    case State::extra:
      break;
  }
  fail(ErrorCode::corrupt, "{}: {} must be {}, not {}", tensor(), kEntryKeys[key_],
       key_ == dtype ? "a string" : "an array", found);
}

bool HeaderSax::extra_or_unexpected(std::string_view found) {
  if (state_ != State::extra) unexpected(found);
  add_extra(found);
  return true;
}

/// One more value of the extra key, written as it was read but for white space.
void HeaderSax::add_extra(std::string_view text) {
  std::string& value = entry_.extras.back().value;
  if (!value.empty() && std::string_view("[{:").find(value.back()) == std::string_view::npos) value += ',';
  value += text;
  if (extra_depth_ == 0) state_ = State::entry;
}

void HeaderSax::close_extra(std::string_view text) {
  entry_.extras.back().value += text;
  if (--extra_depth_ == 0) state_ = State::entry;
}

bool HeaderSax::number_unsigned(number_unsigned_t value) {
  if (state_ == State::extra) return extra_or_unexpected(fmt::to_string(value));
  if (state_ != State::array || value > kMaxNumber) unexpected(fmt::to_string(value));
  if (key_ == shape) {
    if (entry_.info.shape.size() >= limits::kRank) {
      fail(ErrorCode::limit, "{}: more than {} dimensions", tensor(), limits::kRank);
    }
    entry_.info.shape.push_back(value);
  } else {
    if (offsets_ >= 2) fail(ErrorCode::corrupt, "{}: data_offsets must hold two numbers, not more", tensor());
    entry_.offsets[offsets_++] = value;
  }
  return true;
}

bool HeaderSax::string(string_t& value) {
  if (state_ == State::metadata) {
    metadata.back().value = std::move(value);
  } else if (state_ == State::entry && key_ == dtype) {
    auto known = parse_dtype(value);
    const auto* alias =
        std::find_if(std::begin(kAliases), std::end(kAliases), [&](const DtypeAlias& a) { return a.name == value; });
    if (alias != std::end(kAliases)) {
      known = alias->dtype;
      entry_.extras.push_back({"dtype", json_string(value)});
    }
    if (!known) fail(ErrorCode::unsupported, "{}: unknown dtype {}", tensor(), quoted(value));
    entry_.info.dtype = *known;
  } else if (state_ == State::extra) {
    add_extra(json_string(value));
  } else {
    unexpected("the string " + quoted(value));
  }
  return true;
}

void HeaderSax::meet_metadata() {
  if (has_metadata_) fail(ErrorCode::corrupt, "header: the key {} is there twice", kMetadata);
  has_metadata_ = true;
}

/// MLX writes it for no metadata, and the reader of the format's authors takes it.
bool HeaderSax::null() {
  if (state_ != State::top || name_ != kMetadata) return extra_or_unexpected("null");
  meet_metadata();
  return true;
}

bool HeaderSax::start_object(std::size_t) {
  if (state_ == State::extra) {
    if (extra_depth_ >= limits::kSafetensorsDepth) fail(ErrorCode::limit, "{}: a key nested too deeply", tensor());
    ++extra_depth_;
    add_extra("{");
  } else if (state_ == State::outside) {
    state_ = State::top;
  } else if (state_ != State::top) {
    unexpected("an object");
  } else if (name_ == kMetadata) {
    meet_metadata();
    state_ = State::metadata;
  } else {
    state_ = State::entry;
    entry_ = {};
    seen_ = 0;
    offsets_ = 0;
  }
  return true;
}

bool HeaderSax::extra_key(const string_t& name) {
  std::vector<MetadataEntry>& extras = entry_.extras;
  if (std::find(std::begin(kExtraKeys), std::end(kExtraKeys), name) == std::end(kExtraKeys)) {
    fail(ErrorCode::corrupt, "{}: unknown key {}", tensor(), quoted(name));
  }
  if (std::any_of(extras.begin(), extras.end(), [&](const MetadataEntry& e) { return e.key == name; })) {
    fail(ErrorCode::corrupt, "{}: the key {} is there twice", tensor(), quoted(name));
  }
  extras.push_back({name, {}});
  state_ = State::extra;
  return true;
}

bool HeaderSax::key(string_t& name) {
  if (state_ == State::extra) {
    std::string& value = entry_.extras.back().value;
    if (value.back() != '{') value += ',';
    value += json_string(name) + ':';
  } else if (state_ == State::top) {
    if (entries.size() >= limits::kSafetensorsTensors) {
      fail(ErrorCode::limit, "header: more than {} tensors", limits::kSafetensorsTensors);
    }
    name_ = std::move(name);
  } else if (state_ == State::metadata) {
    if (metadata.size() >= limits::kSafetensorsEntries) {
      fail(ErrorCode::limit, "header: more than {} entries in {}", limits::kSafetensorsEntries, kMetadata);
    }
    metadata.push_back({std::move(name), {}});
  } else {
    const auto known = std::find(kEntryKeys.begin(), kEntryKeys.end(), name);
    if (known == kEntryKeys.end()) return extra_key(name);
    key_ = static_cast<unsigned>(known - kEntryKeys.begin());
    if ((seen_ >> key_ & 1) != 0) fail(ErrorCode::corrupt, "{}: the key {} is there twice", tensor(), *known);
    seen_ |= 1u << key_;
  }
  return true;
}

bool HeaderSax::end_object() {
  if (state_ == State::extra) {
    close_extra("}");
    return true;
  }
  if (state_ == State::entry) finish_entry();
  state_ = state_ == State::top ? State::outside : State::top;
  return true;
}

bool HeaderSax::start_array(std::size_t) {
  if (state_ == State::extra) {
    if (extra_depth_ >= limits::kSafetensorsDepth) fail(ErrorCode::limit, "{}: a key nested too deeply", tensor());
    ++extra_depth_;
    add_extra("[");
    return true;
  }
  if (state_ != State::entry || key_ == dtype) unexpected("an array");
  state_ = State::array;
  return true;
}

bool HeaderSax::end_array() {
  if (state_ == State::extra) {
    close_extra("]");
    return true;
  }
  state_ = State::entry;
  return true;
}

bool HeaderSax::parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& error) {
  // The library's text starts with its own error number, and may repeat the position as line and column.
  std::string_view what = error.what();
  for (const std::string_view before : {"] ", ": "}) {
    if (const std::size_t at = what.find(before); at != what.npos) what.remove_prefix(at + before.size());
  }
  fail(ErrorCode::corrupt, "header: not valid JSON at byte {}: {}", position, quoted(what));
}

void HeaderSax::finish_entry() {
  for (unsigned i = 0; i < kEntryKeys.size(); ++i) {
    if ((seen_ >> i & 1) == 0) fail(ErrorCode::corrupt, "{}: the key {} is missing", tensor(), kEntryKeys[i]);
  }
  const auto [begin, end] = entry_.offsets;
  if (offsets_ != 2) fail(ErrorCode::corrupt, "{}: data_offsets must hold two numbers, not {}", tensor(), offsets_);
  if (begin > end) fail(ErrorCode::corrupt, "{}: data_offsets [{}, {}] run backwards", tensor(), begin, end);
  entry_.info.name = std::move(name_);
  const std::uint64_t bytes = entry_.info.bytes();
  if (bytes != end - begin) {
    fail(ErrorCode::corrupt, "tensor {}: {} [{}] needs {} bytes, but data_offsets [{}, {}] hold {}",
         quoted(entry_.info.name), dtype_name(entry_.info.dtype), fmt::join(entry_.info.shape, ", "), bytes, begin, end,
         end - begin);
  }
  entries.push_back(std::move(entry_));
}

/// The tensors must cover the data from its first byte to its last, each byte once.
void check_coverage(const std::vector<Entry>& entries, std::uint64_t data_bytes) {
  std::uint64_t covered = 0;
  for (const std::size_t i : sorted_positions(entries, [](const Entry& e) { return e.offsets; })) {
    const auto [begin, end] = entries[i].offsets;
    const std::string name = quoted(entries[i].info.name);
    if (begin > covered) {
      fail(ErrorCode::corrupt, "tensor {}: starts at data byte {}, and bytes {} to {} belong to no tensor", name, begin,
           covered, begin);
    }
    if (begin < covered) {
      fail(ErrorCode::corrupt, "tensor {}: data_offsets [{}, {}] overlap another tensor's, which end at {}", name,
           begin, end, covered);
    }
    covered = end;
  }
  if (covered > data_bytes) {
    fail(ErrorCode::truncated, "the tensors need {} bytes of data, and the file has {}", covered, data_bytes);
  }
  if (covered < data_bytes) {
    fail(ErrorCode::corrupt, "the last {} bytes of the file belong to no tensor", data_bytes - covered);
  }
}

void parse(std::string_view json, HeaderSax& sax) {
  if (!json.starts_with('{')) fail(ErrorCode::corrupt, "header: must start with '{{'");
  // npos + 1 is 0, so a header of spaces alone would come out empty.
  json = json.substr(0, json.find_last_not_of(' ') + 1);
  nlohmann::json::sax_parse(json, &sax);
  if (!json.ends_with('}')) fail(ErrorCode::corrupt, "header: only spaces may follow the last '}}'");
}

}  // namespace

std::uint64_t safetensors_data_bytes(std::string_view json) {
  HeaderSax sax;
  parse(json, sax);
  std::uint64_t end = 0;
  for (const Entry& entry : sax.entries) end = std::max(end, entry.offsets[1]);
  return end;
}

SafetensorsHeader parse_safetensors_header(std::string_view json, std::uint64_t data_bytes) {
  HeaderSax sax;
  parse(json, sax);
  require_distinct(
      sax.entries, [](const Entry& e) -> std::string_view { return e.info.name; }, ErrorCode::corrupt, "header");
  require_distinct(
      sax.metadata, [](const MetadataEntry& e) -> std::string_view { return e.key; }, ErrorCode::corrupt, kMetadata);
  check_coverage(sax.entries, data_bytes);
  SafetensorsHeader header;
  for (MetadataEntry& entry : sax.metadata) header.dump.attributes.push_back(attribute_of(std::move(entry)));
  for (Entry& entry : sax.entries) {
    for (MetadataEntry& extra : entry.extras) {
      Attribute attribute;
      attribute.object = entry.info.name;
      attribute.name = std::string(kExtra) + extra.key;
      attribute.strings.push_back(std::move(extra.value));
      header.dump.attributes.push_back(std::move(attribute));
    }
    header.dump.tensors.push_back(std::move(entry.info));
    header.begins.push_back(entry.offsets[0]);
  }
  return header;
}

}  // namespace kvzip
