// glibc.h: included before every source of a prebuilt binary for glibc, so that it also runs with
// one that is older than the one it was linked with. What was moved into libc.so by glibc 2.34 is
// asked for under the version that it has had since its beginning; the newer glibc still has both.
#ifdef __x86_64__
__asm__(".symver pthread_condattr_setclock, pthread_condattr_setclock@GLIBC_2.3.3");
#else
__asm__(".symver pthread_condattr_setclock, pthread_condattr_setclock@GLIBC_2.17");
#endif
