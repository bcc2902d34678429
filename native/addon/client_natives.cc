// client_natives.cc: natives of the client half (coroipcc.h).
//
// A blocking request is one native call: payload gathered from JavaScript's memory, answer copied
// once, to the caller's array or to the slab. What fits neither stays leased until `take`, which
// copies it to an ArrayBuffer of its own.
#include <coroipc/coroipcc.h>
#include <napi.h>
#include <string.h>

#include <string>

#include "environment.h"
#include "event_loop.h"
#include "natives.h"
#include "values.h"

namespace coroipc_addon {

namespace {

// words[offset] when the payload is not in the slab.
constexpr int32_t kToTake = -1;   // it waits for `take`
constexpr int32_t kNowhere = -2;  // it is in `into`, or there is none

// Most natives name the group and one of its connections.
template <size_t N>
struct ClientCall : Arguments<N> {
  ClientCall(napi_env env, napi_callback_info info)
      : Arguments<N>(env, info), loop(this->environment(), this->Int(0)) {}

  uint32_t number() const { return this->Uint(1); }
  coroipcc_connection* connection() const { return loop ? loop->connection(number()) : nullptr; }
  // What was queued before is sent before: by this group, or, before waiting, by any loop.
  coroipcc_connection* connection_to_send() const {
    if (loop) loop->FlushAndTell();
    return connection();
  }
  coroipcc_connection* connection_to_wait() const {
    this->environment().FlushAll();
    return connection();
  }
  HeldLoop loop;
};

// Where a copy of a received payload goes: the caller's array, or the slab for anything small.
struct Target {
  template <size_t N>
  Target(const ClientCall<N>& call, size_t argument) {
    given = BytesOf(call.env(), call[argument], &data, &bytes);
    if (given) return;
    const EventLoop::Room room = call.loop->SlabRoom();
    data = room.data;
    bytes = room.bytes < COROIPC_BLOCK_BYTES ? room.bytes : COROIPC_BLOCK_BYTES - 1;
  }
  // Takes note of a payload that is at `data` now.
  void Filled(EventLoop& loop, uint32_t payload_bytes) const {
    loop.word(kOffset) = given ? kNowhere : loop.SlabTake(payload_bytes);
  }
  void* data = nullptr;
  size_t bytes = 0;
  bool given = false;
};

void ClearResult(EventLoop& loop) {
  loop.word(kStatus) = 0;
  loop.word(kSequence) = 0;
  loop.word(kOffset) = kNowhere;
  loop.word(kSegment) = -1;
  loop.word(kSegmentOffset) = 0;
}

void NoteResponse(EventLoop& loop, const coroipcc_response& response) {
  loop.word(kStatus) = response.status;
  loop.word(kSequence) = static_cast<int32_t>(response.sequence);
}

void NoteSegment(EventLoop& loop, int in_segment, uint32_t segment, uint32_t offset) {
  if (in_segment == 0) return;
  loop.word(kSegment) = static_cast<int32_t>(segment);
  loop.word(kSegmentOffset) = static_cast<int32_t>(offset);
}

// Where a name is looked for.
napi_value ConnectAddresses(napi_env env, napi_callback_info info) {
  const Arguments<1> arguments(env, info);
  const std::string name = Text(env, arguments[0]);
  Napi::Array addresses = Napi::Array::New(env);
  char address[COROIPCC_ADDRESS_BYTES];
  for (uint32_t i = 0; coroipcc_address(name.c_str(), i, address, sizeof address) == COROIPC_OK;
       i++)
    addresses.Set(i, Napi::String::New(env, address));
  return addresses;
}

// call(loop, connection, id, payload, timeoutMs, into)
napi_value Call(napi_env env, napi_callback_info info) {
  const ClientCall<6> call(env, info);
  coroipcc_connection* connection = call.connection_to_wait();
  if (connection == nullptr) return call.Return(-COROIPC_DISCONNECTED);
  EventLoop& loop = *call.loop;
  const Payload payload(env, call[3]);
  const Target target(call, 5);
  coroipcc_response response{};
  ClearResult(loop);
  const coroipc_status status =
      coroipcc_request(connection, call.Uint16(2), payload.parts(), payload.count(), call.Int(4),
                       target.data, static_cast<uint32_t>(target.bytes), &response);
  NoteResponse(loop, response);
  if (status == COROIPC_OK) {
    target.Filled(loop, response.bytes);
    return call.Return(static_cast<int32_t>(response.bytes));
  }
  // TOO_LARGE with data: the answer is there, whole, only too large for the target.
  if (status != COROIPC_TOO_LARGE || response.data == nullptr) return call.Return(-status);
  loop.SetLease(call.number(), kResponse, response.data, response.bytes);
  loop.word(kOffset) = kToTake;
  return call.Return(target.given ? -status : static_cast<int32_t>(response.bytes));
}

napi_value CallInPlace(napi_env env, napi_callback_info info) {
  const ClientCall<5> call(env, info);
  coroipcc_connection* connection = call.connection_to_wait();
  if (connection == nullptr) return call.Return(-COROIPC_DISCONNECTED);
  EventLoop& loop = *call.loop;
  const Payload payload(env, call[3]);
  coroipcc_response response{};
  ClearResult(loop);
  const coroipc_status status = coroipcc_request_in_place(
      connection, call.Uint16(2), payload.parts(), payload.count(), call.Int(4), &response);
  NoteResponse(loop, response);
  if (status != COROIPC_OK) return call.Return(-status);
  NoteSegment(loop, response.in_segment, response.segment, response.offset);
  loop.SetLease(call.number(), kResponse, response.data, response.bytes);
  return call.Return(static_cast<int32_t>(response.bytes));
}

// callBuffer(loop, connection, id, buffer, offset, bytes, timeoutMs, into)
napi_value CallBuffer(napi_env env, napi_callback_info info) {
  const ClientCall<8> call(env, info);
  coroipcc_connection* connection = call.connection_to_wait();
  coroipc_buffer* buffer = call.environment().BufferAt(call.Int(3));
  if (connection == nullptr) return call.Return(-COROIPC_DISCONNECTED);
  if (buffer == nullptr) return call.Return(-COROIPC_INVALID_ARGUMENT);
  EventLoop& loop = *call.loop;
  const Target target(call, 7);
  coroipcc_response response{};
  ClearResult(loop);
  const coroipc_status status = coroipcc_request_buffer(
      connection, call.Uint16(2), buffer, call.Uint(4), call.Uint(5), call.Int(6), &response);
  NoteResponse(loop, response);
  if (status != COROIPC_OK) return call.Return(-status);
  if (response.bytes > target.bytes) {
    loop.SetLease(call.number(), kResponse, response.data, response.bytes);
    loop.word(kOffset) = kToTake;
    return call.Return(target.given ? -COROIPC_TOO_LARGE : static_cast<int32_t>(response.bytes));
  }
  if (response.bytes > 0) memcpy(target.data, response.data, response.bytes);
  coroipcc_response_release(connection);
  target.Filled(loop, response.bytes);
  return call.Return(static_cast<int32_t>(response.bytes));
}

// A dispatch, in place: its words, and the status.
template <size_t N>
coroipc_status ReceiveDispatch(const ClientCall<N>& call, coroipcc_connection* connection,
                               coroipcc_dispatch& dispatch) {
  EventLoop& loop = *call.loop;
  ClearResult(loop);
  const coroipc_status status = coroipcc_dispatch_receive(connection, call.Int(2), &dispatch);
  if (status != COROIPC_OK) return status;
  loop.word(kId) = dispatch.id;
  loop.word(kSequence) = static_cast<int32_t>(dispatch.sequence);
  return status;
}

// dispatchReceive(loop, connection, timeoutMs)
napi_value DispatchReceive(napi_env env, napi_callback_info info) {
  const ClientCall<4> call(env, info);
  coroipcc_connection* connection = call.connection_to_wait();
  if (connection == nullptr) return call.Return(-COROIPC_DISCONNECTED);
  EventLoop& loop = *call.loop;
  coroipcc_dispatch dispatch{};
  const coroipc_status status = ReceiveDispatch(call, connection, dispatch);
  if (status != COROIPC_OK) return call.Return(-status);
  const Target target(call, 3);  // the fourth argument is never given: the slab
  if (dispatch.bytes > target.bytes) {
    loop.SetLease(call.number(), kDispatch, dispatch.data, dispatch.bytes);
    loop.word(kOffset) = kToTake;
    return call.Return(static_cast<int32_t>(dispatch.bytes));
  }
  if (dispatch.bytes > 0) memcpy(target.data, dispatch.data, dispatch.bytes);
  coroipcc_dispatch_release(connection);
  target.Filled(loop, dispatch.bytes);
  return call.Return(static_cast<int32_t>(dispatch.bytes));
}

napi_value DispatchInPlace(napi_env env, napi_callback_info info) {
  const ClientCall<3> call(env, info);
  coroipcc_connection* connection = call.connection_to_wait();
  if (connection == nullptr) return call.Return(-COROIPC_DISCONNECTED);
  coroipcc_dispatch dispatch{};
  const coroipc_status status = ReceiveDispatch(call, connection, dispatch);
  if (status != COROIPC_OK) return call.Return(-status);
  NoteSegment(*call.loop, dispatch.in_segment, dispatch.segment, dispatch.offset);
  call.loop->SetLease(call.number(), kDispatch, dispatch.data, dispatch.bytes);
  return call.Return(static_cast<int32_t>(dispatch.bytes));
}

napi_value LeaseCopy(napi_env env, napi_callback_info info) {
  const ClientCall<3> call(env, info);
  const Lease* lease = call.loop ? call.loop->LeaseOf(call.number(), call.Uint(2)) : nullptr;
  return lease == nullptr ? CopyToArrayBuffer(env, nullptr, 0)
                          : CopyToArrayBuffer(env, lease->data, lease->bytes);
}

napi_value LeaseRelease(napi_env env, napi_callback_info info) {
  const ClientCall<3> call(env, info);
  if (call.loop) call.loop->EndLease(call.number(), call.Uint(2));
  return nullptr;
}

napi_value Take(napi_env env, napi_callback_info info) {
  napi_value copy = LeaseCopy(env, info);
  LeaseRelease(env, info);
  return copy;
}

napi_value LeaseBuffer(napi_env env, napi_callback_info info) {
  const ClientCall<3> call(env, info);
  Lease* lease = call.loop ? call.loop->LeaseOf(call.number(), call.Uint(2)) : nullptr;
  if (lease == nullptr) return CopyToArrayBuffer(env, nullptr, 0);
  if (napi_value existing = lease->array.Get(env)) return existing;
  napi_value array =
      lease->array.Create(env, const_cast<void*>(lease->data), lease->bytes, lease->hold);
  return array != nullptr ? array : CopyToArrayBuffer(env, lease->data, lease->bytes);
}

// -- connections
// ----------------------------------------------------------------------------------------------------

napi_value GroupCreate(napi_env env, napi_callback_info info) {
  Arguments<3> arguments(env, info);
  auto* loop = new EventLoop(arguments.environment(), arguments[0], arguments[1], arguments[2]);
  coroipcc_group_options options;
  coroipcc_group_options_init(&options);
  options.threads = 0;
  options.interrupt = [](void* context) {
    return Environment::Interrupt(static_cast<GroupContext*>(context)->environment);
  };
  options.context = loop->group_context();
  options.log = [](void* context, int level, const char* text) {
    EventLoop* const told = static_cast<GroupContext*>(context)->loop;
    if (told != nullptr) told->Log(level, text);
  };
  coroipcc_group* group = nullptr;
  const coroipc_status status = coroipcc_group_create(&options, &group);
  if (status == COROIPC_OK) {
    loop->AdoptGroup(group);
    if (napi_value value = loop->Value()) return value;
  }
  loop->Destroy();
  return arguments.Return(-(status == COROIPC_OK ? COROIPC_NO_MEMORY : status));
}

void ReadOptions(const Fields& from, coroipcc_options& options) {
  coroipcc_options_init(&options);
  options.service = static_cast<uint16_t>(from.Uint("service"));
  options.wait = from.Int("wait");
  options.timeout_ms = from.Int("timeoutMs");
  options.request_ring_bytes = from.Uint("requestRingBytes");
  options.response_ring_bytes = from.Uint("responseRingBytes");
  options.dispatch_ring_bytes = from.Uint("dispatchRingBytes");
  options.message_bytes = from.Uint("messageBytes");
  options.requests_in_flight = from.Uint("requestsInFlight");
  options.inbox_bytes = from.Uint("inboxBytes");
  options.queue_bytes = from.Uint("queueBytes");
  options.trust_server = from.Flag("trustServer") ? 1 : 0;
  // uids are unsigned 32-bit numbers, -1 stands for any: so it is not read as an int32.
  const double uid = from.Number("serverUid");
  options.require_uid = uid >= 0 ? 1 : 0;
  options.server_uid = uid >= 0 ? from.Uint("serverUid") : 0;
  options.server_pid = from.Int("serverPid");
  options.require_pid = options.server_pid >= 0 ? 1 : 0;
}

using ConnectFunction = coroipc_status (*)(coroipcc_group*, const char*, const coroipcc_options*,
                                           int32_t, coroipcc_connection**);

template <ConnectFunction connect>
napi_value Connect(napi_env env, napi_callback_info info) {
  const ClientCall<4> call(env, info);
  call.environment().FlushAll();
  if (!call.loop || call.loop->group() == nullptr) return call.Return(-COROIPC_INVALID_ARGUMENT);
  coroipcc_options options;
  ReadOptions(Fields(env, call[2]), options);
  coroipcc_connection* connection = nullptr;
  const coroipc_status status =
      connect(call.loop->group(), Text(env, call[1]).c_str(), &options, call.Int(3), &connection);
  if (status != COROIPC_OK) return call.Return(-status);
  call.loop->AddClient(connection, options.service);
  return call.Return(static_cast<int32_t>(coroipcc_connection_number(connection)));
}

napi_value ConnectionInfo(napi_env env, napi_callback_info info) {
  const ClientCall<2> call(env, info);
  coroipcc_connection* connection = call.connection();
  if (connection == nullptr) return call.Return(-COROIPC_DISCONNECTED);
  Napi::Object value = Napi::Object::New(env);
  value.Set("id", HexId(coroipcc_connection_id(connection)));
  value.Set("serverId", HexId(coroipcc_server_id(connection)));
  value.Set("service", call.loop->ServiceOf(call.number()));
  value.Set("messageBytes", coroipcc_message_bytes(connection));
  value.Set("requestsInFlight", coroipcc_requests_in_flight(connection));
  value.Set("credentials", CredentialsValue(env, coroipcc_server_credentials(connection)));
  return value;
}

napi_value Disconnect(napi_env env, napi_callback_info info) {
  const ClientCall<2> call(env, info);
  if (!call.loop) return nullptr;
  call.loop->FlushAndTell();
  call.loop->RemoveClient(call.number());
  return nullptr;
}

napi_value State(napi_env env, napi_callback_info info) {
  const ClientCall<2> call(env, info);
  coroipcc_connection* connection = call.connection();
  return call.Return(connection == nullptr ? COROIPC_DISCONNECTED : coroipcc_state(connection));
}

napi_value FlowControl(napi_env env, napi_callback_info info) {
  const ClientCall<2> call(env, info);
  coroipcc_connection* connection = call.connection();
  return call.Return(connection == nullptr ? 0 : coroipcc_flow_control(connection));
}

napi_value GivenUp(napi_env env, napi_callback_info info) {
  const ClientCall<2> call(env, info);
  coroipcc_connection* connection = call.connection();
  return call.Return(connection == nullptr ? 0
                                           : static_cast<int32_t>(coroipcc_given_up(connection)));
}

napi_value ConnectionFd(napi_env env, napi_callback_info info) {
  const ClientCall<2> call(env, info);
  coroipcc_connection* connection = call.connection();
  return call.Return(connection == nullptr ? -1 : coroipcc_fd(connection));
}

napi_value DispatchFlow(napi_env env, napi_callback_info info) {
  const ClientCall<3> call(env, info);
  if (coroipcc_connection* connection = call.connection())
    coroipcc_dispatch_flow(connection, call.Bool(2) ? 1 : 0);
  return nullptr;
}

// -- sending
// --------------------------------------------------------------------------------------------------------

// sendRow(loop, connection, kind, id, correlation, timeoutMs, payload)
napi_value SendRow(napi_env env, napi_callback_info info) {
  const ClientCall<7> call(env, info);
  coroipcc_connection* connection = call.connection_to_send();
  if (connection == nullptr) return call.Return(-COROIPC_DISCONNECTED);
  const Payload payload(env, call[6]);
  coroipc_entry row{};
  row.connection = call.number();
  row.kind = call.Uint(2);
  row.id = call.Uint(3);
  row.correlation = call.Uint(4);
  row.argument = call.Uint(5);
  return call.Return(-coroipcc_send_row(connection, &row, payload.parts(), payload.count()));
}

// sendRowBuffer(loop, connection, id, correlation, timeoutMs, buffer, offset, bytes)
napi_value SendRowBuffer(napi_env env, napi_callback_info info) {
  const ClientCall<8> call(env, info);
  coroipcc_connection* connection = call.connection_to_send();
  coroipc_buffer* buffer = call.environment().BufferAt(call.Int(5));
  if (connection == nullptr) return call.Return(-COROIPC_DISCONNECTED);
  if (buffer == nullptr) return call.Return(-COROIPC_INVALID_ARGUMENT);
  coroipc_entry row{};
  row.connection = call.number();
  row.kind = COROIPC_KIND_REQUEST;
  row.id = call.Uint(2);
  row.correlation = call.Uint(3);
  row.argument = call.Uint(4);
  return call.Return(
      -coroipcc_send_row_buffer(connection, &row, buffer, call.Uint(6), call.Uint(7)));
}

napi_value BufferAlloc(napi_env env, napi_callback_info info) {
  const ClientCall<4> call(env, info);
  coroipcc_connection* connection = call.connection_to_wait();
  if (connection == nullptr) return call.Return(-COROIPC_DISCONNECTED);
  coroipc_buffer* buffer = nullptr;
  const coroipc_status status =
      coroipcc_buffer_alloc(connection, call.Uint(2), call.Int(3), &buffer);
  return call.Return(status == COROIPC_OK ? call.environment().AddBuffer(buffer) : -status);
}

napi_value BufferAllocStart(napi_env env, napi_callback_info info) {
  const ClientCall<3> call(env, info);
  coroipcc_connection* connection = call.connection_to_send();
  if (connection == nullptr) return call.Return(-COROIPC_DISCONNECTED);
  uint32_t correlation = 0;
  const coroipc_status status = coroipcc_buffer_alloc_start(connection, call.Uint(2), &correlation);
  if (status != COROIPC_OK) return call.Return(-status);
  // All 32 bits count: above 2^31 it must not look like a status. `| 0` makes it what the row has.
  napi_value value = nullptr;
  napi_create_uint32(env, correlation, &value);
  return value;
}

napi_value BufferGet(napi_env env, napi_callback_info info) {
  const ClientCall<3> call(env, info);
  coroipcc_connection* connection = call.connection();
  if (connection == nullptr) return call.Return(-COROIPC_DISCONNECTED);
  coroipc_buffer* buffer = nullptr;
  const coroipc_status status = coroipcc_buffer_get(connection, call.Uint(2), &buffer);
  return call.Return(status == COROIPC_OK ? call.environment().AddBuffer(buffer) : -status);
}

}  // namespace

void AddClientNatives(std::vector<Native>& natives) {
  natives.insert(natives.end(), {{"groupCreate", GroupCreate},
                                 {"connectAddresses", ConnectAddresses},
                                 {"connectStart", Connect<coroipcc_connect_start>},
                                 {"connectSync", Connect<coroipcc_connect>},
                                 {"clientConnectionInfo", ConnectionInfo},
                                 {"disconnect", Disconnect},
                                 {"state", State},
                                 {"flowControl", FlowControl},
                                 {"givenUp", GivenUp},
                                 {"connectionFd", ConnectionFd},
                                 {"dispatchFlow", DispatchFlow},
                                 {"call", Call},
                                 {"callInPlace", CallInPlace},
                                 {"callBuffer", CallBuffer},
                                 {"take", Take},
                                 {"leaseBuffer", LeaseBuffer},
                                 {"leaseCopy", LeaseCopy},
                                 {"leaseRelease", LeaseRelease},
                                 {"dispatchReceive", DispatchReceive},
                                 {"dispatchInPlace", DispatchInPlace},
                                 {"sendRow", SendRow},
                                 {"sendRowBuffer", SendRowBuffer},
                                 {"clientBufferAlloc", BufferAlloc},
                                 {"clientBufferAllocStart", BufferAllocStart},
                                 {"clientBufferGet", BufferGet}});
}

}  // namespace coroipc_addon
