// Clients that lie in several steps, or for a while: raw sockets and a mapped segment, written to
// at will. Each ends its own connection at most, and an honest client beside it never notices.
// Single lies, field by field, are in hostile_client_table_test.cc.
#include <linux/falloc.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <random>

#include "hostile.h"
#include "seed.h"

using namespace hostile;

TEST("a cancel of what is not in flight is no error, nor is one of an older generation") {
  Scene scene;
  scene.Start();
  RawClient client;
  REQUIRE(client.Connect(scene.server.name) == COROIPC_OK);
  for (uint32_t slot = 0; slot < 32; ++slot) {
    client.Put(Record(COROIPC_RECORD_CANCEL, slot), nullptr, 0);
  }
  client.PutRequest(kSilent, Correlation(2, 9), nullptr, 0);
  client.Put(Record(COROIPC_RECORD_CANCEL, Correlation(2, 8)), nullptr, 0);
  client.PutRequest(kEcho, 1, "x", 1);
  coroipc_record answer = {};
  CHECK(client.Take(client.response, &answer, nullptr));
  CHECK_EQ(answer.correlation, 1u);
  CHECK_EQ(scene.server.cancels, 0);
  client.Put(Record(COROIPC_RECORD_CANCEL, Correlation(2, 9)), nullptr, 0);
  CHECK(Eventually([&] { return scene.server.cancels == 1; }));
}

TEST("wants of nothing, of too much and of too many are refused, not punished") {
  Scene scene;
  scene.Start();
  RawClient client;
  REQUIRE(client.Connect(scene.server.name) == COROIPC_OK);
  std::map<int, int> codes;
  const uint32_t wants[] = {0, 0xffffffff, (1u << 20) + 1};
  for (uint32_t i = 0; i < 3 + 20; ++i) {
    const uint32_t want = i < 3 ? wants[i] : 70000;
    client.Put(Record(COROIPC_RECORD_SEGMENT_WANT, Correlation(20, static_cast<uint16_t>(i))),
               &want, sizeof want);
    coroipc_record grant = {};
    REQUIRE(client.Take(client.response, &grant, nullptr));
    CHECK_EQ(grant.kind, COROIPC_RECORD_SEGMENT_GRANT);
    ++codes[grant.status];
  }
  CHECK_EQ(codes[COROIPC_TOO_LARGE], 3);
  CHECK_EQ(codes[COROIPC_OK], 16);
  CHECK_EQ(codes[COROIPC_LIMIT], 4);
}

TEST("one want of a queued message waits for a segment, a second one is refused") {
  Scene scene;
  scene.server.options.segments = 1;
  scene.Start();
  RawClient client;
  REQUIRE(client.Connect(scene.server.name) == COROIPC_OK);
  REQUIRE(Eventually([&] { return scene.server.connected == 2; }));
  coroipc_buffer* buffer = nullptr;
  REQUIRE(coroipcs_buffer_alloc(scene.server.last, 5000, &buffer) == COROIPC_OK);
  const uint32_t want = 70000;
  for (const uint16_t generation : {uint16_t{1}, uint16_t{2}}) {
    client.Put(Record(COROIPC_RECORD_SEGMENT_WANT, Correlation(0, generation)), &want, sizeof want);
  }
  coroipc_record grant = {};
  REQUIRE(client.Take(client.response, &grant, nullptr));
  CHECK_EQ(grant.correlation, Correlation(0, 2));
  CHECK_EQ(grant.status, COROIPC_LIMIT);
  coroipc_buffer_release(buffer);
  REQUIRE(client.Take(client.response, &grant, nullptr));
  CHECK_EQ(grant.correlation, Correlation(0, 1));
  CHECK_EQ(grant.status, COROIPC_OK);
}

TEST("a lie in a record that waits behind good ones ends the connection after them") {
  Scene scene;
  scene.Start();
  RawClient liar;
  REQUIRE(liar.Connect(scene.server.name) == COROIPC_OK);
  const int before = scene.server.handled;
  for (uint32_t slot = 0; slot < 4; ++slot) liar.PutRequest(kEcho, slot, "ab", 2, false);
  liar.Put(Record(200), nullptr, 0);
  CHECK(liar.HungUp());
  CHECK(Eventually([&] { return scene.server.handled == before + 4; }));
  CHECK(scene.server.EndedWith(COROIPC_PROTOCOL));
}

TEST("no fd reaches a server, where the kernel can keep them out") {
  if (!FdsAreRefused()) SKIP("this kernel has no SO_PASSRIGHTS");
  Scene scene;
  scene.Start();
  {
    RawClient knocker;
    REQUIRE(knocker.ConnectSocket(scene.server.name));
    const coroipc_setup_request setup = MakeSetupRequest(1, Terms{});
    CHECK(!SendWithFds(knocker.socket, &setup, sizeof setup, {0}));
    CHECK_EQ(errno, EPERM);
  }
  RawClient liar;
  REQUIRE(liar.Connect(scene.server.name) == COROIPC_OK);
  const uint8_t bell = COROIPC_SOCKET_DOORBELL;
  CHECK(!SendWithFds(liar.socket, &bell, 1, {0}));
  CHECK_EQ(errno, EPERM);
  CHECK(scene.honest.Echo());
}

TEST("a storm of doorbells costs others nothing but a moment") {
  Scene scene;
  scene.Start();
  RawClient ringer;
  REQUIRE(ringer.Connect(scene.server.name) == COROIPC_OK);
  std::atomic<bool> stop{false};
  std::thread storm([&] {
    while (!stop) ringer.Bell();
  });
  for (int i = 0; i < 50; ++i) CHECK(scene.honest.Echo());
  stop = true;
  storm.join();
  ringer.PutRequest(kEcho, 1, "x", 1);
  coroipc_record answer = {};
  CHECK(ringer.Take(ringer.response, &answer, nullptr));
}

TEST("sleep words and wants that are set all the time cost one doorbell each") {
  Scene scene;
  scene.Start();
  RawClient liar;
  REQUIRE(liar.Connect(scene.server.name) == COROIPC_OK);
  std::atomic<bool> stop{false};
  std::thread setter([&] {
    while (!stop) {
      for (coroipc_ring_words& words : liar.control->ring) {
        StoreSeqCst(words.reader_sleep, 0xffffffff);
        StoreSeqCst(words.writer_wants, 0xffffffff);
      }
    }
  });
  for (uint32_t i = 0; i < 200; ++i) {
    if (liar.PutRequest(kEcho, i % 16, "x", 1) != COROIPC_OK) break;
    coroipc_record answer = {};
    CHECK(liar.Take(liar.response, &answer, nullptr));
  }
  CHECK(scene.honest.Echo());
  stop = true;
  setter.join();
}

TEST("a client that reads nothing is not read either, and costs no memory without end") {
  Scene scene;
  scene.server.options.unsent_bytes = 64u << 10;
  scene.Start();
  RawClient glutton;
  Terms wanted;
  wanted.response_ring_bytes = 4096;
  REQUIRE(glutton.Connect(scene.server.name, wanted) == COROIPC_OK);
  // Small requests for answers of 1 KiB that are never read.
  const uint32_t count = 1000;
  uint32_t sent = 0;
  const uint64_t end = NowMs() + 1500;
  while (NowMs() < end && sent < 100000) {
    // Slots of answered requests are free again in the server's eyes.
    if (glutton.PutRequest(kFill, sent % 16, &count, sizeof count) != COROIPC_OK) {
      glutton.Bell();
      SleepMs(1);
      continue;
    }
    ++sent;
    if (sent % 16 == 0) SleepMs(1);
  }
  const coroipc_stats stats = scene.server.Stats();
  CHECK(stats.unsent_responses <= 17);
  // And the server does not turn in circles over it.
  CHECK(scene.honest.Echo());
  const clock_t before = clock();
  SleepMs(300);
  const clock_t used = clock() - before;
  CHECK(used < CLOCKS_PER_SEC / 10);
}

TEST("a client that reads nothing is not read once so many bytes wait for it") {
  constexpr uint32_t kAnswer = 1000, kInRing = 4, kWaiting = 5;
  Scene scene;
  // Reached by the last one, whatever is counted beside each; in number far more may wait.
  scene.server.options.unsent_bytes = kWaiting * kAnswer;
  scene.Start();
  RawClient glutton;
  Terms wanted;
  wanted.response_ring_bytes = 4096;
  REQUIRE(glutton.Connect(scene.server.name, wanted) == COROIPC_OK);
  // One at a time, since the requests of one turn may go beyond the bound.
  const int before = scene.server.handled;
  for (uint32_t i = 0; i < kInRing + kWaiting; ++i) {
    REQUIRE(glutton.PutRequest(kFill, i, &kAnswer, sizeof kAnswer) == COROIPC_OK);
    REQUIRE(Eventually([&] { return scene.server.handled == before + static_cast<int>(i) + 1; }));
  }
  CHECK(Eventually([&] { return scene.server.Stats().unsent_responses == kWaiting; }));
  REQUIRE(glutton.PutRequest(kFill, kInRing + kWaiting, &kAnswer, sizeof kAnswer) == COROIPC_OK);
  glutton.Bell();
  for (int i = 0; i < 20; ++i) CHECK(scene.honest.Echo());
  SleepMs(50);
  CHECK_EQ(scene.server.Stats().unsent_responses, kWaiting);
  // Whoever reads on gets them all.
  for (uint32_t i = 0; i <= kInRing + kWaiting; ++i) {
    coroipc_record answer = {};
    REQUIRE(glutton.Take(glutton.response, &answer, nullptr));
    CHECK_EQ(answer.correlation, i);
  }
}

TEST("large answers that wait for a segment are bounded as well") {
  Scene scene;
  scene.server.options.segments = 2;
  scene.server.options.message_bytes = 64u << 10;
  scene.server.options.requests_in_flight = 4;
  scene.Start();
  RawClient hoarder;
  Terms wanted;
  wanted.response_ring_bytes = 8192;
  REQUIRE(hoarder.Connect(scene.server.name, wanted) == COROIPC_OK);
  const uint32_t count = 60000;
  const uint64_t end = NowMs() + 1000;
  for (uint32_t sent = 0; sent < 400 && NowMs() < end;) {
    // It keeps every segment it is given, and never stops asking.
    if (hoarder.PutRequest(kFill, sent % 4, &count, sizeof count) == COROIPC_OK) ++sent;
    if (sent % 4 == 0) SleepMs(1);
  }
  SleepMs(200);
  const coroipc_stats stats = scene.server.Stats();
  CHECK(stats.unsent_responses <= 16);  // a few times what may be in flight
}

TEST("a grant for a client that does not empty its socket waits without turning in circles") {
  Scene scene;
  scene.Start();
  RawClient deaf;
  REQUIRE(deaf.Connect(scene.server.name) == COROIPC_OK);
  // Fill the socket: one doorbell for each answer.
  for (uint32_t i = 0; i < 2000; ++i) {
    deaf.response.SetSleep();
    REQUIRE(deaf.PutRequest(kStatus, i % 16, nullptr, 0) == COROIPC_OK);
    deaf.Bell();
    coroipc_record answer = {};
    REQUIRE(deaf.Take(deaf.response, &answer, nullptr));
  }
  const uint32_t want = 70000;
  deaf.Put(Record(COROIPC_RECORD_SEGMENT_WANT, 20), &want, sizeof want);
  deaf.Bell();
  SleepMs(100);
  CHECK(scene.honest.Echo());
  const clock_t before = clock();
  SleepMs(300);
  const clock_t used = clock() - before;
  CHECK(used < CLOCKS_PER_SEC / 10);
  // It wakes up after all, and gets what it wanted.
  char bell[32];
  while (recv(deaf.socket, bell, sizeof bell, MSG_DONTWAIT) > 0) continue;
  coroipc_record grant = {};
  CHECK(deaf.Take(deaf.response, &grant, nullptr));
  CHECK_EQ(grant.kind, COROIPC_RECORD_SEGMENT_GRANT);
  CHECK_EQ(grant.status, COROIPC_OK);
}

TEST("a client that hangs up and goes on writing is read to what it had written, and no further") {
  Scene scene;
  scene.Start();
  for (int round = 0; round < 20; ++round) {
    const size_t ended = scene.server.Ends().size();
    RawClient ghost;
    REQUIRE(ghost.Connect(scene.server.name) == COROIPC_OK);
    std::atomic<bool> stop{false};
    std::thread writer([&] {
      while (!stop) {
        coroipc_record send = Record(COROIPC_RECORD_SEND);
        send.id = kStatus;
        if (ghost.Put(send, "0123456789abcdef", 16) == COROIPC_PROTOCOL) return;
      }
    });
    SleepMs(2);
    shutdown(ghost.socket, SHUT_RDWR);
    CHECK(Eventually([&] { return scene.server.Ends().size() > ended; }, 3000));
    stop = true;
    writer.join();
  }
}

TEST("what was published before a death is read to its end, then the death is said once") {
  Scene scene;
  scene.Start();
  for (const uint32_t many : {1u, 15u, 16u, 300u}) {
    const int before = scene.server.handled;
    const pid_t child = fork();
    if (child == 0) {
      RawClient client;
      if (client.Connect(scene.server.name) != COROIPC_OK) _exit(1);
      for (uint32_t i = 0; i < many; ++i) {
        coroipc_record send = Record(COROIPC_RECORD_SEND);
        send.id = kStatus;
        if (client.Put(send, "x", 1, false) != COROIPC_OK) _exit(2);
      }
      client.request.Publish();  // and dies without ringing
      kill(getpid(), SIGKILL);
    }
    int status = 0;
    waitpid(child, &status, 0);
    CHECK(WIFSIGNALED(status));
    CHECK(scene.server.EndedWith(COROIPC_PEER_DEAD));
    CHECK(Eventually([&] { return scene.server.handled == before + static_cast<int>(many); }));
  }
  CHECK(Eventually([&] { return scene.server.Ends().size() == 4; }));
}

TEST("a want that its client did not live to see granted does not hold up its end") {
  Scene scene;
  scene.Start();
  const int before = scene.server.handled;
  {
    RawClient client;
    REQUIRE(client.Connect(scene.server.name) == COROIPC_OK);
    const uint32_t want = 70000;
    client.Put(Record(COROIPC_RECORD_SEGMENT_WANT, 20), &want, sizeof want, false);
    coroipc_record send = Record(COROIPC_RECORD_SEND);
    send.id = kStatus;
    client.Put(send, "x", 1, false);
    client.request.Publish();
  }
  CHECK(scene.server.EndedWith(COROIPC_PEER_DEAD));
  CHECK_EQ(scene.server.handled, before + 1);
}

TEST("an orderly end is told from a death") {
  Scene scene;
  scene.Start();
  RawClient client;
  REQUIRE(client.Connect(scene.server.name) == COROIPC_OK);
  StoreRelaxed(client.control->client.client_closed, 1);
  client.Close();
  CHECK(scene.server.EndedWith(COROIPC_DISCONNECTED));
  RawClient dying;
  REQUIRE(dying.Connect(scene.server.name) == COROIPC_OK);
  dying.Close();
  CHECK(scene.server.EndedWith(COROIPC_PEER_DEAD));
}

TEST("a thread that scribbles over the whole segment ends its own connection at most") {
  Scene scene;
  scene.Start();
  std::mt19937 random(Seed());
  const uint64_t end = NowMs() + 1000;
  int rounds = 0;
  while (NowMs() < end) {
    RawClient scribbler;
    REQUIRE(scribbler.Connect(scene.server.name) == COROIPC_OK);
    std::atomic<bool> stop{false};
    std::thread thread([&, seed = static_cast<uint32_t>(random())] {
      std::mt19937 own(seed);
      auto* const words = reinterpret_cast<uint32_t*>(scribbler.memory);
      while (!stop) {
        const uint32_t value =
            own() % 3 == 0 ? static_cast<uint32_t>(own()) : (static_cast<uint32_t>(own()) & 0x1f8u);
        // The words of the rings more often than the rings.
        const size_t at = own() % 2 == 0 ? 64 + own() % 448 : 1024 + own() % 4096;
        StoreRelaxed(words[at], value);
        if (own() % 8 == 0) {
          StoreRelaxed(words[64], (static_cast<uint32_t>(own()) & 0x3ff8u));
          StoreRelaxed(words[1024 + 6 * (own() % 64) + 1], COROIPC_RECORD_REQUEST << 16);
          scribbler.Bell();
        }
      }
    });
    CHECK(scene.honest.Echo(2000, static_cast<uint8_t>(rounds)));
    SleepMs(5);
    stop = true;
    thread.join();
    ++rounds;
  }
  printf("# %d scribblers\n", rounds);
}

TEST("a broken ring is found while a buffer comes back and the client hangs up, all in one turn") {
  Server server;
  server.Start(false);
  RawClient liar;
  REQUIRE(liar.ConnectSocket(server.name));
  const coroipc_setup_request setup = MakeSetupRequest(1, Terms{});
  REQUIRE(SendWithFds(liar.socket, &setup, sizeof setup, {}));
  (void)coroipcs_process(server.server, 5);
  REQUIRE(liar.TakeReply() == COROIPC_OK);
  (void)coroipcs_process(server.server, 5);
  REQUIRE(server.last != nullptr);
  coroipc_buffer* buffer = nullptr;
  REQUIRE(coroipcs_buffer_alloc(server.last, 4096, &buffer) == COROIPC_OK);
  liar.PutRequest(kSilent, 0, nullptr, 0);
  (void)coroipcs_process(server.server, 5);
  const std::vector<uint8_t> bytes(60000);
  const iovec part = Part(bytes.data(), bytes.size());
  for (int i = 0; i < 20; ++i) (void)coroipcs_dispatch_send(server.last, 1, &part, 1);
  CHECK(server.Stats().backlog_messages != 0);
  (void)coroipcs_process(server.server, 5);
  StoreSeqCst(liar.control->ring[2].read_position, 4u);
  StoreSeqCst(liar.control->ring[1].reader_sleep, 1u);
  close(liar.socket);
  liar.socket = -1;
  // The answer finds the socket closed, the buffer's return flushes into the broken ring.
  (void)coroipcs_response_send(server.last, 0, COROIPC_OK, 0, nullptr, 0);
  coroipc_buffer_release(buffer);
  CHECK(Eventually([&] {
    (void)coroipcs_process(server.server, 5);
    return server.EndedWith(COROIPC_PROTOCOL);
  }));
}

TEST("clients that keep their sockets full make nobody copy the same answer again and again") {
  constexpr int kMisers = 10;
  constexpr uint32_t kBytes = 1u << 20;
  Scene scene;
  scene.Start();
  std::vector<RawClient> misers(kMisers);
  for (RawClient& miser : misers) {
    REQUIRE(miser.Connect(scene.server.name) == COROIPC_OK);
    for (uint32_t i = 0; i < 400; ++i) {  // each answer rings, and nobody reads the socket
      StoreSeqCst(miser.control->ring[1].reader_sleep, 1u);
      miser.PutRequest(kStatus, i % 8, nullptr, 0);
      coroipc_record answer = {};
      REQUIRE(miser.Take(miser.response, &answer, nullptr));
    }
    miser.PutRequest(kFill, 9, &kBytes, sizeof kBytes);
  }
  REQUIRE(Eventually([&] { return scene.server.Stats().unsent_responses == kMisers; }));
  const auto cpu_ms = [] {
    rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000 +
           (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1000;
  };
  SleepMs(200);
  const long before = cpu_ms();
  SleepMs(1000);
  const long used = cpu_ms() - before;
  printf("# %ld ms of CPU in a second\n", used);
  CHECK(used < 150);  // copying once a millisecond takes the whole second
  // Whoever reads on gets its answer.
  for (RawClient& miser : misers) {
    uint8_t bytes[64];
    int fd = -1;
    while (ReceiveWithFd(miser.socket, bytes, sizeof bytes, &fd) == 1) {
    }
    CHECK(fd >= 0);
    close(fd);
    coroipc_record answer = {};
    CHECK(miser.Take(miser.response, &answer, nullptr));
  }
}

TEST("a rate holds for records that are no requests, and for what a client leaves behind") {
  Server server;
  server.service.requests_per_second = 1;
  server.Start();
  constexpr uint64_t kMs = 1000;
  {
    RawClient liar;
    REQUIRE(liar.Connect(server.name) == COROIPC_OK);
    uint32_t taken = 0;
    const uint64_t start = NowMs();
    while (NowMs() - start < kMs) {
      if (liar.Put(Record(COROIPC_RECORD_CANCEL, 1), nullptr, 0, false) == COROIPC_OK) ++taken;
      liar.Publish();
    }
    const uint32_t ring = 256u << 10;
    CHECK(taken < ring / sizeof(coroipc_record) + 100);  // what the ring holds, and a few
  }
  int rounds = 0;
  for (; rounds < 20; ++rounds) {
    RawClient liar;
    REQUIRE(liar.Connect(server.name) == COROIPC_OK);
    coroipc_record send = Record(COROIPC_RECORD_SEND);
    send.id = kSilent;
    while (liar.Put(send, nullptr, 0, false) == COROIPC_OK) {
    }
    liar.Publish();
  }
  CHECK(Eventually([&] { return server.Stats().connections == 0; }));
  printf("# %d handled of %d connections\n", server.handled.load(), rounds);
  CHECK(server.handled <= 2 * rounds);
}

TEST("who broke the protocol keeps no pages of the server's, however long it has them mapped") {
  Scene scene;
  scene.Start();
  RawClient liar;
  REQUIRE(liar.Connect(scene.server.name) == COROIPC_OK);
  liar.PutRequest(kEcho, 1, "remember", 8);
  coroipc_record answer = {};
  REQUIRE(liar.Take(liar.response, &answer, nullptr));
  const auto* const rings = reinterpret_cast<const uint8_t*>(liar.control) + COROIPC_CONTROL_BYTES;
  const uint8_t* const found = static_cast<const uint8_t*>(memmem(rings, 512 << 10, "remember", 8));
  REQUIRE(found != nullptr);
  const uint32_t count = 200000;  // in a segment
  liar.PutRequest(kFill, 2, &count, sizeof count);
  REQUIRE(liar.Take(liar.response, &answer, nullptr));
  coroipc_segment_message message = {};
  int fd = -1;
  while (ReceiveWithFd(liar.socket, &message, sizeof message, &fd) == 1) continue;
  REQUIRE(fd >= 0);
  void* const mapping = mmap(nullptr, message.bytes, PROT_READ, MAP_SHARED, fd, 0);
  close(fd);
  REQUIRE(mapping != MAP_FAILED);
  const auto* const segment = static_cast<const volatile uint8_t*>(mapping);
  CHECK(segment[0] == 'f' && segment[count - 1] == 'f');
  liar.Put(Record(200), nullptr, 0);
  CHECK(liar.HungUp());
  // Dropped before the end is told.
  CHECK(scene.server.EndedWith(COROIPC_PROTOCOL));
  CHECK_EQ(*static_cast<const volatile uint8_t*>(found), 0);
  CHECK(std::all_of(segment, segment + message.bytes, [](uint8_t byte) { return byte == 0; }));
  munmap(mapping, message.bytes);
}

// -- what is handed over, and what is not ---------------------------------------------------------

// Fills the stack below, and what the heap will hand out next, with bytes that nobody sends.
constexpr uint8_t kSecret = 0xa7;
[[gnu::noinline]] void Poison() {
  volatile uint8_t stack[64 << 10];
  for (volatile uint8_t& byte : stack) byte = kSecret;
  std::vector<std::unique_ptr<uint8_t[]>> heap;
  for (size_t bytes = 16; bytes <= 256 << 10; bytes += bytes / 4) {
    heap.emplace_back(new uint8_t[bytes]);
    memset(heap.back().get(), kSecret, bytes);
  }
}
bool Leaks(const void* memory, size_t bytes) {
  const uint8_t secret[3] = {kSecret, kSecret, kSecret};
  return memmem(memory, bytes, secret, sizeof secret) != nullptr;
}

TEST("a server's memory does not travel in padding, headers, replies or segments") {
  Scene scene;
  // Answers with `count` zeros, after it has left its marks everywhere.
  constexpr uint16_t kPoisoned = 50;
  scene.server.handle = [](coroipcs_connection* connection, const coroipcs_request* request) {
    uint32_t count = 0;
    memcpy(&count, request->payload, sizeof count);
    const std::vector<uint8_t> zeros(count);
    const iovec part = Part(zeros.data(), zeros.size());
    Poison();
    coroipcs_dispatch_send(connection, 9, &part, 1);
    Poison();
    coroipcs_response_send(connection, request->correlation, COROIPC_OK, 0, &part, 1);
  };
  scene.Start();
  Poison();
  RawClient spy;
  REQUIRE(spy.Connect(scene.server.name) == COROIPC_OK);
  CHECK(!Leaks(&spy.reply, sizeof spy.reply));
  const auto ask = [&](uint32_t count) {
    spy.PutRequest(kPoisoned, 3, &count, sizeof count);
    coroipc_record record = {};
    REQUIRE(spy.Take(spy.response, &record, nullptr));
    CHECK(!Leaks(&record, sizeof record));
    REQUIRE(spy.Take(spy.dispatch, &record, nullptr));
    CHECK(!Leaks(&record, sizeof record));
  };
  for (uint32_t count = 0; count < 100; ++count) ask(count);
  CHECK(!Leaks(spy.memory, spy.reply.segment_bytes));
  ask(300000);  // in two segments
  int segments = 0;
  for (int fd = -1;;) {
    coroipc_segment_message message = {};
    const ssize_t got = ReceiveWithFd(spy.socket, &message, sizeof message, &fd, 100);
    if (got < 0) break;
    CHECK(!Leaks(&message, static_cast<size_t>(got)));
    if (got != sizeof message) continue;
    void* const mapping = mmap(nullptr, message.bytes, PROT_READ, MAP_SHARED, fd, 0);
    REQUIRE(mapping != MAP_FAILED);
    CHECK(!Leaks(mapping, message.bytes));
    munmap(mapping, message.bytes);
    close(fd);
    ++segments;
  }
  CHECK_EQ(segments, 2);
  CHECK(!Leaks(spy.memory, spy.reply.segment_bytes));
  // The spy itself would see it.
  memset(spy.memory + spy.reply.segment_bytes - 3, kSecret, 3);
  CHECK(Leaks(spy.memory, spy.reply.segment_bytes));
}

TEST("who left finds its rings empty, in order or not, and whatever was said in them") {
  Scene scene;
  scene.Start();
  for (const bool orderly : {false, true}) {
    RawClient client;
    REQUIRE(client.Connect(scene.server.name) == COROIPC_OK);
    client.PutRequest(kEcho, 1, "remember", 8);
    coroipc_record answer = {};
    REQUIRE(client.Take(client.response, &answer, nullptr));
    const uint8_t* const rings = client.memory + COROIPC_CONTROL_BYTES;
    const size_t bytes = client.reply.segment_bytes - COROIPC_CONTROL_BYTES;
    CHECK(memmem(rings, bytes, "remember", 8) != nullptr);
    if (orderly) StoreRelaxed(client.control->client.client_closed, 1);
    close(std::exchange(client.socket, -1));
    CHECK(Eventually([&] { return memmem(rings, bytes, "remember", 8) == nullptr; }));
    CHECK(std::all_of(rings, rings + bytes, [](uint8_t byte) { return byte == 0; }));
  }
}

// Everything that whoever has an fd may do to its open file description, or to the file behind it.
void Maltreat(int fd) {
  const int flags = fcntl(fd, F_GETFL);
  for (const int flag : {O_APPEND, O_NONBLOCK, O_ASYNC, O_DIRECT, O_NOATIME})
    (void)fcntl(fd, F_SETFL, flags | flag);
  (void)fcntl(fd, F_SETFL, O_APPEND | O_NONBLOCK | O_ASYNC);
  (void)fcntl(fd, F_SETFL, O_APPEND | O_ASYNC);
  (void)fcntl(fd, F_SETOWN, getpid());
  (void)fcntl(fd, F_SETSIG, SIGUSR1);
  (void)fcntl(fd, F_SETLEASE, F_RDLCK);
  (void)fcntl(fd, F_NOTIFY, DN_MODIFY);
  (void)flock(fd, LOCK_EX | LOCK_NB);
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  (void)fcntl(fd, F_OFD_SETLK, &lock);
  (void)lseek(fd, 1 << 20, SEEK_SET);
  (void)fchmod(fd, 0);
  (void)fchown(fd, 12345, 12345);
}

TEST("a client that changes the mode of every fd it was given holds nobody up, nor the server") {
  signal(SIGUSR1, SIG_IGN);
  Scene scene;
  scene.Start();
  RawClient vandal;
  REQUIRE(vandal.ConnectSocket(scene.server.name));
  const coroipc_setup_request setup = MakeSetupRequest(1, Terms{});
  REQUIRE(SendWithFds(vandal.socket, &setup, sizeof setup, {}));
  int fd = -1;
  REQUIRE(ReceiveWithFd(vandal.socket, &vandal.reply, sizeof vandal.reply, &fd) ==
          sizeof vandal.reply);
  vandal.Map(fd);
  Maltreat(fd);
  // What the memory itself allows: nothing that takes pages away from under a mapping, ...
  CHECK(ftruncate(fd, 0) != 0 && errno == EPERM);
  CHECK(ftruncate(fd, 1 << 30) != 0 && errno == EPERM);
  CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) != 0 && errno == EPERM);
  Maltreat(vandal.socket);
  const uint32_t count = 200000;
  vandal.PutRequest(kFill, 1, &count, sizeof count);
  coroipc_record answer = {};
  CHECK(vandal.Take(vandal.response, &answer, nullptr));
  CHECK_EQ(answer.flags, COROIPC_FLAG_SEGMENT);
  coroipc_segment_message message = {};
  int segment = -1;
  while (ReceiveWithFd(vandal.socket, &message, sizeof message, &segment) == 1) continue;
  REQUIRE(segment >= 0);
  Maltreat(segment);
  coroipc_record release = Record(COROIPC_RECORD_SEGMENT_RELEASE);
  release.argument = message.index;
  vandal.Put(release, nullptr, 0);
  vandal.PutRequest(kFill, 2, &count, sizeof count);  // in the same segment
  CHECK(vandal.Take(vandal.response, &answer, nullptr));
  CHECK_EQ(answer.correlation, 2u);
  // ... and holes, which are zeros: no record can be read from them.
  CHECK(scene.honest.Echo());
  CHECK_EQ(fallocate(segment, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, message.bytes), 0);
  CHECK_EQ(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, vandal.reply.segment_bytes),
           0);
  StoreSeqCst(vandal.control->ring[0].write_position, 8192u);
  vandal.Bell();
  CHECK(vandal.HungUp());
  CHECK(scene.server.EndedWith(COROIPC_PROTOCOL));
  close(fd);
  close(segment);
}

TEST("a process that got the pid of a dead client does not keep its connection alive") {
  if (geteuid() != 0) SKIP("needs root, to choose a pid");
  Scene scene;
  scene.Start();
  int hold[2];
  REQUIRE(pipe2(hold, O_CLOEXEC) == 0);
  const pid_t client = fork();
  if (client == 0) {
    RawClient dying;
    if (dying.Connect(scene.server.name) != COROIPC_OK) _exit(1);
    // A child keeps the socket: it does not hang up with its owner.
    if (fork() == 0) {
      char byte;
      close(hold[1]);
      (void)!read(hold[0], &byte, 1);
      _exit(0);
    }
    kill(getpid(), SIGKILL);
  }
  // Once it is reaped its number is free, and taken again at once.
  REQUIRE(waitpid(client, nullptr, 0) == client);
  clone_args wanted = {};
  wanted.exit_signal = SIGCHLD;
  wanted.set_tid = reinterpret_cast<uint64_t>(&client);
  wanted.set_tid_size = 1;
  const auto again = static_cast<pid_t>(syscall(SYS_clone3, &wanted, sizeof wanted));
  if (again == 0) {
    pause();
    _exit(0);
  }
  const int error = errno;
  if (again > 0) {
    CHECK_EQ(again, client);
    CHECK(scene.server.EndedWith(COROIPC_PEER_DEAD));
    CHECK_EQ(kill(client, 0), 0);  // somebody of that pid is alive all the time
    kill(again, SIGKILL);
    waitpid(again, nullptr, 0);
  }
  close(hold[0]);
  close(hold[1]);  // the keeper ends
  if (again < 0 && (error == EPERM || error == ENOSYS)) SKIP("clone3 cannot choose a pid here");
  CHECK(again > 0);
}

// -- before the handshake -------------------------------------------------------------------------

TEST("a uid that waits for its verdict in great number leaves places for others") {
  if (geteuid() != 0) SKIP("needs root, for a second uid");
  Server server;
  server.options.authorizing = 8;
  server.options.callbacks.authorize = [](coroipcs_connection* connection,
                                          const coroipc_credentials* credentials, uint16_t,
                                          void*) -> coroipc_status {
    (void)connection;
    return credentials->uid == 0 ? COROIPC_OK : COROIPC_AGAIN;
  };
  server.Start();
  int ready[2];
  REQUIRE(pipe(ready) == 0);
  const pid_t child = fork();
  if (child == 0) {
    if (setresgid(12345, 12345, 12345) != 0 || setresuid(12345, 12345, 12345) != 0) _exit(1);
    const coroipc_setup_request setup = MakeSetupRequest(1, Terms{});
    std::vector<RawClient> all(40);
    for (RawClient& each : all) {
      if (each.ConnectSocket(server.name)) (void)SendWithFds(each.socket, &setup, sizeof setup, {});
    }
    (void)!write(ready[1], "x", 1);
    pause();
    _exit(0);
  }
  char byte;
  REQUIRE(read(ready[0], &byte, 1) == 1);
  for (int i = 0; i < 20; ++i) {
    RawClient honest;
    CHECK_EQ(honest.Connect(server.name), COROIPC_OK);
  }
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  close(ready[0]);
  close(ready[1]);
}

TEST("a client that knocks and goes away leaves nothing") {
  Scene scene;
  scene.Start();
  const int fds = OpenFds();
  for (int i = 0; i < 50; ++i) {
    RawClient peer;
    REQUIRE(peer.ConnectSocket(scene.server.name));
    if (i % 2 == 0) continue;
    const coroipc_setup_request good = MakeSetupRequest(1, Terms{});
    (void)SendWithFds(peer.socket, &good, sizeof good, {});  // some are refused before that
  }
  CHECK(Eventually([&] {
    const coroipc_stats stats = scene.server.Stats();
    return stats.handshakes_pending == 0 && stats.connections == 1;
  }));
  CHECK(Eventually([&] { return OpenFds() == fds; }));
}
