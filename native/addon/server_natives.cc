// server_natives.cc: natives of the server half (coroipcs.h).
#include <coroipc/coroipcs.h>
#include <napi.h>

#include "environment.h"
#include "event_loop.h"
#include "natives.h"
#include "values.h"

namespace coroipc_addon {

namespace {

// Most natives name a loop and one of its connections.
template <size_t N>
struct ServerCall : Arguments<N> {
  ServerCall(napi_env env, napi_callback_info info)
      : Arguments<N>(env, info), loop(this->environment(), this->Int(0)) {}

  coroipcs_server* server() const { return loop ? loop->server() : nullptr; }
  // The connection, by the number in the second argument. What was queued before is sent before.
  coroipcs_connection* connection() const {
    return server() == nullptr ? nullptr : coroipcs_connection_at(server(), this->Uint(1));
  }
  coroipcs_connection* connection_to_send() const {
    if (loop) loop->FlushAndTell();
    return connection();
  }
  HeldLoop loop;
};

void ReadOptions(const Fields& from, coroipcs_options& options) {
  coroipcs_options_init(&options);
  options.threads = 0;
  options.authorize_events = 1;
  options.wait = from.Int("wait");
  options.any_service = from.Flag("anyService") ? 1 : 0;
  options.allow_unmapped = from.Flag("allowUnmapped") ? 1 : 0;
  options.prefault = from.Flag("prefault") ? 1 : 0;
  options.lock = from.Int("lock");
  options.huge_pages = from.Int("hugePages");
  options.accept_rows = from.Flag("acceptRows") ? 1 : 0;
  options.authorize_timeout_ms = from.Uint("authorizeTimeoutMs");
  options.handshake_timeout_ms = from.Uint("handshakeTimeoutMs");
  options.connections = from.Uint("connections");
  options.connections_per_uid = from.Uint("connectionsPerUid");
  options.handshakes = from.Uint("handshakes");
  options.handshakes_per_uid = from.Uint("handshakesPerUid");
  options.authorizing = from.Uint("authorizing");
  options.request_ring_bytes = from.Uint("requestRingBytes");
  options.response_ring_bytes = from.Uint("responseRingBytes");
  options.dispatch_ring_bytes = from.Uint("dispatchRingBytes");
  options.ring_bytes_min = from.Uint("ringBytesMin");
  options.ring_bytes_max = from.Uint("ringBytesMax");
  options.message_bytes = from.Uint("messageBytes");
  options.message_bytes_min = from.Uint("messageBytesMin");
  options.requests_in_flight = from.Uint("requestsInFlight");
  options.unsent_bytes = from.Uint("unsentBytes");
  options.backlog_bytes = from.Uint("backlogBytes");
  options.segments = from.Uint("segments");
  options.segment_bytes = from.Uint64("segmentBytes");
  options.bytes_per_uid = from.Uint64("bytesPerUid");
}

napi_value ServerCreate(napi_env env, napi_callback_info info) {
  Arguments<5> arguments(env, info);
  coroipcs_options options;
  ReadOptions(Fields(env, arguments[0]), options);
  auto* loop = new EventLoop(arguments.environment(), arguments[1], arguments[2], arguments[4]);
  options.callbacks.context = loop;
  options.callbacks.log = [](void* context, int level, const char* text) {
    static_cast<EventLoop*>(context)->Log(level, text);
  };
  if (Napi::Value(env, arguments[3]).IsObject()) options.poll = loop->PollCallbacks(arguments[3]);
  coroipcs_server* server = nullptr;
  const coroipc_status status = coroipcs_create(&options, &server);
  napi_value value = nullptr;
  if (status == COROIPC_OK) {
    loop->AdoptServer(server);
    value = loop->Value();
    if (value != nullptr) return value;
  }
  loop->Destroy();
  return arguments.Return(-(status == COROIPC_OK ? COROIPC_NO_MEMORY : status));
}

napi_value ServerListen(napi_env env, napi_callback_info info) {
  ServerCall<2> call(env, info);
  if (call.server() == nullptr) return call.Return(-COROIPC_INVALID_ARGUMENT);
  return call.Return(-coroipcs_listen(call.server(), Text(env, call[1]).c_str()));
}

napi_value ServerListenFd(napi_env env, napi_callback_info info) {
  ServerCall<2> call(env, info);
  if (call.server() == nullptr) return call.Return(-COROIPC_INVALID_ARGUMENT);
  return call.Return(-coroipcs_listen_fd(call.server(), call.Int(1)));
}

napi_value ServerListenInherited(napi_env env, napi_callback_info info) {
  ServerCall<3> call(env, info);
  if (call.server() == nullptr) return call.Return(-COROIPC_INVALID_ARGUMENT);
  return call.Return(-coroipcs_listen_inherited(call.server(), call.Int(1), call.Int(2)));
}

napi_value ServerListenFds(napi_env env, napi_callback_info info) {
  ServerCall<1> call(env, info);
  int fds[2] = {-1, -1};
  if (call.server() != nullptr) (void)coroipcs_listen_fds(call.server(), fds);
  Napi::Array value = Napi::Array::New(env, 2);
  value.Set(uint32_t{0}, fds[0]);
  value.Set(uint32_t{1}, fds[1]);
  return value;
}

napi_value ServerListenLeave(napi_env env, napi_callback_info info) {
  ServerCall<1> call(env, info);
  if (call.server() == nullptr) return call.Return(-COROIPC_INVALID_ARGUMENT);
  return call.Return(-coroipcs_listen_leave(call.server()));
}

napi_value ServerAdopt(napi_env env, napi_callback_info info) {
  ServerCall<2> call(env, info);
  if (call.server() == nullptr) return call.Return(-COROIPC_INVALID_ARGUMENT);
  return call.Return(-coroipcs_adopt(call.server(), call.Int(1)));
}

napi_value ServerAddress(napi_env env, napi_callback_info info) {
  ServerCall<1> call(env, info);
  const char* address = call.server() == nullptr ? nullptr : coroipcs_address(call.server());
  return Napi::String::New(env, address == nullptr ? "" : address);
}

napi_value ServerListenStop(napi_env env, napi_callback_info info) {
  ServerCall<1> call(env, info);
  if (call.server() == nullptr) return call.Return(-COROIPC_INVALID_ARGUMENT);
  return call.Return(-coroipcs_listen_stop(call.server()));
}

napi_value ServerClose(napi_env env, napi_callback_info info) {
  ServerCall<1> call(env, info);
  if (call.loop) call.loop->FlushAndTell();
  if (call.server() == nullptr) return call.Return(-COROIPC_INVALID_ARGUMENT);
  return call.Return(-coroipcs_close(call.server()));
}

napi_value HandlerAccept(napi_env env, napi_callback_info info) {
  ServerCall<2> call(env, info);
  if (call.server() == nullptr) return call.Return(-COROIPC_INVALID_ARGUMENT);
  return call.Return(-coroipcs_handler_accept(call.server(), static_cast<uint64_t>(call.Int64(1))));
}

napi_value HandlerDispatch(napi_env env, napi_callback_info info) {
  ServerCall<3> call(env, info);
  if (call.server() == nullptr) return call.Return(-COROIPC_INVALID_ARGUMENT);
  return call.Return(
      -coroipcs_handler_dispatch(call.server(), static_cast<uint64_t>(call.Int64(1)), call.Int(2)));
}

napi_value ServiceAdd(napi_env env, napi_callback_info info) {
  ServerCall<3> call(env, info);
  if (call.server() == nullptr) return call.Return(-COROIPC_INVALID_ARGUMENT);
  const Fields from(env, call[2]);
  coroipcs_service_options options;
  coroipcs_service_options_init(&options);
  options.policy = from.Int("policy");
  options.priority = from.Int("priority");
  options.requests_per_second = from.Uint("requestsPerSecond");
  options.backlog_bytes = from.Uint("backlogBytes");
  return call.Return(-coroipcs_service_add(call.server(), call.Uint16(1), &options));
}

napi_value ServiceClose(napi_env env, napi_callback_info info) {
  ServerCall<2> call(env, info);
  if (call.loop) call.loop->FlushAndTell();
  if (call.server() == nullptr) return call.Return(-COROIPC_INVALID_ARGUMENT);
  return call.Return(coroipcs_service_close(call.server(), call.Uint16(1)) == 0 ? 0 : 1);
}

napi_value Authorize(napi_env env, napi_callback_info info) {
  ServerCall<4> call(env, info);
  coroipcs_connection* connection = call.connection();
  if (connection == nullptr) return call.Return(-COROIPC_DISCONNECTED);
  return call.Return(-coroipcs_authorize(connection, call.Int(2), call.Bool(3) ? 1 : 0));
}

napi_value ConnectionInfo(napi_env env, napi_callback_info info) {
  ServerCall<2> call(env, info);
  coroipcs_connection* connection = call.connection();
  if (connection == nullptr) return call.Return(-COROIPC_DISCONNECTED);
  Napi::Object value = Napi::Object::New(env);
  value.Set("id", HexId(coroipcs_connection_id(connection)));
  value.Set("serverId", "");  // a client's knowledge; the server is its own
  value.Set("service", coroipcs_connection_service(connection));
  value.Set("messageBytes", coroipcs_connection_message_bytes(connection));
  value.Set("requestsInFlight", coroipcs_connection_requests_in_flight(connection));
  value.Set("credentials", CredentialsValue(env, coroipcs_connection_credentials(connection)));
  return value;
}

// serverRings(loop, connection, into): of each ring its bytes and those in use.
napi_value Rings(napi_env env, napi_callback_info info) {
  ServerCall<3> call(env, info);
  coroipcs_connection* connection = call.connection();
  if (connection == nullptr) return call.Return(-COROIPC_DISCONNECTED);
  coroipcs_rings rings{};
  coroipcs_connection_rings(connection, &rings);
  void* into = nullptr;
  size_t words = 0;
  if (BytesOf(env, call[2], &into, &words) && words >= sizeof rings / sizeof(uint32_t))
    memcpy(into, &rings, sizeof rings);
  return call.Return(0);
}

napi_value Hold(napi_env env, napi_callback_info info) {
  ServerCall<2> call(env, info);
  if (coroipcs_connection* connection = call.connection()) coroipcs_connection_hold(connection);
  return nullptr;
}

napi_value Release(napi_env env, napi_callback_info info) {
  ServerCall<2> call(env, info);
  if (coroipcs_connection* connection = call.connection()) coroipcs_connection_release(connection);
  return nullptr;
}

napi_value Disconnect(napi_env env, napi_callback_info info) {
  ServerCall<3> call(env, info);
  coroipcs_connection* connection = call.connection_to_send();
  if (connection == nullptr) return call.Return(-COROIPC_DISCONNECTED);
  return call.Return(-coroipcs_disconnect(connection, call.Int(2)));
}

napi_value RateLimit(napi_env env, napi_callback_info info) {
  ServerCall<3> call(env, info);
  coroipcs_connection* connection = call.connection();
  if (connection == nullptr) return call.Return(-COROIPC_DISCONNECTED);
  return call.Return(-coroipcs_connection_rate_limit(connection, call.Uint(2)));
}

napi_value Priority(napi_env env, napi_callback_info info) {
  ServerCall<3> call(env, info);
  coroipcs_connection* connection = call.connection();
  if (connection == nullptr) return call.Return(-COROIPC_DISCONNECTED);
  return call.Return(-coroipcs_connection_priority(connection, call.Int(2)));
}

napi_value Policy(napi_env env, napi_callback_info info) {
  ServerCall<3> call(env, info);
  coroipcs_connection* connection = call.connection();
  if (connection == nullptr) return call.Return(-COROIPC_DISCONNECTED);
  return call.Return(-coroipcs_connection_policy(connection, call.Int(2)));
}

napi_value Respond(napi_env env, napi_callback_info info) {
  ServerCall<6> call(env, info);
  coroipcs_connection* connection = call.connection_to_send();
  if (connection == nullptr) return call.Return(-COROIPC_DISCONNECTED);
  const Payload payload(env, call[5]);
  return call.Return(-coroipcs_response_send(connection, call.Uint(2), call.Int(3), call.Int(4),
                                             payload.parts(), payload.count()));
}

napi_value Dispatch(napi_env env, napi_callback_info info) {
  ServerCall<4> call(env, info);
  coroipcs_connection* connection = call.connection_to_send();
  if (connection == nullptr) return call.Return(-COROIPC_DISCONNECTED);
  const Payload payload(env, call[3]);
  return call.Return(
      -coroipcs_dispatch_send(connection, call.Uint16(2), payload.parts(), payload.count()));
}

napi_value RespondBuffer(napi_env env, napi_callback_info info) {
  ServerCall<7> call(env, info);
  coroipcs_connection* connection = call.connection_to_send();
  coroipc_buffer* buffer = call.environment().BufferAt(call.Int(4));
  if (connection == nullptr) return call.Return(-COROIPC_DISCONNECTED);
  if (buffer == nullptr) return call.Return(-COROIPC_INVALID_ARGUMENT);
  return call.Return(-coroipcs_response_send_buffer(connection, call.Uint(2), call.Int(3), buffer,
                                                    call.Uint(5), call.Uint(6)));
}

napi_value DispatchBuffer(napi_env env, napi_callback_info info) {
  ServerCall<6> call(env, info);
  coroipcs_connection* connection = call.connection_to_send();
  coroipc_buffer* buffer = call.environment().BufferAt(call.Int(3));
  if (connection == nullptr) return call.Return(-COROIPC_DISCONNECTED);
  if (buffer == nullptr) return call.Return(-COROIPC_INVALID_ARGUMENT);
  return call.Return(-coroipcs_dispatch_send_buffer(connection, call.Uint16(2), buffer,
                                                    call.Uint(4), call.Uint(5)));
}

napi_value BufferAlloc(napi_env env, napi_callback_info info) {
  ServerCall<3> call(env, info);
  coroipcs_connection* connection = call.connection();
  if (connection == nullptr) return call.Return(-COROIPC_DISCONNECTED);
  coroipc_buffer* buffer = nullptr;
  const coroipc_status status = coroipcs_buffer_alloc(connection, call.Uint(2), &buffer);
  return call.Return(status == COROIPC_OK ? call.environment().AddBuffer(buffer) : -status);
}

napi_value BufferGet(napi_env env, napi_callback_info info) {
  ServerCall<3> call(env, info);
  coroipcs_connection* connection = call.connection();
  if (connection == nullptr) return call.Return(-COROIPC_DISCONNECTED);
  coroipc_buffer* buffer = nullptr;
  const coroipc_status status = coroipcs_buffer_get(connection, call.Uint(2), &buffer);
  return call.Return(status == COROIPC_OK ? call.environment().AddBuffer(buffer) : -status);
}

}  // namespace

void AddServerNatives(std::vector<Native>& natives) {
  natives.insert(natives.end(), {{"serverCreate", ServerCreate},
                                 {"serverListen", ServerListen},
                                 {"serverListenFd", ServerListenFd},
                                 {"serverListenInherited", ServerListenInherited},
                                 {"serverListenFds", ServerListenFds},
                                 {"serverListenLeave", ServerListenLeave},
                                 {"serverAdopt", ServerAdopt},
                                 {"serverAddress", ServerAddress},
                                 {"serverListenStop", ServerListenStop},
                                 {"serverClose", ServerClose},
                                 {"handlerAccept", HandlerAccept},
                                 {"handlerDispatch", HandlerDispatch},
                                 {"serviceAdd", ServiceAdd},
                                 {"serviceClose", ServiceClose},
                                 {"authorize", Authorize},
                                 {"serverConnectionInfo", ConnectionInfo},
                                 {"serverRings", Rings},
                                 {"hold", Hold},
                                 {"release", Release},
                                 {"serverDisconnect", Disconnect},
                                 {"rateLimit", RateLimit},
                                 {"priority", Priority},
                                 {"policy", Policy},
                                 {"respond", Respond},
                                 {"dispatch", Dispatch},
                                 {"respondBuffer", RespondBuffer},
                                 {"dispatchBuffer", DispatchBuffer},
                                 {"serverBufferAlloc", BufferAlloc},
                                 {"serverBufferGet", BufferGet}});
}

}  // namespace coroipc_addon
