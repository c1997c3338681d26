// SPDX-License-Identifier: Apache-2.0
// --layers, --tokens and --role: a part of an input.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "formats/identity.hpp"
#include "formats/selection.hpp"
#include "src/request/recognising.hpp"

namespace kvzip::tool {

struct Selecting {
  std::string layers, tokens, role;
  bool mix = false;
  Selection selection() const;
};

/// What is under such values, where `other` has those tensors and not the values; else the reader itself.
DumpReader& form_in(const Dump& other, DumpReader& reader);
/// Says which quantised caches of MLX are decoded, and which are not.
void note_quantised(DumpReader& reader);

/// Files whose tensors stand side by side, or whose tokens follow each other (--join tokens); one is itself. They are
/// read as --raw and the fields of --map say. `mix`: also where they say that they belong to different models, tokens
/// or positions.
std::unique_ptr<DumpReader> open_inputs(const std::vector<std::string>& paths, bool mix = false,
                                        const Recognising& as = {});
/// UsageError for a container from a pipe, whose frames come but once.
void require_file(DumpReader& reader, std::string_view who);
/// fail() where two files say that they do not belong together, unless `mix`.
void require_belonging(DumpReader& a, DumpReader& b, Belonging what, bool mix);

/// What the selection leaves. `say`: which quantised caches of MLX are decoded, and which are not; where layers differ
/// in length, which positions they have; and that mlx-lm cannot go on from a cache that lacks arrays.
std::unique_ptr<DumpReader> select_saying(std::unique_ptr<DumpReader> reader, const Recognition& recognition,
                                          const Selection& selection, bool say);

/// Inputs of which only what is selected shows; without --role, `roles` do (empty = all). Where `roles` are asked
/// for, a dump without recognised keys or values is refused.
std::unique_ptr<DumpReader> open_selected(const std::vector<std::string>& paths, const Selecting& selecting,
                                          Recognising recognising, const std::vector<Role>& roles,
                                          const KeyValues& meta = {});

}  // namespace kvzip::tool
