// SPDX-License-Identifier: Apache-2.0
// The header is parsed event by event, so that repeated keys are seen, their order is kept and depth costs nothing.
#include "formats/safetensors_header.hpp"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>

#include "codec/fail.hpp"
#include "formats/attribute_text.hpp"
#include "formats/text.hpp"

namespace kvzip {
namespace {

constexpr std::size_t kMaxRank = 32;
constexpr std::size_t kMaxMetadata = std::size_t{1} << 20;
constexpr std::uint64_t kMaxNumber = std::numeric_limits<std::int64_t>::max();
constexpr std::string_view kMetadata = "__metadata__";
constexpr std::array<std::string_view, 3> kEntryKeys{"dtype", "shape", "data_offsets"};

struct Entry {
  TensorInfo info;
  std::array<std::uint64_t, 2> offsets{};
};

class HeaderSax : public nlohmann::json_sax<nlohmann::json> {
 public:
  std::vector<Entry> entries;
  std::vector<MetadataEntry> metadata;

  bool null() override { unexpected("null"); }
  bool boolean(bool value) override { unexpected(value ? "true" : "false"); }
  bool binary(binary_t&) override { unexpected("binary data"); }
  bool number_integer(number_integer_t value) override { unexpected(fmt::to_string(value)); }
  bool number_float(number_float_t, const string_t& text) override { unexpected(text); }
  bool number_unsigned(number_unsigned_t value) override;
  bool string(string_t& value) override;
  bool start_object(std::size_t) override;
  bool key(string_t& name) override;
  bool end_object() override;
  bool start_array(std::size_t) override;
  bool end_array() override;
  bool parse_error(std::size_t position, const std::string& token, const nlohmann::detail::exception& error) override;

 private:
  enum class State : std::uint8_t { outside, top, entry, metadata, array };
  enum Key : unsigned { dtype, shape, data_offsets, none };

  [[noreturn]] void unexpected(std::string_view found) const;
  std::string tensor() const { return "tensor " + kvzip::quoted(name_); }
  void finish_entry();

  State state_ = State::outside;
  std::string name_;     // the key at the top that is being read
  unsigned key_ = none;  // the key within a tensor's entry
  unsigned seen_ = 0;    // bits of the keys of the entry
  std::size_t offsets_ = 0;
  bool has_metadata_ = false;
  Entry entry_;
};

void HeaderSax::unexpected(std::string_view found) const {
  switch (state_) {
    case State::outside:
    case State::top:
      fail(ErrorCode::corrupt, "header: {} must be a JSON object, not {}", kvzip::quoted(name_), found);
    case State::metadata:
      fail(ErrorCode::corrupt, "header: {} {} must be a string, not {}", kMetadata, kvzip::quoted(metadata.back().key),
           found);
    case State::array:
      fail(ErrorCode::corrupt, "{}: {} must hold whole numbers from 0 to {}, not {}", tensor(), kEntryKeys[key_],
           kMaxNumber, found);
    case State::entry:
      break;
  }
  fail(ErrorCode::corrupt, "{}: {} must be {}, not {}", tensor(), kEntryKeys[key_],
       key_ == dtype ? "a string" : "an array", found);
}

bool HeaderSax::number_unsigned(number_unsigned_t value) {
  if (state_ != State::array || value > kMaxNumber) unexpected(fmt::to_string(value));
  if (key_ == shape) {
    if (entry_.info.shape.size() >= kMaxRank) {
      fail(ErrorCode::limit, "{}: more than {} dimensions", tensor(), kMaxRank);
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
    const auto known = parse_dtype(value);
    if (!known) fail(ErrorCode::unsupported, "{}: unknown dtype {}", tensor(), kvzip::quoted(value));
    entry_.info.dtype = *known;
  } else {
    unexpected("the string " + kvzip::quoted(value));
  }
  return true;
}

bool HeaderSax::start_object(std::size_t) {
  if (state_ == State::outside) {
    state_ = State::top;
  } else if (state_ != State::top) {
    unexpected("an object");
  } else if (name_ == kMetadata) {
    if (has_metadata_) fail(ErrorCode::corrupt, "header: the key {} is there twice", kMetadata);
    has_metadata_ = true;
    state_ = State::metadata;
  } else {
    state_ = State::entry;
    entry_ = {};
    seen_ = 0;
    offsets_ = 0;
  }
  return true;
}

bool HeaderSax::key(string_t& name) {
  if (state_ == State::top) {
    name_ = std::move(name);
  } else if (state_ == State::metadata) {
    if (metadata.size() >= kMaxMetadata) {
      fail(ErrorCode::limit, "header: more than {} entries in {}", kMaxMetadata, kMetadata);
    }
    metadata.push_back({std::move(name), {}});
  } else {
    const auto known = std::find(kEntryKeys.begin(), kEntryKeys.end(), name);
    if (known == kEntryKeys.end()) fail(ErrorCode::corrupt, "{}: unknown key {}", tensor(), kvzip::quoted(name));
    key_ = static_cast<unsigned>(known - kEntryKeys.begin());
    if ((seen_ >> key_ & 1) != 0) fail(ErrorCode::corrupt, "{}: the key {} is there twice", tensor(), *known);
    seen_ |= 1u << key_;
  }
  return true;
}

bool HeaderSax::end_object() {
  if (state_ == State::entry) finish_entry();
  state_ = state_ == State::top ? State::outside : State::top;
  return true;
}

bool HeaderSax::start_array(std::size_t) {
  if (state_ != State::entry || key_ == dtype) unexpected("an array");
  state_ = State::array;
  return true;
}

bool HeaderSax::end_array() {
  state_ = State::entry;
  return true;
}

bool HeaderSax::parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& error) {
  // The library's text starts with its own error number and repeats the position as line and column.
  std::string_view what = error.what();
  const std::size_t detail = what.find(": ");
  if (detail != std::string_view::npos) what.remove_prefix(detail + 2);
  fail(ErrorCode::corrupt, "header: not valid JSON at byte {}: {}", position, kvzip::quoted(what));
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
         kvzip::quoted(entry_.info.name), dtype_name(entry_.info.dtype), fmt::join(entry_.info.shape, ", "), bytes,
         begin, end, end - begin);
  }
  entries.push_back(std::move(entry_));
}

/// Positions of `items` in ascending order of `key`.
template <typename T, typename F>
std::vector<std::size_t> sorted_positions(const std::vector<T>& items, F key) {
  std::vector<std::size_t> order(items.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return key(items[a]) < key(items[b]); });
  return order;
}

/// Sorting finds repeated names in bounded time whatever the names are; a hash table would not.
template <typename T, typename F>
void require_distinct(const std::vector<T>& items, F name, ErrorCode code, std::string_view where) {
  const std::vector<std::size_t> order = sorted_positions(items, name);
  for (std::size_t i = 1; i < order.size(); ++i) {
    const std::string_view text = name(items[order[i]]);
    if (text == name(items[order[i - 1]])) fail(code, "{}: the key {} is there twice", where, kvzip::quoted(text));
  }
}

/// The tensors must cover the data from its first byte to its last, each byte once.
void check_coverage(const std::vector<Entry>& entries, std::uint64_t data_bytes) {
  std::uint64_t covered = 0;
  for (const std::size_t i : sorted_positions(entries, [](const Entry& e) { return e.offsets; })) {
    const auto [begin, end] = entries[i].offsets;
    const std::string name = kvzip::quoted(entries[i].info.name);
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

}  // namespace

SafetensorsHeader parse_safetensors_header(std::string_view json, std::uint64_t data_bytes) {
  if (!json.starts_with('{')) fail(ErrorCode::corrupt, "header: must start with '{{'");
  // npos + 1 is 0, so a header of spaces alone would come out empty.
  json = json.substr(0, json.find_last_not_of(' ') + 1);
  HeaderSax sax;
  nlohmann::json::sax_parse(json, &sax);
  if (!json.ends_with('}')) fail(ErrorCode::corrupt, "header: only spaces may follow the last '}}'");
  require_distinct(
      sax.entries, [](const Entry& e) -> std::string_view { return e.info.name; }, ErrorCode::corrupt, "header");
  require_distinct(
      sax.metadata, [](const MetadataEntry& e) -> std::string_view { return e.key; }, ErrorCode::corrupt, kMetadata);
  check_coverage(sax.entries, data_bytes);
  SafetensorsHeader header;
  for (Entry& entry : sax.entries) {
    header.dump.tensors.push_back(std::move(entry.info));
    header.begins.push_back(entry.offsets[0]);
  }
  for (MetadataEntry& entry : sax.metadata) header.dump.attributes.push_back(attribute_of(std::move(entry)));
  return header;
}

std::string safetensors_header_text(const Dump& dump) {
  std::vector<MetadataEntry> metadata;
  for (const Attribute& attribute : dump.attributes) metadata.push_back(metadata_entry(attribute));
  require_distinct(
      metadata, [](const MetadataEntry& e) -> std::string_view { return e.key; }, ErrorCode::invalid_argument,
      kMetadata);
  require_distinct(
      dump.tensors, [](const TensorInfo& t) -> std::string_view { return t.name; }, ErrorCode::invalid_argument,
      "tensors");
  std::string out = "{";
  const auto separate = [&] { out += out.back() == '{' ? "" : ","; };
  if (!metadata.empty()) {
    out += fmt::format("\"{}\":{{", kMetadata);
    for (const MetadataEntry& entry : metadata) {
      separate();
      out += json_string(entry.key) + ':' + json_string(entry.value);
    }
    out += '}';
  }
  std::uint64_t begin = 0;
  for (const TensorInfo& info : dump.tensors) {
    if (info.name == kMetadata || !is_utf8(info.name) || info.shape.size() > kMaxRank) {
      fail(ErrorCode::invalid_argument, "tensor {}: safetensors cannot hold this name or {} dimensions",
           kvzip::quoted(info.name), info.shape.size());
    }
    std::uint64_t end = 0;
    if (__builtin_add_overflow(begin, info.bytes(), &end) || end > kMaxNumber) {
      fail(ErrorCode::limit, "tensor {}: the data is larger than any file can be", kvzip::quoted(info.name));
    }
    separate();
    out += fmt::format(R"({}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})", json_string(info.name),
                       dtype_name(info.dtype), fmt::join(info.shape, ","), begin, end);
    begin = end;
  }
  out += '}';
  out.resize((out.size() + 7) / 8 * 8, ' ');
  if (out.size() > kSafetensorsMaxHeader) {
    fail(ErrorCode::limit, "a safetensors header of {} bytes is larger than the format allows", out.size());
  }
  return out;
}

}  // namespace kvzip
