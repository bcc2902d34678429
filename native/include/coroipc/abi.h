/* abi.h: everything two processes share, and nothing else: the handshake messages, the segment, the
 * record. This is the one source of the layout; TypeScript gets a generated copy, a test says when
 * that copy is stale.
 *
 * Rules that hold for every field below:
 *  - fixed width, little endian, offsets never pointers, padding named and zero;
 *  - each word says which side writes it; the other side loads it once, checks it, uses the local;
 *  - a change of any size, offset, constant or meaning raises COROIPC_ABI_VERSION in the same
 * commit.
 *
 *  client process                                                       server process
 *    socket  <-- AF_UNIX SOCK_SEQPACKET: handshake, fds, doorbell, liveness -->  socket
 *    [control page | request ring -> | <- response ring | <- dispatch ring]  one sealed memfd
 */
#ifndef COROIPC_ABI_H
#define COROIPC_ABI_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define COROIPC_STATIC_ASSERT(condition, text) static_assert(condition, text)
extern "C" {
#else
#define COROIPC_STATIC_ASSERT(condition, text) _Static_assert(condition, text)
#endif

#define COROIPC_MAGIC 0x43504943u /* "CIPC" */
#define COROIPC_ABI_VERSION 1u
#define COROIPC_WORD_PROBE 0x01020304u /* another byte order reads 0x04030201 */

/* -- limits of the layout itself; the limits of a server are options below these -----------------
 */
#define COROIPC_CONTROL_BYTES 4096u       /* the control page; never visible to JavaScript */
#define COROIPC_RING_BYTES_MIN 4096u      /* a ring is a power of two, at least a page ... */
#define COROIPC_RING_BYTES_MAX (1u << 30) /* ... and small enough for u32 position arithmetic */
#define COROIPC_MESSAGE_BYTES_MAX (1u << 30)
#define COROIPC_REQUESTS_IN_FLIGHT_MAX 32768u /* two slot ranges of this size fit 16 bits */
#define COROIPC_SEGMENTS_MAX 64u /* extra segments of one connection, both directions */
#define COROIPC_RECORD_ALIGN 8u
#define COROIPC_WORD_SPACING 128u /* two cache lines: the adjacent-line prefetcher pairs them */

/* -- the handshake: one message each way, of exactly these sizes ----------------------------------
 */

/* 64 bytes, client to server. A zero size asks for the server's default. */
struct coroipc_setup_request {
  uint32_t magic;
  uint16_t abi_version;
  uint16_t
      layout; /* COROIPC_LAYOUT of the sender: builds that differ in a size refuse each other */
  uint32_t word_probe;
  uint32_t features; /* unknown bits refuse the connection; none are defined yet */
  uint16_t service;
  uint16_t reserved0;
  uint32_t request_ring_bytes;
  uint32_t response_ring_bytes;
  uint32_t dispatch_ring_bytes;
  uint32_t message_bytes_max;
  uint32_t requests_in_flight;
  uint32_t reserved1[6];
};

/* 96 bytes, server to client. With status COROIPC_OK it carries exactly one fd, the segment; any
 * other status carries none. SCM_CREDENTIALS beside it name the server's process: SO_PEERCRED of
 * the client's end is whoever called listen(2), unix(7). */
struct coroipc_setup_reply {
  uint32_t magic;
  uint16_t abi_version;
  uint16_t layout;
  uint32_t word_probe;
  uint32_t features;
  uint32_t status; /* enum coroipc_status_code */
  uint32_t segment_bytes;
  uint32_t request_ring_bytes;
  uint32_t response_ring_bytes;
  uint32_t dispatch_ring_bytes;
  uint32_t message_bytes_max;
  uint32_t requests_in_flight;
  uint32_t segments_max;
  uint64_t connection_id; /* random: tells nothing about the server's memory */
  uint64_t server_id;     /* random, one for each server object */
  uint32_t reserved[8];
};

/* After the handshake the socket carries two kinds of messages:
 *  - the doorbell: one byte, COROIPC_SOCKET_DOORBELL; it says "look", nothing more;
 *  - a segment (server to client only): 16 bytes with exactly one fd. */
#define COROIPC_SOCKET_DOORBELL 1u
#define COROIPC_SOCKET_SEGMENT 2u

struct coroipc_segment_message {
  uint32_t type;       /* COROIPC_SOCKET_SEGMENT */
  uint32_t index;      /* < segments_max */
  uint32_t bytes;      /* size of the segment, a multiple of 4096 */
  uint32_t generation; /* counts what was ever sent under this index; the grant names it again */
};

/* -- the control page
 * ------------------------------------------------------------------------------
 *
 *  offset  writer
 *       0  server   struct coroipc_segment_header, written before the fd is sent, never again
 *     256  words of the request ring    (written by the client, read by the server)
 *     768  words of the response ring   (written by the server, read by the client)
 *    1280  words of the dispatch ring   (written by the server, read by the client)
 *    1792  server   flow_control, server_closed
 *    1920  client   client_closed
 *    2048  zero to the end of the page
 *
 *  then the rings: request at 4096, response and dispatch after it, each of its power of two bytes.
 */
struct coroipc_segment_header {
  uint32_t magic;
  uint16_t abi_version;
  uint16_t layout;
  uint32_t segment_bytes;
  uint32_t request_ring_bytes;
  uint32_t response_ring_bytes;
  uint32_t dispatch_ring_bytes;
  uint64_t connection_id;
  uint32_t reserved[56];
};

/* Words of one ring, 128 bytes apart. Positions are free-running u32 counts of bytes and wrap. */
struct coroipc_ring_words {
  uint32_t write_position; /* writer: records before it are whole */
  uint32_t pad0[31];
  uint32_t read_position; /* reader: bytes before it may be written again */
  uint32_t pad1[31];
  uint32_t reader_sleep; /* reader sets 1 before it sleeps; the writer takes it by exchange */
  uint32_t pad2[31];
  uint32_t writer_wants; /* writer sets the bytes it waits for; the reader takes it by exchange */
  uint32_t pad3[31];
};

struct coroipc_server_words {
  uint32_t flow_control;  /* 1 while dispatches wait in the server's backlog; advice, not law */
  uint32_t server_closed; /* why the server ended the connection, set before the socket is closed */
  uint32_t server_cpu;    /* CPU it last ran on, plus 1: a hint whether looking is worth it */
  uint32_t pad[29];
};

struct coroipc_client_words {
  uint32_t client_closed; /* set before an orderly close; else the hang-up means death */
  uint32_t client_cpu;    /* as server_cpu */
  uint32_t pad[30];
};

struct coroipc_control {
  struct coroipc_segment_header header;
  struct coroipc_ring_words ring[3]; /* COROIPC_RING_* */
  struct coroipc_server_words server;
  struct coroipc_client_words client;
  uint8_t reserved[2048];
};

#define COROIPC_RING_REQUEST 0u
#define COROIPC_RING_RESPONSE 1u
#define COROIPC_RING_DISPATCH 2u
#define COROIPC_RINGS 3u

/* -- the record
 * ------------------------------------------------------------------------------------
 *
 *   0        4    6    7    8            12       16         20         24
 *   | bytes  | id |kind|flag| correlation| status | sequence | argument | payload ... | pad to 8 |
 *
 *  A record never wraps: one that does not fit before the end of the ring is preceded by a pad
 * record (kind PAD; only its first 8 bytes exist; `bytes` counts everything after them to the
 * ring's end). A record with its header is at most half a ring; a larger payload lies in a segment
 * and the record carries a struct coroipc_segment_reference (flag SEGMENT).
 *
 *  A SEGMENT_WANT whose correlation names slot 0 is for a queued message: the server grants when a
 *  segment comes back. Any other one is a caller's and is refused at once. */
struct coroipc_record {
  uint32_t bytes;       /* payload bytes that follow this header */
  uint16_t id;          /* request or dispatch id; 0 elsewhere */
  uint8_t kind;         /* COROIPC_RECORD_* */
  uint8_t flags;        /* COROIPC_FLAG_* */
  uint32_t correlation; /* requests and their answers: slot | generation << 16; else 0 */
  int32_t status;       /* answers: the application's own status; else 0 */
  uint32_t sequence;    /* answers and dispatches: one count over both rings; requests: their own */
  uint32_t argument; /* requests: ms until the client's deadline, 0 none; answers: coroipc_status;
                        SEGMENT_*: index */
};

#define COROIPC_RECORD_PAD 1u
#define COROIPC_RECORD_REQUEST 2u         /* client: wants exactly one answer */
#define COROIPC_RECORD_SEND 3u            /* client: one way */
#define COROIPC_RECORD_CANCEL 4u          /* client: nobody waits for `correlation` any more */
#define COROIPC_RECORD_SEGMENT_WANT 5u    /* client: payload u32 bytes; answered by a GRANT */
#define COROIPC_RECORD_SEGMENT_RELEASE 6u /* client: `argument` = index is the server's again */
#define COROIPC_RECORD_RESPONSE 7u        /* server */
#define COROIPC_RECORD_DISPATCH 8u        /* server */
#define COROIPC_RECORD_SEGMENT_GRANT                           \
  9u /* server: `argument` = index, `status` = coroipc_status, \
        `correlation` as in the WANT; payload u32 bytes */

#define COROIPC_FLAG_SEGMENT 1u /* the payload is a coroipc_segment_reference */

/* 16 bytes. `offset + bytes` lies inside segment `index`; checked without overflow by the reader.
 */
struct coroipc_segment_reference {
  uint32_t index;
  uint32_t offset;
  uint32_t bytes;
  uint32_t generation; /* of the segment message that brought the fd: tells a stale mapping */
};

#define COROIPC_RECORD_BYTES 24u
#define COROIPC_PAD_RECORD_BYTES 8u

/* Sum of all sizes that both sides must agree on; part of the handshake (after LMDB's lock format).
 */
#define COROIPC_LAYOUT                                                              \
  ((uint16_t)(sizeof(struct coroipc_control) + sizeof(struct coroipc_record) * 3u + \
              sizeof(struct coroipc_setup_request) * 5u +                           \
              sizeof(struct coroipc_setup_reply) * 7u +                             \
              sizeof(struct coroipc_segment_message) * 11u +                        \
              sizeof(struct coroipc_segment_reference) * 13u))

COROIPC_STATIC_ASSERT(sizeof(struct coroipc_setup_request) == 64, "setup request is 64 bytes");
COROIPC_STATIC_ASSERT(sizeof(struct coroipc_setup_reply) == 96, "setup reply is 96 bytes");
COROIPC_STATIC_ASSERT(sizeof(struct coroipc_segment_message) == 16, "segment message is 16 bytes");
COROIPC_STATIC_ASSERT(sizeof(struct coroipc_segment_header) == 256, "segment header is 256 bytes");
COROIPC_STATIC_ASSERT(sizeof(struct coroipc_ring_words) == 512, "four words, 128 bytes apart");
COROIPC_STATIC_ASSERT(offsetof(struct coroipc_control, ring) == 256, "ring words at 256");
COROIPC_STATIC_ASSERT(offsetof(struct coroipc_control, server) == 1792, "server words at 1792");
COROIPC_STATIC_ASSERT(offsetof(struct coroipc_control, client) == 1920, "client words at 1920");
COROIPC_STATIC_ASSERT(sizeof(struct coroipc_control) == COROIPC_CONTROL_BYTES, "one page");
COROIPC_STATIC_ASSERT(sizeof(struct coroipc_record) == COROIPC_RECORD_BYTES, "record header");
COROIPC_STATIC_ASSERT(sizeof(struct coroipc_segment_reference) == 16, "segment reference");

#ifdef __cplusplus
}
#endif
#endif
