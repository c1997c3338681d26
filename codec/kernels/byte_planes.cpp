// SPDX-License-Identifier: Apache-2.0
#include "codec/kernels/byte_planes.hpp"

#include <bit>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "codec/kernels/byte_planes.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace kvzip::kernels {
namespace HWY_NAMESPACE {

template <typename T>
void split(const std::byte* in, std::size_t n, unsigned rotation, std::uint8_t* const* planes) {
  for (std::size_t p = 0; p < sizeof(T); ++p) {
    std::uint8_t* __restrict plane = planes[p];
    const unsigned shift = 8 * static_cast<unsigned>(sizeof(T) - 1 - p);
    for (std::size_t i = 0; i < n; ++i) {
      T v;
      std::memcpy(&v, in + i * sizeof v, sizeof v);
      // A rotation written out, which is vectorised everywhere; by 0, both terms are the element.
      v = static_cast<T>(static_cast<T>(v << rotation) |
                         static_cast<T>(v >> ((8 * sizeof v - rotation) % (8 * sizeof v))));
      plane[i] = static_cast<std::uint8_t>(v >> shift);
    }
  }
}

template <typename T>
void join(const std::uint8_t* const* planes, std::size_t n, unsigned rotation, std::byte* out) {
  const std::uint8_t* at[sizeof(T)];
  for (std::size_t p = 0; p < sizeof(T); ++p) at[p] = planes[p];
  for (std::size_t i = 0; i < n; ++i) {
    T v = 0;
    for (std::size_t p = 0; p < sizeof v; ++p) {
      v = static_cast<T>(v | static_cast<T>(static_cast<T>(at[p][i]) << (8 * (sizeof v - 1 - p))));
    }
    v = static_cast<T>(static_cast<T>(v >> rotation) |
                       static_cast<T>(v << ((8 * sizeof v - rotation) % (8 * sizeof v))));
    std::memcpy(out + i * sizeof v, &v, sizeof v);
  }
}

void Split(const std::byte* in, std::size_t n, unsigned width, bool rotate, std::uint8_t* const* planes) {
  const unsigned rotation = rotate ? 1 : 0;
  switch (width) {
    case 1:
      return split<std::uint8_t>(in, n, rotation, planes);
    case 2:
      return split<std::uint16_t>(in, n, rotation, planes);
    case 4:
      return split<std::uint32_t>(in, n, rotation, planes);
    default:
      return split<std::uint64_t>(in, n, rotation, planes);
  }
}

void Join(const std::uint8_t* const* planes, std::size_t n, unsigned width, bool rotate, std::byte* out) {
  const unsigned rotation = rotate ? 1 : 0;
  switch (width) {
    case 1:
      return join<std::uint8_t>(planes, n, rotation, out);
    case 2:
      return join<std::uint16_t>(planes, n, rotation, out);
    case 4:
      return join<std::uint32_t>(planes, n, rotation, out);
    default:
      return join<std::uint64_t>(planes, n, rotation, out);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace kvzip::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvzip::kernels {

HWY_EXPORT(Split);
HWY_EXPORT(Join);

void split_planes(const std::byte* in, std::size_t n, unsigned width, bool rotate, std::uint8_t* const* planes) {
  HWY_DYNAMIC_DISPATCH(Split)(in, n, width, rotate, planes);
}

void join_planes(const std::uint8_t* const* planes, std::size_t n, unsigned width, bool rotate, std::byte* out) {
  HWY_DYNAMIC_DISPATCH(Join)(planes, n, width, rotate, out);
}

}  // namespace kvzip::kernels
#endif
