// client_api.cc: coroipcc_* but for the calls that wait: locks, checks, and calls the objects of
// client.h.
#include <cstring>
#include <new>

#include "client.h"
#include "socket.h"

using coroipc::Connection;
using coroipc::Owner;
using coroipc::Status;
using coroipc::Wants;

namespace {
using Guard = coroipc::Loop::Guard;

Status Validate(const char* name, const coroipcc_options* options) {
  if (name == nullptr || options == nullptr || options->struct_bytes != sizeof *options)
    return COROIPC_INVALID_ARGUMENT;
  return COROIPC_OK;
}

Status NewConnection(coroipcc_group* group, const char* name, const coroipcc_options* options,
                     coroipcc_connection** connection) {
  coroipcc_group* owned = nullptr;
  if (group == nullptr) {
    coroipcc_group_options standard;
    coroipcc_group_options_init(&standard);
    standard.wait = options->wait;
    if (const Status status = coroipcc_group_create(&standard, &owned); status != COROIPC_OK)
      return status;
    owned->owned = true;
    group = owned;
  }
  group->Lock();
  auto* made = new (std::nothrow) coroipcc_connection(*group, *options, name);
  group->Unlock();
  if (made == nullptr) {
    coroipcc_group_destroy(owned);
    return COROIPC_NO_MEMORY;
  }
  if (made->options.timeout_ms == 0) made->options.timeout_ms = 30000;
  if (made->options.inbox_bytes == 0) made->options.inbox_bytes = 4u << 20;
  if (made->options.queue_bytes == 0) made->options.queue_bytes = 4u << 20;
  *connection = made;
  return COROIPC_OK;
}

}  // namespace

extern "C" {

void coroipcc_group_options_init(struct coroipcc_group_options* options) {
  *options = {};
  options->struct_bytes = sizeof *options;
  options->threads = 1;
}

void coroipcc_options_init(struct coroipcc_options* options) {
  *options = {};
  options->struct_bytes = sizeof *options;
}

coroipc_status coroipcc_address(const char* name, uint32_t candidate, char* address,
                                uint32_t address_bytes) {
  coroipc::Address found;
  if (const Status status = coroipc::ResolveConnect(name, candidate, &found); status != COROIPC_OK)
    return status;
  if (address == nullptr || found.text.size() >= address_bytes) return COROIPC_INVALID_ARGUMENT;
  std::memcpy(address, found.text.c_str(), found.text.size() + 1);
  return COROIPC_OK;
}

coroipc_status coroipcc_group_create(const struct coroipcc_group_options* options,
                                     struct coroipcc_group** group) {
  if (options == nullptr || group == nullptr || options->struct_bytes != sizeof *options) {
    return COROIPC_INVALID_ARGUMENT;
  }
  auto* made = new (std::nothrow) coroipcc_group;
  if (made == nullptr) return COROIPC_NO_MEMORY;
  if (const Status status = made->Setup(*options); status != COROIPC_OK) {
    delete made;
    return status;
  }
  *group = made;
  return COROIPC_OK;
}

void coroipcc_group_destroy(struct coroipcc_group* group) {
  if (group == nullptr || group->forked()) return;  // the parent's: not ours to touch
  group->Lock();
  for (size_t i = 0; i < group->connections().size(); ++i) {
    Connection* const connection = group->connections()[i];
    if (connection == nullptr) continue;
    auto* client = static_cast<coroipcc_connection*>(connection);
    for (uint32_t channel = 0; channel < 2; ++channel) (void)client->ReleaseLease(channel);
    client->Disconnect();
  }
  group->Unlock();
  delete group;
}

void coroipcc_disconnect(struct coroipcc_connection* connection) {
  if (connection == nullptr || connection->forked()) return;  // the parent's: not ours to touch
  coroipcc_group& group = connection->group;
  group.Lock();
  connection->Disconnect();
  const bool last = group.owned && group.objects == 0;
  if (!last) group.FreeNow();
  group.Unlock();
  if (last) delete &group;
}

struct coroipcc_group* coroipcc_connection_group(struct coroipcc_connection* connection) {
  return &connection->group;
}
uint32_t coroipcc_connection_number(const struct coroipcc_connection* connection) {
  return connection->number();
}

struct coroipcc_connection* coroipcc_connection_at(struct coroipcc_group* group, uint32_t number) {
  Guard guard(*group);
  return static_cast<coroipcc_connection*>(group->at(number));
}

uint64_t coroipcc_connection_id(const struct coroipcc_connection* connection) {
  return connection->id();
}
uint64_t coroipcc_server_id(const struct coroipcc_connection* connection) {
  return connection->server_id();
}
const struct coroipc_credentials* coroipcc_server_credentials(
    const struct coroipcc_connection* connection) {
  return &connection->credentials().view();
}
uint32_t coroipcc_message_bytes(const struct coroipcc_connection* connection) {
  return connection->message_bytes();
}
uint32_t coroipcc_requests_in_flight(const struct coroipcc_connection* connection) {
  return connection->requests_in_flight();
}
int coroipcc_flow_control(const struct coroipcc_connection* connection) {
  if (connection->forked()) return 0;
  Guard guard(connection->group);
  return connection->flow_control();
}
coroipc_status coroipcc_state(const struct coroipcc_connection* connection) {
  if (connection->forked()) return COROIPC_FORKED;
  Guard guard(connection->group);
  return connection->status();
}
uint32_t coroipcc_peer_version(void) { return coroipc::PeerVersion(); }

coroipc_status coroipcc_stats(struct coroipcc_connection* connection, struct coroipc_stats* stats,
                              int clear) {
  Guard guard(connection->group);
  connection->Stats(stats, clear != 0);
  return COROIPC_OK;
}

coroipc_status coroipcc_connect_start(struct coroipcc_group* group, const char* name,
                                      const struct coroipcc_options* options, int32_t timeout_ms,
                                      struct coroipcc_connection** connection) {
  if (const Status status = Validate(name, options); status != COROIPC_OK) return status;
  coroipcc_connection* made = nullptr;
  if (const Status status = NewConnection(group, name, options, &made); status != COROIPC_OK)
    return status;
  Guard guard(made->group);
  const Status status =
      made->BeginConnect(timeout_ms < 0 ? made->options.timeout_ms : timeout_ms, false);
  if (status != COROIPC_OK) made->End(status);  // CONNECT_FAILED says it, like every later failure
  made->group.Wake();
  *connection = made;
  return COROIPC_OK;
}

coroipc_status coroipcc_connect(struct coroipcc_group* group, const char* name,
                                const struct coroipcc_options* options, int32_t timeout_ms,
                                struct coroipcc_connection** connection) {
  if (const Status status = Validate(name, options); status != COROIPC_OK) return status;
  coroipcc_connection* made = nullptr;
  if (const Status status = NewConnection(group, name, options, &made); status != COROIPC_OK)
    return status;
  made->group.Lock();
  Status status = made->BeginConnect(timeout_ms < 0 ? made->options.timeout_ms : timeout_ms, true);
  if (status == COROIPC_OK) status = made->FinishBlocking();
  made->group.Unlock();
  if (status != COROIPC_OK) {
    coroipcc_disconnect(made);
    return status;
  }
  *connection = made;
  return COROIPC_OK;
}

coroipc_status coroipcc_request_send(struct coroipcc_connection* connection, uint16_t id,
                                     const struct iovec* payload, uint32_t count,
                                     uint32_t timeout_ms, uint32_t* correlation) {
  uint32_t bytes = 0;
  if (connection->forked()) return COROIPC_FORKED;
  if (!coroipc::GatherBytes(payload, count, &bytes)) return COROIPC_TOO_LARGE;
  Guard guard(connection->group);
  if (connection->QueueFull()) {
    connection->WantRoom();
    return COROIPC_FULL;
  }
  const Status status = connection->SendRequest(id, payload, count, bytes, nullptr, 0, timeout_ms,
                                                UINT32_MAX, Wants::kRow, nullptr, correlation);
  if (connection->phase() == Connection::Phase::kOpen) connection->PublishOut();
  return status;
}

coroipc_status coroipcc_request_send_buffer(struct coroipcc_connection* connection, uint16_t id,
                                            struct coroipc_buffer* buffer, uint32_t offset,
                                            uint32_t bytes, uint32_t timeout_ms,
                                            uint32_t* correlation) {
  if (connection->forked()) return COROIPC_FORKED;
  if (buffer == nullptr) return COROIPC_INVALID_ARGUMENT;
  Guard guard(connection->group);
  const Status status = connection->SendRequest(id, nullptr, 0, bytes, buffer, offset, timeout_ms,
                                                UINT32_MAX, Wants::kRow, nullptr, correlation);
  if (connection->phase() == Connection::Phase::kOpen) connection->PublishOut();
  return status;
}

coroipc_status coroipcc_send(struct coroipcc_connection* connection, uint16_t id,
                             const struct iovec* payload, uint32_t count) {
  uint32_t bytes = 0;
  if (connection->forked()) return COROIPC_FORKED;
  if (!coroipc::GatherBytes(payload, count, &bytes)) return COROIPC_TOO_LARGE;
  Guard guard(connection->group);
  const Status status = connection->SendOneWay(id, payload, count, bytes, false);
  if (connection->phase() == Connection::Phase::kOpen) connection->PublishOut();
  return status;
}

coroipc_status coroipcc_cancel(struct coroipcc_connection* connection, uint32_t correlation) {
  if (connection->forked()) return COROIPC_FORKED;
  Guard guard(connection->group);
  const Status status = connection->Cancel(coroipc::SlotOf(correlation), correlation, false);
  if (connection->phase() == Connection::Phase::kOpen) connection->PublishOut();
  return status;
}

uint32_t coroipcc_given_up(const struct coroipcc_connection* connection) {
  if (connection->forked()) return 0;
  Guard guard(connection->group);
  return connection->given_up();
}

coroipc_status coroipcc_buffer_alloc_start(struct coroipcc_connection* connection, uint32_t bytes,
                                           uint32_t* correlation) {
  if (connection->forked()) return COROIPC_FORKED;
  Guard guard(connection->group);
  const Status status = connection->WantBuffer(bytes, Wants::kBufferRow, nullptr, correlation);
  if (connection->phase() == Connection::Phase::kOpen) connection->PublishOut();
  return status;
}

static Status SendRow(coroipcc_connection* connection, coroipc_entry& row,
                      const struct iovec* payload, uint32_t count, uint32_t bytes) {
  uint32_t correlation = 0;
  switch (row.kind) {
    case COROIPC_KIND_REQUEST:
      return connection->SendRequest(static_cast<uint16_t>(row.id), payload, count, bytes, nullptr,
                                     0, row.argument, row.correlation, Wants::kRow, nullptr,
                                     &correlation);
    case COROIPC_KIND_SEND:
      return connection->SendOneWay(static_cast<uint16_t>(row.id), payload, count, bytes, true);
    case COROIPC_KIND_CANCEL:
      return connection->Cancel(row.correlation, 0, true);
    default:
      return COROIPC_INVALID_ARGUMENT;
  }
}

void coroipcc_send_batch(struct coroipcc_group* group, struct coroipc_entry* entries,
                         uint32_t count, const uint8_t* arena) {
  if (group->forked()) {
    for (uint32_t i = 0; i < count; ++i) entries[i].argument = COROIPC_FORKED;
    return;
  }
  Guard guard(*group);
  coroipcc_connection* touched[64];
  uint32_t touched_count = 0;
  const auto publish = [&] {
    for (uint32_t i = 0; i < touched_count; ++i) {
      touched[i]->touched = false;
      if (touched[i]->phase() == Connection::Phase::kOpen) touched[i]->PublishOut();
    }
    touched_count = 0;
  };
  for (uint32_t i = 0; i < count; ++i) {
    coroipc_entry& row = entries[i];
    auto* connection = static_cast<coroipcc_connection*>(group->at(row.connection));
    if (connection == nullptr) {
      row.argument = COROIPC_DISCONNECTED;
      continue;
    }
    if (!connection->touched) {
      if (touched_count == 64) publish();
      connection->touched = true;
      touched[touched_count++] = connection;
    }
    const struct iovec part = {const_cast<uint8_t*>(arena) + row.offset, row.bytes};
    row.argument = static_cast<uint32_t>(SendRow(connection, row, &part, 1, row.bytes));
  }
  publish();
}

coroipc_status coroipcc_send_row(struct coroipcc_connection* connection, struct coroipc_entry* row,
                                 const struct iovec* payload, uint32_t count) {
  uint32_t bytes = 0;
  if (connection->forked()) return COROIPC_FORKED;
  if (!coroipc::GatherBytes(payload, count, &bytes)) return COROIPC_TOO_LARGE;
  Guard guard(connection->group);
  const Status status = SendRow(connection, *row, payload, count, bytes);
  if (connection->phase() == Connection::Phase::kOpen) connection->PublishOut();
  return status;
}

coroipc_status coroipcc_send_row_buffer(struct coroipcc_connection* connection,
                                        struct coroipc_entry* row, struct coroipc_buffer* buffer,
                                        uint32_t offset, uint32_t bytes) {
  if (connection->forked()) return COROIPC_FORKED;
  if (buffer == nullptr || row->kind != COROIPC_KIND_REQUEST) return COROIPC_INVALID_ARGUMENT;
  Guard guard(connection->group);
  uint32_t correlation = 0;
  const Status status =
      connection->SendRequest(static_cast<uint16_t>(row->id), nullptr, 0, bytes, buffer, offset,
                              row->argument, row->correlation, Wants::kRow, nullptr, &correlation);
  if (connection->phase() == Connection::Phase::kOpen) connection->PublishOut();
  return status;
}

int coroipcc_group_fd(const struct coroipcc_group* group) { return group->fd(); }
coroipc_status coroipcc_receive(struct coroipcc_group* group, struct coroipc_batch* batch,
                                int look_at_fds) {
  return group->Receive(batch, look_at_fds != 0);
}
coroipc_status coroipcc_look(struct coroipcc_group* group, uint64_t budget_ns) {
  return group->Look(budget_ns);
}
void coroipcc_disarm(struct coroipcc_group* group) { group->DisarmRecent(); }
coroipc_status coroipcc_wait(struct coroipcc_group* group, int timeout_ms) {
  return group->Wait(timeout_ms);
}

int coroipcc_fd(struct coroipcc_connection* connection) {
  if (connection->forked()) return -1;
  Guard guard(connection->group);
  return connection->PollFd();
}

void coroipcc_dispatch_flow(struct coroipcc_connection* connection, int on) {
  if (connection->forked()) return;
  Guard guard(connection->group);
  connection->SetDispatchFlow(on != 0);
}

coroipc_status coroipcc_buffer_get(struct coroipcc_connection* connection, uint32_t segment,
                                   struct coroipc_buffer** buffer) {
  Guard guard(connection->group);
  coroipc_buffer* const found = connection->buffer(segment);
  if (found == nullptr || found->owner != Owner::kUsed) return COROIPC_INVALID_ARGUMENT;
  found->AddUser();
  *buffer = found;
  return COROIPC_OK;
}

}  // extern "C"
