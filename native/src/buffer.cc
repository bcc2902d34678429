// buffer.cc: counting of zero-copy buffers, and their way home.
#include "buffer.h"

#include "connection.h"

namespace coroipc {

void BufferHome::Returned(uint32_t index) {
  returned_.fetch_or(uint64_t{1} << index, std::memory_order_acq_rel);
  std::lock_guard<std::mutex> guard(mutex_);
  if (connection_ != nullptr) connection_->BuffersReturned();
}

void BufferHome::Close() {
  {
    std::lock_guard<std::mutex> guard(mutex_);
    connection_ = nullptr;
  }
  Release();
}

}  // namespace coroipc

void coroipc_buffer::AddUser() {
  if (users.fetch_add(1, std::memory_order_relaxed) == 0) {
    references.fetch_add(1, std::memory_order_relaxed);
  }
}

void coroipc_buffer::DropUser() {
  if (users.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  home->Returned(index);
  Unreference();
}

void coroipc_buffer::Unreference() {
  if (references.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  coroipc::BufferHome* const last_home = home;
  delete this;
  last_home->Release();
}

extern "C" {

void* coroipc_buffer_data(const struct coroipc_buffer* buffer) { return buffer->segment.data(); }
uint32_t coroipc_buffer_bytes(const struct coroipc_buffer* buffer) { return buffer->bytes; }
uint32_t coroipc_buffer_index(const struct coroipc_buffer* buffer) { return buffer->index; }
void coroipc_buffer_hold(struct coroipc_buffer* buffer) { buffer->AddUser(); }
void coroipc_buffer_release(struct coroipc_buffer* buffer) {
  if (buffer != nullptr) buffer->DropUser();
}

}  // extern "C"
