/* dispatch.c: events of a libqb server to one client, over shared memory. libqb puts each into the
 * ring and writes a byte to a socket for each; a full ring says EAGAIN and the server's loop turns
 * until there is room. Two copies: in and out. */
#include <sys/eventfd.h>

#include "service.h"

enum { SUBSCRIBE = QB_IPC_MSG_USER_START + 1, EVENT = QB_IPC_MSG_USER_START + 2 };
enum { BURST = 512 };

static struct options options;
static uint32_t* payload;
static uint32_t sequence;
static bool client_gone;

static int32_t send_burst(int32_t fd, int32_t revents, void* data) {
  (void)fd, (void)revents;
  qb_ipcs_connection_t* connection = data;
  struct qb_ipc_response_header head = {.id = EVENT,
                                        .size = (int32_t)(sizeof head + options.payload_bytes)};
  struct iovec parts[] = {{&head, sizeof head}, {payload, options.payload_bytes}};
  uint32_t count = options.payload_bytes > 0 ? 2 : 1;
  for (int i = 0; i < BURST && !client_gone; i++) {
    touched_fill(payload, options.payload_bytes, sequence, options.hand_over);
    ssize_t sent = qb_ipcs_event_sendv(connection, parts, count);
    if (sent == -EAGAIN || sent == -ENOBUFS || sent == -ETIMEDOUT) {
      sched_yield();
      break;
    }
    if (sent < 0) client_gone = true;
    sequence++;
  }
  if (!client_gone) return 0;
  qb_ipcs_connection_unref(connection);
  return -1; /* off the loop */
}

/* Nothing says when there is room again. A job of libqb's own loop that puts itself back would wait
 * for up to 50 ms each time; a descriptor that is always readable makes the loop turn. */
static int32_t subscribe(qb_ipcs_connection_t* connection, void* data, size_t size) {
  (void)data, (void)size;
  qb_ipcs_connection_ref(connection); /* send_burst's */
  int always_readable = eventfd(1, EFD_CLOEXEC);
  if (always_readable < 0) fail("eventfd");
  qb_loop_poll_add(loop, QB_LOOP_LOW, always_readable, POLLIN, connection, send_burst);
  return 0;
}

static int32_t leave(qb_ipcs_connection_t* connection) {
  (void)connection;
  client_gone = true;
  return 0;
}

int main(int argc, char** argv) {
  options = peer_defaults;
  parse_options(argc, argv, &options);
  struct pair pair = fork_peers(&options);
  if (pair.server == 0) {
    payload = private_memory(options.payload_bytes);
    serve(&pair, subscribe, leave);
    return 0;
  }
  await_server(&pair);
  qb_ipcc_connection_t* connection = connect_service(&options);
  uint32_t event_bytes = (uint32_t)sizeof(struct qb_ipc_response_header) + options.payload_bytes;
  struct qb_ipc_response_header* event = private_memory(event_bytes);
  struct qb_ipc_request_header hello = {.id = SUBSCRIBE, .size = sizeof hello};
  if (qb_ipcc_send(connection, &hello, sizeof hello) < 0) fail("qb_ipcc_send");
  uint64_t wrong = 0;
  uint32_t per_sample = messages_per_sample(options.payload_bytes);
  struct meter meter = meter_start(&options, &pair, per_sample);
  for (uint32_t seed = 0; !meter.over; seed++) {
    ssize_t got = qb_ipcc_event_recv(connection, event, event_bytes, STALL_MS);
    if (got < (ssize_t)sizeof *event) {
      errno = got < 0 ? (int)-got : EPROTO;
      fail("qb_ipcc_event_recv");
    }
    uint32_t bytes = (uint32_t)got - (uint32_t)sizeof *event;
    wrong += bytes != options.payload_bytes ||
             !touched_right((const uint32_t*)(event + 1), bytes, seed, options.hand_over);
    meter_count(&meter);
  }
  qb_ipcc_disconnect(connection);
  leave_server(&pair);
  join_server(&pair);
  return meter_report(&meter, "libqb dispatch", &options, per_sample, wrong);
}
