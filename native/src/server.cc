// server.cc: a server as a whole: its options, its listener, its accounts, its deadlines.
#include "server.h"

#include <algorithm>
#include <bit>
#include <new>

#include "random.h"
#include "server_callbacks.h"

using coroipc::Account;
using coroipc::Connection;
using coroipc::kMillisecond;
using coroipc::kNever;
using coroipc::NowNs;
using coroipc::Status;

namespace {

constexpr int kAcceptsPerTurn = 64;
constexpr uint64_t kAcceptPauseNs = 100 * kMillisecond;
constexpr size_t kAccountsKept = 1024;
constexpr size_t kHugePageBytes = 2u << 20;
constexpr uid_t kUnmappedUid = 65534;

uint32_t OrDefault(uint32_t value, uint32_t standard) { return value == 0 ? standard : value; }

}  // namespace

Status coroipcs_server::Setup(const coroipcs_options& given) {
  options = given;
  coroipcs_options& o = options;
  o.authorize_timeout_ms = OrDefault(o.authorize_timeout_ms, 5000);
  o.handshake_timeout_ms = OrDefault(o.handshake_timeout_ms, 5000);
  o.connections = OrDefault(o.connections, 4096);
  o.connections_per_uid = OrDefault(o.connections_per_uid, 1024);
  o.handshakes = OrDefault(o.handshakes, 64);
  o.handshakes_per_uid = OrDefault(o.handshakes_per_uid, 16);
  o.authorizing = OrDefault(o.authorizing, 256);
  o.request_ring_bytes = OrDefault(o.request_ring_bytes, 256u << 10);
  o.response_ring_bytes = OrDefault(o.response_ring_bytes, 256u << 10);
  o.dispatch_ring_bytes = OrDefault(o.dispatch_ring_bytes, 512u << 10);
  o.ring_bytes_min =
      std::max(OrDefault(o.ring_bytes_min, COROIPC_RING_BYTES_MIN), COROIPC_RING_BYTES_MIN);
  o.ring_bytes_max = std::min(OrDefault(o.ring_bytes_max, 16u << 20), COROIPC_RING_BYTES_MAX);
  o.message_bytes = OrDefault(o.message_bytes, 1u << 20);
  o.message_bytes_min = OrDefault(o.message_bytes_min, 4096);
  o.requests_in_flight = OrDefault(o.requests_in_flight, 256);
  o.unsent_bytes = OrDefault(o.unsent_bytes, 4u << 20);
  o.backlog_bytes = OrDefault(o.backlog_bytes, 4u << 20);
  o.segments = OrDefault(o.segments, 16);
  if (o.segment_bytes == 0) o.segment_bytes = uint64_t{256} << 20;
  if (o.bytes_per_uid == 0) o.bytes_per_uid = uint64_t{4} << 30;
  if (o.ring_bytes_min > o.ring_bytes_max || o.message_bytes > COROIPC_MESSAGE_BYTES_MAX ||
      o.message_bytes_min > o.message_bytes ||
      o.requests_in_flight > COROIPC_REQUESTS_IN_FLIGHT_MAX || o.segments > COROIPC_SEGMENTS_MAX ||
      o.wait < COROIPC_WAIT_ADAPTIVE || o.wait > COROIPC_WAIT_SLEEP || o.lock < COROIPCS_WISH_NO ||
      o.lock > COROIPCS_WISH_DEMAND || o.huge_pages < COROIPCS_WISH_NO ||
      o.huge_pages > COROIPCS_WISH_DEMAND || !std::has_single_bit(o.ring_bytes_min) ||
      !std::has_single_bit(o.ring_bytes_max)) {
    return COROIPC_INVALID_ARGUMENT;
  }
  limits.standard.request_ring_bytes = o.request_ring_bytes;
  limits.standard.response_ring_bytes = o.response_ring_bytes;
  limits.standard.dispatch_ring_bytes = o.dispatch_ring_bytes;
  limits.standard.message_bytes = o.message_bytes;
  limits.standard.requests_in_flight = o.requests_in_flight;
  limits.standard.segments_max = o.segments;
  limits.ring_bytes_min = o.ring_bytes_min;
  limits.ring_bytes_max = o.ring_bytes_max;
  limits.message_bytes_min = o.message_bytes_min;
  limits.message_bytes_max = o.message_bytes;
  limits.requests_in_flight_max = o.requests_in_flight;
  log_ = o.callbacks.log;
  log_context_ = o.callbacks.context;
  id = coroipc::RandomId();
  if (const Status status = TryMemory(); status != COROIPC_OK) return status;
  return Init(o.threads != 0, o.wait, o.poll);
}

// Whether what is demanded of memory can be had at all: now, and not when the first client comes.
Status coroipcs_server::TryMemory() const {
  coroipc::Segment segment;
  coroipc::Fd fd;
  if (options.huge_pages == COROIPCS_WISH_DEMAND)
    return coroipc::Segment::Create(kHugePageBytes, MemoryBacking(false), &segment, &fd);
  if (options.lock == COROIPCS_WISH_DEMAND)
    return coroipc::Segment::Create(coroipc::SegmentBytes(limits.standard), MemoryBacking(true),
                                    &segment, &fd);
  return COROIPC_OK;
}

coroipcs_server::~coroipcs_server() {
  // Sockets of rows that nobody took.
  for (coroipc_entry row; TakeEvent(COROIPC_KIND_ACCEPTED, &row);)
    coroipc::Fd(static_cast<int>(row.argument)).Reset();
  FreeBuried();
  coroipc::DeleteCallbackDriver(driver);
}

Status coroipcs_server::StartListening() {
  if (const Status status = Watch(listener.fd(), coroipc::Source::kListener, 0, false);
      status != COROIPC_OK) {
    listener.Close();
    return status;
  }
  listening = true;
  return COROIPC_OK;
}

void coroipcs_server::StopListening(bool leave) {
  if (!listening) return;
  listening = false;
  if (accept_resumes_ns == kNever) Unwatch(listener.fd(), coroipc::Source::kListener, 0);
  accept_resumes_ns = kNever;
  if (leave) {
    listener.Leave();
  } else {
    listener.Close();
  }
}

coroipc::Backing coroipcs_server::MemoryBacking(bool rings) const {
  coroipc::Backing backing(rings && options.prefault != 0);
  backing.lock = static_cast<coroipc::Backing::Wish>(options.lock);
  backing.huge = static_cast<coroipc::Backing::Wish>(options.huge_pages);
  return backing;
}

Account& coroipcs_server::AccountOf(uid_t uid) {
  // Uids that came and went: many can be had in user namespaces.
  if (accounts.size() > kAccountsKept) {
    std::erase_if(accounts, [](const auto& entry) { return entry.second.objects == 0; });
  }
  Account& account = accounts[uid];
  account.uid = uid;
  account.limit = options.bytes_per_uid;
  return account;
}

coroipc::Service* coroipcs_server::ServiceFor(uint16_t service) {
  const auto found = services.find(service);
  if (found != services.end() && (found->second.added || options.any_service != 0))
    return &found->second;
  if (options.any_service == 0) return nullptr;
  coroipc::Service& made = services[service];
  coroipcs_service_options_init(&made.options);
  return &made;
}

void coroipcs_server::Refuse(coroipc::Fd peer, Status status) {
  ++totals.connections_refused;
  const coroipc_setup_reply reply = coroipc::MakeSetupReply(status, coroipc::Terms{}, 0, 0);
  (void)coroipc::SendMessage(peer.get(), &reply, sizeof reply, -1,
                             false);  // a full socket: it sees the close
}

bool coroipcs_server::EvictOldest() {
  const Account* most = nullptr;
  for (const auto& [uid, account] : accounts) {
    if (most == nullptr || account.handshakes > most->handshakes) most = &account;
  }
  for (coroipcs_connection* connection : pending) {
    if (&connection->account == most && connection->phase() == Connection::Phase::kSetup) {
      connection->RefuseAndEnd(COROIPC_LIMIT);
      return true;
    }
  }
  return false;
}

// All places before `authorize` are taken: the uid that has most gives its oldest, if it has more
// than the newcomer would have.
bool coroipcs_server::EvictAuthorizing(const Account& newcomer) {
  const Account* most = &newcomer;
  for (const auto& [uid, account] : accounts) {
    if (account.authorizing > most->authorizing) most = &account;
  }
  if (most->authorizing <= newcomer.authorizing + 1) return false;
  for (coroipcs_connection* connection : pending) {
    if (&connection->account == most && connection->phase() == Connection::Phase::kAuthorizing) {
      connection->RefuseAndEnd(COROIPC_LIMIT);
      return true;
    }
  }
  return false;
}

void coroipcs_server::OnListenerReady() {
  for (int i = 0; listening && i < kAcceptsPerTurn; ++i) {
    coroipc::Fd peer;
    const Status status = listener.Accept(&peer);
    if (status == COROIPC_AGAIN) return;
    if (status != COROIPC_OK) {
      // EMFILE, ENFILE, ENOMEM: the listener stays readable, so polling it would spin. A timer
      // resumes.
      Unwatch(listener.fd(), coroipc::Source::kListener, 0);
      accept_resumes_ns = NowNs() + kAcceptPauseNs;
      DeadlineAt(accept_resumes_ns);
      Log(40, "accept paused: out of file descriptors or memory");
      return;
    }
    if (options.accept_rows != 0) {
      uid_t uid = kUnmappedUid;
      if (coroipc::Credentials::PeerUid(peer.get(), &uid) != COROIPC_OK) continue;
      coroipc_entry row = {};
      row.connection = UINT32_MAX;
      row.kind = COROIPC_KIND_ACCEPTED;
      row.argument = static_cast<uint32_t>(peer.Release());
      row.correlation = uid;
      PushEvent(row);
      continue;
    }
    Admit(std::move(peer));
  }
}

// A connected socket, accepted here or elsewhere in this process.
void coroipcs_server::Admit(coroipc::Fd peer) {
  uid_t uid = kUnmappedUid;
  if (coroipc::Credentials::PeerUid(peer.get(), &uid) != COROIPC_OK) return;
  Account& account = AccountOf(uid);
  if (account.handshakes >= options.handshakes_per_uid ||
      account.connections + account.handshakes >= options.connections_per_uid ||
      established + authorizing >= options.connections) {
    Refuse(std::move(peer), COROIPC_LIMIT);
    return;
  }
  if (handshakes >= options.handshakes && !EvictOldest()) {
    Refuse(std::move(peer), COROIPC_LIMIT);
    return;
  }
  auto* connection = new (std::nothrow) coroipcs_connection(*this, account, std::move(peer));
  if (connection == nullptr) return;
  if (Watch(connection->socket(), coroipc::Source::kSocket, connection->number(), false) !=
      COROIPC_OK) {
    connection->RefuseAndEnd(COROIPC_NO_MEMORY);
    return;
  }
  connection->deadline_ns = NowNs() + options.handshake_timeout_ms * kMillisecond;
  DeadlineAt(connection->deadline_ns);
  // Its setup message is usually there already: taken now, it does not hold one of the few slots
  // of those who only knock while the next of a burst is accepted.
  coroipc_batch none = {};  // a handshake makes no rows but events
  coroipc::BatchSink sink(&none);
  (void)connection->HandshakeTurn(sink);
}

void coroipcs_server::OnTimer() {
  const uint64_t now = NowNs();
  if (accept_resumes_ns != kNever) {
    if (accept_resumes_ns <= now) {
      accept_resumes_ns = kNever;
      if (Watch(listener.fd(), coroipc::Source::kListener, 0, false) != COROIPC_OK) {
        accept_resumes_ns = now + kAcceptPauseNs;
      }
    }
    if (accept_resumes_ns != kNever) DeadlineAt(accept_resumes_ns);
  }
  const std::vector<coroipcs_connection*> waiting = pending;
  for (coroipcs_connection* connection : waiting) {
    if (connection->phase() == Connection::Phase::kEnded) continue;
    if (connection->deadline_ns <= now) {
      connection->RefuseAndEnd(connection->phase() == Connection::Phase::kAuthorizing
                                   ? COROIPC_DENIED
                                   : COROIPC_TIMED_OUT);
    } else {
      DeadlineAt(connection->deadline_ns);
    }
  }
  if (paused != 0) {
    for (Connection* base : connections()) {
      auto* connection = static_cast<coroipcs_connection*>(base);
      if (connection == nullptr || !connection->rate_paused) continue;
      connection->Refill();
      if (!connection->rate_paused) MarkReady(*connection);
    }
  }
  if (driver != nullptr) coroipc::CallbackTimer(*this, now);
}

void coroipcs_server::OnEventTaken(const coroipc_entry& row) {
  auto* const connection = static_cast<coroipcs_connection*>(at(row.connection));
  if (connection == nullptr) return;
  if (row.kind == COROIPC_KIND_DISCONNECTED) connection->ended_told = true;
  // Nobody has more to say about one that never was open.
  if (row.kind == COROIPC_KIND_AUTHORIZE_ENDED) connection->Release();
}

void coroipcs_server::RemovePending(coroipcs_connection* connection) {
  pending.erase(std::remove(pending.begin(), pending.end(), connection), pending.end());
}

void coroipcs_server::EndAll(Status why) {
  for (size_t i = 0; i < connections().size(); ++i) {
    Connection* const connection = connections()[i];
    if (connection == nullptr || connection->phase() == Connection::Phase::kEnded) continue;
    if (connection->phase() == Connection::Phase::kOpen) {
      static_cast<coroipcs_connection*>(connection)->FlushNow();
      if (connection->phase() == Connection::Phase::kOpen) connection->End(why);
    } else {
      static_cast<coroipcs_connection*>(connection)->RefuseAndEnd(why);
    }
  }
}
