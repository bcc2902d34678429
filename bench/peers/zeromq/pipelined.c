/* pipelined.c: `--batch` requests in flight over ZeroMQ: DEALER in the client, ROUTER in the
 * server, as its guide has it for asynchronous calls. Answers come in order. A sample runs from one
 * answer of a slot to its next, as in bench/cases/pipelined.ts. */
#include "answer.h"

int main(int argc, char** argv) {
  struct options options = peer_defaults;
  parse_options(argc, argv, &options);
  struct pair pair = fork_peers(&options);
  if (pair.server == 0) {
    answer_until_goodbye(&pair, &options);
    return 0;
  }
  await_server(&pair);
  struct socket socket = open_socket(&pair, ZMQ_DEALER);
  uint32_t* request = private_memory(options.payload_bytes);
  uint32_t* answer = private_memory(options.answer_bytes);
  uint64_t wrong = 0;
  uint32_t sent = 0, seed = 0;
  struct meter meter = meter_start(&options, &pair, options.batch);
  while (!meter.over) {
    while (sent - seed < options.batch) ask(&socket, request, &options, sent++);
    uint32_t bytes = receive(&socket, answer, options.answer_bytes);
    wrong += answer_wrong(answer, bytes, seed++, &options);
    meter_count(&meter);
  }
  while (seed != sent) {
    uint32_t bytes = receive(&socket, answer, options.answer_bytes);
    wrong += answer_wrong(answer, bytes, seed++, &options);
  }
  check_zmq("zmq_send", zmq_send(socket.handle, &goodbye, sizeof goodbye, 0));
  close_socket(&socket);
  join_server(&pair);
  return meter_report(&meter, "zeromq pipelined", &options, 1, wrong);
}
