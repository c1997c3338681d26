// SPDX-License-Identifier: Apache-2.0
#include "src/report/report.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <system_error>
#include <utility>

#include "codec/fail.hpp"
#include "formats/text.hpp"
#include "src/report/csv_fields.hpp"

namespace kvzip::tool {
namespace {

constexpr std::size_t kPrintedAtOnce = 1 << 16;

bool g_over_progress = false;
std::string g_last_complaint;

/// Bytes of the sequence at `i` that are not to reach a terminal; 0 = none. Besides the control characters of ASCII
/// these are those above it (C1), and what changes the direction of text (Unicode, UAX 9: U+061C, U+200E, U+200F,
/// U+202A to U+202E, U+2066 to U+2069) or breaks a line (U+2028, U+2029).
std::size_t unseen_bytes(std::string_view text, std::size_t i) {
  const auto at = [&](std::size_t k) { return static_cast<unsigned char>(i + k < text.size() ? text[i + k] : 0); };
  if (at(0) < 0x20 || at(0) == 0x7f) return 1;
  if (at(0) == 0xc2 && at(1) >= 0x80 && at(1) < 0xa0) return 2;
  if (at(0) == 0xd8 && at(1) == 0x9c) return 2;
  if (at(0) != 0xe2) return 0;
  const bool marks = at(1) == 0x80 && (at(2) == 0x8e || at(2) == 0x8f || (at(2) >= 0xa8 && at(2) <= 0xae));
  const bool isolates = at(1) == 0x81 && at(2) >= 0xa6 && at(2) <= 0xa9;
  return marks || isolates ? 3 : 0;
}

/// Text that nlohmann writes as it is, which JSON lets stand as \u and four digits, too. All of these are in strings.
std::string escaped_json(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const std::size_t bytes = text[i] == '\n' ? 0 : unseen_bytes(text, i);
    if (bytes == 0) {
      out += text[i];
      continue;
    }
    unsigned code = static_cast<unsigned char>(text[i]);
    if (bytes > 1) code &= bytes == 2 ? 0x1fu : 0x0fu;
    for (std::size_t k = 1; k < bytes; ++k) code = code << 6 | (static_cast<unsigned char>(text[i + k]) & 0x3fu);
    out += fmt::format("\\u{:04x}", code);
    i += bytes - 1;
  }
  return out;
}

std::string base64(std::string_view bytes) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    unsigned group = 0;
    for (std::size_t k = 0; k < 3; ++k) {
      group = group << 8 | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0u);
    }
    for (std::size_t k = 0; k < 4; ++k) {
      out += i + k > bytes.size() ? '=' : kDigits[group >> (18 - 6 * k) & 63u];
    }
  }
  return out;
}

/// Text of a value `depth` objects deep: its lines but the first are moved to the right. `lines`: not all on one.
std::string json_text(const Json& json, bool lines, std::size_t depth) {
  const std::string text = escaped_json(json.dump(lines ? 2 : -1, ' ', false, Json::error_handler_t::replace));
  if (!lines || depth == 0) return text;
  std::string out;  // texts within JSON have no line ends of their own
  for (const char c : text) {
    out += c;
    if (c == '\n') out.append(2 * depth, ' ');
  }
  return out;
}

void print_list(const LongList& list, bool lines) {
  std::string text = "[";
  for (std::size_t i = 0; i < list.count; ++i) {
    text += i > 0 ? "," : "";
    text += lines ? "\n    " : "";
    text += json_text(list.item(i), lines, 2);
    if (text.size() < kPrintedAtOnce) continue;
    print(text);
    text.clear();
  }
  text += lines && list.count > 0 ? "\n  ]" : "]";
  print(text);
}

void print_object(const Json& json, const LongLists& lists, bool lines) {
  std::string text = "{";
  bool first = true;
  for (const auto& [key, value] : json.items()) {
    text += std::exchange(first, false) ? "" : ",";
    text += lines ? "\n  " : "";
    text += json_text(key, lines, 1);
    text += lines ? ": " : ":";
    if (const auto list = lists.find(key); list != lists.end()) {
      print(text);
      print_list(list->second, lines);
      text.clear();
    } else {
      text += json_text(value, lines, 1);
    }
  }
  text += lines && !first ? "\n}\n" : "}\n";
  print(text);
}

}  // namespace

std::size_t width_of(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

/// A reader that has seen enough, as head, is no failure.
void print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
    if (errno == EPIPE) return;
    fail(ErrorCode::io, "standard output: cannot write: {}", std::generic_category().message(errno));
  }
}

void print_json(const Json& json) {
  print(json_text(json, true, 0) + "\n");
}

void print_json(const Json& json, const LongLists& lists) {
  print_object(json, lists, true);
}

void print_json_line(const Json& json, const LongLists& lists) {
  print_object(json, lists, false);
}

void complain(std::string_view text) {
  g_last_complaint = text;
  note(fmt::format("kvzip: {}", text));
}

const std::string& last_complaint() {
  return g_last_complaint;
}

void notes_clear_line(bool there_is_one) {
  g_over_progress = there_is_one && ::isatty(STDERR_FILENO) == 1;
}

void note(std::string_view text) {
  const std::string line = (g_over_progress ? "\r\033[K" : "") + printable(text) + "\n";
  std::fwrite(line.data(), 1, line.size(), stderr);
}

std::string printable(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const std::size_t bytes = unseen_bytes(text, i);
    if (bytes == 0) {
      out += text[i];
      continue;
    }
    for (std::size_t k = 0; k < bytes; ++k) out += fmt::format("\\x{:02x}", static_cast<unsigned char>(text[i + k]));
    i += bytes - 1;
  }
  return out;
}

std::string markdown_text(std::string_view text) {
  std::string out;
  for (const char c : printable(text)) {
    if (std::string_view("\\|*_`<>[]&").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

std::string size_text(std::uint64_t bytes) {
  if (bytes < 1000) return fmt::format("{} B", bytes);
  constexpr std::string_view kUnits[] = {"kB", "MB", "GB", "TB", "PB", "EB"};
  double value = static_cast<double>(bytes) / 1000;
  std::size_t unit = 0;
  // 999.95 would be printed as 1000.0.
  for (; value >= 999.95 && unit + 1 < std::size(kUnits); value /= 1000) ++unit;
  return fmt::format("{:.{}f} {}", value, value < 99.995 ? 2 : 1, kUnits[unit]);
}

std::string shape_text(const std::vector<std::uint64_t>& shape) {
  if (shape.empty()) return "scalar";
  return fmt::format("{}", fmt::join(shape, "x"));
}

std::string ranges_text(const std::vector<std::uint32_t>& numbers) {
  std::string out;
  for (std::size_t i = 0; i < numbers.size();) {
    std::size_t end = i + 1;
    while (end < numbers.size() && numbers[end] == numbers[end - 1] + 1) ++end;
    if (!out.empty()) out += ',';
    out += std::to_string(numbers[i]);
    if (end - i > 1) out += fmt::format("-{}", numbers[end - 1]);
    i = end;
  }
  return out.empty() ? "-" : out;
}

std::string number_text(std::optional<double> value) {
  return value ? fmt::format("{:.4g}", *value) : "-";
}

std::string layer_text(std::optional<std::uint32_t> layer) {
  return layer ? std::to_string(*layer) : "-";
}

std::string name_pattern(std::string_view name, std::optional<std::uint32_t> layer) {
  if (!layer) return std::string(name);
  const std::string digits = std::to_string(*layer);
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  std::string out;
  for (std::size_t i = 0; i < name.size();) {
    std::size_t end = i;
    while (end < name.size() && is_digit(name[end])) ++end;
    if (end == i) {
      out += name[i++];
      continue;
    }
    out += name.substr(i, end - i) == digits ? "#" : std::string(name.substr(i, end - i));
    i = end;
  }
  return out;
}

Json json_number(std::optional<double> value) {
  return value && std::isfinite(*value) ? Json(*value) : Json(nullptr);
}

void add_bytes_of_name(Json& json, const std::string& member, std::string_view name) {
  if (!is_utf8(name)) json[member + "_base64"] = base64(name);
}

Json json_layer(std::optional<std::uint32_t> layer) {
  return layer ? Json(*layer) : Json(nullptr);
}

Json json_model(const ModelInfo& model) {
  constexpr std::string_view kStates[] = {"unknown", "none", "pre", "post"};
  constexpr std::string_view kScalings[] = {"none", "linear", "llama3", "yarn"};
  const Rope& rope = model.rope;
  Json json{{"name", model.model},
            {"layers", model.layers},
            {"kv_heads", model.kv_heads},
            {"head_dim", model.head_dim},
            {"rope", {{"state", kStates[static_cast<std::size_t>(rope.state)]}}}};
  if (model.window != 0) json["window"] = model.window;
  for (const auto& [layer, own] : model.own) {
    json["own"].push_back({{"layer", layer},
                           {"rope", kStates[static_cast<std::size_t>(own.rope.state)]},
                           {"theta", own.rope.theta},
                           {"window", own.window}});
  }
  if (rope.theta == 0) return json;
  Json& out = json["rope"];
  out["theta"] = rope.theta;
  out["layout"] = rope.layout == Rope::Layout::half ? "half" : "interleaved";
  out["dims"] = rope.dims;
  out["first_position"] = rope.first_position;
  out["scaling"] = kScalings[static_cast<std::size_t>(rope.scaling)];
  if (rope.scaling == Rope::Scaling::none) return json;
  out["factor"] = rope.factor;
  if (rope.scaling == Rope::Scaling::linear) return json;
  out["original_context"] = rope.original_context;
  if (rope.scaling == Rope::Scaling::yarn) return json;
  out["low_freq_factor"] = rope.low_freq_factor;
  out["high_freq_factor"] = rope.high_freq_factor;
  return json;
}

std::string csv_text(std::string_view text) {
  std::string out = "\"";
  for (const char c : printable(text)) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + "\"";
}

std::string csv_number(std::optional<double> value) {
  return value && !std::isnan(*value) ? fmt::format("{}", *value) : std::string();
}

std::string csv_names(const CsvColumns& columns) {
  std::string out;
  for (const CsvColumn& column : columns) out += "," + column.name;
  return out;
}

std::string csv_cells(const CsvColumns& columns) {
  std::string out;
  for (const CsvColumn& column : columns) out += "," + column.cell;
  return out;
}

std::optional<double> ratio_of(std::uint64_t source, std::uint64_t coded) {
  if (coded == 0) return {};
  return static_cast<double>(source) / static_cast<double>(coded);
}

std::optional<double> bits_of(std::uint64_t bytes, std::uint64_t values) {
  if (values == 0) return {};
  return static_cast<double>(bytes) * 8 / static_cast<double>(values);
}

Table::Table(std::vector<std::string> columns) {
  for (std::string& name : columns) {
    right_.push_back(name.starts_with('>'));
    if (right_.back()) name.erase(0, 1);
  }
  rows_.push_back(std::move(columns));
}

void Table::add(std::vector<std::string> row) {
  for (std::string& cell : row) cell = printable(cell);
  rows_.push_back(std::move(row));
}

std::string Table::text() const {
  std::vector<std::size_t> width(right_.size());
  for (const auto& row : rows_) {
    for (std::size_t c = 0; c < row.size(); ++c) width[c] = std::max(width[c], width_of(row[c]));
  }
  std::string out;
  for (const auto& row : rows_) {
    std::string line;
    for (std::size_t c = 0; c < row.size(); ++c) {
      const std::string pad(width[c] - width_of(row[c]), ' ');
      if (c > 0) line += "  ";
      line += right_[c] ? pad + row[c] : row[c] + pad;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  return out;
}

std::string Table::markdown() const {
  std::string out;
  for (std::size_t r = 0; r < rows_.size(); ++r) {
    out += '|';
    for (const std::string& cell : rows_[r]) out += fmt::format(" {} |", markdown_text(cell));
    out += '\n';
    if (r > 0) continue;
    out += '|';
    for (const bool right : right_) out += right ? "---:|" : "---|";
    out += '\n';
  }
  return out;
}

}  // namespace kvzip::tool
