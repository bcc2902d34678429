// Servers that lie: a listening socket by hand, wrong replies, wrong memory, and after an honest
// handshake everything a server can write. Each lie ends that one connection with the right code
// and leaves no fd behind; a connection to an honest server beside it never notices.
#include <netinet/in.h>

#include <random>

#include "client.h"
#include "peers.h"

using namespace peers;
using namespace coroipc;

namespace {

struct Honest {
  Honest() {
    server.Start();
    REQUIRE(client.Connect(server.name) == COROIPC_OK);
    CHECK(client.Echo());
  }
  ~Honest() { CHECK(client.Echo()); }
  Server server;
  Client client;
};

// What a client says that connects to a server which does `lie` to it after the setup request.
coroipc_status ConnectTo(const std::function<void(RawServer&)>& lie, int timeout_ms = kPatienceMs) {
  const int fds = OpenFds();
  coroipc_status status;
  {
    RawServer server;
    Client client;
    std::thread liar([&] {
      server.Accept();
      server.MakeMemory();
      lie(server);
    });
    status = coroipcc_connect(nullptr, server.name.c_str(), &client.options, timeout_ms,
                              &client.connection);
    liar.join();
  }
  CHECK_EQ(OpenFds(), fds);
  return status;
}

// The reply with `change`, and `fds` beside it.
void Reply(RawServer& server, const std::function<void(coroipc_setup_reply*)>& change,
           std::vector<int> fds = {-1}) {
  coroipc_setup_reply reply = server.Reply();
  if (change != nullptr) change(&reply);
  for (int& fd : fds) fd = fd == -1 ? server.segment_fd : fd;
  CHECK(SendWithFds(server.socket, &reply, sizeof reply, fds));
}

// A client with one blocking call under way, while the server does `lie` after the handshake.
// Returns what the call said.
coroipc_status CallDuring(const std::function<void(RawServer&)>& lie,
                          coroipc_status expected_state = COROIPC_PROTOCOL,
                          int timeout_ms = kPatienceMs) {
  const int fds = OpenFds();
  coroipc_status status, state;
  {
    RawServer server;
    Client client;
    std::thread liar([&] {
      server.Serve();
      coroipc_record request = {};
      REQUIRE(server.TakeRequest(&request));
      lie(server);
    });
    REQUIRE(client.Connect(server.name) == COROIPC_OK);
    status = client.Call(kEcho, "hello", 5, nullptr, timeout_ms);
    state = coroipcc_state(client.connection);
    liar.join();
    if (expected_state != COROIPC_OK) {
      CHECK_EQ(LoadRelaxed(server.control->client.client_closed),
               static_cast<uint32_t>(expected_state));
    }
  }
  CHECK_EQ(state, expected_state);
  CHECK_EQ(OpenFds(), fds);
  return status;
}

coroipc_record Record(uint8_t kind, uint32_t correlation = 0, uint8_t flags = 0) {
  coroipc_record record = {};
  record.kind = kind;
  record.correlation = correlation;
  record.flags = flags;
  return record;
}

// The first automatic slot, first generation: what the first blocking request has.
constexpr uint32_t kFirst = 8 | 1u << 16;

}  // namespace

TEST("an honest server by hand is answered, to see that the others are refused for their lies") {
  Honest beside;
  CHECK_EQ(ConnectTo([](RawServer& s) { Reply(s, nullptr); }), COROIPC_OK);
  CHECK_EQ(CallDuring([](RawServer& s) { s.Answer(kFirst, "x", 1); }, COROIPC_OK), COROIPC_OK);
}

TEST("replies that lie, are cut short or come with other fds are PROTOCOL") {
  Honest beside;
  using Change = std::function<void(coroipc_setup_reply*)>;
  const Change changes[] = {
      [](coroipc_setup_reply* r) { r->magic = 1; },
      [](coroipc_setup_reply* r) { r->word_probe = 0x04030201; },
      [](coroipc_setup_reply* r) { r->features = 1; },
      [](coroipc_setup_reply* r) { r->segment_bytes -= 4096; },
      [](coroipc_setup_reply* r) { r->segment_bytes += 4096; },
      [](coroipc_setup_reply* r) { r->dispatch_ring_bytes *= 2; },
      [](coroipc_setup_reply* r) {
        r->dispatch_ring_bytes *= 2;
        r->segment_bytes += 8192;
      },
      [](coroipc_setup_reply* r) { r->request_ring_bytes = 0; },
      [](coroipc_setup_reply* r) { r->requests_in_flight = 0; },
      [](coroipc_setup_reply* r) { r->requests_in_flight = 40000; },
      [](coroipc_setup_reply* r) { r->segments_max = 65; },
      [](coroipc_setup_reply* r) { r->message_bytes_max = 0; },
      [](coroipc_setup_reply* r) { r->connection_id = 1; },  // other than in the segment
      [](coroipc_setup_reply* r) { r->reserved[7] = 1; },
      [](coroipc_setup_reply* r) { r->status = 1; },
      [](coroipc_setup_reply* r) { r->status = COROIPC_DENIED; },  // with an fd
      [](coroipc_setup_reply* r) { r->status = 0xffffffff; },
  };
  for (const Change& change : changes) {
    CHECK_EQ(ConnectTo([&](RawServer& s) { Reply(s, change); }), COROIPC_PROTOCOL);
  }
  CHECK_EQ(ConnectTo([](RawServer& s) { Reply(s, nullptr, {}); }), COROIPC_PROTOCOL);
  CHECK_EQ(ConnectTo([](RawServer& s) { Reply(s, nullptr, {-1, -1}); }), COROIPC_PROTOCOL);
  CHECK_EQ(ConnectTo([](RawServer& s) { Reply(s, nullptr, std::vector<int>(200, 0)); }),
           COROIPC_PROTOCOL);
  for (const size_t count :
       {size_t{1}, size_t{7}, size_t{8}, size_t{95}, size_t{97}, size_t{400}}) {
    CHECK_EQ(ConnectTo([&](RawServer& s) {
               std::vector<uint8_t> bytes(400);
               const coroipc_setup_reply reply = s.Reply();
               memcpy(bytes.data(), &reply, sizeof reply);
               CHECK(SendWithFds(s.socket, bytes.data(), count, {s.segment_fd}));
             }),
             COROIPC_PROTOCOL);
  }
  CHECK_EQ(
      ConnectTo([](RawServer& s) { Reply(s, [](coroipc_setup_reply* r) { r->abi_version = 7; }); }),
      COROIPC_VERSION);
  CHECK_EQ(coroipcc_peer_version(), 7u);
}

TEST("memory that is not sealed, not of its size or no memory at all is PROTOCOL") {
  Honest beside;
  const auto with = [](const std::function<int(size_t)>& make) {
    return ConnectTo([&](RawServer& s) {
      const int fd = make(SegmentBytes(s.terms));
      REQUIRE(fd >= 0);
      Reply(s, nullptr, {fd});
      close(fd);
    });
  };
  CHECK_EQ(with([](size_t bytes) { return MakeSegment(bytes, false); }), COROIPC_PROTOCOL);
  CHECK_EQ(with([](size_t bytes) { return MakeSegment(bytes - 4096); }), COROIPC_PROTOCOL);
  CHECK_EQ(with([](size_t bytes) { return MakeSegment(bytes + 4096); }), COROIPC_PROTOCOL);
  CHECK_EQ(with([](size_t) { return MakeSegment(0); }), COROIPC_PROTOCOL);
  CHECK_EQ(with([](size_t bytes) { return MakeSegment(bytes); }), COROIPC_PROTOCOL);  // no header
  CHECK_EQ(with([](size_t bytes) {
             const int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
             CHECK_EQ(ftruncate(fd, static_cast<off_t>(bytes)), 0);
             CHECK_EQ(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL), 0);
             return fd;
           }),
           COROIPC_PROTOCOL);
  CHECK_EQ(with([](size_t) {
             int fds[2];
             CHECK_EQ(pipe2(fds, O_CLOEXEC), 0);
             close(fds[0]);
             return fds[1];
           }),
           COROIPC_PROTOCOL);
  CHECK_EQ(with([](size_t) { return open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC); }),
           COROIPC_PROTOCOL);
  CHECK_EQ(with([](size_t) { return open("/dev/zero", O_RDWR | O_CLOEXEC); }), COROIPC_PROTOCOL);
}

TEST("positions that the memory starts with and that are none are PROTOCOL") {
  Honest beside;
  for (int ring = 0; ring < 3; ++ring) {
    for (const uint32_t position : {1u, 4u, 8188u, 8190u, 0xffffffffu}) {
      CHECK_EQ(ConnectTo([&](RawServer& s) {
                 // The client's own: it writes the request ring and reads the others.
                 coroipc_ring_words& words = s.control->ring[ring];
                 StoreRelaxed(ring == 0 ? words.write_position : words.read_position, position);
                 Reply(s, nullptr);
               }),
               COROIPC_PROTOCOL);
    }
  }
  // Anything aligned is as good as zero.
  CHECK_EQ(ConnectTo([&](RawServer& s) {
             for (coroipc_ring_words& words : s.control->ring) {
               StoreRelaxed(words.write_position, 0u - 8u);
               StoreRelaxed(words.read_position, 0u - 8u);
             }
             Reply(s, nullptr);
           }),
           COROIPC_OK);
}

TEST("a server that never answers the setup, or hangs up instead, has its code") {
  Honest beside;
  CHECK_EQ(ConnectTo([](RawServer&) {}, 100), COROIPC_TIMED_OUT);
  CHECK_EQ(ConnectTo([](RawServer& s) { s.Hang(); }), COROIPC_PEER_DEAD);
  for (const coroipc_status code : {COROIPC_DENIED, COROIPC_LIMIT, COROIPC_NO_SERVICE}) {
    CHECK_EQ(ConnectTo([&](RawServer& s) {
               Reply(s, [&](coroipc_setup_reply* r) { r->status = static_cast<uint32_t>(code); },
                     {});
               s.Hang();
             }),
             code);
  }
}

TEST("impossible positions and records end the connection, and the call that waits") {
  Honest beside;
  const auto ends = [](const std::function<void(RawServer&)>& lie) {
    CHECK_EQ(CallDuring(lie), COROIPC_UNKNOWN_OUTCOME);
  };
  for (int ring = 1; ring < 3; ++ring) {
    for (const uint32_t position : {1u, 8u, 0u - 8u, 0x80000000u, 8200u}) {
      if (ring == 2 && position == 8) continue;  // a whole record of zeros may lie there: below
      ends([&](RawServer& s) {
        StoreSeqCst(s.control->ring[ring].write_position, position);
        s.Bell();
      });
    }
  }
  for (const uint32_t bytes : {4073u, 8192u, 0x80000000u, 0xffffffe8u, 0xffffffffu}) {
    ends([&](RawServer& s) {
      coroipc_record record = Record(COROIPC_RECORD_RESPONSE, kFirst);
      record.bytes = bytes;
      memcpy(s.response_data, &record, sizeof record);
      StoreSeqCst(s.control->ring[1].write_position, 8192);
      s.Bell();
    });
  }
  for (uint32_t kind = 0; kind < 256; ++kind) {
    if (kind == COROIPC_RECORD_RESPONSE || (kind > 12 && kind < 254)) continue;
    ends([&](RawServer& s) {
      s.Put(s.response, Record(static_cast<uint8_t>(kind), kFirst), "abcdefgh", 8);
    });
  }
  for (uint32_t kind = 0; kind < 12; ++kind) {
    if (kind == COROIPC_RECORD_DISPATCH) continue;
    ends([&](RawServer& s) {
      s.Put(s.dispatch, Record(static_cast<uint8_t>(kind), kFirst), "abcdefgh", 8);
    });
  }
}

TEST("answers to what was not asked, asked before, or with codes that do not exist end it") {
  Honest beside;
  const auto ends = [](const std::function<void(RawServer&)>& lie) {
    CHECK_EQ(CallDuring(lie), COROIPC_UNKNOWN_OUTCOME);
  };
  for (const uint32_t correlation : {0u, 8u, 7u | 1u << 16, 9u | 1u << 16, 15u | 1u << 16,
                                     16u | 1u << 16, 0xffffu, 0xffffffffu, 8u | 2u << 16}) {
    ends([&](RawServer& s) { s.Answer(correlation, "x", 1); });
  }
  for (const uint32_t code : {31u, 1000u, 0x80000000u, 0xffffffffu}) {
    ends([&](RawServer& s) {
      coroipc_record record = Record(COROIPC_RECORD_RESPONSE, kFirst);
      record.argument = code;
      s.Put(s.response, record, nullptr, 0);
    });
  }
  for (const int flag : {2, 128, 255}) {
    ends([&](RawServer& s) {
      s.Put(s.response, Record(COROIPC_RECORD_RESPONSE, kFirst, static_cast<uint8_t>(flag)), "x",
            1);
    });
  }
  ends([](RawServer& s) {
    s.Put(s.response, Record(COROIPC_RECORD_SEGMENT_GRANT, kFirst), nullptr, 0);
  });
  ends([](RawServer& s) {
    s.Put(s.response, Record(COROIPC_RECORD_SEGMENT_GRANT, 1u << 16), nullptr, 0);
  });
  // Twice: the first is the answer, the second a lie that the next call meets.
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

TEST("segments that lie, and messages on the socket that are none, end the connection") {
  Honest beside;
  const auto ends = [](const std::function<void(RawServer&)>& lie) {
    CHECK_EQ(CallDuring(lie), COROIPC_UNKNOWN_OUTCOME);
  };
  const auto segment = [](RawServer& s, uint32_t index, uint32_t said, size_t is,
                          bool sealed = true, uint32_t generation = 1) {
    const int fd = MakeSegment(is, sealed);
    s.SendSegment(index, said, generation, fd);
    close(fd);
  };
  for (const uint32_t index : {4u, 64u, 0x80000000u, 0xffffffffu}) {
    ends([&](RawServer& s) { segment(s, index, 65536, 65536); });
  }
  ends([&](RawServer& s) { segment(s, 0, 65536, 61440); });
  ends([&](RawServer& s) { segment(s, 0, 65536, 69632); });
  ends([&](RawServer& s) { segment(s, 0, 65536, 65536, false); });
  ends([&](RawServer& s) { segment(s, 0, 0, 65536); });
  ends([&](RawServer& s) { segment(s, 0, 65535, 65536); });
  ends([&](RawServer& s) { segment(s, 0, 0xfffff000, 65536); });
  ends([&](RawServer& s) {  // the same generation again
    segment(s, 0, 65536, 65536);
    segment(s, 0, 65536, 65536);
  });
  for (const size_t count : {size_t{2}, size_t{15}, size_t{16}, size_t{17}, size_t{4000}}) {
    ends([&](RawServer& s) {
      const std::vector<uint8_t> bytes(count, COROIPC_SOCKET_SEGMENT);
      CHECK(SendWithFds(s.socket, bytes.data(), count, {}));
    });
  }
  ends([](RawServer& s) { CHECK(SendWithFds(s.socket, "\1", 1, {0})); });
  ends([](RawServer& s) { CHECK(SendWithFds(s.socket, "\2", 1, {})); });
  ends([](RawServer& s) {
    const coroipc_segment_message message = {1, 0, 65536, 1};
    CHECK(SendWithFds(s.socket, &message, sizeof message, {0}));
  });
  ends([](RawServer& s) {
    const coroipc_segment_message message = {COROIPC_SOCKET_SEGMENT, 0, 65536, 1};
    CHECK(SendWithFds(s.socket, &message, sizeof message, std::vector<int>(100, 0)));
  });
}

TEST("references to segments that are not there or too short end the connection") {
  Honest beside;
  const auto refer = [](RawServer& s, coroipc_segment_reference reference, bool send) {
    if (send) {
      const int fd = MakeSegment(65536);
      s.SendSegment(1, 65536, 5, fd);
      close(fd);
    }
    s.Put(s.response, Record(COROIPC_RECORD_RESPONSE, kFirst, COROIPC_FLAG_SEGMENT), &reference,
          sizeof reference);
  };
  const auto ends = [&](coroipc_segment_reference reference, bool send = true) {
    CHECK_EQ(CallDuring([&](RawServer& s) { refer(s, reference, send); }), COROIPC_UNKNOWN_OUTCOME);
  };
  CHECK_EQ(CallDuring(
               [&](RawServer& s) {
                 refer(s, {1, 0, 65536, 5}, true);
               },
               COROIPC_OK),
           COROIPC_OK);
  ends({1, 0, 65536, 5}, false);
  for (const uint32_t index : {0u, 2u, 4u, 63u, 64u, 0xffffffffu}) ends({index, 0, 8, 5});
  for (const uint32_t generation : {0u, 4u, 6u, 0xffffffffu}) ends({1, 0, 8, generation});
  ends({1, 1, 65536, 5});
  ends({1, 65536, 1, 5});
  ends({1, 0xffffffff, 2, 5});
  ends({1, 0, 0xffffffff, 5});
  ends({1, 0xffffffff, 0xffffffff, 5});
  ends({1, 0, (1u << 20) + 1, 5});
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

TEST("a granted buffer smaller than what was wanted ends the connection") {
  Honest beside;
  for (const uint32_t granted : {0u, 1u, 4096u, 99999u, 100001u}) {
    RawServer server;
    Client client;
    std::thread liar([&] {
      server.Serve();
      coroipc_record want = {};
      REQUIRE(server.TakeRequest(&want));
      CHECK_EQ(want.kind, COROIPC_RECORD_SEGMENT_WANT);
      const uint32_t bytes = 131072;
      const int fd = MakeSegment(bytes);
      server.SendSegment(0, bytes, 1, fd);
      close(fd);
      const coroipc_segment_reference reference = {0, 0, granted, 1};
      server.Put(server.response,
                 Record(COROIPC_RECORD_SEGMENT_GRANT, want.correlation, COROIPC_FLAG_SEGMENT),
                 &reference, sizeof reference);
    });
    REQUIRE(client.Connect(server.name) == COROIPC_OK);
    coroipc_buffer* buffer = nullptr;
    CHECK_EQ(coroipcc_buffer_alloc(client.connection, 100000, kPatienceMs, &buffer),
             COROIPC_PROTOCOL);
    CHECK(buffer == nullptr);
    liar.join();
  }
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
  std::mt19937 random(5);
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
