// kernel.cc: the calls that the core makes, as kernel.h tells. Each does what its manual page says,
// as far as the core can see it.
#include "kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdarg>

#include "input.h"

namespace fuzz {

Kernel kernel;

namespace {

constexpr int kFirstFd = 1000;  // no fd of the real kernel's: a mix-up is an error
constexpr size_t kFdsMax = 200;
constexpr size_t kMappedMax = size_t{64} << 20;

int Fail(int error) {
  errno = error;
  return -1;
}

bool Faulty() {
  if (kernel.fault_in == 0 || --kernel.fault_in != 0) return false;
  errno = kernel.fault_errno;
  return true;
}

ObjectRef At(int fd) {
  const auto index = static_cast<size_t>(fd - kFirstFd);
  return fd >= kFirstFd && index < kernel.fds.size() ? kernel.fds[index] : nullptr;
}

int Open(ObjectRef object) {
  for (size_t i = 0; i < kernel.fds.size(); ++i) {
    if (kernel.fds[i] != nullptr) continue;
    kernel.fds[i] = std::move(object);
    return kFirstFd + static_cast<int>(i);
  }
  if (kernel.fds.size() == kFdsMax) return Fail(EMFILE);
  kernel.fds.push_back(std::move(object));
  return kFirstFd + static_cast<int>(kernel.fds.size() - 1);
}

int OpenNew(Kind kind) {
  if (Faulty()) return -1;
  return Open(kernel.Make(kind));
}

uint32_t Events(const Object& object) {
  switch (object.kind) {
    case Kind::kSocket: {
      if (object.listening) return object.pending.empty() ? 0 : EPOLLIN;
      uint32_t events = object.room != 0 ? EPOLLOUT : 0;
      if (!object.incoming.empty()) events |= EPOLLIN;
      if (object.hung_up) events |= EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLOUT;
      return events;
    }
    case Kind::kEvent:
      return object.count != 0 ? EPOLLIN : 0;
    case Kind::kTimer:
      return object.expires != 0 && kernel.now >= object.expires ? EPOLLIN : 0;
    case Kind::kPidfd:
      return kernel.peer_dead ? EPOLLIN : 0;
    case Kind::kEpoll:
      for (const Watch& watch : object.watches) {
        const ObjectRef target = At(watch.fd);
        if (target != nullptr && (Events(*target) & (watch.events | EPOLLHUP)) != 0) return EPOLLIN;
      }
      return 0;
    default:
      return EPOLLIN | EPOLLOUT;
  }
}

int Poll(pollfd* fds, nfds_t count) {
  int ready = 0;
  for (nfds_t i = 0; i < count; ++i) {
    fds[i].revents = 0;
    if (fds[i].fd < 0) continue;
    const ObjectRef object = At(fds[i].fd);
    fds[i].revents = object == nullptr
                         ? POLLNVAL
                         : static_cast<short>(Events(*object) &
                                              (static_cast<uint32_t>(fds[i].events) | EPOLLHUP));
    ready += fds[i].revents != 0 ? 1 : 0;
  }
  return ready;
}

int PollFor(pollfd* fds, nfds_t count, uint64_t timeout_ns) {
  if (Faulty()) return -1;
  int ready = Poll(fds, count);
  if (ready != 0 || timeout_ns == 0) return ready;
  if (kernel.on_sleep) kernel.on_sleep();
  ready = Poll(fds, count);
  if (ready == 0) kernel.now += std::min<uint64_t>(timeout_ns, 1000000000u);
  return ready;
}

void Describe(const Object& object, struct stat* file) {
  *file = {};
  file->st_mode = object.mode;
  file->st_size = static_cast<off_t>(object.bytes);
  file->st_dev = 1;
  file->st_ino = object.inode;
}

uint64_t InodeOf(const std::string& path) {
  return std::hash<std::string>{}(path) ^ kernel.files[path];
}

}  // namespace

void Kernel::Reset() {
  for (const auto& [data, mapping] : mappings) free(data);
  *this = {};
  now = 1000000000;
}

void Kernel::CheckNothingLeft() const {
  for (const ObjectRef& object : fds) {
    if (object == nullptr) continue;
    fprintf(stderr, "an fd was left open, kind %d\n", static_cast<int>(object->kind));
    abort();
  }
  MUST(mappings.empty());
}

}  // namespace fuzz

using fuzz::At;
using fuzz::Fail;
using fuzz::Faulty;
using fuzz::kernel;
using fuzz::Kind;
using fuzz::Message;
using fuzz::ObjectRef;
using fuzz::Open;

extern "C" {

// -- time, process, processors --------------------------------------------------------------------

int fuzz_clock_gettime(clockid_t clock, struct timespec* now) {
  MUST(clock == CLOCK_MONOTONIC);
  kernel.now += 1000;
  now->tv_sec = static_cast<time_t>(kernel.now / 1000000000u);
  now->tv_nsec = static_cast<long>(kernel.now % 1000000000u);
  return 0;
}
int fuzz_sched_getaffinity(pid_t pid, size_t bytes, cpu_set_t* set) {
  (void)pid, (void)bytes;
  CPU_SET(0, set);
  CPU_SET(1, set);
  return 0;
}
int fuzz_sched_getcpu() { return 0; }
int fuzz_sched_yield() { return 0; }
ssize_t fuzz_getrandom(void* to, size_t bytes, unsigned flags) {
  (void)flags;
  memset(to, 0x5a, bytes);
  return static_cast<ssize_t>(bytes);
}
char* fuzz_secure_getenv(const char* name) {
  if (strcmp(name, "COROIPC_RUNTIME_DIR") != 0 || kernel.runtime_directory.empty()) return nullptr;
  return kernel.runtime_directory.data();
}
long fuzz_syscall(long number, ...) {
  if (number == SYS_pidfd_open) return fuzz::OpenNew(Kind::kPidfd);
  return Fail(ENOSYS);
}

// -- fds ------------------------------------------------------------------------------------------

int fuzz_close(int fd) {
  MUST(At(fd) != nullptr);  // closing what is not open closes somebody else's some day
  for (const ObjectRef& object : kernel.fds) {
    if (object == nullptr || object->kind != Kind::kEpoll) continue;
    std::erase_if(object->watches, [fd](const fuzz::Watch& watch) { return watch.fd == fd; });
  }
  kernel.fds[static_cast<size_t>(fd - fuzz::kFirstFd)] = nullptr;
  return 0;
}
int fuzz_fcntl(int fd, int command, ...) {
  va_list list;
  va_start(list, command);
  const int argument = va_arg(list, int);
  va_end(list);
  const ObjectRef object = At(fd);
  if (object == nullptr) return Fail(EBADF);
  if (Faulty()) return -1;
  switch (command) {
    case F_GET_SEALS:
      return object->kind == Kind::kMemory && object->seals >= 0 ? object->seals : Fail(EINVAL);
    case F_ADD_SEALS:
      object->seals |= argument;
      return 0;
    case F_GETFL:
      return object->access;
    default:
      return 0;
  }
}
ssize_t fuzz_read(int fd, void* to, size_t bytes) {
  const ObjectRef object = At(fd);
  if (object == nullptr) return Fail(EBADF);
  MUST(bytes == 8);
  const bool timer = object->kind == Kind::kTimer;
  if (timer ? fuzz::Events(*object) == 0 : object->count == 0) return Fail(EAGAIN);
  const uint64_t count = timer ? 1 : object->count;
  object->count = object->expires = 0;
  memcpy(to, &count, sizeof count);
  return 8;
}
ssize_t fuzz_write(int fd, const void* from, size_t bytes) {
  const ObjectRef object = At(fd);
  if (object == nullptr) return Fail(EBADF);
  MUST(object->kind == Kind::kEvent && bytes == 8);
  uint64_t count;
  memcpy(&count, from, sizeof count);
  object->count += count;
  return 8;
}
int fuzz_eventfd(unsigned count, int flags) {
  (void)count, (void)flags;
  return fuzz::OpenNew(Kind::kEvent);
}
int fuzz_timerfd_create(int clock, int flags) {
  (void)flags;
  MUST(clock == CLOCK_MONOTONIC);
  return fuzz::OpenNew(Kind::kTimer);
}
int fuzz_timerfd_settime(int fd, int flags, const itimerspec* when, itimerspec* old) {
  (void)flags, (void)old;
  const ObjectRef object = At(fd);
  if (object == nullptr) return Fail(EBADF);
  object->expires = static_cast<uint64_t>(when->it_value.tv_sec) * 1000000000u +
                    static_cast<uint64_t>(when->it_value.tv_nsec);
  return 0;
}

// -- epoll, poll ----------------------------------------------------------------------------------

int fuzz_epoll_create1(int flags) {
  (void)flags;
  return fuzz::OpenNew(Kind::kEpoll);
}
int fuzz_epoll_ctl(int epoll, int operation, int fd, epoll_event* event) {
  const ObjectRef object = At(epoll);
  if (object == nullptr || At(fd) == nullptr) return Fail(EBADF);
  auto& watches = object->watches;
  const auto found = std::find_if(watches.begin(), watches.end(),
                                  [fd](const fuzz::Watch& watch) { return watch.fd == fd; });
  if (operation == EPOLL_CTL_ADD) {
    if (Faulty()) return -1;
    if (found != watches.end()) return Fail(EEXIST);
    watches.push_back({fd, event->events, event->data.u64});
    return 0;
  }
  if (found == watches.end()) return Fail(ENOENT);
  if (operation == EPOLL_CTL_DEL)
    watches.erase(found);
  else
    *found = {fd, event->events, event->data.u64};
  return 0;
}
int fuzz_epoll_wait(int epoll, epoll_event* events, int capacity, int timeout_ms) {
  const ObjectRef object = At(epoll);
  if (object == nullptr) return Fail(EBADF);
  MUST(timeout_ms == 0);
  int count = 0;
  for (const fuzz::Watch& watch : object->watches) {
    const ObjectRef target = At(watch.fd);
    const uint32_t ready = fuzz::Events(*target) & (watch.events | EPOLLHUP);
    if (ready == 0 || count == capacity) continue;
    events[count].events = ready;
    events[count++].data.u64 = watch.data;
  }
  return count;
}
int fuzz_poll(pollfd* fds, nfds_t count, int timeout_ms) {
  return fuzz::PollFor(fds, count,
                       timeout_ms < 0 ? UINT64_MAX : static_cast<uint64_t>(timeout_ms) * 1000000u);
}
int fuzz_ppoll(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask) {
  (void)mask;
  MUST(timeout->tv_sec >= 0 && timeout->tv_nsec >= 0 && timeout->tv_nsec < 1000000000);
  return fuzz::PollFor(fds, count,
                       static_cast<uint64_t>(timeout->tv_sec) * 1000000000u +
                           static_cast<uint64_t>(timeout->tv_nsec));
}

// -- memory ---------------------------------------------------------------------------------------

int fuzz_memfd_create(const char* name, unsigned flags) {
  (void)name, (void)flags;
  return fuzz::OpenNew(Kind::kMemory);
}
int fuzz_ftruncate(int fd, off_t bytes) {
  const ObjectRef object = At(fd);
  if (object == nullptr) return Fail(EBADF);
  if (Faulty()) return -1;
  object->bytes = static_cast<size_t>(bytes);
  return 0;
}
int fuzz_fallocate(int fd, int mode, off_t offset, off_t bytes) {
  (void)fd, (void)mode, (void)offset, (void)bytes;
  return Faulty() ? -1 : 0;
}
void* fuzz_mmap(void* where, size_t bytes, int protection, int flags, int fd, off_t offset) {
  (void)where, (void)protection, (void)offset;
  if ((flags & MAP_ANONYMOUS) != 0)  // of fork_guard.cc, for the life of the process
    return aligned_alloc(4096, bytes);
  const ObjectRef object = At(fd);
  MUST(object != nullptr && object->kind == Kind::kMemory && bytes <= object->bytes);
  if (Faulty()) return MAP_FAILED;
  errno = object->map_denied ? EPERM : ENOMEM;
  if (object->map_denied || kernel.mapped_bytes + bytes > fuzz::kMappedMax) return MAP_FAILED;
  auto* const data = static_cast<uint8_t*>(aligned_alloc(64, bytes));
  memset(data, 0, bytes);
  if (!object->content.empty())
    memcpy(data, object->content.data(), std::min(bytes, object->content.size()));
  object->mapped = data;
  kernel.mappings[data] = {bytes, object};
  kernel.mapped_bytes += bytes;
  return data;
}
int fuzz_munmap(void* data, size_t bytes) {
  const auto found = kernel.mappings.find(data);
  MUST(found != kernel.mappings.end() && found->second.first == bytes);
  ObjectRef& object = found->second.second;
  if (object->mapped == data) object->mapped = nullptr;
  kernel.mapped_bytes -= bytes;
  kernel.mappings.erase(found);
  free(data);
  return 0;
}
int fuzz_madvise(void* data, size_t bytes, int advice) {
  if (advice == MADV_REMOVE) memset(data, 0, bytes);
  if (advice == MADV_WIPEONFORK) {
    memset(data, 0, bytes);
    return 0;
  }
  return advice == MADV_DONTFORK && Faulty() ? -1 : 0;
}
int fuzz_mlock(const void* data, size_t bytes) {
  (void)data, (void)bytes;
  return Fail(ENOMEM);
}

// -- sockets --------------------------------------------------------------------------------------

int fuzz_socket(int domain, int type, int protocol) {
  (void)domain, (void)type, (void)protocol;
  return fuzz::OpenNew(Kind::kSocket);
}
int fuzz_bind(int fd, const sockaddr* address, socklen_t bytes) {
  if (Faulty()) return -1;
  const auto* const name = reinterpret_cast<const sockaddr_un*>(address);
  MUST(At(fd) != nullptr && bytes <= sizeof *name && bytes > offsetof(sockaddr_un, sun_path));
  if (name->sun_path[0] == '\0') return 0;
  MUST(memchr(name->sun_path, 0, bytes - offsetof(sockaddr_un, sun_path)) != nullptr);
  const auto [at, made] = kernel.files.try_emplace(name->sun_path, S_IFSOCK | 0700);
  return made ? 0 : Fail(EADDRINUSE);
}
int fuzz_listen(int fd, int backlog) {
  (void)backlog;
  if (Faulty()) return -1;
  At(fd)->listening = true;
  kernel.listener = At(fd);
  return 0;
}
int fuzz_accept4(int fd, sockaddr* address, socklen_t* bytes, int flags) {
  (void)address, (void)bytes, (void)flags;
  const ObjectRef listener = At(fd);
  MUST(listener != nullptr && listener->listening);
  if (Faulty()) return -1;
  if (listener->pending.empty()) return Fail(EAGAIN);
  const int made = Open(listener->pending.front());
  if (made >= 0) listener->pending.pop_front();
  return made;
}
int fuzz_connect(int fd, const sockaddr* address, socklen_t bytes) {
  MUST(At(fd) != nullptr && address != nullptr && bytes <= sizeof(sockaddr_un));
  if (Faulty()) return -1;
  if (kernel.connect_errno != 0) return Fail(kernel.connect_errno);
  kernel.connected = At(fd);
  return 0;
}
int fuzz_getsockname(int fd, sockaddr* address, socklen_t* bytes) {
  (void)fd;
  address->sa_family = AF_UNIX;
  *bytes = sizeof address->sa_family;
  return 0;
}
int fuzz_setsockopt(int fd, int level, int name, const void* value, socklen_t bytes) {
  (void)level, (void)value, (void)bytes;
  if (At(fd) == nullptr) return Fail(EBADF);
  return name == SO_PASSCRED && Faulty() ? -1 : 0;
}
int fuzz_getsockopt(int fd, int level, int name, void* value, socklen_t* bytes) {
  (void)level;
  const ObjectRef object = At(fd);
  if (object == nullptr) return Fail(EBADF);
  if (Faulty()) return -1;
  int number = 0;
  switch (name) {
    case SO_PEERCRED: {
      const ucred peer = {kernel.peer_pid, kernel.peer_uid, kernel.peer_uid};
      MUST(*bytes >= sizeof peer);
      memcpy(value, &peer, sizeof peer);
      return 0;
    }
    case SO_PEERGROUPS: {
      const auto need = static_cast<socklen_t>(kernel.groups * sizeof(gid_t));
      const bool fits = *bytes >= need;
      *bytes = need;
      if (!fits) return Fail(ERANGE);
      if (need != 0) memset(value, 1, need);
      return 0;
    }
    case 77:  // SO_PEERPIDFD
      if (!kernel.has_peer_pidfd) return Fail(ENOPROTOOPT);
      number = Open(kernel.Make(Kind::kPidfd));
      if (number < 0) return -1;
      break;
    case SO_DOMAIN:
      number = AF_UNIX;
      break;
    case SO_TYPE:
      number = SOCK_SEQPACKET;
      break;
    case SO_ACCEPTCONN:
      number = object->listening ? 1 : 0;
      break;
    default:
      return Fail(ENOPROTOOPT);
  }
  memcpy(value, &number, sizeof number);
  *bytes = sizeof number;
  return 0;
}

ssize_t fuzz_sendmsg(int fd, const msghdr* message, int flags) {
  MUST((flags & MSG_DONTWAIT) != 0 && (flags & MSG_NOSIGNAL) != 0);
  const ObjectRef socket = At(fd);
  if (socket == nullptr) return Fail(EBADF);
  if (Faulty()) return -1;
  if (socket->hung_up) return Fail(EPIPE);
  if (socket->outgoing.size() >= socket->room) return Fail(EAGAIN);
  Message sent;
  for (size_t i = 0; i < message->msg_iovlen; ++i) {
    const auto* const from = static_cast<const uint8_t*>(message->msg_iov[i].iov_base);
    sent.bytes.insert(sent.bytes.end(), from, from + message->msg_iov[i].iov_len);
  }
  auto* const whole = const_cast<msghdr*>(message);
  for (cmsghdr* part = CMSG_FIRSTHDR(whole); part != nullptr; part = CMSG_NXTHDR(whole, part)) {
    if (part->cmsg_type == SCM_CREDENTIALS) sent.credentials = true;
    if (part->cmsg_type != SCM_RIGHTS) continue;
    for (size_t at = CMSG_LEN(0); at < part->cmsg_len; at += sizeof(int)) {
      int number;
      memcpy(&number, reinterpret_cast<uint8_t*>(part) + at, sizeof number);
      MUST(At(number) != nullptr);
      sent.fds.push_back(At(number));
    }
  }
  const auto count = static_cast<ssize_t>(sent.bytes.size());
  socket->outgoing.push_back(std::move(sent));
  return count;
}
ssize_t fuzz_send(int fd, const void* bytes, size_t count, int flags) {
  iovec part = {const_cast<void*>(bytes), count};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  return fuzz_sendmsg(fd, &message, flags);
}

ssize_t fuzz_recvmsg(int fd, msghdr* message, int flags) {
  MUST((flags & MSG_DONTWAIT) != 0 && (flags & MSG_CMSG_CLOEXEC) != 0);
  const ObjectRef socket = At(fd);
  if (socket == nullptr) return Fail(EBADF);
  if (Faulty()) return -1;
  if (socket->reset) {
    socket->reset = false;
    return Fail(ECONNRESET);
  }
  const size_t capacity = message->msg_controllen;
  message->msg_controllen = 0;
  message->msg_flags = 0;
  if (socket->incoming.empty()) return socket->hung_up ? 0 : Fail(EAGAIN);
  const Message received = std::move(socket->incoming.front());
  socket->incoming.pop_front();
  MUST(message->msg_iovlen == 1);
  const size_t bytes = std::min(received.bytes.size(), message->msg_iov->iov_len);
  if (bytes != 0) memcpy(message->msg_iov->iov_base, received.bytes.data(), bytes);
  if (bytes < received.bytes.size()) message->msg_flags |= MSG_TRUNC;
  if (received.cut) message->msg_flags |= MSG_CTRUNC;
  // As scm_recv of Linux does it: credentials first, then as many fds as there is room for.
  auto* const control = static_cast<uint8_t*>(message->msg_control);
  size_t used = 0;
  if (received.credentials) {
    const ucred peer = {kernel.peer_pid + 1, kernel.peer_uid, kernel.peer_uid};
    if (capacity - used < CMSG_LEN(sizeof peer)) {
      message->msg_flags |= MSG_CTRUNC;
    } else {
      cmsghdr header = {CMSG_LEN(sizeof peer), SOL_SOCKET, SCM_CREDENTIALS};
      memcpy(control + used, &header, sizeof header);
      memcpy(control + used + CMSG_LEN(0), &peer, sizeof peer);
      used += std::min(CMSG_SPACE(sizeof peer), capacity - used);
    }
  }
  if (!received.fds.empty()) {
    const size_t room = capacity - used <= CMSG_LEN(0) ? 0 : (capacity - used - CMSG_LEN(0)) / 4;
    size_t count = 0;
    for (; count < std::min(room, received.fds.size()); ++count) {
      const int number = Open(received.fds[count]);
      if (number < 0) break;
      memcpy(control + used + CMSG_LEN(count * 4), &number, sizeof number);
    }
    if (count < received.fds.size()) message->msg_flags |= MSG_CTRUNC;
    if (count != 0) {
      cmsghdr header = {CMSG_LEN(count * 4), SOL_SOCKET, SCM_RIGHTS};
      memcpy(control + used, &header, sizeof header);
      used += std::min(CMSG_SPACE(count * 4), capacity - used);
    }
  }
  message->msg_controllen = used;
  return static_cast<ssize_t>(bytes);
}

// -- files ----------------------------------------------------------------------------------------

int fuzz_lstat(const char* path, struct stat* file) {
  if (Faulty()) return -1;
  const auto found = kernel.files.find(path);
  if (found == kernel.files.end()) return Fail(ENOENT);
  *file = {};
  file->st_mode = found->second;
  file->st_dev = 1;
  file->st_ino = fuzz::InodeOf(path);
  return 0;
}
int fuzz_stat(const char* path, struct stat* file) { return fuzz_lstat(path, file); }
int fuzz_fstat(int fd, struct stat* file) {
  const ObjectRef object = At(fd);
  if (object == nullptr) return Fail(EBADF);
  if (Faulty()) return -1;
  fuzz::Describe(*object, file);
  return 0;
}
int fuzz_fstatfs(int fd, struct statfs* volume) {
  const ObjectRef object = At(fd);
  if (object == nullptr) return Fail(EBADF);
  if (Faulty()) return -1;
  *volume = {};
  volume->f_type = object->volume;
  return 0;
}
int fuzz_open(const char* path, int flags, ...) {
  if (Faulty()) return -1;
  const auto found = kernel.files.find(path);
  if (found == kernel.files.end()) {
    if ((flags & O_CREAT) == 0) return Fail(ENOENT);
    kernel.files[path] = S_IFREG | 0600;
  }
  const mode_t mode = kernel.files[path];
  if ((flags & O_PATH) == 0) {
    if (S_ISLNK(mode)) return Fail(ELOOP);
    if (S_ISSOCK(mode)) return Fail(ENXIO);
    if (S_ISDIR(mode) && (flags & O_CREAT) != 0) return Fail(EISDIR);
  }
  ObjectRef object = kernel.Make(Kind::kPath);
  object->mode = mode;
  object->inode = fuzz::InodeOf(path);
  return Open(std::move(object));
}
int fuzz_unlink(const char* path) {
  const auto found = kernel.files.find(path);
  if (found == kernel.files.end()) return Fail(ENOENT);
  // Ours alone: sockets, and lock files.
  MUST(S_ISSOCK(found->second) || S_ISREG(found->second));
  kernel.files.erase(found);
  return 0;
}
int fuzz_mkdir(const char* path, mode_t mode) {
  if (Faulty()) return -1;
  return kernel.files.try_emplace(path, S_IFDIR | mode).second ? 0 : Fail(EEXIST);
}
int fuzz_chmod(const char* path, mode_t mode) {
  (void)path, (void)mode;
  return Faulty() ? -1 : 0;
}
int fuzz_fchmod(int fd, mode_t mode) {
  (void)mode;
  return At(fd) != nullptr ? 0 : Fail(EBADF);
}
int fuzz_eaccess(const char* path, int mode) {
  (void)path, (void)mode;
  return Faulty() ? -1 : 0;
}
int fuzz_flock(int fd, int operation) {
  (void)operation;
  return Faulty() ? -1 : At(fd) != nullptr ? 0 : Fail(EBADF);
}

}  // extern "C"
