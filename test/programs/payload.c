/* The payloads of the benchmarks as their C programs have them (bench/floor/payload.h), for the
 * test that compares them with those of TypeScript.
 *
 *   payload fill full|hand-over BYTES SEED    writes a payload to stdout
 *   payload flip BYTES SEED STEP              reads that payload with each STEPth of its bytes
 *                                             changed in turn; exit code 0 if all of these were
 *                                             wrong, and it was right */
#include <stdio.h>
#include <stdlib.h>

#include "../../bench/floor/payload.h"

static uint32_t number(const char* text) { return (uint32_t)strtoul(text, NULL, 10); }

static int flip(uint32_t* words, uint32_t bytes, uint32_t seed, uint32_t step) {
  uint8_t* all = (uint8_t*)words;
  payload_fill(words, bytes, seed);
  int missed = !payload_right(words, bytes, seed) || payload_right(words, bytes, seed + 1);
  for (uint32_t i = 0; i < bytes; i += step) {
    all[i] ^= 0x80;
    missed += payload_right(words, bytes, seed);
    all[i] ^= 0x80;
  }
  return missed == 0 ? 0 : 1;
}

int main(int argc, char** argv) {
  bool filling = argc == 5 && strcmp(argv[1], "fill") == 0;
  if (!filling && !(argc == 5 && strcmp(argv[1], "flip") == 0)) return 2;
  uint32_t bytes = number(argv[filling ? 3 : 2]), seed = number(argv[filling ? 4 : 3]);
  uint32_t* words = calloc(bytes + 8, 1);
  if (words == NULL) return 2;
  if (!filling) return flip(words, bytes, seed, number(argv[4]));
  touched_fill(words, bytes, seed, strcmp(argv[2], "hand-over") == 0);
  return fwrite(words, 1, bytes, stdout) == bytes ? 0 : 1;
}
