// The loop behind servers and groups: when its fd is readable, when it is safe to sleep, turns that
// are bounded and fair, many connections of which few are busy, wakes from other threads.
#include "loop.h"

#include "peers.h"
#include "server.h"

using namespace peers;
using namespace coroipc;

namespace {

bool Readable(int fd, int patience_ms = 0) {
  pollfd watched = {fd, POLLIN, 0};
  return poll(&watched, 1, patience_ms) == 1;
}

// A server without a thread and clients by hand that are connected to it.
struct Scene {
  explicit Scene(size_t clients, int wait = COROIPC_WAIT_ADAPTIVE) : peers(clients) {
    server.options.wait = wait;
    server.options.threads = 0;
    server.options.handshakes_per_uid = 64;
    server.options.request_ring_bytes = server.options.response_ring_bytes =
        server.options.dispatch_ring_bytes = 4096;
    server.Start(false);
    for (RawClient& peer : peers) {
      REQUIRE(peer.ConnectSocket(server.name));
      const coroipc_setup_request setup = MakeSetupRequest(1, Terms{});
      REQUIRE(SendWithFds(peer.socket, &setup, sizeof setup, {}));
      REQUIRE(Eventually([&] {
        Take();
        return rows[COROIPC_KIND_CONNECTED] == static_cast<int>(&peer - peers.data()) + 1;
      }));
      REQUIRE(peer.TakeReply() == COROIPC_OK);
    }
    rows.clear();
  }
  coroipc_status Take(bool look_at_fds = true) {
    const coroipc_status status = coroipcs_receive(server.server, batch.get(), look_at_fds ? 1 : 0);
    for (const Row& row : batch.Take()) {
      ++rows[row.entry.kind];
      ++of[row.entry.connection];
    }
    return status;
  }
  void Settle() {
    CHECK(Eventually(
        [&] { return Take() == COROIPC_OK && coroipcs_look(server.server, 0) == COROIPC_OK; }));
  }
  void Send(RawClient& peer, bool publish = true) {
    coroipc_record send = {};
    send.kind = COROIPC_RECORD_SEND;
    REQUIRE(peer.Put(send, "x", 1, publish) == COROIPC_OK);
  }
  Server server;
  std::vector<RawClient> peers;
  Batch batch;
  std::map<uint32_t, int> rows, of;
};

}  // namespace

TEST("an idle fd is not readable, one message makes it so, taking it makes it quiet again") {
  for (const int wait : {COROIPC_WAIT_ADAPTIVE, COROIPC_WAIT_SLEEP}) {
    Scene scene(3, wait);
    scene.Settle();
    CHECK(!Readable(coroipcs_fd(scene.server.server), 20));
    CHECK_EQ(coroipcs_wait(scene.server.server, 10), COROIPC_TIMED_OUT);
    for (int round = 0; round < 20; ++round) {
      scene.Send(scene.peers[static_cast<size_t>(round) % 3]);
      CHECK(Readable(coroipcs_fd(scene.server.server), kPatienceMs));
      scene.Settle();
      CHECK_EQ(scene.rows[COROIPC_KIND_SEND], round + 1);
      CHECK(!Readable(coroipcs_fd(scene.server.server)));
    }
  }
}

TEST("what was armed and then disarmed is looked at before the next sleep") {
  Scene scene(2);
  scene.Send(scene.peers[0]);
  scene.Settle();
  coroipcs_disarm(scene.server.server);
  // Whether or not it was active lately enough: it rings, or it is found.
  scene.Send(scene.peers[0]);
  scene.Send(scene.peers[1]);
  CHECK(Eventually([&] {
    (void)coroipcs_wait(scene.server.server, 1000);
    scene.Take();
    return scene.rows[COROIPC_KIND_SEND] == 3;
  }));
}

TEST("with more to do than one batch holds the fd stays readable until all is taken") {
  Scene scene(1);
  scene.Settle();
  for (int i = 0; i < 100; ++i) scene.Send(scene.peers[0]);
  Batch small(4);
  int got = 0;
  while (got < 100) {
    if (coroipcs_look(scene.server.server, 0) == COROIPC_AGAIN || got == 0)
      CHECK(Readable(coroipcs_fd(scene.server.server), kPatienceMs));
    (void)coroipcs_receive(scene.server.server, small.get(), 0);
    const std::vector<Row> rows = small.Take();
    if (rows.empty()) (void)coroipcs_wait(scene.server.server, 1000);
    got += static_cast<int>(rows.size());
  }
  CHECK_EQ(got, 100);
}

TEST("a turn is bounded and every ready connection has one") {
  Scene scene(5);
  scene.Settle();
  for (RawClient& peer : scene.peers) {
    for (int i = 0; i < 100; ++i) scene.Send(peer, false);
    peer.Publish();
  }
  scene.of.clear();
  CHECK(Readable(coroipcs_fd(scene.server.server), kPatienceMs));
  CHECK_EQ(scene.Take(), COROIPC_AGAIN);
  int busy = 0;
  for (const auto& [number, count] : scene.of) {
    busy += count > 0;
    CHECK(count <= 64);
  }
  // 64 rows a batch: nobody has it for himself.
  CHECK(busy >= 2);
  CHECK(Eventually([&] {
    scene.Take();
    return scene.rows[COROIPC_KIND_SEND] == 500;
  }));
}

TEST("idle connections are armed although others are never idle") {
  Scene scene(20);
  scene.Settle();
  // All were active, then one goes on for ever.
  for (RawClient& peer : scene.peers) scene.Send(peer);
  while (scene.rows[COROIPC_KIND_SEND] < 20) scene.Take();
  const auto armed = [&] {
    int count = 0;
    for (const RawClient& peer : scene.peers)
      count += LoadRelaxed(peer.control->ring[0].reader_sleep) != 0 ? 1 : 0;
    return count;
  };
  CHECK(Eventually([&] {
    scene.Send(scene.peers[0]);
    scene.Take();
    return armed() >= 19;
  }));
  // And one of them rings through all the work.
  scene.rows.clear();
  scene.of.clear();
  scene.Send(scene.peers[7]);
  CHECK(Eventually([&] {
    scene.Send(scene.peers[0]);
    scene.Take();
    int others = 0;
    for (const auto& [number, count] : scene.of) others += count > 0;
    return others >= 2;
  }));
}

TEST("whoever rings again and again keeps nobody's doorbell unread") {
  for (int round = 0; round < 10; ++round) {
    Scene scene(20, COROIPC_WAIT_SLEEP);
    scene.Settle();
    scene.of.clear();
    scene.Send(scene.peers[0]);
    const auto once = [&] {
      scene.Send(scene.peers[19]);
      scene.Take();
      // Nothing asks the fds here, but for the time that has passed.
      while (scene.Take(false) == COROIPC_AGAIN) continue;
      (void)coroipcs_look(scene.server.server, 0);
      return scene.of.size() == 2;
    };
    int turns = 1;
    while (!once() && turns < 20) ++turns;
    CHECK(turns <= 10);
  }
}

TEST("a look that never sleeps ends when somebody wakes the loop") {
  Server server;
  server.options.wait = COROIPC_WAIT_SPIN;
  server.Start(false);
  Client client;
  std::thread connecting([&] { CHECK_EQ(client.Connect(server.name), COROIPC_OK); });
  Batch batch;
  coroipcs_connection* connection = nullptr;
  CHECK(Eventually([&] {
    (void)coroipcs_receive(server.server, batch.get(), 1);
    for (const Row& row : batch.Take())
      if (row.entry.kind == COROIPC_KIND_CONNECTED)
        connection = coroipcs_connection_at(server.server, row.entry.connection);
    return connection != nullptr;
  }));
  connecting.join();
  for (int i = 0; i < 3; ++i) {
    (void)coroipcs_receive(server.server, batch.get(), 1);
    (void)batch.Take();
  }
  if (OneCpuShared(0)) SKIP("one CPU: nobody looks");
  coroipc_buffer* buffer = nullptr;
  REQUIRE(coroipcs_buffer_alloc(connection, 100, &buffer) == COROIPC_OK);
  std::atomic<bool> found{false};
  std::thread looker([&] {
    (void)coroipcs_look(server.server, COROIPC_LOOK_MAX);
    found = true;
  });
  SleepMs(20);
  coroipc_buffer_release(buffer);  // nothing but this happens
  CHECK(Eventually([&] { return found.load(); }, 5000));
  if (!found) coroipcs_disconnect(connection, COROIPC_DISCONNECTED);
  looker.join();
}

TEST("many threads send to many connections of one loop, all arrives and nothing races") {
  Server server;
  std::mutex mutex;
  std::map<uint32_t, coroipcs_connection*> open;
  server.handle = [&](coroipcs_connection* connection, const coroipcs_request* request) {
    {
      const std::lock_guard lock(mutex);
      open[coroipcs_connection_number(connection)] = connection;
    }
    coroipcs_response_send(connection, request->correlation, COROIPC_OK, 0, nullptr, 0);
  };
  server.Start();
  constexpr int kClients = 4, kThreads = 3, kEach = 100;
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < kClients; ++i) {
    clients.push_back(std::make_unique<Client>());
    REQUIRE(clients.back()->Connect(server.name) == COROIPC_OK);
    CHECK_EQ(clients.back()->Call(100, "", 0), COROIPC_OK);
  }
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kEach; ++i) {
        for (const auto& [number, connection] : open) {
          CHECK_EQ(coroipcs_dispatch_send(connection, 1, nullptr, 0), COROIPC_OK);
        }
      }
    });
  }
  for (auto& client : clients) {
    threads.emplace_back([&client] {
      for (int i = 0; i < kThreads * kEach; ++i) {
        coroipcc_dispatch dispatch;
        CHECK_EQ(coroipcc_dispatch_receive(client->connection, kPatienceMs, &dispatch), COROIPC_OK);
        CHECK_EQ(coroipcc_dispatch_release(client->connection), COROIPC_OK);
        if (i % 16 == 0) CHECK(client->Echo(64));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}
