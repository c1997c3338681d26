// SPDX-License-Identifier: Apache-2.0
// Factories of the coders, and the plain form every coder may fall back on.
#pragma once

#include <memory>
#include <string>

#include "codec/stage.hpp"

namespace kvzip {

std::unique_ptr<Coder> make_pack();
std::unique_ptr<Coder> make_ac();
std::unique_ptr<Coder> make_zstd();
std::unique_ptr<Coder> make_rans();
std::unique_ptr<Coder> make_deflate();
std::unique_ptr<Coder> make_packs();

/// Of the library, "1.5.4".
std::string zstd_version();

/// The plain form of a stream: symbols in ceil(log2 alphabet) bits, elements and bytes as they are, positions as
/// Rice-coded gaps.
void pack_stream(const Stream& stream, Bytes& body);
void unpack_stream(Stream& stream, ByteView body);

/// Byte `plane` (0 = least significant) of each element as a stream of symbols, and back.
Stream element_plane(const Stream& elements, std::uint32_t plane);
void set_element_plane(Stream& elements, std::uint32_t plane, const Stream& symbols);

}  // namespace kvzip
