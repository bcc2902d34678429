#include "segment.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <limits>
#include <utility>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U  // 6.3; the C library may be older
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23  // 5.14
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25  // 6.1
#endif

namespace coroipc {
namespace {

constexpr size_t kGranularity = 4096;
constexpr size_t kHugePage = 2u << 20;  // of x86 and, with pages of 4 KiB, of ARM
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

bool IsSegmentSize(size_t bytes) {
  return bytes != 0 && bytes % kGranularity == 0 &&
         bytes <= static_cast<size_t>(std::numeric_limits<off_t>::max());
}

Status MakeMemory(Fd* fd) {
  const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  int made = memfd_create("coroipc", flags | MFD_NOEXEC_SEAL);
  if (made < 0 && errno == EINVAL) made = memfd_create("coroipc", flags);  // before 6.3
  if (made < 0) return SystemError("memfd_create", errno);
  fd->Reset(made);
  return COROIPC_OK;
}

// Where a mapping can have huge pages: address space of our own that begins with one. nullptr:
// wherever the kernel likes, which is no error.
void* HugePlace(size_t bytes) {
  const size_t all = bytes + kHugePage;
  void* const found =
      mmap(nullptr, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (found == MAP_FAILED) return nullptr;
  auto* const start = static_cast<uint8_t*>(found);
  const size_t before = -reinterpret_cast<uintptr_t>(start) & (kHugePage - 1);
  if (before > 0) munmap(start, before);
  uint8_t* const place = start + before;
  const size_t behind = all - before - bytes;
  if (behind > 0) munmap(place + bytes, behind);
  return place;
}

// A shared mapping that a forked child does not get: it could write into its parent's rings. Large
// ones begin where a huge page can, on both sides: one of them may have asked for those.
Status MapShared(int fd, size_t bytes, uint8_t** data) {
  void* const place = bytes >= kHugePage ? HugePlace(bytes) : nullptr;
  void* mapping = mmap(place, bytes, PROT_READ | PROT_WRITE,
                       MAP_SHARED | (place == nullptr ? 0 : MAP_FIXED), fd, 0);
  if (mapping == MAP_FAILED && place != nullptr) {
    const int error = errno;
    munmap(place, bytes);
    return SystemError("mmap", error);
  }
  if (mapping == MAP_FAILED) return SystemError("mmap", errno);
  if (madvise(mapping, bytes, MADV_DONTFORK) != 0) {
    const int error = errno;
    munmap(mapping, bytes);
    return SystemError("madvise", error);
  }
  *data = static_cast<uint8_t*>(mapping);
  return COROIPC_OK;
}

}  // namespace

Segment::Segment(Segment&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Segment& Segment::operator=(Segment&& other) noexcept {
  if (this != &other) {
    Unmap();
    data_ = std::exchange(other.data_, nullptr);
    bytes_ = std::exchange(other.bytes_, 0);
  }
  return *this;
}

Segment::~Segment() { Unmap(); }

void Segment::Unmap() {
  if (data_ != nullptr) munmap(data_, bytes_);
  data_ = nullptr;
  bytes_ = 0;
}

void Segment::Empty(size_t start) {
  if (start < bytes_) (void)madvise(data_ + start, bytes_ - start, MADV_REMOVE);
}

Status Segment::Create(size_t bytes, const Backing& backing, Segment* segment, Fd* fd) {
  using Wish = Backing::Wish;
  if (!IsSegmentSize(bytes)) return COROIPC_INVALID_ARGUMENT;
  Fd memory;
  Status status = MakeMemory(&memory);
  if (status != COROIPC_OK) return status;
  if (ftruncate(memory.get(), static_cast<off_t>(bytes)) != 0)
    return SystemError("ftruncate", errno);
  const bool huge = backing.huge != Wish::kNo && bytes >= kHugePage;
  if (backing.prefault || huge) {
    int result;
    do {
      result = fallocate(memory.get(), 0, 0, static_cast<off_t>(bytes));
    } while (result != 0 && errno == EINTR);
    if (result != 0) return SystemError("fallocate", errno);
  }
  if (fcntl(memory.get(), F_ADD_SEALS, kSeals) != 0) return SystemError("fcntl", errno);
  Segment mapped;
  status = MapShared(memory.get(), bytes, &mapped.data_);
  if (status != COROIPC_OK) return status;
  mapped.bytes_ = bytes;
  // Locking also fills the page table. Where the limit forbids it the pages are there all the same
  // and only the table is filled; both are a favour, hence no check.
  if (backing.lock == Wish::kNo && backing.prefault && mlock(mapped.data_, bytes) != 0)
    (void)madvise(mapped.data_, bytes, MADV_POPULATE_WRITE);
  // Joined afterwards, and not asked for beforehand: that works whatever shmem_enabled says (`deny`
  // excepted), and needs no pool that somebody has to reserve.
  if (huge && madvise(mapped.data_, bytes, MADV_COLLAPSE) != 0 && backing.huge == Wish::kDemand)
    return SystemError("madvise", errno);
  if (backing.lock != Wish::kNo && mlock(mapped.data_, bytes) != 0 && backing.lock == Wish::kDemand)
    return SystemError("mlock", errno);
  *segment = std::move(mapped);
  *fd = std::move(memory);
  return COROIPC_OK;
}

Status Segment::Map(int fd, size_t bytes, Segment* segment) {
  if (!IsSegmentSize(bytes)) return COROIPC_PROTOCOL;
  // Seals first: before them the size is only a rumour. Pipes, sockets, directories and files of
  // other file systems have no seals, EINVAL; an O_PATH fd has no fcntl of this kind, EBADF.
  const int seals = fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & kSeals) != kSeals) return COROIPC_PROTOCOL;
  struct stat file;
  if (fstat(fd, &file) != 0 || !S_ISREG(file.st_mode)) return COROIPC_PROTOCOL;
  if (file.st_size < 0 || static_cast<size_t>(file.st_size) != bytes) return COROIPC_PROTOCOL;
  // memfds of huge pages carry seals too. There a punched hole is not zeros but SIGBUS, once the
  // pool of huge pages is empty, and a peer can empty it.
  struct statfs volume;
  if (fstatfs(fd, &volume) != 0 || volume.f_type != TMPFS_MAGIC) return COROIPC_PROTOCOL;
  const int mode = fcntl(fd, F_GETFL);
  if (mode < 0 || (mode & O_ACCMODE) != O_RDWR) return COROIPC_PROTOCOL;
  Segment mapped;
  const Status status = MapShared(fd, bytes, &mapped.data_);
  // EPERM: F_SEAL_WRITE or F_SEAL_FUTURE_WRITE; asked of mmap, since a test beforehand would race.
  if (status != COROIPC_OK) return coroipc_errno() == EPERM ? COROIPC_PROTOCOL : status;
  mapped.bytes_ = bytes;
  *segment = std::move(mapped);
  return COROIPC_OK;
}

}  // namespace coroipc
