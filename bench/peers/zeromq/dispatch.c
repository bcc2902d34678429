/* dispatch.c: one way over ZeroMQ: PUSH in the server, PULL in the client, high-water marks as they
 * are by default (1000 messages). */
#include "zeromq.h"

static void serve(const struct pair* pair, const struct options* options) {
  uint32_t* payload = private_memory(options->payload_bytes);
  struct socket socket = open_socket(pair, ZMQ_PUSH);
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
  struct socket socket = open_socket(&pair, ZMQ_PULL);
  uint32_t* payload = private_memory(options.payload_bytes);
  uint64_t wrong = 0;
  struct meter meter = meter_start(&options, &pair, MESSAGES_PER_SAMPLE);
  for (uint32_t seed = 0; !meter.over; seed++) {
    uint32_t bytes = receive(&socket, payload, options.payload_bytes);
    wrong +=
        bytes != options.payload_bytes || !touched_right(payload, bytes, seed, options.hand_over);
    meter_count(&meter);
  }
  stop_server(&pair);
  close_socket(&socket);
  join_server(&pair);
  return meter_report(&meter, "zeromq dispatch", &options, MESSAGES_PER_SAMPLE, wrong);
}
