// Counting of zero-copy buffers: who keeps one alive, when it goes home, and homes that are gone.
#include "buffer.h"

#include <atomic>
#include <thread>
#include <vector>

#include "fd.h"
#include "peers.h"

using namespace peers;
using namespace coroipc;

namespace {

// A buffer as a connection's table holds it: one reference, nobody uses it.
coroipc_buffer* Make(BufferHome* home, uint32_t index) {
  auto* const buffer = new coroipc_buffer;
  Fd fd;
  REQUIRE(Segment::Create(4096, false, &buffer->segment, &fd) == COROIPC_OK);
  home->Hold();
  buffer->home = home;
  buffer->index = index;
  buffer->bytes = 4096;
  return buffer;
}

}  // namespace

TEST("the last user's release is told to the home, once, by index") {
  auto* const home = new BufferHome(nullptr);
  for (const uint32_t index : {0u, 5u, 63u}) {
    coroipc_buffer* const buffer = Make(home, index);
    buffer->AddUser();
    coroipc_buffer_hold(buffer);
    coroipc_buffer_release(buffer);
    CHECK(!home->any_returned());
    coroipc_buffer_release(buffer);
    CHECK(home->any_returned());
    CHECK_EQ(home->TakeReturned(), uint64_t{1} << index);
    CHECK_EQ(home->TakeReturned(), 0u);
    // And again, since the table still has it.
    buffer->AddUser();
    coroipc_buffer_release(buffer);
    CHECK_EQ(home->TakeReturned(), uint64_t{1} << index);
    buffer->Unreference();
  }
  home->Close();
}

TEST("a held buffer outlives its table and its home's owner") {
  auto* const home = new BufferHome(nullptr);
  coroipc_buffer* const buffer = Make(home, 1);
  buffer->AddUser();
  buffer->Unreference();
  home->Close();
  memset(coroipc_buffer_data(buffer), 1, coroipc_buffer_bytes(buffer));
  CHECK_EQ(coroipc_buffer_index(buffer), 1u);
  coroipc_buffer_release(buffer);
  coroipc_buffer_release(nullptr);
}

TEST("threads may hold and release while the table lets go") {
  for (int round = 0; round < 50; ++round) {
    auto* const home = new BufferHome(nullptr);
    coroipc_buffer* const buffer = Make(home, 2);
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t) {
      buffer->AddUser();
      threads.emplace_back([buffer] {
        for (int i = 0; i < 100; ++i) {
          coroipc_buffer_hold(buffer);
          static_cast<volatile uint8_t*>(coroipc_buffer_data(buffer))[0];
          coroipc_buffer_release(buffer);
        }
        coroipc_buffer_release(buffer);
      });
    }
    buffer->Unreference();
    home->Close();
    for (std::thread& thread : threads) thread.join();
  }
}

TEST("buffers are released by another thread while their connection comes and goes") {
  Server server;
  server.options.segments = 8;
  server.Start();
  for (int round = 0; round < 10; ++round) {
    Client client;
    const int before = server.connected;
    REQUIRE(client.Connect(server.name) == COROIPC_OK);
    REQUIRE(Eventually([&] { return server.connected > before; }));
    std::vector<coroipc_buffer*> buffers;
    for (int i = 0; i < 4; ++i) {
      coroipc_buffer* buffer = nullptr;
      CHECK_EQ(coroipcs_buffer_alloc(server.last, 5000, &buffer), COROIPC_OK);
      buffers.push_back(buffer);
      CHECK_EQ(coroipcc_buffer_alloc(client.connection, 5000, -1, &buffer), COROIPC_OK);
      buffers.push_back(buffer);
    }
    std::thread releaser([&] {
      for (coroipc_buffer* buffer : buffers) {
        memset(coroipc_buffer_data(buffer), 1, 5000);
        coroipc_buffer_release(buffer);
      }
    });
    if (round % 2 == 0) CHECK(client.Echo());
    client.Close();
    releaser.join();
  }
}

TEST("a buffer given back by another thread wakes a server that waits for one") {
  // Without threads of its own the server must hear of it as well: release is for any thread.
  for (const int threads : {0, 1}) {
    Server server;
    server.options.threads = threads;
    server.options.segments = 1;
    server.Start(false);
    Client client;
    std::thread connecting([&] { CHECK_EQ(client.Connect(server.name), COROIPC_OK); });
    Batch batch;
    coroipcs_connection* connection = nullptr;
    CHECK(Eventually([&] {
      (void)coroipcs_receive(server.server, batch.get(), 1);
      for (const Row& row : batch.Take()) {
        if (row.entry.kind == COROIPC_KIND_CONNECTED)
          connection = coroipcs_connection_at(server.server, row.entry.connection);
      }
      return connection != nullptr;
    }));
    connecting.join();
    coroipc_buffer* buffer = nullptr;
    REQUIRE(coroipcs_buffer_alloc(connection, 5000, &buffer) == COROIPC_OK);
    const std::vector<uint8_t> large(400000, 'd');
    const iovec part = Part(large.data(), large.size());
    CHECK_EQ(coroipcs_dispatch_send(connection, 1, &part, 1), COROIPC_OK);  // waits for a segment
    CHECK(Eventually([&] {
      (void)coroipcs_receive(server.server, batch.get(), 1);
      return coroipcs_look(server.server, 0) == COROIPC_OK;
    }));
    std::thread releaser([&] {
      SleepMs(20);
      coroipc_buffer_release(buffer);
    });
    pollfd watched = {coroipcs_fd(server.server), POLLIN, 0};
    CHECK_EQ(poll(&watched, 1, kPatienceMs), 1);
    releaser.join();
    (void)coroipcs_receive(server.server, batch.get(), 1);
    coroipcc_dispatch dispatch;
    CHECK_EQ(coroipcc_dispatch_receive(client.connection, 2000, &dispatch), COROIPC_OK);
    CHECK_EQ(dispatch.bytes, 400000u);
    (void)coroipcc_dispatch_release(client.connection);
  }
}
