/* answer.h: a server that answers calls by a handler, in the library's own loop, until a client
 * says END (leave). */
#ifndef COROIPC_BENCH_COROIPC_ANSWER_H
#define COROIPC_BENCH_COROIPC_ANSWER_H

#include "service.h"

struct answering {
  struct coroipcs_server* server;
  const struct options* options;
  uint32_t* answer;
};

static void answer_call(struct coroipcs_connection* connection,
                        const struct coroipcs_request* request, void* context) {
  struct answering* answering = context;
  const struct options* options = answering->options;
  answer_fill(answering->answer, request->payload, request->bytes, options);
  struct iovec payload = {answering->answer, options->answer_bytes};
  check_coroipc("coroipcs_response_send", coroipcs_response_send(connection, request->correlation,
                                                                 COROIPC_OK, 0, &payload, 1));
}

static void end_answering(struct coroipcs_connection* connection,
                          const struct coroipcs_request* request, void* context) {
  (void)connection, (void)request;
  coroipcs_stop(((struct answering*)context)->server);
}

static coroipcs_handler_fn answer_handler(struct coroipcs_connection* connection, uint16_t service,
                                          uint16_t id, void* context) {
  (void)connection, (void)service, (void)context;
  return id == CALL ? answer_call : id == END ? end_answering : NULL;
}

static inline void answer_until_left(const struct pair* pair, const struct settings* settings) {
  struct answering answering = {.options = &settings->options,
                                .answer = private_memory(settings->options.answer_bytes)};
  struct coroipcs_callbacks callbacks = {.context = &answering, .handler_get = answer_handler};
  answering.server = listen_here(pair, settings, &callbacks);
  check_coroipc("coroipcs_run", coroipcs_run(answering.server));
  end_server(answering.server);
}

#endif
