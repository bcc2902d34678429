// channel.h: one outgoing direction of a connection: a ring and the queue of what found no room in
// it. Order is kept: while the queue is not empty nothing goes to the ring directly.
#ifndef COROIPC_SRC_CHANNEL_H
#define COROIPC_SRC_CHANNEL_H

#include <coroipc/types.h>

#include "ring.h"

struct coroipc_buffer;

namespace coroipc {

// A message in private memory, payload behind it.
struct Outgoing {
  Outgoing* next = nullptr;
  coroipc_record header = {};
  coroipc_buffer* buffer = nullptr;  // zero copy: the payload lies there, at offset
  uint32_t offset = 0;
  uint32_t bytes = 0;  // of the payload, wherever it is
  uint8_t* payload() { return reinterpret_cast<uint8_t*>(this + 1); }

  static Outgoing* New(const coroipc_record& header, const struct iovec* parts, uint32_t count,
                       uint32_t bytes);
  static void Delete(Outgoing* message);
};

class Backlog {
 public:
  Backlog() = default;
  Backlog(const Backlog&) = delete;
  Backlog& operator=(const Backlog&) = delete;
  ~Backlog() { Clear(); }

  bool empty() const { return first_ == nullptr; }
  Outgoing* first() const { return first_; }
  uint32_t count() const { return count_; }
  uint64_t bytes() const { return bytes_; }
  void Push(Outgoing* message);
  void Pop();         // deletes the first
  void EmptyFirst();  // keeps its header alone
  void Clear();

 private:
  Outgoing* first_ = nullptr;
  Outgoing* last_ = nullptr;
  uint32_t count_ = 0;
  uint64_t bytes_ = 0;
};

struct Outbound {
  RingWriter ring;
  Backlog backlog;
  uint32_t wants = 0;          // bytes that something here waits for; 0: nothing, or a segment
  bool waits_segment = false;  // no segment for it yet
};

// Gathers parts into one stretch of memory.
inline void Gather(uint8_t* to, const struct iovec* parts, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) {
    if (parts[i].iov_len != 0) std::memcpy(to, parts[i].iov_base, parts[i].iov_len);
    to += parts[i].iov_len;
  }
}

// Bytes of a gather list; false when they do not fit 32 bits.
inline bool GatherBytes(const struct iovec* parts, uint32_t count, uint32_t* bytes) {
  uint64_t total = 0;
  for (uint32_t i = 0; i < count; ++i) {
    if (parts[i].iov_len > COROIPC_MESSAGE_BYTES_MAX) return false;
    total += parts[i].iov_len;
  }
  if (total > COROIPC_MESSAGE_BYTES_MAX) return false;
  *bytes = static_cast<uint32_t>(total);
  return true;
}

}  // namespace coroipc

#endif
