// event_loop.cc: see event_loop.h.
#include "event_loop.h"

#include <algorithm>
#include <bit>
#include <iterator>
#include <utility>

#include "poll.h"
#include "values.h"

namespace coroipc_addon {

namespace {

// Whoever keeps a payload keeps its slab: of the large one at most so many times its own size.
constexpr uint32_t kLargeShare = 64;
// So many fit into it at least. JavaScript brings the next one when less than that share is left:
// LARGEST_MESSAGES in native/lib/loop.ts has to be the same.
constexpr uint32_t kLargeLeast = 4;
// Larger ones have blocks of their own, and say nothing of the slab that others need.
constexpr uint32_t kLargeMost = 2u << 20;
// JavaScript has long been asked for a larger one.
constexpr int32_t kMissedEnough = 64 << 20;

constexpr uint32_t Aligned(uint32_t bytes) { return (bytes + 7u) & ~7u; }

void DeleteReference(napi_env env, napi_ref& reference) {
  if (reference != nullptr) napi_delete_reference(env, reference);
  reference = nullptr;
}

class HandleScope {
 public:
  explicit HandleScope(napi_env env) : env_(env) { napi_open_handle_scope(env, &scope_); }
  ~HandleScope() { napi_close_handle_scope(env_, scope_); }
  HandleScope(const HandleScope&) = delete;
  HandleScope& operator=(const HandleScope&) = delete;

 private:
  napi_env env_;
  napi_handle_scope scope_ = nullptr;
};

// The native lease of one channel; its end.
struct LeaseHold {
  ~LeaseHold() {
    if (channel == kResponse)
      coroipcc_response_release(client->connection);
    else
      coroipcc_dispatch_release(client->connection);
  }
  std::shared_ptr<Client> client;
  Channel channel;
};

}  // namespace

EventLoop::EventLoop(Environment& environment, napi_value on_batch, napi_value on_sent,
                     napi_value on_log)
    : environment_(environment),
      group_context_(std::make_shared<GroupContext>(GroupContext{&environment, this})) {
  napi_env env = environment_.env();
  napi_value name = nullptr;
  napi_value resource = nullptr;
  napi_create_string_utf8(env, "coroipc", NAPI_AUTO_LENGTH, &name);
  napi_create_object(env, &resource);
  napi_async_init(env, resource, name, &context_);
  napi_create_reference(env, resource, 1, &resource_);
  napi_create_reference(env, on_batch, 1, &on_batch_);
  napi_create_reference(env, on_sent, 1, &on_sent_);
  napi_valuetype type = napi_undefined;
  napi_typeof(env, on_log, &type);
  if (type == napi_function) napi_create_reference(env, on_log, 1, &on_log_);
}

EventLoop::~EventLoop() {
  napi_env env = environment_.env();
  group_context_->loop = nullptr;
  group_.reset();
  if (server_ != nullptr) coroipcs_destroy(server_);
  for (napi_ref* reference : {&table_ref_, &out_table_ref_, &outbox_ref_, &words_ref_, &slab_ref_,
                              &large_ref_, &on_batch_, &on_sent_, &on_log_, &poll_ref_, &resource_})
    DeleteReference(env, *reference);
  if (context_ != nullptr) napi_async_destroy(env, context_);
}

void EventLoop::AdoptGroup(coroipcc_group* group) {
  const auto destroy = [context = group_context_](coroipcc_group* made) {
    coroipcc_group_destroy(made);
  };
  group_ = std::shared_ptr<coroipcc_group>(group, destroy);
}

void EventLoop::Log(int level, const char* text) {
  if (on_log_ != nullptr && log_lines_.size() < kLogLines) log_lines_.push_back({level, text});
}

napi_value EventLoop::TypedArray(napi_typedarray_type type, size_t bytes, size_t length,
                                 void** data, napi_ref* reference) {
  napi_env env = environment_.env();
  napi_value buffer = nullptr;
  napi_value array = nullptr;
  if (napi_create_arraybuffer(env, bytes, data, &buffer) != napi_ok ||
      napi_create_typedarray(env, type, length, buffer, 0, &array) != napi_ok)
    return nullptr;
  napi_create_reference(env, buffer, 1, reference);
  return array;
}

napi_value EventLoop::Value() {
  napi_env env = environment_.env();
  const size_t row_bytes = kRows * sizeof(coroipc_entry);
  const size_t row_words = row_bytes / sizeof(int32_t);
  const auto as = [](auto*& pointer) { return reinterpret_cast<void**>(&pointer); };
  napi_value members[] = {
      TypedArray(napi_int32_array, row_bytes, row_words, as(table_), &table_ref_),
      TypedArray(napi_int32_array, kWords * sizeof(int32_t), kWords, as(words_), &words_ref_),
      TypedArray(napi_int32_array, row_bytes, row_words, as(out_table_), &out_table_ref_),
      TypedArray(napi_uint8_array, kOutboxBytes, kOutboxBytes, as(outbox_), &outbox_ref_),
  };
  static constexpr const char* kNames[] = {"table", "words", "outTable", "outbox"};
  napi_value value = nullptr;
  napi_value handle = nullptr;
  napi_create_object(env, &value);
  for (size_t i = 0; i < 4; i++) {
    if (members[i] == nullptr) return nullptr;
    napi_set_named_property(env, value, kNames[i], members[i]);
  }
  handle_ = environment_.loops().Add(this);
  if (handle_ < 0) return nullptr;
  napi_create_int32(env, handle_, &handle);
  napi_set_named_property(env, value, "handle", handle);
  batch_.entries = table_;
  batch_.blocks = blocks_;
  batch_.capacity = kRows;
  return value;
}

void EventLoop::Destroy() {
  if (destroyed_) return;
  Hold();
  destroyed_ = true;
  environment_.loops().Remove(handle_);
  if (environment_.has_poll()) environment_.poll()->Detach(*this);
  while (!clients_.empty()) RemoveClient(clients_.begin()->first);
  Unhold();
}

int EventLoop::fd() const {
  return server_ != nullptr ? coroipcs_fd(server_) : coroipcc_group_fd(group_.get());
}

coroipc_status EventLoop::Look(uint64_t budget_ns) {
  return server_ != nullptr ? coroipcs_look(server_, budget_ns)
                            : coroipcc_look(group_.get(), budget_ns);
}

void EventLoop::Disarm() {
  if (server_ != nullptr)
    coroipcs_disarm(server_);
  else
    coroipcc_disarm(group_.get());
}

coroipc_status EventLoop::Wait(int timeout_ms) {
  return server_ != nullptr ? coroipcs_wait(server_, timeout_ms)
                            : coroipcc_wait(group_.get(), timeout_ms);
}

// The slab is kept from now on, instead of the one before; its bytes.
uint32_t EventLoop::Keep(napi_ref& reference, napi_value slab) {
  napi_env env = environment_.env();
  void* data = nullptr;
  size_t bytes = 0;
  DeleteReference(env, reference);
  napi_create_reference(env, slab, 1, &reference);
  napi_get_arraybuffer_info(env, slab, &data, &bytes);
  return static_cast<uint32_t>(bytes);
}

void EventLoop::SetSlab(napi_value slab) {
  slab_bytes_ = Keep(slab_ref_, slab);
  words_[kSlabPosition] = 0;
}

void EventLoop::SetLargeSlab(napi_value slab) {
  large_bytes_ = Keep(large_ref_, slab);
  words_[kLargePosition] = words_[kLargeMissed] = 0;
  std::fill(std::begin(large_sizes_), std::end(large_sizes_), 0);
}

uint32_t EventLoop::LargeSize() const {
  const auto most = std::max_element(std::begin(large_sizes_), std::end(large_sizes_));
  return uint32_t{1} << (most - std::begin(large_sizes_));
}

void EventLoop::NoteLarge(const coroipc_entry& row) {
  if (row.bytes < COROIPC_BLOCK_BYTES || row.bytes > kLargeMost) return;
  large_sizes_[std::bit_width(row.bytes - 1)] += row.bytes;
  if (row.flags == COROIPC_IN_BLOCK && words_[kLargeMissed] < kMissedEnough)
    words_[kLargeMissed] += static_cast<int32_t>(row.bytes);
}

EventLoop::Room EventLoop::SlabRoom() { return RoomIn(slab_ref_, slab_bytes_, kSlabPosition); }

EventLoop::Room EventLoop::RoomIn(napi_ref slab, uint32_t slab_bytes, Word position) {
  napi_env env = environment_.env();
  napi_value value = nullptr;
  void* data = nullptr;
  size_t bytes = 0;
  if (slab == nullptr || napi_get_reference_value(env, slab, &value) != napi_ok ||
      napi_get_arraybuffer_info(env, value, &data, &bytes) != napi_ok)
    return {nullptr, 0};
  const uint32_t used = static_cast<uint32_t>(words_[position]);
  if (bytes < slab_bytes || used > slab_bytes) {
    // Transferred away: it looks full, so that JavaScript replaces it; until then payloads are
    // blocks.
    words_[position] = static_cast<int32_t>(slab_bytes);
    return {nullptr, 0};
  }
  return {static_cast<uint8_t*>(data) + used, slab_bytes - used};
}

int32_t EventLoop::SlabTake(uint32_t bytes) {
  const int32_t offset = words_[kSlabPosition];
  words_[kSlabPosition] = offset + static_cast<int32_t>(Aligned(bytes));
  return offset;
}

coroipc_status EventLoop::Receive(bool look_at_fds) {
  const Room room = SlabRoom();
  batch_.count = 0;
  batch_.arena = room.data;
  batch_.arena_bytes = room.bytes;
  batch_.arena_used = 0;
  const Room large = RoomIn(large_ref_, large_bytes_, kLargePosition);
  batch_.large = large.data;
  batch_.large_bytes = large.bytes;
  batch_.large_min = large_bytes_ / kLargeShare;
  batch_.large_max = large_bytes_ / kLargeLeast;
  batch_.large_used = 0;
  const coroipc_status status = server_ != nullptr
                                    ? coroipcs_receive(server_, &batch_, look_at_fds ? 1 : 0)
                                    : coroipcc_receive(group_.get(), &batch_, look_at_fds ? 1 : 0);
  // Also where nothing came but empty payloads: whoever turns memory back trusts their offsets.
  if (batch_.count == 0) return status;
  NotePlaces();
  return status;
}

// Where the payloads of a batch are, from the beginning of their slabs.
void EventLoop::NotePlaces() {
  const uint32_t start = static_cast<uint32_t>(SlabTake(batch_.arena_used));
  const uint32_t large = static_cast<uint32_t>(words_[kLargePosition]);
  for (uint32_t i = 0; i < batch_.count; i++) {
    coroipc_entry& row = table_[i];
    if (row.flags == COROIPC_IN_ARENA) {
      row.offset += start;
    } else if (row.flags == COROIPC_IN_LARGE) {
      row.offset += large;
      NoteLarge(row);
    } else if (row.flags == COROIPC_IN_BLOCK) {
      NoteLarge(row);
    }
  }
  words_[kLargePosition] += static_cast<int32_t>(Aligned(batch_.large_used));
}

// The blocks of a batch as ArrayBuffers, in row order; undefined if there are none.
napi_value EventLoop::Blocks() {
  napi_env env = environment_.env();
  napi_value list = nullptr;
  uint32_t count = 0;
  for (uint32_t i = 0; i < batch_.count; i++) {
    if (table_[i].flags != COROIPC_IN_BLOCK) continue;
    void* block = std::exchange(blocks_[i], nullptr);
    napi_value array = nullptr;
    // Smaller ones came as a block only because the slab was full: an external ArrayBuffer costs
    // more than the copy.
    if (table_[i].bytes >= COROIPC_BLOCK_BYTES) {
      const auto finalize = [](napi_env, void* data, void*) { coroipc_block_free(data); };
      array = ExternalArrayBuffer(env, block, table_[i].bytes, finalize, nullptr);
    }
    if (array == nullptr) {
      array = CopyToArrayBuffer(env, block, table_[i].bytes);
      coroipc_block_free(block);
    }
    if (list == nullptr) napi_create_array(env, &list);
    napi_set_element(env, list, count++, array);
  }
  return list != nullptr ? list : Undefined(env);
}

void EventLoop::Call(napi_ref function, bool scoped, size_t count, const napi_value* arguments,
                     bool flush) {
  napi_env env = environment_.env();
  napi_value callee = nullptr;
  napi_value resource = nullptr;
  napi_get_reference_value(env, function, &callee);
  if (scoped) napi_get_reference_value(env, resource_, &resource);
  environment_.Enter(scoped ? context_ : nullptr, resource, Undefined(env), callee, count,
                     arguments, flush ? this : nullptr);
}

// Outside of the batch: what a logger does must not move the slab that rows still point into.
void EventLoop::TellLog(bool scoped) {
  napi_env env = environment_.env();
  for (const LogLine& line : std::exchange(log_lines_, {})) {
    if (destroyed_) return;
    napi_value arguments[2];
    napi_create_int32(env, line.level, &arguments[0]);
    napi_create_string_utf8(env, line.text.c_str(), line.text.size(), &arguments[1]);
    Call(on_log_, scoped, 2, arguments);
  }
}

coroipc_status EventLoop::Turn(bool look_at_fds, bool scoped) {
  if (in_turn_ || destroyed_) return COROIPC_OK;
  Hold();
  in_turn_ = true;
  coroipc_status status = COROIPC_OK;
  {
    HandleScope scope(environment_.env());
    status = Receive(look_at_fds);
    if (batch_.count > 0) {
      napi_value arguments[2] = {nullptr, Blocks()};
      napi_create_uint32(environment_.env(), batch_.count, &arguments[0]);
      words_[kInBatch] = 1;
      Call(on_batch_, scoped, 2, arguments, true);
      words_[kInBatch] = 0;
      FlushAndTell(scoped);
    }
    if (!log_lines_.empty()) TellLog(scoped);
  }
  in_turn_ = false;
  if (destroyed_) status = COROIPC_OK;
  Unhold();
  return status;
}

uint32_t EventLoop::Flush() {
  // Poll callbacks may run JavaScript in here; what that queues goes out in the next round.
  if (flushing_) return 0;
  Hold();
  flushing_ = true;
  uint32_t sent = 0;
  uint32_t failed = 0;
  while (!destroyed_ && sent < kRows && sent < static_cast<uint32_t>(words_[kOutRows])) {
    uint32_t end = static_cast<uint32_t>(words_[kOutRows]);
    if (end > kRows) end = kRows;
    if (server_ != nullptr)
      coroipcs_send_batch(server_, out_table_ + sent, end - sent, outbox_);
    else
      coroipcc_send_batch(group_.get(), out_table_ + sent, end - sent, outbox_);
    for (; sent < end; sent++) failed += out_table_[sent].argument != COROIPC_OK;
  }
  words_[kOutRows] = 0;
  words_[kOutBytes] = 0;
  flushing_ = false;
  Unhold();
  return failed;
}

void EventLoop::FlushAndTell(bool scoped) {
  if (destroyed_ || words_[kOutRows] == 0) return;
  Hold();
  const int32_t rows = words_[kOutRows];
  if (Flush() > 0) {
    // Outside of a batch: what onSent sends is flushed by JavaScript's own microtask, and fails
    // there.
    HandleScope scope(environment_.env());
    const int32_t in_batch = std::exchange(words_[kInBatch], 0);
    napi_value count = nullptr;
    napi_create_int32(environment_.env(), rows, &count);
    Call(on_sent_, scoped, 1, &count);
    words_[kInBatch] = in_batch;
  }
  Unhold();
}

// -- group
// ----------------------------------------------------------------------------------------------------------

void EventLoop::AddClient(coroipcc_connection* connection, uint16_t service) {
  auto client = std::make_shared<Client>();
  client->connection = connection;
  client->group = group_;
  client->service = service;
  clients_[coroipcc_connection_number(connection)] = std::move(client);
}

uint16_t EventLoop::ServiceOf(uint32_t number) const {
  auto found = clients_.find(number);
  return found == clients_.end() ? 0 : found->second->service;
}

void EventLoop::RemoveClient(uint32_t number) {
  auto found = clients_.find(number);
  if (found == clients_.end()) return;
  for (uint32_t channel = 0; channel < kChannels; channel++) EndLease(number, channel);
  clients_.erase(found);
}

void EventLoop::SetLease(uint32_t number, Channel channel, const void* data, uint32_t bytes) {
  auto found = clients_.find(number);
  if (found == clients_.end()) return;
  Lease& lease = found->second->leases[channel];
  lease.data = data;
  lease.bytes = bytes;
  auto hold = std::make_shared<LeaseHold>();
  hold->client = found->second;
  hold->channel = channel;
  lease.hold = std::move(hold);
}

Lease* EventLoop::LeaseOf(uint32_t number, uint32_t channel) {
  auto found = clients_.find(number);
  if (found == clients_.end() || channel >= kChannels) return nullptr;
  Lease& lease = found->second->leases[channel];
  return lease.hold == nullptr ? nullptr : &lease;
}

void EventLoop::EndLease(uint32_t number, uint32_t channel) {
  Lease* lease = LeaseOf(number, channel);
  if (lease == nullptr) return;
  lease->array.Detach(environment_.env());
  lease->data = nullptr;
  lease->bytes = 0;
  lease->hold.reset();
}

// -- poll callbacks
// -------------------------------------------------------------------------------------------------

const coroipcs_poll* EventLoop::PollCallbacks(napi_value callbacks) {
  napi_create_reference(environment_.env(), callbacks, 1, &poll_ref_);
  poll_callbacks_.context = this;
  poll_callbacks_.accept_add = [](int fd, uint64_t cookie, void* context) {
    return static_cast<EventLoop*>(context)->CallPoll("acceptAdd", fd, nullptr, cookie);
  };
  poll_callbacks_.dispatch_add = [](int fd, int events, uint64_t cookie, void* context) {
    return static_cast<EventLoop*>(context)->CallPoll("dispatchAdd", fd, &events, cookie);
  };
  poll_callbacks_.dispatch_modify = [](int fd, int events, uint64_t cookie, void* context) {
    return static_cast<EventLoop*>(context)->CallPoll("dispatchModify", fd, &events, cookie);
  };
  poll_callbacks_.dispatch_destroy = [](int fd, uint64_t cookie, void* context) {
    static_cast<EventLoop*>(context)->CallPoll("dispatchDestroy", fd, nullptr, cookie);
  };
  return &poll_callbacks_;
}

int EventLoop::CallPoll(const char* name, int fd, const int* events, uint64_t cookie) {
  if (environment_.stopping()) return 0;
  napi_env env = environment_.env();
  HandleScope scope(env);
  napi_value callbacks = nullptr;
  napi_value function = nullptr;
  napi_value arguments[3];
  size_t count = 0;
  napi_create_int32(env, fd, &arguments[count++]);
  if (events != nullptr) napi_create_int32(env, *events, &arguments[count++]);
  napi_create_int64(env, static_cast<int64_t>(cookie), &arguments[count++]);
  if (napi_get_reference_value(env, poll_ref_, &callbacks) != napi_ok ||
      napi_get_named_property(env, callbacks, name, &function) != napi_ok)
    return -1;
  const bool done = environment_.Enter(nullptr, nullptr, callbacks, function, count, arguments);
  return done ? 0 : -1;
}

}  // namespace coroipc_addon
