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
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "formats/file.hpp"
#include "formats/parallel.hpp"
#include "formats/thread_order.hpp"
#include "kvzip/memory.hpp"

namespace kvzip {
namespace {

struct Item {
  Part part;
  std::exception_ptr error;
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
void guarded(Item& item, F&& step) {
  if (item.error) return;
  try {
    step(item.part);
  } catch (...) {
    item.error = std::current_exception();
  }
}

void run_serial(const Walk& steps) {
  Part part;
  for (std::uint64_t index = 0; index < steps.parts; ++index) {
    steps.fetch(part, index);
    steps.visit(part);
    steps.merge(part);
  }
}

void run_pipeline(const Walk& steps, unsigned threads) {
  std::uint64_t next = 0;
  std::exception_ptr first_error;
  std::atomic<bool> stop = false;
  Items items;
  const auto fetch = tbb::make_filter<void, Item*>(tbb::filter_mode::serial_in_order, [&](tbb::flow_control& flow) {
    const OrderedStep turn(&next);
    if (stop || next == steps.parts) {
      flow.stop();
      return static_cast<Item*>(nullptr);
    }
    Item* item = items.take();
    const OrderedStep own(item);
    guarded(*item, [&](Part& part) { steps.fetch(part, next); });
    ++next;
    if (item->error) stop = true;
    return item;
  });
  const auto visit = tbb::make_filter<Item*, Item*>(tbb::filter_mode::parallel, [&](Item* item) {
    const OrderedStep own(item);
    guarded(*item, steps.visit);
    if (item->error) stop = true;
    return item;
  });
  const auto merge = tbb::make_filter<Item*, void>(tbb::filter_mode::serial_in_order, [&](Item* item) {
    const OrderedStep turn(&first_error), own(item);
    if (first_error) return;
    guarded(*item, steps.merge);
    first_error = item->error;
    if (first_error) {
      stop = true;
    } else {
      items.give(item);
    }
  });
  comes_before(&next);
  tbb::parallel_pipeline(2 * std::size_t{threads}, fetch & visit & merge);
  comes_after(&next);
  comes_after(&first_error);
  if (first_error) std::rethrow_exception(first_error);
}

}  // namespace

void walk(const Walk& steps, unsigned threads) {
  const KeepMemory keep;
  const unsigned hardware = static_cast<unsigned>(std::max(1, tbb::info::default_concurrency()));
  threads = threads_to_use(threads);
  if (threads == 1 || steps.parts <= 1) {
    run_serial(steps);
    return require_inputs_unchanged();
  }
  // An arena alone gets no more threads than there are processors; what was asked for is what is used.
  std::optional<tbb::global_control> more;
  if (threads > hardware) more.emplace(tbb::global_control::max_allowed_parallelism, threads);
  tbb::task_arena arena(static_cast<int>(threads));
  arena.execute([&] { run_pipeline(steps, threads); });
  require_inputs_unchanged();
}

}  // namespace kvzip
