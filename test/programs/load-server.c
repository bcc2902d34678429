/* A server under load, for test/storm: load-server <name> <ledger> [mutant]. What each request does
 * is written down in the ledger before it is answered (ledger.h). test/storm/load-server.ts is the
 * same in Node.js.
 *
 *   id 0  is answered with its own bytes
 *   id 1  the same, after 16 dispatches, numbered in the order of this connection; those that
 *         find the backlog full have no number
 *   id 2  is answered with its own bytes in a buffer, without copying
 *   id 3  is never answered
 *
 * Service 1 trusts nobody, service 2 everybody; 3 to 6 are as 1 with each of the backlog policies.
 * Mutants, to show that the ledger tells: `forgets` answers every 1000th request without executing
 * it, `repeats` executes every 1000th twice, `tears` answers every 1000th with a wrong byte,
 * `skips` leaves out every 1000th dispatch, `keeps` never lets go of a connection that has ended,
 * `hoards` has no bound for dispatches that wait, `admits` none for sockets that say nothing,
 * `leaks` opens a descriptor for each connection that has ended, `threads` starts a thread, `forks`
 * a child, `swells` takes 256 MiB; it `waits` for whoever does not read, `turns-away` every
 * hundredth connection. `counts` is none: it takes one turn at a time and writes down how many
 * doorbells the most had. */
#include <coroipc/coroipcs.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>

#include "ledger.h"

#define DISPATCHES 16
#define TURN_NS 5000000u
#define SWELL_BYTES (256u << 20)

static struct ledger ledger;
static struct coroipcs_server* server;
static const char* mutant = "";
static volatile sig_atomic_t stopping;
static int counts;

/* What a connection has done so far. */
struct progress {
  uint64_t number;  /* of the last request */
  uint64_t* lane;   /* NULL before the first one */
  uint64_t publish; /* number of the next dispatch */
};

static void must(const char* what, coroipc_status status) {
  if (status == COROIPC_OK) return;
  fprintf(stderr, "load-server: %s: %s\n", what, coroipc_status_name(status));
  exit(1);
}

/* Whether the client has gone meanwhile, or had to by its policy. */
static int left(coroipc_status status) {
  return status == COROIPC_PEER_DEAD || status == COROIPC_DISCONNECTED ||
         status == COROIPC_BACKLOG_OVERFLOW;
}

static void sent(coroipc_status status) {
  if (!left(status)) must("answer", status);
}

static int mutates(const char* name, uint64_t number) {
  return strcmp(mutant, name) == 0 && number % 1000 == 999;
}

static void execute(struct progress* progress, const struct coroipcs_request* request) {
  struct ledger_message head;
  if (!message_whole(request->payload, request->bytes)) {
    fprintf(stderr, "load-server: a torn request\n");
    if (progress->lane != NULL) ledger_add(progress->lane, LANE_TORN, 1);
    return;
  }
  memcpy(&head, request->payload, sizeof head);
  if (head.lane >= ledger.lanes) return;
  uint64_t* const lane = ledger_lane(&ledger, head.lane);
  const int first = progress->lane == NULL;
  progress->lane = lane;
  if (mutates("forgets", head.number)) return;
  if (head.number <= ledger_get(lane, LANE_EXECUTED)) ledger_add(lane, LANE_DOUBLED, 1);
  if (!first && head.number > progress->number + 1) ledger_add(lane, LANE_LOST, 1);
  progress->number = head.number;
  ledger_set(lane, LANE_EXECUTED, head.number);
  ledger_add(lane, LANE_EXECUTIONS, 1);
}

static struct progress* run(struct coroipcs_connection* connection,
                            const struct coroipcs_request* request) {
  struct progress* const progress = coroipcs_private_data_get(connection);
  execute(progress, request);
  struct ledger_message head = {0};
  if (request->bytes >= sizeof head) memcpy(&head, request->payload, sizeof head);
  if (mutates("repeats", head.number)) execute(progress, request);
  return progress;
}

/* Mutant `waits`: until what was sent has been read, 20 ms at most. */
static void await_reader(struct coroipcs_connection* connection) {
  struct coroipcs_rings rings;
  for (int i = 0; i < 200; ++i) {
    coroipcs_connection_rings(connection, &rings);
    if (rings.response.used == 0) return;
    usleep(100);
  }
}

static void answer(struct coroipcs_connection* connection, const struct coroipcs_request* request,
                   const struct progress* progress) {
  uint8_t torn[64];
  struct iovec part = {(void*)(uintptr_t)request->payload, request->bytes};
  if (mutates("tears", progress->number) && request->bytes == sizeof torn) {
    memcpy(torn, request->payload, sizeof torn);
    torn[40] ^= 1;
    part.iov_base = torn;
  }
  sent(coroipcs_response_send(connection, request->correlation, COROIPC_OK, 0, &part, 1));
  if (strcmp(mutant, "waits") == 0) await_reader(connection);
}

static void echo(struct coroipcs_connection* connection, const struct coroipcs_request* request,
                 void* context) {
  (void)context;
  answer(connection, request, run(connection, request));
}

static void publish(struct coroipcs_connection* connection, const struct coroipcs_request* request,
                    void* context) {
  (void)context;
  struct progress* const progress = run(connection, request);
  for (int i = 0; i < DISPATCHES; ++i) {
    uint8_t bytes[64];
    if (mutates("skips", progress->publish)) ++progress->publish;
    message_write(bytes, sizeof bytes, 0, 0, progress->publish);
    const struct iovec part = {bytes, sizeof bytes};
    if (coroipcs_dispatch_send(connection, 1, &part, 1) != COROIPC_OK) break;
    ++progress->publish;
    if (progress->lane != NULL) ledger_add(progress->lane, LANE_DISPATCHED, 1);
  }
  answer(connection, request, progress);
}

static void lend(struct coroipcs_connection* connection, const struct coroipcs_request* request,
                 void* context) {
  struct coroipc_buffer* buffer;
  const coroipc_status status = coroipcs_buffer_alloc(connection, request->bytes, &buffer);
  if (status == COROIPC_FULL) { /* all are with the client: this one is copied */
    echo(connection, request, context);
    return;
  }
  if (left(status)) return;
  must("buffer", status);
  run(connection, request);
  memcpy(coroipc_buffer_data(buffer), request->payload, request->bytes);
  sent(coroipcs_response_send_buffer(connection, request->correlation, 0, buffer, 0,
                                     request->bytes));
  coroipc_buffer_release(buffer);
}

static void keep(struct coroipcs_connection* connection, const struct coroipcs_request* request,
                 void* context) {
  (void)context;
  run(connection, request);
}

static coroipcs_handler_fn handler_get(struct coroipcs_connection* connection, uint16_t service,
                                       uint16_t id, void* context) {
  (void)connection, (void)service, (void)context;
  static const coroipcs_handler_fn handlers[] = {echo, publish, lend, keep};
  return id < sizeof handlers / sizeof *handlers ? handlers[id] : NULL;
}

static coroipc_status authorize(struct coroipcs_connection* connection,
                                const struct coroipc_credentials* credentials, uint16_t service,
                                void* context) {
  (void)context, (void)credentials; /* storms have users of their own */
  static uint64_t came;
  const int away = strcmp(mutant, "turns-away") == 0 && ++came % 100 == 99;
  coroipcs_authorize(connection, away ? COROIPC_DENIED : COROIPC_OK, service == 2);
  return COROIPC_AGAIN;
}

static void* rest(void* context) {
  for (;;) pause();
  return context;
}

/* Of each connection that has ended, as the mutant wants it. */
static void leave_behind(void) {
  pthread_t thread;
  if (strcmp(mutant, "leaks") == 0) (void)!open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (strcmp(mutant, "threads") == 0) pthread_create(&thread, NULL, rest, NULL);
  if (strcmp(mutant, "swells") == 0) memset(malloc(SWELL_BYTES), 1, SWELL_BYTES);
  if (strcmp(mutant, "forks") == 0 && fork() == 0) {
    end_with_parent();
    for (int fd = 3; fd < 64; ++fd) close(fd); /* what it holds would be told, too */
    rest(NULL);
  }
}

static int disconnected(struct coroipcs_connection* connection, coroipc_status why, void* context) {
  (void)context;
  const uint64_t pid = (uint64_t)coroipcs_connection_credentials(connection)->pid;
  for (uint32_t i = 0; i < ledger.lanes; ++i) {
    uint64_t* const lane = ledger_lane(&ledger, i);
    if (ledger_get(lane, LANE_PID) != pid) continue;
    ledger_set(lane, LANE_GONE_WHY, (uint64_t)why);
    ledger_set(lane, LANE_GONE_NS, now_ns());
  }
  leave_behind();
  return strcmp(mutant, "keeps") == 0; /* busy: ask again */
}

static void count(void) {
  struct coroipc_stats stats;
  must("statistics", coroipcs_stats(server, &stats, 0));
  uint64_t* const words = ledger_server(&ledger);
  ledger_set(words, SERVER_CONNECTIONS, stats.connections);
  ledger_set(words, SERVER_CONNECTIONS_TOTAL, stats.connections_total);
  ledger_set(words, SERVER_HANDSHAKES, stats.handshakes_pending);
  ledger_set(words, SERVER_IN_FLIGHT, stats.in_flight);
  ledger_set(words, SERVER_UNSENT, stats.unsent_responses);
  ledger_set(words, SERVER_BACKLOG, stats.backlog_messages);
  ledger_set(words, SERVER_BACKLOG_BYTES, stats.backlog_bytes);
  ledger_set(words, SERVER_SEGMENTS, stats.segments);
  ledger_set(words, SERVER_SEGMENT_BYTES, stats.segment_bytes);
  ledger_set(words, SERVER_PROTOCOL_ERRORS, stats.protocol_errors);
  ledger_set(words, SERVER_PID, (uint64_t)getpid());
  ledger_add(words, SERVER_TURNS, 1);
}

/* How many doorbells the turn that is over has taken, of all connections. */
static void count_doorbells(void) {
  static uint64_t before;
  uint64_t* const most = ledger_server(&ledger) + SERVER_DOORBELLS_A_TURN;
  struct coroipc_stats stats;
  must("statistics", coroipcs_stats(server, &stats, 0));
  const uint64_t taken = stats.doorbells_received - before;
  before = stats.doorbells_received;
  if (taken > ledger_get(most, 0)) ledger_set(most, 0, taken);
}

static void stop(int signal) {
  (void)signal;
  stopping = 1;
}

int main(int argc, char** argv) {
  if (argc < 3 || argc > 4) return 2;
  end_with_parent();
  ledger = ledger_open(argv[2]);
  if (argc == 4) mutant = argv[3];
  counts = strcmp(mutant, "counts") == 0;
  want_fds(); /* two for each client */
  struct coroipcs_options options;
  coroipcs_options_init(&options);
  options.threads = 0;
  options.connections = options.connections_per_uid = 8192;
  options.bytes_per_uid = UINT64_C(64) << 30;
  if (strcmp(mutant, "admits") == 0) options.handshakes = options.handshakes_per_uid = 8192;
  options.callbacks.authorize = authorize;
  options.callbacks.handler_get = handler_get;
  options.callbacks.disconnected = disconnected;
  must("create", coroipcs_create(&options, &server));
  for (uint16_t service = 1; service <= 6; ++service) {
    struct coroipcs_service_options of_service;
    coroipcs_service_options_init(&of_service);
    of_service.private_data_bytes = sizeof(struct progress);
    if (service >= 3) {
      of_service.policy = service - 3;
      of_service.backlog_bytes = strcmp(mutant, "hoards") == 0 ? 1u << 30 : 65536;
    }
    must("service", coroipcs_service_add(server, service, &of_service));
  }
  const struct sigaction action = {.sa_handler = stop}; /* poll(2) has to end by it */
  sigaction(SIGTERM, &action, NULL);
  must("listen", coroipcs_listen(server, argv[1]));
  count();
  printf("ready\n");
  fflush(stdout);
  uint64_t counted = now_ns();
  while (!stopping) {
    const coroipc_status status = coroipcs_process(server, counts ? 0 : 1);
    if (counts) count_doorbells();
    const uint64_t now = now_ns();
    if (now - counted > TURN_NS) {
      count();
      counted = now;
    }
    if (status == COROIPC_AGAIN) continue;
    struct pollfd fd = {coroipcs_fd(server), POLLIN, 0};
    poll(&fd, 1, 10);
  }
  must("close", coroipcs_close(server));
  while (coroipcs_process(server, 1) == COROIPC_AGAIN) {
  }
  count();
  coroipcs_destroy(server);
  return 0;
}
