// loads.cc: what a shared word says in a fuzz build. Native code asks here for every load and for
// every copy of a payload (shared_word.h, COROIPC_FUZZ_LOADS); memory says what is honest, the
// input decides whether that is what the peer shows. Two loads of one word can differ, so that a
// value that is fetched twice, checked the first time and used the second, becomes a memory error.
#include "shared_word.h"

#include "input.h"

namespace coroipc {

namespace {

// One byte for each load: mostly it says "honest", so that runs get past the first check.
template <typename Word>
Word Shown(Word honest) {
  fuzz::Input& input = fuzz::input;
  if (!fuzz::hostile_memory || !input.left()) return honest;
  const uint8_t choice = input.BackByte();
  if (choice < 0xc0) return honest;
  const auto argument = static_cast<Word>(choice & 7);
  switch ((choice >> 3) & 7) {
    case 0:
      return static_cast<Word>(honest + 8 * (argument + 1));
    case 1:
      return static_cast<Word>(honest - 8 * (argument + 1));
    case 2:
      return static_cast<Word>(honest ^ (Word{1} << (input.BackByte() & (8 * sizeof(Word) - 1))));
    case 3:
      return argument;
    case 4:
      return static_cast<Word>(~Word{0} - argument);
    case 5:
      return static_cast<Word>((honest & ~Word{0xffff}) | input.BackWide(2));
    default:
      return static_cast<Word>(input.BackWide(sizeof(Word)));
  }
}

}  // namespace

uint32_t FuzzLoad(uint32_t honest) { return Shown(honest); }
uint64_t FuzzLoad(uint64_t honest) { return Shown(honest); }

void FuzzCopied(void* to, size_t bytes) {
  fuzz::Input& input = fuzz::input;
  if (!fuzz::hostile_memory || !input.left() || bytes == 0) return;
  const uint8_t choice = input.BackByte();
  if (choice < 0xc0) return;
  auto* const copy = static_cast<uint8_t*>(to);
  // Whole words: a payload that is looked at is a reference or a number.
  const size_t at = bytes < 4 ? 0 : (choice & 15) * 4 % (bytes & ~size_t{3});
  const uint32_t shown = Shown(static_cast<uint32_t>(input.BackWide((choice & 16) != 0 ? 1 : 4)));
  std::memcpy(copy + at, &shown, bytes - at < 4 ? bytes - at : 4);
}

}  // namespace coroipc
