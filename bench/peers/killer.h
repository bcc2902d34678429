/* killer.h: a thread that kills the server soon, for a client that blocks in a call. */
#ifndef COROIPC_BENCH_KILLER_H
#define COROIPC_BENCH_KILLER_H

#include <pthread.h>

#include "peer.h"

struct killer {
  pthread_t thread;
};

/* Returns where it says when it was. */
static void* kill_soon(void* argument) {
  static uint64_t killed_ns;
  settle();
  killed_ns = kill_server(argument);
  return &killed_ns;
}

/* `pair` must live until killer_join. */
static inline struct killer killer_start(struct pair* pair) {
  struct killer killer;
  if (pthread_create(&killer.thread, NULL, kill_soon, pair) != 0) fail("pthread_create");
  return killer;
}

/* The time before kill(2). */
static inline uint64_t killer_join(const struct killer* killer) {
  void* killed_ns;
  if (pthread_join(killer->thread, &killed_ns) != 0) fail("pthread_join");
  return *(uint64_t*)killed_ns;
}

#endif
