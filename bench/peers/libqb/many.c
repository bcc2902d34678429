/* many.c: several connections to a libqb server, some of them with a request in flight. An answer
 * wakes a semaphore in shared memory, which cannot be polled together with others, so the client
 * asks on all and then takes the answers in turn. */
#include "answer.h"

int main(int argc, char** argv) {
  struct options options = peer_defaults;
  parse_options(argc, argv, &options);
  struct pair pair = fork_peers(&options);
  if (pair.server == 0) {
    answer_until_left(&pair, &options);
    return 0;
  }
  await_server(&pair);
  struct caller caller = caller_of(&options);
  qb_ipcc_connection_t** all = calloc(options.connections, sizeof *all);
  if (all == NULL) fail("calloc");
  const double before[2] = {count_fds(getpid()), count_fds(pair.server)};
  for (uint32_t i = 0; i < options.connections; i++) {
    all[i] = connect_service(&options);
    call(&caller, all[i], i);
  }
  const double after[2] = {count_fds(getpid()), count_fds(pair.server)};
  struct many many = {.meter = meter_start(&options, &pair, 1),
                      .active = options.active,
                      .counts = calloc(options.active, sizeof(uint64_t))};
  many.meter.measured.client_fds = (after[0] - before[0]) / options.connections;
  many.meter.measured.server_fds = (after[1] - before[1]) / options.connections;
  struct qb_ipc_request_header head = request_head(&options);
  struct iovec parts[] = {{&head, sizeof head}, {caller.payload, options.payload_bytes}};
  uint32_t step = options.connections / options.active;
  for (uint32_t seed = 0; !many.meter.over; seed++) {
    touched_fill(caller.payload, options.payload_bytes, seed, options.hand_over);
    for (uint32_t slot = 0; slot < options.active; slot++) {
      ssize_t sent = qb_ipcc_sendv(all[slot * step], parts, options.payload_bytes > 0 ? 2 : 1);
      if (sent < 0) {
        errno = (int)-sent;
        fail("qb_ipcc_sendv");
      }
    }
    for (uint32_t slot = options.active; slot-- > 0;) {
      check_reply(&caller,
                  qb_ipcc_recv(all[slot * step], caller.reply, caller.reply_bytes, STALL_MS), seed);
      slot_answered(&many, slot);
    }
  }
  for (uint32_t i = 0; i < options.connections; i++) qb_ipcc_disconnect(all[i]);
  leave_server(&pair);
  join_server(&pair);
  return many_report(&many, "libqb many", &options, caller.wrong);
}
