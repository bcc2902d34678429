/* payload.h: what every subject of the benchmark writes into a payload and reads out of it again.
 *
 * Below 4 KiB a payload is a row of little-endian u32 words: word[i] = seed + i. Its digest is the
 * wrapping sum of all words, so whoever knows the seed knows the digest without a second buffer.
 *
 * From 4 KiB on, such loops would be the larger part of what is measured, and more so in
 * JavaScript, which has no vector instructions. There a payload is written by memcpy and read by
 * memcmp, chunks of 256 KiB at a time: chunk k is a window of a template that both sides have, and
 * its first word is seed + k, which also says which window: 61 of them, 64 bytes apart, that differ
 * in every word. So a chunk of another message, or from another place, is a wrong one. The digest
 * says which seed was read.
 *
 * bench/payload.ts is the same in TypeScript; test/house/bench-payload.test.ts compares them. A
 * subject that hands over memory without anybody writing and reading it would measure nothing that
 * a user pays for. */
#ifndef COROIPC_BENCH_PAYLOAD_H
#define COROIPC_BENCH_PAYLOAD_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define BULK_BYTES 4096u
#define CHUNK_BYTES 262144u
#define WINDOWS 61u /* a prime: no ring has room for just so many messages again and again */
#define WINDOW_WORDS 16u
/* An answer to a bulk payload must not be the payload. */
#define BULK_DIGEST 0x5bd1e995u

/* `hand_over`: only the first word of each 4 KiB is written and read, so that what is measured is
 * the way, not the reading; a row says so. */
#define HAND_OVER_WORDS 1024u

/* The words of chunk k of a payload. */
static inline const uint32_t* payload_window(uint32_t seed_and_k) {
  static uint32_t words[CHUNK_BYTES / 4 + WINDOWS * WINDOW_WORDS];
  static bool written;
  if (!written) {
    for (uint32_t i = 0; i < sizeof words / 4; i++) words[i] = (i + 1) * 0x9e3779b1u;
    written = true;
  }
  return words + seed_and_k % WINDOWS * WINDOW_WORDS;
}

static inline uint32_t chunk_bytes(uint32_t bytes, uint32_t at) {
  return bytes - at < CHUNK_BYTES ? bytes - at : CHUNK_BYTES;
}

static inline void payload_fill(uint32_t* words, uint32_t bytes, uint32_t seed) {
  if (bytes < BULK_BYTES) {
    for (uint32_t i = 0; i < bytes / 4; i++) words[i] = seed + i;
    return;
  }
  for (uint32_t at = 0, first = seed; at < bytes; at += CHUNK_BYTES, first++) {
    memcpy(words + at / 4, payload_window(first), chunk_bytes(bytes, at));
    words[at / 4] = first;
  }
}

/* Reads all of it. False: no payload of any seed. */
static inline bool payload_read(const uint32_t* words, uint32_t bytes, uint32_t* digest) {
  uint32_t sum = 0;
  if (bytes < BULK_BYTES) {
    for (uint32_t i = 0; i < bytes / 4; i++) sum += words[i];
    *digest = sum;
    return true;
  }
  const uint32_t seed = words[0];
  *digest = seed ^ BULK_DIGEST;
  for (uint32_t at = 0, first = seed; at < bytes; at += CHUNK_BYTES, first++) {
    if (words[at / 4] != first || memcmp(words + at / 4 + 1, payload_window(first) + 1,
                                         chunk_bytes(bytes, at) - sizeof first) != 0)
      return false;
  }
  return true;
}

static inline uint32_t payload_expected(uint32_t bytes, uint32_t seed) {
  if (bytes >= BULK_BYTES) return seed ^ BULK_DIGEST;
  uint32_t count = bytes / 4;
  return count * seed + count * (count - 1) / 2;
}

/* The same, where a program can be told to do either. */
static inline void touched_fill(uint32_t* words, uint32_t bytes, uint32_t seed, bool hand_over) {
  if (!hand_over) {
    payload_fill(words, bytes, seed);
    return;
  }
  for (uint32_t i = 0; i < bytes / 4; i += HAND_OVER_WORDS) words[i] = seed + i;
}

static inline bool touched_read(const uint32_t* words, uint32_t bytes, bool hand_over,
                                uint32_t* digest) {
  if (!hand_over) return payload_read(words, bytes, digest);
  uint32_t sum = 0;
  for (uint32_t i = 0; i < bytes / 4; i += HAND_OVER_WORDS) sum += words[i];
  *digest = sum;
  return true;
}

static inline uint32_t touched_expected(uint32_t bytes, uint32_t seed, bool hand_over) {
  if (!hand_over) return payload_expected(bytes, seed);
  uint64_t count = (bytes / 4 + HAND_OVER_WORDS - 1) / HAND_OVER_WORDS;
  return (uint32_t)(count * seed + HAND_OVER_WORDS * (count * (count - 1) / 2));
}

/* What a receiver that knows the seed asks. */
static inline bool touched_right(const uint32_t* words, uint32_t bytes, uint32_t seed,
                                 bool hand_over) {
  uint32_t digest;
  return touched_read(words, bytes, hand_over, &digest) &&
         digest == touched_expected(bytes, seed, hand_over);
}

static inline bool payload_right(const uint32_t* words, uint32_t bytes, uint32_t seed) {
  return touched_right(words, bytes, seed, false);
}

/* A server's half of a call: the answer's seed is the digest of the request, so a right answer
 * proves that the request was read. To what is no payload the answer is none either: zeros. */
static inline void touched_answer(uint32_t* answer, uint32_t answer_bytes, const uint32_t* request,
                                  uint32_t request_bytes, bool hand_over) {
  uint32_t digest;
  if (touched_read(request, request_bytes, hand_over, &digest))
    touched_fill(answer, answer_bytes, digest, hand_over);
  else
    memset(answer, 0, answer_bytes);
}

/* The client's. */
static inline bool touched_answer_right(const uint32_t* answer, uint32_t answer_bytes,
                                        uint32_t request_bytes, uint32_t seed, bool hand_over) {
  return touched_right(answer, answer_bytes, touched_expected(request_bytes, seed, hand_over),
                       hand_over);
}

#endif
