// One word in a page that the kernel zeroes in a forked child. Whoever makes a guard and finds the
// word zero writes the next number there; the number comes from ordinary memory, which the child
// inherits, so that no generation of processes ever sees the token of an ancestor again.
//
// No lock anywhere: another thread might hold it at the moment of fork(2), for ever in the child.
#include "fork_guard.h"

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>

namespace coroipc {
namespace {

using Word = std::atomic<unsigned>;
static_assert(Word::is_always_lock_free);

constinit std::atomic<Word*> page{nullptr};
constinit Word generations{0};

// nullptr where the kernel has no MADV_WIPEONFORK (before 4.14), or no memory: then the process id
// is the token.
Word* Page() {
  // ORDER fork-page (acquire; pairs with acq_rel in Page): the page's advice was given before its
  // address is seen; otherwise a guard could be made in a page that survives a fork.
  Word* known = page.load(std::memory_order_acquire);
  if (known != nullptr) return known;
  const size_t bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* fresh = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (fresh == MAP_FAILED) return nullptr;
  if (madvise(fresh, bytes, MADV_WIPEONFORK) != 0) {
    munmap(fresh, bytes);
    return nullptr;
  }
  // ORDER fork-page (acq_rel; pairs with acquire in Page): see there; the loser of a race takes the
  // winner's page.
  if (page.compare_exchange_strong(known, static_cast<Word*>(fresh), std::memory_order_acq_rel,
                                   std::memory_order_acquire))
    return static_cast<Word*>(fresh);
  munmap(fresh, bytes);
  return known;
}

}  // namespace

ForkGuard::ForkGuard() : word_(Page()) {
  if (word_ == nullptr) {
    token_ = static_cast<unsigned>(getpid());
    return;
  }
  // The word guards no other memory: relaxed is enough for all of its accesses.
  token_ = word_->load(std::memory_order_relaxed);
  if (token_ != 0) return;
  const unsigned next = generations.fetch_add(1, std::memory_order_relaxed) + 1;
  if (word_->compare_exchange_strong(token_, next, std::memory_order_relaxed)) token_ = next;
}

bool ForkGuard::OtherProcess() const { return token_ != static_cast<unsigned>(getpid()); }

}  // namespace coroipc
