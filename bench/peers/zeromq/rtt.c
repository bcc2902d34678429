/* rtt.c: a blocking call over ZeroMQ: REQ in the client, REP in the server. */
#include "zeromq.h"

static void serve(const struct pair* pair, const struct options* options) {
  uint32_t* request = private_memory(options->payload_bytes + 1);
  uint32_t* answer = private_memory(options->answer_bytes);
  struct socket socket = open_socket(pair, ZMQ_REP);
  for (;;) {
    uint32_t bytes = receive(&socket, request, options->payload_bytes + 1);
    if (bytes == sizeof goodbye) break;
    if (bytes > options->payload_bytes) fail("a request that is too large");
    answer_fill(answer, request, bytes, options);
    check_zmq("zmq_send", zmq_send(socket.handle, answer, options->answer_bytes, 0));
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
  struct socket socket = open_socket(&pair, ZMQ_REQ);
  uint32_t* request = private_memory(options.payload_bytes);
  uint32_t* answer = private_memory(options.answer_bytes);
  uint64_t wrong = 0;
  struct meter meter = meter_start(&options, &pair, 1);
  for (uint32_t seed = 0; !meter.over; seed++) {
    meter_pause(&meter, &options);
    touched_fill(request, options.payload_bytes, seed, options.hand_over);
    check_zmq("zmq_send", zmq_send(socket.handle, request, options.payload_bytes, 0));
    uint32_t bytes = receive(&socket, answer, options.answer_bytes);
    wrong += answer_wrong(answer, bytes, seed, &options);
    meter_count(&meter);
  }
  check_zmq("zmq_send", zmq_send(socket.handle, &goodbye, sizeof goodbye, 0));
  close_socket(&socket);
  join_server(&pair);
  return meter_report(&meter, "zeromq rtt", &options, 1, wrong);
}
