// The table of codes against types.h, and what a thread remembers of its last failure.
#include "status.h"

#include <errno.h>
#include <limits.h>

#include <set>
#include <string>
#include <thread>

#include "check.h"

using namespace coroipc;

namespace {

struct Named {
  coroipc_status status;
  const char* name;
  int cs_error;
};
#define STATUS(name, cs_error) \
  { COROIPC_##name, #name, cs_error }
const Named kAll[] = {
    STATUS(OK, 1),
    STATUS(INVALID_ARGUMENT, 7),
    STATUS(SYSTEM, 2),
    STATUS(NO_MEMORY, 8),
    STATUS(CONNECT_REFUSED, 6),
    STATUS(DENIED, 100),
    STATUS(LIMIT, 18),
    STATUS(NO_SERVICE, 12),
    STATUS(VERSION, 3),
    STATUS(PROTOCOL, 2),
    STATUS(PEER_DEAD, 2),
    STATUS(DISCONNECTED, 2),
    STATUS(UNKNOWN_OUTCOME, 2),
    STATUS(TIMED_OUT, 5),
    STATUS(ABORTED, 16),
    STATUS(FULL, 6),
    STATUS(TOO_LARGE, 26),
    STATUS(LEASE_HELD, 10),
    STATUS(FORKED, 9),
    STATUS(NO_HANDLER, 19),
    STATUS(HANDLER_FAILED, 21),
    STATUS(HANDLER_REJECTED, 21),
    STATUS(HANDLER_ASYNC, 21),
    STATUS(ANSWER_INVALID, 21),
    STATUS(ANSWER_TOO_LARGE, 26),
    STATUS(RETRY, 6),
    STATUS(REFUSED, 7),
    STATUS(DEADLOCK, 2),
    STATUS(ADDRESS_IN_USE, 14),
    STATUS(AGAIN, 6),
    STATUS(BACKLOG_OVERFLOW, 2),
};

}  // namespace

TEST("every status has its name, its cs_error_t and a text of its own") {
  CHECK_EQ(std::size(kAll), COROIPC_STATUS_COUNT);
  std::set<std::string> texts;
  for (const Named& row : kAll) {
    CHECK_STR_EQ(coroipc_status_name(row.status), row.name);
    CHECK_EQ(coroipc_status_to_cs_error(row.status), row.cs_error);
    const char* text = coroipc_status_text(row.status);
    CHECK(text != nullptr && *text != '\0');
    CHECK(texts.insert(text).second);
  }
}

TEST("a number that is no status has a name and a text too") {
  for (int status : {-1, int{COROIPC_STATUS_COUNT}, INT_MIN, INT_MAX}) {
    CHECK_STR_EQ(coroipc_status_name(status), "UNKNOWN");
    CHECK_STR_EQ(coroipc_status_text(status), "not a status");
    CHECK_EQ(coroipc_status_to_cs_error(status), 2);
  }
}

TEST("what ran out is NO_MEMORY, the rest SYSTEM; errno and the call are kept") {
  for (int error : {ENOMEM, EMFILE, ENFILE, ENOSPC, EDQUOT, ENOBUFS, ETOOMANYREFS}) {
    CHECK_EQ(SystemError("mmap", error), COROIPC_NO_MEMORY);
    CHECK_EQ(coroipc_errno(), error);
  }
  for (int error : {EPERM, EACCES, EIO, EINVAL, 0}) {
    CHECK_EQ(SystemError("bind", error), COROIPC_SYSTEM);
    CHECK_EQ(coroipc_errno(), error);
    CHECK_STR_EQ(coroipc_syscall(), "bind");
  }
}

TEST("a thread remembers its own failures only") {
  CHECK_EQ(SystemError("open", ENOENT), COROIPC_SYSTEM);
  SetPeerVersion(7);
  std::thread([] {
    CHECK_EQ(coroipc_errno(), 0);
    CHECK_STR_EQ(coroipc_syscall(), "");
    CHECK_EQ(PeerVersion(), 0u);
    CHECK_EQ(SystemError("socket", EMFILE), COROIPC_NO_MEMORY);
    SetPeerVersion(8);
  }).join();
  CHECK_EQ(coroipc_errno(), ENOENT);
  CHECK_STR_EQ(coroipc_syscall(), "open");
  CHECK_EQ(PeerVersion(), 7u);
}
