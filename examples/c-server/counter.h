/* counter.h: the service of both C servers in this folder: a counter that everybody may add to.
 * Each new value is dispatched to all clients.
 *
 *   service 7, request 0: an int64 to add; the answer is the new value
 *              dispatch 0: the new value, int64 */
#ifndef COUNTER_H
#define COUNTER_H

#include <coroipc/coroipcs.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { COUNTER_SERVICE = 7, COUNTER_ADD = 0, COUNTER_VALUE = 0 };

static struct {
  struct coroipcs_server* server;
  int64_t value;
} counter;

static void counter_add(struct coroipcs_connection* connection,
                        const struct coroipcs_request* request, void* context) {
  (void)context;
  int64_t more;
  if (request->bytes != sizeof(more)) {
    coroipcs_response_send(connection, request->correlation, COROIPC_REFUSED, 0, NULL, 0);
    return;
  }
  memcpy(&more, request->payload, sizeof(more));
  /* Unsigned: it wraps instead of overflowing, whatever a client adds. */
  counter.value = (int64_t)((uint64_t)counter.value + (uint64_t)more);
  struct iovec value = {&counter.value, sizeof(counter.value)};
  coroipcs_response_send(connection, request->correlation, COROIPC_OK, 0, &value, 1);
  struct coroipcs_connection *next, *each = coroipcs_connection_first(counter.server);
  for (; each != NULL; each = next) {
    coroipcs_dispatch_send(each, COUNTER_VALUE, &value, 1);
    next = coroipcs_connection_next(counter.server, each);
    coroipcs_connection_release(each); /* what the iteration gives is held */
  }
}

static coroipcs_handler_fn counter_handler(struct coroipcs_connection* connection, uint16_t service,
                                           uint16_t id, void* context) {
  (void)connection, (void)context;
  return service == COUNTER_SERVICE && id == COUNTER_ADD ? counter_add : NULL;
}

/* Creates the server and listens. `poll` is NULL for the one-fd way. */
static inline coroipc_status counter_listen(const char* name, const struct coroipcs_poll* poll) {
  struct coroipcs_options options;
  coroipcs_options_init(&options);
  options.callbacks.handler_get = counter_handler;
  options.poll = poll;
  coroipc_status status = coroipcs_create(&options, &counter.server);
  if (status == COROIPC_OK) status = coroipcs_service_add(counter.server, COUNTER_SERVICE, NULL);
  if (status == COROIPC_OK) status = coroipcs_listen(counter.server, name);
  if (status != COROIPC_OK)
    fprintf(stderr, "%s: %s\n", name, coroipc_status_text(status));
  else
    printf("listening on %s\n", coroipcs_address(counter.server));
  fflush(stdout);
  return status;
}

#endif
