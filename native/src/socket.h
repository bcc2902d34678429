// socket.h: AF_UNIX SOCK_SEQPACKET: addresses, listening, connecting, whole messages with or
// without one fd, and the doorbell. All calls are non-blocking by flag (MSG_DONTWAIT), never by
// O_NONBLOCK alone: a mode of an open file description that somebody else can reach is not ours to
// rely on. Accepting has no such flag: see Listener::Accept.
#ifndef COROIPC_SRC_SOCKET_H
#define COROIPC_SRC_SOCKET_H

#include <sys/socket.h>
#include <sys/un.h>

#include <string>

#include "fd.h"
#include "status.h"

namespace coroipc {

struct Address {
  struct sockaddr_un raw;
  socklen_t bytes = 0;
  std::string text;  // "/run/coroipc/demo" or "@demo"
};

// "demo" (letters, digits, . _ -; not starting with '.'), "@demo", "/a/b.sock". INVALID_ARGUMENT
// for anything else, too long ones too. For listening a plain name means the first writable of
// /run/coroipc and $XDG_RUNTIME_DIR/coroipc (made with mode 0755 resp. 0700 when its parent is
// writable); for connecting, candidates are tried in that order by Connect. Environment
// COROIPC_RUNTIME_DIR, when set, replaces both (tests, containers).
Status ResolveListen(const char* name, Address* address);
Status ResolveConnect(const char* name, uint32_t candidate,
                      Address* address);  // AGAIN: no more candidates

// A listening socket and, for paths, the flock(2)ed lock file beside it (path + ".lock") that
// decides between two servers: exactly one wins, ADDRESS_IN_USE for the other. A stale socket is
// unlinked only under the lock and only if it is a socket; symlinks and anything else in the way:
// ADDRESS_IN_USE, untouched. backlog 1024.
class Listener {
 public:
  Listener() = default;
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;
  ~Listener() { Close(); }
  Status Open(const Address& address);
  Status Adopt(int fd);  // inherited: checks AF_UNIX SOCK_SEQPACKET + SO_ACCEPTCONN, sets CLOEXEC,
                         // listens again; not OK: the fd stays the caller's
  // A socket that this process was handed together with its name: `lock` (may be -1) is the lock
  // file of its path, and both are removed when it closes. Takes the fds, OK or not.
  Status Inherit(int fd, int lock);
  void Leave();  // closes, and leaves path and lock file to whoever was handed the socket
  void Close();  // unlinks our own socket path (compares dev and inode first) and lock file; in a
                 // forked child only closes fds
  int fd() const { return fd_.get(); }
  int lock() const { return lock_.get(); }
  const std::string& text() const { return text_; }
  // OK with a CLOEXEC fd; AGAIN when none waits; NO_MEMORY (EMFILE, ENFILE, ENOMEM, ENOBUFS):
  // pause; other errors of a dying peer are skipped.
  Status Accept(Fd* peer);

 private:
  Fd fd_;
  Fd lock_;
  std::string text_, path_;
  uint64_t device_ = 0, inode_ = 0;
  pid_t owner_ = 0;
};

// Starts connecting. OK: connected. CONNECT_REFUSED: nobody there (ENOENT, ECONNREFUSED). AGAIN:
// the backlog is full (EAGAIN): try later within the deadline. DENIED for EACCES/EPERM. SO_PASSCRED
// is set before connecting.
Status Connect(const Address& address, Fd* fd);

// Sends one whole message, with at most one fd and with this process' SCM_CREDENTIALS when asked.
// OK, AGAIN (no room), PEER_DEAD (EPIPE, ECONNRESET, ENOTCONN), else SYSTEM / NO_MEMORY (ENOBUFS,
// ENOMEM: owed, retry later).
Status SendMessage(int socket, const void* bytes, size_t count, int fd, bool credentials);

// SO_PASSCRED off again: no credentials beside later messages.
void StopCredentials(int socket);

struct Received {
  size_t bytes = 0;  // of the message
  Fd fd;  // at most one; more than one, MSG_CTRUNC or MSG_TRUNC is PROTOCOL and all are closed
  bool has_credentials = false;
  struct ucred credentials = {};
};
// OK, AGAIN (nothing there), PEER_DEAD (end of file, an empty message, or ECONNRESET once all that
// the peer had sent is read), PROTOCOL. Received fds are CLOEXEC at birth. `accept_fd` false: any
// fd in the message is closed and PROTOCOL. NO_MEMORY: the fd found this process' table full, the
// message is lost; that is not the peer's fault.
Status ReceiveMessage(int socket, void* bytes, size_t capacity, bool accept_fd, Received* received);

// The doorbell: one byte COROIPC_SOCKET_DOORBELL. OK also for EAGAIN (already rung). PEER_DEAD;
// anything else (ENOBUFS, ENOMEM) means owed: NO_MEMORY.
Status RingDoorbell(int socket);

}  // namespace coroipc

#endif
