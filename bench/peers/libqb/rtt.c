/* rtt.c: a blocking call over libqb's shared memory: qb_ipcc_sendv_recv in the client, a message
 * handler in the server's poll loop. Three copies: the request in, the answer in and out. */
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
  qb_ipcc_connection_t* connection = connect_service(&options);
  struct caller caller = caller_of(&options);
  struct meter meter = meter_start(&options, &pair, 1);
  for (uint32_t seed = 0; !meter.over; seed++) {
    meter_pause(&meter, &options);
    call(&caller, connection, seed);
    meter_count(&meter);
  }
  qb_ipcc_disconnect(connection);
  leave_server(&pair);
  join_server(&pair);
  return meter_report(&meter, "libqb rtt", &options, 1, caller.wrong);
}
