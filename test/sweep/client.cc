// The client of a swept session (session.h): every kind of message, a fixed number of rounds. It
// ends by itself, also when the server is killed; what its calls came to is its last line.
#include <coroipc/coroipcc.h>

#include "session.h"

namespace sweep {
namespace {

coroipcc_connection* g_connection = nullptr;
uint32_t g_notes = 0, g_calls = 0, g_dispatches = 0;
std::string g_failed_at;  // the first call that did not succeed
coroipc_status g_failed = COROIPC_OK;
uint64_t g_failed_ns = 0;

void Failed(const char* call, coroipc_status status) {
  if (g_failed != COROIPC_OK) return;
  g_failed_at = call;
  g_failed = status;
  g_failed_ns = NowNs();
}

bool SideIsGone(coroipc_status status) {
  return status == COROIPC_PEER_DEAD || status == COROIPC_UNKNOWN_OUTCOME ||
         status == COROIPC_DISCONNECTED;
}
bool ResourcesRanOut(coroipc_status status) {
  return status == COROIPC_NO_MEMORY || status == COROIPC_SYSTEM || status == COROIPC_LIMIT ||
         status == COROIPC_TIMED_OUT || status == COROIPC_RETRY ||
         (g_options.lost && status == COROIPC_PROTOCOL);  // a segment that never came
}

// What the documentation lets a call come to when the server is killed, or a system call fails.
void CheckStatus(const char* call, coroipc_status status) {
  if (status == COROIPC_OK) return;
  const bool dead = SideIsGone(status) && (g_options.injected || g_ledger->server_phase != kOpen ||
                                           coroipcc_state(g_connection) != COROIPC_OK);
  if (!dead && !(g_options.injected && ResourcesRanOut(status)))
    Violate("%s: %s", call, coroipc_status_name(status));
  Failed(call, status);
}

bool Usable() { return coroipcc_state(g_connection) == COROIPC_OK; }

coroipc_status Connect(uint16_t service) {
  const Section section("connect");
  coroipcc_options options;
  coroipcc_options_init(&options);
  options.service = service;
  options.wait = g_options.wait;
  options.request_ring_bytes = options.response_ring_bytes = options.dispatch_ring_bytes = 16384;
  options.trust_server = 1;
  return coroipcc_connect(nullptr, g_options.name, &options, g_options.timeout_ms, &g_connection);
}

void Note() {
  const uint32_t number = ++g_notes;
  const std::vector<uint8_t> payload = Payload(number, BytesOf(number));
  const iovec parts[] = {{const_cast<uint8_t*>(payload.data()), 4},
                         {const_cast<uint8_t*>(payload.data()) + 4, payload.size() - 4}};
  g_ledger->notes_begun = number;
  const coroipc_status status = coroipcc_send(g_connection, kNote, parts, 2);
  if (status == COROIPC_OK) g_ledger->notes_done = number;
  CheckStatus("send", status);
}

// An outcome that says `never handed over` or `executed` must be true.
void CheckCall(const char* call, coroipc_status status, uint32_t number,
               const coroipcc_response& response) {
  const uint32_t executed = g_ledger->calls_executed;
  if (status == COROIPC_OK) {
    uint32_t last = number - 1;
    CheckMessage("answer", response.data, response.bytes, &last);
    g_ledger->calls_answered = number;
    if (executed < number) Violate("call %u was answered and not executed", number);
  } else if (status == COROIPC_PEER_DEAD && executed >= number) {
    Violate("call %u was never handed over, it says, but it was executed", number);
  }
  CheckStatus(call, status);
}

void Call(uint16_t id, uint32_t bytes) {
  const uint32_t number = ++g_calls;
  const std::vector<uint8_t> payload = Payload(number, bytes);
  const iovec part = {const_cast<uint8_t*>(payload.data()), payload.size()};
  static uint8_t into[kLargeBytes];
  coroipcc_response response = {};
  g_ledger->calls_begun = number;
  const coroipc_status status = coroipcc_request(g_connection, id, &part, 1, g_options.timeout_ms,
                                                 into, sizeof into, &response);
  CheckCall("request", status, number, response);
}

void CallInPlace() {
  const uint32_t number = ++g_calls;
  const std::vector<uint8_t> payload = Payload(number, BytesOf(number));
  const iovec part = {const_cast<uint8_t*>(payload.data()), payload.size()};
  coroipcc_response response = {};
  g_ledger->calls_begun = number;
  const coroipc_status status =
      coroipcc_request_in_place(g_connection, kEcho, &part, 1, g_options.timeout_ms, &response);
  CheckCall("request_in_place", status, number, response);
  if (status == COROIPC_OK) coroipcc_response_release(g_connection);
}

void CallBuffer() {
  coroipc_buffer* buffer = nullptr;
  const coroipc_status allocated =
      coroipcc_buffer_alloc(g_connection, kLargeBytes, g_options.timeout_ms, &buffer);
  CheckStatus("buffer_alloc", allocated);
  if (allocated != COROIPC_OK) return;
  const uint32_t number = ++g_calls;
  const std::vector<uint8_t> payload = Payload(number, kLargeBytes);
  memcpy(coroipc_buffer_data(buffer), payload.data(), payload.size());
  coroipcc_response response = {};
  g_ledger->calls_begun = number;
  const coroipc_status status = coroipcc_request_buffer(g_connection, kEcho, buffer, 0, kLargeBytes,
                                                        g_options.timeout_ms, &response);
  CheckCall("request_buffer", status, number, response);
  if (status == COROIPC_OK) coroipcc_response_release(g_connection);
  coroipc_buffer_release(buffer);
}

// False: there is none.
bool TakeDispatch(int timeout_ms) {
  coroipcc_dispatch dispatch = {};
  const coroipc_status status = coroipcc_dispatch_receive(g_connection, timeout_ms, &dispatch);
  if (status != COROIPC_OK) {
    if (status != COROIPC_AGAIN && timeout_ms != 0) CheckStatus("dispatch_receive", status);
    return false;
  }
  CheckMessage("dispatch", dispatch.data, dispatch.bytes, &g_dispatches);
  coroipcc_dispatch_release(g_connection);
  return true;
}

void Dispatches() {
  const uint32_t answered_before = g_ledger->calls_answered;
  const uint32_t wanted = g_dispatches + kDispatchesEach;
  Call(kDispatches, BytesOf(g_calls + 1));
  const bool answered = g_ledger->calls_answered > answered_before;
  while (g_dispatches < wanted && Usable() && TakeDispatch(g_options.timeout_ms)) {
  }
  // Who sees an answer can count on the dispatches that were sent before it.
  while (g_dispatches < wanted && TakeDispatch(0)) {
  }
  if (answered && g_dispatches < wanted && !g_options.injected)
    Violate("an answer came and %u of the dispatches before it did not", wanted - g_dispatches);
}

void Round() {
  {
    const Section section("put");
    for (uint32_t i = 0; i < kNotesEach; ++i) Note();
  }
  {
    const Section section("call");
    Call(kEcho, BytesOf(g_calls + 1));
  }
  {
    const Section section("get");
    Dispatches();
    CallInPlace();
  }
  if (!g_options.asleep || !Usable()) return;
  AwaitSleep(g_ledger->server_pid);
  Call(kAsleep, BytesOf(g_calls + 1));
}

void Large() {
  const Section section("large");
  Call(kEcho, kLargeBytes);
  CallBuffer();
}

int Witness() {
  g_options.timeout_ms = g_options.lost ? 3000 : 10000;
  coroipc_status status = Connect(kWitnessed);
  if (status != COROIPC_OK) Violate("connect: %s", coroipc_status_name(status));
  for (int i = 0; i < 3 && status == COROIPC_OK; ++i) {
    status = coroipcc_request(g_connection, kPing, nullptr, 0, g_options.timeout_ms, nullptr, 0,
                              nullptr);
    if (status != COROIPC_OK) Violate("request %d: %s", i, coroipc_status_name(status));
  }
  if (g_connection != nullptr) coroipcc_disconnect(g_connection);
  return End();
}

int Main() {
  const Gauge before = Read();
  g_ledger->client_pid = getpid();
  g_ledger->client_phase = kConnecting;
  const coroipc_status connected = Connect(kService);
  if (connected == COROIPC_OK) g_ledger->client_phase = kOpen;
  if (connected != COROIPC_OK) {
    const bool expected = connected == COROIPC_CONNECT_REFUSED || connected == COROIPC_PEER_DEAD ||
                          (g_options.injected && ResourcesRanOut(connected));
    if (!expected) Violate("connect: %s", coroipc_status_name(connected));
    Failed("connect", connected);
    g_ledger->client_phase = kClosed;
  }
  coroipc_stats stats = {};
  coroipc_status ended = COROIPC_OK;
  if (connected == COROIPC_OK) {
    for (uint32_t round = 0; round < g_options.rounds && Usable(); ++round) {
      Round();
      if (round % 8 == 0 && !g_options.small) Large();
    }
    if (g_options.linger_ms != 0) {
      usleep(static_cast<useconds_t>(g_options.linger_ms) * 1000);
      if (Usable()) Round();
    }
    const bool server_closes = strcmp(g_options.closer, "server") == 0;
    if (server_closes && Usable()) {
      const iovec none = {nullptr, 0};
      CheckStatus("close", coroipcc_send(g_connection, kClose, &none, 1));
      if (Usable()) (void)TakeDispatch(g_options.timeout_ms);  // returns when the connection ends
    }
    // Whatever was published before the end is still there to be read.
    while (TakeDispatch(0)) {
    }
    ended = coroipcc_state(g_connection);
    coroipcc_stats(g_connection, &stats, 0);
    const uint32_t server_phase = g_ledger->server_phase;
    if (ended == COROIPC_DISCONNECTED && server_phase < kClosing)
      Violate("the server was killed, and said to have closed");
    if (ended != COROIPC_OK && !SideIsGone(ended) && !g_options.injected)
      Violate("ended with %s", coroipc_status_name(ended));
    const Section section("close");
    g_ledger->client_phase = kClosing;
    coroipcc_disconnect(g_connection);
    g_ledger->client_phase = kClosed;
  }
  CheckGauge(before);
  printf(
      "{\"connect\":\"%s\",\"failed\":\"%s\",\"code\":\"%s\",\"ended\":\"%s\",\"noticed_ns\":%lu,"
      "\"notes\":%u,\"calls\":%u,\"responses\":%lu,\"dispatches\":%lu}\n",
      coroipc_status_name(connected), g_failed_at.c_str(), coroipc_status_name(g_failed),
      coroipc_status_name(ended), g_failed_ns, g_notes, g_calls, stats.responses, stats.dispatches);
  return End();
}

}  // namespace
}  // namespace sweep

int main(int argc, char** argv) {
  sweep::Begin(argc, argv);
  return sweep::g_options.witness ? sweep::Witness() : sweep::Main();
}
