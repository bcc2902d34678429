// Makes system calls of this process fail from now on, as an older kernel, a container's filter or
// a machine without memory would: seccomp(2). For forked children, since nothing takes it back.
#ifndef COROIPC_TEST_DENY_H_
#define COROIPC_TEST_DENY_H_

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <iterator>

enum class DenyWhen { kAlways, kEqual, kBitSet };

// `call` fails with `error`: always, or when its argument equals `value` or has that bit. False
// where the kernel has no filters: skip the test.
inline bool Deny(long call, int error, DenyWhen when = DenyWhen::kAlways, uint32_t argument = 0,
                 uint32_t value = 0) {
  const auto at = static_cast<uint32_t>(offsetof(seccomp_data, args)) + 8 * argument;  // low half
  const auto test = static_cast<uint16_t>(BPF_JMP | BPF_K |
                                          (when == DenyWhen::kAlways  ? BPF_JGE
                                           : when == DenyWhen::kEqual ? BPF_JEQ
                                                                      : BPF_JSET));
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(call), 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at),
      BPF_JUMP(test, when == DenyWhen::kAlways ? 0 : value, 0, 1),  // anything is >= 0
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<uint32_t>(error)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog filter = {.len = static_cast<unsigned short>(std::size(program)),
                             .filter = program};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0) == 0;
}

#endif  // COROIPC_TEST_DENY_H_
