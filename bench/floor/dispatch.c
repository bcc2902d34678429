/* dispatch.c: the floor of one-way throughput, server to client: both sides awake, one core each.
 *
 *   dispatch --payload 64 --batch 64 --client-cpu 1 --server-cpu 0
 *
 * The server writes each payload into private memory and copies it into the ring; it publishes
 * after `batch` records. The client takes all it finds: each record is copied out into a 64 KiB
 * slab that is filled by bumping, as the library's owned payloads are, and read in full. Two copies
 * a message; with --copies 1 it is read where it lies in the ring. A sample is the time of up to
 * 1024 messages at the client (one, if they are large); the figures are per message. */
#define _GNU_SOURCE 1 /* memfd_create, ppoll, sched_setaffinity */

#include "payload.h"
#include "process.h"
#include "program.h"
#include "ring.h"

#define SLAB_BYTES 65536u

/* Ends when the client says so in the word that the library keeps for that. */
static void serve(const struct pair* pair, const struct segment* segment,
                  const struct options* options) {
  struct ring_writer writer = segment_writer(segment, COROIPC_RING_DISPATCH);
  uint32_t* payload = private_memory(options->payload_bytes);
  uint32_t sequence = 0, turns = 0;
  while (__atomic_load_n(&segment->control->client.client_closed, __ATOMIC_RELAXED) == 0) {
    for (uint32_t i = 0; i < options->batch; i++) {
      touched_fill(payload, options->payload_bytes, sequence, options->hand_over);
      struct coroipc_record record = {.bytes = options->payload_bytes,
                                      .id = 3,
                                      .kind = COROIPC_RECORD_DISPATCH,
                                      .sequence = sequence};
      while (!ring_write(&writer, &record, payload)) {
        ring_publish(&writer); /* the reader needs what is there to make room */
        spin_turn(&pair->doorbell, &turns);
        if (__atomic_load_n(&segment->control->client.client_closed, __ATOMIC_RELAXED) != 0) return;
      }
      sequence++;
    }
    ring_publish(&writer);
  }
}

struct client {
  const struct doorbell* doorbell;
  struct ring_reader reader;
  uint32_t payload_bytes;
  bool in_place;
  bool hand_over;
  uint8_t* slab;
  uint32_t slab_bytes;
  uint32_t slab_used;
  uint32_t written; /* the writer's position as last loaded */
  uint32_t sequence;
  uint32_t turns;
  uint64_t wrong;
};

static void receive(struct client* client) {
  uint32_t place_bytes = (client->payload_bytes + 7u) & ~7u;
  while (client->written == client->reader.position) {
    client->written = ring_written(&client->reader);
    if (client->written != client->reader.position) break;
    /* Empty: the writer may be waiting for the last eighth. */
    if (client->reader.published != client->reader.position) ring_release(&client->reader);
    spin_turn(client->doorbell, &client->turns);
  }
  struct coroipc_record record;
  const uint8_t* place;
  if (client->in_place) {
    place = ring_peek(&client->reader, client->written, &record, client->payload_bytes);
  } else {
    if (client->slab_used + place_bytes > client->slab_bytes) client->slab_used = 0;
    uint8_t* own = client->slab + client->slab_used;
    client->slab_used += place_bytes;
    ring_read(&client->reader, client->written, &record, own, client->payload_bytes);
    ring_release_lazily(&client->reader);
    place = own;
  }
  client->wrong += record.bytes != client->payload_bytes || record.sequence != client->sequence ||
                   !touched_right((const uint32_t*)(const void*)place, record.bytes,
                                  client->sequence, client->hand_over);
  client->sequence++;
  if (client->in_place) {
    ring_skip(&client->reader, &record);
    ring_release_lazily(&client->reader);
  }
}

int main(int argc, char** argv) {
  struct options options = default_options;
  options.ring_bytes = 512 << 10;
  options.batch = 64;
  parse_options(argc, argv, &options);
  if (record_bytes(options.payload_bytes) > options.ring_bytes / 2) {
    fprintf(stderr, "--payload: expected a record of at most half the ring (%u), got %u\n",
            options.ring_bytes / 2, options.payload_bytes);
    return 2;
  }
  if (options.sleeping || (options.client_cpu >= 0 && options.client_cpu == options.server_cpu)) {
    fprintf(stderr, "dispatch: this floor spins, on two CPUs\n");
    return 2;
  }
  struct segment segment = segment_create(options.ring_bytes);
  struct pair pair = fork_pair();
  pin(pair.server == 0 ? options.server_cpu : options.client_cpu);
  if (pair.server == 0) {
    serve(&pair, &segment, &options);
    return 0;
  }

  uint32_t slab_bytes = options.payload_bytes > SLAB_BYTES ? options.payload_bytes : SLAB_BYTES;
  struct client client = {.doorbell = &pair.doorbell,
                          .reader = segment_reader(&segment, COROIPC_RING_DISPATCH),
                          .payload_bytes = options.payload_bytes,
                          .in_place = options.copies == 1,
                          .hand_over = options.hand_over,
                          .slab = private_memory(slab_bytes),
                          .slab_bytes = slab_bytes};
  uint32_t per_sample = messages_per_sample(options.payload_bytes);
  struct measured measured = {.operations_per_sample = per_sample};
  struct samples* samples = &measured.samples;
  samples_prepare(samples);
  uint64_t warm = now_ns() + (uint64_t)options.warmup_ms * 1000000u;
  while (now_ns() < warm) receive(&client);

  measured.cpu = cpu_begin(pair.server);
  uint64_t begin = now_ns(), last = begin;
  uint64_t end = begin + (uint64_t)options.duration_ms * 1000000u;
  while (last < end && samples->count < SAMPLES_MAX) {
    for (uint32_t i = 0; i < per_sample; i++) receive(&client);
    uint64_t now = now_ns();
    samples_add(samples, now - last);
    last = now;
  }
  cpu_end(&measured.cpu);

  __atomic_store_n(&segment.control->client.client_closed, 1, __ATOMIC_RELAXED);
  join_server(&pair);
  measured.operations = (uint64_t)samples->count * per_sample;
  measured.elapsed_ns = last - begin;
  measured.wrong = client.wrong;
  report_measured("dispatch", &options, &measured);
  return client.wrong == 0 ? 0 : 1;
}
