// The server half through the C API: answering, admission, the limits of every account, services,
// what happens to dispatches that find no room, priorities and rates, and the ways for a server to
// stop, to be polled and to go away. Clients run in the same process, on other threads.
#include "server.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "peers.h"

using namespace peers;
using namespace coroipc;

namespace {

// Turns of a server that has no thread of its own, until a condition holds.
template <typename Condition>
bool Drive(coroipcs_server* server, Condition condition, int patience_ms = kPatienceMs) {
  const uint64_t end = NowMs() + static_cast<uint64_t>(patience_ms);
  while (!condition()) {
    if (NowMs() > end) return false;
    const coroipc_status status = coroipcs_process(server, 1);
    if (status != COROIPC_OK && status != COROIPC_AGAIN) return false;
  }
  return true;
}

// The rows that come until one of `kind`, which is the last of them.
std::vector<Row> ReceiveUntil(coroipcs_server* server, uint32_t kind,
                              int patience_ms = kPatienceMs) {
  std::vector<Row> all;
  Batch batch;
  const uint64_t end = NowMs() + static_cast<uint64_t>(patience_ms);
  while (NowMs() < end) {
    const coroipc_status status = coroipcs_receive(server, batch.get(), 1);
    CHECK(status == COROIPC_OK || status == COROIPC_AGAIN);
    bool found = false;
    for (Row& row : batch.Take()) {
      found |= row.entry.kind == kind;
      all.push_back(std::move(row));
    }
    if (found) return all;
    if (status == COROIPC_OK) (void)coroipcs_wait(server, 10);
  }
  printf("# no row of kind %u\n", kind);
  REQUIRE(false);  // what follows looks at it
  return all;
}

bool Readable(int fd, int patience_ms = 0) {
  pollfd watched = {fd, POLLIN, 0};
  return poll(&watched, 1, patience_ms) == 1;
}

}  // namespace

// -- answering ------------------------------------------------------------------------------------

TEST("a request is answered with the payload, the status or nothing") {
  Server server;
  server.Start();
  Client client;
  REQUIRE(client.Connect(server.name) == COROIPC_OK);
  for (const size_t count : {size_t{0}, size_t{1}, size_t{8}, size_t{4095}, size_t{8191},
                             size_t{8192}, size_t{100000}}) {
    CHECK(client.Echo(count));
  }
  coroipcc_response response;
  CHECK_EQ(coroipcc_request(client.connection, kStatus, nullptr, 0, -1, nullptr, 0, &response),
           COROIPC_OK);
  CHECK_EQ(response.status, -7);
  CHECK_EQ(response.bytes, 0u);
}

TEST("an id without a handler, a handler that is not admitted: each has its code") {
  Server server;
  server.options.callbacks.handler_get = [](coroipcs_connection*, uint16_t, uint16_t id,
                                            void*) -> coroipcs_handler_fn {
    if (id == 10) return nullptr;
    return [](coroipcs_connection* connection, const coroipcs_request* request, void*) {
      coroipcs_response_send(connection, request->correlation, COROIPC_HANDLER_FAILED, 0, nullptr,
                             0);
    };
  };
  static std::atomic<int> released{0};
  server.options.callbacks.sending_allowed =
      [](coroipcs_connection*, const coroipcs_request* request, void* scratch, void*) {
        for (int i = 0; i < 512; ++i) CHECK_EQ(static_cast<uint8_t*>(scratch)[i], 0);
        memset(scratch, 0xff, 512);
        return request->id == 11 ? 0 : request->id == 12 ? -1 : 1;
      };
  server.options.callbacks.sending_allowed_release = [](coroipcs_connection*, void* scratch,
                                                        void*) {
    CHECK_EQ(static_cast<uint8_t*>(scratch)[511], 0xff);
    ++released;
  };
  server.Start();
  Client client;
  REQUIRE(client.Connect(server.name) == COROIPC_OK);
  CHECK_EQ(client.Call(10, "x", 1), COROIPC_NO_HANDLER);
  CHECK_EQ(client.Call(11, "x", 1), COROIPC_RETRY);
  CHECK_EQ(client.Call(12, "x", 1), COROIPC_REFUSED);
  CHECK_EQ(client.Call(13, "x", 1), COROIPC_HANDLER_FAILED);
  CHECK(Eventually([] { return released == 3; }));
  CHECK_EQ(server.Stats().invalid_requests, 2u);
}

TEST("the serializing lock is held around every handler, admission and hook, and given back") {
  static std::atomic<int> depth, locks, wrong;
  static std::atomic<int> connects, handlers, admissions, releases, ends;
  depth = locks = wrong = connects = handlers = admissions = releases = ends = 0;
  const auto inside = [](std::atomic<int>& what) {
    ++what;
    if (depth != 1) ++wrong;
  };
  static const auto note = inside;
  Server server;
  void* const context = server.options.callbacks.context;
  static void* expected;
  expected = context;
  server.options.callbacks.serialize_lock = [](void* given) {
    CHECK(given == expected);
    ++locks;
    if (++depth != 1) ++wrong;
  };
  server.options.callbacks.serialize_unlock = [](void* given) {
    CHECK(given == expected);
    if (--depth != 0) ++wrong;
  };
  server.options.callbacks.connected = [](coroipcs_connection*, void*) { note(connects); };
  server.options.callbacks.sending_allowed = [](coroipcs_connection*,
                                                const coroipcs_request* request, void*, void*) {
    note(admissions);
    return request->id == 101 ? 0 : 1;
  };
  server.options.callbacks.sending_allowed_release = [](coroipcs_connection*, void*, void*) {
    note(releases);
  };
  server.options.callbacks.disconnected = [](coroipcs_connection*, coroipc_status, void*) {
    note(ends);
    return ends < 3 ? 1 : 0;  // busy twice: asked again under the lock
  };
  server.handle = [](coroipcs_connection* connection, const coroipcs_request* request) {
    note(handlers);
    if (request->one_way == 0)
      coroipcs_response_send(connection, request->correlation, COROIPC_OK, 0, nullptr, 0);
  };
  server.Start();
  Client client;
  REQUIRE(client.Connect(server.name) == COROIPC_OK);
  for (int i = 0; i < 10; ++i) CHECK_EQ(client.Call(100, "x", 1), COROIPC_OK);
  CHECK_EQ(client.Call(101, "x", 1), COROIPC_RETRY);
  const iovec part = Part("x", 1);
  CHECK_EQ(coroipcc_send(client.connection, 100, &part, 1), COROIPC_OK);
  CHECK(Eventually([] { return handlers == 11; }));
  client.Close();
  CHECK(Eventually([] { return ends == 3; }));
  server.StopRunning();
  CHECK_EQ(connects, 1);
  CHECK_EQ(admissions, 12);
  CHECK_EQ(releases, 12);
  CHECK_EQ(wrong, 0);
  CHECK_EQ(depth, 0);
  CHECK_EQ(locks, 1 + 12 + 3);  // handler and admission of one request share it
}

TEST("an answer can be given once, later, from another thread, and only to what was asked") {
  std::thread later;
  Server server;
  server.handle = [&](coroipcs_connection* connection, const coroipcs_request* request) {
    const uint32_t correlation = request->correlation;
    CHECK_EQ(coroipcs_response_send(connection, correlation ^ 0x10000, COROIPC_OK, 0, nullptr, 0),
             COROIPC_INVALID_ARGUMENT);
    CHECK_EQ(coroipcs_response_send(connection, 0xffff, COROIPC_OK, 0, nullptr, 0),
             COROIPC_INVALID_ARGUMENT);
    CHECK_EQ(coroipcs_response_send(connection, correlation, COROIPC_STATUS_COUNT, 0, nullptr, 0),
             COROIPC_INVALID_ARGUMENT);
    std::vector<uint8_t> much(server.options.message_bytes + 1);
    const iovec part = Part(much.data(), much.size());
    CHECK_EQ(coroipcs_response_send(connection, correlation, COROIPC_OK, 0, &part, 1),
             COROIPC_TOO_LARGE);
    later = std::thread([=] {
      SleepMs(20);
      CHECK_EQ(coroipcs_response_send(connection, correlation, COROIPC_OK, 5, nullptr, 0),
               COROIPC_OK);
      CHECK_EQ(coroipcs_response_send(connection, correlation, COROIPC_OK, 6, nullptr, 0),
               COROIPC_INVALID_ARGUMENT);
    });
  };
  server.options.message_bytes = 65536;
  server.Start();
  Client client;
  REQUIRE(client.Connect(server.name) == COROIPC_OK);
  coroipcc_response response;
  CHECK_EQ(coroipcc_request(client.connection, 100, nullptr, 0, kPatienceMs, nullptr, 0, &response),
           COROIPC_OK);
  CHECK_EQ(response.status, 5);
  later.join();
}

TEST("messages up to the maximum pass in all three directions, and nothing above is sent") {
  std::atomic<int> refused{0};
  Server server;
  const uint32_t max = 300000;
  server.options.message_bytes = max;
  server.handle = [&](coroipcs_connection* connection, const coroipcs_request* request) {
    for (const uint32_t count : {131072u - 24, 131072u - 23, max - 1, max, max + 1}) {
      const std::vector<uint8_t> bytes(count, 'd');
      const iovec parts[2] = {Part(bytes.data(), 7), Part(bytes.data() + 7, count - 7)};
      const coroipc_status status = coroipcs_dispatch_send(connection, 8, parts, 2);
      CHECK_EQ(status, count > max ? COROIPC_TOO_LARGE : COROIPC_OK);
      if (status != COROIPC_OK) ++refused;
    }
    coroipcs_response_send(connection, request->correlation, COROIPC_OK, 0, nullptr, 0);
  };
  server.Start();
  Client client;
  REQUIRE(client.Connect(server.name) == COROIPC_OK);
  CHECK_EQ(coroipcc_message_bytes(client.connection), max);
  for (const uint32_t count :
       {65536u, 131072u - 25, 131072u - 24, 131072u - 23, 262144u, max - 1, max}) {
    CHECK(client.Echo(count));
    std::vector<uint8_t> got;
    CHECK_EQ(client.Call(kFill, &count, sizeof count, &got), COROIPC_OK);
    CHECK_EQ(got.size(), count);
  }
  const int handled = server.handled;
  const std::vector<uint8_t> much(max + 1);
  CHECK_EQ(client.Call(kEcho, much.data(), much.size()), COROIPC_TOO_LARGE);
  const iovec part = Part(much.data(), much.size());
  CHECK_EQ(coroipcc_send(client.connection, kEcho, &part, 1), COROIPC_TOO_LARGE);
  CHECK_EQ(server.handled, handled);
  CHECK_EQ(client.Call(100, "", 0), COROIPC_OK);
  CHECK_EQ(refused, 1);
  for (const uint32_t count : {131072u - 24, 131072u - 23, max - 1, max}) {
    coroipcc_dispatch dispatch;
    REQUIRE(coroipcc_dispatch_receive(client.connection, kPatienceMs, &dispatch) == COROIPC_OK);
    CHECK_EQ(dispatch.bytes, count);
    CHECK_EQ(static_cast<const uint8_t*>(dispatch.data)[count - 1], 'd');
    CHECK_EQ(coroipcc_dispatch_release(client.connection), COROIPC_OK);
  }
}

TEST("a server with one segment still passes large messages both ways") {
  for (const uint32_t segments : {1u, 2u, 3u}) {
    Server server;
    server.options.segments = segments;
    server.handle = [](coroipcs_connection* connection, const coroipcs_request* request) {
      const std::vector<uint8_t> bytes(400000, 'd');
      const iovec part = Part(bytes.data(), bytes.size());
      CHECK_EQ(coroipcs_dispatch_send(connection, 8, &part, 1), COROIPC_OK);
      coroipcs_response_send(connection, request->correlation, COROIPC_OK, 0, nullptr, 0);
    };
    server.Start();
    Client client;
    REQUIRE(client.Connect(server.name) == COROIPC_OK);
    for (int round = 0; round < 3; ++round) {
      CHECK(client.Echo(500000));
      const uint32_t count = 500000;
      CHECK_EQ(client.Call(kFill, &count, sizeof count), COROIPC_OK);
      CHECK_EQ(client.Call(100, "", 0), COROIPC_OK);
      coroipcc_dispatch dispatch;
      CHECK_EQ(coroipcc_dispatch_receive(client.connection, 2000, &dispatch), COROIPC_OK);
      (void)coroipcc_dispatch_release(client.connection);
    }
  }
}

// -- dispatches that find no room -----------------------------------------------------------------

namespace {

// A server whose client reads nothing until told; dispatches are numbered.
struct Backlogged {
  explicit Backlogged(int policy, uint32_t backlog_bytes = 8192) {
    server.service.policy = policy;
    server.service.backlog_bytes = backlog_bytes;
    server.options.dispatch_ring_bytes = 4096;
    server.Start();
    REQUIRE(client.Connect(server.name) == COROIPC_OK);
    REQUIRE(Eventually([&] { return server.last != nullptr; }));
  }
  coroipc_status Dispatch(uint32_t number) {
    uint8_t bytes[200] = {};
    memcpy(bytes, &number, sizeof number);
    const iovec part = Part(bytes, sizeof bytes);
    return coroipcs_dispatch_send(server.last, 9, &part, 1);
  }
  // The numbers that arrive, until none comes for a moment.
  std::vector<uint32_t> Read() {
    std::vector<uint32_t> numbers;
    coroipcc_dispatch dispatch;
    while (coroipcc_dispatch_receive(client.connection, 200, &dispatch) == COROIPC_OK) {
      uint32_t number = 0;
      memcpy(&number, dispatch.data, sizeof number);
      numbers.push_back(number);
      CHECK_EQ(coroipcc_dispatch_release(client.connection), COROIPC_OK);
    }
    return numbers;
  }
  Server server;
  Client client;
};

}  // namespace

TEST("policy 'error': FULL beyond the backlog, then DRAIN, and the order is kept") {
  Backlogged scene(COROIPCS_POLICY_ERROR);
  uint32_t sent = 0;
  CHECK_EQ(coroipcc_flow_control(scene.client.connection), 0);
  while (scene.Dispatch(sent) == COROIPC_OK) {
    if (++sent == 1000) break;
  }
  CHECK(sent > 20 && sent < 100);
  CHECK_EQ(coroipcc_flow_control(scene.client.connection), 1);
  CHECK_EQ(scene.Dispatch(9999), COROIPC_FULL);
  CHECK_EQ(scene.server.drains, 0);
  coroipc_stats stats;
  coroipcs_connection_stats(scene.server.last, &stats, 0);
  CHECK_EQ(stats.overload, 2u);
  CHECK_EQ(stats.flow_control, 1u);
  CHECK(stats.backlog_messages > 0 && stats.backlog_bytes > 0);
  const std::vector<uint32_t> got = scene.Read();
  REQUIRE(got.size() == sent);
  for (uint32_t i = 0; i < sent; ++i) CHECK_EQ(got[i], i);
  CHECK(Eventually([&] { return scene.server.drains == 1; }));
  CHECK_EQ(coroipcc_flow_control(scene.client.connection), 0);
  coroipcs_connection_stats(scene.server.last, &stats, 0);
  CHECK_EQ(stats.backlog_messages, 0u);
  CHECK_EQ(stats.backlog_bytes, 0u);
  CHECK_EQ(stats.flow_control_count, 1u);
}

TEST("policy 'drop oldest': the newest survive, in order, and the rest is counted") {
  Backlogged scene(COROIPCS_POLICY_DROP_OLDEST);
  for (uint32_t i = 0; i < 300; ++i) CHECK_EQ(scene.Dispatch(i), COROIPC_OK);
  const std::vector<uint32_t> got = scene.Read();
  coroipc_stats stats;
  coroipcs_connection_stats(scene.server.last, &stats, 0);
  CHECK_EQ(got.size() + stats.dropped, 300u);
  CHECK(stats.dropped > 100);
  for (size_t i = 1; i < got.size(); ++i) CHECK(got[i] > got[i - 1]);
  REQUIRE(!got.empty());
  CHECK_EQ(got.front(), 0u);
  CHECK_EQ(got.back(), 299u);
}

TEST("policy 'drop newest': the oldest survive, in order, and the rest is counted") {
  Backlogged scene(COROIPCS_POLICY_DROP_NEWEST);
  for (uint32_t i = 0; i < 300; ++i) CHECK_EQ(scene.Dispatch(i), COROIPC_OK);
  const std::vector<uint32_t> got = scene.Read();
  coroipc_stats stats;
  coroipcs_connection_stats(scene.server.last, &stats, 0);
  CHECK_EQ(got.size() + stats.dropped, 300u);
  for (uint32_t i = 0; i < got.size(); ++i) CHECK_EQ(got[i], i);
}

TEST("policy 'disconnect': the connection ends, both sides hear why, also from another thread") {
  Backlogged scene(COROIPCS_POLICY_DISCONNECT);
  coroipc_status status = COROIPC_OK;
  for (uint32_t i = 0; i < 1000 && status == COROIPC_OK; ++i) status = scene.Dispatch(i);
  CHECK_EQ(status, COROIPC_BACKLOG_OVERFLOW);
  // This thread found it; the server's thread slept and must hear of it all the same.
  CHECK(scene.server.EndedWith(COROIPC_BACKLOG_OVERFLOW));
  const std::vector<uint32_t> got = scene.Read();
  CHECK(got.size() > 10);
  for (uint32_t i = 0; i < got.size(); ++i) CHECK_EQ(got[i], i);
  CHECK_EQ(coroipcc_state(scene.client.connection), COROIPC_BACKLOG_OVERFLOW);
}

TEST("the policy of a single connection can be changed while it is open") {
  Backlogged scene(COROIPCS_POLICY_ERROR);
  uint32_t sent = 0;
  while (scene.Dispatch(sent) == COROIPC_OK && sent < 1000) ++sent;
  CHECK_EQ(scene.Dispatch(9999), COROIPC_FULL);
  CHECK_EQ(coroipcs_connection_policy(scene.server.last, -1), COROIPC_INVALID_ARGUMENT);
  CHECK_EQ(coroipcs_connection_policy(scene.server.last, COROIPCS_POLICY_DISCONNECT + 1),
           COROIPC_INVALID_ARGUMENT);
  CHECK_EQ(scene.Dispatch(9999), COROIPC_FULL);  // as before
  CHECK_EQ(coroipcs_connection_policy(scene.server.last, COROIPCS_POLICY_DROP_NEWEST), COROIPC_OK);
  CHECK_EQ(scene.Dispatch(9999), COROIPC_OK);
  CHECK_EQ(coroipcs_connection_policy(scene.server.last, COROIPCS_POLICY_DROP_OLDEST), COROIPC_OK);
  CHECK_EQ(scene.Dispatch(7777), COROIPC_OK);
  coroipc_stats stats;
  coroipcs_connection_stats(scene.server.last, &stats, 0);
  CHECK_EQ(stats.dropped, 2u);
  const std::vector<uint32_t> got = scene.Read();
  REQUIRE(got.size() == sent);  // one came, one went
  CHECK_EQ(got.front(), 0u);
  CHECK_EQ(got.back(), 7777u);
}

TEST("a batch of dispatches keeps what it promised, then says FULL") {
  Backlogged scene(COROIPCS_POLICY_ERROR, 4096);
  std::vector<coroipc_entry> rows(100);
  std::vector<uint8_t> arena(100 * 200);
  for (uint32_t i = 0; i < 100; ++i) {
    rows[i] = {};
    rows[i].connection = coroipcs_connection_number(scene.server.last);
    rows[i].kind = COROIPC_KIND_DISPATCH;
    rows[i].id = 9;
    rows[i].offset = i * 200;
    rows[i].bytes = 200;
    memcpy(arena.data() + i * 200, &i, sizeof i);
  }
  coroipcs_send_batch(scene.server.server, rows.data(), 100, arena.data());
  CHECK_EQ(rows[0].argument, static_cast<uint32_t>(COROIPC_OK));
  CHECK_EQ(rows[99].argument, static_cast<uint32_t>(COROIPC_FULL));
  const std::vector<uint32_t> got = scene.Read();
  CHECK_EQ(got.size(), 100u);
  for (uint32_t i = 0; i < got.size(); ++i) CHECK_EQ(got[i], i);
}

TEST("what cannot be an answer or a dispatch is refused, and the request can still be answered") {
  Server server;
  uint32_t asked = 0;
  std::atomic<bool> came{false};
  server.handle = [&](coroipcs_connection* connection, const coroipcs_request* request) {
    asked = request->correlation;
    const std::vector<uint8_t> byte(1);
    const iovec large = Part(byte.data(), size_t{COROIPC_MESSAGE_BYTES_MAX} + 1);
    const auto answer = [&](coroipc_status code, uint32_t count) {
      return coroipcs_response_send(connection, asked, code, 0, &large, count);
    };
    CHECK_EQ(answer(COROIPC_OK, 1), COROIPC_TOO_LARGE);
    CHECK_EQ(answer(static_cast<coroipc_status>(-1), 0), COROIPC_INVALID_ARGUMENT);
    CHECK_EQ(answer(COROIPC_STATUS_COUNT, 0), COROIPC_INVALID_ARGUMENT);
    CHECK_EQ(coroipcs_response_send(connection, asked + 1, COROIPC_OK, 0, nullptr, 0),
             COROIPC_INVALID_ARGUMENT);
    CHECK_EQ(coroipcs_response_send_buffer(connection, asked, 0, nullptr, 0, 1),
             COROIPC_INVALID_ARGUMENT);
    CHECK_EQ(coroipcs_dispatch_send(connection, 9, &large, 1), COROIPC_TOO_LARGE);
    CHECK_EQ(coroipcs_dispatch_send_buffer(connection, 9, nullptr, 0, 1), COROIPC_INVALID_ARGUMENT);
    coroipc_buffer* buffer = nullptr;
    CHECK_EQ(coroipcs_buffer_get(connection, 0, &buffer), COROIPC_INVALID_ARGUMENT);
    REQUIRE(coroipcs_buffer_alloc(connection, 8, &buffer) == COROIPC_OK);
    // A segment may be longer than what was asked for, but not so much.
    CHECK_EQ(coroipcs_response_send_buffer(connection, asked, 0, buffer, 1u << 30, 8),
             COROIPC_INVALID_ARGUMENT);
    CHECK_EQ(coroipcs_dispatch_send_buffer(connection, 9, buffer, 1u << 30, 8),
             COROIPC_INVALID_ARGUMENT);
    coroipc_buffer_release(buffer);
    CHECK_EQ(answer(COROIPC_OK, 0), COROIPC_OK);
    CHECK_EQ(answer(COROIPC_OK, 0), COROIPC_INVALID_ARGUMENT);
    came = true;
  };
  server.Start();
  Client client;
  REQUIRE(client.Connect(server.name) == COROIPC_OK);
  CHECK_EQ(client.Call(100, "", 0), COROIPC_OK);
  CHECK(Eventually([&] { return came.load(); }));  // the answer may be here before its handler ends
  CHECK(client.Echo());
}

TEST("a batch names more connections than are kept in mind at once, and some that are gone") {
  constexpr uint32_t kMany = 70;
  Server server;
  server.options.request_ring_bytes = server.options.response_ring_bytes = 4096;
  server.options.dispatch_ring_bytes = 4096;
  server.Start();
  std::vector<Client> clients(kMany);
  std::vector<coroipc_entry> rows(kMany + 1);
  for (uint32_t i = 0; i < kMany; ++i) {
    server.last = nullptr;
    REQUIRE(clients[i].Connect(server.name) == COROIPC_OK);
    REQUIRE(Eventually([&] { return server.last != nullptr; }));
    rows[i].connection = coroipcs_connection_number(server.last);
    rows[i].kind = COROIPC_KIND_DISPATCH;
    rows[i].id = 9;
    rows[i].offset = i * sizeof i;
    rows[i].bytes = sizeof i;
  }
  rows[kMany].connection = rows[kMany - 1].connection + 1000;
  rows[kMany].kind = COROIPC_KIND_DISPATCH;
  std::vector<uint32_t> numbers(kMany);
  for (uint32_t i = 0; i < kMany; ++i) numbers[i] = i;
  coroipcs_send_batch(server.server, rows.data(), kMany + 1,
                      reinterpret_cast<const uint8_t*>(numbers.data()));
  for (uint32_t i = 0; i < kMany; ++i) {
    CHECK_EQ(rows[i].argument, static_cast<uint32_t>(COROIPC_OK));
    coroipcc_dispatch dispatch;
    REQUIRE(coroipcc_dispatch_receive(clients[i].connection, kPatienceMs, &dispatch) == COROIPC_OK);
    uint32_t number = 0;
    REQUIRE(dispatch.bytes == sizeof number);
    memcpy(&number, dispatch.data, sizeof number);
    CHECK_EQ(number, i);
    coroipcc_dispatch_release(clients[i].connection);
  }
  CHECK_EQ(rows[kMany].argument, static_cast<uint32_t>(COROIPC_DISCONNECTED));
}

// -- unsent answers -------------------------------------------------------------------------------

TEST("at the bound of unsent answers reading stops, and goes on when there is room") {
  Server server;
  server.options.unsent_bytes = 65536;
  server.options.response_ring_bytes = 4096;
  server.options.requests_in_flight = 64;
  server.Start();
  Client client;
  coroipcc_group_options group_options;
  coroipcc_group_options_init(&group_options);
  coroipcc_group* group = nullptr;
  REQUIRE(coroipcc_group_create(&group_options, &group) == COROIPC_OK);
  REQUIRE(client.Connect(server.name, group) == COROIPC_OK);
  const uint32_t count = 2000;
  const iovec part = Part(&count, sizeof count);
  std::map<uint32_t, int> wanted;
  for (int i = 0; i < 64; ++i) {
    uint32_t correlation = 0;
    REQUIRE(coroipcc_request_send(client.connection, kFill, &part, 1, 0, &correlation) ==
            COROIPC_OK);
    ++wanted[correlation];
  }
  uint32_t more = 0;
  CHECK_EQ(coroipcc_request_send(client.connection, kFill, &part, 1, 0, &more), COROIPC_LIMIT);
  // The ring holds two, the bound about 33: the rest is not even read.
  CHECK(Eventually([&] { return server.Stats().unsent_responses >= 30; }));
  SleepMs(50);
  CHECK(server.handled < 60);
  Batch batch;
  CHECK(Eventually([&] {
    (void)coroipcc_receive(group, batch.get(), 1);
    for (const Row& row : batch.Take()) {
      if (row.entry.kind != COROIPC_KIND_RESPONSE) continue;
      CHECK_EQ(row.payload.size(), 2000u);
      CHECK_EQ(wanted[row.entry.correlation]--, 1);
      wanted.erase(row.entry.correlation);
    }
    (void)coroipcc_look(group, 0);
    return wanted.empty();
  }));
  CHECK_EQ(server.handled, 64);
  CHECK_EQ(server.Stats().unsent_responses, 0u);
  coroipcc_group_destroy(group);
  client.connection = nullptr;
}

// -- zero copy ------------------------------------------------------------------------------------

TEST("a buffer that the server fills arrives without a copy, as answer and as dispatch") {
  Server server;
  server.handle = [](coroipcs_connection* connection, const coroipcs_request* request) {
    coroipc_buffer* buffer = nullptr;
    CHECK_EQ(coroipcs_buffer_alloc(connection, 0, &buffer), COROIPC_INVALID_ARGUMENT);
    CHECK_EQ(coroipcs_buffer_alloc(connection, 1u << 30, &buffer), COROIPC_TOO_LARGE);
    for (int i = 0; i < 2; ++i) {
      REQUIRE(coroipcs_buffer_alloc(connection, 1000, &buffer) == COROIPC_OK);
      CHECK_EQ(coroipc_buffer_bytes(buffer), 1000u);
      memset(coroipc_buffer_data(buffer), 'z', 1000);
      CHECK_EQ(coroipcs_dispatch_send_buffer(connection, 3, buffer, 500000, 500000),
               COROIPC_INVALID_ARGUMENT);
      if (i == 0) {
        CHECK_EQ(coroipcs_dispatch_send_buffer(connection, 3, buffer, 10, 900), COROIPC_OK);
        CHECK_EQ(coroipcs_dispatch_send_buffer(connection, 3, buffer, 10, 900),
                 COROIPC_INVALID_ARGUMENT);  // it is the client's now
      } else {
        CHECK_EQ(coroipcs_response_send_buffer(connection, request->correlation, 4, buffer, 0, 3),
                 COROIPC_OK);
      }
      coroipc_buffer_release(buffer);
    }
  };
  server.Start();
  Client client;
  client.options.trust_server = 1;
  REQUIRE(client.Connect(server.name) == COROIPC_OK);
  for (int round = 0; round < 40; ++round) {  // more than there can be segments
    coroipcc_response response;
    REQUIRE(coroipcc_request_in_place(client.connection, 100, nullptr, 0, kPatienceMs, &response) ==
            COROIPC_OK);
    CHECK_EQ(response.bytes, 3u);
    CHECK_EQ(response.in_segment, 1);
    CHECK(memcmp(response.data, "zzz", 3) == 0);
    CHECK_EQ(coroipcc_response_release(client.connection), COROIPC_OK);
    coroipcc_dispatch dispatch;
    REQUIRE(coroipcc_dispatch_receive(client.connection, kPatienceMs, &dispatch) == COROIPC_OK);
    CHECK_EQ(dispatch.bytes, 900u);
    CHECK_EQ(static_cast<const char*>(dispatch.data)[899], 'z');
    CHECK_EQ(coroipcc_dispatch_release(client.connection), COROIPC_OK);
  }
  CHECK(server.Stats().segments <= 16);
}

TEST("the buffer behind a received row can be had, and outlives the answer and the connection") {
  Server server;
  server.options.authorize_events = 1;
  server.Start(false);
  Client client;
  client.options.trust_server = 1;
  std::thread connecting([&] { CHECK_EQ(client.Connect(server.name), COROIPC_OK); });
  const uint32_t number =
      ReceiveUntil(server.server, COROIPC_KIND_AUTHORIZE).back().entry.connection;
  coroipcs_connection* const connection = coroipcs_connection_at(server.server, number);
  REQUIRE(connection != nullptr);
  CHECK_EQ(coroipcs_authorize(connection, COROIPC_OK, 1), COROIPC_OK);
  connecting.join();
  coroipc_buffer* held = nullptr;
  CHECK_EQ(coroipcs_buffer_get(connection, 0, &held), COROIPC_INVALID_ARGUMENT);
  CHECK_EQ(coroipcs_buffer_get(connection, 0xffffffff, &held), COROIPC_INVALID_ARGUMENT);
  std::thread asking([&] {
    coroipc_buffer* buffer = nullptr;
    REQUIRE(coroipcc_buffer_alloc(client.connection, 5000, kPatienceMs, &buffer) == COROIPC_OK);
    memset(coroipc_buffer_data(buffer), 'g', 5000);
    coroipcc_response response;
    CHECK_EQ(
        coroipcc_request_buffer(client.connection, 100, buffer, 1000, 3000, kPatienceMs, &response),
        COROIPC_OK);
    CHECK_EQ(response.status, 6);
    CHECK_EQ(coroipcc_response_release(client.connection), COROIPC_OK);
    coroipc_buffer_release(buffer);
  });
  const coroipc_entry row = ReceiveUntil(server.server, COROIPC_KIND_REQUEST).back().entry;
  CHECK_EQ(row.flags, COROIPC_IN_SEGMENT);
  CHECK_EQ(row.bytes, 3000u);
  REQUIRE(coroipcs_buffer_get(connection, row.segment, &held) == COROIPC_OK);
  CHECK_EQ(coroipc_buffer_index(held), row.segment);
  const auto* const data = static_cast<uint8_t*>(coroipc_buffer_data(held)) + row.offset;
  CHECK(data[0] == 'g' && data[2999] == 'g');
  CHECK_EQ(coroipcs_response_send(connection, row.correlation, COROIPC_OK, 6, nullptr, 0),
           COROIPC_OK);
  asking.join();
  client.Close();
  (void)ReceiveUntil(server.server, COROIPC_KIND_DISCONNECTED);
  coroipcs_connection_release(connection);
  CHECK(data[0] == 'g' && data[2999] == 'g');
  coroipc_buffer_release(held);
}

TEST("a buffer outlives its connection and its server as long as it is held") {
  Server server;
  server.Start();
  Client client;
  REQUIRE(client.Connect(server.name) == COROIPC_OK);
  REQUIRE(Eventually([&] { return server.last != nullptr; }));
  coroipc_buffer* buffer = nullptr;
  REQUIRE(coroipcs_buffer_alloc(server.last, 5000, &buffer) == COROIPC_OK);
  coroipc_buffer_hold(buffer);
  memset(coroipc_buffer_data(buffer), 1, 5000);
  client.Close();
  CHECK(server.EndedWith(COROIPC_DISCONNECTED));
  server.Stop();
  memset(coroipc_buffer_data(buffer), 2, 5000);
  coroipc_buffer_release(buffer);
  memset(coroipc_buffer_data(buffer), 3, 5000);
  coroipc_buffer_release(buffer);
}

TEST("all segments out says FULL, and a released one can be had again") {
  Server server;
  server.options.segments = 2;
  server.Start();
  Client client;
  REQUIRE(client.Connect(server.name) == COROIPC_OK);
  REQUIRE(Eventually([&] { return server.last != nullptr; }));
  coroipc_buffer *one = nullptr, *two = nullptr, *three = nullptr;
  REQUIRE(coroipcs_buffer_alloc(server.last, 5000, &one) == COROIPC_OK);
  REQUIRE(coroipcs_buffer_alloc(server.last, 5000, &two) == COROIPC_OK);
  CHECK_EQ(coroipcs_buffer_alloc(server.last, 5000, &three), COROIPC_FULL);
  CHECK_EQ(server.drains, 0);
  coroipc_buffer_release(one);
  CHECK(Eventually([&] { return server.drains == 1; }));
  // A larger one takes the place of the small one that is free.
  CHECK_EQ(coroipcs_buffer_alloc(server.last, 500000, &three), COROIPC_OK);
  coroipc_buffer_release(two);
  coroipc_buffer_release(three);
}

TEST("free small segments give way to a large one when the limit of bytes is reached") {
  Server server;
  server.options.segment_bytes = (256u << 10) + (256u << 10) + (512u << 10) + 4096 + (1u << 20);
  server.Start();
  Client client;
  REQUIRE(client.Connect(server.name) == COROIPC_OK);
  REQUIRE(Eventually([&] { return server.last != nullptr; }));
  coroipc_buffer* small[4] = {};
  for (coroipc_buffer*& one : small)
    REQUIRE(coroipcs_buffer_alloc(server.last, 65536, &one) == COROIPC_OK);
  coroipc_buffer* large = nullptr;
  CHECK_EQ(coroipcs_buffer_alloc(server.last, 1u << 20, &large), COROIPC_FULL);
  for (coroipc_buffer* one : small) coroipc_buffer_release(one);
  CHECK_EQ(coroipcs_buffer_alloc(server.last, 1u << 20, &large), COROIPC_OK);
  coroipc_buffer_release(large);
}

// -- who is let in --------------------------------------------------------------------------------

TEST("each limit of connections refuses with LIMIT, and lets in again what has gone") {
  for (const bool per_uid : {false, true}) {
    Server server;
    (per_uid ? server.options.connections_per_uid : server.options.connections) = 2;
    server.Start();
    Client one, two, three;
    CHECK_EQ(one.Connect(server.name), COROIPC_OK);
    CHECK_EQ(two.Connect(server.name), COROIPC_OK);
    CHECK_EQ(three.Connect(server.name), COROIPC_LIMIT);
    CHECK_EQ(server.Stats().connections_refused, 1u);
    one.Close();
    CHECK(Eventually([&] { return three.Connect(server.name) == COROIPC_OK; }));
    CHECK(two.Echo() && three.Echo());
  }
}

TEST("peers that knocked together do not get past the limit of connections") {
  Server server;
  server.options.connections = 2;
  server.Start(false);
  RawClient peers[8];
  const coroipc_setup_request setup = MakeSetupRequest(1, Terms{});
  for (RawClient& peer : peers) REQUIRE(peer.ConnectSocket(server.name));
  CHECK(Drive(server.server, [&] { return server.Stats().handshakes_pending == 8; }));
  for (RawClient& peer : peers) REQUIRE(SendWithFds(peer.socket, &setup, sizeof setup, {}));
  CHECK(Drive(server.server, [&] { return server.Stats().handshakes_pending == 0; }));
  CHECK_EQ(server.Stats().connections, 2u);
  int refused = 0;
  for (RawClient& peer : peers) refused += peer.TakeReply() == COROIPC_LIMIT;
  CHECK_EQ(refused, 6);
}

TEST("rings and messages beyond a uid's bytes are refused") {
  Server server;
  server.options.bytes_per_uid = (1u << 20) + 3 * 4096;
  server.Start();
  Client one, two;
  CHECK_EQ(one.Connect(server.name), COROIPC_OK);
  CHECK_EQ(two.Connect(server.name), COROIPC_LIMIT);
  one.Close();
  CHECK(Eventually([&] { return two.Connect(server.name) == COROIPC_OK; }));
}

// What an account holds cannot be asked: it shows in how many fit beside it.
TEST("what a uid is charged for is given back, however its connections end") {
  Server server;
  server.options.request_ring_bytes = server.options.response_ring_bytes = 4096;
  server.options.dispatch_ring_bytes = 4096;
  server.options.bytes_per_uid = 32 * 4 * 4096;
  server.Start();
  const auto empty = [&] {
    const coroipc_stats stats = server.Stats();
    return stats.connections == 0 && stats.handshakes_pending == 0;
  };
  const auto fit = [&] {
    CHECK(Eventually(empty));
    std::vector<std::unique_ptr<Client>> clients;
    coroipc_status status = COROIPC_OK;
    while (status == COROIPC_OK && clients.size() < 64) {
      clients.push_back(std::make_unique<Client>());
      status = clients.back()->Connect(server.name);
    }
    CHECK_EQ(status, COROIPC_LIMIT);
    return clients.size() - 1;
  };
  CHECK_EQ(fit(), 32u);
  const std::vector<uint8_t> large(60000);
  const iovec part = Part(large.data(), large.size());
  const uint32_t many = 500;
  const iovec count = Part(&many, sizeof many);
  uint32_t correlation = 0;
  using End = std::function<void(Client&)>;
  const std::pair<const char*, End> ends[] = {
      {"at rest", [](Client& client) { CHECK(client.Echo()); }},
      {"with a segment", [](Client& client) { CHECK(client.Echo(60000)); }},
      {"with dispatches that nobody reads",
       [&](Client& client) {
         CHECK_EQ(coroipcc_send(client.connection, kDispatches, &count, 1), COROIPC_OK);
         CHECK(client.Echo());
       }},
      {"with large messages on their way",
       [&](Client& client) {
         for (int i = 0; i < 3; ++i)
           CHECK_EQ(coroipcc_send(client.connection, kSilent, &part, 1), COROIPC_OK);
       }},
      {"with a large request that is not answered",
       [&](Client& client) {
         CHECK_EQ(coroipcc_request_send(client.connection, kSilent, &part, 1, 0, &correlation),
                  COROIPC_OK);
       }},
      {"with an answer that is read in place",
       [&](Client& client) {
         coroipcc_response response;
         CHECK_EQ(coroipcc_request_in_place(client.connection, kEcho, &part, 1, -1, &response),
                  COROIPC_OK);
         coroipcc_connection* const connection = client.connection;
         client.Close();
         CHECK_EQ(coroipcc_response_release(connection), COROIPC_OK);
       }},
      {"thrown out",
       [&](Client& client) {
         CHECK(client.Echo());  // its own `connected` has been called
         server.last = nullptr;
         Client other;
         CHECK_EQ(other.Connect(server.name), COROIPC_OK);
         REQUIRE(Eventually([&] { return server.last != nullptr; }));
         CHECK_EQ(coroipcs_disconnect(server.last, COROIPC_DENIED), COROIPC_OK);
         CHECK(client.Echo());
       }},
      {"of a service that is not there",
       [&](Client&) {
         Client other;
         other.options.service = 99;
         CHECK_EQ(other.Connect(server.name), COROIPC_NO_SERVICE);
       }},
      {"after a lie",
       [&](Client&) {
         RawClient liar;
         REQUIRE(liar.Connect(server.name) == COROIPC_OK);
         coroipc::StoreSeqCst(liar.control->ring[0].write_position, 0x12345678u);
         liar.Bell();
         CHECK(HungUp(liar.socket, kPatienceMs));
       }},
  };
  for (const auto& [what, end] : ends) {
    CHECK(Eventually(empty));
    for (int round = 0; round < 8; ++round) {
      Client client;
      REQUIRE(client.Connect(server.name) == COROIPC_OK);
      end(client);
    }
    const size_t fits = fit();
    if (fits != 32) printf("# connections that ended %s\n", what);
    CHECK_EQ(fits, 32u);
  }
}

TEST("with 'prefault' all pages of a connection are there before its first message") {
  for (const int prefault : {0, 1}) {
    Server server;
    server.options.prefault = prefault;
    server.Start();
    RawClient peer;
    REQUIRE(peer.ConnectSocket(server.name));
    const coroipc_setup_request setup = MakeSetupRequest(1, Terms{});
    REQUIRE(SendWithFds(peer.socket, &setup, sizeof setup, {}));
    int fd = -1;
    REQUIRE(ReceiveWithFd(peer.socket, &peer.reply, sizeof peer.reply, &fd) == sizeof peer.reply);
    // Of the memory itself, since a sanitizer makes mlock(2) do nothing.
    struct stat file;
    REQUIRE(fstat(fd, &file) == 0);
    const auto allocated = static_cast<uint64_t>(file.st_blocks) * 512;
    if (prefault != 0) {
      CHECK_EQ(allocated, peer.reply.segment_bytes);
    } else {
      CHECK(allocated < peer.reply.segment_bytes / 2);
    }
    close(fd);
  }
}

TEST("who only knocks is timed out with a code") {
  Server server;
  server.options.handshake_timeout_ms = 50;
  server.Start();
  RawClient peer;
  REQUIRE(peer.ConnectSocket(server.name));
  CHECK_EQ(peer.TakeReply(), COROIPC_TIMED_OUT);
  CHECK(peer.HungUp());
  CHECK_EQ(server.Stats().handshakes_pending, 0u);
}

TEST("when the places for handshakes are taken the oldest one goes") {
  Server server;
  server.options.handshakes = 4;
  server.Start();
  RawClient knockers[6];
  for (RawClient& knocker : knockers) {
    REQUIRE(knocker.ConnectSocket(server.name));
    SleepMs(5);
  }
  CHECK_EQ(knockers[0].TakeReply(), COROIPC_LIMIT);
  CHECK_EQ(knockers[1].TakeReply(), COROIPC_LIMIT);
  CHECK(Eventually([&] { return server.Stats().handshakes_pending == 4; }));
  Client client;
  CHECK_EQ(client.Connect(server.name), COROIPC_OK);
  CHECK_EQ(knockers[2].TakeReply(), COROIPC_LIMIT);
}

TEST("one uid has its share of handshakes") {
  Server server;
  server.options.handshakes_per_uid = 2;
  server.Start();
  RawClient knockers[3];
  for (RawClient& knocker : knockers) REQUIRE(knocker.ConnectSocket(server.name));
  CHECK_EQ(knockers[2].TakeReply(), COROIPC_LIMIT);
  CHECK_EQ(server.Stats().handshakes_pending, 2u);
}

TEST("without fds to accept with the server pauses, and takes everybody in afterwards") {
  const pid_t child = fork();
  if (child == 0) {
    static std::atomic<int> paused;
    Server server;
    server.options.callbacks.log = [](void*, int level, const char* line) {
      if (strcmp(line, "accept paused: out of file descriptors or memory") != 0) return;
      CHECK_EQ(level, 40);
      ++paused;
    };
    server.Start();
    Client first;
    REQUIRE(first.Connect(server.name) == COROIPC_OK);
    RawClient waiting[4];
    for (RawClient& one : waiting) one.socket = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    std::vector<int> hoard;
    rlimit limit = {64, 64};
    setrlimit(RLIMIT_NOFILE, &limit);
    for (int fd = dup(0); fd >= 0; fd = dup(0)) hoard.push_back(fd);
    for (RawClient& one : waiting) {
      socklen_t bytes = 0;
      const sockaddr_un address = AddressOf(server.name, &bytes);
      CHECK(connect(one.socket, reinterpret_cast<const sockaddr*>(&address), bytes) == 0);
    }
    SleepMs(50);
    const clock_t before = clock();
    SleepMs(300);
    CHECK(clock() - before < CLOCKS_PER_SEC / 10);
    // Said at each of its tries, which are 100 ms apart.
    CHECK(paused >= 1 && paused < 20);
    CHECK(first.Echo());
    for (const int fd : hoard) close(fd);
    for (RawClient& one : waiting) {
      const coroipc_setup_request setup = MakeSetupRequest(1, Terms{});
      CHECK(SendWithFds(one.socket, &setup, sizeof setup, {}));
      CHECK_EQ(one.TakeReply(), COROIPC_OK);
    }
    first.Close();
    server.Stop();
    _exit(check_failures == 0 ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  CHECK_EQ(status, 0);
}

TEST("authorize can be answered later: yes, no, and never") {
  static std::atomic<coroipcs_connection*> asking;
  for (const int verdict : {COROIPC_OK, COROIPC_DENIED, COROIPC_AGAIN}) {
    Server server;
    // Whoever answers does so long before the limit, on the slowest machine.
    server.options.authorize_timeout_ms = verdict == COROIPC_AGAIN ? 200 : 10 * kPatienceMs;
    server.options.callbacks.authorize = [](coroipcs_connection* connection,
                                            const coroipc_credentials* credentials,
                                            uint16_t service, void*) -> coroipc_status {
      CHECK_EQ(credentials->uid, getuid());
      CHECK_EQ(credentials->pid, getpid());
      CHECK_EQ(service, 1);
      asking = connection;
      return COROIPC_AGAIN;
    };
    server.Start();
    Client client;
    coroipc_status status = COROIPC_AGAIN;
    asking = nullptr;
    std::thread connecting([&] { status = client.Connect(server.name); });
    REQUIRE(Eventually([] { return asking != nullptr; }));
    if (verdict != COROIPC_AGAIN) {
      REQUIRE(server.Stats().handshakes_pending == 1);
      CHECK_EQ(coroipcs_authorize(asking, verdict, 0), COROIPC_OK);
    }
    connecting.join();
    CHECK_EQ(status, verdict == COROIPC_OK ? COROIPC_OK : COROIPC_DENIED);
    CHECK(Eventually([&] { return server.Stats().handshakes_pending == 0; }));
    if (verdict == COROIPC_OK) CHECK(client.Echo());
  }
}

TEST("a peer that leaves before it is authorized is reported as gone, once") {
  Server server;
  server.options.authorize_events = 1;
  server.Start(false);
  {
    RawClient peer;
    REQUIRE(peer.ConnectSocket(server.name));
    const coroipc_setup_request setup = MakeSetupRequest(1, Terms{});
    REQUIRE(SendWithFds(peer.socket, &setup, sizeof setup, {}));
    const std::vector<Row> rows = ReceiveUntil(server.server, COROIPC_KIND_AUTHORIZE);
    CHECK_EQ(rows.back().entry.id, 1u);
  }
  const std::vector<Row> rows = ReceiveUntil(server.server, COROIPC_KIND_AUTHORIZE_ENDED);
  CHECK_EQ(rows.size(), 1u);
  CHECK(coroipcs_connection_at(server.server, rows.back().entry.connection) == nullptr);
  CHECK_EQ(server.Stats().handshakes_pending, 0u);
}

TEST("who waits to be authorized can be made ready and then let in with another priority") {
  // Its list was of the old priority, it was taken off the list of the new one.
  Server server;
  server.options.authorize_events = 1;
  server.service.priority = COROIPCS_PRIORITY_HIGH;
  static std::map<uint64_t, int> watched;
  coroipcs_poll poll_system = {};
  poll_system.accept_add = [](int fd, uint64_t cookie, void*) {
    watched[cookie] = fd;
    return 0;
  };
  poll_system.dispatch_add = [](int fd, int, uint64_t cookie, void*) {
    watched[cookie] = fd;
    return 0;
  };
  poll_system.dispatch_destroy = [](int, uint64_t cookie, void*) {
    CHECK_EQ(watched.erase(cookie), 1u);
  };
  server.options.poll = &poll_system;
  server.Start(false);
  CHECK_EQ(coroipcs_fd(server.server), -1);
  RawClient peers[2];
  Batch batch;
  std::vector<uint32_t> asking;
  for (RawClient& peer : peers) {
    REQUIRE(peer.ConnectSocket(server.name));
    const coroipc_setup_request setup = MakeSetupRequest(1, Terms{});
    REQUIRE(SendWithFds(peer.socket, &setup, sizeof setup, {}));
    coroipcs_handler_accept(server.server, Cookie(Source::kListener, 0));
    for (int i = 0; i < 3; ++i) {
      (void)coroipcs_receive(server.server, batch.get(), 1);
      for (const Row& row : batch.Take()) {
        if (row.entry.kind == COROIPC_KIND_AUTHORIZE) asking.push_back(row.entry.connection);
      }
    }
  }
  REQUIRE(asking.size() == 2);
  for (const uint32_t number : asking) {
    coroipcs_handler_dispatch(server.server, Cookie(Source::kSocket, number), POLLIN);
  }
  for (const uint32_t number : asking) {
    CHECK_EQ(coroipcs_authorize(coroipcs_connection_at(server.server, number), COROIPC_OK, 0),
             COROIPC_OK);
  }
  int connected = 0;
  for (int i = 0; i < 5; ++i) {
    (void)coroipcs_receive(server.server, batch.get(), 1);
    for (const Row& row : batch.Take()) connected += row.entry.kind == COROIPC_KIND_CONNECTED;
  }
  CHECK_EQ(connected, 2);
  for (RawClient& peer : peers) {
    REQUIRE(peer.TakeReply() == COROIPC_OK);
    CHECK_EQ(peer.PutRequest(kEcho, 0, "x", 1), COROIPC_OK);
  }
  int requests = 0;
  for (int i = 0; i < 5; ++i) {
    for (const uint32_t number : asking)
      coroipcs_handler_dispatch(server.server, Cookie(Source::kSocket, number), POLLIN);
    (void)coroipcs_receive(server.server, batch.get(), 1);
    for (const Row& row : batch.Take()) requests += row.entry.kind == COROIPC_KIND_REQUEST;
  }
  CHECK_EQ(requests, 2);
  CHECK(Eventually([&] { return coroipcs_receive(server.server, batch.get(), 1) == COROIPC_OK; },
                   2000));
  server.Stop();
  CHECK(watched.empty());
}

TEST(
    "a poll system is asked for POLLOUT while a segment waits for room on a socket, and no "
    "longer") {
  Server server;
  static std::map<uint64_t, std::pair<int, int>> watched;  // fd and events by cookie
  static std::vector<int> asked;
  coroipcs_poll poll_system = {};
  poll_system.accept_add = [](int fd, uint64_t cookie, void*) {
    watched[cookie] = {fd, POLLIN};
    return 0;
  };
  poll_system.dispatch_add = [](int fd, int events, uint64_t cookie, void*) {
    watched[cookie] = {fd, events};
    return 0;
  };
  poll_system.dispatch_modify = [](int fd, int events, uint64_t cookie, void*) {
    CHECK_EQ(watched[cookie].first, fd);
    watched[cookie].second = events;
    asked.push_back(events);
    return 0;
  };
  poll_system.dispatch_destroy = [](int, uint64_t cookie, void*) {
    CHECK_EQ(watched.erase(cookie), 1u);
  };
  server.options.poll = &poll_system;
  server.Start(false);
  const auto turn = [&] {
    const auto sources = watched;
    for (const auto& [cookie, source] : sources) {
      pollfd fd = {source.first, static_cast<short>(source.second), 0};
      if (poll(&fd, 1, 0) != 1) continue;
      if (cookie == Cookie(Source::kListener, 0))
        (void)coroipcs_handler_accept(server.server, cookie);
      else
        (void)coroipcs_handler_dispatch(server.server, cookie, fd.revents);
    }
    (void)coroipcs_process(server.server, 5);
  };
  RawClient miser;
  REQUIRE(miser.ConnectSocket(server.name));
  const coroipc_setup_request setup = MakeSetupRequest(1, Terms{});
  REQUIRE(SendWithFds(miser.socket, &setup, sizeof setup, {}));
  for (int i = 0; i < 3; ++i) turn();
  REQUIRE(miser.TakeReply() == COROIPC_OK);
  turn();
  for (uint32_t i = 0; i < 400; ++i) {  // each answer rings, and nobody reads the socket
    StoreSeqCst(miser.control->ring[1].reader_sleep, 1u);
    miser.PutRequest(kStatus, i % 8, nullptr, 0);
    turn();
    coroipc_record answer = {};
    REQUIRE(miser.Take(miser.response, &answer, nullptr));
  }
  CHECK(asked.empty());
  const uint32_t bytes = 1u << 20;
  miser.PutRequest(kFill, 9, &bytes, sizeof bytes);
  turn();
  REQUIRE(asked.size() == 1);
  CHECK_EQ(asked[0], POLLIN | POLLOUT);
  for (int i = 0; i < 5; ++i) turn();
  CHECK_EQ(asked.size(), 1u);
  uint8_t message[64];
  int fd = -1;
  while (recv(miser.socket, message, sizeof message, MSG_DONTWAIT) == 1) {
  }
  for (int i = 0; i < 3; ++i) turn();
  REQUIRE(asked.size() == 2);
  CHECK_EQ(asked[1], POLLIN);
  while (ReceiveWithFd(miser.socket, message, sizeof message, &fd) == 1) {
  }
  CHECK(fd >= 0);
  close(fd);
  coroipc_record answer = {};
  CHECK(miser.Take(miser.response, &answer, nullptr));
  server.Stop();
  CHECK(watched.empty());
}

// -- services -------------------------------------------------------------------------------------

TEST("a service is added once, closed with its connections, and can be added again") {
  Server server;
  server.service.private_data_bytes = 100;
  server.Start();
  CHECK_EQ(coroipcs_service_add(server.server, 1, &server.service), COROIPC_INVALID_ARGUMENT);
  CHECK_EQ(coroipcs_service_close(server.server, 77), 0);
  Client client;
  REQUIRE(client.Connect(server.name) == COROIPC_OK);
  REQUIRE(Eventually([&] { return server.last != nullptr; }));
  const auto* const data = static_cast<uint8_t*>(coroipcs_private_data_get(server.last));
  for (int i = 0; i < 100; ++i) CHECK_EQ(data[i], 0);
  coroipcs_connection_hold(server.last);
  CHECK_EQ(coroipcs_service_close(server.server, 1), -1);
  CHECK(server.EndedWith(COROIPC_DISCONNECTED));
  // Sent before the end was seen: nobody can know.
  const coroipc_status late = client.Call(kEcho, "", 0);
  CHECK(late == COROIPC_DISCONNECTED || late == COROIPC_UNKNOWN_OUTCOME);
  CHECK_EQ(coroipcs_service_close(server.server, 1), -1);  // still held
  Client other;
  CHECK_EQ(other.Connect(server.name), COROIPC_NO_SERVICE);
  coroipcs_connection_release(server.last);
  CHECK(Eventually([&] { return coroipcs_service_close(server.server, 1) == 0; }));
  CHECK_EQ(coroipcs_service_add(server.server, 1, &server.service), COROIPC_OK);
  CHECK_EQ(other.Connect(server.name), COROIPC_OK);
  CHECK(other.Echo());
}

TEST("a connection says who it is and what was negotiated for it") {
  Server server;
  server.options.requests_in_flight = 100;
  server.options.message_bytes = 50000;
  server.options.any_service = 1;
  server.Start();
  Client small, greedy;
  small.options.service = 77;
  small.options.requests_in_flight = 7;
  small.options.message_bytes = 10000;
  REQUIRE(small.Connect(server.name) == COROIPC_OK);
  REQUIRE(Eventually([&] { return server.connected == 1; }));
  coroipcs_connection* const one = server.last;
  greedy.options.requests_in_flight = 60000;
  greedy.options.message_bytes = 0xffffffff;
  REQUIRE(greedy.Connect(server.name) == COROIPC_OK);
  REQUIRE(Eventually([&] { return server.connected == 2; }));
  coroipcs_connection* const two = server.last;
  coroipcs_connection_hold(one);
  coroipcs_connection_hold(two);
  CHECK_EQ(coroipcs_connection_service(one), 77);
  CHECK_EQ(coroipcs_connection_service(two), 1);
  CHECK_EQ(coroipcs_connection_requests_in_flight(one), 7u);
  CHECK_EQ(coroipcs_connection_requests_in_flight(two), 100u);
  CHECK_EQ(coroipcs_connection_message_bytes(one), 10000u);
  CHECK_EQ(coroipcs_connection_message_bytes(two), 50000u);
  CHECK(coroipcs_connection_id(one) != 0);
  // The same id at both ends.
  CHECK_EQ(coroipcs_connection_id(one), coroipcc_connection_id(small.connection));
  CHECK_EQ(coroipcs_connection_id(two), coroipcc_connection_id(greedy.connection));
  coroipcs_connection_release(one);
  coroipcs_connection_release(two);
}

TEST("how full the rings of a connection are") {
  Server server;
  server.Start();
  Client client;
  client.options.dispatch_ring_bytes = 8192;
  REQUIRE(client.Connect(server.name) == COROIPC_OK);
  REQUIRE(Eventually([&] { return server.connected == 1; }));
  coroipcs_connection* const connection = server.last;
  coroipcs_connection_hold(connection);
  coroipcs_rings rings;
  coroipcs_connection_rings(connection, &rings);
  CHECK_EQ(rings.dispatch.bytes, 8192u);
  CHECK_EQ(rings.dispatch.used, 0u);
  CHECK(rings.request.bytes != 0 && rings.response.bytes != 0);
  char bytes[1000] = {};
  struct iovec part = {bytes, sizeof bytes};
  for (uint32_t n = 1; n <= 4; ++n) {
    REQUIRE(coroipcs_dispatch_send(connection, 0, &part, 1) == COROIPC_OK);
    coroipcs_connection_rings(connection, &rings);
    // Nobody reads: each is there with its header.
    CHECK(rings.dispatch.used >= n * sizeof bytes);
    CHECK(rings.dispatch.used < n * (sizeof bytes + 64));
  }
  client.Close();
  REQUIRE(Eventually([&] { return server.Ends().size() == 1; }));
  coroipcs_connection_rings(connection, &rings);
  CHECK_EQ(rings.dispatch.bytes, 0u);
  CHECK_EQ(rings.dispatch.used, 0u);
  coroipcs_connection_release(connection);
}

TEST("with an own selector any service is served") {
  Server server;
  server.options.any_service = 1;
  server.Start();
  Client client;
  client.options.service = 999;
  CHECK_EQ(client.Connect(server.name), COROIPC_OK);
  CHECK(client.Echo());
}

// -- priorities and rates -------------------------------------------------------------------------

TEST("busy connections of a higher priority do not starve the lower ones") {
  // Small batches that the high ones could fill again and again.
  Server server;
  server.Start(false);
  RawClient peers[3];
  Batch batch(8);
  std::map<uint32_t, int> priorities;
  for (int i = 0; i < 3; ++i) {
    REQUIRE(peers[i].ConnectSocket(server.name));
    const coroipc_setup_request setup = MakeSetupRequest(1, Terms{});
    REQUIRE(SendWithFds(peers[i].socket, &setup, sizeof setup, {}));
    const uint32_t number =
        ReceiveUntil(server.server, COROIPC_KIND_CONNECTED).back().entry.connection;
    REQUIRE(peers[i].TakeReply() == COROIPC_OK);
    CHECK_EQ(coroipcs_connection_priority(coroipcs_connection_at(server.server, number), i),
             COROIPC_OK);
    priorities[number] = i;
  }
  // Two more low ones than a batch has rows would be needed to fill it; so give each of them
  // plenty.
  coroipc_record send = {};
  send.kind = COROIPC_RECORD_SEND;
  const auto fill = [&] {
    for (RawClient& peer : peers) {
      while (peer.Put(send, "x", 1, false) == COROIPC_OK) continue;
      peer.Publish();
    }
  };
  fill();
  std::map<int, int> served;
  for (int turn = 0; turn < 64; ++turn) {
    (void)coroipcs_receive(server.server, batch.get(), 1);
    for (const Row& row : batch.Take()) ++served[priorities[row.entry.connection]];
    fill();
  }
  CHECK(served[0] > 0);
  CHECK(served[1] > 0);
  CHECK(served[2] > served[0]);
}

TEST("a rate is kept, can be switched off and on again") {
  Server server;
  server.service.requests_per_second = 200;
  server.Start();
  Client client;
  REQUIRE(client.Connect(server.name) == COROIPC_OK);
  const uint64_t start = NowMs();
  for (int i = 0; i < 100; ++i) CHECK(client.Echo(8));
  // 100 requests at 200 a second, less the burst of a twentieth.
  CHECK(NowMs() - start >= 400);
  REQUIRE(coroipcs_connection_rate_limit(server.last, COROIPCS_RATE_OFF) == COROIPC_OK);
  CHECK_EQ(client.Call(kEcho, "", 0, nullptr, 100), COROIPC_TIMED_OUT);
  REQUIRE(coroipcs_connection_rate_limit(server.last, 0) == COROIPC_OK);
  for (int i = 0; i < 300; ++i) CHECK(client.Echo(8));
}

TEST("a rate is not only kept but reached") {
  Server server;
  server.service.requests_per_second = 1500;
  server.Start();
  Client client;
  REQUIRE(client.Connect(server.name) == COROIPC_OK);
  // Always enough to do: the server alone decides.
  std::atomic<bool> stop{false};
  std::thread sender([&] {
    while (!stop) {
      if (coroipcc_send(client.connection, kStatus, nullptr, 0) != COROIPC_OK) SleepMs(1);
    }
  });
  // A busy machine can make it less for a while, never more.
  double rate = 0;
  CHECK(Eventually([&] {
    const int before = server.handled;
    const uint64_t start = NowMs();
    SleepMs(300);
    rate = (server.handled - before) * 1000.0 / static_cast<double>(NowMs() - start);
    return rate > 1300;
  }));
  CHECK(rate < 1900);
  stop = true;
  sender.join();
}

// -- stopping, polling, going away ----------------------------------------------------------------

TEST("a server stops whenever it is told to, from any thread, busy or asleep") {
  for (const int wait : {COROIPC_WAIT_ADAPTIVE, COROIPC_WAIT_SPIN, COROIPC_WAIT_SLEEP}) {
    for (int round = 0; round < 60; ++round) {
      Server server;
      server.options.wait = wait;
      server.Start(false);
      std::atomic<bool> ended{false};
      std::thread runner([&] {
        CHECK_EQ(coroipcs_run(server.server), COROIPC_OK);
        ended = true;
      });
      Client client;
      REQUIRE(client.Connect(server.name) == COROIPC_OK);
      if (round % 2 == 0) CHECK(client.Echo());
      for (int i = 0; i < round * 10; ++i) Pause();
      coroipcs_stop(server.server);
      const bool stopped = Eventually([&] { return ended.load(); }, 3000);
      CHECK(stopped);
      if (!stopped) {
        printf("# wait %d, round %d\n", wait, round);
        while (!ended) {
          coroipcs_stop(server.server);
          SleepMs(10);
        }
      }
      runner.join();
    }
  }
}

TEST("what is done between two turns makes the fd readable, also without threads") {
  for (const int threads : {0, 1}) {
    Server server;
    server.options.threads = threads;
    server.options.authorize_events = 1;
    server.options.dispatch_ring_bytes = 4096;
    server.service.policy = COROIPCS_POLICY_DISCONNECT;
    server.service.backlog_bytes = 4096;
    server.Start(false);
    RawClient peer;
    REQUIRE(peer.ConnectSocket(server.name));
    const coroipc_setup_request setup = MakeSetupRequest(1, Terms{});
    REQUIRE(SendWithFds(peer.socket, &setup, sizeof setup, {}));
    const uint32_t number =
        ReceiveUntil(server.server, COROIPC_KIND_AUTHORIZE).back().entry.connection;
    coroipcs_connection* const connection = coroipcs_connection_at(server.server, number);
    Batch batch;
    const auto idle = [&] {
      return Eventually([&] {
        (void)coroipcs_receive(server.server, batch.get(), 1);
        (void)batch.Take();
        return coroipcs_look(server.server, 0) == COROIPC_OK &&
               !Readable(coroipcs_fd(server.server));
      });
    };
    CHECK(idle());
    CHECK_EQ(coroipcs_authorize(connection, COROIPC_OK, 0), COROIPC_OK);
    CHECK(Readable(coroipcs_fd(server.server)));
    REQUIRE(peer.TakeReply() == COROIPC_OK);
    CHECK(idle());
    // A dispatch that has to wait for room.
    const uint8_t bytes[1000] = {};
    const iovec part = Part(bytes, sizeof bytes);
    coroipc_stats stats = {};
    while (stats.backlog_messages == 0) {
      REQUIRE(coroipcs_dispatch_send(connection, 1, &part, 1) == COROIPC_OK);
      coroipcs_connection_stats(connection, &stats, 0);
    }
    CHECK(Readable(coroipcs_fd(server.server)));
    CHECK(idle());
    // One that ends the connection.
    while (coroipcs_dispatch_send(connection, 1, &part, 1) == COROIPC_OK) continue;
    CHECK(Readable(coroipcs_fd(server.server)));
    const Row row = ReceiveUntil(server.server, COROIPC_KIND_DISCONNECTED).back();
    CHECK_EQ(row.entry.argument, static_cast<uint32_t>(COROIPC_BACKLOG_OVERFLOW));
    coroipcs_connection_release(connection);
  }
}

TEST("a wake of the fd is one round: after it the server is idle and armed") {
  Server server;
  int handled = 0;
  server.handle = [&](coroipcs_connection* connection, const coroipcs_request* request) {
    ++handled;
    CHECK_EQ(coroipcs_response_send(connection, request->correlation, COROIPC_OK, 0, nullptr, 0),
             COROIPC_OK);
  };
  server.Start(false);
  Client client;
  std::atomic<bool> connected{false};
  std::thread connecting([&] {
    CHECK_EQ(client.Connect(server.name), COROIPC_OK);
    connected = true;
  });
  CHECK(Drive(server.server, [&] { return connected.load(); }));
  connecting.join();
  const int fd = coroipcs_fd(server.server);
  CHECK(Eventually(
      [&] { return coroipcs_process(server.server, 5) == COROIPC_OK && !Readable(fd, 20); }));
  for (int i = 0; i < 100; ++i) {
    std::thread calling([&] { CHECK_EQ(client.Call(100, "", 0), COROIPC_OK); });
    // The record that it was woken for, and the doorbell that woke it. Once or twice it is its
    // timer.
    while (handled == i) {
      REQUIRE(Readable(fd, kPatienceMs));
      CHECK_EQ(coroipcs_process(server.server, 0), COROIPC_OK);
    }
    calling.join();
  }
}

TEST("a server goes away under held connections, and they go when they are released") {
  for (int order = 0; order < 3; ++order) {
    Server server;
    server.Start(false);
    Client client;
    std::thread connecting([&] { CHECK_EQ(client.Connect(server.name), COROIPC_OK); });
    const uint32_t number =
        ReceiveUntil(server.server, COROIPC_KIND_CONNECTED).back().entry.connection;
    connecting.join();
    coroipcs_connection* const connection = coroipcs_connection_at(server.server, number);
    coroipcs_connection_hold(connection);
    if (order >= 1) {
      client.Close();
      (void)ReceiveUntil(server.server, COROIPC_KIND_DISCONNECTED);
    }
    // The receiver's own reference goes back before the server goes, or with it.
    if (order == 2) coroipcs_connection_release(connection);
    server.Stop();
    CHECK_EQ(coroipcs_connection_number(connection), number);
    CHECK_EQ(coroipcs_dispatch_send(connection, 1, nullptr, 0), COROIPC_DISCONNECTED);
    coroipcs_connection_release(connection);
  }
}

TEST("'disconnected' is called again while it says busy, and the resources stay") {
  static std::atomic<int> calls;
  calls = 0;
  Server server;
  server.service.private_data_bytes = 8;
  server.options.callbacks.disconnected = [](coroipcs_connection* connection, coroipc_status why,
                                             void*) {
    CHECK_EQ(why, COROIPC_DISCONNECTED);
    CHECK(coroipcs_private_data_get(connection) != nullptr);
    return ++calls < 4 ? 1 : 0;
  };
  server.Start();
  Client client;
  REQUIRE(client.Connect(server.name) == COROIPC_OK);
  client.Close();
  CHECK(Eventually([] { return calls == 4; }));
  CHECK(Eventually([&] { return coroipcs_service_close(server.server, 1) == 0; }));
  SleepMs(50);
  CHECK_EQ(calls, 4);
}

TEST("a server may go away while 'disconnected' still says busy") {
  Server server;
  server.options.callbacks.disconnected = [](coroipcs_connection*, coroipc_status, void*) {
    return 1;
  };
  server.Start();
  Client client;
  REQUIRE(client.Connect(server.name) == COROIPC_OK);
  client.Close();
  SleepMs(50);
  server.Stop();
}

TEST("an inherited listening socket is served, and names this process") {
  int listener = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  const std::string name = UniqueName();
  socklen_t bytes = 0;
  const sockaddr_un address = AddressOf(name, &bytes);
  REQUIRE(bind(listener, reinterpret_cast<const sockaddr*>(&address), bytes) == 0);
  REQUIRE(listen(listener, 5) == 0);
  const pid_t child = fork();
  if (child == 0) {
    coroipcs_options options;
    coroipcs_options_init(&options);
    options.callbacks.handler_get = [](coroipcs_connection*, uint16_t, uint16_t,
                                       void*) -> coroipcs_handler_fn {
      return [](coroipcs_connection* connection, const coroipcs_request* request, void*) {
        coroipcs_response_send(connection, request->correlation, COROIPC_OK, 1, nullptr, 0);
      };
    };
    coroipcs_server* server = nullptr;
    if (coroipcs_create(&options, &server) != COROIPC_OK) _exit(1);
    if (coroipcs_service_add(server, 1, nullptr) != COROIPC_OK) _exit(1);
    if (coroipcs_listen_fd(server, 0) == COROIPC_OK) _exit(2);  // not a listening socket
    if (coroipcs_listen_fd(server, listener) != COROIPC_OK) _exit(3);
    if (coroipcs_listen_fd(server, listener) != COROIPC_INVALID_ARGUMENT) _exit(4);
    coroipcs_run(server);
    _exit(0);
  }
  close(listener);
  Client client;
  client.options.require_pid = 1;
  client.options.server_pid = child;
  CHECK_EQ(client.Connect(name), COROIPC_OK);
  CHECK_EQ(coroipcc_server_credentials(client.connection)->pid, child);
  coroipcc_response response;
  CHECK_EQ(coroipcc_request(client.connection, 1, nullptr, 0, -1, nullptr, 0, &response),
           COROIPC_OK);
  Client strict;
  strict.options.require_pid = 1;
  strict.options.server_pid = getpid();
  CHECK_EQ(strict.Connect(name), COROIPC_DENIED);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  const coroipc_status late = client.Call(1, "", 0);
  CHECK(late == COROIPC_PEER_DEAD || late == COROIPC_UNKNOWN_OUTCOME);
}

TEST("a child of fork can neither use nor end its parent's server") {
  Server server;
  server.Start();
  Client client;
  REQUIRE(client.Connect(server.name) == COROIPC_OK);
  REQUIRE(Eventually([&] { return server.last != nullptr; }));
  server.StopRunning();
  const pid_t child = fork();
  if (child == 0) {
    Batch batch;
    CHECK_EQ(coroipcs_receive(server.server, batch.get(), 1), COROIPC_FORKED);
    CHECK_EQ(coroipcs_look(server.server, 0), COROIPC_FORKED);
    CHECK_EQ(coroipcs_process(server.server, 0), COROIPC_FORKED);
    CHECK_EQ(coroipcs_run(server.server), COROIPC_FORKED);
    CHECK_EQ(coroipcs_dispatch_send(server.last, 1, nullptr, 0), COROIPC_FORKED);
    CHECK_EQ(coroipcs_close(server.server), COROIPC_FORKED);
    CHECK_EQ(coroipcs_listen_stop(server.server), COROIPC_FORKED);
    CHECK_EQ(coroipcs_listen_leave(server.server), COROIPC_FORKED);
    CHECK_EQ(coroipcs_adopt(server.server, -1), COROIPC_FORKED);
    CHECK_EQ(coroipcs_response_send(server.last, 1, COROIPC_OK, 0, nullptr, 0), COROIPC_FORKED);
    CHECK_EQ(coroipcs_disconnect(server.last, COROIPC_DENIED), COROIPC_FORKED);
    CHECK_EQ(coroipcs_service_close(server.server, 1), -1);
    coroipcs_destroy(server.server);
    _exit(check_failures == 0 ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  CHECK_EQ(status, 0);
  server.Run();
  CHECK(client.Echo());
}

TEST("counters count, gauges return to zero") {
  Server server;
  server.Start();
  {
    Client client;
    REQUIRE(client.Connect(server.name) == COROIPC_OK);
    for (int i = 0; i < 10; ++i) CHECK(client.Echo(10));
    CHECK_EQ(client.Call(kSilent, "", 0, nullptr, 20), COROIPC_TIMED_OUT);
    CHECK(Eventually([&] { return server.Stats().cancelled == 1; }));
    const coroipc_stats stats = server.Stats();
    CHECK_EQ(stats.requests, 11u);
    CHECK_EQ(stats.responses, 10u);
    CHECK_EQ(stats.bytes_received, 100u);
    CHECK_EQ(stats.bytes_sent, 100u);
    CHECK_EQ(stats.in_flight, 1u);
    CHECK_EQ(stats.connections, 1u);
    coroipc_stats cleared;
    coroipcs_stats(server.server, &cleared, 1);
    CHECK_EQ(server.Stats().requests, 0u);
    CHECK_EQ(server.Stats().in_flight, 1u);
  }
  CHECK(server.EndedWith(COROIPC_DISCONNECTED));
  CHECK(Eventually([&] {
    const coroipc_stats stats = server.Stats();
    return stats.connections == 0 && stats.in_flight == 0 && stats.segments == 0 &&
           stats.segment_bytes == 0 && stats.backlog_bytes == 0;
  }));
}

TEST("a handler is told whether it reads memory of a trusted client, and can keep it") {
  Server server;
  server.options.callbacks.authorize = [](coroipcs_connection* connection,
                                          const coroipc_credentials*, uint16_t,
                                          void*) -> coroipc_status {
    CHECK_EQ(coroipcs_authorize(connection, COROIPC_OK, 1), COROIPC_OK);
    return COROIPC_AGAIN;
  };
  std::atomic<int> shared{0}, own{0};
  std::atomic<coroipc_buffer*> kept{nullptr};
  server.handle = [&](coroipcs_connection* connection, const coroipcs_request* request) {
    if (request->in_segment != 0) {
      ++shared;
      coroipc_buffer* buffer = nullptr;
      CHECK_EQ(coroipcs_buffer_get(connection, request->segment, &buffer), COROIPC_OK);
      kept = buffer;
    } else {
      ++own;
    }
    coroipcs_response_send(connection, request->correlation, COROIPC_OK, 0, nullptr, 0);
  };
  server.Start();
  Client client;
  REQUIRE(client.Connect(server.name) == COROIPC_OK);
  CHECK_EQ(client.Call(100, "small", 5), COROIPC_OK);
  coroipc_buffer* buffer = nullptr;
  REQUIRE(coroipcc_buffer_alloc(client.connection, 5000, -1, &buffer) == COROIPC_OK);
  memset(coroipc_buffer_data(buffer), 'k', 5000);
  coroipcc_response response = {};
  CHECK_EQ(coroipcc_request_buffer(client.connection, 100, buffer, 0, 5000, -1, &response),
           COROIPC_OK);
  coroipcc_response_release(client.connection);
  coroipc_buffer_release(buffer);
  CHECK_EQ(shared, 1);
  CHECK_EQ(own, 1);
  client.Close();
  REQUIRE(kept != nullptr);
  CHECK_EQ(static_cast<const char*>(coroipc_buffer_data(kept))[4999], 'k');
  coroipc_buffer_release(kept);
}

// -- names that are handed over, sockets that somebody else accepted
// --------------------------------

namespace {

coroipcs_server* CreateServer(int accept_rows = 0) {
  coroipcs_options options;
  coroipcs_options_init(&options);
  options.accept_rows = accept_rows;
  coroipcs_server* server = nullptr;
  REQUIRE(coroipcs_create(&options, &server) == COROIPC_OK);
  return server;
}

}  // namespace

TEST("a name is inherited with its lock, and stays where it is left") {
  const std::string path = "/tmp/coroipc-inherit-" + std::to_string(getpid());
  const auto there = [](const std::string& name) { return access(name.c_str(), F_OK) == 0; };
  coroipcs_server* const first = CreateServer();
  int fds[2] = {-2, -2};
  CHECK_EQ(coroipcs_listen_fds(first, fds), COROIPC_INVALID_ARGUMENT);
  REQUIRE(coroipcs_listen(first, path.c_str()) == COROIPC_OK);
  REQUIRE(coroipcs_listen_fds(first, fds) == COROIPC_OK);
  const int socket = dup(fds[0]), lock = dup(fds[1]);
  CHECK_EQ(coroipcs_listen_leave(first), COROIPC_OK);
  coroipcs_destroy(first);
  CHECK(there(path) && there(path + ".lock"));
  coroipcs_server* const rival = CreateServer();
  CHECK_EQ(coroipcs_listen(rival, path.c_str()), COROIPC_ADDRESS_IN_USE);
  Server next;
  REQUIRE(coroipcs_create(&next.options, &next.server) == COROIPC_OK);
  REQUIRE(coroipcs_service_add(next.server, 1, &next.service) == COROIPC_OK);
  Client early;  // waits in the queue of a socket that nobody accepts from
  std::thread connecting([&] { CHECK_EQ(early.Connect(path), COROIPC_OK); });
  REQUIRE(coroipcs_listen_inherited(next.server, socket, lock) == COROIPC_OK);
  CHECK(path == coroipcs_address(next.server));
  next.Run();
  connecting.join();
  CHECK(early.Echo());
  early.Close();
  next.Stop();
  CHECK(!there(path) && !there(path + ".lock"));
  CHECK_EQ(coroipcs_listen(rival, path.c_str()), COROIPC_OK);
  coroipcs_destroy(rival);
}

TEST("what is no listening socket is not inherited, and closed all the same") {
  coroipcs_server* const server = CreateServer();
  const int one = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  const int two = open("/dev/null", O_RDONLY | O_CLOEXEC);
  CHECK_EQ(coroipcs_listen_inherited(server, one, two), COROIPC_INVALID_ARGUMENT);
  CHECK(fcntl(one, F_GETFD) < 0 && fcntl(two, F_GETFD) < 0);
  coroipcs_destroy(server);
}

TEST("one server accepts, another one serves") {
  coroipcs_server* const acceptor = CreateServer(1);
  const std::string name = UniqueName();
  REQUIRE(coroipcs_listen(acceptor, name.c_str()) == COROIPC_OK);
  Server server;
  server.Start();
  Client client;
  std::thread connecting([&] { CHECK_EQ(client.Connect(name), COROIPC_OK); });
  Batch batch;
  int accepted = -1;
  CHECK(Eventually([&] {
    coroipcs_receive(acceptor, batch.get(), 1);
    for (const Row& row : batch.Take())
      if (row.entry.kind == COROIPC_KIND_ACCEPTED) accepted = static_cast<int>(row.entry.argument);
    return accepted >= 0;
  }));
  CHECK_EQ(coroipcs_adopt(server.server, accepted), COROIPC_OK);
  connecting.join();
  CHECK(client.Echo());
  coroipcs_destroy(acceptor);
  CHECK(client.Echo());  // who accepted it has nothing to do with it any more
}

TEST("sockets of rows that nobody took are closed with the server") {
  coroipcs_server* const acceptor = CreateServer(1);
  const std::string name = UniqueName();
  REQUIRE(coroipcs_listen(acceptor, name.c_str()) == COROIPC_OK);
  Client client;
  coroipc_status status = COROIPC_OK;
  std::thread connecting([&] { status = client.Connect(name); });
  coroipc_batch none = {};  // no room for the row
  CHECK(Eventually([&] { return coroipcs_receive(acceptor, &none, 1) == COROIPC_AGAIN; }));
  coroipcs_destroy(acceptor);
  connecting.join();
  CHECK_EQ(status, COROIPC_PEER_DEAD);
}

TEST("options that no server can have are refused, each of them") {
  coroipcs_server* server = nullptr;
  coroipcs_options good;
  coroipcs_options_init(&good);
  using Change = void (*)(coroipcs_options&);
  const Change changes[] = {
      [](coroipcs_options& o) { o.struct_bytes = 8; },
      [](coroipcs_options& o) { o.ring_bytes_min = 32u << 20; },
      [](coroipcs_options& o) { o.ring_bytes_min = 4097; },
      [](coroipcs_options& o) { o.ring_bytes_max = 3u << 20; },
      [](coroipcs_options& o) { o.message_bytes = COROIPC_MESSAGE_BYTES_MAX + 1; },
      [](coroipcs_options& o) { o.message_bytes_min = 2u << 20; },
      [](coroipcs_options& o) { o.requests_in_flight = COROIPC_REQUESTS_IN_FLIGHT_MAX + 1; },
      [](coroipcs_options& o) { o.segments = COROIPC_SEGMENTS_MAX + 1; },
      [](coroipcs_options& o) { o.wait = -1; },
      [](coroipcs_options& o) { o.wait = COROIPC_WAIT_SLEEP + 1; },
      [](coroipcs_options& o) { o.lock = -1; },
      [](coroipcs_options& o) { o.lock = COROIPCS_WISH_DEMAND + 1; },
      [](coroipcs_options& o) { o.huge_pages = -1; },
      [](coroipcs_options& o) { o.huge_pages = COROIPCS_WISH_DEMAND + 1; },
  };
  for (const Change change : changes) {
    coroipcs_options options = good;
    change(options);
    CHECK_EQ(coroipcs_create(&options, &server), COROIPC_INVALID_ARGUMENT);
    CHECK(server == nullptr);
  }
  CHECK_EQ(coroipcs_create(nullptr, &server), COROIPC_INVALID_ARGUMENT);
  CHECK_EQ(coroipcs_create(&good, nullptr), COROIPC_INVALID_ARGUMENT);
  REQUIRE(coroipcs_create(&good, &server) == COROIPC_OK);
  using ServiceChange = void (*)(coroipcs_service_options&);
  const ServiceChange service_changes[] = {
      [](coroipcs_service_options& o) { o.struct_bytes = 8; },
      [](coroipcs_service_options& o) { o.policy = -1; },
      [](coroipcs_service_options& o) { o.policy = COROIPCS_POLICY_DISCONNECT + 1; },
      [](coroipcs_service_options& o) { o.priority = -1; },
      [](coroipcs_service_options& o) { o.priority = COROIPCS_PRIORITY_HIGH + 1; },
  };
  for (const ServiceChange change : service_changes) {
    coroipcs_service_options options;
    coroipcs_service_options_init(&options);
    change(options);
    CHECK_EQ(coroipcs_service_add(server, 1, &options), COROIPC_INVALID_ARGUMENT);
  }
  CHECK_EQ(coroipcs_service_add(server, 1, nullptr), COROIPC_OK);
  CHECK_EQ(coroipcs_service_add(server, 1, nullptr), COROIPC_INVALID_ARGUMENT);
  CHECK_EQ(coroipcs_listen(server, nullptr), COROIPC_INVALID_ARGUMENT);
  const std::string name = UniqueName();
  CHECK_EQ(coroipcs_listen(server, name.c_str()), COROIPC_OK);
  CHECK_EQ(coroipcs_listen(server, name.c_str()), COROIPC_INVALID_ARGUMENT);
  CHECK_EQ(coroipcs_listen_fd(server, 0), COROIPC_INVALID_ARGUMENT);
  CHECK_EQ(coroipcs_listen_inherited(server, 0, -1), COROIPC_INVALID_ARGUMENT);
  coroipcs_destroy(server);
  coroipcs_destroy(nullptr);
}
