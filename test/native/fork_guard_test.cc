// Guards of parents, children and grandchildren, each asked in a real process of its own.
#include "fork_guard.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "check.h"
#include "deny.h"

using namespace coroipc;

namespace {

// Runs `body` in a forked child; true when all its checks held.
template <typename Body>
bool InChild(Body body) {
  const pid_t child = fork();
  if (child == 0) {
    body();
    _exit(check_failures == 0 ? 0 : 1);
  }
  int status = -1;
  return waitpid(child, &status, 0) == child && status == 0;
}

}  // namespace

// First: later, this process and its children have the page.
TEST("a kernel without MADV_WIPEONFORK costs a system call, not the answer") {
  CHECK(InChild([] {
    REQUIRE(Deny(SYS_madvise, EINVAL, DenyWhen::kEqual, 2, MADV_WIPEONFORK));
    ForkGuard parents;
    CHECK(!parents.forked());
    CHECK(InChild([&] {
      ForkGuard childs;
      CHECK(parents.forked());
      CHECK(!childs.forked());
    }));
    CHECK(!parents.forked());
  }));
}

TEST("threads that make the first guards at once agree") {
  std::atomic<bool> go{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; i++) {
    threads.emplace_back([&] {
      while (!go) std::this_thread::yield();
      for (int j = 0; j < 100; j++) {
        ForkGuard guard;
        CHECK(!guard.forked());
      }
    });
  }
  go = true;
  for (auto& thread : threads) thread.join();
}

TEST("a guard holds in its process and in all of its threads") {
  ForkGuard guard;
  CHECK(!guard.forked());
  std::thread([&] { CHECK(!guard.forked()); }).join();
}

TEST("a child knows that a guard is its parent's, the parent is not disturbed") {
  ForkGuard guard;
  CHECK(InChild([&] {
    CHECK(guard.forked());
    CHECK(guard.forked());
  }));
  CHECK(!guard.forked());
}

TEST("guards that a child makes hold there and do not revive its parent's") {
  ForkGuard parents;
  CHECK(InChild([&] {
    ForkGuard childs;
    CHECK(!childs.forked());
    CHECK(parents.forked());
    CHECK(InChild([&] {
      CHECK(parents.forked());
      CHECK(childs.forked());
      ForkGuard grandchilds;
      CHECK(!grandchilds.forked());
      CHECK(parents.forked());
      CHECK(childs.forked());
    }));
    CHECK(!childs.forked());
  }));
  CHECK(!parents.forked());
  ForkGuard later;
  CHECK(!later.forked());
}

TEST(
    "a guard made by a child after its sibling has made one belongs to neither parent nor "
    "sibling") {
  ForkGuard parents;
  for (int i = 0; i < 3; i++) {
    CHECK(InChild([&] {
      ForkGuard own;
      CHECK(!own.forked());
      CHECK(parents.forked());
    }));
  }
}

TEST("a raw clone is noticed although no fork handler of the C library ran") {
  ForkGuard guard;
  const long child = syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr);
  if (child == 0) _exit(guard.forked() ? 0 : 1);
  int status = -1;
  REQUIRE(waitpid(static_cast<pid_t>(child), &status, 0) == child);
  CHECK_EQ(status, 0);
  CHECK(!guard.forked());
}

TEST("a child whose parent is gone still knows") {
  ForkGuard guard;
  int gone[2], result[2];
  REQUIRE(pipe(gone) == 0 && pipe(result) == 0);
  const pid_t middle = fork();
  if (middle == 0) {
    if (fork() == 0) {
      char byte = 0;
      close(gone[1]);
      (void)!read(gone[0], &byte, 1);  // the end of the file, when both ancestors have let go
      byte = guard.forked() ? 'f' : '-';
      _exit(write(result[1], &byte, 1) == 1 ? 0 : 1);
    }
    ForkGuard own;
    _exit(guard.forked() && !own.forked() ? 0 : 1);
  }
  int status = -1;
  REQUIRE(waitpid(middle, &status, 0) == middle);
  CHECK_EQ(status, 0);
  close(gone[1]);
  close(result[1]);
  char byte = 0;
  CHECK_EQ(read(result[0], &byte, 1), 1);
  CHECK(byte == 'f');
  close(gone[0]);
  close(result[0]);
}
