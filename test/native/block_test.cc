// The pool as its users see it: alignment, sizes, reuse, its bound. Reuse and bound are seen in
// page faults and resident memory, with malloc told to give memory back at once.
#include "block.h"

#include <coroipc/types.h>
#include <malloc.h>
#include <signal.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "check.h"

using namespace coroipc;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;  // their malloc keeps what was freed, their shadow faults too
extern "C" __attribute__((visibility("default"))) const char* __asan_default_options() {
  return "allocator_may_return_null=1";
}
extern "C" __attribute__((visibility("default"))) const char* __tsan_default_options() {
  return "allocator_may_return_null=1";
}
#else
constexpr bool kSanitized = false;
#endif

namespace {

constexpr size_t kMiB = size_t{1} << 20;
constexpr size_t kPage = 4096;

void Touch(void* block, size_t bytes) {
  auto* data = static_cast<volatile uint8_t*>(block);
  for (size_t i = 0; i < bytes; i += kPage) data[i] = 1;
  if (bytes > 0) data[bytes - 1] = 2;
}

long Faults() {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_minflt;
}

size_t ResidentBytes() {
  FILE* file = fopen("/proc/self/statm", "re");
  unsigned long total = 0, resident = 0;
  const int got = fscanf(file, "%lu %lu", &total, &resident);
  fclose(file);
  return got == 2 ? resident * kPage : 0;
}

// Fresh memory for each malloc of 64 KiB and more, given back by free: what is reused is the
// pool's.
void MallocKeepsNothing() {
  mallopt(M_MMAP_THRESHOLD, 64 << 10);
  mallopt(M_TRIM_THRESHOLD, 0);
}

}  // namespace

// First, while the pool is empty: a block of 1 MiB that is there already would do without making
// way.
TEST("a pool full of one size turns into one of another") {
  if (kSanitized) SKIP("a sanitizer's malloc is another");
  MallocKeepsNothing();
  std::vector<void*> small;
  for (size_t total = 0; total < 2 * kBlockPoolBytes; total += 8192) {
    small.push_back(BlockAllocate(8192));
    Touch(small.back(), 8192);
  }
  for (void* block : small) BlockFree(block);  // the pool is full
  void* warm = BlockAllocate(kMiB);
  Touch(warm, kMiB);
  BlockFree(warm);
  const long before = Faults();
  for (int i = 0; i < 100; i++) {
    void* block = BlockAllocate(kMiB);
    Touch(block, kMiB);
    BlockFree(block);
  }
  CHECK(Faults() - before < 1000);
}

TEST("every size around every class is whole, writable and aligned") {
  for (size_t base = 1; base <= 128 * kMiB; base *= 2) {
    for (size_t bytes : {base - 1, base, base + 1}) {
      void* block = BlockAllocate(bytes);
      REQUIRE(block != nullptr);
      CHECK_EQ(reinterpret_cast<uintptr_t>(block) % 16, 0u);
      Touch(block, bytes);
      BlockFree(block);
    }
  }
}

TEST("no bytes are a block too, and blocks of no bytes differ") {
  void* a = BlockAllocate(0);
  void* b = BlockAllocate(0);
  CHECK(a != nullptr && b != nullptr && a != b);
  BlockFree(a);
  BlockFree(b);
}

TEST("freeing nothing does nothing") {
  BlockFree(nullptr);
  coroipc_block_free(nullptr);
}

TEST("sizes that cannot be are refused, also where the header would wrap them round") {
  for (size_t bytes : {SIZE_MAX, SIZE_MAX - 15, SIZE_MAX - 16, size_t{PTRDIFF_MAX},
                       size_t{PTRDIFF_MAX} - 16, size_t{1} << 62})
    CHECK(BlockAllocate(bytes) == nullptr);
}

TEST("without memory there is no block") {
  if (kSanitized) SKIP("sanitizers need the address space");
  const pid_t child = fork();
  if (child == 0) {
    struct rlimit limit = {.rlim_cur = 256 * kMiB, .rlim_max = 256 * kMiB};
    setrlimit(RLIMIT_AS, &limit);
    CHECK(BlockAllocate(512 * kMiB) == nullptr);
    CHECK(BlockAllocate(kMiB) != nullptr);
    _exit(check_failures == 0 ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  CHECK_EQ(status, 0);
}

TEST("a block of 8 KiB and more is reused, by any size of its class") {
  for (size_t bytes = 8192; bytes <= 64 * kMiB; bytes *= 2) {
    void* first = BlockAllocate(bytes);
    coroipc_block_free(first);
    void* second = BlockAllocate(bytes);
    CHECK(first == second);
    BlockFree(second);
    void* smaller = BlockAllocate(bytes == 8192 ? bytes : bytes / 2 + 1);
    CHECK(first == smaller);
    BlockFree(smaller);
  }
}

TEST("a block one byte larger than a class is not taken from it") {
  void* small = BlockAllocate(8192);
  BlockFree(small);
  void* large = BlockAllocate(8193);
  CHECK(large != small);
  Touch(large, 8193);
  BlockFree(large);
}

TEST("blocks in use at once do not overlap") {
  std::vector<uint8_t*> blocks;
  for (uint8_t i = 0; i < 64; i++) {
    auto* block = static_cast<uint8_t*>(BlockAllocate(20000));
    memset(block, i, 20000);
    blocks.push_back(block);
  }
  for (uint8_t i = 0; i < 64; i++) {
    CHECK_EQ(blocks[i][0], i);
    CHECK_EQ(blocks[i][19999], i);
    BlockFree(blocks[i]);
  }
}

TEST("a reused block costs no page faults") {
  if (kSanitized) SKIP("a sanitizer's malloc is another");
  MallocKeepsNothing();
  BlockFree(BlockAllocate(kMiB));
  void* warm = BlockAllocate(kMiB);
  Touch(warm, kMiB);
  BlockFree(warm);
  const long before = Faults();
  for (int i = 0; i < 100; i++) {
    void* block = BlockAllocate(kMiB);
    Touch(block, kMiB);
    BlockFree(block);
  }
  CHECK(Faults() - before < 1000);  // 25600 without a pool
}

TEST("no more than the bound is kept, however much was in use") {
  if (kSanitized) SKIP("a sanitizer's malloc keeps what was freed");
  MallocKeepsNothing();
  const size_t before = ResidentBytes();
  for (size_t bytes : {64 * kMiB, kMiB, size_t{100000}}) {
    std::vector<void*> blocks;
    for (size_t total = 0; total < 256 * kMiB; total += bytes) {
      void* block = BlockAllocate(bytes);
      REQUIRE(block != nullptr);
      Touch(block, bytes);
      blocks.push_back(block);
    }
    for (void* block : blocks) BlockFree(block);
    CHECK(ResidentBytes() < before + kBlockPoolBytes + 16 * kMiB);
  }
}

TEST("above 64 MiB nothing is kept") {
  if (kSanitized) SKIP("a sanitizer's malloc keeps what was freed");
  MallocKeepsNothing();
  const size_t before = ResidentBytes();
  void* block = BlockAllocate(64 * kMiB + 1);
  REQUIRE(block != nullptr);
  Touch(block, 64 * kMiB + 1);
  BlockFree(block);
  CHECK(ResidentBytes() < before + 16 * kMiB);
}

TEST("threads allocate and free each other's blocks") {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<uint8_t*> handed;
  bool done = false;
  std::thread reader([&] {
    for (;;) {
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return done || !handed.empty(); });
      if (handed.empty()) return;
      uint8_t* block = handed.front();
      handed.pop_front();
      lock.unlock();
      CHECK_EQ(block[0], block[8191]);
      BlockFree(block);
    }
  });
  for (int i = 0; i < 5000; i++) {
    const size_t bytes = 8192 + static_cast<size_t>(i % 5) * 30000;
    auto* block = static_cast<uint8_t*>(BlockAllocate(bytes));
    block[0] = block[8191] = static_cast<uint8_t>(i);
    std::lock_guard lock(mutex);
    handed.push_back(block);
    changed.notify_one();
  }
  {
    std::lock_guard lock(mutex);
    done = true;
    changed.notify_one();
  }
  reader.join();
}

TEST("freeing a block twice ends the process") {
  const pid_t child = fork();
  if (child == 0) {
    void* block = BlockAllocate(8192);
    BlockFree(block);
    BlockFree(block);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}
