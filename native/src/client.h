// client.h: the two objects behind the client half of the C API, for client.cc (connecting,
// receiving, sending) and client_blocking.cc (calls that wait).
#ifndef COROIPC_SRC_CLIENT_H
#define COROIPC_SRC_CLIENT_H

#include <coroipc/coroipcc.h>
#include <pthread.h>

#include <list>
#include <string>
#include <vector>

#include "connection.h"
#include "handshake.h"
#include "loop.h"
#include "slots.h"
#include "socket.h"

namespace coroipc {

enum class Wants : uint8_t {
  kNothing,       // the slot is free
  kRow,           // an answer, by receive
  kBlockingCall,  // an answer, by the caller that waits
  kLate,          // an answer that nobody waits for any more
  kLateBuffer,    // a granted buffer that nobody waits for any more
  kBufferRow,     // a granted buffer, by receive
  kBufferCall,    // a granted buffer, by the caller that waits
};

// Someone in a blocking call, on its stack.
struct Waiter {
  bool done = false;
  Status code = COROIPC_OK;
  coroipcc_response response = {};
  bool in_ring = false;              // response.data lies in the ring, under the channel's lease
  void* block = nullptr;             // ... or in private memory
  coroipc_buffer* buffer = nullptr;  // ... or in a segment
};

struct Pending {
  Wants wants = Wants::kNothing;
  uint16_t generation = 0;
  uint8_t segment = 0;  // index + 1 of the buffer that travels with the request
  uint32_t bytes = 0;   // of the buffer that is wanted
  bool unsent = false;
  Waiter* waiter = nullptr;
};

// A message met while somebody waited for something else.
struct Kept {
  coroipc_entry row;
  void* block;
};

struct Lease {
  bool held = false;
  bool in_ring = false;
  void* block = nullptr;
  coroipc_buffer* buffer = nullptr;
};

}  // namespace coroipc

struct coroipcc_group final : coroipc::Loop {
  coroipcc_group_options options = {};
  bool owned = false;  // made for one connection, goes with it
  uint32_t objects = 0;

  coroipcc_group() = default;
  ~coroipcc_group() { FreeBuried(); }
  coroipc::Status Setup(const coroipcc_group_options& given) {
    options = given;
    log_ = given.log;
    log_context_ = given.context;
    return Init(given.threads != 0, given.wait, nullptr);
  }
  void OnTimer() override;
  void OnEventTaken(const coroipc_entry& row) override;
  uint64_t WorthLookingNs() const override;
  uint32_t awaited = 0;  // answers, of all connections
  void FreeNow() { FreeBuried(); }
};

struct coroipcc_connection final : coroipc::Connection {
  coroipcc_group& group;
  coroipcc_options options = {};
  std::string name;

  coroipcc_connection(coroipcc_group& owner, const coroipcc_options& given, const char* where);
  ~coroipcc_connection() override;

  // -- connecting --
  coroipc::Status BeginConnect(int64_t timeout_ms, bool blocking);
  coroipc::Status FinishBlocking();
  void CheckDeadline(uint64_t now_ns);
  void Disconnect();

  // -- sending --
  coroipc::Status Usable() const;
  coroipc::Status SendRequest(uint16_t id, const struct iovec* parts, uint32_t count,
                              uint32_t bytes, coroipc_buffer* buffer, uint32_t offset,
                              uint32_t timeout_ms, uint32_t slot, coroipc::Wants wants,
                              coroipc::Waiter* waiter, uint32_t* correlation);
  coroipc::Status SendOneWay(uint16_t id, const struct iovec* parts, uint32_t count, uint32_t bytes,
                             bool promised);
  coroipc::Status Cancel(uint32_t slot, uint32_t correlation, bool by_slot);
  coroipc::Status WantBuffer(uint32_t bytes, coroipc::Wants wants, coroipc::Waiter* waiter,
                             uint32_t* correlation);
  coroipc::Status AutomaticSlot(uint32_t* slot);
  bool QueueFull() const { return out_[0].backlog.bytes() >= options.queue_bytes; }
  void WantRoom() { room_wanted_ = true; }
  void RoomTold() { room_row_ = false; }
  void SlotTold() { slot_row_ = false; }
  uint32_t given_up() const { return given_up_; }

  // -- waiting --
  template <typename Done>
  coroipc::Status WaitUntil(Done done, uint64_t deadline_ns);
  coroipc::Status Call(uint16_t id, const struct iovec* parts, uint32_t count,
                       coroipc_buffer* buffer, uint32_t offset, uint32_t bytes, int32_t timeout_ms,
                       coroipcc_response* response, coroipc::Lease* result);
  // The result becomes the channel's lease; false (and it is dropped) when there is one already.
  bool KeepResult(coroipc::Lease* result) {
    if (leases_[0].held) {
      EndLease(0, result);
      return false;
    }
    leases_[0] = *result;
    return true;
  }
  void EndLease(uint32_t channel, coroipc::Lease* lease);
  bool leased(uint32_t channel) const { return leases_[channel].held; }
  coroipc::Status CallForBuffer(uint32_t bytes, int32_t timeout_ms, coroipc_buffer** buffer);
  coroipc::Status NextDispatch(int32_t timeout_ms, coroipcc_dispatch* dispatch);
  coroipc::Status ReleaseLease(uint32_t channel);
  uint64_t Deadline(int32_t timeout_ms) const;
  int PollFd();

  coroipc_buffer* buffer(uint32_t index) {
    return index < COROIPC_SEGMENTS_MAX ? BufferAt(index) : nullptr;
  }
  uint64_t id() const { return id_; }
  uint64_t server_id() const { return server_id_; }
  int flow_control() const;
  void Stats(coroipc_stats* stats, bool clear);
  void SetDispatchFlow(bool on);

  bool dispatch_flow = false;
  uint32_t callers = 0;  // threads inside a blocking call
  bool closing =
      false;  // disconnected by the application; freed when nobody is inside and no lease is held
  void MaybeFree();
  void MarkUnread();

 private:
  class KeepSink;
  friend class KeepSink;

  Taken Deliver(uint32_t in, const coroipc_record& header, const uint8_t* payload,
                coroipc::Sink& sink) override;
  bool Reads(uint32_t in) const override;
  bool HandshakeTurn(coroipc::Sink& sink) override;
  void OnEnded(coroipc::Status why) override;
  void OnBacklogEmpty(uint32_t out) override;
  void OnFlush() override { SendReleases(); }
  void OnBacklogChanged() override;
  bool OnUnsendable(coroipc_record& header, coroipc::Status why) override;
  void OnUnarmed() override;
  void OnArmed() override;
  void OnLargeWritten(const coroipc_record& header, coroipc_buffer& buffer) override;
  coroipc::Status AcquireSegment(uint32_t bytes, coroipc_buffer** buffer) override;
  coroipc::Status Share(coroipc_buffer& buffer) override {
    (void)buffer;
    return COROIPC_OK;  // the server made it
  }
  void OnBufferReturned(coroipc_buffer& buffer) override;
  coroipc::Status OnSegmentMessage(const coroipc_segment_message& message, coroipc::Fd fd) override;
  bool MoreToDo(coroipc::Sink& sink) override;

  Taken Fail(coroipc::Status why);
  Taken DeliverResponse(const coroipc_record& header, const uint8_t* payload, coroipc::Sink& sink);
  Taken DeliverDispatch(const coroipc_record& header, const uint8_t* payload, coroipc::Sink& sink);
  Taken DeliverGrant(const coroipc_record& header, const uint8_t* payload, coroipc::Sink& sink);
  coroipc::Status Resolve(const coroipc_record& header, const uint8_t** payload, uint32_t* bytes,
                          coroipc_buffer** buffer, uint32_t* offset);
  void FreeSlot(uint32_t slot, coroipc::Pending& pending);
  void TellSlotFree();
  coroipc_buffer* BestFree(uint32_t bytes);
  void TakeBack(coroipc_buffer& buffer);
  void SendReleases();
  void FailFirstLarge(coroipc::Status why);
  coroipc::Status TryConnect();
  coroipc::Status ServerIsWanted() const;
  coroipc::Status TakeReply();
  void ConnectFailed(coroipc::Status why);
  coroipc_entry Row(uint32_t kind) const;
  template <typename Done>
  coroipc::Status Lead(Done done, uint64_t deadline_ns);
  uint64_t SpinBudget() const;
  void LearnAnswer(uint64_t took_ns);
  void SignalOwnFd();
  void WakeLeader();
  void Finished();  // someone's wait may be over

  coroipc::Terms terms_;
  uint64_t server_id_ = 0;
  uint64_t deadline_ns_ = coroipc::kNever;
  uint64_t retry_ns_ = coroipc::kNever;
  uint32_t retry_ms_ = 1;
  bool blocking_connect_ = false;
  bool registered_ = false;

  coroipc::SlotTable<coroipc::Pending> slots_;
  std::vector<uint32_t> free_slots_;
  uint32_t next_slot_ = 0;
  uint32_t in_flight_ = 0;
  uint32_t lent_ = 0;  // buffers that are with the server as payload of a request
  uint16_t want_generation_ = 0;
  bool want_pending_ = false;  // a segment for the backlog was asked for
  uint32_t want_bytes_ = 0;
  bool room_wanted_ = false;
  uint64_t releases_owed_ = 0;  // a bit for each segment that goes back to the server
  bool room_row_ = false;       // a ROOM row waits to be received
  uint32_t given_up_ = 0;       // requests in the library's slots that nobody waits for any more
  bool slot_row_ = false;       // a SLOT_FREE row for one of them waits to be received
  uint64_t flow_told_ = 0;      // what the last row said
  // Lists and no deques: one of those has half a kilobyte before anything is in it.
  std::list<coroipc::Kept> kept_answers_, kept_dispatches_;
  uint64_t kept_dispatch_bytes_ = 0;
  coroipc::Lease leases_[2];
  bool keeping_ = false;  // a blocking call drains: dispatches may go to private memory
  bool led_ = false;
  bool leader_sleeps_ = false;
  pthread_cond_t changed_;
  coroipc::Fd leader_wake_;
  uint32_t calls_ = 0;
  uint64_t answer_ns_ = 20000;  // learnt: how long an answer takes
  coroipc::Fd own_epoll_, own_event_;
  bool own_signalled_ = false;
};

// Private memory for what is met while somebody waits for something else.
class coroipcc_connection::KeepSink final : public coroipc::Sink {
 public:
  explicit KeepSink(coroipcc_connection& connection) : Sink(nullptr), connection_(connection) {}

 private:
  Put AddAny(const coroipc_entry& row, const uint8_t* payload, uint32_t bytes) override;

  coroipcc_connection& connection_;
};

#endif
