/* handover.c: the floor of a payload that nobody copies: it lies in memory that both processes map,
 * and only a reference to it travels.
 *
 *   handover --payload 1048576 --touch full         written and read in full
 *   handover --payload 1048576 --touch hand-over    one word a page: the hand-over alone
 *
 * A call: the client writes the payload where it lies, sends a record with a reference to it; the
 * server reads it there and answers with 8 bytes whose seed is what it read. No copy of the
 * payload. The library's reference is checked; here only its bounds are. */
#define _GNU_SOURCE 1 /* memfd_create, ppoll, sched_setaffinity */

#include "payload.h"
#include "side.h"

#define ANSWER_BYTES 8u

static uint32_t* shared_memory(uint32_t bytes) {
  int fd = memfd_create("coroipc-floor-payload", MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, bytes) != 0) fail("memfd_create");
  void* memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
  if (memory == MAP_FAILED) fail("mmap");
  close(fd);
  return memory;
}

static void serve(struct side* side, const struct options* options, const uint32_t* shared) {
  uint32_t answer[ANSWER_BYTES / 4];
  for (;;) {
    struct coroipc_record record;
    struct coroipc_segment_reference reference;
    uint32_t written = wait_for_record(side);
    ring_read(&side->reader, written, &record, &reference, sizeof reference);
    ring_release_lazily(&side->reader);
    if (record.id == ID_END) return;
    if (reference.offset != 0 || reference.bytes > options->payload_bytes) {
      errno = EBADMSG;
      fail("reference");
    }
    touched_answer(answer, sizeof answer, shared, reference.bytes, options->hand_over);
    struct coroipc_record reply = {.bytes = sizeof answer,
                                   .kind = COROIPC_RECORD_RESPONSE,
                                   .correlation = record.correlation,
                                   .sequence = record.sequence};
    send_record(side, &reply, answer);
  }
}

/* True: the answer was right. */
static bool call(struct side* side, const struct options* options, uint32_t* shared,
                 uint32_t seed) {
  touched_fill(shared, options->payload_bytes, seed, options->hand_over);
  const struct coroipc_segment_reference reference = {.bytes = options->payload_bytes};
  struct coroipc_record record = {.bytes = sizeof reference,
                                  .id = ID_CALL,
                                  .kind = COROIPC_RECORD_REQUEST,
                                  .flags = COROIPC_FLAG_SEGMENT,
                                  .correlation = seed & 0xffu,
                                  .sequence = seed};
  send_record(side, &record, &reference);
  struct coroipc_record reply;
  uint32_t answer[ANSWER_BYTES / 4];
  uint32_t written = wait_for_record(side);
  ring_read(&side->reader, written, &reply, answer, sizeof answer);
  ring_release_lazily(&side->reader);
  return reply.correlation == record.correlation && reply.bytes == sizeof answer &&
         touched_answer_right(answer, sizeof answer, options->payload_bytes, seed,
                              options->hand_over);
}

int main(int argc, char** argv) {
  struct options options = default_options;
  options.payload_bytes = 1 << 20;
  parse_options(argc, argv, &options);
  if (options.payload_bytes == 0) {
    fprintf(stderr, "--payload: expected at least 8, got 0\n");
    return 2;
  }
  require_two_cpus_to_spin(&options);
  uint32_t* shared = shared_memory(options.payload_bytes);
  struct segment segment = segment_create(options.ring_bytes);
  struct pair pair = fork_pair();
  struct side side = side_of(&pair, &segment, &options);
  if (pair.server == 0) {
    serve(&side, &options, shared);
    return 0;
  }

  struct measured measured = {.operations_per_sample = 1};
  struct samples* samples = &measured.samples;
  samples_prepare(samples);
  uint32_t seed = 0;
  uint64_t warm = now_ns() + (uint64_t)options.warmup_ms * 1000000u;
  while (now_ns() < warm) measured.wrong += !call(&side, &options, shared, seed++);

  measured.cpu = cpu_begin(pair.server);
  uint64_t begin = now_ns(), last = begin;
  uint64_t end = begin + (uint64_t)options.duration_ms * 1000000u;
  while (last < end && samples->count < SAMPLES_MAX) {
    measured.wrong += !call(&side, &options, shared, seed++);
    uint64_t now = now_ns();
    samples_add(samples, now - last);
    last = now;
  }
  cpu_end(&measured.cpu);

  end_server(&side, &pair);
  measured.operations = samples->count;
  measured.elapsed_ns = last - begin;
  report_measured("handover", &options, &measured);
  return measured.wrong == 0 ? 0 : 1;
}
