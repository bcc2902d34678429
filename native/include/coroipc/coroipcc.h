/* coroipcc.h: the client half of coroipc.
 *
 * The life of a connection:
 *   coroipcc_connect -> coroipcc_request (blocking) ... -> coroipcc_disconnect
 * Pipelined and asynchronous: coroipcc_request_send, then coroipcc_receive on the connection's
 * group. Dispatches: coroipcc_dispatch_receive (blocking or not), or through coroipcc_receive.
 *
 * A group is the set of connections that one loop serves: one fd, one batch. A connection made
 * without a group has one of its own (coroipcc_connection_group).
 *
 * Threads: a connection without a group may be used from any thread; each thread may be in one
 * blocking call; one of them leads and polls for all. Groups made by coroipcc_group_create with
 * threads = 0 belong to one thread and take no locks.
 *
 * Blocking calls take timeout_ms: -1 means the connection's default (options.timeout_ms, 30 s). */
#ifndef COROIPC_COROIPCC_H
#define COROIPC_COROIPCC_H

#include <coroipc/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct coroipcc_group;
struct coroipcc_connection;

#define COROIPCC_TIMEOUT_DEFAULT (-1)

struct coroipcc_group_options {
  uint32_t struct_bytes;
  int threads; /* [1] */
  int wait;    /* enum coroipc_wait, for connections that do not say */
  /* Called at least every 50 ms inside blocking calls; non-zero ends the call with ABORTED. It must
   * not call this library: the group is locked. */
  int (*interrupt)(void* context);
  void* context;
  coroipc_log_fn log;
};

struct coroipcc_options {
  uint32_t struct_bytes;
  uint16_t service;
  int wait;                    /* enum coroipc_wait */
  int32_t timeout_ms;          /* default of blocking calls [30000] */
  uint32_t request_ring_bytes; /* zero asks for the server's default */
  uint32_t response_ring_bytes;
  uint32_t dispatch_ring_bytes;
  uint32_t message_bytes;
  uint32_t requests_in_flight;
  uint32_t
      inbox_bytes; /* private memory for dispatches met while waiting for something else [4 MiB] */
  uint32_t queue_bytes; /* requests that wait for room before FULL [4 MiB] */
  int trust_server;     /* 1: payloads may be read in place (IN_SEGMENT) */
  /* Who the server must be. The uid is checked before the first byte is sent, and again with the
   * reply; the pid with the reply. */
  int require_uid; /* 1: server_uid counts */
  uid_t server_uid;
  int require_pid;
  pid_t server_pid;
};

struct coroipcc_response {
  int32_t status; /* the application's */
  uint32_t bytes;
  const void* data; /* in place: valid until coroipcc_response_release */
  uint32_t sequence;
  uint32_t segment; /* with in_segment */
  uint32_t offset;
  int in_segment;
};

struct coroipcc_dispatch {
  uint16_t id;
  uint32_t bytes;
  const void* data; /* valid until coroipcc_dispatch_release */
  uint32_t sequence;
  uint32_t segment;
  uint32_t offset;
  int in_segment;
};

COROIPC_API void coroipcc_group_options_init(struct coroipcc_group_options* options);
COROIPC_API void coroipcc_options_init(struct coroipcc_options* options);

COROIPC_API coroipc_status coroipcc_group_create(const struct coroipcc_group_options* options,
                                                 struct coroipcc_group** group);
/* Disconnects all of the group's connections. */
COROIPC_API void coroipcc_group_destroy(struct coroipcc_group* group);

/* Where `name` is looked for: its candidates, in order, as coroipcs_address spells them. AGAIN:
 * there is no further one; INVALID_ARGUMENT: no name, or too little room. */
#define COROIPCC_ADDRESS_BYTES 112u
COROIPC_API coroipc_status coroipcc_address(const char* name, uint32_t candidate, char* address,
                                            uint32_t address_bytes);

/* Blocking connect. `group` may be NULL. Codes: CONNECT_REFUSED, DENIED, LIMIT, NO_SERVICE,
 * VERSION, RETRY, REFUSED, TIMED_OUT, PROTOCOL, PEER_DEAD, NO_MEMORY, SYSTEM. Names as in
 * coroipcs_listen; a plain name is looked up in both places. After VERSION, coroipcc_peer_version
 * says theirs. */
COROIPC_API coroipc_status coroipcc_connect(struct coroipcc_group* group, const char* name,
                                            const struct coroipcc_options* options,
                                            int32_t timeout_ms,
                                            struct coroipcc_connection** connection);
/* Begins; the group's receive yields CONNECTED or CONNECT_FAILED (then release the connection).
 * Ended early by coroipcc_disconnect. timeout_ms as above. */
COROIPC_API coroipc_status coroipcc_connect_start(struct coroipcc_group* group, const char* name,
                                                  const struct coroipcc_options* options,
                                                  int32_t timeout_ms,
                                                  struct coroipcc_connection** connection);
COROIPC_API uint32_t
coroipcc_peer_version(void); /* ABI of the peer of the last VERSION, this thread */

/* Orderly close. Requests in flight end with DISCONNECTED in the blocking calls of other threads;
 * nothing more is received from this connection. Buffers stay valid. Frees the connection. */
COROIPC_API void coroipcc_disconnect(struct coroipcc_connection* connection);

COROIPC_API struct coroipcc_group* coroipcc_connection_group(
    struct coroipcc_connection* connection);
COROIPC_API uint32_t coroipcc_connection_number(const struct coroipcc_connection* connection);
COROIPC_API struct coroipcc_connection* coroipcc_connection_at(struct coroipcc_group* group,
                                                               uint32_t number);
COROIPC_API uint64_t coroipcc_connection_id(const struct coroipcc_connection* connection);
COROIPC_API uint64_t coroipcc_server_id(const struct coroipcc_connection* connection);
COROIPC_API const struct coroipc_credentials* coroipcc_server_credentials(
    const struct coroipcc_connection* connection);
COROIPC_API uint32_t coroipcc_message_bytes(const struct coroipcc_connection* connection);
COROIPC_API uint32_t coroipcc_requests_in_flight(const struct coroipcc_connection* connection);
COROIPC_API int coroipcc_flow_control(const struct coroipcc_connection* connection);
/* OK while open; else why it ended (PEER_DEAD, DISCONNECTED, PROTOCOL ...). */
COROIPC_API coroipc_status coroipcc_state(const struct coroipcc_connection* connection);
COROIPC_API coroipc_status coroipcc_stats(struct coroipcc_connection* connection,
                                          struct coroipc_stats* stats, int clear);

/* -- blocking -------------------------------------------------------------------------------------
 */

/* Sends a gathered request and waits for its answer, copied into `into` (at most into_bytes).
 * Returns the answer's code: OK, or what the server answered (NO_HANDLER, RETRY, REFUSED, ...), or
 * TIMED_OUT, ABORTED, PEER_DEAD, UNKNOWN_OUTCOME, DISCONNECTED, TOO_LARGE (nothing was sent),
 * LIMIT (as many in flight as may be, until the deadline), LEASE_HELD, FORKED. An answer larger
 * than into_bytes is kept: TOO_LARGE with response->bytes set and response->data the whole answer,
 * until coroipcc_response_release. */
COROIPC_API coroipc_status coroipcc_request(struct coroipcc_connection* connection, uint16_t id,
                                            const struct iovec* payload, uint32_t count,
                                            int32_t timeout_ms, void* into, uint32_t into_bytes,
                                            struct coroipcc_response* response);
/* The same, answer read in place (in_buf_get): one at a time; coroipcc_response_release ends it. */
COROIPC_API coroipc_status coroipcc_request_in_place(struct coroipcc_connection* connection,
                                                     uint16_t id, const struct iovec* payload,
                                                     uint32_t count, int32_t timeout_ms,
                                                     struct coroipcc_response* response);
/* A request whose payload is (part of) a zero-copy buffer. It is the server's until the answer. */
COROIPC_API coroipc_status coroipcc_request_buffer(struct coroipcc_connection* connection,
                                                   uint16_t id, struct coroipc_buffer* buffer,
                                                   uint32_t offset, uint32_t bytes,
                                                   int32_t timeout_ms,
                                                   struct coroipcc_response* response);
COROIPC_API coroipc_status coroipcc_response_release(struct coroipcc_connection* connection);

/* The next dispatch, in place. timeout_ms 0: AGAIN if there is none. One lease at a time. */
COROIPC_API coroipc_status coroipcc_dispatch_receive(struct coroipcc_connection* connection,
                                                     int32_t timeout_ms,
                                                     struct coroipcc_dispatch* dispatch);
COROIPC_API coroipc_status coroipcc_dispatch_release(struct coroipcc_connection* connection);

COROIPC_API coroipc_status coroipcc_buffer_alloc(struct coroipcc_connection* connection,
                                                 uint32_t bytes, int32_t timeout_ms,
                                                 struct coroipc_buffer** buffer);

/* -- pipelined ------------------------------------------------------------------------------------
 */

/* Queues one request and returns its correlation; the answer comes through coroipcc_receive with
 * the same one. FULL: the queue of this side is full (KIND_ROOM follows); LIMIT: too many in
 * flight. */
COROIPC_API coroipc_status coroipcc_request_send(struct coroipcc_connection* connection,
                                                 uint16_t id, const struct iovec* payload,
                                                 uint32_t count, uint32_t timeout_ms,
                                                 uint32_t* correlation);
COROIPC_API coroipc_status coroipcc_request_send_buffer(struct coroipcc_connection* connection,
                                                        uint16_t id, struct coroipc_buffer* buffer,
                                                        uint32_t offset, uint32_t bytes,
                                                        uint32_t timeout_ms, uint32_t* correlation);
/* One way: no answer. */
COROIPC_API coroipc_status coroipcc_send(struct coroipcc_connection* connection, uint16_t id,
                                         const struct iovec* payload, uint32_t count);
/* Gives the request up: its answer is dropped when it comes (KIND_SLOT_FREE then says that its slot
 * is usable again), the server is told. Until then it counts as in flight. */
COROIPC_API coroipc_status coroipcc_cancel(struct coroipcc_connection* connection,
                                           uint32_t correlation);
/* Requests without a slot of the caller's choosing that were given up (a blocking call's deadline,
 * coroipcc_cancel) and whose answer has not come: so many fewer can be in flight. KIND_SLOT_FREE
 * with COROIPC_SLOT_ANY says that there are fewer now. */
COROIPC_API uint32_t coroipcc_given_up(const struct coroipcc_connection* connection);
/* Asks for a buffer; KIND_BUFFER with this correlation follows. */
COROIPC_API coroipc_status coroipcc_buffer_alloc_start(struct coroipcc_connection* connection,
                                                       uint32_t bytes, uint32_t* correlation);
/* Many at once: rows REQUEST, SEND, CANCEL; payloads in `arena`. For REQUEST the row's
 * `correlation` is a slot of the caller's choosing in [0, coroipcc_requests_in_flight) that is not
 * in use; its answer (or SLOT_FREE) comes with that slot as correlation. Row `argument` is the
 * timeout in ms and becomes the row's status. A SEND row is queued even when it says FULL, by at
 * most this batch: the sender stops now, KIND_ROOM follows. A REQUEST row is never refused for the
 * size of the queue: its bound is the number of slots. One publication and one wake check per
 * connection. */
COROIPC_API void coroipcc_send_batch(struct coroipcc_group* group, struct coroipc_entry* entries,
                                     uint32_t count, const uint8_t* arena);
/* One row with a gathered payload that need not be in an arena, else as above. */
COROIPC_API coroipc_status coroipcc_send_row(struct coroipcc_connection* connection,
                                             struct coroipc_entry* row, const struct iovec* payload,
                                             uint32_t count);
/* One REQUEST row whose payload is in a buffer. */
COROIPC_API coroipc_status coroipcc_send_row_buffer(struct coroipcc_connection* connection,
                                                    struct coroipc_entry* row,
                                                    struct coroipc_buffer* buffer, uint32_t offset,
                                                    uint32_t bytes);

/* -- the group's loop -----------------------------------------------------------------------------
 */

/* fd, receive, look, disarm, wait: exactly as coroipcs_fd ... coroipcs_wait in coroipcs.h. */
COROIPC_API int coroipcc_group_fd(const struct coroipcc_group* group);
COROIPC_API coroipc_status coroipcc_receive(struct coroipcc_group* group,
                                            struct coroipc_batch* batch, int look_at_fds);
COROIPC_API coroipc_status coroipcc_look(struct coroipcc_group* group, uint64_t budget_ns);
COROIPC_API void coroipcc_disarm(struct coroipcc_group* group);
COROIPC_API coroipc_status coroipcc_wait(struct coroipcc_group* group, int timeout_ms);
/* A pollable fd of this connection alone: readable when a dispatch, an answer or the peer's death
 * may be there. Belongs to the connection. Call a receive function until AGAIN before polling. */
COROIPC_API int coroipcc_fd(struct coroipcc_connection* connection);
/* 0 (default): this connection's dispatches stay in the ring and the inbox for
 * coroipcc_dispatch_receive; 1: coroipcc_receive delivers them. Answers always come by receive. */
COROIPC_API void coroipcc_dispatch_flow(struct coroipcc_connection* connection, int on);

/* The buffer behind a response, dispatch or entry with IN_SEGMENT, held for the caller. The segment
 * goes back to the server when the last holder of a received buffer releases it. */
COROIPC_API coroipc_status coroipcc_buffer_get(struct coroipcc_connection* connection,
                                               uint32_t segment, struct coroipc_buffer** buffer);

#ifdef __cplusplus
}
#endif
#endif
