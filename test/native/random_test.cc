#include "random.h"

#include <sys/wait.h>
#include <unistd.h>

#include <set>

#include "check.h"

using namespace coroipc;

TEST("ids are not zero and do not repeat") {
  std::set<uint64_t> seen;
  for (int i = 0; i < 10000; i++) {
    const uint64_t id = RandomId();
    CHECK(id != 0);
    CHECK(seen.insert(id).second);
  }
}

TEST("a forked child does not get the ids of its parent") {
  int pipes[2];
  REQUIRE(pipe(pipes) == 0);
  const pid_t child = fork();
  if (child == 0) {
    const uint64_t id = RandomId();
    _exit(write(pipes[1], &id, sizeof id) == sizeof id ? 0 : 1);
  }
  uint64_t theirs = 0;
  REQUIRE(read(pipes[0], &theirs, sizeof theirs) == sizeof theirs);
  CHECK(theirs != RandomId());
  int status = 0;
  waitpid(child, &status, 0);
  CHECK_EQ(status, 0);
}
