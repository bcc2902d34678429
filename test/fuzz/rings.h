// rings.h: one ring for the ring targets: its words in one block of memory and its data in another,
// of exactly its size, so that the sanitizer sees a step beyond the ring that in a segment would
// only be the next ring.
#ifndef COROIPC_TEST_FUZZ_RINGS_H_
#define COROIPC_TEST_FUZZ_RINGS_H_

#include <memory>

#include "exact.h"
#include "input.h"
#include "ring.h"

namespace fuzz {

class HonestMemory {
 public:
  HonestMemory() : before_(hostile_memory) { hostile_memory = false; }
  ~HonestMemory() { hostile_memory = before_; }
  HonestMemory(const HonestMemory&) = delete;
  HonestMemory& operator=(const HonestMemory&) = delete;

 private:
  bool before_;
};

// Capacities from 64 bytes on: the code knows no minimum, and a small ring wraps often.
struct RingMemory {
  static constexpr uint32_t kSizes = 7;
  RingMemory() {
    for (uint32_t i = 0; i < kSizes; ++i) blocks_[i].Resize(64u << i);
  }
  // Positions start anywhere, near the wrap of 32 bits more often than not.
  void Reset() {
    const uint32_t size = input.Below(kSizes);
    capacity = 64u << size;
    data = blocks_[size].get();
    std::memset(data, 0, capacity);
    *words = {};
    const uint32_t start = input.Chance(2) ? 0u - 8 * input.Byte() : 8 * input.Half();
    words->write_position = words->read_position = start;
  }
  // What only a peer that lies would write.
  void Poke() {
    if (input.Chance(2)) {
      uint32_t* const word[] = {&words->write_position, &words->read_position, &words->reader_sleep,
                                &words->writer_wants};
      *word[input.Byte() & 3] = input.Size(capacity);
      return;
    }
    const uint32_t value = input.Size(capacity);
    std::memcpy(data + (8 * input.Half() & (capacity - 1)), &value, sizeof value);
  }

  std::unique_ptr<coroipc_ring_words> words = std::make_unique<coroipc_ring_words>();
  uint8_t* data = nullptr;
  uint32_t capacity = 0;

 private:
  Exact blocks_[kSizes];
};

// The payload of a record by its number: what an honest reader must see.
inline void FillPayload(uint8_t* to, uint32_t bytes, uint32_t number) {
  std::memset(to, static_cast<int>(number * 7 + 1), bytes);
}
inline bool PayloadIs(const uint8_t* from, uint32_t bytes, uint32_t number) {
  for (uint32_t i = 0; i < bytes; ++i) {
    if (from[i] != static_cast<uint8_t>(number * 7 + 1)) return false;
  }
  return true;
}

}  // namespace fuzz

#endif
