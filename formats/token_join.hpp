// SPDX-License-Identifier: Apache-2.0
// Dumps of consecutive tokens presented as one: chunks and pages of a server's
// cache.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "formats/join.hpp"
#include "kvzip/layout.hpp"

namespace kvzip {

/// Each tensor of keys, values and queries is those of the inputs one after the
/// other along its axis T, in the order of the inputs; so are lists of an entry
/// for each token (token ids, positions). `options` say how tensors are
/// recognised, in the inputs and in the result. One input is that input itself.
/// - All inputs have the same tensors, of the same types, axes and extents but
/// for T. What is not along tokens must be
///   the same in all, bit for bit, and is there once. fail(invalid_argument)
///   names the tensor and the input.
/// - Attributes that several have must agree, unless `mix`, but for those that
/// tell of one chunk: its position
///   (first_position), which must be where the input before ends and is then
///   the first one's, and hashes and shapes of chunks, which go.
/// - fail(invalid_argument) for containers, for prompt caches of MLX, for
/// inputs whose layers hold different numbers of
///   tokens, and where the files' names say that each is a layer.
/// Errors in an input's data begin with its name.
std::unique_ptr<DumpReader> join_tokens(std::vector<JoinInput> inputs, const RecogniseOptions& options = {},
                                        bool mix = false);

/// Files of a folder in the order of the one number in which their names
/// differ. fail(invalid_argument), saying what to do, where they differ in
/// more, or where the numbers' steps differ, as when one is missing.
std::vector<std::string> in_order_of_names(std::vector<std::string> paths);

}  // namespace kvzip
