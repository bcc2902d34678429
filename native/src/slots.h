// slots.h: requests without an answer, by the slot that their correlation names. Both sides keep
// such a table.
//
// A correlation is slot | generation << 16. Slots [0, n) are chosen by the caller (batches), slots
// [n, 2n) by the library, n being the negotiated number of requests in flight. The generation grows
// each time a slot is taken.
#ifndef COROIPC_SRC_SLOTS_H
#define COROIPC_SRC_SLOTS_H

#include <cstdint>
#include <vector>

namespace coroipc {

inline constexpr uint32_t SlotOf(uint32_t correlation) { return correlation & 0xffffu; }
inline constexpr uint16_t GenerationOf(uint32_t correlation) {
  return static_cast<uint16_t>(correlation >> 16);
}
inline constexpr uint32_t Correlation(uint32_t slot, uint16_t generation) {
  return slot | (static_cast<uint32_t>(generation) << 16);
}

// The slot of a WANT that is not a caller's but a queued message's: no caller's WANT has one of the
// chosen slots, so that it takes none from anybody. The server lets it wait for a segment.
inline constexpr uint32_t kQueueSlot = 0;

// Grows as higher slots are used: most connections never have more than a few in flight.
template <typename Entry>
class SlotTable {
 public:
  void Init(uint32_t in_flight) { in_flight_ = in_flight; }
  uint32_t in_flight() const { return in_flight_; }
  bool valid(uint32_t slot) const { return slot < 2 * in_flight_; }
  Entry& at(uint32_t slot) {
    const bool automatic = slot >= in_flight_;
    std::vector<Entry>& part = automatic ? automatic_ : chosen_;
    const uint32_t index = automatic ? slot - in_flight_ : slot;
    if (index >= part.size()) {
      uint32_t size = part.empty() ? 8 : static_cast<uint32_t>(part.size());
      while (size <= index) size *= 2;
      part.resize(size);
    }
    return part[index];
  }
  template <typename Visit>
  void ForEach(Visit visit) {
    for (uint32_t i = 0; i < chosen_.size(); ++i) visit(i, chosen_[i]);
    for (uint32_t i = 0; i < automatic_.size(); ++i) visit(in_flight_ + i, automatic_[i]);
  }

 private:
  uint32_t in_flight_ = 0;
  std::vector<Entry> chosen_, automatic_;
};

}  // namespace coroipc

#endif
