// What Segment makes, and everything it must refuse to map: a peer chooses the fd.
#include "segment.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <fstream>
#include <string>
#include <tuple>
#include <utility>

#include "check.h"
#include "deny.h"

using namespace coroipc;

namespace {

constexpr size_t kBytes = 3 * 4096;
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

template <typename Body>
bool InChild(Body body) {
  const pid_t child = fork();
  if (child == 0) {
    body();
    _exit(check_failures == 0 ? 0 : 1);
  }
  int status = -1;
  return waitpid(child, &status, 0) == child && status == 0;
}

Fd Memfd(off_t bytes, int seals, unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING) {
  Fd fd(memfd_create("test", flags));
  if (!fd.valid() || ftruncate(fd.get(), bytes) != 0 ||
      (seals != 0 && fcntl(fd.get(), F_ADD_SEALS, seals) != 0))
    return Fd();
  return fd;
}

// Refused, and nothing left behind.
bool Refused(int fd, size_t bytes = kBytes) {
  Segment segment;
  const Status status = Segment::Map(fd, bytes, &segment);
  if (status != COROIPC_PROTOCOL) printf("# status %s\n", coroipc_status_name(status));
  return status == COROIPC_PROTOCOL && !segment.mapped() && segment.bytes() == 0;
}

int Mappings() {
  std::ifstream maps("/proc/self/maps");
  int count = 0;
  for (std::string line; std::getline(maps, line);) count += line.find("memfd:") != line.npos;
  return count;
}

blkcnt_t Blocks(int fd) {
  struct stat file;
  return fstat(fd, &file) == 0 ? file.st_blocks : -1;
}

}  // namespace

TEST("a segment is zero, whole, sealed and closes on exec") {
  Segment segment;
  Fd fd;
  REQUIRE(Segment::Create(kBytes, false, &segment, &fd) == COROIPC_OK);
  CHECK(segment.mapped());
  CHECK_EQ(segment.bytes(), kBytes);
  for (size_t i = 0; i < kBytes; i++) CHECK_EQ(segment.data()[i], 0);
  const int seals = fcntl(fd.get(), F_GET_SEALS);
  CHECK_EQ(seals & kSeals, kSeals);
  CHECK_EQ(seals & F_SEAL_WRITE, 0);
  CHECK_EQ(fcntl(fd.get(), F_GETFD), FD_CLOEXEC);
}

TEST("both sides see the same bytes, and keep them when the fd is closed") {
  Segment ours, theirs;
  Fd fd;
  REQUIRE(Segment::Create(kBytes, false, &ours, &fd) == COROIPC_OK);
  REQUIRE(Segment::Map(fd.get(), kBytes, &theirs) == COROIPC_OK);
  fd.Reset();
  CHECK(ours.data() != theirs.data());
  ours.data()[0] = 1;
  theirs.data()[kBytes - 1] = 2;
  CHECK_EQ(theirs.data()[0], 1);
  CHECK_EQ(ours.data()[kBytes - 1], 2);
}

TEST("sizes that are no whole number of pages, or none, are refused") {
  for (size_t bytes :
       {size_t{0}, size_t{1}, size_t{4095}, size_t{4097}, SIZE_MAX, SIZE_MAX - 4095}) {
    Segment segment;
    Fd fd;
    CHECK_EQ(Segment::Create(bytes, false, &segment, &fd), COROIPC_INVALID_ARGUMENT);
    CHECK(!segment.mapped() && !fd.valid());
    const Fd good = Memfd(bytes < 8192 ? static_cast<off_t>(bytes) : 4096, kSeals);
    REQUIRE(good.valid());
    CHECK(Refused(good.get(), bytes));
  }
}

TEST("the smallest segment is one page of 4096") {
  Segment segment;
  Fd fd;
  REQUIRE(Segment::Create(4096, true, &segment, &fd) == COROIPC_OK);
  segment.data()[4095] = 1;
}

TEST("no one can shrink, grow or seal further; holes read as zeros") {
  Segment segment;
  Fd fd;
  REQUIRE(Segment::Create(kBytes, false, &segment, &fd) == COROIPC_OK);
  memset(segment.data(), 0xff, kBytes);
  for (off_t bytes : {0, 4096, 4 * 4096}) {
    CHECK(ftruncate(fd.get(), bytes) != 0);
    CHECK_EQ(errno, EPERM);
  }
  CHECK(fcntl(fd.get(), F_ADD_SEALS, F_SEAL_WRITE) != 0);
  CHECK_EQ(errno, EPERM);
  REQUIRE(fallocate(fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096) == 0);
  CHECK_EQ(segment.data()[4095], 0xff);
  CHECK_EQ(segment.data()[4096], 0);
  CHECK_EQ(segment.data()[8191], 0);
  CHECK_EQ(segment.data()[8192], 0xff);
}

TEST("pages come when they are touched, with prefault at once") {
  Segment lazy, eager;
  Fd lazy_fd, eager_fd;
  REQUIRE(Segment::Create(64 * 4096, false, &lazy, &lazy_fd) == COROIPC_OK);
  REQUIRE(Segment::Create(64 * 4096, true, &eager, &eager_fd) == COROIPC_OK);
  CHECK_EQ(Blocks(lazy_fd.get()), 0);
  CHECK_EQ(Blocks(eager_fd.get()), 64 * 4096 / 512);
  struct rusage before, after;
  getrusage(RUSAGE_SELF, &before);
  for (size_t i = 0; i < eager.bytes(); i += 4096) eager.data()[i] = 1;
  getrusage(RUSAGE_SELF, &after);
  if (!kSanitized) CHECK(after.ru_minflt - before.ru_minflt < 32);
}

TEST("prefault is content with allocated pages where it may lock none") {
  CHECK(InChild([] {
    struct rlimit none = {};
    REQUIRE(setrlimit(RLIMIT_MEMLOCK, &none) == 0);
    if (geteuid() == 0) REQUIRE(setuid(65533) == 0);  // root may lock in spite of the limit
    Segment segment;
    Fd fd;
    REQUIRE(Segment::Create(64 * 4096, true, &segment, &fd) == COROIPC_OK);
    CHECK_EQ(Blocks(fd.get()), 64 * 4096 / 512);
  }));
}

TEST("without a free fd: NO_MEMORY and nothing left") {
  CHECK(InChild([] {
    struct rlimit limit = {.rlim_cur = 0, .rlim_max = 0};
    REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    Segment segment;
    Fd fd;
    CHECK_EQ(Segment::Create(kBytes, false, &segment, &fd), COROIPC_NO_MEMORY);
    CHECK_EQ(coroipc_errno(), EMFILE);
    CHECK_STR_EQ(coroipc_syscall(), "memfd_create");
    CHECK(!segment.mapped() && !fd.valid());
  }));
}

TEST("without address space: NO_MEMORY on both sides and nothing left") {
  if (kSanitized) SKIP("sanitizers need the address space");
  CHECK(InChild([] {
    constexpr size_t kLarge = size_t{1} << 30;
    const Fd good = Memfd(kLarge, kSeals);
    struct rlimit limit = {.rlim_cur = kLarge / 2, .rlim_max = kLarge / 2};
    REQUIRE(setrlimit(RLIMIT_AS, &limit) == 0);
    Segment segment;
    Fd fd;
    CHECK_EQ(Segment::Create(kLarge, false, &segment, &fd), COROIPC_NO_MEMORY);
    CHECK_STR_EQ(coroipc_syscall(), "mmap");
    CHECK(!segment.mapped() && !fd.valid());
    CHECK_EQ(Segment::Map(good.get(), kLarge, &segment), COROIPC_NO_MEMORY);
    CHECK(!segment.mapped());
  }));
}

TEST("memory that is short at prefault is NO_MEMORY there, not SIGBUS later") {
  for (int error : {ENOSPC, ENOMEM}) {
    CHECK(InChild([&] {
      const int before = Mappings();
      REQUIRE(Deny(SYS_fallocate, error));
      Segment segment;
      Fd fd;
      CHECK_EQ(Segment::Create(kBytes, true, &segment, &fd), COROIPC_NO_MEMORY);
      CHECK_EQ(coroipc_errno(), error);
      CHECK(!segment.mapped() && !fd.valid());
      CHECK_EQ(Mappings(), before);
      CHECK_EQ(Segment::Create(kBytes, false, &segment, &fd), COROIPC_OK);
    }));
  }
}

TEST("a kernel without MFD_NOEXEC_SEAL makes segments too") {
  CHECK(InChild([] {
    REQUIRE(Deny(SYS_memfd_create, EINVAL, DenyWhen::kBitSet, 1, 0x0008));
    Segment segment;
    Fd fd;
    CHECK_EQ(Segment::Create(kBytes, false, &segment, &fd), COROIPC_OK);
    CHECK_EQ(fcntl(fd.get(), F_GET_SEALS) & kSeals, kSeals);
  }));
}

TEST("a segment that cannot be sealed, or not be kept from children, is not made") {
  for (bool seals : {true, false}) {
    CHECK(InChild([&] {
      const int before = Mappings();
      REQUIRE(seals ? Deny(SYS_fcntl, EPERM, DenyWhen::kEqual, 1, F_ADD_SEALS)
                    : Deny(SYS_madvise, EPERM, DenyWhen::kEqual, 2, MADV_DONTFORK));
      Segment segment;
      Fd fd;
      CHECK_EQ(Segment::Create(kBytes, false, &segment, &fd), COROIPC_SYSTEM);
      CHECK_EQ(coroipc_errno(), EPERM);
      CHECK_STR_EQ(coroipc_syscall(), seals ? "fcntl" : "madvise");
      CHECK(!segment.mapped() && !fd.valid());
      CHECK_EQ(Mappings(), before);
    }));
  }
}

TEST("memory of which the kernel will not say what it is, is not mapped") {
  for (const auto& [call, when, value] :
       std::initializer_list<std::tuple<long, DenyWhen, uint32_t>>{
           {SYS_fcntl, DenyWhen::kEqual, F_GET_SEALS},
           {SYS_fcntl, DenyWhen::kEqual, F_GETFL},
           {SYS_fstatfs, DenyWhen::kAlways, 0}}) {
    CHECK(InChild([call = call, when = when, value = value] {
      Segment made, mapped;
      Fd fd;
      REQUIRE(Segment::Create(kBytes, false, &made, &fd) == COROIPC_OK);
      const int before = Mappings();
      REQUIRE(Deny(call, EPERM, when, 1, value));
      CHECK_EQ(Segment::Map(fd.get(), kBytes, &mapped), COROIPC_PROTOCOL);
      CHECK(!mapped.mapped());
      CHECK_EQ(Mappings(), before);
    }));
  }
}

TEST("a size that the system does not allow is said by the call that failed") {
  CHECK(InChild([] {
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit = {.rlim_cur = 4096, .rlim_max = 4096};
    REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    Segment segment;
    Fd fd;
    CHECK_EQ(Segment::Create(kBytes, false, &segment, &fd), COROIPC_SYSTEM);
    CHECK_EQ(coroipc_errno(), EFBIG);
    CHECK_STR_EQ(coroipc_syscall(), "ftruncate");
    CHECK(!segment.mapped() && !fd.valid());
  }));
}

TEST("what is no sealed memory is refused: pipe, socket, directory, device, file, nothing") {
  int pipes[2], sockets[2];
  REQUIRE(pipe(pipes) == 0);
  REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sockets) == 0);
  char on_disk[] = "/tmp/coroipc-segment-XXXXXX";
  char in_shm[] = "/dev/shm/coroipc-segment-XXXXXX";
  const Fd directory(open("/", O_RDONLY | O_DIRECTORY));
  const Fd device(open("/dev/zero", O_RDWR));
  const Fd file(mkstemp(on_disk));
  const Fd tmpfs(mkstemp(in_shm));
  const Fd proc(open("/proc/self/maps", O_RDONLY));
  unlink(on_disk);
  unlink(in_shm);
  REQUIRE(ftruncate(file.get(), kBytes) == 0);
  if (tmpfs.valid()) REQUIRE(ftruncate(tmpfs.get(), kBytes) == 0);
  for (int fd : {pipes[0], pipes[1], sockets[0], directory.get(), device.get(), file.get(),
                 tmpfs.get(), proc.get(), -1, 1 << 20})
    CHECK(Refused(fd));
  for (int fd : {pipes[0], pipes[1], sockets[0], sockets[1]}) close(fd);
}

TEST("a memfd without one of the seals is refused, with all of them it is taken") {
  for (int seals = 0; seals < 8; seals++) {
    const int set = ((seals & 1) != 0 ? F_SEAL_SHRINK : 0) | ((seals & 2) != 0 ? F_SEAL_GROW : 0) |
                    ((seals & 4) != 0 ? F_SEAL_SEAL : 0);
    const Fd fd = Memfd(kBytes, set);
    REQUIRE(fd.valid());
    if (seals < 7) {
      CHECK(Refused(fd.get()));
    } else {
      Segment segment;
      CHECK_EQ(Segment::Map(fd.get(), kBytes, &segment), COROIPC_OK);
    }
  }
  const Fd never = Memfd(kBytes, 0, MFD_CLOEXEC);
  CHECK(Refused(never.get()));
}

TEST("a size one page off, either way, or by bytes is refused") {
  for (off_t bytes : {off_t{0}, off_t{kBytes} - 4096, off_t{kBytes} - 1, off_t{kBytes} + 1,
                      off_t{kBytes} + 4096, off_t{1} << 40}) {
    const Fd fd = Memfd(bytes, kSeals);
    REQUIRE(fd.valid());
    CHECK(Refused(fd.get()));
  }
}

TEST("memory that cannot be written through this fd is refused") {
  const Fd fd = Memfd(kBytes, kSeals);
  const std::string path = "/proc/self/fd/" + std::to_string(fd.get());
  const Fd read_only(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  const Fd write_only(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  const Fd bare(open(path.c_str(), O_PATH | O_CLOEXEC));
  REQUIRE(read_only.valid() && write_only.valid() && bare.valid());
  CHECK(Refused(read_only.get()));
  CHECK(Refused(write_only.get()));
  CHECK(Refused(bare.get()));
  const Fd frozen = Memfd(kBytes, kSeals | F_SEAL_WRITE);
  REQUIRE(frozen.valid());
  CHECK(Refused(frozen.get()));
#ifdef F_SEAL_FUTURE_WRITE
  const Fd future = Memfd(kBytes, kSeals | F_SEAL_FUTURE_WRITE);
  if (future.valid()) CHECK(Refused(future.get()));
#endif
}

TEST("sealed memory of huge pages is refused: a hole in it could be SIGBUS") {
  constexpr off_t kHuge = 2 << 20;
  const Fd fd = Memfd(kHuge, kSeals, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB);
  if (!fd.valid()) SKIP("no huge pages in this kernel");
  CHECK(Refused(fd.get(), kHuge));
}

TEST("a forked child does not have the mapping, nor has the parent lost it") {
  Segment made, mapped;
  Fd fd;
  REQUIRE(Segment::Create(kBytes, true, &made, &fd) == COROIPC_OK);
  REQUIRE(Segment::Map(fd.get(), kBytes, &mapped) == COROIPC_OK);
  CHECK(InChild([&] {
    for (uint8_t* data : {made.data(), mapped.data()}) {
      unsigned char resident[kBytes / 4096];
      CHECK(mincore(data, kBytes, resident) != 0);
      CHECK_EQ(errno, ENOMEM);
    }
  }));
  made.data()[0] = 1;
  CHECK_EQ(mapped.data()[0], 1);
}

TEST("a segment is unmapped once: by its end, by Unmap, by a move over it") {
  const int before = Mappings();
  {
    Segment a, b;
    Fd fd;
    REQUIRE(Segment::Create(kBytes, false, &a, &fd) == COROIPC_OK);
    REQUIRE(Segment::Map(fd.get(), kBytes, &b) == COROIPC_OK);
    CHECK_EQ(Mappings(), before + 2);
    uint8_t* data = a.data();
    b = std::move(a);
    CHECK_EQ(Mappings(), before + 1);
    CHECK(b.data() == data && b.bytes() == kBytes && !a.mapped() && a.bytes() == 0);
    Segment c(std::move(b));
    CHECK(c.data() == data && !b.mapped());
    c.Unmap();
    CHECK_EQ(Mappings(), before);
    CHECK(!c.mapped() && c.bytes() == 0);
    c.Unmap();
    REQUIRE(Segment::Map(fd.get(), kBytes, &c) == COROIPC_OK);
    REQUIRE(Segment::Map(fd.get(), kBytes, &c) == COROIPC_OK);  // over itself
    CHECK_EQ(Mappings(), before + 1);
  }
  CHECK_EQ(Mappings(), before);
}
