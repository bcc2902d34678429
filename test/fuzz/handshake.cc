// handshake: the checks of both setup messages and of the segment's header, on bytes of exactly the
// length that came. What a server makes of any request it accepts, a client accepts.
#include "handshake.h"

#include <algorithm>
#include <memory>

#include "exact.h"
#include "input.h"

using coroipc::Status;
using coroipc::TermLimits;
using coroipc::Terms;

namespace {

// A message that is right but for what the input changes; any length.
template <typename Message>
void Spoil(const Message& right, Status (*check)(const uint8_t*, size_t)) {
  fuzz::Input& input = fuzz::input;
  size_t count = sizeof right;
  if (input.Chance(4)) count = input.Byte() % (sizeof right + 9);
  static fuzz::Exact bytes;
  bytes.Resize(count);
  std::memcpy(bytes.get(), &right, std::min(count, sizeof right));
  for (uint32_t n = input.Byte() & 3; n != 0 && count >= 4; --n) {
    const uint32_t value = input.Size(COROIPC_RING_BYTES_MAX);
    std::memcpy(bytes.get() + (input.Byte() % (count / 2)) / 2 * 4 % (count & ~size_t{3}), &value,
                sizeof value);
  }
  (void)check(bytes.get(), count);
}

TermLimits Limits() {
  fuzz::Input& input = fuzz::input;
  // As coroipcs_create lets them through.
  TermLimits limits;
  limits.ring_bytes_min = COROIPC_RING_BYTES_MIN << input.Below(8);
  limits.ring_bytes_max = limits.ring_bytes_min << input.Below(10);
  limits.message_bytes_max = std::clamp(input.Size(1u << 20), 1u, COROIPC_MESSAGE_BYTES_MAX);
  limits.message_bytes_min = std::clamp(input.Size(4096), 1u, limits.message_bytes_max);
  limits.requests_in_flight_max = input.Size(256) % COROIPC_REQUESTS_IN_FLIGHT_MAX + 1;
  limits.standard.request_ring_bytes = input.Size(256u << 10);
  limits.standard.response_ring_bytes = input.Size(256u << 10);
  limits.standard.dispatch_ring_bytes = input.Size(256u << 10);
  limits.standard.message_bytes = limits.message_bytes_max;
  limits.standard.requests_in_flight = limits.requests_in_flight_max;
  limits.standard.segments_max = input.Byte() % (COROIPC_SEGMENTS_MAX + 1);
  return limits;
}

TermLimits limits;
bool has_fd;

Status CheckRequest(const uint8_t* bytes, size_t count) {
  coroipc_setup_request request;
  const Status status = coroipc::CheckSetupRequest(bytes, count, &request);
  MUST(status == COROIPC_OK || status == COROIPC_PROTOCOL || status == COROIPC_VERSION);
  if (status != COROIPC_OK) return status;
  const Terms terms = coroipc::Negotiate(request, limits);
  for (const uint32_t ring :
       {terms.request_ring_bytes, terms.response_ring_bytes, terms.dispatch_ring_bytes}) {
    MUST(coroipc::ValidRingBytes(ring));
    MUST(ring >= limits.ring_bytes_min && ring <= limits.ring_bytes_max);
  }
  MUST(terms.message_bytes >= limits.message_bytes_min);
  MUST(terms.message_bytes <= limits.message_bytes_max);
  MUST(terms.requests_in_flight != 0);
  MUST(terms.requests_in_flight <= limits.requests_in_flight_max);
  const uint64_t total = uint64_t{COROIPC_CONTROL_BYTES} + terms.request_ring_bytes +
                         terms.response_ring_bytes + terms.dispatch_ring_bytes;
  MUST(total == coroipc::SegmentBytes(terms));
  const coroipc_setup_reply reply = coroipc::MakeSetupReply(COROIPC_OK, terms, 1, 2);
  coroipc_setup_reply taken;
  MUST(coroipc::CheckSetupReply(&reply, sizeof reply, true, &taken) == COROIPC_OK);
  MUST(std::memcmp(&reply, &taken, sizeof reply) == 0);
  return status;
}

Status CheckReply(const uint8_t* bytes, size_t count) {
  coroipc_setup_reply reply;
  const Status status = coroipc::CheckSetupReply(bytes, count, has_fd, &reply);
  MUST(status >= COROIPC_OK && status < COROIPC_STATUS_COUNT && status != COROIPC_AGAIN);
  if (status != COROIPC_OK) return status;
  MUST(has_fd);
  // What mapping and indexing rely on.
  MUST(coroipc::ValidRingBytes(reply.request_ring_bytes));
  MUST(coroipc::ValidRingBytes(reply.response_ring_bytes));
  MUST(coroipc::ValidRingBytes(reply.dispatch_ring_bytes));
  MUST(uint64_t{reply.request_ring_bytes} + reply.response_ring_bytes + reply.dispatch_ring_bytes +
           COROIPC_CONTROL_BYTES ==
       reply.segment_bytes);
  MUST(reply.message_bytes_max != 0 && reply.message_bytes_max <= COROIPC_MESSAGE_BYTES_MAX);
  MUST(reply.requests_in_flight != 0 && reply.segments_max <= COROIPC_SEGMENTS_MAX);
  MUST(2 * reply.requests_in_flight <= 65536);

  static const std::unique_ptr<coroipc_control> control = std::make_unique<coroipc_control>();
  Terms terms;
  terms.request_ring_bytes = reply.request_ring_bytes;
  terms.response_ring_bytes = reply.response_ring_bytes;
  terms.dispatch_ring_bytes = reply.dispatch_ring_bytes;
  coroipc::FillSegmentHeader(control.get(), terms, reply.connection_id);
  fuzz::hostile_memory = false;
  MUST(coroipc::CheckSegmentHeader(control.get(), reply) == COROIPC_OK);
  fuzz::hostile_memory = true;
  const Status header = coroipc::CheckSegmentHeader(control.get(), reply);
  MUST(header == COROIPC_OK || header == COROIPC_PROTOCOL);
  return status;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  fuzz::Input& input = fuzz::input;
  input.Reset(data, bytes);
  limits = Limits();
  Terms wanted;
  wanted.request_ring_bytes = input.Size(4096);
  wanted.response_ring_bytes = input.Size(4096);
  wanted.dispatch_ring_bytes = input.Size(4096);
  wanted.message_bytes = input.Size(4096);
  wanted.requests_in_flight = input.Size(256);
  if (input.Chance(2)) {
    Spoil(coroipc::MakeSetupRequest(input.Half(), wanted), CheckRequest);
    return 0;
  }
  has_fd = !input.Chance(8);
  Terms given = wanted;
  given.segments_max = input.Size(COROIPC_SEGMENTS_MAX);
  if (!input.Chance(8)) {
    given = coroipc::Negotiate(coroipc::MakeSetupRequest(0, wanted), limits);
  }
  const auto status = static_cast<Status>(input.Chance(2) ? 0u : input.Size(COROIPC_STATUS_COUNT));
  Spoil(coroipc::MakeSetupReply(status, given, input.Word(), input.Word()), CheckReply);
  return 0;
}
