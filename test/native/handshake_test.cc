// The two setup messages, field by field: what is refused and with which code, at each boundary and
// on both sides of it. Messages lie in memory of exactly their size, for AddressSanitizer.
#include "handshake.h"

#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "check.h"

using namespace coroipc;

namespace {

Status JudgeRequest(const void* bytes, size_t count, coroipc_setup_request* out = nullptr) {
  std::unique_ptr<uint8_t[]> exact(new uint8_t[count == 0 ? 1 : count]);
  if (count != 0) memcpy(exact.get(), bytes, count);
  coroipc_setup_request request = {};
  const Status status = CheckSetupRequest(exact.get(), count, out != nullptr ? out : &request);
  return status;
}

Status JudgeReply(const void* bytes, size_t count, bool has_fd) {
  std::unique_ptr<uint8_t[]> exact(new uint8_t[count == 0 ? 1 : count]);
  if (count != 0) memcpy(exact.get(), bytes, count);
  coroipc_setup_reply reply = {};
  return CheckSetupReply(exact.get(), count, has_fd, &reply);
}

Terms SomeTerms() {
  Terms terms;
  terms.request_ring_bytes = 4096;
  terms.response_ring_bytes = 8192;
  terms.dispatch_ring_bytes = 16384;
  terms.message_bytes = 1u << 20;
  terms.requests_in_flight = 256;
  terms.segments_max = 16;
  return terms;
}

template <typename Message>
Status After(Message message, const std::function<void(Message*)>& change, bool has_fd = true) {
  change(&message);
  if constexpr (sizeof(Message) == sizeof(coroipc_setup_request)) {
    (void)has_fd;
    return JudgeRequest(&message, sizeof message);
  } else {
    return JudgeReply(&message, sizeof message, has_fd);
  }
}

using Request = coroipc_setup_request;
using Reply = coroipc_setup_reply;

TermLimits SomeLimits() {
  TermLimits limits;
  limits.standard = {256u << 10, 128u << 10, 512u << 10, 1u << 20, 256, 16};
  limits.ring_bytes_min = 4096;
  limits.ring_bytes_max = 16u << 20;
  limits.message_bytes_min = 4096;
  limits.message_bytes_max = 1u << 20;
  limits.requests_in_flight_max = 256;
  return limits;
}

}  // namespace

TEST("a request that was made is accepted, and says what was asked for") {
  const Request made = MakeSetupRequest(7, SomeTerms());
  Request seen = {};
  CHECK_EQ(JudgeRequest(&made, sizeof made, &seen), COROIPC_OK);
  CHECK_EQ(seen.service, 7);
  CHECK_EQ(seen.response_ring_bytes, 8192u);
  CHECK(memcmp(&made, &seen, sizeof made) == 0);
}

TEST("a request of any other size is refused, and nothing behind it is read") {
  const Request made = MakeSetupRequest(7, SomeTerms());
  uint8_t longer[sizeof made + 64] = {};
  memcpy(longer, &made, sizeof made);
  for (size_t count = 0; count < sizeof longer; ++count) {
    CHECK_EQ(JudgeRequest(longer, count), count == sizeof made ? COROIPC_OK : COROIPC_PROTOCOL);
  }
}

TEST("a request of another magic is PROTOCOL, of another version or layout VERSION") {
  const Request made = MakeSetupRequest(7, SomeTerms());
  for (const uint32_t magic : {0u, 1u, 0x49504343u, COROIPC_MAGIC + 1, 0xffffffffu}) {
    CHECK_EQ(After<Request>(made, [&](Request* r) { r->magic = magic; }), COROIPC_PROTOCOL);
  }
  for (const uint16_t version : {uint16_t{0}, uint16_t{COROIPC_ABI_VERSION + 1}, uint16_t{65535}}) {
    SetPeerVersion(4242);
    CHECK_EQ(After<Request>(made, [&](Request* r) { r->abi_version = version; }), COROIPC_VERSION);
    CHECK_EQ(PeerVersion(), version);
  }
  CHECK_EQ(After<Request>(made, [](Request* r) { r->layout ^= 1; }), COROIPC_VERSION);
  CHECK_EQ(After<Request>(made, [](Request* r) { r->word_probe = 0x04030201; }), COROIPC_VERSION);
}

TEST("another version is told apart by the first eight bytes, whatever its size") {
  Request made = MakeSetupRequest(7, SomeTerms());
  made.abi_version = COROIPC_ABI_VERSION + 1;
  uint8_t longer[256] = {};
  memcpy(longer, &made, sizeof made);
  for (size_t count = 0; count < sizeof longer; ++count) {
    CHECK_EQ(JudgeRequest(longer, count), count < 8 ? COROIPC_PROTOCOL : COROIPC_VERSION);
    CHECK_EQ(JudgeReply(longer, count, false), count < 8 ? COROIPC_PROTOCOL : COROIPC_VERSION);
  }
}

TEST("each unknown feature bit refuses, each reserved byte of a request too") {
  const Request made = MakeSetupRequest(7, SomeTerms());
  for (int bit = 0; bit < 32; ++bit) {
    CHECK_EQ(After<Request>(made, [&](Request* r) { r->features = 1u << bit; }), COROIPC_VERSION);
  }
  for (size_t at = offsetof(Request, reserved0); at < offsetof(Request, reserved0) + 2; ++at) {
    CHECK_EQ(After<Request>(made, [&](Request* r) { reinterpret_cast<uint8_t*>(r)[at] = 1; }),
             COROIPC_PROTOCOL);
  }
  for (size_t at = offsetof(Request, reserved1); at < sizeof(Request); ++at) {
    CHECK_EQ(After<Request>(made, [&](Request* r) { reinterpret_cast<uint8_t*>(r)[at] = 0x80; }),
             COROIPC_PROTOCOL);
  }
}

TEST("whatever sizes are asked for, the terms lie between floor and ceiling") {
  const TermLimits limits = SomeLimits();
  const uint32_t sizes[] = {0,
                            1,
                            7,
                            4095,
                            4096,
                            4097,
                            8191,
                            8192,
                            (16u << 20) - 1,
                            16u << 20,
                            (16u << 20) + 1,
                            1u << 30,
                            0x7fffffff,
                            0x80000000,
                            0x80000001,
                            0xffffffff};
  for (const uint32_t size : sizes) {
    Request request = MakeSetupRequest(1, SomeTerms());
    request.request_ring_bytes = request.response_ring_bytes = request.dispatch_ring_bytes = size;
    request.message_bytes_max = request.requests_in_flight = size;
    const Terms terms = Negotiate(request, limits);
    for (const uint32_t ring :
         {terms.request_ring_bytes, terms.response_ring_bytes, terms.dispatch_ring_bytes}) {
      CHECK(ValidRingBytes(ring));
      CHECK(ring >= limits.ring_bytes_min && ring <= limits.ring_bytes_max);
      if (size >= 4096 && size <= 16u << 20) CHECK(ring >= size && ring < 2 * size);
    }
    CHECK(terms.message_bytes >= 4096 && terms.message_bytes <= 1u << 20);
    CHECK(terms.requests_in_flight >= 1 && terms.requests_in_flight <= 256);
    CHECK_EQ(terms.segments_max, 16u);
    if (size == 0) {
      CHECK_EQ(terms.request_ring_bytes, 256u << 10);
      CHECK_EQ(terms.response_ring_bytes, 128u << 10);
      CHECK_EQ(terms.dispatch_ring_bytes, 512u << 10);
    }
  }
}

TEST("a ceiling that is no power of two is not passed either") {
  TermLimits limits = SomeLimits();
  limits.ring_bytes_max = 3 * 4096;
  Request request = MakeSetupRequest(1, SomeTerms());
  for (const uint32_t size : {8193u, 3u * 4096, 1u << 30}) {
    request.request_ring_bytes = size;
    CHECK_EQ(Negotiate(request, limits).request_ring_bytes, 8192u);
  }
}

TEST("the largest rings of all fit the size of their segment") {
  TermLimits limits = SomeLimits();
  limits.ring_bytes_max = COROIPC_RING_BYTES_MAX;
  Request request = MakeSetupRequest(1, SomeTerms());
  request.request_ring_bytes = request.response_ring_bytes = request.dispatch_ring_bytes =
      0xffffffff;
  const Terms terms = Negotiate(request, limits);
  CHECK_EQ(uint64_t{SegmentBytes(terms)},
           uint64_t{COROIPC_CONTROL_BYTES} + 3 * uint64_t{COROIPC_RING_BYTES_MAX});
  const Reply reply = MakeSetupReply(COROIPC_OK, terms, 1, 2);
  CHECK_EQ(JudgeReply(&reply, sizeof reply, true), COROIPC_OK);
}

TEST("a ring is a power of two between a page and a gigabyte") {
  for (const uint32_t good : {4096u, 8192u, 1u << 29, 1u << 30}) CHECK(ValidRingBytes(good));
  for (const uint32_t bad : {0u, 1u, 2048u, 4095u, 4097u, 12288u, (1u << 30) + 1, 1u << 31, ~0u}) {
    CHECK(!ValidRingBytes(bad));
  }
}

TEST("a reply that was made is accepted with its fd, and refused without") {
  const Reply made = MakeSetupReply(COROIPC_OK, SomeTerms(), 11, 12);
  CHECK_EQ(JudgeReply(&made, sizeof made, true), COROIPC_OK);
  CHECK_EQ(JudgeReply(&made, sizeof made, false), COROIPC_PROTOCOL);
}

TEST("a refusal brings its code and no fd") {
  for (uint32_t status = 1; status < COROIPC_STATUS_COUNT + 3; ++status) {
    const Reply made = MakeSetupReply(static_cast<Status>(status), SomeTerms(), 11, 12);
    CHECK_EQ(made.segment_bytes, 0u);
    CHECK_EQ(made.connection_id, 0u);
    const Status judged = JudgeReply(&made, sizeof made, false);
    switch (status) {
      case COROIPC_DENIED:
      case COROIPC_LIMIT:
      case COROIPC_NO_SERVICE:
      case COROIPC_VERSION:
      case COROIPC_PROTOCOL:
      case COROIPC_NO_MEMORY:
      case COROIPC_RETRY:
      case COROIPC_REFUSED:
      case COROIPC_TIMED_OUT:
      case COROIPC_DISCONNECTED:
        CHECK_EQ(judged, static_cast<Status>(status));
        break;
      default:  // nothing that a server has a right to say here
        CHECK_EQ(judged, COROIPC_PROTOCOL);
    }
    CHECK_EQ(JudgeReply(&made, sizeof made, true), COROIPC_PROTOCOL);
  }
  const Reply made = MakeSetupReply(static_cast<Status>(-1), SomeTerms(), 11, 12);
  CHECK_EQ(JudgeReply(&made, sizeof made, false), COROIPC_PROTOCOL);
}

TEST("a reply of any other size is refused, and nothing behind it is read") {
  const Reply made = MakeSetupReply(COROIPC_OK, SomeTerms(), 11, 12);
  uint8_t longer[sizeof made + 64] = {};
  memcpy(longer, &made, sizeof made);
  for (size_t count = 0; count < sizeof longer; ++count) {
    CHECK_EQ(JudgeReply(longer, count, true), count == sizeof made ? COROIPC_OK : COROIPC_PROTOCOL);
  }
}

TEST("every lie in a reply's numbers is PROTOCOL") {
  const Reply made = MakeSetupReply(COROIPC_OK, SomeTerms(), 11, 12);
  const auto judge = [&](const std::function<void(Reply*)>& change) {
    return After<Reply>(made, change);
  };
  CHECK_EQ(judge([](Reply* r) { r->magic = 0; }), COROIPC_PROTOCOL);
  CHECK_EQ(judge([](Reply* r) { r->word_probe = 0x04030201; }), COROIPC_VERSION);
  CHECK_EQ(judge([](Reply* r) { r->features = 1; }), COROIPC_VERSION);
  CHECK_EQ(judge([](Reply* r) { r->layout ^= 1; }), COROIPC_VERSION);
  for (int i = 0; i < 8; ++i) {
    CHECK_EQ(judge([&](Reply* r) { r->reserved[i] = 1; }), COROIPC_PROTOCOL);
  }
  for (uint32_t Reply::*ring :
       {&Reply::request_ring_bytes, &Reply::response_ring_bytes, &Reply::dispatch_ring_bytes}) {
    for (const uint32_t bytes : {0u, 1u, 2048u, 4097u, 12288u, 1u << 31, 0xffffffffu}) {
      CHECK_EQ(judge([&](Reply* r) {
                 r->segment_bytes += bytes - r->*ring;
                 r->*ring = bytes;
               }),
               COROIPC_PROTOCOL);
    }
  }
  for (const uint32_t delta : {1u, 4096u, 0u - 4096u, 0x80000000u, 0xffffffffu}) {
    CHECK_EQ(judge([&](Reply* r) { r->segment_bytes += delta; }), COROIPC_PROTOCOL);
  }
  for (const uint32_t bytes : {0u, COROIPC_MESSAGE_BYTES_MAX + 1, 0xffffffffu}) {
    CHECK_EQ(judge([&](Reply* r) { r->message_bytes_max = bytes; }), COROIPC_PROTOCOL);
  }
  CHECK_EQ(judge([](Reply* r) { r->message_bytes_max = COROIPC_MESSAGE_BYTES_MAX; }), COROIPC_OK);
  CHECK_EQ(judge([](Reply* r) { r->message_bytes_max = 1; }), COROIPC_OK);
  for (const uint32_t count : {0u, COROIPC_REQUESTS_IN_FLIGHT_MAX + 1, 0xffffffffu}) {
    CHECK_EQ(judge([&](Reply* r) { r->requests_in_flight = count; }), COROIPC_PROTOCOL);
  }
  CHECK_EQ(judge([](Reply* r) { r->requests_in_flight = COROIPC_REQUESTS_IN_FLIGHT_MAX; }),
           COROIPC_OK);
  CHECK_EQ(judge([](Reply* r) { r->segments_max = COROIPC_SEGMENTS_MAX; }), COROIPC_OK);
  CHECK_EQ(judge([](Reply* r) { r->segments_max = COROIPC_SEGMENTS_MAX + 1; }), COROIPC_PROTOCOL);
}

TEST("every byte of the segment's header that differs from the reply is found") {
  const Terms terms = SomeTerms();
  const Reply reply = MakeSetupReply(COROIPC_OK, terms, 0x0102030405060708u, 12);
  alignas(8) static coroipc_control control;
  FillSegmentHeader(&control, terms, 0x0102030405060708u);
  CHECK_EQ(CheckSegmentHeader(&control, reply), COROIPC_OK);
  for (size_t at = 0; at < offsetof(coroipc_segment_header, reserved); ++at) {
    auto* const byte = reinterpret_cast<uint8_t*>(&control) + at;
    *byte ^= 0x10;
    CHECK_EQ(CheckSegmentHeader(&control, reply), COROIPC_PROTOCOL);
    *byte ^= 0x10;
  }
}

TEST("random messages are judged without reading out of bounds, and none is accepted") {
  std::mt19937 random(3);
  for (int i = 0; i < 20000; ++i) {
    const size_t count = random() % 120;
    std::vector<uint8_t> bytes(count);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
    CHECK(JudgeRequest(bytes.data(), count) != COROIPC_OK);
    CHECK(JudgeReply(bytes.data(), count, i % 2 == 0) != COROIPC_OK);
  }
  // Good ones with one byte changed: OK or a refusal, never out of bounds.
  for (int i = 0; i < 20000; ++i) {
    Reply reply = MakeSetupReply(COROIPC_OK, SomeTerms(), 11, 12);
    reinterpret_cast<uint8_t*>(&reply)[random() % sizeof reply] = static_cast<uint8_t>(random());
    Request request = MakeSetupRequest(1, SomeTerms());
    reinterpret_cast<uint8_t*>(&request)[random() % sizeof request] =
        static_cast<uint8_t>(random());
    if (JudgeRequest(&request, sizeof request) == COROIPC_OK) {
      const Terms terms = Negotiate(request, SomeLimits());
      CHECK(ValidRingBytes(terms.request_ring_bytes));
    }
    (void)JudgeReply(&reply, sizeof reply, true);
  }
}
