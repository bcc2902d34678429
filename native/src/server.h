// server.h: the two objects behind the server half of the C API, for server.cc (connections,
// limits, handshakes) and server_callbacks.cc (the callback interface on top of batches).
#ifndef COROIPC_SRC_SERVER_H
#define COROIPC_SRC_SERVER_H

#include <coroipc/coroipcs.h>

#include <map>
#include <memory>
#include <vector>

#include "connection.h"
#include "handshake.h"
#include "loop.h"
#include "slots.h"
#include "socket.h"

namespace coroipc {

// What one uid uses now; everything is charged to it, connections that only knock included.
struct Account {
  uid_t uid = 0;
  uint32_t connections = 0;
  uint32_t handshakes = 0;
  uint32_t authorizing = 0;  // of the connections: wait for the verdict
  uint32_t objects = 0;      // connections that point here
  uint64_t bytes = 0;
  uint64_t limit = 0;

  // Saturating: an overflow can never let a charge through.
  bool Charge(uint64_t count) {
    if (count > limit || bytes > limit - count) return false;
    bytes += count;
    return true;
  }
  void Discharge(uint64_t count) { bytes -= count < bytes ? count : bytes; }
};

struct Service {
  coroipcs_service_options options = {};
  uint32_t connections = 0;  // objects, held ones included
  bool added = false;        // by service_add; else made for an own selector
};

struct InFlight {
  uint16_t generation = 0;
  bool busy = false;
  uint8_t segment = 0;  // index + 1 of the segment that came with the request
};

struct CallbackDriver;

}  // namespace coroipc

struct coroipcs_server final : coroipc::Loop {
  coroipcs_options options = {};
  coroipc::TermLimits limits;
  coroipc::Listener listener;
  bool listening = false;
  uint64_t accept_resumes_ns =
      coroipc::kNever;  // while accepting is paused for want of fds or memory
  uint64_t id = 0;
  std::map<uint16_t, coroipc::Service> services;
  std::map<uid_t, coroipc::Account> accounts;
  std::vector<coroipcs_connection*> pending;  // handshakes and waits for authorize, oldest first
  uint32_t handshakes = 0, authorizing = 0, established = 0;
  uint32_t objects = 0;  // connections not yet released: each keeps the server's memory
  uint32_t paused = 0;   // connections over their rate
  bool destroyed = false;
  std::atomic<bool> stopped{false};
  coroipc_stats totals = {};  // of connections that ended, and the server's own counters
  coroipc::CallbackDriver* driver = nullptr;

  coroipcs_server() = default;
  ~coroipcs_server();
  coroipc::Status Setup(const coroipcs_options& given);
  coroipc::Status StartListening();
  void StopListening(bool leave = false);
  void Admit(coroipc::Fd peer);
  coroipc::Backing MemoryBacking(bool rings) const;
  coroipc::Status TryMemory() const;
  void OnListenerReady() override;
  void OnTimer() override;
  void OnEventTaken(const coroipc_entry& row) override;
  coroipc::Service* ServiceFor(uint16_t service);
  coroipc::Account& AccountOf(uid_t uid);
  void Refuse(coroipc::Fd peer, coroipc::Status status);
  bool EvictOldest();
  bool EvictAuthorizing(const coroipc::Account& newcomer);
  void RemovePending(coroipcs_connection* connection);
  void EndAll(coroipc::Status why);
};

struct coroipcs_connection final : coroipc::Connection {
  coroipcs_server& server;
  coroipc::Account& account;
  coroipc::Service* service_entry = nullptr;
  uint32_t holders = 1;       // the application's own reference and those of hold()
  bool ended_told = false;    // the application has its DISCONNECTED row ...
  bool own_released = false;  // ... and has given its own reference back
  bool announced = false;     // the application has seen a row of it
  bool disconnected = false;  // by the application, whatever reason it gave
  bool authorizing = false;   // counted as one that waits for authorize
  bool trusted = false;
  bool drain_wanted = false;
  bool buffer_wanted = false;  // somebody was told FULL, not for the backlog but for a buffer
  bool rate_paused = false;
  bool grant_waits = false;  // for room on the socket
  // A queued message of the client's waits for a segment: its WANT.
  bool want_waits = false;
  uint32_t want_correlation = 0, want_bytes = 0;
  int policy = COROIPCS_POLICY_ERROR;
  uint32_t rate = 0;  // requests per second, 0 = any
  uint64_t rate_filled_ns = 0;
  uint32_t tokens = 0;  // in parts: kTokenParts make a request
  uint32_t backlog_limit = 0;
  uint64_t deadline_ns = coroipc::kNever;
  uint64_t charged = 0;  // bytes of the account: rings and segments
  uint64_t charged_backlog = 0;
  uint32_t in_flight = 0;
  uint32_t last_record_bytes = 96;
  coroipc::SlotTable<coroipc::InFlight> slots;
  struct SegmentPlace {
    coroipc::Fd fd;  // not yet sent to the client
    uint32_t generation = 0;
  };
  // By index, with COROIPC_SEGMENTS_MAX places; there once a segment was asked for.
  std::unique_ptr<SegmentPlace[]> segment_places;
  std::unique_ptr<uint8_t[]> private_data;
  // of the callback interface
  uint64_t disconnect_retry_ns = 0;
  uint32_t disconnect_backoff_ms = 10;

  coroipcs_connection(coroipcs_server& owner, coroipc::Account& payer, coroipc::Fd peer);
  ~coroipcs_connection() override;

  coroipc::Status Verdict(coroipc::Status verdict, bool trust);
  coroipc::Status Respond(uint32_t correlation, coroipc::Status code, int32_t status,
                          const struct iovec* parts, uint32_t count, coroipc_buffer* buffer,
                          uint32_t offset, uint32_t bytes);
  coroipc::Status Dispatch(uint16_t id, const struct iovec* parts, uint32_t count,
                           coroipc_buffer* buffer, uint32_t offset, uint32_t bytes, bool promised);
  coroipc::Status AllocateBuffer(uint32_t bytes, coroipc_buffer** buffer);
  void FlushNow();
  void Release();
  void Stats(coroipc_stats* stats, bool clear);
  coroipcs_rings Rings() const;
  uint16_t service() const { return service_; }
  uint64_t id() const { return id_; }
  bool Owns(const coroipc_buffer* buffer) const;
  coroipc_entry Row(uint32_t kind) const;
  coroipc_buffer* buffer(uint32_t index) {
    return index < COROIPC_SEGMENTS_MAX ? BufferAt(index) : nullptr;
  }

 private:
  friend struct coroipcs_server;
  Taken Deliver(uint32_t in, const coroipc_record& header, const uint8_t* payload,
                coroipc::Sink& sink) override;
  bool Reads(uint32_t in) const override;
  bool HandshakeTurn(coroipc::Sink& sink) override;
  void OnEnded(coroipc::Status why) override;
  void OnBacklogEmpty(uint32_t out) override;
  void OnBacklogChanged() override;
  bool OnUnsendable(coroipc_record& header, coroipc::Status why) override;
  coroipc::Status AcquireSegment(uint32_t bytes, coroipc_buffer** buffer) override;
  coroipc::Status Share(coroipc_buffer& buffer) override;
  void OnBufferReturned(coroipc_buffer& buffer) override;
  coroipc::Status OnSegmentMessage(const coroipc_segment_message& message, coroipc::Fd fd) override;
  uint32_t TurnCap(uint32_t in, uint32_t cap) override;
  uint32_t FinalCap() override;
  void Spend(uint32_t parts);
  void BufferFreed();
  bool CouldFree(uint32_t bytes) const;

  coroipc::Status Establish();
  void RefuseAndEnd(coroipc::Status status);
  Taken DeliverRequest(const coroipc_record& header, const uint8_t* payload, coroipc::Sink& sink);
  Taken Fail(coroipc::Status why);
  coroipc::Status Grant(const coroipc_record& header, const uint8_t* payload);
  coroipc::Status GrantSegment(uint32_t correlation, uint32_t bytes);
  void OnFlush() override;
  void Refill();
  bool Overflowing() const;

  coroipc::Terms terms_;
};

#endif
