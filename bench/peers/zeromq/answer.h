/* answer.h: a ROUTER that answers what DEALERs ask, until one of them says goodbye. */
#ifndef COROIPC_BENCH_ZEROMQ_ANSWER_H
#define COROIPC_BENCH_ZEROMQ_ANSWER_H

#include "zeromq.h"

#define IDENTITY_BYTES_MAX 256

static inline void answer_until_goodbye(const struct pair* pair, const struct options* options) {
  uint32_t* request = private_memory(options->payload_bytes + 1);
  uint32_t* answer = private_memory(options->answer_bytes);
  struct socket socket = open_socket(pair, ZMQ_ROUTER);
  for (;;) {
    uint8_t identity[IDENTITY_BYTES_MAX];
    uint32_t identity_bytes = receive(&socket, identity, sizeof identity);
    uint32_t bytes = receive(&socket, request, options->payload_bytes + 1);
    if (bytes == sizeof goodbye) break;
    if (bytes > options->payload_bytes) fail("a request that is too large");
    answer_fill(answer, request, bytes, options);
    check_zmq("zmq_send", zmq_send(socket.handle, identity, identity_bytes, ZMQ_SNDMORE));
    check_zmq("zmq_send", zmq_send(socket.handle, answer, options->answer_bytes, 0));
  }
  close_socket(&socket);
}

static inline void ask(struct socket* socket, uint32_t* payload, const struct options* options,
                       uint32_t seed) {
  touched_fill(payload, options->payload_bytes, seed, options->hand_over);
  check_zmq("zmq_send", zmq_send(socket->handle, payload, options->payload_bytes, 0));
}

#endif
