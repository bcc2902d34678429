/* dispatch.c: one way over ZeroMQ: PUSH in the server, PULL in the client, high-water marks as they
 * are by default (1000 messages), or fewer large ones. */
#include "zeromq.h"

#define QUEUE_BYTES (4u << 20)

static int queue_messages(uint32_t payload_bytes) {
  return payload_bytes <= 4096 ? 1000 : (int)(QUEUE_BYTES / payload_bytes) + 2;
}

static void serve(const struct pair* pair, const struct options* options) {
  uint32_t* payload = private_memory(options->payload_bytes);
  int queue = queue_messages(options->payload_bytes);
  struct socket socket = open_socket_in(zmq_ctx_new(), pair, ZMQ_PUSH, queue);
  uint32_t sequence = 0;
  /* It waits for the first client, and for room. */
  int stall = 100;
  check_zmq("ZMQ_SNDTIMEO", zmq_setsockopt(socket.handle, ZMQ_SNDTIMEO, &stall, sizeof stall));
  while (!stopped(pair)) {
    touched_fill(payload, options->payload_bytes, sequence, options->hand_over);
    if (zmq_send(socket.handle, payload, options->payload_bytes, 0) >= 0)
      sequence++;
    else if (zmq_errno() != EAGAIN)
      check_zmq("zmq_send", -1);
  }
  close_socket(&socket);
}

int main(int argc, char** argv) {
  struct options options = peer_defaults;
  parse_options(argc, argv, &options);
  struct pair pair = fork_peers(&options);
  if (pair.server == 0) {
    serve(&pair, &options);
    return 0;
  }
  await_server(&pair);
  int queue = queue_messages(options.payload_bytes);
  struct socket socket = open_socket_in(zmq_ctx_new(), &pair, ZMQ_PULL, queue);
  uint32_t* payload = private_memory(options.payload_bytes);
  uint64_t wrong = 0;
  uint32_t per_sample = messages_per_sample(options.payload_bytes);
  struct meter meter = meter_start(&options, &pair, per_sample);
  for (uint32_t seed = 0; !meter.over; seed++) {
    uint32_t bytes = receive(&socket, payload, options.payload_bytes);
    wrong +=
        bytes != options.payload_bytes || !touched_right(payload, bytes, seed, options.hand_over);
    meter_count(&meter);
  }
  stop_server(&pair);
  close_socket(&socket);
  join_server(&pair);
  return meter_report(&meter, "zeromq dispatch", &options, per_sample, wrong);
}
