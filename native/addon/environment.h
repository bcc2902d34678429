// environment.h: what the addon keeps for one Node.js environment (the main thread, or one worker).
// There is no other state: the addon may be loaded in many environments of one process, and each
// may end at any time.
//
// The end of an environment, in order (an asynchronous cleanup hook: terminating a worker with an
// open libuv handle would abort the process):
//   1. no JavaScript is entered any more                       stopping()
//   2. outboxes are flushed, libuv handles closed              Poll::Close
//   3. ArrayBuffers over shared memory detached, buffers and leases given back
//   4. servers and the client group destroyed
//   5. when libuv has let go of the last handle: the hook is done, Node.js goes on and deletes this
//   object
#ifndef COROIPC_ADDON_ENVIRONMENT_H
#define COROIPC_ADDON_ENVIRONMENT_H

#include <coroipc/types.h>
#include <node_api.h>

#include <memory>
#include <utility>
#include <vector>

#include "foreign_array.h"

namespace coroipc_addon {

class EventLoop;
class Poll;

// Things that JavaScript names by small integers. A number is not given out again soon, so that a
// stale one finds nothing rather than somebody else's: index in the lower half, a count of uses
// above it.
template <typename T>
class HandleTable {
 public:
  int32_t Add(T value) {
    uint32_t index = static_cast<uint32_t>(slots_.size());
    if (!free_.empty()) {
      index = free_.back();
      free_.pop_back();
    } else if (index > kIndexMax) {
      return -COROIPC_LIMIT;
    } else {
      slots_.emplace_back();
    }
    Slot& slot = slots_[index];
    slot.value = std::move(value);
    return static_cast<int32_t>(index | slot.uses << 16);
  }
  T* At(int32_t handle) {
    Slot* slot = Find(handle);
    return slot == nullptr ? nullptr : &slot->value;
  }
  T Remove(int32_t handle) {
    Slot* slot = Find(handle);
    if (slot == nullptr) return T{};
    slot->uses = (slot->uses + 1) & 0x7fff;
    free_.push_back(static_cast<uint32_t>(handle) & kIndexMax);
    return std::exchange(slot->value, T{});
  }
  // Those that exist now; a callback may add and remove.
  template <typename F>
  void ForEach(F callback) {
    for (size_t i = 0; i < slots_.size(); i++)
      if (slots_[i].value) callback(slots_[i].value);
  }

 private:
  static constexpr uint32_t kIndexMax = 0xffff;
  struct Slot {
    T value{};
    uint32_t uses = 0;
  };
  Slot* Find(int32_t handle) {
    const uint32_t number = static_cast<uint32_t>(handle);
    if ((number & kIndexMax) >= slots_.size()) return nullptr;
    Slot& slot = slots_[number & kIndexMax];
    return slot.value && slot.uses == number >> 16 ? &slot : nullptr;
  }
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_;
};

// A buffer handle: one share of the memory; the ArrayBuffer over it has the other.
struct Buffer {
  std::shared_ptr<coroipc_buffer> memory;
  ForeignArray array;
};

class Environment {
 public:
  // Exactly one for each load of the addon; nullptr if Node.js refuses.
  static Environment* Create(napi_env env);
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;

  napi_env env() const { return env_; }
  bool stopping() const { return stopping_; }

  // Calls into JavaScript. What it throws becomes an uncaught exception, as from any callback of
  // Node.js. With an async context: from libuv; microtasks and ticks run before it returns. False
  // if it threw or cannot run. `between`: its outbox is flushed after the function and before them.
  bool Enter(napi_async_context context, napi_value resource, napi_value receiver,
             napi_value function, size_t count, const napi_value* arguments,
             EventLoop* between = nullptr);
  // True when JavaScript cannot run any more (the worker is being terminated, or an exception is
  // pending): blocking calls ask this every 50 ms and give up. For
  // coroipcc_group_options::interrupt.
  bool Interrupted();
  static int Interrupt(void* environment) {
    return static_cast<Environment*>(environment)->Interrupted() ? 1 : 0;
  }

  // Sends what any loop of this environment has queued. Before every blocking call: the answer that
  // it waits for may depend on what is in another loop's outbox.
  void FlushAll();

  HandleTable<EventLoop*>& loops() { return loops_; }
  HandleTable<std::unique_ptr<Buffer>>& buffers() { return buffers_; }
  int32_t AddBuffer(coroipc_buffer* buffer);  // takes over the caller's reference
  coroipc_buffer* BufferAt(int32_t handle);
  void ReleaseBuffer(int32_t handle);

  Poll* poll();       // made at first use; nullptr if libuv refuses
  void PollClosed();  // the last libuv handle is gone
  bool has_poll() const { return poll_ != nullptr; }

 private:
  explicit Environment(napi_env env) : env_(env) {}
  ~Environment();
  static void Cleanup(napi_async_cleanup_hook_handle handle, void* environment);
  void Stop();
  void Report();

  napi_env env_;
  napi_ref trivial_ = nullptr;  // a JavaScript function that does nothing
  napi_async_cleanup_hook_handle cleanup_ = nullptr;
  bool stopping_ = false;
  Poll* poll_ = nullptr;
  HandleTable<EventLoop*> loops_;
  HandleTable<std::unique_ptr<Buffer>> buffers_;
};

}  // namespace coroipc_addon

#endif
