// Blocks have the capacity of their size class: powers of two from 8 KiB to 64 MiB. A free block
// lies in the list of its class and keeps its pages. Smaller and larger blocks belong to malloc
// alone.
//
// When the pool is full, the class that keeps most gives way, unless it is the class of the block
// that comes: so a pool full of yesterday's sizes turns into one of today's.
//
//   0        4      8               16
//   | class  | mark | next          | data ...
#include "block.h"

#include <coroipc/abi.h>
#include <coroipc/types.h>
#include <stdint.h>
#include <stdlib.h>

#include <bit>
#include <mutex>

// The address sanitizer must see a use after free although the block goes only to the pool.
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) ((void)(address), (void)(bytes))
#endif

namespace coroipc {
namespace {

constexpr int kSmallestShift = 13;
constexpr int kLargestShift = 26;
constexpr uint32_t kClasses = kLargestShift - kSmallestShift + 1;
constexpr uint32_t kNoClass = kClasses;
static_assert(size_t{1} << kSmallestShift == COROIPC_BLOCK_BYTES);
static_assert(size_t{1} << kLargestShift <= kBlockPoolBytes, "one block of each class fits");

constexpr uint32_t kMarkLive = 0x6b636f62;  // "bock": a wrong or second free is our own mistake
constexpr uint32_t kMarkFree = 0x65657266;

struct alignas(16) Header {
  uint32_t size_class;
  uint32_t mark;
  Header* next;
};
static_assert(sizeof(Header) == 16);

constexpr size_t Capacity(uint32_t size_class) {
  return size_t{1} << (kSmallestShift + static_cast<int>(size_class));
}

uint32_t ClassOf(size_t bytes) {
  if (bytes < COROIPC_BLOCK_BYTES || bytes > Capacity(kClasses - 1)) return kNoClass;
  return static_cast<uint32_t>(std::bit_width(bytes - 1) - kSmallestShift);
}

struct Pool {
  std::mutex mutex;
  Header* first[kClasses] = {};
  size_t kept[kClasses] = {};  // bytes
  size_t kept_total = 0;

  Header* Take(uint32_t size_class) {
    Header* block = first[size_class];
    if (block == nullptr) return nullptr;
    first[size_class] = block->next;
    kept[size_class] -= Capacity(size_class);
    kept_total -= Capacity(size_class);
    return block;
  }

  void Put(uint32_t size_class, Header* block) {
    block->next = first[size_class];
    first[size_class] = block;
    kept[size_class] += Capacity(size_class);
    kept_total += Capacity(size_class);
  }

  uint32_t Richest() const {
    uint32_t richest = 0;
    for (uint32_t i = 1; i < kClasses; i++)
      if (kept[i] > kept[richest]) richest = i;
    return richest;
  }
};
// Never destroyed (its destructor is trivial): blocks are freed by threads that outlive main.
constinit Pool pool;

}  // namespace

void* BlockAllocate(size_t bytes) {
  const uint32_t size_class = ClassOf(bytes);
  Header* block = nullptr;
  if (size_class != kNoClass) {
    std::lock_guard lock(pool.mutex);
    block = pool.Take(size_class);
  }
  if (block == nullptr) {
    const size_t capacity = size_class != kNoClass ? Capacity(size_class) : bytes;
    if (capacity > PTRDIFF_MAX - sizeof(Header)) return nullptr;
    block = static_cast<Header*>(malloc(sizeof(Header) + capacity));
    if (block == nullptr) return nullptr;
  } else {
    ASAN_UNPOISON_MEMORY_REGION(block + 1, Capacity(size_class));
  }
  block->size_class = size_class;
  block->mark = kMarkLive;
  block->next = nullptr;
  return block + 1;
}

void BlockFree(void* data) {
  if (data == nullptr) return;
  Header* block = static_cast<Header*>(data) - 1;
  if (block->mark != kMarkLive || block->size_class > kNoClass) abort();
  block->mark = kMarkFree;
  const uint32_t size_class = block->size_class;
  if (size_class == kNoClass) {
    free(block);
    return;
  }
  ASAN_POISON_MEMORY_REGION(data, Capacity(size_class));
  Header* surplus = nullptr;
  {
    std::lock_guard lock(pool.mutex);
    while (pool.kept_total + Capacity(size_class) > kBlockPoolBytes) {
      const uint32_t richest = pool.Richest();
      if (richest == size_class) break;
      Header* evicted = pool.Take(richest);
      evicted->next = surplus;
      surplus = evicted;
    }
    if (pool.kept_total + Capacity(size_class) <= kBlockPoolBytes) {
      pool.Put(size_class, block);
    } else {
      block->next = surplus;
      surplus = block;
    }
  }
  // Outside the lock: giving pages back is a system call.
  while (surplus != nullptr) {
    Header* next = surplus->next;
    ASAN_UNPOISON_MEMORY_REGION(surplus + 1, Capacity(surplus->size_class));
    free(surplus);
    surplus = next;
  }
}

}  // namespace coroipc

void coroipc_block_free(void* block) { coroipc::BlockFree(block); }
