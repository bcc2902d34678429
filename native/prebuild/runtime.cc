// runtime.cc: what a prebuilt binary needs of the C++ library and of newer C libraries, for the
// binary alone (nothing here is exported). With it, it needs no libstdc++.so, and of libstdc++.a
// only its trees, lists and primes, which call nobody: that is why one compiler serves glibc and
// musl alike.
//
// Sources are compiled without exceptions, so whatever would throw ends the process, as it does in
// a build with libstdc++ too, where nobody catches it.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <new>

namespace {

[[noreturn]] void Fail(const char* what) {
  fprintf(stderr, "coroipc: %s\n", what);
  abort();
}

void* Allocate(size_t bytes) {
  void* memory = malloc(bytes > 0 ? bytes : 1);
  if (memory == nullptr) Fail("no memory");
  return memory;
}

}  // namespace

void* operator new(size_t bytes) { return Allocate(bytes); }
void* operator new[](size_t bytes) { return Allocate(bytes); }
void* operator new(size_t bytes, const std::nothrow_t&) noexcept {
  return malloc(bytes > 0 ? bytes : 1);
}
void* operator new[](size_t bytes, const std::nothrow_t&) noexcept {
  return malloc(bytes > 0 ? bytes : 1);
}
void operator delete(void* memory) noexcept { free(memory); }
void operator delete[](void* memory) noexcept { free(memory); }
void operator delete(void* memory, size_t) noexcept { free(memory); }
void operator delete[](void* memory, size_t) noexcept { free(memory); }

namespace std {

const nothrow_t nothrow{};

void __throw_bad_alloc() { Fail("no memory"); }
void __throw_bad_array_new_length() { Fail("an array of impossible length"); }
void __throw_length_error(const char* what) { Fail(what); }
void __throw_logic_error(const char* what) { Fail(what); }
void __throw_system_error(int) { Fail("a lock failed"); }
void __throw_bad_function_call() { Fail("an empty function was called"); }

// A type that only tells one deleter from another (make_shared): without RTTI, by address.
struct _Sp_make_shared_tag {
  static bool _S_eq(const class type_info&) noexcept;
};
bool _Sp_make_shared_tag::_S_eq(const type_info&) noexcept { return false; }

}  // namespace std

extern "C" {

[[noreturn]] void __cxa_pure_virtual() { Fail("a function without body was called"); }

#ifdef __GLIBC__
// glibc has these since 2.32 and 2.33. "Not known to be single-threaded" is always right.
char __libc_single_threaded = 0;

int stat(const char* path, struct stat* result) {
  return static_cast<int>(syscall(SYS_newfstatat, AT_FDCWD, path, result, 0));
}
int lstat(const char* path, struct stat* result) {
  return static_cast<int>(syscall(SYS_newfstatat, AT_FDCWD, path, result, AT_SYMLINK_NOFOLLOW));
}
int fstat(int fd, struct stat* result) { return static_cast<int>(syscall(SYS_fstat, fd, result)); }
#else
// By this name libgcc's atomics of arm64 ask what the processor can; musl only has the other one.
unsigned long __getauxval(unsigned long type) { return getauxval(type); }
#endif
}
