// client: a whole client against a hostile server: its reply, the memory that it sends and what is
// wrong with it, what it writes to response and dispatch rings, what its words show, when it
// leaves; an application that does what the C API allows, waiting calls included (while one sleeps
// the server acts); calls that fail. At the end everything is given back.
#include <coroipc/coroipcc.h>
#include <errno.h>
#include <fcntl.h>

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

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
constexpr uint32_t kMessageMax = 64u << 10;

struct World {
  coroipcc_group* group = nullptr;
  coroipcc_connection* connection = nullptr;
  bool leased = false, dispatched = false;
  std::vector<uint32_t> correlations;
  std::vector<coroipc_buffer*> buffers;
  // the server
  ObjectRef memory;
  coroipc_setup_reply reply = {};
  bool initialised = false;
  coroipc::RingReader request;
  coroipc::RingWriter response, dispatch;
  std::vector<coroipc_segment_message> segments;
  std::vector<uint32_t> asked, wanted, wanted_bytes;  // correlations that it has read
};
World* world = nullptr;

ObjectRef MakeMemory(uint32_t bytes) {
  ObjectRef memory = kernel.Make(Kind::kMemory);
  memory->bytes = bytes;
  memory->seals = kSeals;
  if (!input.Chance(8)) return memory;
  const uint8_t wrong = input.Byte();
  switch (wrong & 7) {
    case 0:
      memory->seals &= wrong >> 3;
      break;
    case 1:
      memory->seals = -1;
      break;
    case 2:
      memory->bytes = bytes + (wrong >> 3);
      break;
    case 3:
      memory->access = O_RDONLY;
      break;
    case 4:
      memory->volume = 0x958458f6;  // HUGETLBFS_MAGIC
      break;
    case 5:
      memory->map_denied = true;
      break;
    case 6:
      memory->mode = S_IFCHR | 0600;
      break;
    default:
      return kernel.Make(Kind::kPath);
  }
  return memory;
}

// -- the server -----------------------------------------------------------------------------------

bool Mapped() { return world->memory != nullptr && world->memory->mapped != nullptr; }

void Send(Message message) {
  if (kernel.connected != nullptr) kernel.connected->incoming.push_back(std::move(message));
}

template <typename Struct>
Message Of(const Struct& what) {
  Message message;
  message.bytes.resize(sizeof what);
  std::memcpy(message.bytes.data(), &what, sizeof what);
  return message;
}

void Reply() {
  coroipc::Terms terms = {4096, 4096, 4096, kMessageMax, 8, 4};
  if (input.Chance(4)) terms.response_ring_bytes = 8192;
  if (input.Chance(8)) terms.segments_max = input.Byte();
  if (input.Chance(8)) terms.requests_in_flight = input.Size(8);
  if (input.Chance(8)) terms.message_bytes = input.Size(kMessageMax);
  const coroipc_status status = input.Chance(8) ? static_cast<int>(input.Byte() & 31) : COROIPC_OK;
  coroipc_setup_reply reply = coroipc::MakeSetupReply(status, terms, 77, 88);
  Message message = Of(reply);
  message.credentials = !input.Chance(4);
  message.cut = input.Chance(16);
  if (input.Chance(8)) message.bytes[input.Byte() % sizeof reply] ^= input.Byte();
  if (input.Chance(16)) message.bytes.resize(input.Byte() % 112);
  ObjectRef memory = MakeMemory(coroipc::SegmentBytes(terms));
  memory->content.resize(sizeof(coroipc_control));
  auto* const control = reinterpret_cast<coroipc_control*>(memory->content.data());
  coroipc::FillSegmentHeader(control, terms, 77);
  const uint32_t start = input.Chance(4) ? input.Size(0) : 0u - 8 * input.Byte();
  for (coroipc_ring_words& words : control->ring)
    words.write_position = words.read_position = start;
  if (input.Chance(16)) control->ring[input.Byte() % 3].write_position = input.Word();
  if (status == COROIPC_OK || input.Chance(4)) message.fds.push_back(memory);
  if (input.Chance(16)) message.fds.push_back(kernel.Make(Kind::kPath));
  Send(std::move(message));
  world->memory = memory;
  world->reply = reply;
}

bool Ready() {
  if (!Mapped()) return false;
  if (world->initialised) return true;
  const fuzz::HonestMemory honestly;
  auto* const control = reinterpret_cast<coroipc_control*>(world->memory->mapped);
  const coroipc_setup_reply& reply = world->reply;
  if (coroipc::SegmentBytes({reply.request_ring_bytes, reply.response_ring_bytes,
                             reply.dispatch_ring_bytes, 0, 0, 0}) > world->memory->bytes)
    return false;
  uint8_t* data = world->memory->mapped + COROIPC_CONTROL_BYTES;
  const auto set = [&](auto& ring, uint32_t which, uint32_t bytes) {
    uint8_t* const start = data;
    data += bytes;
    return ring.Init(&control->ring[which], start, bytes) == COROIPC_OK;
  };
  if (!set(world->request, 0, reply.request_ring_bytes) ||
      !set(world->response, 1, reply.response_ring_bytes) ||
      !set(world->dispatch, 2, reply.dispatch_ring_bytes))
    return false;
  world->initialised = true;
  return true;
}

void Bell() {
  Message bell;
  bell.bytes = {COROIPC_SOCKET_DOORBELL};
  Send(std::move(bell));
}

void ReadRequests() {
  if (kernel.connected != nullptr) kernel.connected->outgoing.clear();
  if (!Ready()) return;
  const fuzz::HonestMemory honestly;
  coroipc_record header;
  const uint8_t* payload = nullptr;
  for (int n = 0; n < 64 && world->request.Peek(&header, &payload) == COROIPC_OK; ++n) {
    if (header.kind == COROIPC_RECORD_REQUEST) world->asked.push_back(header.correlation);
    if (header.kind == COROIPC_RECORD_SEGMENT_WANT && header.bytes == 4) {
      uint32_t bytes;
      std::memcpy(&bytes, payload, sizeof bytes);
      world->wanted.push_back(header.correlation);
      world->wanted_bytes.push_back(bytes);
    }
    world->request.Advance();
  }
  world->request.PublishRead();
  if (world->request.TakeWriterWants() != 0) Bell();
}

void SendSegment() {
  coroipc_segment_message segment = {COROIPC_SOCKET_SEGMENT, input.Byte() & 7u,
                                     (1u + (input.Byte() & 31)) * 4096, input.Byte() & 7u};
  ObjectRef memory = MakeMemory(segment.bytes);
  if (input.Chance(8)) segment.bytes = input.Size(4096);
  if (input.Chance(16)) segment.type = input.Byte();
  Message message = Of(segment);
  if (input.Chance(16)) message.bytes.resize(input.Byte() & 31);
  if (!input.Chance(16)) message.fds.push_back(std::move(memory));
  if (input.Chance(16)) message.fds.push_back(kernel.Make(Kind::kSocket));
  message.cut = input.Chance(16);
  Send(std::move(message));
  world->segments.push_back(segment);
}

void SendRecord() {
  if (!Ready()) return;
  const fuzz::HonestMemory honestly;
  const uint8_t shape = input.Byte();
  coroipc::RingWriter& ring = (shape & 1) != 0 ? world->dispatch : world->response;
  coroipc_record header = {};
  header.kind = (shape & 1) != 0   ? COROIPC_RECORD_DISPATCH
                : (shape & 2) != 0 ? COROIPC_RECORD_SEGMENT_GRANT
                                   : COROIPC_RECORD_RESPONSE;
  if ((shape & 0x3c) == 0x3c) header.kind = input.Byte();
  header.argument = input.Chance(8) ? input.Size(COROIPC_STATUS_COUNT) : 0;
  header.status = input.Chance(8) ? static_cast<int32_t>(input.Byte()) : 0;
  uint32_t grant_bytes = 0;
  auto& known = header.kind == COROIPC_RECORD_SEGMENT_GRANT ? world->wanted : world->asked;
  if (!known.empty() && !input.Chance(8)) {
    header.correlation = known.back();
    known.pop_back();
    if (&known == &world->wanted) {
      grant_bytes = world->wanted_bytes.back();
      world->wanted_bytes.pop_back();
    }
  } else {
    header.correlation = coroipc::Correlation(input.Byte() & 31, input.Byte() & 7);
  }
  uint8_t payload[16] = {};
  uint32_t bytes = 0;
  if ((shape & 4) != 0) {
    coroipc_segment_reference reference = {input.Byte() & 7u, 0, grant_bytes, 0};
    if (!world->segments.empty()) {
      const auto& segment = world->segments[input.Byte() % world->segments.size()];
      reference = {segment.index, 0, segment.bytes, segment.generation};
      if (grant_bytes != 0) reference.bytes = grant_bytes;
    }
    if (input.Chance(4)) reference.offset = input.Size(reference.bytes);
    if (input.Chance(4)) reference.bytes = input.Size(reference.bytes);
    std::memcpy(payload, &reference, bytes = sizeof reference);
    header.flags = COROIPC_FLAG_SEGMENT;
  } else {
    bytes = input.Size(2024) % 2025;
  }
  if (input.Chance(16)) header.flags ^= input.Byte();
  uint8_t* to = nullptr;
  uint32_t wants = 0;
  if (bytes > ring.payload_bytes_max() || ring.Reserve(bytes, &to, &wants) != COROIPC_OK) return;
  std::memcpy(to, payload, std::min<uint32_t>(bytes, sizeof payload));
  header.bytes = bytes;
  ring.Commit(header);
  ring.Publish();
  if (ring.TakeReaderSleep() || (shape & 64) != 0) Bell();
}

void Poke() {
  if (!Mapped()) return;
  const uint32_t value = input.Size(4096);
  const size_t at = input.Chance(4) ? input.Half() * 4u : 256u + input.Byte() % 16u * 128u;
  std::memcpy(world->memory->mapped + at % (world->memory->bytes - 3), &value, sizeof value);
}

void Leave() {
  if (kernel.connected == nullptr) return;
  if (input.Chance(2)) kernel.peer_dead = true;
  kernel.connected->hung_up = !input.Chance(4);
  kernel.connected->reset = input.Chance(4);
}

void ServerStep() {
  switch (input.Byte() & 15) {
    case 0:
    case 1:
      return Reply();
    case 2:
      return Bell();
    case 3:
    case 4:
      return SendSegment();
    case 5:
    case 6:
    case 7:
    case 8:
    case 9:
      return SendRecord();
    case 10:
    case 11:
    case 12:
      return ReadRequests();
    case 13:
      return Poke();
    case 14:
      if (kernel.connected != nullptr) kernel.connected->room = input.Byte() & 3;
      return;
    default:
      if (input.Chance(4)) Leave();
  }
}

// -- the application ------------------------------------------------------------------------------

void Connect() {
  if (world->connection != nullptr) return;
  coroipcc_options options;
  coroipcc_options_init(&options);
  const uint8_t shape = input.Byte();
  options.service = 1;
  options.timeout_ms = 5;
  options.wait = (shape & 1) != 0 ? COROIPC_WAIT_SLEEP : COROIPC_WAIT_ADAPTIVE;
  options.trust_server = (shape >> 1) & 1;
  options.message_bytes = (shape & 4) != 0 ? 4096 : 0;
  options.inbox_bytes = (shape & 8) != 0 ? 4096 : 0;
  options.queue_bytes = (shape & 16) != 0 ? 4096 : 0;
  options.require_uid = (shape & 0x60) == 0x60 ? 1 : 0;
  options.require_pid = (shape & 0xc0) == 0xc0 ? 1 : 0;
  options.server_uid = 0;
  options.server_pid = 4243;
  kernel.connect_errno = 0;
  if (input.Chance(8)) kernel.connect_errno = input.Chance(2) ? EAGAIN : ECONNREFUSED;
  kernel.connected = nullptr;
  world->initialised = false;
  world->segments.clear();
  world->asked.clear();
  world->wanted.clear();
  world->wanted_bytes.clear();
  coroipcc_connection* made = nullptr;
  const coroipc_status status =
      input.Chance(2) ? coroipcc_connect(world->group, "@fuzz", &options, 5, &made)
                      : coroipcc_connect_start(world->group, "@fuzz", &options, 5, &made);
  MUST((status == COROIPC_OK) == (made != nullptr));
  world->connection = made;
}

void Disconnect() {
  if (world->connection == nullptr) return;
  // A lease that is held keeps the connection's memory: the application gives it back first.
  if (world->leased) (void)coroipcc_response_release(world->connection);
  if (world->dispatched) (void)coroipcc_dispatch_release(world->connection);
  coroipcc_disconnect(world->connection);
  world->connection = nullptr;
  world->leased = world->dispatched = false;
  world->correlations.clear();
}

void ReadSegment(const coroipc_entry& row) {
  coroipc_buffer* buffer = nullptr;
  if (world->connection == nullptr ||
      coroipcc_buffer_get(world->connection, row.segment, &buffer) != COROIPC_OK)
    return;
  world->buffers.push_back(buffer);
  if (row.kind == COROIPC_KIND_BUFFER) return;
  MUST(uint64_t{row.offset} + row.bytes <= coroipc_buffer_bytes(buffer));
  fuzz::Batch::Read(static_cast<const uint8_t*>(coroipc_buffer_data(buffer)) + row.offset,
                    row.bytes);
}

void Receive() {
  fuzz::Batch batch;
  (void)coroipcc_receive(world->group, batch.get(), input.Chance(2));
  for (uint32_t i = 0; i < batch.count(); ++i) {
    const coroipc_entry& row = batch.Row(i);
    if (row.flags == COROIPC_IN_SEGMENT || (row.kind == COROIPC_KIND_BUFFER && row.argument == 0))
      ReadSegment(row);
  }
}

void Call() {
  coroipcc_response response;
  const uint8_t how = input.Byte();
  const iovec part = fuzz::Payload(kMessageMax);
  if ((how & 3) == 0) {
    uint8_t into[256];
    const uint32_t room = input.Byte();
    if (coroipcc_request(world->connection, 1, &part, 1, 3, into, room, &response) == COROIPC_OK)
      MUST(response.bytes <= room);
    return;
  }
  coroipc_status status = COROIPC_OK;
  if ((how & 3) == 1 && !world->buffers.empty()) {
    coroipc_buffer* const buffer = world->buffers[input.Byte() % world->buffers.size()];
    status = coroipcc_request_buffer(world->connection, 1, buffer, how >> 4,
                                     input.Size(coroipc_buffer_bytes(buffer)), 3, &response);
  } else {
    status = coroipcc_request_in_place(world->connection, 1, &part, 1, 3, &response);
  }
  if (status != COROIPC_OK) return;
  world->leased = true;
  fuzz::Batch::Read(static_cast<const uint8_t*>(response.data), response.bytes);
}

void NextDispatch() {
  coroipcc_dispatch dispatch;
  if (coroipcc_dispatch_receive(world->connection, input.Chance(4) ? 3 : 0, &dispatch) !=
      COROIPC_OK)
    return;
  world->dispatched = true;
  fuzz::Batch::Read(static_cast<const uint8_t*>(dispatch.data), dispatch.bytes);
}

void Buffers() {
  const uint8_t how = input.Byte();
  if ((how & 1) != 0 && !world->buffers.empty()) {
    const size_t index = (how >> 1) % world->buffers.size();
    coroipc_buffer_release(world->buffers[index]);
    world->buffers.erase(world->buffers.begin() + static_cast<ptrdiff_t>(index));
    return;
  }
  if (world->buffers.size() > 6) return;
  uint32_t correlation = 0;
  coroipc_buffer* buffer = nullptr;
  const uint32_t bytes = input.Size(kMessageMax);
  coroipc_status status = COROIPC_AGAIN;
  if ((how & 6) == 0) {
    status = coroipcc_buffer_get(world->connection, bytes & 7, &buffer);
  } else if ((how & 6) == 2) {
    status = coroipcc_buffer_alloc(world->connection, bytes, 3, &buffer);
    if (status == COROIPC_OK) MUST(coroipc_buffer_bytes(buffer) >= bytes);
  } else {
    (void)coroipcc_buffer_alloc_start(world->connection, bytes, &correlation);
  }
  if (status != COROIPC_OK) return;
  std::memset(coroipc_buffer_data(buffer), 9, coroipc_buffer_bytes(buffer));
  world->buffers.push_back(buffer);
}

void SendSome() {
  const iovec part = fuzz::Payload(kMessageMax);
  uint32_t correlation = 0;
  const uint8_t how = input.Byte();
  switch (how & 7) {
    case 0:
      (void)coroipcc_send(world->connection, 2, &part, 1);
      return;
    case 1:
      if (world->correlations.empty()) return;
      (void)coroipcc_cancel(world->connection, world->correlations.back());
      world->correlations.pop_back();
      return;
    case 2: {
      coroipc_entry row = {};
      row.kind = input.Chance(4) ? input.Byte() : COROIPC_KIND_REQUEST;
      row.correlation = input.Byte() & 15;
      (void)coroipcc_send_row(world->connection, &row, &part, 1);
      return;
    }
    case 3: {
      coroipc_entry rows[3] = {};
      std::vector<uint8_t> arena(input.Half());
      for (coroipc_entry& row : rows) {
        row.connection =
            input.Chance(8) ? input.Byte() : coroipcc_connection_number(world->connection);
        row.kind = 1 + input.Byte() % 3u;
        row.correlation = input.Byte() & 15;
        row.offset = arena.empty() ? 0 : input.Half() % arena.size();
        row.bytes = arena.empty() ? 0 : input.Half() % (arena.size() - row.offset + 1);
      }
      coroipcc_send_batch(world->group, rows, 3, arena.data());
      return;
    }
    case 4: {
      if (world->buffers.empty()) return;
      coroipc_buffer* const buffer = world->buffers[input.Byte() % world->buffers.size()];
      coroipc_entry row = {};
      row.kind = COROIPC_KIND_REQUEST;
      row.correlation = how >> 4;
      (void)coroipcc_send_row_buffer(world->connection, &row, buffer, input.Byte(),
                                     input.Size(coroipc_buffer_bytes(buffer)));
      return;
    }
    default:
      if (coroipcc_request_send(world->connection, 1, &part, 1, how, &correlation) == COROIPC_OK)
        world->correlations.push_back(correlation);
  }
}

void ApplicationStep() {
  const uint8_t what = input.Byte() & 15;
  if (world->connection == nullptr && what != 1 && what != 2) return Connect();
  switch (what) {
    case 0:
      if (input.Chance(8)) Disconnect();
      return;
    case 1:
    case 2:
    case 3:
      return Receive();
    case 4:
      (void)coroipcc_look(world->group, 0);
      if (input.Chance(2)) coroipcc_disarm(world->group);
      return;
    case 5:
      return Call();
    case 6:
      if (world->leased) (void)coroipcc_response_release(world->connection);
      world->leased = false;
      return;
    case 7:
      return NextDispatch();
    case 8:
      if (world->dispatched) (void)coroipcc_dispatch_release(world->connection);
      world->dispatched = false;
      return;
    case 9:
    case 10:
      return Buffers();
    case 11:
      coroipcc_dispatch_flow(world->connection, input.Byte() & 1);
      (void)coroipcc_flow_control(world->connection);
      return;
    case 12:
      if (input.Chance(4)) {
        (void)coroipcc_fd(world->connection);
      } else {
        coroipc_stats stats;
        (void)coroipcc_stats(world->connection, &stats, input.Byte() & 1);
      }
      return;
    default:
      return SendSome();
  }
}

void Step() {
  const uint8_t who = input.Byte();
  if (who < 3) {
    static constexpr int kErrors[] = {EMFILE, ENOMEM, EAGAIN, EINTR, ENOBUFS, EPERM, EINVAL, EPIPE};
    const uint8_t which = input.Byte();
    kernel.Fault(1 + (which >> 3), kErrors[which & 7]);
  } else if (who < 6) {
    kernel.now += uint64_t{input.Byte()} * 1000000u;
  } else if ((who & 1) != 0) {
    ServerStep();
  } else {
    ApplicationStep();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  input.Reset(data, bytes);
  kernel.Reset();
  fuzz::hostile_memory = true;
  World here;
  world = &here;
  kernel.on_sleep = [] {
    for (int n = 0; n < 3 && input.left(); ++n) ServerStep();
  };
  coroipcc_group_options options;
  coroipcc_group_options_init(&options);
  options.threads = 0;
  options.wait = COROIPC_WAIT_SLEEP;
  MUST(coroipcc_group_create(&options, &here.group) == COROIPC_OK);
  Connect();
  while (input.left()) Step();
  kernel.fault_in = 0;
  Disconnect();
  const bool late = bytes % 2 == 0;  // what is held may outlive the connection and its group
  if (late) coroipcc_group_destroy(here.group);
  for (coroipc_buffer* buffer : here.buffers) coroipc_buffer_release(buffer);
  if (!late) coroipcc_group_destroy(here.group);
  kernel.CheckNothingLeft();
  world = nullptr;
  return 0;
}
