#include "random.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

namespace coroipc {

uint64_t RandomId() {
  for (;;) {
    uint64_t id = 0;
    ssize_t got = getrandom(&id, sizeof id, 0);
    // Up to 256 bytes come whole; only the first call after boot can block and be interrupted,
    // getrandom(2). Without it there is no id worth having, and memfd_create(2) is younger.
    if (got < 0 && errno != EINTR) abort();
    if (got == sizeof id && id != 0) return id;
  }
}

}  // namespace coroipc
