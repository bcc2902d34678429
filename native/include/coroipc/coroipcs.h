/* coroipcs.h: the server half of coroipc.
 *
 * The life of a server:
 *   coroipcs_create -> coroipcs_service_add ... -> coroipcs_listen
 *   then one of
 *     coroipcs_run                       a loop of its own (callbacks)
 *     coroipcs_fd + coroipcs_process     any poll library: one fd, callbacks
 *     struct coroipcs_poll               any poll library: one fd per connection, callbacks
 *     coroipcs_fd + coroipcs_receive     batches (what the Node addon uses)
 *   coroipcs_close -> coroipcs_destroy
 *
 * Threads: with options.threads (the default) every function may be called from any thread, and
 * callbacks run in the thread that calls coroipcs_process or coroipcs_run, without a lock held.
 * Functions return a coroipc_status unless they say otherwise. */
#ifndef COROIPC_COROIPCS_H
#define COROIPC_COROIPCS_H

#include <coroipc/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct coroipcs_server;
struct coroipcs_connection;

/* What happens to a dispatch that finds the ring full and the backlog at its limit. */
enum coroipcs_policy {
  COROIPCS_POLICY_ERROR = 0,       /* COROIPC_FULL, not queued; COROIPC_KIND_DRAIN follows */
  COROIPCS_POLICY_DROP_OLDEST = 1, /* the oldest waiting dispatch goes; counted */
  COROIPCS_POLICY_DROP_NEWEST = 2, /* this one goes; counted; returns OK */
  COROIPCS_POLICY_DISCONNECT = 3   /* the connection ends with COROIPC_BACKLOG_OVERFLOW */
};

enum coroipcs_priority {
  COROIPCS_PRIORITY_LOW = 0,
  COROIPCS_PRIORITY_NORMAL = 1,
  COROIPCS_PRIORITY_HIGH = 2
};

struct coroipcs_request {
  uint16_t service;
  uint16_t id;
  uint32_t correlation; /* for coroipcs_response_send; 0 and `one_way` for a send */
  int one_way;
  uint32_t timeout_ms; /* the client gives up after this; 0 = never */
  const void* payload; /* private copy (or trusted segment), valid until the handler returns */
  uint32_t bytes;
  /* 1: the payload lies in segment `segment` of a trusted client, which can change it meanwhile.
   * coroipcs_buffer_get keeps it past the handler's return. */
  int in_segment;
  uint32_t segment;
};

/* Handlers answer by coroipcs_response_send, now or later, from any thread. */
typedef void (*coroipcs_handler_fn)(struct coroipcs_connection* connection,
                                    const struct coroipcs_request* request, void* context);

/* All may be NULL: the default in brackets is used then. */
struct coroipcs_callbacks {
  void* context;
  /* COROIPC_OK lets the peer in; any other status refuses with COROIPC_DENIED. COROIPC_AGAIN: asked
   * later by coroipcs_authorize. [same effective uid as the server, or root] */
  coroipc_status (*authorize)(struct coroipcs_connection* connection,
                              const struct coroipc_credentials* credentials, uint16_t service,
                              void* context);
  void (*connected)(struct coroipcs_connection* connection, void* context);
  /* Non-zero: busy, call again (after 10 ms, growing to 1 s); the resources stay until it is 0. */
  int (*disconnected)(struct coroipcs_connection* connection, coroipc_status why, void* context);
  /* The developer's selector. NULL handler = COROIPC_NO_HANDLER is answered. */
  coroipcs_handler_fn (*handler_get)(struct coroipcs_connection* connection, uint16_t service,
                                     uint16_t id, void* context);
  /* Before each handler: 1 run it, 0 answer COROIPC_RETRY, -1 answer COROIPC_REFUSED. `scratch` is
   * 512 zeroed bytes until sending_allowed_release has returned. [1] */
  int (*sending_allowed)(struct coroipcs_connection* connection,
                         const struct coroipcs_request* request, void* scratch, void* context);
  void (*sending_allowed_release)(struct coroipcs_connection* connection, void* scratch,
                                  void* context); /* always after it, also after a refusal */
  void (*serialize_lock)(void* context); /* around handlers, admission, connected, disconnected */
  void (*serialize_unlock)(void* context);
  void (*drain)(struct coroipcs_connection* connection, void* context);
  void (*cancelled)(struct coroipcs_connection* connection, uint32_t correlation, void* context);
  void (*log)(void* context, int level, const char* text);
};

/* The abstracted poll system: the library names fds and events (POLLIN, POLLOUT of poll(2)), the
 * application's own loop watches them level-triggered and calls coroipcs_handler_accept or
 * coroipcs_handler_dispatch. `cookie` names the source. After each of these calls the
 * application calls coroipcs_process, or coroipcs_receive and coroipcs_look until both say OK. */
struct coroipcs_poll {
  void* context;
  int (*accept_add)(int fd, uint64_t cookie, void* context);
  int (*dispatch_add)(int fd, int events, uint64_t cookie, void* context);
  int (*dispatch_modify)(int fd, int events, uint64_t cookie, void* context);
  void (*dispatch_destroy)(int fd, uint64_t cookie, void* context);
};

/* Memory of a kind that cannot always be had. TRY: ordinary memory will do where it cannot. DEMAND:
 * coroipcs_create tries once and fails with NO_MEMORY or SYSTEM (coroipc_syscall: mlock, madvise);
 * later, a connection that cannot have it is refused, a buffer not given, with NO_MEMORY. */
enum coroipcs_wish { COROIPCS_WISH_NO = 0, COROIPCS_WISH_TRY = 1, COROIPCS_WISH_DEMAND = 2 };

/* Zero in a limit means the default in brackets. Which code a limit produces:
 * docs/reference/limits. */
struct coroipcs_options {
  uint32_t struct_bytes; /* sizeof(struct coroipcs_options): set by coroipcs_options_init */
  int threads;           /* 1: any thread may call; 0: one thread, no locks [1] */
  int wait;              /* enum coroipc_wait */
  int any_service;       /* 1: services that were not added are served as well (own selector) */
  int allow_unmapped;    /* 1: uid 65534 of another user namespace may ask authorize [0] */
  int prefault;          /* 1: allocate ring pages at connect, lock them where that is allowed */
  int lock;              /* enum coroipcs_wish: rings and segments stay in memory, mlock(2) */
  int huge_pages;        /* enum coroipcs_wish: for segments of 2 MiB and more */
  int accept_rows;       /* 1: COROIPC_KIND_ACCEPTED entries instead of connections [0] */
  int authorize_events;  /* 1: COROIPC_KIND_AUTHORIZE entries instead of the callback */
  uint32_t authorize_timeout_ms; /* [5000] silence refuses */
  uint32_t handshake_timeout_ms; /* [5000] */
  uint32_t connections;          /* [4096] */
  uint32_t connections_per_uid;  /* [1024] */
  uint32_t handshakes;           /* unauthenticated in all [64] */
  uint32_t handshakes_per_uid;   /* [16] */
  uint32_t authorizing;          /* waiting for an asynchronous authorize [256] */
  uint32_t request_ring_bytes;   /* what a client gets that asks for 0 [256 KiB] */
  uint32_t response_ring_bytes;  /* [256 KiB] */
  uint32_t dispatch_ring_bytes;  /* [512 KiB] */
  uint32_t ring_bytes_min;       /* floor and ceiling of what a client may ask for [4096] */
  uint32_t ring_bytes_max;       /* [16 MiB] */
  uint32_t message_bytes;        /* ceiling and default of the negotiated maximum [1 MiB] */
  uint32_t message_bytes_min;    /* floor [4096] */
  uint32_t requests_in_flight;   /* per connection [256] */
  uint32_t unsent_bytes;         /* unsent answers at which reading stops [4 MiB] */
  uint32_t backlog_bytes;        /* dispatches of one connection [4 MiB] */
  uint32_t segments;             /* per connection [16] */
  uint64_t segment_bytes;        /* per connection, rings included [256 MiB] */
  uint64_t bytes_per_uid;        /* rings, segments and backlogs of one uid [4 GiB] */
  struct coroipcs_callbacks callbacks;
  const struct coroipcs_poll* poll; /* NULL: own epoll set behind coroipcs_fd */
};

struct coroipcs_service_options {
  uint32_t struct_bytes;
  uint32_t private_data_bytes;  /* zeroed, per connection: coroipcs_private_data_get */
  int policy;                   /* enum coroipcs_policy */
  int priority;                 /* enum coroipcs_priority */
  uint32_t requests_per_second; /* 0 = no limit; COROIPCS_RATE_OFF: paused */
  uint32_t backlog_bytes;       /* 0 = the server's */
};
#define COROIPCS_RATE_OFF 0xffffffffu

COROIPC_API void coroipcs_options_init(struct coroipcs_options* options);
COROIPC_API void coroipcs_service_options_init(struct coroipcs_service_options* options);

COROIPC_API coroipc_status coroipcs_create(const struct coroipcs_options* options,
                                           struct coroipcs_server** server);
/* Name: "demo" -> /run/coroipc/demo if that directory is writable, else
 * $XDG_RUNTIME_DIR/coroipc/demo;
 * "@demo" -> abstract; "/a/b.sock" as is. A stale socket of a dead server is replaced under a lock
 * (ADDRESS_IN_USE while its server lives); anything that is not our socket is never unlinked. */
COROIPC_API coroipc_status coroipcs_listen(struct coroipcs_server* server, const char* name);
/* An inherited listening AF_UNIX SOCK_SEQPACKET fd; owned by the server afterwards. listen(2) is
 * called again, so that SO_PEERCRED of clients names this process. */
COROIPC_API coroipc_status coroipcs_listen_fd(struct coroipcs_server* server, int fd);
/* The same, of another process that called coroipcs_listen and hands the name over: `lock_fd` is
 * the lock of its path (coroipcs_listen_fds), -1 if there is none. The name is this server's
 * afterwards; so are the fds, also when it fails. */
COROIPC_API coroipc_status coroipcs_listen_inherited(struct coroipcs_server* server, int fd,
                                                     int lock_fd);
/* fds[0]: the listening socket; fds[1]: the lock of its path, or -1. The server's own: for handing
 * duplicates of them on. INVALID_ARGUMENT: it does not listen. */
COROIPC_API coroipc_status coroipcs_listen_fds(const struct coroipcs_server* server, int fds[2]);
/* As coroipcs_listen_stop, and leaves the name to whoever was handed it: nothing is unlinked. */
COROIPC_API coroipc_status coroipcs_listen_leave(struct coroipcs_server* server);
/* A connected socket that another server of this process has accepted (COROIPC_KIND_ACCEPTED): goes
 * on as if this one had. The fd is the server's own, also when it fails. */
COROIPC_API coroipc_status coroipcs_adopt(struct coroipcs_server* server, int fd);
/* The path or "@name" that is listened on; valid until close. */
COROIPC_API const char* coroipcs_address(const struct coroipcs_server* server);
/* Stops listening and ends every connection with COROIPC_DISCONNECTED. Their
 * DISCONNECTED entries can still be received. */
COROIPC_API coroipc_status coroipcs_close(struct coroipcs_server* server);
/* Stops listening and nothing else. */
COROIPC_API coroipc_status coroipcs_listen_stop(struct coroipcs_server* server);
/* Frees all; connections that are still held keep their memory until released. */
COROIPC_API void coroipcs_destroy(struct coroipcs_server* server);

COROIPC_API coroipc_status coroipcs_service_add(struct coroipcs_server* server, uint16_t service,
                                                const struct coroipcs_service_options* options);
/* Ends the service's connections and takes it away; -1 while some are still held (call again), 0.
 */
COROIPC_API int coroipcs_service_close(struct coroipcs_server* server, uint16_t service);

/* -- driving it -----------------------------------------------------------------------------------
 */

/* One epoll fd, level-readable while there is work; -1 when options.poll is used. */
COROIPC_API int coroipcs_fd(const struct coroipcs_server* server);
/* Handles what is there, calling callbacks, for at most max_ms (0: one bounded turn, and a second
 * one if that left something). COROIPC_OK: idle, armed, safe to sleep on the fd. COROIPC_AGAIN:
 * there is more (the fd is readable). */
COROIPC_API coroipc_status coroipcs_process(struct coroipcs_server* server, uint32_t max_ms);
/* A blocking loop until coroipcs_stop, with callbacks. */
COROIPC_API coroipc_status coroipcs_run(struct coroipcs_server* server);
COROIPC_API void coroipcs_stop(struct coroipcs_server* server); /* any thread, signal handler too */
/* With options.poll: what the application's loop calls. */
COROIPC_API coroipc_status coroipcs_handler_accept(struct coroipcs_server* server, uint64_t cookie);
COROIPC_API coroipc_status coroipcs_handler_dispatch(struct coroipcs_server* server,
                                                     uint64_t cookie, int revents);

/* Batches. One bounded, fair turn: fills `batch` (count may be 0). OK: nothing more now (but not
 * armed). AGAIN: more is waiting. Looks at the fds when `look_at_fds` is set, or by itself when the
 * last look is older than ~20 us. */
COROIPC_API coroipc_status coroipcs_receive(struct coroipcs_server* server,
                                            struct coroipc_batch* batch, int look_at_fds);
/* Looks at the lately active connections for at most budget_ns (clipped by the wait policy and what
 * it has learnt; COROIPC_LOOK_MAX: all the policy wants). AGAIN: something is there, call receive.
 * OK: nothing; everything is armed and was looked at again: safe to sleep on the fd. */
COROIPC_API coroipc_status coroipcs_look(struct coroipcs_server* server, uint64_t budget_ns);
#define COROIPC_LOOK_MAX UINT64_MAX
/* After sleeping: connections that were active lately are unarmed, so that their clients need not
 * ring; coroipcs_look must follow before the next sleep. */
COROIPC_API void coroipcs_disarm(struct coroipcs_server* server);
/* coroipcs_look, then sleep on the fd until something is there or timeout_ms (-1: for ever) passed.
 * AGAIN: call receive; TIMED_OUT; OK never. */
COROIPC_API coroipc_status coroipcs_wait(struct coroipcs_server* server, int timeout_ms);

/* -- connections ----------------------------------------------------------------------------------
 */

/* The connection of entry.connection, valid until its DISCONNECTED entry was received and the
 * receiver's reference given back by coroipcs_connection_release; NULL if there is none. */
COROIPC_API struct coroipcs_connection* coroipcs_connection_at(struct coroipcs_server* server,
                                                               uint32_t number);
/* Iteration; each result is held: release it. `previous` is not released by `next`. */
COROIPC_API struct coroipcs_connection* coroipcs_connection_first(struct coroipcs_server* server);
COROIPC_API struct coroipcs_connection* coroipcs_connection_next(
    struct coroipcs_server* server, struct coroipcs_connection* previous);
/* The answer to AUTHORIZE: OK lets in, anything else refuses with that status (DENIED, RETRY,
 * REFUSED, NO_SERVICE ...). `trusted`: payloads of this peer may be read in place. */
COROIPC_API coroipc_status coroipcs_authorize(struct coroipcs_connection* connection,
                                              coroipc_status verdict, int trusted);
COROIPC_API void coroipcs_connection_hold(struct coroipcs_connection* connection);
COROIPC_API void coroipcs_connection_release(struct coroipcs_connection* connection);
COROIPC_API coroipc_status coroipcs_disconnect(struct coroipcs_connection* connection,
                                               coroipc_status why);
COROIPC_API uint32_t coroipcs_connection_number(const struct coroipcs_connection* connection);
COROIPC_API uint16_t coroipcs_connection_service(const struct coroipcs_connection* connection);
COROIPC_API uint64_t coroipcs_connection_id(const struct coroipcs_connection* connection);
COROIPC_API const struct coroipc_credentials* coroipcs_connection_credentials(
    const struct coroipcs_connection* connection);
COROIPC_API uint32_t
coroipcs_connection_message_bytes(const struct coroipcs_connection* connection);
COROIPC_API uint32_t
coroipcs_connection_requests_in_flight(const struct coroipcs_connection* connection);
COROIPC_API void* coroipcs_private_data_get(struct coroipcs_connection* connection);
COROIPC_API coroipc_status coroipcs_connection_rate_limit(struct coroipcs_connection* connection,
                                                          uint32_t requests_per_second);
COROIPC_API coroipc_status coroipcs_connection_priority(struct coroipcs_connection* connection,
                                                        int priority);
COROIPC_API coroipc_status coroipcs_connection_policy(struct coroipcs_connection* connection,
                                                      int policy);
COROIPC_API coroipc_status coroipcs_connection_stats(struct coroipcs_connection* connection,
                                                     struct coroipc_stats* stats, int clear);
/* How full the rings are at this moment: bytes of each and bytes in use, a snapshot that is old
 * when it is read. All 0 of a connection that has ended. */
struct coroipcs_ring {
  uint32_t bytes;
  uint32_t used;
};
struct coroipcs_rings {
  struct coroipcs_ring request;
  struct coroipcs_ring response;
  struct coroipcs_ring dispatch;
};
COROIPC_API void coroipcs_connection_rings(struct coroipcs_connection* connection,
                                           struct coroipcs_rings* rings);
COROIPC_API coroipc_status coroipcs_stats(struct coroipcs_server* server,
                                          struct coroipc_stats* stats, int clear);

/* -- sending --------------------------------------------------------------------------------------
 */

/* The one answer of request `correlation`: `code` COROIPC_OK with an application `status` and a
 * gathered payload, or a code and no payload. Never blocks: what finds no room waits in private
 * memory. INVALID_ARGUMENT: not in flight (answered already). TOO_LARGE: above the negotiated
 * maximum, still unanswered. LIMIT, NO_MEMORY: it cannot be kept (no segment for a large one); the
 * client was answered with that code instead. */
COROIPC_API coroipc_status coroipcs_response_send(struct coroipcs_connection* connection,
                                                  uint32_t correlation, coroipc_status code,
                                                  int32_t status, const struct iovec* payload,
                                                  uint32_t count);
/* OK: queued, will arrive unless the connection ends. FULL: not queued; DRAIN follows. */
COROIPC_API coroipc_status coroipcs_dispatch_send(struct coroipcs_connection* connection,
                                                  uint16_t id, const struct iovec* payload,
                                                  uint32_t count);
/* Many at once: rows of RESPONSE and DISPATCH, payloads in `arena`. One publication and one wake
 * check per connection. Each row's `argument` becomes its status, as of the single functions, with
 * one difference: a DISPATCH row is queued even beyond the backlog limit (by at most this batch)
 * and then says FULL, so that a sender who already promised `queued` keeps its word and stops now.
 */
COROIPC_API void coroipcs_send_batch(struct coroipcs_server* server, struct coroipc_entry* entries,
                                     uint32_t count, const uint8_t* arena);

/* Zero copy. A buffer of this connection, to be filled and then handed over by an answer or a
 * dispatch that names it; afterwards it is the client's. FULL: all are out, COROIPC_KIND_DRAIN
 * follows when one came back; LIMIT: it can never be had. */
COROIPC_API coroipc_status coroipcs_buffer_alloc(struct coroipcs_connection* connection,
                                                 uint32_t bytes, struct coroipc_buffer** buffer);
COROIPC_API coroipc_status coroipcs_response_send_buffer(struct coroipcs_connection* connection,
                                                         uint32_t correlation, int32_t status,
                                                         struct coroipc_buffer* buffer,
                                                         uint32_t offset, uint32_t bytes);
COROIPC_API coroipc_status coroipcs_dispatch_send_buffer(struct coroipcs_connection* connection,
                                                         uint16_t id, struct coroipc_buffer* buffer,
                                                         uint32_t offset, uint32_t bytes);
/* The buffer behind a received entry with COROIPC_IN_SEGMENT, held for the caller. */
COROIPC_API coroipc_status coroipcs_buffer_get(struct coroipcs_connection* connection,
                                               uint32_t segment, struct coroipc_buffer** buffer);

#ifdef __cplusplus
}
#endif
#endif
