// kernel.h: a kernel in the process, for targets that run a whole server or client. The core is
// linked against it instead of the real one (Makefile: objcopy --redefine-syms), unchanged: sockets
// with ancillary data, memfds with seals, epoll, eventfd, timerfd, pidfd, the file system as far as
// listening needs it, and a clock that only this file moves. One thread, no sleeping, no system
// calls: an input gives the same run everywhere.
//
// Memory that the core maps is a block of exactly that size, gone when it is unmapped, so that the
// sanitizer sees what in real mappings would be a read of whatever lies behind. The peer's side is
// the target's to play, through the objects below. Calls fail as the target says (Fault).
#ifndef COROIPC_TEST_FUZZ_KERNEL_H_
#define COROIPC_TEST_FUZZ_KERNEL_H_

#include <sys/stat.h>
#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace fuzz {

struct Object;
using ObjectRef = std::shared_ptr<Object>;

struct Message {
  std::vector<uint8_t> bytes;
  std::vector<ObjectRef> fds;
  bool credentials = false;
  bool cut = false;  // the kernel could not deliver all ancillary data: MSG_CTRUNC
};

struct Watch {
  int fd;
  uint32_t events;
  uint64_t data;
};

enum class Kind : uint8_t { kSocket, kEvent, kTimer, kEpoll, kPidfd, kMemory, kPath };

struct Object {
  explicit Object(Kind what) : kind(what) {}
  Kind kind;
  // kSocket: what the peer sent and the core has not read; what the core sent.
  std::deque<Message> incoming;
  std::deque<Message> outgoing;
  uint32_t room = 64;  // messages that may lie unread at the peer's
  bool hung_up = false, reset = false;
  bool listening = false;
  std::deque<ObjectRef> pending;  // of a listener
  // kEvent, kTimer
  uint64_t count = 0, expires = 0;
  // kEpoll
  std::vector<Watch> watches;
  // kMemory
  size_t bytes = 0;
  int seals = 0;
  int access = 2;                // O_RDWR
  mode_t mode = S_IFREG | 0600;  // also of kPath
  int64_t volume = 0x01021994;   // TMPFS_MAGIC
  bool map_denied = false;       // F_SEAL_WRITE: mmap says EPERM
  uint8_t* mapped = nullptr;     // where the core has it, if it has
  std::vector<uint8_t> content;  // what is there when it is mapped
  uint64_t inode = 0;
};

class Kernel {
 public:
  // Before each input: nothing open, nothing mapped.
  void Reset();
  // After it: the core must have closed and unmapped everything, for whatever reason it ended.
  void CheckNothingLeft() const;

  ObjectRef Make(Kind kind) { return std::make_shared<Object>(kind); }
  // The n-th call from now on that can fail does so.
  void Fault(uint32_t n, int error) {
    fault_in = n;
    fault_errno = error;
  }

  uint64_t now = 0;
  bool peer_dead = false;  // its pidfd is readable
  uid_t peer_uid = 0;
  pid_t peer_pid = 4242;
  bool has_peer_pidfd = true;
  uint32_t groups = 3;
  int connect_errno = 0;
  ObjectRef connected;  // the last socket that connect(2) gave
  ObjectRef listener;
  // The core sleeps: the target may let the peer act. Nothing readable afterwards: time passes.
  std::function<void()> on_sleep;
  std::map<std::string, mode_t> files;  // of the file system; anything else is not there
  std::string runtime_directory;

  // -- for the calls --
  uint32_t fault_in = 0;
  int fault_errno = 0;
  std::vector<ObjectRef> fds;
  std::map<void*, std::pair<size_t, ObjectRef>> mappings;
  size_t mapped_bytes = 0;
};

extern Kernel kernel;

}  // namespace fuzz

#endif
