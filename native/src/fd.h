// fd.h: an owned file descriptor. Every fd of the core is CLOEXEC from birth and owned by one of
// these.
#ifndef COROIPC_SRC_FD_H
#define COROIPC_SRC_FD_H

#include <unistd.h>

#include <utility>

namespace coroipc {

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) Reset(std::exchange(other.fd_, -1));
    return *this;
  }
  ~Fd() { Reset(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int Release() { return std::exchange(fd_, -1); }
  void Reset(int fd = -1) {
    if (fd_ >= 0) ::close(fd_);  // EINTR still closes on Linux, close(2)
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

}  // namespace coroipc

#endif
