// handshake.h: encodes, decodes and checks the two setup messages: the only door for bytes from a
// stranger.
#ifndef COROIPC_SRC_HANDSHAKE_H
#define COROIPC_SRC_HANDSHAKE_H

#include <coroipc/abi.h>

#include "status.h"

namespace coroipc {

// What one side asks for or grants.
struct Terms {
  uint32_t request_ring_bytes = 0;
  uint32_t response_ring_bytes = 0;
  uint32_t dispatch_ring_bytes = 0;
  uint32_t message_bytes = 0;
  uint32_t requests_in_flight = 0;
  uint32_t segments_max = 0;
};

// Floors, ceilings and defaults of a server.
struct TermLimits {
  Terms standard;
  uint32_t ring_bytes_min = 0, ring_bytes_max = 0;
  uint32_t message_bytes_min = 0, message_bytes_max = 0;
  uint32_t requests_in_flight_max = 0;
};

coroipc_setup_request MakeSetupRequest(uint16_t service, const Terms& wanted);
// VERSION (SetPeerVersion was called), PROTOCOL, or OK.
Status CheckSetupRequest(const void* bytes, size_t count, coroipc_setup_request* request);
// The terms that a client gets: clamped, rings rounded up to powers of two. Never fails.
Terms Negotiate(const coroipc_setup_request& request, const TermLimits& limits);

coroipc_setup_reply MakeSetupReply(Status status, const Terms& terms, uint64_t connection_id,
                                   uint64_t server_id);
// VERSION, PROTOCOL, the server's refusal, or OK with every size checked.
Status CheckSetupReply(const void* bytes, size_t count, bool has_fd, coroipc_setup_reply* reply);

inline uint32_t SegmentBytes(const Terms& terms) {
  return COROIPC_CONTROL_BYTES + terms.request_ring_bytes + terms.response_ring_bytes +
         terms.dispatch_ring_bytes;
}
void FillSegmentHeader(coroipc_control* control, const Terms& terms, uint64_t connection_id);
// The client's second look: what is mapped says the same as the reply.
Status CheckSegmentHeader(const coroipc_control* control, const coroipc_setup_reply& reply);

bool ValidRingBytes(uint32_t bytes);

}  // namespace coroipc

#endif
