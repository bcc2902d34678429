// The one table of status codes, and what this thread remembers of its last failure.
#include "status.h"

#include <errno.h>

#include <iterator>

namespace coroipc {
namespace {

// cs_error_t of corosync's corotypes.h, as far as anything here becomes one of them.
enum CsError {
  kCsOk = 1,
  kCsLibrary = 2,
  kCsVersion = 3,
  kCsTimeout = 5,
  kCsTryAgain = 6,
  kCsInvalidParam = 7,
  kCsNoMemory = 8,
  kCsBadHandle = 9,
  kCsBusy = 10,
  kCsNotExist = 12,
  kCsExist = 14,
  kCsInterrupt = 16,
  kCsNoResources = 18,
  kCsNotSupported = 19,
  kCsFailedOperation = 21,
  kCsTooBig = 26,
  kCsSecurity = 100,
};

struct Row {
  coroipc_status status;  // its own index: proven below
  const char* name;
  const char* text;
  CsError cs_error;
};

// coroipc answered LIBRARY for whatever ended a connection and TRY_AGAIN for whatever may pass:
// programs written against it loop on 6 and give up on 2. What fits no other word is LIBRARY.
constexpr Row kRows[] = {
    {COROIPC_OK, "OK", "success", kCsOk},
    {COROIPC_INVALID_ARGUMENT, "INVALID_ARGUMENT", "the call was wrong; nothing was sent",
     kCsInvalidParam},
    {COROIPC_SYSTEM, "SYSTEM", "a system call failed", kCsLibrary},
    {COROIPC_NO_MEMORY, "NO_MEMORY", "memory, file descriptors or address space ran out",
     kCsNoMemory},
    {COROIPC_CONNECT_REFUSED, "CONNECT_REFUSED", "nobody listens under this name", kCsTryAgain},
    {COROIPC_DENIED, "DENIED", "the peer is not allowed, or not who was demanded", kCsSecurity},
    {COROIPC_LIMIT, "LIMIT", "a configured limit is reached", kCsNoResources},
    {COROIPC_NO_SERVICE, "NO_SERVICE", "the server does not offer this service", kCsNotExist},
    {COROIPC_VERSION, "VERSION", "the peer speaks another version of the protocol", kCsVersion},
    {COROIPC_PROTOCOL, "PROTOCOL", "the peer broke the protocol", kCsLibrary},
    {COROIPC_PEER_DEAD, "PEER_DEAD", "the peer's process is gone", kCsLibrary},
    {COROIPC_DISCONNECTED, "DISCONNECTED", "the connection was closed", kCsLibrary},
    {COROIPC_UNKNOWN_OUTCOME, "UNKNOWN_OUTCOME",
     "the peer went away with this request in flight: it may or may not have been executed",
     kCsLibrary},
    {COROIPC_TIMED_OUT, "TIMED_OUT", "the time given ran out", kCsTimeout},
    {COROIPC_ABORTED, "ABORTED", "cancelled by the caller", kCsInterrupt},
    {COROIPC_FULL, "FULL", "no room now; nothing was queued", kCsTryAgain},
    {COROIPC_TOO_LARGE, "TOO_LARGE", "larger than the negotiated maximum or the buffer given",
     kCsTooBig},
    {COROIPC_LEASE_HELD, "LEASE_HELD", "the lease of this channel stands in the way", kCsBusy},
    {COROIPC_FORKED, "FORKED", "the connection belongs to the parent process", kCsBadHandle},
    {COROIPC_NO_HANDLER, "NO_HANDLER", "the service has no handler for this id", kCsNotSupported},
    {COROIPC_HANDLER_FAILED, "HANDLER_FAILED", "the handler threw", kCsFailedOperation},
    {COROIPC_HANDLER_REJECTED, "HANDLER_REJECTED", "the handler's promise rejected",
     kCsFailedOperation},
    {COROIPC_HANDLER_ASYNC, "HANDLER_ASYNC", "the handler returned a promise where none can settle",
     kCsFailedOperation},
    {COROIPC_ANSWER_INVALID, "ANSWER_INVALID", "the handler's answer is not made of bytes",
     kCsFailedOperation},
    {COROIPC_ANSWER_TOO_LARGE, "ANSWER_TOO_LARGE",
     "the handler's answer is larger than the negotiated maximum", kCsTooBig},
    {COROIPC_RETRY, "RETRY", "the server says: not now, try again", kCsTryAgain},
    {COROIPC_REFUSED, "REFUSED", "the server refuses this request", kCsInvalidParam},
    {COROIPC_DEADLOCK, "DEADLOCK", "a blocking call to a server in the same thread", kCsLibrary},
    {COROIPC_ADDRESS_IN_USE, "ADDRESS_IN_USE",
     "another live server, or something else, is in the way under this name", kCsExist},
    {COROIPC_AGAIN, "AGAIN", "nothing there now", kCsTryAgain},
    {COROIPC_BACKLOG_OVERFLOW, "BACKLOG_OVERFLOW",
     "the connection was ended because its backlog ran over", kCsLibrary},
};

constexpr bool EveryRowIsItsStatus() {
  for (size_t i = 0; i < std::size(kRows); i++)
    if (kRows[i].status != static_cast<coroipc_status>(i)) return false;
  return std::size(kRows) == COROIPC_STATUS_COUNT;
}
static_assert(EveryRowIsItsStatus(), "one row for each status, in the order of types.h");

// A status may have come over the wire.
const Row* Find(coroipc_status status) {
  return status >= 0 && status < COROIPC_STATUS_COUNT ? &kRows[status] : nullptr;
}

struct LastFailure {
  int error = 0;
  const char* syscall = "";
  uint32_t peer_version = 0;
};
constinit thread_local LastFailure last;

}  // namespace

Status SystemError(const char* syscall, int error) {
  last.error = error;
  last.syscall = syscall;
  switch (error) {
    case ENOMEM:
    case EMFILE:
    case ENFILE:
    case ENOSPC:
    case EDQUOT:
    case ENOBUFS:
    case ETOOMANYREFS:  // fds of this user in flight: as passing as a full table, unix(7)
      return COROIPC_NO_MEMORY;
    default:
      return COROIPC_SYSTEM;
  }
}

void SetPeerVersion(uint32_t version) { last.peer_version = version; }
uint32_t PeerVersion() { return last.peer_version; }

}  // namespace coroipc

int coroipc_errno(void) { return coroipc::last.error; }

const char* coroipc_syscall(void) { return coroipc::last.syscall; }

const char* coroipc_status_text(coroipc_status status) {
  const auto* row = coroipc::Find(status);
  return row != nullptr ? row->text : "not a status";
}

const char* coroipc_status_name(coroipc_status status) {
  const auto* row = coroipc::Find(status);
  return row != nullptr ? row->name : "UNKNOWN";
}

int coroipc_status_to_cs_error(coroipc_status status) {
  const auto* row = coroipc::Find(status);
  return row != nullptr ? row->cs_error : coroipc::kCsLibrary;
}
