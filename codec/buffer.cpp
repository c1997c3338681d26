// SPDX-License-Identifier: Apache-2.0
#include "codec/buffer.hpp"

#include <array>
#include <atomic>
#include <bit>
#include <memory>
#include <mutex>
#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "kvzip/memory.hpp"

namespace kvzip {
namespace {

constexpr std::size_t kSmall = std::size_t{32} << 10;  // below it the heap is as good
constexpr std::size_t kKept = std::size_t{96} << 20;   // of a thread
constexpr std::size_t kBlocks = 32;

/// An eighth of a power of two is the grain, so that tiles of nearly the same size share memory.
std::size_t rounded(std::size_t bytes) {
  const std::size_t grain = std::bit_floor(bytes) / 8;
  return (bytes + grain - 1) / grain * grain;
}

/// A tile of this size or more lies on whole large pages, where the machine has them: loops that walk its columns touch
/// another small page at each row, more of them than the processor keeps addresses of (Linux,
/// admin-guide/mm/transhuge.rst).
constexpr std::size_t kLarge = std::size_t{4} << 20, kLargePage = std::size_t{2} << 20;

void* allocate(std::size_t bytes) {
  if (bytes < kLarge) return ::operator new(bytes);
  void* memory = ::operator new (bytes, std::align_val_t{kLargePage});
#if defined(__linux__)
  ::madvise(memory, bytes / kLargePage * kLargePage, MADV_HUGEPAGE);  // advice: without it all works the same
#endif
  return memory;
}

void release(void* memory, std::size_t bytes) noexcept {
  if (bytes < kLarge) return ::operator delete(memory);
  ::operator delete (memory, std::align_val_t{kLargePage});
}

std::atomic<int> keepers = 0;

class Kept;

/// The threads that may keep memory, linked through what they keep: a new-handler comes here while nothing is left, and
/// whoever waited for memory under the lock, or for the first use of a static variable, would wait for itself.
struct Threads {
  std::mutex mutex;
  Kept* first = nullptr;
};
/// There before anything runs and never destroyed: threads may end after everything else.
union Lasting {
  Threads threads;
  constexpr Lasting() : threads{} {}
  ~Lasting() {}
};
constinit Lasting lasting;
constinit Threads& threads = lasting.threads;

/// Memory that a thread gave back, most recent last. Other threads come only to release it, so its lock is free to
/// take. Under it nothing is allocated, as above.
class Kept {
 public:
  Kept() {
    const std::lock_guard lock(threads.mutex);
    next_ = threads.first;
    if (next_ != nullptr) next_->before_ = this;
    threads.first = this;
  }
  ~Kept() {
    {
      const std::lock_guard lock(threads.mutex);
      (before_ != nullptr ? before_->next_ : threads.first) = next_;
      if (next_ != nullptr) next_->before_ = before_;
    }
    release_all();
  }
  Kept* next() const { return next_; }  // under the lock of threads
  void* take(std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    for (std::size_t i = count_; i-- > 0;) {
      if (blocks_[i].bytes == bytes) return remove(i);
    }
    return nullptr;
  }
  bool give(void* memory, std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    if (bytes > kKept / 2 || keepers == 0) return false;
    while (count_ == kBlocks || (count_ > 0 && bytes_ + bytes > kKept)) {
      const std::size_t oldest = blocks_[0].bytes;
      release(remove(0), oldest);
    }
    blocks_[count_++] = {memory, bytes};
    bytes_ += bytes;
    return true;
  }
  std::shared_ptr<const Turns> turns() {
    const std::lock_guard lock(mutex_);
    return turns_;
  }
  void set_turns(std::shared_ptr<const Turns> turns) {
    const std::lock_guard lock(mutex_);
    if (keepers != 0) turns_.swap(turns);
  }
  bool release_all() {
    const std::lock_guard lock(mutex_);
    const bool any = count_ > 0 || turns_;
    turns_.reset();
    for (std::size_t i = 0; i < count_; ++i) release(blocks_[i].memory, blocks_[i].bytes);
    count_ = bytes_ = 0;
    return any;
  }

 private:
  struct Block {
    void* memory;
    std::size_t bytes;
  };
  void* remove(std::size_t i) {
    void* memory = blocks_[i].memory;
    bytes_ -= blocks_[i].bytes;
    for (--count_; i < count_; ++i) blocks_[i] = blocks_[i + 1];
    return memory;
  }

  Kept *before_ = nullptr, *next_ = nullptr;  // of threads
  std::mutex mutex_;
  std::shared_ptr<const Turns> turns_;
  std::array<Block, kBlocks> blocks_;
  std::size_t count_ = 0, bytes_ = 0;
};
thread_local Kept kept;

// Under a sanitiser memory goes back at once, so that a use after that is found.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kKeeps = false;
#elif defined(__has_feature)
constexpr bool kKeeps = !__has_feature(address_sanitizer);
#else
constexpr bool kKeeps = true;
#endif

}  // namespace

KeepMemory::KeepMemory() {
  ++keepers;
}

KeepMemory::~KeepMemory() {
  if (--keepers == 0) release_kept_memory();
}

bool release_kept_memory() noexcept {
  const std::lock_guard lock(threads.mutex);
  bool any = false;
  for (Kept* kept = threads.first; kept != nullptr; kept = kept->next()) any = kept->release_all() || any;
  return any;
}

void* take_memory(std::size_t bytes) {
  if (bytes < kSmall) return ::operator new(bytes);
  if (!kKeeps || keepers == 0) return allocate(rounded(bytes));
  if (void* memory = kept.take(rounded(bytes)); memory != nullptr) return memory;
  return allocate(rounded(bytes));
}

void give_memory(void* memory, std::size_t bytes) noexcept {
  if (bytes < kSmall) return ::operator delete(memory);
  if (kKeeps && keepers != 0 && kept.give(memory, rounded(bytes))) return;
  release(memory, rounded(bytes));
}

std::shared_ptr<const Turns> kept_turns() {
  return kept.turns();
}

void keep_turns(std::shared_ptr<const Turns> turns) {
  if (kKeeps && keepers != 0) kept.set_turns(std::move(turns));
}

}  // namespace kvzip
