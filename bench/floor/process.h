/* process.h: the two processes of a floor: one program that forks, the parent is the client. */
#ifndef COROIPC_BENCH_PROCESS_H
#define COROIPC_BENCH_PROCESS_H

#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "doorbell.h"
#include "program.h"

struct pair {
  pid_t server; /* 0 in the server itself */
  struct doorbell doorbell;
};

static inline struct pair fork_pair(void) {
  int sockets[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sockets) != 0)
    fail("socketpair");
  pid_t client = getpid();
  pid_t server = fork();
  if (server < 0) fail("fork");
  if (server == 0) {
    /* A spinning server must not outlive a client that was killed. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != client) fail("prctl");
    close(sockets[0]);
    return (struct pair){0, {sockets[1], pidfd_of(client)}};
  }
  close(sockets[1]);
  return (struct pair){server, {sockets[0], pidfd_of(server)}};
}

/* In the client, after it told the server to end. */
static inline void join_server(const struct pair* pair) {
  int status = 0;
  if (waitpid(pair->server, &status, 0) != pair->server) fail("waitpid");
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    fprintf(stderr, "the server process failed\n");
    exit(1);
  }
}

/* A look costs nothing; a check for a dead peer in each would. Called in every turn of a spin. */
static inline void spin_turn(const struct doorbell* doorbell, uint32_t* turns) {
  if ((++*turns & 0xfffffu) != 0) return;
  struct pollfd peer = {doorbell->peer, POLLIN, 0};
  if (poll(&peer, 1, 0) != 0) fail("the other side died");
}

#endif
