/* connect.c: a DEALER that is made, connected, and has its first answer, since a connection of
 * ZeroMQ says nothing by itself; `--at-once` of them in the making at any time. Closing is not in
 * the sample. All share one context, as in a program. */
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
  struct socket first = open_socket(&pair, ZMQ_DEALER);
  uint32_t* payload = private_memory(options.payload_bytes);
  uint32_t* answer = private_memory(options.answer_bytes);
  uint64_t wrong = 0;
  uint32_t seed = 0, count = options.at_once;
  struct socket* sockets = calloc(count, sizeof *sockets);
  zmq_pollitem_t* items = calloc(count, sizeof *items);
  uint64_t* begun = calloc(count, sizeof *begun);
  uint32_t* seeds = calloc(count, sizeof *seeds);
  if (sockets == NULL || items == NULL || begun == NULL || seeds == NULL) fail("calloc");
  struct meter meter = meter_start(&options, &pair, 1);
  while (!meter.over) {
    for (uint32_t i = 0; i < count; i++) {
      if (sockets[i].handle != NULL) continue;
      begun[i] = now_ns();
      sockets[i] = open_socket_in(first.context, &pair, ZMQ_DEALER, 0);
      items[i] = (zmq_pollitem_t){.socket = sockets[i].handle, .events = ZMQ_POLLIN};
      seeds[i] = seed++;
      ask(&sockets[i], payload, &options, seeds[i]);
    }
    check_zmq("zmq_poll", zmq_poll(items, (int)count, STALL_MS));
    for (uint32_t i = 0; i < count; i++) {
      if ((items[i].revents & ZMQ_POLLIN) == 0) continue;
      uint32_t bytes = receive(&sockets[i], answer, options.answer_bytes);
      wrong += answer_wrong(answer, bytes, seeds[i], &options);
      meter.last = begun[i];
      meter_count(&meter);
      check_zmq("zmq_close", zmq_close(sockets[i].handle));
      sockets[i].handle = NULL;
    }
  }
  for (uint32_t i = 0; i < count; i++) {
    if (sockets[i].handle != NULL) check_zmq("zmq_close", zmq_close(sockets[i].handle));
  }
  check_zmq("zmq_send", zmq_send(first.handle, &goodbye, sizeof goodbye, 0));
  close_socket(&first);
  join_server(&pair);
  return meter_report(&meter, "zeromq connect", &options, 1, wrong);
}
