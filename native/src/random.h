// random.h: identifiers that tell nothing: getrandom(2).
#ifndef COROIPC_SRC_RANDOM_H
#define COROIPC_SRC_RANDOM_H

#include <cstdint>

namespace coroipc {

uint64_t RandomId();  // never 0

}  // namespace coroipc

#endif
