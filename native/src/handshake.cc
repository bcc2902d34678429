// handshake.cc: the two setup messages. Every field is copied out of the message once and checked
// before use.
#include "handshake.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "shared_word.h"

namespace coroipc {

namespace {

constexpr uint32_t kFeatures = 0;  // none yet; unknown ones are refused

bool AllZero(const uint32_t* words, size_t count) {
  return std::all_of(words, words + count, [](uint32_t word) { return word == 0; });
}

uint32_t ClampRing(uint32_t wanted, uint32_t standard, const TermLimits& limits) {
  uint32_t bytes = wanted == 0 ? standard : wanted;
  bytes = std::clamp(bytes, limits.ring_bytes_min, limits.ring_bytes_max);
  bytes = std::bit_ceil(bytes);
  return bytes > limits.ring_bytes_max ? std::bit_floor(limits.ring_bytes_max) : bytes;
}

}  // namespace

bool ValidRingBytes(uint32_t bytes) {
  return std::has_single_bit(bytes) && bytes >= COROIPC_RING_BYTES_MIN &&
         bytes <= COROIPC_RING_BYTES_MAX;
}

coroipc_setup_request MakeSetupRequest(uint16_t service, const Terms& wanted) {
  coroipc_setup_request request = {};
  request.magic = COROIPC_MAGIC;
  request.abi_version = COROIPC_ABI_VERSION;
  request.layout = COROIPC_LAYOUT;
  request.word_probe = COROIPC_WORD_PROBE;
  request.features = kFeatures;
  request.service = service;
  request.request_ring_bytes = wanted.request_ring_bytes;
  request.response_ring_bytes = wanted.response_ring_bytes;
  request.dispatch_ring_bytes = wanted.dispatch_ring_bytes;
  request.message_bytes_max = wanted.message_bytes;
  request.requests_in_flight = wanted.requests_in_flight;
  return request;
}

Status CheckSetupRequest(const void* bytes, size_t count, coroipc_setup_request* request) {
  // The first eight bytes mean the same in every version: a stranger of another one learns which it
  // met.
  if (count < 8) return COROIPC_PROTOCOL;
  coroipc_setup_request copy = {};
  std::memcpy(&copy, bytes, std::min(count, sizeof copy));
  if (copy.magic != COROIPC_MAGIC) return COROIPC_PROTOCOL;
  if (copy.abi_version != COROIPC_ABI_VERSION || copy.layout != COROIPC_LAYOUT) {
    SetPeerVersion(copy.abi_version);
    return COROIPC_VERSION;
  }
  if (count != sizeof copy) return COROIPC_PROTOCOL;
  if (copy.word_probe != COROIPC_WORD_PROBE || (copy.features & ~kFeatures) != 0) {
    SetPeerVersion(copy.abi_version);
    return COROIPC_VERSION;
  }
  if (copy.reserved0 != 0 || !AllZero(copy.reserved1, 6)) return COROIPC_PROTOCOL;
  *request = copy;
  return COROIPC_OK;
}

Terms Negotiate(const coroipc_setup_request& request, const TermLimits& limits) {
  Terms terms;
  terms.request_ring_bytes =
      ClampRing(request.request_ring_bytes, limits.standard.request_ring_bytes, limits);
  terms.response_ring_bytes =
      ClampRing(request.response_ring_bytes, limits.standard.response_ring_bytes, limits);
  terms.dispatch_ring_bytes =
      ClampRing(request.dispatch_ring_bytes, limits.standard.dispatch_ring_bytes, limits);
  terms.message_bytes = std::clamp(
      request.message_bytes_max == 0 ? limits.standard.message_bytes : request.message_bytes_max,
      limits.message_bytes_min, limits.message_bytes_max);
  terms.requests_in_flight =
      std::clamp(request.requests_in_flight == 0 ? limits.standard.requests_in_flight
                                                 : request.requests_in_flight,
                 1u, limits.requests_in_flight_max);
  terms.segments_max = limits.standard.segments_max;
  return terms;
}

coroipc_setup_reply MakeSetupReply(Status status, const Terms& terms, uint64_t connection_id,
                                   uint64_t server_id) {
  coroipc_setup_reply reply = {};
  reply.magic = COROIPC_MAGIC;
  reply.abi_version = COROIPC_ABI_VERSION;
  reply.layout = COROIPC_LAYOUT;
  reply.word_probe = COROIPC_WORD_PROBE;
  reply.features = kFeatures;
  reply.status = static_cast<uint32_t>(status);
  if (status != COROIPC_OK) return reply;
  reply.segment_bytes = SegmentBytes(terms);
  reply.request_ring_bytes = terms.request_ring_bytes;
  reply.response_ring_bytes = terms.response_ring_bytes;
  reply.dispatch_ring_bytes = terms.dispatch_ring_bytes;
  reply.message_bytes_max = terms.message_bytes;
  reply.requests_in_flight = terms.requests_in_flight;
  reply.segments_max = terms.segments_max;
  reply.connection_id = connection_id;
  reply.server_id = server_id;
  return reply;
}

Status CheckSetupReply(const void* bytes, size_t count, bool has_fd, coroipc_setup_reply* reply) {
  if (count < 8) return COROIPC_PROTOCOL;
  coroipc_setup_reply copy = {};
  std::memcpy(&copy, bytes, std::min(count, sizeof copy));
  if (copy.magic != COROIPC_MAGIC) return COROIPC_PROTOCOL;
  if (copy.abi_version != COROIPC_ABI_VERSION || copy.layout != COROIPC_LAYOUT) {
    SetPeerVersion(copy.abi_version);
    return COROIPC_VERSION;
  }
  if (count != sizeof copy) return COROIPC_PROTOCOL;
  if (copy.word_probe != COROIPC_WORD_PROBE || (copy.features & ~kFeatures) != 0) {
    SetPeerVersion(copy.abi_version);
    return COROIPC_VERSION;
  }
  if (!AllZero(copy.reserved, 8)) return COROIPC_PROTOCOL;
  if (copy.status != COROIPC_OK) {
    if (has_fd) return COROIPC_PROTOCOL;
    switch (copy.status) {
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
        if (copy.status == COROIPC_VERSION) SetPeerVersion(copy.abi_version);
        return static_cast<Status>(copy.status);
      default:
        return COROIPC_PROTOCOL;
    }
  }
  if (!has_fd) return COROIPC_PROTOCOL;
  if (!ValidRingBytes(copy.request_ring_bytes) || !ValidRingBytes(copy.response_ring_bytes) ||
      !ValidRingBytes(copy.dispatch_ring_bytes)) {
    return COROIPC_PROTOCOL;
  }
  const uint64_t total = uint64_t{COROIPC_CONTROL_BYTES} + copy.request_ring_bytes +
                         copy.response_ring_bytes + copy.dispatch_ring_bytes;
  if (total != copy.segment_bytes) return COROIPC_PROTOCOL;
  if (copy.message_bytes_max == 0 || copy.message_bytes_max > COROIPC_MESSAGE_BYTES_MAX)
    return COROIPC_PROTOCOL;
  if (copy.requests_in_flight == 0 || copy.requests_in_flight > COROIPC_REQUESTS_IN_FLIGHT_MAX) {
    return COROIPC_PROTOCOL;
  }
  if (copy.segments_max > COROIPC_SEGMENTS_MAX) return COROIPC_PROTOCOL;
  *reply = copy;
  return COROIPC_OK;
}

void FillSegmentHeader(coroipc_control* control, const Terms& terms, uint64_t connection_id) {
  coroipc_segment_header& header = control->header;
  header.magic = COROIPC_MAGIC;
  header.abi_version = COROIPC_ABI_VERSION;
  header.layout = COROIPC_LAYOUT;
  header.segment_bytes = SegmentBytes(terms);
  header.request_ring_bytes = terms.request_ring_bytes;
  header.response_ring_bytes = terms.response_ring_bytes;
  header.dispatch_ring_bytes = terms.dispatch_ring_bytes;
  header.connection_id = connection_id;
}

Status CheckSegmentHeader(const coroipc_control* control, const coroipc_setup_reply& reply) {
  coroipc_segment_header header;
  CopyIn(&header, reinterpret_cast<const uint8_t*>(&control->header), sizeof header);
  if (header.magic != COROIPC_MAGIC || header.abi_version != COROIPC_ABI_VERSION ||
      header.layout != COROIPC_LAYOUT || header.segment_bytes != reply.segment_bytes ||
      header.request_ring_bytes != reply.request_ring_bytes ||
      header.response_ring_bytes != reply.response_ring_bytes ||
      header.dispatch_ring_bytes != reply.dispatch_ring_bytes ||
      header.connection_id != reply.connection_id) {
    return COROIPC_PROTOCOL;
  }
  return COROIPC_OK;
}

}  // namespace coroipc
