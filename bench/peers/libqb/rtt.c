/* rtt.c: a blocking call over libqb's shared memory: qb_ipcc_sendv_recv in the client, a message
 * handler in the server's poll loop. The server reads the request where it lies in the ring; three
 * copies: the request in, the answer in and out. */
#include "service.h"

static struct options options;
static uint32_t* answer;

static int32_t answer_call(qb_ipcs_connection_t* connection, void* data, size_t size) {
  struct qb_ipc_request_header* request = data;
  uint32_t bytes = (uint32_t)(size - sizeof *request);
  answer_fill(answer, (const uint32_t*)(request + 1), bytes, &options);
  struct qb_ipc_response_header head = {.id = request->id,
                                        .size = (int32_t)(sizeof head + options.answer_bytes)};
  struct iovec parts[] = {{&head, sizeof head}, {answer, options.answer_bytes}};
  ssize_t sent = qb_ipcs_response_sendv(connection, parts, options.answer_bytes > 0 ? 2 : 1);
  if (sent < 0) {
    errno = (int)-sent;
    fail("qb_ipcs_response_sendv");
  }
  return 0;
}

int main(int argc, char** argv) {
  options = peer_defaults;
  parse_options(argc, argv, &options);
  struct pair pair = fork_peers(&options);
  if (pair.server == 0) {
    answer = private_memory(options.answer_bytes);
    serve(&pair, answer_call, NULL);
    return 0;
  }
  await_server(&pair);
  qb_ipcc_connection_t* connection = connect_service(&options);
  uint32_t* payload = private_memory(options.payload_bytes);
  uint32_t reply_bytes = (uint32_t)sizeof(struct qb_ipc_response_header) + options.answer_bytes;
  struct qb_ipc_response_header* reply = private_memory(reply_bytes);
  struct qb_ipc_request_header head = {.id = QB_IPC_MSG_USER_START + 1,
                                       .size = (int32_t)(sizeof head + options.payload_bytes)};
  struct iovec parts[] = {{&head, sizeof head}, {payload, options.payload_bytes}};
  uint32_t count = options.payload_bytes > 0 ? 2 : 1;
  uint64_t wrong = 0;
  struct meter meter = meter_start(&options, &pair, 1);
  for (uint32_t seed = 0; !meter.over; seed++) {
    meter_pause(&meter, &options);
    touched_fill(payload, options.payload_bytes, seed, options.hand_over);
    ssize_t got = qb_ipcc_sendv_recv(connection, parts, count, reply, reply_bytes, STALL_MS);
    if (got < (ssize_t)sizeof *reply) {
      errno = got < 0 ? (int)-got : EPROTO;
      fail("qb_ipcc_sendv_recv");
    }
    wrong += answer_wrong((const uint32_t*)(reply + 1), (uint32_t)got - (uint32_t)sizeof *reply,
                          seed, &options);
    meter_count(&meter);
  }
  qb_ipcc_disconnect(connection);
  join_server(&pair);
  return meter_report(&meter, "libqb rtt", &options, 1, wrong);
}
