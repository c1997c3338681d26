// SPDX-License-Identifier: Apache-2.0
// Compresses a buffer of keys in memory and decodes it again.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <span>
#include <vector>

#include "kvzip/error.hpp"
#include "kvzip/tile_codec.hpp"

int main() {
  constexpr std::size_t kTokens = 200, kHeads = 4, kDim = 64;
  std::vector<float> keys(kTokens * kHeads * kDim);
  for (std::size_t i = 0; i < keys.size(); ++i) keys[i] = std::sin(0.01f * static_cast<float>(i));

  kvzip::TileFormat format;
  format.role = kvzip::Role::key;
  format.dtype = kvzip::DType::f32;
  format.heads = kHeads;
  format.head_dim = kDim;
  try {
    const kvzip::TileCodec encoder("quant:bits=8:axis=token,rans", format);
    const kvzip::Bytes coded = encoder.encode(std::as_bytes(std::span(keys)));
    std::vector<float> decoded(keys.size());
    const kvzip::TileCodec decoder(encoder.pipeline(), format);  // what another program would make of the text
    decoder.decode(coded, std::as_writable_bytes(std::span(decoded)));

    float largest = 0;
    for (std::size_t i = 0; i < keys.size(); ++i) largest = std::fmax(largest, std::fabs(keys[i] - decoded[i]));
    std::printf("%zu bytes to %zu, largest error %g\n", keys.size() * sizeof(float), coded.size(), largest);
    return coded.size() < keys.size() * sizeof(float) / 3 && largest < 1.0 / 255 ? 0 : 1;
  } catch (const kvzip::Error& error) {
    std::fprintf(stderr, "tile: %s\n", error.what());
    return 1;
  }
}
