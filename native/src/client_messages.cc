// client_messages.cc: what a client's connection receives and sends, message by message.
#include <algorithm>
#include <cstring>

#include "block.h"
#include "client.h"

using coroipc::Connection;
using coroipc::kDispatch;
using coroipc::kRequest;
using coroipc::kResponse;
using coroipc::Owner;
using coroipc::Pending;
using coroipc::Status;
using coroipc::Wants;

namespace {

constexpr uint32_t kPoolSegments = 2;    // free segments that are kept for the next large message
constexpr uint32_t kServerSegments = 2;  // indices that stay the server's for its own answers

}  // namespace

// -- receiving ------------------------------------------------------------------------------------

coroipc::Sink::Put coroipcc_connection::KeepSink::AddAny(const coroipc_entry& row,
                                                         const uint8_t* payload, uint32_t bytes) {
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
    connection_.Finished();  // a thread that follows may wait for it
  } else {
    connection_.kept_answers_.push_back({kept, block});
  }
  connection_.SignalOwnFd();
  // Private memory is not looked at before a sleep, the ready list is: the group hands this out.
  if (row.kind != COROIPC_KIND_DISPATCH || connection_.dispatch_flow)
    connection_.loop_.MarkReady(connection_);
  return Put::kTaken;
}

bool coroipcc_connection::Reads(uint32_t in) const {
  if (in == kResponse) return true;
  if (dispatch_flow && !keeping_) return true;
  // Into private memory, bounded: while a call waits (the server's handler may wait for this very
  // room), or for whoever polls this connection's own fd.
  return (keeping_ || own_epoll_.valid()) && kept_dispatch_bytes_ < options.inbox_bytes;
}

bool coroipcc_connection::MoreToDo(coroipc::Sink& sink) {
  const uint32_t flow = coroipc::LoadRelaxed(control_->server.flow_control);
  if (flow != watched_seen_) {
    watched_seen_ = flow;
    stats_.flow_control = flow != 0 ? 1 : 0;
    stats_.flow_control_count += stats_.flow_control;
  }
  const bool untold = stats_.flow_control != flow_told_;
  if (keeping_) {
    if (untold) loop_.MarkReady(*this);  // rows of events are for those who receive them
    return false;
  }
  if (untold) {
    flow_told_ = stats_.flow_control;
    coroipc_entry row = Row(COROIPC_KIND_FLOW_CONTROL);
    row.argument = static_cast<uint32_t>(flow_told_);
    loop_.PushEvent(row);
  }
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
Status coroipcc_connection::Resolve(const coroipc_record& header, const uint8_t** payload,
                                    uint32_t* bytes, coroipc_buffer** buffer, uint32_t* offset) {
  *buffer = nullptr;
  *bytes = header.bytes;
  *offset = 0;
  if ((header.flags & ~COROIPC_FLAG_SEGMENT) != 0) return COROIPC_PROTOCOL;
  if ((header.flags & COROIPC_FLAG_SEGMENT) == 0) return COROIPC_OK;
  coroipc_segment_reference reference;
  if (const Status status = ReadReference(header, *payload, &reference, buffer);
      status != COROIPC_OK)
    return status;
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
  // The server's go back at once. Of those that were made for us a few stay for the next large
  // messages, the largest ones.
  buffer.owner = Owner::kFree;
  uint32_t free = 0;
  coroipc_buffer* smallest = &buffer;
  for (uint32_t i = 0; i < segments_max_; ++i) {
    coroipc_buffer* const candidate = BufferAt(i);
    if (candidate == nullptr || candidate->owner != Owner::kFree) continue;
    ++free;
    if (buffer.granted && candidate->segment.bytes() < smallest->segment.bytes())
      smallest = candidate;
  }
  // Never all of them: the server needs one for its own large messages.
  const bool keep =
      free <= std::min(kPoolSegments, segments_max_ / 2) || out_[kRequest].waits_segment;
  if (buffer.granted && keep) return;
  smallest->owner = Owner::kAway;
  releases_owed_ |= uint64_t{1} << smallest->index;
  SendReleases();
}

// Past the backlog, whose first may wait for just what the server gives for them.
void coroipcc_connection::SendReleases() {
  coroipc::RingWriter& ring = out_[kRequest].ring;
  while (releases_owed_ != 0) {
    uint8_t* payload = nullptr;
    uint32_t wants = 0;
    const Status status = ring.Reserve(0, &payload, &wants);
    if (status == COROIPC_AGAIN) {
      // With the next flush. Something must wait for room, or nothing wakes us when there is some.
      if (out_[kRequest].backlog.empty()) out_[kRequest].wants = wants;
      if (list == List::kArmed) loop_.MarkReady(*this);
      return;
    }
    if (status != COROIPC_OK) {
      End(status);
      return;
    }
    const auto index = static_cast<uint32_t>(__builtin_ctzll(releases_owed_));
    releases_owed_ &= releases_owed_ - 1;
    coroipc_record release = {};
    release.kind = COROIPC_RECORD_SEGMENT_RELEASE;
    release.argument = index;
    release.sequence = sequence_++;
    ring.Commit(release);
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

// One row says it for all: who only blocks never fetches any.
void coroipcc_connection::TellSlotFree() {
  --given_up_;
  if (slot_row_) return;
  slot_row_ = true;
  coroipc_entry row = Row(COROIPC_KIND_SLOT_FREE);
  row.correlation = COROIPC_SLOT_ANY;
  loop_.PushEvent(row);
  loop_.MarkReady(*this);
}

coroipcc_connection::Taken coroipcc_connection::DeliverResponse(const coroipc_record& header,
                                                                const uint8_t* payload,
                                                                coroipc::Sink& sink) {
  const uint32_t slot = coroipc::SlotOf(header.correlation);
  if (!slots_.valid(slot)) return Fail(COROIPC_PROTOCOL);
  Pending& pending = slots_.at(slot);
  if (pending.generation != coroipc::GenerationOf(header.correlation) ||
      header.argument >= COROIPC_STATUS_COUNT ||
      (pending.wants != Wants::kRow && pending.wants != Wants::kBlockingCall &&
       pending.wants != Wants::kLate)) {
    return Fail(COROIPC_PROTOCOL);
  }
  coroipc_buffer* buffer = nullptr;
  uint32_t bytes = 0, offset = 0;
  if (const Status found = Resolve(header, &payload, &bytes, &buffer, &offset); found != COROIPC_OK)
    return Fail(found);
  if (phase_ != Phase::kOpen) return Taken::kFailed;
  if (pending.wants == Wants::kLate) {
    if (slot < requests_in_flight_) {
      coroipc_entry row = Row(COROIPC_KIND_SLOT_FREE);
      row.correlation = slot;
      const coroipc::Sink::Put put = sink.Add(row, nullptr, 0);
      if (put == coroipc::Sink::Put::kFull) return Taken::kFull;
      if (put == coroipc::Sink::Put::kNoMemory) return Fail(COROIPC_NO_MEMORY);
    } else {
      TellSlotFree();
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
    if (buffer != nullptr && row.flags == COROIPC_IN_SEGMENT) {
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
  --group.awaited;
  const uint8_t lent = pending.segment;
  pending.segment = 0;
  FreeSlot(slot, pending);
  if (lent != 0 && BufferAt(lent - 1) != nullptr) {
    --lent_;
    coroipc_buffer& own = *BufferAt(lent - 1);
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
  if (const Status found = Resolve(header, &payload, &bytes, &buffer, &offset); found != COROIPC_OK)
    return Fail(found);
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
                                                             const uint8_t* payload,
                                                             coroipc::Sink& sink) {
  coroipc_buffer* buffer = nullptr;
  Status status = COROIPC_OK;
  uint32_t bytes = 0, offset = 0;
  if ((header.flags & COROIPC_FLAG_SEGMENT) == 0) {
    status = header.status == COROIPC_TOO_LARGE || header.status == COROIPC_NO_MEMORY
                 ? static_cast<Status>(header.status)
                 : COROIPC_LIMIT;
  } else if (const Status found = Resolve(header, &payload, &bytes, &buffer, &offset);
             found != COROIPC_OK || offset != 0) {
    return Fail(found != COROIPC_OK ? found : COROIPC_PROTOCOL);
  }
  const uint32_t slot = coroipc::SlotOf(header.correlation);
  const uint16_t generation = coroipc::GenerationOf(header.correlation);
  if (slot == coroipc::kQueueSlot) {
    if (!want_pending_ || generation != want_generation_) return Fail(COROIPC_PROTOCOL);
    if (buffer != nullptr && bytes != want_bytes_) return Fail(COROIPC_PROTOCOL);
    want_pending_ = false;
    if (buffer != nullptr) {
      buffer->bytes = bytes;
      buffer->owner = Owner::kFree;
      buffer->granted = true;
    }
    // Refused while own buffers are with the server: the next answer brings one back.
    if (status != COROIPC_OK && lent_ == 0) {
      // Free ones that are too small stand in the way of a larger one: they go back, then it is
      // asked for again.
      uint64_t spare = 0;
      for (uint32_t i = 0; i < segments_max_; ++i) {
        if (BufferAt(i) == nullptr || BufferAt(i)->owner != Owner::kFree) continue;
        BufferAt(i)->owner = Owner::kAway;
        spare |= uint64_t{1} << i;
      }
      releases_owed_ |= spare;
      if (spare == 0) FailFirstLarge(status);
      SendReleases();
    }
    if (phase_ == Phase::kOpen && (status == COROIPC_OK || lent_ == 0)) FlushBacklogs();
    // It may have come late, when the message had found another one.
    if (phase_ == Phase::kOpen && buffer != nullptr && buffer->owner == Owner::kFree)
      TakeBack(*buffer);
    return phase_ == Phase::kOpen ? Taken::kYes : Taken::kFailed;
  }
  if (!slots_.valid(slot)) return Fail(COROIPC_PROTOCOL);
  Pending& pending = slots_.at(slot);
  const Wants wants = pending.wants;
  if (pending.generation != generation ||
      (wants != Wants::kBufferRow && wants != Wants::kBufferCall && wants != Wants::kLateBuffer)) {
    return Fail(COROIPC_PROTOCOL);
  }
  if (buffer != nullptr) {
    // Less than was wanted: the caller would write beyond it.
    if (bytes != pending.bytes) return Fail(COROIPC_PROTOCOL);
    buffer->bytes = bytes;
    buffer->granted = true;
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
    TakeBack(*buffer);
  }
  FreeSlot(slot, pending);
  return phase_ == Phase::kOpen ? Taken::kYes : Taken::kFailed;
}

// The first of the backlog can never get its segment: it ends with `why`, what is behind it goes
// on.
void coroipcc_connection::FailFirstLarge(Status why) {
  coroipc::Backlog& backlog = out_[kRequest].backlog;
  if (backlog.empty() || !out_[kRequest].waits_segment) return;
  coroipc_record header = backlog.first()->header;
  backlog.Pop();
  out_[kRequest].waits_segment = false;
  OnBacklogChanged();
  (void)OnUnsendable(header, why);
}

bool coroipcc_connection::OnUnsendable(coroipc_record& header, Status why) {
  if (header.kind != COROIPC_RECORD_REQUEST) {
    ++stats_.dropped;
    loop_.Log(40, "a large one-way message was dropped: the server has no segment for it");
    return false;
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
  } else if (pending.wants == Wants::kLate) {
    if (slot < requests_in_flight_) {
      coroipc_entry row = Row(COROIPC_KIND_SLOT_FREE);
      row.correlation = slot;
      loop_.PushEvent(row);
    } else {
      TellSlotFree();
    }
  }
  stats_.in_flight = --in_flight_;
  --group.awaited;
  FreeSlot(slot, pending);
  return false;
}

coroipcc_connection::Taken coroipcc_connection::Deliver(uint32_t in, const coroipc_record& header,
                                                        const uint8_t* payload,
                                                        coroipc::Sink& sink) {
  if (in == kDispatch) {
    return header.kind == COROIPC_RECORD_DISPATCH ? DeliverDispatch(header, payload, sink)
                                                  : Fail(COROIPC_PROTOCOL);
  }
  if (header.kind == COROIPC_RECORD_RESPONSE) return DeliverResponse(header, payload, sink);
  if (header.kind == COROIPC_RECORD_SEGMENT_GRANT) return DeliverGrant(header, payload, sink);
  return Fail(COROIPC_PROTOCOL);
}

Status coroipcc_connection::OnSegmentMessage(const coroipc_segment_message& message,
                                             coroipc::Fd fd) {
  if (message.index >= segments_max_) return COROIPC_PROTOCOL;
  if (message.bytes == 0 || message.bytes > 2 * uint64_t{COROIPC_MESSAGE_BYTES_MAX})
    return COROIPC_PROTOCOL;
  const coroipc_buffer* const old = BufferAt(message.index);
  // Only what is the server's may be replaced.
  if (old != nullptr && (old->owner != Owner::kAway || old->generation == message.generation)) {
    return COROIPC_PROTOCOL;
  }
  coroipc::Segment segment;
  if (const Status status = coroipc::Segment::Map(fd.get(), message.bytes, &segment);
      status != COROIPC_OK) {
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

coroipc_buffer* coroipcc_connection::BestFree(uint32_t bytes) {
  coroipc_buffer* best = nullptr;
  for (uint32_t i = 0; i < segments_max_; ++i) {
    coroipc_buffer* const candidate = BufferAt(i);
    if (candidate == nullptr || candidate->owner != Owner::kFree) continue;
    if (candidate->segment.bytes() < bytes) continue;
    if (best == nullptr || candidate->segment.bytes() < best->segment.bytes()) best = candidate;
  }
  return best;
}

Status coroipcc_connection::AcquireSegment(uint32_t bytes, coroipc_buffer** buffer) {
  uint32_t known = 0;
  for (uint32_t i = 0; i < segments_max_; ++i) {
    if (BufferAt(i) != nullptr) ++known;
  }
  if (coroipc_buffer* const best = BestFree(bytes); best != nullptr) {
    best->owner = Owner::kUsed;
    *buffer = best;
    return COROIPC_OK;
  }
  if (want_pending_) return COROIPC_AGAIN;
  // All that there can be are on their way: an answer brings one back.
  if (lent_ != 0 && known + kServerSegments >= segments_max_) return COROIPC_AGAIN;
  coroipc_record want = {};
  want.kind = COROIPC_RECORD_SEGMENT_WANT;
  // No slot: all may be taken by requests that wait for this very segment. Buffers that callers
  // want have automatic slots, so that a chosen one is free to name it.
  want.correlation = coroipc::Correlation(coroipc::kQueueSlot, ++want_generation_);
  // Past the backlog: its first waits for exactly this.
  coroipc::RingWriter& ring = out_[kRequest].ring;
  uint8_t* payload = nullptr;
  uint32_t wants = 0;
  const Status status = ring.Reserve(sizeof bytes, &payload, &wants);
  if (status != COROIPC_OK) return status;
  std::memcpy(payload, &bytes, sizeof bytes);
  want.bytes = sizeof bytes;
  want.sequence = sequence_++;
  ring.Commit(want);
  PublishOut();
  want_pending_ = true;
  want_bytes_ = bytes;
  return COROIPC_AGAIN;
}

Status coroipcc_connection::SendRequest(uint16_t id, const struct iovec* parts, uint32_t count,
                                        uint32_t bytes, coroipc_buffer* buffer, uint32_t offset,
                                        uint32_t timeout_ms, uint32_t slot, Wants wants,
                                        coroipc::Waiter* waiter, uint32_t* correlation) {
  if (const Status status = Usable(); status != COROIPC_OK) return status;
  if (bytes > message_bytes_) return COROIPC_TOO_LARGE;
  if (buffer != nullptr &&
      (buffer->index >= segments_max_ || BufferAt(buffer->index) != buffer ||
       buffer->owner != Owner::kUsed || uint64_t{offset} + bytes > buffer->segment.bytes())) {
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
    buffer->owner =
        Owner::kAway;  // even while it waits in the backlog: it is not the caller's any more
    pending.segment = static_cast<uint8_t>(buffer->index + 1);
    ++lent_;
  }
  *correlation = header.correlation;
  stats_.in_flight = ++in_flight_;
  ++group.awaited;
  ++stats_.requests;
  return COROIPC_OK;
}

Status coroipcc_connection::SendOneWay(uint16_t id, const struct iovec* parts, uint32_t count,
                                       uint32_t bytes, bool promised) {
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
  if (!by_slot && pending.generation != coroipc::GenerationOf(correlation))
    return COROIPC_INVALID_ARGUMENT;
  if (pending.wants != Wants::kRow && pending.wants != Wants::kBlockingCall &&
      pending.wants != Wants::kBufferRow && pending.wants != Wants::kBufferCall) {
    return COROIPC_INVALID_ARGUMENT;
  }
  const bool request = pending.wants == Wants::kRow || pending.wants == Wants::kBlockingCall;
  pending.wants = request ? Wants::kLate : Wants::kLateBuffer;
  pending.waiter = nullptr;
  ++stats_.cancelled;
  if (!request) return COROIPC_OK;
  if (slot >= requests_in_flight_) ++given_up_;
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
  TakeReturnedBuffers();  // what was let go of since the last turn
  if (phase_ != Phase::kOpen) return Usable();
  uint32_t slot = 0;
  if (const Status status = AutomaticSlot(&slot); status != COROIPC_OK) return status;
  Pending& pending = slots_.at(slot);
  pending.wants = wants;
  pending.waiter = waiter;
  ++pending.generation;
  pending.bytes = bytes;
  coroipc_record header = {};
  header.kind = COROIPC_RECORD_SEGMENT_WANT;
  header.correlation = coroipc::Correlation(slot, pending.generation);
  if (coroipc_buffer* const own = BestFree(bytes); own != nullptr) {  // no need to ask
    own->owner = Owner::kUsed;
    own->bytes = bytes;
    FreeSlot(slot, pending);
    if (waiter != nullptr) {
      own->AddUser();
      waiter->buffer = own;
      waiter->done = true;
    } else {
      coroipc_entry row = Row(COROIPC_KIND_BUFFER);
      row.correlation = header.correlation;
      row.segment = own->index;
      loop_.PushEvent(row);
      loop_.MarkReady(*this);
    }
    *correlation = header.correlation;
    return COROIPC_OK;
  }
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
  if (header.kind != COROIPC_RECORD_REQUEST) {
    buffer.granted = false;  // one-way: it is the server's now
    return;
  }
  slots_.at(coroipc::SlotOf(header.correlation)).segment = static_cast<uint8_t>(buffer.index + 1);
  ++lent_;
}

void coroipcc_connection::OnBacklogEmpty(uint32_t out) {
  (void)out;
  if (!room_wanted_) return;
  room_wanted_ = false;
  if (room_row_) return;  // one says it, however often nobody fetches it
  room_row_ = true;
  loop_.PushEvent(Row(COROIPC_KIND_ROOM));
  loop_.MarkReady(*this);
}
