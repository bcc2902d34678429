// libstdc++ configured for glibc names a type of glibc here. No locale is used by coroipc: a type
// that exists is enough for the headers to be read.
#ifndef _GLIBCXX_CXX_LOCALE_H
#define _GLIBCXX_CXX_LOCALE_H 1

#include <locale.h>

#define _GLIBCXX_NUM_CATEGORIES 6

namespace std {
typedef locale_t __c_locale;
int __convert_from_v(const __c_locale&, char*, int, const char*, ...);
}  // namespace std

#endif
