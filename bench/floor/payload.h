/* payload.h: what every subject of the benchmark writes into a payload and reads out of it again.
 *
 * A payload is a row of little-endian u32 words: word[i] = seed + i. Its checksum is the wrapping
 * sum of all words, so whoever knows the seed knows the sum without a second buffer.
 * bench/payload.ts is the same in TypeScript. A subject that hands over memory without anybody
 * writing and reading it would measure nothing that a user pays for. */
#ifndef COROIPC_BENCH_PAYLOAD_H
#define COROIPC_BENCH_PAYLOAD_H

#include <stdbool.h>
#include <stdint.h>

/* `hand_over`: only the first word of each 4 KiB is written and read, so that what is measured is
 * the way, not the reading; a row says so. */
#define HAND_OVER_WORDS 1024u

static inline void payload_fill(uint32_t* words, uint32_t bytes, uint32_t seed) {
  uint32_t count = bytes / 4;
  for (uint32_t i = 0; i < count; i++) words[i] = seed + i;
}

static inline uint32_t payload_sum(const uint32_t* words, uint32_t bytes) {
  uint32_t count = bytes / 4;
  uint32_t sum = 0;
  for (uint32_t i = 0; i < count; i++) sum += words[i];
  return sum;
}

static inline uint32_t payload_sum_expected(uint32_t bytes, uint32_t seed) {
  uint64_t count = bytes / 4;
  return (uint32_t)(count * seed + count * (count - 1) / 2);
}

/* The same, where a program can be told to do either. */
static inline void touched_fill(uint32_t* words, uint32_t bytes, uint32_t seed, bool hand_over) {
  if (!hand_over) {
    payload_fill(words, bytes, seed);
    return;
  }
  for (uint32_t i = 0; i < bytes / 4; i += HAND_OVER_WORDS) words[i] = seed + i;
}

static inline uint32_t touched_sum(const uint32_t* words, uint32_t bytes, bool hand_over) {
  if (!hand_over) return payload_sum(words, bytes);
  uint32_t sum = 0;
  for (uint32_t i = 0; i < bytes / 4; i += HAND_OVER_WORDS) sum += words[i];
  return sum;
}

static inline uint32_t touched_sum_expected(uint32_t bytes, uint32_t seed, bool hand_over) {
  if (!hand_over) return payload_sum_expected(bytes, seed);
  uint64_t count = (bytes / 4 + HAND_OVER_WORDS - 1) / HAND_OVER_WORDS;
  return (uint32_t)(count * seed + HAND_OVER_WORDS * (count * (count - 1) / 2));
}

#endif
