/* peer.h: what the C programs of the peers share: two processes that are told apart by a fork, and
 * the clock of a measurement. Arguments, samples and the JSON that is printed are those of the
 * floors (bench/floor/program.h), payloads too, so that the figures mean the same. */
#ifndef COROIPC_BENCH_PEER_H
#define COROIPC_BENCH_PEER_H

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "../floor/payload.h"
#include "../floor/program.h"

/* The longest that one side waits for the other before it calls the run broken. */
#define STALL_MS 5000

static const struct options peer_defaults = {.payload_bytes = 64,
                                             .answer_bytes = ANSWER_ALIKE,
                                             .ring_bytes = 512 << 10,
                                             .batch = 1,
                                             .at_once = 1,
                                             .kills = 20,
                                             .connections = 1,
                                             .active = 1,
                                             .warmup_ms = 200,
                                             .duration_ms = 700,
                                             .client_cpu = -1,
                                             .server_cpu = -1};

struct pair {
  pid_t server; /* 0 in the server itself */
  int control;  /* one byte from the server: it can be connected to */
  /* Set by the client, for a server that sends and never reads. */
  uint32_t* stop;
};

/* Forks and pins. No library may be used before: most of them do not survive a fork. */
static inline struct pair fork_peers(const struct options* options) {
  int sockets[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0) fail("socketpair");
  uint32_t* stop =
      mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (stop == MAP_FAILED) fail("mmap");
  pid_t client = getpid();
  pid_t server = fork();
  if (server < 0) fail("fork");
  /* Neither must outlive whoever started it: the harness ends a client by SIGKILL. */
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) fail("prctl");
  if (server == 0) {
    if (getppid() != client) fail("the client died");
    close(sockets[0]);
    pin(options->server_cpu);
    return (struct pair){0, sockets[1], stop};
  }
  close(sockets[1]);
  pin(options->client_cpu);
  return (struct pair){server, sockets[0], stop};
}

static inline void server_ready(const struct pair* pair) {
  const uint8_t byte = 1;
  if (send(pair->control, &byte, 1, MSG_NOSIGNAL) != 1) fail("send");
}

static inline void await_server(const struct pair* pair) {
  struct pollfd ready = {pair->control, POLLIN, 0};
  uint8_t byte;
  if (poll(&ready, 1, STALL_MS) != 1) fail("the server did not start");
  if (recv(pair->control, &byte, 1, 0) != 1) fail("the server did not start");
}

static inline void stop_server(const struct pair* pair) {
  __atomic_store_n(pair->stop, 1, __ATOMIC_RELAXED);
}

/* The same for a server that looks at `control`, which hangs up. */
static inline void leave_server(const struct pair* pair) {
  if (shutdown(pair->control, SHUT_WR) != 0) fail("shutdown");
}

static inline bool stopped(const struct pair* pair) {
  return __atomic_load_n(pair->stop, __ATOMIC_RELAXED) != 0;
}

/* A client alone, of a server that somebody else has started. */
static inline struct pair client_alone(const struct options* options) {
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) fail("prctl");
  pin(options->client_cpu);
  return (struct pair){-1, -1, NULL};
}

/* In the client, after it told the server to end in the peer's own words, or by stop_server. */
static inline void join_server(const struct pair* pair) {
  struct pollfd gone = {pair->control, POLLIN, 0};
  if (poll(&gone, 1, STALL_MS) != 1) kill(pair->server, SIGKILL); /* the hangup of its end */
  int status = 0;
  if (waitpid(pair->server, &status, 0) != pair->server) fail("waitpid");
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    fprintf(stderr, "the server process failed\n");
    exit(1);
  }
}

/* Counts operations; every `stride` of them it reads the clock and takes a sample, from the first
 * on: the warm-up runs the very loop that is measured. */
struct meter {
  struct measured measured;
  pid_t server;
  uint32_t stride;
  uint32_t until_sample;
  uint64_t last, begin, warm, end;
  bool over;
};

static inline struct meter meter_start(const struct options* options, const struct pair* pair,
                                       uint32_t stride) {
  struct meter meter = {
      .server = pair->server > 0 ? pair->server : 0, .stride = stride, .until_sample = stride};
  samples_prepare(&meter.measured.samples);
  meter.last = now_ns();
  meter.begin = meter.last;
  meter.warm = meter.last + (uint64_t)options->warmup_ms * 1000000u;
  meter.end = meter.warm + (uint64_t)options->duration_ms * 1000000u;
  return meter;
}

static inline void meter_count(struct meter* meter) {
  if (--meter->until_sample != 0) return;
  meter->until_sample = meter->stride;
  uint64_t now = now_ns();
  samples_add(&meter->measured.samples, now - meter->last);
  meter->last = now;
  if (now >= meter->warm) {
    meter->warm = UINT64_MAX;
    meter->begin = now;
    meter->measured.samples.count = 0;
    meter->measured.cpu = cpu_begin(meter->server);
  }
  /* One at the least, however long it takes. */
  uint32_t count = meter->measured.samples.count;
  if (((now >= meter->end && count > 0) || count == SAMPLES_MAX) && !meter->over) {
    meter->over = true;
    meter->measured.elapsed_ns = meter->last - meter->begin;
    cpu_end(&meter->measured.cpu);
  }
}

/* Before each call, where a pace is asked for: the sample runs from the end of the pause. */
static inline void meter_pause(struct meter* meter, const struct options* options) {
  if (options->pace_us == 0) return;
  const struct timespec pace = {options->pace_us / 1000000,
                                (long)(options->pace_us % 1000000) * 1000};
  (void)nanosleep(&pace, NULL);
  meter->last = now_ns();
}

/* `divisor`: how many operations a sample is the time of; not the stride where they overlap. */
static inline int meter_report(struct meter* meter, const char* name, const struct options* options,
                               uint32_t divisor, uint64_t wrong) {
  meter->measured.operations_per_sample = divisor;
  meter->measured.operations = (uint64_t)meter->measured.samples.count * meter->stride;
  meter->measured.wrong = wrong;
  report_measured(name, options, &meter->measured);
  return wrong == 0 ? 0 : 1;
}

/* -- many connections ---------------------------------------------------------------------------
 */

/* Open descriptors of a process. */
static inline double count_fds(pid_t pid) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
  DIR* folder = opendir(path);
  if (folder == NULL) fail(path);
  double count = 0;
  while (readdir(folder) != NULL) count++;
  closedir(folder);
  return count;
}

/* The slots of a run, each on a connection of its own; the first has the clock, as in
 * bench/cases/many-connections.ts. */
struct many {
  struct meter meter;
  uint64_t* counts; /* answers in the measured part */
  uint32_t active;
};

static inline void slot_answered(struct many* many, uint32_t slot) {
  if (many->meter.over) return;
  many->counts[slot]++;
  if (slot != 0) return;
  bool warming = many->meter.warm != UINT64_MAX;
  meter_count(&many->meter);
  if (warming && many->meter.warm == UINT64_MAX)
    memset(many->counts, 0, many->active * sizeof *many->counts);
}

static inline int many_report(struct many* many, const char* name, const struct options* options,
                              uint64_t wrong) {
  uint64_t least = UINT64_MAX, all = 0;
  for (uint32_t i = 0; i < many->active; i++) {
    all += many->counts[i];
    if (many->counts[i] < least) least = many->counts[i];
  }
  struct measured* measured = &many->meter.measured;
  measured->open = options->connections;
  measured->fairness = all == 0 ? 0 : (double)least * many->active / (double)all;
  measured->operations_per_sample = 1;
  measured->operations = all;
  measured->wrong = wrong;
  report_measured(name, options, measured);
  return wrong == 0 ? 0 : 1;
}

/* -- a server's death ----------------------------------------------------------------------------
 */

/* For what is sent to arrive. */
static inline void settle(void) {
  const struct timespec time = {0, 10000000};
  (void)nanosleep(&time, NULL);
}

static inline uint64_t kill_server(const struct pair* pair) {
  uint64_t killed = now_ns();
  if (kill(pair->server, SIGKILL) != 0) fail("kill");
  return killed;
}

/* `once` forks a server, kills it, and returns the nanoseconds from before kill(2) until it was
 * told: in a process of its own, since most libraries do not survive a fork. */
static inline int measure_deaths(const char* name, const struct options* options,
                                 uint64_t (*once)(const struct options*)) {
  struct measured measured = {.operations_per_sample = 1};
  samples_prepare(&measured.samples);
  uint64_t begin = now_ns();
  for (uint32_t i = 0; i < options->kills; i++) {
    int ends[2];
    if (pipe(ends) != 0) fail("pipe");
    pid_t client = fork();
    if (client < 0) fail("fork");
    if (client == 0) {
      close(ends[0]);
      uint64_t told_ns = once(options);
      _exit(write(ends[1], &told_ns, sizeof told_ns) == sizeof told_ns ? 0 : 1);
    }
    close(ends[1]);
    uint64_t told_ns;
    if (read(ends[0], &told_ns, sizeof told_ns) != sizeof told_ns) fail("the client");
    samples_add(&measured.samples, told_ns);
    close(ends[0]);
    (void)waitpid(client, NULL, 0);
  }
  measured.operations = options->kills;
  measured.elapsed_ns = now_ns() - begin;
  report_measured(name, options, &measured);
  return 0;
}

/* The two halves of a call in which both payloads are read and written in full. */
static inline void answer_fill(uint32_t* answer, const uint32_t* request, uint32_t request_bytes,
                               const struct options* options) {
  touched_answer(answer, options->answer_bytes, request, request_bytes, options->hand_over);
}

static inline bool answer_wrong(const uint32_t* answer, uint32_t bytes, uint32_t seed,
                                const struct options* options) {
  return bytes != options->answer_bytes ||
         !touched_answer_right(answer, bytes, options->payload_bytes, seed, options->hand_over);
}

#endif
