// The seed of a random test: printed, and taken from COROIPC_SEED to see a failure again.
#ifndef COROIPC_TEST_SEED_H_
#define COROIPC_TEST_SEED_H_

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <random>

inline uint32_t Seed() {
  const char* const given = getenv("COROIPC_SEED");
  const uint32_t seed = given != nullptr ? static_cast<uint32_t>(strtoul(given, nullptr, 10))
                                         : std::random_device{}();
  printf("# COROIPC_SEED=%u\n", seed);
  return seed;
}

#endif  // COROIPC_TEST_SEED_H_
