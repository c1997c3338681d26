// SPDX-License-Identifier: Apache-2.0
// How much memory there is, of made trees of control groups.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <limits>

#include "src/cli/memory_limit.hpp"
#include "tests/unit/scratch_directory.hpp"

using namespace kvzip;
using tool::group_memory;

namespace {

class Tree {
 public:
  void put(const std::string& path, const std::string& text) const {
    const std::string file = scratch_.file(path);
    std::filesystem::create_directories(std::filesystem::path(file).parent_path());
    std::ofstream(file) << text << "\n";
  }
  std::uint64_t memory() const { return group_memory(scratch_.file("")); }

 private:
  test::ScratchDirectory scratch_;
};

constexpr std::uint64_t kNone = std::numeric_limits<std::uint64_t>::max();

}  // namespace

TEST_CASE("memory: the least limit of the process's control groups counts") {
  const Tree tree;
  CHECK(tree.memory() == kNone);
  tree.put("sys/fs/cgroup/memory.max", "900");
  CHECK(tree.memory() == 900);
  tree.put("proc/self/cgroup", "0::/slurm/job 7/step_0");
  CHECK(tree.memory() == 900);
  tree.put("sys/fs/cgroup/slurm/job 7/step_0/memory.max", "max");
  CHECK(tree.memory() == 900);
  tree.put("sys/fs/cgroup/slurm/job 7/memory.max", "500");
  CHECK(tree.memory() == 500);
  tree.put("sys/fs/cgroup/slurm/job 7/step_0/memory.max", "400");
  tree.put("sys/fs/cgroup/slurm/job 7/step_1/memory.max", "1");  // of another
  CHECK(tree.memory() == 400);
  tree.put("sys/fs/cgroup/slurm/memory.max", "300");
  CHECK(tree.memory() == 300);
}

TEST_CASE("memory: control groups of version 1") {
  const Tree tree;
  tree.put("proc/self/cgroup", "12:cpu,cpuacct:/other\n4:hugetlb,memory:/a/b\n1:name=systemd:/c\n0::/d");
  tree.put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712");
  CHECK(tree.memory() == 9223372036854771712u);
  tree.put("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "700");
  CHECK(tree.memory() == 700);
  tree.put("sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "800");
  CHECK(tree.memory() == 700);
  tree.put("sys/fs/cgroup/memory/other/memory.limit_in_bytes", "1");
  CHECK(tree.memory() == 700);
}

TEST_CASE("memory: what is no list of control groups is passed over") {
  const Tree tree;
  tree.put("sys/fs/cgroup/memory.max", "900");
  for (const char* text : {"", "0", "0:", "0::", "0::a", "::", "0::/", "0::/../..", "0::/a//b/"}) {
    CAPTURE(text);
    tree.put("proc/self/cgroup", text);
    CHECK(tree.memory() == 900);
  }
}
