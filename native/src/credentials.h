// credentials.h: who the other side of an AF_UNIX socket is, from the kernel: SO_PEERCRED,
// SO_PEERGROUPS, SO_PEERPIDFD (unix(7); 6.5 and later, else pidfd_open(2) of the pid).
#ifndef COROIPC_SRC_CREDENTIALS_H
#define COROIPC_SRC_CREDENTIALS_H

#include <sys/socket.h>

#include <memory>

#include "fd.h"
#include "status.h"

namespace coroipc {

class Credentials {
 public:
  // Only what limits need before anything else: the uid. No allocation.
  static Status PeerUid(int socket, uid_t* uid);
  // PEER_DEAD when the process is gone already, whoever holds its end of the socket now; NO_MEMORY
  // without a free fd.
  Status FromPeer(int socket);
  // The sender of a message with SCM_CREDENTIALS, when it is another process than SO_PEERCRED says
  // (a server on an inherited listening fd): replaces pid, uid, gid and opens a pidfd for it. The
  // groups were those of whoever called listen(2) and are dropped. Nothing changes when it is who
  // we knew.
  Status Replace(const struct ucred& sender);

  const struct coroipc_credentials& view() const { return view_; }
  int pidfd() const { return pidfd_.get(); }
  void ClosePidfd();

 private:
  void SetPidfd(Fd fd);

  struct coroipc_credentials view_ = {
      .pid = 0, .uid = 65534, .gid = 65534, .pidfd = -1, .group_count = 0, .groups = nullptr};
  std::unique_ptr<gid_t[]> groups_;
  Fd pidfd_;
};

}  // namespace coroipc

#endif
