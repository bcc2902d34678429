// simulated.h: puts relacy's memory, in which a load may see any value that the C++ memory model
// lets it see, under the real ring and connection. Include it before their sources; nothing in
// native/src knows of it.
//
// Inside namespace coroipc the name std:: means coroipc::std, which is std with three changes:
// atomic_ref<uint32_t> on a word of a ring is a relacy atomic, and what memcpy, memset and any
// other atomic_ref touch inside the rings is watched for data races, eight bytes at a time. (A
// record's header is loaded by relaxed atomics only because a hostile writer may be writing, and
// stored by them for speed; between honest sides even plain accesses must not race, and that is
// checked.) The bytes themselves need no simulation: where nothing races a load has one value to
// see.
//
// Both sides are threads of relacy and map one memfd twice, as two processes do. A doorbell is a
// relaxed exchange and orders nothing, though the kernel's socket would: what the protocol needs is
// in its own words. relacy gives the stores of a word the order in which they were made; a relaxed
// one may be late here, as in a store buffer: after anything of its own thread that C++ does not
// order behind it.
#ifndef COROIPC_TEST_RELACY_SIMULATED_H
#define COROIPC_TEST_RELACY_SIMULATED_H

// relacy.hpp takes memory_order_seq_cst, new, errno and pthread_mutex_lock for programs that are
// written for it: these are its parts without the words.
#include <relacy/base.hpp>
#include <relacy/context.hpp>
//
#include <relacy/context_base_impl.hpp>
//
#include <relacy/atomic.hpp>
#include <relacy/backoff.hpp>
#include <relacy/test_suite.hpp>
#include <relacy/var.hpp>
//
#include <relacy/stdlib/condition_variable.hpp>
#include <relacy/stdlib/event.hpp>
#include <relacy/stdlib/mutex.hpp>
#include <relacy/stdlib/semaphore.hpp>

#include <coroipc/abi.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>

// relacy counts what is allocated in a run; these two forms are unknown to it.
inline void* operator new(size_t bytes, const std::nothrow_t&) noexcept {
  return operator new(bytes);
}
inline void operator delete(void* block, size_t) noexcept { operator delete(block); }

namespace simulated {

constexpr uint32_t kRingBytes = 64;  // two records; one of them with a pad before it
constexpr size_t kSegmentBytes = 8192;
constexpr size_t kCells = COROIPC_RINGS * kRingBytes / 8;
constexpr size_t kWordsOfRing = sizeof(coroipc_ring_words) / COROIPC_WORD_SPACING;
enum Side : unsigned { kClient, kServer };

// What both sides share in one run.
class Memory {
 public:
  Memory() {
    // Positions start near the wrap of 32 bits, anywhere in a ring.
    const uint32_t start = 0u - 8 * rl::rand(kRingBytes / 8 + 1);
    for (size_t i = 0; i < COROIPC_RINGS * kWordsOfRing; ++i)
      words_[i]($).store(i % kWordsOfRing < 2 ? start : 0, rl::mo_relaxed);
    for (auto& cell : cells_) cell($) = 0;
    for (auto& doorbell : doorbells_) doorbell($).store(0, rl::mo_relaxed);
  }

  // The socket has room for one: EAGAIN means that enough was rung already.
  void Ring(unsigned side) {
    doorbells_[side]($).exchange(1, rl::mo_relaxed);
    MayBecomeVisible();
  }
  bool TakeDoorbell(unsigned side) {
    MayBecomeVisible();
    return doorbells_[side]($).exchange(0, rl::mo_relaxed) != 0;
  }
  // Nobody who sleeps for ever gets out of here: relacy calls it a livelock.
  void Sleep(unsigned side) {
    while (doorbells_[side]($).load(rl::mo_relaxed) == 0) {
      MayBecomeVisible();
      rl::yield(1, $);
    }
  }

  void StoreLate(rl::atomic<uint32_t>* word, uint32_t value) {
    BecomeVisible();
    late_[rl::thread_index()] = {word, value};
    MayBecomeVisible();
  }
  // Before this thread releases, or touches the word again.
  void BecomeVisible(const rl::atomic<uint32_t>* touched = nullptr) {
    Late& late = late_[rl::thread_index()];
    if (late.word == nullptr || (touched != nullptr && touched != late.word)) return;
    (*late.word)($).store(late.value, rl::mo_relaxed);
    late.word = nullptr;
  }
  void MayBecomeVisible() {
    if (late_[rl::thread_index()].word != nullptr && rl::rand(8) == 0) BecomeVisible();
  }

  rl::atomic<uint32_t>* Word(const void* address) {
    const size_t offset = Offset(address);
    const size_t first = offsetof(coroipc_control, ring);
    const size_t index = (offset - first) / COROIPC_WORD_SPACING;
    return offset < first || index >= COROIPC_RINGS * kWordsOfRing ? nullptr : &words_[index];
  }
  // Every access to bytes of a ring passes here.
  void Touch(const void* address, size_t bytes, bool write) {
    const size_t offset = Offset(address);
    if (bytes == 0 || offset < COROIPC_CONTROL_BYTES ||
        offset >= COROIPC_CONTROL_BYTES + COROIPC_RINGS * kRingBytes)
      return;
    const size_t first = (offset - COROIPC_CONTROL_BYTES) / 8;
    const size_t last = (offset - COROIPC_CONTROL_BYTES + bytes - 1) / 8;
    for (size_t i = first; i <= last; ++i) {
      if (write) {
        cells_[i]($) = 1;
      } else {
        (void)cells_[i]($).load();
      }
    }
  }

  uint8_t* base[2] = {};  // where each side has mapped it

 private:
  struct Late {
    rl::atomic<uint32_t>* word = nullptr;
    uint32_t value = 0;
  };
  size_t Offset(const void* address) const {
    const auto* const at = static_cast<const uint8_t*>(address);
    for (const uint8_t* start : base)
      if (at >= start && at < start + kSegmentBytes) return static_cast<size_t>(at - start);
    return SIZE_MAX;
  }

  rl::atomic<uint32_t> words_[COROIPC_RINGS * kWordsOfRing];
  rl::var<uint32_t> cells_[kCells];
  rl::atomic<uint32_t> doorbells_[2];
  Late late_[2];
};

inline Memory* memory;

inline rl::memory_order Order(std::memory_order order) {
  switch (order) {
    case std::memory_order_relaxed:
      return rl::mo_relaxed;
    case std::memory_order_consume:
    case std::memory_order_acquire:
      return rl::mo_acquire;
    case std::memory_order_release:
      return rl::mo_release;
    case std::memory_order_acq_rel:
      return rl::mo_acq_rel;
    default:
      return rl::mo_seq_cst;
  }
}

}  // namespace simulated

namespace coroipc::std {
using namespace ::std;

// Of a record, a hint, or something private.
template <typename Word>
class atomic_ref {
 public:
  explicit atomic_ref(Word& word) : word_(word) {}
  Word load(memory_order) const {
    simulated::memory->Touch(&word_, sizeof word_, false);
    return word_;
  }
  void store(Word value, memory_order) const {
    simulated::memory->Touch(&word_, sizeof word_, true);
    word_ = value;
  }

 private:
  Word& word_;
};

template <>
class atomic_ref<uint32_t> {
 public:
  explicit atomic_ref(uint32_t& word) : word_(simulated::memory->Word(&word)), plain_(word) {}
  uint32_t load(memory_order order) const {
    if (word_ == nullptr) {
      simulated::memory->Touch(&plain_, sizeof plain_, false);
      return plain_;
    }
    simulated::memory->MayBecomeVisible();
    simulated::memory->BecomeVisible(word_);
    return (*word_)($).load(simulated::Order(order));
  }
  void store(uint32_t value, memory_order order) const {
    if (word_ == nullptr) {
      simulated::memory->Touch(&plain_, sizeof plain_, true);
      plain_ = value;
    } else if (order == memory_order_relaxed) {
      simulated::memory->StoreLate(word_, value);
    } else {
      simulated::memory->BecomeVisible();
      (*word_)($).store(value, simulated::Order(order));
    }
  }
  uint32_t exchange(uint32_t value, memory_order order) const {
    simulated::memory->BecomeVisible();
    return (*word_)($).exchange(value, simulated::Order(order));
  }

 private:
  rl::atomic<uint32_t>* word_;
  uint32_t& plain_;
};

inline void* memcpy(void* to, const void* from, size_t bytes) {
  simulated::memory->Touch(to, bytes, true);
  simulated::memory->Touch(from, bytes, false);
  return ::std::memcpy(to, from, bytes);
}
inline void* memset(void* to, int value, size_t bytes) {
  simulated::memory->Touch(to, bytes, true);
  return ::std::memset(to, value, bytes);
}

}  // namespace coroipc::std

#endif
