/* types.h: what both halves of the C API have in common: status codes, messages in a batch,
 * credentials, buffers, statistics. */
#ifndef COROIPC_TYPES_H
#define COROIPC_TYPES_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define COROIPC_API __attribute__((visibility("default")))

/* One meaning each. The numbers are part of the ABI (they travel in answers); never renumber. */
enum coroipc_status_code {
  COROIPC_OK = 0,
  COROIPC_INVALID_ARGUMENT = 1, /* the call was wrong; nothing was sent */
  COROIPC_SYSTEM = 2,           /* a system call failed: coroipc_errno() */
  COROIPC_NO_MEMORY = 3,        /* memory, fds or address space ran out */
  COROIPC_CONNECT_REFUSED = 4,  /* nobody listens under this name */
  COROIPC_DENIED = 5,           /* authorize said no, or the server is not who was demanded */
  COROIPC_LIMIT = 6,            /* a configured limit is reached */
  COROIPC_NO_SERVICE = 7,       /* the server does not offer this service */
  COROIPC_VERSION = 8,          /* the peer speaks another ABI */
  COROIPC_PROTOCOL = 9,         /* the peer broke the protocol; the connection is over */
  COROIPC_PEER_DEAD = 10,       /* the peer's process is gone; this message was never handed over */
  COROIPC_DISCONNECTED = 11,    /* the connection was closed in order, by either side */
  COROIPC_UNKNOWN_OUTCOME = 12, /* the peer went away with this request in flight */
  COROIPC_TIMED_OUT = 13,
  COROIPC_ABORTED = 14,        /* cancelled by the caller */
  COROIPC_FULL = 15,           /* no room now; not queued */
  COROIPC_TOO_LARGE = 16,      /* above the negotiated maximum, or the buffer given is too small */
  COROIPC_LEASE_HELD = 17,     /* the lease of this channel stands in the way */
  COROIPC_FORKED = 18,         /* a forked child used its parent's connection */
  COROIPC_NO_HANDLER = 19,     /* the service has no handler for this id */
  COROIPC_HANDLER_FAILED = 20, /* the handler threw */
  COROIPC_HANDLER_REJECTED = 21, /* the handler's promise rejected */
  COROIPC_HANDLER_ASYNC = 22,    /* a promise was returned where none can settle (blocking loop) */
  COROIPC_ANSWER_INVALID = 23,   /* the handler's answer is neither bytes nor a list of bytes */
  COROIPC_ANSWER_TOO_LARGE = 24, /* the handler answered more than the negotiated maximum */
  COROIPC_RETRY = 25,            /* admit said: not now, try again (coroipc's TRY_AGAIN) */
  COROIPC_REFUSED = 26,          /* admit said: never (coroipc's INVALID_PARAM) */
  COROIPC_DEADLOCK = 27,         /* a blocking call to a server in the same thread */
  COROIPC_ADDRESS_IN_USE = 28,   /* another live server listens under this name */
  COROIPC_AGAIN = 29,            /* nothing there now (non-blocking receive) */
  COROIPC_BACKLOG_OVERFLOW = 30, /* backlog policy 'disconnect' ended the connection */
  COROIPC_STATUS_COUNT = 31
};
typedef int coroipc_status; /* enum coroipc_status_code */

/* errno of the last COROIPC_SYSTEM, COROIPC_NO_MEMORY of this thread, and the call that set it. */
COROIPC_API int coroipc_errno(void);
COROIPC_API const char* coroipc_syscall(void);
COROIPC_API const char* coroipc_status_text(coroipc_status status);
COROIPC_API const char* coroipc_status_name(coroipc_status status); /* "PEER_DEAD" */
/* coroipc's cs_error_t for a status (1 CS_OK, 2 LIBRARY, 6 TRY_AGAIN, 7 INVALID_PARAM, ...). */
COROIPC_API int coroipc_status_to_cs_error(coroipc_status status);

/* How long to look at the rings before sleeping. ADAPTIVE learns from measured gaps and never looks
 * when only one CPU is usable; SPIN never sleeps; SLEEP never looks. */
enum coroipc_wait { COROIPC_WAIT_ADAPTIVE = 0, COROIPC_WAIT_SPIN = 1, COROIPC_WAIT_SLEEP = 2 };

/* What this library uses of the kernel. Without one of the first seven nothing works; the others
 * make it safer, quicker or roomier where they are there. */
enum coroipc_feature {
  COROIPC_FEATURE_MEMFD = 0,       /* memory without a name: memfd_create(2), ftruncate(2) */
  COROIPC_FEATURE_SEALS = 1,       /* and nobody can change its size: F_ADD_SEALS of fcntl(2) */
  COROIPC_FEATURE_SOCKETS = 2,     /* AF_UNIX SOCK_SEQPACKET, unix(7) */
  COROIPC_FEATURE_FD_PASSING = 3,  /* SCM_RIGHTS */
  COROIPC_FEATURE_CREDENTIALS = 4, /* SO_PEERCRED, SO_PEERGROUPS */
  COROIPC_FEATURE_EPOLL = 5,       /* epoll(7), eventfd(2), timerfd_create(2) */
  COROIPC_FEATURE_DONTFORK = 6,    /* mmap(2) shared, MADV_DONTFORK of madvise(2) */
  COROIPC_FEATURE_PIDFD = 7,       /* pidfd_open(2), 5.3: an exit that a forked child cannot hide */
  COROIPC_FEATURE_PEER_PIDFD = 8,  /* SO_PEERPIDFD, 6.5: of the peer itself, not of its number */
  COROIPC_FEATURE_NOEXEC_SEAL = 9, /* MFD_NOEXEC_SEAL, 6.3: the memory can never be executed */
  COROIPC_FEATURE_POPULATE = 10,   /* MADV_POPULATE_WRITE, 5.14: prefault without mlock */
  COROIPC_FEATURE_PUNCH_HOLE = 11, /* MADV_REMOVE: memory that was used goes back to the machine */
  COROIPC_FEATURE_COUNT = 12
};

/* Tries it, now and in this process: a container or a filter of system calls can forbid what the
 * kernel has. Returns 0, or the errno that it failed with; EINVAL for an unknown one. Leaves
 * nothing behind. Any thread. */
COROIPC_API int coroipc_feature_try(enum coroipc_feature feature);

/* Who the peer was when it connected, from the kernel: SO_PEERCRED, SO_PEERGROUPS, SO_PEERPIDFD,
 * unix(7). `groups` belongs to the connection. `pidfd` is -1 where the kernel has none; it belongs
 * to the connection: dup(2) it to keep it. */
struct coroipc_credentials {
  pid_t pid;
  uid_t uid;
  gid_t gid;
  int pidfd;
  uint32_t group_count;
  const gid_t* groups;
};

/* -- batches: many messages for one call ----------------------------------------------------------
 * A row of eleven int32 and a reserved one: a C struct and a JavaScript Int32Array alike. */
struct coroipc_entry {
  uint32_t connection; /* number of the connection in its server or group */
  uint32_t kind;       /* enum coroipc_kind */
  uint32_t id;         /* request or dispatch id */
  uint32_t correlation;
  int32_t status;    /* answers: application's status */
  uint32_t argument; /* received requests: ms to the deadline (0 none); answers: coroipc_status;
                        events: see coroipc_kind. After a send: coroipc_status of this row */
  uint32_t sequence;
  uint32_t flags;  /* COROIPC_IN_* */
  uint32_t offset; /* of the payload in the arena, or in the segment */
  uint32_t bytes;
  uint32_t segment; /* with COROIPC_IN_SEGMENT */
  uint32_t reserved;
};

enum coroipc_kind {
  COROIPC_KIND_REQUEST = 1,  /* server receives; group sends */
  COROIPC_KIND_SEND = 2,     /* server receives; group sends */
  COROIPC_KIND_CANCEL = 3,   /* server receives: nobody waits for `correlation`; group sends */
  COROIPC_KIND_RESPONSE = 4, /* group receives; server sends */
  COROIPC_KIND_DISPATCH = 5, /* group receives; server sends */
  /* events */
  COROIPC_KIND_AUTHORIZE = 16,    /* server: `id` = service asks; answer by coroipcs_authorize */
  COROIPC_KIND_CONNECTED = 17,    /* server: handshake done; group: connect_start succeeded */
  COROIPC_KIND_DISCONNECTED = 18, /* `argument` = coroipc_status why; last entry of a connection */
  COROIPC_KIND_DRAIN = 19,        /* server: the dispatch backlog has room, or a buffer came back */
  COROIPC_KIND_FLOW_CONTROL = 20, /* group: `argument` = new state 0 or 1 */
  COROIPC_KIND_CONNECT_FAILED = 21, /* group: `argument` = coroipc_status; last entry */
  COROIPC_KIND_BUFFER =
      22, /* group: buffer of `correlation` is there; `segment`, `argument` = status */
  COROIPC_KIND_SLOT_FREE = 23, /* group: the late answer of a cancelled request came; `correlation`
                                  = its slot, reusable */
  COROIPC_KIND_AUTHORIZE_ENDED = 24, /* server: the peer left, or the wait for authorize ended */
  COROIPC_KIND_ROOM = 25,            /* group: queued requests have drained; FULL is over */
  COROIPC_KIND_ACCEPTED = 26 /* server with accept_rows: `argument` = a connected socket, the
                                receiver's own, for coroipcs_adopt of a server of this process;
                                `correlation` = uid of who connected, SO_PEERCRED */
};

/* In SLOT_FREE: one or more of the slots that the library chose; coroipcc_given_up counts them. */
#define COROIPC_SLOT_ANY UINT32_MAX

#define COROIPC_IN_ARENA 0u
/* The payload is blocks[row]: owned by the receiver, coroipc_block_free. */
#define COROIPC_IN_BLOCK 1u
/* The payload lies in a segment: trusted peers only, or own buffers. */
#define COROIPC_IN_SEGMENT 2u
/* The payload lies in `large`, at `offset`. */
#define COROIPC_IN_LARGE 4u

struct coroipc_batch {
  struct coroipc_entry* entries;
  void** blocks; /* as many as entries; NULL where the payload is not a block */
  uint32_t capacity;
  uint32_t count; /* set by receive */
  uint8_t* arena; /* private memory of the receiver; payloads start 8-aligned */
  uint32_t arena_bytes;
  uint32_t arena_used; /* set by receive; the caller resets it or moves on */
  uint8_t* large;      /* as arena, for payloads of COROIPC_BLOCK_BYTES and more; NULL: none */
  uint32_t large_bytes;
  uint32_t large_min;  /* payloads of so many bytes and more ... */
  uint32_t large_max;  /* ... at most so many (no more than large_bytes) go there */
  uint32_t large_used; /* set by receive */
};

/* Payloads of this size and more that have no place in `large` arrive as a block of their own from
 * a bounded pool. So does one that has its place in the arena or in `large` and does not fit what
 * is left of it, if it is the first of its batch; else it waits for the next. Any thread may free
 * a block. */
#define COROIPC_BLOCK_BYTES 8192u
COROIPC_API void coroipc_block_free(void* block);

/* -- zero-copy buffers
 * ----------------------------------------------------------------------------- Memory of the
 * server's making that both sides map. Valid until released, also after the peer's death and after
 * the connection is closed. Counted: hold and release from any thread. */
struct coroipc_buffer;
COROIPC_API void* coroipc_buffer_data(const struct coroipc_buffer* buffer);
COROIPC_API uint32_t coroipc_buffer_bytes(const struct coroipc_buffer* buffer);
COROIPC_API uint32_t coroipc_buffer_index(const struct coroipc_buffer* buffer);
COROIPC_API void coroipc_buffer_hold(struct coroipc_buffer* buffer);
COROIPC_API void coroipc_buffer_release(struct coroipc_buffer* buffer);

/* -- statistics -----------------------------------------------------------------------------------
 * Counters since the connection (or the server) began, or since they were last cleared. Gauges
 * (marked so) are never cleared. All uint64_t: TypeScript reads the struct as a BigUint64Array. */
struct coroipc_stats {
  uint64_t requests;       /* requests and sends read (server) or written (client) */
  uint64_t responses;      /* answers written (server) or read (client) */
  uint64_t dispatches;     /* dispatches queued or written (server) or read (client) */
  uint64_t bytes_received; /* payload bytes */
  uint64_t bytes_sent;     /* payload bytes */
  uint64_t
      backlog_messages;   /* gauge: dispatches (server) or requests (client) that wait for room */
  uint64_t backlog_bytes; /* gauge */
  uint64_t unsent_responses;   /* gauge: answers that wait for room */
  uint64_t in_flight;          /* gauge: requests without an answer */
  uint64_t flow_control;       /* gauge: 0 or 1 */
  uint64_t flow_control_count; /* times it was switched on */
  uint64_t overload;           /* dispatches refused with FULL */
  uint64_t dropped;            /* dispatches dropped by policy */
  uint64_t invalid_requests;   /* answered NO_HANDLER or REFUSED; not protocol_errors */
  uint64_t send_retries;       /* times a record found no room at once */
  uint64_t receive_retries;    /* blocking waits that woke for nothing */
  uint64_t doorbells_sent;
  uint64_t doorbells_received;
  uint64_t sleeps;         /* times this side armed and slept */
  uint64_t segments;       /* gauge: extra segments alive */
  uint64_t segment_bytes;  /* gauge */
  uint64_t late_responses; /* answers that came after their request was given up */
  uint64_t cancelled;      /* requests given up (client) or cancelled by the client (server) */
  uint64_t connections;    /* gauge, server: established connections; connection: 1 while open */
  uint64_t connections_total;
  uint64_t connections_refused; /* denied, over a limit, unknown service, bad handshake */
  uint64_t protocol_errors;     /* peers that were cut off */
  uint64_t handshakes_pending;  /* gauge */
};
#define COROIPC_STATS_WORDS (sizeof(struct coroipc_stats) / sizeof(uint64_t))

/* Log line, level as in pino: 20 debug, 30 info, 40 warn, 50 error. Called from whoever found it.
 */
typedef void (*coroipc_log_fn)(void* context, int level, const char* text);

#ifdef __cplusplus
}
#endif
#endif
