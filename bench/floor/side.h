/* side.h: one of the two sides of a round trip: a ring to write, a ring to read, and waiting in
 * between, by looking or asleep. */
#ifndef COROIPC_BENCH_SIDE_H
#define COROIPC_BENCH_SIDE_H

#include "doorbell.h"
#include "process.h"
#include "program.h"
#include "ring.h"

#define ID_CALL 0
#define ID_END 1

struct side {
  struct doorbell doorbell;
  struct ring_writer writer;
  struct ring_reader reader;
  bool sleeping;
  int epoll; /* the server's; -1 in the client */
};

/* Waits until something is published and returns how far. */
static inline uint32_t wait_for_record(struct side* side) {
  uint32_t turns = 0;
  for (;;) {
    uint32_t written = ring_written(&side->reader);
    if (written != side->reader.position) return written;
    if (!side->sleeping) {
      spin_turn(&side->doorbell, &turns);
    } else if (reader_arm(&side->reader)) {
      if (side->epoll < 0)
        doorbell_wait_poll(&side->doorbell);
      else
        doorbell_wait_epoll(&side->doorbell, side->epoll);
    }
  }
}

static inline void send_record(struct side* side, const struct coroipc_record* record,
                               const void* payload) {
  uint32_t turns = 0;
  /* One call in flight: room is missing only until the other side's lazy release. */
  while (!ring_write(&side->writer, record, payload)) spin_turn(&side->doorbell, &turns);
  ring_publish(&side->writer);
  if (side->sleeping) reader_wake(&side->doorbell, &side->writer);
}

/* The client's side in the parent, the server's in the child; pinned. */
static inline struct side side_of(const struct pair* pair, const struct segment* segment,
                                  const struct options* options) {
  bool server = pair->server == 0;
  pin(server ? options->server_cpu : options->client_cpu);
  return (struct side){
      .doorbell = pair->doorbell,
      .writer = segment_writer(segment, server ? COROIPC_RING_RESPONSE : COROIPC_RING_REQUEST),
      .reader = segment_reader(segment, server ? COROIPC_RING_REQUEST : COROIPC_RING_RESPONSE),
      .sleeping = options->sleeping,
      .epoll = server ? doorbell_epoll(&pair->doorbell) : -1};
}

static inline void require_two_cpus_to_spin(const struct options* options) {
  if (options->sleeping || options->client_cpu < 0 || options->client_cpu != options->server_cpu)
    return;
  fprintf(stderr,
          "--wait spin: expected two CPUs, got one: each would wait for the other's slice\n");
  exit(2);
}

/* The client's last word. */
static inline void end_server(struct side* side, const struct pair* pair) {
  struct coroipc_record goodbye = {.id = ID_END, .kind = COROIPC_RECORD_SEND};
  send_record(side, &goodbye, &goodbye);
  join_server(pair);
}

#endif
