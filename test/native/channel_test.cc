// The queue behind a full ring: its order, its account of bytes, and gathering.
#include "channel.h"

#include <vector>

#include "check.h"

using namespace coroipc;

namespace {

Outgoing* Message(uint32_t number, uint32_t bytes) {
  const std::vector<uint8_t> payload(bytes, static_cast<uint8_t>(number));
  const iovec parts[2] = {{const_cast<uint8_t*>(payload.data()), bytes / 2},
                          {const_cast<uint8_t*>(payload.data()) + bytes / 2, bytes - bytes / 2}};
  coroipc_record header = {};
  header.correlation = number;
  return Outgoing::New(header, parts, 2, bytes);
}

}  // namespace

TEST("messages leave a backlog in the order in which they came, whole") {
  Backlog backlog;
  CHECK(backlog.empty());
  for (uint32_t i = 0; i < 100; ++i) backlog.Push(Message(i, i * 7));
  CHECK_EQ(backlog.count(), 100u);
  for (uint32_t i = 0; i < 100; ++i) {
    Outgoing* const first = backlog.first();
    REQUIRE(first != nullptr);
    CHECK_EQ(first->header.correlation, i);
    CHECK_EQ(first->bytes, i * 7);
    for (uint32_t n = 0; n < first->bytes; ++n) CHECK_EQ(first->payload()[n], i);
    backlog.Pop();
    if (i % 3 == 0) {  // also while it is being filled
      backlog.Push(Message(i, 1));
      while (backlog.count() > 99 - i) {
        if (backlog.first()->header.correlation == i + 1) break;
        backlog.Pop();
      }
    }
    if (i == 50) break;
  }
  backlog.Clear();
  CHECK(backlog.empty());
  CHECK_EQ(backlog.bytes(), 0u);
  CHECK_EQ(backlog.count(), 0u);
}

TEST("its bytes are those of what waits, headers included, and zero when nothing does") {
  Backlog backlog;
  backlog.Push(Message(1, 100));
  CHECK_EQ(backlog.bytes(), sizeof(Outgoing) + 100);
  backlog.Push(Message(2, 0));
  CHECK_EQ(backlog.bytes(), 2 * sizeof(Outgoing) + 100);
  backlog.EmptyFirst();
  CHECK_EQ(backlog.bytes(), 2 * sizeof(Outgoing));
  CHECK_EQ(backlog.first()->header.correlation, 1u);
  backlog.Pop();
  backlog.Pop();
  CHECK_EQ(backlog.bytes(), 0u);
  CHECK(backlog.empty());
  backlog.Push(Message(3, 5));
  CHECK_EQ(backlog.first()->header.correlation, 3u);
}

TEST("gathering takes parts of nothing from nowhere") {
  const iovec parts[4] = {
      {nullptr, 0}, {const_cast<char*>("ab"), 2}, {nullptr, 0}, {const_cast<char*>("cde"), 3}};
  uint8_t to[5];
  uint32_t bytes = 0;
  CHECK(GatherBytes(parts, 4, &bytes));
  CHECK_EQ(bytes, 5u);
  Gather(to, parts, 4);
  CHECK(memcmp(to, "abcde", 5) == 0);
  CHECK(GatherBytes(nullptr, 0, &bytes));
  CHECK_EQ(bytes, 0u);
}

TEST("a sum of parts beyond the largest message is refused, however it overflows") {
  char byte = 0;
  const auto sum = [&](std::vector<size_t> lengths) {
    std::vector<iovec> parts;
    for (const size_t length : lengths) parts.push_back({&byte, length});
    uint32_t bytes = 0;
    return GatherBytes(parts.data(), static_cast<uint32_t>(parts.size()), &bytes);
  };
  const size_t max = COROIPC_MESSAGE_BYTES_MAX;
  CHECK(sum({max}));
  CHECK(sum({max - 1, 1}));
  CHECK(!sum({max, 1}));
  CHECK(!sum({max + 1}));
  CHECK(!sum({SIZE_MAX}));
  CHECK(!sum({SIZE_MAX, 1}));
  CHECK(!sum({size_t{1} << 32}));
  CHECK(!sum({max, max, max, max}));
  CHECK(!sum({SIZE_MAX / 2, SIZE_MAX / 2, 2}));
}
