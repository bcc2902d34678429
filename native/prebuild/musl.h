// musl.h: included before every source of a prebuilt binary for musl. Debian's libstdc++ knows that
// its C library has these two; musl has not.
#include <bits/c++config.h>

#undef _GLIBCXX_USE_PTHREAD_COND_CLOCKWAIT
#undef _GLIBCXX_USE_PTHREAD_MUTEX_CLOCKLOCK
