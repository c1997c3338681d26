// SPDX-License-Identifier: Apache-2.0
// Several dumps presented as one: a cache that was saved as a file for each layer, or keys and values apart.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kvzip/io.hpp"

namespace kvzip {

struct JoinInput {
  std::string name;  // for messages
  std::unique_ptr<DumpReader> reader;
};

/// The input without the frame of an HDF5 file, from which that file alone can be made again; it says that it left it.
JoinInput without_frame(JoinInput input);

/// The tensors of all inputs side by side, and their parts one input after the other: the inverse of select() by layers
/// or roles. One input is that input itself.
/// - Tensors of one name whose files' names, and not their own, say their layers are called FILE.NAME. Other names must
///   differ: fail(invalid_argument) names the tensor and both inputs.
/// - An attribute that several inputs have is there once. They must agree: nothing that an input says is lost or said
///   of another's tensors. fail(invalid_argument) names the attribute and both inputs.
/// - Inputs that state their roles (containers) keep them, others get what recognise_with_values() gives. What those
///   that do state say of the model must agree in all but the number of layers, of which the largest counts. When none
///   states roles, neither does the result.
/// Errors in an input's data begin with its name. fail(invalid_argument) without inputs.
/// `mix`: attributes and models may differ; those of the first input that has them stand.
std::unique_ptr<DumpReader> join(std::vector<JoinInput> inputs, bool mix = false);

}  // namespace kvzip
