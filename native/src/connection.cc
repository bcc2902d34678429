// connection.cc: turns, sleeping and waking, sending, extra segments; the same for both sides.
#include "connection.h"

#include <sched.h>

#include <algorithm>
#include <new>
#include <utility>

#include "block.h"
#include "loop.h"
#include "socket.h"

namespace coroipc {

namespace {
constexpr int kSocketMessagesPerTurn = 16;  // a peer that rings for ever costs this much a turn
constexpr int kForNothingPerTurn = 2;       // so many doorbells of it, where work is looked for
constexpr int kSocketTurnsForSegment = 64;
constexpr uint64_t kBatchBlockBytesMax = 8u << 20;  // one message more than this, at most
}  // namespace

Sink::Put BatchSink::AddAny(const coroipc_entry& row, const uint8_t* payload, uint32_t bytes) {
  coroipc_batch& batch = *batch_;
  if (batch.count == batch.capacity) return Put::kFull;
  coroipc_entry& entry = batch.entries[batch.count];
  if (row.flags == COROIPC_IN_SEGMENT || bytes == 0) {
    const bool elsewhere = row.flags == COROIPC_IN_SEGMENT;
    PutRow(entry, row, elsewhere ? row.offset : batch.arena_used, bytes);
    batch.blocks[batch.count++] = nullptr;
    return Put::kTaken;
  }
  const bool large = HasPlaceInLarge(bytes);
  const bool first = batch.count == began_;
  if (large && bytes <= (first ? large_bytes_ : batch.large_bytes) - batch.large_used) {
    Place(row, payload, bytes, true);
    return Put::kTaken;
  }
  if (first && bytes < COROIPC_BLOCK_BYTES && bytes <= arena_bytes_ - batch.arena_used) {
    Place(row, payload, bytes, false);
    return Put::kTaken;
  }
  // One that has a place waits for the receiver's next one, if this turn brought anything at all.
  const bool waits = (large || bytes < COROIPC_BLOCK_BYTES) && batch.count != 0;
  // Many small records can name one large segment: what they become here is bounded for each batch.
  if (waits || (block_bytes_ != 0 && block_bytes_ + bytes > kBatchBlockBytesMax)) {
    refused_ = true;
    return Put::kFull;
  }
  void* const block = BlockAllocate(bytes);
  if (block == nullptr) return Put::kNoMemory;
  block_bytes_ += bytes;
  CopyIn(block, payload, bytes);
  entry = row;
  entry.bytes = bytes;
  entry.offset = 0;
  entry.flags = COROIPC_IN_BLOCK;
  batch.blocks[batch.count++] = block;
  return Put::kTaken;
}

void BatchSink::Place(const coroipc_entry& row, const uint8_t* payload, uint32_t bytes,
                      bool large) {
  coroipc_batch& batch = *batch_;
  const uint32_t whole = large ? large_bytes_ : arena_bytes_;
  uint32_t& limit = large ? batch.large_bytes : batch.arena_bytes;
  uint32_t& end = large ? batch.large_used : batch.arena_used;
  const uint32_t used = end;
  CopyIn((large ? batch.large : batch.arena) + used, payload, bytes);
  PutRow(batch.entries[batch.count], row, used, bytes);
  if (large) batch.entries[batch.count].flags = COROIPC_IN_LARGE;
  // The last one may end where its place does, unaligned.
  end = used + std::min((bytes + 7u) & ~7u, whole - used);
  limit = std::max(limit, end);  // a first one goes beyond its half
  batch.blocks[batch.count++] = nullptr;
}

void BatchSink::Begin(bool half) {
  coroipc_batch& batch = *batch_;
  const auto room = [half](uint32_t bytes, uint32_t used) {
    return half ? used + ((bytes - used) / 2 & ~7u) : bytes;
  };
  batch.arena_bytes = room(arena_bytes_, batch.arena_used);
  batch.large_bytes = room(large_bytes_, batch.large_used);
  began_ = batch.count;
}

bool BatchSink::HasPlaceInLarge(uint32_t bytes) const {
  return batch_->large != nullptr && bytes >= COROIPC_BLOCK_BYTES && bytes >= batch_->large_min &&
         bytes <= batch_->large_max;
}

bool BatchSink::Give(const coroipc_entry& row, void* block) {
  if (full()) return false;
  if (block == nullptr || row.bytes < COROIPC_BLOCK_BYTES) {
    if (Add(row, static_cast<const uint8_t*>(block),
            block == nullptr && row.flags != COROIPC_IN_SEGMENT ? 0 : row.bytes) == Put::kTaken) {
      BlockFree(block);
      return true;
    }
    return false;
  }
  coroipc_entry& entry = batch_->entries[batch_->count];
  entry = row;
  entry.offset = 0;
  entry.flags = COROIPC_IN_BLOCK;
  batch_->blocks[batch_->count++] = block;
  return true;
}

Connection::Connection(Loop& loop, bool server)
    : loop_(loop),
      server_(server),
      in_count_(server ? 1 : 2),
      out_count_(server ? 2 : 1),
      home_(new(std::nothrow) BufferHome(this)) {}

Connection::~Connection() {
  for (uint32_t i = 0; i < COROIPC_SEGMENTS_MAX; ++i) DropBuffer(i);
  out_[0].backlog.Clear();
  out_[1].backlog.Clear();
  if (home_ != nullptr) home_->Close();
}

Status Connection::InitRings() {
  auto* const control = reinterpret_cast<coroipc_control*>(segment_.data());
  uint8_t* const request = segment_.data() + COROIPC_CONTROL_BYTES;
  uint8_t* const response = request + request_ring_bytes_;
  uint8_t* const dispatch = response + response_ring_bytes_;
  coroipc_ring_words* const words = control->ring;
  const auto init = [&](auto& ring, uint32_t which, uint8_t* data, uint32_t bytes) {
    return ring.Init(&words[which], data, bytes) == COROIPC_OK;
  };
  const bool fresh =
      server_
          ? init(in_[kRequest], COROIPC_RING_REQUEST, request, request_ring_bytes_) &&
                init(out_[kResponse].ring, COROIPC_RING_RESPONSE, response, response_ring_bytes_) &&
                init(out_[kDispatch].ring, COROIPC_RING_DISPATCH, dispatch, dispatch_ring_bytes_)
          : init(out_[kRequest].ring, COROIPC_RING_REQUEST, request, request_ring_bytes_) &&
                init(in_[kResponse], COROIPC_RING_RESPONSE, response, response_ring_bytes_) &&
                init(in_[kDispatch], COROIPC_RING_DISPATCH, dispatch, dispatch_ring_bytes_);
  if (!fresh) return COROIPC_PROTOCOL;
  control_ = control;
  own_cpu_ = server_ ? &control->server.server_cpu : &control->client.client_cpu;
  peer_cpu_ = server_ ? &control->client.client_cpu : &control->server.server_cpu;
  return COROIPC_OK;
}

void Connection::NoteCpu() {
  if (own_cpu_ == nullptr || phase_ != Phase::kOpen) return;
  const auto cpu = static_cast<uint32_t>(sched_getcpu() + 1);
  if (cpu == noted_cpu_) return;
  noted_cpu_ = cpu;
  StoreRelaxed(*own_cpu_, cpu);
}

bool Connection::PeerOnThisCpu() const {
  if (peer_cpu_ == nullptr || phase_ != Phase::kOpen) return false;
  return LoadRelaxed(*peer_cpu_) == static_cast<uint32_t>(sched_getcpu() + 1);
}

// -- the doorbell ---------------------------------------------------------------------------------

void Connection::Ring() {
  const Status status = RingDoorbell(socket_.get());
  if (status == COROIPC_OK) {
    ++stats_.doorbells_sent;
    return;
  }
  if (status == COROIPC_PEER_DEAD) {
    HangUp(false);
    loop_.MarkReady(*this);
    return;
  }
  OweDoorbell();  // the sleep word is taken and no byte is pending
}

void Connection::OweDoorbell(uint64_t retry_ns) {
  doorbell_owed_ = true;
  loop_.DoorbellOwed(NowNs() + retry_ns);
}

void Connection::RetryDoorbell() {
  if (!doorbell_owed_ || phase_ != Phase::kOpen) {
    doorbell_owed_ = false;
    return;
  }
  doorbell_owed_ = false;
  Ring();
  loop_.MarkReady(*this);  // an fd that found no room on the socket waits for this as well
}

// A doorbell and what it was rung for: that is taken first, and the socket read in the turn after
// it, when the other side is on its way already. Reading is a system call, and between sleepers
// everybody waits for it. Not twice in a row, and not behind the end of the file.
bool Connection::LeaveSocketForLater() {
  if (rung_for_taken_ || socket_ends_) return false;
  for (uint32_t i = 0; i < in_count_; ++i) rung_for_taken_ |= in_[i].Ready() && Reads(i);
  return rung_for_taken_;
}

Status Connection::DrainSocket(bool until_work) {
  socket_unread_ = false;
  const bool taken = std::exchange(rung_for_taken_, false);
  int for_nothing = 0;
  for (int i = 0; i < kSocketMessagesPerTurn; ++i) {
    uint8_t bytes[sizeof(coroipc_segment_message)];
    Received received;
    const Status status =
        ReceiveMessage(socket_.get(), bytes, sizeof bytes, segments_may_come_, &received);
    if (status == COROIPC_AGAIN) return COROIPC_OK;
    if (status == COROIPC_PEER_DEAD) {
      HangUp(false);
      return COROIPC_OK;
    }
    if (status != COROIPC_OK) return status;
    if (received.bytes == 1 && bytes[0] == COROIPC_SOCKET_DOORBELL && !received.fd.valid()) {
      ++stats_.doorbells_received;
      // Whatever it was rung for, a word was taken for it. A loop that armed this connection must
      // not trust its words any more, also where a call that looks for itself took the doorbell.
      if (list == List::kArmed) loop_.MarkReady(*this);
      OnUnarmed();
      // It is nearly always the only one: asking whether there is more is a system call. If there
      // is, its fd stays readable, and is watched level-triggered. The end of the file is read at
      // once: who is gone gets nothing more. And one that was rung for nothing is read past, but
      // not many: whoever rings all the time would have us read at its pace while others wait.
      if (until_work && !socket_ends_) {
        if (taken || Look()) return COROIPC_OK;
        if (++for_nothing == kForNothingPerTurn) return COROIPC_OK;
      }
      continue;
    }
    coroipc_segment_message message;
    if (received.bytes != sizeof message || !received.fd.valid()) return COROIPC_PROTOCOL;
    std::memcpy(&message, bytes, sizeof message);
    if (message.type != COROIPC_SOCKET_SEGMENT) return COROIPC_PROTOCOL;
    if (const Status segment = OnSegmentMessage(message, std::move(received.fd));
        segment != COROIPC_OK) {
      return segment;
    }
  }
  socket_unread_ = true;  // bounded: the rest next turn
  return COROIPC_OK;
}

// -- sleeping -------------------------------------------------------------------------------------

bool Connection::Look() {
  if (socket_unread_ || hangup_) return true;
  if (watched_ != nullptr && LoadRelaxed(*watched_) != watched_seen_) return true;
  for (uint32_t i = 0; i < in_count_; ++i) {
    if (in_[i].Ready() && Reads(i)) {
      in_[i].Prefetch();
      return true;
    }
  }
  for (uint32_t i = 0; i < out_count_; ++i) {
    Outbound& out = out_[i];
    if (out.wants == 0) continue;
    bool room = false;
    if (out.ring.Room(out.wants, &room) != COROIPC_OK || room) return true;
  }
  return false;
}

bool Connection::RungByWords() {
  if (phase_ != Phase::kOpen) return false;
  for (uint32_t i = 0; i < in_count_; ++i) {
    if (!in_[i].Ready() || !Reads(i) || !in_[i].SleepTaken()) continue;
    in_[i].Prefetch();
    socket_unread_ = true;  // a doorbell is there, or on its way
    return true;
  }
  return false;
}

bool Connection::Arm() {
  if (phase_ != Phase::kOpen) return true;
  if (socket_unread_ || hangup_) return false;
  for (uint32_t i = 0; i < in_count_; ++i) GiveBack(i);
  for (uint32_t i = 0; i < in_count_; ++i) {
    if (Reads(i)) in_[i].SetSleep();
  }
  for (uint32_t i = 0; i < out_count_; ++i) {
    if (out_[i].wants != 0) out_[i].ring.SetWants(out_[i].wants);
  }
  // ORDER look-again (seq_cst): everything that was armed is looked at once more.
  bool found = hangup_;
  if (watched_ != nullptr && LoadSeqCst(*watched_) != watched_seen_) found = true;
  for (uint32_t i = 0; i < in_count_; ++i) {
    if (Reads(i) && in_[i].ReadySeqCst()) found = true;
  }
  for (uint32_t i = 0; i < out_count_ && !found; ++i) {
    Outbound& out = out_[i];
    if (out.wants == 0) continue;
    bool room = false;
    if (out.ring.Room(out.wants, &room) != COROIPC_OK || room) found = true;
  }
  if (found) {
    Disarm();
    return false;
  }
  ++stats_.sleeps;
  OnArmed();
  return true;
}

void Connection::Disarm() {
  if (phase_ != Phase::kOpen) return;
  for (uint32_t i = 0; i < in_count_; ++i) in_[i].ClearSleep();
  for (uint32_t i = 0; i < out_count_; ++i) out_[i].ring.ClearWants();
  OnUnarmed();
}

void Connection::GiveBack(uint32_t in) {
  if (!in_[in].unpublished()) return;
  in_[in].PublishRead();
  // Whenever the writer waits, enough room or not: only it knows what it waits for.
  if (in_[in].TakeWriterWants() != 0) Ring();
}

// -- a turn ---------------------------------------------------------------------------------------

bool Connection::BeginFinalDrain() {
  final_ = true;
  for (uint32_t i = 0; i < out_count_; ++i) out_[i].backlog.Clear();  // nobody will read it
  OnBacklogChanged();
  // Segments that published records name may still lie on the socket.
  for (int i = 0; segments_may_come_ && i < 8; ++i) {
    if (DrainSocket() != COROIPC_OK || !socket_unread_) break;
  }
  for (uint32_t i = 0; i < in_count_; ++i) {
    if (in_[i].LoadPeer() != COROIPC_OK) return false;
    in_[i].Freeze();
  }
  return true;
}

Status Connection::HangUpReason() const {
  const uint32_t said =
      LoadRelaxed(server_ ? control_->client.client_closed : control_->server.server_closed);
  if (said == 0) return COROIPC_PEER_DEAD;
  if (!server_ && said < COROIPC_STATUS_COUNT &&
      (said == COROIPC_PROTOCOL || said == COROIPC_BACKLOG_OVERFLOW || said == COROIPC_LIMIT ||
       said == COROIPC_NO_MEMORY || said == COROIPC_DENIED)) {
    return static_cast<Status>(said);
  }
  return COROIPC_DISCONNECTED;
}

bool Connection::Turn(Sink& sink, uint32_t cap) {
  if (phase_ == Phase::kEnded) return false;
  if (phase_ != Phase::kOpen) return HandshakeTurn(sink);
  TakeReturnedBuffers();
  if (phase_ != Phase::kOpen) return false;  // what it flushed may have met a broken ring
  if (socket_unread_ && !hangup_ && !LeaveSocketForLater()) {
    if (const Status status = DrainSocket(true); status != COROIPC_OK) {
      End(status);
      return false;
    }
  }
  if (hangup_ && !final_ && !BeginFinalDrain()) {
    End(COROIPC_PROTOCOL);
    return false;
  }
  bool more = MoreToDo(sink);
  if (phase_ != Phase::kOpen) return false;
  if (!final_) {
    FlushBacklogs();
    if (phase_ != Phase::kOpen) return false;
  }
  bool worked = false;
  for (uint32_t i = 0; i < in_count_; ++i) {
    const uint32_t limit = final_ ? FinalCap() : TurnCap(i, cap);
    if (final_ && limit == 0) {  // what is left is not read any more
      more = false;
      continue;
    }
    for (uint32_t n = 0; Reads(i); ++n) {
      if (limit != 0 && n == limit) {
        more |= in_[i].Ready();
        break;
      }
      coroipc_record header;
      const uint8_t* payload = nullptr;
      const Status status = in_[i].Peek(&header, &payload);
      if (status == COROIPC_AGAIN) break;
      if (status != COROIPC_OK) {
        End(status);
        return false;
      }
      const Taken taken = Deliver(i, header, payload, sink);
      if (taken == Taken::kFailed || phase_ != Phase::kOpen) return false;
      if (taken == Taken::kFull) {
        more |= Reads(i);
        break;
      }
      worked = true;
      in_[i].Advance();
      if (in_[i].PublishDue()) GiveBack(i);
    }
    GiveBack(i);
  }
  PublishOut();
  if (final_) {
    bool done = !more;
    for (uint32_t i = 0; i < in_count_; ++i) {
      if (Reads(i) && in_[i].seen_bytes() != 0 && FinalCap() != 0) done = false;
    }
    if (done) End(HangUpReason());
    return !done;
  }
  if (worked) {
    active_ns = loop_.now();
    NoteCpu();
  }
  return more || socket_unread_ || hangup_;
}

void Connection::End(Status why) {
  if (phase_ == Phase::kEnded) return;
  const Phase was = phase_;
  phase_ = Phase::kEnded;
  status_ = why;
  loop_.Forget(*this);
  if (was == Phase::kOpen && control_ != nullptr) {
    // Exactly what was read, from now on for ever: the rest was never handed over, and a client may
    // ask somebody else.
    if (server_) in_[kRequest].PublishRead();
    // ORDER read-to-the-end (seq_cst; pairs with coroipcc_connection::MarkUnread): after the last
    // read position; whoever sees why it ended sees that position, and not an earlier one.
    StoreSeqCst(server_ ? control_->server.server_closed : control_->client.client_closed,
                static_cast<uint32_t>(why));
  }
  OnEnded(why);
  if (rung_for_taken_) {  // a doorbell that is left unread would make a reset of this end
    uint8_t doorbell;
    Received received;
    (void)ReceiveMessage(socket_.get(), &doorbell, sizeof doorbell, false, &received);
  }
  socket_.Reset();
  out_[0].backlog.Clear();
  out_[1].backlog.Clear();
  credentials_.ClosePidfd();
}

// -- sending --------------------------------------------------------------------------------------

void Connection::PublishOut() {
  // Dispatches before answers, and all before anybody is woken: who sees an answer can count on the
  // dispatches that were sent before it, also when this process is killed at the next instruction.
  bool published[2] = {};
  for (uint32_t i = out_count_; i-- != 0;) {
    published[i] = out_[i].ring.unpublished();
    if (published[i]) out_[i].ring.Publish();
  }
  bool asleep = false;
  for (uint32_t i = 0; i < out_count_; ++i)
    asleep |= published[i] && out_[i].ring.TakeReaderSleep();
  if (asleep) Ring();
}

bool Connection::WouldWrite(uint32_t out, uint32_t bytes) {
  Outbound& channel = out_[out];
  if (!channel.backlog.empty()) return false;
  if (bytes > channel.ring.payload_bytes_max()) bytes = sizeof(coroipc_segment_reference);
  bool room = false;
  // Pad included: the worst case is a pad of one record less a byte.
  return channel.ring.Room(2 * RecordBytes(bytes), &room) == COROIPC_OK && room;
}

Status Connection::Write(Outbound& out, coroipc_record& header, const struct iovec* parts,
                         uint32_t count, uint32_t bytes, coroipc_buffer* buffer, uint32_t offset) {
  uint8_t* to = nullptr;
  if (buffer == nullptr && bytes <= out.ring.payload_bytes_max()) {
    const Status status = out.ring.Reserve(bytes, &to, &out.wants);
    if (status != COROIPC_OK) return status;
    Gather(to, parts, count);
    header.bytes = bytes;
    out.ring.Commit(header);
    return COROIPC_OK;
  }
  const Status room = out.ring.Reserve(sizeof(coroipc_segment_reference), &to, &out.wants);
  if (room != COROIPC_OK) return room;
  const bool acquired = buffer == nullptr;
  if (acquired) {
    const Status status = AcquireSegment(bytes, &buffer);
    if (status != COROIPC_OK) {
      // Reserving again later is harmless: nothing was committed (a pad stands for itself).
      if (status == COROIPC_AGAIN) {
        out.wants = 0;
        out.waits_segment = true;
      }
      return status;
    }
    offset = 0;
  }
  if (const Status status = Share(*buffer); status != COROIPC_OK) {
    if (acquired) buffer->owner = Owner::kFree;
    if (status == COROIPC_AGAIN) {
      out.wants = 0;
      out.waits_segment = true;
    }
    return status;
  }
  // AcquireSegment may have sent records of its own (a client's WANT): reserve what is ours now.
  if (const Status status = out.ring.Reserve(sizeof(coroipc_segment_reference), &to, &out.wants);
      status != COROIPC_OK) {
    if (acquired) buffer->owner = Owner::kFree;
    return status;
  }
  // Copied last, when nothing can come between any more: a peer that keeps its socket full must not
  // make us copy the same message again and again.
  if (acquired) Gather(buffer->segment.data(), parts, count);
  const coroipc_segment_reference reference = {buffer->index, offset, bytes, buffer->generation};
  std::memcpy(to, &reference, sizeof reference);
  coroipc_record large = header;
  large.bytes = sizeof reference;
  large.flags |= COROIPC_FLAG_SEGMENT;
  out.ring.Commit(large);
  buffer->owner = Owner::kAway;
  if (acquired) OnLargeWritten(header, *buffer);
  return COROIPC_OK;
}

Status Connection::SendAny(Outbound& out, coroipc_record& header, const struct iovec* parts,
                           uint32_t count, uint32_t bytes, coroipc_buffer* buffer,
                           uint32_t offset) {
  if (out.backlog.empty()) {
    const Status status = Write(out, header, parts, count, bytes, buffer, offset);
    if (status == COROIPC_OK) {
      stats_.bytes_sent += bytes;
      if (out.ring.unpublished_bytes() >= kPublishBytes) PublishOut();
      return COROIPC_OK;
    }
    if (status != COROIPC_AGAIN) {
      if (status == COROIPC_PROTOCOL) End(status);
      return status;
    }
    ++stats_.send_retries;
  }
  Outgoing* const message = buffer == nullptr ? Outgoing::New(header, parts, count, bytes)
                                              : Outgoing::New(header, nullptr, 0, 0);
  if (message == nullptr) return COROIPC_NO_MEMORY;
  if (buffer != nullptr) {
    buffer->AddUser();
    message->buffer = buffer;
    message->offset = offset;
    message->bytes = bytes;
  }
  out.backlog.Push(message);
  stats_.bytes_sent += bytes;
  // What was written before must be visible, or the reader never frees what we wait for.
  PublishOut();
  OnBacklogChanged();
  if (list == List::kArmed) loop_.MarkReady(*this);  // its words are not armed for this backlog
  return COROIPC_OK;
}

void Connection::FlushBacklogs() {
  for (uint32_t i = 0; i < out_count_; ++i) {
    if (out_[i].backlog.empty()) out_[i].wants = 0;
  }
  OnFlush();
  if (phase_ != Phase::kOpen) return;
  for (uint32_t i = 0; i < out_count_; ++i) {
    Outbound& out = out_[i];
    if (out.backlog.empty()) continue;
    while (!out.backlog.empty()) {
      Outgoing& message = *out.backlog.first();
      out.waits_segment = false;
      const struct iovec part = {message.payload(), message.bytes};
      const Status status =
          Write(out, message.header, &part, 1, message.bytes, message.buffer, message.offset);
      if (status == COROIPC_AGAIN) break;
      if (status == COROIPC_PROTOCOL) {
        End(status);
        return;
      }
      if (status == COROIPC_OK) {
        out.backlog.Pop();
        continue;
      }
      // No segment can be had for it, now or later: the message cannot go, those behind it can.
      if (OnUnsendable(message.header, status)) {
        out.backlog.EmptyFirst();
      } else {
        out.backlog.Pop();
      }
    }
    PublishOut();
    OnBacklogChanged();
    if (out.backlog.empty()) {
      out.wants = 0;
      OnBacklogEmpty(i);
      if (phase_ != Phase::kOpen) return;
    }
  }
}

// -- extra segments -------------------------------------------------------------------------------

coroipc_buffer* Connection::AddBuffer(uint32_t index, uint32_t generation, Segment segment) {
  if (home_ == nullptr) return nullptr;
  auto* buffer = new (std::nothrow) coroipc_buffer;
  if (buffer == nullptr) return nullptr;
  if (buffers_ == nullptr)
    buffers_.reset(new (std::nothrow) coroipc_buffer*[COROIPC_SEGMENTS_MAX]());
  if (buffers_ == nullptr) {
    delete buffer;
    return nullptr;
  }
  DropBuffer(index);
  home_->Hold();
  buffer->home = home_;
  buffer->index = index;
  buffer->generation = generation;
  buffer->bytes = static_cast<uint32_t>(segment.bytes());
  buffer->segment = std::move(segment);
  buffers_[index] = buffer;
  ++stats_.segments;
  stats_.segment_bytes += buffer->bytes;
  return buffer;
}

void Connection::DropBuffer(uint32_t index) {
  coroipc_buffer* const buffer = BufferAt(index);
  if (buffer == nullptr) return;
  buffers_[index] = nullptr;
  --stats_.segments;
  stats_.segment_bytes -= buffer->segment.bytes();
  buffer->Unreference();
}

Status Connection::ReadReference(const coroipc_record& header, const uint8_t* payload,
                                 coroipc_segment_reference* reference, coroipc_buffer** buffer) {
  if (header.bytes != sizeof *reference) return COROIPC_PROTOCOL;
  CopyIn(reference, payload, sizeof *reference);
  if (reference->index >= segments_max_) return COROIPC_PROTOCOL;
  coroipc_buffer* found = BufferAt(reference->index);
  if ((found == nullptr || found->generation != reference->generation) && segments_may_come_) {
    // Its fd was sent before the record was published: read the socket on before calling it a lie.
    // Bounded: more than a socket holds, however fast the peer refills it.
    for (int i = 0; i < kSocketTurnsForSegment; ++i) {
      if (const Status status = DrainSocket(); status != COROIPC_OK) return status;
      if (!socket_unread_) break;
    }
    found = BufferAt(reference->index);
  }
  if (found == nullptr || found->generation != reference->generation) return COROIPC_PROTOCOL;
  if (found->owner != Owner::kAway) return COROIPC_PROTOCOL;  // it was not the peer's to send
  if (reference->bytes > message_bytes_) return COROIPC_PROTOCOL;
  const uint64_t end = uint64_t{reference->offset} + reference->bytes;
  if (end > found->segment.bytes()) return COROIPC_PROTOCOL;
  // It may have been a smaller buffer before: whoever maps it now must see all that it can hold.
  found->bytes = static_cast<uint32_t>(found->segment.bytes());
  *buffer = found;
  return COROIPC_OK;
}

void Connection::BuffersReturned() { loop_.BuffersReturned(*this); }

void Connection::TakeReturnedBuffers() {
  if (home_ == nullptr || !home_->any_returned()) return;
  uint64_t returned = home_->TakeReturned();
  while (returned != 0) {
    const auto index = static_cast<uint32_t>(__builtin_ctzll(returned));
    returned &= returned - 1;
    coroipc_buffer* const buffer = BufferAt(index);
    if (buffer == nullptr || buffer->users.load(std::memory_order_acquire) != 0) continue;
    // Away: the peer has it; whoever takes it back looks at `users` again.
    if (buffer->owner == Owner::kUsed) OnBufferReturned(*buffer);
    if (phase_ != Phase::kOpen) return;
  }
}

}  // namespace coroipc
