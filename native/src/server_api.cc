// server_api.cc: coroipcs_*: locks, checks what a C program may get wrong, and calls the objects of
// server.h.
#include <new>
#include <utility>

#include "server.h"

using coroipc::Connection;
using coroipc::NowNs;
using coroipc::Owner;
using coroipc::Status;

namespace {
using Guard = coroipc::Loop::Guard;
}

extern "C" {

void coroipcs_options_init(struct coroipcs_options* options) {
  *options = {};
  options->struct_bytes = sizeof *options;
  options->threads = 1;
}

void coroipcs_service_options_init(struct coroipcs_service_options* options) {
  *options = {};
  options->struct_bytes = sizeof *options;
  options->priority = COROIPCS_PRIORITY_NORMAL;
}

coroipc_status coroipcs_create(const struct coroipcs_options* options,
                               struct coroipcs_server** server) {
  if (options == nullptr || server == nullptr || options->struct_bytes != sizeof *options) {
    return COROIPC_INVALID_ARGUMENT;
  }
  auto* made = new (std::nothrow) coroipcs_server;
  if (made == nullptr) return COROIPC_NO_MEMORY;
  const Status status = made->Setup(*options);
  if (status != COROIPC_OK) {
    delete made;
    return status;
  }
  *server = made;
  return COROIPC_OK;
}

coroipc_status coroipcs_listen(struct coroipcs_server* server, const char* name) {
  if (name == nullptr) return COROIPC_INVALID_ARGUMENT;
  Guard guard(*server);
  if (server->listening) return COROIPC_INVALID_ARGUMENT;
  coroipc::Address address;
  if (const Status status = coroipc::ResolveListen(name, &address); status != COROIPC_OK)
    return status;
  if (const Status status = server->listener.Open(address); status != COROIPC_OK) return status;
  return server->StartListening();
}

coroipc_status coroipcs_listen_fd(struct coroipcs_server* server, int fd) {
  Guard guard(*server);
  if (server->listening) return COROIPC_INVALID_ARGUMENT;
  if (const Status status = server->listener.Adopt(fd); status != COROIPC_OK) return status;
  return server->StartListening();
}

coroipc_status coroipcs_listen_inherited(struct coroipcs_server* server, int fd, int lock_fd) {
  Guard guard(*server);
  if (server->listening) return COROIPC_INVALID_ARGUMENT;
  if (const Status status = server->listener.Inherit(fd, lock_fd); status != COROIPC_OK)
    return status;
  return server->StartListening();
}

coroipc_status coroipcs_listen_fds(const struct coroipcs_server* server, int fds[2]) {
  if (!server->listening) return COROIPC_INVALID_ARGUMENT;
  fds[0] = server->listener.fd();
  fds[1] = server->listener.lock();
  return COROIPC_OK;
}

coroipc_status coroipcs_listen_leave(struct coroipcs_server* server) {
  if (server->forked()) return COROIPC_FORKED;
  Guard guard(*server);
  server->StopListening(true);
  return COROIPC_OK;
}

coroipc_status coroipcs_adopt(struct coroipcs_server* server, int fd) {
  coroipc::Fd peer(fd);
  if (server->forked()) return COROIPC_FORKED;
  Guard guard(*server);
  server->Admit(std::move(peer));
  server->Wake();
  return COROIPC_OK;
}

const char* coroipcs_address(const struct coroipcs_server* server) {
  return server->listener.text().c_str();
}

coroipc_status coroipcs_listen_stop(struct coroipcs_server* server) {
  if (server->forked()) return COROIPC_FORKED;
  Guard guard(*server);
  server->StopListening();
  return COROIPC_OK;
}

coroipc_status coroipcs_close(struct coroipcs_server* server) {
  if (server->forked()) return COROIPC_FORKED;
  Guard guard(*server);
  server->StopListening();
  server->EndAll(COROIPC_DISCONNECTED);
  server->Wake();  // their rows can be received now
  return COROIPC_OK;
}

void coroipcs_destroy(struct coroipcs_server* server) {
  if (server == nullptr || server->forked()) return;  // the parent's: not ours to end
  server->Lock();
  server->StopListening();
  server->EndAll(COROIPC_DISCONNECTED);
  server->destroyed = true;
  const bool keep = server->objects != 0;
  if (!keep) {
    server->Unlock();
    delete server;
    return;
  }
  // The application's own reference of each goes now; what hold() took stays.
  ++server->objects;
  for (size_t i = 0; i < server->connections().size(); ++i) {
    Connection* const connection = server->connections()[i];
    if (connection == nullptr) continue;
    auto* const held = static_cast<coroipcs_connection*>(connection);
    if (!held->own_released) held->Release();
  }
  const bool last = --server->objects == 0;
  server->Unlock();
  if (last) delete server;
}

coroipc_status coroipcs_service_add(struct coroipcs_server* server, uint16_t service,
                                    const struct coroipcs_service_options* options) {
  struct coroipcs_service_options standard;
  coroipcs_service_options_init(&standard);
  if (options == nullptr) options = &standard;
  if (options->struct_bytes != sizeof *options || options->policy < 0 ||
      options->policy > COROIPCS_POLICY_DISCONNECT || options->priority < 0 ||
      options->priority > COROIPCS_PRIORITY_HIGH) {
    return COROIPC_INVALID_ARGUMENT;
  }
  Guard guard(*server);
  coroipc::Service& entry = server->services[service];
  if (entry.added) return COROIPC_INVALID_ARGUMENT;
  entry.options = *options;
  entry.added = true;
  return COROIPC_OK;
}

int coroipcs_service_close(struct coroipcs_server* server, uint16_t service) {
  if (server->forked()) return -1;
  Guard guard(*server);
  const auto found = server->services.find(service);
  if (found == server->services.end()) return 0;
  found->second.added = false;
  for (size_t i = 0; i < server->connections().size(); ++i) {
    Connection* const base = server->connections()[i];
    if (base == nullptr || base->phase() != Connection::Phase::kOpen) continue;
    auto* connection = static_cast<coroipcs_connection*>(base);
    if (connection->service() != service) continue;
    connection->FlushNow();
    if (connection->phase() == Connection::Phase::kOpen) connection->End(COROIPC_DISCONNECTED);
  }
  server->Wake();
  if (found->second.connections != 0) return -1;
  server->services.erase(found);
  return 0;
}

int coroipcs_fd(const struct coroipcs_server* server) { return server->fd(); }

coroipc_status coroipcs_receive(struct coroipcs_server* server, struct coroipc_batch* batch,
                                int look_at_fds) {
  return server->Receive(batch, look_at_fds != 0);
}
coroipc_status coroipcs_look(struct coroipcs_server* server, uint64_t budget_ns) {
  return server->Look(budget_ns);
}
void coroipcs_disarm(struct coroipcs_server* server) { server->DisarmRecent(); }
coroipc_status coroipcs_wait(struct coroipcs_server* server, int timeout_ms) {
  return server->Wait(timeout_ms);
}

coroipc_status coroipcs_handler_accept(struct coroipcs_server* server, uint64_t cookie) {
  return server->Ready(cookie, 0);
}
coroipc_status coroipcs_handler_dispatch(struct coroipcs_server* server, uint64_t cookie,
                                         int revents) {
  return server->Ready(cookie, static_cast<uint32_t>(revents));
}

struct coroipcs_connection* coroipcs_connection_at(struct coroipcs_server* server,
                                                   uint32_t number) {
  Guard guard(*server);
  return static_cast<coroipcs_connection*>(server->at(number));
}

static coroipcs_connection* NextOpen(struct coroipcs_server* server, size_t from) {
  for (size_t i = from; i < server->connections().size(); ++i) {
    Connection* const base = server->connections()[i];
    if (base == nullptr || base->phase() != Connection::Phase::kOpen) continue;
    auto* connection = static_cast<coroipcs_connection*>(base);
    ++connection->holders;
    return connection;
  }
  return nullptr;
}

struct coroipcs_connection* coroipcs_connection_first(struct coroipcs_server* server) {
  Guard guard(*server);
  return NextOpen(server, 0);
}

struct coroipcs_connection* coroipcs_connection_next(struct coroipcs_server* server,
                                                     struct coroipcs_connection* previous) {
  Guard guard(*server);
  return NextOpen(server, size_t{previous->number()} + 1);
}

coroipc_status coroipcs_authorize(struct coroipcs_connection* connection, coroipc_status verdict,
                                  int trusted) {
  Guard guard(connection->server);
  return connection->Verdict(verdict, trusted != 0);
}

void coroipcs_connection_hold(struct coroipcs_connection* connection) {
  Guard guard(connection->server);
  ++connection->holders;
}

void coroipcs_connection_release(struct coroipcs_connection* connection) {
  coroipcs_server& server = connection->server;
  server.Lock();
  // Keeps the server until the lock is given back.
  ++server.objects;
  // The first one after the last row is the receiver's own; destroy does not give it back again.
  // With callbacks the receiver is the driver, which says so itself.
  if (connection->ended_told && server.driver == nullptr) connection->own_released = true;
  connection->Release();
  const bool last = --server.objects == 0 && server.destroyed;
  server.Unlock();
  if (last) delete &server;
}

coroipc_status coroipcs_disconnect(struct coroipcs_connection* connection, coroipc_status why) {
  if (connection->forked()) return COROIPC_FORKED;
  if (why <= COROIPC_OK || why >= COROIPC_STATUS_COUNT) return COROIPC_INVALID_ARGUMENT;
  Guard guard(connection->server);
  if (connection->phase() == Connection::Phase::kEnded) return connection->status();
  if (connection->phase() != Connection::Phase::kOpen) return COROIPC_INVALID_ARGUMENT;
  connection->disconnected = true;
  connection->FlushNow();
  if (connection->phase() == Connection::Phase::kOpen) connection->End(why);
  connection->server.Wake();
  return COROIPC_OK;
}

uint32_t coroipcs_connection_number(const struct coroipcs_connection* connection) {
  return connection->number();
}
uint16_t coroipcs_connection_service(const struct coroipcs_connection* connection) {
  return connection->service();
}
uint64_t coroipcs_connection_id(const struct coroipcs_connection* connection) {
  return connection->id();
}
const struct coroipc_credentials* coroipcs_connection_credentials(
    const struct coroipcs_connection* connection) {
  return &connection->credentials().view();
}
uint32_t coroipcs_connection_message_bytes(const struct coroipcs_connection* connection) {
  return connection->message_bytes();
}
uint32_t coroipcs_connection_requests_in_flight(const struct coroipcs_connection* connection) {
  return connection->requests_in_flight();
}
void* coroipcs_private_data_get(struct coroipcs_connection* connection) {
  return connection->private_data.get();
}

coroipc_status coroipcs_connection_rate_limit(struct coroipcs_connection* connection,
                                              uint32_t requests_per_second) {
  Guard guard(connection->server);
  if (connection->phase() != Connection::Phase::kOpen) return COROIPC_DISCONNECTED;
  connection->rate = requests_per_second;
  connection->tokens = 0;
  connection->rate_filled_ns = NowNs();
  if (connection->rate_paused) {
    connection->rate_paused = false;
    --connection->server.paused;
  }
  connection->server.MarkReady(*connection);
  return COROIPC_OK;
}

coroipc_status coroipcs_connection_priority(struct coroipcs_connection* connection, int priority) {
  if (priority < 0 || priority > COROIPCS_PRIORITY_HIGH) return COROIPC_INVALID_ARGUMENT;
  Guard guard(connection->server);
  if (connection->phase() != Connection::Phase::kOpen) return COROIPC_DISCONNECTED;
  connection->server.SetPriority(*connection, static_cast<uint8_t>(priority));
  return COROIPC_OK;
}

coroipc_status coroipcs_connection_policy(struct coroipcs_connection* connection, int policy) {
  if (policy < 0 || policy > COROIPCS_POLICY_DISCONNECT) return COROIPC_INVALID_ARGUMENT;
  Guard guard(connection->server);
  connection->policy = policy;
  return COROIPC_OK;
}

coroipc_status coroipcs_connection_stats(struct coroipcs_connection* connection,
                                         struct coroipc_stats* stats, int clear) {
  Guard guard(connection->server);
  connection->Stats(stats, clear != 0);
  return COROIPC_OK;
}

void coroipcs_connection_rings(struct coroipcs_connection* connection,
                               struct coroipcs_rings* rings) {
  Guard guard(connection->server);
  *rings = connection->Rings();
}

coroipc_status coroipcs_stats(struct coroipcs_server* server, struct coroipc_stats* stats,
                              int clear) {
  Guard guard(*server);
  coroipc_stats sum = server->totals;
  uint64_t* const total = reinterpret_cast<uint64_t*>(&sum);
  for (Connection* connection : server->connections()) {
    if (connection == nullptr) continue;
    coroipc_stats one;
    static_cast<coroipcs_connection*>(connection)->Stats(&one, clear != 0);
    const uint64_t* const words = reinterpret_cast<const uint64_t*>(&one);
    for (size_t i = 0; i < COROIPC_STATS_WORDS; ++i) total[i] += words[i];
  }
  sum.connections = server->established;
  sum.handshakes_pending = server->handshakes + server->authorizing;
  *stats = sum;
  if (clear != 0) server->totals = {};
  return COROIPC_OK;
}

coroipc_status coroipcs_response_send(struct coroipcs_connection* connection, uint32_t correlation,
                                      coroipc_status code, int32_t status,
                                      const struct iovec* payload, uint32_t count) {
  uint32_t bytes = 0;
  if (!coroipc::GatherBytes(payload, count, &bytes)) return COROIPC_TOO_LARGE;
  Guard guard(connection->server);
  const Status result =
      connection->Respond(correlation, code, status, payload, count, nullptr, 0, bytes);
  if (connection->phase() == Connection::Phase::kOpen) connection->PublishOut();
  return result;
}

coroipc_status coroipcs_dispatch_send(struct coroipcs_connection* connection, uint16_t id,
                                      const struct iovec* payload, uint32_t count) {
  uint32_t bytes = 0;
  if (!coroipc::GatherBytes(payload, count, &bytes)) return COROIPC_TOO_LARGE;
  Guard guard(connection->server);
  const Status result = connection->Dispatch(id, payload, count, nullptr, 0, bytes, false);
  if (connection->phase() == Connection::Phase::kOpen) connection->PublishOut();
  return result;
}

void coroipcs_send_batch(struct coroipcs_server* server, struct coroipc_entry* entries,
                         uint32_t count, const uint8_t* arena) {
  Guard guard(*server);
  coroipcs_connection* touched[64];
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
    auto* connection = static_cast<coroipcs_connection*>(server->at(row.connection));
    if (connection == nullptr || connection->phase() != Connection::Phase::kOpen) {
      row.argument = static_cast<uint32_t>(connection == nullptr ? COROIPC_DISCONNECTED
                                                                 : connection->status());
      continue;
    }
    if (!connection->touched) {
      if (touched_count == 64) publish();
      connection->touched = true;
      touched[touched_count++] = connection;
    }
    const struct iovec part = {const_cast<uint8_t*>(arena) + row.offset, row.bytes};
    Status status = COROIPC_INVALID_ARGUMENT;
    if (row.kind == COROIPC_KIND_RESPONSE) {
      status = connection->Respond(row.correlation, static_cast<Status>(row.argument), row.status,
                                   &part, 1, nullptr, 0, row.bytes);
    } else if (row.kind == COROIPC_KIND_DISPATCH) {
      status = connection->Dispatch(static_cast<uint16_t>(row.id), &part, 1, nullptr, 0, row.bytes,
                                    true);
    }
    row.argument = static_cast<uint32_t>(status);
  }
  publish();
}

coroipc_status coroipcs_buffer_alloc(struct coroipcs_connection* connection, uint32_t bytes,
                                     struct coroipc_buffer** buffer) {
  Guard guard(connection->server);
  return connection->AllocateBuffer(bytes, buffer);
}

coroipc_status coroipcs_response_send_buffer(struct coroipcs_connection* connection,
                                             uint32_t correlation, int32_t status,
                                             struct coroipc_buffer* buffer, uint32_t offset,
                                             uint32_t bytes) {
  if (buffer == nullptr) return COROIPC_INVALID_ARGUMENT;
  Guard guard(connection->server);
  const Status result =
      connection->Respond(correlation, COROIPC_OK, status, nullptr, 0, buffer, offset, bytes);
  if (connection->phase() == Connection::Phase::kOpen) connection->PublishOut();
  return result;
}

coroipc_status coroipcs_dispatch_send_buffer(struct coroipcs_connection* connection, uint16_t id,
                                             struct coroipc_buffer* buffer, uint32_t offset,
                                             uint32_t bytes) {
  if (buffer == nullptr) return COROIPC_INVALID_ARGUMENT;
  Guard guard(connection->server);
  const Status result = connection->Dispatch(id, nullptr, 0, buffer, offset, bytes, false);
  if (connection->phase() == Connection::Phase::kOpen) connection->PublishOut();
  return result;
}

coroipc_status coroipcs_buffer_get(struct coroipcs_connection* connection, uint32_t segment,
                                   struct coroipc_buffer** buffer) {
  Guard guard(connection->server);
  coroipc_buffer* const found = connection->buffer(segment);
  if (found == nullptr || found->owner != Owner::kUsed) return COROIPC_INVALID_ARGUMENT;
  found->AddUser();
  *buffer = found;
  return COROIPC_OK;
}

}  // extern "C"
