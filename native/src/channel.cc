// channel.cc: the queue behind a full ring.
#include "channel.h"

#include <cstdlib>
#include <new>

#include "block.h"
#include "buffer.h"

namespace coroipc {

Outgoing* Outgoing::New(const coroipc_record& header, const struct iovec* parts, uint32_t count,
                        uint32_t bytes) {
  void* memory = BlockAllocate(sizeof(Outgoing) + bytes);
  if (memory == nullptr) return nullptr;
  auto* message = new (memory) Outgoing;
  message->header = header;
  message->bytes = bytes;
  Gather(message->payload(), parts, count);
  return message;
}

void Outgoing::Delete(Outgoing* message) {
  if (message->buffer != nullptr) message->buffer->DropUser();
  BlockFree(message);
}

void Backlog::Push(Outgoing* message) {
  message->next = nullptr;
  if (last_ == nullptr) {
    first_ = message;
  } else {
    last_->next = message;
  }
  last_ = message;
  ++count_;
  bytes_ += sizeof(Outgoing) + message->bytes;
}

void Backlog::Pop() {
  Outgoing* const message = first_;
  first_ = message->next;
  if (first_ == nullptr) last_ = nullptr;
  --count_;
  bytes_ -= sizeof(Outgoing) + message->bytes;
  Outgoing::Delete(message);
}

void Backlog::EmptyFirst() {
  bytes_ -= first_->bytes;
  first_->bytes = 0;
}

void Backlog::Clear() {
  while (first_ != nullptr) Pop();
}

}  // namespace coroipc
