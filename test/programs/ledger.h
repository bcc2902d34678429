/* ledger.h: what the load programs write down about every message, in a file that all of them map:
 * it outlives whoever is killed. test/storm/ledger.ts has the same words for Node.js.
 *
 * A lane is one client's row of requests, numbered without end through all of its processes and
 * connections. The client writes a number down before it hands the request over, the server before
 * it answers. So each answer can be checked where it arrives (was it executed?) and each request
 * where it is executed (is it the next one, or one again?), and the file stays small however long
 * it is written to. */
#ifndef COROIPC_TEST_LEDGER_H
#define COROIPC_TEST_LEDGER_H

#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LEDGER_HEAD_BYTES 4096u /* words of the server: enum ledger_server */
#define LEDGER_LANE_BYTES 1024u

/* Of the server as a whole, as its statistics have them. */
enum ledger_server {
  SERVER_PID,
  SERVER_CONNECTIONS,
  SERVER_CONNECTIONS_TOTAL,
  SERVER_HANDSHAKES,
  SERVER_IN_FLIGHT,
  SERVER_UNSENT,
  SERVER_BACKLOG,
  SERVER_SEGMENTS,
  SERVER_SEGMENT_BYTES,
  SERVER_PROTOCOL_ERRORS,
  SERVER_BACKLOG_BYTES,
  SERVER_TURNS,            /* times these words were written */
  SERVER_LIVE_BYTES,       /* Node.js alone: test/storm/live.ts */
  SERVER_LEAST_RSS,        /* so is this */
  SERVER_DOORBELLS_A_TURN, /* the most that one has taken; C alone, load-server counts */
  SERVER_LEAST_BESIDE,     /* Node.js alone, as above */
  /* Written by whoever leads: 0, or 1 + the first of the lanes whose clients make no call. */
  LEDGER_PAUSED = 64,
};

/* Of a lane. The client's words, then the server's, then the histogram. */
enum ledger_lane {
  LANE_PID,
  LANE_EPOCH,         /* connections that were made */
  LANE_SENT,          /* the last number that was handed over */
  LANE_ANSWERED,      /* the last number that was answered */
  LANE_ANSWERS,       /* how many were answered */
  LANE_UNKNOWN,       /* how many were reported as unknown */
  LANE_NEVER,         /* how many were reported as never handed over */
  LANE_WRONG,         /* answers and dispatches that are not what they have to be */
  LANE_FAILED,        /* any other code */
  LANE_FAILED_CODE,   /* the last one */
  LANE_DEATH_NS,      /* when the client last saw the server's end, CLOCK_MONOTONIC */
  LANE_DISPATCHES,    /* that were read */
  LANE_SKIPPED,       /* dispatches that a policy dropped */
  LANE_LONGEST_NS,    /* the longest call */
  LANE_EXECUTED = 16, /* the last number that was executed */
  LANE_EXECUTIONS,
  LANE_DOUBLED, /* executed again */
  LANE_LOST,    /* left out between two that were executed on one connection */
  LANE_TORN,    /* requests that are not what they have to be */
  LANE_GONE_NS, /* when the server last saw the client's end */
  LANE_GONE_WHY,
  LANE_DISPATCHED,
  LANE_REFUSED,      /* connects that found nobody; the client's, as the first ones */
  LANE_LIVE_BYTES,   /* Node.js alone: test/storm/live.ts */
  LANE_LEAST_RSS,    /* so is this */
  LANE_LEAST_BESIDE, /* and this */
  LANE_LATENCY = 32, /* LEDGER_BUCKETS counts of calls, by half powers of two of nanoseconds */
};
#define LEDGER_BUCKETS 64u

struct ledger {
  uint8_t* bytes;
  uint32_t lanes;
};

static inline uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Whoever leads may be killed, too: nobody goes on without it. */
static inline void end_with_parent(void) { prctl(PR_SET_PDEATHSIG, SIGKILL); }

/* Storms are made of fds: as many as this user may have, and root more. */
static inline void want_fds(void) {
  const struct rlimit many = {1 << 16, 1 << 16};
  if (setrlimit(RLIMIT_NOFILE, &many) == 0) return;
  struct rlimit own;
  getrlimit(RLIMIT_NOFILE, &own);
  own.rlim_cur = own.rlim_max;
  setrlimit(RLIMIT_NOFILE, &own);
}

static inline struct ledger ledger_open(const char* path) {
  const int fd = open(path, O_RDWR | O_CLOEXEC);
  struct stat status;
  struct ledger ledger = {NULL, 0};
  if (fd < 0 || fstat(fd, &status) != 0) {
    perror(path);
    exit(2);
  }
  ledger.bytes = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  ledger.lanes = (uint32_t)((size_t)status.st_size - LEDGER_HEAD_BYTES) / LEDGER_LANE_BYTES;
  close(fd);
  if (ledger.bytes == MAP_FAILED) {
    perror("mmap");
    exit(2);
  }
  return ledger;
}

static inline uint64_t* ledger_lane(const struct ledger* ledger, uint32_t lane) {
  return (uint64_t*)(void*)(ledger->bytes + LEDGER_HEAD_BYTES + lane * LEDGER_LANE_BYTES);
}

/* Whether the clients of this lane and those behind it are to be silent. */
static inline int ledger_paused(const struct ledger* ledger, uint32_t lane) {
  const uint64_t from =
      __atomic_load_n((uint64_t*)(void*)ledger->bytes + LEDGER_PAUSED, __ATOMIC_ACQUIRE);
  return from != 0 && lane + 1 >= from;
}

static inline uint64_t* ledger_server(const struct ledger* ledger) {
  return (uint64_t*)(void*)ledger->bytes;
}

/* Each word has one writer; others only look. */
static inline uint64_t ledger_get(const uint64_t* words, unsigned word) {
  return __atomic_load_n(&words[word], __ATOMIC_ACQUIRE);
}
static inline void ledger_set(uint64_t* words, unsigned word, uint64_t value) {
  __atomic_store_n(&words[word], value, __ATOMIC_RELEASE);
}
static inline void ledger_add(uint64_t* words, unsigned word, uint64_t value) {
  ledger_set(words, word, ledger_get(words, word) + value);
}

static inline void ledger_time(uint64_t* words, uint64_t ns) {
  const unsigned power = 63u - (unsigned)__builtin_clzll(ns | 1);
  const unsigned half = power == 0 ? 0 : (unsigned)(ns >> (power - 1)) & 1u;
  const unsigned bucket = power * 2 + half;
  ledger_add(words, LANE_LATENCY + (bucket < LEDGER_BUCKETS ? bucket : LEDGER_BUCKETS - 1), 1);
  if (ns > ledger_get(words, LANE_LONGEST_NS)) ledger_set(words, LANE_LONGEST_NS, ns);
}

/* -- messages: a head, then bytes that follow from it --------------------------------------------
 */

/* 16 bytes; each word of four bytes behind it is the number times an odd constant, plus its place.
 */
struct ledger_message {
  uint32_t lane;
  uint32_t epoch;
  uint64_t number;
};
#define LEDGER_MESSAGE_BYTES ((uint32_t)sizeof(struct ledger_message))

static inline uint32_t message_word(uint64_t number, uint32_t place) {
  return (uint32_t)number * 0x9e3779b1u + place;
}

/* `bytes` is a multiple of 4, at least the head. */
static inline void message_write(void* to, uint32_t bytes, uint32_t lane, uint64_t epoch,
                                 uint64_t number) {
  const struct ledger_message head = {lane, (uint32_t)epoch, number};
  memcpy(to, &head, sizeof head);
  for (uint32_t at = LEDGER_MESSAGE_BYTES; at < bytes; at += 4) {
    const uint32_t word = message_word(number, at / 4);
    memcpy((uint8_t*)to + at, &word, 4);
  }
}

/* Whether the bytes are those of its head. */
static inline int message_whole(const void* from, uint32_t bytes) {
  struct ledger_message head;
  if (bytes < sizeof head || bytes % 4 != 0) return 0;
  memcpy(&head, from, sizeof head);
  uint32_t difference = 0;
  for (uint32_t at = LEDGER_MESSAGE_BYTES; at < bytes; at += 4) {
    uint32_t word;
    memcpy(&word, (const uint8_t*)from + at, 4);
    difference |= word ^ message_word(head.number, at / 4);
  }
  return difference == 0;
}

#endif
