/* death.c: a libqb server is killed while a blocking call waits for it, without a limit of time:
 * libqb looks for the server every two seconds. The one who kills is a thread of the client. */
#include "../killer.h"
#include "service.h"

static int32_t never_answer(qb_ipcs_connection_t* connection, void* data, size_t size) {
  (void)connection, (void)data, (void)size;
  return 0;
}

static uint64_t told_after(const struct options* options) {
  struct pair pair = fork_peers(options);
  if (pair.server == 0) {
    serve(&pair, never_answer, NULL);
    _exit(0);
  }
  await_server(&pair);
  qb_ipcc_connection_t* connection = connect_service(options);
  struct killer killer = killer_start(&pair);
  struct qb_ipc_request_header request = {.id = QB_IPC_MSG_USER_START + 1, .size = sizeof request};
  struct iovec part = {&request, sizeof request};
  struct qb_ipc_response_header reply;
  ssize_t got = qb_ipcc_sendv_recv(connection, &part, 1, &reply, sizeof reply, -1);
  uint64_t told = now_ns();
  if (got >= 0) fail("an answer that nobody gave");
  uint64_t killed = killer_join(&killer);
  qb_ipcc_disconnect(connection);
  return told - killed;
}

int main(int argc, char** argv) {
  struct options options = peer_defaults;
  parse_options(argc, argv, &options);
  return measure_deaths("libqb death", &options, told_after);
}
