// status.h: from errno to coroipc_status, in one place. Core functions return a Status and write
// results through their last parameters; nothing in the core reads errno after another call.
#ifndef COROIPC_SRC_STATUS_H
#define COROIPC_SRC_STATUS_H

#include <coroipc/types.h>

namespace coroipc {

using Status = coroipc_status;

// Remembers errno and the call's name for coroipc_errno() of this thread. ENOMEM, EMFILE, ENFILE,
// ENOSPC, EDQUOT, ENOBUFS become NO_MEMORY, the rest SYSTEM.
Status SystemError(const char* syscall, int error);

// The peer's ABI version of the last COROIPC_VERSION of this thread.
void SetPeerVersion(uint32_t version);
uint32_t PeerVersion();

}  // namespace coroipc

#endif
