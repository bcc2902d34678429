// server_callbacks.cc: turns rows of a batch into calls of the application's functions. No lock is
// held while one runs, so every function of the API may be called from inside.
#include "server_callbacks.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <new>
#include <vector>

#include "block.h"
#include "server.h"

namespace coroipc {

struct CallbackDriver {
  static constexpr uint32_t kRows = 256;
  static constexpr uint32_t kArenaBytes = 256u << 10;
  coroipc_entry rows[kRows];
  void* blocks[kRows];
  alignas(16) uint8_t arena[kArenaBytes];
  std::vector<coroipcs_connection*> busy;  // their `disconnected` said: call again
};

namespace {

constexpr uint32_t kBackoffMsMax = 1000;
constexpr size_t kScratchBytes = 512;

class Serialized {
 public:
  explicit Serialized(const coroipcs_callbacks& callbacks) : callbacks_(callbacks) {
    if (callbacks_.serialize_lock != nullptr) callbacks_.serialize_lock(callbacks_.context);
  }
  ~Serialized() {
    if (callbacks_.serialize_unlock != nullptr) callbacks_.serialize_unlock(callbacks_.context);
  }
  Serialized(const Serialized&) = delete;
  Serialized& operator=(const Serialized&) = delete;

 private:
  const coroipcs_callbacks& callbacks_;
};

void HandleRequest(const coroipcs_callbacks& callbacks, coroipcs_connection* connection,
                   const coroipc_entry& row, const void* payload) {
  coroipcs_request request = {};
  request.service = coroipcs_connection_service(connection);
  request.id = static_cast<uint16_t>(row.id);
  request.one_way = row.kind == COROIPC_KIND_SEND;
  request.correlation = row.correlation;
  request.timeout_ms = row.argument;
  request.payload = payload;
  request.bytes = row.bytes;
  request.in_segment = row.flags == COROIPC_IN_SEGMENT ? 1 : 0;
  request.segment = row.segment;
  const Serialized serialized(callbacks);
  const auto refuse = [&](Status code) {
    if (request.one_way == 0)
      coroipcs_response_send(connection, request.correlation, code, 0, nullptr, 0);
  };
  const coroipcs_handler_fn handler =
      callbacks.handler_get == nullptr
          ? nullptr
          : callbacks.handler_get(connection, request.service, request.id, callbacks.context);
  if (handler == nullptr) {
    refuse(COROIPC_NO_HANDLER);
    return;
  }
  int allowed = 1;
  alignas(std::max_align_t) uint8_t scratch[kScratchBytes];
  if (callbacks.sending_allowed != nullptr || callbacks.sending_allowed_release != nullptr)
    std::memset(scratch, 0, sizeof scratch);
  if (callbacks.sending_allowed != nullptr)
    allowed = callbacks.sending_allowed(connection, &request, scratch, callbacks.context);
  if (allowed > 0) {
    handler(connection, &request, callbacks.context);
  } else {
    refuse(allowed == 0 ? COROIPC_RETRY : COROIPC_REFUSED);
  }
  if (callbacks.sending_allowed_release != nullptr) {
    callbacks.sending_allowed_release(connection, scratch, callbacks.context);
  }
}

// True when the connection's resources may go.
bool RunDisconnected(const coroipcs_callbacks& callbacks, coroipcs_connection* connection,
                     Status why) {
  if (callbacks.disconnected == nullptr) return true;
  const Serialized serialized(callbacks);
  return callbacks.disconnected(connection, why, callbacks.context) == 0;
}

// The driver's reference, whatever the application still holds or has given back.
void ReleaseOwn(coroipcs_connection* connection) {
  {
    Loop::Guard guard(connection->server);
    connection->own_released = true;
  }
  coroipcs_connection_release(connection);
}

void Postpone(coroipcs_server& server, coroipcs_connection* connection) {
  Loop::Guard guard(server);
  connection->disconnect_retry_ns = NowNs() + connection->disconnect_backoff_ms * kMillisecond;
  connection->disconnect_backoff_ms =
      std::min(connection->disconnect_backoff_ms * 2, kBackoffMsMax);
  server.DeadlineAt(connection->disconnect_retry_ns);
}

void HandleRow(coroipcs_server& server, const coroipc_entry& row, void* block) {
  const coroipcs_callbacks& callbacks = server.options.callbacks;
  coroipcs_connection* const connection = coroipcs_connection_at(&server, row.connection);
  if (connection == nullptr) return;
  switch (row.kind) {
    case COROIPC_KIND_REQUEST:
    case COROIPC_KIND_SEND: {
      const void* payload = server.driver->arena + row.offset;
      if (row.flags == COROIPC_IN_BLOCK) payload = block;
      coroipc_buffer* buffer = nullptr;
      if (row.flags == COROIPC_IN_SEGMENT) {
        if (coroipcs_buffer_get(connection, row.segment, &buffer) != COROIPC_OK) return;
        payload = static_cast<const uint8_t*>(coroipc_buffer_data(buffer)) + row.offset;
      }
      HandleRequest(callbacks, connection, row, payload);
      coroipc_buffer_release(buffer);
      return;
    }
    case COROIPC_KIND_AUTHORIZE: {
      const Status verdict =
          callbacks.authorize(connection, coroipcs_connection_credentials(connection),
                              static_cast<uint16_t>(row.id), callbacks.context);
      if (verdict == COROIPC_AGAIN) return;
      coroipcs_authorize(connection, verdict == COROIPC_OK ? COROIPC_OK : COROIPC_DENIED, 0);
      return;
    }
    case COROIPC_KIND_CONNECTED:
      if (callbacks.connected != nullptr) {
        const Serialized serialized(callbacks);
        callbacks.connected(connection, callbacks.context);
      }
      return;
    case COROIPC_KIND_DISCONNECTED:
      if (RunDisconnected(callbacks, connection, static_cast<Status>(row.argument))) {
        ReleaseOwn(connection);
      } else {
        server.driver->busy.push_back(connection);
        Postpone(server, connection);
      }
      return;
    case COROIPC_KIND_DRAIN:
      if (callbacks.drain != nullptr) callbacks.drain(connection, callbacks.context);
      return;
    case COROIPC_KIND_CANCEL:
      if (callbacks.cancelled != nullptr)
        callbacks.cancelled(connection, row.correlation, callbacks.context);
      return;
    default:
      return;
  }
}

void RetryBusy(coroipcs_server& server) {
  std::vector<coroipcs_connection*>& busy = server.driver->busy;
  if (busy.empty()) return;
  const uint64_t now = NowNs();
  for (size_t i = 0; i < busy.size();) {
    coroipcs_connection* const connection = busy[i];
    if (connection->disconnect_retry_ns > now) {
      ++i;
    } else if (RunDisconnected(server.options.callbacks, connection, connection->status())) {
      busy.erase(busy.begin() + static_cast<std::ptrdiff_t>(i));
      ReleaseOwn(connection);
    } else {
      Postpone(server, connection);
      ++i;
    }
  }
}

// One turn: AGAIN when there is more.
Status OneTurn(coroipcs_server& server, bool look_at_fds) {
  if (server.driver == nullptr) {
    server.driver = new (std::nothrow) CallbackDriver;
    if (server.driver == nullptr) return COROIPC_NO_MEMORY;
  }
  CallbackDriver& driver = *server.driver;
  coroipc_batch batch = {};
  batch.entries = driver.rows;
  batch.blocks = driver.blocks;
  batch.capacity = CallbackDriver::kRows;
  batch.arena = driver.arena;
  batch.arena_bytes = CallbackDriver::kArenaBytes;
  const Status status = server.Receive(&batch, look_at_fds);
  for (uint32_t i = 0; i < batch.count; ++i) {
    HandleRow(server, driver.rows[i], driver.blocks[i]);
    BlockFree(driver.blocks[i]);
  }
  RetryBusy(server);
  return status;
}

}  // namespace

void DeleteCallbackDriver(CallbackDriver* driver) { delete driver; }

void CallbackTimer(coroipcs_server& server, uint64_t now_ns) {
  (void)now_ns;
  for (const coroipcs_connection* connection : server.driver->busy) {
    server.DeadlineAt(connection->disconnect_retry_ns);
  }
}

}  // namespace coroipc

extern "C" {

coroipc_status coroipcs_process(struct coroipcs_server* server, uint32_t max_ms) {
  const uint64_t end = coroipc::NowNs() + max_ms * coroipc::kMillisecond;
  for (int turn = 1;; ++turn) {
    const coroipc_status status = coroipc::OneTurn(*server, turn == 1);
    if (status != COROIPC_OK && status != COROIPC_AGAIN) return status;
    if (status == COROIPC_OK && server->Look(0) == COROIPC_OK) return COROIPC_OK;
    // The first turn leaves the doorbell of what it took (Connection::LeaveSocketForLater). Coming
    // back for that alone would cost an event, a poll and another round of the caller's loop.
    if (turn > 1 && coroipc::NowNs() >= end) {
      (void)server->Look(0);  // leaves the fd readable when there is more
      return COROIPC_AGAIN;
    }
  }
}

coroipc_status coroipcs_run(struct coroipcs_server* server) {
  if (server->fd() < 0) return COROIPC_INVALID_ARGUMENT;  // the application polls
  bool slept = true;
  while (!server->stopped.load(std::memory_order_seq_cst)) {
    const coroipc_status status = coroipc::OneTurn(*server, slept);
    slept = false;
    if (status == COROIPC_AGAIN) continue;
    if (status != COROIPC_OK) return status;
    if (server->Look(UINT64_MAX) == COROIPC_AGAIN) continue;
    // The turn may have taken the wake of a stop that came after the look at it above.
    if (server->stopped.load(std::memory_order_seq_cst)) break;
    server->Sleep(-1);
    slept = true;
  }
  server->stopped.store(false, std::memory_order_seq_cst);
  return COROIPC_OK;
}

void coroipcs_stop(struct coroipcs_server* server) {
  server->stopped.store(true, std::memory_order_seq_cst);
  server->Wake();
}

}  // extern "C"
