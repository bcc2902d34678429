// Fixed cases of clients that lie to a server: every field of the setup message and of a record, at
// each boundary and on both sides of it. Each row names the code in which it has to end: of the
// reply, or of the connection. Rows that end in OK are no lies, or lies about what nobody reads:
// they show that the others are not cut off for standing here.
//
// After each row the server holds what it held before, and an honest client beside it is answered.
// What takes several steps, or time, is in hostile_client_test.cc.
#include <signal.h>

#include "deny.h"
#include "hostile.h"

using namespace hostile;

namespace {

constexpr int kVerdictMs = 5000;
constexpr uint32_t kRing = 256u << 10;  // a server's default
constexpr uint32_t kSmallRing = 4096;
constexpr uint32_t kInFlight = 16;
constexpr uint32_t kSegments = 16;  // a server's default
constexpr uint32_t kMessage = 1u << 20;

void ServerHolds(Scene& scene, int fds) {
  CHECK(scene.honest.Echo());
  CHECK(Eventually([&] {
    const coroipc_stats stats = scene.server.Stats();
    return stats.connections == 1 && stats.handshakes_pending == 0 && stats.in_flight == 0 &&
           stats.unsent_responses == 0 && stats.backlog_bytes == 0 && stats.segments == 0;
  }));
  CHECK(Eventually([&] { return OpenFds() == fds; }));
}

// -- before it is let in --------------------------------------------------------------------------

// What a peer sends that knocks.
struct Knock {
  std::vector<uint8_t> bytes;
  std::vector<int> fds;
  coroipc_setup_request& request() {
    return *reinterpret_cast<coroipc_setup_request*>(bytes.data());
  }
};
using Knocks = Table<std::function<void(Knock&)>>;

coroipc_status Refused(const Knocks::Row& row) {
  Scene& scene = *shared_scene;
  const int fds = OpenFds();
  const uint64_t refused = scene.server.Stats().connections_refused;
  const coroipc_setup_request good = MakeSetupRequest(1, Terms{});
  Knock knock;
  knock.bytes.resize(sizeof good);
  memcpy(knock.bytes.data(), &good, sizeof good);
  row.lie(knock);
  coroipc_status seen = COROIPC_PEER_DEAD;
  {
    RawClient peer;
    REQUIRE(peer.ConnectSocket(scene.server.name));
    CHECK(SendWithFds(peer.socket, knock.bytes.data(), knock.bytes.size(), knock.fds));
    seen = peer.TakeReply();
    if (row.expected != COROIPC_OK) {
      CHECK(HungUp(peer.socket, kVerdictMs));
      // Who goes away without a word is not refused.
      const uint64_t one = row.expected == COROIPC_PEER_DEAD ? 0 : 1;
      CHECK(Eventually([&] { return scene.server.Stats().connections_refused == refused + one; },
                       kVerdictMs));
    } else if (seen == COROIPC_OK) {
      CHECK(peer.reply.segment_bytes <= 4u << 20);
      CHECK(peer.reply.requests_in_flight >= 1 && peer.reply.requests_in_flight <= kInFlight);
      CHECK(peer.reply.message_bytes_max >= 4096 && peer.reply.message_bytes_max <= kMessage);
    }
  }
  ServerHolds(scene, fds);
  return seen;
}

Knocks SetupSizes() {
  Knocks table;
  table.Add("no bytes at all", COROIPC_PEER_DEAD, [](Knock& k) { k.bytes.clear(); });
  for (const uint32_t count :
       {65u,   66u,   71u,   72u,   73u,   80u,   95u,    96u,    127u,   128u,   255u,   256u,
        1024u, 4095u, 4096u, 4097u, 8192u, 9999u, 16384u, 32768u, 65535u, 65536u, 100000u}) {
    table.Add(Named("longer: bytes", count), COROIPC_PROTOCOL,
              [=](Knock& k) { k.bytes.resize(count); });
  }
  for (uint32_t count = 1; count < sizeof(coroipc_setup_request); ++count) {
    table.Add(Named("shorter: bytes", count), COROIPC_PROTOCOL,
              [=](Knock& k) { k.bytes.resize(count); });
  }
  for (const uint32_t count : {8u, 63u, 65u, 72u}) {
    table.Add(Named("another version, bytes", count),
              count > sizeof(coroipc_setup_request) + 8 ? COROIPC_PROTOCOL : COROIPC_VERSION,
              [=](Knock& k) {
                k.request().abi_version = 2;
                k.bytes.resize(count);
              });
  }
  return table;
}

Knocks SetupFields() {
  Knocks table;
  for (int bit = 0; bit < 32; ++bit) {
    const uint32_t flip = 1u << bit;
    const auto name = [&](const char* what) { return Named(what, static_cast<uint32_t>(bit)); };
    table.Add(name("magic, bit"), COROIPC_PROTOCOL, [=](Knock& k) { k.request().magic ^= flip; });
    table.Add(name("word probe, bit"), COROIPC_VERSION,
              [=](Knock& k) { k.request().word_probe ^= flip; });
    table.Add(name("features, bit"), COROIPC_VERSION,
              [=](Knock& k) { k.request().features ^= flip; });
  }
  for (int bit = 0; bit < 16; ++bit) {
    const auto flip = static_cast<uint16_t>(1u << bit);
    const auto name = [&](const char* what) { return Named(what, static_cast<uint32_t>(bit)); };
    table.Add(name("version, bit"), COROIPC_VERSION,
              [=](Knock& k) { k.request().abi_version ^= flip; });
    table.Add(name("layout, bit"), COROIPC_VERSION, [=](Knock& k) { k.request().layout ^= flip; });
    table.Add(name("first reserved word, bit"), COROIPC_PROTOCOL,
              [=](Knock& k) { k.request().reserved0 ^= flip; });
  }
  for (const uint32_t magic : {0u, 0x49504343u, 0xffffffffu}) {
    table.Add(Named("magic", magic), COROIPC_PROTOCOL,
              [=](Knock& k) { k.request().magic = magic; });
  }
  for (const uint16_t version : {uint16_t{0}, uint16_t{2}, uint16_t{65535}}) {
    table.Add(Named("version", version), COROIPC_VERSION,
              [=](Knock& k) { k.request().abi_version = version; });
  }
  table.Add("the other byte order", COROIPC_VERSION,
            [](Knock& k) { k.request().word_probe = 0x04030201; });
  table.Add("the other byte order everywhere", COROIPC_PROTOCOL, [](Knock& k) {
    k.request().magic = __builtin_bswap32(COROIPC_MAGIC);
    k.request().word_probe = 0x04030201;
  });
  for (size_t at = offsetof(coroipc_setup_request, reserved1); at < sizeof(coroipc_setup_request);
       ++at) {
    table.Add(Named("reserved byte", static_cast<uint32_t>(at)), COROIPC_PROTOCOL,
              [=](Knock& k) { k.bytes[at] = 0x80; });
  }
  for (const uint16_t service :
       {uint16_t{0}, uint16_t{2}, uint16_t{255}, uint16_t{256}, uint16_t{32768}, uint16_t{65535}}) {
    table.Add(Named("service", service), COROIPC_NO_SERVICE,
              [=](Knock& k) { k.request().service = service; });
  }
  using Field = uint32_t coroipc_setup_request::*;
  const std::pair<const char*, Field> wishes[] = {
      {"request ring", &coroipc_setup_request::request_ring_bytes},
      {"response ring", &coroipc_setup_request::response_ring_bytes},
      {"dispatch ring", &coroipc_setup_request::dispatch_ring_bytes},
      {"message", &coroipc_setup_request::message_bytes_max},
      {"requests in flight", &coroipc_setup_request::requests_in_flight}};
  for (const auto& [what, field] : wishes) {
    for (const uint32_t value : {1u, 8u, 4095u, 4096u, 4097u, 65535u, 65537u}) {
      table.Add(Named(what, value), COROIPC_OK,
                [value, field = field](Knock& k) { k.request().*field = value; });
    }
  }
  table.Add("as it should be", COROIPC_OK, [](Knock&) {});
  return table;
}

// Memory that nobody may have: the server's limit for one connection is set below it.
Knocks SetupGreed() {
  Knocks table;
  using Field = uint32_t coroipc_setup_request::*;
  const std::pair<const char*, Field> rings[] = {
      {"request ring", &coroipc_setup_request::request_ring_bytes},
      {"response ring", &coroipc_setup_request::response_ring_bytes},
      {"dispatch ring", &coroipc_setup_request::dispatch_ring_bytes}};
  for (const auto& [what, field] : rings) {
    for (const uint32_t value : {(4u << 20) + 1, 8u << 20, 16u << 20, (16u << 20) + 1, 1u << 30,
                                 (1u << 31) - 1, 1u << 31, (1u << 31) + 1, ~0u - 4095, ~0u}) {
      table.Add(Named(what, value), COROIPC_LIMIT,
                [value, field = field](Knock& k) { k.request().*field = value; });
    }
  }
  table.Add("all rings", COROIPC_LIMIT, [](Knock& k) {
    k.request().request_ring_bytes = k.request().response_ring_bytes =
        k.request().dispatch_ring_bytes = ~0u;
  });
  for (const uint32_t value : {kMessage, kMessage + 1, 1u << 30, 1u << 31, ~0u}) {
    table.Add(Named("message", value), COROIPC_OK,
              [=](Knock& k) { k.request().message_bytes_max = value; });
    table.Add(Named("requests in flight", value), COROIPC_OK,
              [=](Knock& k) { k.request().requests_in_flight = value; });
  }
  return table;
}

Knocks SetupFds() {
  Knocks table;
  for (const int many : {1, 2, 3, 10, 28, 29, 64, 252, 253}) {
    table.Add(Named("fds", static_cast<uint32_t>(many)), COROIPC_PROTOCOL,
              [=](Knock& k) { k.fds.assign(static_cast<size_t>(many), STDIN_FILENO); });
  }
  for (const uint32_t count : {1u, 63u, 65u, 4096u}) {
    table.Add(Named("an fd beside bytes", count), COROIPC_PROTOCOL, [=](Knock& k) {
      k.bytes.resize(count);
      k.fds = {STDIN_FILENO};
    });
  }
  return table;
}

// -- after it was let in --------------------------------------------------------------------------

using Lies = Table<std::function<void(RawClient&)>>;

bool Alive(RawClient& client) {
  const uint32_t mark = Correlation(kInFlight - 1, 0x7777);
  if (client.PutRequest(kEcho, mark, "alive", 5) != COROIPC_OK) return false;
  coroipc_record answer = {};
  do {
    if (!client.Take(client.response, &answer, nullptr, kVerdictMs)) return false;
  } while (answer.correlation != mark);
  return true;
}

coroipc_status Ended(const Lies::Row& row, const Terms& wanted) {
  Scene& scene = *shared_scene;
  const int fds = OpenFds();
  const uint64_t errors = scene.server.Stats().protocol_errors;
  const size_t ended = scene.server.Ends().size();
  coroipc_status seen = COROIPC_OK;
  {
    RawClient liar;
    REQUIRE(liar.Connect(scene.server.name, wanted) == COROIPC_OK);
    row.lie(liar);
    if (row.expected != COROIPC_OK || !Alive(liar)) {
      if (liar.socket >= 0) CHECK(HungUp(liar.socket, kVerdictMs));
      if (Eventually([&] { return scene.server.Ends().size() > ended; }, kVerdictMs))
        seen = scene.server.Ends().back();
      CHECK_EQ(scene.server.Stats().protocol_errors,
               errors + (row.expected == COROIPC_PROTOCOL ? 1 : 0));
      if (row.expected == COROIPC_PROTOCOL)
        CHECK_EQ(LoadRelaxed(liar.control->server.server_closed), COROIPC_PROTOCOL);
    }
  }
  ServerHolds(scene, fds);
  return seen;
}
coroipc_status EndedOnLargeRings(const Lies::Row& row) { return Ended(row, {}); }
coroipc_status EndedOnSmallRings(const Lies::Row& row) {
  Terms wanted;
  wanted.request_ring_bytes = wanted.response_ring_bytes = wanted.dispatch_ring_bytes = kSmallRing;
  return Ended(row, wanted);
}

// A record that nobody checked, at `offset` of the request ring, and a position behind it.
void PutRaw(RawClient& c, uint32_t offset, coroipc_record record, uint32_t position) {
  memcpy(c.request_data + offset, &record, std::min<size_t>(sizeof record, kRing - offset));
  StoreSeqCst(c.control->ring[0].write_position, position);
  c.Bell();
}

Lies Positions() {
  Lies table;
  for (const uint32_t position :
       {1u, 2u, 3u, 4u, 5u, 6u, 7u, 9u, 12u, 25u, kRing - 1, kRing + 1, 0x80000001u, 0u - 1u}) {
    table.Add(Named("crooked write position", position), COROIPC_PROTOCOL,
              [=](RawClient& c) { PutRaw(c, 0, {}, position); });
  }
  for (const uint32_t position : {8u, 16u, 24u, 32u, 4096u, kRing - 8, kRing}) {
    table.Add(Named("write position over zeros", position), COROIPC_PROTOCOL,
              [=](RawClient& c) { PutRaw(c, 0, {}, position); });
  }
  for (const uint32_t position :
       {kRing + 8, 2 * kRing, 1u << 30, 1u << 31, 0u - kRing, 0u - 24u, 0u - 8u}) {
    table.Add(Named("write position that is no position", position), COROIPC_PROTOCOL,
              [=](RawClient& c) { PutRaw(c, 0, Record(COROIPC_RECORD_SEND), position); });
  }
  const auto after_three = [](RawClient& c, uint32_t position) {
    for (uint32_t slot = 0; slot < 3; ++slot) {
      coroipc_record answer = {};
      c.PutRequest(kStatus, slot, nullptr, 0);
      REQUIRE(c.Take(c.response, &answer, nullptr));
    }
    StoreSeqCst(c.control->ring[0].write_position, position);
    c.Bell();
  };
  for (const uint32_t position : {0u, 8u, 24u, 48u, 64u, 76u, 72 + kRing + 8, 0u - 8u}) {
    table.Add(Named("write position after 72 bytes", position), COROIPC_PROTOCOL,
              [=](RawClient& c) { after_three(c, position); });
  }
  table.Add("write position after 72 bytes that stays", COROIPC_OK,
            [=](RawClient& c) { after_three(c, 72); });
  table.Add("a doorbell for nothing", COROIPC_OK, [](RawClient& c) { c.Bell(); });
  return table;
}

// A small ring full of whole records, so that nothing but the position itself is a lie.
constexpr uint32_t kWhole = 32;
void FillWithSends(RawClient& c) {
  coroipc_record send = Record(COROIPC_RECORD_SEND);
  send.id = kSilent;
  send.bytes = kWhole - COROIPC_RECORD_BYTES;
  for (uint32_t at = 0; at < kSmallRing; at += kWhole)
    memcpy(c.request_data + at, &send, sizeof send);
}

Lies PositionsOverRecords() {
  Lies table;
  const auto lie = [](uint32_t honest, uint32_t position) {
    return [=](RawClient& c) {
      FillWithSends(c);
      if (honest != 0) {
        StoreSeqCst(c.control->ring[0].write_position, honest);
        c.Bell();
        REQUIRE(Eventually([&] { return LoadSeqCst(c.control->ring[0].read_position) == honest; }));
      }
      StoreSeqCst(c.control->ring[0].write_position, position);
      c.Bell();
    };
  };
  for (const uint32_t ahead : {kWhole, 4 * kWhole, kSmallRing, 1u << 30, 1u << 31}) {
    table.Add(Named("more than a ring full of records, by", ahead), COROIPC_PROTOCOL,
              lie(0, kSmallRing + ahead));
    table.Add(Named("the same after some were read, by", ahead), COROIPC_PROTOCOL,
              lie(4 * kWhole, 4 * kWhole + kSmallRing + ahead));
  }
  for (const uint32_t position : {0u, kWhole, 3 * kWhole, 0u - kWhole}) {
    table.Add(Named("back over records to", position), COROIPC_PROTOCOL, lie(4 * kWhole, position));
  }
  for (const uint32_t position : {1u, 4u, kWhole + 4, 4 * kWhole + 1, kSmallRing - 4}) {
    table.Add(Named("in the middle of records", position), COROIPC_PROTOCOL, lie(0, position));
  }
  return table;
}

// Read positions of the rings that the server writes: looked at when one of them is full.
Lies ReadPositions() {
  Lies table;
  const auto answers = [](RawClient& c, uint32_t position) {
    StoreSeqCst(c.control->ring[1].read_position, position);
    const uint32_t count = 1000;  // 1024 with its header: the fifth finds no room
    for (uint32_t slot = 0; slot < 6; ++slot) c.PutRequest(kFill, slot, &count, sizeof count);
  };
  const auto dispatches = [](RawClient& c, uint32_t position) {
    StoreSeqCst(c.control->ring[2].read_position, position);
    const uint32_t count = 200;  // of 32 bytes each
    c.PutRequest(kDispatches, 0, &count, sizeof count);
  };
  for (const uint32_t position : {1u, 4u, 7u, 12u, kSmallRing + 8, kSmallRing + 24, 2 * kSmallRing,
                                  1u << 31, 0u - kSmallRing, 0u - 8u, 0u - 1u}) {
    table.Add(Named("read position of the response ring", position), COROIPC_PROTOCOL,
              [=](RawClient& c) { answers(c, position); });
    table.Add(Named("read position of the dispatch ring", position), COROIPC_PROTOCOL,
              [=](RawClient& c) { dispatches(c, position); });
  }
  table.Add(
      "a read position of the response ring that goes back", COROIPC_PROTOCOL, [=](RawClient& c) {
        for (const uint32_t position : {1024u, 0u}) {
          const uint32_t count = 1000;
          for (uint32_t i = 0; i < 5; ++i) {
            c.PutRequest(kFill, 5 * (position == 0) + i, &count, sizeof count);
          }
          const auto full = [&] {
            return LoadSeqCst(c.control->ring[1].write_position) >= kSmallRing;
          };
          REQUIRE(Eventually(full));
          StoreSeqCst(c.control->ring[1].read_position, position);
          c.Bell();
          if (position == 0) break;
          REQUIRE(Eventually(
              [&] { return LoadSeqCst(c.control->ring[1].write_position) == kSmallRing + 1024; }));
        }
      });
  table.Add("every read position while nothing has to be written", COROIPC_OK, [](RawClient& c) {
    for (const int ring : {1, 2}) StoreSeqCst(c.control->ring[ring].read_position, 0u);
    c.Bell();
  });
  return table;
}

Lies Lengths() {
  Lies table;
  const uint32_t most = kRing / 2 - COROIPC_RECORD_BYTES;
  for (const uint32_t bytes :
       {most + 1, most + 7,  most + 8, most + 23, most + 24,      kRing - 24, kRing - 1,
        kRing,    kRing + 8, kMessage, 1u << 30,  (1u << 31) - 1, 1u << 31,   ~0u - 47,
        ~0u - 31, ~0u - 24,  ~0u - 23, ~0u - 22,  ~0u - 7,        ~0u - 1,    ~0u}) {
    table.Add(Named("length", bytes), COROIPC_PROTOCOL, [=](RawClient& c) {
      coroipc_record record = Record(COROIPC_RECORD_REQUEST);
      record.bytes = bytes;
      PutRaw(c, 0, record, kRing);
    });
  }
  for (const auto& [bytes, position] :
       std::initializer_list<std::pair<uint32_t, uint32_t>>{{1, 24},
                                                            {8, 24},
                                                            {9, 32},
                                                            {16, 32},
                                                            {17, 40},
                                                            {1000, 1016},
                                                            {most, kRing / 2 - 8},
                                                            {0, 8},
                                                            {0, 16}}) {
    table.Add(Named("published, of a record with payload ", position) + " " + std::to_string(bytes),
              COROIPC_PROTOCOL, [=, b = bytes, p = position](RawClient& c) {
                coroipc_record record = Record(COROIPC_RECORD_REQUEST);
                record.bytes = b;
                PutRaw(c, 0, record, p);
              });
  }
  for (const uint32_t bytes : {0u, 1u, 7u, 8u, 9u, 4096u, most - 1, most}) {
    table.Add(Named("length of an honest request", bytes), COROIPC_OK, [=](RawClient& c) {
      const std::vector<uint8_t> payload(bytes, 'p');
      CHECK_EQ(c.PutRequest(kEcho, 0, payload.data(), bytes), COROIPC_OK);
    });
  }
  return table;
}

// The next record starts `remaining` bytes before the ring's end.
uint32_t AdvanceToEnd(RawClient& c, uint32_t remaining) {
  const uint32_t half = kSmallRing / 2;
  const std::vector<uint8_t> zeros(half);
  coroipc_record send = Record(COROIPC_RECORD_SEND);
  send.id = kSilent;
  const uint32_t start = half - remaining;  // of the second half
  REQUIRE(c.Put(send, zeros.data(), half - COROIPC_RECORD_BYTES) == COROIPC_OK);
  if (start != 0) REQUIRE(c.Put(send, zeros.data(), start - COROIPC_RECORD_BYTES) == COROIPC_OK);
  const uint32_t position = kSmallRing - remaining;
  REQUIRE(Eventually([&] { return LoadSeqCst(c.control->ring[0].read_position) == position; }));
  return position;
}

Lies Pads() {
  Lies table;
  const auto lie = [](uint32_t remaining, uint32_t bytes, uint32_t published) {
    return [=](RawClient& c) {
      const uint32_t position = AdvanceToEnd(c, remaining);
      coroipc_record pad = Record(COROIPC_RECORD_PAD);
      pad.bytes = bytes;
      memcpy(c.request_data + position, &pad, COROIPC_PAD_RECORD_BYTES);
      const coroipc_record send = Record(COROIPC_RECORD_SEND);
      memcpy(c.request_data, &send, sizeof send);
      StoreSeqCst(c.control->ring[0].write_position, position + published);
      c.Bell();
    };
  };
  for (const uint32_t remaining : {8u, 16u, 24u, 32u, 64u, 1024u, 2000u, 2024u, 2048u}) {
    const uint32_t right = remaining - COROIPC_PAD_RECORD_BYTES;
    const std::string where = ", bytes before the end: " + std::to_string(remaining);
    for (const uint32_t bytes :
         std::set{right + 8, right + 1, right - 1, right - 8, right + kSmallRing, kSmallRing - 8,
                  1u << 31, ~0u, ~0u - 7}) {
      table.Add(Named("pad of", bytes) + where, COROIPC_PROTOCOL,
                lie(remaining, bytes, remaining + 24));
    }
    if (remaining > 8) {
      table.Add("pad that is not all there, before whole records" + where, COROIPC_PROTOCOL,
                [=](RawClient& c) {
                  const uint32_t position = AdvanceToEnd(c, remaining);
                  FillWithSends(c);
                  coroipc_record pad = Record(COROIPC_RECORD_PAD);
                  pad.bytes = right;
                  memcpy(c.request_data + position, &pad, COROIPC_PAD_RECORD_BYTES);
                  StoreSeqCst(c.control->ring[0].write_position, position + 8);
                  c.Bell();
                });
    }
    table.Add("pad and half a record" + where, COROIPC_PROTOCOL,
              lie(remaining, right, remaining + 8));
    table.Add("pad, then another" + where, COROIPC_PROTOCOL, [=](RawClient& c) {
      lie(remaining, right, remaining)(c);
      coroipc_record pad = Record(COROIPC_RECORD_PAD);
      pad.bytes = kSmallRing - COROIPC_PAD_RECORD_BYTES;
      memcpy(c.request_data, &pad, sizeof pad);
      StoreSeqCst(c.control->ring[0].write_position, 2 * kSmallRing);
      c.Bell();
    });
    if (remaining < COROIPC_RECORD_BYTES) {
      table.Add("record that does not fit its header" + where, COROIPC_PROTOCOL, [=](RawClient& c) {
        const uint32_t position = AdvanceToEnd(c, remaining);
        const coroipc_record send = Record(COROIPC_RECORD_SEND);
        memcpy(c.request_data + position, &send, 8);
        StoreSeqCst(c.control->ring[0].write_position, position + 24);
        c.Bell();
      });
    } else {
      table.Add("record across the end" + where, COROIPC_PROTOCOL, [=](RawClient& c) {
        const uint32_t position = AdvanceToEnd(c, remaining);
        coroipc_record send = Record(COROIPC_RECORD_SEND);
        send.bytes = remaining - COROIPC_RECORD_BYTES + 1;
        memcpy(c.request_data + position, &send, sizeof send);
        StoreSeqCst(c.control->ring[0].write_position, position + remaining + 8);
        c.Bell();
      });
    }
    table.Add("honest records around the end" + where, COROIPC_OK, [=](RawClient& c) {
      (void)AdvanceToEnd(c, remaining);
      CHECK_EQ(c.PutRequest(kEcho, 0, "0123456789", 10), COROIPC_OK);
    });
  }
  for (const uint32_t bytes : {0u, 8u, 16u, kSmallRing - 8, kSmallRing, ~0u}) {
    table.Add(Named("pad at the start of a ring", bytes), COROIPC_PROTOCOL, [=](RawClient& c) {
      coroipc_record pad = Record(COROIPC_RECORD_PAD);
      pad.bytes = bytes;
      memcpy(c.request_data, &pad, sizeof pad);
      StoreSeqCst(c.control->ring[0].write_position, kSmallRing);
      c.Bell();
    });
  }
  return table;
}

Lies Kinds() {
  Lies table;
  for (uint32_t kind = 0; kind < 256; ++kind) {
    if (kind >= COROIPC_RECORD_REQUEST && kind <= COROIPC_RECORD_CANCEL) continue;
    table.Add(Named("kind", kind), COROIPC_PROTOCOL, [=](RawClient& c) {
      coroipc_record record = Record(static_cast<uint8_t>(kind));
      record.argument = 77;
      PutRaw(c, 0, record, COROIPC_RECORD_BYTES);
    });
  }
  for (int bit = 1; bit < 8; ++bit) {
    for (uint8_t kind = COROIPC_RECORD_REQUEST; kind <= COROIPC_RECORD_SEGMENT_RELEASE; ++kind) {
      table.Add(Named("kind ", kind) + Named(" with flag", 1u << bit), COROIPC_PROTOCOL,
                [=](RawClient& c) {
                  const uint32_t want = 4096;
                  c.Put(Record(kind, 0, static_cast<uint8_t>(1u << bit)), &want,
                        kind == COROIPC_RECORD_SEGMENT_WANT ? sizeof want : 0);
                });
    }
  }
  // Fields that a record of its kind has no use for are not looked at.
  const auto unused = [&](const char* what, uint8_t kind, void (*set)(coroipc_record*)) {
    table.Add(what, COROIPC_OK, [=](RawClient& c) {
      coroipc_record record = Record(kind);
      set(&record);
      c.Put(record, nullptr, 0);
    });
  };
  const auto all_bits = [](coroipc_record* r) { r->status = -1, r->sequence = ~0u; };
  unused("status and sequence of a send", COROIPC_RECORD_SEND, all_bits);
  unused("status and sequence of a cancel", COROIPC_RECORD_CANCEL, all_bits);
  unused("correlation of a send", COROIPC_RECORD_SEND,
         [](coroipc_record* r) { r->correlation = ~0u; });
  unused("deadline of a send", COROIPC_RECORD_SEND, [](coroipc_record* r) { r->argument = ~0u; });
  unused("id of a cancel", COROIPC_RECORD_CANCEL, [](coroipc_record* r) { r->id = 65535; });
  table.Add("payload of a cancel", COROIPC_OK,
            [](RawClient& c) { c.Put(Record(COROIPC_RECORD_CANCEL), "0123456789", 10); });
  return table;
}

Lies Correlations() {
  Lies table;
  for (const uint32_t slot : {2 * kInFlight, 2 * kInFlight + 1, 63u, 64u, 255u, 256u, 1000u, 4096u,
                              32767u, 32768u, 65534u, 65535u}) {
    for (const uint16_t generation : {uint16_t{0}, uint16_t{1}, uint16_t{65535}}) {
      const uint32_t correlation = Correlation(slot, generation);
      table.Add(Named("request in slot", slot) + Named(", generation", generation),
                COROIPC_PROTOCOL,
                [=](RawClient& c) { c.PutRequest(kEcho, correlation, nullptr, 0); });
      table.Add(
          Named("cancel of slot", slot) + Named(", generation", generation), COROIPC_PROTOCOL,
          [=](RawClient& c) { c.Put(Record(COROIPC_RECORD_CANCEL, correlation), nullptr, 0); });
    }
  }
  for (const uint32_t slot : {0u, 3u, kInFlight - 1, kInFlight, 2 * kInFlight - 1}) {
    for (const uint16_t generation : {uint16_t{1}, uint16_t{2}, uint16_t{65535}}) {
      table.Add(Named("slot in use", slot) + Named(", generation", generation), COROIPC_PROTOCOL,
                [=](RawClient& c) {
                  c.PutRequest(kSilent, Correlation(slot, 1), nullptr, 0);
                  c.PutRequest(kSilent, Correlation(slot, generation), nullptr, 0);
                });
    }
  }
  for (uint32_t slot = 0; slot + 1 < 2 * kInFlight; slot += 3) {  // free, or never taken
    table.Add(Named("cancel of nothing in slot", slot), COROIPC_OK, [=](RawClient& c) {
      c.Put(Record(COROIPC_RECORD_CANCEL, Correlation(slot, 9)), nullptr, 0);
    });
  }
  for (const uint32_t start : {0u, kInFlight - 1}) {
    table.Add(Named("one more in flight than agreed, from slot", start), COROIPC_PROTOCOL,
              [=](RawClient& c) {
                for (uint32_t i = 0; i <= kInFlight; ++i)
                  c.PutRequest(kSilent, start + i, nullptr, 0);
              });
  }
  return table;
}

coroipc_segment_reference Granted(RawClient& c, uint32_t want = 100000) {
  c.Put(Record(COROIPC_RECORD_SEGMENT_WANT, Correlation(20, 1)), &want, sizeof want);
  coroipc_record grant = {};
  std::vector<uint8_t> payload;
  REQUIRE(c.Take(c.response, &grant, &payload));
  REQUIRE(grant.kind == COROIPC_RECORD_SEGMENT_GRANT && grant.flags == COROIPC_FLAG_SEGMENT);
  CHECK_EQ(grant.correlation, Correlation(20, 1));
  coroipc_segment_reference reference;
  memcpy(&reference, payload.data(), sizeof reference);
  CHECK_EQ(reference.bytes, want);
  return reference;
}

Lies Segments() {
  Lies table;
  const auto refer = [](RawClient& c, coroipc_segment_reference reference, uint32_t slot = 0,
                        bool publish = true) {
    c.Put(Record(COROIPC_RECORD_REQUEST, slot, COROIPC_FLAG_SEGMENT), &reference, sizeof reference,
          publish);
  };
  const auto release = [](RawClient& c, uint32_t index) {
    coroipc_record record = Record(COROIPC_RECORD_SEGMENT_RELEASE);
    record.argument = index;
    c.Put(record, nullptr, 0);
  };
  std::vector<uint32_t> indices = {kSegments, kSegments + 1, 63,       64,          65,       255,
                                   256,       65536,         1u << 30, 0x80000000u, ~0u - 1u, ~0u};
  for (uint32_t index = 0; index < kSegments; ++index) indices.push_back(index);
  for (const uint32_t index : indices) {
    table.Add(Named("reference to what is not there, index", index), COROIPC_PROTOCOL,
              [=](RawClient& c) {
                refer(c, {index, 0, 8, 1});
              });
    table.Add(Named("release of what is not there, index", index), COROIPC_PROTOCOL,
              [=](RawClient& c) { release(c, index); });
    if (index == 0) continue;
    table.Add(Named("reference to another than was granted, index", index), COROIPC_PROTOCOL,
              [=](RawClient& c) {
                coroipc_segment_reference reference = Granted(c);
                reference.index = index;
                refer(c, reference);
              });
  }
  for (const uint32_t count : {0u, 1u, 4u, 8u, 12u, 15u, 17u, 20u, 24u, 32u}) {
    table.Add(Named("reference of bytes", count), COROIPC_PROTOCOL, [=](RawClient& c) {
      coroipc_segment_reference payload[2] = {Granted(c), {}};
      c.Put(Record(COROIPC_RECORD_REQUEST, 0, COROIPC_FLAG_SEGMENT), payload, count);
    });
  }
  const uint32_t size = 131072;  // what a want of 100000 brings
  for (const auto& [offset, bytes] :
       std::initializer_list<std::pair<uint32_t, uint32_t>>{{0, size + 1},
                                                            {1, size},
                                                            {8, size - 7},
                                                            {size - 1, 2},
                                                            {size, 1},
                                                            {size + 1, 0},
                                                            {size + 8, 8},
                                                            {0x7fffffff, 1},
                                                            {0x80000000, 0x80000000},
                                                            {~0u, 0},
                                                            {~0u, 1},
                                                            {~0u, 2},
                                                            {~0u, ~0u},
                                                            {0, ~0u},
                                                            {8, ~0u - 7},
                                                            {0, kMessage + 1},
                                                            {0, 1u << 31}}) {
    table.Add(Named("offset", offset) + Named(", bytes", bytes), COROIPC_PROTOCOL,
              [=, o = offset, b = bytes](RawClient& c) {
                coroipc_segment_reference reference = Granted(c);
                reference.offset = o;
                reference.bytes = b;
                refer(c, reference);
              });
  }
  for (const auto& [offset, bytes] : std::initializer_list<std::pair<uint32_t, uint32_t>>{
           {0, 0}, {0, 1}, {0, size}, {1, size - 1}, {size - 1, 1}, {size, 0}}) {
    table.Add(Named("honest offset", offset) + Named(", bytes", bytes), COROIPC_OK,
              [=, o = offset, b = bytes](RawClient& c) {
                coroipc_segment_reference reference = Granted(c);
                reference.offset = o;
                reference.bytes = b;
                c.Put(Record(COROIPC_RECORD_SEND, 0, COROIPC_FLAG_SEGMENT), &reference,
                      sizeof reference);
              });
  }
  for (const uint32_t delta : {1u, 2u, 0x80000000u, 0u - 2u, 0u - 1u}) {
    table.Add(Named("generation, off by", delta), COROIPC_PROTOCOL, [=](RawClient& c) {
      coroipc_segment_reference reference = Granted(c);
      reference.generation += delta;
      refer(c, reference);
    });
  }
  table.Add("the same segment twice", COROIPC_PROTOCOL, [=](RawClient& c) {
    const coroipc_segment_reference reference = Granted(c);
    refer(c, reference, 0, false);
    refer(c, reference, 1);
  });
  table.Add("released, then used", COROIPC_PROTOCOL, [=](RawClient& c) {
    const coroipc_segment_reference reference = Granted(c);
    release(c, reference.index);
    refer(c, reference);
  });
  table.Add("sent, then used", COROIPC_PROTOCOL, [=](RawClient& c) {
    const coroipc_segment_reference reference = Granted(c);
    c.Put(Record(COROIPC_RECORD_SEND, 0, COROIPC_FLAG_SEGMENT), &reference, sizeof reference);
    refer(c, reference);
  });
  table.Add("released twice", COROIPC_PROTOCOL, [=](RawClient& c) {
    const uint32_t index = Granted(c).index;
    release(c, index);
    release(c, index);
  });
  table.Add("released once", COROIPC_OK, [=](RawClient& c) { release(c, Granted(c).index); });
  for (const uint32_t count : {0u, 1u, 2u, 3u, 5u, 8u, 16u}) {
    table.Add(Named("want of bytes", count), COROIPC_PROTOCOL, [=](RawClient& c) {
      const uint64_t want[2] = {};
      c.Put(Record(COROIPC_RECORD_SEGMENT_WANT, 20), want, count);
    });
  }
  return table;
}

// More than was agreed on, in rings and segments that would hold it.
constexpr uint32_t kAgreed = 100000;
coroipc_status EndedAsAgreed(const Lies::Row& row) {
  Terms wanted;
  wanted.message_bytes = kAgreed;
  return Ended(row, wanted);
}
Lies Agreed() {
  Lies table;
  for (const uint32_t bytes : {kAgreed - 1, kAgreed, kAgreed + 1, kAgreed + 8, 131000u}) {
    const coroipc_status expected = bytes <= kAgreed ? COROIPC_OK : COROIPC_PROTOCOL;
    for (const uint8_t kind : {uint8_t{COROIPC_RECORD_REQUEST}, uint8_t{COROIPC_RECORD_SEND}}) {
      table.Add(Named("kind", kind) + Named(" in the ring, bytes", bytes), expected,
                [=](RawClient& c) {
                  const std::vector<uint8_t> payload(bytes);
                  coroipc_record record = Record(kind);
                  record.id = kEcho;
                  c.Put(record, payload.data(), bytes);
                });
      table.Add(Named("kind", kind) + Named(" in a segment, bytes", bytes), expected,
                [=](RawClient& c) {
                  coroipc_segment_reference reference = Granted(c, kAgreed);
                  reference.bytes = bytes;
                  coroipc_record record = Record(kind, 0, COROIPC_FLAG_SEGMENT);
                  record.id = kStatus;
                  c.Put(record, &reference, sizeof reference);
                });
    }
  }
  return table;
}

// Wants and requests that are answered with a refusal, whoever asks.
struct Question {
  coroipc_record record;
  uint32_t want;
};
using Questions = Table<std::function<Question()>>;

coroipc_status Answered(const Questions::Row& row) {
  Scene& scene = *shared_scene;
  const int fds = OpenFds();
  coroipc_status seen = COROIPC_PEER_DEAD;
  {
    RawClient client;
    REQUIRE(client.Connect(scene.server.name) == COROIPC_OK);
    const Question question = row.lie();
    client.Put(question.record, &question.want, sizeof question.want);
    coroipc_record answer = {};
    if (client.Take(client.response, &answer, nullptr, kVerdictMs)) {
      const bool grant = answer.kind == COROIPC_RECORD_SEGMENT_GRANT;
      seen = grant ? answer.status : static_cast<coroipc_status>(answer.argument);
      CHECK_EQ(answer.correlation, question.record.correlation);
    }
    CHECK(Alive(client));
  }
  ServerHolds(scene, fds);
  return seen;
}

Questions Refusals() {
  Questions table;
  for (const uint32_t want : {0u, kMessage + 1, 1u << 30, 1u << 31, ~0u}) {
    table.Add(Named("want of", want), COROIPC_TOO_LARGE, [=]() -> Question {
      return {Record(COROIPC_RECORD_SEGMENT_WANT, Correlation(20, 1)), want};
    });
  }
  for (const uint32_t want : {1u, 4096u, 65536u, 65537u, kMessage}) {
    table.Add(Named("want of", want), COROIPC_OK, [=]() -> Question {
      return {Record(COROIPC_RECORD_SEGMENT_WANT, Correlation(20, 1)), want};
    });
  }
  for (const uint16_t id : {uint16_t{kNobody}, uint16_t{256}, uint16_t{1000}, uint16_t{32767},
                            uint16_t{32768}, uint16_t{65535}}) {
    table.Add(Named("request for id", id), COROIPC_NO_HANDLER, [=]() -> Question {
      Question question = {Record(COROIPC_RECORD_REQUEST, Correlation(3, 7)), 0};
      question.record.id = id;
      question.record.argument = ~0u;
      return question;
    });
  }
  return table;
}

Lies Socket() {
  Lies table;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    if (byte == COROIPC_SOCKET_DOORBELL) continue;
    table.Add(Named("a byte", byte), COROIPC_PROTOCOL, [=](RawClient& c) {
      const auto said = static_cast<uint8_t>(byte);
      CHECK(SendWithFds(c.socket, &said, 1, {}));
    });
  }
  for (const uint32_t count : {2u, 3u, 4u, 8u, 15u, 16u, 17u, 31u, 64u, 96u, 255u, 4096u, 65536u}) {
    for (const uint8_t fill : {uint8_t{COROIPC_SOCKET_DOORBELL}, uint8_t{COROIPC_SOCKET_SEGMENT}}) {
      table.Add(Named("bytes", count) + Named(" of", fill), COROIPC_PROTOCOL, [=](RawClient& c) {
        const std::vector<uint8_t> bytes(count, fill);
        CHECK(SendWithFds(c.socket, bytes.data(), count, {}));
      });
    }
  }
  table.Add("a segment", COROIPC_PROTOCOL, [](RawClient& c) {
    const coroipc_segment_message message = {COROIPC_SOCKET_SEGMENT, 0, 65536, 1};
    CHECK(SendWithFds(c.socket, &message, sizeof message, {}));
  });
  table.Add("a second setup", COROIPC_PROTOCOL, [](RawClient& c) {
    const coroipc_setup_request again = MakeSetupRequest(1, Terms{});
    CHECK(SendWithFds(c.socket, &again, sizeof again, {}));
  });
  table.Add("a message without bytes", COROIPC_PEER_DEAD,
            [](RawClient& c) { CHECK(SendWithFds(c.socket, "", 0, {})); });
  // How it says that it leaves; a hang-up without a word is a death.
  for (const uint32_t word : {0u, 1u, 2u, 9u, 10u, 11u, 30u, 31u, 1000u, 1u << 31, ~0u}) {
    table.Add(Named("leaves with", word), word == 0 ? COROIPC_PEER_DEAD : COROIPC_DISCONNECTED,
              [=](RawClient& c) {
                StoreRelaxed(c.control->client.client_closed, word);
                close(c.socket);
                c.socket = -1;
              });
  }
  return table;
}

Lies SocketFds() {
  Lies table;
  for (const uint32_t many : {1u, 2u, 3u, 10u, 28u, 29u, 64u, 252u, 253u}) {
    table.Add(Named("a doorbell with fds", many), COROIPC_PROTOCOL, [=](RawClient& c) {
      const uint8_t bell = COROIPC_SOCKET_DOORBELL;
      CHECK(SendWithFds(c.socket, &bell, 1, std::vector<int>(many, STDIN_FILENO)));
    });
  }
  table.Add("a segment with its fd", COROIPC_PROTOCOL, [](RawClient& c) {
    const int fd = MakeSegment(65536);
    const coroipc_segment_message message = {COROIPC_SOCKET_SEGMENT, 0, 65536, 1};
    CHECK(SendWithFds(c.socket, &message, sizeof message, {fd}));
    close(fd);
  });
  return table;
}

}  // namespace

TEST("setup messages of a wrong size") {
  Begin();
  CHECK(SetupSizes().Judge(Refused).empty());
  Done();
}
TEST("setup messages with a wrong field") {
  Begin();
  CHECK(SetupFields().Judge(Refused).empty());
  Done();
}
TEST("setup messages that want more memory than anybody may have") {
  Begin([](coroipcs_options* options) { options->segment_bytes = 4u << 20; });
  CHECK(SetupGreed().Judge(Refused).empty());
  Done();
}
TEST("setup messages and doorbells with fds, where the kernel lets them through") {
  const pid_t child = fork();
  if (child == 0) {
    constexpr uint32_t kPassRights = 83;  // SO_PASSRIGHTS, Linux 6.16: the server does without
    if (!Deny(SYS_setsockopt, ENOPROTOOPT, DenyWhen::kEqual, 2, kPassRights)) _exit(77);
    Begin();
    CHECK(SetupFds().Judge(Refused).empty());
    CHECK(SocketFds().Judge(EndedOnLargeRings).empty());
    Done();
    _exit(check_failures == 0 ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  REQUIRE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77) SKIP("seccomp is not to be had");
  CHECK_EQ(WEXITSTATUS(status), 0);
}
TEST("write positions") {
  Begin();
  CHECK(Positions().Judge(EndedOnLargeRings).empty());
  Done();
}
TEST("write positions over whole records") {
  Begin();
  CHECK(PositionsOverRecords().Judge(EndedOnSmallRings).empty());
  Done();
}
TEST("read positions") {
  Begin();
  CHECK(ReadPositions().Judge(EndedOnSmallRings).empty());
  Done();
}
TEST("lengths of records") {
  Begin();
  CHECK(Lengths().Judge(EndedOnLargeRings).empty());
  Done();
}
TEST("pad records, and records at the end of a ring") {
  Begin();
  CHECK(Pads().Judge(EndedOnSmallRings).empty());
  Done();
}
TEST("kinds and flags of records") {
  Begin();
  CHECK(Kinds().Judge(EndedOnLargeRings).empty());
  Done();
}
TEST("correlations") {
  Begin();
  CHECK(Correlations().Judge(EndedOnLargeRings).empty());
  Done();
}
TEST("segments: references, releases, wants") {
  Begin();
  CHECK(Segments().Judge(EndedOnLargeRings).empty());
  Done();
}
TEST("messages above what was agreed on") {
  Begin();
  CHECK(Agreed().Judge(EndedAsAgreed).empty());
  Done();
}
TEST("questions that are answered with a refusal") {
  Begin();
  CHECK(Refusals().Judge(Answered).empty());
  Done();
}
TEST("bytes on the socket, and ways to leave") {
  Begin();
  CHECK(Socket().Judge(EndedOnLargeRings).empty());
  Done();
}

TEST("a table that names the wrong code is not fulfilled") {
  Lies table;
  table.Add("a client that only goes away, said to be cut off", COROIPC_PROTOCOL,
            [](RawClient& c) { close(std::exchange(c.socket, -1)); });
  table.Add("a lie that is said to be none", COROIPC_OK,
            [](RawClient& c) { c.Put(Record(200), nullptr, 0); });
  Begin();
  const int before = check_failures;
  const size_t wrong = table.Judge(EndedOnLargeRings).size();
  check_failures = before;  // what the rows themselves were found guilty of
  CHECK_EQ(wrong, 2u);
  Done();
}

TEST("there are at least 500 cases, each with a name of its own") {
  Names names;
  names.Add("setup: size", SetupSizes());
  names.Add("setup: fields", SetupFields());
  names.Add("setup: greed", SetupGreed());
  names.Add("setup: fds", SetupFds());
  names.Add("write positions", Positions());
  names.Add("positions over records", PositionsOverRecords());
  names.Add("read positions", ReadPositions());
  names.Add("lengths", Lengths());
  names.Add("pads", Pads());
  names.Add("kinds", Kinds());
  names.Add("correlations", Correlations());
  names.Add("segments", Segments());
  names.Add("agreed", Agreed());
  names.Add("refusals", Refusals());
  names.Add("socket", Socket());
  names.Add("socket: fds", SocketFds());
  printf("# %zu cases\n", names.count());
  CHECK(names.count() >= 500);
}
