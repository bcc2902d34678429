// check.h itself: a test that could not fail would make every other one worthless.
#include "check.h"

#include <sys/wait.h>

#include <cstdint>
#include <string>
#include <thread>

namespace {

enum class Colour : uint8_t { kRed = 1 };

// Runs a body as if it were a test and gives the number of failures, with the noise thrown away.
template <typename Body>
int FailuresOf(Body body) {
  int before = check_failures;
  fflush(stdout);
  FILE* real = stdout;
  stdout = fopen("/dev/null", "w");
  body();
  fclose(stdout);
  stdout = real;
  int failures = check_failures - before;
  check_failures = before;
  return failures;
}

}  // namespace

TEST("CHECK counts what does not hold and goes on") {
  CHECK_EQ(FailuresOf([] {
             CHECK(1 + 1 == 2);
             CHECK(1 + 1 == 3);
             CHECK(false);
           }),
           2);
}

TEST("CHECK_EQ compares numbers by value, whatever their signs and sizes") {
  CHECK_EQ(uint64_t{5}, 5);
  CHECK_EQ(FailuresOf([] { CHECK_EQ(UINT32_MAX, -1); }), 1);
  CHECK_EQ(FailuresOf([] { CHECK_EQ(Colour::kRed, Colour::kRed); }), 0);
  CHECK_EQ(FailuresOf([] { CHECK_EQ(std::string("a"), "b"); }), 1);
}

TEST("CHECK_STR_EQ takes NULL for a value like any other") {
  CHECK_STR_EQ("a", std::string("a").c_str());
  CHECK_EQ(FailuresOf([] { CHECK_STR_EQ("a", nullptr); }), 1);
}

TEST("failures of other threads count") {
  CHECK_EQ(FailuresOf([] {
             std::thread a([] { CHECK(false); });
             std::thread b([] { CHECK(false); });
             a.join();
             b.join();
           }),
           2);
}

TEST("REQUIRE ends the program with 1") {
  pid_t child = fork();
  if (child == 0) {
    stdout = fopen("/dev/null", "w");
    REQUIRE(false);
    _exit(0);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK_EQ(WEXITSTATUS(status), 1);
}
