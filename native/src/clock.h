// clock.h: CLOCK_MONOTONIC and nothing else; wall clocks jump. A clock_gettime(2) is a vdso call of
// ~20 ns.
#ifndef COROIPC_SRC_CLOCK_H
#define COROIPC_SRC_CLOCK_H

#include <time.h>

#include <cstdint>

namespace coroipc {

inline constexpr uint64_t kNever = UINT64_MAX;
inline constexpr uint64_t kMillisecond = 1000000;

inline uint64_t NowNs() {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000000000u + static_cast<uint64_t>(now.tv_nsec);
}

// A deadline from a timeout in milliseconds; negative = never.
inline uint64_t DeadlineNs(int64_t timeout_ms) {
  return timeout_ms < 0 ? kNever : NowNs() + static_cast<uint64_t>(timeout_ms) * kMillisecond;
}

}  // namespace coroipc

#endif
