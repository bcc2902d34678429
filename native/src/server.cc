// server.cc: the server half of the C API: listening, handshakes and their limits, connections, sending.
#include "server.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <new>

#include "block.h"
#include "random.h"
#include "server_callbacks.h"

using coroipc::Account;
using coroipc::Connection;
using coroipc::kDispatch;
using coroipc::kMillisecond;
using coroipc::kNever;
using coroipc::kRequest;
using coroipc::kResponse;
using coroipc::NowNs;
using coroipc::Owner;
using coroipc::Status;

namespace {

constexpr int kAcceptsPerTurn = 64;
constexpr uint64_t kAcceptPauseNs = 100 * kMillisecond;
constexpr uid_t kUnmappedUid = 65534;
constexpr uint32_t kPageBytes = 4096;

uint32_t OrDefault(uint32_t value, uint32_t standard) { return value == 0 ? standard : value; }

}  // namespace

// -- server ---------------------------------------------------------------------------------------

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
  o.ring_bytes_min = std::max(OrDefault(o.ring_bytes_min, COROIPC_RING_BYTES_MIN), COROIPC_RING_BYTES_MIN);
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
      o.message_bytes_min > o.message_bytes || o.requests_in_flight > COROIPC_REQUESTS_IN_FLIGHT_MAX ||
      o.segments > COROIPC_SEGMENTS_MAX || o.wait < COROIPC_WAIT_ADAPTIVE || o.wait > COROIPC_WAIT_SLEEP ||
      !std::has_single_bit(o.ring_bytes_min) || !std::has_single_bit(o.ring_bytes_max)) {
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
  return Init(o.threads != 0, o.wait, o.poll);
}

coroipcs_server::~coroipcs_server() {
  FreeBuried();
  coroipc::DeleteCallbackDriver(driver);
}

Status coroipcs_server::StartListening() {
  if (const Status status = Watch(listener.fd(), coroipc::Source::kListener, 0, false); status != COROIPC_OK) {
    listener.Close();
    return status;
  }
  listening = true;
  return COROIPC_OK;
}

void coroipcs_server::StopListening() {
  if (!listening) return;
  listening = false;
  if (accept_resumes_ns == kNever) Unwatch(listener.fd(), coroipc::Source::kListener, 0);
  accept_resumes_ns = kNever;
  listener.Close();
}

Account& coroipcs_server::AccountOf(uid_t uid) {
  Account& account = accounts[uid];
  account.uid = uid;
  account.limit = options.bytes_per_uid;
  return account;
}

coroipc::Service* coroipcs_server::ServiceFor(uint16_t service) {
  const auto found = services.find(service);
  if (found != services.end() && (found->second.added || options.any_service != 0)) return &found->second;
  if (options.any_service == 0) return nullptr;
  coroipc::Service& made = services[service];
  coroipcs_service_options_init(&made.options);
  return &made;
}

void coroipcs_server::Refuse(coroipc::Fd peer, Status status) {
  ++totals.connections_refused;
  const coroipc_setup_reply reply = coroipc::MakeSetupReply(status, coroipc::Terms{}, 0, 0);
  (void)coroipc::SendMessage(peer.get(), &reply, sizeof reply, -1, false);  // a full socket: it sees the close
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

void coroipcs_server::OnListenerReady() {
  for (int i = 0; listening && i < kAcceptsPerTurn; ++i) {
    coroipc::Fd peer;
    const Status status = listener.Accept(&peer);
    if (status == COROIPC_AGAIN) return;
    if (status != COROIPC_OK) {
      // EMFILE, ENFILE, ENOMEM: the listener stays readable, so polling it would spin. A timer resumes.
      Unwatch(listener.fd(), coroipc::Source::kListener, 0);
      accept_resumes_ns = NowNs() + kAcceptPauseNs;
      DeadlineAt(accept_resumes_ns);
      Log(40, "accept paused: out of file descriptors or memory");
      return;
    }
    uid_t uid = kUnmappedUid;
    if (coroipc::Credentials::PeerUid(peer.get(), &uid) != COROIPC_OK) continue;
    Account& account = AccountOf(uid);
    if (account.handshakes >= options.handshakes_per_uid ||
        account.connections + account.handshakes >= options.connections_per_uid ||
        established + authorizing >= options.connections) {
      Refuse(std::move(peer), COROIPC_LIMIT);
      continue;
    }
    if (handshakes >= options.handshakes && !EvictOldest()) {
      Refuse(std::move(peer), COROIPC_LIMIT);
      continue;
    }
    auto* connection = new (std::nothrow) coroipcs_connection(*this, account, std::move(peer));
    if (connection == nullptr) continue;
    if (Watch(connection->socket(), coroipc::Source::kSocket, connection->number(), false) != COROIPC_OK) {
      connection->RefuseAndEnd(COROIPC_NO_MEMORY);
      continue;
    }
    connection->deadline_ns = NowNs() + options.handshake_timeout_ms * kMillisecond;
    DeadlineAt(connection->deadline_ns);
    MarkReady(*connection);  // its setup message is usually there already
  }
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
      connection->RefuseAndEnd(connection->phase() == Connection::Phase::kAuthorizing ? COROIPC_DENIED
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
  if (row.kind != COROIPC_KIND_AUTHORIZE_ENDED) return;
  // Nobody has more to say about it.
  static_cast<coroipcs_connection*>(at(row.connection))->Release();
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

// -- one connection: handshake --------------------------------------------------------------------

coroipcs_connection::coroipcs_connection(coroipcs_server& owner, Account& payer, coroipc::Fd peer)
    : Connection(owner, true), server(owner), account(payer) {
  socket_ = std::move(peer);
  number_ = loop_.Insert(this);
  ++account.handshakes;
  ++server.handshakes;
  ++server.objects;
  server.pending.push_back(this);
}

coroipcs_connection::~coroipcs_connection() = default;

coroipc_entry coroipcs_connection::Row(uint32_t kind) const {
  coroipc_entry row = {};
  row.connection = number_;
  row.kind = kind;
  return row;
}

void coroipcs_connection::RefuseAndEnd(Status status) {
  const coroipc_setup_reply reply = coroipc::MakeSetupReply(status, coroipc::Terms{}, 0, 0);
  (void)coroipc::SendMessage(socket_.get(), &reply, sizeof reply, -1, false);
  ++server.totals.connections_refused;
  if (status == COROIPC_PROTOCOL) ++server.totals.protocol_errors;
  End(status);
}

bool coroipcs_connection::HandshakeTurn(coroipc::Sink& sink) {
  (void)sink;
  socket_unread_ = false;
  coroipc_setup_request request;
  coroipc::Received received;
  uint8_t bytes[sizeof request + 8];
  const Status status = coroipc::ReceiveMessage(socket_.get(), bytes, sizeof bytes, false, &received);
  if (status == COROIPC_AGAIN) return false;
  if (status != COROIPC_OK) {
    if (status == COROIPC_PROTOCOL) {
      RefuseAndEnd(status);
    } else {
      End(COROIPC_PEER_DEAD);
    }
    return false;
  }
  if (phase_ == Phase::kAuthorizing) {  // it has nothing to say before it is let in
    RefuseAndEnd(COROIPC_PROTOCOL);
    return false;
  }
  if (const Status check = coroipc::CheckSetupRequest(bytes, received.bytes, &request); check != COROIPC_OK) {
    RefuseAndEnd(check);
    return false;
  }
  if (const Status who = credentials_.FromPeer(socket_.get()); who != COROIPC_OK) {
    RefuseAndEnd(who == COROIPC_NO_MEMORY ? who : COROIPC_DENIED);
    return false;
  }
  service_ = request.service;
  terms_ = coroipc::Negotiate(request, server.limits);
  if (credentials_.view().uid == kUnmappedUid && server.options.allow_unmapped == 0) {
    RefuseAndEnd(COROIPC_DENIED);
    return false;
  }
  if (server.options.authorize_events == 0 && server.options.callbacks.authorize == nullptr) {
    const uid_t uid = credentials_.view().uid;
    (void)Verdict(uid == geteuid() || uid == 0 ? COROIPC_OK : COROIPC_DENIED, false);
    return false;
  }
  if (server.authorizing >= server.options.authorizing) {
    RefuseAndEnd(COROIPC_LIMIT);
    return false;
  }
  phase_ = Phase::kAuthorizing;
  authorizing = true;
  --server.handshakes;
  --account.handshakes;
  ++server.authorizing;
  ++account.connections;
  deadline_ns = NowNs() + server.options.authorize_timeout_ms * kMillisecond;
  loop_.DeadlineAt(deadline_ns);
  announced = true;
  coroipc_entry row = Row(COROIPC_KIND_AUTHORIZE);
  row.id = service_;
  loop_.PushEvent(row);
  return false;
}

Status coroipcs_connection::Verdict(Status verdict, bool trust) {
  if (phase_ == Phase::kEnded) return COROIPC_DISCONNECTED;
  if (phase_ == Phase::kOpen) return COROIPC_INVALID_ARGUMENT;
  if (verdict != COROIPC_OK) {
    announced = false;  // the verdict was the application's: it needs no row
    RefuseAndEnd(verdict);
    return COROIPC_OK;
  }
  trusted = trust;
  const Status status = Establish();
  if (status != COROIPC_OK) {
    announced = false;
    if (phase_ != Phase::kEnded) RefuseAndEnd(status == COROIPC_SYSTEM ? COROIPC_NO_MEMORY : status);
  }
  return status;
}

Status coroipcs_connection::Establish() {
  service_entry = server.ServiceFor(service_);
  if (service_entry == nullptr) return COROIPC_NO_SERVICE;
  if (phase_ == Phase::kSetup && account.connections >= server.options.connections_per_uid) return COROIPC_LIMIT;
  const uint32_t bytes = coroipc::SegmentBytes(terms_);
  if (bytes > server.options.segment_bytes || !account.Charge(bytes)) {
    service_entry = nullptr;
    return COROIPC_LIMIT;
  }
  charged = bytes;
  coroipc::Fd fd;
  Status status = coroipc::Segment::Create(bytes, server.options.prefault != 0, &segment_, &fd);
  if (status == COROIPC_OK && service_entry->options.private_data_bytes != 0) {
    private_data.reset(new (std::nothrow) uint8_t[service_entry->options.private_data_bytes]());
    if (private_data == nullptr) status = COROIPC_NO_MEMORY;
  }
  if (status == COROIPC_OK) {
    id_ = coroipc::RandomId();
    coroipc::FillSegmentHeader(reinterpret_cast<coroipc_control*>(segment_.data()), terms_, id_);
    const coroipc_setup_reply reply = coroipc::MakeSetupReply(COROIPC_OK, terms_, id_, server.id);
    status = coroipc::SendMessage(socket_.get(), &reply, sizeof reply, fd.get(), true);
    // Its socket is empty in this direction, so AGAIN is as good as gone.
    if (status == COROIPC_AGAIN) status = COROIPC_PEER_DEAD;
  }
  if (status == COROIPC_OK && pidfd() >= 0) {
    status = loop_.Watch(pidfd(), coroipc::Source::kPidfd, number_, false);
  }
  if (status != COROIPC_OK) {
    segment_.Unmap();
    account.Discharge(charged);
    charged = 0;
    service_entry = nullptr;
    return status;
  }
  request_ring_bytes_ = terms_.request_ring_bytes;
  response_ring_bytes_ = terms_.response_ring_bytes;
  dispatch_ring_bytes_ = terms_.dispatch_ring_bytes;
  message_bytes_ = terms_.message_bytes;
  requests_in_flight_ = terms_.requests_in_flight;
  segments_max_ = terms_.segments_max;
  slots.Init(requests_in_flight_);
  InitRings();
  server.RemovePending(this);
  if (phase_ == Phase::kAuthorizing) {
    --server.authorizing;
  } else {
    --server.handshakes;
    --account.handshakes;
    ++account.connections;
  }
  ++server.established;
  ++server.totals.connections_total;
  ++service_entry->connections;
  policy = service_entry->options.policy;
  priority = static_cast<uint8_t>(service_entry->options.priority);
  rate = service_entry->options.requests_per_second;
  rate_filled_ns = NowNs();
  backlog_limit = service_entry->options.backlog_bytes != 0 ? service_entry->options.backlog_bytes
                                                            : server.options.backlog_bytes;
  stats_.connections = 1;
  loop_.NotePeerCpus(credentials_.view().pid);
  phase_ = Phase::kOpen;
  deadline_ns = kNever;
  announced = true;
  coroipc_entry row = Row(COROIPC_KIND_CONNECTED);
  row.id = service_;
  loop_.PushEvent(row);
  loop_.MarkReady(*this);
  return COROIPC_OK;
}

void coroipcs_connection::OnEnded(Status why) {
  if (rate_paused) --server.paused;
  rate_paused = false;
  if (control_ == nullptr) {  // it never was open
    server.RemovePending(this);
    if (authorizing) {
      --server.authorizing;
      --account.connections;
    } else {
      --server.handshakes;
      --account.handshakes;
    }
    if (announced) {
      coroipc_entry row = Row(COROIPC_KIND_AUTHORIZE_ENDED);
      row.argument = static_cast<uint32_t>(why);
      loop_.PushEvent(row);
    } else {
      Release();
    }
    return;
  }
  if (why == COROIPC_PROTOCOL) {
    ++server.totals.protocol_errors;
    loop_.Log(40, "a client broke the protocol and was disconnected");
  }
  --server.established;
  --account.connections;
  account.Discharge(charged + charged_backlog);
  charged = charged_backlog = 0;
  stats_.connections = 0;
  control_ = nullptr;
  segment_.Unmap();
  coroipc_entry row = Row(COROIPC_KIND_DISCONNECTED);
  row.id = service_;
  row.argument = static_cast<uint32_t>(why);
  loop_.PushEvent(row);
}

void coroipcs_connection::Release() {
  if (--holders != 0) return;
  if (phase_ != Phase::kEnded) {
    holders = 1;  // more releases than holds: the application's mistake must not free a live connection
    return;
  }
  coroipc_stats ended = stats_;
  uint64_t* const total = reinterpret_cast<uint64_t*>(&server.totals);
  const uint64_t* const one = reinterpret_cast<const uint64_t*>(&ended);
  ended.backlog_messages = ended.backlog_bytes = ended.unsent_responses = ended.in_flight = 0;
  ended.flow_control = ended.segments = ended.segment_bytes = ended.connections = 0;
  for (size_t i = 0; i < COROIPC_STATS_WORDS; ++i) total[i] += one[i];
  if (service_entry != nullptr) --service_entry->connections;
  coroipcs_server& owner = server;
  loop_.Bury(*this);
  if (--owner.objects == 0 && owner.destroyed) delete &owner;
}

// -- one connection: receiving --------------------------------------------------------------------

bool coroipcs_connection::Overflowing() const {
  const coroipc::Outbound& out = out_[kResponse];
  // While its first waits for a segment, reading must go on: the client's release comes by the request ring.
  return !out.waits_segment && (out.backlog.count() >= requests_in_flight_ ||
                                out.backlog.bytes() >= server.options.unsent_bytes);
}

bool coroipcs_connection::Reads(uint32_t in) const {
  (void)in;
  return draining() || (!rate_paused && !Overflowing());
}

void coroipcs_connection::Refill() {
  if (rate == COROIPCS_RATE_OFF) return;
  const uint64_t now = NowNs();
  const uint64_t burst = std::max<uint64_t>(1, rate / 20);
  const uint64_t fresh = rate == 0 ? burst : (now - rate_filled_ns) * rate / 1000000000u;
  if (fresh != 0) {
    tokens = static_cast<uint32_t>(std::min<uint64_t>(burst, tokens + fresh));
    rate_filled_ns = now;
  }
  const bool pause = rate != 0 && tokens == 0;
  if (pause) loop_.DeadlineAt(now + std::max<uint64_t>(kMillisecond, 1000000000u / rate));
  if (pause != rate_paused) {
    rate_paused = pause;
    pause ? ++server.paused : --server.paused;
  }
}

uint32_t coroipcs_connection::TurnCap(uint32_t in, uint32_t cap) {
  (void)cap;
  if (in_[in].LoadPeer() != COROIPC_OK) return 1;  // Peek says so again
  // A quarter of what waits: taking all of it puts both sides in lock-step and halves the rate.
  const uint32_t waiting = in_[in].seen_bytes() / last_record_bytes;
  uint32_t turn = std::clamp(waiting / 4, 4u, 64u);
  if (priority == COROIPCS_PRIORITY_HIGH) turn *= 2;
  if (priority == COROIPCS_PRIORITY_LOW) turn = std::max(1u, turn / 4);
  if (rate == 0) return turn;
  if (rate == COROIPCS_RATE_OFF) {
    if (!rate_paused) {
      rate_paused = true;
      ++server.paused;
    }
    return 1;
  }
  Refill();
  return std::max(1u, std::min(turn, tokens));
}

coroipcs_connection::Taken coroipcs_connection::Fail(Status why) {
  End(why);
  return Taken::kFailed;
}

coroipcs_connection::Taken coroipcs_connection::DeliverRequest(const coroipc_record& header,
                                                               const uint8_t* payload,
                                                               coroipc::Sink& sink) {
  const bool one_way = header.kind == COROIPC_RECORD_SEND;
  const uint32_t slot = coroipc::SlotOf(header.correlation);
  coroipc::InFlight* entry = nullptr;
  if (!one_way) {
    if (!slots.valid(slot)) return Fail(COROIPC_PROTOCOL);
    entry = &slots.at(slot);
    if (entry->busy || in_flight >= requests_in_flight_) return Fail(COROIPC_PROTOCOL);
  }
  coroipc_entry row = Row(one_way ? COROIPC_KIND_SEND : COROIPC_KIND_REQUEST);
  row.id = header.id;
  row.correlation = header.correlation;
  row.argument = header.argument;
  row.sequence = header.sequence;
  row.segment = COROIPC_SEGMENTS_MAX;
  uint32_t bytes = header.bytes;
  coroipc_buffer* buffer = nullptr;
  if ((header.flags & COROIPC_FLAG_SEGMENT) != 0) {
    coroipc_segment_reference reference;
    if (ReadReference(header, payload, &reference, &buffer) != COROIPC_OK) return Fail(COROIPC_PROTOCOL);
    payload = buffer->segment.data() + reference.offset;
    bytes = reference.bytes;
    row.segment = reference.index;
    if (trusted && !one_way) {
      row.flags = COROIPC_IN_SEGMENT;
      row.offset = reference.offset;
    }
  } else if (bytes > message_bytes_) {
    return Fail(COROIPC_PROTOCOL);
  }
  switch (sink.Add(row, payload, bytes)) {
    case coroipc::Sink::Put::kFull:
      return Taken::kFull;
    case coroipc::Sink::Put::kNoMemory:
      return Fail(COROIPC_NO_MEMORY);
    case coroipc::Sink::Put::kTaken:
      break;
  }
  ++stats_.requests;
  stats_.bytes_received += bytes;
  if (tokens != 0) --tokens;
  last_record_bytes = coroipc::RecordBytes(header.bytes);
  if (one_way) {
    // Nothing carries it back: it becomes the server's, and the next grant may use it.
    if (buffer != nullptr) buffer->owner = buffer->users.load() == 0 ? Owner::kFree : Owner::kUsed;
    return Taken::kYes;
  }
  entry->busy = true;
  entry->generation = coroipc::GenerationOf(header.correlation);
  entry->segment = 0;
  if (buffer != nullptr) {
    buffer->owner = Owner::kUsed;
    buffer->lent = true;
    entry->segment = static_cast<uint8_t>(buffer->index + 1);
  }
  stats_.in_flight = ++in_flight;
  return Taken::kYes;
}

coroipcs_connection::Taken coroipcs_connection::Deliver(uint32_t in, const coroipc_record& header,
                                                        const uint8_t* payload, coroipc::Sink& sink) {
  (void)in;
  if ((header.flags & ~COROIPC_FLAG_SEGMENT) != 0) return Fail(COROIPC_PROTOCOL);
  switch (header.kind) {
    case COROIPC_RECORD_REQUEST:
    case COROIPC_RECORD_SEND:
      return DeliverRequest(header, payload, sink);
    case COROIPC_RECORD_CANCEL: {
      const uint32_t slot = coroipc::SlotOf(header.correlation);
      if (!slots.valid(slot)) return Fail(COROIPC_PROTOCOL);
      const coroipc::InFlight& entry = slots.at(slot);
      // Its answer may have passed it on the way: then there is nothing to cancel.
      if (!entry.busy || entry.generation != coroipc::GenerationOf(header.correlation)) return Taken::kYes;
      coroipc_entry row = Row(COROIPC_KIND_CANCEL);
      row.correlation = header.correlation;
      if (sink.Add(row, nullptr, 0) != coroipc::Sink::Put::kTaken) return Taken::kFull;
      ++stats_.cancelled;
      return Taken::kYes;
    }
    case COROIPC_RECORD_SEGMENT_WANT: {
      const Status status = Grant(header, payload);
      if (status == COROIPC_AGAIN) return Taken::kFull;
      return status == COROIPC_OK ? Taken::kYes : Fail(status);
    }
    case COROIPC_RECORD_SEGMENT_RELEASE: {
      if (header.argument >= segments_max_) return Fail(COROIPC_PROTOCOL);
      coroipc_buffer* const buffer = buffers_[header.argument];
      if (buffer == nullptr || buffer->owner != Owner::kAway) return Fail(COROIPC_PROTOCOL);
      buffer->owner = buffer->users.load() == 0 ? Owner::kFree : Owner::kUsed;
      FlushBacklogs();
      return phase_ == Phase::kOpen ? Taken::kYes : Taken::kFailed;
    }
    default:
      return Fail(COROIPC_PROTOCOL);
  }
}

// -- one connection: segments ---------------------------------------------------------------------

Status coroipcs_connection::AcquireSegment(uint32_t bytes, coroipc_buffer** buffer) {
  coroipc_buffer* best = nullptr;
  coroipc_buffer* spare = nullptr;
  uint32_t index = COROIPC_SEGMENTS_MAX;
  bool outstanding = false;
  for (uint32_t i = 0; i < segments_max_; ++i) {
    coroipc_buffer* const candidate = buffers_[i];
    if (candidate == nullptr) {
      index = std::min(index, i);
      continue;
    }
    if (candidate->owner != Owner::kFree) {
      outstanding = true;
    } else if (candidate->segment.bytes() >= bytes) {
      if (best == nullptr || candidate->segment.bytes() < best->segment.bytes()) best = candidate;
    } else {
      spare = candidate;
    }
  }
  if (best != nullptr) {
    best->owner = Owner::kUsed;
    best->lent = false;
    best->bytes = static_cast<uint32_t>(best->segment.bytes());
    *buffer = best;
    return COROIPC_OK;
  }
  const Status exhausted = outstanding ? COROIPC_AGAIN : COROIPC_LIMIT;
  if (index == COROIPC_SEGMENTS_MAX) {
    if (spare == nullptr) return exhausted;
    index = spare->index;
  }
  uint64_t size = std::bit_ceil(std::max(bytes, 16 * kPageBytes));
  if (uint64_t freed = spare != nullptr && spare->index == index ? spare->segment.bytes() : 0; freed != 0) {
    account.Discharge(freed);
    charged -= freed;
    segment_fds[index].Reset();
    DropBuffer(index);
  }
  if (charged + size > server.options.segment_bytes || !account.Charge(size)) return exhausted;
  coroipc::Segment segment;
  coroipc::Fd fd;
  if (const Status status = coroipc::Segment::Create(size, false, &segment, &fd); status != COROIPC_OK) {
    account.Discharge(size);
    return COROIPC_NO_MEMORY;
  }
  coroipc_buffer* const made = AddBuffer(index, ++generations[index], std::move(segment));
  if (made == nullptr) {
    account.Discharge(size);
    return COROIPC_NO_MEMORY;
  }
  charged += size;
  segment_fds[index] = std::move(fd);
  made->owner = Owner::kUsed;
  *buffer = made;
  return COROIPC_OK;
}

Status coroipcs_connection::Share(coroipc_buffer& buffer) {
  coroipc::Fd& fd = segment_fds[buffer.index];
  if (!fd.valid()) return COROIPC_OK;
  const coroipc_segment_message message = {COROIPC_SOCKET_SEGMENT, buffer.index,
                                           static_cast<uint32_t>(buffer.segment.bytes()),
                                           buffer.generation};
  const Status status = coroipc::SendMessage(socket_.get(), &message, sizeof message, fd.get(), false);
  if (status == COROIPC_OK) {
    fd.Reset();
    return COROIPC_OK;
  }
  if (status == COROIPC_PEER_DEAD) {
    HangUp(false);
    loop_.MarkReady(*this);
  }
  return COROIPC_AGAIN;  // full, or out of kernel memory for a moment: owed
}

void coroipcs_connection::OnBufferReturned(coroipc_buffer& buffer) {
  if (buffer.lent) return;  // goes back with its answer
  buffer.owner = Owner::kFree;
  FlushBacklogs();
}

Status coroipcs_connection::OnSegmentMessage(const coroipc_segment_message& message, coroipc::Fd fd) {
  (void)message;
  (void)fd;
  return COROIPC_PROTOCOL;  // memory is the server's to make
}

Status coroipcs_connection::Grant(const coroipc_record& header, const uint8_t* payload) {
  uint32_t bytes;
  if (header.bytes != sizeof bytes) return COROIPC_PROTOCOL;
  coroipc::CopyIn(&bytes, payload, sizeof bytes);
  coroipc_record grant = {};
  grant.kind = COROIPC_RECORD_SEGMENT_GRANT;
  grant.correlation = header.correlation;
  coroipc_buffer* buffer = nullptr;
  Status status = bytes == 0 || bytes > message_bytes_ ? COROIPC_TOO_LARGE : AcquireSegment(bytes, &buffer);
  if (status == COROIPC_AGAIN) status = COROIPC_LIMIT;
  if (status == COROIPC_OK && Share(*buffer) != COROIPC_OK) {
    buffer->owner = Owner::kFree;
    OweDoorbell();  // its timer gives this connection a turn
    return COROIPC_AGAIN;
  }
  if (status != COROIPC_OK) {
    grant.status = status;
    return Send(kResponse, grant, nullptr, 0, 0);
  }
  buffer->owner = Owner::kAway;
  const coroipc_segment_reference reference = {buffer->index, 0, bytes, buffer->generation};
  grant.argument = buffer->index;
  grant.flags = COROIPC_FLAG_SEGMENT;
  const struct iovec part = {const_cast<coroipc_segment_reference*>(&reference), sizeof reference};
  return Send(kResponse, grant, &part, 1, sizeof reference);
}

bool coroipcs_connection::Owns(const coroipc_buffer* buffer) const {
  return buffer != nullptr && buffer->index < segments_max_ && buffers_[buffer->index] == buffer &&
         buffer->owner == Owner::kUsed;
}

Status coroipcs_connection::AllocateBuffer(uint32_t bytes, coroipc_buffer** buffer) {
  if (phase_ != Phase::kOpen) return status_ == COROIPC_OK ? COROIPC_DISCONNECTED : status_;
  if (bytes == 0) return COROIPC_INVALID_ARGUMENT;
  if (bytes > message_bytes_) return COROIPC_TOO_LARGE;
  const Status status = AcquireSegment(bytes, buffer);
  if (status != COROIPC_OK) return status == COROIPC_AGAIN ? COROIPC_LIMIT : status;
  (*buffer)->bytes = bytes;
  (*buffer)->AddUser();
  return COROIPC_OK;
}

// -- one connection: sending ----------------------------------------------------------------------

void coroipcs_connection::OnBacklogChanged() {
  const coroipc::Backlog& dispatches = out_[kDispatch].backlog;
  stats_.backlog_messages = dispatches.count();
  stats_.backlog_bytes = dispatches.bytes();
  stats_.unsent_responses = out_[kResponse].backlog.count();
  const uint64_t bytes = dispatches.bytes() + out_[kResponse].backlog.bytes();
  account.Discharge(charged_backlog);
  account.bytes += bytes;
  charged_backlog = bytes;
  const uint64_t flow = dispatches.empty() ? 0 : 1;
  if (flow != stats_.flow_control) {
    stats_.flow_control = flow;
    stats_.flow_control_count += flow;
    if (control_ != nullptr) coroipc::StoreRelaxed(control_->server.flow_control, static_cast<uint32_t>(flow));
  }
  if (drain_wanted && dispatches.bytes() <= backlog_limit / 2) {
    drain_wanted = false;
    loop_.PushEvent(Row(COROIPC_KIND_DRAIN));
    loop_.MarkReady(*this);
  }
}

void coroipcs_connection::OnBacklogEmpty(uint32_t out) { (void)out; }

void coroipcs_connection::FlushNow() {
  FlushBacklogs();
  if (phase_ == Phase::kOpen) PublishOut();
}

Status coroipcs_connection::Respond(uint32_t correlation, Status code, int32_t status,
                                    const struct iovec* parts, uint32_t count, coroipc_buffer* buffer,
                                    uint32_t offset, uint32_t bytes) {
  if (phase_ != Phase::kOpen) return status_ == COROIPC_OK ? COROIPC_DISCONNECTED : status_;
  const uint32_t slot = coroipc::SlotOf(correlation);
  if (!slots.valid(slot)) return COROIPC_INVALID_ARGUMENT;
  coroipc::InFlight& entry = slots.at(slot);
  if (!entry.busy || entry.generation != coroipc::GenerationOf(correlation)) return COROIPC_INVALID_ARGUMENT;
  if (code < 0 || code >= COROIPC_STATUS_COUNT) return COROIPC_INVALID_ARGUMENT;
  if (bytes > message_bytes_) return COROIPC_TOO_LARGE;
  if (buffer != nullptr &&
      (!Owns(buffer) || uint64_t{offset} + bytes > buffer->segment.bytes())) {
    return COROIPC_INVALID_ARGUMENT;
  }
  coroipc_record header = {};
  header.kind = COROIPC_RECORD_RESPONSE;
  header.correlation = correlation;
  header.status = status;
  header.argument = static_cast<uint32_t>(code);
  const uint8_t lent = entry.segment;
  entry.busy = false;
  entry.segment = 0;
  stats_.in_flight = --in_flight;
  if (lent != 0 && buffers_[lent - 1] != nullptr) {
    coroipc_buffer& returned = *buffers_[lent - 1];
    returned.lent = false;
    const auto inside = [&](const struct iovec& part) {
      const auto* const from = static_cast<const uint8_t*>(part.iov_base);
      return from + part.iov_len > returned.segment.data() &&
             from < returned.segment.data() + returned.segment.bytes();
    };
    if (buffer == nullptr && bytes > out_[kResponse].ring.payload_bytes_max() &&
        bytes <= returned.segment.bytes() &&
        (count == 1 || std::none_of(parts, parts + count, inside))) {
      // A large answer to a large request goes back in the same segment: none more is needed, and none can be
      // missing while all are lent. The payload may be a view of that very segment.
      uint8_t* to = returned.segment.data();
      for (uint32_t i = 0; i < count; ++i) {
        std::memmove(to, parts[i].iov_base, parts[i].iov_len);
        to += parts[i].iov_len;
      }
      buffer = &returned;
      offset = 0;
    } else if (&returned != buffer) {
      returned.owner = Owner::kAway;
    }
  }
  const Status sent = Send(kResponse, header, parts, count, bytes, buffer, offset);
  if (sent != COROIPC_OK) {
    // An answer that cannot be kept must not vanish in silence.
    if (phase_ == Phase::kOpen) {
      header.argument = COROIPC_NO_MEMORY;
      header.status = 0;
      if (Send(kResponse, header, nullptr, 0, 0) != COROIPC_OK && phase_ == Phase::kOpen) End(COROIPC_NO_MEMORY);
    }
    return sent;
  }
  ++stats_.responses;
  if (code == COROIPC_NO_HANDLER || code == COROIPC_REFUSED) ++stats_.invalid_requests;
  return COROIPC_OK;
}

Status coroipcs_connection::Dispatch(uint16_t id, const struct iovec* parts, uint32_t count,
                                     coroipc_buffer* buffer, uint32_t offset, uint32_t bytes,
                                     bool promised) {
  if (phase_ != Phase::kOpen) return status_ == COROIPC_OK ? COROIPC_DISCONNECTED : status_;
  if (bytes > message_bytes_) return COROIPC_TOO_LARGE;
  if (buffer != nullptr && (!Owns(buffer) || uint64_t{offset} + bytes > buffer->segment.bytes())) {
    return COROIPC_INVALID_ARGUMENT;
  }
  coroipc::Outbound& out = out_[kDispatch];
  Status result = COROIPC_OK;
  const auto overflows = [&] {
    return !out.backlog.empty() &&
           (out.backlog.bytes() + sizeof(coroipc::Outgoing) + bytes > backlog_limit ||
            account.bytes + bytes > account.limit);
  };
  if (overflows()) {
    FlushBacklogs();
    if (phase_ != Phase::kOpen) return status_;
  }
  if (overflows()) {
    switch (policy) {
      case COROIPCS_POLICY_DROP_NEWEST:
        ++stats_.dropped;
        return COROIPC_OK;
      case COROIPCS_POLICY_DROP_OLDEST:
        while (overflows()) {
          out.backlog.Pop();
          ++stats_.dropped;
        }
        out.wants = 1;  // another message is first now: look again
        out.waits_segment = false;
        OnBacklogChanged();
        break;
      case COROIPCS_POLICY_DISCONNECT:
        End(COROIPC_BACKLOG_OVERFLOW);
        return COROIPC_BACKLOG_OVERFLOW;
      default:
        drain_wanted = true;
        ++stats_.overload;
        if (!promised) return COROIPC_FULL;
        result = COROIPC_FULL;
        break;
    }
  }
  coroipc_record header = {};
  header.kind = COROIPC_RECORD_DISPATCH;
  header.id = id;
  const Status sent = Send(kDispatch, header, parts, count, bytes, buffer, offset);
  if (sent != COROIPC_OK) return sent;
  ++stats_.dispatches;
  return result;
}

void coroipcs_connection::Stats(coroipc_stats* stats, bool clear) {
  *stats = stats_;
  if (!clear) return;
  const coroipc_stats kept = stats_;
  stats_ = {};
  stats_.backlog_messages = kept.backlog_messages;
  stats_.backlog_bytes = kept.backlog_bytes;
  stats_.unsent_responses = kept.unsent_responses;
  stats_.in_flight = kept.in_flight;
  stats_.flow_control = kept.flow_control;
  stats_.segments = kept.segments;
  stats_.segment_bytes = kept.segment_bytes;
  stats_.connections = kept.connections;
}

// -- the C API ------------------------------------------------------------------------------------

namespace {
using Guard = coroipc::Loop::Guard;
}

extern "C" {

void coroipcs_options_init(struct coroipcs_options* options) {
  *options = {};
  options->struct_bytes = sizeof *options;
  options->threads = 1;
}

void coroipcs_service_options_init(struct coroipcs_service_options* options) {
  *options = {};
  options->struct_bytes = sizeof *options;
  options->priority = COROIPCS_PRIORITY_NORMAL;
}

coroipc_status coroipcs_create(const struct coroipcs_options* options, struct coroipcs_server** server) {
  if (options == nullptr || server == nullptr || options->struct_bytes != sizeof *options) {
    return COROIPC_INVALID_ARGUMENT;
  }
  auto* made = new (std::nothrow) coroipcs_server;
  if (made == nullptr) return COROIPC_NO_MEMORY;
  const Status status = made->Setup(*options);
  if (status != COROIPC_OK) {
    delete made;
    return status;
  }
  *server = made;
  return COROIPC_OK;
}

coroipc_status coroipcs_listen(struct coroipcs_server* server, const char* name) {
  if (name == nullptr) return COROIPC_INVALID_ARGUMENT;
  Guard guard(*server);
  if (server->listening) return COROIPC_INVALID_ARGUMENT;
  coroipc::Address address;
  if (const Status status = coroipc::ResolveListen(name, &address); status != COROIPC_OK) return status;
  if (const Status status = server->listener.Open(address); status != COROIPC_OK) return status;
  return server->StartListening();
}

coroipc_status coroipcs_listen_fd(struct coroipcs_server* server, int fd) {
  Guard guard(*server);
  if (server->listening) return COROIPC_INVALID_ARGUMENT;
  if (const Status status = server->listener.Adopt(fd); status != COROIPC_OK) return status;
  return server->StartListening();
}

const char* coroipcs_address(const struct coroipcs_server* server) { return server->listener.text().c_str(); }

coroipc_status coroipcs_listen_stop(struct coroipcs_server* server) {
  Guard guard(*server);
  server->StopListening();
  return COROIPC_OK;
}

coroipc_status coroipcs_close(struct coroipcs_server* server) {
  Guard guard(*server);
  server->StopListening();
  server->EndAll(COROIPC_DISCONNECTED);
  server->Wake();  // their rows can be received now
  return COROIPC_OK;
}

void coroipcs_destroy(struct coroipcs_server* server) {
  if (server == nullptr) return;
  server->Lock();
  server->StopListening();
  server->EndAll(COROIPC_DISCONNECTED);
  server->destroyed = true;
  const bool keep = server->objects != 0;
  if (!keep) {
    server->Unlock();
    delete server;
    return;
  }
  // The application's own reference of each goes now; what hold() took stays.
  ++server->objects;
  for (size_t i = 0; i < server->connections().size(); ++i) {
    Connection* const connection = server->connections()[i];
    if (connection != nullptr) static_cast<coroipcs_connection*>(connection)->Release();
  }
  const bool last = --server->objects == 0;
  server->Unlock();
  if (last) delete server;
}

coroipc_status coroipcs_service_add(struct coroipcs_server* server, uint16_t service,
                                    const struct coroipcs_service_options* options) {
  struct coroipcs_service_options standard;
  coroipcs_service_options_init(&standard);
  if (options == nullptr) options = &standard;
  if (options->struct_bytes != sizeof *options || options->policy < 0 || options->policy > COROIPCS_POLICY_DISCONNECT ||
      options->priority < 0 || options->priority > COROIPCS_PRIORITY_HIGH) {
    return COROIPC_INVALID_ARGUMENT;
  }
  Guard guard(*server);
  coroipc::Service& entry = server->services[service];
  if (entry.added) return COROIPC_INVALID_ARGUMENT;
  entry.options = *options;
  entry.added = true;
  return COROIPC_OK;
}

int coroipcs_service_close(struct coroipcs_server* server, uint16_t service) {
  Guard guard(*server);
  const auto found = server->services.find(service);
  if (found == server->services.end()) return 0;
  found->second.added = false;
  for (size_t i = 0; i < server->connections().size(); ++i) {
    Connection* const base = server->connections()[i];
    if (base == nullptr || base->phase() != Connection::Phase::kOpen) continue;
    auto* connection = static_cast<coroipcs_connection*>(base);
    if (connection->service() != service) continue;
    connection->FlushNow();
    if (connection->phase() == Connection::Phase::kOpen) connection->End(COROIPC_DISCONNECTED);
  }
  server->Wake();
  if (found->second.connections != 0) return -1;
  server->services.erase(found);
  return 0;
}

int coroipcs_fd(const struct coroipcs_server* server) { return server->fd(); }

coroipc_status coroipcs_receive(struct coroipcs_server* server, struct coroipc_batch* batch, int look_at_fds) {
  return server->Receive(batch, look_at_fds != 0);
}
coroipc_status coroipcs_look(struct coroipcs_server* server, uint64_t budget_ns) { return server->Look(budget_ns); }
void coroipcs_disarm(struct coroipcs_server* server) { server->DisarmRecent(); }
coroipc_status coroipcs_wait(struct coroipcs_server* server, int timeout_ms) { return server->Wait(timeout_ms); }

coroipc_status coroipcs_handler_accept(struct coroipcs_server* server, uint64_t cookie) {
  return server->Ready(cookie, 0);
}
coroipc_status coroipcs_handler_dispatch(struct coroipcs_server* server, uint64_t cookie, int revents) {
  return server->Ready(cookie, static_cast<uint32_t>(revents));
}

struct coroipcs_connection* coroipcs_connection_at(struct coroipcs_server* server, uint32_t number) {
  Guard guard(*server);
  return static_cast<coroipcs_connection*>(server->at(number));
}

static coroipcs_connection* NextOpen(struct coroipcs_server* server, size_t from) {
  for (size_t i = from; i < server->connections().size(); ++i) {
    Connection* const base = server->connections()[i];
    if (base == nullptr || base->phase() != Connection::Phase::kOpen) continue;
    auto* connection = static_cast<coroipcs_connection*>(base);
    ++connection->holders;
    return connection;
  }
  return nullptr;
}

struct coroipcs_connection* coroipcs_connection_first(struct coroipcs_server* server) {
  Guard guard(*server);
  return NextOpen(server, 0);
}

struct coroipcs_connection* coroipcs_connection_next(struct coroipcs_server* server,
                                                     struct coroipcs_connection* previous) {
  Guard guard(*server);
  return NextOpen(server, size_t{previous->number()} + 1);
}

coroipc_status coroipcs_authorize(struct coroipcs_connection* connection, coroipc_status verdict, int trusted) {
  Guard guard(connection->server);
  return connection->Verdict(verdict, trusted != 0);
}

void coroipcs_connection_hold(struct coroipcs_connection* connection) {
  Guard guard(connection->server);
  ++connection->holders;
}

void coroipcs_connection_release(struct coroipcs_connection* connection) {
  coroipcs_server& server = connection->server;
  server.Lock();
  // Keeps the server until the lock is given back.
  ++server.objects;
  connection->Release();
  const bool last = --server.objects == 0 && server.destroyed;
  server.Unlock();
  if (last) delete &server;
}

coroipc_status coroipcs_disconnect(struct coroipcs_connection* connection, coroipc_status why) {
  if (why <= COROIPC_OK || why >= COROIPC_STATUS_COUNT) return COROIPC_INVALID_ARGUMENT;
  Guard guard(connection->server);
  if (connection->phase() == Connection::Phase::kEnded) return connection->status();
  if (connection->phase() != Connection::Phase::kOpen) return COROIPC_INVALID_ARGUMENT;
  connection->FlushNow();
  if (connection->phase() == Connection::Phase::kOpen) connection->End(why);
  connection->server.Wake();
  return COROIPC_OK;
}

uint32_t coroipcs_connection_number(const struct coroipcs_connection* connection) { return connection->number(); }
uint16_t coroipcs_connection_service(const struct coroipcs_connection* connection) { return connection->service(); }
uint64_t coroipcs_connection_id(const struct coroipcs_connection* connection) { return connection->id(); }
const struct coroipc_credentials* coroipcs_connection_credentials(const struct coroipcs_connection* connection) {
  return &connection->credentials().view();
}
uint32_t coroipcs_connection_message_bytes(const struct coroipcs_connection* connection) {
  return connection->message_bytes();
}
void* coroipcs_private_data_get(struct coroipcs_connection* connection) { return connection->private_data.get(); }

coroipc_status coroipcs_connection_rate_limit(struct coroipcs_connection* connection, uint32_t requests_per_second) {
  Guard guard(connection->server);
  if (connection->phase() != Connection::Phase::kOpen) return COROIPC_DISCONNECTED;
  connection->rate = requests_per_second;
  connection->tokens = 0;
  connection->rate_filled_ns = NowNs();
  if (connection->rate_paused) {
    connection->rate_paused = false;
    --connection->server.paused;
  }
  connection->server.MarkReady(*connection);
  return COROIPC_OK;
}

coroipc_status coroipcs_connection_priority(struct coroipcs_connection* connection, int priority) {
  if (priority < 0 || priority > COROIPCS_PRIORITY_HIGH) return COROIPC_INVALID_ARGUMENT;
  Guard guard(connection->server);
  if (connection->phase() != Connection::Phase::kOpen) return COROIPC_DISCONNECTED;
  connection->server.SetPriority(*connection, static_cast<uint8_t>(priority));
  return COROIPC_OK;
}

coroipc_status coroipcs_connection_policy(struct coroipcs_connection* connection, int policy) {
  if (policy < 0 || policy > COROIPCS_POLICY_DISCONNECT) return COROIPC_INVALID_ARGUMENT;
  Guard guard(connection->server);
  connection->policy = policy;
  return COROIPC_OK;
}

coroipc_status coroipcs_connection_stats(struct coroipcs_connection* connection, struct coroipc_stats* stats,
                                         int clear) {
  Guard guard(connection->server);
  connection->Stats(stats, clear != 0);
  return COROIPC_OK;
}

coroipc_status coroipcs_stats(struct coroipcs_server* server, struct coroipc_stats* stats, int clear) {
  Guard guard(*server);
  coroipc_stats sum = server->totals;
  uint64_t* const total = reinterpret_cast<uint64_t*>(&sum);
  for (Connection* connection : server->connections()) {
    if (connection == nullptr) continue;
    coroipc_stats one;
    static_cast<coroipcs_connection*>(connection)->Stats(&one, clear != 0);
    const uint64_t* const words = reinterpret_cast<const uint64_t*>(&one);
    for (size_t i = 0; i < COROIPC_STATS_WORDS; ++i) total[i] += words[i];
  }
  sum.connections = server->established;
  sum.handshakes_pending = server->handshakes + server->authorizing;
  *stats = sum;
  if (clear != 0) server->totals = {};
  return COROIPC_OK;
}

coroipc_status coroipcs_response_send(struct coroipcs_connection* connection, uint32_t correlation,
                                      coroipc_status code, int32_t status, const struct iovec* payload,
                                      uint32_t count) {
  uint32_t bytes = 0;
  if (!coroipc::GatherBytes(payload, count, &bytes)) return COROIPC_TOO_LARGE;
  Guard guard(connection->server);
  const Status result = connection->Respond(correlation, code, status, payload, count, nullptr, 0, bytes);
  if (connection->phase() == Connection::Phase::kOpen) connection->PublishOut();
  return result;
}

coroipc_status coroipcs_dispatch_send(struct coroipcs_connection* connection, uint16_t id,
                                      const struct iovec* payload, uint32_t count) {
  uint32_t bytes = 0;
  if (!coroipc::GatherBytes(payload, count, &bytes)) return COROIPC_TOO_LARGE;
  Guard guard(connection->server);
  const Status result = connection->Dispatch(id, payload, count, nullptr, 0, bytes, false);
  if (connection->phase() == Connection::Phase::kOpen) connection->PublishOut();
  return result;
}

void coroipcs_send_batch(struct coroipcs_server* server, struct coroipc_entry* entries, uint32_t count,
                         const uint8_t* arena) {
  Guard guard(*server);
  coroipcs_connection* touched[64];
  uint32_t touched_count = 0;
  const auto publish = [&] {
    for (uint32_t i = 0; i < touched_count; ++i) {
      touched[i]->touched = false;
      if (touched[i]->phase() == Connection::Phase::kOpen) touched[i]->PublishOut();
    }
    touched_count = 0;
  };
  for (uint32_t i = 0; i < count; ++i) {
    coroipc_entry& row = entries[i];
    auto* connection = static_cast<coroipcs_connection*>(server->at(row.connection));
    if (connection == nullptr || connection->phase() != Connection::Phase::kOpen) {
      row.argument = static_cast<uint32_t>(connection == nullptr ? COROIPC_DISCONNECTED : connection->status());
      continue;
    }
    if (!connection->touched) {
      if (touched_count == 64) publish();
      connection->touched = true;
      touched[touched_count++] = connection;
    }
    const struct iovec part = {const_cast<uint8_t*>(arena) + row.offset, row.bytes};
    Status status = COROIPC_INVALID_ARGUMENT;
    if (row.kind == COROIPC_KIND_RESPONSE) {
      status = connection->Respond(row.correlation, static_cast<Status>(row.argument), row.status, &part, 1,
                                   nullptr, 0, row.bytes);
    } else if (row.kind == COROIPC_KIND_DISPATCH) {
      status = connection->Dispatch(static_cast<uint16_t>(row.id), &part, 1, nullptr, 0, row.bytes, true);
    }
    row.argument = static_cast<uint32_t>(status);
  }
  publish();
}

coroipc_status coroipcs_buffer_alloc(struct coroipcs_connection* connection, uint32_t bytes,
                                     struct coroipc_buffer** buffer) {
  Guard guard(connection->server);
  return connection->AllocateBuffer(bytes, buffer);
}

coroipc_status coroipcs_response_send_buffer(struct coroipcs_connection* connection, uint32_t correlation,
                                             int32_t status, struct coroipc_buffer* buffer, uint32_t offset,
                                             uint32_t bytes) {
  if (buffer == nullptr) return COROIPC_INVALID_ARGUMENT;
  Guard guard(connection->server);
  const Status result = connection->Respond(correlation, COROIPC_OK, status, nullptr, 0, buffer, offset, bytes);
  if (connection->phase() == Connection::Phase::kOpen) connection->PublishOut();
  return result;
}

coroipc_status coroipcs_dispatch_send_buffer(struct coroipcs_connection* connection, uint16_t id,
                                             struct coroipc_buffer* buffer, uint32_t offset, uint32_t bytes) {
  if (buffer == nullptr) return COROIPC_INVALID_ARGUMENT;
  Guard guard(connection->server);
  const Status result = connection->Dispatch(id, nullptr, 0, buffer, offset, bytes, false);
  if (connection->phase() == Connection::Phase::kOpen) connection->PublishOut();
  return result;
}

coroipc_status coroipcs_buffer_get(struct coroipcs_connection* connection, uint32_t segment,
                                   struct coroipc_buffer** buffer) {
  Guard guard(connection->server);
  coroipc_buffer* const found = connection->buffer(segment);
  if (found == nullptr || found->owner != Owner::kUsed) return COROIPC_INVALID_ARGUMENT;
  found->AddUser();
  *buffer = found;
  return COROIPC_OK;
}

}  // extern "C"
