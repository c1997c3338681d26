// SPDX-License-Identifier: Apache-2.0
#include "src/cli/workers.hpp"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <new>
#include <type_traits>

#include "codec/fail.hpp"
#include "src/cli/memory_limit.hpp"
#include "src/report/progress.hpp"

namespace kvzip::tool {
namespace {

struct Slot {
  enum class State : int { free, taken, done };
  std::atomic<State> state;
  std::atomic<pid_t> worker;
  Outcome outcome;
};
static_assert(std::is_trivially_copyable_v<Outcome>);
static_assert(std::atomic<std::size_t>::is_always_lock_free, "processes share it");

/// What the processes share; a mapping is zeroed, and so all free.
class Board {
 public:
  explicit Board(std::size_t count) : count_(count), bytes_(sizeof(Head) + count * sizeof(Slot)) {
    void* at = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) throw std::bad_alloc();
    head_ = new (at) Head;
    slots_ = reinterpret_cast<Slot*>(head_ + 1);
    for (std::size_t i = 0; i < count; ++i) new (slots_ + i) Slot{};
  }
  ~Board() { ::munmap(head_, bytes_); }
  Board(const Board&) = delete;
  Board& operator=(const Board&) = delete;

  /// Null when there is nothing left to do.
  Slot* take(std::size_t& index) {
    if (head_->stop) return nullptr;
    index = head_->next++;
    if (index >= count_) return nullptr;
    slots_[index].worker = ::getpid();
    slots_[index].state = Slot::State::taken;
    return &slots_[index];
  }
  void stop() { head_->stop = true; }
  Slot& slot(std::size_t i) { return slots_[i]; }

 private:
  struct alignas(Slot) Head {
    std::atomic<std::size_t> next{0};
    std::atomic<bool> stop{false};
  };
  std::size_t count_, bytes_;
  Head* head_ = nullptr;
  Slot* slots_ = nullptr;
};

/// In the new process; ends it.
[[noreturn]] void work(Board& board, std::size_t workers, pid_t parent, bool goes_on,
                       const std::function<Outcome(std::size_t)>& one) {
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);  // who ends the parent ends the work
  if (::getppid() != parent) ::_exit(kError);
  struct rlimit limit {};
  if (::getrlimit(RLIMIT_DATA, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) limit_memory(limit.rlim_cur / workers);
  hide_progress();
  std::size_t index = 0;
  while (Slot* slot = board.take(index)) {
    slot->outcome = one(index);
    slot->state = Slot::State::done;
    if (slot->outcome.status != kDone && !goes_on) board.stop();
  }
  ::_exit(0);
}

}  // namespace

std::vector<std::optional<Outcome>> run_workers(std::size_t workers, std::size_t count, bool goes_on,
                                                const std::function<Outcome(std::size_t)>& one,
                                                const std::function<void(std::size_t, int signal)>& killed) {
  Board board(count);
  const pid_t parent = ::getpid();
  std::size_t running = 0;
  while (running < std::min(workers, count)) {
    const pid_t child = ::fork();
    if (child == 0) work(board, workers, parent, goes_on, one);
    if (child < 0 && running == 0) fail(ErrorCode::io, "cannot start a process: {}", std::strerror(errno));
    if (child < 0) break;  // fewer do the same
    ++running;
  }
  while (running > 0) {
    int status = 0;
    const pid_t child = ::wait(&status);
    if (child < 0 && errno == EINTR) continue;
    if (child < 0) break;
    --running;
    for (std::size_t i = 0; i < count; ++i) {
      Slot& slot = board.slot(i);
      if (slot.worker != child || slot.state != Slot::State::taken) continue;
      slot.outcome = {};
      slot.outcome.status = kError;
      slot.state = Slot::State::done;
      killed(i, WIFSIGNALED(status) ? WTERMSIG(status) : 0);
      if (!goes_on) board.stop();
    }
  }
  std::vector<std::optional<Outcome>> out(count);
  for (std::size_t i = 0; i < count; ++i) {
    if (board.slot(i).state == Slot::State::done) out[i] = board.slot(i).outcome;
  }
  return out;
}

}  // namespace kvzip::tool
