/* A client in C for tests of Node.js servers: interop-client <name> <service> <what>. One line
 * "<what>: <values>" on standard output; what the server has to do for each is in test/interop. */
#include <coroipc/coroipcc.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct coroipcc_connection* connection;

static int named(const char* status_of, coroipc_status status) {
  printf("%s: %s\n", status_of, coroipc_status_name(status));
  return status;
}

static void must(const char* what, coroipc_status status) {
  if (status == COROIPC_OK) return;
  fprintf(stderr, "interop-client: %s: %s\n", what, coroipc_status_name(status));
  exit(1);
}

static coroipc_status ask(uint16_t id, const void* bytes, size_t count, void* into, uint32_t room,
                          struct coroipcc_response* response) {
  const struct iovec part = {(void*)(uintptr_t)bytes, count};
  memset(response, 0, sizeof *response);
  return coroipcc_request(connection, id, &part, 1, 5000, into, room, response);
}

/* Every size around the edges of records, rings and the maximum comes back as it went. */
static int sizes(void) {
  const uint32_t max = coroipcc_message_bytes(connection);
  uint8_t *out = malloc(max + 1), *in = malloc(max + 1);
  int done = 0;
  for (uint32_t i = 0; i <= max; ++i) out[i] = (uint8_t)(i * 7 + (i >> 8));
  const uint32_t edges[] = {0,    1,    7,    8,     9,     1000,    4096,
                            8191, 8192, 8193, 65535, 65536, max - 1, max};
  for (size_t i = 0; i < sizeof edges / sizeof *edges; ++i) {
    struct coroipcc_response response;
    memset(in, 0, max + 1);
    must("echo", ask(0, out, edges[i], in, max, &response));
    if (response.bytes == edges[i] && memcmp(in, out, edges[i]) == 0) ++done;
  }
  struct coroipcc_response response;
  const coroipc_status over = ask(0, out, (size_t)max + 1, in, max, &response);
  printf("sizes: %d of %zu, one over: %s\n", done, sizeof edges / sizeof *edges,
         coroipc_status_name(over));
  return 0;
}

static int codes(void) {
  struct coroipcc_response response;
  char in[64];
  for (uint16_t id = 20; id < 30; ++id) {
    const coroipc_status status = ask(id, "x", 1, in, sizeof in, &response);
    printf("%u: %s %d cs_error %d\n", id, coroipc_status_name(status), response.status,
           coroipc_status_to_cs_error(status));
  }
  return 0;
}

static int dispatches(void) {
  struct coroipcc_response response;
  char in[8];
  must("ask for dispatches", ask(1, "9", 1, in, sizeof in, &response));
  int got = 0, in_order = 1;
  struct coroipcc_dispatch dispatch;
  coroipc_status status;
  struct pollfd fd = {coroipcc_fd(connection), POLLIN, 0};
  const int readable = poll(&fd, 1, 5000);
  while ((status = coroipcc_dispatch_receive(connection, got < 9 ? 5000 : 0, &dispatch)) ==
         COROIPC_OK) {
    if (dispatch.id != 5 || dispatch.bytes != 4 || ((const uint8_t*)dispatch.data)[0] != got)
      in_order = 0;
    ++got;
    must("release", coroipcc_dispatch_release(connection));
  }
  printf("dispatches: fd %d, %d in order %d, then %s\n", readable, got, in_order,
         coroipc_status_name(status));
  return 0;
}

static int zero_copy(void) {
  struct coroipc_buffer* buffer;
  must("allocate", coroipcc_buffer_alloc(connection, 100000, 5000, &buffer));
  memset(coroipc_buffer_data(buffer), 3, 100000);
  struct coroipcc_response response;
  must("request", coroipcc_request_buffer(connection, 2, buffer, 0, 100000, 5000, &response));
  printf("zero-copy: asked %.*s", (int)response.bytes, (const char*)response.data);
  must("release", coroipcc_response_release(connection));
  coroipc_buffer_release(buffer);
  const struct iovec none = {NULL, 0};
  must("answer", coroipcc_request_in_place(connection, 3, &none, 1, 5000, &response));
  uint64_t sum = 0;
  for (uint32_t i = 0; i < response.bytes; ++i) sum += ((const uint8_t*)response.data)[i];
  printf(", answered %u bytes in a segment %d, sum %lu\n", response.bytes, response.in_segment,
         sum);
  must("release", coroipcc_response_release(connection));
  return 0;
}

static int forked(void) {
  const pid_t child = fork();
  if (child == 0) {
    struct coroipcc_response response;
    char in[8];
    const coroipc_status status = ask(0, "x", 1, in, sizeof in, &response);
    named("forked child", status);
    fflush(stdout);
    _exit(0);
  }
  waitpid(child, NULL, 0);
  struct coroipcc_response response;
  char in[8];
  return named("its parent", ask(0, "x", 1, in, sizeof in, &response));
}

/* The server dies, or is told to go, while this waits: id 4 never answers. */
static int waits(void) {
  struct coroipcc_response response;
  char in[8];
  fprintf(stdout, "waiting\n");
  fflush(stdout);
  const struct iovec part = {"x", 1};
  const coroipc_status status =
      coroipcc_request(connection, 4, &part, 1, 20000, in, sizeof in, &response);
  named("waited", status);
  named("state", coroipcc_state(connection));
  named("afterwards", ask(0, "x", 1, in, sizeof in, &response));
  return 0;
}

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  struct coroipcc_options options;
  coroipcc_options_init(&options);
  options.service = (uint16_t)atoi(argv[2]);
  options.trust_server = 1;
  options.request_ring_bytes = options.response_ring_bytes = 16384;
  const coroipc_status status = coroipcc_connect(NULL, argv[1], &options, 5000, &connection);
  if (status != COROIPC_OK) {
    printf("connect: %s, peer version %u\n", coroipc_status_name(status), coroipcc_peer_version());
    return 0;
  }
  int result = 2;
  if (strcmp(argv[3], "sizes") == 0) result = sizes();
  if (strcmp(argv[3], "codes") == 0) result = codes();
  if (strcmp(argv[3], "dispatches") == 0) result = dispatches();
  if (strcmp(argv[3], "zero-copy") == 0) result = zero_copy();
  if (strcmp(argv[3], "forked") == 0) result = forked();
  if (strcmp(argv[3], "waits") == 0) result = waits();
  coroipcc_disconnect(connection);
  return result;
}
