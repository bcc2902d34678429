// What both sides of a connection share: batches, the order of messages over rings and queues, ends
// and what they leave, owed doorbells.
#include "connection.h"

#include <signal.h>

#include "deny.h"
#include "loop.h"
#include "peers.h"

using namespace peers;
using namespace coroipc;

namespace {

struct Arena {
  explicit Arena(uint32_t rows, uint32_t bytes)
      : entries(rows), blocks(rows), arena(bytes == 0 ? 1 : bytes) {
    batch = {};
    batch.entries = entries.data();
    batch.blocks = blocks.data();
    batch.capacity = rows;
    batch.arena = arena.data();
    batch.arena_bytes = bytes;
  }
  ~Arena() {
    for (uint32_t i = 0; i < batch.count; ++i) coroipc_block_free(blocks[i]);
  }
  Sink::Put Add(uint32_t bytes) {
    std::vector<uint8_t> payload(bytes, 'p');
    BatchSink sink(&batch);
    return sink.Add({}, payload.data(), bytes);
  }
  std::vector<coroipc_entry> entries;
  std::vector<void*> blocks;
  std::vector<uint8_t> arena;
  coroipc_batch batch;
};

}  // namespace

// -- batches --------------------------------------------------------------------------------------

TEST("small payloads go to the arena, aligned, large ones and those that do not fit to blocks") {
  Arena a(10, 100);
  CHECK_EQ(a.Add(3), Sink::Put::kTaken);
  CHECK_EQ(a.Add(0), Sink::Put::kTaken);
  CHECK_EQ(a.Add(8), Sink::Put::kTaken);
  CHECK_EQ(a.Add(COROIPC_BLOCK_BYTES), Sink::Put::kTaken);
  CHECK_EQ(a.Add(84), Sink::Put::kTaken);  // exactly what is left
  CHECK_EQ(a.Add(1), Sink::Put::kFull);    // waits for the next arena
  CHECK_EQ(a.batch.count, 5u);
  CHECK_EQ(a.entries[2].offset, 8u);
  CHECK_EQ(a.entries[3].flags, COROIPC_IN_BLOCK);
  CHECK(a.blocks[3] != nullptr && a.blocks[4] == nullptr);
  CHECK_EQ(a.entries[4].offset, 16u);
  CHECK_EQ(a.batch.arena_used, 100u);
  Arena none(2, 0);
  CHECK_EQ(none.Add(5), Sink::Put::kTaken);  // the first one always finds a place
  CHECK_EQ(none.entries[0].flags, COROIPC_IN_BLOCK);
  CHECK_EQ(none.Add(5), Sink::Put::kFull);
  CHECK_EQ(none.Add(9000), Sink::Put::kTaken);
  CHECK_EQ(none.Add(0), Sink::Put::kFull);
}

TEST("large payloads go to the arena for them, aligned, and to blocks where they have no place") {
  constexpr uint32_t kLarge = COROIPC_BLOCK_BYTES;
  std::vector<uint8_t> large(4 * kLarge + 3, 0);
  Arena a(10, 100);
  a.batch.large = large.data();
  a.batch.large_bytes = 4 * kLarge + 3;
  a.batch.large_min = kLarge + 1;
  a.batch.large_max = 3 * kLarge - 1;
  CHECK_EQ(a.Add(kLarge), Sink::Put::kTaken);  // too small for it
  CHECK_EQ(a.Add(kLarge + 1), Sink::Put::kTaken);
  CHECK_EQ(a.Add(10), Sink::Put::kTaken);              // the other arena is as it was
  CHECK_EQ(a.Add(3 * kLarge), Sink::Put::kTaken);      // too large for it
  CHECK_EQ(a.Add(3 * kLarge - 4), Sink::Put::kFull);   // has its place in the next one
  CHECK_EQ(a.Add(3 * kLarge - 5), Sink::Put::kTaken);  // exactly what is left
  CHECK_EQ(a.Add(kLarge), Sink::Put::kTaken);
  CHECK_EQ(a.batch.count, 6u);
  CHECK_EQ(a.entries[0].flags, COROIPC_IN_BLOCK);
  CHECK_EQ(a.entries[1].flags, COROIPC_IN_LARGE);
  CHECK_EQ(a.entries[1].offset, 0u);
  CHECK_EQ(a.entries[1].bytes, kLarge + 1);
  CHECK_EQ(a.entries[2].flags, COROIPC_IN_ARENA);
  CHECK_EQ(a.entries[2].offset, 0u);
  CHECK_EQ(a.entries[3].flags, COROIPC_IN_BLOCK);
  CHECK_EQ(a.entries[4].flags, COROIPC_IN_LARGE);
  CHECK_EQ(a.entries[4].offset, kLarge + 8);
  CHECK_EQ(a.entries[5].flags, COROIPC_IN_BLOCK);
  CHECK_EQ(a.batch.large_used, 4 * kLarge + 3);
  CHECK(a.blocks[1] == nullptr && a.blocks[4] == nullptr && a.blocks[5] != nullptr);
  CHECK_EQ(std::count(large.begin(), large.end(), uint8_t{'p'}), 4 * int64_t{kLarge} - 4);
}

TEST("the first of a batch never waits for a place among the large ones") {
  constexpr uint32_t kLarge = COROIPC_BLOCK_BYTES;
  std::vector<uint8_t> large(kLarge);
  Arena a(10, 100);
  a.batch.large = large.data();
  a.batch.large_bytes = kLarge;
  a.batch.large_max = 2 * kLarge;
  CHECK_EQ(a.Add(kLarge + 1), Sink::Put::kTaken);
  CHECK_EQ(a.entries[0].flags, COROIPC_IN_BLOCK);
  CHECK_EQ(a.Add(kLarge + 1), Sink::Put::kFull);
  CHECK_EQ(a.Add(kLarge), Sink::Put::kTaken);
  CHECK_EQ(a.entries[1].flags, COROIPC_IN_LARGE);
}

TEST("a batch of one row at a time loses nothing") {
  Server server;
  server.Start(false);
  RawClient peer;
  REQUIRE(peer.ConnectSocket(server.name));
  const coroipc_setup_request setup = MakeSetupRequest(1, Terms{});
  REQUIRE(SendWithFds(peer.socket, &setup, sizeof setup, {}));
  Batch one(1, 64);
  std::map<uint32_t, uint32_t> kinds;
  bool sent = false;
  uint32_t next = 0;
  CHECK(Eventually([&] {
    (void)coroipcs_receive(server.server, one.get(), 1);
    for (const Row& row : one.Take()) {
      ++kinds[row.entry.kind];
      if (row.entry.kind == COROIPC_KIND_REQUEST) {
        CHECK_EQ(row.entry.correlation, next);
        CHECK_EQ(row.payload.size(), next * 50);
        ++next;
      }
    }
    if (kinds[COROIPC_KIND_CONNECTED] == 1 && !sent) {
      sent = true;
      CHECK_EQ(peer.TakeReply(), COROIPC_OK);
      const std::vector<uint8_t> bytes(1000);
      for (uint32_t slot = 0; slot < 20; ++slot)
        CHECK_EQ(peer.PutRequest(kSilent, slot, bytes.data(), slot * 50), COROIPC_OK);
      peer.Close();
    }
    return kinds[COROIPC_KIND_DISCONNECTED] == 1;
  }));
  CHECK_EQ(next, 20u);
}

// One fills the arena each turn with messages of a size; turns until the other's single one came.
int TurnsBeside(uint32_t flood_bytes, uint32_t other_bytes) {
  Server server;
  server.Start(false);
  RawClient flood, other;
  const coroipc_setup_request setup = MakeSetupRequest(1, Terms{});
  for (RawClient* peer : {&flood, &other}) {
    REQUIRE(peer->ConnectSocket(server.name));
    REQUIRE(SendWithFds(peer->socket, &setup, sizeof setup, {}));
  }
  Batch batch(64, 8192);
  std::vector<uint8_t> large(4 * COROIPC_BLOCK_BYTES);
  batch.get()->large = large.data();
  batch.get()->large_bytes = static_cast<uint32_t>(large.size());
  batch.get()->large_max = static_cast<uint32_t>(large.size());
  int connected = 0;
  REQUIRE(Eventually([&] {
    (void)coroipcs_receive(server.server, batch.get(), 1);
    for (const Row& row : batch.Take()) connected += row.entry.kind == COROIPC_KIND_CONNECTED;
    return connected == 2;
  }));
  CHECK_EQ(flood.TakeReply(), COROIPC_OK);
  CHECK_EQ(other.TakeReply(), COROIPC_OK);
  const std::vector<uint8_t> bytes(std::max(flood_bytes, other_bytes));
  coroipc_record header = {};
  header.kind = COROIPC_RECORD_SEND;
  header.id = 1;
  const auto top_up = [&] {
    while (flood.Put(header, bytes.data(), flood_bytes) == COROIPC_OK) continue;
  };
  top_up();
  (void)coroipcs_receive(server.server, batch.get(), 1);  // the flood is at work
  CHECK(batch.Take().size() > 1);
  coroipc_record single = header;
  single.id = 2;
  CHECK_EQ(other.Put(single, bytes.data(), other_bytes), COROIPC_OK);
  for (int turn = 1; turn <= 100; ++turn) {
    top_up();
    (void)coroipcs_receive(server.server, batch.get(), 1);
    for (const Row& row : batch.Take())
      if (row.entry.id == 2) return turn;
  }
  return 101;
}

// The same beside so many that keep their rings full of these.
int TurnsBesideMany(int many, uint32_t filler_bytes, uint32_t other_bytes = 8) {
  Server server;
  server.options.connections_per_uid = 128;
  server.Start(false);
  const coroipc_setup_request setup = MakeSetupRequest(1, Terms{});
  Batch batch(256, 65536);
  std::vector<uint8_t> large(2u << 20);
  batch.get()->large = large.data();
  batch.get()->large_bytes = static_cast<uint32_t>(large.size());
  batch.get()->large_min = batch.get()->large_bytes / 64;
  batch.get()->large_max = batch.get()->large_bytes / 4;
  std::vector<RawClient> peers(static_cast<size_t>(many) + 1);
  int connected = 0;
  for (RawClient& peer : peers) {
    REQUIRE(peer.ConnectSocket(server.name));
    REQUIRE(SendWithFds(peer.socket, &setup, sizeof setup, {}));
    const int before = connected;
    REQUIRE(Eventually([&] {
      (void)coroipcs_receive(server.server, batch.get(), 1);
      for (const Row& row : batch.Take()) connected += row.entry.kind == COROIPC_KIND_CONNECTED;
      return connected == before + 1;
    }));
    REQUIRE(peer.TakeReply() == COROIPC_OK);
  }
  RawClient& other = peers.back();
  std::vector<uint8_t> bytes(filler_bytes);
  coroipc_record record = {};
  record.kind = COROIPC_RECORD_SEND;
  record.id = 1;
  const auto top_up = [&] {
    for (RawClient& peer : peers)
      while (&peer != &other && peer.Put(record, bytes.data(), filler_bytes) == COROIPC_OK)
        continue;
  };
  for (int turn = 0; turn < 4; ++turn) {
    top_up();
    (void)coroipcs_receive(server.server, batch.get(), 1);
    batch.Take();
  }
  coroipc_record single = record;
  single.id = 2;
  int most = 0;
  for (int round = 0; round < 8; ++round) {
    CHECK_EQ(other.Put(single, bytes.data(), other_bytes), COROIPC_OK);
    int came = 0;
    for (int turn = 1; turn <= 200 && came == 0; ++turn) {
      top_up();
      (void)coroipcs_receive(server.server, batch.get(), 1);
      for (const Row& row : batch.Take())
        if (row.entry.id == 2) came = turn;
    }
    most = std::max(most, came == 0 ? 201 : came);
  }
  return most;
}

TEST("a small message waits no longer the more there are who fill each batch") {
  // Under steady work it is looked for in each fourth turn.
  for (const int many : {1, 16, 64}) {
    CHECK(TurnsBesideMany(many, 2000) <= 4);
    CHECK(TurnsBesideMany(many, COROIPC_BLOCK_BYTES - 200) <= 4);
    CHECK(TurnsBesideMany(many, 100000) <= 4);
  }
}

TEST("of many who fill each batch several have their turn in one") {
  // One of 16 in each, and it would be 16.
  CHECK(TurnsBesideMany(16, COROIPC_BLOCK_BYTES - 200, 2000) <= 8);
}

TEST("whoever found no room beside one who fills it is first in the next batch") {
  CHECK(TurnsBeside(2000, 2000) <= 3);
  CHECK(TurnsBeside(2000, 8000) <= 3);
  CHECK(TurnsBeside(COROIPC_BLOCK_BYTES, COROIPC_BLOCK_BYTES) <= 3);
  CHECK(TurnsBeside(COROIPC_BLOCK_BYTES, 3 * COROIPC_BLOCK_BYTES) <= 3);
}

// -- order ----------------------------------------------------------------------------------------

TEST("what is queued and what goes directly arrive in the order of the calls, small and large") {
  std::atomic<int> wrong{0};
  static std::atomic<uint32_t> next;
  next = 0;
  Server server;
  server.options.request_ring_bytes = 4096;
  server.options.dispatch_ring_bytes = 4096;
  server.options.segments = 3;
  server.handle = [&](coroipcs_connection* connection, const coroipcs_request* request) {
    uint32_t number = 0;
    memcpy(&number, request->payload, sizeof number);
    if (number != next++) ++wrong;
    // Straight back as a dispatch of the same size: the other way is tested as well.
    const iovec part = Part(request->payload, request->bytes);
    if (coroipcs_dispatch_send(connection, 1, &part, 1) != COROIPC_OK) ++wrong;
  };
  server.Start();
  Client client;
  client.options.queue_bytes = 64u << 20;
  REQUIRE(client.Connect(server.name) == COROIPC_OK);
  constexpr uint32_t kCount = 200;
  std::thread reader([&] {
    for (uint32_t i = 0; i < kCount; ++i) {
      coroipcc_dispatch dispatch;
      if (coroipcc_dispatch_receive(client.connection, kPatienceMs, &dispatch) != COROIPC_OK) {
        ++wrong;
        return;
      }
      uint32_t number = 0;
      memcpy(&number, dispatch.data, sizeof number);
      if (number != i) ++wrong;
      (void)coroipcc_dispatch_release(client.connection);
    }
  });
  std::vector<uint8_t> bytes(100000);
  for (uint32_t i = 0; i < kCount; ++i) {
    memcpy(bytes.data(), &i, sizeof i);
    const iovec part = Part(bytes.data(), i % 7 == 3 ? 100000 : 4 + i * 11 % 1500);
    CHECK_EQ(coroipcc_send(client.connection, 100, &part, 1), COROIPC_OK);
  }
  reader.join();
  CHECK_EQ(wrong, 0);
  CHECK_EQ(next, kCount);
}

TEST("one count orders answers and dispatches against each other") {
  Server server;
  server.Start();
  Client client;
  REQUIRE(client.Connect(server.name) == COROIPC_OK);
  uint32_t last = 0;
  for (int i = 0; i < 10; ++i) {
    const uint32_t count = 3;
    const iovec part = Part(&count, sizeof count);
    coroipcc_response response;
    CHECK_EQ(coroipcc_request(client.connection, kDispatches, &part, 1, -1, nullptr, 0, &response),
             COROIPC_OK);
    // An answer that was seen: the dispatches before it are there.
    for (int n = 0; n < 3; ++n) {
      coroipcc_dispatch dispatch;
      REQUIRE(coroipcc_dispatch_receive(client.connection, 0, &dispatch) == COROIPC_OK);
      CHECK(dispatch.sequence < response.sequence);
      CHECK(i == 0 || dispatch.sequence > last);
      (void)coroipcc_dispatch_release(client.connection);
    }
    last = response.sequence;
  }
}

// -- ends -----------------------------------------------------------------------------------------

TEST("why a server ended the connection is heard by the client") {
  Server server;
  server.Start();
  const std::pair<coroipc_status, coroipc_status> whys[] = {
      {COROIPC_DISCONNECTED, COROIPC_DISCONNECTED},
      {COROIPC_PROTOCOL, COROIPC_PROTOCOL},
      {COROIPC_LIMIT, COROIPC_LIMIT},
      {COROIPC_DENIED, COROIPC_DENIED},
      {COROIPC_TIMED_OUT, COROIPC_DISCONNECTED},  // nothing that a connection ends of
  };
  for (const auto& [said, heard] : whys) {
    Client client;
    const int before = server.connected;
    REQUIRE(client.Connect(server.name) == COROIPC_OK);
    REQUIRE(Eventually([&] { return server.connected > before; }));
    CHECK_EQ(coroipcs_dispatch_send(server.last, 5, nullptr, 0), COROIPC_OK);
    CHECK_EQ(coroipcs_disconnect(server.last, COROIPC_OK), COROIPC_INVALID_ARGUMENT);
    CHECK_EQ(coroipcs_disconnect(server.last, COROIPC_STATUS_COUNT), COROIPC_INVALID_ARGUMENT);
    CHECK_EQ(coroipcs_disconnect(server.last, said), COROIPC_OK);
    // What was sent before it is still read.
    coroipcc_dispatch dispatch;
    CHECK_EQ(coroipcc_dispatch_receive(client.connection, kPatienceMs, &dispatch), COROIPC_OK);
    CHECK_EQ(coroipcc_dispatch_release(client.connection), COROIPC_OK);
    CHECK_EQ(coroipcc_dispatch_receive(client.connection, kPatienceMs, &dispatch), heard);
    CHECK_EQ(coroipcc_state(client.connection), heard);
  }
}

TEST("fds and mappings are what they were after many connections") {
  Server server;
  server.Start();
  const auto cycle = [&] {
    Client client;
    REQUIRE(client.Connect(server.name) == COROIPC_OK);
    CHECK(client.Echo(300000));
    client.Close();
  };
  cycle();
  CHECK(Eventually([&] { return server.Stats().connections == 0; }));
  const int fds = OpenFds();
  for (int i = 0; i < 30; ++i) cycle();
  CHECK(Eventually([&] { return server.Stats().connections == 0; }));
  CHECK(Eventually([&] { return OpenFds() <= fds; }));
}

// -- owed doorbells -------------------------------------------------------------------------------

TEST("what a doorbell was rung for comes before it is read, and it is the last one that is read") {
  Server server;
  server.options.wait = COROIPC_WAIT_SLEEP;
  server.Start(false);
  Batch batch(16, 4096);
  const auto receive = [&] {
    (void)coroipcs_receive(server.server, batch.get(), 1);
    std::vector<uint32_t> kinds;
    for (const Row& row : batch.Take()) kinds.push_back(row.entry.kind);
    return kinds;
  };
  const auto doorbells = [&] {
    coroipc_stats stats;
    coroipcs_stats(server.server, &stats, 0);
    return stats.doorbells_received;
  };
  RawClient peer;
  REQUIRE(peer.ConnectSocket(server.name));
  const coroipc_setup_request setup = MakeSetupRequest(1, Terms{});
  REQUIRE(SendWithFds(peer.socket, &setup, sizeof setup, {}));
  bool connected = false;
  REQUIRE(Eventually([&] {
    for (const uint32_t kind : receive()) connected |= kind == COROIPC_KIND_CONNECTED;
    return connected;
  }));
  REQUIRE(peer.TakeReply() == COROIPC_OK);
  REQUIRE(Eventually([&] { return coroipcs_look(server.server, 0) == COROIPC_OK; }));

  CHECK_EQ(peer.PutRequest(kSilent, 0, "x", 1), COROIPC_OK);
  peer.Bell();
  peer.Bell();
  std::vector<uint32_t> kinds = receive();
  REQUIRE(kinds.size() == 1);
  CHECK_EQ(kinds[0], COROIPC_KIND_REQUEST);
  CHECK_EQ(doorbells(), 0u);  // the answer is on its way before the socket is read
  CHECK(receive().empty());
  CHECK_EQ(doorbells(), 1u);  // and what was taken is what that one was rung for
  // The next sleep ends at once, although every word was looked at.
  while (coroipcs_look(server.server, 0) != COROIPC_OK) (void)receive();
  CHECK_EQ(coroipcs_wait(server.server, kPatienceMs), COROIPC_AGAIN);
  (void)receive();
  CHECK_EQ(doorbells(), 3u);  // nothing was found for these: read past
  // Not twice in a row: whoever has always something in the ring is read all the same.
  for (uint32_t slot = 1; slot < 4; ++slot) {
    CHECK_EQ(peer.PutRequest(kSilent, slot, "x", 1), COROIPC_OK);
    peer.Bell();
    CHECK_EQ(receive().size(), 1u);
  }
  CHECK(doorbells() >= 4u);
  // The end of the file, once it is known, is not left for later: who is gone is served no more.
  while (coroipcs_look(server.server, 0) != COROIPC_OK) (void)receive();
  CHECK_EQ(peer.PutRequest(kSilent, 4, "x", 1), COROIPC_OK);
  peer.Bell();
  peer.Close();
  CHECK_EQ(coroipcs_wait(server.server, kPatienceMs), COROIPC_AGAIN);
  kinds = receive();
  REQUIRE(kinds.size() == 2);
  CHECK_EQ(kinds[0], COROIPC_KIND_REQUEST);
  CHECK_EQ(kinds[1], COROIPC_KIND_DISCONNECTED);
}

TEST("a doorbell that the kernel has no memory for is tried again, and not in circles") {
  // The calling thread's send(2) fails from now on. A filter cannot be taken back, so a child does
  // it, and the server stays asleep: the call ends by its time-out.
  const pid_t child = fork();
  if (child == 0) {
    Server server;
    server.options.wait = COROIPC_WAIT_SLEEP;
    server.Start();
    Client client;
    client.options.wait = COROIPC_WAIT_SLEEP;
    REQUIRE(client.Connect(server.name) == COROIPC_OK);
    CHECK(client.Echo());
    SleepMs(50);
    // For this thread alone: the server's answers still ring.
    if (!Deny(SYS_sendto, ENOBUFS)) _exit(77);
    const clock_t before = clock();
    CHECK_EQ(client.Call(kEcho, "x", 1, nullptr, 300), COROIPC_TIMED_OUT);
    CHECK(clock() - before < CLOCKS_PER_SEC / 5);
    coroipc_stats stats;
    coroipcc_stats(client.connection, &stats, 0);
    CHECK_EQ(stats.responses, 1u);
    _exit(check_failures == 0 ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 77) SKIP("no seccomp");
  CHECK_EQ(status, 0);
}
