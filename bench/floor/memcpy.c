/* memcpy.c: what one core needs to copy a payload, without any ring or second process: the bound of
 * every row that moves large payloads.
 *
 *   memcpy --payload 65536 --ring 2097152 --client-cpu 1
 *
 * Copies private memory to successive places of a region of `ring` bytes and reads the region's
 * last word, so that small payloads stay in the cache and large ones do not, as with a ring. */
#define _GNU_SOURCE 1 /* memfd_create, ppoll, sched_setaffinity */

#include "program.h"

int main(int argc, char** argv) {
  struct options options = default_options;
  parse_options(argc, argv, &options);
  if (options.payload_bytes == 0 || options.payload_bytes > options.ring_bytes) {
    fprintf(stderr, "--payload: expected 8 to %u (the ring), got %u\n", options.ring_bytes,
            options.payload_bytes);
    return 2;
  }
  pin(options.client_cpu);
  uint8_t* source = private_memory(options.payload_bytes);
  uint8_t* region = private_memory(options.ring_bytes);
  /* Long enough that the reading of the clock does not count. */
  uint32_t per_sample = options.payload_bytes < 65536 ? 65536 / options.payload_bytes : 1;
  struct samples samples;
  samples_prepare(&samples);

  uint32_t offset = 0;
  uint64_t begin = 0, last = now_ns();
  uint64_t warm = last + (uint64_t)options.warmup_ms * 1000000u;
  uint64_t end = warm + (uint64_t)options.duration_ms * 1000000u;
  while (last < end && samples.count < SAMPLES_MAX) {
    for (uint32_t i = 0; i < per_sample; i++) {
      if (offset + options.payload_bytes > options.ring_bytes) offset = 0;
      memcpy(region + offset, source, options.payload_bytes);
      /* The compiler must believe that somebody reads it. */
      __asm__ volatile("" : : "r"(region + offset) : "memory");
      offset += options.payload_bytes;
    }
    uint64_t now = now_ns();
    if (begin != 0)
      samples_add(&samples, now - last);
    else if (now >= warm)
      begin = now;
    last = now;
  }
  report("memcpy", &options, &samples, per_sample, (uint64_t)samples.count * per_sample,
         last - begin, 0);
  return 0;
}
