// SPDX-License-Identifier: Apache-2.0
// Counts what operator new gives out, for the whole test program, or lets it give out nothing.
#include "tests/contract/allocation.hpp"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define KVZIP_NO_COUNTING 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define KVZIP_NO_COUNTING 1
#endif
#endif

#ifdef KVZIP_NO_COUNTING

namespace kvzip::test {
std::size_t allocated_now() {
  return 0;
}
std::size_t allocated_most() {
  return 0;
}
void reset_allocated_most() {}
void fail_allocations(bool) {}
}  // namespace kvzip::test

#else

#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <new>

namespace {
std::atomic<std::size_t> now{0}, most{0};
std::atomic<bool> failing = false;
}  // namespace

void* operator new(std::size_t size) {
  void* p = nullptr;
  while (p = failing ? nullptr : std::malloc(size == 0 ? 1 : size), p == nullptr) {
    const std::new_handler handler = std::get_new_handler();
    if (handler == nullptr) throw std::bad_alloc();
    handler();
  }
  const std::size_t held = now += ::malloc_usable_size(p);
  std::size_t before = most;
  while (before < held && !most.compare_exchange_weak(before, held)) {
  }
  return p;
}
void operator delete(void* p) noexcept {
  if (p != nullptr) now -= ::malloc_usable_size(p);
  std::free(p);
}
void operator delete(void* p, std::size_t) noexcept {
  operator delete(p);
}

namespace kvzip::test {
std::size_t allocated_now() {
  return now;
}
std::size_t allocated_most() {
  return most;
}
void reset_allocated_most() {
  most = now.load();
}
void fail_allocations(bool fail) {
  failing = fail;
}
}  // namespace kvzip::test

#endif
