/* zeromq.h: sockets of libzmq on ipc://, in the abstract namespace: nothing stays behind. Each side
 * has libzmq's one I/O thread, on the CPU of its process. */
#ifndef COROIPC_BENCH_ZEROMQ_H
#define COROIPC_BENCH_ZEROMQ_H

#include <zmq.h>

#include "../peer.h"

/* A message of one byte, which no payload is: the end. */
static const uint8_t goodbye = 1;

static inline void check_zmq(const char* what, int result) {
  if (result >= 0) return;
  fprintf(stderr, "%s: %s\n", what, zmq_strerror(zmq_errno()));
  exit(1);
}

struct socket {
  void* context;
  void* handle;
};

/* After the fork and the pinning: its I/O thread begins here. */
/* `queue`: how many messages may wait, on each side; 0: its default, 1000. */
static inline struct socket open_socket_in(void* context, const struct pair* pair, int type,
                                           int queue) {
  struct socket socket = {.context = context};
  socket.handle = socket.context == NULL ? NULL : zmq_socket(socket.context, type);
  if (socket.handle == NULL) check_zmq("zmq_socket", -1);
  int stall = STALL_MS;
  check_zmq("ZMQ_RCVTIMEO", zmq_setsockopt(socket.handle, ZMQ_RCVTIMEO, &stall, sizeof stall));
  check_zmq("ZMQ_SNDTIMEO", zmq_setsockopt(socket.handle, ZMQ_SNDTIMEO, &stall, sizeof stall));
  /* The client's goodbye must go out before it closes; what a server has left nobody wants. */
  int linger = pair->server == 0 ? 0 : STALL_MS;
  check_zmq("ZMQ_LINGER", zmq_setsockopt(socket.handle, ZMQ_LINGER, &linger, sizeof linger));
  if (queue != 0) {
    check_zmq("ZMQ_SNDHWM", zmq_setsockopt(socket.handle, ZMQ_SNDHWM, &queue, sizeof queue));
    check_zmq("ZMQ_RCVHWM", zmq_setsockopt(socket.handle, ZMQ_RCVHWM, &queue, sizeof queue));
  }
  char address[64];
  bool is_server = pair->server == 0;
  snprintf(address, sizeof address, "ipc://@coroipc-bench-%d",
           (int)(is_server ? getppid() : getpid()));
  if (is_server) {
    check_zmq("zmq_bind", zmq_bind(socket.handle, address));
    server_ready(pair);
  } else {
    check_zmq("zmq_connect", zmq_connect(socket.handle, address));
  }
  return socket;
}

static inline struct socket open_socket(const struct pair* pair, int type) {
  return open_socket_in(zmq_ctx_new(), pair, type, 0);
}

static inline void close_socket(struct socket* socket) {
  check_zmq("zmq_close", zmq_close(socket->handle));
  check_zmq("zmq_ctx_term", zmq_ctx_term(socket->context));
}

/* The bytes received; above `bytes_max` the rest was cut off by zmq_recv. */
static inline uint32_t receive(struct socket* socket, void* into, uint32_t bytes_max) {
  int got = zmq_recv(socket->handle, into, bytes_max, 0);
  check_zmq("zmq_recv", got);
  return (uint32_t)got;
}

#endif
