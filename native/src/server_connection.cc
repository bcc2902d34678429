// server_connection.cc: one connection as the server sees it: from the setup message to its end,
// what it asks and what it is sent.
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>

#include "random.h"
#include "server.h"

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

constexpr uid_t kUnmappedUid = 65534;
constexpr uint32_t kTokenParts = 4;  // what a request costs of a rate; any other record costs 1

}  // namespace

// -- handshake --------------------------------------------------------------------

coroipcs_connection::coroipcs_connection(coroipcs_server& owner, Account& payer, coroipc::Fd peer)
    : Connection(owner, true), server(owner), account(payer) {
  socket_ = std::move(peer);
  number_ = loop_.Insert(this);
  ++account.handshakes;
  ++server.handshakes;
  ++server.objects;
  ++account.objects;
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
  const Status status =
      coroipc::ReceiveMessage(socket_.get(), bytes, sizeof bytes, false, &received);
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
  if (const Status check = coroipc::CheckSetupRequest(bytes, received.bytes, &request);
      check != COROIPC_OK) {
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
  if (server.authorizing >= server.options.authorizing && !server.EvictAuthorizing(account)) {
    RefuseAndEnd(COROIPC_LIMIT);
    return false;
  }
  phase_ = Phase::kAuthorizing;
  authorizing = true;
  --server.handshakes;
  --account.handshakes;
  ++server.authorizing;
  ++account.authorizing;
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
    if (phase_ != Phase::kEnded)
      RefuseAndEnd(status == COROIPC_SYSTEM ? COROIPC_NO_MEMORY : status);
  }
  return status;
}

Status coroipcs_connection::Establish() {
  service_entry = server.ServiceFor(service_);
  if (service_entry == nullptr) return COROIPC_NO_SERVICE;
  // Again, since many may have knocked at once.
  if (server.established >= server.options.connections) return COROIPC_LIMIT;
  if (phase_ == Phase::kSetup && account.connections >= server.options.connections_per_uid)
    return COROIPC_LIMIT;
  const uint32_t bytes = coroipc::SegmentBytes(terms_);
  if (bytes > server.options.segment_bytes || !account.Charge(bytes)) {
    service_entry = nullptr;
    return COROIPC_LIMIT;
  }
  charged = bytes;
  coroipc::Fd fd;
  Status status = coroipc::Segment::Create(bytes, server.MemoryBacking(true), &segment_, &fd);
  if (status == COROIPC_OK && service_entry->options.private_data_bytes != 0) {
    private_data.reset(new (std::nothrow) uint8_t[service_entry->options.private_data_bytes]());
    if (private_data == nullptr) status = COROIPC_NO_MEMORY;
  }
  if (status == COROIPC_OK && pidfd() >= 0) {
    status = loop_.Watch(pidfd(), coroipc::Source::kPidfd, number_, false);
  }
  if (status == COROIPC_OK) {
    id_ = coroipc::RandomId();
    coroipc::FillSegmentHeader(reinterpret_cast<coroipc_control*>(segment_.data()), terms_, id_);
    request_ring_bytes_ = terms_.request_ring_bytes;
    response_ring_bytes_ = terms_.response_ring_bytes;
    dispatch_ring_bytes_ = terms_.dispatch_ring_bytes;
    // Own positions are read while nobody else can have written to them.
    status = InitRings();
  }
  if (status == COROIPC_OK) {
    const coroipc_setup_reply reply = coroipc::MakeSetupReply(COROIPC_OK, terms_, id_, server.id);
    status = coroipc::SendMessage(socket_.get(), &reply, sizeof reply, fd.get(), true);
    // Its socket is empty in this direction: what is short is the kernel's memory.
    if (status == COROIPC_AGAIN) status = COROIPC_NO_MEMORY;
  }
  if (status != COROIPC_OK) {
    control_ = nullptr;
    segment_.Unmap();
    account.Discharge(charged);
    charged = 0;
    service_entry = nullptr;
    return status;
  }
  message_bytes_ = terms_.message_bytes;
  requests_in_flight_ = terms_.requests_in_flight;
  segments_max_ = terms_.segments_max;
  slots.Init(requests_in_flight_);
  server.RemovePending(this);
  if (phase_ == Phase::kAuthorizing) {
    --server.authorizing;
    --account.authorizing;
  } else {
    --server.handshakes;
    --account.handshakes;
    ++account.connections;
  }
  ++server.established;
  ++server.totals.connections_total;
  ++service_entry->connections;
  policy = service_entry->options.policy;
  // It may stand on the ready list of its old one: its peer can speak before it is let in.
  loop_.SetPriority(*this, static_cast<uint8_t>(service_entry->options.priority));
  rate = service_entry->options.requests_per_second;
  rate_filled_ns = NowNs();
  tokens = kTokenParts;  // the first request need not wait
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
      --account.authorizing;
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
  const bool broken = why == COROIPC_PROTOCOL && !disconnected;
  if (broken) {
    ++server.totals.protocol_errors;
    loop_.Log(40, "a client broke the protocol and was disconnected");
  }
  --server.established;
  --account.connections;
  account.Discharge(charged_backlog);
  charged_backlog = 0;
  stats_.connections = stats_.in_flight = stats_.flow_control = 0;
  stats_.backlog_messages = stats_.backlog_bytes = stats_.unsent_responses = 0;
  control_ = nullptr;
  // Who left, or lied, reads no more: its pages go now, whatever it still has mapped, or a uid
  // could keep more of our memory than it is charged for. What was lent to it in segments stays
  // readable.
  if (hangup_ || broken) segment_.Empty(COROIPC_CONTROL_BYTES);
  if (broken) {
    for (uint32_t i = 0; i < segments_max_; ++i) {
      if (BufferAt(i) != nullptr && BufferAt(i)->users.load() == 0) BufferAt(i)->segment.Empty(0);
    }
  }
  coroipc_entry row = Row(COROIPC_KIND_DISCONNECTED);
  row.id = service_;
  row.argument = static_cast<uint32_t>(why);
  loop_.PushEvent(row);
}

void coroipcs_connection::Release() {
  if (--holders != 0) return;
  if (phase_ != Phase::kEnded) {
    holders =
        1;  // more releases than holds: the application's mistake must not free a live connection
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
  --account.objects;
  account.Discharge(charged);
  segment_.Unmap();
  // Its memory goes now; a server that sleeps frees the object itself only when it wakes.
  for (uint32_t i = 0; i < segments_max_; ++i) DropBuffer(i);
  loop_.Bury(*this);
  if (--owner.objects == 0 && owner.destroyed) delete &owner;
}

// -- receiving --------------------------------------------------------------------

bool coroipcs_connection::Overflowing() const {
  const coroipc::Outbound& out = out_[kResponse];
  if (out.waits_segment) {
    // Reading must go on: the client's release comes by the request ring, behind what an honest
    // client can have sent before it, which is as many requests and wants as may be in flight.
    return out.backlog.count() >= 2 * requests_in_flight_ || account.bytes > account.limit;
  }
  return out.backlog.count() >= requests_in_flight_ ||
         out.backlog.bytes() >= server.options.unsent_bytes;
}

bool coroipcs_connection::Reads(uint32_t in) const {
  (void)in;
  // A grant that waits for room on the socket is tried again when there is some, not at once.
  return draining() ||
         (!rate_paused && !Overflowing() && !(grant_waits && (write_watched || doorbell_owed_)));
}

void coroipcs_connection::Refill() {
  if (rate == COROIPCS_RATE_OFF) return;
  const uint64_t now = NowNs();
  const uint64_t burst = std::max<uint64_t>(1, rate / 20) * kTokenParts;
  const uint64_t parts = uint64_t{rate} * kTokenParts;
  // At most a second is looked back at: more cannot overflow, and fills any burst.
  const uint64_t passed = std::min<uint64_t>(now - rate_filled_ns, 1000000000u);
  const uint64_t fresh = rate == 0 ? burst : passed * parts / 1000000000u;
  if (tokens + fresh >= burst) {
    tokens = static_cast<uint32_t>(burst);
    rate_filled_ns = now;
  } else if (fresh != 0) {
    // What is left of a token counts for the next one, or the rate is never reached.
    tokens += static_cast<uint32_t>(fresh);
    rate_filled_ns += fresh * 1000000000u / parts;
  }
  const bool pause = rate != 0 && tokens < kTokenParts;
  if (pause) loop_.DeadlineAt(now + std::max<uint64_t>(kMillisecond, 1000000000u / rate));
  if (pause != rate_paused) {
    rate_paused = pause;
    pause ? ++server.paused : --server.paused;
  }
}

uint32_t coroipcs_connection::TurnCap(uint32_t in, uint32_t cap) {
  (void)cap;
  if (in_[in].LoadPeer() != COROIPC_OK) return 1;  // Peek says so again
  // Half of what waits: taking all of it puts both sides in lock-step and halves the rate, less
  // makes more turns of it than it is worth.
  const uint32_t waiting = in_[in].seen_bytes() / last_record_bytes;
  uint32_t turn = std::clamp(waiting / 2, 8u, 64u);
  // Answers that wait already, and those of the requests that are being handled, count against the
  // bound that the client agreed to: a turn must not run far past it.
  if (const coroipc::Outbound& out = out_[kResponse]; out.backlog.count() != 0) {
    const uint32_t owed = out.backlog.count() + in_flight;
    turn = std::min(turn, owed < requests_in_flight_ ? requests_in_flight_ - owed : 1);
  }
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
  return std::max(1u, std::min(turn, tokens / kTokenParts));
}

// A client that leaves must not get by that what its rate held back.
uint32_t coroipcs_connection::FinalCap() {
  if (rate == 0) return 256;
  if (rate == COROIPCS_RATE_OFF) return 0;
  Refill();
  return tokens / kTokenParts;
}

// Of a rate. Records that are no requests cost a part: an honest one sends few beside its requests.
void coroipcs_connection::Spend(uint32_t parts) { tokens -= std::min(tokens, parts); }

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
    if (ReadReference(header, payload, &reference, &buffer) != COROIPC_OK)
      return Fail(COROIPC_PROTOCOL);
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
  Spend(kTokenParts);
  last_record_bytes = coroipc::RecordBytes(header.bytes);
  if (one_way) {
    // Nothing carries it back: it becomes the server's, and the next grant may use it.
    if (buffer != nullptr) {
      buffer->owner = buffer->users.load() == 0 ? Owner::kFree : Owner::kUsed;
      buffer->granted = false;
      // Somebody may wait for just that: the next turn looks.
      if (out_[kResponse].waits_segment || out_[kDispatch].waits_segment || want_waits)
        loop_.MarkReady(*this);
      BufferFreed();
    }
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
                                                        const uint8_t* payload,
                                                        coroipc::Sink& sink) {
  (void)in;
  if ((header.flags & ~COROIPC_FLAG_SEGMENT) != 0) return Fail(COROIPC_PROTOCOL);
  if (header.kind != COROIPC_RECORD_REQUEST && header.kind != COROIPC_RECORD_SEND) Spend(1);
  switch (header.kind) {
    case COROIPC_RECORD_REQUEST:
    case COROIPC_RECORD_SEND:
      return DeliverRequest(header, payload, sink);
    case COROIPC_RECORD_CANCEL: {
      const uint32_t slot = coroipc::SlotOf(header.correlation);
      if (!slots.valid(slot)) return Fail(COROIPC_PROTOCOL);
      const coroipc::InFlight& entry = slots.at(slot);
      // Its answer may have passed it on the way: then there is nothing to cancel.
      if (!entry.busy || entry.generation != coroipc::GenerationOf(header.correlation))
        return Taken::kYes;
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
      coroipc_buffer* const buffer = BufferAt(header.argument);
      if (buffer == nullptr || buffer->owner != Owner::kAway) return Fail(COROIPC_PROTOCOL);
      buffer->owner = buffer->users.load() == 0 ? Owner::kFree : Owner::kUsed;
      buffer->granted = false;
      FlushBacklogs();
      if (phase_ != Phase::kOpen) return Taken::kFailed;
      BufferFreed();
      return Taken::kYes;
    }
    default:
      return Fail(COROIPC_PROTOCOL);
  }
}

// -- sending ----------------------------------------------------------------------

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
    if (control_ != nullptr && phase_ == Phase::kOpen) {
      // ORDER flow-control (seq_cst; pairs with the look-again of a client's Arm): stored, then is
      // it asleep?
      coroipc::StoreSeqCst(control_->server.flow_control, static_cast<uint32_t>(flow));
      if (out_[kResponse].ring.TakeReaderSleep()) Ring();
    }
  }
  // Emptied because nobody reads it any more is no room.
  if (drain_wanted && !draining() && dispatches.bytes() <= backlog_limit / 2) {
    drain_wanted = buffer_wanted = false;
    loop_.PushEvent(Row(COROIPC_KIND_DRAIN));
    loop_.MarkReady(*this);
  }
}

bool coroipcs_connection::OnUnsendable(coroipc_record& header, Status why) {
  if (header.kind == COROIPC_RECORD_RESPONSE) {
    header.argument = static_cast<uint32_t>(why);
    header.status = 0;
    return true;
  }
  ++stats_.dropped;
  loop_.Log(40, "a large dispatch was dropped: no segment can be had for it");
  return false;
}

void coroipcs_connection::OnBacklogEmpty(uint32_t out) { (void)out; }

void coroipcs_connection::FlushNow() {
  FlushBacklogs();
  if (phase_ == Phase::kOpen) PublishOut();
}

Status coroipcs_connection::Respond(uint32_t correlation, Status code, int32_t status,
                                    const struct iovec* parts, uint32_t count,
                                    coroipc_buffer* buffer, uint32_t offset, uint32_t bytes) {
  if (forked()) return COROIPC_FORKED;
  if (phase_ != Phase::kOpen) return status_ == COROIPC_OK ? COROIPC_DISCONNECTED : status_;
  const uint32_t slot = coroipc::SlotOf(correlation);
  if (!slots.valid(slot)) return COROIPC_INVALID_ARGUMENT;
  coroipc::InFlight& entry = slots.at(slot);
  if (!entry.busy || entry.generation != coroipc::GenerationOf(correlation))
    return COROIPC_INVALID_ARGUMENT;
  if (code < 0 || code >= COROIPC_STATUS_COUNT) return COROIPC_INVALID_ARGUMENT;
  if (bytes > message_bytes_) return COROIPC_TOO_LARGE;
  if (buffer != nullptr && (!Owns(buffer) || uint64_t{offset} + bytes > buffer->segment.bytes())) {
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
  if (lent != 0 && BufferAt(lent - 1) != nullptr) {
    coroipc_buffer& returned = *BufferAt(lent - 1);
    returned.lent = false;
    const auto inside = [&](const struct iovec& part) {
      const auto* const from = static_cast<const uint8_t*>(part.iov_base);
      return from + part.iov_len > returned.segment.data() &&
             from < returned.segment.data() + returned.segment.bytes();
    };
    if (buffer == nullptr && bytes > out_[kResponse].ring.payload_bytes_max() &&
        bytes <= returned.segment.bytes() &&
        (count == 1 || std::none_of(parts, parts + count, inside))) {
      // A large answer to a large request goes back in the same segment: none more is needed, and
      // none can be missing while all are lent. The payload may be a view of that very segment.
      uint8_t* to = returned.segment.data();
      for (uint32_t i = 0; i < count; ++i) {
        if (parts[i].iov_len == 0) continue;
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
    // An answer that cannot be kept must not vanish in silence: both sides are told the same.
    if (phase_ == Phase::kOpen) {
      header.argument = static_cast<uint32_t>(sent);
      header.status = 0;
      if (Send(kResponse, header, nullptr, 0, 0) != COROIPC_OK && phase_ == Phase::kOpen)
        End(COROIPC_NO_MEMORY);
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
  if (forked()) return COROIPC_FORKED;
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
        if (!promised) {
          ++stats_.overload;
          return COROIPC_FULL;
        }
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

coroipcs_rings coroipcs_connection::Rings() const {
  if (control_ == nullptr) return {};
  return {{request_ring_bytes_, in_[kRequest].used()},
          {response_ring_bytes_, out_[kResponse].ring.used()},
          {dispatch_ring_bytes_, out_[kDispatch].ring.used()}};
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
