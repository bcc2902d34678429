/* many.c: several DEALERs of one context to one ROUTER, some of them with a request in flight. */
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
  check_zmq("ZMQ_MAX_SOCKETS",
            zmq_ctx_set(first.context, ZMQ_MAX_SOCKETS, (int)options.connections + 2));
  uint32_t* payload = private_memory(options.payload_bytes);
  uint32_t* answer = private_memory(options.answer_bytes);
  uint64_t wrong = 0;
  struct socket* all = calloc(options.connections, sizeof *all);
  zmq_pollitem_t* items = calloc(options.active, sizeof *items);
  uint32_t* seeds = calloc(options.active, sizeof *seeds);
  struct many many = {.active = options.active, .counts = calloc(options.active, sizeof(uint64_t))};
  if (all == NULL || items == NULL || seeds == NULL || many.counts == NULL) fail("calloc");
  const double before[2] = {count_fds(getpid()), count_fds(pair.server)};
  for (uint32_t i = 0; i < options.connections; i++) {
    all[i] = open_socket_in(first.context, &pair, ZMQ_DEALER, 0);
    ask(&all[i], payload, &options, i);
    wrong += answer_wrong(answer, receive(&all[i], answer, options.answer_bytes), i, &options);
  }
  const double after[2] = {count_fds(getpid()), count_fds(pair.server)};
  uint32_t step = options.connections / options.active;
  for (uint32_t slot = 0; slot < options.active; slot++) {
    items[slot] = (zmq_pollitem_t){.socket = all[slot * step].handle, .events = ZMQ_POLLIN};
    seeds[slot] = slot << 20;
    ask(&all[slot * step], payload, &options, seeds[slot]);
  }
  many.meter = meter_start(&options, &pair, 1);
  many.meter.measured.client_fds = (after[0] - before[0]) / options.connections;
  many.meter.measured.server_fds = (after[1] - before[1]) / options.connections;
  while (!many.meter.over) {
    check_zmq("zmq_poll", zmq_poll(items, (int)options.active, STALL_MS));
    for (uint32_t slot = 0; slot < options.active; slot++) {
      if ((items[slot].revents & ZMQ_POLLIN) == 0) continue;
      struct socket* socket = &all[slot * step];
      wrong += answer_wrong(answer, receive(socket, answer, options.answer_bytes), seeds[slot],
                            &options);
      slot_answered(&many, slot);
      ask(socket, payload, &options, ++seeds[slot]);
    }
  }
  int linger = 0; /* answers that nobody waits for any more */
  for (uint32_t i = 0; i < options.connections; i++) {
    check_zmq("ZMQ_LINGER", zmq_setsockopt(all[i].handle, ZMQ_LINGER, &linger, sizeof linger));
    check_zmq("zmq_close", zmq_close(all[i].handle));
  }
  check_zmq("zmq_send", zmq_send(first.handle, &goodbye, sizeof goodbye, 0));
  close_socket(&first);
  join_server(&pair);
  return many_report(&many, "zeromq many", &options, wrong);
}
