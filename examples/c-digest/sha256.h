/* sha256.h: SHA-256 as FIPS 180-4 writes it down, so that the C client of the digest demo can
 * compute the digests that it compares with, without a library. For the demo only: OpenSSL is
 * several times as fast. */
#ifndef DIGEST_SHA256_H
#define DIGEST_SHA256_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct sha256 {
  uint32_t state[8];
  uint64_t bytes;
  uint8_t block[64];
};

static inline void sha256_init(struct sha256* hash) {
  static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  memcpy(hash->state, start, sizeof(start));
  hash->bytes = 0;
}

static inline uint32_t sha256_rotated(uint32_t word, int bits) {
  return word >> bits | word << (32 - bits);
}

static inline void sha256_block(struct sha256* hash, const uint8_t* block) {
  static const uint32_t k[64] = {
      0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
      0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
      0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
      0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
      0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
      0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
      0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
      0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
      0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
      0xc67178f2};
  uint32_t w[64];
  for (int i = 0; i < 16; i++) {
    const uint8_t* at = block + 4 * i;
    w[i] = (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
  }
  for (int i = 16; i < 64; i++) {
    uint32_t s0 = sha256_rotated(w[i - 15], 7) ^ sha256_rotated(w[i - 15], 18) ^ w[i - 15] >> 3;
    uint32_t s1 = sha256_rotated(w[i - 2], 17) ^ sha256_rotated(w[i - 2], 19) ^ w[i - 2] >> 10;
    w[i] = w[i - 16] + s0 + w[i - 7] + s1;
  }
  uint32_t s[8];
  memcpy(s, hash->state, sizeof(s));
  for (int i = 0; i < 64; i++) {
    uint32_t e1 = sha256_rotated(s[4], 6) ^ sha256_rotated(s[4], 11) ^ sha256_rotated(s[4], 25);
    uint32_t choice = (s[4] & s[5]) ^ (~s[4] & s[6]);
    uint32_t t1 = s[7] + e1 + choice + k[i] + w[i];
    uint32_t e0 = sha256_rotated(s[0], 2) ^ sha256_rotated(s[0], 13) ^ sha256_rotated(s[0], 22);
    uint32_t majority = (s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]);
    memmove(s + 1, s, 7 * sizeof(s[0]));
    s[4] += t1;
    s[0] = t1 + e0 + majority;
  }
  for (int i = 0; i < 8; i++) hash->state[i] += s[i];
}

static inline void sha256_update(struct sha256* hash, const void* data, size_t bytes) {
  const uint8_t* from = data;
  size_t held = hash->bytes % 64;
  hash->bytes += bytes;
  if (held > 0) {
    size_t room = 64 - held;
    size_t taken = bytes < room ? bytes : room;
    memcpy(hash->block + held, from, taken);
    if (held + taken < 64) return;
    sha256_block(hash, hash->block);
    from += taken;
    bytes -= taken;
  }
  for (; bytes >= 64; from += 64, bytes -= 64) sha256_block(hash, from);
  if (bytes > 0) memcpy(hash->block, from, bytes);
}

static inline void sha256_final(struct sha256* hash, uint8_t digest[32]) {
  static const uint8_t padding[64] = {0x80};
  uint8_t length[8];
  uint64_t bits = hash->bytes * 8;
  for (int i = 0; i < 8; i++) length[i] = (uint8_t)(bits >> (56 - 8 * i));
  size_t held = hash->bytes % 64;
  sha256_update(hash, padding, held < 56 ? 56 - held : 120 - held);
  sha256_update(hash, length, sizeof(length));
  for (int i = 0; i < 32; i++) digest[i] = (uint8_t)(hash->state[i / 4] >> (24 - 8 * (i % 4)));
}

#endif
