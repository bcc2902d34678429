// buffer.h: one extra segment of a connection as this side sees it: mapped, counted, and owned by
// exactly one of the two sides at a time. The mapping outlives the connection while somebody holds
// it.
//
//   kFree   ours, nobody uses it: the next large message or buffer may take it
//   kUsed   ours, the application (users > 0) or a queued message uses it
//   kAway   the peer's: named to it by a record, not yet given back
//
// Ownership is a promise between honest sides. A hostile one may scribble over any segment at any
// time, which is why payloads are copied out unless trust was declared.
#ifndef COROIPC_SRC_BUFFER_H
#define COROIPC_SRC_BUFFER_H

#include <coroipc/types.h>

#include <atomic>
#include <mutex>

#include "segment.h"

namespace coroipc {

class Connection;

enum class Owner : uint8_t { kFree, kUsed, kAway };

// Where buffers go back to when their last user lets go; outlives the connection.
class BufferHome {
 public:
  explicit BufferHome(Connection* connection) : connection_(connection) {}
  void Hold() { references_.fetch_add(1, std::memory_order_relaxed); }
  void Release() {
    if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }
  void Returned(uint32_t index);  // any thread
  void Close();                   // the connection is going
  uint64_t TakeReturned() { return returned_.exchange(0, std::memory_order_acq_rel); }
  bool any_returned() const { return returned_.load(std::memory_order_relaxed) != 0; }

 private:
  std::mutex mutex_;
  Connection* connection_;
  std::atomic<uint64_t> returned_{0};  // one bit for each of the COROIPC_SEGMENTS_MAX indices
  std::atomic<uint32_t> references_{1};
};

}  // namespace coroipc

struct coroipc_buffer {
  coroipc::Segment segment;
  coroipc::BufferHome* home = nullptr;
  uint32_t index = 0;
  uint32_t bytes = 0;
  uint32_t generation = 0;
  coroipc::Owner owner = coroipc::Owner::kFree;
  bool lent = false;  // server: came with a request and goes back with its answer
  // Made because the client asked (a grant): the client keeps it between its requests. All others
  // come back to the server as soon as they are read, so that a server that waits for one waits for
  // something that will happen.
  bool granted = false;
  std::atomic<uint32_t> users{0};
  std::atomic<uint32_t> references{1};  // the connection's table, and one for all users together

  void AddUser();
  void DropUser();  // any thread
  void Unreference();
};

#endif
