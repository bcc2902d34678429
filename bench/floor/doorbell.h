/* doorbell.h: sleeping and waking as the library does it: one byte on an AF_UNIX SOCK_SEQPACKET
 * socket, rung only when the reader said that it sleeps.
 *
 *    writer:  write record ; publish ; if load(reader_sleep) and exchange(reader_sleep, 0): ring
 *    reader:  reader_sleep := 1 ; look again ; nothing: block on [socket, pidfd] ; loop
 *
 * The flag is cleared by an exchange, by whoever takes it: a writer that clears it by a plain store
 * after the test can wipe out the reader's next flag, and both sleep. */
#ifndef COROIPC_BENCH_DOORBELL_H
#define COROIPC_BENCH_DOORBELL_H

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "program.h"
#include "ring.h"

/* The longest that a floor waits for its other half before it calls the run broken. */
#define STALL_MS 5000

struct doorbell {
  int socket;
  int peer; /* pidfd of the other process */
};

static inline int pidfd_of(pid_t pid) {
  int fd = (int)syscall(SYS_pidfd_open, pid, 0);
  if (fd < 0) fail("pidfd_open");
  return fd;
}

static inline void doorbell_ring(const struct doorbell* doorbell) {
  const uint8_t byte = COROIPC_SOCKET_DOORBELL;
  if (send(doorbell->socket, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1) return;
  if (errno == EAGAIN) return; /* the queue is full of rings: the peer will wake */
  fail("send");
}

/* Takes one ring. There is rarely a second, and one left over only wakes once more for nothing. */
static inline void doorbell_take(const struct doorbell* doorbell) {
  uint8_t byte;
  ssize_t got = recv(doorbell->socket, &byte, 1, MSG_DONTWAIT);
  if (got == 1 || (got < 0 && errno == EAGAIN)) return;
  if (got == 0) errno = EPIPE;
  fail("recv");
}

/* After ring_publish. */
static inline void reader_wake(const struct doorbell* doorbell, struct ring_writer* writer) {
  /* ORDER sleep-armed (seq_cst; pairs with reader_arm): this load comes after the publication in
   * the one order of all seq_cst accesses; either we see the flag, or the reader's second look sees
   * the record. */
  if (__atomic_load_n(&writer->words->reader_sleep, __ATOMIC_SEQ_CST) != 0 &&
      __atomic_exchange_n(&writer->words->reader_sleep, 0, __ATOMIC_SEQ_CST) != 0)
    doorbell_ring(doorbell);
}

/* True: nothing there, the caller may block. */
static inline bool reader_arm(struct ring_reader* reader) {
  ring_release(reader);
  /* ORDER sleep-armed: see reader_wake. */
  __atomic_store_n(&reader->words->reader_sleep, 1, __ATOMIC_SEQ_CST);
  if (ring_written(reader) == reader->position) return true;
  __atomic_exchange_n(&reader->words->reader_sleep, 0, __ATOMIC_SEQ_CST);
  return false;
}

/* The client's blocking wait. */
static inline void doorbell_wait_poll(const struct doorbell* doorbell) {
  struct pollfd fds[2] = {{doorbell->socket, POLLIN, 0}, {doorbell->peer, POLLIN, 0}};
  struct timespec stall = {STALL_MS / 1000, 0};
  int ready = ppoll(fds, 2, &stall, NULL);
  if (ready < 0 && errno == EINTR) return;
  if (ready <= 0) fail(ready == 0 ? "ppoll: the other side stalled" : "ppoll");
  if (fds[0].revents & POLLIN)
    doorbell_take(doorbell);
  else if (fds[1].revents)
    fail("the other side died");
}

/* The server's: an epoll set, as a server with many connections has one. */
static inline int doorbell_epoll(const struct doorbell* doorbell) {
  int set = epoll_create1(EPOLL_CLOEXEC);
  if (set < 0) fail("epoll_create1");
  struct epoll_event event = {.events = EPOLLIN, .data.fd = doorbell->socket};
  if (epoll_ctl(set, EPOLL_CTL_ADD, doorbell->socket, &event) != 0) fail("epoll_ctl");
  event.data.fd = doorbell->peer;
  if (epoll_ctl(set, EPOLL_CTL_ADD, doorbell->peer, &event) != 0) fail("epoll_ctl");
  return set;
}

static inline void doorbell_wait_epoll(const struct doorbell* doorbell, int set) {
  struct epoll_event events[2];
  int ready = epoll_wait(set, events, 2, STALL_MS);
  if (ready < 0 && errno == EINTR) return;
  if (ready <= 0) fail(ready == 0 ? "epoll_wait: the other side stalled" : "epoll_wait");
  bool rung = false;
  for (int i = 0; i < ready; i++) rung = rung || events[i].data.fd == doorbell->socket;
  if (!rung) fail("the other side died");
  doorbell_take(doorbell);
}

#endif
