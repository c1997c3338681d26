// SPDX-License-Identifier: Apache-2.0
#include "src/cli/workers.hpp"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <new>
#include <type_traits>

#include "codec/fail.hpp"
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

/// Holds back the news of children that end, for wait_for_news().
class HeldNews {
 public:
  HeldNews() {
    ::sigemptyset(&news_);
    ::sigaddset(&news_, SIGCHLD);
    ::sigprocmask(SIG_BLOCK, &news_, &before_);
  }
  ~HeldNews() { give_back(); }
  HeldNews(const HeldNews&) = delete;
  HeldNews& operator=(const HeldNews&) = delete;

  void give_back() const { ::sigprocmask(SIG_SETMASK, &before_, nullptr); }
  /// Returns when a child has ended, or soon.
  void wait_for_news() const {
    constexpr timespec kSoon{0, 200'000'000};
    ::sigtimedwait(&news_, nullptr, &kSoon);
  }

 private:
  sigset_t news_{}, before_{};
};

/// In the new process; ends it.
[[noreturn]] void work_on(Board& board, const Work& work, pid_t parent,
                          const std::function<Outcome(std::size_t)>& one) {
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);  // who ends the parent ends the work
  if (::getppid() != parent) ::_exit(kError);
  limit_memory(work.workers.bytes);
  hide_progress();
  std::size_t index = 0;
  while (Slot* slot = board.take(index)) {
    slot->outcome = one(index);
    slot->state = Slot::State::done;
    if (slot->outcome.status != kDone && !slot->outcome.starved && !work.goes_on) board.stop();
  }
  ::_exit(0);
}

/// The file that a worker had when it ended, if any, has failed.
void bury(Board& board, const Work& work, pid_t child, int status,
          const std::function<void(std::size_t, int signal)>& killed) {
  for (std::size_t i = 0; i < work.count; ++i) {
    Slot& slot = board.slot(i);
    if (slot.worker != child || slot.state != Slot::State::taken) continue;
    slot.outcome = {};
    slot.outcome.status = kError;
    slot.state = Slot::State::done;
    killed(i, WIFSIGNALED(status) ? WTERMSIG(status) : 0);
    if (!work.goes_on) board.stop();
  }
}

Totals totals_of(Board& board, std::size_t count) {
  Totals out;
  for (std::size_t i = 0; i < count; ++i) {
    if (board.slot(i).state == Slot::State::done) out.add(board.slot(i).outcome);
  }
  return out;
}

}  // namespace

void Totals::add(const Outcome& outcome) {
  if (outcome.starved) return;
  ++files;
  if (!outcome.source_bytes || !outcome.file_bytes) return;
  source += *outcome.source_bytes;
  coded += *outcome.file_bytes;
}

std::vector<std::optional<Outcome>> run_workers(const Work& work, const std::function<Outcome(std::size_t)>& one,
                                                const std::function<void(std::size_t, int signal)>& killed,
                                                const std::function<void(const Totals&)>& watch) {
  Board board(work.count);
  const pid_t parent = ::getpid();
  const HeldNews news;
  std::size_t running = 0;
  while (running < std::min(work.workers.processes, work.count)) {
    const pid_t child = ::fork();
    if (child == 0) {
      news.give_back();
      work_on(board, work, parent, one);
    }
    if (child < 0 && running == 0) fail(ErrorCode::io, "cannot start a process: {}", std::strerror(errno));
    if (child < 0) break;  // fewer do the same
    ++running;
  }
  while (running > 0) {
    int status = 0;
    const pid_t child = ::waitpid(-1, &status, WNOHANG);
    if (child < 0 && errno == EINTR) continue;
    if (child < 0) break;
    if (child == 0) {
      news.wait_for_news();
      watch(totals_of(board, work.count));
      continue;
    }
    --running;
    bury(board, work, child, status, killed);
  }
  watch(totals_of(board, work.count));
  std::vector<std::optional<Outcome>> out(work.count);
  for (std::size_t i = 0; i < work.count; ++i) {
    if (board.slot(i).state == Slot::State::done) out[i] = board.slot(i).outcome;
  }
  return out;
}

}  // namespace kvzip::tool
