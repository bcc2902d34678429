// segment.h: sealed shared memory. The server creates it, the client checks type, size and seals
// before it maps: no peer can shrink it (SIGBUS) or grow it, memfd_create(2), F_ADD_SEALS in
// fcntl(2). Punching holes stays possible and reads as zeros: bytes like any other.
#ifndef COROIPC_SRC_SEGMENT_H
#define COROIPC_SRC_SEGMENT_H

#include <cstddef>
#include <cstdint>

#include "fd.h"
#include "status.h"

namespace coroipc {

// What is asked of memory that nobody has used yet. kTry: where it cannot be had, ordinary memory
// will do; kDemand: NO_MEMORY or SYSTEM then.
struct Backing {
  enum class Wish : uint8_t { kNo, kTry, kDemand };
  Backing(bool allocated = false) : prefault(allocated) {}  // NOLINT: a bool says enough
  bool prefault;          // allocated now; locked and mapped as far as limits let us
  Wish lock = Wish::kNo;  // mlock(2): RLIMIT_MEMLOCK
  Wish huge = Wish::kNo;  // huge pages for what is at least one large, MADV_COLLAPSE (6.1)
};

class Segment {
 public:
  Segment() = default;
  Segment(const Segment&) = delete;
  Segment& operator=(const Segment&) = delete;
  Segment(Segment&& other) noexcept;
  Segment& operator=(Segment&& other) noexcept;
  ~Segment();

  // memfd (CLOEXEC, NOEXEC_SEAL where the kernel has it), sized, sealed SHRINK|GROW|SEAL, mapped,
  // MADV_DONTFORK. `bytes` is a multiple of 4096. With prefault the pages are allocated and locked
  // now (mlock is best effort: RLIMIT_MEMLOCK; allocation is not: NO_MEMORY instead of a SIGBUS
  // later). The fd is for sending and may be closed afterwards: the mapping lives on.
  static Status Create(size_t bytes, const Backing& backing, Segment* segment, Fd* fd);

  // PROTOCOL unless `fd` is a memfd-like regular file of exactly `bytes` with those three seals.
  static Status Map(int fd, size_t bytes, Segment* segment);

  uint8_t* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  bool mapped() const { return data_ != nullptr; }
  void Unmap();
  // Frees the pages from `start` on; whoever has them mapped sees zeros. A favour that may fail.
  void Empty(size_t start);

 private:
  uint8_t* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace coroipc

#endif
