/* death.c: a ZeroMQ server is killed while a DEALER waits for its answer. The DEALER would wait for
 * a server that comes back; its monitor says that it was disconnected. */
#include "answer.h"

static uint64_t told_after(const struct options* options) {
  struct pair pair = fork_peers(options);
  if (pair.server == 0) {
    struct socket socket = open_socket(&pair, ZMQ_ROUTER);
    (void)socket;
    for (;;) pause();
  }
  await_server(&pair);
  struct socket socket = open_socket(&pair, ZMQ_DEALER);
  check_zmq("zmq_socket_monitor",
            zmq_socket_monitor(socket.handle, "inproc://monitor", ZMQ_EVENT_DISCONNECTED));
  void* monitor = zmq_socket(socket.context, ZMQ_PAIR);
  check_zmq("zmq_connect", zmq_connect(monitor, "inproc://monitor"));
  uint32_t* payload = private_memory(options->payload_bytes);
  ask(&socket, payload, options, 0);
  settle();
  uint64_t killed = kill_server(&pair);
  uint8_t event[64];
  check_zmq("zmq_recv", zmq_recv(monitor, event, sizeof event, 0));
  return now_ns() - killed;
}

int main(int argc, char** argv) {
  struct options options = peer_defaults;
  parse_options(argc, argv, &options);
  return measure_deaths("zeromq death", &options, told_after);
}
