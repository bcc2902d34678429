// The ring: every edge of reserve and commit, peek and advance, on ordinary memory of exactly its
// size, so that a byte out of bounds is AddressSanitizer's; a model with random lengths; every
// impossible value that a peer could write; and two threads that sleep and wake over one mapping.
#include "ring.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <time.h>

#include <atomic>
#include <deque>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "check.h"
#include "seed.h"

using namespace coroipc;

namespace {

constexpr uint32_t kHeader = COROIPC_RECORD_BYTES;

// A writer and a reader over one ring, both positions starting at `start`.
struct Pair {
  explicit Pair(uint32_t capacity_bytes, uint32_t start = 0)
      : capacity(capacity_bytes), data(new uint64_t[capacity_bytes / 8]()) {
    words.write_position = words.read_position = start;
    CHECK_EQ(writer.Init(&words, bytes(), capacity), COROIPC_OK);
    CHECK_EQ(reader.Init(&words, bytes(), capacity), COROIPC_OK);
  }
  uint8_t* bytes() { return reinterpret_cast<uint8_t*>(data.get()); }

  // OK when it was written; the payload is `count` times `fill`.
  Status Put(uint32_t count, uint8_t fill, uint32_t* wants_out = nullptr) {
    uint8_t* payload = nullptr;
    uint32_t wants = 0;
    const Status status = writer.Reserve(count, &payload, &wants);
    if (wants_out != nullptr) *wants_out = wants;
    if (status != COROIPC_OK) return status;
    memset(payload, fill, count);
    coroipc_record header = {};
    header.bytes = count;
    header.kind = COROIPC_RECORD_SEND;
    header.correlation = fill;
    writer.Commit(header);
    writer.Publish();
    return COROIPC_OK;
  }
  // OK when one was read and was what `Put` wrote.
  Status Take(uint32_t count, uint8_t fill) {
    coroipc_record header = {};
    const uint8_t* payload = nullptr;
    const Status status = reader.Peek(&header, &payload);
    if (status != COROIPC_OK) return status;
    CHECK_EQ(header.bytes, count);
    CHECK_EQ(header.correlation, fill);
    bool same = true;
    for (uint32_t i = 0; i < header.bytes; ++i) same &= payload[i] == fill;
    CHECK(same);
    reader.Advance();
    reader.PublishRead();
    return COROIPC_OK;
  }

  uint32_t capacity;
  coroipc_ring_words words = {};
  std::unique_ptr<uint64_t[]> data;
  RingWriter writer;
  RingReader reader;
};

uint32_t StartAt(uint32_t near, uint32_t offset, uint32_t capacity) {
  return (near & ~(capacity - 1)) + offset;
}

}  // namespace

TEST("an empty ring has nothing to read, and says so again and again") {
  Pair pair(256);
  CHECK_EQ(pair.Take(0, 0), COROIPC_AGAIN);
  CHECK_EQ(pair.Take(0, 0), COROIPC_AGAIN);
  CHECK(!pair.reader.Ready());
  CHECK(!pair.reader.unpublished());
}

TEST("one record comes out as it went in, and the ring is empty again") {
  Pair pair(256);
  CHECK_EQ(pair.Put(5, 0x5a), COROIPC_OK);
  CHECK(pair.reader.Ready());
  CHECK_EQ(pair.Take(5, 0x5a), COROIPC_OK);
  CHECK_EQ(pair.Take(0, 0), COROIPC_AGAIN);
  CHECK_EQ(pair.words.read_position, pair.words.write_position);
}

TEST("nothing is visible before it is published") {
  Pair pair(256);
  uint8_t* payload = nullptr;
  uint32_t wants = 0;
  CHECK_EQ(pair.writer.Reserve(8, &payload, &wants), COROIPC_OK);
  coroipc_record header = {};
  header.bytes = 8;
  header.kind = COROIPC_RECORD_SEND;
  pair.writer.Commit(header);
  CHECK(pair.writer.unpublished());
  CHECK_EQ(pair.writer.unpublished_bytes(), 32u);
  CHECK_EQ(pair.Take(8, 0), COROIPC_AGAIN);
  pair.writer.Publish();
  CHECK(!pair.writer.unpublished());
  CHECK_EQ(pair.Take(8, 0), COROIPC_OK);
}

TEST("a payload of nothing is a record, and so is the largest one") {
  Pair pair(256);
  CHECK_EQ(pair.writer.payload_bytes_max(), 128u - kHeader);
  CHECK_EQ(pair.Put(0, 1), COROIPC_OK);
  CHECK_EQ(pair.Take(0, 1), COROIPC_OK);
  for (uint8_t i = 0; i < 20; ++i) {
    CHECK_EQ(pair.Put(pair.writer.payload_bytes_max(), i), COROIPC_OK);
    CHECK_EQ(pair.Take(pair.writer.payload_bytes_max(), i), COROIPC_OK);
  }
}

TEST("a ring can be filled to its last byte, and not by one record more") {
  Pair pair(256);
  for (uint8_t i = 0; i < 8; ++i) CHECK_EQ(pair.Put(8, i), COROIPC_OK);  // 8 * 32 = 256
  uint32_t wants = 0;
  CHECK_EQ(pair.Put(0, 9, &wants), COROIPC_AGAIN);
  CHECK_EQ(wants, 24u);
  CHECK_EQ(pair.words.write_position - pair.words.read_position, 256u);
  for (uint8_t i = 0; i < 8; ++i) CHECK_EQ(pair.Take(8, i), COROIPC_OK);
  CHECK_EQ(pair.Take(0, 0), COROIPC_AGAIN);
}

TEST("what fits exactly fits, and a byte more waits for the pad as well") {
  Pair pair(256);
  for (uint8_t i = 0; i < 7; ++i) CHECK_EQ(pair.Put(8, i), COROIPC_OK);
  for (uint8_t i = 0; i < 3; ++i) CHECK_EQ(pair.Take(8, i), COROIPC_OK);
  uint32_t wants = 0;
  // 32 bytes are left at the end: a longer record goes to the start, after a pad of 32.
  CHECK_EQ(pair.Put(100, 9, &wants), COROIPC_AGAIN);
  CHECK_EQ(wants, 32u + 128u);
  CHECK_EQ(pair.Put(8, 7), COROIPC_OK);
  for (uint8_t i = 3; i < 8; ++i) CHECK_EQ(pair.Take(8, i), COROIPC_OK);
  CHECK_EQ(pair.Put(100, 9), COROIPC_OK);
  CHECK_EQ(pair.Take(100, 9), COROIPC_OK);
}

TEST("a record that would wrap goes to the start, behind a pad") {
  Pair pair(256);
  CHECK_EQ(pair.Put(100, 1), COROIPC_OK);
  CHECK_EQ(pair.Put(72, 2), COROIPC_OK);  // up to 224
  CHECK_EQ(pair.Take(100, 1), COROIPC_OK);
  CHECK_EQ(pair.Put(40, 3), COROIPC_OK);  // pad of 32, then 0..64
  CHECK_EQ(pair.words.write_position, 256u + 64u);
  CHECK_EQ(pair.Take(72, 2), COROIPC_OK);
  CHECK_EQ(pair.Take(40, 3), COROIPC_OK);
  CHECK_EQ(pair.Take(0, 0), COROIPC_AGAIN);
}

TEST("a remainder of eight bytes is a whole pad") {
  Pair pair(256, 248);
  CHECK_EQ(pair.Put(16, 1), COROIPC_OK);
  CHECK_EQ(pair.words.write_position, 256u + 40u);
  CHECK_EQ(pair.Take(16, 1), COROIPC_OK);
}

TEST("a full ring whose writer has wrapped is full, not empty") {
  Pair pair(256, 64);
  for (uint8_t i = 0; i < 8; ++i) CHECK_EQ(pair.Put(8, i), COROIPC_OK);
  // Both positions name the same byte.
  CHECK_EQ(pair.words.write_position & 255u, pair.words.read_position & 255u);
  CHECK_EQ(pair.Put(0, 1), COROIPC_AGAIN);
  for (uint8_t i = 0; i < 8; ++i) CHECK_EQ(pair.Take(8, i), COROIPC_OK);
  CHECK_EQ(pair.Take(0, 0), COROIPC_AGAIN);
}

TEST("a pad that was published alone hides nothing behind it") {
  Pair pair(256, 200);
  uint8_t* payload = nullptr;
  uint32_t wants = 0;
  // Reserved, then given up: the pad stands for itself.
  CHECK_EQ(pair.writer.Reserve(100, &payload, &wants), COROIPC_OK);
  pair.writer.Publish();
  CHECK(pair.reader.Ready());
  CHECK_EQ(pair.Take(0, 0), COROIPC_AGAIN);
  CHECK(pair.reader.unpublished());
  pair.reader.PublishRead();
  CHECK(!pair.reader.Ready());
  CHECK_EQ(pair.Put(104, 4), COROIPC_OK);
  CHECK_EQ(pair.Put(104, 5), COROIPC_OK);
  CHECK_EQ(pair.Take(104, 4), COROIPC_OK);
  CHECK_EQ(pair.Take(104, 5), COROIPC_OK);
}

TEST("unused bytes behind a payload are zero, whatever was there before") {
  Pair pair(256);
  memset(pair.bytes(), 0xff, 256);
  CHECK_EQ(pair.Put(1, 0xee), COROIPC_OK);
  for (uint32_t i = kHeader + 1; i < 32; ++i) CHECK_EQ(pair.bytes()[i], 0u);
  CHECK_EQ(pair.bytes()[32], 0xffu);
}

TEST("every length at every offset passes through a small ring, also across 2^32") {
  constexpr uint32_t kCapacity = 128;
  for (const uint32_t near : {0u, 0u - kCapacity, 0x80000000u - kCapacity}) {
    for (uint32_t offset = 0; offset < kCapacity; offset += 8) {
      for (uint32_t count = 0; count <= kCapacity / 2 - kHeader; ++count) {
        Pair pair(kCapacity, StartAt(near, offset, kCapacity));
        for (uint8_t round = 0; round < 4; ++round) {
          CHECK_EQ(pair.Put(count, round), COROIPC_OK);
          CHECK_EQ(pair.Take(count, round), COROIPC_OK);
        }
        CHECK_EQ(pair.Take(0, 0), COROIPC_AGAIN);
      }
    }
  }
}

TEST("positions that start anywhere below 2^32 go through zero unharmed") {
  for (uint32_t k = 8; k <= 512; k += 8) {
    Pair pair(256, 0u - k);
    for (uint8_t i = 0; i < 60; ++i) {
      CHECK_EQ(pair.Put(i & 31u, i), COROIPC_OK);
      CHECK_EQ(pair.Put(40, i), COROIPC_OK);
      CHECK_EQ(pair.Take(i & 31u, i), COROIPC_OK);
      CHECK_EQ(pair.Take(40, i), COROIPC_OK);
    }
    CHECK(pair.words.write_position < 1u << 20);
  }
}

TEST("random lengths come out as a queue would give them") {
  std::mt19937 random(Seed());
  for (int round = 0; round < 20; ++round) {
    const uint32_t capacity = 64u << (random() % 8);
    Pair pair(capacity, static_cast<uint32_t>(random()) & ~7u);
    std::deque<std::pair<uint32_t, uint8_t>> model;
    uint32_t waits = 0;  // bytes that the writer was told to wait for
    for (int i = 0; i < 4000; ++i) {
      const auto fill = static_cast<uint8_t>(random());
      if (random() % 2 == 0) {
        const uint32_t max = pair.writer.payload_bytes_max();
        const uint32_t count = static_cast<uint32_t>(random()) % (max + 1);
        const Status status = pair.Put(count, fill, &waits);
        CHECK(status == COROIPC_OK || status == COROIPC_AGAIN);
        if (status == COROIPC_OK) {
          model.emplace_back(count, fill);
        } else {
          CHECK(!model.empty());  // an empty ring takes any record
          bool room = true;
          CHECK_EQ(pair.writer.Room(waits, &room), COROIPC_OK);
          CHECK(!room);
        }
      } else if (model.empty()) {
        CHECK_EQ(pair.Take(0, 0), COROIPC_AGAIN);
      } else {
        CHECK_EQ(pair.Take(model.front().first, model.front().second), COROIPC_OK);
        model.pop_front();
      }
    }
    while (!model.empty()) {
      CHECK_EQ(pair.Take(model.front().first, model.front().second), COROIPC_OK);
      model.pop_front();
    }
  }
}

TEST("the read position is due for publication at an eighth of the ring") {
  Pair pair(512);
  coroipc_record header = {};
  const uint8_t* payload = nullptr;
  for (uint8_t i = 0; i < 3; ++i) CHECK_EQ(pair.Put(8, i), COROIPC_OK);
  CHECK_EQ(pair.reader.Peek(&header, &payload), COROIPC_OK);
  pair.reader.Advance();
  CHECK(pair.reader.unpublished() && !pair.reader.PublishDue());
  CHECK_EQ(pair.reader.Peek(&header, &payload), COROIPC_OK);
  pair.reader.Advance();
  CHECK(pair.reader.PublishDue());
  CHECK_EQ(pair.words.read_position, 0u);
  pair.reader.PublishRead();
  CHECK_EQ(pair.words.read_position, 64u);
  CHECK(!pair.reader.unpublished());
}

TEST("a frozen ring is read to where it was seen, whatever is written afterwards") {
  // The last that was seen is a pad: what stands behind it came later.
  Pair pair(256, 200);
  uint8_t* reserved = nullptr;
  uint32_t wants = 0;
  CHECK_EQ(pair.writer.Reserve(100, &reserved, &wants), COROIPC_OK);
  pair.writer.Publish();
  CHECK_EQ(pair.reader.LoadPeer(), COROIPC_OK);
  pair.reader.Freeze();
  CHECK_EQ(pair.Put(100, 1), COROIPC_OK);
  CHECK_EQ(pair.Take(0, 0), COROIPC_AGAIN);
  CHECK_EQ(pair.reader.seen_bytes(), 0u);
  CHECK_EQ(pair.Take(0, 0), COROIPC_AGAIN);
}

// -- sleeping and waking --------------------------------------------------------------------------

TEST("a sleeper is woken once for each time that it says so") {
  Pair pair(256);
  CHECK(!pair.writer.TakeReaderSleep());
  pair.reader.SetSleep();
  CHECK(pair.writer.TakeReaderSleep());
  CHECK(!pair.writer.TakeReaderSleep());
  pair.reader.SetSleep();
  pair.reader.ClearSleep();
  CHECK(!pair.writer.TakeReaderSleep());
  CHECK_EQ(pair.reader.TakeWriterWants(), 0u);
  pair.writer.SetWants(80);
  CHECK_EQ(pair.reader.PeekWriterWants(), 80u);
  CHECK_EQ(pair.reader.TakeWriterWants(), 80u);
  CHECK_EQ(pair.reader.TakeWriterWants(), 0u);
  pair.writer.SetWants(80);
  pair.writer.ClearWants();
  CHECK_EQ(pair.reader.TakeWriterWants(), 0u);
}

TEST("room is what the reader gave back, and no more") {
  Pair pair(256);
  bool room = false;
  CHECK_EQ(pair.writer.Room(256, &room), COROIPC_OK);
  CHECK(room);
  CHECK_EQ(pair.Put(8, 1), COROIPC_OK);
  CHECK_EQ(pair.writer.Room(256, &room), COROIPC_OK);
  CHECK(!room);
  CHECK_EQ(pair.writer.Room(224, &room), COROIPC_OK);
  CHECK(room);
  CHECK_EQ(pair.Take(8, 1), COROIPC_OK);
  CHECK_EQ(pair.writer.Room(256, &room), COROIPC_OK);
  CHECK(room);
}

// -- leases ---------------------------------------------------------------------------------------

TEST("reading goes on past a lease, and space comes back only up to it") {
  Pair pair(512);
  for (uint8_t i = 0; i < 4; ++i) CHECK_EQ(pair.Put(40, i), COROIPC_OK);
  CHECK_EQ(pair.Take(40, 0), COROIPC_OK);
  coroipc_record header = {};
  const uint8_t* payload = nullptr;
  CHECK_EQ(pair.reader.Peek(&header, &payload), COROIPC_OK);
  pair.reader.Lease();
  pair.reader.Advance();
  CHECK(pair.reader.leased());
  CHECK_EQ(pair.Take(40, 2), COROIPC_OK);
  CHECK_EQ(pair.Take(40, 3), COROIPC_OK);
  CHECK_EQ(pair.words.read_position, 64u);
  CHECK(!pair.reader.unpublished());
  CHECK_EQ(payload[0], 1u);
  CHECK(pair.reader.LeaseAllows(512 - 3 * 64));
  CHECK(!pair.reader.LeaseAllows(512 - 3 * 64 + 1));
  pair.reader.Unlease();
  CHECK(pair.reader.unpublished());
  pair.reader.PublishRead();
  CHECK_EQ(pair.words.read_position, 256u);
  CHECK(pair.reader.LeaseAllows(512));
}

TEST("whether a lease leaves room is asked for the largest record where it would stand") {
  for (uint32_t offset = 0; offset < 512; offset += 8) {
    for (uint32_t held = 24; held <= 256; held += 8) {
      Pair pair(512, offset);
      CHECK_EQ(pair.Put(held - kHeader, 1), COROIPC_OK);
      coroipc_record header = {};
      const uint8_t* payload = nullptr;
      CHECK_EQ(pair.reader.Peek(&header, &payload), COROIPC_OK);
      pair.reader.Lease();
      pair.reader.Advance();
      pair.reader.PublishRead();  // a pad before it
      const bool promised = pair.reader.LeaseLeavesRoom();
      CHECK_EQ(promised, pair.Put(pair.writer.payload_bytes_max(), 2) == COROIPC_OK);
    }
  }
}

// -- impossible values ----------------------------------------------------------------------------

namespace {

// What a reader says to a record whose header is `header`, published as `bytes` at `offset`.
Status Judge(uint32_t offset, const coroipc_record& header, uint32_t bytes,
             uint32_t capacity = 256) {
  Pair pair(capacity, offset);
  const uint32_t at = offset & (capacity - 1);
  memcpy(pair.bytes() + at, &header, std::min<size_t>(sizeof header, capacity - at));
  pair.words.write_position = offset + bytes;
  coroipc_record seen = {};
  const uint8_t* payload = nullptr;
  return pair.reader.Peek(&seen, &payload);
}

coroipc_record Record(uint32_t bytes, uint8_t kind = COROIPC_RECORD_SEND) {
  coroipc_record record = {};
  record.bytes = bytes;
  record.kind = kind;
  return record;
}

}  // namespace

TEST("a ring whose positions do not stand at the start of a record is refused") {
  for (const uint32_t off : {1u, 2u, 4u, 7u}) {
    coroipc_ring_words words = {};
    std::vector<uint64_t> data(32);
    auto* const bytes = reinterpret_cast<uint8_t*>(data.data());
    words.write_position = words.read_position = 248 + off;
    RingReader reader;
    RingWriter writer;
    CHECK_EQ(reader.Init(&words, bytes, 256), COROIPC_PROTOCOL);
    CHECK_EQ(writer.Init(&words, bytes, 256), COROIPC_PROTOCOL);
  }
}

TEST("a write position beyond the ring, behind the reader or between records is PROTOCOL") {
  for (const uint32_t start : {0u, 128u, 0u - 256u, 0u - 8u}) {
    for (const uint32_t bytes : {264u, 512u, 0x7ffffff8u, 0x80000000u, 0u - 8u, 0u - 256u}) {
      CHECK_EQ(Judge(start, Record(0), bytes), COROIPC_PROTOCOL);
    }
    for (const uint32_t bytes : {1u, 4u, 23u, 255u}) {
      CHECK_EQ(Judge(start, Record(0), bytes), COROIPC_PROTOCOL);
    }
    CHECK_EQ(Judge(start, Record(0), 24), start == 0u - 8u ? COROIPC_PROTOCOL : COROIPC_OK);
  }
}

TEST("a write position that goes back after it was seen is PROTOCOL") {
  Pair pair(256);
  CHECK_EQ(pair.Put(8, 1), COROIPC_OK);
  CHECK_EQ(pair.Put(8, 2), COROIPC_OK);
  CHECK_EQ(pair.reader.LoadPeer(), COROIPC_OK);
  pair.words.write_position = 32;
  CHECK_EQ(pair.reader.LoadPeer(), COROIPC_PROTOCOL);
}

TEST("a write position into space that a lease holds is PROTOCOL") {
  Pair pair(256);
  CHECK_EQ(pair.Put(40, 1), COROIPC_OK);
  coroipc_record header = {};
  const uint8_t* payload = nullptr;
  CHECK_EQ(pair.reader.Peek(&header, &payload), COROIPC_OK);
  pair.reader.Lease();
  pair.reader.Advance();
  pair.reader.PublishRead();
  pair.words.write_position = 256;
  CHECK_EQ(pair.reader.LoadPeer(), COROIPC_OK);
  pair.words.write_position = 264;
  CHECK_EQ(pair.reader.LoadPeer(), COROIPC_PROTOCOL);
}

TEST("a record longer than what was published, than half a ring or than the ring is PROTOCOL") {
  CHECK_EQ(Judge(0, Record(104), 128), COROIPC_OK);
  CHECK_EQ(Judge(0, Record(105), 128), COROIPC_PROTOCOL);
  CHECK_EQ(Judge(0, Record(104), 120), COROIPC_PROTOCOL);
  CHECK_EQ(Judge(0, Record(105), 256), COROIPC_PROTOCOL);
  for (const uint32_t bytes :
       {232u, 256u, 0x7fffffffu, 0x80000000u, 0xffffffe8u, 0xfffffff8u, 0xffffffffu}) {
    CHECK_EQ(Judge(0, Record(bytes), 256), COROIPC_PROTOCOL);
    CHECK_EQ(Judge(128, Record(bytes), 256), COROIPC_PROTOCOL);
  }
  for (uint32_t bytes = 0; bytes < 24; bytes += 8) {
    CHECK_EQ(Judge(0, Record(0), bytes), bytes == 0 ? COROIPC_AGAIN : COROIPC_PROTOCOL);
  }
}

TEST("a record across the end of the ring is PROTOCOL") {
  CHECK_EQ(Judge(192, Record(40), 256), COROIPC_OK);
  CHECK_EQ(Judge(192, Record(41), 256), COROIPC_PROTOCOL);
  CHECK_EQ(Judge(240, Record(0), 256), COROIPC_PROTOCOL);
  CHECK_EQ(Judge(248, Record(0), 256), COROIPC_PROTOCOL);
}

TEST("a pad that does not end with the ring, that fills it or that is cut short is PROTOCOL") {
  for (uint32_t bytes = 0; bytes <= 256; ++bytes) {
    const Status judged = Judge(192, Record(bytes, COROIPC_RECORD_PAD), 64);
    CHECK_EQ(judged, bytes == 64 - 8 ? COROIPC_AGAIN : COROIPC_PROTOCOL);
  }
  CHECK_EQ(Judge(192, Record(64 - 8, COROIPC_RECORD_PAD), 56), COROIPC_PROTOCOL);
  CHECK_EQ(Judge(0, Record(256 - 8, COROIPC_RECORD_PAD), 256), COROIPC_PROTOCOL);
  CHECK_EQ(Judge(0, Record(0xffffffff, COROIPC_RECORD_PAD), 256), COROIPC_PROTOCOL);
  // A pad, and at the start of the ring one more.
  Pair pair(256, 192);
  const coroipc_record first = Record(56, COROIPC_RECORD_PAD), second = Record(248, 1);
  memcpy(pair.bytes() + 192, &first, 8);
  memcpy(pair.bytes(), &second, 8);
  pair.words.write_position = 192 + 256;
  CHECK_EQ(pair.Take(0, 0), COROIPC_PROTOCOL);
}

TEST("a read position behind what was freed, past what was published or crooked is PROTOCOL") {
  const auto judge = [](uint32_t read) {
    Pair pair(256, 64);
    for (uint8_t i = 0; i < 4; ++i) CHECK_EQ(pair.Put(8, i), COROIPC_OK);
    pair.words.read_position = 64 + 32;
    bool room = false;
    CHECK_EQ(pair.writer.Room(1, &room), COROIPC_OK);
    pair.words.read_position = read;
    return pair.writer.Room(1, &room);
  };
  for (const uint32_t good : {96u, 104u, 192u}) CHECK_EQ(judge(good), COROIPC_OK);
  for (const uint32_t bad : {0u, 64u, 88u, 200u, 320u, 0x80000000u, 0u - 8u, 97u, 100u, 191u}) {
    CHECK_EQ(judge(bad), COROIPC_PROTOCOL);
  }
  Pair pair(256);
  for (uint8_t i = 0; i < 8; ++i) CHECK_EQ(pair.Put(8, i), COROIPC_OK);
  pair.words.read_position = 264;
  CHECK_EQ(pair.Put(8, 1), COROIPC_PROTOCOL);
}

TEST("what the reader has not given back is found again, across the end of the ring too") {
  for (const uint32_t start : {0u, StartAt(0xffffffff, 80, 256), StartAt(4096, 200, 256)}) {
    Pair pair(256, start);
    CHECK_EQ(pair.Put(10, 1), COROIPC_OK);
    CHECK_EQ(pair.Put(20, 2), COROIPC_OK);
    CHECK_EQ(pair.Put(40, 3), COROIPC_OK);
    CHECK_EQ(pair.Take(10, 1), COROIPC_OK);
    std::vector<uint32_t> unread;
    const auto note = [&](const coroipc_record& header) { unread.push_back(header.correlation); };
    pair.writer.ForEachUnread(note);
    CHECK((unread == std::vector<uint32_t>{2, 3}));
    CHECK_EQ(pair.Take(20, 2), COROIPC_OK);
    CHECK_EQ(pair.Take(40, 3), COROIPC_OK);
    unread.clear();
    pair.writer.ForEachUnread(note);
    CHECK(unread.empty());
  }
}

TEST("looking for what was not read leaves the ring for no length that was written over ours") {
  std::mt19937 random(1);
  for (int round = 0; round < 20000; ++round) {
    Pair pair(256, StartAt(0, 8 * (random() % 32), 256));
    while (pair.Put(static_cast<uint32_t>(random() % 60), 5) == COROIPC_OK) continue;
    for (uint32_t i = 0; i < 64; ++i)
      if (random() % 4 == 0)
        reinterpret_cast<uint32_t*>(pair.bytes())[i] = static_cast<uint32_t>(random() % 300);
    uint32_t found = 0;
    pair.writer.ForEachUnread([&](const coroipc_record&) { ++found; });
    CHECK(found <= 256 / COROIPC_PAD_RECORD_BYTES);
  }
}

TEST("a pad that was made something else is no record where there is no room for one") {
  for (const bool read_position_is_wrong : {false, true}) {
    Pair pair(4096);
    CHECK_EQ(pair.Put(4096 / 2 - kHeader, 1), COROIPC_OK);
    CHECK_EQ(pair.Put(4096 / 2 - kHeader - 8, 2), COROIPC_OK);
    CHECK_EQ(pair.Take(4096 / 2 - kHeader, 1), COROIPC_OK);
    CHECK_EQ(pair.Put(8, 3), COROIPC_OK);  // behind a pad of 8 bytes
    uint32_t found = 0;
    const auto count = [&](const coroipc_record&) { ++found; };
    pair.writer.ForEachUnread(count);
    CHECK_EQ(found, 2u);
    if (read_position_is_wrong)
      pair.words.read_position = 4096 * 3;
    else
      memset(pair.bytes() + 4096 - 8, 0xff, 8);
    found = 0;
    pair.writer.ForEachUnread(count);
    CHECK_EQ(found, read_position_is_wrong ? 0u : 1u);
  }
}

TEST("a record that was made a pad is none where the ring does not end") {
  Pair pair(4096);
  CHECK_EQ(pair.Put(8, 1), COROIPC_OK);
  coroipc_record pad = {};
  pad.kind = COROIPC_RECORD_PAD;
  for (const uint32_t bytes : {8u, 4096u - COROIPC_PAD_RECORD_BYTES}) {
    pad.bytes = bytes;
    memcpy(pair.bytes(), &pad, COROIPC_PAD_RECORD_BYTES);
    uint32_t found = 0;
    pair.writer.ForEachUnread([&](const coroipc_record&) { ++found; });
    CHECK_EQ(found, 0u);
  }
}

TEST("for statistics a ring is full at most, whatever the other side says") {
  Pair pair(4096);
  CHECK_EQ(pair.Put(100, 1), COROIPC_OK);
  CHECK_EQ(pair.writer.used(), pair.reader.used());
  CHECK(pair.writer.used() > 100);
  pair.words.read_position = 4096 * 3;
  CHECK_EQ(pair.writer.used(), 4096u);
  pair.words.write_position = 4096 * 3;
  CHECK_EQ(pair.reader.used(), 4096u);
}

TEST("every header of two bytes at every offset reads nothing out of bounds") {
  // Bytes and kind in all combinations that matter; the memory is exactly as large as the ring.
  for (uint32_t offset = 0; offset < 64; offset += 8) {
    for (uint32_t bytes = 0; bytes <= 80; ++bytes) {
      for (const uint8_t kind : {uint8_t{1}, uint8_t{2}, uint8_t{255}}) {
        for (uint32_t published = 8; published <= 64; published += 8) {
          const Status judged = Judge(offset, Record(bytes, kind), published, 64);
          CHECK(judged == COROIPC_OK || judged == COROIPC_AGAIN || judged == COROIPC_PROTOCOL);
        }
      }
    }
  }
}

TEST("random bytes over the whole ring read nothing out of bounds and end") {
  std::mt19937 random(1);
  for (int round = 0; round < 5000; ++round) {
    const auto start = static_cast<uint32_t>(random()) & ~7u;
    Pair pair(256, start);
    for (uint32_t i = 0; i < 256; i += 4) {
      uint32_t word = static_cast<uint32_t>(random());
      if (random() % 2 == 0) word &= 0x0000003f;
      memcpy(pair.bytes() + i, &word, 4);
    }
    pair.words.write_position = start + (static_cast<uint32_t>(random()) & 0xf8u);
    Status status = COROIPC_OK;
    for (int i = 0; i < 12 && status == COROIPC_OK; ++i) {
      coroipc_record header = {};
      const uint8_t* payload = nullptr;
      status = pair.reader.Peek(&header, &payload);
      if (status != COROIPC_OK) break;
      CHECK(payload + header.bytes <= pair.bytes() + 256);
      uint8_t copy[256];
      CopyIn(copy, payload, header.bytes);
      pair.reader.Advance();
    }
    CHECK(status != COROIPC_OK);
  }
}

// -- two threads ----------------------------------------------------------------------------------

namespace {

class Doorbell {
 public:
  Doorbell() : fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}
  ~Doorbell() { close(fd_); }
  void Ring() const {
    const uint64_t one = 1;
    if (write(fd_, &one, sizeof one) < 0) return;
  }
  // False: nobody rang for five seconds, which is a lost wake-up.
  bool Wait() const {
    pollfd watched = {fd_, POLLIN, 0};
    if (poll(&watched, 1, 5000) != 1) return false;
    uint64_t count;
    return read(fd_, &count, sizeof count) == sizeof count;
  }

 private:
  int fd_;
};

}  // namespace

TEST("two threads that sleep whenever they can lose no record and no wake-up") {
  Pair pair(512, 0u - 256u);
  const Doorbell to_reader, to_writer;
  constexpr uint32_t kRecords = 20000;
  std::atomic<bool> failed{false};
  std::thread writer([&] {
    std::mt19937 random(2);
    for (uint32_t i = 0; i < kRecords && !failed; ++i) {
      const uint32_t count = static_cast<uint32_t>(random()) % 200;
      uint8_t* payload = nullptr;
      uint32_t wants = 0;
      for (;;) {
        const Status status = pair.writer.Reserve(count, &payload, &wants);
        if (status == COROIPC_OK) break;
        if (status != COROIPC_AGAIN) failed = true;
        pair.writer.Publish();
        if (pair.writer.TakeReaderSleep()) to_reader.Ring();
        pair.writer.SetWants(wants);
        bool room = false;
        if (pair.writer.Room(wants, &room) != COROIPC_OK) failed = true;
        if (room) {
          pair.writer.ClearWants();
        } else if (!to_writer.Wait()) {
          failed = true;
        }
        if (failed) return;
      }
      memset(payload, static_cast<int>(i & 0xffu), count);
      coroipc_record header = {};
      header.bytes = count;
      header.kind = COROIPC_RECORD_SEND;
      header.sequence = i;
      pair.writer.Commit(header);
      if (i % 3 != 0 && i + 1 != kRecords) continue;  // publishes some together
      pair.writer.Publish();
      if (pair.writer.TakeReaderSleep()) to_reader.Ring();
    }
  });
  std::thread reader([&] {
    std::vector<uint8_t> copy(512);
    for (uint32_t i = 0; i < kRecords && !failed;) {
      coroipc_record header = {};
      const uint8_t* payload = nullptr;
      const Status status = pair.reader.Peek(&header, &payload);
      if (status == COROIPC_OK) {
        CopyIn(copy.data(), payload, header.bytes);
        bool same = header.sequence == i;
        for (uint32_t n = 0; n < header.bytes; ++n) same &= copy[n] == (i & 0xffu);
        if (!same) failed = true;
        pair.reader.Advance();
        ++i;
        if (!pair.reader.PublishDue()) continue;
        pair.reader.PublishRead();
        if (pair.reader.TakeWriterWants() != 0) to_writer.Ring();
        continue;
      }
      if (status != COROIPC_AGAIN) failed = true;
      if (pair.reader.unpublished()) {
        pair.reader.PublishRead();
        if (pair.reader.TakeWriterWants() != 0) to_writer.Ring();
      }
      pair.reader.SetSleep();
      if (pair.reader.ReadySeqCst()) {
        pair.reader.ClearSleep();
      } else if (!to_reader.Wait()) {
        failed = true;
      }
    }
  });
  writer.join();
  reader.join();
  CHECK(!failed);
}
