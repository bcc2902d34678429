// The server of a swept session (session.h): one service, handlers that answer at once. It says
// "listening" and its pid, serves until SIGTERM or, with --closer server, until it is told to
// close, and waits then until its clients are gone. What it saw is its last line.
#include <coroipc/coroipcs.h>
#include <poll.h>

#include <optional>

#include "session.h"

namespace sweep {
namespace {

coroipcs_server* g_server = nullptr;
volatile sig_atomic_t g_stop = 0;
bool g_close = false;
uint32_t g_connected = 0, g_disconnected = 0;
uint32_t g_notes = 0, g_calls = 0, g_dispatches = 0;
uint64_t g_noticed_ns = 0;
coroipc_status g_why = COROIPC_OK;
std::string g_refusals;  // of the server's own calls
std::optional<Section> g_serving;

void Check(const char* call, coroipc_status status) {
  if (status == COROIPC_OK) return;
  g_refusals +=
      std::string(g_refusals.empty() ? "" : " ") + call + ":" + coroipc_status_name(status);
  const bool ran_out = status == COROIPC_NO_MEMORY || status == COROIPC_SYSTEM ||
                       status == COROIPC_LIMIT || status == COROIPC_FULL;
  const bool gone = status == COROIPC_DISCONNECTED || status == COROIPC_PEER_DEAD;
  if (!gone && !(g_options.injected && ran_out))
    Violate("%s: %s", call, coroipc_status_name(status));
}

void Handle(coroipcs_connection* connection, const coroipcs_request* request, void*) {
  if (request->id == kNote) {
    CheckMessage("note", request->payload, request->bytes, &g_notes);
    g_ledger->notes_executed = g_notes;
    return;
  }
  if (request->id == kClose) {
    g_close = true;
    return;
  }
  if (request->id == kPing) {
    Check("response_send",
          coroipcs_response_send(connection, request->correlation, COROIPC_OK, 0, nullptr, 0));
    return;
  }
  CheckMessage("call", request->payload, request->bytes, &g_calls);
  g_ledger->calls_executed = g_calls;
  for (uint32_t i = 0; request->id == kDispatches && i < kDispatchesEach; ++i) {
    const uint32_t number = ++g_dispatches;
    const std::vector<uint8_t> payload = Payload(number, BytesOf(number));
    const iovec part = {const_cast<uint8_t*>(payload.data()), payload.size()};
    g_ledger->dispatches_begun = number;
    Check("dispatch_send", coroipcs_dispatch_send(connection, 1, &part, 1));
    g_ledger->dispatches_done = number;
  }
  if (request->id == kAsleep) AwaitSleep(g_ledger->client_pid);
  const iovec part = {const_cast<void*>(request->payload), request->bytes};
  Check("response_send",
        coroipcs_response_send(connection, request->correlation, COROIPC_OK, 0, &part, 1));
}

coroipcs_handler_fn HandlerGet(coroipcs_connection*, uint16_t, uint16_t, void*) { return Handle; }

bool IsWitness(coroipcs_connection* connection) {
  return coroipcs_connection_service(connection) == kWitnessed;
}

void Connected(coroipcs_connection* connection, void*) {
  if (IsWitness(connection)) return;
  ++g_connected;
  g_serving.emplace("serve");
}

// Why a client went, against how far it was.
int Disconnected(coroipcs_connection* connection, coroipc_status why, void*) {
  if (IsWitness(connection)) return 0;
  ++g_disconnected;
  g_noticed_ns = NowNs();
  g_why = why;
  g_serving.reset();
  const uint32_t phase = g_ledger->client_phase;
  if (why == COROIPC_DISCONNECTED) {
    if (phase < kClosing && !g_close && !g_options.injected)
      Violate("the client was killed, and said to have closed");
  } else if (why == COROIPC_PEER_DEAD) {
    if (phase == kClosed && !g_options.injected) Violate("the client had closed, and is said dead");
  } else if (!(g_options.injected && (why == COROIPC_NO_MEMORY || why == COROIPC_SYSTEM))) {
    Violate("disconnected: %s", coroipc_status_name(why));
  }
  if (g_close || g_options.injected) return 0;
  if (g_notes < g_ledger->notes_done)
    Violate("%u notes were sent, %u came", g_ledger->notes_done.load(), g_notes);
  if (g_notes > g_ledger->notes_begun || g_calls > g_ledger->calls_begun)
    Violate("more came than was sent");
  return 0;
}

coroipc_status Listen() {
  const Section section("listen");
  coroipcs_options options;
  coroipcs_options_init(&options);
  options.wait = g_options.wait;
  options.prefault = g_options.prefault ? 1 : 0;
  options.callbacks.handler_get = HandlerGet;
  options.callbacks.connected = Connected;
  options.callbacks.disconnected = Disconnected;
  coroipc_status status = coroipcs_create(&options, &g_server);
  if (status != COROIPC_OK) return status;
  for (const uint16_t service : {kService, kWitnessed}) {
    status = coroipcs_service_add(g_server, service, nullptr);
    if (status != COROIPC_OK) return status;
  }
  return coroipcs_listen(g_server, g_options.name);
}

// False: a client is still there, although it has gone.
bool Drained() {
  coroipc_stats stats = {};
  coroipcs_stats(g_server, &stats, 0);
  return stats.connections == 0 && stats.handshakes_pending == 0;
}

// One turn, and what may be slept for.
void Serve(int wait_ms) {
  coroipc_status status = coroipcs_process(g_server, 0);
  if (status == COROIPC_OK && !g_close) {
    pollfd fd = {coroipcs_fd(g_server), POLLIN, 0};
    const timespec wait = {wait_ms / 1000, wait_ms % 1000 * 1000000};
    sigset_t all_open;
    sigemptyset(&all_open);
    ppoll(&fd, 1, &wait, &all_open);
  } else if (status != COROIPC_OK && status != COROIPC_AGAIN) {
    Check("process", status);
  }
}

int Main() {
  struct sigaction action = {};
  action.sa_handler = [](int) { g_stop = 1; };
  sigaction(SIGTERM, &action, nullptr);
  // Taken in ppoll only: between a look at g_stop and the sleep it would be missed.
  sigset_t term;
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  sigprocmask(SIG_BLOCK, &term, nullptr);
  const Gauge before = Read();
  const coroipc_status listening = Listen();
  const bool refused = listening != COROIPC_OK;
  if (refused) {
    if (!(g_options.injected && (listening == COROIPC_NO_MEMORY || listening == COROIPC_SYSTEM)))
      Violate("listen: %s", coroipc_status_name(listening));
  } else {
    g_ledger->server_pid = getpid();
    g_ledger->server_phase = kOpen;
    printf("listening %d\n", getpid());
    const Gauge idle = Read();
    {
      std::optional<Section> accepting(std::in_place, "accept");
      while (g_stop == 0 && !g_close) {
        // Long: a turn looks at words, too, so that each one would do for a doorbell that was lost.
        Serve(60000);
        if (g_connected != 0) accepting.reset();
      }
    }
    const uint64_t give_up = NowNs() + 10000000000u;
    while (!g_close && !Drained() && NowNs() < give_up) Serve(10);
    if (!g_close && !Drained()) Violate("a client that is gone is still there after 10 s");
    coroipcs_process(g_server, 0);  // frees what has just ended
    coroipcs_process(g_server, 0);
    if (!g_close) CheckGauge(idle);
    if (!g_close && g_connected != g_disconnected)
      Violate("%u connected, %u disconnected", g_connected, g_disconnected);
  }
  coroipc_stats stats = {};
  if (!refused) {
    coroipcs_stats(g_server, &stats, 0);
    const Section section("close");
    g_ledger->server_phase = kClosing;
    Check("close", coroipcs_close(g_server));
    coroipcs_destroy(g_server);
  } else if (g_server != nullptr) {
    coroipcs_destroy(g_server);
  }
  g_ledger->server_phase = kClosed;
  CheckGauge(before);
  printf(
      "{\"listen\":\"%s\",\"connected\":%u,\"why\":\"%s\",\"noticed_ns\":%lu,\"notes\":%u,"
      "\"calls\":%u,\"requests\":%lu,\"refused\":\"%s\"}\n",
      coroipc_status_name(listening), g_connected, coroipc_status_name(g_why), g_noticed_ns,
      g_notes, g_calls, stats.requests, g_refusals.c_str());
  return End();
}

}  // namespace
}  // namespace sweep

int main(int argc, char** argv) {
  sweep::Begin(argc, argv);
  return sweep::Main();
}
