#include "credentials.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <iterator>
#include <new>
#include <utility>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77  // 6.5; the C library may be older
#endif

namespace coroipc {
namespace {

Status PeerCredentials(int socket, struct ucred* peer) {
  socklen_t bytes = sizeof *peer;
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, peer, &bytes) != 0)
    return SystemError("getsockopt", errno);
  // What the kernel says of a socket that was never connected.
  if (peer->uid == static_cast<uid_t>(-1)) return SystemError("getsockopt", ENOTCONN);
  return COROIPC_OK;
}

// An invalid fd where the kernel has none to give. The number of a process that has ended may
// belong to another one by now, which pidfd_open(2) cannot tell: hence only where there is nothing
// better.
Status OpenPidfd(pid_t pid, Fd* pidfd) {
  pidfd->Reset();
  if (pid <= 0) return COROIPC_OK;  // lives outside of our pid namespace
  const long made = syscall(SYS_pidfd_open, pid, 0);
  if (made >= 0) {
    pidfd->Reset(static_cast<int>(made));
    return COROIPC_OK;
  }
  switch (errno) {
    case ESRCH:
      return COROIPC_PEER_DEAD;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
      return SystemError("pidfd_open", errno);
    default:  // ENOSYS before 5.3; a filter of system calls says EPERM
      return COROIPC_OK;
  }
}

Status PeerPidfd(int socket, pid_t pid, Fd* pidfd) {
  pidfd->Reset();
  int made = -1;
  socklen_t bytes = sizeof made;
  if (getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &made, &bytes) == 0) {
    pidfd->Reset(made);  // always CLOEXEC
    return COROIPC_OK;
  }
  switch (errno) {
    case ESRCH:  // ended and reaped. Kernels since 6.16 give a pidfd all the same, readable at once
    case EINVAL:  // the same, as some of them say it
      return COROIPC_PEER_DEAD;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
      return SystemError("getsockopt", errno);
    default:
      return OpenPidfd(pid, pidfd);
  }
}

Status PeerGroups(int socket, std::unique_ptr<gid_t[]>* groups, uint32_t* count) {
  gid_t few[64];
  std::unique_ptr<gid_t[]> many;
  socklen_t bytes = sizeof few;
  // The list of a connected socket never changes; ERANGE says how long it is.
  int result = getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, few, &bytes);
  if (result != 0 && errno == ERANGE) {
    many.reset(new (std::nothrow) gid_t[bytes / sizeof(gid_t)]);
    if (many == nullptr) return SystemError("malloc", ENOMEM);
    result = getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, many.get(), &bytes);
  }
  if (result != 0) {
    // Before 4.13 there is no such option: no groups, which lets nobody in by mistake.
    if (errno != ENOPROTOOPT) return SystemError("getsockopt", errno);
    bytes = 0;
  }
  const auto got = static_cast<uint32_t>(bytes / sizeof(gid_t));
  if (many == nullptr && got > 0) {
    many.reset(new (std::nothrow) gid_t[got]);
    if (many == nullptr) return SystemError("malloc", ENOMEM);
    for (uint32_t i = 0; i < got; i++) many[i] = few[i];
  }
  *groups = std::move(many);
  *count = got;
  return COROIPC_OK;
}

}  // namespace

Status Credentials::PeerUid(int socket, uid_t* uid) {
  struct ucred peer;
  const Status status = PeerCredentials(socket, &peer);
  if (status == COROIPC_OK) *uid = peer.uid;
  return status;
}

Status Credentials::FromPeer(int socket) {
  struct ucred peer;
  Status status = PeerCredentials(socket, &peer);
  if (status != COROIPC_OK) return status;
  Fd pidfd;
  status = PeerPidfd(socket, peer.pid, &pidfd);
  if (status != COROIPC_OK) return status;
  std::unique_ptr<gid_t[]> groups;
  uint32_t group_count = 0;
  status = PeerGroups(socket, &groups, &group_count);
  if (status != COROIPC_OK) return status;
  groups_ = std::move(groups);
  view_ = {.pid = peer.pid,
           .uid = peer.uid,
           .gid = peer.gid,
           .pidfd = -1,
           .group_count = group_count,
           .groups = groups_.get()};
  SetPidfd(std::move(pidfd));
  return COROIPC_OK;
}

Status Credentials::Replace(const struct ucred& sender) {
  if (sender.pid == view_.pid && sender.uid == view_.uid && sender.gid == view_.gid)
    return COROIPC_OK;
  if (sender.pid != view_.pid || sender.pid <= 0) {
    Fd pidfd;
    const Status status = OpenPidfd(sender.pid, &pidfd);
    if (status != COROIPC_OK) return status;
    SetPidfd(std::move(pidfd));
  }
  view_.pid = sender.pid;
  view_.uid = sender.uid;
  view_.gid = sender.gid;
  view_.group_count = 0;
  view_.groups = nullptr;
  groups_.reset();
  return COROIPC_OK;
}

void Credentials::ClosePidfd() { SetPidfd(Fd()); }

void Credentials::SetPidfd(Fd fd) {
  pidfd_ = std::move(fd);
  view_.pidfd = pidfd_.get();
}

}  // namespace coroipc
