/* answer.h: a libqb server that answers calls, and a client's half of one. The server reads the
 * request where it lies in the ring. */
#ifndef COROIPC_BENCH_LIBQB_ANSWER_H
#define COROIPC_BENCH_LIBQB_ANSWER_H

#include "service.h"

static const struct options* answer_options;
static uint32_t* answer;

static int32_t answer_call(qb_ipcs_connection_t* connection, void* data, size_t size) {
  const struct options* options = answer_options;
  struct qb_ipc_request_header* request = data;
  uint32_t bytes = (uint32_t)(size - sizeof *request);
  answer_fill(answer, (const uint32_t*)(request + 1), bytes, options);
  struct qb_ipc_response_header head = {.id = request->id,
                                        .size = (int32_t)(sizeof head + options->answer_bytes)};
  struct iovec parts[] = {{&head, sizeof head}, {answer, options->answer_bytes}};
  ssize_t sent = qb_ipcs_response_sendv(connection, parts, options->answer_bytes > 0 ? 2 : 1);
  if (sent < 0) {
    errno = (int)-sent;
    fail("qb_ipcs_response_sendv");
  }
  return 0;
}

static inline void answer_until_left(const struct pair* pair, const struct options* options) {
  answer_options = options;
  answer = private_memory(options->answer_bytes);
  serve(pair, answer_call, NULL);
}

/* What a client needs for its calls, one after the other. */
struct caller {
  const struct options* options;
  uint32_t* payload;
  struct qb_ipc_response_header* reply;
  uint32_t reply_bytes;
  uint64_t wrong;
};

static inline struct caller caller_of(const struct options* options) {
  uint32_t reply_bytes = (uint32_t)sizeof(struct qb_ipc_response_header) + options->answer_bytes;
  return (struct caller){.options = options,
                         .payload = private_memory(options->payload_bytes),
                         .reply = private_memory(reply_bytes),
                         .reply_bytes = reply_bytes};
}

static inline struct qb_ipc_request_header request_head(const struct options* options) {
  struct qb_ipc_request_header head = {.id = QB_IPC_MSG_USER_START + 1};
  head.size = (int32_t)(sizeof head + options->payload_bytes);
  return head;
}

static inline void check_reply(struct caller* caller, ssize_t got, uint32_t seed) {
  if (got < (ssize_t)sizeof *caller->reply) {
    errno = got < 0 ? (int)-got : EPROTO;
    fail("an answer of libqb");
  }
  caller->wrong +=
      answer_wrong((const uint32_t*)(caller->reply + 1),
                   (uint32_t)got - (uint32_t)sizeof *caller->reply, seed, caller->options);
}

static inline void call(struct caller* caller, qb_ipcc_connection_t* connection, uint32_t seed) {
  const struct options* options = caller->options;
  struct qb_ipc_request_header head = request_head(options);
  struct iovec parts[] = {{&head, sizeof head}, {caller->payload, options->payload_bytes}};
  touched_fill(caller->payload, options->payload_bytes, seed, options->hand_over);
  ssize_t got = qb_ipcc_sendv_recv(connection, parts, options->payload_bytes > 0 ? 2 : 1,
                                   caller->reply, caller->reply_bytes, STALL_MS);
  check_reply(caller, got, seed);
}

#endif
