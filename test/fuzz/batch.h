// batch.h: a batch of any size for a receive, its arena of exactly its bytes, and every payload
// read to its last byte.
#ifndef COROIPC_TEST_FUZZ_BATCH_H_
#define COROIPC_TEST_FUZZ_BATCH_H_

#include <coroipc/types.h>

#include <vector>

#include "input.h"

namespace fuzz {

class Batch {
 public:
  Batch() : entries_(1 + input.Byte() % 8), blocks_(entries_.size()), arena_(input.Half() % 4096) {
    batch_ = {};
    batch_.entries = entries_.data();
    batch_.blocks = blocks_.data();
    batch_.capacity = static_cast<uint32_t>(entries_.size());
    batch_.arena = arena_.data();
    batch_.arena_bytes = static_cast<uint32_t>(arena_.size());
    // Of few sizes, and from what is there already: another byte of input would shift all that the
    // corpus says.
    if (arena_.size() % 4 == 3) {
      large_.resize(arena_.size() * 16);
      batch_.large = large_.data();
      batch_.large_bytes = static_cast<uint32_t>(large_.size());
      batch_.large_min = static_cast<uint32_t>(entries_.size()) * 4096;
      batch_.large_max = batch_.large_min * 4;
    }
  }
  ~Batch() {
    for (uint32_t i = 0; i < batch_.count; ++i) coroipc_block_free(blocks_[i]);
  }
  Batch(const Batch&) = delete;
  Batch& operator=(const Batch&) = delete;
  coroipc_batch* get() { return &batch_; }
  uint32_t count() const { return batch_.count; }
  // The row, its payload having been read, unless that lies in a segment.
  const coroipc_entry& Row(uint32_t i) {
    MUST(batch_.count <= batch_.capacity && batch_.arena_used <= batch_.arena_bytes);
    MUST(batch_.large_used <= batch_.large_bytes);
    const coroipc_entry& row = entries_[i];
    if (row.flags == COROIPC_IN_ARENA) {
      MUST(uint64_t{row.offset} + row.bytes <= batch_.arena_used || row.bytes == 0);
      Read(batch_.arena + row.offset, row.bytes);
    } else if (row.flags == COROIPC_IN_LARGE) {
      MUST(row.bytes >= batch_.large_min && row.bytes <= batch_.large_max);
      MUST(uint64_t{row.offset} + row.bytes <= batch_.large_used);
      Read(batch_.large + row.offset, row.bytes);
    } else if (row.flags == COROIPC_IN_BLOCK) {
      MUST(blocks_[i] != nullptr);
      Read(static_cast<const uint8_t*>(blocks_[i]), row.bytes);
    }
    return row;
  }
  static void Read(const uint8_t* from, uint32_t bytes) {
    static uint8_t copy[1 << 16];
    for (uint32_t at = 0; at < bytes; at += sizeof copy)
      std::memcpy(copy, from + at, bytes - at < sizeof copy ? bytes - at : sizeof copy);
  }

 private:
  std::vector<coroipc_entry> entries_;
  std::vector<void*> blocks_;
  std::vector<uint8_t> arena_;
  std::vector<uint8_t> large_;
  coroipc_batch batch_;
};

// Payload to send: the core reads all of it.
inline iovec Payload(uint32_t bytes_max) {
  static const std::vector<uint8_t> bytes(1 << 17, 0x2a);
  const uint32_t count = input.Chance(4) ? input.Size(bytes_max) : input.Byte();
  return {const_cast<uint8_t*>(bytes.data()), count % (1 << 17)};
}

}  // namespace fuzz

#endif
