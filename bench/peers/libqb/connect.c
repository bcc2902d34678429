/* connect.c: connections to a libqb server, one after the other: qb_ipcc_connect, which blocks
 * until the server has made the rings; then qb_ipcc_disconnect, which is not in the sample. Each is
 * called once, so that a server that only seems to be there is seen. */
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
  struct meter meter = meter_start(&options, &pair, 1);
  for (uint32_t seed = 0; !meter.over; seed++) {
    meter.last = now_ns();
    qb_ipcc_connection_t* connection = connect_service(&options);
    meter_count(&meter);
    call(&caller, connection, seed);
    qb_ipcc_disconnect(connection);
  }
  leave_server(&pair);
  join_server(&pair);
  return meter_report(&meter, "libqb connect", &options, 1, caller.wrong);
}
