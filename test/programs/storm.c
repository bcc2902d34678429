/* More than a server should have to bear, of one kind, for test/storm: storm <what> <name> <count>
 * [uid]. As another user if `uid` says so, which needs root. Ends after `count`, or on SIGTERM
 * (count 0), and writes one line of what came of it.
 *
 *   sequential  connects, asks once, leaves; one after the other
 *   at-once     connects all of them, then asks each once, then leaves
 *   half-open   opens sockets and says nothing; a new one for each that the server closes
 *   doorbells   connects and rings without end
 *   burn        sends and takes as many bytes on a socket of its own: what CPU alone costs others
 *   fds         connects and sends as many fds as the kernel takes in a message, without end; the
 * same in place of the setup message */
#include <coroipc/abi.h>
#include <coroipc/coroipcc.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "ledger.h"

#define TIMEOUT_MS 30000
#define FDS_MAX 253 /* SCM_MAX_FD */

static const char* name;
static uint32_t count;
static volatile sig_atomic_t stopping;

static void stop(int signal) {
  (void)signal;
  stopping = 1;
}

static void fail(const char* what) {
  fprintf(stderr, "storm: %s: %s\n", what, strerror(errno));
  exit(1);
}

static int go_on(uint64_t done) { return !stopping && (count == 0 || done < count); }

static int compare(const void* a, const void* b) {
  const uint64_t x = *(const uint64_t*)a, y = *(const uint64_t*)b;
  return x < y ? -1 : x > y;
}

static coroipc_status ask(struct coroipcc_connection* connection) {
  uint8_t out[64], in[64];
  message_write(out, sizeof out, UINT32_MAX, 0, 1);
  const struct iovec part = {out, sizeof out};
  struct coroipcc_response response = {0};
  const coroipc_status status =
      coroipcc_request(connection, 0, &part, 1, TIMEOUT_MS, in, sizeof in, &response);
  return status == COROIPC_OK && memcmp(out, in, sizeof out) != 0 ? COROIPC_PROTOCOL : status;
}

static struct coroipcc_options options;

static void sequential(void) {
  uint64_t failed = 0, done = 0;
  uint64_t* const took = calloc(count, sizeof *took);
  if (took == NULL) fail("calloc");
  for (; go_on(done); ++done) {
    struct coroipcc_connection* connection;
    const uint64_t began = now_ns();
    coroipc_status status = coroipcc_connect(NULL, name, &options, TIMEOUT_MS, &connection);
    took[done] = now_ns() - began;
    if (status == COROIPC_OK) {
      status = ask(connection);
      coroipcc_disconnect(connection);
    }
    if (status != COROIPC_OK && failed++ == 0)
      fprintf(stderr, "storm: %s\n", coroipc_status_name(status));
  }
  qsort(took, done, sizeof *took, compare);
  printf("sequential %lu failed %lu p50 %lu p99 %lu max %lu us\n", done, failed,
         took[done / 2] / 1000, took[done * 99 / 100] / 1000, took[done - 1] / 1000);
}

static void at_once(void) {
  struct coroipcc_group_options group_options;
  coroipcc_group_options_init(&group_options);
  struct coroipcc_group* group;
  if (coroipcc_group_create(&group_options, &group) != COROIPC_OK) fail("group");
  struct coroipcc_connection** const all = calloc(count, sizeof *all);
  if (all == NULL) fail("calloc");
  uint64_t connected = 0, answered = 0, failed = 0;
  const uint64_t began = now_ns();
  for (uint32_t i = 0; i < count; ++i) {
    const coroipc_status status =
        coroipcc_connect_start(group, name, &options, TIMEOUT_MS, &all[i]);
    if (status == COROIPC_OK) continue;
    if (failed++ == 0) fprintf(stderr, "storm: begin: %s\n", coroipc_status_name(status));
    all[i] = NULL;
  }
  struct coroipc_entry entries[64];
  void* blocks[64];
  uint8_t arena[4096];
  while (connected + failed < count && !stopping) {
    struct coroipc_batch batch = {.entries = entries,
                                  .blocks = blocks,
                                  .capacity = 64,
                                  .arena = arena,
                                  .arena_bytes = sizeof arena};
    if (coroipcc_receive(group, &batch, 1) == COROIPC_OK && batch.count == 0)
      coroipcc_wait(group, 100);
    for (uint32_t row = 0; row < batch.count; ++row) {
      if (entries[row].kind == COROIPC_KIND_CONNECTED) ++connected;
      if (entries[row].kind == COROIPC_KIND_CONNECT_FAILED && failed++ == 0)
        fprintf(stderr, "storm: %s\n", coroipc_status_name((coroipc_status)entries[row].argument));
    }
  }
  const uint64_t ready = now_ns();
  for (uint32_t i = 0; i < count; ++i)
    if (all[i] != NULL && coroipcc_state(all[i]) == COROIPC_OK && ask(all[i]) == COROIPC_OK)
      ++answered;
  coroipcc_group_destroy(group);
  printf("at-once %lu answered %lu failed %lu in %lu ms\n", connected, answered, failed,
         (ready - began) / 1000000);
}

static int open_socket(int flags) {
  char address[COROIPCC_ADDRESS_BYTES];
  struct sockaddr_un to = {.sun_family = AF_UNIX};
  if (coroipcc_address(name, 0, address, sizeof address) != COROIPC_OK) fail("address");
  memcpy(to.sun_path, address, strnlen(address, sizeof to.sun_path - 1));
  const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0);
  if (fd < 0) fail("socket");
  if (connect(fd, (struct sockaddr*)&to, sizeof to) == 0) return fd;
  if (errno != EAGAIN) fail("connect");
  close(fd); /* the accept queue is full */
  return -1;
}

static void half_open(void) {
  enum { OPEN_MAX_ = 512 };
  struct pollfd open[OPEN_MAX_];
  uint64_t opened = 0, turned_away = 0;
  uint32_t held = 0, most = 0;
  while (go_on(opened)) {
    if (held < OPEN_MAX_) {
      const int fd = open_socket(SOCK_NONBLOCK);
      if (fd >= 0) {
        open[held++] = (struct pollfd){fd, POLLRDHUP, 0};
        ++opened;
      } else {
        sched_yield();
      }
    }
    if (held > most) most = held;
    if (opened % 16 != 0 && held < OPEN_MAX_) continue;
    poll(open, held, held == OPEN_MAX_ ? 1 : 0);
    for (uint32_t i = held; i-- > 0;) {
      if (open[i].revents == 0) continue;
      close(open[i].fd);
      open[i] = open[--held];
      ++turned_away;
    }
  }
  printf("half-open %lu turned away %lu held %u\n", opened, turned_away, most);
}

/* The socket of the connection, to say on it what the library never would. */
static int socket_of(void) {
  for (int fd = 3; fd < 64; ++fd) {
    int type = 0;
    socklen_t bytes = sizeof type;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &bytes) == 0 && type == SOCK_SEQPACKET)
      return fd;
  }
  fail("no socket");
  return -1;
}

static struct coroipcc_connection* connected(void) {
  struct coroipcc_connection* connection;
  const coroipc_status status = coroipcc_connect(NULL, name, &options, TIMEOUT_MS, &connection);
  if (status == COROIPC_OK) return connection;
  fprintf(stderr, "storm: connect: %s\n", coroipc_status_name(status));
  exit(1);
}

static void doorbells(void) {
  struct coroipcc_connection* const connection = connected();
  const int fd = socket_of();
  const char bell = COROIPC_SOCKET_DOORBELL;
  uint64_t rung = 0, full = 0;
  while (go_on(rung)) {
    if (send(fd, &bell, 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1) {
      ++rung;
    } else if (errno == EAGAIN) {
      ++full;
      sched_yield();
    } else {
      break;
    }
  }
  printf("doorbells %lu full %lu state %s\n", rung, full,
         coroipc_status_name(coroipcc_state(connection)));
  coroipcc_disconnect(connection);
}

static void burn(void) {
  int own[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, own) != 0) fail("socketpair");
  char byte = 1;
  uint64_t sent = 0;
  for (; go_on(sent); ++sent)
    if (send(own[0], &byte, 1, 0) != 1 || recv(own[1], &byte, 1, 0) != 1) fail("own socket");
  printf("burn %lu\n", sent);
}

static int send_fds(int to, const void* bytes, size_t size) {
  static int fds[FDS_MAX];
  static int null = -1;
  if (null < 0) null = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int i = 0; i < FDS_MAX; ++i) fds[i] = null;
  struct iovec part = {(void*)(uintptr_t)bytes, size};
  char control[CMSG_SPACE(sizeof fds)] = {0};
  struct msghdr message = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  struct cmsghdr* const header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof fds);
  memcpy(CMSG_DATA(header), fds, sizeof fds);
  return sendmsg(to, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)size;
}

static void flood_fds(void) {
  uint64_t sent = 0, refused = 0, cut = 0;
  const char bell = COROIPC_SOCKET_DOORBELL;
  while (go_on(sent + refused)) {
    struct coroipcc_connection* const connection = connected();
    const int fd = socket_of();
    for (int i = 0; i < 8; ++i) *(send_fds(fd, &bell, 1) ? &sent : &refused) += 1;
    cut += ask(connection) != COROIPC_OK;
    coroipcc_disconnect(connection);
    const struct coroipc_setup_request request = {.magic = COROIPC_MAGIC,
                                                  .abi_version = COROIPC_ABI_VERSION,
                                                  .layout = COROIPC_LAYOUT,
                                                  .word_probe = COROIPC_WORD_PROBE,
                                                  .service = options.service};
    const int raw = open_socket(0);
    if (raw < 0) continue;
    char reply[256];
    if (send_fds(raw, &request, sizeof request)) {
      ++sent;
      (void)!recv(raw, reply, sizeof reply, 0);
    } else {
      ++refused;
    }
    close(raw);
  }
  printf("fds sent %lu refused %lu connections cut %lu\n", sent, refused, cut);
}

int main(int argc, char** argv) {
  if (argc < 4) return 2;
  end_with_parent();
  name = argv[2];
  count = (uint32_t)strtoul(argv[3], NULL, 10);
  want_fds();
  if (argc > 4) {
    const uid_t uid = (uid_t)atoi(argv[4]);
    if (setgroups(0, NULL) != 0 || setgid(uid) != 0 || setuid(uid) != 0) fail("setuid");
    end_with_parent(); /* that was forgotten with the user */
  }
  const struct sigaction action = {.sa_handler = stop};
  sigaction(SIGTERM, &action, NULL);
  coroipcc_options_init(&options);
  options.service = 1;
  printf("ready\n");
  fflush(stdout);
  if (strcmp(argv[1], "sequential") == 0)
    sequential();
  else if (strcmp(argv[1], "at-once") == 0)
    at_once();
  else if (strcmp(argv[1], "half-open") == 0)
    half_open();
  else if (strcmp(argv[1], "doorbells") == 0)
    doorbells();
  else if (strcmp(argv[1], "burn") == 0)
    burn();
  else if (strcmp(argv[1], "fds") == 0)
    flood_fds();
  else
    return 2;
  return 0;
}
