// SPDX-License-Identifier: Apache-2.0
// What oneTBB orders between threads, told to ThreadSanitizer, which does not see into the library. Nothing else may be
// said here: whatever stands in no order by the library's own promises must be found. Costs nothing in other builds.
#pragma once

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define KVZIP_TELLS_ORDER 1
#endif
#elif defined(__SANITIZE_THREAD__)
#define KVZIP_TELLS_ORDER 1
#endif

#ifdef KVZIP_TELLS_ORDER
extern "C" void __tsan_acquire(void* key);
extern "C" void __tsan_release(void* key);
#endif

namespace kvzip {

/// What follows comes after all that was done before the same key was given to comes_before().
inline void comes_after([[maybe_unused]] void* key) {
#ifdef KVZIP_TELLS_ORDER
  __tsan_acquire(key);
#endif
}
inline void comes_before([[maybe_unused]] void* key) {
#ifdef KVZIP_TELLS_ORDER
  __tsan_release(key);
#endif
}

/// A step of several with one key, of which each comes after the one before.
class OrderedStep {
 public:
  explicit OrderedStep(void* key) : key_(key) { comes_after(key); }
  ~OrderedStep() { comes_before(key_); }
  OrderedStep(const OrderedStep&) = delete;
  OrderedStep& operator=(const OrderedStep&) = delete;

 private:
  void* key_;
};

}  // namespace kvzip
