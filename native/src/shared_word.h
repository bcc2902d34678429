// shared_word.h: the only place that knows how words shared with another process are read and
// written.
//
// Law: a shared word is loaded once, atomically, into a local; the local is checked; only the local
// is used. Orders: everything that takes part in "publish, then is the other side asleep?" is
// seq_cst on both sides, since a store followed by a load of the other side's word needs it
// (release alone lost wake-ups in the model). No stand-alone fences: ThreadSanitizer does not know
// them.
#ifndef COROIPC_SRC_SHARED_WORD_H
#define COROIPC_SRC_SHARED_WORD_H

#include <atomic>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace coroipc {

// What a load gives is the peer's to say, each time anew. A fuzz build (test/fuzz/loads.cc) says it
// in the peer's stead.
#ifdef COROIPC_FUZZ_LOADS
uint32_t FuzzLoad(uint32_t honest);
uint64_t FuzzLoad(uint64_t honest);
void FuzzCopied(void* to, size_t bytes);
#else
inline uint32_t FuzzLoad(uint32_t honest) { return honest; }
inline uint64_t FuzzLoad(uint64_t honest) { return honest; }
inline void FuzzCopied(void*, size_t) {}
#endif

inline uint32_t LoadRelaxed(uint32_t& word) {
  return FuzzLoad(std::atomic_ref<uint32_t>(word).load(std::memory_order_relaxed));
}
inline uint32_t LoadAcquire(uint32_t& word) {
  return FuzzLoad(std::atomic_ref<uint32_t>(word).load(std::memory_order_acquire));
}
inline uint32_t LoadSeqCst(uint32_t& word) {
  return FuzzLoad(std::atomic_ref<uint32_t>(word).load(std::memory_order_seq_cst));
}
inline void StoreSeqCst(uint32_t& word, uint32_t value) {
  std::atomic_ref<uint32_t>(word).store(value, std::memory_order_seq_cst);
}
template <typename Word>
void StoreRelaxed(Word& word, std::type_identity_t<Word> value) {
  std::atomic_ref<Word>(word).store(value, std::memory_order_relaxed);
}
inline uint32_t ExchangeSeqCst(uint32_t& word, uint32_t value) {
  return FuzzLoad(std::atomic_ref<uint32_t>(word).exchange(value, std::memory_order_seq_cst));
}

// Eight bytes of a record header at once; plain memory order, since the position that uncovered the
// record was loaded with acquire.
inline uint64_t LoadWide(const uint8_t* address) {
  return FuzzLoad(
      std::atomic_ref<uint64_t>(*reinterpret_cast<uint64_t*>(const_cast<uint8_t*>(address)))
          .load(std::memory_order_relaxed));
}

// Payload bytes that the peer may change while they are copied: whatever is copied is private
// afterwards.
inline void CopyIn(void* to, const uint8_t* from, size_t bytes) {
  if (bytes == 0) return;  // nothing may come from or go to nowhere
  std::memcpy(to, from, bytes);
  FuzzCopied(to, bytes);
}

inline void Pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");
#endif
}

}  // namespace coroipc

#endif
