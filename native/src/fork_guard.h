// fork_guard.h: tells a forked child that a connection is its parent's. One page with
// MADV_WIPEONFORK (madvise(2), 4.14): a load instead of a getpid(2) system call; also true after a
// raw clone(2).
#ifndef COROIPC_SRC_FORK_GUARD_H
#define COROIPC_SRC_FORK_GUARD_H

#include <atomic>

namespace coroipc {

class ForkGuard {
 public:
  ForkGuard();  // remembers this process
  // True in a child of the process that made this guard.
  bool forked() const {
    return word_ != nullptr ? token_ != word_->load(std::memory_order_relaxed) : OtherProcess();
  }

 private:
  bool OtherProcess() const;

  // nullptr: there was no page, and the token is the process id. A page made later is not this
  // guard's.
  std::atomic<unsigned>* word_;
  unsigned token_;
};

}  // namespace coroipc

#endif
