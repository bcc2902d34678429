// block.h: private memory for payloads, from a bounded pool: blocks of 8 KiB and more are reused so
// that large messages do not fault fresh pages in each time (a 1 MiB malloc costs 256 page faults).
// Thread-safe.
#ifndef COROIPC_SRC_BLOCK_H
#define COROIPC_SRC_BLOCK_H

#include <cstddef>

namespace coroipc {

void* BlockAllocate(size_t bytes);  // nullptr when out of memory; 16-aligned; bytes may be 0
void BlockFree(void* block);        // nullptr allowed
inline constexpr size_t kBlockPoolBytes = size_t{64} << 20;  // kept for reuse at most, process wide

}  // namespace coroipc

#endif
