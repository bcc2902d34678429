// Servers that lie in several steps, or for a while: a listening socket and memory by hand. Each
// ends its own connection at most and leaves no fd behind; a connection to an honest server beside
// it never notices. Single lies, field by field, are in hostile_server_table_test.cc.
#include <netinet/in.h>

#include <random>

#include "hostile.h"
#include "seed.h"

using namespace hostile;

TEST("an honest server by hand is answered, to see that the others are refused for their lies") {
  Honest beside;
  CHECK_EQ(ConnectTo([](RawServer& s) { Reply(s, nullptr); }), COROIPC_OK);
  CHECK_EQ(CallDuring([](RawServer& s) { s.Answer(kFirst, "x", 1); }, COROIPC_OK), COROIPC_OK);
}

TEST("a server that never answers the setup is given up at the deadline") {
  Honest beside;
  CHECK_EQ(ConnectTo([](RawServer&) {}, 100), COROIPC_TIMED_OUT);
}

TEST("of two answers to one request the first is the answer, the second a lie") {
  Honest beside;
  RawServer server;
  Client client;
  std::thread liar([&] {
    server.Serve();
    coroipc_record request = {};
    REQUIRE(server.TakeRequest(&request));
    server.Answer(kFirst, "x", 1);
    server.Answer(kFirst, "x", 1);
  });
  REQUIRE(client.Connect(server.name) == COROIPC_OK);
  CHECK_EQ(client.Call(kEcho, "hello", 5), COROIPC_OK);
  liar.join();
  const coroipc_status second = client.Call(kEcho, "hello", 5);
  CHECK(second == COROIPC_UNKNOWN_OUTCOME || second == COROIPC_PROTOCOL);
}

TEST("a read position of the request ring that lies ends the connection") {
  Honest beside;
  for (const uint32_t position : {4u, 8200u, 0u - 8u, 0x80000000u}) {
    RawServer server;
    Client client;
    std::thread liar([&] {
      server.Serve();
      StoreSeqCst(server.control->ring[0].read_position, position);
    });
    REQUIRE(client.Connect(server.name) == COROIPC_OK);
    liar.join();
    coroipc_status status = COROIPC_OK;
    const uint8_t bytes[1000] = {};
    const iovec part = Part(bytes, sizeof bytes);
    for (int i = 0; i < 20 && status == COROIPC_OK; ++i)
      status = coroipcc_send(client.connection, 1, &part, 1);
    CHECK_EQ(status, COROIPC_PROTOCOL);
    CHECK_EQ(coroipcc_state(client.connection), COROIPC_PROTOCOL);
  }
}

TEST("a segment that never comes, while doorbells come for ever, ends the connection") {
  Honest beside;
  std::atomic<bool> stop{false};
  std::thread storm;
  const coroipc_status status = CallDuring([&](RawServer& s) {
    storm = std::thread([&] {
      while (!stop) s.Bell();
    });
    SleepMs(20);
    const coroipc_segment_reference reference = {1, 0, 8, 5};
    s.Put(s.response, Record(COROIPC_RECORD_RESPONSE, kFirst, COROIPC_FLAG_SEGMENT), &reference,
          sizeof reference);
    SleepMs(300);
    stop = true;
    storm.join();
  });
  CHECK_EQ(status, COROIPC_UNKNOWN_OUTCOME);
}

TEST("a flood of answers nobody wants and of dispatches costs no memory without end") {
  Honest beside;
  RawServer server;
  Client client;
  client.options.inbox_bytes = 65536;
  std::atomic<bool> stop{false};
  std::thread liar([&] {
    server.Serve();
    coroipc_record request = {};
    REQUIRE(server.TakeRequest(&request));
    while (!stop) {  // never answers, dispatches for ever
      uint8_t* to = nullptr;
      uint32_t wants = 0;
      if (server.dispatch.Reserve(1000, &to, &wants) != COROIPC_OK) {
        server.Bell();
        continue;
      }
      memset(to, 'd', 1000);
      coroipc_record record = Record(COROIPC_RECORD_DISPATCH);
      record.bytes = 1000;
      server.dispatch.Commit(record);
      server.dispatch.Publish();
      StoreRelaxed(server.control->server.flow_control, static_cast<uint32_t>(wants + 1));
    }
  });
  REQUIRE(client.Connect(server.name) == COROIPC_OK);
  CHECK_EQ(client.Call(kEcho, "x", 1, nullptr, 300), COROIPC_TIMED_OUT);
  coroipc_stats stats;
  coroipcc_stats(client.connection, &stats, 0);
  CHECK(stats.dispatches <= 70);
  stop = true;
  liar.join();
}

TEST("a thread that scribbles over the whole segment ends its own connection at most") {
  Honest beside;
  std::mt19937 random(Seed());
  const uint64_t end = NowMs() + 1000;
  int rounds = 0;
  while (NowMs() < end) {
    RawServer server;
    Client client;
    std::atomic<bool> stop{false};
    std::thread liar([&, seed = static_cast<uint32_t>(random())] {
      server.Serve();
      std::mt19937 own(seed);
      auto* const words = reinterpret_cast<uint32_t*>(server.memory);
      while (!stop) {
        const uint32_t value =
            own() % 3 == 0 ? static_cast<uint32_t>(own()) : (static_cast<uint32_t>(own()) & 0x1f8u);
        const size_t at = own() % 2 == 0 ? 64 + own() % 448 : 1024 + own() % 6144;
        StoreRelaxed(words[at], value);
        if (own() % 8 == 0) {
          StoreRelaxed(words[192], static_cast<uint32_t>(own()) & 0x1ff8u);
          StoreRelaxed(words[3072 + 6 * (own() % 64) + 1], COROIPC_RECORD_RESPONSE << 16);
          StoreRelaxed(words[3072 + 6 * (own() % 64) + 2], kFirst);
          server.Bell();
        }
      }
    });
    // It may find a lie in the header, or in the positions, at once.
    const coroipc_status connected = client.Connect(server.name);
    CHECK(connected == COROIPC_OK || connected == COROIPC_PROTOCOL);
    if (connected == COROIPC_OK) {
      for (int i = 0; i < 5; ++i) (void)client.Call(kEcho, "hello", 5, nullptr, 5);
      coroipcc_dispatch dispatch;
      if (coroipcc_dispatch_receive(client.connection, 0, &dispatch) == COROIPC_OK)
        (void)coroipcc_dispatch_release(client.connection);
    }
    stop = true;
    liar.join();
    CHECK(beside.client.Echo(2000, static_cast<uint8_t>(rounds)));
    ++rounds;
  }
  printf("# %d scribblers\n", rounds);
}

// -- late answers of the wrong kind ---------------------------------------------------------------

TEST("an answer to a buffer that nobody waits for any more ends the connection") {
  RawServer server;
  Client client;
  std::thread liar([&] { server.Serve(); });
  REQUIRE(client.Connect(server.name) == COROIPC_OK);
  liar.join();
  coroipc_buffer* buffer = nullptr;
  CHECK_EQ(coroipcc_buffer_alloc(client.connection, 1000, 20, &buffer), COROIPC_TIMED_OUT);
  coroipc_record want = {};
  REQUIRE(server.TakeRequest(&want));
  CHECK_EQ(want.kind, COROIPC_RECORD_SEGMENT_WANT);
  server.Answer(want.correlation);
  (void)client.Call(kStatus, nullptr, 0, nullptr, 1000);
  CHECK_EQ(coroipcc_state(client.connection), COROIPC_PROTOCOL);
}

TEST("a grant to a request that nobody waits for any more ends the connection") {
  RawServer server;
  Client client;
  std::thread liar([&] { server.Serve(); });
  REQUIRE(client.Connect(server.name) == COROIPC_OK);
  liar.join();
  CHECK_EQ(client.Call(kStatus, nullptr, 0, nullptr, 20), COROIPC_TIMED_OUT);
  coroipc_record request = {};
  REQUIRE(server.TakeRequest(&request));
  coroipc_record grant = {};
  grant.kind = COROIPC_RECORD_SEGMENT_GRANT;
  grant.correlation = request.correlation;
  grant.status = COROIPC_LIMIT;
  server.Put(server.response, grant, nullptr, 0);
  (void)client.Call(kStatus, nullptr, 0, nullptr, 1000);
  CHECK_EQ(coroipcc_state(client.connection), COROIPC_PROTOCOL);
}

// -- memory of the client's -----------------------------------------------------------------------

TEST("a wish for small messages is not raised to what the client could not bear") {
  const auto said = [](uint32_t wish, uint32_t answer) {
    RawServer server;
    Client client;
    client.options.message_bytes = wish;
    std::thread liar([&] {
      server.Accept();
      server.MakeMemory();
      Reply(server, [&](coroipc_setup_reply* reply) { reply->message_bytes_max = answer; });
    });
    const coroipc_status status = client.Connect(server.name);
    liar.join();
    return status;
  };
  CHECK_EQ(said(4096, 1u << 30), COROIPC_PROTOCOL);
  CHECK_EQ(said(4096, (1u << 20) + 1), COROIPC_PROTOCOL);
  CHECK_EQ(said(4096, 1u << 20), COROIPC_OK);
  CHECK_EQ(said(2u << 20, 2u << 20), COROIPC_OK);
  CHECK_EQ(said(0, 1u << 30), COROIPC_OK);
}

TEST("many small records that name one large segment are not copied all at once") {
  constexpr uint32_t kBytes = 6u << 20;
  RawServer server;
  server.terms.message_bytes = kBytes;
  coroipcc_group_options options;
  coroipcc_group_options_init(&options);
  options.threads = 0;
  coroipcc_group* group = nullptr;
  REQUIRE(coroipcc_group_create(&options, &group) == COROIPC_OK);
  Client client;
  std::thread liar([&] { server.Serve(); });
  REQUIRE(client.Connect(server.name, group) == COROIPC_OK);
  liar.join();
  coroipcc_dispatch_flow(client.connection, 1);
  const int fd = MakeSegment(kBytes);
  server.SendSegment(0, kBytes, 1, fd);
  const coroipc_segment_reference reference = {0, 0, kBytes, 1};
  coroipc_record dispatch = {};
  dispatch.kind = COROIPC_RECORD_DISPATCH;
  dispatch.flags = COROIPC_FLAG_SEGMENT;
  for (int i = 0; i < 24; ++i) server.Put(server.dispatch, dispatch, &reference, sizeof reference);
  Batch batch;
  uint32_t rows = 0;
  const bool all = Eventually([&] {
    (void)coroipcc_receive(group, batch.get(), 1);
    uint64_t bytes = 0;
    for (const Row& row : batch.Take()) {
      if (row.entry.kind != COROIPC_KIND_DISPATCH) continue;
      bytes += row.entry.bytes;
      ++rows;
    }
    CHECK(bytes <= 8u << 20);
    return rows == 24;
  });
  CHECK(all);
  client.Close();
  coroipcc_group_destroy(group);
}

TEST("a socket that lingers, sent as a segment, makes no call wait") {
  RawServer server;
  Client client;
  std::thread liar([&] { server.Serve(); });
  REQUIRE(client.Connect(server.name) == COROIPC_OK);
  liar.join();
  const int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int sender = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int small = 4096;
  setsockopt(listening, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  auto* const raw = reinterpret_cast<sockaddr*>(&address);
  REQUIRE(bind(listening, raw, length) == 0 && listen(listening, 1) == 0);
  REQUIRE(getsockname(listening, raw, &length) == 0);
  REQUIRE(connect(sender, raw, length) == 0);
  const std::vector<uint8_t> bytes(65536);
  while (send(sender, bytes.data(), bytes.size(), MSG_DONTWAIT) > 0) {
  }
  const linger long_time = {1, 10};
  setsockopt(sender, SOL_SOCKET, SO_LINGER, &long_time, sizeof long_time);
  server.SendSegment(0, 65536, 1, sender);
  close(sender);
  const uint64_t start = NowMs();
  (void)client.Call(kStatus, nullptr, 0, nullptr, 200);
  CHECK(NowMs() - start < 5000);
  close(listening);
}
