// SPDX-License-Identifier: Apache-2.0
// To whom a cache belongs, as far as its file says so: what must agree where files are put together or compared.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "kvzip/io.hpp"
#include "kvzip/layout.hpp"

namespace kvzip {

/// By what is stated ("model", "weights", "tokens", ...). What only one of two files states differs in nothing.
using Identity = std::map<std::string, std::string>;

/// `user`: metadata that stand for the dump's own.
Identity identity_of(const Dump& dump, const std::vector<std::pair<std::string, std::string>>& user = {});

enum class Belonging : std::uint8_t { model, cache };  // the same model; the same tokens of it, too
/// "model ('a' and 'b')" for all that differs; empty where nothing does.
std::string differing_text(const Identity& a, const Identity& b, Belonging what);

/// The ids of tokens that both dumps list under one name, with one type and shape, are not the same. Reads them; a
/// reader of a pipe has none.
bool other_token_ids(DumpReader& a, DumpReader& b);

/// Both list the ids of tokens under one name, and the list of `more` begins with the one of `first`, which has an
/// entry for each of so many tokens: it holds these, too.
bool repeats_token_ids(DumpReader& first, std::uint64_t tokens, DumpReader& more);

/// Keys or values of 8 bits where nothing in the file is called a scale: their type and number; empty otherwise.
std::string missing_scales_text(const Dump& dump, const Recognition& recognition);

}  // namespace kvzip
