/* A server in C for tests of Node.js clients: interop-server <name>. Service 3 trusts its clients.
 * Writes "ready", then a line for each event; ends in order on SIGTERM. What each id does is said
 * in `handler_get`. */
#include <coroipc/coroipcs.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SERVICE 3

static struct coroipcs_server* server;

static void say(const char* event, int value) {
  printf("%s %d\n", event, value);
  fflush(stdout);
}

static void must(const char* what, coroipc_status status) {
  if (status == COROIPC_OK) return;
  fprintf(stderr, "interop-server: %s: %s\n", what, coroipc_status_name(status));
  exit(1);
}

static void answer(struct coroipcs_connection* connection, const struct coroipcs_request* request,
                   int32_t status, const struct iovec* parts, uint32_t count) {
  if (request->one_way) return;
  const coroipc_status sent =
      coroipcs_response_send(connection, request->correlation, COROIPC_OK, status, parts, count);
  if (sent == COROIPC_TOO_LARGE)
    must("answer", coroipcs_response_send(connection, request->correlation,
                                          COROIPC_ANSWER_TOO_LARGE, 0, NULL, 0));
}

static void echo(struct coroipcs_connection* connection, const struct coroipcs_request* request,
                 void* context) {
  (void)context;
  const struct iovec part = {(void*)(uintptr_t)request->payload, request->bytes};
  answer(connection, request, 0, &part, 1);
}

static void gather(struct coroipcs_connection* connection, const struct coroipcs_request* request,
                   void* context) {
  (void)context;
  char open[] = "<", close[] = ">";
  const struct iovec parts[] = {
      {open, 1}, {(void*)(uintptr_t)request->payload, request->bytes}, {close, 1}};
  answer(connection, request, -42, parts, 3);
}

static void dispatch(struct coroipcs_connection* connection, const struct coroipcs_request* request,
                     void* context) {
  (void)context;
  const struct iovec part = {(void*)(uintptr_t)request->payload, request->bytes};
  for (uint16_t id = 0; id < 10; ++id)
    must("dispatch", coroipcs_dispatch_send(connection, id, &part, 1));
  answer(connection, request, 0, NULL, 0);
}

/* The payload is a u32: the answer is so many bytes of a buffer. */
static void buffer(struct coroipcs_connection* connection, const struct coroipcs_request* request,
                   void* context) {
  (void)context;
  uint32_t bytes = 0;
  memcpy(&bytes, request->payload, request->bytes < 4 ? request->bytes : 4);
  struct coroipc_buffer* made;
  must("buffer", coroipcs_buffer_alloc(connection, bytes, &made));
  memset(coroipc_buffer_data(made), 42, bytes);
  must("answer in a buffer",
       coroipcs_response_send_buffer(connection, request->correlation, 7, made, 0, bytes));
  coroipc_buffer_release(made);
}

static void sum(struct coroipcs_connection* connection, const struct coroipcs_request* request,
                void* context) {
  (void)context;
  uint32_t total = 0;
  for (uint32_t i = 0; i < request->bytes; ++i) total += ((const uint8_t*)request->payload)[i];
  const struct iovec part = {&total, sizeof total};
  answer(connection, request, 0, &part, 1);
}

static void leave(struct coroipcs_connection* connection, const struct coroipcs_request* request,
                  void* context) {
  (void)connection, (void)request, (void)context;
  _exit(3);
}

static void silent(struct coroipcs_connection* connection, const struct coroipcs_request* request,
                   void* context) {
  (void)connection, (void)context;
  say("asked", (int)request->timeout_ms);
}

static void note(struct coroipcs_connection* connection, const struct coroipcs_request* request,
                 void* context) {
  (void)connection, (void)context;
  say(request->one_way ? "one-way" : "request", (int)request->bytes);
}

static coroipcs_handler_fn handler_get(struct coroipcs_connection* connection, uint16_t service,
                                       uint16_t id, void* context) {
  (void)connection, (void)service, (void)context;
  static const coroipcs_handler_fn handlers[] = {
      echo,   gather, dispatch, echo, /* 3: sending_allowed says RETRY */
      echo,                           /* 4: sending_allowed says REFUSED */
      buffer, sum,    leave,    silent, note,
  };
  return id < sizeof handlers / sizeof *handlers ? handlers[id] : NULL;
}

static int sending_allowed(struct coroipcs_connection* connection,
                           const struct coroipcs_request* request, void* scratch, void* context) {
  (void)connection, (void)context;
  for (int i = 0; i < 512; ++i)
    if (((const char*)scratch)[i] != 0) say("scratch is not zero", i);
  memset(scratch, 1, 512);
  return request->id == 3 ? 0 : request->id == 4 ? -1 : 1;
}

static coroipc_status authorize(struct coroipcs_connection* connection,
                                const struct coroipc_credentials* credentials, uint16_t service,
                                void* context) {
  (void)context;
  if (credentials->uid != geteuid()) return COROIPC_DENIED;
  if (service != SERVICE)
    return coroipcs_authorize(connection, COROIPC_NO_SERVICE, 0), COROIPC_AGAIN;
  return coroipcs_authorize(connection, COROIPC_OK, 1), COROIPC_AGAIN;
}

static void connected(struct coroipcs_connection* connection, void* context) {
  (void)context;
  say("connected", (int)coroipcs_connection_credentials(connection)->pid);
  char text[] = "welcome";
  const struct iovec part = {text, 7};
  const coroipc_status status = coroipcs_dispatch_send(connection, 100, &part, 1);
  if (status != COROIPC_PEER_DEAD) must("welcome", status); /* it may have left meanwhile */
}

static int disconnected(struct coroipcs_connection* connection, coroipc_status why, void* context) {
  (void)connection, (void)context;
  say("disconnected", why);
  return 0;
}

static void cancelled(struct coroipcs_connection* connection, uint32_t correlation, void* context) {
  (void)connection, (void)correlation, (void)context;
  say("cancelled", 1);
}

static void stop(int signal) {
  (void)signal;
  coroipcs_stop(server);
}

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  struct coroipcs_options options;
  coroipcs_options_init(&options);
  options.request_ring_bytes = options.response_ring_bytes = 16384;
  options.callbacks.authorize = authorize;
  options.callbacks.handler_get = handler_get;
  options.callbacks.sending_allowed = sending_allowed;
  options.callbacks.connected = connected;
  options.callbacks.disconnected = disconnected;
  options.callbacks.cancelled = cancelled;
  must("create", coroipcs_create(&options, &server));
  must("service", coroipcs_service_add(server, SERVICE, NULL));
  must("listen", coroipcs_listen(server, argv[1]));
  signal(SIGTERM, stop);
  say("ready", (int)getpid());
  must("run", coroipcs_run(server));
  must("close", coroipcs_close(server));
  coroipcs_destroy(server);
  say("closed", 0);
  return 0;
}
