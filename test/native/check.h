// Just enough to test C and C++ with plain programs. A test is a sentence and a body:
//
//   TEST("a record that fits exactly ends at the last byte") { CHECK_EQ(ring.Used(), 64u); }
//
// Include it in one source file a program: it brings main(), unless CHECK_OWN_MAIN is defined. Each
// test prints one line of TAP; the exit code is 0 (all held), 1 (some failed) or 77 (all skipped).
// Arguments choose the tests whose names contain one of them. CHECK goes on after a failure,
// REQUIRE ends the program: for what the rest of the test stands on. Checks may be made from any
// thread; a forked child must leave by _exit().
#ifndef COROIPC_TEST_CHECK_H_
#define COROIPC_TEST_CHECK_H_

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct check_test {
  const char* name;
  void (*body)(void);
  struct check_test* next;
};

static struct check_test* check_first = NULL;
static struct check_test** check_last = &check_first;
__attribute__((unused)) static const char* check_skipped =
    NULL;                       // the reason, set by the running test
static int check_failures = 0;  // of the running test
static const char* check_running = "";

static inline void check_add(struct check_test* test) {
  *check_last = test;
  check_last = &test->next;
}

static inline int check_held(int held, const char* file, int line, const char* what) {
  if (!held) {
    __atomic_add_fetch(&check_failures, 1, __ATOMIC_RELAXED);
    printf("# %s:%d: %s does not hold\n", file, line, what);
  }
  return held;
}

#define CHECK_JOIN_(a, b) a##b
#define CHECK_JOIN(a, b) CHECK_JOIN_(a, b)
#define CHECK_TEST_(name, id)                                                  \
  static void CHECK_JOIN(check_body_, id)(void);                               \
  __attribute__((constructor)) static void CHECK_JOIN(check_add_, id)(void) {  \
    static struct check_test test = {name, CHECK_JOIN(check_body_, id), NULL}; \
    check_add(&test);                                                          \
  }                                                                            \
  static void CHECK_JOIN(check_body_, id)(void)

#define TEST(name) CHECK_TEST_(name, __COUNTER__)
#define CHECK(condition) ((void)check_held(!!(condition), __FILE__, __LINE__, #condition))
#define REQUIRE(condition)                                            \
  do {                                                                \
    if (!check_held(!!(condition), __FILE__, __LINE__, #condition)) { \
      printf("not ok - %s\n", check_running);                         \
      _exit(1);                                                       \
    }                                                                 \
  } while (0)
// Ends the running test; to be used in its body, not in a function that it calls.
#define SKIP(reason)          \
  do {                        \
    check_skipped = (reason); \
    return;                   \
  } while (0)

static inline int check_text_equal(const char* a, const char* b) {
  return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}
#define CHECK_STR_EQ(a, b) check_str_eq((a), (b), __FILE__, __LINE__, #a " == " #b)
static inline void check_str_eq(const char* a, const char* b, const char* file, int line,
                                const char* what) {
  if (!check_held(check_text_equal(a, b), file, line, what))
    printf("#   left  %s\n#   right %s\n", a ? a : "(null)", b ? b : "(null)");
}

#define CHECK_EQ(a, b) check_eq((a), (b), __FILE__, __LINE__, #a " == " #b)

#ifdef __cplusplus
#include <type_traits>
#include <utility>

template <typename T>
void check_print(const char* side, const T& value) {
  if constexpr (std::is_enum_v<T>)
    check_print(side, static_cast<std::underlying_type_t<T>>(value));
  else if constexpr (std::is_integral_v<T> && std::is_signed_v<T>)
    printf("#   %-5s %lld\n", side, static_cast<long long>(value));
  else if constexpr (std::is_integral_v<T>)
    printf("#   %-5s %llu (0x%llx)\n", side, static_cast<unsigned long long>(value),
           static_cast<unsigned long long>(value));
  else if constexpr (std::is_pointer_v<T>)
    printf("#   %-5s %p\n", side, reinterpret_cast<const void*>(value));
}
template <typename T>
inline constexpr bool check_is_number =
    std::is_integral_v<T> && !std::is_same_v<T, bool> && !std::is_same_v<T, char>;
template <typename A, typename B>
void check_eq(const A& a, const B& b, const char* file, int line, const char* what) {
  bool equal;
  if constexpr (check_is_number<A> && check_is_number<B>)
    equal = std::cmp_equal(a, b);  // by value, whatever the signs
  else
    equal = (a == b);
  if (!check_held(equal, file, line, what)) {
    check_print("left", a);
    check_print("right", b);
  }
}
#else
// In C for integers and enums; compare pointers with CHECK and strings with CHECK_STR_EQ.
static inline void check_eq(long long a, long long b, const char* file, int line,
                            const char* what) {
  if (!check_held(a == b, file, line, what)) printf("#   left  %lld\n#   right %lld\n", a, b);
}
#endif

#ifdef COVERAGE
// What a forked child has gone through counts as well; linked with --wrap=_exit.
#ifdef __cplusplus
extern "C" {
#endif
int __llvm_profile_write_file(void);
__attribute__((noreturn)) void __real__exit(int code);
__attribute__((noreturn)) void __wrap__exit(int code);
void __wrap__exit(int code) {
  __llvm_profile_write_file();
  __real__exit(code);
}
#ifdef __cplusplus
}
#endif
#endif

#ifndef CHECK_OWN_MAIN
int main(int argc, char** argv) {
  int number = 0, failed = 0, skipped = 0;
  setvbuf(stdout, NULL, _IONBF,
          0);  // nothing is lost in a crash, nothing is printed twice after fork()
  for (struct check_test* test = check_first; test != NULL; test = test->next) {
    int chosen = argc < 2;
    for (int i = 1; i < argc; i++) chosen |= strstr(test->name, argv[i]) != NULL;
    if (!chosen) continue;
    check_failures = 0;
    check_skipped = NULL;
    check_running = test->name;
    printf("# test: %s\n", test->name);  // so that a crash or a hang has a name
    test->body();
    int ok = __atomic_load_n(&check_failures, __ATOMIC_RELAXED) == 0;
    printf("%sok %d - %s%s%s\n", ok ? "" : "not ", ++number, test->name,
           check_skipped && ok ? " # SKIP " : "", check_skipped && ok ? check_skipped : "");
    failed += !ok;
    skipped += ok && check_skipped;
  }
  printf("1..%d\n", number);
  return failed ? 1 : number > 0 && skipped == number ? 77 : 0;
}

#endif  // CHECK_OWN_MAIN

#endif  // COROIPC_TEST_CHECK_H_
