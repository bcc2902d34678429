// input.h: one fuzz input, read from both ends, and the ways in which a target says that it has
// found something.
//
//   | what the target does, step by step ->            <- what hostile memory says, load by load |
//
// Two ends, so that one more load in the product does not change what the target does next: small
// changes of an input stay small changes of the run. When both ends have met, memory is honest and
// the target stops.
#ifndef COROIPC_TEST_FUZZ_INPUT_H_
#define COROIPC_TEST_FUZZ_INPUT_H_

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

// A finding: says where, and ends the run as a memory error would.
#define MUST(condition)                                                                   \
  do {                                                                                    \
    if (!(condition)) {                                                                   \
      fprintf(stderr, "%s:%d: MUST(%s) does not hold\n", __FILE__, __LINE__, #condition); \
      abort();                                                                            \
    }                                                                                     \
  } while (0)

namespace fuzz {

class Input {
 public:
  void Reset(const uint8_t* data, size_t bytes) {
    front_ = data;
    back_ = data + bytes;
  }
  bool left() const { return front_ != back_; }

  // From the front. Zeros at the end.
  uint8_t Byte() { return left() ? *front_++ : 0; }
  uint16_t Half() {
    const uint32_t low = Byte();
    return static_cast<uint16_t>(low | static_cast<uint32_t>(Byte()) << 8);
  }
  uint32_t Word() {
    const uint32_t low = Half();
    return low | static_cast<uint32_t>(Half()) << 16;
  }
  uint32_t Below(uint32_t end) { return end <= 256 ? Byte() % end : Word() % end; }
  bool Chance(uint32_t one_in) { return Byte() % one_in == 1 % one_in; }
  void Bytes(void* to, size_t bytes) {
    for (size_t i = 0; i < bytes; ++i) static_cast<uint8_t*>(to)[i] = Byte();
  }
  // A number that means something: near a bound, a power of two, small, or anything.
  uint32_t Size(uint32_t bound) {
    const uint32_t choice = Byte();
    const uint32_t near = (choice >> 4) - 8;
    switch (choice & 15) {
      case 0:
        return near + bound;
      case 1:
        return near + bound / 2;
      case 2:
        return uint32_t{1} << (Byte() & 31);
      case 3:
        return (uint32_t{1} << (Byte() & 31)) - 1;
      case 4:
        return Word();
      case 5:
        return bound == 0 ? 0 : Word() % bound;
      case 6:
        return near;
      default:
        return Byte();
    }
  }

  // From the back.
  uint8_t BackByte() { return left() ? *--back_ : 0; }
  uint64_t BackWide(int bytes) {
    uint64_t value = 0;
    for (int i = 0; i < bytes; ++i) value = value << 8 | BackByte();
    return value;
  }

 private:
  const uint8_t* front_ = nullptr;
  const uint8_t* back_ = nullptr;
};

inline Input input;

// Off: every load gives what is in memory, and takes nothing from the input.
inline bool hostile_memory = true;

}  // namespace fuzz

#endif
