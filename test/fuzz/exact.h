// exact.h: a block of exactly so many bytes: a step beyond it is seen. By the address sanitizer,
// which knows what was allocated, or, without one (volley.cc), by a page behind it that cannot be
// touched.
#ifndef COROIPC_TEST_FUZZ_EXACT_H_
#define COROIPC_TEST_FUZZ_EXACT_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#ifdef COROIPC_FUZZ_GUARDED
#include <sys/mman.h>
#endif

#include "input.h"

namespace fuzz {

class Exact {
 public:
  Exact() = default;
  explicit Exact(size_t bytes) { Resize(bytes); }
  Exact(const Exact&) = delete;
  Exact& operator=(const Exact&) = delete;
  uint8_t* get() const { return start_; }

#ifdef COROIPC_FUZZ_GUARDED
  // What it holds is anything, and a block before it is not noticed.
  void Resize(size_t bytes) {
    if (guard_ == nullptr) {
      void* const pages = mmap(nullptr, kBytesMax + kPage, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      MUST(pages != MAP_FAILED);
      guard_ = static_cast<uint8_t*>(pages) + kBytesMax;
      MUST(mprotect(guard_, kPage, PROT_NONE) == 0);
    }
    MUST(bytes <= kBytesMax);
    start_ = guard_ - bytes;
  }
  ~Exact() {
    if (guard_ != nullptr) munmap(guard_ - kBytesMax, kBytesMax + kPage);
  }

 private:
  static constexpr size_t kBytesMax = 1 << 16, kPage = 4096;
  uint8_t* guard_ = nullptr;
#else
  void Resize(size_t bytes) {
    block_ = std::make_unique<uint8_t[]>(bytes);
    start_ = block_.get();
  }

 private:
  std::unique_ptr<uint8_t[]> block_;
#endif
  uint8_t* start_ = nullptr;
};

}  // namespace fuzz

#endif
