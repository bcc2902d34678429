/* rtt.c: the floor of a blocking round trip: what two C processes need for a call over the
 * library's layout when nothing is in their way.
 *
 *   rtt --wait spin  --payload 64 --client-cpu 1 --server-cpu 0    both sides awake
 *   rtt --wait sleep --payload 64 --client-cpu 1 --server-cpu 0    both sides asleep between
 * messages
 *
 * A call: the client writes its payload into private memory, copies it into the ring, publishes;
 * the server copies it out, reads all of it, writes an answer of the same size whose seed is the
 * sum it read, copies that in; the client copies it out and reads all of it. Four copies. A sample
 * runs from one answer read to the next, with one reading of the clock. */
#define _GNU_SOURCE 1 /* memfd_create, ppoll, sched_setaffinity */

#include "doorbell.h"
#include "payload.h"
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
static uint32_t wait_for_record(struct side* side) {
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

static void send_record(struct side* side, const struct coroipc_record* record,
                        const void* payload) {
  uint32_t turns = 0;
  /* One call in flight: room is missing only until the other side's lazy release. */
  while (!ring_write(&side->writer, record, payload)) spin_turn(&side->doorbell, &turns);
  ring_publish(&side->writer);
  if (side->sleeping) reader_wake(&side->doorbell, &side->writer);
}

static void serve(struct side* side, const struct options* options) {
  uint32_t* request = private_memory(options->payload_bytes);
  uint32_t* answer = private_memory(options->payload_bytes);
  for (;;) {
    struct coroipc_record record;
    uint32_t written = wait_for_record(side);
    ring_read(&side->reader, written, &record, request, options->payload_bytes);
    ring_release_lazily(&side->reader);
    if (record.id == ID_END) return;
    uint32_t sum = payload_sum(request, record.bytes);
    payload_fill(answer, record.bytes, sum);
    struct coroipc_record reply = {.bytes = record.bytes,
                                   .kind = COROIPC_RECORD_RESPONSE,
                                   .correlation = record.correlation,
                                   .sequence = record.sequence};
    send_record(side, &reply, answer);
  }
}

struct client {
  struct side* side;
  uint32_t payload_bytes;
  uint32_t* request;
  uint32_t* answer;
  uint32_t sequence;
  uint64_t wrong;
};

static void call(struct client* client) {
  uint32_t seed = client->sequence++;
  payload_fill(client->request, client->payload_bytes, seed);
  struct coroipc_record record = {.bytes = client->payload_bytes,
                                  .id = ID_CALL,
                                  .kind = COROIPC_RECORD_REQUEST,
                                  .correlation = seed & 0xffu,
                                  .sequence = seed};
  send_record(client->side, &record, client->request);
  struct coroipc_record reply;
  uint32_t written = wait_for_record(client->side);
  ring_read(&client->side->reader, written, &reply, client->answer, client->payload_bytes);
  ring_release_lazily(&client->side->reader);
  uint32_t sum = payload_sum(client->answer, reply.bytes);
  uint32_t answer_seed = payload_sum_expected(client->payload_bytes, seed);
  client->wrong += reply.correlation != record.correlation || reply.bytes != record.bytes ||
                   sum != payload_sum_expected(client->payload_bytes, answer_seed);
}

int main(int argc, char** argv) {
  struct options options = {.payload_bytes = 64,
                            .ring_bytes = 256 << 10,
                            .batch = 1,
                            .warmup_ms = 200,
                            .duration_ms = 700,
                            .client_cpu = -1,
                            .server_cpu = -1};
  parse_options(argc, argv, &options);
  if (record_bytes(options.payload_bytes) > options.ring_bytes / 2) {
    fprintf(stderr, "--payload: expected a record of at most half the ring (%u), got %u\n",
            options.ring_bytes / 2, options.payload_bytes);
    return 2;
  }
  if (!options.sleeping && options.client_cpu >= 0 && options.client_cpu == options.server_cpu) {
    fprintf(stderr,
            "--wait spin: expected two CPUs, got one: each would wait for the other's slice\n");
    return 2;
  }
  struct segment segment = segment_create(options.ring_bytes);
  struct pair pair = fork_pair();
  bool is_server = pair.server == 0;
  pin(is_server ? options.server_cpu : options.client_cpu);
  struct side side = {
      .doorbell = pair.doorbell,
      .writer = segment_writer(&segment, is_server ? COROIPC_RING_RESPONSE : COROIPC_RING_REQUEST),
      .reader = segment_reader(&segment, is_server ? COROIPC_RING_REQUEST : COROIPC_RING_RESPONSE),
      .sleeping = options.sleeping,
      .epoll = is_server ? doorbell_epoll(&pair.doorbell) : -1};
  if (is_server) {
    serve(&side, &options);
    return 0;
  }

  struct client client = {.side = &side,
                          .payload_bytes = options.payload_bytes,
                          .request = private_memory(options.payload_bytes),
                          .answer = private_memory(options.payload_bytes)};
  struct samples samples;
  samples_prepare(&samples);
  uint64_t warm = now_ns() + (uint64_t)options.warmup_ms * 1000000u;
  while (now_ns() < warm) call(&client);

  uint64_t begin = now_ns(), last = begin;
  uint64_t end = begin + (uint64_t)options.duration_ms * 1000000u;
  while (last < end && samples.count < SAMPLES_MAX) {
    call(&client);
    uint64_t now = now_ns();
    samples_add(&samples, now - last);
    last = now;
  }

  struct coroipc_record goodbye = {.id = ID_END, .kind = COROIPC_RECORD_SEND};
  send_record(&side, &goodbye, client.request);
  join_server(&pair);
  report("rtt", &options, &samples, 1, samples.count, last - begin, client.wrong);
  return client.wrong == 0 ? 0 : 1;
}
