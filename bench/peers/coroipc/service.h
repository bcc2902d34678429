/* service.h: this library by its C API (libcoroipc), as a C program uses it. */
#ifndef COROIPC_BENCH_COROIPC_SERVICE_H
#define COROIPC_BENCH_COROIPC_SERVICE_H

#include <coroipc/coroipcc.h>
#include <coroipc/coroipcs.h>

#include "../peer.h"

/* As bench/subjects/coroipc.ts has them: a Node.js server answers this client, too. */
enum { SERVICE = 7 };
enum { CALL = 0, SUBSCRIBE = 1, DISPATCH = 3 };
/* To a server of these programs: the client's process has done. */
enum { END = 9 };
#define ADDRESS_BYTES 108

static inline void check_coroipc(const char* what, coroipc_status status) {
  if (status == COROIPC_OK) return;
  fprintf(stderr, "%s: %s (%s)\n", what, coroipc_status_name(status), coroipc_status_text(status));
  exit(1);
}

/* What these programs take beside the usual options: how to wait, and the address of a server that
 * runs already. */
struct settings {
  struct options options;
  int wait;            /* enum coroipc_wait */
  const char* address; /* NULL: fork a server */
};

static inline struct settings parse_settings(int argc, char** argv) {
  struct settings settings = {.options = peer_defaults};
  parse_options(argc, argv, &settings.options);
  const char* wait = optind < argc ? argv[optind++] : "adaptive";
  if (strcmp(wait, "adaptive") == 0) {
    settings.wait = COROIPC_WAIT_ADAPTIVE;
  } else if (strcmp(wait, "spin") == 0) {
    settings.wait = COROIPC_WAIT_SPIN;
  } else if (strcmp(wait, "sleep") == 0) {
    settings.wait = COROIPC_WAIT_SLEEP;
  } else {
    fprintf(stderr, "%s [options] adaptive|spin|sleep [ADDRESS]\n", argv[0]);
    exit(2);
  }
  if (optind < argc) settings.address = argv[optind];
  return settings;
}

static inline void own_address(char address[ADDRESS_BYTES], pid_t client) {
  snprintf(address, ADDRESS_BYTES, "@coroipc-bench-%d", (int)client);
}

/* A server that listens. The defaults; `threads` 0, since one thread calls it. */
static inline struct coroipcs_server* listen_here(const struct pair* pair,
                                                  const struct settings* settings,
                                                  const struct coroipcs_callbacks* callbacks) {
  struct coroipcs_options options;
  coroipcs_options_init(&options);
  options.wait = settings->wait;
  options.threads = 0;
  options.callbacks = *callbacks;
  struct coroipcs_server* server;
  check_coroipc("coroipcs_create", coroipcs_create(&options, &server));
  check_coroipc("coroipcs_service_add", coroipcs_service_add(server, SERVICE, NULL));
  char address[ADDRESS_BYTES];
  own_address(address, getppid());
  check_coroipc("coroipcs_listen", coroipcs_listen(server, address));
  server_ready(pair);
  return server;
}

static inline void end_server(struct coroipcs_server* server) {
  coroipcs_close(server);
  coroipcs_destroy(server);
}

/* What a client needs to connect, as often as it likes. */
struct door {
  struct coroipcc_group* group;
  struct coroipcc_options options;
  char address[ADDRESS_BYTES];
};

static inline struct door find_door(const struct pair* pair, const struct settings* settings) {
  struct door door;
  if (settings->address == NULL) {
    own_address(door.address, getpid());
    await_server(pair);
  } else {
    snprintf(door.address, sizeof door.address, "%s", settings->address);
  }
  struct coroipcc_group_options group_options;
  coroipcc_group_options_init(&group_options);
  group_options.threads = 0;
  group_options.wait = settings->wait;
  check_coroipc("coroipcc_group_create", coroipcc_group_create(&group_options, &door.group));
  coroipcc_options_init(&door.options);
  door.options.service = SERVICE;
  door.options.wait = settings->wait;
  door.options.timeout_ms = STALL_MS;
  return door;
}

static inline struct coroipcc_connection* enter(const struct door* door) {
  struct coroipcc_connection* connection;
  check_coroipc("coroipcc_connect", coroipcc_connect(door->group, door->address, &door->options,
                                                     COROIPCC_TIMEOUT_DEFAULT, &connection));
  return connection;
}

static inline struct coroipcc_connection* connect_service(const struct pair* pair,
                                                          const struct settings* settings) {
  const struct door door = find_door(pair, settings);
  return enter(&door);
}

static inline void leave(struct coroipcc_connection* connection, const struct pair* pair,
                         const struct settings* settings) {
  struct coroipcc_group* group = coroipcc_connection_group(connection);
  if (settings->address == NULL)
    check_coroipc("coroipcc_send", coroipcc_send(connection, END, NULL, 0));
  coroipcc_disconnect(connection);
  coroipcc_group_destroy(group);
  if (settings->address == NULL) join_server(pair);
}

/* Where a client's receive puts what comes. */
#define ROWS 256
#define ARENA_BYTES 65536u
struct inbox {
  struct coroipc_entry entries[ROWS];
  void* blocks[ROWS];
  uint8_t* arena;
  struct coroipc_batch batch;
};

/* Waits until at least one row is there. */
static inline void receive_rows(struct coroipcc_group* group, struct inbox* inbox) {
  for (bool waited = false;; waited = true) {
    inbox->batch = (struct coroipc_batch){.entries = inbox->entries,
                                          .blocks = inbox->blocks,
                                          .capacity = ROWS,
                                          .arena = inbox->arena,
                                          .arena_bytes = ARENA_BYTES};
    coroipc_status status = coroipcc_receive(group, &inbox->batch, waited);
    if (inbox->batch.count > 0 || status == COROIPC_AGAIN) return;
    check_coroipc("coroipcc_receive", status);
    status = coroipcc_wait(group, STALL_MS);
    if (status != COROIPC_AGAIN) check_coroipc("coroipcc_wait", status);
  }
}

static inline const uint32_t* payload_of(const struct inbox* inbox, uint32_t row) {
  const struct coroipc_entry* entry = &inbox->entries[row];
  const void* payload =
      entry->flags & COROIPC_IN_BLOCK ? inbox->blocks[row] : inbox->arena + entry->offset;
  return payload;
}

static inline void free_row(const struct inbox* inbox, uint32_t row) {
  if (inbox->entries[row].flags & COROIPC_IN_BLOCK) coroipc_block_free(inbox->blocks[row]);
}

#endif
