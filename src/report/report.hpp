// SPDX-License-Identifier: Apache-2.0
// What people and scripts read: tables, sizes, JSON, and a line of progress.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kvzip/io.hpp"
#include "kvzip/layout.hpp"

namespace kvzip::tool {

using Json = nlohmann::ordered_json;

/// Standard output, for data that was asked for; fail(io) when it cannot be written.
void print(std::string_view text);
void print_json(const Json& json);
/// One line on standard error: "kvzip: ...".
void complain(std::string_view text);
/// What it said last.
const std::string& last_complaint();
/// One line on standard error, as it is.
void note(std::string_view text);

/// While there is a line of progress on the terminal, also another process's, what is said takes its place.
void notes_clear_line(bool there_is_one);

/// Names come from files: control characters would reach the terminal, and others turn the direction of what follows.
std::string printable(std::string_view text);
/// printable(), with what Markdown would take for its own escaped.
std::string markdown_text(std::string_view text);
/// Columns a terminal gives the text: one per UTF-8 sequence.
std::size_t width_of(std::string_view text);
/// "16.78 MB", in powers of ten.
std::string size_text(std::uint64_t bytes);
/// "8 x 1024 x 128"; "scalar".
std::string shape_text(const std::vector<std::uint64_t>& shape);
/// "0-3,7"; the numbers ascend.
std::string ranges_text(const std::vector<std::uint32_t>& numbers);
/// Four significant digits; "-" when there is no number.
std::string number_text(std::optional<double> value);
std::string layer_text(std::optional<std::uint32_t> layer);
/// The name with its layer number replaced by '#', so that the tensors of different layers look alike.
std::string name_pattern(std::string_view name, std::optional<std::uint32_t> layer);

/// JSON has no infinity and no NaN: they become null.
Json json_number(std::optional<double> value);
/// Adds what "MEMBER" cannot say of a name that is no UTF-8: "MEMBER_base64", its bytes (RFC 4648).
void add_bytes_of_name(Json& json, const std::string& member, std::string_view name);
Json json_layer(std::optional<std::uint32_t> layer);
Json json_model(const ModelInfo& model);

/// Lists of an object that may be very long, by member. The object has each as an empty list; items are made as they
/// are printed.
struct LongList {
  std::size_t count;
  std::function<Json(std::size_t)> item;
};
using LongLists = std::map<std::string, LongList, std::less<>>;
void print_json(const Json& json, const LongLists& lists);

/// On one line, for a stream of them; as print_json() otherwise.
void print_json_line(const Json& json, const LongLists& lists = {});

/// Quoted, so that it may hold commas; printable().
std::string csv_text(std::string_view text);
/// Numbers as spreadsheets read them; nothing where there is none.
std::string csv_number(std::optional<double> value);

std::optional<double> ratio_of(std::uint64_t source, std::uint64_t coded);
std::optional<double> bits_of(std::uint64_t bytes, std::uint64_t values);

class Table {
 public:
  /// Names that begin with '>' are of columns that stand to the right.
  explicit Table(std::vector<std::string> columns);
  void add(std::vector<std::string> row);
  bool empty() const { return rows_.empty(); }
  std::string text() const;
  std::string markdown() const;

 private:
  std::vector<bool> right_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace kvzip::tool
