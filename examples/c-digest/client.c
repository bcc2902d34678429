/* The C client of the digest demo (examples/digest): blocking calls with gathered payloads, and the
 * same way through the death of the server as the Node.js clients go.
 *
 *   build/examples/c-digest/client <server's name> <list>
 *
 * The list holds paths, each ended by a zero byte. It writes the same lines of JSON as
 * examples/digest/client.ts, begins when a line comes on standard input and ends when that ends.
 * Exit code: 0 all digests were right, 1 some were not, 2 anything else. */
#include <coroipc/coroipcc.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "sha256.h"

/* examples/digest/protocol.ts */
enum { DIGEST = 1 };
enum { HELLO = 0, WHOLE = 1, UPDATE = 2, FINAL = 3, TIMES = 4 };
enum { HEAD_BYTES = 8, DIGEST_BYTES = 32 };

static struct {
  unsigned files, calls, wrong, unread, unknown;
  uint64_t bytes;
  uint64_t read_ns, check_ns, call_ns, session_ns;
} result;

static uint32_t* latencies_us;
static size_t latency_capacity;

static _Noreturn void fail(const char* what, coroipc_status status) {
  fprintf(stderr, "c client: %s: %s (%s)\n", what, coroipc_status_name(status),
          coroipc_status_text(status));
  exit(2);
}

static void* allocated(void* memory) {
  if (memory != NULL) return memory;
  fprintf(stderr, "c client: out of memory\n");
  exit(2);
}

static uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void say_lost(uint64_t at_ns, coroipc_status why) {
  printf("{\"event\":\"lost\",\"at\":\"%llu\",\"code\":\"ERR_COROIPC_%s\"}\n",
         (unsigned long long)at_ns, coroipc_status_name(why));
  fflush(stdout);
}

static int by_value(const void* a, const void* b) {
  uint32_t x = *(const uint32_t*)a, y = *(const uint32_t*)b;
  return (x > y) - (x < y);
}

static void say_done(void) {
  qsort(latencies_us, result.calls, sizeof(*latencies_us), by_value);
  double seconds = (double)result.session_ns / 1e9;
  printf(
      "{\"event\":\"done\",\"files\":%u,\"bytes\":%llu,\"calls\":%u,\"wrong\":%u,\"unread\":%u,"
      "\"unknown\":%u,\"seconds\":%.6f,\"p50\":%u,\"p99\":%u}\n",
      result.files, (unsigned long long)result.bytes, result.calls, result.wrong, result.unread,
      result.unknown, seconds, result.calls > 0 ? latencies_us[result.calls / 2] : 0,
      result.calls > 0 ? latencies_us[(size_t)(result.calls * 0.99)] : 0);
  fflush(stdout);
}

static coroipc_status ask(struct coroipcc_connection* connection, uint16_t id,
                          const struct iovec* payload, uint32_t count,
                          uint8_t answer[DIGEST_BYTES]) {
  struct coroipcc_response response;
  uint64_t started = now_ns();
  coroipc_status status = coroipcc_request(connection, id, payload, count, COROIPCC_TIMEOUT_DEFAULT,
                                           answer, DIGEST_BYTES, &response);
  uint64_t took = now_ns() - started;
  result.call_ns += took;
  if (status != COROIPC_OK) return status;
  if (result.calls == latency_capacity) {
    latency_capacity = latency_capacity * 2 + 1024;
    latencies_us = allocated(realloc(latencies_us, latency_capacity * sizeof(*latencies_us)));
  }
  latencies_us[result.calls++] = (uint32_t)(took / 1000);
  return COROIPC_OK;
}

/* Reads until `bytes` are there or the file ends. */
static size_t fill(int fd, uint8_t* into, size_t bytes) {
  size_t filled = 0;
  while (filled < bytes) {
    ssize_t got = read(fd, into + filled, bytes - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    filled += (size_t)got;
  }
  return filled;
}

/* One file, in as many requests as it takes. OK also for one that cannot be read. */
static coroipc_status digest(struct coroipcc_connection* connection, const char* path,
                             uint8_t* space, size_t space_bytes) {
  static uint32_t last_file;
  uint32_t head[HEAD_BYTES / sizeof(uint32_t)] = {++last_file, 0};
  struct sha256 hash;
  uint8_t own[DIGEST_BYTES], answer[DIGEST_BYTES];
  coroipc_status status = COROIPC_OK;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    result.unread++;
    return COROIPC_OK;
  }
  sha256_init(&hash);
  for (int part = 0;; part++) {
    uint64_t started = now_ns();
    size_t bytes = fill(fd, space, space_bytes);
    uint64_t was_read = now_ns();
    sha256_update(&hash, space, bytes);
    result.check_ns += now_ns() - was_read;
    result.read_ns += was_read - started;

    int last = bytes < space_bytes;
    int whole = last && part == 0;
    struct iovec payload[2] = {{head, HEAD_BYTES}, {space, bytes}};
    if (whole)
      status = ask(connection, WHOLE, payload + 1, 1, answer);
    else
      status = ask(connection, last ? FINAL : UPDATE, payload, 2, answer);
    if (status != COROIPC_OK || last) break;
  }
  close(fd);
  if (status != COROIPC_OK) return status;
  result.bytes += hash.bytes;
  result.files++;
  sha256_final(&hash, own);
  if (memcmp(own, answer, DIGEST_BYTES) != 0) {
    result.wrong++;
    fprintf(stderr, "c client: wrong digest of %s\n", path);
  }
  return COROIPC_OK;
}

static int is_loss(coroipc_status status) {
  return status == COROIPC_UNKNOWN_OUTCOME || status == COROIPC_PEER_DEAD ||
         status == COROIPC_DISCONNECTED;
}

static struct coroipcc_connection* connect_soon(const char* name) {
  struct coroipcc_connection* connection;
  struct coroipcc_options options;
  coroipcc_options_init(&options);
  options.service = DIGEST;
  for (int tries = 0;; tries++) {
    coroipc_status status =
        coroipcc_connect(NULL, name, &options, COROIPCC_TIMEOUT_DEFAULT, &connection);
    if (status == COROIPC_OK) break;
    int nobody = status == COROIPC_CONNECT_REFUSED || is_loss(status);
    if (!nobody || tries == 2000) fail("connect", status);
    nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
  }
  printf("{\"event\":\"back\",\"server\":\"%016llx\"}\n",
         (unsigned long long)coroipcc_server_id(connection));
  fflush(stdout);
  return connection;
}

static void report(struct coroipcc_connection* connection) {
  static uint64_t reported_ns;
  char text[128];
  uint64_t now = now_ns();
  if (now - reported_ns < 200000000u) return;
  reported_ns = now;
  int length = snprintf(text, sizeof(text), "{\"read\":%.1f,\"check\":%.1f,\"wait\":%.1f}",
                        (double)result.read_ns / 1e6, (double)result.check_ns / 1e6,
                        (double)result.call_ns / 1e6);
  struct iovec payload = {text, (size_t)length};
  /* A report that gets lost is followed by another. */
  (void)coroipcc_send(connection, TIMES, &payload, 1);
}

/* Digests from *next to the end of the list; *next is where to go on. */
static coroipc_status session(struct coroipcc_connection* connection, const char** next,
                              const char* end) {
  struct iovec name = {"c blocking", strlen("c blocking")};
  struct coroipcc_response response;
  size_t space_bytes = coroipcc_message_bytes(connection) - HEAD_BYTES;
  uint8_t* space = allocated(malloc(space_bytes));
  coroipc_status status =
      coroipcc_request(connection, HELLO, &name, 1, COROIPCC_TIMEOUT_DEFAULT, NULL, 0, &response);
  while (status == COROIPC_OK && *next < end) {
    status = digest(connection, *next, space, space_bytes);
    if (status != COROIPC_OK) break;
    *next += strlen(*next) + 1;
    report(connection);
  }
  free(space);
  return status;
}

/* After the work: waits until the server goes away or standard input ends. */
static coroipc_status wait_for_end(struct coroipcc_connection* connection) {
  char bytes[64];
  struct pollfd fds[2] = {{.fd = STDIN_FILENO, .events = POLLIN},
                          {.fd = coroipcc_fd(connection), .events = POLLIN}};
  for (;;) {
    /* Until AGAIN, before polling: then the fd is sure to wake us. */
    struct coroipcc_dispatch dispatch;
    coroipc_status status = coroipcc_dispatch_receive(connection, 0, &dispatch);
    if (status == COROIPC_OK) {
      coroipcc_dispatch_release(connection);
      continue;
    }
    if (status != COROIPC_AGAIN) return status;
    if (poll(fds, 2, -1) < 0 && errno != EINTR) fail("poll", COROIPC_SYSTEM);
    if (fds[0].revents != 0 && read(STDIN_FILENO, bytes, sizeof(bytes)) <= 0) return COROIPC_OK;
  }
}

static char* read_list(const char* path, size_t* bytes) {
  FILE* file = fopen(path, "rb");
  long size = -1;
  if (file != NULL && fseek(file, 0, SEEK_END) == 0) size = ftell(file);
  if (size < 0 || fseek(file, 0, SEEK_SET) != 0) {
    perror(path);
    exit(2);
  }
  char* list = allocated(malloc((size_t)size + 1));
  *bytes = fread(list, 1, (size_t)size, file);
  list[*bytes] = '\0';
  fclose(file);
  return list;
}

int main(int argc, char** argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: %s <server's name> <list>\n", argv[0]);
    return 2;
  }
  size_t bytes;
  char* list = read_list(argv[2], &bytes);
  const char* next = list;
  coroipc_status status;
  char go[64];
  int going = 0;
  do {
    struct coroipcc_connection* connection = connect_soon(argv[1]);
    if (!going && read(STDIN_FILENO, go, sizeof(go)) <= 0) return 2;
    going = 1;
    uint64_t started = now_ns();
    status = session(connection, &next, list + bytes);
    uint64_t ended = now_ns();
    result.session_ns += ended - started;
    if (status == COROIPC_UNKNOWN_OUTCOME) result.unknown++;
    if (status == COROIPC_OK) {
      say_done();
      status = wait_for_end(connection);
      ended = now_ns();
    }
    if (status != COROIPC_OK) {
      if (!is_loss(status)) fail("request", status);
      say_lost(ended, status);
    }
    coroipcc_disconnect(connection);
  } while (status != COROIPC_OK);
  free(latencies_us);
  free(list);
  return result.wrong > 0 ? 1 : 0;
}
