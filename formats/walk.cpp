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
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
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
  bool starved = false;  // for want of memory, before anything was merged
};

/// What fetching made of a part. Arrays beside frames are room to use again.
Part fetched(const Part& part) {
  return {part.index, part.slices, part.coded.empty() ? part.data : std::vector<Bytes>(),
          part.coded, part.group,  part.result};
}

/// Where parts come from: those that have to be visited once more, then those that were not fetched yet.
class Feed {
 public:
  explicit Feed(const Walk& steps) : steps_(steps) {}
  bool empty() const { return waiting_.empty() && next_ == steps_.parts; }
  void fetch(Item& item) {
    if (waiting_.empty()) {
      item.index = next_++;
      return steps_.fetch(item.part, item.index);
    }
    Waiting& first = waiting_.front();
    item.index = first.index;
    item.part = std::move(first.part);
    const std::exception_ptr error = first.error;
    waiting_.pop_front();
    if (error) std::rethrow_exception(error);
  }
  /// Items that are not merged, in order, all before what was not fetched.
  void put_back(const std::vector<Item*>& items) {
    if (!items.empty() && steps_.again) next_ = items[0]->index;
    if (steps_.again) return;
    for (auto item = items.rbegin(); item != items.rend(); ++item) {
      auto& fresh = (*item)->fresh;
      waiting_.push_front(
          {(*item)->index, fresh ? std::move(*fresh) : Part(), fresh ? std::exception_ptr() : (*item)->error});
    }
  }

 private:
  struct Waiting {
    std::uint64_t index;
    Part part;
    std::exception_ptr error;  // of fetching
  };
  const Walk& steps_;
  std::uint64_t next_ = 0;
  std::deque<Waiting> waiting_;
};

/// All items. Arrays of those that have gone through serve the parts to come: fresh ones would cost the kernel a page
/// fault for every 4 KiB that moves.
class Items {
 public:
  Item* take() {
    const std::lock_guard lock(mutex_);
    if (spare_.empty()) return all_.emplace_back(std::make_unique<Item>()).get();
    Item* item = spare_.back();
    spare_.pop_back();
    return item;
  }
  void give(Item* item) {
    const std::lock_guard lock(mutex_);
    spare_.push_back(item);
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Item>> all_;
  std::vector<Item*> spare_;
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

/// Until the feed is empty or memory runs out.
void run_pipeline(const Walk& steps, Feed& feed, unsigned threads) {
  std::exception_ptr first_error;
  std::vector<Item*> starved;  // the first that memory was not enough for, and what follows it
  std::atomic<bool> stop = false;
  Items items;
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
      if (!steps.again) item->fresh = fetched(part);
    });
    if (item->error) stop = true;
    return item;
  });
  const auto visit = tbb::make_filter<Item*, Item*>(tbb::filter_mode::parallel, [&](Item* item) {
    const OrderedStep own(item);
    guarded(*item, false, steps.visit);
    if (item->error) stop = true;
    return item;
  });
  const auto merge = tbb::make_filter<Item*, void>(tbb::filter_mode::serial_in_order, [&](Item* item) {
    const OrderedStep turn(&first_error), own(item);
    if (first_error) return;
    if (item->starved || !starved.empty()) return starved.push_back(item);
    guarded(*item, true, steps.merge);
    first_error = item->error;
    if (first_error) {
      stop = true;
    } else {
      items.give(item);
    }
  });
  comes_before(&feed);
  tbb::parallel_pipeline(2 * std::size_t{threads}, fetch & visit & merge);
  comes_after(&feed);
  comes_after(&first_error);
  if (first_error) std::rethrow_exception(first_error);
  feed.put_back(starved);
}

/// As many threads as asked for, which an arena alone gives only up to the number of processors.
void run_threads(const Walk& steps, Feed& feed, unsigned threads) {
  std::optional<tbb::global_control> more;
  if (threads > static_cast<unsigned>(std::max(1, tbb::info::default_concurrency()))) {
    more.emplace(tbb::global_control::max_allowed_parallelism, threads);
  }
  tbb::task_arena arena(static_cast<int>(threads));
  arena.execute([&] { run_pipeline(steps, feed, threads); });
}

}  // namespace

void walk(const Walk& steps, unsigned threads) {
  const KeepMemory keep;
  Feed feed(steps);
  if (steps.parts > 1) {
    for (threads = threads_to_use(threads, steps.part_bytes); threads > 1 && !feed.empty(); threads /= 2) {
      run_threads(steps, feed, threads);
      if (!feed.empty()) release_kept_memory();
    }
  }
  run_serial(steps, feed);
  require_inputs_unchanged();
}

}  // namespace kvzip
