// SPDX-License-Identifier: Apache-2.0
// How tensors are recognised, as it was asked for, and what is said of those that are not.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kvzip/io.hpp"

namespace kvzip::tool {

/// --layout, --map, --raw, --join, --strict and (for compress) --meta: how tensors are recognised.
struct Recognising {
  std::string layout, raw;
  bool by_tokens = false;  // --join tokens: files hold tokens that follow each other
  std::vector<std::string> map, meta;
  bool strict = false;  // refuse what is not recognised in full
  bool some = false;    // refuse what holds no keys and no values
  bool views = false;   // --map may say that tensors are something else than the file says
  bool say = false;     // a line on standard error when floats are not recognised
};
/// Why a tensor is what it is, and what would settle it: the options with what to give them.
std::string why_text(const TensorInfo& tensor, const TensorRole& role);
/// "4 of 6 float tensors stay lossless: ..., why, and what to do"; empty when all were recognised or left out by a map.
std::string unrecognised_text(const Dump& dump, const Recognition& recognition);
/// "left out: ...": what an HDF5 file holds that no dump can; empty where there is nothing.
std::string left_out_text(const DumpReader& reader);
/// The input as --map's fields show it.
std::unique_ptr<DumpReader> viewed(std::unique_ptr<DumpReader> reader, const Recognising& options);
/// What --layout and --map say; UsageError for a rule that is none.
RecogniseOptions recognise_options(const Recognising& options);
using KeyValues = std::vector<std::pair<std::string, std::string>>;
KeyValues parse_meta(const std::vector<std::string>& texts);
/// The roles of a dump's tensors: a container's own unless --layout or --map say otherwise. `meta` stands in for the
/// dump's own metadata of the same names. Where heads and tokens cannot be told apart, keys are read (rope_axes.hpp).
Recognition recognise_input(DumpReader& reader, const Recognising& options, const KeyValues& meta);

}  // namespace kvzip::tool
