// Calls that wait: answers, leases, deadlines, the interrupt, several threads on one connection, a
// server that dies in the middle, and forked children. The server runs on threads of this process
// or is forked, where it has to die.
#include <signal.h>

#include "client.h"
#include "peers.h"

using namespace peers;
using namespace coroipc;

namespace {

// A server in a process of its own, to be killed.
class OtherProcess {
 public:
  explicit OtherProcess(uint32_t dispatch_ring_bytes = 0) : name(UniqueName()) {
    int ready[2];
    REQUIRE(pipe(ready) == 0);
    pid = fork();
    if (pid == 0) {
      Server server;
      server.options.dispatch_ring_bytes = dispatch_ring_bytes;
      if (coroipcs_create(&server.options, &server.server) != COROIPC_OK) _exit(1);
      if (coroipcs_service_add(server.server, 1, &server.service) != COROIPC_OK) _exit(1);
      if (coroipcs_listen(server.server, name.c_str()) != COROIPC_OK) _exit(1);
      if (write(ready[1], "x", 1) != 1) _exit(1);
      coroipcs_run(server.server);
      _exit(0);
    }
    char byte;
    REQUIRE(read(ready[0], &byte, 1) == 1);
    close(ready[0]);
    close(ready[1]);
  }
  ~OtherProcess() { Kill(); }
  void Kill() {
    if (pid > 0) {
      kill(pid, SIGKILL);
      waitpid(pid, nullptr, 0);
    }
    pid = -1;
  }
  std::string name;
  pid_t pid;
};

}  // namespace

TEST("every way to wait gets its answers") {
  Server server;
  server.Start();
  for (const int wait : {COROIPC_WAIT_ADAPTIVE, COROIPC_WAIT_SPIN, COROIPC_WAIT_SLEEP}) {
    Client client;
    client.options.wait = wait;
    REQUIRE(client.Connect(server.name) == COROIPC_OK);
    for (size_t i = 0; i < 300; ++i) CHECK(client.Echo(i * 37 % 5000, static_cast<uint8_t>(i)));
  }
}

TEST("an answer larger than the caller's buffer is kept until it is released") {
  Server server;
  server.Start();
  Client client;
  REQUIRE(client.Connect(server.name) == COROIPC_OK);
  for (const uint32_t count : {11u, 10000u, 200000u}) {
    const iovec part = Part(&count, sizeof count);
    uint8_t into[10];
    coroipcc_response response;
    CHECK_EQ(coroipcc_request(client.connection, kFill, &part, 1, -1, into, sizeof into, &response),
             COROIPC_TOO_LARGE);
    REQUIRE(response.data != nullptr);
    CHECK_EQ(response.bytes, count);
    CHECK_EQ(static_cast<const char*>(response.data)[count - 1], 'f');
    CHECK_EQ(coroipcc_response_release(client.connection), COROIPC_OK);
    CHECK_EQ(coroipcc_response_release(client.connection), COROIPC_INVALID_ARGUMENT);
  }
  CHECK(client.Echo());
}

TEST("one answer in place at a time; beside it others are copied as long as there is room") {
  Server server;
  server.options.response_ring_bytes = 4096;
  server.Start();
  Client client;
  REQUIRE(client.Connect(server.name) == COROIPC_OK);
  const uint32_t count = 1000;
  const iovec part = Part(&count, sizeof count);
  coroipcc_response response;
  REQUIRE(coroipcc_request_in_place(client.connection, kFill, &part, 1, -1, &response) ==
          COROIPC_OK);
  const auto* const kept = static_cast<const char*>(response.data);
  coroipcc_response other;
  CHECK_EQ(coroipcc_request_in_place(client.connection, kFill, &part, 1, -1, &other),
           COROIPC_LEASE_HELD);
  int held = 0;
  for (int i = 0; i < 20; ++i) {
    const coroipc_status status = client.Call(kFill, &count, sizeof count, nullptr, 5000);
    CHECK(status == COROIPC_OK || status == COROIPC_LEASE_HELD);
    held += status == COROIPC_LEASE_HELD;
    for (uint32_t n = 0; n < count; ++n) CHECK_EQ(kept[n], 'f');
  }
  CHECK(held > 0);  // it stood in the way, and was said so instead of a time-out
  CHECK_EQ(coroipcc_response_release(client.connection), COROIPC_OK);
  CHECK_EQ(client.Call(kFill, &count, sizeof count), COROIPC_OK);
}

TEST("a time-out ends the wait, the late answer is dropped, its slot is used again") {
  std::mutex mutex;
  std::vector<std::pair<coroipcs_connection*, uint32_t>> later;
  Server server;
  server.options.requests_in_flight = 2;
  server.handle = [&](coroipcs_connection* connection, const coroipcs_request* request) {
    const std::lock_guard lock(mutex);
    later.emplace_back(connection, request->correlation);
  };
  server.Start();
  Client client;
  REQUIRE(client.Connect(server.name) == COROIPC_OK);
  for (int round = 0; round < 5; ++round) {
    CHECK_EQ(client.Call(100, "", 0, nullptr, 10), COROIPC_TIMED_OUT);
    CHECK_EQ(client.Call(100, "", 0, nullptr, 10), COROIPC_TIMED_OUT);
    CHECK_EQ(client.Call(kEcho, "", 0, nullptr, 20), COROIPC_LIMIT);
    CHECK(Eventually([&] { return server.cancels == 2 * (round + 1); }));
    const std::lock_guard lock(mutex);
    for (const auto& [connection, correlation] : later) {
      CHECK_EQ(coroipcs_response_send(connection, correlation, COROIPC_OK, 0, nullptr, 0),
               COROIPC_OK);
    }
    later.clear();
    coroipcc_dispatch dispatch;
    CHECK(Eventually([&] {
      (void)coroipcc_dispatch_receive(client.connection, 0, &dispatch);
      return client.Call(kEcho, "", 0) == COROIPC_OK;
    }));
    coroipc_stats stats;
    coroipcc_stats(client.connection, &stats, 0);
    CHECK_EQ(stats.late_responses, 2u * static_cast<uint32_t>(round + 1));
  }
}

TEST("with one request in flight a large message gets its segment all the same") {
  Server server;
  server.options.requests_in_flight = 1;
  server.Start();
  Client client;
  REQUIRE(client.Connect(server.name) == COROIPC_OK);
  for (int i = 0; i < 3; ++i) CHECK(client.Echo(300000));
}

TEST("messages of growing sizes find segments, few as there are") {
  Server server;
  server.options.segments = 4;
  server.Start();
  Client client;
  REQUIRE(client.Connect(server.name) == COROIPC_OK);
  for (const size_t count : {140000u, 140000u, 270000u, 530000u, 1000000u, 140000u, 1000000u}) {
    CHECK(client.Echo(count));
  }
  std::vector<std::thread> threads;
  for (size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (size_t i = 0; i < 6; ++i) CHECK(client.Echo(150000u << ((t + i) % 3)));
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST("the interrupt ends a call that waits") {
  Server server;
  server.Start();
  for (const int wait : {COROIPC_WAIT_SLEEP, COROIPC_WAIT_SPIN}) {
    static std::atomic<bool> now;
    now = false;
    coroipcc_group_options options;
    coroipcc_group_options_init(&options);
    options.interrupt = [](void*) { return now ? 1 : 0; };
    coroipcc_group* group = nullptr;
    REQUIRE(coroipcc_group_create(&options, &group) == COROIPC_OK);
    Client client;
    client.options.wait = wait;
    REQUIRE(client.Connect(server.name, group) == COROIPC_OK);
    std::thread later([] {
      SleepMs(30);
      now = true;
    });
    CHECK_EQ(client.Call(kSilent, "", 0), COROIPC_ABORTED);
    later.join();
    coroipcc_dispatch dispatch;
    CHECK_EQ(coroipcc_dispatch_receive(client.connection, kPatienceMs, &dispatch), COROIPC_ABORTED);
    now = false;
    CHECK(client.Echo());
    client.Close();
    coroipcc_group_destroy(group);
  }
}

TEST("a server that is killed ends every call, and what it had published is read first") {
  for (int round = 0; round < 3; ++round) {
    OtherProcess other;
    Client client;
    REQUIRE(client.Connect(other.name) == COROIPC_OK);
    const uint32_t count = 50;
    CHECK_EQ(client.Call(kDispatches, &count, sizeof count), COROIPC_OK);
    std::thread killer([&] {
      SleepMs(20);
      other.Kill();
    });
    CHECK_EQ(client.Call(kSilent, "", 0), COROIPC_UNKNOWN_OUTCOME);
    killer.join();
    CHECK_EQ(coroipcc_state(client.connection), COROIPC_PEER_DEAD);
    CHECK_EQ(client.Call(kEcho, "", 0), COROIPC_PEER_DEAD);
    coroipcc_dispatch dispatch;
    for (uint32_t i = 0; i < count; ++i) {
      REQUIRE(coroipcc_dispatch_receive(client.connection, 0, &dispatch) == COROIPC_OK);
      uint32_t number = 0;
      memcpy(&number, dispatch.data, sizeof number);
      CHECK_EQ(number, i);
      CHECK_EQ(coroipcc_dispatch_release(client.connection), COROIPC_OK);
    }
    CHECK_EQ(coroipcc_dispatch_receive(client.connection, 0, &dispatch), COROIPC_PEER_DEAD);
    CHECK_EQ(coroipcc_dispatch_receive(client.connection, 1000, &dispatch), COROIPC_PEER_DEAD);
  }
}

TEST("leased memory stays readable after the server's death, and after the disconnect") {
  OtherProcess other;
  auto* const client = new Client;
  REQUIRE(client->Connect(other.name) == COROIPC_OK);
  const uint32_t count = 1000;
  const iovec part = Part(&count, sizeof count);
  coroipcc_response response;
  REQUIRE(coroipcc_request_in_place(client->connection, kFill, &part, 1, -1, &response) ==
          COROIPC_OK);
  other.Kill();
  CHECK_EQ(client->Call(kEcho, "", 0, nullptr, 2000) != COROIPC_OK, true);
  coroipcc_connection* const connection = client->connection;
  client->Close();
  for (uint32_t i = 0; i < count; ++i) {
    CHECK_EQ(static_cast<const char*>(response.data)[i], 'f');
  }
  CHECK_EQ(coroipcc_response_release(connection), COROIPC_OK);  // and it is gone: LeakSanitizer
  delete client;
}

// -- several threads on one connection ------------------------------------------------------------

TEST("many threads call at once, each gets its own answers") {
  Server server;
  server.Start();
  for (const int wait : {COROIPC_WAIT_ADAPTIVE, COROIPC_WAIT_SLEEP}) {
    Client client;
    client.options.wait = wait;
    REQUIRE(client.Connect(server.name) == COROIPC_OK);
    std::vector<std::thread> threads;
    for (uint8_t t = 0; t < 6; ++t) {
      threads.emplace_back([&, t] {
        for (size_t i = 0; i < 60; ++i) {
          std::vector<uint8_t> got;
          const std::vector<uint8_t> sent(1 + i * 13 % 3000, t);
          CHECK_EQ(client.Call(kEcho, sent.data(), sent.size(), &got), COROIPC_OK);
          CHECK(got == sent);
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
}

TEST("a follower gets its dispatch, an event loop its answers, while another thread leads") {
  std::mutex mutex;
  std::pair<coroipcs_connection*, uint32_t> held = {};
  Server server;
  server.handle = [&](coroipcs_connection* connection, const coroipcs_request* request) {
    const std::lock_guard lock(mutex);
    held = {connection, request->correlation};
  };
  server.Start();
  coroipcc_group_options options;
  coroipcc_group_options_init(&options);
  options.wait = COROIPC_WAIT_SLEEP;
  coroipcc_group* group = nullptr;
  REQUIRE(coroipcc_group_create(&options, &group) == COROIPC_OK);
  Client client;
  client.options.wait = COROIPC_WAIT_SLEEP;
  REQUIRE(client.Connect(server.name, group) == COROIPC_OK);
  std::thread leader([&] { CHECK_EQ(client.Call(100, "", 0), COROIPC_OK); });
  REQUIRE(Eventually([&] {
    const std::lock_guard lock(mutex);
    return held.first != nullptr;
  }));
  SleepMs(20);
  std::atomic<int> dispatches{0}, answers{0};
  constexpr int kRounds = 20;
  std::thread follower([&] {
    while (dispatches < kRounds) {
      coroipcc_dispatch dispatch;
      if (coroipcc_dispatch_receive(client.connection, kPatienceMs, &dispatch) != COROIPC_OK) break;
      CHECK_EQ(coroipcc_dispatch_release(client.connection), COROIPC_OK);
      ++dispatches;
    }
  });
  std::thread loop([&] {
    Batch batch;
    while (answers < kRounds) {
      const coroipc_status status = coroipcc_receive(group, batch.get(), 1);
      for (const Row& row : batch.Take()) answers += row.entry.kind == COROIPC_KIND_RESPONSE;
      if (status == COROIPC_OK) (void)coroipcc_wait(group, 1000);
    }
  });
  // Each step waits for the one before it. What only a slice of 50 ms ends is a lost wake-up, so
  // that most rounds have to be faster than that.
  int quick = 0;
  for (int i = 1; i <= kRounds; ++i) {
    const uint64_t start = NowMs();
    REQUIRE(coroipcs_dispatch_send(held.first, 1, nullptr, 0) == COROIPC_OK);
    CHECK(Eventually([&] { return dispatches == i; }));
    uint32_t correlation = 0;
    CHECK_EQ(coroipcc_request_send(client.connection, kEcho, nullptr, 0, 0, &correlation),
             COROIPC_OK);
    CHECK(Eventually([&] { return answers == i; }));
    quick += NowMs() - start < 20 ? 1 : 0;
  }
  CHECK(quick >= kRounds / 4);
  CHECK_EQ(coroipcs_response_send(held.first, held.second, COROIPC_OK, 0, nullptr, 0), COROIPC_OK);
  leader.join();
  follower.join();
  loop.join();
  client.Close();
  coroipcc_group_destroy(group);
}

TEST("two threads that wait for dispatches get each one once") {
  Server server;
  server.Start();
  Client client;
  REQUIRE(client.Connect(server.name) == COROIPC_OK);
  REQUIRE(Eventually([&] { return server.last != nullptr; }));
  std::atomic<uint32_t> sum{0}, got{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&] {
      while (got < 200) {
        coroipcc_dispatch dispatch;
        const coroipc_status status = coroipcc_dispatch_receive(client.connection, 200, &dispatch);
        if (status == COROIPC_LEASE_HELD || status == COROIPC_TIMED_OUT) continue;
        CHECK_EQ(status, COROIPC_OK);
        if (status != COROIPC_OK) break;
        uint32_t number = 0;
        memcpy(&number, dispatch.data, sizeof number);
        sum += number;
        ++got;
        CHECK_EQ(coroipcc_dispatch_release(client.connection), COROIPC_OK);
      }
    });
  }
  for (uint32_t i = 1; i <= 200; ++i) {
    const iovec part = Part(&i, sizeof i);
    CHECK_EQ(coroipcs_dispatch_send(server.last, 1, &part, 1), COROIPC_OK);
    if (i % 20 == 0) SleepMs(1);
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_EQ(got, 200u);
  CHECK_EQ(sum, 200u * 201u / 2);
}

TEST("a disconnect ends the calls of other threads, and the last one out frees it all") {
  for (int round = 0; round < 10; ++round) {
    Server server;
    server.Start();
    Client client;
    REQUIRE(client.Connect(server.name) == COROIPC_OK);
    std::vector<std::thread> threads;
    std::atomic<int> inside{0};
    coroipcc_connection* const connection = client.connection;
    for (int t = 0; t < 3; ++t) {
      threads.emplace_back([&, t] {
        ++inside;
        if (t == 0) {
          coroipcc_dispatch dispatch;
          CHECK_EQ(coroipcc_dispatch_receive(connection, kPatienceMs, &dispatch),
                   COROIPC_DISCONNECTED);
          return;
        }
        coroipcc_response response;
        const coroipc_status status =
            coroipcc_request(connection, kSilent, nullptr, 0, kPatienceMs, nullptr, 0, &response);
        CHECK(status == COROIPC_UNKNOWN_OUTCOME || status == COROIPC_DISCONNECTED);
      });
    }
    CHECK(Eventually([&] { return inside == 3 && server.handled == 2; }));
    SleepMs(5);
    client.Close();
    for (std::thread& thread : threads) thread.join();
  }
}

// -- the fd of one connection ---------------------------------------------------------------------

TEST("a dispatch that was waited for is read where it lies, and so are those behind it") {
  std::atomic<coroipcs_connection*> connection{nullptr};
  Server server;
  server.handle = [&](coroipcs_connection* own, const coroipcs_request* request) {
    connection = own;
    coroipcs_response_send(own, request->correlation, COROIPC_OK, 0, nullptr, 0);
  };
  server.Start();
  for (const int wait : {COROIPC_WAIT_ADAPTIVE, COROIPC_WAIT_SLEEP}) {
    Client client;
    client.options.wait = wait;
    REQUIRE(client.Connect(server.name) == COROIPC_OK);
    CHECK_EQ(client.Call(100, "", 0), COROIPC_OK);
    std::thread sender([&] {
      SleepMs(20);
      const uint64_t bytes = 7;
      const iovec part = Part(&bytes, sizeof bytes);
      for (int i = 0; i < 3; ++i) CHECK_EQ(coroipcs_dispatch_send(connection, 1, &part, 1), 0);
    });
    const uint8_t* before = nullptr;
    for (int i = 0; i < 3; ++i) {
      coroipcc_dispatch dispatch;
      REQUIRE(coroipcc_dispatch_receive(client.connection, kPatienceMs, &dispatch) == COROIPC_OK);
      const auto* data = static_cast<const uint8_t*>(dispatch.data);
      // Records follow each other in a ring; copies lie anywhere.
      if (before != nullptr) CHECK_EQ(data - before, ptrdiff_t{sizeof(coroipc_record) + 8});
      before = data;
      CHECK_EQ(coroipcc_dispatch_release(client.connection), COROIPC_OK);
    }
    sender.join();
  }
}

TEST("a connection's own fd is readable when a dispatch may be there, and only then for long") {
  Server server;
  server.Start();
  Client client;
  REQUIRE(client.Connect(server.name) == COROIPC_OK);
  REQUIRE(Eventually([&] { return server.last != nullptr; }));
  const int fd = coroipcc_fd(client.connection);
  REQUIRE(fd >= 0);
  CHECK_EQ(coroipcc_fd(client.connection), fd);
  const auto readable = [&](int patience_ms) {
    pollfd watched = {fd, POLLIN, 0};
    return poll(&watched, 1, patience_ms) == 1;
  };
  coroipcc_dispatch dispatch;
  const auto drain = [&] {
    int count = 0;
    for (;;) {
      const coroipc_status status = coroipcc_dispatch_receive(client.connection, 0, &dispatch);
      if (status != COROIPC_OK) {
        CHECK_EQ(status, COROIPC_AGAIN);
        return count;
      }
      CHECK_EQ(coroipcc_dispatch_release(client.connection), COROIPC_OK);
      ++count;
    }
  };
  CHECK_EQ(drain(), 0);
  CHECK(!readable(50));
  for (int round = 0; round < 20; ++round) {
    CHECK_EQ(coroipcs_dispatch_send(server.last, 1, nullptr, 0), COROIPC_OK);
    CHECK(readable(kPatienceMs));
    CHECK_EQ(drain(), 1);
    CHECK(!readable(0));
    // A blocking call takes the doorbell and meets a dispatch: both are still told.
    const uint32_t count = 2;
    CHECK_EQ(client.Call(kDispatches, &count, sizeof count), COROIPC_OK);
    CHECK(readable(kPatienceMs));
    CHECK_EQ(drain(), 2);
    // One that meets none has cleared what was armed.
    CHECK(client.Echo());
    CHECK_EQ(coroipcs_dispatch_send(server.last, 1, nullptr, 0), COROIPC_OK);
    CHECK(readable(kPatienceMs));
    CHECK_EQ(drain(), 1);
  }
  server.Stop();
  CHECK(readable(kPatienceMs));
  CHECK_EQ(coroipcc_dispatch_receive(client.connection, 0, &dispatch), COROIPC_DISCONNECTED);
}

// -- waiting for each other -----------------------------------------------------------------------

TEST("a client in a call goes on draining what its server needs room for") {
  Server server;
  server.options.dispatch_ring_bytes = 4096;
  server.service.backlog_bytes = 4096;
  server.handle = [](coroipcs_connection* connection, const coroipcs_request* request) {
    // More dispatches than ring and backlog hold, before the answer.
    const uint8_t bytes[500] = {};
    const iovec part = Part(bytes, sizeof bytes);
    for (int i = 0; i < 200;) {
      const coroipc_status status = coroipcs_dispatch_send(connection, 1, &part, 1);
      if (status == COROIPC_OK) {
        ++i;
      } else {
        CHECK_EQ(status, COROIPC_FULL);
        SleepMs(1);
      }
    }
    coroipcs_response_send(connection, request->correlation, COROIPC_OK, 0, nullptr, 0);
  };
  server.Start();
  Client client;
  REQUIRE(client.Connect(server.name) == COROIPC_OK);
  CHECK_EQ(client.Call(100, "", 0), COROIPC_OK);
  coroipcc_dispatch dispatch;
  int got = 0;
  while (got < 200 &&
         coroipcc_dispatch_receive(client.connection, kPatienceMs, &dispatch) == COROIPC_OK) {
    ++got;
    CHECK_EQ(coroipcc_dispatch_release(client.connection), COROIPC_OK);
  }
  CHECK_EQ(got, 200);
}

TEST("both rings full and the bound of answers reached: still nobody waits for ever") {
  Server server;
  server.options.request_ring_bytes = 4096;
  server.options.response_ring_bytes = 4096;
  server.options.unsent_bytes = 4096;
  server.options.requests_in_flight = 64;
  server.Start();
  Client client;
  REQUIRE(client.Connect(server.name) == COROIPC_OK);
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) CHECK(client.Echo(1500));
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST("a pad that needs the whole ring is waited for and given") {
  Server server;
  server.options.request_ring_bytes = 4096;
  server.options.response_ring_bytes = 4096;
  server.Start();
  Client client;
  REQUIRE(client.Connect(server.name) == COROIPC_OK);
  for (size_t i = 0; i < 200; ++i) {
    CHECK(client.Echo(i * 8 % 600));
    CHECK(client.Echo(2024));  // half a ring with its header
  }
}

// -- forked children ------------------------------------------------------------------------------

TEST(
    "a receive that does not wait takes the doorbell for room, and the loop still sends the rest") {
  RawServer server;
  server.terms.requests_in_flight = 8;
  std::thread accepting([&] { server.Serve(); });
  coroipcc_group_options options;
  coroipcc_group_options_init(&options);
  coroipcc_group* group = nullptr;
  REQUIRE(coroipcc_group_create(&options, &group) == COROIPC_OK);
  Client client;
  REQUIRE(client.Connect(server.name, group) == COROIPC_OK);
  accepting.join();
  Batch batch;
  const auto arm = [&] {
    return Eventually([&] {
      (void)coroipcc_receive(group, batch.get(), 1);
      (void)batch.Take();
      return coroipcc_look(group, 0) == COROIPC_OK;
    });
  };
  // Four fill the ring of 8192 bytes, three wait.
  const std::vector<uint8_t> bytes(2000, 'x');
  const iovec part = Part(bytes.data(), bytes.size());
  for (int i = 0; i < 7; ++i) REQUIRE(coroipcc_send(client.connection, 9, &part, 1) == COROIPC_OK);
  REQUIRE(arm());
  coroipc_record header;
  REQUIRE(server.TakeRequest(&header));  // room for one of the three: the doorbell is rung
  coroipcc_dispatch dispatch;
  CHECK_EQ(coroipcc_dispatch_receive(client.connection, 0, &dispatch), COROIPC_AGAIN);
  // The loop goes to sleep as it always does: what it had armed before is not armed any more.
  (void)coroipcc_look(group, 0);
  for (int i = 0; i < 4; ++i) REQUIRE(server.TakeRequest(&header));
  pollfd watched = {coroipcc_group_fd(group), POLLIN, 0};
  CHECK_EQ(poll(&watched, 1, 2000), 1);
  REQUIRE(arm());
  for (int i = 0; i < 2; ++i) CHECK(server.TakeRequest(&header));
  client.Close();
  coroipcc_group_destroy(group);
}

TEST("a forked child can use none of its parent's, and harms it by nothing") {
  Server server;
  server.Start();
  coroipcc_group_options options;
  coroipcc_group_options_init(&options);
  coroipcc_group* group = nullptr;
  REQUIRE(coroipcc_group_create(&options, &group) == COROIPC_OK);
  Client client;
  REQUIRE(client.Connect(server.name, group) == COROIPC_OK);
  const uint32_t count = 100;
  const iovec part = Part(&count, sizeof count);
  coroipcc_response response;
  coroipc_buffer* lent = nullptr;
  REQUIRE(coroipcc_buffer_alloc(client.connection, 8, -1, &lent) == COROIPC_OK);
  REQUIRE(coroipcc_request_in_place(client.connection, kFill, &part, 1, -1, &response) ==
          COROIPC_OK);
  const pid_t child = fork();
  if (child == 0) {
    CHECK_EQ(coroipcc_request_buffer(client.connection, 1, lent, 0, 8, 10, &response),
             COROIPC_FORKED);
    CHECK_EQ(coroipcc_given_up(client.connection), 0u);
    coroipcc_dispatch dispatch;
    coroipc_buffer* buffer = nullptr;
    uint32_t correlation = 0;
    Batch batch;
    CHECK_EQ(coroipcc_request(client.connection, 1, nullptr, 0, 10, nullptr, 0, &response),
             COROIPC_FORKED);
    CHECK_EQ(coroipcc_request_in_place(client.connection, 1, nullptr, 0, 10, &response),
             COROIPC_FORKED);
    CHECK_EQ(coroipcc_response_release(client.connection), COROIPC_FORKED);
    CHECK_EQ(coroipcc_dispatch_receive(client.connection, 0, &dispatch), COROIPC_FORKED);
    CHECK_EQ(coroipcc_dispatch_release(client.connection), COROIPC_FORKED);
    CHECK_EQ(coroipcc_buffer_alloc(client.connection, 1, 10, &buffer), COROIPC_FORKED);
    CHECK_EQ(coroipcc_request_send(client.connection, 1, nullptr, 0, 0, &correlation),
             COROIPC_FORKED);
    CHECK_EQ(coroipcc_send(client.connection, 1, nullptr, 0), COROIPC_FORKED);
    CHECK_EQ(coroipcc_cancel(client.connection, 1), COROIPC_FORKED);
    CHECK_EQ(coroipcc_buffer_alloc_start(client.connection, 1, &correlation), COROIPC_FORKED);
    CHECK_EQ(coroipcc_state(client.connection), COROIPC_FORKED);
    CHECK_EQ(coroipcc_flow_control(client.connection), 0);
    CHECK_EQ(coroipcc_fd(client.connection), -1);
    CHECK_EQ(coroipcc_receive(group, batch.get(), 1), COROIPC_FORKED);
    CHECK_EQ(coroipcc_look(group, 0), COROIPC_FORKED);
    CHECK_EQ(coroipcc_wait(group, 0), COROIPC_FORKED);
    coroipc_entry row = {};
    row.kind = COROIPC_KIND_SEND;
    CHECK_EQ(coroipcc_send_row(client.connection, &row, nullptr, 0), COROIPC_FORKED);
    CHECK_EQ(coroipcc_send_row_buffer(client.connection, &row, lent, 0, 8), COROIPC_FORKED);
    CHECK_EQ(coroipcc_request_send_buffer(client.connection, 1, lent, 0, 8, 0, &correlation),
             COROIPC_FORKED);
    coroipcc_send_batch(group, &row, 1, nullptr);
    CHECK_EQ(row.argument, static_cast<uint32_t>(COROIPC_FORKED));
    coroipcc_dispatch_flow(client.connection, 1);
    coroipcc_disconnect(client.connection);
    coroipcc_group_destroy(group);
    // Its own connection works.
    Client own;
    CHECK_EQ(own.Connect(server.name), COROIPC_OK);
    CHECK(own.Echo());
    own.Close();
    _exit(check_failures == 0 ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  CHECK_EQ(status, 0);
  CHECK_EQ(coroipcc_response_release(client.connection), COROIPC_OK);
  coroipc_buffer_release(lent);
  CHECK(client.Echo());
  client.Close();
  coroipcc_group_destroy(group);
}

TEST("what has nowhere to go, or nothing to come from, is refused and nothing is sent") {
  Server server;
  server.Start();
  Client client;
  REQUIRE(client.Connect(server.name) == COROIPC_OK);
  coroipcc_connection* const connection = client.connection;
  coroipcc_response response;
  coroipc_buffer* buffer = nullptr;
  uint32_t correlation = 0;
  coroipc_entry row = {};
  row.kind = COROIPC_KIND_REQUEST;
  REQUIRE(coroipcc_buffer_alloc(connection, 100, -1, &buffer) == COROIPC_OK);
  coroipc_stats before, after;
  REQUIRE(coroipcc_stats(connection, &before, 0) == COROIPC_OK);
  CHECK_EQ(coroipcc_request_in_place(connection, kEcho, nullptr, 0, 10, nullptr),
           COROIPC_INVALID_ARGUMENT);
  CHECK_EQ(coroipcc_request_buffer(connection, kEcho, buffer, 0, 100, 10, nullptr),
           COROIPC_INVALID_ARGUMENT);
  CHECK_EQ(coroipcc_request_buffer(connection, kEcho, nullptr, 0, 100, 10, &response),
           COROIPC_INVALID_ARGUMENT);
  CHECK_EQ(coroipcc_request_send_buffer(connection, kEcho, nullptr, 0, 100, 0, &correlation),
           COROIPC_INVALID_ARGUMENT);
  CHECK_EQ(coroipcc_send_row_buffer(connection, &row, nullptr, 0, 100), COROIPC_INVALID_ARGUMENT);
  row.kind = COROIPC_KIND_SEND;
  CHECK_EQ(coroipcc_send_row_buffer(connection, &row, buffer, 0, 100), COROIPC_INVALID_ARGUMENT);
  CHECK_EQ(coroipcc_dispatch_receive(connection, 0, nullptr), COROIPC_INVALID_ARGUMENT);
  CHECK_EQ(coroipcc_buffer_alloc(connection, 100, 10, nullptr), COROIPC_INVALID_ARGUMENT);
  // Longer than any message, alone and together: the bytes are not looked at.
  const std::vector<uint8_t> byte(1);
  for (const std::vector<iovec>& parts :
       {std::vector<iovec>{Part(byte.data(), size_t{COROIPC_MESSAGE_BYTES_MAX} + 1)},
        std::vector<iovec>(5, Part(byte.data(), COROIPC_MESSAGE_BYTES_MAX / 4))}) {
    const auto count = static_cast<uint32_t>(parts.size());
    CHECK_EQ(coroipcc_request(connection, kEcho, parts.data(), count, 10, nullptr, 0, &response),
             COROIPC_TOO_LARGE);
    CHECK_EQ(coroipcc_request_in_place(connection, kEcho, parts.data(), count, 10, &response),
             COROIPC_TOO_LARGE);
    CHECK_EQ(coroipcc_request_send(connection, kEcho, parts.data(), count, 0, &correlation),
             COROIPC_TOO_LARGE);
    CHECK_EQ(coroipcc_send(connection, kEcho, parts.data(), count), COROIPC_TOO_LARGE);
    CHECK_EQ(coroipcc_send_row(connection, &row, parts.data(), count), COROIPC_TOO_LARGE);
  }
  REQUIRE(coroipcc_stats(connection, &after, 0) == COROIPC_OK);
  CHECK_EQ(after.requests, before.requests);
  // One answer in place at a time, also of a buffer.
  REQUIRE(coroipcc_request_in_place(connection, kEcho, nullptr, 0, -1, &response) == COROIPC_OK);
  CHECK_EQ(coroipcc_request_buffer(connection, kEcho, buffer, 0, 100, 10, &response),
           COROIPC_LEASE_HELD);
  CHECK_EQ(coroipcc_response_release(connection), COROIPC_OK);
  REQUIRE(coroipcc_request_buffer(connection, kEcho, buffer, 0, 100, -1, &response) == COROIPC_OK);
  CHECK_EQ(response.bytes, 100u);
  CHECK_EQ(coroipcc_response_release(connection), COROIPC_OK);
  coroipc_buffer_release(buffer);
  CHECK(client.Echo());
}
