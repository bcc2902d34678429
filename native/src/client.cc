// client.cc: the client half of the C API: connecting, receiving, pipelined sending.
#include "client.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

#include "block.h"

using coroipc::Connection;
using coroipc::DeadlineNs;
using coroipc::kDispatch;
using coroipc::kMillisecond;
using coroipc::kNever;
using coroipc::kRequest;
using coroipc::kResponse;
using coroipc::NowNs;
using coroipc::Owner;
using coroipc::Pending;
using coroipc::Status;
using coroipc::Wants;

namespace {

constexpr uint32_t kRetryMsMax = 20;
constexpr uint32_t kPoolSegments = 2;     // free segments that are kept for the next large message
constexpr uint32_t kServerSegments = 2;   // indices that stay the server's for its own answers

}  // namespace

void coroipcc_group::OnTimer() {
  const uint64_t now = NowNs();
  for (size_t i = 0; i < connections().size(); ++i) {
    Connection* const connection = connections()[i];
    if (connection != nullptr) static_cast<coroipcc_connection*>(connection)->CheckDeadline(now);
  }
}

// -- life -----------------------------------------------------------------------------------------

coroipcc_connection::coroipcc_connection(coroipcc_group& owner, const coroipcc_options& given,
                                         const char* where)
    : Connection(owner, false), group(owner), options(given), name(where) {
  number_ = loop_.Insert(this);
  ++group.objects;
  pthread_condattr_t attributes;
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  pthread_cond_init(&changed_, &attributes);
  pthread_condattr_destroy(&attributes);
}

coroipcc_connection::~coroipcc_connection() {
  for (std::deque<coroipc::Kept>* kept : {&kept_answers_, &kept_dispatches_}) {
    for (const coroipc::Kept& one : *kept) coroipc::BlockFree(one.block);
  }
  pthread_cond_destroy(&changed_);
}

coroipc_entry coroipcc_connection::Row(uint32_t kind) const {
  coroipc_entry row = {};
  row.connection = number_;
  row.kind = kind;
  row.segment = COROIPC_SEGMENTS_MAX;
  return row;
}

Status coroipcc_connection::BeginConnect(int64_t timeout_ms, bool blocking) {
  blocking_connect_ = blocking;
  deadline_ns_ = DeadlineNs(timeout_ms);
  const Status status = TryConnect();
  if (status == COROIPC_AGAIN && !blocking && deadline_ns_ != kNever) loop_.DeadlineAt(deadline_ns_);
  return status == COROIPC_AGAIN ? COROIPC_OK : status;
}

// OK: the setup message is out. AGAIN: the server's backlog is full, retry_ns_ says when to try again.
Status coroipcc_connection::TryConnect() {
  retry_ns_ = kNever;
  Status last = COROIPC_CONNECT_REFUSED;
  for (uint32_t candidate = 0;; ++candidate) {
    coroipc::Address address;
    const Status resolved = coroipc::ResolveConnect(name.c_str(), candidate, &address);
    if (resolved == COROIPC_AGAIN) return last;
    if (resolved != COROIPC_OK) return resolved;
    coroipc::Fd fd;
    last = coroipc::Connect(address, &fd);
    if (last == COROIPC_CONNECT_REFUSED) continue;
    if (last == COROIPC_AGAIN) {
      retry_ns_ = NowNs() + retry_ms_ * kMillisecond;
      retry_ms_ = std::min(retry_ms_ * 2, kRetryMsMax);
      if (!blocking_connect_) loop_.DeadlineAt(retry_ns_);
      return COROIPC_AGAIN;
    }
    if (last != COROIPC_OK) return last;
    socket_ = std::move(fd);
    break;
  }
  if (const Status status = credentials_.FromPeer(socket_.get()); status != COROIPC_OK) return status;
  // Before the first byte is sent. A pid is checked after the reply, which may name another process.
  if (options.require_uid != 0 && credentials_.view().uid != options.server_uid) return COROIPC_DENIED;
  terms_.request_ring_bytes = options.request_ring_bytes;
  terms_.response_ring_bytes = options.response_ring_bytes;
  terms_.dispatch_ring_bytes = options.dispatch_ring_bytes;
  terms_.message_bytes = options.message_bytes;
  terms_.requests_in_flight = options.requests_in_flight;
  const coroipc_setup_request request = coroipc::MakeSetupRequest(options.service, terms_);
  const Status sent = coroipc::SendMessage(socket_.get(), &request, sizeof request, -1, false);
  // A server that refused at once has closed already; its reply can still be read.
  if (sent != COROIPC_OK && sent != COROIPC_PEER_DEAD) return sent == COROIPC_AGAIN ? COROIPC_NO_MEMORY : sent;
  if (!blocking_connect_) {
    if (const Status status = loop_.Watch(socket_.get(), coroipc::Source::kSocket, number_, false);
        status != COROIPC_OK) {
      return status;
    }
    registered_ = true;
  }
  return COROIPC_OK;
}

Status coroipcc_connection::ServerIsWanted() const {
  const coroipc_credentials& server = credentials_.view();
  if (options.require_uid != 0 && server.uid != options.server_uid) return COROIPC_DENIED;
  if (options.require_pid != 0 && server.pid != options.server_pid) return COROIPC_DENIED;
  return COROIPC_OK;
}

// OK: open. AGAIN: no reply yet. Anything else: refused or broken.
Status coroipcc_connection::TakeReply() {
  coroipc_setup_reply reply;
  uint8_t bytes[sizeof reply + 8];
  coroipc::Received received;
  const Status status = coroipc::ReceiveMessage(socket_.get(), bytes, sizeof bytes, true, &received);
  if (status != COROIPC_OK) return status;
  if (const Status check =
          coroipc::CheckSetupReply(bytes, received.bytes, received.fd.valid(), &reply);
      check != COROIPC_OK) {
    return check;
  }
  if (received.has_credentials && received.credentials.pid > 0 &&
      received.credentials.pid != credentials_.view().pid) {
    if (const Status who = credentials_.Replace(received.credentials); who != COROIPC_OK) return who;
  }
  if (const Status who = ServerIsWanted(); who != COROIPC_OK) return who;
  if (const Status mapped = coroipc::Segment::Map(received.fd.get(), reply.segment_bytes, &segment_);
      mapped != COROIPC_OK) {
    return mapped;
  }
  if (const Status header =
          coroipc::CheckSegmentHeader(reinterpret_cast<coroipc_control*>(segment_.data()), reply);
      header != COROIPC_OK) {
    segment_.Unmap();
    return header;
  }
  request_ring_bytes_ = reply.request_ring_bytes;
  response_ring_bytes_ = reply.response_ring_bytes;
  dispatch_ring_bytes_ = reply.dispatch_ring_bytes;
  message_bytes_ = reply.message_bytes_max;
  requests_in_flight_ = reply.requests_in_flight;
  segments_max_ = reply.segments_max;
  id_ = reply.connection_id;
  server_id_ = reply.server_id;
  InitRings();
  slots_.Init(requests_in_flight_);
  next_slot_ = requests_in_flight_;
  segments_may_come_ = true;
  if (!registered_) {
    if (const Status watched = loop_.Watch(socket_.get(), coroipc::Source::kSocket, number_, false);
        watched != COROIPC_OK) {
      return watched;
    }
  }
  registered_ = true;
  if (pidfd() >= 0) {
    if (const Status watched = loop_.Watch(pidfd(), coroipc::Source::kPidfd, number_, false);
        watched != COROIPC_OK) {
      return watched;
    }
  }
  // Credentials beside every doorbell would cost the kernel a copy each; the reply's were the last ones wanted.
  coroipc::StopCredentials(socket_.get());
  loop_.NotePeerCpus(credentials_.view().pid);
  deadline_ns_ = kNever;
  phase_ = Phase::kOpen;
  stats_.connections = 1;
  return COROIPC_OK;
}

bool coroipcc_connection::HandshakeTurn(coroipc::Sink& sink) {
  (void)sink;
  socket_unread_ = false;
  if (blocking_connect_ || !socket_.valid()) return false;
  const Status status = TakeReply();
  if (status == COROIPC_AGAIN) return false;
  if (status != COROIPC_OK) {
    End(status);
    return false;
  }
  loop_.PushEvent(Row(COROIPC_KIND_CONNECTED));
  loop_.MarkReady(*this);
  return false;
}

void coroipcc_connection::CheckDeadline(uint64_t now_ns) {
  if (phase_ != Phase::kSetup || blocking_connect_) return;
  if (deadline_ns_ <= now_ns) {
    End(COROIPC_TIMED_OUT);
    return;
  }
  if (retry_ns_ <= now_ns) {
    const Status status = TryConnect();
    if (status != COROIPC_OK && status != COROIPC_AGAIN) {
      End(status);
      return;
    }
  } else if (retry_ns_ != kNever) {
    loop_.DeadlineAt(retry_ns_);
  }
  if (deadline_ns_ != kNever) loop_.DeadlineAt(deadline_ns_);
}

void coroipcc_connection::OnEnded(Status why) {
  if (control_ == nullptr) {
    if (!blocking_connect_ && !closing) {
      coroipc_entry row = Row(COROIPC_KIND_CONNECT_FAILED);
      row.argument = static_cast<uint32_t>(why);
      loop_.PushEvent(row);
    }
    return;
  }
  stats_.connections = 0;
  // What was received before comes first, then what will never be answered, then the end.
  for (const coroipc::Kept& kept : kept_answers_) loop_.PushEvent(kept.row, kept.block);
  kept_answers_.clear();
  if (dispatch_flow) {
    for (const coroipc::Kept& kept : kept_dispatches_) loop_.PushEvent(kept.row, kept.block);
    kept_dispatches_.clear();
    kept_dispatch_bytes_ = 0;
  }
  for (coroipc::Outgoing* message = out_[kRequest].backlog.first(); message != nullptr; message = message->next) {
    if (message->header.kind != COROIPC_RECORD_REQUEST) continue;
    slots_.at(coroipc::SlotOf(message->header.correlation)).unsent = true;
  }
  slots_.ForEach([&](uint32_t slot, Pending& pending) {
    const Status code = pending.unsent ? why : COROIPC_UNKNOWN_OUTCOME;
    switch (pending.wants) {
      case Wants::kRow:
      case Wants::kBufferRow: {
        const bool buffer = pending.wants == Wants::kBufferRow;
        coroipc_entry row = Row(buffer ? COROIPC_KIND_BUFFER : COROIPC_KIND_RESPONSE);
        row.correlation = slot < requests_in_flight_ ? slot : coroipc::Correlation(slot, pending.generation);
        row.argument = static_cast<uint32_t>(buffer ? why : code);
        loop_.PushEvent(row);
        break;
      }
      case Wants::kBlockingCall:
      case Wants::kBufferCall:
        pending.waiter->code = pending.wants == Wants::kBufferCall ? why : code;
        pending.waiter->done = true;
        break;
      default:
        break;
    }
    pending.wants = Wants::kNothing;
  });
  in_flight_ = 0;
  coroipc_entry row = Row(COROIPC_KIND_DISCONNECTED);
  row.argument = static_cast<uint32_t>(why);
  loop_.PushEvent(row);
  if (closing) loop_.DropEvents(number_);
  SignalOwnFd();
  Finished();
}

void coroipcc_connection::Disconnect() {
  closing = true;
  if (phase_ != Phase::kEnded) {
    if (phase_ == Phase::kOpen) {
      FlushBacklogs();  // one-way messages that have room still go
      if (phase_ == Phase::kOpen) PublishOut();
    }
    if (phase_ != Phase::kEnded) End(COROIPC_DISCONNECTED);
  }
  loop_.DropEvents(number_);
  MaybeFree();
}

void coroipcc_connection::MaybeFree() {
  if (!closing || callers != 0 || leases_[0].held || leases_[1].held) return;
  closing = false;
  coroipcc_group& owner = group;
  --owner.objects;
  loop_.Bury(*this);
}

// -- receiving ------------------------------------------------------------------------------------

coroipc::Sink::Put coroipcc_connection::KeepSink::Add(const coroipc_entry& row, const uint8_t* payload,
                                                      uint32_t bytes) {
  void* block = nullptr;
  if (bytes != 0 && row.flags != COROIPC_IN_SEGMENT) {
    block = coroipc::BlockAllocate(bytes);
    if (block == nullptr) return Put::kNoMemory;
    coroipc::CopyIn(block, payload, bytes);
  }
  coroipc_entry kept = row;
  kept.bytes = bytes;
  if (row.kind == COROIPC_KIND_DISPATCH) {
    connection_.kept_dispatches_.push_back({kept, block});
    connection_.kept_dispatch_bytes_ += sizeof kept + bytes;
  } else {
    connection_.kept_answers_.push_back({kept, block});
  }
  connection_.SignalOwnFd();
  return Put::kTaken;
}

bool coroipcc_connection::Reads(uint32_t in) const {
  if (in == kResponse) return true;
  if (dispatch_flow && !keeping_) return true;
  // Into private memory, bounded: while a call waits (the server's handler may wait for this very room), or for
  // whoever polls this connection's own fd.
  return (keeping_ || own_epoll_.valid()) && kept_dispatch_bytes_ < options.inbox_bytes;
}

bool coroipcc_connection::MoreToDo(coroipc::Sink& sink) {
  const uint32_t flow = coroipc::LoadRelaxed(control_->server.flow_control) != 0 ? 1 : 0;
  if (flow != flow_seen_) {
    flow_seen_ = flow;
    stats_.flow_control = flow;
    stats_.flow_control_count += flow;
    coroipc_entry row = Row(COROIPC_KIND_FLOW_CONTROL);
    row.argument = flow;
    loop_.PushEvent(row);
  }
  if (keeping_) return false;
  auto& batch = static_cast<coroipc::BatchSink&>(sink);
  while (!kept_answers_.empty()) {
    if (!batch.Give(kept_answers_.front().row, kept_answers_.front().block)) return true;
    kept_answers_.pop_front();
  }
  while (dispatch_flow && !kept_dispatches_.empty()) {
    const coroipc::Kept kept = kept_dispatches_.front();
    if (!batch.Give(kept.row, kept.block)) return true;
    kept_dispatch_bytes_ -= sizeof kept.row + kept.row.bytes;
    kept_dispatches_.pop_front();
  }
  return false;
}

coroipcc_connection::Taken coroipcc_connection::Fail(Status why) {
  End(why);
  return Taken::kFailed;
}

// Where the payload of a record is; `buffer` when it lies in a segment, ours from now on.
Status coroipcc_connection::Resolve(const coroipc_record& header, const uint8_t** payload, uint32_t* bytes,
                                    coroipc_buffer** buffer, uint32_t* offset) {
  *buffer = nullptr;
  *bytes = header.bytes;
  *offset = 0;
  if ((header.flags & ~COROIPC_FLAG_SEGMENT) != 0) return COROIPC_PROTOCOL;
  if ((header.flags & COROIPC_FLAG_SEGMENT) == 0) return COROIPC_OK;
  coroipc_segment_reference reference;
  if (const Status status = ReadReference(header, *payload, &reference, buffer); status != COROIPC_OK) return status;
  *payload = (*buffer)->segment.data() + reference.offset;
  *bytes = reference.bytes;
  *offset = reference.offset;
  return COROIPC_OK;
}

// A buffer came back or came in, and nobody here holds it.
void coroipcc_connection::TakeBack(coroipc_buffer& buffer) {
  if (buffer.users.load(std::memory_order_acquire) != 0) {
    buffer.owner = Owner::kUsed;
    return;
  }
  // A few stay for the next large messages, the largest ones; the rest is the server's again.
  buffer.owner = Owner::kFree;
  uint32_t free = 0;
  coroipc_buffer* smallest = &buffer;
  for (uint32_t i = 0; i < segments_max_; ++i) {
    coroipc_buffer* const candidate = buffers_[i];
    if (candidate == nullptr || candidate->owner != Owner::kFree) continue;
    ++free;
    if (candidate->segment.bytes() < smallest->segment.bytes()) smallest = candidate;
  }
  if (free <= kPoolSegments || out_[kRequest].waits_segment) return;
  coroipc_record release = {};
  release.kind = COROIPC_RECORD_SEGMENT_RELEASE;
  release.argument = smallest->index;
  smallest->owner = Owner::kAway;
  if (Send(kRequest, release, nullptr, 0, 0) != COROIPC_OK && phase_ == Phase::kOpen) {
    smallest->owner = Owner::kFree;
  }
}

void coroipcc_connection::OnBufferReturned(coroipc_buffer& buffer) {
  TakeBack(buffer);
  if (phase_ == Phase::kOpen && out_[kRequest].waits_segment) FlushBacklogs();
}

void coroipcc_connection::FreeSlot(uint32_t slot, Pending& pending) {
  pending.wants = Wants::kNothing;
  pending.unsent = false;
  pending.waiter = nullptr;
  if (slot >= requests_in_flight_) free_slots_.push_back(slot);
}

coroipcc_connection::Taken coroipcc_connection::DeliverResponse(const coroipc_record& header,
                                                                const uint8_t* payload,
                                                                coroipc::Sink& sink) {
  const uint32_t slot = coroipc::SlotOf(header.correlation);
  if (!slots_.valid(slot)) return Fail(COROIPC_PROTOCOL);
  Pending& pending = slots_.at(slot);
  if (pending.generation != coroipc::GenerationOf(header.correlation) || header.argument >= COROIPC_STATUS_COUNT ||
      (pending.wants != Wants::kRow && pending.wants != Wants::kBlockingCall && pending.wants != Wants::kLate)) {
    return Fail(COROIPC_PROTOCOL);
  }
  coroipc_buffer* buffer = nullptr;
  uint32_t bytes = 0, offset = 0;
  if (Resolve(header, &payload, &bytes, &buffer, &offset) != COROIPC_OK) return Fail(COROIPC_PROTOCOL);
  if (phase_ != Phase::kOpen) return Taken::kFailed;
  if (pending.wants == Wants::kLate) {
    if (slot < requests_in_flight_) {
      coroipc_entry row = Row(COROIPC_KIND_SLOT_FREE);
      row.correlation = slot;
      const coroipc::Sink::Put put = sink.Add(row, nullptr, 0);
      if (put == coroipc::Sink::Put::kFull) return Taken::kFull;
      if (put == coroipc::Sink::Put::kNoMemory) return Fail(COROIPC_NO_MEMORY);
    }
    ++stats_.late_responses;
  } else if (pending.wants == Wants::kRow) {
    coroipc_entry row = Row(COROIPC_KIND_RESPONSE);
    row.correlation = slot < requests_in_flight_ ? slot : header.correlation;
    row.status = header.status;
    row.argument = header.argument;
    row.sequence = header.sequence;
    if (buffer != nullptr && options.trust_server != 0) {
      row.flags = COROIPC_IN_SEGMENT;
      row.segment = buffer->index;
      row.offset = offset;
    }
    const coroipc::Sink::Put put = sink.Add(row, payload, bytes);
    if (put == coroipc::Sink::Put::kFull) return Taken::kFull;
    if (put == coroipc::Sink::Put::kNoMemory) return Fail(COROIPC_NO_MEMORY);
    if (row.flags == COROIPC_IN_SEGMENT) {
      buffer->owner = Owner::kUsed;
      buffer = nullptr;  // the receiver's: coroipcc_buffer_get
    }
  } else {
    coroipc::Waiter& waiter = *pending.waiter;
    waiter.code = static_cast<Status>(header.argument);
    waiter.response.status = header.status;
    waiter.response.bytes = bytes;
    waiter.response.sequence = header.sequence;
    if (buffer != nullptr) {
      buffer->owner = Owner::kUsed;
      buffer->AddUser();
      waiter.buffer = buffer;
      waiter.response.data = payload;
      waiter.response.segment = buffer->index;
      waiter.response.offset = offset;
      waiter.response.in_segment = 1;
      buffer = nullptr;
    } else if (!in_[kResponse].leased() && callers == 1) {
      in_[kResponse].Lease();
      waiter.in_ring = true;
      waiter.response.data = payload;
    } else {
      waiter.block = coroipc::BlockAllocate(bytes);
      if (waiter.block == nullptr) return Fail(COROIPC_NO_MEMORY);
      coroipc::CopyIn(waiter.block, payload, bytes);
      waiter.response.data = waiter.block;
    }
    waiter.done = true;
    Finished();
  }
  ++stats_.responses;
  stats_.bytes_received += bytes;
  stats_.in_flight = --in_flight_;
  const uint8_t lent = pending.segment;
  pending.segment = 0;
  FreeSlot(slot, pending);
  if (lent != 0 && buffers_[lent - 1] != nullptr) {
    --lent_;
    coroipc_buffer& own = *buffers_[lent - 1];
    if (own.owner == Owner::kAway && &own != buffer) TakeBack(own);
  }
  if (buffer != nullptr) TakeBack(*buffer);
  if (phase_ == Phase::kOpen && out_[kRequest].waits_segment) FlushBacklogs();
  return phase_ == Phase::kOpen ? Taken::kYes : Taken::kFailed;
}

coroipcc_connection::Taken coroipcc_connection::DeliverDispatch(const coroipc_record& header,
                                                                const uint8_t* payload,
                                                                coroipc::Sink& sink) {
  coroipc_buffer* buffer = nullptr;
  uint32_t bytes = 0, offset = 0;
  if (Resolve(header, &payload, &bytes, &buffer, &offset) != COROIPC_OK) return Fail(COROIPC_PROTOCOL);
  coroipc_entry row = Row(COROIPC_KIND_DISPATCH);
  row.id = header.id;
  row.sequence = header.sequence;
  if (buffer != nullptr && options.trust_server != 0) {
    row.flags = COROIPC_IN_SEGMENT;
    row.segment = buffer->index;
    row.offset = offset;
  }
  coroipc::Sink::Put put;
  if (dispatch_flow || keeping_) {
    put = sink.Add(row, payload, bytes);
  } else {
    KeepSink keep(*this);
    put = keep.Add(row, payload, bytes);
  }
  if (put == coroipc::Sink::Put::kFull) return Taken::kFull;
  if (put == coroipc::Sink::Put::kNoMemory) return Fail(COROIPC_NO_MEMORY);
  ++stats_.dispatches;
  stats_.bytes_received += bytes;
  if (buffer == nullptr) return Taken::kYes;
  if (row.flags == COROIPC_IN_SEGMENT) {
    buffer->owner = Owner::kUsed;
  } else {
    TakeBack(*buffer);
  }
  return phase_ == Phase::kOpen ? Taken::kYes : Taken::kFailed;
}

coroipcc_connection::Taken coroipcc_connection::DeliverGrant(const coroipc_record& header,
                                                             const uint8_t* payload, coroipc::Sink& sink) {
  const uint32_t slot = coroipc::SlotOf(header.correlation);
  if (!slots_.valid(slot)) return Fail(COROIPC_PROTOCOL);
  Pending& pending = slots_.at(slot);
  const Wants wants = pending.wants;
  if (pending.generation != coroipc::GenerationOf(header.correlation) ||
      (wants != Wants::kBufferRow && wants != Wants::kBufferCall && wants != Wants::kBufferInternal &&
       wants != Wants::kLate)) {
    return Fail(COROIPC_PROTOCOL);
  }
  coroipc_buffer* buffer = nullptr;
  Status status = COROIPC_OK;
  if ((header.flags & COROIPC_FLAG_SEGMENT) == 0) {
    status = header.status == COROIPC_TOO_LARGE || header.status == COROIPC_NO_MEMORY
                 ? static_cast<Status>(header.status)
                 : COROIPC_LIMIT;
  } else {
    uint32_t bytes = 0, offset = 0;
    if (Resolve(header, &payload, &bytes, &buffer, &offset) != COROIPC_OK || offset != 0) {
      return Fail(COROIPC_PROTOCOL);
    }
    buffer->bytes = bytes;
  }
  if (wants == Wants::kBufferRow) {
    coroipc_entry row = Row(COROIPC_KIND_BUFFER);
    row.correlation = header.correlation;
    row.argument = static_cast<uint32_t>(status);
    row.segment = buffer != nullptr ? buffer->index : COROIPC_SEGMENTS_MAX;
    const coroipc::Sink::Put put = sink.Add(row, nullptr, 0);
    if (put == coroipc::Sink::Put::kFull) return Taken::kFull;
    if (put == coroipc::Sink::Put::kNoMemory) return Fail(COROIPC_NO_MEMORY);
    if (buffer != nullptr) buffer->owner = Owner::kUsed;
  } else if (wants == Wants::kBufferCall) {
    pending.waiter->code = status;
    pending.waiter->done = true;
    if (buffer != nullptr) {
      buffer->owner = Owner::kUsed;
      buffer->AddUser();
      pending.waiter->buffer = buffer;
    }
    Finished();
  } else if (buffer != nullptr) {
    buffer->owner = Owner::kFree;
    if (wants == Wants::kLate) TakeBack(*buffer);
  }
  FreeSlot(slot, pending);
  if (wants != Wants::kBufferInternal) return phase_ == Phase::kOpen ? Taken::kYes : Taken::kFailed;
  want_pending_ = false;
  // Refused while own buffers are with the server: the next answer brings one back.
  if (status != COROIPC_OK && lent_ == 0) FailFirstLarge(status);
  if (phase_ == Phase::kOpen && (status == COROIPC_OK || lent_ == 0)) FlushBacklogs();
  return phase_ == Phase::kOpen ? Taken::kYes : Taken::kFailed;
}

// The first of the backlog can never get its segment: it ends with `why`, what is behind it goes on.
void coroipcc_connection::FailFirstLarge(Status why) {
  coroipc::Backlog& backlog = out_[kRequest].backlog;
  if (backlog.empty() || !out_[kRequest].waits_segment) return;
  const coroipc_record header = backlog.first()->header;
  backlog.Pop();
  out_[kRequest].waits_segment = false;
  OnBacklogChanged();
  if (header.kind != COROIPC_RECORD_REQUEST) {
    ++stats_.dropped;
    loop_.Log(40, "a large one-way message was dropped: the server has no segment for it");
    return;
  }
  const uint32_t slot = coroipc::SlotOf(header.correlation);
  Pending& pending = slots_.at(slot);
  if (pending.wants == Wants::kRow) {
    coroipc_entry row = Row(COROIPC_KIND_RESPONSE);
    row.correlation = slot < requests_in_flight_ ? slot : header.correlation;
    row.argument = static_cast<uint32_t>(why);
    loop_.PushEvent(row);
  } else if (pending.wants == Wants::kBlockingCall) {
    pending.waiter->code = why;
    pending.waiter->done = true;
    Finished();
  } else if (pending.wants == Wants::kLate && slot < requests_in_flight_) {
    coroipc_entry row = Row(COROIPC_KIND_SLOT_FREE);
    row.correlation = slot;
    loop_.PushEvent(row);
  }
  stats_.in_flight = --in_flight_;
  FreeSlot(slot, pending);
}

coroipcc_connection::Taken coroipcc_connection::Deliver(uint32_t in, const coroipc_record& header,
                                                        const uint8_t* payload, coroipc::Sink& sink) {
  if (in == kDispatch) {
    return header.kind == COROIPC_RECORD_DISPATCH ? DeliverDispatch(header, payload, sink)
                                                  : Fail(COROIPC_PROTOCOL);
  }
  if (header.kind == COROIPC_RECORD_RESPONSE) return DeliverResponse(header, payload, sink);
  if (header.kind == COROIPC_RECORD_SEGMENT_GRANT) return DeliverGrant(header, payload, sink);
  return Fail(COROIPC_PROTOCOL);
}

Status coroipcc_connection::OnSegmentMessage(const coroipc_segment_message& message, coroipc::Fd fd) {
  if (message.index >= segments_max_) return COROIPC_PROTOCOL;
  if (message.bytes == 0 || message.bytes > 2 * uint64_t{COROIPC_MESSAGE_BYTES_MAX}) return COROIPC_PROTOCOL;
  const coroipc_buffer* const old = buffers_[message.index];
  // Only what is the server's may be replaced.
  if (old != nullptr && (old->owner != Owner::kAway || old->generation == message.generation)) {
    return COROIPC_PROTOCOL;
  }
  coroipc::Segment segment;
  if (const Status status = coroipc::Segment::Map(fd.get(), message.bytes, &segment); status != COROIPC_OK) {
    return status;
  }
  coroipc_buffer* const buffer = AddBuffer(message.index, message.generation, std::move(segment));
  if (buffer == nullptr) return COROIPC_NO_MEMORY;
  buffer->owner = Owner::kAway;
  return COROIPC_OK;
}

// -- sending --------------------------------------------------------------------------------------

Status coroipcc_connection::Usable() const {
  if (forked()) return COROIPC_FORKED;
  if (phase_ == Phase::kOpen) return COROIPC_OK;
  return status_ == COROIPC_OK ? COROIPC_DISCONNECTED : status_;
}

Status coroipcc_connection::AutomaticSlot(uint32_t* slot) {
  if (!free_slots_.empty()) {
    *slot = free_slots_.back();
    free_slots_.pop_back();
    return COROIPC_OK;
  }
  if (next_slot_ == 2 * requests_in_flight_) return COROIPC_LIMIT;
  *slot = next_slot_++;
  return COROIPC_OK;
}

Status coroipcc_connection::AcquireSegment(uint32_t bytes, coroipc_buffer** buffer) {
  coroipc_buffer* best = nullptr;
  uint32_t known = 0;
  for (uint32_t i = 0; i < segments_max_; ++i) {
    coroipc_buffer* const candidate = buffers_[i];
    if (candidate == nullptr) continue;
    ++known;
    if (candidate->owner != Owner::kFree || candidate->segment.bytes() < bytes) continue;
    if (best == nullptr || candidate->segment.bytes() < best->segment.bytes()) best = candidate;
  }
  if (best != nullptr) {
    best->owner = Owner::kUsed;
    *buffer = best;
    return COROIPC_OK;
  }
  if (want_pending_) return COROIPC_AGAIN;
  // All that there can be are on their way: an answer brings one back.
  if (lent_ != 0 && known + kServerSegments >= segments_max_) return COROIPC_AGAIN;
  uint32_t slot = 0;
  if (AutomaticSlot(&slot) != COROIPC_OK) return COROIPC_AGAIN;
  Pending& pending = slots_.at(slot);
  pending.wants = Wants::kBufferInternal;
  ++pending.generation;
  coroipc_record want = {};
  want.kind = COROIPC_RECORD_SEGMENT_WANT;
  want.correlation = coroipc::Correlation(slot, pending.generation);
  // Past the backlog: its first waits for exactly this.
  coroipc::RingWriter& ring = out_[kRequest].ring;
  uint8_t* payload = nullptr;
  uint32_t wants = 0;
  const Status status = ring.Reserve(sizeof bytes, &payload, &wants);
  if (status != COROIPC_OK) {
    FreeSlot(slot, pending);
    return status;
  }
  std::memcpy(payload, &bytes, sizeof bytes);
  want.bytes = sizeof bytes;
  want.sequence = sequence_++;
  ring.Commit(want);
  PublishOut();
  want_pending_ = true;
  return COROIPC_AGAIN;
}

Status coroipcc_connection::SendRequest(uint16_t id, const struct iovec* parts, uint32_t count, uint32_t bytes,
                                        coroipc_buffer* buffer, uint32_t offset, uint32_t timeout_ms,
                                        uint32_t slot, Wants wants, coroipc::Waiter* waiter,
                                        uint32_t* correlation) {
  if (const Status status = Usable(); status != COROIPC_OK) return status;
  if (bytes > message_bytes_) return COROIPC_TOO_LARGE;
  if (buffer != nullptr &&
      (buffer->index >= segments_max_ || buffers_[buffer->index] != buffer || buffer->owner != Owner::kUsed ||
       uint64_t{offset} + bytes > buffer->segment.bytes())) {
    return COROIPC_INVALID_ARGUMENT;
  }
  if (in_flight_ >= requests_in_flight_) return COROIPC_LIMIT;
  if (slot == UINT32_MAX) {
    if (const Status status = AutomaticSlot(&slot); status != COROIPC_OK) return status;
  } else if (slot >= requests_in_flight_) {
    return COROIPC_INVALID_ARGUMENT;
  }
  Pending& pending = slots_.at(slot);
  if (pending.wants != Wants::kNothing) return COROIPC_INVALID_ARGUMENT;
  pending.wants = wants;
  pending.waiter = waiter;
  pending.unsent = false;
  pending.segment = 0;
  ++pending.generation;
  coroipc_record header = {};
  header.kind = COROIPC_RECORD_REQUEST;
  header.id = id;
  header.correlation = coroipc::Correlation(slot, pending.generation);
  header.argument = timeout_ms;
  const Status sent = Send(kRequest, header, parts, count, bytes, buffer, offset);
  if (sent != COROIPC_OK) {
    if (phase_ == Phase::kOpen) FreeSlot(slot, pending);
    return sent;
  }
  if (buffer != nullptr) {
    buffer->owner = Owner::kAway;  // even while it waits in the backlog: it is not the caller's any more
    pending.segment = static_cast<uint8_t>(buffer->index + 1);
    ++lent_;
  }
  *correlation = header.correlation;
  stats_.in_flight = ++in_flight_;
  ++stats_.requests;
  return COROIPC_OK;
}

Status coroipcc_connection::SendOneWay(uint16_t id, const struct iovec* parts, uint32_t count, uint32_t bytes,
                                       bool promised) {
  if (const Status status = Usable(); status != COROIPC_OK) return status;
  if (bytes > message_bytes_) return COROIPC_TOO_LARGE;
  const bool full = QueueFull();
  if (full) {
    room_wanted_ = true;
    if (!promised) return COROIPC_FULL;
  }
  coroipc_record header = {};
  header.kind = COROIPC_RECORD_SEND;
  header.id = id;
  const Status sent = Send(kRequest, header, parts, count, bytes);
  if (sent != COROIPC_OK) return sent;
  ++stats_.requests;
  return full ? COROIPC_FULL : COROIPC_OK;
}

Status coroipcc_connection::Cancel(uint32_t slot, uint32_t correlation, bool by_slot) {
  if (const Status status = Usable(); status != COROIPC_OK) return status;
  if (!slots_.valid(slot)) return COROIPC_INVALID_ARGUMENT;
  Pending& pending = slots_.at(slot);
  if (!by_slot && pending.generation != coroipc::GenerationOf(correlation)) return COROIPC_INVALID_ARGUMENT;
  if (pending.wants != Wants::kRow && pending.wants != Wants::kBlockingCall &&
      pending.wants != Wants::kBufferRow && pending.wants != Wants::kBufferCall) {
    return COROIPC_INVALID_ARGUMENT;
  }
  const bool request = pending.wants == Wants::kRow || pending.wants == Wants::kBlockingCall;
  pending.wants = Wants::kLate;
  pending.waiter = nullptr;
  ++stats_.cancelled;
  if (!request) return COROIPC_OK;
  coroipc_record header = {};
  header.kind = COROIPC_RECORD_CANCEL;
  header.correlation = coroipc::Correlation(slot, pending.generation);
  return Send(kRequest, header, nullptr, 0, 0);
}

Status coroipcc_connection::WantBuffer(uint32_t bytes, Wants wants, coroipc::Waiter* waiter,
                                       uint32_t* correlation) {
  if (const Status status = Usable(); status != COROIPC_OK) return status;
  if (bytes == 0) return COROIPC_INVALID_ARGUMENT;
  if (bytes > message_bytes_) return COROIPC_TOO_LARGE;
  uint32_t slot = 0;
  if (const Status status = AutomaticSlot(&slot); status != COROIPC_OK) return status;
  Pending& pending = slots_.at(slot);
  pending.wants = wants;
  pending.waiter = waiter;
  ++pending.generation;
  coroipc_record header = {};
  header.kind = COROIPC_RECORD_SEGMENT_WANT;
  header.correlation = coroipc::Correlation(slot, pending.generation);
  const struct iovec part = {&bytes, sizeof bytes};
  const Status sent = Send(kRequest, header, &part, 1, sizeof bytes);
  if (sent != COROIPC_OK) {
    if (phase_ == Phase::kOpen) FreeSlot(slot, pending);
    return sent;
  }
  *correlation = header.correlation;
  return COROIPC_OK;
}

void coroipcc_connection::OnBacklogChanged() {
  stats_.backlog_messages = out_[kRequest].backlog.count();
  stats_.backlog_bytes = out_[kRequest].backlog.bytes();
}

void coroipcc_connection::OnLargeWritten(const coroipc_record& header, coroipc_buffer& buffer) {
  if (header.kind != COROIPC_RECORD_REQUEST) return;  // one-way: it is the server's now
  slots_.at(coroipc::SlotOf(header.correlation)).segment = static_cast<uint8_t>(buffer.index + 1);
  ++lent_;
}

void coroipcc_connection::OnBacklogEmpty(uint32_t out) {
  (void)out;
  if (!room_wanted_) return;
  room_wanted_ = false;
  loop_.PushEvent(Row(COROIPC_KIND_ROOM));
  loop_.MarkReady(*this);
}

// -- small things ---------------------------------------------------------------------------------

int coroipcc_connection::flow_control() const {
  if (control_ == nullptr || phase_ != Phase::kOpen) return 0;
  return coroipc::LoadRelaxed(control_->server.flow_control) != 0 ? 1 : 0;
}

void coroipcc_connection::Stats(coroipc_stats* stats, bool clear) {
  *stats = stats_;
  if (!clear) return;
  const coroipc_stats kept = stats_;
  stats_ = {};
  stats_.backlog_messages = kept.backlog_messages;
  stats_.backlog_bytes = kept.backlog_bytes;
  stats_.in_flight = kept.in_flight;
  stats_.flow_control = kept.flow_control;
  stats_.segments = kept.segments;
  stats_.segment_bytes = kept.segment_bytes;
  stats_.connections = kept.connections;
}

void coroipcc_connection::SetDispatchFlow(bool on) {
  dispatch_flow = on;
  if (phase_ == Phase::kOpen) {
    loop_.MarkReady(*this);
  } else if (on && phase_ == Phase::kEnded) {
    // What came before the end and was not fetched is still owed.
    while (!kept_dispatches_.empty()) {
      loop_.PushEvent(kept_dispatches_.front().row, kept_dispatches_.front().block);
      kept_dispatches_.pop_front();
    }
    kept_dispatch_bytes_ = 0;
  }
}

int coroipcc_connection::PollFd() {
  if (own_epoll_.valid()) return own_epoll_.get();
  coroipc::Fd epoll(epoll_create1(EPOLL_CLOEXEC));
  coroipc::Fd event(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!epoll.valid() || !event.valid()) return -1;
  struct epoll_event watch = {};
  watch.events = EPOLLIN;
  if (epoll_ctl(epoll.get(), EPOLL_CTL_ADD, event.get(), &watch) != 0) return -1;
  watch.events = EPOLLIN | EPOLLRDHUP;
  if (socket_.valid() && epoll_ctl(epoll.get(), EPOLL_CTL_ADD, socket_.get(), &watch) != 0) return -1;
  if (pidfd() >= 0 && epoll_ctl(epoll.get(), EPOLL_CTL_ADD, pidfd(), &watch) != 0) return -1;
  own_epoll_ = std::move(epoll);
  own_event_ = std::move(event);
  // Nothing was armed for it before: readable until a receive function says AGAIN.
  SignalOwnFd();
  loop_.MarkReady(*this);
  return own_epoll_.get();
}

void coroipcc_connection::SignalOwnFd() {
  if (!own_event_.valid() || own_signalled_) return;
  own_signalled_ = true;
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(own_event_.get(), &one, sizeof one);
}

// -- the C API ------------------------------------------------------------------------------------

namespace {
using Guard = coroipc::Loop::Guard;

Status Validate(const char* name, const coroipcc_options* options) {
  if (name == nullptr || options == nullptr || options->struct_bytes != sizeof *options) return COROIPC_INVALID_ARGUMENT;
  return COROIPC_OK;
}

Status NewConnection(coroipcc_group* group, const char* name, const coroipcc_options* options,
                     coroipcc_connection** connection) {
  coroipcc_group* owned = nullptr;
  if (group == nullptr) {
    coroipcc_group_options standard;
    coroipcc_group_options_init(&standard);
    standard.wait = options->wait;
    if (const Status status = coroipcc_group_create(&standard, &owned); status != COROIPC_OK) return status;
    owned->owned = true;
    group = owned;
  }
  Guard guard(*group);
  auto* made = new (std::nothrow) coroipcc_connection(*group, *options, name);
  if (made == nullptr) {
    if (owned != nullptr) coroipcc_group_destroy(owned);
    return COROIPC_NO_MEMORY;
  }
  if (made->options.timeout_ms == 0) made->options.timeout_ms = 30000;
  if (made->options.inbox_bytes == 0) made->options.inbox_bytes = 4u << 20;
  if (made->options.queue_bytes == 0) made->options.queue_bytes = 4u << 20;
  *connection = made;
  return COROIPC_OK;
}

}  // namespace

extern "C" {

void coroipcc_group_options_init(struct coroipcc_group_options* options) {
  *options = {};
  options->struct_bytes = sizeof *options;
  options->threads = 1;
}

void coroipcc_options_init(struct coroipcc_options* options) {
  *options = {};
  options->struct_bytes = sizeof *options;
}

coroipc_status coroipcc_group_create(const struct coroipcc_group_options* options, struct coroipcc_group** group) {
  if (options == nullptr || group == nullptr || options->struct_bytes != sizeof *options) {
    return COROIPC_INVALID_ARGUMENT;
  }
  auto* made = new (std::nothrow) coroipcc_group;
  if (made == nullptr) return COROIPC_NO_MEMORY;
  if (const Status status = made->Setup(*options); status != COROIPC_OK) {
    delete made;
    return status;
  }
  *group = made;
  return COROIPC_OK;
}

void coroipcc_group_destroy(struct coroipcc_group* group) {
  if (group == nullptr) return;
  group->Lock();
  for (size_t i = 0; i < group->connections().size(); ++i) {
    Connection* const connection = group->connections()[i];
    if (connection == nullptr) continue;
    auto* client = static_cast<coroipcc_connection*>(connection);
    for (uint32_t channel = 0; channel < 2; ++channel) (void)client->ReleaseLease(channel);
    client->Disconnect();
  }
  group->Unlock();
  delete group;
}

void coroipcc_disconnect(struct coroipcc_connection* connection) {
  if (connection == nullptr || connection->forked()) return;  // the parent's: not ours to touch
  coroipcc_group& group = connection->group;
  group.Lock();
  connection->Disconnect();
  const bool last = group.owned && group.objects == 0;
  if (!last) group.FreeNow();
  group.Unlock();
  if (last) delete &group;
}

struct coroipcc_group* coroipcc_connection_group(struct coroipcc_connection* connection) { return &connection->group; }
uint32_t coroipcc_connection_number(const struct coroipcc_connection* connection) { return connection->number(); }

struct coroipcc_connection* coroipcc_connection_at(struct coroipcc_group* group, uint32_t number) {
  Guard guard(*group);
  return static_cast<coroipcc_connection*>(group->at(number));
}

uint64_t coroipcc_connection_id(const struct coroipcc_connection* connection) { return connection->id(); }
uint64_t coroipcc_server_id(const struct coroipcc_connection* connection) { return connection->server_id(); }
const struct coroipc_credentials* coroipcc_server_credentials(const struct coroipcc_connection* connection) {
  return &connection->credentials().view();
}
uint32_t coroipcc_message_bytes(const struct coroipcc_connection* connection) { return connection->message_bytes(); }
uint32_t coroipcc_requests_in_flight(const struct coroipcc_connection* connection) {
  return connection->requests_in_flight();
}
int coroipcc_flow_control(const struct coroipcc_connection* connection) { return connection->flow_control(); }
coroipc_status coroipcc_state(const struct coroipcc_connection* connection) {
  if (connection->forked()) return COROIPC_FORKED;
  return connection->status();
}
uint32_t coroipcc_peer_version(void) { return coroipc::PeerVersion(); }

coroipc_status coroipcc_stats(struct coroipcc_connection* connection, struct coroipc_stats* stats, int clear) {
  Guard guard(connection->group);
  connection->Stats(stats, clear != 0);
  return COROIPC_OK;
}

coroipc_status coroipcc_connect_start(struct coroipcc_group* group, const char* name,
                                      const struct coroipcc_options* options, int32_t timeout_ms,
                                      struct coroipcc_connection** connection) {
  if (const Status status = Validate(name, options); status != COROIPC_OK) return status;
  coroipcc_connection* made = nullptr;
  if (const Status status = NewConnection(group, name, options, &made); status != COROIPC_OK) return status;
  Guard guard(made->group);
  const Status status = made->BeginConnect(timeout_ms < 0 ? made->options.timeout_ms : timeout_ms, false);
  if (status != COROIPC_OK) made->End(status);  // CONNECT_FAILED says it, like every later failure
  made->group.Wake();
  *connection = made;
  return COROIPC_OK;
}

coroipc_status coroipcc_connect(struct coroipcc_group* group, const char* name,
                                const struct coroipcc_options* options, int32_t timeout_ms,
                                struct coroipcc_connection** connection) {
  if (const Status status = Validate(name, options); status != COROIPC_OK) return status;
  coroipcc_connection* made = nullptr;
  if (const Status status = NewConnection(group, name, options, &made); status != COROIPC_OK) return status;
  made->group.Lock();
  Status status = made->BeginConnect(timeout_ms < 0 ? made->options.timeout_ms : timeout_ms, true);
  if (status == COROIPC_OK) status = made->FinishBlocking();
  made->group.Unlock();
  if (status != COROIPC_OK) {
    coroipcc_disconnect(made);
    return status;
  }
  *connection = made;
  return COROIPC_OK;
}

coroipc_status coroipcc_request_send(struct coroipcc_connection* connection, uint16_t id,
                                     const struct iovec* payload, uint32_t count, uint32_t timeout_ms,
                                     uint32_t* correlation) {
  uint32_t bytes = 0;
  if (connection->forked()) return COROIPC_FORKED;
  if (!coroipc::GatherBytes(payload, count, &bytes)) return COROIPC_TOO_LARGE;
  Guard guard(connection->group);
  if (connection->QueueFull()) return COROIPC_FULL;
  const Status status = connection->SendRequest(id, payload, count, bytes, nullptr, 0, timeout_ms, UINT32_MAX,
                                                Wants::kRow, nullptr, correlation);
  if (connection->phase() == Connection::Phase::kOpen) connection->PublishOut();
  return status;
}

coroipc_status coroipcc_request_send_buffer(struct coroipcc_connection* connection, uint16_t id,
                                            struct coroipc_buffer* buffer, uint32_t offset, uint32_t bytes,
                                            uint32_t timeout_ms, uint32_t* correlation) {
  if (connection->forked()) return COROIPC_FORKED;
  if (buffer == nullptr) return COROIPC_INVALID_ARGUMENT;
  Guard guard(connection->group);
  const Status status = connection->SendRequest(id, nullptr, 0, bytes, buffer, offset, timeout_ms, UINT32_MAX,
                                                Wants::kRow, nullptr, correlation);
  if (connection->phase() == Connection::Phase::kOpen) connection->PublishOut();
  return status;
}

coroipc_status coroipcc_send(struct coroipcc_connection* connection, uint16_t id, const struct iovec* payload,
                             uint32_t count) {
  uint32_t bytes = 0;
  if (connection->forked()) return COROIPC_FORKED;
  if (!coroipc::GatherBytes(payload, count, &bytes)) return COROIPC_TOO_LARGE;
  Guard guard(connection->group);
  const Status status = connection->SendOneWay(id, payload, count, bytes, false);
  if (connection->phase() == Connection::Phase::kOpen) connection->PublishOut();
  return status;
}

coroipc_status coroipcc_cancel(struct coroipcc_connection* connection, uint32_t correlation) {
  if (connection->forked()) return COROIPC_FORKED;
  Guard guard(connection->group);
  const Status status = connection->Cancel(coroipc::SlotOf(correlation), correlation, false);
  if (connection->phase() == Connection::Phase::kOpen) connection->PublishOut();
  return status;
}

coroipc_status coroipcc_buffer_alloc_start(struct coroipcc_connection* connection, uint32_t bytes,
                                           uint32_t* correlation) {
  if (connection->forked()) return COROIPC_FORKED;
  Guard guard(connection->group);
  const Status status = connection->WantBuffer(bytes, Wants::kBufferRow, nullptr, correlation);
  if (connection->phase() == Connection::Phase::kOpen) connection->PublishOut();
  return status;
}

static Status SendRow(coroipcc_connection* connection, coroipc_entry& row, const struct iovec* payload,
                      uint32_t count, uint32_t bytes) {
  uint32_t correlation = 0;
  switch (row.kind) {
    case COROIPC_KIND_REQUEST:
      return connection->SendRequest(static_cast<uint16_t>(row.id), payload, count, bytes, nullptr, 0, row.argument,
                                     row.correlation, Wants::kRow, nullptr, &correlation);
    case COROIPC_KIND_SEND:
      return connection->SendOneWay(static_cast<uint16_t>(row.id), payload, count, bytes, true);
    case COROIPC_KIND_CANCEL:
      return connection->Cancel(row.correlation, 0, true);
    default:
      return COROIPC_INVALID_ARGUMENT;
  }
}

void coroipcc_send_batch(struct coroipcc_group* group, struct coroipc_entry* entries, uint32_t count,
                         const uint8_t* arena) {
  Guard guard(*group);
  coroipcc_connection* touched[64];
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
    auto* connection = static_cast<coroipcc_connection*>(group->at(row.connection));
    if (connection == nullptr) {
      row.argument = COROIPC_DISCONNECTED;
      continue;
    }
    if (!connection->touched) {
      if (touched_count == 64) publish();
      connection->touched = true;
      touched[touched_count++] = connection;
    }
    const struct iovec part = {const_cast<uint8_t*>(arena) + row.offset, row.bytes};
    row.argument = static_cast<uint32_t>(SendRow(connection, row, &part, 1, row.bytes));
  }
  publish();
}

coroipc_status coroipcc_send_row(struct coroipcc_connection* connection, struct coroipc_entry* row,
                                 const struct iovec* payload, uint32_t count) {
  uint32_t bytes = 0;
  if (connection->forked()) return COROIPC_FORKED;
  if (!coroipc::GatherBytes(payload, count, &bytes)) return COROIPC_TOO_LARGE;
  Guard guard(connection->group);
  const Status status = SendRow(connection, *row, payload, count, bytes);
  if (connection->phase() == Connection::Phase::kOpen) connection->PublishOut();
  return status;
}

coroipc_status coroipcc_send_row_buffer(struct coroipcc_connection* connection, struct coroipc_entry* row,
                                        struct coroipc_buffer* buffer, uint32_t offset, uint32_t bytes) {
  if (connection->forked()) return COROIPC_FORKED;
  if (buffer == nullptr || row->kind != COROIPC_KIND_REQUEST) return COROIPC_INVALID_ARGUMENT;
  Guard guard(connection->group);
  uint32_t correlation = 0;
  const Status status =
      connection->SendRequest(static_cast<uint16_t>(row->id), nullptr, 0, bytes, buffer, offset, row->argument,
                              row->correlation, Wants::kRow, nullptr, &correlation);
  if (connection->phase() == Connection::Phase::kOpen) connection->PublishOut();
  return status;
}

int coroipcc_group_fd(const struct coroipcc_group* group) { return group->fd(); }
coroipc_status coroipcc_receive(struct coroipcc_group* group, struct coroipc_batch* batch, int look_at_fds) {
  return group->Receive(batch, look_at_fds != 0);
}
coroipc_status coroipcc_look(struct coroipcc_group* group, uint64_t budget_ns) { return group->Look(budget_ns); }
void coroipcc_disarm(struct coroipcc_group* group) { group->DisarmRecent(); }
coroipc_status coroipcc_wait(struct coroipcc_group* group, int timeout_ms) { return group->Wait(timeout_ms); }

int coroipcc_fd(struct coroipcc_connection* connection) {
  if (connection->forked()) return -1;
  Guard guard(connection->group);
  return connection->PollFd();
}

void coroipcc_dispatch_flow(struct coroipcc_connection* connection, int on) {
  if (connection->forked()) return;
  Guard guard(connection->group);
  connection->SetDispatchFlow(on != 0);
}

coroipc_status coroipcc_buffer_get(struct coroipcc_connection* connection, uint32_t segment,
                                   struct coroipc_buffer** buffer) {
  Guard guard(connection->group);
  coroipc_buffer* const found = connection->buffer(segment);
  if (found == nullptr || found->owner != Owner::kUsed) return COROIPC_INVALID_ARGUMENT;
  found->AddUser();
  *buffer = found;
  return COROIPC_OK;
}

}  // extern "C"
