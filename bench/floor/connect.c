/* connect.c: the floor of connecting: the system calls that the library's handshake makes, in two C
 * processes that do nothing else.
 *
 *   connect --client-cpu 1 --server-cpu 0                one client, one connection after the other
 *   connect --at-once 8                                  eight in the making at any time
 *
 *   client: socket connect PASSCRED PEERCRED PEERPIDFD PEERGROUPS sendmsg(64) epoll_ctl
 *   server:   accept4 PEERCRED epoll_ctl recvmsg PEERPIDFD PEERGROUPS memfd_create ftruncate
 *             F_ADD_SEALS mmap madvise, header written, epoll_ctl sendmsg(96, memfd, credentials)
 *             close(memfd)
 *   client: epoll_wait recvmsg F_GET_SEALS fstat fstatfs F_GETFL mmap madvise epoll_ctl
 * close(memfd), header read;   then: close close munmap, and the server the same when it is told
 *
 * Both sides sleep in epoll_wait while nothing comes; an answer is one sleep away, as a connect of
 * the library is. A sample is one connect, its closing left out; the rate has both. */
#define _GNU_SOURCE 1 /* memfd_create, ppoll, sched_setaffinity */

#include <coroipc/abi.h>

#include <fcntl.h>
#include <linux/memfd.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/vfs.h>

#include "process.h"
#include "program.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif
#define TMPFS_MAGIC_NUMBER 0x01021994
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
/* Control page and the default rings of the library. */
#define SEGMENT_BYTES (COROIPC_CONTROL_BYTES + (1u << 20))

struct peer {
  int socket; /* -1: free */
  int pidfd;
  uint8_t* mapping;
  uint64_t begin_ns;
};

static void check(bool ok, const char* what) {
  if (!ok) fail(what);
}

static void watch(int set, int fd, uint64_t data) {
  struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.u64 = data};
  check(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl");
}

/* Who is there: uid, pidfd, groups. Kernels before 6.5 have no SO_PEERPIDFD. */
static int ask_credentials(int socket) {
  struct ucred peer;
  socklen_t bytes = sizeof peer;
  check(getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) == 0, "SO_PEERCRED");
  int pidfd = -1;
  bytes = sizeof pidfd;
  if (getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &bytes) != 0) pidfd = pidfd_of(peer.pid);
  gid_t groups[64];
  bytes = sizeof groups;
  (void)getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups, &bytes);
  return pidfd;
}

static uint8_t* map(int fd) {
  void* mapping = mmap(NULL, SEGMENT_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  check(mapping != MAP_FAILED, "mmap");
  check(madvise(mapping, SEGMENT_BYTES, MADV_DONTFORK) == 0, "madvise");
  return mapping;
}

static void end_peer(int set, struct peer* peer) {
  check(epoll_ctl(set, EPOLL_CTL_DEL, peer->socket, NULL) == 0, "epoll_ctl");
  if (peer->mapping != NULL) {
    check(epoll_ctl(set, EPOLL_CTL_DEL, peer->pidfd, NULL) == 0, "epoll_ctl");
    munmap(peer->mapping, SEGMENT_BYTES);
  }
  close(peer->socket);
  if (peer->pidfd >= 0) close(peer->pidfd);
  *peer = (struct peer){.socket = -1, .pidfd = -1};
}

/* -- the server ------------------------------------------------------------------------------- */

static void let_in(int set, uint64_t number, struct peer* peer) {
  struct coroipc_setup_request request;
  ssize_t got = recv(peer->socket, &request, sizeof request, MSG_DONTWAIT);
  if (got < 0 && errno == EAGAIN) return;
  check(got == sizeof request && request.magic == COROIPC_MAGIC, "recv");
  peer->pidfd = ask_credentials(peer->socket);
  int memory = memfd_create("coroipc-floor", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  check(memory >= 0 && ftruncate(memory, SEGMENT_BYTES) == 0, "memfd_create");
  check(fcntl(memory, F_ADD_SEALS, SEALS) == 0, "F_ADD_SEALS");
  peer->mapping = map(memory);
  struct coroipc_segment_header header = {.magic = COROIPC_MAGIC, .segment_bytes = SEGMENT_BYTES};
  memcpy(peer->mapping, &header, sizeof header);
  watch(set, peer->pidfd, number);
  struct coroipc_setup_reply reply = {.magic = COROIPC_MAGIC, .segment_bytes = SEGMENT_BYTES};
  struct iovec part = {&reply, sizeof reply};
  union {
    char bytes[CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
    struct cmsghdr align;
  } control = {{0}};
  struct msghdr message = {.msg_iov = &part,
                           .msg_iovlen = 1,
                           .msg_control = control.bytes,
                           .msg_controllen = sizeof control.bytes};
  struct cmsghdr* rights = CMSG_FIRSTHDR(&message);
  *rights = (struct cmsghdr){
      .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof memory)};
  memcpy(CMSG_DATA(rights), &memory, sizeof memory);
  struct ucred own = {getpid(), geteuid(), getegid()};
  struct cmsghdr* credentials = CMSG_NXTHDR(&message, rights);
  *credentials = (struct cmsghdr){
      .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_CREDENTIALS, .cmsg_len = CMSG_LEN(sizeof own)};
  memcpy(CMSG_DATA(credentials), &own, sizeof own);
  check(sendmsg(peer->socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof reply, "sendmsg");
  close(memory);
}

/* Ends with the client. Twice as many peers as clients: the old one may still be closing. */
static void serve(const struct pair* pair, int listener, uint32_t peers_max) {
  const uint64_t is_listener = UINT64_MAX, is_client = UINT64_MAX - 1;
  int set = epoll_create1(EPOLL_CLOEXEC);
  struct peer* peers = calloc(peers_max, sizeof *peers);
  check(set >= 0 && peers != NULL, "epoll_create1");
  for (uint32_t i = 0; i < peers_max; i++) peers[i] = (struct peer){.socket = -1, .pidfd = -1};
  watch(set, listener, is_listener);
  watch(set, pair->doorbell.socket, is_client);
  for (;;) {
    struct epoll_event events[64];
    int ready = epoll_wait(set, events, 64, -1);
    for (int i = 0; i < ready; i++) {
      uint64_t number = events[i].data.u64;
      if (number == is_client) return;
      if (number == is_listener) {
        int socket = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (socket < 0) continue;
        uint64_t free = 0;
        while (free < peers_max && peers[free].socket >= 0) free++;
        check(free < peers_max, "accept4");
        struct ucred client;
        socklen_t bytes = sizeof client;
        check(getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &client, &bytes) == 0, "SO_PEERCRED");
        peers[free] = (struct peer){.socket = socket, .pidfd = -1};
        watch(set, socket, free);
        let_in(set, free, &peers[free]);
      } else if (peers[number].socket >= 0) {
        if (events[i].events & (EPOLLHUP | EPOLLRDHUP))
          end_peer(set, &peers[number]);
        else if (peers[number].mapping == NULL)
          let_in(set, number, &peers[number]);
      }
    }
  }
}

/* -- the client ------------------------------------------------------------------------------- */

static void begin_connect(int set, const struct sockaddr_un* address, uint64_t number,
                          struct peer* peer) {
  peer->begin_ns = now_ns();
  peer->socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  check(peer->socket >= 0, "socket");
  const struct sockaddr* to = (const struct sockaddr*)address;
  check(connect(peer->socket, to, sizeof *address) == 0, "connect");
  int on = 1;
  check(setsockopt(peer->socket, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0, "SO_PASSCRED");
  peer->pidfd = ask_credentials(peer->socket);
  struct coroipc_setup_request request = {.magic = COROIPC_MAGIC};
  check(send(peer->socket, &request, sizeof request, MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof request,
        "send");
  watch(set, peer->socket, number);
}

static void finish_connect(int set, uint64_t number, struct peer* peer) {
  struct coroipc_setup_reply reply;
  struct iovec part = {&reply, sizeof reply};
  union {
    char bytes[CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
    struct cmsghdr align;
  } control;
  struct msghdr message = {.msg_iov = &part,
                           .msg_iovlen = 1,
                           .msg_control = control.bytes,
                           .msg_controllen = sizeof control.bytes};
  check(recvmsg(peer->socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) == sizeof reply,
        "recvmsg");
  int memory = -1;
  for (struct cmsghdr* c = CMSG_FIRSTHDR(&message); c != NULL; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_type == SCM_RIGHTS) memcpy(&memory, CMSG_DATA(c), sizeof memory);
  }
  struct stat file;
  struct statfs volume;
  check(memory >= 0 && (fcntl(memory, F_GET_SEALS) & SEALS) == SEALS, "F_GET_SEALS");
  check(fstat(memory, &file) == 0 && file.st_size == (off_t)reply.segment_bytes, "fstat");
  check(fstatfs(memory, &volume) == 0 && volume.f_type == TMPFS_MAGIC_NUMBER, "fstatfs");
  check((fcntl(memory, F_GETFL) & O_ACCMODE) == O_RDWR, "F_GETFL");
  peer->mapping = map(memory);
  watch(set, peer->pidfd, number);
  int off = 0;
  check(setsockopt(peer->socket, SOL_SOCKET, SO_PASSCRED, &off, sizeof off) == 0, "SO_PASSCRED");
  close(memory);
  struct coroipc_segment_header header;
  memcpy(&header, peer->mapping, sizeof header);
  check(header.magic == COROIPC_MAGIC && header.segment_bytes == reply.segment_bytes, "header");
}

static void make_connections(const struct sockaddr_un* address, const struct options* options,
                             pid_t server, struct measured* measured) {
  int set = epoll_create1(EPOLL_CLOEXEC);
  struct peer* peers = calloc(options->at_once, sizeof *peers);
  check(set >= 0 && peers != NULL, "epoll_create1");
  for (uint32_t i = 0; i < options->at_once; i++) begin_connect(set, address, i, &peers[i]);
  uint64_t begin = 0, warm = now_ns() + (uint64_t)options->warmup_ms * 1000000u;
  uint64_t end = warm + (uint64_t)options->duration_ms * 1000000u;
  for (uint64_t now = now_ns(); now < end;) {
    struct epoll_event events[64];
    int ready = epoll_wait(set, events, 64, STALL_MS);
    check(ready > 0, "epoll_wait: the other side stalled");
    for (int i = 0; i < ready; i++) {
      uint64_t number = events[i].data.u64;
      struct peer* peer = &peers[number];
      finish_connect(set, number, peer);
      now = now_ns();
      samples_add(&measured->samples, now - peer->begin_ns);
      end_peer(set, peer);
      begin_connect(set, address, number, peer);
    }
    if (begin == 0 && now >= warm) {
      measured->cpu = cpu_begin(server);
      measured->samples.count = 0;
      begin = now_ns();
    }
    measured->elapsed_ns = now - begin;
  }
  cpu_end(&measured->cpu);
  measured->operations = measured->samples.count;
}

int main(int argc, char** argv) {
  struct options options = default_options;
  options.payload_bytes = 0;
  parse_options(argc, argv, &options);
  if (options.at_once == 0) {
    fprintf(stderr, "--at-once: expected a number from 1, got 0\n");
    return 2;
  }
  char folder[] = "/tmp/coroipc-floor-XXXXXX";
  check(mkdtemp(folder) != NULL, "mkdtemp");
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s/s", folder);
  int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  check(listener >= 0 && bind(listener, (struct sockaddr*)&address, sizeof address) == 0 &&
            listen(listener, 128) == 0,
        "listen");
  struct pair pair = fork_pair();
  pin(pair.server == 0 ? options.server_cpu : options.client_cpu);
  if (pair.server == 0) {
    serve(&pair, listener, 2 * options.at_once + 64);
    return 0;
  }
  close(listener);
  struct measured measured = {.operations_per_sample = 1};
  samples_prepare(&measured.samples);
  make_connections(&address, &options, pair.server, &measured);
  (void)unlink(address.sun_path);
  (void)rmdir(folder);
  doorbell_ring(&pair.doorbell);
  join_server(&pair);
  report_measured("connect", &options, &measured);
  return 0;
}
