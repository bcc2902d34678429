/* A client that keeps a server busy, for test/storm: load-client <name> <ledger> <lane> <kind>
 * [service] [mutant]. It writes all it does and sees into its lane of the ledger (ledger.h),
 * connects again whenever its server ends, and closes in order on SIGTERM.
 * test/storm/load-client.ts is the same in Node.js.
 *
 *   blocking    one request of 64 bytes after the other
 *   large       the same with 100 000 bytes, which travel by a segment of their own
 *   zero-copy   the same in a buffer, answered in a buffer; service 2
 *   pipelined   32 requests in flight
 *   dispatch    asks for 16 dispatches at a time and reads them
 *   slow        the same, but reads one of 100, through the smallest ring
 *   connects    a connection for each request
 *   idle        one request, then nothing
 *
 * Mutant `hides`, to show that the ledger tells: a request of which nobody knows what became of it
 * is not written down. */
#include <coroipc/coroipcc.h>
#include <signal.h>

#include "ledger.h"

#define SMALL_BYTES 64u
#define LARGE_BYTES 100000u
#define WINDOW 32u
#define ROWS 64u
#define TIMEOUT_MS 10000

static struct ledger ledger;
static uint64_t* lane;
static uint32_t lane_number;
static const char* name;
static struct coroipcc_options options;
static struct coroipcc_connection* connection;
static uint64_t dispatch_next;
static int dropping; /* the service's policy may leave dispatches out */
static int hiding;   /* mutant `hides` */
static uint8_t out[LARGE_BYTES], in[LARGE_BYTES];
static volatile sig_atomic_t stopping;

static void stop(int signal) {
  (void)signal;
  stopping = 1;
}

static void wrong(const char* what, uint64_t number) {
  fprintf(stderr, "load-client %u: %s: %lu\n", lane_number, what, (unsigned long)number);
  ledger_add(lane, LANE_WRONG, 1);
}

static void failed(coroipc_status status) {
  fprintf(stderr, "load-client %u: %s\n", lane_number, coroipc_status_name(status));
  ledger_set(lane, LANE_FAILED_CODE, (uint64_t)status);
  ledger_add(lane, LANE_FAILED, 1);
}

static int is_end(coroipc_status status) {
  return status == COROIPC_PEER_DEAD || status == COROIPC_DISCONNECTED ||
         status == COROIPC_UNKNOWN_OUTCOME || status == COROIPC_BACKLOG_OVERFLOW;
}

/* Whether to go on. Whoever leads may want silence: the longer it lasts, the less it should cost.
 */
static int go_on(void) {
  for (useconds_t us = 1000; !stopping && ledger_paused(&ledger, lane_number);) {
    usleep(us);
    us = us < 100000 ? us * 2 : us;
  }
  return !stopping;
}

/* Until somebody listens; 0 when it is time to stop. */
static int connect_again(void) {
  int told = ledger_get(lane, LANE_EPOCH) == 0;
  while (go_on()) {
    const coroipc_status status = coroipcc_connect(NULL, name, &options, TIMEOUT_MS, &connection);
    if (status == COROIPC_OK) {
      ledger_add(lane, LANE_EPOCH, 1);
      dispatch_next = 0;
      return 1;
    }
    if (status == COROIPC_CONNECT_REFUSED)
      ledger_add(lane, LANE_REFUSED, 1);
    else if (!is_end(status) && status != COROIPC_RETRY)
      failed(status);
    if (!told) ledger_set(lane, LANE_DEATH_NS, now_ns());
    told = 1;
    usleep(500);
  }
  return 0;
}

static uint64_t next_number(void) {
  const uint64_t number = ledger_get(lane, LANE_SENT) + 1;
  ledger_set(lane, LANE_SENT, number);
  return number;
}

/* What became of a request. The number is executed before the answer can be seen, and a request
 * that was never handed over must not have been. */
static void settle(coroipc_status status, uint64_t number, const void* answer, uint32_t bytes,
                   uint32_t expected) {
  const uint64_t executed = ledger_get(lane, LANE_EXECUTED);
  if (status == COROIPC_OK) {
    struct ledger_message head = {0};
    if (bytes >= sizeof head) memcpy(&head, answer, sizeof head);
    if (bytes != expected || !message_whole(answer, bytes)) {
      wrong("a torn answer", number);
    } else if (head.number != number || head.lane != lane_number) {
      wrong("the answer to another request", number);
    }
    if (executed < number) wrong("answered and not executed", number);
    ledger_set(lane, LANE_ANSWERED, number);
    ledger_add(lane, LANE_ANSWERS, 1);
    return;
  }
  if (status == COROIPC_UNKNOWN_OUTCOME) {
    if (!hiding) ledger_add(lane, LANE_UNKNOWN, 1);
  } else if (is_end(status) || status == COROIPC_RETRY) {
    if (executed >= number) wrong("executed, but said to be never handed over", number);
    ledger_add(lane, LANE_NEVER, 1);
  } else {
    failed(status);
  }
  if (is_end(status)) ledger_set(lane, LANE_DEATH_NS, now_ns());
}

static coroipc_status ask(uint16_t id, uint32_t bytes) {
  const uint64_t number = next_number();
  message_write(out, bytes, lane_number, ledger_get(lane, LANE_EPOCH), number);
  const struct iovec part = {out, bytes};
  struct coroipcc_response response = {0};
  const uint64_t began = now_ns();
  const coroipc_status status =
      coroipcc_request(connection, id, &part, 1, TIMEOUT_MS, in, sizeof in, &response);
  ledger_time(lane, now_ns() - began);
  settle(status, number, in, response.bytes, bytes);
  return status;
}

static coroipc_status ask_in_buffer(void) {
  struct coroipc_buffer* buffer;
  coroipc_status status = coroipcc_buffer_alloc(connection, LARGE_BYTES, TIMEOUT_MS, &buffer);
  if (status != COROIPC_OK) {
    if (is_end(status))
      ledger_set(lane, LANE_DEATH_NS, now_ns());
    else
      failed(status);
    return status;
  }
  const uint64_t number = next_number();
  message_write(coroipc_buffer_data(buffer), LARGE_BYTES, lane_number, ledger_get(lane, LANE_EPOCH),
                number);
  struct coroipcc_response response = {0};
  const uint64_t began = now_ns();
  status = coroipcc_request_buffer(connection, 2, buffer, 0, LARGE_BYTES, TIMEOUT_MS, &response);
  ledger_time(lane, now_ns() - began);
  settle(status, number, response.data, response.bytes, LARGE_BYTES);
  if (status == COROIPC_OK) coroipcc_response_release(connection);
  coroipc_buffer_release(buffer);
  return status;
}

/* Reads up to so many dispatches; all that are there if it is 0. */
static coroipc_status read_dispatches(uint32_t count) {
  for (uint32_t i = 0; count == 0 || i < count; ++i) {
    struct coroipcc_dispatch dispatch;
    const coroipc_status status = coroipcc_dispatch_receive(connection, 0, &dispatch);
    if (status == COROIPC_AGAIN) break;
    if (status != COROIPC_OK) {
      if (!is_end(status)) failed(status);
      return status;
    }
    struct ledger_message head = {0};
    if (dispatch.bytes == SMALL_BYTES) memcpy(&head, dispatch.data, sizeof head);
    if (dispatch.bytes != SMALL_BYTES || !message_whole(dispatch.data, dispatch.bytes)) {
      wrong("a torn dispatch", dispatch_next);
    } else if (head.number < dispatch_next || (head.number > dispatch_next && !dropping)) {
      wrong(head.number < dispatch_next ? "a dispatch again" : "a dispatch is missing",
            head.number);
    }
    ledger_add(lane, LANE_SKIPPED, head.number - dispatch_next);
    ledger_add(lane, LANE_DISPATCHES, 1);
    dispatch_next = head.number + 1;
    coroipcc_dispatch_release(connection);
  }
  return COROIPC_OK;
}

/* Requests in flight, in the order in which they were sent; servers of ours answer in that order.
 */
static void pipeline(void) {
  struct coroipcc_group* const group = coroipcc_connection_group(connection);
  static struct coroipc_entry entries[ROWS];
  static void* blocks[ROWS];
  static uint8_t arena[ROWS * 128];
  uint64_t began[WINDOW];
  uint32_t correlations[WINDOW];
  uint64_t first = ledger_get(lane, LANE_SENT) + 1, next = first; /* in flight: [first, next) */
  coroipc_status end = COROIPC_OK;
  while (end == COROIPC_OK && !(stopping && first == next)) {
    if (first == next) go_on();
    const int paused = ledger_paused(&ledger, lane_number);
    while (!stopping && !paused && next - first < WINDOW) {
      uint8_t bytes[SMALL_BYTES];
      next_number();
      message_write(bytes, SMALL_BYTES, lane_number, ledger_get(lane, LANE_EPOCH), next);
      const struct iovec part = {bytes, SMALL_BYTES};
      began[next % WINDOW] = now_ns();
      const coroipc_status status =
          coroipcc_request_send(connection, 0, &part, 1, 0, &correlations[next % WINDOW]);
      if (status != COROIPC_OK) { /* never handed over */
        settle(is_end(status) ? COROIPC_PEER_DEAD : status, next, NULL, 0, 0);
        end = status;
        break;
      }
      ++next;
    }
    struct coroipc_batch batch = {.entries = entries,
                                  .blocks = blocks,
                                  .capacity = ROWS,
                                  .arena = arena,
                                  .arena_bytes = sizeof arena};
    if (coroipcc_receive(group, &batch, 0) == COROIPC_OK && batch.count == 0 && end == COROIPC_OK)
      coroipcc_wait(group, 100);
    for (uint32_t row = 0; row < batch.count; ++row) {
      const struct coroipc_entry* const entry = &entries[row];
      const void* const payload = blocks[row] != NULL ? blocks[row] : arena + entry->offset;
      if (entry->kind == COROIPC_KIND_DISCONNECTED) end = (coroipc_status)entry->argument;
      if (entry->kind == COROIPC_KIND_RESPONSE) {
        /* Those that have none are told in any order. */
        if (first == next ||
            (entry->argument == COROIPC_OK && entry->correlation != correlations[first % WINDOW]))
          wrong("an answer out of its order", first);
        ledger_time(lane, now_ns() - began[first % WINDOW]);
        settle((coroipc_status)entry->argument, first, payload, entry->bytes, SMALL_BYTES);
        ++first;
      }
      if (blocks[row] != NULL) coroipc_block_free(blocks[row]);
    }
  }
  for (; first < next; ++first) settle(COROIPC_UNKNOWN_OUTCOME, first, NULL, 0, 0);
  if (end != COROIPC_OK) ledger_set(lane, LANE_DEATH_NS, now_ns());
}

static void rest(void) {
  coroipc_status status = ask(0, SMALL_BYTES);
  while (!stopping && status == COROIPC_OK) {
    struct coroipcc_dispatch dispatch;
    const coroipc_status seen = coroipcc_dispatch_receive(connection, 100, &dispatch);
    if (is_end(seen)) {
      status = seen;
      ledger_set(lane, LANE_DEATH_NS, now_ns());
    }
  }
}

/* One connection's life, of this kind. */
static int live(const char* kind) {
  coroipc_status status = COROIPC_OK;
  if (strcmp(kind, "pipelined") == 0) {
    pipeline();
  } else if (strcmp(kind, "idle") == 0) {
    rest();
  } else if (strcmp(kind, "connects") == 0) {
    ask(0, SMALL_BYTES);
  } else if (strcmp(kind, "blocking") == 0) {
    while (status == COROIPC_OK && go_on()) status = ask(0, SMALL_BYTES);
  } else if (strcmp(kind, "large") == 0) {
    while (status == COROIPC_OK && go_on()) status = ask(0, LARGE_BYTES);
  } else if (strcmp(kind, "zero-copy") == 0) {
    while (status == COROIPC_OK && go_on()) status = ask_in_buffer();
  } else if (strcmp(kind, "dispatch") == 0 || strcmp(kind, "slow") == 0) {
    const int slow = strcmp(kind, "slow") == 0;
    for (uint32_t turn = 0; status == COROIPC_OK && go_on(); ++turn) {
      status = ask(1, SMALL_BYTES);
      if (status == COROIPC_OK && (!slow || turn % 6 == 0)) status = read_dispatches(slow ? 1 : 0);
    }
  } else {
    return 0;
  }
  return 1;
}

int main(int argc, char** argv) {
  if (argc < 5 || argc > 7) return 2;
  hiding = argc == 7 && strcmp(argv[6], "hides") == 0;
  end_with_parent();
  name = argv[1];
  ledger = ledger_open(argv[2]);
  lane_number = (uint32_t)atoi(argv[3]);
  if (lane_number >= ledger.lanes) return 2;
  lane = ledger_lane(&ledger, lane_number);
  const char* const kind = argv[4];
  coroipcc_options_init(&options);
  options.service = (uint16_t)(argc > 5 ? atoi(argv[5]) : 1);
  options.trust_server = options.service == 2;
  dropping = options.service == 4 || options.service == 5;
  if (strcmp(kind, "slow") == 0) options.dispatch_ring_bytes = options.inbox_bytes = 4096;
  const struct sigaction action = {.sa_handler = stop, .sa_flags = SA_RESTART};
  sigaction(SIGTERM, &action, NULL);
  ledger_set(lane, LANE_PID, (uint64_t)getpid());
  while (connect_again()) {
    if (!live(kind)) return 2;
    coroipcc_disconnect(connection);
  }
  return 0;
}
