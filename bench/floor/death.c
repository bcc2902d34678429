/* death.c: the floor of being told of a death: a client that waits on a socket and on the pidfd of
 * its server, which is then killed.
 *
 *   death --kills 30 --client-cpu 1 --server-cpu 0
 *
 * A sample runs from before kill(2) to the return of ppoll(2). The server is a C process that
 * sleeps: the kernel tells only after it has taken the process's memory down, so the more memory
 * one has, the later its death is known. */
#define _GNU_SOURCE 1 /* memfd_create, ppoll, sched_setaffinity */

#include "process.h"
#include "program.h"

int main(int argc, char** argv) {
  struct options options = default_options;
  options.payload_bytes = 0;
  parse_options(argc, argv, &options);
  struct measured measured = {.operations_per_sample = 1};
  samples_prepare(&measured.samples);
  const struct timespec settle = {0, 5000000}, stall = {STALL_MS / 1000, 0};
  uint64_t begin = now_ns();
  for (uint32_t i = 0; i < options.kills; i++) {
    struct pair pair = fork_pair();
    if (pair.server == 0) {
      pin(options.server_cpu);
      for (;;) pause();
    }
    pin(options.client_cpu);
    (void)nanosleep(&settle, NULL);
    uint64_t killed = now_ns();
    if (kill(pair.server, SIGKILL) != 0) fail("kill");
    struct pollfd fds[2] = {{pair.doorbell.socket, POLLIN, 0}, {pair.doorbell.peer, POLLIN, 0}};
    if (ppoll(fds, 2, &stall, NULL) <= 0) fail("ppoll");
    samples_add(&measured.samples, now_ns() - killed);
    (void)waitpid(pair.server, NULL, 0);
    close(pair.doorbell.socket);
    close(pair.doorbell.peer);
  }
  measured.operations = options.kills;
  measured.elapsed_ns = now_ns() - begin;
  report_measured("death", &options, &measured);
  return 0;
}
