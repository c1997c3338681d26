// SPDX-License-Identifier: Apache-2.0
// Arrays that every tile needs anew: their elements start unset, and their memory can go on to the next tile
// (kvzip/memory.hpp).
// Fresh memory costs more than the loops that fill it: the kernel zeroes each page at its first touch.
#pragma once

#include <cstddef>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

namespace kvzip {

/// At least `bytes` bytes, aligned as operator new's, and back with the same number.
void* take_memory(std::size_t bytes);
void give_memory(void* memory, std::size_t bytes) noexcept;

/// Gives back what all threads keep; false where that is nothing.
bool release_kept_memory() noexcept;

/// The sines of rotary.cpp that this thread had last, since every layer asks for the same ones: kept as memory is.
struct Turns;
std::shared_ptr<const Turns> kept_turns();
void keep_turns(std::shared_ptr<const Turns> turns);

template <typename T>
struct BufferAllocator {
  static_assert(std::is_trivial_v<T>);
  using value_type = T;
  BufferAllocator() = default;
  template <typename U>
  BufferAllocator(const BufferAllocator<U>&) {}
  T* allocate(std::size_t n) {
    if (n > std::size_t(-1) / 2 / sizeof(T)) throw std::bad_array_new_length();
    return static_cast<T*>(take_memory(n * sizeof(T)));
  }
  void deallocate(T* p, std::size_t n) noexcept { give_memory(p, n * sizeof(T)); }
  /// vector(n) and resize(n) leave new elements unset.
  template <typename U>
  void construct(U* p) noexcept {
    ::new (static_cast<void*>(p)) U;
  }
  template <typename U, typename... Args>
  void construct(U* p, Args&&... args) {
    ::new (static_cast<void*>(p)) U(std::forward<Args>(args)...);
  }
  template <typename U>
  bool operator==(const BufferAllocator<U>&) const {
    return true;
  }
};

template <typename T>
using Buffer = std::vector<T, BufferAllocator<T>>;

}  // namespace kvzip
