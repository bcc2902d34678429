// server: a whole server against hostile clients: what comes on their sockets, what they write to
// their rings and segments, what their words show, when they leave; an application that does what
// the C API allows, by batches or by callbacks; calls that fail. At the end everything is given
// back.
#include <coroipc/coroipcs.h>
#include <errno.h>

#include <algorithm>

#include "batch.h"
#include "handshake.h"
#include "kernel.h"
#include "rings.h"
#include "slots.h"

using fuzz::input;
using fuzz::kernel;
using fuzz::Kind;
using fuzz::Message;
using fuzz::ObjectRef;

namespace {

constexpr uint32_t kPeersMax = 3;
constexpr uint32_t kMessageMax = 64u << 10;

struct Peer {
  ObjectRef socket;
  ObjectRef memory;  // of the rings, once the server has sent it
  bool mapped = false;
  coroipc_setup_reply reply = {};
  coroipc::RingWriter request;
  coroipc::RingReader response, dispatch;
  std::vector<coroipc_segment_message> segments;
  uint16_t generation = 0;

  coroipc_control* control() const { return reinterpret_cast<coroipc_control*>(memory->mapped); }
  bool open() const { return memory != nullptr && memory->mapped != nullptr; }
  // Takes what the server sent.
  void Take() {
    while (!socket->outgoing.empty()) {
      const Message message = std::move(socket->outgoing.front());
      socket->outgoing.pop_front();
      if (message.bytes.size() == sizeof reply && !message.fds.empty()) {
        std::memcpy(&reply, message.bytes.data(), sizeof reply);
        memory = message.fds[0];
        if (!open()) continue;
        const fuzz::HonestMemory honestly;
        uint8_t* data = memory->mapped + COROIPC_CONTROL_BYTES;
        request.Init(&control()->ring[0], data, reply.request_ring_bytes);
        response.Init(&control()->ring[1], data += reply.request_ring_bytes,
                      reply.response_ring_bytes);
        dispatch.Init(&control()->ring[2], data += reply.response_ring_bytes,
                      reply.dispatch_ring_bytes);
        mapped = true;
      } else if (message.bytes.size() == sizeof(coroipc_segment_message)) {
        coroipc_segment_message segment;
        std::memcpy(&segment, message.bytes.data(), sizeof segment);
        segments.push_back(segment);
      }
    }
  }
};

struct World {
  coroipcs_server* server = nullptr;
  std::vector<Peer> peers;
  std::vector<uint32_t> numbers;                            // connections that rows have named
  std::vector<std::pair<uint32_t, uint32_t>> correlations;  // requests without an answer
  std::vector<coroipcs_connection*> held;
  std::vector<coroipc_buffer*> buffers;
  bool callbacks = false;
};
World* world = nullptr;

coroipcs_connection* Some() {
  if (world->numbers.empty()) return nullptr;
  return coroipcs_connection_at(world->server,
                                world->numbers[input.Byte() % world->numbers.size()]);
}

// -- the clients ----------------------------------------------------------------------------------

void SendSetup(Peer& peer) {
  coroipc::Terms wanted;
  if (input.Chance(2)) {
    wanted.request_ring_bytes = input.Size(4096);
    wanted.message_bytes = input.Size(kMessageMax);
    wanted.requests_in_flight = input.Byte();
  }
  coroipc_setup_request request = coroipc::MakeSetupRequest(input.Chance(8) ? 7 : 1, wanted);
  Message message;
  message.bytes.resize(sizeof request);
  std::memcpy(message.bytes.data(), &request, sizeof request);
  if (input.Chance(8)) message.bytes[input.Byte() % sizeof request] ^= input.Byte();
  if (input.Chance(8)) message.bytes.resize(input.Byte() % 80);
  peer.socket->incoming.push_back(std::move(message));
}

void SendBytes(Peer& peer) {
  Message message;
  const uint8_t shape = input.Byte();
  message.bytes.resize(shape & 15);
  input.Bytes(message.bytes.data(), message.bytes.size());
  for (uint32_t n = (shape >> 4) & 3; n != 0; --n)
    message.fds.push_back(kernel.Make(n == 1 ? Kind::kMemory : Kind::kPath));
  message.credentials = (shape & 64) != 0;
  message.cut = (shape & 128) != 0;
  peer.socket->incoming.push_back(std::move(message));
}

void Bell(Peer& peer) {
  Message bell;
  bell.bytes = {COROIPC_SOCKET_DOORBELL};
  peer.socket->incoming.push_back(std::move(bell));
}

void SendRecord(Peer& peer) {
  if (!peer.open() || !peer.mapped) return;
  static constexpr uint8_t kKinds[16] = {2, 2, 2, 2, 2, 3, 3, 4, 5, 5, 6, 6, 1, 7, 8, 9};
  const uint8_t shape = input.Byte();
  coroipc_record header = {};
  header.kind = kKinds[shape & 15];
  header.id = input.Byte();
  uint8_t payload[16] = {};
  uint32_t bytes = 0;
  const fuzz::HonestMemory honestly;
  switch (header.kind) {
    case COROIPC_RECORD_SEGMENT_WANT: {
      const uint32_t wanted = input.Size(kMessageMax);
      std::memcpy(payload, &wanted, bytes = 4);
      break;
    }
    case COROIPC_RECORD_SEGMENT_RELEASE:
      header.argument = input.Byte() & 7;
      break;
    default:
      if ((shape & 16) != 0) {
        coroipc_segment_reference reference = {};
        if (!peer.segments.empty()) {
          const auto& segment = peer.segments[input.Byte() % peer.segments.size()];
          reference = {segment.index, 0, segment.bytes, segment.generation};
        }
        reference.offset = input.Size(reference.bytes);
        reference.bytes = input.Size(reference.bytes);
        std::memcpy(payload, &reference, bytes = sizeof reference);
        header.flags = COROIPC_FLAG_SEGMENT;
      } else {
        bytes = input.Size(2024) % 2025;
      }
  }
  if ((shape & 32) != 0) header.flags ^= input.Byte();
  header.correlation = (shape & 64) != 0 ? coroipc::Correlation(input.Byte() & 15, input.Byte() & 3)
                                         : coroipc::Correlation(input.Byte(), ++peer.generation);
  uint8_t* to = nullptr;
  uint32_t wants = 0;
  if (bytes > peer.request.payload_bytes_max()) return;
  if (peer.request.Reserve(bytes, &to, &wants) != COROIPC_OK) return;
  std::memcpy(to, payload, std::min<uint32_t>(bytes, sizeof payload));
  header.bytes = bytes;
  peer.request.Commit(header);
  peer.request.Publish();
  if (peer.request.TakeReaderSleep() || (shape & 128) != 0) Bell(peer);
}

void ReadAll(Peer& peer) {
  peer.Take();
  if (!peer.open() || !peer.mapped) return;
  const fuzz::HonestMemory honestly;
  for (coroipc::RingReader* ring : {&peer.response, &peer.dispatch}) {
    coroipc_record header;
    const uint8_t* payload = nullptr;
    for (int n = 0; n < 64 && ring->Peek(&header, &payload) == COROIPC_OK; ++n) ring->Advance();
    ring->PublishRead();
    if (ring->TakeWriterWants() != 0) Bell(peer);
  }
}

void Poke(Peer& peer) {
  if (!peer.open()) return;
  const uint32_t value = input.Size(4096);
  const size_t at = input.Chance(4) ? input.Half() * 4u : 256u + input.Byte() % 16u * 128u;
  std::memcpy(peer.memory->mapped + at % (peer.memory->bytes - 3), &value, sizeof value);
}

// -- the application ------------------------------------------------------------------------------

void Forget(uint32_t number) {
  std::erase(world->numbers, number);
  std::erase_if(world->correlations, [number](const auto& one) { return one.first == number; });
}

void ReadSegment(coroipcs_connection* connection, const coroipc_entry& row) {
  coroipc_buffer* buffer = nullptr;
  if (coroipcs_buffer_get(connection, row.segment, &buffer) != COROIPC_OK) return;
  MUST(uint64_t{row.offset} + row.bytes <= coroipc_buffer_bytes(buffer));
  fuzz::Batch::Read(static_cast<const uint8_t*>(coroipc_buffer_data(buffer)) + row.offset,
                    row.bytes);
  world->buffers.push_back(buffer);
}

void Receive() {
  fuzz::Batch batch;
  (void)coroipcs_receive(world->server, batch.get(), input.Chance(2));
  for (uint32_t i = 0; i < batch.count(); ++i) {
    const coroipc_entry& row = batch.Row(i);
    coroipcs_connection* const connection = coroipcs_connection_at(world->server, row.connection);
    switch (row.kind) {
      case COROIPC_KIND_AUTHORIZE:
        world->numbers.push_back(row.connection);
        // It may have left already: then the batch says so further down.
        if (connection != nullptr && !input.Chance(8))
          (void)coroipcs_authorize(connection, input.Chance(8) ? COROIPC_DENIED : COROIPC_OK,
                                   input.Chance(2));
        break;
      case COROIPC_KIND_AUTHORIZE_ENDED:
        Forget(row.connection);
        break;
      case COROIPC_KIND_CONNECTED:
        Forget(row.connection);
        world->numbers.push_back(row.connection);
        break;
      case COROIPC_KIND_DISCONNECTED:
        MUST(connection != nullptr);
        Forget(row.connection);
        coroipcs_connection_release(connection);
        break;
      case COROIPC_KIND_REQUEST:
        world->correlations.push_back({row.connection, row.correlation});
        if (row.flags == COROIPC_IN_SEGMENT && connection != nullptr) ReadSegment(connection, row);
        break;
      default:
        break;
    }
  }
}

iovec PayloadOrBuffer() {
  if (world->buffers.empty() || !input.Chance(4)) return fuzz::Payload(kMessageMax);
  coroipc_buffer* const buffer = world->buffers[input.Byte() % world->buffers.size()];
  return {coroipc_buffer_data(buffer),
          input.Size(coroipc_buffer_bytes(buffer)) % (coroipc_buffer_bytes(buffer) + 1)};
}

void Respond() {
  if (world->correlations.empty()) return;
  const size_t index = input.Byte() % world->correlations.size();
  const auto [number, correlation] = world->correlations[index];
  coroipcs_connection* const connection = coroipcs_connection_at(world->server, number);
  if (connection == nullptr) return;
  if (!input.Chance(8)) {
    world->correlations.erase(world->correlations.begin() + static_cast<ptrdiff_t>(index));
  }
  const coroipc_status code = input.Chance(8) ? static_cast<int>(input.Byte()) - 100 : COROIPC_OK;
  if (!world->buffers.empty() && input.Chance(4)) {
    coroipc_buffer* const buffer = world->buffers[input.Byte() % world->buffers.size()];
    const uint32_t offset = input.Chance(2) ? 0 : input.Size(coroipc_buffer_bytes(buffer));
    (void)coroipcs_response_send_buffer(connection, correlation, 0, buffer, offset,
                                        input.Size(coroipc_buffer_bytes(buffer)));
    return;
  }
  const iovec parts[2] = {PayloadOrBuffer(), fuzz::Payload(64)};
  (void)coroipcs_response_send(connection, correlation, code, 1, parts, input.Byte() % 3u);
}

void Dispatch() {
  coroipcs_connection* const connection = Some();
  if (connection == nullptr) return;
  if (!world->buffers.empty() && input.Chance(4)) {
    coroipc_buffer* const buffer = world->buffers[input.Byte() % world->buffers.size()];
    (void)coroipcs_dispatch_send_buffer(connection, 1, buffer, input.Byte(),
                                        input.Size(coroipc_buffer_bytes(buffer)));
    return;
  }
  const iovec part = PayloadOrBuffer();
  (void)coroipcs_dispatch_send(connection, 1, &part, 1);
}

void Buffers() {
  if (input.Chance(2) && !world->buffers.empty()) {
    const size_t index = input.Byte() % world->buffers.size();
    coroipc_buffer_release(world->buffers[index]);
    world->buffers.erase(world->buffers.begin() + static_cast<ptrdiff_t>(index));
    return;
  }
  coroipcs_connection* const connection = Some();
  if (connection == nullptr || world->buffers.size() > 8) return;
  coroipc_buffer* buffer = nullptr;
  const uint32_t bytes = input.Size(kMessageMax);
  if ((input.Chance(2) ? coroipcs_buffer_get(connection, bytes & 7, &buffer)
                       : coroipcs_buffer_alloc(connection, bytes, &buffer)) != COROIPC_OK)
    return;
  MUST(coroipc_buffer_data(buffer) != nullptr);
  std::memset(coroipc_buffer_data(buffer), 3, coroipc_buffer_bytes(buffer));
  world->buffers.push_back(buffer);
}

void SendBatch() {
  coroipc_entry rows[4] = {};
  std::vector<uint8_t> arena(input.Half());
  const uint32_t count = 1 + (input.Byte() & 3);
  for (uint32_t i = 0; i < count; ++i) {
    coroipc_entry& row = rows[i];
    row.kind = input.Chance(8) ? input.Byte()
                               : (input.Chance(2) ? COROIPC_KIND_RESPONSE : COROIPC_KIND_DISPATCH);
    row.connection = input.Byte() & 3;
    if (!world->correlations.empty() && row.kind == COROIPC_KIND_RESPONSE) {
      row.connection = world->correlations.back().first;
      row.correlation = world->correlations.back().second;
      world->correlations.pop_back();
    }
    row.argument = input.Chance(8) ? input.Size(COROIPC_STATUS_COUNT) : 0;
    row.offset = arena.empty() ? 0 : input.Half() % arena.size();
    row.bytes = arena.empty() ? 0 : input.Half() % (arena.size() - row.offset + 1);
  }
  coroipcs_send_batch(world->server, rows, count, arena.data());
}

void Misc() {
  coroipcs_connection* const connection = Some();
  coroipc_stats stats;
  const uint8_t what = input.Byte();
  if (connection == nullptr) {
    (void)coroipcs_stats(world->server, &stats, what & 1);
    return;
  }
  switch (what & 15) {
    case 0:
      (void)coroipcs_disconnect(connection, static_cast<int>(input.Byte() & 63) - 8);
      break;
    case 1:
      coroipcs_connection_hold(connection);
      world->held.push_back(connection);
      break;
    case 2:
      if (world->held.empty()) break;
      coroipcs_connection_release(world->held.back());
      world->held.pop_back();
      break;
    case 3:
      (void)coroipcs_connection_rate_limit(connection,
                                           input.Chance(4) ? COROIPCS_RATE_OFF : input.Size(1000));
      break;
    case 4:
      (void)coroipcs_connection_priority(connection, static_cast<int>(what >> 4) - 2);
      break;
    case 5:
      (void)coroipcs_connection_policy(connection, static_cast<int>(what >> 4) - 2);
      break;
    case 6:
      (void)coroipcs_connection_stats(connection, &stats, what >> 7);
      break;
    case 7:
      (void)coroipcs_authorize(connection, what >> 4, 1);
      break;
    case 8:
      if (input.Chance(4)) (void)coroipcs_service_close(world->server, 1);
      break;
    case 9:
      if (input.Chance(4)) (void)coroipcs_close(world->server);
      break;
    case 10:
      (void)coroipcs_handler_dispatch(
          world->server, static_cast<uint64_t>(what >> 4 & 7) << 32 | (input.Byte() & 3),
          input.Byte());
      break;
    default:
      (void)coroipcs_stats(world->server, &stats, what >> 7);
  }
}

// -- callbacks ------------------------------------------------------------------------------------

void Handle(coroipcs_connection* connection, const coroipcs_request* request, void*) {
  fuzz::Batch::Read(static_cast<const uint8_t*>(request->payload), request->bytes);
  if (request->one_way) return;
  if (input.Chance(4)) {
    world->correlations.push_back({coroipcs_connection_number(connection), request->correlation});
    return;
  }
  const iovec part = fuzz::Payload(kMessageMax);
  (void)coroipcs_response_send(connection, request->correlation, COROIPC_OK, 0, &part, 1);
  if (input.Chance(8)) (void)coroipcs_disconnect(connection, COROIPC_ABORTED);
}

void SetCallbacks(coroipcs_callbacks* callbacks) {
  callbacks->authorize = [](coroipcs_connection*, const coroipc_credentials*, uint16_t,
                            void*) -> coroipc_status {
    return input.Chance(8) ? input.Byte() % COROIPC_STATUS_COUNT : COROIPC_OK;
  };
  callbacks->connected = [](coroipcs_connection* connection, void*) {
    world->numbers.push_back(coroipcs_connection_number(connection));
  };
  callbacks->disconnected = [](coroipcs_connection* connection, coroipc_status, void*) {
    Forget(coroipcs_connection_number(connection));
    return input.Chance(8) ? 1 : 0;
  };
  callbacks->handler_get = [](coroipcs_connection*, uint16_t, uint16_t id,
                              void*) -> coroipcs_handler_fn {
    return id == 255 ? nullptr : Handle;
  };
  callbacks->sending_allowed = [](coroipcs_connection*, const coroipcs_request*, void* scratch,
                                  void*) {
    std::memset(scratch, 1, 512);
    return input.Chance(8) ? static_cast<int>(input.Byte() % 3u) - 1 : 1;
  };
  callbacks->drain = [](coroipcs_connection*, void*) {};
  callbacks->cancelled = [](coroipcs_connection*, uint32_t, void*) {};
}

void Step() {
  auto& peers = world->peers;
  Peer* const peer = peers.empty() ? nullptr : &peers[input.Byte() % peers.size()];
  if (peer != nullptr && input.Chance(2)) peer->Take();
  const uint8_t what = input.Byte() & 31;
  if (peer == nullptr || what == 0) {
    if (peers.size() >= kPeersMax || kernel.listener == nullptr) return;
    Peer made;
    made.socket = kernel.Make(Kind::kSocket);
    kernel.listener->pending.push_back(made.socket);
    if (!input.Chance(8)) SendSetup(made);
    peers.push_back(std::move(made));
    return;
  }
  switch (what) {
    case 1:
      return SendSetup(*peer);
    case 2:
      return SendBytes(*peer);
    case 3:
      return Bell(*peer);
    case 4:
    case 5:
    case 6:
    case 7:
    case 8:
      return SendRecord(*peer);
    case 9:
    case 10:
      return ReadAll(*peer);
    case 11:
      return Poke(*peer);
    case 12:
      if (input.Chance(2)) kernel.peer_dead = true;
      peer->socket->hung_up = true;
      peer->socket->reset = input.Chance(4);
      return;
    case 13:
      peer->socket->room = input.Byte() & 3;
      return;
    case 14:
    case 15:
    case 16:
    case 17:
    case 18:
      if (world->callbacks)
        (void)coroipcs_process(world->server, 0);
      else
        Receive();
      return;
    case 19:
    case 20:
      (void)coroipcs_look(world->server, 0);
      return;
    case 21:
      coroipcs_disarm(world->server);
      return;
    case 22:
    case 23:
      return Respond();
    case 24:
    case 25:
      return Dispatch();
    case 26:
    case 27:
      return Buffers();
    case 28:
      kernel.now += uint64_t{input.Half()} * 1000000u;
      return;
    case 29: {
      static constexpr int kErrors[] = {EMFILE,  ENOMEM, EAGAIN, EINTR,
                                        ENOBUFS, EPERM,  EINVAL, EPIPE};
      const uint8_t which = input.Byte();
      kernel.Fault(1 + (which >> 3), kErrors[which & 7]);
      return;
    }
    case 30:
      return SendBatch();
    default:
      return Misc();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  input.Reset(data, bytes);
  kernel.Reset();
  fuzz::hostile_memory = true;
  World here;
  world = &here;
  const uint8_t shape = input.Byte();
  here.callbacks = (shape & 1) != 0;
  coroipcs_options options;
  coroipcs_options_init(&options);
  options.threads = 0;
  options.request_ring_bytes = options.response_ring_bytes = options.dispatch_ring_bytes = 4096;
  options.ring_bytes_max = 8192;
  options.message_bytes = kMessageMax;
  options.requests_in_flight = 8;
  options.segments = 4;
  options.segment_bytes = 1u << 20;
  options.bytes_per_uid = (shape & 2) != 0 ? 96u << 10 : 4u << 20;
  options.backlog_bytes = (shape & 4) != 0 ? 2048 : 1u << 20;
  options.unsent_bytes = 8192;
  options.handshakes = 2;
  options.authorizing = 1;
  options.prefault = (shape & 8) != 0;
  options.wait = COROIPC_WAIT_SLEEP;
  options.authorize_events = here.callbacks ? 0 : (shape >> 4) & 1;
  if (here.callbacks) SetCallbacks(&options.callbacks);
  kernel.peer_uid = (shape & 32) != 0 ? 65534 : 0;
  kernel.has_peer_pidfd = (shape & 64) == 0;
  kernel.groups = (shape & 128) != 0 ? 100 : 3;
  MUST(coroipcs_create(&options, &here.server) == COROIPC_OK);
  coroipcs_service_options service;
  coroipcs_service_options_init(&service);
  service.policy = input.Byte() & 3;
  service.private_data_bytes = 64;
  MUST(coroipcs_service_add(here.server, 1, &service) == COROIPC_OK);
  MUST(coroipcs_listen(here.server, "@fuzz") == COROIPC_OK);
  while (input.left()) Step();
  kernel.fault_in = 0;
  const bool late = (shape & 3) == 3;  // what is held may outlive the server
  if (late) coroipcs_destroy(here.server);
  for (coroipc_buffer* buffer : here.buffers) coroipc_buffer_release(buffer);
  for (coroipcs_connection* connection : here.held) coroipcs_connection_release(connection);
  if (!late) coroipcs_destroy(here.server);
  kernel.CheckNothingLeft();
  world = nullptr;
  return 0;
}
