/* Two servers that want one name at the same moment, again and again: listen-race <path> <rounds>.
 * Exactly one gets it and is the one that is reached; the other is told ADDRESS_IN_USE. The winner
 * closes in order or is killed, so that the name is free in one round and stale in the next. In
 * each tenth round something that is not ours stands in the way: then neither wins, and it stays.
 * Writes "rounds <n> fair <n> planted <n> kept <n> both <n>": the last are those that both won.
 * Mutants, to show that this tells: a `careless` server removes whatever stands in its way, a
 * `lockless` one the other's lock and socket as well when it is told of them, and listens again. */
#include <coroipc/coroipcc.h>
#include <coroipc/coroipcs.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define SERVERS 2

struct round {
  int go;
  int told[SERVERS]; /* 1 + status of listening */
};

static const char* path;
static int careless, lockless;
static int both;
static volatile struct round* round_;
static struct coroipcs_server* server;

static void fail(const char* what) {
  fprintf(stderr, "listen-race: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void stop(int signal) {
  (void)signal;
  coroipcs_stop(server);
}

static _Noreturn void compete(int which) {
  struct coroipcs_options options;
  coroipcs_options_init(&options);
  if (coroipcs_create(&options, &server) != COROIPC_OK) _exit(2);
  coroipcs_service_add(server, 1, NULL);
  signal(SIGTERM, stop);
  while (!round_->go) {
  }
  if (careless) unlink(path);
  coroipc_status status = coroipcs_listen(server, path);
  if (lockless && status == COROIPC_ADDRESS_IN_USE) {
    char lock[4096];
    snprintf(lock, sizeof lock, "%s.lock", path);
    unlink(lock);
    unlink(path);
    status = coroipcs_listen(server, path);
  }
  round_->told[which] = 1 + status;
  if (status != COROIPC_OK) _exit(0);
  coroipcs_run(server);
  coroipcs_close(server);
  coroipcs_destroy(server);
  _exit(0);
}

/* Both are told to go at once; how many won, and who. */
static int race(pid_t children[SERVERS], int* winner) {
  memset((void*)(uintptr_t)round_, 0, sizeof *round_);
  for (int i = 0; i < SERVERS; ++i) {
    children[i] = fork();
    if (children[i] < 0) fail("fork");
    if (children[i] == 0) compete(i);
  }
  usleep(300); /* both at the line, mostly */
  round_->go = 1;
  int won = 0;
  for (int i = 0; i < SERVERS; ++i) {
    while (round_->told[i] == 0) usleep(20);
    if (round_->told[i] == 1 + COROIPC_OK) {
      ++won;
      *winner = i;
    } else if (round_->told[i] != 1 + COROIPC_ADDRESS_IN_USE) {
      fprintf(stderr, "listen-race: told %s\n", coroipc_status_name(round_->told[i] - 1));
    }
  }
  both += won == SERVERS;
  return won;
}

static void end(pid_t children[SERVERS], int signal) {
  for (int i = 0; i < SERVERS; ++i) kill(children[i], signal);
  for (int i = 0; i < SERVERS; ++i) waitpid(children[i], NULL, 0);
}

static int fair_round(int stale) {
  pid_t children[SERVERS];
  int winner = 0;
  int fair = race(children, &winner) == 1;
  struct coroipcc_options options;
  coroipcc_options_init(&options);
  options.service = 1;
  struct coroipcc_connection* connection;
  const coroipc_status status = coroipcc_connect(NULL, path, &options, 10000, &connection);
  if (status == COROIPC_OK) {
    fair &= coroipcc_server_credentials(connection)->pid == children[winner];
    coroipcc_disconnect(connection);
  } else {
    fprintf(stderr, "listen-race: connect: %s\n", coroipc_status_name(status));
    fair = 0;
  }
  end(children, stale ? SIGKILL : SIGTERM);
  struct stat left;
  if (!stale && lstat(path, &left) == 0) fair = 0;
  return fair;
}

/* Puts something there; an fd if it has to stay open. */
static int plant(int what) {
  char victim[4096];
  unlink(path);
  rmdir(path);
  snprintf(victim, sizeof victim, "%s.victim", path);
  if (what == 0 && symlink(victim, path) != 0) fail("symlink");
  if (what == 1 && mkdir(path, 0700) != 0) fail("mkdir");
  if (what == 2 && mkfifo(path, 0600) != 0) fail("mkfifo");
  if (what == 3) return open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
  if (what != 4) return -1;
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
  const int other = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (bind(other, (struct sockaddr*)&address, sizeof address) != 0 || listen(other, 1) != 0)
    fail("another program's socket");
  return other;
}

static int planted_round(int what) {
  const int fd = plant(what);
  struct stat before, after;
  if (lstat(path, &before) != 0) fail("lstat");
  pid_t children[SERVERS];
  int winner;
  const int won = race(children, &winner);
  end(children, SIGKILL);
  const int kept = won == 0 && lstat(path, &after) == 0 && after.st_ino == before.st_ino &&
                   after.st_mode == before.st_mode;
  if (!kept) fprintf(stderr, "listen-race: what was planted (%d) is gone, %d won\n", what, won);
  if (fd >= 0) close(fd);
  unlink(path);
  rmdir(path);
  return kept;
}

int main(int argc, char** argv) {
  if (argc < 3 || argc > 4) return 2;
  careless = argc == 4 && strcmp(argv[3], "careless") == 0;
  lockless = argc == 4 && strcmp(argv[3], "lockless") == 0;
  path = argv[1];
  const int rounds = atoi(argv[2]);
  round_ = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (round_ == MAP_FAILED) fail("mmap");
  int fair = 0, raced = 0, planted = 0, kept = 0;
  for (int i = 0; i < rounds; ++i) {
    if (i % 10 == 9) {
      ++planted;
      kept += planted_round(i / 10 % 5);
    } else {
      ++raced;
      fair += fair_round(i % 2);
    }
  }
  printf("rounds %d fair %d planted %d kept %d both %d\n", raced, fair, planted, kept, both);
  return fair == raced && kept == planted ? 0 : 1;
}
