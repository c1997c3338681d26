// SPDX-License-Identifier: Apache-2.0
// The loop from a reader to a writer. Errors travel through the pipeline with their part and are raised where parts are
// in order again, so that the first part in order decides which error is reported, whatever the threads did.
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

#include "formats/parts.hpp"
#include "kvzip/io.hpp"
#include "kvzip/memory.hpp"

namespace kvzip {
namespace {

constexpr unsigned kMaxThreads = 256;

struct Item {
  Part part;
  std::uint64_t source_bytes = 0;
  std::exception_ptr error;
};

/// Items that have gone through. Their arrays serve the parts to come: fresh ones would cost the kernel a page fault
/// for every 4 KiB that moves.
class Spares {
 public:
  std::shared_ptr<Item> take() {
    const std::lock_guard lock(mutex_);
    if (items_.empty()) return std::make_shared<Item>();
    auto item = std::move(items_.back());
    items_.pop_back();
    return item;
  }
  void give(std::shared_ptr<Item> item) {
    const std::lock_guard lock(mutex_);
    items_.push_back(std::move(item));
  }

 private:
  std::mutex mutex_;
  std::vector<std::shared_ptr<Item>> items_;
};

/// Runs a step on an item; an item with an error takes no further steps.
template <typename F>
void guarded(Item& item, F&& step) {
  if (item.error) return;
  try {
    step();
  } catch (...) {
    item.error = std::current_exception();
  }
}

class Transfer {
 public:
  Transfer(DumpReader& in, DumpWriter& out, const Progress& progress)
      : in_(in), out_(out), progress_(progress), writer_parts_(out.plans()) {
    parts_ = writer_parts_ ? out.part_count() : in.part_count();
    for (const TensorInfo& tensor : in.dump().tensors) total_bytes_ += tensor.bytes();
  }

  std::uint64_t parts() const { return parts_; }

  void fetch(Item& item, std::uint64_t index) {
    guarded(item, [&] {
      Part& part = item.part;
      std::vector<Bytes> room = std::move(part.data);
      part = writer_parts_ ? out_.part(index) : in_.part(index);
      part.index = index;
      part.data = std::move(room);
      item.source_bytes = 0;
      if (!writer_parts_) return in_.fetch(part);
      part.data.resize(part.slices.size());
      for (std::size_t i = 0; i < part.slices.size(); ++i) {
        part.data[i].resize(slice_bytes(in_.dump(), part.slices[i]));
        in_.read(part.slices[i], part.data[i]);
      }
    });
  }

  void convert(Item& item) const {
    guarded(item, [&] {
      if (!writer_parts_) in_.expand(item.part);
      for (const Bytes& data : item.part.data) item.source_bytes += data.size();
      out_.prepare(item.part);
    });
  }

  void append(Item& item) {
    guarded(item, [&] {
      out_.append(item.part);
      done_bytes_ += item.source_bytes;
      if (progress_) progress_(done_bytes_, total_bytes_);
    });
  }

 private:
  DumpReader& in_;
  DumpWriter& out_;
  const Progress& progress_;
  bool writer_parts_;
  std::uint64_t parts_ = 0, done_bytes_ = 0, total_bytes_ = 0;
};

void run_serial(Transfer& transfer) {
  Item item;
  for (std::uint64_t index = 0; index < transfer.parts(); ++index) {
    transfer.fetch(item, index);
    transfer.convert(item);
    transfer.append(item);
    if (item.error) std::rethrow_exception(item.error);
  }
}

void run_pipeline(Transfer& transfer, unsigned threads) {
  using ItemPtr = std::shared_ptr<Item>;
  std::uint64_t next = 0;
  std::exception_ptr first_error;
  std::atomic<bool> stop = false;
  Spares spares;
  const auto fetch = tbb::make_filter<void, ItemPtr>(tbb::filter_mode::serial_in_order, [&](tbb::flow_control& flow) {
    if (stop || next == transfer.parts()) {
      flow.stop();
      return ItemPtr();
    }
    ItemPtr item = spares.take();
    transfer.fetch(*item, next++);
    if (item->error) stop = true;
    return item;
  });
  const auto convert = tbb::make_filter<ItemPtr, ItemPtr>(tbb::filter_mode::parallel, [&](ItemPtr item) {
    transfer.convert(*item);
    if (item->error) stop = true;
    return item;
  });
  const auto append = tbb::make_filter<ItemPtr, void>(tbb::filter_mode::serial_in_order, [&](const ItemPtr& item) {
    if (first_error) return;
    transfer.append(*item);
    first_error = item->error;
    if (first_error) {
      stop = true;
    } else {
      spares.give(item);
    }
  });
  tbb::parallel_pipeline(2 * std::size_t{threads}, fetch & convert & append);
  if (first_error) std::rethrow_exception(first_error);
}

}  // namespace

void transcode(DumpReader& in, DumpWriter& out, unsigned threads, const Progress& progress) {
  const KeepMemory keep;
  Transfer transfer(in, out, progress);
  const unsigned hardware = static_cast<unsigned>(std::max(1, tbb::info::default_concurrency()));
  if (threads == 0) threads = hardware;
  threads = std::min(threads, kMaxThreads);
  if (threads == 1 || transfer.parts() <= 1) return run_serial(transfer);
  // An arena alone gets no more threads than there are processors; what was asked for is what is used.
  std::optional<tbb::global_control> more;
  if (threads > hardware) more.emplace(tbb::global_control::max_allowed_parallelism, threads);
  tbb::task_arena arena(static_cast<int>(threads));
  arena.execute([&] { run_pipeline(transfer, threads); });
}

}  // namespace kvzip
