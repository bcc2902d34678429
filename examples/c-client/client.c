/* A C client of a Node.js server, in all the ways to ask and to be told.
 *
 *   node build/examples/c-client/server.js <name>
 *   build/examples/c-client/client <name>
 *
 * Exit code: 0 if everything came as it should, 1 if not. */
#include <coroipc/coroipcc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SERVICE = 7 };
enum { UPPER_CASE = 0, REPEAT = 1, COUNT_DOWN = 2, REFUSE = 3, NOBODY_HANDLES = 99 };
enum { PIPELINED = 8 };

static void check(const char* what, coroipc_status status) {
  if (status == COROIPC_OK) return;
  fprintf(stderr, "%s: %s (%s)\n", what, coroipc_status_name(status), coroipc_status_text(status));
  exit(1);
}

static struct iovec text(const char* string) {
  return (struct iovec){(void*)(uintptr_t)string, strlen(string)};
}

/* Blocking: one call, one answer, copied into a buffer of ours. The payload is gathered. */
static void blocking(struct coroipcc_connection* connection) {
  char answer[64];
  struct coroipcc_response response;
  struct iovec words[] = {text("gathered "), text("from "), text("pieces")};
  check("blocking", coroipcc_request(connection, UPPER_CASE, words, 3, COROIPCC_TIMEOUT_DEFAULT,
                                     answer, sizeof(answer), &response));
  printf("blocking: %.*s\n", (int)response.bytes, answer);
}

/* An answer that is too large for our buffer is not lost: it is lent until we release it. */
static void too_small(struct coroipcc_connection* connection) {
  char answer[4];
  struct coroipcc_response response;
  struct iovec word = text("again ");
  coroipc_status status = coroipcc_request(connection, REPEAT, &word, 1, COROIPCC_TIMEOUT_DEFAULT,
                                           answer, sizeof(answer), &response);
  if (status != COROIPC_TOO_LARGE) check("too small", COROIPC_PROTOCOL);
  printf("too small: %u bytes, status %d: %.*s\n", response.bytes, response.status,
         (int)response.bytes, (const char*)response.data);
  check("release", coroipcc_response_release(connection));
}

/* The same, read where it lies from the beginning: coroipc's in_buf_get and in_buf_put. */
static void in_place(struct coroipcc_connection* connection) {
  struct coroipcc_response response;
  struct iovec word = text("in place");
  check("in place", coroipcc_request_in_place(connection, UPPER_CASE, &word, 1,
                                              COROIPCC_TIMEOUT_DEFAULT, &response));
  printf("in place: %.*s\n", (int)response.bytes, (const char*)response.data);
  check("release", coroipcc_response_release(connection));
}

/* Each way to be refused has a code of its own. */
static void refused(struct coroipcc_connection* connection) {
  struct coroipcc_response response;
  coroipc_status status =
      coroipcc_request(connection, REFUSE, NULL, 0, COROIPCC_TIMEOUT_DEFAULT, NULL, 0, &response);
  printf("refused: %s\n", coroipc_status_name(status));
  status = coroipcc_request(connection, NOBODY_HANDLES, NULL, 0, COROIPCC_TIMEOUT_DEFAULT, NULL, 0,
                            &response);
  printf("not handled: %s\n", coroipc_status_name(status));
}

/* Pipelined: all are sent, then answers are received in batches, whenever and in whatever order
 * they come. */
static void pipelined(struct coroipcc_connection* connection) {
  static struct coroipc_entry entries[16];
  static void* blocks[16];
  static uint8_t arena[16384];
  struct coroipcc_group* group = coroipcc_connection_group(connection);
  uint32_t correlations[PIPELINED];
  int answered = 0;
  for (int i = 0; i < PIPELINED; i++) {
    char question[16];
    struct iovec payload = {question, (size_t)snprintf(question, sizeof(question), "answer %d", i)};
    check("send",
          coroipcc_request_send(connection, UPPER_CASE, &payload, 1, 1000, &correlations[i]));
  }
  while (answered < PIPELINED) {
    struct coroipc_batch batch = {.entries = entries,
                                  .blocks = blocks,
                                  .capacity = 16,
                                  .arena = arena,
                                  .arena_bytes = sizeof(arena)};
    coroipc_status status = coroipcc_receive(group, &batch, 0);
    for (uint32_t at = 0; at < batch.count; at++) {
      struct coroipc_entry* entry = &entries[at];
      if (entry->kind == COROIPC_KIND_DISCONNECTED)
        check("pipelined", (coroipc_status)entry->argument);
      if (entry->kind != COROIPC_KIND_RESPONSE) continue;
      check("answer", (coroipc_status)entry->argument);
      for (int i = 0; i < PIPELINED; i++) {
        if (correlations[i] != entry->correlation) continue;
        const void* payload =
            entry->flags & COROIPC_IN_BLOCK ? blocks[at] : (const void*)(arena + entry->offset);
        printf("pipelined %d: %.*s\n", i, (int)entry->bytes, (const char*)payload);
      }
      if (entry->flags & COROIPC_IN_BLOCK) coroipc_block_free(blocks[at]);
      answered++;
    }
    /* Nothing more now: look for a while, then sleep on the group's fd. */
    if (status == COROIPC_OK && batch.count == 0) {
      status = coroipcc_wait(group, 5000);
      if (status != COROIPC_AGAIN) check("wait", status);
    }
  }
}

/* What the server sends unasked. */
static void dispatches(struct coroipcc_connection* connection) {
  struct coroipcc_response response;
  struct coroipcc_dispatch dispatch;
  struct iovec count = text("3");
  check("count down", coroipcc_request(connection, COUNT_DOWN, &count, 1, COROIPCC_TIMEOUT_DEFAULT,
                                       NULL, 0, &response));
  do {
    check("dispatch", coroipcc_dispatch_receive(connection, COROIPCC_TIMEOUT_DEFAULT, &dispatch));
    printf("dispatch %u: %.*s\n", dispatch.id, (int)dispatch.bytes, (const char*)dispatch.data);
    coroipcc_dispatch_release(connection);
  } while (dispatch.id > 1);
}

int main(int argc, char** argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: %s <name>\n", argv[0]);
    return 1;
  }
  struct coroipcc_connection* connection;
  struct coroipcc_options options;
  coroipcc_options_init(&options);
  options.service = SERVICE;
  /* Whoever else listens under this name gets nothing from us. */
  options.require_uid = 1;
  options.server_uid = geteuid();
  check("connect",
        coroipcc_connect(NULL, argv[1], &options, COROIPCC_TIMEOUT_DEFAULT, &connection));
  printf("server: pid %d\n", (int)coroipcc_server_credentials(connection)->pid);
  blocking(connection);
  too_small(connection);
  in_place(connection);
  refused(connection);
  pipelined(connection);
  dispatches(connection);
  coroipcc_disconnect(connection);
  return 0;
}
