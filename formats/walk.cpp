// SPDX-License-Identifier: Apache-2.0
// Errors travel through the pipeline with their part and are raised where parts are in order again, so that the first
// part in order decides which error is reported, whatever the threads did.
#include "formats/walk.hpp"

#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/info.h>
#include <oneapi/tbb/parallel_pipeline.h>
#include <oneapi/tbb/task_arena.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <functional>
#include <mutex>
#include <new>
#include <optional>
#include <utility>
#include <vector>

#include "codec/buffer.hpp"
#include "formats/file.hpp"
#include "formats/parallel.hpp"
#include "formats/thread_order.hpp"
#include "kvzip/memory.hpp"

namespace kvzip {
namespace {

struct Item {
  Part part;
  std::optional<Part> fresh;  // as it was fetched, where that cannot be done again
  std::uint64_t index = 0;
  std::exception_ptr error;
  bool pending = false;    // taken from the feed, not merged
  bool untouched = false;  // the part is as it was fetched
  bool starved = false;    // for want of memory, before anything was merged
};

/// What fetching made of a part. Arrays beside frames are room to use again.
Part fetched(const Part& part) {
  return {part.index, part.slices, part.coded.empty() ? part.data : std::vector<Bytes>(),
          part.coded, part.group,  part.result};
}

/// All items. Arrays of those that have gone through serve the parts to come: fresh ones would cost the kernel a page
/// fault for every 4 KiB that moves. Made ahead: what comes here may have nothing left to allocate.
class Items {
 public:
  explicit Items(std::size_t count) : all_(count) {
    spare_.reserve(count);
    for (Item& item : all_) spare_.push_back(&item);
  }
  std::size_t count() const { return all_.size(); }
  Item* take() {
    const std::lock_guard lock(mutex_);
    Item* item = spare_.back();
    spare_.pop_back();
    return item;
  }
  void give(Item* item) {
    const std::lock_guard lock(mutex_);
    spare_.push_back(item);
  }
  /// Where nothing works any more: hands out the pending ones, in any order, and empties all.
  template <typename F>
  void clear(F&& pending) {
    spare_.clear();
    for (Item& item : all_) {
      comes_after(&item);
      if (item.pending) pending(item);
      item = Item();
      spare_.push_back(&item);
    }
  }

 private:
  std::mutex mutex_;
  std::vector<Item> all_;
  std::vector<Item*> spare_;
};

/// Where parts come from: those that have to be visited once more, then those that were not fetched yet.
class Feed {
 public:
  Feed(const Walk& steps, std::size_t items) : steps_(steps) { waiting_.reserve(items); }
  bool empty() const { return waiting_.empty() && next_ == steps_.parts; }
  void fetch(Item& item) {
    item.pending = true;
    if (waiting_.empty()) {
      item.index = next_++;
      return steps_.fetch(item.part, item.index);
    }
    Waiting& first = waiting_.back();
    item.index = first.index;
    item.part = std::move(first.part);
    const std::exception_ptr error = first.error;
    waiting_.pop_back();
    if (error) std::rethrow_exception(error);
  }
  /// Takes back what is not merged, all of it before what was not fetched: never more than there are items, so that
  /// this needs no memory.
  void put_back(Items& items) {
    items.clear([&](Item& item) {
      if (steps_.again) {
        next_ = std::min(next_, item.index);
      } else if (item.untouched || item.fresh) {
        waiting_.push_back({item.index, std::move(item.untouched ? item.part : *item.fresh), nullptr});
      } else {
        waiting_.push_back({item.index, Part(), item.error});
      }
    });
    std::ranges::sort(waiting_, std::greater(), &Waiting::index);
  }

 private:
  struct Waiting {
    std::uint64_t index;
    Part part;
    std::exception_ptr error;  // of fetching
  };
  const Walk& steps_;
  std::uint64_t next_ = 0;
  std::vector<Waiting> waiting_;  // the first in order stands last
};

/// Runs a step on an item; an item with an error takes no further steps.
template <typename F>
void guarded(Item& item, bool merges, F&& step) {
  if (item.error) return;
  try {
    step(item.part);
  } catch (const std::bad_alloc&) {
    item.error = std::current_exception();
    item.starved = !merges;
  } catch (...) {
    item.error = std::current_exception();
  }
}

void run_serial(const Walk& steps, Feed& feed) {
  Item item;
  while (!feed.empty()) {
    feed.fetch(item);
    steps.visit(item.part);
    steps.merge(item.part);
  }
}

/// Until the feed is empty or memory runs out. `items` is never short of one: they are given back before the pipeline
/// lets in another part, but for those with an error and what comes behind them, and an error stops the feed first.
void run_pipeline(const Walk& steps, Feed& feed, Items& items, unsigned threads, std::exception_ptr& first_error) {
  bool starved = false;  // memory was not enough for one, so that what follows it is not merged either
  std::atomic<bool> stop = false;
  const auto fetch = tbb::make_filter<void, Item*>(tbb::filter_mode::serial_in_order, [&](tbb::flow_control& flow) {
    const OrderedStep turn(&feed);
    if (stop || feed.empty()) {
      flow.stop();
      return static_cast<Item*>(nullptr);
    }
    Item* item = items.take();
    const OrderedStep own(item);
    guarded(*item, false, [&](Part& part) {
      item->fresh.reset();
      feed.fetch(*item);
      item->untouched = true;
      if (!steps.again) item->fresh = fetched(part);
    });
    if (item->error) stop = true;
    return item;
  });
  const auto visit = tbb::make_filter<Item*, Item*>(tbb::filter_mode::parallel, [&](Item* item) {
    const OrderedStep own(item);
    guarded(*item, false, [&](Part& part) {
      item->untouched = false;
      steps.visit(part);
    });
    if (item->error) stop = true;
    return item;
  });
  const auto merge = tbb::make_filter<Item*, void>(tbb::filter_mode::serial_in_order, [&](Item* item) {
    const OrderedStep turn(&first_error), own(item);
    starved = starved || item->starved;
    if (first_error || starved) return;
    guarded(*item, true, steps.merge);
    first_error = item->error;
    if (first_error) {
      stop = true;
    } else {
      item->pending = false;
      items.give(item);
    }
  });
  comes_before(&feed);
  tbb::parallel_pipeline(2 * std::size_t{threads}, fetch & visit & merge);
}

/// As many threads as asked for, which an arena alone gives only up to the number of processors. What is not merged in
/// the end is in the feed again.
void run_threads(const Walk& steps, Feed& feed, Items& items, unsigned threads) {
  std::exception_ptr first_error;
  try {
    std::optional<tbb::global_control> more;
    if (threads > static_cast<unsigned>(std::max(1, tbb::info::default_concurrency()))) {
      more.emplace(tbb::global_control::max_allowed_parallelism, threads);
    }
    tbb::task_arena arena(static_cast<int>(threads));
    arena.execute([&] { run_pipeline(steps, feed, items, threads, first_error); });
  } catch (const std::bad_alloc&) {  // of oneTBB's own: the steps' are with their items
  }
  comes_after(&feed);
  comes_after(&first_error);
  if (first_error) std::rethrow_exception(first_error);
  feed.put_back(items);
}

}  // namespace

void walk(const Walk& steps, unsigned threads) {
  const KeepMemory keep;
  threads = steps.parts > 1 ? threads_to_use(threads, steps.part_bytes) : 1;
  Items items(threads > 1 ? 2 * std::size_t{threads} : 0);
  Feed feed(steps, items.count());
  for (; threads > 1 && !feed.empty(); threads /= 2) {
    run_threads(steps, feed, items, threads);
    if (!feed.empty()) release_kept_memory();
  }
  run_serial(steps, feed);
  require_inputs_unchanged();
}

}  // namespace kvzip
