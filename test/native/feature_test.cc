// What works here is found out by doing it; what the kernel is denied is told by its errno, and
// nothing is left behind.
#include <coroipc/types.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "deny.h"

namespace {

int OpenFds() {
  DIR* directory = opendir("/proc/self/fd");
  int count = 0;
  while (readdir(directory) != nullptr) count++;
  closedir(directory);
  return count;
}

coroipc_feature Feature(int number) { return static_cast<coroipc_feature>(number); }

}  // namespace

TEST("what the library cannot do without is here, or no other test would pass") {
  for (int each = COROIPC_FEATURE_MEMFD; each <= COROIPC_FEATURE_DONTFORK; each++)
    CHECK_EQ(coroipc_feature_try(Feature(each)), 0);
}

TEST("an unknown feature is EINVAL") {
  CHECK_EQ(coroipc_feature_try(COROIPC_FEATURE_COUNT), EINVAL);
  CHECK_EQ(coroipc_feature_try(Feature(-1)), EINVAL);
}

TEST("trying leaves no fd behind") {
  const int before = OpenFds();
  for (int each = 0; each < COROIPC_FEATURE_COUNT; each++) (void)coroipc_feature_try(Feature(each));
  CHECK_EQ(OpenFds(), before);
}

// Without a free fd each that makes one fails, and says so.
TEST("what cannot be done is told by its errno") {
  const pid_t child = fork();
  if (child == 0) {
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_NOFILE, &none);
    for (int each = 0; each < COROIPC_FEATURE_COUNT; each++)
      if (coroipc_feature_try(Feature(each)) != EMFILE) _exit(each + 1);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  CHECK_EQ(status, 0);
}

// Each call that a feature is made of, denied as an older kernel or a filter would.
TEST("a feature of which one call is denied is told by that call's errno") {
  constexpr uint32_t kAddSeals = 1033, kPeerGroups = 59,
                     kPeerPidfd = 77;  // <linux/fcntl.h>, socket.h
  const struct {
    coroipc_feature feature;
    long call;
    int error;
    DenyWhen when;
    uint32_t argument, value;
  } cases[] = {
      {COROIPC_FEATURE_MEMFD, SYS_memfd_create, ENOSYS, DenyWhen::kAlways, 0, 0},
      {COROIPC_FEATURE_MEMFD, SYS_ftruncate, EPERM, DenyWhen::kAlways, 0, 0},
      {COROIPC_FEATURE_SEALS, SYS_memfd_create, ENOSYS, DenyWhen::kAlways, 0, 0},
      {COROIPC_FEATURE_SEALS, SYS_fcntl, EPERM, DenyWhen::kEqual, 1, kAddSeals},
      {COROIPC_FEATURE_SOCKETS, SYS_socketpair, EAFNOSUPPORT, DenyWhen::kAlways, 0, 0},
      {COROIPC_FEATURE_FD_PASSING, SYS_socketpair, EAFNOSUPPORT, DenyWhen::kAlways, 0, 0},
      {COROIPC_FEATURE_FD_PASSING, SYS_memfd_create, ENOSYS, DenyWhen::kAlways, 0, 0},
      {COROIPC_FEATURE_FD_PASSING, SYS_sendmsg, EPERM, DenyWhen::kAlways, 0, 0},
      {COROIPC_FEATURE_FD_PASSING, SYS_recvmsg, ENOBUFS, DenyWhen::kAlways, 0, 0},
      {COROIPC_FEATURE_CREDENTIALS, SYS_socketpair, EAFNOSUPPORT, DenyWhen::kAlways, 0, 0},
      {COROIPC_FEATURE_CREDENTIALS, SYS_getsockopt, ENOPROTOOPT, DenyWhen::kEqual, 2, SO_PEERCRED},
      {COROIPC_FEATURE_CREDENTIALS, SYS_getsockopt, ENOPROTOOPT, DenyWhen::kEqual, 2, kPeerGroups},
      {COROIPC_FEATURE_EPOLL, SYS_epoll_create1, ENOSYS, DenyWhen::kAlways, 0, 0},
      {COROIPC_FEATURE_EPOLL, SYS_eventfd2, ENOSYS, DenyWhen::kAlways, 0, 0},
      {COROIPC_FEATURE_EPOLL, SYS_timerfd_create, ENOSYS, DenyWhen::kAlways, 0, 0},
      {COROIPC_FEATURE_EPOLL, SYS_epoll_ctl, ENOSPC, DenyWhen::kAlways, 0, 0},
      {COROIPC_FEATURE_DONTFORK, SYS_memfd_create, ENOSYS, DenyWhen::kAlways, 0, 0},
      {COROIPC_FEATURE_DONTFORK, SYS_madvise, EINVAL, DenyWhen::kAlways, 0, 0},
      {COROIPC_FEATURE_PIDFD, SYS_pidfd_open, ENOSYS, DenyWhen::kAlways, 0, 0},
      {COROIPC_FEATURE_PEER_PIDFD, SYS_socketpair, EAFNOSUPPORT, DenyWhen::kAlways, 0, 0},
      {COROIPC_FEATURE_PEER_PIDFD, SYS_getsockopt, ENOPROTOOPT, DenyWhen::kEqual, 2, kPeerPidfd},
  };
  constexpr int kNoFilters = 255;
  for (const auto& each : cases) {
    const pid_t child = fork();
    if (child == 0) {
      if (!Deny(each.call, each.error, each.when, each.argument, each.value)) _exit(kNoFilters);
      const int before = OpenFds();
      const int said = coroipc_feature_try(each.feature);
      _exit(OpenFds() == before ? said : 254);
    }
    int status = 0;
    waitpid(child, &status, 0);
    REQUIRE(WIFEXITED(status));
    if (WEXITSTATUS(status) == kNoFilters) SKIP("no seccomp filters here");
    if (WEXITSTATUS(status) != each.error)
      printf("# feature %d, call %ld denied\n", each.feature, each.call);
    CHECK_EQ(WEXITSTATUS(status), each.error);
  }
}
