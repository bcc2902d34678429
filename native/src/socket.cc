#include "socket.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <coroipc/abi.h>

#include <algorithm>
#include <cstddef>
#include <utility>

namespace coroipc {
namespace {

constexpr char kSystemDirectory[] = "/run/coroipc";
constexpr char kDirectoryName[] = "/coroipc";
constexpr int kBacklog = 1024;  // net.core.somaxconn may lower it
constexpr size_t kPathMax = sizeof(sockaddr_un::sun_path) - 1;

// -- addresses ------------------------------------------------------------------------------------

bool IsPlainName(const char* name) {
  if (*name == '\0' || *name == '.') return false;
  for (; *name != '\0'; name++) {
    const char c = *name;
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    const bool digit = c >= '0' && c <= '9';
    if (!letter && !digit && c != '.' && c != '_' && c != '-') return false;
  }
  return true;
}

bool FillPath(const std::string& path, Address* address) {
  if (path.size() > kPathMax || path.back() == '/') return false;
  address->raw = {};
  address->raw.sun_family = AF_UNIX;
  memcpy(address->raw.sun_path, path.data(), path.size());
  address->bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + 1);
  address->text = path;
  return true;
}

// "@" alone would be the empty name, and a request for a random one in bind(2): neither is meant.
bool FillAbstract(const char* text, Address* address) {
  const size_t bytes = strlen(text);
  if (bytes < 2 || bytes > sizeof(sockaddr_un::sun_path)) return false;
  address->raw = {};
  address->raw.sun_family = AF_UNIX;
  memcpy(address->raw.sun_path + 1, text + 1, bytes - 1);
  address->bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + bytes);
  address->text = text;
  return true;
}

struct Directory {
  std::string path;
  mode_t mode = 0;
};

// Where plain names live, in the order of preference; false after the last. secure_getenv(3): a
// program with more rights than its caller does not let the caller choose its directories.
bool RuntimeDirectory(uint32_t index, Directory* directory) {
  const char* only = secure_getenv("COROIPC_RUNTIME_DIR");
  if (only != nullptr && *only != '\0') {
    if (index != 0 || *only != '/') return false;
    *directory = {.path = only, .mode = 0700};
    return true;
  }
  if (index == 0) {
    *directory = {.path = kSystemDirectory, .mode = 0755};
    return true;
  }
  const char* own = secure_getenv("XDG_RUNTIME_DIR");
  if (index != 1 || own == nullptr || *own != '/') return false;
  *directory = {.path = std::string(own) + kDirectoryName, .mode = 0700};
  return true;
}

// The index-th directory whose name leaves room for this one.
bool FillCandidate(const char* name, uint32_t index, Directory* directory, Address* address) {
  for (uint32_t i = 0; RuntimeDirectory(i, directory); i++)
    if (FillPath(directory->path + "/" + name, address) && index-- == 0) return true;
  return false;
}

// 0 when sockets can be made there, else the errno that says why not.
int TryDirectory(const Directory& directory) {
  const char* path = directory.path.c_str();
  if (mkdir(path, directory.mode) == 0) {
    // The umask of whoever starts the first server must not lock out the clients of all others.
    const Fd made(open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    return made.valid() && fchmod(made.get(), directory.mode) == 0 ? 0 : errno;
  }
  // Why it could not be made counts only where it is not there.
  const int error = errno;
  struct stat file;
  if (stat(path, &file) != 0) return error;
  if (!S_ISDIR(file.st_mode)) return ENOTDIR;
  return eaccess(path, W_OK | X_OK) == 0 ? 0 : errno;
}

// -- paths of listening sockets -------------------------------------------------------------------

bool IsSame(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

// The lock file is removed by whoever holds the lock. So a lock counts only if the file that was
// locked is still the one under the name; else somebody has removed it meanwhile, and we try again.
//
// Mode 0600, since flock(2) asks for no more than an open file: others who could open it could keep
// the name taken for ever.
Status TakeLock(const std::string& path, Fd* lock) {
  for (int attempts = 0; attempts < 64; attempts++) {
    // O_NONBLOCK: a fifo in the way must not hold us up.
    Fd file(open(path.c_str(), O_RDONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC,
                 0600));
    if (!file.valid()) {
      switch (errno) {
        case EINTR:
          continue;
        case ELOOP:   // a symlink
        case ENXIO:   // a socket
        case EISDIR:  // a directory
          return COROIPC_ADDRESS_IN_USE;
        default:
          return SystemError("open", errno);
      }
    }
    struct stat locked, named;
    if (fstat(file.get(), &locked) != 0) return SystemError("fstat", errno);
    if (!S_ISREG(locked.st_mode)) return COROIPC_ADDRESS_IN_USE;
    int result;
    do {
      result = flock(file.get(), LOCK_EX | LOCK_NB);
    } while (result != 0 && errno == EINTR);
    if (result != 0)
      return errno == EWOULDBLOCK ? COROIPC_ADDRESS_IN_USE : SystemError("flock", errno);
    if (lstat(path.c_str(), &named) == 0 && IsSame(locked, named)) {
      *lock = std::move(file);
      return COROIPC_OK;
    }
  }
  return COROIPC_ADDRESS_IN_USE;
}

// Only with the lock held. No server of ours is alive then; but a program that knows nothing of the
// lock may be, and a socket whose owner lives does not refuse connections.
Status RemoveStale(const Address& address) {
  const char* path = address.text.c_str();
  struct stat file;
  if (lstat(path, &file) != 0) return errno == ENOENT ? COROIPC_OK : SystemError("lstat", errno);
  if (!S_ISSOCK(file.st_mode)) return COROIPC_ADDRESS_IN_USE;
  const Fd probe(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!probe.valid()) return SystemError("socket", errno);
  if (connect(probe.get(), reinterpret_cast<const sockaddr*>(&address.raw), address.bytes) == 0 ||
      errno != ECONNREFUSED)
    return COROIPC_ADDRESS_IN_USE;
  if (unlink(path) != 0 && errno != ENOENT) return SystemError("unlink", errno);
  return COROIPC_OK;
}

// Of the file behind an O_PATH fd, so that a symlink put in its place meanwhile changes nothing.
// fchmod(2) does not take such an fd; /proc does, and where it is missing fchmodat2(2), 6.6.
int ChangeMode(int path_fd, mode_t mode) {
  const std::string name = "/proc/self/fd/" + std::to_string(path_fd);
  if (chmod(name.c_str(), mode) == 0) return 0;
#ifdef SYS_fchmodat2
  constexpr long kFchmodat2 = SYS_fchmodat2;
#else
  constexpr long kFchmodat2 = 452;  // the same on every architecture
#endif
  const int error = errno;
  if (error == ENOENT && syscall(kFchmodat2, path_fd, "", mode, AT_EMPTY_PATH) == 0) return 0;
  return error;
}

int Option(int socket, int name) {
  int value = -1;
  socklen_t bytes = sizeof value;
  return getsockopt(socket, SOL_SOCKET, name, &value, &bytes) == 0 ? value : -1;
}

// -- messages -------------------------------------------------------------------------------------

// Room for what a message may bring: credentials and one fd. (Alignment leaves room for a second
// one, hence the loop over all that came.)
constexpr size_t kControlBytes = CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct ucred));

#ifndef SCM_PIDFD
#define SCM_PIDFD \
  0x04  // 6.5: an fd, if somebody has set SO_PASSPIDFD on a listening socket we inherited
#endif

Status SendError(int error) {
  switch (error) {
    case EAGAIN:
      return COROIPC_AGAIN;
    case EPIPE:
    case ECONNRESET:
    case ECONNREFUSED:
    case ENOTCONN:
      return COROIPC_PEER_DEAD;
    default:
      return SystemError("sendmsg", error);
  }
}

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83  // 6.16
#endif

// A server takes no fds, and closing one that a stranger chose can take as long as the stranger
// likes. Accepted sockets inherit it: the sender gets EPERM. Older kernels do not know it.
void RefuseFds(int socket) {
  const int off = 0;
  (void)setsockopt(socket, SOL_SOCKET, SO_PASSRIGHTS, &off, sizeof off);
}

// In blocking mode accept4(2) waits as long as SO_RCVTIMEO says: a tick, the least there is.
// Accepted sockets do not inherit it.
void BoundAccept(int socket) {
  const struct timeval least = {.tv_sec = 0, .tv_usec = 1};
  (void)setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &least, sizeof least);
}

// Whatever an fd is, closing it must not wait: a TCP socket with SO_LINGER does, for its data.
void NoLinger(int fd) {
  const struct linger none = {};
  (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);  // ENOTSOCK, as it should be
}

// Takes every fd out of the message: the first for the caller, the others closed. Gives their
// count.
int TakeControl(struct msghdr* message, Received* received) {
  int fds = 0;
  for (struct cmsghdr* part = CMSG_FIRSTHDR(message); part != nullptr;
       part = CMSG_NXTHDR(message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_len < CMSG_LEN(0)) continue;
    const size_t bytes = part->cmsg_len - CMSG_LEN(0);
    const unsigned char* data = CMSG_DATA(part);
    if (part->cmsg_type == SCM_RIGHTS || part->cmsg_type == SCM_PIDFD) {
      for (size_t at = 0; at + sizeof(int) <= bytes; at += sizeof(int)) {
        int number;
        memcpy(&number, data + at, sizeof number);
        Fd fd(number);
        NoLinger(number);
        if (part->cmsg_type == SCM_RIGHTS && fds++ == 0) received->fd = std::move(fd);
      }
    } else if (part->cmsg_type == SCM_CREDENTIALS && bytes >= sizeof received->credentials) {
      memcpy(&received->credentials, data, sizeof received->credentials);
      received->has_credentials = true;
    }
  }
  return fds;
}

}  // namespace

Status ResolveListen(const char* name, Address* address) {
  if (name == nullptr) return COROIPC_INVALID_ARGUMENT;
  if (*name == '/') return FillPath(name, address) ? COROIPC_OK : COROIPC_INVALID_ARGUMENT;
  if (*name == '@') return FillAbstract(name, address) ? COROIPC_OK : COROIPC_INVALID_ARGUMENT;
  if (!IsPlainName(name)) return COROIPC_INVALID_ARGUMENT;
  int first_error = 0;
  Directory directory;
  for (uint32_t i = 0; FillCandidate(name, i, &directory, address); i++) {
    const int error = TryDirectory(directory);
    if (error == 0) return COROIPC_OK;
    if (first_error == 0) first_error = error;
  }
  // Without any candidate the name, or a directory in the environment, cannot be meant.
  return first_error == 0 ? COROIPC_INVALID_ARGUMENT : SystemError("mkdir", first_error);
}

Status ResolveConnect(const char* name, uint32_t candidate, Address* address) {
  if (name == nullptr) return COROIPC_INVALID_ARGUMENT;
  if (*name == '/' || *name == '@') {
    if (candidate > 0) return COROIPC_AGAIN;
    const bool filled = *name == '/' ? FillPath(name, address) : FillAbstract(name, address);
    return filled ? COROIPC_OK : COROIPC_INVALID_ARGUMENT;
  }
  if (!IsPlainName(name)) return COROIPC_INVALID_ARGUMENT;
  Directory directory;
  if (FillCandidate(name, candidate, &directory, address)) return COROIPC_OK;
  return candidate == 0 ? COROIPC_INVALID_ARGUMENT : COROIPC_AGAIN;
}

Status Listener::Open(const Address& address) {
  if (fd_.valid()) return COROIPC_INVALID_ARGUMENT;
  owner_ = getpid();
  const bool is_path = address.raw.sun_path[0] != '\0';
  if (is_path) {
    path_ = address.text;
    const Status status = TakeLock(path_ + ".lock", &lock_);
    if (status != COROIPC_OK) return Close(), status;
    const Status stale = RemoveStale(address);
    if (stale != COROIPC_OK) return Close(), stale;
  }
  Fd made(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!made.valid()) {
    const int error = errno;
    return Close(), SystemError("socket", error);
  }
  if (bind(made.get(), reinterpret_cast<const sockaddr*>(&address.raw), address.bytes) != 0) {
    const int error = errno;
    Close();
    return error == EADDRINUSE ? COROIPC_ADDRESS_IN_USE : SystemError("bind", error);
  }
  fd_ = std::move(made);
  text_ = address.text;
  if (is_path) {
    struct stat file, opened;
    if (lstat(path_.c_str(), &file) != 0) {
      const int error = errno;
      return Close(), SystemError("lstat", error);
    }
    if (!S_ISSOCK(file.st_mode)) return Close(), COROIPC_ADDRESS_IN_USE;
    device_ = file.st_dev;
    inode_ = file.st_ino;
    const Fd bound(open(path_.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    if (!bound.valid() || fstat(bound.get(), &opened) != 0) {
      const int error = errno;
      return Close(), SystemError("open", error);
    }
    if (!IsSame(file, opened)) return Close(), COROIPC_ADDRESS_IN_USE;
    // 0666, whatever the umask: who may talk to the server is said by `authorize`, from credentials
    // that the kernel vouches for, with an answer that the client understands. A mode would be a
    // second rule in another place. Who wants one uses the directory's. (umask(2) around bind would
    // be simpler, but belongs to the whole process.)
    if (const int error = ChangeMode(bound.get(), 0666); error != 0)
      return Close(), SystemError("chmod", error);
  }
  RefuseFds(fd_.get());
  BoundAccept(fd_.get());
  if (listen(fd_.get(), kBacklog) != 0) {
    const int error = errno;
    return Close(), SystemError("listen", error);
  }
  return COROIPC_OK;
}

Status Listener::Adopt(int fd) {
  if (fd_.valid()) return COROIPC_INVALID_ARGUMENT;
  if (Option(fd, SO_DOMAIN) != AF_UNIX || Option(fd, SO_TYPE) != SOCK_SEQPACKET ||
      Option(fd, SO_ACCEPTCONN) != 1)
    return COROIPC_INVALID_ARGUMENT;
  if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) return SystemError("fcntl", errno);
  const int mode = fcntl(fd, F_GETFL);
  if (mode < 0 || fcntl(fd, F_SETFL, mode | O_NONBLOCK) != 0) return SystemError("fcntl", errno);
  RefuseFds(fd);
  BoundAccept(fd);
  // From now on SO_PEERCRED of new clients says this process.
  if (listen(fd, kBacklog) != 0) return SystemError("listen", errno);
  struct sockaddr_un name = {};
  socklen_t bytes = sizeof name;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&name), &bytes) != 0)
    return SystemError("getsockname", errno);
  text_.clear();
  const size_t start = offsetof(sockaddr_un, sun_path);
  if (bytes > start) {
    const size_t length = std::min(size_t{bytes}, sizeof name) - start;
    if (name.sun_path[0] != '\0')
      text_.assign(name.sun_path, strnlen(name.sun_path, length));
    else
      text_.assign("@").append(name.sun_path + 1, length - 1);
  }
  fd_.Reset(fd);
  owner_ = getpid();
  return COROIPC_OK;  // the path, if any, belongs to whoever bound it: path_ stays empty
}

Status Listener::Inherit(int fd, int lock) {
  Fd socket(fd), locked(lock);
  if (lock >= 0 && fcntl(lock, F_SETFD, FD_CLOEXEC) != 0) return SystemError("fcntl", errno);
  if (const Status status = Adopt(fd); status != COROIPC_OK) return status;
  (void)socket.Release();
  struct stat file;
  // Only with the lock of the path: without it somebody else may have taken the name meanwhile.
  if (lock < 0 || text_[0] != '/' || lstat(text_.c_str(), &file) != 0 || !S_ISSOCK(file.st_mode))
    return COROIPC_OK;
  path_ = text_;
  device_ = file.st_dev;
  inode_ = file.st_ino;
  lock_ = std::move(locked);
  return COROIPC_OK;
}

void Listener::Leave() {
  owner_ = 0;
  Close();
}

void Listener::Close() {
  const bool owner = owner_ == getpid();
  // While the socket lives its inode cannot become another file's: unlink first, close then.
  if (owner && fd_.valid() && !path_.empty() && inode_ != 0) {
    struct stat file;
    if (lstat(path_.c_str(), &file) == 0 && S_ISSOCK(file.st_mode) && file.st_dev == device_ &&
        file.st_ino == inode_)
      unlink(path_.c_str());
  }
  fd_.Reset();
  if (owner && lock_.valid()) {
    const std::string path = path_ + ".lock";
    struct stat locked, named;
    if (fstat(lock_.get(), &locked) == 0 && lstat(path.c_str(), &named) == 0 &&
        IsSame(locked, named))
      unlink(path.c_str());
  }
  lock_.Reset();
  path_.clear();
  text_.clear();
  device_ = inode_ = 0;
  owner_ = 0;
}

// accept4(2) has no flag for one call: whether it waits is a mode of the open file description, and
// whoever shares the listening socket may have changed it. So the mode is looked at, and the queue,
// just before the call. To make it wait somebody has to clear the mode and take the client between
// these looks and the call; it waits for a tick then, see BoundAccept.
Status Listener::Accept(Fd* peer) {
  // Bounded, since an error of our own that looks like a dying peer's would repeat for ever.
  for (int attempts = 0; attempts < 64; attempts++) {
    const int mode = fcntl(fd_.get(), F_GETFL);
    if (mode < 0) return SystemError("fcntl", errno);
    if ((mode & O_NONBLOCK) == 0) (void)fcntl(fd_.get(), F_SETFL, mode | O_NONBLOCK);
    struct pollfd waiting = {.fd = fd_.get(), .events = POLLIN, .revents = 0};
    // What poll(2) fails for, a limit of no fds at all, accept4(2) has a better errno for.
    if (poll(&waiting, 1, 0) == 0) return COROIPC_AGAIN;
    const int made = accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (made >= 0) {
      peer->Reset(made);
      return COROIPC_OK;
    }
    switch (errno) {
      case EINTR:
      case ECONNABORTED:
      case EPROTO:
        continue;
      case EAGAIN:
        return COROIPC_AGAIN;
      default:
        return SystemError("accept4", errno);
    }
  }
  return COROIPC_AGAIN;
}

Status Connect(const Address& address, Fd* fd) {
  Fd made(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!made.valid()) return SystemError("socket", errno);
  int result;
  do {
    result = connect(made.get(), reinterpret_cast<const sockaddr*>(&address.raw), address.bytes);
  } while (result != 0 && errno == EINTR);
  if (result == 0) {
    // Not before connect(2): that would bind this end to an abstract name of its own, unix(7). The
    // reply with the credentials answers a message that was not sent yet, so it cannot come too
    // early.
    const int on = 1;
    if (setsockopt(made.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0)
      return SystemError("setsockopt", errno);
    *fd = std::move(made);
    return COROIPC_OK;
  }
  switch (errno) {
    case ENOENT:
    case ENOTDIR:
    case ECONNREFUSED:
      return COROIPC_CONNECT_REFUSED;
    case EAGAIN:
      return COROIPC_AGAIN;
    case EACCES:
    case EPERM:
      return COROIPC_DENIED;
    default:
      return SystemError("connect", errno);
  }
}

Status SendMessage(int socket, const void* bytes, size_t count, int fd, bool credentials) {
  struct iovec part = {.iov_base = const_cast<void*>(bytes), .iov_len = count};
  alignas(struct cmsghdr) unsigned char control[kControlBytes] = {};
  struct msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  const size_t control_bytes = (fd >= 0 ? CMSG_SPACE(sizeof(int)) : 0) +
                               (credentials ? CMSG_SPACE(sizeof(struct ucred)) : 0);
  if (control_bytes > 0) {
    message.msg_control = control;
    // What type these lengths have differs between C libraries.
    message.msg_controllen = static_cast<decltype(message.msg_controllen)>(control_bytes);
    struct cmsghdr* header = CMSG_FIRSTHDR(&message);
    if (fd >= 0) {
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(sizeof fd);
      memcpy(CMSG_DATA(header), &fd, sizeof fd);
      header = CMSG_NXTHDR(&message, header);
    }
    if (credentials) {
      // The effective ids, as SO_PEERCRED gives them.
      const struct ucred self = {.pid = getpid(), .uid = geteuid(), .gid = getegid()};
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_CREDENTIALS;
      header->cmsg_len = CMSG_LEN(sizeof self);
      memcpy(CMSG_DATA(header), &self, sizeof self);
    }
  }
  ssize_t sent;
  do {
    sent = sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent >= 0 ? COROIPC_OK : SendError(errno);  // a message goes whole or not at all
}

void StopCredentials(int socket) {
  const int off = 0;
  (void)setsockopt(socket, SOL_SOCKET, SO_PASSCRED, &off,
                   sizeof off);  // costs time only where it fails
}

Status ReceiveMessage(int socket, void* bytes, size_t capacity, bool accept_fd,
                      Received* received) {
  received->bytes = 0;
  received->fd.Reset();
  received->has_credentials = false;
  struct iovec part = {.iov_base = bytes, .iov_len = capacity};
  alignas(struct cmsghdr) unsigned char control[kControlBytes];
  struct msghdr message;
  bool reset = false;
  ssize_t got;
  for (;;) {
    message = {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    got = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got >= 0) break;
    if (errno == EINTR) continue;
    if (errno == ECONNRESET && !reset) {
      // The peer closed before it had read all of ours. The kernel says so once, ahead of what the
      // peer had sent before: a refusal, with its reason, would be lost.
      reset = true;
      continue;
    }
    switch (errno) {
      case EAGAIN:
        return reset ? COROIPC_PEER_DEAD : COROIPC_AGAIN;
      case ECONNRESET:
      case ENOTCONN:
        return COROIPC_PEER_DEAD;
      default:
        return SystemError("recvmsg", errno);
    }
  }
  if (message.msg_controllen != 0 || (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
    const int fds = TakeControl(&message, received);
    Status status = COROIPC_OK;
    if ((message.msg_flags & MSG_CTRUNC) != 0 && fds == 0 && accept_fd)
      status = SystemError("recvmsg", EMFILE);  // there was room for it here, but not in our table
    else if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 || fds > (accept_fd ? 1 : 0))
      status = COROIPC_PROTOCOL;
    if (status != COROIPC_OK) {
      received->fd.Reset();
      return status;
    }
  }
  // The end of the file, or an empty message: they look the same, and nobody honest sends those.
  if (got == 0) {
    received->fd.Reset();
    return COROIPC_PEER_DEAD;
  }
  received->bytes = static_cast<size_t>(got);
  return COROIPC_OK;
}

Status RingDoorbell(int socket) {
  const unsigned char bell = COROIPC_SOCKET_DOORBELL;
  ssize_t sent;
  do {
    sent = send(socket, &bell, sizeof bell, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent >= 0 || errno == EAGAIN) return COROIPC_OK;
  if (SendError(errno) == COROIPC_PEER_DEAD) return COROIPC_PEER_DEAD;
  SystemError("send", errno);
  return COROIPC_NO_MEMORY;  // whatever it was, the doorbell is owed
}

}  // namespace coroipc
