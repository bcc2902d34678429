// event_loop.h: what receives: a server, or the client group of this environment. JavaScript and
// native code share its tables (see native/lib/addon.ts), so that a message costs no call, and a
// batch one.
//
// A turn:  drain into the table -> one call of onBatch -> flush of the outbox -> onSent if a row
// failed -> onLog for each line that the core wrote meanwhile
//
//  - The table is written by a turn only, and a turn never runs inside onBatch of the same loop. A
//  blocking call may:
//    its result goes to `words` and to the slab.
//  - The slab is written only at words[slabPosition] and beyond, and whoever writes there moves it
//  on. Its memory
//    belongs to JavaScript, which may have transferred it away since the last turn: it is asked for
//    each time.
//  - The large slab, once JavaScript has brought one, is another such memory for what would else be
//  a block each.
//  - Destroy may be called at any time, from onBatch and poll callbacks too: JavaScript sees
//  nothing of the loop any
//    more, and what is native goes when nobody is inside.
#ifndef COROIPC_ADDON_EVENT_LOOP_H
#define COROIPC_ADDON_EVENT_LOOP_H

#include <coroipc/coroipcc.h>
#include <coroipc/coroipcs.h>
#include <node_api.h>

#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "environment.h"
#include "foreign_array.h"

namespace coroipc_addon {

// Int32s of `words`; the same list is `Word` in native/lib/addon.ts.
enum Word {
  kSlabPosition = 0,
  kOutRows = 1,
  kOutBytes = 2,
  kInBatch = 3,
  kStatus = 4,
  kSequence = 5,
  kOffset = 6,
  kSegment = 7,
  kId = 8,
  kSegmentOffset = 9,
  kLargePosition = 10,
  kLargeMissed = 11,
  kWords = 16,
};

inline constexpr uint32_t kRows = 256;
inline constexpr uint32_t kOutboxBytes = 64 * 1024;
// Lines of the core's log that wait for the end of a turn; further ones are lost.
inline constexpr uint32_t kLogLines = 64;

enum Channel : uint32_t { kResponse = 0, kDispatch = 1 };
inline constexpr uint32_t kChannels = 2;

struct Client;
class EventLoop;

// What a group calls back with. Moved arrays may keep a group longer than its loop.
struct GroupContext {
  Environment* environment;
  EventLoop* loop;
};

// An answer or a dispatch that stays where it is until it was taken. The native lease ends with the
// last share of `hold`, which an ArrayBuffer that JavaScript moved elsewhere may keep.
struct Lease {
  const void* data = nullptr;
  uint32_t bytes = 0;
  std::shared_ptr<void> hold;
  ForeignArray array;
};

// A connection of the client group. Closed when nobody needs its memory any more: at once, but for
// moved arrays.
struct Client {
  ~Client() { coroipcc_disconnect(connection); }
  coroipcc_connection* connection = nullptr;
  std::shared_ptr<coroipcc_group> group;
  uint16_t service = 0;
  Lease leases[kChannels];
};

class EventLoop {
 public:
  // The JavaScript side of a loop; `Adopt` a server or a group before use. The arguments are
  // functions; `on_log` may be undefined.
  EventLoop(Environment& environment, napi_value on_batch, napi_value on_sent, napi_value on_log);
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  void AdoptServer(coroipcs_server* server) { server_ = server; }
  void AdoptGroup(coroipcc_group* group);
  // `context` of the group's options.
  GroupContext* group_context() const { return group_context_.get(); }
  // The core says something, from inside any call: kept until the end of the next turn.
  void Log(int level, const char* text);
  // `poll` of the server's options, for as long as the server lives. The value is a NativePoll.
  const coroipcs_poll* PollCallbacks(napi_value callbacks);
  // The object `Loop` of addon.ts; registers the loop.
  napi_value Value();
  // Forgets this loop and closes what is native, once nobody is inside. Twice is once.
  void Destroy();
  // Whoever calls the core with this loop is inside.
  void Hold() { holds_++; }
  void Unhold() {
    if (--holds_ == 0 && destroyed_) delete this;
  }

  Environment& environment() const { return environment_; }
  coroipcs_server* server() const { return server_; }
  coroipcc_group* group() const { return group_.get(); }
  bool destroyed() const { return destroyed_; }
  bool in_turn() const { return in_turn_; }

  int fd() const;
  coroipc_status Look(uint64_t budget_ns);
  void Disarm();
  coroipc_status Wait(int timeout_ms);
  // A wait that found something is followed by a turn that leaves looking and arming to the next
  // wait.
  void Waited() { waited_ = true; }
  bool TakeWaited() { return std::exchange(waited_, false); }
  // One turn. `scoped`: called by libuv, so that microtasks and ticks have to be run.
  coroipc_status Turn(bool look_at_fds, bool scoped);

  // Sends the outbox; returns how many rows failed.
  uint32_t Flush();
  // The same, and onSent if one failed: for whoever flushes without JavaScript having asked.
  void FlushAndTell(bool scoped = false);

  void SetSlab(napi_value slab);
  void SetLargeSlab(napi_value slab);
  // The size, a power of two, up to which (from half of it on) most bytes of large payloads came
  // since the large slab was set.
  uint32_t LargeSize() const;
  // Room for a payload that belongs to JavaScript; nothing if the slab was transferred away.
  struct Room {
    uint8_t* data;
    uint32_t bytes;
  };
  Room SlabRoom();
  // The payload that was written to SlabRoom: its offset.
  int32_t SlabTake(uint32_t bytes);

  int32_t& word(Word word) { return words_[word]; }

  // -- group --
  coroipcc_connection* connection(uint32_t number) const {
    return group_ == nullptr ? nullptr : coroipcc_connection_at(group_.get(), number);
  }
  void AddClient(coroipcc_connection* connection, uint16_t service);
  uint16_t ServiceOf(uint32_t number) const;
  void RemoveClient(uint32_t number);
  void SetLease(uint32_t number, Channel channel, const void* data, uint32_t bytes);
  Lease* LeaseOf(uint32_t number, uint32_t channel);
  void EndLease(uint32_t number, uint32_t channel);

 private:
  ~EventLoop();
  napi_value TypedArray(napi_typedarray_type type, size_t bytes, size_t length, void** data,
                        napi_ref* reference);
  void Call(napi_ref function, bool scoped, size_t count, const napi_value* arguments,
            bool flush = false);
  coroipc_status Receive(bool look_at_fds);
  Room RoomIn(napi_ref slab, uint32_t slab_bytes, Word position);
  uint32_t Keep(napi_ref& reference, napi_value slab);
  void NotePlaces();
  void NoteLarge(const coroipc_entry& row);
  napi_value Blocks();
  void TellLog(bool scoped);
  int CallPoll(const char* name, int fd, const int* events, uint64_t cookie);

  Environment& environment_;
  coroipcs_server* server_ = nullptr;
  std::shared_ptr<GroupContext> group_context_;
  std::shared_ptr<coroipcc_group> group_;
  int32_t handle_ = -1;
  uint32_t holds_ = 0;
  bool in_turn_ = false;
  bool flushing_ = false;
  bool waited_ = false;
  bool destroyed_ = false;

  // Memory of ArrayBuffers that the references below keep.
  coroipc_entry* table_ = nullptr;
  coroipc_entry* out_table_ = nullptr;
  uint8_t* outbox_ = nullptr;
  int32_t* words_ = nullptr;
  uint32_t slab_bytes_ = 0;
  uint32_t large_bytes_ = 0;
  uint64_t large_sizes_[32] = {};  // bytes, by the logarithm of the payload's size
  coroipc_batch batch_{};
  void* blocks_[kRows] = {};

  napi_ref table_ref_ = nullptr;
  napi_ref out_table_ref_ = nullptr;
  napi_ref outbox_ref_ = nullptr;
  napi_ref words_ref_ = nullptr;
  napi_ref slab_ref_ = nullptr;
  napi_ref large_ref_ = nullptr;
  napi_ref on_batch_ = nullptr;
  napi_ref on_sent_ = nullptr;
  napi_ref on_log_ = nullptr;
  napi_ref poll_ref_ = nullptr;
  napi_ref resource_ = nullptr;
  napi_async_context context_ = nullptr;

  struct LogLine {
    int level;
    std::string text;
  };
  std::vector<LogLine> log_lines_;
  coroipcs_poll poll_callbacks_{};
  std::unordered_map<uint32_t, std::shared_ptr<Client>> clients_;
};

// The loop that a handle names, held while this lives.
class HeldLoop {
 public:
  HeldLoop(Environment& environment, int32_t handle) {
    if (EventLoop** loop = environment.loops().At(handle)) {
      loop_ = *loop;
      loop_->Hold();
    }
  }
  ~HeldLoop() {
    if (loop_ != nullptr) loop_->Unhold();
  }
  HeldLoop(const HeldLoop&) = delete;
  HeldLoop& operator=(const HeldLoop&) = delete;
  explicit operator bool() const { return loop_ != nullptr; }
  EventLoop* operator->() const { return loop_; }
  EventLoop& operator*() const { return *loop_; }

 private:
  EventLoop* loop_ = nullptr;
};

}  // namespace coroipc_addon

#endif
