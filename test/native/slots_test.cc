// Correlations and the table of slots behind them: two ranges, each grown as far as it is used.
#include "slots.h"

#include <set>

#include "check.h"

using namespace coroipc;

namespace {
struct Entry {
  int value = 0;
};
}  // namespace

TEST("a correlation is a slot and a generation, and both come out again") {
  for (const uint32_t slot : {0u, 1u, 255u, 65535u}) {
    for (const uint32_t generation : {0u, 1u, 32768u, 65535u}) {
      const uint32_t correlation = Correlation(slot, static_cast<uint16_t>(generation));
      CHECK_EQ(SlotOf(correlation), slot);
      CHECK_EQ(GenerationOf(correlation), generation);
    }
  }
}

TEST("slots are valid up to twice the requests in flight, at every size") {
  for (const uint32_t in_flight : {1u, 2u, 7u, 256u, 32768u}) {
    SlotTable<Entry> table;
    table.Init(in_flight);
    CHECK_EQ(table.in_flight(), in_flight);
    CHECK(table.valid(0));
    CHECK(table.valid(2 * in_flight - 1));
    CHECK(!table.valid(2 * in_flight));
    CHECK(!table.valid(0xffffffff));
    // The edges of both ranges are slots of their own.
    const uint32_t edges[] = {0, in_flight - 1, in_flight, 2 * in_flight - 1};
    for (const uint32_t slot : edges) table.at(slot).value = static_cast<int>(slot) + 1;
    std::set<Entry*> seen;
    for (const uint32_t slot : edges) seen.insert(&table.at(slot));
    for (const uint32_t slot : edges) CHECK_EQ(table.at(slot).value, slot + 1);
    CHECK_EQ(seen.size(), in_flight == 1 ? 2u : 4u);
  }
}

TEST("a table keeps what it holds when it grows, and shows each used slot once") {
  SlotTable<Entry> table;
  table.Init(1000);
  for (uint32_t slot = 0; slot < 2000; slot += 3) table.at(slot).value = static_cast<int>(slot) + 1;
  for (uint32_t slot = 0; slot < 2000; ++slot) {
    CHECK_EQ(table.at(slot).value, slot % 3 == 0 ? static_cast<int>(slot) + 1 : 0);
  }
  std::set<uint32_t> seen;
  table.ForEach([&](uint32_t slot, Entry& entry) {
    if (entry.value == 0) return;
    CHECK_EQ(entry.value, slot + 1);
    CHECK(seen.insert(slot).second);
  });
  CHECK_EQ(seen.size(), 667u);
}
