/* rtt.c: the floor of a blocking round trip: what two C processes need for a call over the
 * library's layout when nothing is in their way.
 *
 *   rtt --wait spin  --payload 64 --client-cpu 1 --server-cpu 0    both sides awake
 *   rtt --wait sleep --payload 64 --client-cpu 1 --server-cpu 0    both asleep between messages
 *   rtt --wait spin  --payload 8 --answer 65536                    a small question, a large answer
 *   rtt --wait sleep --payload 64 --pace-us 1000                   a call each millisecond
 *
 * A call: the client writes its payload into private memory, copies it into the ring, publishes;
 * the server copies it out, reads all of it, writes an answer whose seed is what it read, copies
 * that in; the client copies it out and reads all of it. Four copies. A sample runs from one answer
 * read to the next, with one reading of the clock; with a pace, from the end of a pause to the
 * answer read. */
#define _GNU_SOURCE 1 /* memfd_create, ppoll, sched_setaffinity */

#include "payload.h"
#include "side.h"

static void serve(struct side* side, const struct options* options) {
  uint32_t* request = private_memory(options->payload_bytes);
  uint32_t* answer = private_memory(options->answer_bytes);
  for (;;) {
    struct coroipc_record record;
    uint32_t written = wait_for_record(side);
    ring_read(&side->reader, written, &record, request, options->payload_bytes);
    ring_release_lazily(&side->reader);
    if (record.id == ID_END) return;
    touched_answer(answer, options->answer_bytes, request, record.bytes, options->hand_over);
    struct coroipc_record reply = {.bytes = options->answer_bytes,
                                   .kind = COROIPC_RECORD_RESPONSE,
                                   .correlation = record.correlation,
                                   .sequence = record.sequence};
    send_record(side, &reply, answer);
  }
}

struct client {
  struct side* side;
  const struct options* options;
  uint32_t* request;
  uint32_t* answer;
  uint32_t sequence;
  uint64_t wrong;
};

static void call(struct client* client) {
  const struct options* options = client->options;
  uint32_t seed = client->sequence++;
  touched_fill(client->request, options->payload_bytes, seed, options->hand_over);
  struct coroipc_record record = {.bytes = options->payload_bytes,
                                  .id = ID_CALL,
                                  .kind = COROIPC_RECORD_REQUEST,
                                  .correlation = seed & 0xffu,
                                  .sequence = seed};
  send_record(client->side, &record, client->request);
  struct coroipc_record reply;
  uint32_t written = wait_for_record(client->side);
  ring_read(&client->side->reader, written, &reply, client->answer, options->answer_bytes);
  ring_release_lazily(&client->side->reader);
  client->wrong += reply.correlation != record.correlation ||
                   reply.bytes != options->answer_bytes ||
                   !touched_answer_right(client->answer, reply.bytes, options->payload_bytes, seed,
                                         options->hand_over);
}

int main(int argc, char** argv) {
  struct options options = default_options;
  parse_options(argc, argv, &options);
  uint32_t larger = larger_bytes(&options);
  if (record_bytes(larger) > options.ring_bytes / 2) {
    fprintf(stderr, "--payload: expected a record of at most half the ring (%u), got %u\n",
            options.ring_bytes / 2, larger);
    return 2;
  }
  require_two_cpus_to_spin(&options);
  struct segment segment = segment_create(options.ring_bytes);
  struct pair pair = fork_pair();
  struct side side = side_of(&pair, &segment, &options);
  if (pair.server == 0) {
    serve(&side, &options);
    return 0;
  }

  struct client client = {.side = &side,
                          .options = &options,
                          .request = private_memory(options.payload_bytes),
                          .answer = private_memory(options.answer_bytes)};
  const struct timespec pace = {options.pace_us / 1000000,
                                (long)(options.pace_us % 1000000) * 1000};
  struct measured measured = {.operations_per_sample = 1};
  struct samples* samples = &measured.samples;
  samples_prepare(samples);
  uint64_t warm = now_ns() + (uint64_t)options.warmup_ms * 1000000u;
  while (now_ns() < warm) call(&client);

  measured.cpu = cpu_begin(pair.server);
  uint64_t begin = now_ns(), last = begin;
  uint64_t end = begin + (uint64_t)options.duration_ms * 1000000u;
  while (last < end && samples->count < SAMPLES_MAX) {
    if (options.pace_us != 0) {
      (void)nanosleep(&pace, NULL);
      last = now_ns();
    }
    call(&client);
    uint64_t now = now_ns();
    samples_add(samples, now - last);
    last = now;
  }
  cpu_end(&measured.cpu);

  end_server(&side, &pair);
  measured.operations = samples->count;
  measured.elapsed_ns = last - begin;
  measured.wrong = client.wrong;
  report_measured("rtt", &options, &measured);
  return client.wrong == 0 ? 0 : 1;
}
