// Fixed cases of servers that lie to a client: every field of the setup reply, every kind of fd
// beside it, every record and message that a server can send, at each boundary and on both sides of
// it. Each row names the code in which it has to end: of connecting, or of the connection. Rows
// that end in OK are no lies, or lies about what nobody reads: they show that the others are not
// cut off for standing here.
//
// After each row the client's process holds what it held before; a connection to an honest server
// beside it is answered at the end of each table. What takes several steps, or time, is in
// hostile_server_test.cc.
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/timerfd.h>

#include <optional>

#include "hostile.h"

using namespace hostile;

namespace {

constexpr uint32_t kRing = 8192;  // of a RawServer, as all of the following
constexpr uint32_t kInFlight = 8;
constexpr uint32_t kSegments = 4;
constexpr uint32_t kMessage = 1u << 20;
constexpr uint32_t kPage = 4096;

using Lies = Table<std::function<void(RawServer&)>>;

// -- while it connects ----------------------------------------------------------------------------

coroipc_status Connected(const Lies::Row& row) { return ConnectTo(row.lie); }

// The reply, `count` bytes of it, zeros behind it.
void ReplyBytes(RawServer& s, const coroipc_setup_reply& reply, size_t count, bool fd = true) {
  std::vector<uint8_t> bytes(std::max(count, sizeof reply));
  memcpy(bytes.data(), &reply, sizeof reply);
  CHECK(SendWithFds(s.socket, bytes.data(), count,
                    fd ? std::vector<int>{s.segment_fd} : std::vector<int>{}));
}

Lies ReplySizes() {
  Lies table;
  table.Add("no bytes at all", COROIPC_PEER_DEAD, [](RawServer& s) {
    ReplyBytes(s, s.Reply(), 0);
    s.Hang();
  });
  for (uint32_t count = 1; count < 104; ++count) {
    if (count == sizeof(coroipc_setup_reply)) continue;
    table.Add(Named("bytes", count), COROIPC_PROTOCOL,
              [=](RawServer& s) { ReplyBytes(s, s.Reply(), count); });
  }
  for (const uint32_t count : {104u, 105u, 128u, 192u, 255u, 256u, 1024u, 4096u, 65536u, 100000u}) {
    table.Add(Named("bytes", count), COROIPC_PROTOCOL,
              [=](RawServer& s) { ReplyBytes(s, s.Reply(), count); });
  }
  for (const uint32_t count : {8u, 64u, 95u, 97u, 104u}) {
    table.Add(Named("another version, bytes", count), COROIPC_VERSION, [=](RawServer& s) {
      coroipc_setup_reply reply = s.Reply();
      reply.abi_version = 2;
      ReplyBytes(s, reply, count, false);
    });
  }
  table.Add("no reply, a hang-up", COROIPC_PEER_DEAD, [](RawServer& s) { s.Hang(); });
  return table;
}

Lies ReplyFields() {
  Lies table;
  using Change = std::function<void(coroipc_setup_reply*)>;
  const auto add = [&](std::string name, coroipc_status expected, const Change& change) {
    table.Add(std::move(name), expected, [=](RawServer& s) { Reply(s, change); });
  };
  using Field = uint32_t coroipc_setup_reply::*;
  const auto bits = [&](const char* what, Field field, coroipc_status expected) {
    for (uint32_t bit = 0; bit < 32; ++bit) {
      add(Named(what, bit), expected, [=](coroipc_setup_reply* r) { r->*field ^= 1u << bit; });
    }
  };
  bits("magic, bit", &coroipc_setup_reply::magic, COROIPC_PROTOCOL);
  bits("word probe, bit", &coroipc_setup_reply::word_probe, COROIPC_VERSION);
  bits("features, bit", &coroipc_setup_reply::features, COROIPC_VERSION);
  bits("segment bytes, bit", &coroipc_setup_reply::segment_bytes, COROIPC_PROTOCOL);
  bits("request ring, bit", &coroipc_setup_reply::request_ring_bytes, COROIPC_PROTOCOL);
  bits("response ring, bit", &coroipc_setup_reply::response_ring_bytes, COROIPC_PROTOCOL);
  bits("dispatch ring, bit", &coroipc_setup_reply::dispatch_ring_bytes, COROIPC_PROTOCOL);
  for (uint32_t bit = 0; bit < 16; ++bit) {
    const auto flip = static_cast<uint16_t>(1u << bit);
    add(Named("version, bit", bit), COROIPC_VERSION,
        [=](coroipc_setup_reply* r) { r->abi_version ^= flip; });
    add(Named("layout, bit", bit), COROIPC_VERSION,
        [=](coroipc_setup_reply* r) { r->layout ^= flip; });
  }
  // Sizes that agree with each other, of rings that cannot be, or of another segment than came.
  const std::pair<const char*, Field> rings[] = {
      {"request ring", &coroipc_setup_reply::request_ring_bytes},
      {"response ring", &coroipc_setup_reply::response_ring_bytes},
      {"dispatch ring", &coroipc_setup_reply::dispatch_ring_bytes}};
  for (const auto& [what, field] : rings) {
    for (const uint32_t bytes : {0u, 1u, 8u, 2048u, kPage - 1, kPage, kPage + 1, 12288u, 16384u,
                                 1u << 30, (1u << 30) + 1, 1u << 31, ~0u}) {
      add(Named(what, bytes) + ", the sum right", COROIPC_PROTOCOL,
          [bytes, field = field](coroipc_setup_reply* r) {
            r->segment_bytes += bytes - r->*field;
            r->*field = bytes;
          });
    }
  }
  add("two rings exchanged", COROIPC_PROTOCOL, [](coroipc_setup_reply* r) {
    r->request_ring_bytes *= 2;
    r->response_ring_bytes /= 2;
    r->dispatch_ring_bytes =
        r->segment_bytes - kPage - r->request_ring_bytes - r->response_ring_bytes;
  });
  for (const auto& [value, expected] : std::initializer_list<std::pair<uint32_t, coroipc_status>>{
           {0, COROIPC_PROTOCOL},
           {1, COROIPC_OK},
           {1u << 30, COROIPC_OK},
           {(1u << 30) + 1, COROIPC_PROTOCOL},
           {1u << 31, COROIPC_PROTOCOL},
           {~0u, COROIPC_PROTOCOL}}) {
    add(Named("message", value), expected,
        [=, v = value](coroipc_setup_reply* r) { r->message_bytes_max = v; });
  }
  for (const auto& [value, expected] :
       std::initializer_list<std::pair<uint32_t, coroipc_status>>{{0, COROIPC_PROTOCOL},
                                                                  {1, COROIPC_OK},
                                                                  {32768, COROIPC_OK},
                                                                  {32769, COROIPC_PROTOCOL},
                                                                  {65536, COROIPC_PROTOCOL},
                                                                  {1u << 31, COROIPC_PROTOCOL},
                                                                  {~0u, COROIPC_PROTOCOL}}) {
    add(Named("requests in flight", value), expected,
        [=, v = value](coroipc_setup_reply* r) { r->requests_in_flight = v; });
  }
  for (const auto& [value, expected] :
       std::initializer_list<std::pair<uint32_t, coroipc_status>>{{0, COROIPC_OK},
                                                                  {64, COROIPC_OK},
                                                                  {65, COROIPC_PROTOCOL},
                                                                  {256, COROIPC_PROTOCOL},
                                                                  {1u << 31, COROIPC_PROTOCOL},
                                                                  {~0u, COROIPC_PROTOCOL}}) {
    add(Named("segments", value), expected,
        [=, v = value](coroipc_setup_reply* r) { r->segments_max = v; });
  }
  for (uint32_t byte = 0; byte < 8; ++byte) {
    const uint64_t flip = uint64_t{0x11} << (8 * byte);
    add(Named("connection id, byte", byte), COROIPC_PROTOCOL,
        [=](coroipc_setup_reply* r) { r->connection_id ^= flip; });
  }
  add("server id", COROIPC_OK, [](coroipc_setup_reply* r) { r->server_id = ~uint64_t{0}; });
  for (uint32_t byte = 0; byte < 32; ++byte) {
    add(Named("reserved byte", byte), COROIPC_PROTOCOL,
        [=](coroipc_setup_reply* r) { reinterpret_cast<uint8_t*>(r->reserved)[byte] = 0x80; });
  }
  add("as it should be", COROIPC_OK, [](coroipc_setup_reply*) {});
  return table;
}

Lies ReplyStatuses() {
  Lies table;
  const std::set<uint32_t> sayable = {COROIPC_NO_MEMORY,   COROIPC_DENIED,  COROIPC_LIMIT,
                                      COROIPC_NO_SERVICE,  COROIPC_VERSION, COROIPC_PROTOCOL,
                                      COROIPC_TIMED_OUT,   COROIPC_RETRY,   COROIPC_REFUSED,
                                      COROIPC_DISCONNECTED};
  std::vector<uint32_t> statuses = {64, 255, 256, 65536, 0x7fffffff, 0x80000000, ~0u - 1, ~0u};
  for (uint32_t status = 1; status < COROIPC_STATUS_COUNT + 3; ++status) statuses.push_back(status);
  for (const uint32_t status : statuses) {
    const auto change = [=](coroipc_setup_reply* r) { r->status = status; };
    table.Add(Named("refusal with status", status),
              sayable.contains(status) ? static_cast<coroipc_status>(status) : COROIPC_PROTOCOL,
              [=](RawServer& s) { Reply(s, change, {}); });
    table.Add(Named("an fd beside status", status), COROIPC_PROTOCOL,
              [=](RawServer& s) { Reply(s, change); });
  }
  return table;
}

// -- the fd beside the reply ----------------------------------------------------------------------

// A memfd with the right header in it.
int Filled(const RawServer& s, size_t bytes, int seals, unsigned flags = MFD_ALLOW_SEALING) {
  const int fd = memfd_create("test", MFD_CLOEXEC | flags);
  if (fd < 0) return -1;
  REQUIRE(ftruncate(fd, static_cast<off_t>(bytes)) == 0);
  (void)!pwrite(fd, s.memory, std::min<size_t>(bytes, kPage), 0);
  if (seals != 0) REQUIRE(fcntl(fd, F_ADD_SEALS, seals) == 0);
  return fd;
}
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

int Reopened(int fd, int flags) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  return open(path, flags | O_CLOEXEC);
}

int FileOf(const char* directory, size_t bytes) {
  const int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd >= 0) REQUIRE(ftruncate(fd, static_cast<off_t>(bytes)) == 0);
  return fd;
}

Lies ReplyFds() {
  Lies table;
  for (const uint32_t many : {0u, 2u, 3u, 4u, 10u, 28u, 29u, 64u, 252u, 253u}) {
    table.Add(Named("fds", many), COROIPC_PROTOCOL,
              [=](RawServer& s) { Reply(s, nullptr, std::vector<int>(many, -1)); });
  }
  const auto add = [&](std::string name, coroipc_status expected,
                       const std::function<int(RawServer&, size_t)>& make) {
    table.Add(std::move(name), expected, [=](RawServer& s) {
      const int fd = make(s, SegmentBytes(s.terms));
      REQUIRE(fd >= 0);
      Reply(s, nullptr, {fd});
      close(fd);
    });
  };
  const int all[] = {F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE, F_SEAL_FUTURE_WRITE};
  for (uint32_t set = 0; set < 32; ++set) {
    int seals = 0;
    for (int i = 0; i < 5; ++i) seals |= (set >> i & 1) != 0 ? all[i] : 0;
    add(Named("seals", static_cast<uint32_t>(seals)),
        seals == kSeals ? COROIPC_OK : COROIPC_PROTOCOL,
        [=](RawServer& s, size_t bytes) { return Filled(s, bytes, seals); });
  }
  const size_t right = kPage + 3 * kRing;
  for (const size_t bytes :
       {size_t{0}, size_t{1}, size_t{kPage - 1}, size_t{kPage}, right - kPage, right - 1, right + 1,
        right + kPage, 2 * right, size_t{1} << 32, (size_t{1} << 32) + right, size_t{1} << 40}) {
    add("bytes of memory: " + std::to_string(bytes), COROIPC_PROTOCOL,
        [=](RawServer& s, size_t) { return Filled(s, bytes, kSeals); });
  }
  add("memory without a header", COROIPC_PROTOCOL,
      [](RawServer&, size_t bytes) { return MakeSegment(bytes); });
  for (const auto& [name, flags] :
       std::initializer_list<std::pair<const char*, int>>{{"memory opened for reading", O_RDONLY},
                                                          {"memory opened for writing", O_WRONLY},
                                                          {"memory opened as a path", O_PATH}}) {
    add(name, COROIPC_PROTOCOL,
        [=, f = flags](RawServer& s, size_t) { return Reopened(s.segment_fd, f); });
  }
  add("memory opened once more", COROIPC_OK,
      [](RawServer& s, size_t) { return Reopened(s.segment_fd, O_RDWR); });
  add("memory opened for appending", COROIPC_OK,
      [](RawServer& s, size_t) { return Reopened(s.segment_fd, O_RDWR | O_APPEND); });
  for (const char* const directory : {"/tmp", "/dev/shm", "/var/tmp"}) {
    if (const int probe = FileOf(directory, 0); probe >= 0) {
      close(probe);
      add(std::string("a file in ") + directory, COROIPC_PROTOCOL,
          [=](RawServer&, size_t bytes) { return FileOf(directory, bytes); });
    }
  }
  add("a directory", COROIPC_PROTOCOL,
      [](RawServer&, size_t) { return open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC); });
  for (const char* const path : {"/dev/null", "/dev/zero", "/dev/full", "/proc/self/mem",
                                 "/proc/self/maps", "/proc/self/exe"}) {
    const int mode = strncmp(path, "/dev", 4) == 0 ? O_RDWR : O_RDONLY;
    add(path, COROIPC_PROTOCOL, [=](RawServer&, size_t) { return open(path, mode | O_CLOEXEC); });
  }
  for (const int end : {0, 1}) {
    add(Named("a pipe's end", static_cast<uint32_t>(end)), COROIPC_PROTOCOL,
        [=](RawServer&, size_t) {
          int fds[2];
          REQUIRE(pipe2(fds, O_CLOEXEC) == 0);
          close(fds[1 - end]);
          return fds[end];
        });
  }
  const std::pair<const char*, int (*)()> kinds[] = {
      {"a socket", [] { return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0); }},
      {"a socket of packets", [] { return socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0); }},
      {"a datagram socket", [] { return socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0); }},
      {"an eventfd", [] { return eventfd(0, EFD_CLOEXEC); }},
      {"an epoll set", [] { return epoll_create1(EPOLL_CLOEXEC); }},
      {"a timer", [] { return timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC); }},
      {"an inotify", [] { return inotify_init1(IN_CLOEXEC); }},
      {"a pidfd", [] { return static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0)); }}};
  for (const auto& [name, make] : kinds)
    add(name, COROIPC_PROTOCOL, [m = make](RawServer&, size_t) { return m(); });
  table.Add("the connection's own socket", COROIPC_PROTOCOL,
            [](RawServer& s) { Reply(s, nullptr, {s.socket}); });
  table.Add("the listening socket", COROIPC_PROTOCOL,
            [](RawServer& s) { Reply(s, nullptr, {s.listener}); });
  return table;
}

Lies Memory() {
  Lies table;
  for (uint32_t at = 0; at < offsetof(coroipc_segment_header, reserved); ++at) {
    table.Add(Named("header, byte", at), COROIPC_PROTOCOL, [=](RawServer& s) {
      s.memory[at] ^= 0x10;
      Reply(s, nullptr);
    });
  }
  for (uint32_t at = 0; at < kPage; at += 504) {
    if (at < offsetof(coroipc_segment_header, reserved)) continue;
    table.Add(Named("unused byte of the control page", at), COROIPC_OK, [=](RawServer& s) {
      s.memory[at | 4] = 0xff;  // never the first byte of a word that somebody reads
      Reply(s, nullptr);
    });
  }
  // Rings that the reply, the header and the memory agree on.
  const std::pair<const char*, uint32_t Terms::*> rings[] = {
      {"request ring", &Terms::request_ring_bytes},
      {"response ring", &Terms::response_ring_bytes},
      {"dispatch ring", &Terms::dispatch_ring_bytes}};
  for (const auto& [what, ring] : rings) {
    for (const uint32_t bytes : {0u, 3 * kPage, kPage, 5 * kPage, 4 * kPage}) {
      const bool power = bytes != 0 && (bytes & (bytes - 1)) == 0;
      table.Add(Named(what, bytes) + ", agreed on", power ? COROIPC_OK : COROIPC_PROTOCOL,
                [=, r = ring](RawServer& s) {
                  Terms terms = s.terms;
                  terms.*r = bytes;
                  const int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
                  alignas(8) coroipc_control control = {};
                  FillSegmentHeader(&control, terms, 77);
                  REQUIRE(ftruncate(fd, SegmentBytes(terms)) == 0);
                  REQUIRE(pwrite(fd, &control, sizeof control, 0) == sizeof control);
                  REQUIRE(fcntl(fd, F_ADD_SEALS, kSeals) == 0);
                  const coroipc_setup_reply reply = MakeSetupReply(COROIPC_OK, terms, 77, 78);
                  CHECK(SendWithFds(s.socket, &reply, sizeof reply, {fd}));
                  close(fd);
                });
    }
  }
  // All agree on how large the memory is, but the rings need more, or less.
  const uint32_t needed = kPage + 3 * kRing;
  for (const uint32_t bytes :
       {kPage, kPage + kRing, needed - kPage, needed - 8, needed + 8, needed + kPage, 2 * needed}) {
    table.Add(Named("memory agreed on for rings that need another size", bytes), COROIPC_PROTOCOL,
              [=](RawServer& s) {
                const int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
                alignas(8) coroipc_control control = {};
                FillSegmentHeader(&control, s.terms, 77);
                control.header.segment_bytes = bytes;
                REQUIRE(ftruncate(fd, bytes) == 0);
                REQUIRE(pwrite(fd, &control, sizeof control, 0) == sizeof control);
                REQUIRE(fcntl(fd, F_ADD_SEALS, kSeals) == 0);
                coroipc_setup_reply reply = MakeSetupReply(COROIPC_OK, s.terms, 77, 78);
                reply.segment_bytes = bytes;
                CHECK(SendWithFds(s.socket, &reply, sizeof reply, {fd}));
                close(fd);
              });
  }
  // The client's own position is read this once: it writes the request ring and reads the others.
  const auto own = [](RawServer& s, uint32_t ring) -> uint32_t& {
    return ring == 0 ? s.control->ring[0].write_position : s.control->ring[ring].read_position;
  };
  for (uint32_t ring = 0; ring < 3; ++ring) {
    const std::string name = Named("ring", ring);
    for (const uint32_t position :
         {1u, 2u, 4u, 7u, 12u, kRing - 1, kRing - 4, 1u + (1u << 31), ~0u}) {
      table.Add(name + Named(" starts at crooked", position), COROIPC_PROTOCOL, [=](RawServer& s) {
        StoreRelaxed(own(s, ring), position);
        Reply(s, nullptr);
      });
    }
    for (const uint32_t position : {8u, 24u, kRing - 8, kRing, 1u << 31, 0u - 8u}) {
      table.Add(name + Named(" starts at", position), COROIPC_OK, [=](RawServer& s) {
        StoreRelaxed(s.control->ring[ring].write_position, position);
        StoreRelaxed(s.control->ring[ring].read_position, position);
        Reply(s, nullptr);
      });
    }
  }
  return table;
}

// -- while a call waits ---------------------------------------------------------------------------

// The state of the connection afterwards. A call whose connection ended is told that nobody knows
// what became of it.
coroipc_status Ended(const Lies::Row& row) {
  const CallOutcome outcome = CallWhile(row.lie);
  CHECK_EQ(outcome.call, outcome.state == COROIPC_OK ? COROIPC_OK : COROIPC_UNKNOWN_OUTCOME);
  return outcome.state;
}

void PutRaw(RawServer& s, int ring, coroipc_record record, uint32_t position) {
  memcpy(ring == 1 ? s.response_data : s.dispatch_data, &record, sizeof record);
  StoreSeqCst(s.control->ring[ring].write_position, position);
  s.Bell();
}

Lies Positions() {
  Lies table;
  for (const int ring : {1, 2}) {
    const char* const where = ring == 1 ? "response ring: " : "dispatch ring: ";
    for (const uint32_t position :
         {1u,       2u,        3u,         4u,       5u,        6u,        7u,
          8u,       9u,        12u,        16u,      24u,       25u,       32u,
          4096u,    kRing - 8, kRing - 1,  kRing,    kRing + 1, kRing + 8, 1u << 16,
          1u << 30, 1u << 31,  0u - kRing, 0u - 24u, 0u - 8u,   ~0u}) {
      table.Add(where + Named("write position", position), COROIPC_PROTOCOL,
                [=](RawServer& s) { PutRaw(s, ring, {}, position); });
    }
    const uint8_t kind = ring == 1 ? COROIPC_RECORD_RESPONSE : COROIPC_RECORD_DISPATCH;
    const uint32_t most = kRing / 2 - COROIPC_RECORD_BYTES;
    for (const uint32_t bytes : {most + 1, most + 7, most + 8, most + 24, kRing - 24, kRing - 1,
                                 kRing, kRing + 8, kMessage, 1u << 30, (1u << 31) - 1, 1u << 31,
                                 ~0u - 47, ~0u - 31, ~0u - 23, ~0u - 7, ~0u}) {
      table.Add(where + Named("length", bytes), COROIPC_PROTOCOL, [=](RawServer& s) {
        coroipc_record record = Record(kind, kFirst);
        record.bytes = bytes;
        PutRaw(s, ring, record, kRing);
      });
    }
    for (const auto& [bytes, position] : std::initializer_list<std::pair<uint32_t, uint32_t>>{
             {1, 24}, {8, 24}, {9, 32}, {1000, 1016}, {most, kRing / 2 - 8}, {0, 8}, {0, 16}}) {
      table.Add(where + Named("published, of a record with payload", position) + " " +
                    std::to_string(bytes),
                COROIPC_PROTOCOL, [=, b = bytes, p = position](RawServer& s) {
                  coroipc_record record = Record(kind, kFirst);
                  record.bytes = b;
                  PutRaw(s, ring, record, p);
                });
    }
    for (const uint32_t bytes : {0u, 8u, 16u, kRing - 8, kRing, ~0u}) {
      table.Add(where + Named("pad at the start", bytes), COROIPC_PROTOCOL, [=](RawServer& s) {
        coroipc_record pad = Record(COROIPC_RECORD_PAD);
        pad.bytes = bytes;
        PutRaw(s, ring, pad, kRing);
      });
    }
  }
  for (const uint32_t bytes : {0u, 1u, 7u, 8u, 9u, 4000u, kRing / 2 - COROIPC_RECORD_BYTES}) {
    table.Add(Named("honest answer of bytes", bytes), COROIPC_OK, [=](RawServer& s) {
      const std::vector<uint8_t> payload(bytes, 'p');
      s.Answer(kFirst, payload.data(), bytes);
    });
    table.Add(Named("honest dispatch of bytes", bytes), COROIPC_OK, [=](RawServer& s) {
      const std::vector<uint8_t> payload(bytes, 'p');
      s.Put(s.dispatch, Record(COROIPC_RECORD_DISPATCH), payload.data(), bytes);
      s.Answer(kFirst);
    });
  }
  return table;
}

// Rings full of whole records, so that nothing but the position itself is a lie.
Lies PositionsOverRecords() {
  Lies table;
  constexpr uint32_t kWhole = 32;
  const auto lie = [](uint32_t honest, uint32_t position) {
    return [=](RawServer& s) {
      coroipc_record dispatch = Record(COROIPC_RECORD_DISPATCH);
      dispatch.bytes = kWhole - COROIPC_RECORD_BYTES;
      for (uint32_t at = 0; at < kRing; at += kWhole)
        memcpy(s.dispatch_data + at, &dispatch, sizeof dispatch);
      coroipc_ring_words& words = s.control->ring[2];
      if (honest != 0) {
        StoreSeqCst(words.write_position, honest);
        s.Bell();
        REQUIRE(Eventually([&] { return LoadSeqCst(words.read_position) == honest; }));
      }
      StoreSeqCst(words.write_position, position);
      s.Bell();
    };
  };
  for (const uint32_t ahead : {kWhole, 4 * kWhole, kRing, 1u << 30, 1u << 31}) {
    table.Add(Named("more than a ring full of records, by", ahead), COROIPC_PROTOCOL,
              lie(0, kRing + ahead));
    table.Add(Named("the same after some were read, by", ahead), COROIPC_PROTOCOL,
              lie(4 * kWhole, 4 * kWhole + kRing + ahead));
  }
  for (const uint32_t position : {0u, kWhole, 3 * kWhole, 0u - kWhole}) {
    table.Add(Named("back over records to", position), COROIPC_PROTOCOL, lie(4 * kWhole, position));
  }
  for (const uint32_t position : {1u, 4u, kWhole + 4, 4 * kWhole + 1, kRing - 4}) {
    table.Add(Named("in the middle of records", position), COROIPC_PROTOCOL, lie(0, position));
  }
  return table;
}

Lies Kinds() {
  Lies table;
  for (uint32_t kind = 0; kind < 256; ++kind) {
    if (kind != COROIPC_RECORD_RESPONSE) {
      table.Add(Named("response ring: kind", kind), COROIPC_PROTOCOL, [=](RawServer& s) {
        s.Put(s.response, Record(static_cast<uint8_t>(kind), kFirst), "abcdefgh", 8);
      });
    }
    if (kind != COROIPC_RECORD_DISPATCH) {
      table.Add(Named("dispatch ring: kind", kind), COROIPC_PROTOCOL, [=](RawServer& s) {
        s.Put(s.dispatch, Record(static_cast<uint8_t>(kind), kFirst), "abcdefgh", 8);
      });
    }
  }
  for (uint32_t flag = 2; flag < 256; flag *= 2) {
    const auto flags = static_cast<uint8_t>(flag);
    table.Add(Named("answer with flag", flag), COROIPC_PROTOCOL, [=](RawServer& s) {
      s.Put(s.response, Record(COROIPC_RECORD_RESPONSE, kFirst, flags), "x", 1);
    });
    table.Add(Named("dispatch with flag", flag), COROIPC_PROTOCOL, [=](RawServer& s) {
      s.Put(s.dispatch, Record(COROIPC_RECORD_DISPATCH, 0, flags), "x", 1);
    });
  }
  for (const uint32_t code : {31u, 32u, 64u, 255u, 256u, 1000u, 1u << 16, 1u << 31, ~0u - 1, ~0u}) {
    table.Add(Named("answer with code", code), COROIPC_PROTOCOL, [=](RawServer& s) {
      coroipc_record record = Record(COROIPC_RECORD_RESPONSE, kFirst);
      record.argument = code;
      s.Put(s.response, record, nullptr, 0);
    });
  }
  return table;
}

Lies Correlations() {
  Lies table;
  std::vector<uint32_t> correlations = {2 * kInFlight,
                                        2 * kInFlight | 1u << 16,
                                        64u | 1u << 16,
                                        0xffffu,
                                        0xffffu | 1u << 16,
                                        1u << 31,
                                        ~0u};
  for (uint32_t slot = 0; slot < 2 * kInFlight; ++slot) {
    for (const uint32_t generation : {0u, 1u, 2u, 65535u})
      correlations.push_back(slot | generation << 16);
  }
  for (const uint32_t correlation : correlations) {
    if (correlation != kFirst) {
      table.Add(Named("answer to", correlation), COROIPC_PROTOCOL,
                [=](RawServer& s) { s.Answer(correlation, "x", 1); });
    }
    table.Add(Named("refused grant to", correlation), COROIPC_PROTOCOL, [=](RawServer& s) {
      coroipc_record grant = Record(COROIPC_RECORD_SEGMENT_GRANT, correlation);
      grant.status = COROIPC_LIMIT;
      s.Put(s.response, grant, nullptr, 0);
    });
  }
  return table;
}

// What an answer says is the caller's to judge.
struct Said {
  uint32_t code;
};
using Answers = Table<Said>;
Answers AnswerCodes() {
  Answers table;
  for (uint32_t code = 0; code < COROIPC_STATUS_COUNT; ++code)
    table.Add(Named("answer with code", code), static_cast<coroipc_status>(code), {code});
  return table;
}
coroipc_status Told(const Answers::Row& row) {
  const CallOutcome outcome = CallWhile([&](RawServer& s) {
    coroipc_record record = Record(COROIPC_RECORD_RESPONSE, kFirst);
    record.argument = row.lie.code;
    s.Put(s.response, record, nullptr, 0);
  });
  CHECK_EQ(outcome.state, COROIPC_OK);
  return outcome.call;
}

void SendMemory(RawServer& s, uint32_t index, uint32_t said, size_t is, uint32_t generation = 1,
                int seals = kSeals) {
  const int fd = Filled(s, is, seals);
  s.SendSegment(index, said, generation, fd);
  close(fd);
}

Lies Segments() {
  Lies table;
  const auto refer = [](RawServer& s, coroipc_segment_reference reference) {
    s.Put(s.response, Record(COROIPC_RECORD_RESPONSE, kFirst, COROIPC_FLAG_SEGMENT), &reference,
          sizeof reference);
  };
  const uint32_t size = 65536;
  for (const uint32_t index :
       {kSegments, kSegments + 1, 15u, 63u, 64u, 65u, 256u, 1u << 16, 1u << 31, ~0u - 1, ~0u}) {
    table.Add(Named("segment with index", index), COROIPC_PROTOCOL,
              [=](RawServer& s) { SendMemory(s, index, size, size); });
  }
  for (const uint32_t is :
       {0u, 1u, kPage, size - kPage, size - 1, size + 1, size + kPage, 2 * size}) {
    table.Add(Named("segment with other bytes than said", is), COROIPC_PROTOCOL,
              [=](RawServer& s) { SendMemory(s, 0, size, is); });
  }
  for (const uint32_t said : {0u, 1u, kPage - 1, kPage + 1, size - 1, 1u << 30, 1u << 31,
                              (1u << 31) + kPage, ~0u - 4095, ~0u}) {
    table.Add(Named("segment that is said to have", said), COROIPC_PROTOCOL,
              [=](RawServer& s) { SendMemory(s, 0, said, size); });
  }
  const int all[] = {F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE, F_SEAL_FUTURE_WRITE};
  for (uint32_t set = 0; set < 32; ++set) {
    int seals = 0;
    for (int i = 0; i < 5; ++i) seals |= (set >> i & 1) != 0 ? all[i] : 0;
    table.Add(Named("segment with seals", static_cast<uint32_t>(seals)),
              seals == kSeals ? COROIPC_OK : COROIPC_PROTOCOL, [=](RawServer& s) {
                SendMemory(s, 1, size, size, 5, seals);
                refer(s, {1, 0, 8, 5});
              });
  }
  table.Add("the same generation again", COROIPC_PROTOCOL, [=](RawServer& s) {
    SendMemory(s, 0, size, size);
    SendMemory(s, 0, size, size);
  });
  table.Add("another generation under the same index", COROIPC_OK, [=](RawServer& s) {
    SendMemory(s, 0, size, size, 1);
    SendMemory(s, 0, size, size, 2);
    refer(s, {0, 0, 8, 2});
  });
  table.Add("the generation before", COROIPC_PROTOCOL, [=](RawServer& s) {
    SendMemory(s, 0, size, size, 1);
    SendMemory(s, 0, size, size, 2);
    s.AwaitSocketRead();  // whose second segment is still on its way has the first one yet
    refer(s, {0, 0, 8, 1});
  });
  table.Add("reference before its segment", COROIPC_PROTOCOL, [=](RawServer& s) {
    refer(s, {1, 0, 8, 5});
    SleepMs(5);
    (void)!SendWithFds(s.socket, "\1", 1, {});
  });
  for (const uint32_t index : {0u, 2u, 3u, kSegments, 63u, 64u, 255u, 256u, 1u << 31, ~0u}) {
    table.Add(Named("reference to index", index), COROIPC_PROTOCOL, [=](RawServer& s) {
      SendMemory(s, 1, size, size, 5);
      refer(s, {index, 0, 8, 5});
    });
  }
  for (const uint32_t generation : {0u, 1u, 4u, 6u, 5u + (1u << 16), 1u << 31, ~0u}) {
    table.Add(Named("reference to generation", generation), COROIPC_PROTOCOL, [=](RawServer& s) {
      SendMemory(s, 1, size, size, 5);
      refer(s, {1, 0, 8, generation});
    });
  }
  for (const auto& [offset, bytes] :
       std::initializer_list<std::pair<uint32_t, uint32_t>>{{0, size + 1},
                                                            {1, size},
                                                            {8, size - 7},
                                                            {size - 1, 2},
                                                            {size, 1},
                                                            {size + 1, 0},
                                                            {1u << 31, 1u << 31},
                                                            {~0u, 0},
                                                            {~0u, 1},
                                                            {~0u, 2},
                                                            {~0u, ~0u},
                                                            {0, ~0u},
                                                            {8, ~0u - 7},
                                                            {0, kMessage + 1},
                                                            {0, 1u << 31}}) {
    table.Add(Named("offset", offset) + Named(", bytes", bytes), COROIPC_PROTOCOL,
              [=, o = offset, b = bytes](RawServer& s) {
                SendMemory(s, 1, size, size, 5);
                refer(s, {1, o, b, 5});
              });
  }
  for (const auto& [offset, bytes] : std::initializer_list<std::pair<uint32_t, uint32_t>>{
           {0, 0}, {0, 1}, {0, size}, {1, size - 1}, {size - 1, 1}, {size, 0}}) {
    table.Add(Named("honest offset", offset) + Named(", bytes", bytes), COROIPC_OK,
              [=, o = offset, b = bytes](RawServer& s) {
                SendMemory(s, 1, size, size, 5);
                refer(s, {1, o, b, 5});
              });
  }
  for (const uint32_t bytes : {kMessage - 1, kMessage, kMessage + 1, 2 * kMessage}) {
    table.Add(Named("answer in memory that would hold it, bytes", bytes),
              bytes <= kMessage ? COROIPC_OK : COROIPC_PROTOCOL, [=](RawServer& s) {
                SendMemory(s, 1, 2 * kMessage, 2 * kMessage, 5);
                refer(s, {1, 0, bytes, 5});
              });
  }
  for (const uint32_t count : {0u, 1u, 8u, 12u, 15u, 17u, 24u, 32u}) {
    table.Add(Named("reference of bytes", count), COROIPC_PROTOCOL, [=](RawServer& s) {
      SendMemory(s, 1, size, size, 5);
      const coroipc_segment_reference payload[2] = {{1, 0, 8, 5}, {}};
      s.Put(s.response, Record(COROIPC_RECORD_RESPONSE, kFirst, COROIPC_FLAG_SEGMENT), payload,
            count);
    });
    table.Add(Named("dispatch: reference of bytes", count), COROIPC_PROTOCOL, [=](RawServer& s) {
      SendMemory(s, 1, size, size, 5);
      const coroipc_segment_reference payload[2] = {{1, 0, 8, 5}, {}};
      s.Put(s.dispatch, Record(COROIPC_RECORD_DISPATCH, 0, COROIPC_FLAG_SEGMENT), payload, count);
    });
  }
  return table;
}

// What is granted to a call that waits for a buffer, or for a segment for its large request.
struct Grant {
  coroipc_record record;
  coroipc_segment_reference reference;
};
using Grants = Table<std::function<void(Grant&)>>;
constexpr uint32_t kWanted = 100000, kGranted = 131072;

Grants GrantsFor(const char* who) {
  Grants table;
  const auto add = [&](const std::string& name, coroipc_status expected,
                       const std::function<void(Grant&)>& change) {
    table.Add(std::string(who) + ": " + name, expected, change);
  };
  add("as it was wanted", COROIPC_OK, [](Grant&) {});
  for (const uint32_t delta : {1u, 2u, 0x8000u, 0xffffu}) {
    add(Named("another generation, off by", delta), COROIPC_PROTOCOL,
        [=](Grant& g) { g.record.correlation += delta << 16; });
  }
  for (const uint32_t slot : {1u, 7u, 9u, 15u, 16u, 255u, 65535u}) {
    add(Named("another slot", slot), COROIPC_PROTOCOL,
        [=](Grant& g) { g.record.correlation = (g.record.correlation & 0xffff0000u) | slot; });
  }
  for (const uint32_t bytes : {0u, 1u, kWanted - 1, kWanted + 1, kGranted, kGranted + 1, ~0u}) {
    add(Named("of other bytes", bytes), COROIPC_PROTOCOL,
        [=](Grant& g) { g.reference.bytes = bytes; });
  }
  for (const uint32_t offset : {1u, 8u, kGranted - kWanted, kGranted, ~0u}) {
    add(Named("at offset", offset), COROIPC_PROTOCOL,
        [=](Grant& g) { g.reference.offset = offset; });
  }
  for (const uint32_t index : {1u, 3u, kSegments, 64u, ~0u}) {
    add(Named("of index", index), COROIPC_PROTOCOL, [=](Grant& g) { g.reference.index = index; });
  }
  add("of another generation of its segment", COROIPC_PROTOCOL,
      [](Grant& g) { ++g.reference.generation; });
  add("as an answer", COROIPC_PROTOCOL, [](Grant& g) { g.record.kind = COROIPC_RECORD_RESPONSE; });
  add("with another flag", COROIPC_PROTOCOL, [](Grant& g) { g.record.flags |= 2; });
  return table;
}

// The state of a connection whose call wants memory and is granted what the row makes of it.
template <typename Call>
coroipc_status Granting(const Grants::Row& row, const Call& call) {
  const int fds = OpenFds();
  coroipc_status state;
  {
    RawServer server;
    Client client;
    std::thread liar([&] {
      server.Serve();
      coroipc_record want = {};
      REQUIRE(server.TakeRequest(&want));
      CHECK_EQ(want.kind, COROIPC_RECORD_SEGMENT_WANT);
      SendMemory(server, 0, kGranted, kGranted);
      Grant grant = {Record(COROIPC_RECORD_SEGMENT_GRANT, want.correlation, COROIPC_FLAG_SEGMENT),
                     {0, 0, kWanted, 1}};
      row.lie(grant);
      server.Put(server.response, grant.record, &grant.reference, sizeof grant.reference);
      if (row.expected == COROIPC_OK && SlotOf(want.correlation) == 0) {
        REQUIRE(server.TakeRequest(&want));
        server.Answer(want.correlation);
      }
    });
    REQUIRE(client.Connect(server.name) == COROIPC_OK);
    const coroipc_status called = call(client);
    state = coroipcc_state(client.connection);
    CHECK((called == COROIPC_OK) == (state == COROIPC_OK));
    liar.join();
  }
  CHECK_EQ(OpenFds(), fds);
  return state;
}
coroipc_status Allocating(const Grants::Row& row) {
  return Granting(row, [](Client& client) {
    coroipc_buffer* buffer = nullptr;
    const coroipc_status status =
        coroipcc_buffer_alloc(client.connection, kWanted, kPatienceMs, &buffer);
    CHECK((status == COROIPC_OK) == (buffer != nullptr));
    if (buffer != nullptr) coroipc_buffer_release(buffer);
    return status;
  });
}
coroipc_status Requesting(const Grants::Row& row) {
  return Granting(row, [](Client& client) {
    const std::vector<uint8_t> large(kWanted);
    return client.Call(kEcho, large.data(), large.size());
  });
}

// What a server says to a call, by its correlation, of a client that holds a buffer in segment 0.
using Claims = Table<std::function<void(RawServer&, uint32_t)>>;
Claims Held() {
  Claims table;
  const auto answer = [](RawServer& s, uint32_t correlation, coroipc_segment_reference reference) {
    s.Put(s.response, Record(COROIPC_RECORD_RESPONSE, correlation, COROIPC_FLAG_SEGMENT),
          &reference, sizeof reference);
  };
  for (const uint32_t bytes : {0u, 1u, 8u, kWanted, kGranted}) {
    table.Add(Named("an answer in it, bytes", bytes), COROIPC_PROTOCOL,
              [=](RawServer& s, uint32_t correlation) {
                answer(s, correlation, {0, 0, bytes, 1});
              });
  }
  table.Add("a dispatch in it", COROIPC_PROTOCOL, [](RawServer& s, uint32_t) {
    const coroipc_segment_reference reference = {0, 0, 8, 1};
    s.Put(s.dispatch, Record(COROIPC_RECORD_DISPATCH, 0, COROIPC_FLAG_SEGMENT), &reference,
          sizeof reference);
  });
  table.Add("other memory in its place", COROIPC_PROTOCOL,
            [](RawServer& s, uint32_t) { SendMemory(s, 0, kGranted, kGranted, 2); });
  table.Add("an answer in another one", COROIPC_OK, [=](RawServer& s, uint32_t correlation) {
    SendMemory(s, 1, kGranted, kGranted);
    answer(s, correlation, {1, 0, 8, 1});
  });
  return table;
}
coroipc_status Holding(const Claims::Row& row) {
  const int fds = OpenFds();
  coroipc_status state;
  {
    RawServer server;
    Client client;
    std::thread liar([&] {
      server.Serve();
      coroipc_record asked = {};
      REQUIRE(server.TakeRequest(&asked));
      SendMemory(server, 0, kGranted, kGranted);
      const coroipc_segment_reference granted = {0, 0, kWanted, 1};
      server.Put(server.response,
                 Record(COROIPC_RECORD_SEGMENT_GRANT, asked.correlation, COROIPC_FLAG_SEGMENT),
                 &granted, sizeof granted);
      REQUIRE(server.TakeRequest(&asked));
      CHECK_EQ(asked.kind, COROIPC_RECORD_REQUEST);
      row.lie(server, asked.correlation);
    });
    REQUIRE(client.Connect(server.name) == COROIPC_OK);
    coroipc_buffer* buffer = nullptr;
    REQUIRE(coroipcc_buffer_alloc(client.connection, kWanted, kPatienceMs, &buffer) == COROIPC_OK);
    const coroipc_status called = client.Call(kEcho, "hello", 5);
    state = coroipcc_state(client.connection);
    CHECK_EQ(called, state == COROIPC_OK ? COROIPC_OK : COROIPC_UNKNOWN_OUTCOME);
    coroipc_buffer_release(buffer);
    liar.join();
  }
  CHECK_EQ(OpenFds(), fds);
  return state;
}

Lies Socket() {
  Lies table;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    if (byte == COROIPC_SOCKET_DOORBELL) continue;
    table.Add(Named("a byte", byte), COROIPC_PROTOCOL, [=](RawServer& s) {
      const auto said = static_cast<uint8_t>(byte);
      CHECK(SendWithFds(s.socket, &said, 1, {}));
    });
  }
  for (const uint32_t count : {2u, 3u, 8u, 15u, 16u, 17u, 31u, 64u, 96u, 4000u, 65536u}) {
    for (const uint8_t fill : {uint8_t{COROIPC_SOCKET_DOORBELL}, uint8_t{COROIPC_SOCKET_SEGMENT}}) {
      table.Add(Named("bytes", count) + Named(" of", fill), COROIPC_PROTOCOL, [=](RawServer& s) {
        const std::vector<uint8_t> bytes(count, fill);
        CHECK(SendWithFds(s.socket, bytes.data(), count, {}));
      });
    }
  }
  for (const uint32_t many : {1u, 2u, 10u, 253u}) {
    table.Add(Named("a doorbell with fds", many), COROIPC_PROTOCOL, [=](RawServer& s) {
      CHECK(SendWithFds(s.socket, "\1", 1, std::vector<int>(many, STDIN_FILENO)));
    });
  }
  for (const uint32_t many : {0u, 2u, 3u, 10u, 253u}) {
    table.Add(Named("a segment with fds", many), COROIPC_PROTOCOL, [=](RawServer& s) {
      const coroipc_segment_message message = {COROIPC_SOCKET_SEGMENT, 0, kPage + 3 * kRing, 1};
      CHECK(SendWithFds(s.socket, &message, sizeof message, std::vector<int>(many, s.segment_fd)));
    });
  }
  for (const uint32_t type : {0u, 1u, 3u, 2u << 8, 2u << 24, ~0u}) {
    table.Add(Named("a segment message of type", type), COROIPC_PROTOCOL, [=](RawServer& s) {
      const coroipc_segment_message message = {type, 0, kPage + 3 * kRing, 1};
      CHECK(SendWithFds(s.socket, &message, sizeof message, {s.segment_fd}));
    });
  }
  for (const uint32_t count : {1u, 2u, 4u, 8u, 12u, 15u, 16u, 17u, 20u, 32u, 4096u}) {
    table.Add(Named("a segment and its fd, bytes", count),
              count == sizeof(coroipc_segment_message) ? COROIPC_OK : COROIPC_PROTOCOL,
              [=](RawServer& s) {
                const uint32_t size = kPage + 3 * kRing;
                const coroipc_segment_message message = {COROIPC_SOCKET_SEGMENT, 0, size, 1};
                std::vector<uint8_t> bytes(std::max<size_t>(count, sizeof message));
                memcpy(bytes.data(), &message, sizeof message);
                CHECK(SendWithFds(s.socket, bytes.data(), count, {s.segment_fd}));
                if (count == sizeof message) s.Answer(kFirst);
              });
  }
  table.Add("a doorbell for nothing", COROIPC_OK, [](RawServer& s) {
    s.Bell();
    s.Answer(kFirst);
  });
  table.Add("a message without bytes", COROIPC_PEER_DEAD,
            [](RawServer& s) { CHECK(SendWithFds(s.socket, "", 0, {})); });
  // How it says that it leaves; a hang-up without a word is a death.
  const std::set<uint32_t> sayable = {COROIPC_NO_MEMORY, COROIPC_DENIED, COROIPC_LIMIT,
                                      COROIPC_PROTOCOL, COROIPC_BACKLOG_OVERFLOW};
  std::vector<uint32_t> words = {255, 256, 65536, 1u << 31, ~0u - 1, ~0u};
  for (uint32_t word = 0; word < COROIPC_STATUS_COUNT + 2; ++word) words.push_back(word);
  for (const uint32_t word : words) {
    table.Add(Named("leaves with", word),
              word == 0                ? COROIPC_PEER_DEAD
              : sayable.contains(word) ? static_cast<coroipc_status>(word)
                                       : COROIPC_DISCONNECTED,
              [=](RawServer& s) {
                StoreRelaxed(s.control->server.server_closed, word);
                s.Hang();
              });
  }
  return table;
}

}  // namespace

TEST("setup replies of a wrong size") {
  Honest beside;
  CHECK(ReplySizes().Judge(Connected).empty());
}
TEST("setup replies with a wrong field") {
  Honest beside;
  CHECK(ReplyFields().Judge(Connected).empty());
}
TEST("refusals, and codes that are none") {
  Honest beside;
  CHECK(ReplyStatuses().Judge(Connected).empty());
}
TEST("fds of a wrong number, kind, size, mode or seals") {
  Honest beside;
  CHECK(ReplyFds().Judge(Connected).empty());
}
TEST("memory with a wrong header or wrong positions") {
  Honest beside;
  CHECK(Memory().Judge(Connected).empty());
}
TEST("positions, lengths and pads") {
  Honest beside;
  CHECK(Positions().Judge(Ended).empty());
}
TEST("positions over whole records") {
  Honest beside;
  CHECK(PositionsOverRecords().Judge(Ended).empty());
}
TEST("kinds, flags and codes") {
  Honest beside;
  CHECK(Kinds().Judge(Ended).empty());
}
TEST("correlations") {
  Honest beside;
  CHECK(Correlations().Judge(Ended).empty());
}
TEST("whatever code an answer brings, its call says it") {
  Honest beside;
  CHECK(AnswerCodes().Judge(Told).empty());
}
TEST("segments and references to them") {
  Honest beside;
  CHECK(Segments().Judge(Ended).empty());
}
TEST("segments that the client itself holds") {
  Honest beside;
  CHECK(Held().Judge(Holding).empty());
}
TEST("grants to a call that waits for memory") {
  Honest beside;
  CHECK(GrantsFor("a buffer").Judge(Allocating).empty());
  CHECK(GrantsFor("a large request").Judge(Requesting).empty());
}
TEST("bytes and fds on the socket, and ways to leave") {
  Honest beside;
  CHECK(Socket().Judge(Ended).empty());
}

TEST("a table that names the wrong code is not fulfilled") {
  Lies table;
  table.Add("an honest server that is said to lie", COROIPC_PROTOCOL,
            [](RawServer& s) { s.Answer(kFirst); });
  table.Add("a lie that is said to be none", COROIPC_OK,
            [](RawServer& s) { s.Answer(kFirst + 1); });
  const int before = check_failures;
  const size_t wrong = table.Judge(Ended).size();
  check_failures = before;  // what the rows themselves were found guilty of
  CHECK_EQ(wrong, 2u);
}

TEST("there are at least 500 cases, each with a name of its own") {
  Names names;
  names.Add("reply: size", ReplySizes());
  names.Add("reply: fields", ReplyFields());
  names.Add("reply: status", ReplyStatuses());
  names.Add("reply: fds", ReplyFds());
  names.Add("memory", Memory());
  names.Add("positions", Positions());
  names.Add("positions over records", PositionsOverRecords());
  names.Add("kinds", Kinds());
  names.Add("correlations", Correlations());
  names.Add("answers", AnswerCodes());
  names.Add("segments", Segments());
  names.Add("grants", GrantsFor("a buffer"));
  names.Add("grants", GrantsFor("a large request"));
  names.Add("held", Held());
  names.Add("socket", Socket());
  printf("# %zu cases\n", names.count());
  CHECK(names.count() >= 500);
}
