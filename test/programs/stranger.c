/* A peer that speaks raw AF_UNIX SOCK_SEQPACKET and means no good, for tests of both sides:
 *
 *   stranger client <path> version <n>   says that its ABI is n; writes what the server answered
 *   stranger client <path> silent        says nothing; writes when it was let go
 *   stranger client <path> byte          says one byte, as coroipc's MESSAGE_REQ_CHANGE_EUID did
 *   stranger client <path> garbage       says 64 bytes of nonsense
 *   stranger client <path> descriptors   a correct request with an fd that is not due
 *   stranger client <path> truncate      connects in order, then tries to shrink, grow, seal and
 *                                        write over what it was given
 *   stranger client <path> path-instead <victim>   names a file: in place of the setup message,
 *   stranger client <path> path-inside <victim>    inside it, in every field that is not its head,
 *   stranger client <path> path-behind <victim>    in the same message behind a correct one,
 *   stranger client <path> path-after <victim>     in a message after it,
 *   stranger client <path> path-in-ring <victim>   in a want for a segment, once it is connected;
 *                                        writes what was done to that file meanwhile
 *   stranger client <path> deaf          has itself rung for every answer and never empties its
 *                                        socket; all it has is in blocking mode
 *   stranger server <path> version <n>   answers the first client that its ABI is n
 *   stranger server <path> silent        accepts, says nothing
 *   stranger server <path> unsealed      hands out a memfd without seals
 */
#include <coroipc/abi.h>
#include <coroipc/types.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static struct sockaddr_un address;

static void fail(const char* what) {
  fprintf(stderr, "stranger: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void say(const char* text) {
  printf("%s\n", text);
  fflush(stdout);
}

static int send_with(int socket, const void* bytes, size_t count, int fd) {
  struct iovec part = {(void*)(uintptr_t)bytes, count};
  char control[CMSG_SPACE(sizeof(int))] = {0};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    struct cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
  }
  return sendmsg(socket, &message, MSG_NOSIGNAL) == (ssize_t)count ? 0 : -1;
}

/* The next message, and its fd if it has one. */
static ssize_t receive(int socket, void* bytes, size_t room, int* fd) {
  struct iovec part = {bytes, room};
  char control[256];
  struct msghdr message = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  *fd = -1;
  const ssize_t got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  for (struct cmsghdr* header = CMSG_FIRSTHDR(&message); got >= 0 && header != NULL;
       header = CMSG_NXTHDR(&message, header))
    if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
      memcpy(fd, CMSG_DATA(header), sizeof *fd);
  return got;
}

static struct coroipc_setup_request request_of(unsigned version) {
  const struct coroipc_setup_request request = {.magic = COROIPC_MAGIC,
                                                .abi_version = (uint16_t)version,
                                                .layout = COROIPC_LAYOUT,
                                                .word_probe = COROIPC_WORD_PROBE,
                                                .service = 1};
  return request;
}

static void answered(int socket) {
  struct coroipc_setup_reply reply = {0};
  int fd;
  const ssize_t got = receive(socket, &reply, sizeof reply, &fd);
  if (got <= 0) {
    say(got == 0 ? "closed" : strerror(errno));
    return;
  }
  printf("answered status %u version %u fd %s\n", reply.status, reply.abi_version,
         fd >= 0 ? "yes" : "no");
  fflush(stdout);
}

static void ring(int socket) {
  const char doorbell = COROIPC_SOCKET_DOORBELL;
  // A server that is awake has looked already, and may have hung up for what it saw.
  if (send(socket, &doorbell, 1, MSG_NOSIGNAL) != 1 && errno != EPIPE) fail("doorbell");
}

static void try_memory(int socket) {
  struct coroipc_setup_reply reply = {0};
  int fd;
  if (receive(socket, &reply, sizeof reply, &fd) != sizeof reply || fd < 0) fail("handshake");
  printf("shrink %s\n", ftruncate(fd, 4096) == 0 ? "done" : strerrorname_np(errno));
  printf("grow %s\n",
         ftruncate(fd, reply.segment_bytes + 4096) == 0 ? "done" : strerrorname_np(errno));
  printf("seal %s\n", fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == 0 ? "done" : strerrorname_np(errno));
  printf("punch %s\n",
         fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, reply.segment_bytes) == 0
             ? "done"
             : strerrorname_np(errno));
  /* Now every word of the control page is zero, the ring is holes; then nonsense over all of it. */
  uint8_t* const memory =
      mmap(NULL, reply.segment_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) fail("mmap");
  memset(memory, 0xa5, reply.segment_bytes);
  ring(socket);
  answered(socket);
}

/* What happened to the file since: 'untouched', or the events of inotify(7). */
static void say_touched(int watch) {
  char events[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
  const ssize_t got = read(watch, events, sizeof events);
  uint32_t seen = 0;
  for (ssize_t at = 0; at < got;) {
    const struct inotify_event* const event = (const void*)(events + at);
    seen |= event->mask;
    at += (ssize_t)(sizeof *event + event->len);
  }
  if (seen == 0)
    say("untouched");
  else
    printf("touched 0x%x\n", seen);
  fflush(stdout);
}

/* A record as the client's ring wants it, published by hand. */
static void write_want(uint8_t* memory, const char* text, uint32_t bytes) {
  struct coroipc_control* const control = (void*)memory;
  struct coroipc_record record = {
      .bytes = bytes, .kind = COROIPC_RECORD_SEGMENT_WANT, .correlation = 1};
  uint8_t* const to = memory + COROIPC_CONTROL_BYTES;
  memcpy(to, &record, sizeof record);
  memcpy(to + sizeof record, text, bytes);
  const uint32_t whole =
      (COROIPC_RECORD_BYTES + bytes + COROIPC_RECORD_ALIGN - 1) & ~(COROIPC_RECORD_ALIGN - 1);
  __atomic_store_n(&control->ring[COROIPC_RING_REQUEST].write_position, whole, __ATOMIC_SEQ_CST);
}

/* Connects in order and maps what it is given. */
static uint8_t* connected(int socket) {
  const struct coroipc_setup_request request = request_of(COROIPC_ABI_VERSION);
  if (send_with(socket, &request, sizeof request, -1) != 0) fail("send");
  struct coroipc_setup_reply reply = {0};
  int fd;
  if (receive(socket, &reply, sizeof reply, &fd) != sizeof reply || fd < 0) fail("handshake");
  uint8_t* const memory =
      mmap(NULL, reply.segment_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) fail("mmap");
  return memory;
}

/* For ever: says each hundredth time how often it has had itself rung. Records of 32 bytes never
 * need a pad. */
static _Noreturn void deaf(int socket) {
  uint8_t* const memory = connected(socket);
  for (int fd = 0; fd < 64; ++fd) {
    const int mode = fcntl(fd, F_GETFL);
    if (mode >= 0) (void)fcntl(fd, F_SETFL, mode & ~O_NONBLOCK);
  }
  struct coroipc_control* const control = (void*)memory;
  const uint32_t ring_bytes = control->header.request_ring_bytes;
  struct coroipc_ring_words* const requests = &control->ring[COROIPC_RING_REQUEST];
  struct coroipc_ring_words* const answers = &control->ring[COROIPC_RING_RESPONSE];
  const uint32_t step = COROIPC_RECORD_BYTES + 8;
  const uint32_t written = __atomic_load_n(&requests->write_position, __ATOMIC_SEQ_CST);
  const uint32_t taken = __atomic_load_n(&answers->read_position, __ATOMIC_SEQ_CST);
  for (uint32_t i = 0;; ++i) {
    if (i % 100 == 0) {
      printf("rung %u\n", i);
      fflush(stdout);
    }
    const struct coroipc_record record = {
        .bytes = 8, .id = 0, .kind = COROIPC_RECORD_REQUEST, .correlation = 0};
    uint8_t* const to = memory + COROIPC_CONTROL_BYTES + (written + i * step) % ring_bytes;
    memcpy(to, &record, sizeof record);
    memset(to + sizeof record, 0, 8);
    __atomic_store_n(&answers->reader_sleep, 1u, __ATOMIC_SEQ_CST);
    __atomic_store_n(&requests->write_position, written + (i + 1) * step, __ATOMIC_SEQ_CST);
    ring(socket);
    while (__atomic_load_n(&answers->write_position, __ATOMIC_SEQ_CST) == taken + i * step)
      poll(NULL, 0, i < 1000 ? 0 : 1);
    __atomic_store_n(&answers->read_position, taken + (i + 1) * step, __ATOMIC_SEQ_CST);
  }
}

static int name_victim(int socket, const char* what, const char* victim) {
  const size_t length = strlen(victim) + 1;
  if (length > 512) return 2;
  const int watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  if (inotify_add_watch(watch, victim, IN_ALL_EVENTS) < 0) fail("inotify");
  uint8_t message[1024] = {0};
  const struct coroipc_setup_request request = request_of(COROIPC_ABI_VERSION);
  const size_t head = offsetof(struct coroipc_setup_request, request_ring_bytes);
  memcpy(message, &request, sizeof request);
  size_t bytes = sizeof request;
  if (strcmp(what, "path-instead") == 0) {
    memset(message, 0, sizeof message);
    memcpy(message, victim, length);
  } else if (strcmp(what, "path-inside") == 0) {
    if (length > sizeof request - head) fail("the path is too long for it");
    memcpy(message + head, victim, length);
  } else if (strcmp(what, "path-behind") == 0) {
    memcpy(message + bytes, victim, length);
    bytes += length;
  } else {
    uint8_t* const memory = connected(socket);
    if (strcmp(what, "path-after") == 0) {
      memcpy(message, victim, bytes = length);
    } else if (strcmp(what, "path-in-ring") == 0) {
      write_want(memory, victim, (uint32_t)length);
      message[0] = COROIPC_SOCKET_DOORBELL;
      bytes = 1;
    } else {
      return 2;
    }
  }
  if (send_with(socket, message, bytes, -1) != 0) fail("send");
  say("said it");
  answered(socket);
  say_touched(watch);
  return 0;
}

static int client(const char* what, const char* number) {
  const int socket_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (connect(socket_fd, (struct sockaddr*)&address, sizeof address) != 0) fail("connect");
  if (strcmp(what, "deaf") == 0) deaf(socket_fd);
  if (strncmp(what, "path-", 5) == 0) return name_victim(socket_fd, what, number);
  struct coroipc_setup_request request = request_of(COROIPC_ABI_VERSION);
  if (strcmp(what, "version") == 0) {
    request = request_of((unsigned)atoi(number));
    if (send_with(socket_fd, &request, sizeof request, -1) != 0) fail("send");
  } else if (strcmp(what, "byte") == 0) {
    if (send_with(socket_fd, "\1", 1, -1) != 0) fail("send");
  } else if (strcmp(what, "garbage") == 0) {
    memset(&request, 0x5a, sizeof request);
    if (send_with(socket_fd, &request, sizeof request, -1) != 0) fail("send");
  } else if (strcmp(what, "descriptors") == 0) {
    if (send_with(socket_fd, &request, sizeof request, STDERR_FILENO) != 0) fail("send");
  } else if (strcmp(what, "truncate") == 0) {
    if (send_with(socket_fd, &request, sizeof request, -1) != 0) fail("send");
    try_memory(socket_fd);
    return 0;
  } else if (strcmp(what, "silent") != 0) {
    return 2;
  }
  say("said it");
  answered(socket_fd);
  return 0;
}

static int serve(const char* what, const char* number) {
  const int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (bind(listener, (struct sockaddr*)&address, sizeof address) != 0) fail("bind");
  if (listen(listener, 8) != 0) fail("listen");
  say("ready");
  const int peer = accept(listener, NULL, NULL);
  if (peer < 0) fail("accept");
  struct coroipc_setup_request request;
  int fd;
  if (receive(peer, &request, sizeof request, &fd) != sizeof request) fail("receive");
  if (strcmp(what, "silent") == 0) {
    answered(peer); /* until the client has had enough */
    return 0;
  }
  struct coroipc_setup_reply reply = {.magic = COROIPC_MAGIC,
                                      .abi_version = COROIPC_ABI_VERSION,
                                      .layout = COROIPC_LAYOUT,
                                      .word_probe = COROIPC_WORD_PROBE,
                                      .status = COROIPC_OK};
  int memory = -1;
  if (strcmp(what, "version") == 0) {
    reply.abi_version = (uint16_t)atoi(number);
    reply.status = COROIPC_VERSION;
  } else if (strcmp(what, "unsealed") == 0) {
    reply.request_ring_bytes = reply.response_ring_bytes = reply.dispatch_ring_bytes = 4096;
    reply.segment_bytes = COROIPC_CONTROL_BYTES + 3 * 4096;
    reply.message_bytes_max = 4096;
    reply.requests_in_flight = 16;
    reply.connection_id = reply.server_id = 1;
    memory = memfd_create("coroipc", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (ftruncate(memory, reply.segment_bytes) != 0) fail("ftruncate");
  } else {
    return 2;
  }
  if (send_with(peer, &reply, sizeof reply, memory) != 0) fail("reply");
  answered(peer);
  return 0;
}

int main(int argc, char** argv) {
  if (argc < 4) return 2;
  address.sun_family = AF_UNIX;
  snprintf(address.sun_path, sizeof address.sun_path, "%s", argv[2]);
  alarm(60);
  const char* const number = argc > 4 ? argv[4] : "0";
  return strcmp(argv[1], "server") == 0 ? serve(argv[3], number) : client(argv[3], number);
}
