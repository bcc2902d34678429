// What the tests of hostile peers share: tables of lies, and the two victims, each with an honest
// connection beside it that must never notice.
#ifndef COROIPC_TEST_HOSTILE_H_
#define COROIPC_TEST_HOSTILE_H_

#include <memory>
#include <set>

#include "client.h"
#include "peers.h"
#include "server.h"

namespace hostile {

using namespace peers;
using namespace coroipc;

// -- tables ---------------------------------------------------------------------------------------

// Named lies, each with the code that it has to end in.
template <typename Lie>
class Table {
 public:
  struct Row {
    std::string name;
    coroipc_status expected;
    Lie lie;
  };
  void Add(std::string name, coroipc_status expected, Lie lie) {
    rows_.push_back({std::move(name), expected, std::move(lie)});
  }
  const std::vector<Row>& rows() const { return rows_; }
  // The names of the rows that `judge` saw end in another code, or that it found fault with.
  std::vector<std::string> Judge(const std::function<coroipc_status(const Row&)>& judge) const {
    std::vector<std::string> wrong;
    for (const Row& row : rows_) {
      const int failures = check_failures;
      const coroipc_status seen = judge(row);
      if (seen == row.expected && check_failures == failures) continue;
      wrong.push_back(row.name);
      printf("# %s: %s instead of %s\n", row.name.c_str(), coroipc_status_name(seen),
             coroipc_status_name(row.expected));
    }
    return wrong;
  }

 private:
  std::vector<Row> rows_;
};

// Rows with different names, of all tables together.
class Names {
 public:
  template <typename Lie>
  void Add(const char* table, const Table<Lie>& rows) {
    for (const auto& row : rows.rows())
      CHECK(names_.insert(std::string(table) + ": " + row.name).second);
    printf("# %4zu %s\n", rows.rows().size(), table);
  }
  size_t count() const { return names_.size(); }

 private:
  std::set<std::string> names_;
};

inline std::string Named(const char* what, uint32_t value) {
  char name[128];
  snprintf(name, sizeof name, "%s %u (0x%x)", what, value, value);
  return name;
}

inline coroipc_record Record(uint8_t kind, uint32_t correlation = 0, uint8_t flags = 0) {
  coroipc_record record = {};
  record.kind = kind;
  record.correlation = correlation;
  record.flags = flags;
  return record;
}

// -- a server that is attacked --------------------------------------------------------------------

// A server, an honest client, and the check that both are well at the end.
inline constexpr uint16_t kNobody = 100;  // ids from here on have no handler

struct Scene {
  Scene() {
    server.options.requests_in_flight = 16;
    const auto handler_get = server.options.callbacks.handler_get;
    static const auto get = handler_get;
    server.options.callbacks.handler_get = [](coroipcs_connection* connection, uint16_t service,
                                              uint16_t id, void* context) {
      return id < kNobody ? get(connection, service, id, context) : nullptr;
    };
  }
  void Start() {
    server.Start();
    REQUIRE(honest.Connect(server.name) == COROIPC_OK);
    CHECK(honest.Echo());
  }
  ~Scene() {
    CHECK(honest.Echo());
    honest.Close();
    CHECK(Eventually([&] { return server.Stats().connections == 0; }));
    server.StopRunning();
    // Nothing is charged to anybody any more.
    for (const auto& [uid, account] : server.server->accounts) {
      CHECK_EQ(account.bytes, 0u);
      CHECK_EQ(account.connections, 0u);
      CHECK_EQ(account.handshakes, 0u);
    }
    CHECK_EQ(server.server->established, 0u);
    CHECK_EQ(server.server->handshakes, 0u);
  }
  Server server;
  Client honest;
};

// Shared by the rows of one table; gone, and looked at once more, when `Done` is called.
inline std::unique_ptr<Scene> shared_scene;
inline void Begin(const std::function<void(coroipcs_options*)>& change = nullptr) {
  shared_scene = std::make_unique<Scene>();
  if (change != nullptr) change(&shared_scene->server.options);
  shared_scene->Start();
}
inline void Done() { shared_scene.reset(); }

// -- a client that is attacked --------------------------------------------------------------------

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
inline coroipc_status ConnectTo(const std::function<void(RawServer&)>& lie,
                                int timeout_ms = kPatienceMs) {
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

// The reply with `change`, and `fds` beside it; -1 is the segment's.
inline void Reply(RawServer& server, const std::function<void(coroipc_setup_reply*)>& change,
                  std::vector<int> fds = {-1}) {
  coroipc_setup_reply reply = server.Reply();
  if (change != nullptr) change(&reply);
  for (int& fd : fds) fd = fd == -1 ? server.segment_fd : fd;
  CHECK(SendWithFds(server.socket, &reply, sizeof reply, fds));
}

struct CallOutcome {
  coroipc_status call, state;
};

// A client with one blocking call under way, while the server does `lie` after the handshake.
inline CallOutcome CallWhile(const std::function<void(RawServer&)>& lie,
                             int timeout_ms = kPatienceMs) {
  const int fds = OpenFds();
  CallOutcome outcome;
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
    outcome.call = client.Call(kEcho, "hello", 5, nullptr, timeout_ms);
    outcome.state = coroipcc_state(client.connection);
    liar.join();
    if (outcome.state != COROIPC_OK) {
      CHECK_EQ(LoadRelaxed(server.control->client.client_closed),
               static_cast<uint32_t>(outcome.state));
    }
  }
  CHECK_EQ(OpenFds(), fds);
  return outcome;
}

// The same for a lie that ends the connection: what its call said.
inline coroipc_status CallDuring(const std::function<void(RawServer&)>& lie,
                                 coroipc_status expected_state = COROIPC_PROTOCOL) {
  const CallOutcome outcome = CallWhile(lie);
  CHECK_EQ(outcome.state, expected_state);
  return outcome.call;
}

// The first automatic slot, first generation: what the first blocking request has.
inline constexpr uint32_t kFirst = 8 | 1u << 16;

}  // namespace hostile

#endif  // COROIPC_TEST_HOSTILE_H_
