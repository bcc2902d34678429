// connection.h: what both sides of a connection have in common: rings in, channels out, the socket
// as doorbell and proof of life, extra segments, and the rules for sleeping.
//
// Who owns what: this side's positions, backlog, segment table and state are private. The control
// page is written word by word by the side that abi.h names. After the peer's death everything it
// published is read to its end (positions loaded once), then the death is reported once.
//
// A connection is always on exactly one of the loop's lists:
//   kReady  has or may have work; the loop gives it a turn
//   kHot    had none at its last turn and is unarmed: the loop looks at it before it sleeps
//   kArmed  every word for which it can be woken is set and was looked at again
//   kNone   not (or no longer) served: handshakes that wait, ended connections
// "neither ready nor armed" exists only between a turn and the look that follows it.
#ifndef COROIPC_SRC_CONNECTION_H
#define COROIPC_SRC_CONNECTION_H

#include <memory>
#include <utility>

#include "buffer.h"
#include "channel.h"
#include "clock.h"
#include "credentials.h"
#include "fd.h"
#include "fork_guard.h"
#include "ring.h"
#include "segment.h"
#include "status.h"

namespace coroipc {

class Loop;

// Where received messages go: a batch, or private memory for later.
class Sink {
 public:
  enum class Put { kTaken, kFull, kNoMemory };

  // A small message that a batch has room for is a row and a copy, made here; AddAny does the rest.
  // Always inline: the row is then never made twice, once here and once where it belongs.
  [[gnu::always_inline]] Put Add(const coroipc_entry& row, const uint8_t* payload, uint32_t bytes) {
    coroipc_batch* const batch = batch_;
    if (batch == nullptr || batch->count == batch->capacity || bytes >= COROIPC_BLOCK_BYTES ||
        bytes > batch->arena_bytes - batch->arena_used || row.flags == COROIPC_IN_SEGMENT)
      return AddAny(row, payload, bytes);
    const uint32_t used = batch->arena_used;
    CopyIn(batch->arena + used, payload, bytes);
    PutRow(batch->entries[batch->count], row, used, bytes);
    const uint32_t next = (used + bytes + 7u) & ~7u;
    batch->arena_used = next < batch->arena_bytes ? next : batch->arena_bytes;
    batch->blocks[batch->count++] = nullptr;
    return Put::kTaken;
  }

 protected:
  // nullptr: everything is AddAny's.
  explicit Sink(coroipc_batch* batch) : batch_(batch) {}
  ~Sink() = default;
  virtual Put AddAny(const coroipc_entry& row, const uint8_t* payload, uint32_t bytes) = 0;
  // Word by word, as it was written a moment ago: one wide load of what several narrow stores have
  // just made waits until all of them, and every store before them, have reached the cache.
  static void PutRow(coroipc_entry& to, const coroipc_entry& row, uint32_t offset, uint32_t bytes) {
    StoreRelaxed(to.connection, row.connection);
    StoreRelaxed(to.kind, row.kind);
    StoreRelaxed(to.id, row.id);
    StoreRelaxed(to.correlation, row.correlation);
    StoreRelaxed(to.status, row.status);
    StoreRelaxed(to.argument, row.argument);
    StoreRelaxed(to.sequence, row.sequence);
    StoreRelaxed(to.flags, row.flags);
    StoreRelaxed(to.offset, offset);
    StoreRelaxed(to.bytes, bytes);
    StoreRelaxed(to.segment, row.segment);
    StoreRelaxed(to.reserved, row.reserved);
  }

  coroipc_batch* const batch_;
};

class BatchSink final : public Sink {
 public:
  explicit BatchSink(coroipc_batch* batch)
      : Sink(batch), arena_bytes_(batch->arena_bytes), large_bytes_(batch->large_bytes) {}
  BatchSink(const BatchSink&) = delete;
  ~BatchSink() { Begin(false); }
  // The turn of another connection. With `half` it gets half of the room that is left, and its
  // first message all of it: those behind it find some, however much it has.
  void Begin(bool half);
  // A row whose payload is already a private block (or nullptr); small ones move to the arena.
  // False: full.
  bool Give(const coroipc_entry& row, void* block);
  bool full() const { return batch_->count == batch_->capacity; }
  uint32_t left() const { return batch_->capacity - batch_->count; }
  // Since it was last asked, a message found no room that has its place in the next batch.
  bool TakeRefused() { return std::exchange(refused_, false); }

 private:
  Put AddAny(const coroipc_entry& row, const uint8_t* payload, uint32_t bytes) override;
  void Place(const coroipc_entry& row, const uint8_t* payload, uint32_t bytes, bool large);
  // In `large`, or in the next one.
  bool HasPlaceInLarge(uint32_t bytes) const;

  // Of the batch, which says less during a turn.
  const uint32_t arena_bytes_;
  const uint32_t large_bytes_;
  uint32_t began_ = 0;  // rows when this turn did
  uint64_t block_bytes_ = 0;
  bool refused_ = false;
};

class Connection {
 public:
  enum class Phase : uint8_t { kSetup, kAuthorizing, kOpen, kEnded };
  enum class List : uint8_t { kNone, kReady, kHot, kArmed };

  Connection(Loop& loop, bool server);
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  Loop& loop() { return loop_; }
  uint32_t number() const { return number_; }
  Phase phase() const { return phase_; }
  // OK while it is open or on its way; else why it ended.
  Status status() const { return status_; }
  bool forked() const { return guard_.forked(); }
  uint32_t message_bytes() const { return message_bytes_; }
  uint32_t requests_in_flight() const { return requests_in_flight_; }
  const Credentials& credentials() const { return credentials_; }
  coroipc_stats& stats() { return stats_; }

  // -- for the loop --
  // Work, at most `cap` messages a ring (0: no cap). True: more is left.
  bool Turn(Sink& sink, uint32_t cap);
  bool Look();  // cheap: is there something to do?
  // Of one that is armed: its words say that it was rung for.
  bool RungByWords();
  bool Arm();  // false: there is something to do after all, nothing stays armed
  void Disarm();
  // `hung_up`: whoever watches it has seen the end of the file behind what is to be read.
  void SocketReadable(bool hung_up) {
    socket_unread_ = true;
    socket_ends_ |= hung_up;
  }
  void HangUp(bool process_gone) {
    hangup_ = true;
    process_gone_ |= process_gone;
  }
  void RetryDoorbell();
  bool doorbell_owed() const { return doorbell_owed_; }
  void BuffersReturned();  // any thread: BufferHome calls it
  int socket() const { return socket_.get(); }
  int pidfd() const { return credentials_.pidfd(); }

  // Ends it now: tells the peer why (orderly), closes the socket, reports through OnEnded.
  void End(Status why);

  // Publishes what was written and rings where somebody sleeps.
  void PublishOut();
  void FlushBacklogs();

  // Tells the peer, and asks it, which CPU each of us runs on. Looking while the peer can only run
  // where we are burns the time that it needs. A hint: it decides whether to look or to sleep and
  // nothing else.
  void NoteCpu();
  bool PeerOnThisCpu() const;

  // The loop's lists.
  List list = List::kNone;
  Connection* list_next = nullptr;
  Connection* list_previous = nullptr;
  uint8_t priority = 1;
  bool socket_watched = false, pidfd_watched = false;
  bool write_watched = false;  // the poll says when the socket has room again
  bool touched = false;        // written to by the batch that is being sent
  uint64_t active_ns = 0;      // when it last had work

  virtual ~Connection();

 protected:
  enum class Taken { kYes, kFull, kFailed };

  // A message of ring `in`. kFull: not consumed, later. kFailed: End was called.
  virtual Taken Deliver(uint32_t in, const coroipc_record& header, const uint8_t* payload,
                        Sink& sink) = 0;
  virtual bool Reads(uint32_t in) const = 0;
  virtual bool HandshakeTurn(Sink& sink) = 0;
  virtual void OnEnded(Status why) = 0;
  virtual void OnFlush() {}  // before backlogs are flushed
  virtual void OnBacklogEmpty(uint32_t out) = 0;
  // A segment of at least `bytes` for a large message, kUsed afterwards. AGAIN: wait.
  virtual Status AcquireSegment(uint32_t bytes, coroipc_buffer** buffer) = 0;
  // Before a record names it: the peer must have its fd. AGAIN: no room on the socket; it has seen
  // to a turn when there is.
  virtual Status Share(coroipc_buffer& buffer) = 0;
  // A queued large message can never get its segment. True: its header, changed now, is sent
  // without payload.
  virtual bool OnUnsendable(coroipc_record& header, Status why) = 0;
  virtual void OnBacklogChanged() {}
  // What was armed may not be any more: a doorbell was taken or the words were cleared. Whoever
  // else sleeps over it must look again.
  virtual void OnUnarmed() {}
  virtual void OnArmed() {}
  // A large message was written into a segment that AcquireSegment gave.
  virtual void OnLargeWritten(const coroipc_record& header, coroipc_buffer& buffer) {
    (void)header;
    (void)buffer;
  }
  // Its last local user let go of it.
  virtual void OnBufferReturned(coroipc_buffer& buffer) = 0;
  // A segment message arrived on the socket (client only; PROTOCOL at the server).
  virtual Status OnSegmentMessage(const coroipc_segment_message& message, Fd fd) = 0;
  virtual uint32_t TurnCap(uint32_t in, uint32_t cap) {
    (void)in;
    return cap;
  }
  // The same after the peer's end. 0: what is left is not read.
  virtual uint32_t FinalCap() { return 256; }
  virtual bool MoreToDo(Sink& sink) {
    (void)sink;
    return false;
  }

  // Sends or queues a message. `header.bytes` and `header.sequence` are set here: by reference,
  // since a copy of what was just made is dear (ring.h, Commit). OK: written or queued. NO_MEMORY,
  // PROTOCOL (ended).
  [[gnu::always_inline]] Status Send(uint32_t which, coroipc_record& header,
                                     const struct iovec* parts, uint32_t count, uint32_t bytes,
                                     coroipc_buffer* buffer = nullptr, uint32_t offset = 0) {
    Outbound& out = out_[which];
    header.sequence = sequence_++;
    // What most messages need, and no more: a record in a ring that has room for it.
    if (buffer == nullptr && out.backlog.empty()) {
      if (uint8_t* const to = out.ring.ReserveKnown(bytes); to != nullptr) {
        Gather(to, parts, count);
        header.bytes = bytes;
        out.ring.Commit(header);
        stats_.bytes_sent += bytes;
        // A writer that fills an eighth of the ring in one go lets the reader begin.
        if (out.ring.unpublished_bytes() >= kPublishBytes) PublishOut();
        return COROIPC_OK;
      }
    }
    return SendAny(out, header, parts, count, bytes, buffer, offset);
  }
  // Whether `bytes` would go to the ring right now.
  bool WouldWrite(uint32_t out, uint32_t bytes);
  coroipc_buffer* BufferAt(uint32_t index) const {
    return buffers_ == nullptr ? nullptr : buffers_[index];
  }
  // PROTOCOL (client): the server's words are no positions. `control_` is set when it is OK.
  Status InitRings();
  void GiveBack(uint32_t in);
  bool LeaveSocketForLater();
  // `until_work`: not further than a doorbell that something was found for, unless the end follows.
  Status DrainSocket(bool until_work = false);
  // The segment that a received reference names, checked: ours to read now. PROTOCOL otherwise.
  Status ReadReference(const coroipc_record& header, const uint8_t* payload,
                       coroipc_segment_reference* reference, coroipc_buffer** buffer);
  // Its peer is gone; what was published before is still being read.
  bool draining() const { return final_; }
  void TakeReturnedBuffers();
  void DropBuffer(uint32_t index);
  coroipc_buffer* AddBuffer(uint32_t index, uint32_t generation, Segment segment);
  void Ring();
  void OweDoorbell(uint64_t retry_ns = kMillisecond);

  Loop& loop_;
  const bool server_;
  Phase phase_ = Phase::kSetup;
  Status status_ = COROIPC_OK;
  uint32_t number_ = 0;
  uint64_t id_ = 0;
  uint16_t service_ = 0;
  uint32_t message_bytes_ = 0;
  uint32_t requests_in_flight_ = 0;
  uint32_t segments_max_ = 0;
  uint32_t request_ring_bytes_ = 0, response_ring_bytes_ = 0, dispatch_ring_bytes_ = 0;
  Fd socket_;
  Credentials credentials_;
  Segment segment_;
  coroipc_control* control_ = nullptr;
  uint32_t in_count_, out_count_;
  RingReader in_[2];  // server: request; client: response, dispatch
  Outbound out_[2];   // server: response, dispatch; client: request
  // By index, with COROIPC_SEGMENTS_MAX places; there once there is one: most connections have
  // none.
  std::unique_ptr<coroipc_buffer*[]> buffers_;
  BufferHome* home_;
  coroipc_stats stats_ = {};
  uint32_t sequence_ = 0;
  // A word of the peer's whose change gives this connection a turn (client: flow control).
  uint32_t* own_cpu_ = nullptr;
  uint32_t* peer_cpu_ = nullptr;
  uint32_t noted_cpu_ = 0;
  uint32_t* watched_ = nullptr;
  uint32_t watched_seen_ = 0;
  bool segments_may_come_ = false;
  bool socket_unread_ = false;
  bool rung_for_taken_ = false;  // the doorbell that is still unread was rung for what was taken
  bool socket_ends_ = false;
  bool hangup_ = false, process_gone_ = false;
  bool doorbell_owed_ = false;

 private:
  static constexpr uint32_t kPublishBytes = 16384;

  Status SendAny(Outbound& out, coroipc_record& header, const struct iovec* parts, uint32_t count,
                 uint32_t bytes, coroipc_buffer* buffer, uint32_t offset);
  Status Write(Outbound& out, coroipc_record& header, const struct iovec* parts, uint32_t count,
               uint32_t bytes, coroipc_buffer* buffer, uint32_t offset);
  bool BeginFinalDrain();
  Status HangUpReason() const;

  ForkGuard guard_;
  bool final_ = false;
};

inline constexpr uint32_t kResponse = 0, kDispatch = 1;  // of a client's in_, of a server's out_
inline constexpr uint32_t kRequest = 0;                  // of a server's in_, of a client's out_

}  // namespace coroipc

#endif
