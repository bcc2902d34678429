// fork_guard.h: tells a forked child that a connection is its parent's. One page with
// MADV_WIPEONFORK (madvise(2), 4.14): a load instead of a getpid(2) system call; also true after a
// raw clone(2).
#ifndef COROIPC_SRC_FORK_GUARD_H
#define COROIPC_SRC_FORK_GUARD_H

namespace coroipc {

class ForkGuard {
 public:
  ForkGuard();          // remembers this process
  bool forked() const;  // true in a child of the process that made this guard

 private:
  unsigned token_;
};

}  // namespace coroipc

#endif
