// Connecting and what a group's loop receives: pipelined requests, rows, slots, cancels and late
// answers, buffers, dispatches, many connections behind one fd, ends in every order.
#include "client.h"

#include <signal.h>

#include "peers.h"

using namespace peers;
using namespace coroipc;

namespace {

struct Group {
  explicit Group(int threads = 0) {
    coroipcc_group_options options;
    coroipcc_group_options_init(&options);
    options.threads = threads;
    REQUIRE(coroipcc_group_create(&options, &group) == COROIPC_OK);
  }
  ~Group() { coroipcc_group_destroy(group); }
  // Sleeps on the fd as an event loop would, and takes what is there; false: nothing came.
  bool Turn(std::vector<Row>* rows, int patience_ms = kPatienceMs) {
    if (coroipcc_look(group, 0) == COROIPC_OK) {
      pollfd watched = {coroipcc_group_fd(group), POLLIN, 0};
      if (poll(&watched, 1, patience_ms) == 0) return false;
    }
    (void)coroipcc_receive(group, batch.get(), 1);
    for (Row& row : batch.Take()) rows->push_back(std::move(row));
    return true;
  }
  // Rows until `count` of `kind` have come.
  std::vector<Row> Until(uint32_t kind, size_t count = 1) {
    std::vector<Row> rows;
    for (;;) {
      size_t found = 0;
      for (const Row& row : rows) found += row.entry.kind == kind ? 1 : 0;
      if (found >= count) return rows;
      if (!Turn(&rows)) {
        printf("# no row of kind %u\n", kind);
        REQUIRE(found >= count);
      }
    }
  }
  Batch batch;
  coroipcc_group* group = nullptr;
};

// A server that keeps requests of ids without a handler of its own until it is told to answer.
struct Hesitant : Server {
  Hesitant() {
    handle = [this](coroipcs_connection* connection, const coroipcs_request* request) {
      const std::lock_guard lock(mutex);
      held.emplace_back(connection, request->correlation);
    };
    Start();
  }
  ~Hesitant() { Stop(); }
  // All that it keeps, once they are so many.
  void Answer(size_t count) {
    CHECK(Eventually([&] {
      const std::lock_guard lock(mutex);
      return held.size() == count;
    }));
    const std::lock_guard lock(mutex);
    for (const auto& [connection, correlation] : held) {
      CHECK_EQ(coroipcs_response_send(connection, correlation, COROIPC_OK, 0, nullptr, 0),
               COROIPC_OK);
    }
    held.clear();
  }

 private:
  std::mutex mutex;
  std::vector<std::pair<coroipcs_connection*, uint32_t>> held;
};

const Row* Find(const std::vector<Row>& rows, uint32_t kind, uint32_t correlation = 0) {
  for (const Row& row : rows) {
    if (row.entry.kind == kind && (correlation == 0 || row.entry.correlation == correlation))
      return &row;
  }
  return nullptr;
}

coroipc_entry RowFor(const Client& client, uint32_t kind, uint32_t slot, uint16_t id) {
  coroipc_entry row = {};
  row.connection = coroipcc_connection_number(client.connection);
  row.kind = kind;
  row.correlation = slot;
  row.id = id;
  return row;
}

}  // namespace

// -- connecting -----------------------------------------------------------------------------------

TEST("nobody there, a name that is none, options of another size: each has its code") {
  Client client;
  CHECK_EQ(client.Connect("@coroipc-test-nobody"), COROIPC_CONNECT_REFUSED);
  CHECK_EQ(client.Connect("/nonexistent/coroipc.sock"), COROIPC_CONNECT_REFUSED);
  CHECK_EQ(client.Connect("no/slashes"), COROIPC_INVALID_ARGUMENT);
  CHECK_EQ(client.Connect(""), COROIPC_INVALID_ARGUMENT);
  client.options.struct_bytes = 8;
  CHECK_EQ(client.Connect("@x"), COROIPC_INVALID_ARGUMENT);
}

TEST("a name is looked for in its candidates, in order") {
  char address[COROIPCC_ADDRESS_BYTES];
  REQUIRE(setenv("COROIPC_RUNTIME_DIR", "", 1) == 0 &&
          setenv("XDG_RUNTIME_DIR", "/run/user/7", 1) == 0);
  CHECK_EQ(coroipcc_address("demo", 0, address, sizeof address), COROIPC_OK);
  CHECK_STR_EQ(address, "/run/coroipc/demo");
  CHECK_EQ(coroipcc_address("demo", 1, address, sizeof address), COROIPC_OK);
  CHECK_STR_EQ(address, "/run/user/7/coroipc/demo");
  CHECK_EQ(coroipcc_address("demo", 2, address, sizeof address), COROIPC_AGAIN);
  CHECK_EQ(setenv("COROIPC_RUNTIME_DIR", "/own", 1), 0);
  CHECK_EQ(coroipcc_address("demo", 0, address, sizeof address), COROIPC_OK);
  CHECK_STR_EQ(address, "/own/demo");
  CHECK_EQ(coroipcc_address("demo", 1, address, sizeof address), COROIPC_AGAIN);
  for (const char* exact : {"@demo", "/a/b.sock"}) {
    CHECK_EQ(coroipcc_address(exact, 0, address, sizeof address), COROIPC_OK);
    CHECK_STR_EQ(address, exact);
    CHECK_EQ(coroipcc_address(exact, 1, address, sizeof address), COROIPC_AGAIN);
  }
  // The text with its end, and one byte less.
  CHECK_EQ(coroipcc_address("@demo", 0, address, 6), COROIPC_OK);
  CHECK_EQ(coroipcc_address("@demo", 0, address, 5), COROIPC_INVALID_ARGUMENT);
  CHECK_EQ(coroipcc_address("@demo", 0, nullptr, 0), COROIPC_INVALID_ARGUMENT);
  CHECK_EQ(coroipcc_address("a b", 0, address, sizeof address), COROIPC_INVALID_ARGUMENT);
  CHECK_EQ(coroipcc_address(nullptr, 0, address, sizeof address), COROIPC_INVALID_ARGUMENT);
  unsetenv("COROIPC_RUNTIME_DIR");
}

TEST("a server of another uid or pid than was demanded is denied") {
  Server server;
  server.Start();
  Client client;
  client.options.require_uid = 1;
  client.options.server_uid = getuid() + 1;
  CHECK_EQ(client.Connect(server.name), COROIPC_DENIED);
  client.options.server_uid = getuid();
  client.options.require_pid = 1;
  client.options.server_pid = getpid() + 1;
  CHECK_EQ(client.Connect(server.name), COROIPC_DENIED);
  client.options.server_pid = getpid();
  CHECK_EQ(client.Connect(server.name), COROIPC_OK);
  CHECK_EQ(coroipcc_server_credentials(client.connection)->uid, getuid());
}

TEST("not a byte is sent to a server of another uid than was demanded") {
  RawServer server;
  Client client;
  client.options.require_uid = 1;
  client.options.server_uid = getuid() + 1;
  std::thread connecting([&] { CHECK_EQ(client.Connect(server.name), COROIPC_DENIED); });
  pollfd watched = {server.listener, POLLIN, 0};
  REQUIRE(poll(&watched, 1, kPatienceMs) == 1);
  server.socket = accept4(server.listener, nullptr, nullptr, SOCK_CLOEXEC);
  char byte;
  CHECK_EQ(recv(server.socket, &byte, 1, 0), 0);  // it hangs up and has said nothing
  server.Hang();
  connecting.join();
}

TEST("a reply by another uid than was demanded is denied, whoever listens") {
  if (geteuid() != 0) SKIP("needs root, for a second uid");
  RawServer server;
  const pid_t child = fork();
  if (child == 0) {
    if (setresgid(12345, 12345, 12345) != 0 || setresuid(12345, 12345, 12345) != 0) _exit(1);
    for (;;) server.Serve();
  }
  Client client;
  client.options.require_uid = 1;
  client.options.server_uid = 0;
  CHECK_EQ(client.Connect(server.name), COROIPC_DENIED);
  // Nothing else was wrong with it.
  client.options.require_uid = 0;
  CHECK_EQ(client.Connect(server.name), COROIPC_OK);
  CHECK_EQ(coroipcc_server_credentials(client.connection)->uid, 12345u);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
}

TEST("sizes are negotiated between the client's wishes and the server's limits") {
  Server server;
  server.options.requests_in_flight = 100;
  server.options.message_bytes = 50000;
  server.Start();
  Client client;
  client.options.requests_in_flight = 7;
  client.options.message_bytes = 10000;
  REQUIRE(client.Connect(server.name) == COROIPC_OK);
  CHECK_EQ(coroipcc_requests_in_flight(client.connection), 7u);
  CHECK_EQ(coroipcc_message_bytes(client.connection), 10000u);
  Client greedy;
  greedy.options.requests_in_flight = 60000;
  greedy.options.message_bytes = 0xffffffff;
  greedy.options.request_ring_bytes = 0xffffffff;
  REQUIRE(greedy.Connect(server.name) == COROIPC_OK);
  CHECK_EQ(coroipcc_requests_in_flight(greedy.connection), 100u);
  CHECK_EQ(coroipcc_message_bytes(greedy.connection), 50000u);
  CHECK(coroipcc_connection_id(greedy.connection) != coroipcc_connection_id(client.connection));
  CHECK_EQ(coroipcc_server_id(greedy.connection), coroipcc_server_id(client.connection));
}

TEST("a connect that is begun ends by a row, whatever becomes of it") {
  Server server;
  server.Start();
  Group group;
  Client good, nobody, slow;
  CHECK_EQ(coroipcc_connect_start(group.group, server.name.c_str(), &good.options, 1000,
                                  &good.connection),
           COROIPC_OK);
  CHECK(Find(group.Until(COROIPC_KIND_CONNECTED), COROIPC_KIND_CONNECTED) != nullptr);
  CHECK(good.Echo());
  CHECK_EQ(coroipcc_connect_start(group.group, "@coroipc-test-nobody", &nobody.options, 1000,
                                  &nobody.connection),
           COROIPC_OK);
  std::vector<Row> rows = group.Until(COROIPC_KIND_CONNECT_FAILED);
  CHECK_EQ(rows.back().entry.argument, static_cast<uint32_t>(COROIPC_CONNECT_REFUSED));
  RawServer silent;
  CHECK_EQ(
      coroipcc_connect_start(group.group, silent.name.c_str(), &slow.options, 50, &slow.connection),
      COROIPC_OK);
  rows = group.Until(COROIPC_KIND_CONNECT_FAILED);
  CHECK_EQ(rows.back().entry.argument, static_cast<uint32_t>(COROIPC_TIMED_OUT));
  Client gone;
  CHECK_EQ(coroipcc_connect_start(group.group, silent.name.c_str(), &gone.options, 5000,
                                  &gone.connection),
           COROIPC_OK);
  gone.Close();  // ended early: no row
  good.Close();
  nobody.Close();
  slow.Close();
  rows.clear();
  CHECK(!group.Turn(&rows, 50) || rows.empty());
}

TEST("a full backlog is waited out") {
  const std::string name = UniqueName();
  const int listener = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  socklen_t bytes = 0;
  const sockaddr_un address = AddressOf(name, &bytes);
  REQUIRE(bind(listener, reinterpret_cast<const sockaddr*>(&address), bytes) == 0);
  REQUIRE(listen(listener, 0) == 0);
  RawClient first;
  REQUIRE(first.ConnectSocket(name));
  Client client;
  CHECK_EQ(coroipcc_connect(nullptr, name.c_str(), &client.options, 100, &client.connection),
           COROIPC_TIMED_OUT);
  Group group;
  CHECK_EQ(
      coroipcc_connect_start(group.group, name.c_str(), &client.options, 5000, &client.connection),
      COROIPC_OK);
  std::vector<Row> rows;
  (void)group.Turn(&rows, 20);
  CHECK(rows.empty());
  Server server;
  REQUIRE(coroipcs_create(&server.options, &server.server) == COROIPC_OK);
  REQUIRE(coroipcs_service_add(server.server, 1, &server.service) == COROIPC_OK);
  REQUIRE(coroipcs_listen_fd(server.server, listener) == COROIPC_OK);
  server.Run();
  CHECK(Find(group.Until(COROIPC_KIND_CONNECTED), COROIPC_KIND_CONNECTED) != nullptr);
  CHECK(client.Echo());
  client.Close();
}

// -- pipelined ------------------------------------------------------------------------------------

TEST("pipelined answers come with the correlation of their request, in whatever order") {
  std::vector<std::pair<coroipcs_connection*, uint32_t>> held;
  std::atomic<int> count{0};
  Server server;
  server.handle = [&](coroipcs_connection* connection, const coroipcs_request* request) {
    held.emplace_back(connection, request->correlation);
    if (++count < 10) return;
    for (size_t i = held.size(); i-- != 0;) {
      coroipcs_response_send(held[i].first, held[i].second, COROIPC_OK, static_cast<int32_t>(i),
                             nullptr, 0);
    }
  };
  server.Start();
  Group group;
  Client client;
  REQUIRE(client.Connect(server.name, group.group) == COROIPC_OK);
  uint32_t correlations[10];
  for (uint32_t& correlation : correlations) {
    REQUIRE(coroipcc_request_send(client.connection, 100, nullptr, 0, 0, &correlation) ==
            COROIPC_OK);
  }
  const std::vector<Row> rows = group.Until(COROIPC_KIND_RESPONSE, 10);
  uint32_t sequence = 0;
  for (size_t i = 0; i < 10; ++i) {
    const Row* const row = Find(rows, COROIPC_KIND_RESPONSE, correlations[i]);
    REQUIRE(row != nullptr);
    CHECK_EQ(row->entry.status, static_cast<int32_t>(i));
  }
  for (const Row& row : rows) {
    CHECK_EQ(row.entry.sequence, sequence++);
  }
  client.Close();
}

TEST("rows choose their slots, once at a time, and answers name them") {
  Server server;
  server.options.requests_in_flight = 8;
  server.Start();
  Group group;
  Client client;
  REQUIRE(client.Connect(server.name, group.group) == COROIPC_OK);
  const uint8_t arena[16] = "abcdefgh";
  for (int round = 0; round < 3; ++round) {
    std::vector<coroipc_entry> rows;
    for (uint32_t slot = 0; slot < 8; ++slot) {
      rows.push_back(RowFor(client, COROIPC_KIND_REQUEST, slot, kEcho));
      rows.back().offset = slot;
      rows.back().bytes = 1;
    }
    rows.push_back(RowFor(client, COROIPC_KIND_REQUEST, 3, kEcho));     // too many
    rows.push_back(RowFor(client, COROIPC_KIND_SEND, 0, kStatus));      // not counted
    rows.push_back(RowFor(client, COROIPC_KIND_RESPONSE, 0, kStatus));  // not a client's
    rows.push_back(RowFor(client, COROIPC_KIND_CANCEL, 8, 0));          // nothing there
    rows.push_back(RowFor(client, COROIPC_KIND_REQUEST, 0, kEcho));
    rows.back().connection = 77;
    coroipcc_send_batch(group.group, rows.data(), static_cast<uint32_t>(rows.size()), arena);
    for (uint32_t i = 0; i < 8; ++i) CHECK_EQ(rows[i].argument, 0u);
    CHECK_EQ(rows[8].argument, static_cast<uint32_t>(COROIPC_LIMIT));
    CHECK_EQ(rows[9].argument, 0u);
    CHECK_EQ(rows[10].argument, static_cast<uint32_t>(COROIPC_INVALID_ARGUMENT));
    CHECK_EQ(rows[11].argument, static_cast<uint32_t>(COROIPC_INVALID_ARGUMENT));
    CHECK_EQ(rows[12].argument, static_cast<uint32_t>(COROIPC_DISCONNECTED));
    std::map<uint32_t, int> seen;
    for (const Row& row : group.Until(COROIPC_KIND_RESPONSE, 8)) {
      if (row.entry.kind != COROIPC_KIND_RESPONSE) continue;
      ++seen[row.entry.correlation];
      REQUIRE(row.payload.size() == 1);
      CHECK_EQ(row.payload[0], arena[row.entry.correlation]);
    }
    CHECK_EQ(seen.size(), 8u);
    CHECK_EQ(seen.rbegin()->first, 7u);
  }
  coroipc_entry outside = RowFor(client, COROIPC_KIND_REQUEST, 8, kEcho);
  CHECK_EQ(coroipcc_send_row(client.connection, &outside, nullptr, 0), COROIPC_INVALID_ARGUMENT);
  coroipc_entry twice = RowFor(client, COROIPC_KIND_REQUEST, 2, kSilent);
  CHECK_EQ(coroipcc_send_row(client.connection, &twice, nullptr, 0), COROIPC_OK);
  CHECK_EQ(coroipcc_send_row(client.connection, &twice, nullptr, 0), COROIPC_INVALID_ARGUMENT);
  client.Close();
}

TEST("a cancelled row frees its slot by the late answer, not before") {
  Hesitant server;
  Group group;
  Client client;
  REQUIRE(client.Connect(server.name, group.group) == COROIPC_OK);
  coroipc_entry row = RowFor(client, COROIPC_KIND_REQUEST, 5, 100);
  REQUIRE(coroipcc_send_row(client.connection, &row, nullptr, 0) == COROIPC_OK);
  coroipc_entry cancel = RowFor(client, COROIPC_KIND_CANCEL, 5, 0);
  REQUIRE(coroipcc_send_row(client.connection, &cancel, nullptr, 0) == COROIPC_OK);
  CHECK_EQ(coroipcc_send_row(client.connection, &cancel, nullptr, 0), COROIPC_INVALID_ARGUMENT);
  CHECK_EQ(coroipcc_send_row(client.connection, &row, nullptr, 0), COROIPC_INVALID_ARGUMENT);
  CHECK(Eventually([&] { return server.cancels == 1; }));
  server.Answer(1);
  const std::vector<Row> rows = group.Until(COROIPC_KIND_SLOT_FREE);
  REQUIRE(!rows.empty());
  CHECK_EQ(rows.back().entry.correlation, 5u);
  CHECK(Find(rows, COROIPC_KIND_RESPONSE) == nullptr);
  CHECK_EQ(coroipcc_send_row(client.connection, &row, nullptr, 0), COROIPC_OK);
  coroipc_stats stats;
  coroipcc_stats(client.connection, &stats, 0);
  CHECK_EQ(stats.cancelled, 1u);
  CHECK_EQ(stats.late_responses, 1u);
  CHECK_EQ(stats.in_flight, 1u);
  client.Close();
}

TEST("a blocking call that was given up counts as in flight until its late answer") {
  Hesitant server;
  Group group;
  Client client;
  REQUIRE(client.Connect(server.name, group.group) == COROIPC_OK);
  for (int i = 0; i < 2; ++i) {
    CHECK_EQ(coroipcc_request(client.connection, 100, nullptr, 0, 1, nullptr, 0, nullptr),
             COROIPC_TIMED_OUT);
  }
  CHECK_EQ(coroipcc_given_up(client.connection), 2u);
  server.Answer(2);
  const std::vector<Row> rows = group.Until(COROIPC_KIND_SLOT_FREE);
  REQUIRE(!rows.empty());
  CHECK_EQ(rows.back().entry.correlation, COROIPC_SLOT_ANY);
  CHECK(Eventually([&] { return coroipcc_given_up(client.connection) == 0; }));
  client.Close();
}

TEST("a slot's generation goes round and round") {
  Server server;
  server.options.requests_in_flight = 1;
  server.Start();
  Client client;
  REQUIRE(client.Connect(server.name) == COROIPC_OK);
  coroipcc_response response;
  for (int i = 0; i < 66000; ++i) {
    const coroipc_status status = coroipcc_request(client.connection, kStatus, nullptr, 0,
                                                   kPatienceMs, nullptr, 0, &response);
    if (status != COROIPC_OK) {
      CHECK_EQ(status, COROIPC_OK);
      break;
    }
  }
}

TEST("FULL when the queue of this side is full, then ROOM, and the order is kept") {
  static std::atomic<uint32_t> next;
  std::atomic<bool> go{false};
  Server server;
  server.options.request_ring_bytes = 4096;
  next = 0;
  server.handle = [&](coroipcs_connection*, const coroipcs_request* request) {
    while (!go) SleepMs(1);
    uint32_t number = 0;
    memcpy(&number, request->payload, sizeof number);
    CHECK_EQ(number, next);
    next = number + 1;
  };
  server.Start();
  Group group;
  Client client;
  client.options.queue_bytes = 8192;
  REQUIRE(client.Connect(server.name, group.group) == COROIPC_OK);
  for (const bool request : {false, true}) {
    go = false;
    uint8_t bytes[500] = {};
    const iovec part = Part(bytes, sizeof bytes);
    uint32_t number = next;
    uint32_t correlation = 0;
    coroipc_status status = COROIPC_OK;
    while (status == COROIPC_OK) {
      memcpy(bytes, &number, sizeof number);
      status = request && number > next + 20
                   ? coroipcc_request_send(client.connection, 100, &part, 1, 0, &correlation)
                   : coroipcc_send(client.connection, 100, &part, 1);
      if (status == COROIPC_OK) ++number;
      REQUIRE(number < 1000);
    }
    CHECK_EQ(status, COROIPC_FULL);
    coroipc_stats stats;
    coroipcc_stats(client.connection, &stats, 0);
    CHECK(stats.backlog_messages > 0);
    go = true;
    CHECK(Find(group.Until(COROIPC_KIND_ROOM), COROIPC_KIND_ROOM) != nullptr);
    CHECK(Eventually([&] { return next == number; }));
    coroipcc_stats(client.connection, &stats, 0);
    CHECK_EQ(stats.backlog_messages, 0u);
    CHECK_EQ(stats.backlog_bytes, 0u);
  }
  client.Close();
}

TEST("large pipelined messages wait for segments and come through in order") {
  Server server;
  server.options.segments = 3;
  static std::atomic<uint32_t> next;
  next = 0;
  server.handle = [](coroipcs_connection* connection, const coroipcs_request* request) {
    uint32_t number = 0;
    memcpy(&number, request->payload, sizeof number);
    CHECK_EQ(number, next);
    ++next;
    const iovec part = Part(request->payload, request->bytes);
    if (!request->one_way)
      coroipcs_response_send(connection, request->correlation, COROIPC_OK, 0, &part, 1);
  };
  server.Start();
  Group group;
  Client client;
  client.options.queue_bytes = 64u << 20;
  REQUIRE(client.Connect(server.name, group.group) == COROIPC_OK);
  std::vector<uint8_t> bytes(300000, 'l');
  for (uint32_t i = 0; i < 30; ++i) {
    memcpy(bytes.data(), &i, sizeof i);
    const iovec part = Part(bytes.data(), i % 3 == 2 ? 100 : bytes.size());
    uint32_t correlation = 0;
    if (i % 5 == 4) {
      CHECK_EQ(coroipcc_send(client.connection, 100, &part, 1), COROIPC_OK);
    } else {
      CHECK_EQ(coroipcc_request_send(client.connection, 100, &part, 1, 0, &correlation),
               COROIPC_OK);
    }
  }
  for (const Row& row : group.Until(COROIPC_KIND_RESPONSE, 24)) {
    if (row.entry.kind != COROIPC_KIND_RESPONSE) continue;
    CHECK_EQ(row.entry.argument, 0u);
    CHECK(row.payload.size() == 100 || row.payload.size() == 300000);
  }
  CHECK(Eventually([] { return next == 30; }));
  client.Close();
}

TEST("the segment of a large request stays for the next one") {
  Server server;
  server.Start();
  Client client;
  REQUIRE(client.Connect(server.name) == COROIPC_OK);
  for (int i = 0; i < 3; ++i) {
    CHECK(client.Echo(300000));
    REQUIRE(client.connection->buffer(0) != nullptr);
    CHECK_EQ(client.connection->buffer(0)->owner, Owner::kFree);
    CHECK_EQ(client.connection->buffer(0)->generation, 1u);
  }
}

// -- buffers --------------------------------------------------------------------------------------

TEST("a buffer goes to the server and back, by call and by row") {
  Server server;
  server.Start();
  Group group;
  Client client;
  REQUIRE(client.Connect(server.name, group.group) == COROIPC_OK);
  coroipc_buffer* buffer = nullptr;
  CHECK_EQ(coroipcc_buffer_alloc(client.connection, 0, -1, &buffer), COROIPC_INVALID_ARGUMENT);
  CHECK_EQ(coroipcc_buffer_alloc(client.connection, (1u << 20) + 1, -1, &buffer),
           COROIPC_TOO_LARGE);
  REQUIRE(coroipcc_buffer_alloc(client.connection, 5000, -1, &buffer) == COROIPC_OK);
  CHECK_EQ(coroipc_buffer_bytes(buffer), 5000u);
  for (int round = 0; round < 3; ++round) {
    memset(coroipc_buffer_data(buffer), 'b', 5000);
    coroipcc_response response;
    CHECK_EQ(coroipcc_request_buffer(client.connection, kEcho, buffer, 1, 1u << 20, -1, &response),
             COROIPC_INVALID_ARGUMENT);
    REQUIRE(coroipcc_request_buffer(client.connection, kEcho, buffer, 1000, 3000, -1, &response) ==
            COROIPC_OK);
    CHECK_EQ(response.bytes, 3000u);
    CHECK_EQ(static_cast<const char*>(response.data)[2999], 'b');
    CHECK_EQ(coroipcc_response_release(client.connection), COROIPC_OK);
    uint32_t correlation = 0, second = 0;
    REQUIRE(coroipcc_request_send_buffer(client.connection, kEcho, buffer, 0, 10, 0,
                                         &correlation) == COROIPC_OK);
    CHECK_EQ(coroipcc_request_send_buffer(client.connection, kEcho, buffer, 0, 10, 0, &second),
             COROIPC_INVALID_ARGUMENT);  // it is the server's until the answer
    const std::vector<Row> rows = group.Until(COROIPC_KIND_RESPONSE);
    CHECK_EQ(rows.back().payload.size(), 10u);
  }
  coroipc_buffer_release(buffer);
  uint32_t correlation = 0;
  REQUIRE(coroipcc_buffer_alloc_start(client.connection, 200000, &correlation) == COROIPC_OK);
  const std::vector<Row> rows = group.Until(COROIPC_KIND_BUFFER);
  CHECK_EQ(rows.back().entry.correlation, correlation);
  REQUIRE(coroipcc_buffer_get(client.connection, rows.back().entry.segment, &buffer) == COROIPC_OK);
  CHECK(coroipc_buffer_bytes(buffer) >= 200000);
  memset(coroipc_buffer_data(buffer), 1, 200000);
  coroipc_buffer_release(buffer);
  client.Close();
}

TEST("a row whose payload is in a buffer is answered under its slot") {
  Server server;
  server.Start();
  Group group;
  Client client;
  REQUIRE(client.Connect(server.name, group.group) == COROIPC_OK);
  coroipc_buffer* buffer = nullptr;
  REQUIRE(coroipcc_buffer_alloc(client.connection, 5000, -1, &buffer) == COROIPC_OK);
  for (uint32_t i = 0; i < 5000; ++i)
    static_cast<uint8_t*>(coroipc_buffer_data(buffer))[i] = static_cast<uint8_t>(i);
  coroipc_entry row = RowFor(client, COROIPC_KIND_REQUEST, 3, kEcho);
  CHECK_EQ(coroipcc_send_row_buffer(client.connection, &row, nullptr, 0, 0),
           COROIPC_INVALID_ARGUMENT);
  CHECK_EQ(coroipcc_send_row_buffer(client.connection, &row, buffer, 1, 1u << 20),
           COROIPC_INVALID_ARGUMENT);
  coroipc_entry send = RowFor(client, COROIPC_KIND_SEND, 0, kEcho);
  CHECK_EQ(coroipcc_send_row_buffer(client.connection, &send, buffer, 0, 10),
           COROIPC_INVALID_ARGUMENT);
  CHECK_EQ(coroipcc_send_row_buffer(client.connection, &row, buffer, 1001, 300), COROIPC_OK);
  coroipc_entry again = RowFor(client, COROIPC_KIND_REQUEST, 4, kEcho);
  CHECK_EQ(coroipcc_send_row_buffer(client.connection, &again, buffer, 0, 10),
           COROIPC_INVALID_ARGUMENT);  // it is the server's until the answer
  const std::vector<Row> rows = group.Until(COROIPC_KIND_RESPONSE);
  CHECK_EQ(rows.back().entry.correlation, 3u);
  CHECK_EQ(rows.back().entry.argument, static_cast<uint32_t>(COROIPC_OK));
  REQUIRE(rows.back().payload.size() == 300);
  CHECK_EQ(rows.back().payload[0], static_cast<uint8_t>(1001));
  CHECK_EQ(rows.back().payload[299], static_cast<uint8_t>(1300));
  CHECK_EQ(coroipcc_send_row_buffer(client.connection, &again, buffer, 0, 10), COROIPC_OK);
  CHECK_EQ(group.Until(COROIPC_KIND_RESPONSE).back().entry.correlation, 4u);
  coroipc_buffer_release(buffer);
  client.Close();
}

TEST("all the buffers there are can be had, the next is LIMIT, a cancelled want is given back") {
  Server server;
  server.options.segments = 4;
  server.Start();
  Group group;
  Client client;
  REQUIRE(client.Connect(server.name, group.group) == COROIPC_OK);
  for (int round = 0; round < 3; ++round) {
    coroipc_buffer* buffers[4] = {};
    for (coroipc_buffer*& buffer : buffers)
      CHECK_EQ(coroipcc_buffer_alloc(client.connection, 70000, -1, &buffer), COROIPC_OK);
    coroipc_buffer* more = nullptr;
    CHECK_EQ(coroipcc_buffer_alloc(client.connection, 70000, -1, &more), COROIPC_LIMIT);
    for (coroipc_buffer* buffer : buffers) coroipc_buffer_release(buffer);
    uint32_t correlation = 0;
    CHECK_EQ(coroipcc_buffer_alloc_start(client.connection, 400000, &correlation), COROIPC_OK);
    if (coroipcc_cancel(client.connection, correlation) != COROIPC_OK) {
      // One of its own was free and large enough: it is there already.
      const uint32_t segment = group.Until(COROIPC_KIND_BUFFER).back().entry.segment;
      REQUIRE(coroipcc_buffer_get(client.connection, segment, &more) == COROIPC_OK);
      coroipc_buffer_release(more);
    }
    CHECK(client.Echo());
  }
  client.Close();
}

TEST("buffers outlive the connection and the group") {
  Server server;
  server.Start();
  coroipc_buffer *sent = nullptr, *kept = nullptr;
  {
    Group group(1);
    Client client;
    client.options.trust_server = 1;
    REQUIRE(client.Connect(server.name, group.group) == COROIPC_OK);
    REQUIRE(coroipcc_buffer_alloc(client.connection, 5000, -1, &sent) == COROIPC_OK);
    const uint32_t count = 300000;
    const iovec part = Part(&count, sizeof count);
    uint32_t correlation = 0;
    REQUIRE(coroipcc_request_send(client.connection, kFill, &part, 1, 0, &correlation) ==
            COROIPC_OK);
    const std::vector<Row> rows = group.Until(COROIPC_KIND_RESPONSE);
    REQUIRE(rows.back().entry.flags == COROIPC_IN_SEGMENT);
    REQUIRE(coroipcc_buffer_get(client.connection, rows.back().entry.segment, &kept) == COROIPC_OK);
    client.Close();
  }
  CHECK_EQ(static_cast<char*>(coroipc_buffer_data(kept))[299999], 'f');
  memset(coroipc_buffer_data(sent), 9, 5000);
  coroipc_buffer_release(kept);
  coroipc_buffer_release(sent);
}

// -- many connections, ends -----------------------------------------------------------------------

TEST("one fd serves many connections, and each row says whose it is") {
  Server server;
  server.options.request_ring_bytes = server.options.response_ring_bytes = 4096;
  server.options.dispatch_ring_bytes = 4096;
  server.Start();
  Group group;
  constexpr uint32_t kMany = 100;
  std::vector<std::unique_ptr<Client>> clients;
  for (uint32_t i = 0; i < kMany; ++i) {
    clients.push_back(std::make_unique<Client>());
    REQUIRE(clients.back()->Connect(server.name, group.group) == COROIPC_OK);
    coroipcc_dispatch_flow(clients.back()->connection, 1);
  }
  for (int round = 0; round < 3; ++round) {
    for (uint32_t i = 0; i < kMany; ++i) {
      const uint32_t count = 1 + i % 3;
      const iovec part = Part(&count, sizeof count);
      uint32_t correlation = 0;
      CHECK_EQ(
          coroipcc_request_send(clients[i]->connection, kDispatches, &part, 1, 0, &correlation),
          COROIPC_OK);
    }
    std::map<uint32_t, int> answers, dispatches;
    for (const Row& row : group.Until(COROIPC_KIND_RESPONSE, kMany)) {
      if (row.entry.kind == COROIPC_KIND_RESPONSE) ++answers[row.entry.connection];
      if (row.entry.kind == COROIPC_KIND_DISPATCH) ++dispatches[row.entry.connection];
    }
    CHECK_EQ(answers.size(), kMany);
    std::vector<Row> rest;
    for (uint32_t i = 0; i < kMany; ++i) {
      const uint32_t number = coroipcc_connection_number(clients[i]->connection);
      CHECK(coroipcc_connection_at(group.group, number) == clients[i]->connection);
      while (dispatches[number] < static_cast<int>(1 + i % 3) && group.Turn(&rest)) {
        for (const Row& row : rest) {
          if (row.entry.kind == COROIPC_KIND_DISPATCH) ++dispatches[row.entry.connection];
        }
        rest.clear();
      }
      CHECK_EQ(dispatches[number], static_cast<int>(1 + i % 3));
    }
  }
  // In one batch, which keeps fewer of them in mind at once, and names one that is gone.
  std::vector<coroipc_entry> rows(kMany + 1);
  for (uint32_t i = 0; i < kMany; ++i) {
    rows[i].connection = coroipcc_connection_number(clients[i]->connection);
    rows[i].kind = COROIPC_KIND_REQUEST;
    rows[i].id = kEcho;
    rows[i].bytes = sizeof i;
  }
  rows[kMany] = rows[0];
  rows[kMany].connection += 1000;
  const uint32_t payload = 0x12345678;
  coroipcc_send_batch(group.group, rows.data(), kMany + 1,
                      reinterpret_cast<const uint8_t*>(&payload));
  CHECK_EQ(rows[kMany].argument, static_cast<uint32_t>(COROIPC_DISCONNECTED));
  std::map<uint32_t, int> echoes;
  for (const Row& row : group.Until(COROIPC_KIND_RESPONSE, kMany)) {
    if (row.entry.kind == COROIPC_KIND_RESPONSE && row.payload.size() == sizeof payload)
      ++echoes[row.entry.connection];
  }
  CHECK_EQ(echoes.size(), kMany);
  for (auto& client : clients) client->Close();
}

TEST("a disarmed group is not rung for, and finds what came at its next look") {
  Server server;
  server.Start();
  Group group;
  if (group.group->one_cpu()) SKIP("on one CPU nobody looks without a doorbell");
  Client client;
  REQUIRE(client.Connect(server.name, group.group) == COROIPC_OK);
  REQUIRE(Eventually([&] { return server.last != nullptr; }));
  coroipcc_dispatch_flow(client.connection, 1);
  const auto dispatch = [&] {  // how often it rang
    coroipc_stats before, after;
    coroipcs_connection_stats(server.last, &before, 0);
    CHECK_EQ(coroipcs_dispatch_send(server.last, 9, nullptr, 0), COROIPC_OK);
    coroipcs_connection_stats(server.last, &after, 0);
    return after.doorbells_sent - before.doorbells_sent;
  };
  const auto settle = [&] {
    while (coroipcc_look(group.group, 0) != COROIPC_OK)
      (void)coroipcc_receive(group.group, group.batch.get(), 1);
  };
  // Only what was active lately is disarmed, and a busy machine may make it too late.
  bool disarmed = false;
  for (int round = 0; round < 500 && !disarmed; ++round) {
    settle();
    CHECK_EQ(dispatch(), 1u);
    (void)group.Until(COROIPC_KIND_DISPATCH);
    settle();
    coroipcc_disarm(group.group);
    disarmed = dispatch() == 0;
    if (disarmed) CHECK_EQ(coroipcc_look(group.group, 0), COROIPC_AGAIN);
    (void)group.Until(COROIPC_KIND_DISPATCH);
  }
  CHECK(disarmed);
  client.Close();
}

TEST("a dead server is told to every connection: what came, what nobody knows, then the end") {
  int ready[2];
  REQUIRE(pipe(ready) == 0);
  const std::string name = UniqueName();
  const pid_t child = fork();
  if (child == 0) {
    Server server;
    if (coroipcs_create(&server.options, &server.server) != COROIPC_OK) _exit(1);
    if (coroipcs_service_add(server.server, 1, &server.service) != COROIPC_OK) _exit(1);
    if (coroipcs_listen(server.server, name.c_str()) != COROIPC_OK) _exit(1);
    if (write(ready[1], "x", 1) != 1) _exit(1);
    coroipcs_run(server.server);
    _exit(0);
  }
  char byte;
  REQUIRE(read(ready[0], &byte, 1) == 1);
  Group group;
  Client one, two;
  REQUIRE(one.Connect(name, group.group) == COROIPC_OK);
  REQUIRE(two.Connect(name, group.group) == COROIPC_OK);
  coroipcc_dispatch_flow(one.connection, 1);
  uint32_t silent = 0, dispatching = 0;
  const uint32_t count = 20;
  const iovec part = Part(&count, sizeof count);
  REQUIRE(coroipcc_request_send(one.connection, kSilent, nullptr, 0, 0, &silent) == COROIPC_OK);
  REQUIRE(coroipcc_request_send(one.connection, kDispatches, &part, 1, 0, &dispatching) ==
          COROIPC_OK);
  CHECK(two.Echo());  // both of one's were read before this one... or soon
  SleepMs(50);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  const std::vector<Row> rows = group.Until(COROIPC_KIND_DISCONNECTED, 2);
  int dispatches = 0;
  const uint32_t number = coroipcc_connection_number(one.connection);
  bool unknown = false, ended = false;
  for (const Row& row : rows) {
    if (row.entry.connection != number) continue;
    CHECK(!ended);  // nothing comes after the end
    dispatches += row.entry.kind == COROIPC_KIND_DISPATCH;
    if (row.entry.kind == COROIPC_KIND_RESPONSE && row.entry.correlation == silent) {
      CHECK_EQ(row.entry.argument, static_cast<uint32_t>(COROIPC_UNKNOWN_OUTCOME));
      unknown = true;
    }
    if (row.entry.kind == COROIPC_KIND_DISCONNECTED) {
      CHECK_EQ(row.entry.argument, static_cast<uint32_t>(COROIPC_PEER_DEAD));
      ended = true;
    }
  }
  CHECK_EQ(dispatches, 20);
  CHECK(unknown && ended);
  uint32_t correlation = 0;
  CHECK_EQ(coroipcc_request_send(one.connection, kEcho, nullptr, 0, 0, &correlation),
           COROIPC_PEER_DEAD);
  one.Close();
  two.Close();
  close(ready[0]);
  close(ready[1]);
}

TEST("what a server had not read when it closed was never handed over; what it had is unknown") {
  Server server;
  server.Start();
  Group group;
  Client client;
  REQUIRE(client.Connect(server.name, group.group) == COROIPC_OK);
  uint32_t read = 0, unread[3] = {};
  REQUIRE(coroipcc_request_send(client.connection, kSilent, nullptr, 0, 0, &read) == COROIPC_OK);
  CHECK(Eventually([&] { return server.handled == 1; }));
  server.StopRunning();
  const std::vector<uint8_t> payload(1000, 7);  // the last one lies in the ring as well
  for (uint32_t& each : unread) {
    const iovec part = Part(payload.data(), payload.size());
    REQUIRE(coroipcc_request_send(client.connection, kEcho, &part, 1, 0, &each) == COROIPC_OK);
  }
  CHECK_EQ(coroipcs_close(server.server), COROIPC_OK);
  const std::vector<Row> rows = group.Until(COROIPC_KIND_DISCONNECTED);
  const Row* const silent = Find(rows, COROIPC_KIND_RESPONSE, read);
  REQUIRE(silent != nullptr);
  CHECK_EQ(silent->entry.argument, static_cast<uint32_t>(COROIPC_UNKNOWN_OUTCOME));
  for (const uint32_t each : unread) {
    const Row* const row = Find(rows, COROIPC_KIND_RESPONSE, each);
    REQUIRE(row != nullptr);
    CHECK_EQ(row->entry.argument, static_cast<uint32_t>(COROIPC_DISCONNECTED));
  }
  CHECK_EQ(server.handled.load(), 1);
}

TEST("a group goes with its connections, their leases and their buffers") {
  Server server;
  server.Start();
  Group group;
  Client client;
  REQUIRE(client.Connect(server.name, group.group) == COROIPC_OK);
  const uint32_t count = 2;
  CHECK_EQ(client.Call(kDispatches, &count, sizeof count), COROIPC_OK);
  coroipcc_dispatch dispatch;
  REQUIRE(coroipcc_dispatch_receive(client.connection, 1000, &dispatch) == COROIPC_OK);
  client.connection = nullptr;  // and it is gone with the group
}

TEST("a blocking call on a connection of a group leaves the fd readable for what it met") {
  for (const int threads : {0, 1}) {
    Server server;
    server.Start();
    Group group(threads);
    Client client;
    REQUIRE(client.Connect(server.name, group.group) == COROIPC_OK);
    coroipcc_dispatch_flow(client.connection, 1);
    std::vector<Row> rows;
    while (group.Turn(&rows, 20)) continue;
    rows.clear();
    // Everything is armed and the fd quiet. The call below takes another request's answer along.
    uint32_t correlation = 0;
    CHECK_EQ(coroipcc_request_send(client.connection, kStatus, nullptr, 0, 0, &correlation),
             COROIPC_OK);
    const uint32_t count = 3;
    CHECK_EQ(client.Call(kDispatches, &count, sizeof count), COROIPC_OK);
    pollfd watched = {coroipcc_group_fd(group.group), POLLIN, 0};
    CHECK_EQ(poll(&watched, 1, kPatienceMs), 1);
    CHECK(Find(group.Until(COROIPC_KIND_DISPATCH, 3), COROIPC_KIND_RESPONSE, correlation) !=
          nullptr);
    client.Close();
  }
}
