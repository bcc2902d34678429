// What of the kernel works here, found out by doing it: version numbers say nothing about what a
// container or a seccomp filter forbids.
#include <coroipc/types.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <cstring>

#include "fd.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59
#endif
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

namespace coroipc {
namespace {

constexpr size_t kBytes = 65536;

// 0 for a result that is none of an error, else errno.
int ErrnoOf(long result) { return result < 0 ? errno : 0; }

int Memory(unsigned flags, Fd* fd) {
  fd->Reset(memfd_create("coroipc-feature", MFD_CLOEXEC | flags));
  if (!fd->valid()) return errno;
  return ErrnoOf(ftruncate(fd->get(), static_cast<off_t>(kBytes)));
}

int Seals() {
  Fd fd;
  if (const int error = Memory(MFD_ALLOW_SEALING, &fd); error != 0) return error;
  if (fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) return errno;
  return ftruncate(fd.get(), 0) == 0 ? ENOTSUP : 0;  // they have to hold
}

struct Pair {
  Fd a;
  Fd b;
  int Open() {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0)
      return errno;
    a.Reset(ends[0]);
    b.Reset(ends[1]);
    return 0;
  }
};

int FdPassing() {
  Pair pair;
  Fd memory;
  if (const int error = pair.Open(); error != 0) return error;
  if (const int error = Memory(0, &memory); error != 0) return error;
  char byte = 1;
  struct iovec part = {&byte, 1};
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int))];
  } control = {};
  struct msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = &control;
  message.msg_controllen = sizeof control;
  struct cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  const int sent = memory.get();
  memcpy(CMSG_DATA(header), &sent, sizeof sent);
  if (sendmsg(pair.a.get(), &message, MSG_NOSIGNAL) != 1) return errno;
  control = {};
  message.msg_controllen = sizeof control;
  if (recvmsg(pair.b.get(), &message, MSG_CMSG_CLOEXEC) != 1) return errno;
  header = CMSG_FIRSTHDR(&message);
  if (header == nullptr || header->cmsg_type != SCM_RIGHTS) return ENOTSUP;
  int received = -1;
  memcpy(&received, CMSG_DATA(header), sizeof received);
  const Fd owned(received);
  return 0;
}

int PeerCredentials() {
  Pair pair;
  if (const int error = pair.Open(); error != 0) return error;
  struct ucred peer = {};
  socklen_t bytes = sizeof peer;
  if (getsockopt(pair.a.get(), SOL_SOCKET, SO_PEERCRED, &peer, &bytes) != 0) return errno;
  bytes = 0;
  // Without room for them it says ERANGE, and how many there are.
  if (getsockopt(pair.a.get(), SOL_SOCKET, SO_PEERGROUPS, nullptr, &bytes) != 0 && errno != ERANGE)
    return errno;
  return 0;
}

int PeerPidfd() {
  Pair pair;
  if (const int error = pair.Open(); error != 0) return error;
  int made = -1;
  socklen_t bytes = sizeof made;
  if (getsockopt(pair.a.get(), SOL_SOCKET, SO_PEERPIDFD, &made, &bytes) != 0) return errno;
  const Fd owned(made);
  return 0;
}

int Waiting() {
  const Fd set(epoll_create1(EPOLL_CLOEXEC));
  if (!set.valid()) return errno;
  const Fd event(eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event.valid()) return errno;
  const Fd timer(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!timer.valid()) return errno;
  struct epoll_event watch = {};
  watch.events = EPOLLIN;
  for (const Fd* each : {&event, &timer})
    if (epoll_ctl(set.get(), EPOLL_CTL_ADD, each->get(), &watch) != 0) return errno;
  return epoll_wait(set.get(), &watch, 1, 0) == 1 ? 0 : ENOTSUP;
}

// Shared memory, and an advice about it.
int Advice(int advice) {
  Fd fd;
  if (const int error = Memory(0, &fd); error != 0) return error;
  void* mapping = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (mapping == MAP_FAILED) return errno;
  const int error = ErrnoOf(madvise(mapping, kBytes, advice));
  munmap(mapping, kBytes);
  return error;
}

}  // namespace
}  // namespace coroipc

int coroipc_feature_try(enum coroipc_feature feature) {
  using namespace coroipc;
  Fd fd;
  switch (feature) {
    case COROIPC_FEATURE_MEMFD:
      return Memory(MFD_ALLOW_SEALING, &fd);
    case COROIPC_FEATURE_SEALS:
      return Seals();
    case COROIPC_FEATURE_SOCKETS: {
      Pair pair;
      return pair.Open();
    }
    case COROIPC_FEATURE_FD_PASSING:
      return FdPassing();
    case COROIPC_FEATURE_CREDENTIALS:
      return PeerCredentials();
    case COROIPC_FEATURE_EPOLL:
      return Waiting();
    case COROIPC_FEATURE_DONTFORK:
      return Advice(MADV_DONTFORK);
    case COROIPC_FEATURE_PIDFD:
      fd.Reset(static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0)));
      return fd.valid() ? 0 : errno;
    case COROIPC_FEATURE_PEER_PIDFD:
      return PeerPidfd();
    case COROIPC_FEATURE_NOEXEC_SEAL:
      return Memory(MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL, &fd);
    case COROIPC_FEATURE_POPULATE:
      return Advice(MADV_POPULATE_WRITE);
    case COROIPC_FEATURE_PUNCH_HOLE:
      return Advice(MADV_REMOVE);
    case COROIPC_FEATURE_COUNT:
      break;
  }
  return EINVAL;
}
