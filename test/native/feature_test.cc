// What works here is found out by doing it; what the kernel is denied is told by its errno, and
// nothing is left behind.
#include <coroipc/types.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

namespace {

int OpenFds() {
  DIR* directory = opendir("/proc/self/fd");
  int count = 0;
  while (readdir(directory) != nullptr) count++;
  closedir(directory);
  return count;
}

coroipc_feature Feature(int number) { return static_cast<coroipc_feature>(number); }

}  // namespace

TEST("what the library cannot do without is here, or no other test would pass") {
  for (int each = COROIPC_FEATURE_MEMFD; each <= COROIPC_FEATURE_DONTFORK; each++)
    CHECK_EQ(coroipc_feature_try(Feature(each)), 0);
}

TEST("an unknown feature is EINVAL") {
  CHECK_EQ(coroipc_feature_try(COROIPC_FEATURE_COUNT), EINVAL);
  CHECK_EQ(coroipc_feature_try(Feature(-1)), EINVAL);
}

TEST("trying leaves no fd behind") {
  const int before = OpenFds();
  for (int each = 0; each < COROIPC_FEATURE_COUNT; each++) (void)coroipc_feature_try(Feature(each));
  CHECK_EQ(OpenFds(), before);
}

// Without a free fd each that makes one fails, and says so.
TEST("what cannot be done is told by its errno") {
  const pid_t child = fork();
  if (child == 0) {
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_NOFILE, &none);
    for (int each = 0; each < COROIPC_FEATURE_COUNT; each++)
      if (coroipc_feature_try(Feature(each)) != EMFILE) _exit(each + 1);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  CHECK_EQ(status, 0);
}
