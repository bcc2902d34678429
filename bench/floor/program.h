/* program.h: what the floor programs share around the thing they measure: arguments, pinning,
 * clocks, samples, and the one JSON object that each prints on stdout. The harness repeats and
 * interleaves; a program measures once. Any failure ends both processes with a message and a code
 * that is not 0. */
#ifndef COROIPC_BENCH_PROGRAM_H
#define COROIPC_BENCH_PROGRAM_H

#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define SAMPLES_MAX (1u << 22)
#define PAYLOAD_BYTES_MAX (16u << 20)
#define RING_BYTES_MAX (1u << 30)
#define ANSWER_ALIKE UINT32_MAX

struct options {
  uint32_t payload_bytes;
  uint32_t answer_bytes; /* rtt; ANSWER_ALIKE: as the payload */
  uint32_t ring_bytes;
  uint32_t batch;
  uint32_t copies;  /* dispatch: 2, or 1: read where it lies in the ring */
  uint32_t pace_us; /* rtt: pause between two calls */
  uint32_t at_once; /* connect: clients that connect at the same time */
  uint32_t kills;   /* death */
  uint32_t connections;
  uint32_t active; /* of these, with a request in flight */
  uint32_t warmup_ms;
  uint32_t duration_ms;
  int client_cpu; /* -1: not pinned */
  int server_cpu;
  bool sleeping;  /* --wait sleep; else spin */
  bool hand_over; /* --touch hand-over: one word a page is written and read; else all */
};

static const struct options default_options = {.payload_bytes = 64,
                                               .answer_bytes = ANSWER_ALIKE,
                                               .ring_bytes = 256 << 10,
                                               .batch = 1,
                                               .copies = 2,
                                               .at_once = 1,
                                               .kills = 20,
                                               .connections = 1,
                                               .active = 1,
                                               .warmup_ms = 200,
                                               .duration_ms = 700,
                                               .client_cpu = -1,
                                               .server_cpu = -1};

/* One array that is filled in the measured loop: touched before, so that no page fault is measured.
 */
struct samples {
  uint32_t* ns;
  uint32_t count;
};

__attribute__((noreturn)) static inline void fail(const char* what) {
  fprintf(stderr, "%s: %s\n", what, errno ? strerror(errno) : "failed");
  exit(1);
}

static inline uint32_t number_argument(const char* name, const char* text, uint32_t max) {
  char* end = NULL;
  errno = 0;
  unsigned long value = strtoul(text, &end, 10);
  if (errno || end == text || *end != '\0' || *text == '-' || value > max) {
    fprintf(stderr, "--%s: expected a number from 0 to %u, got %s\n", name, max, text);
    exit(2);
  }
  return (uint32_t)value;
}

/* `options` holds the program's defaults when it comes in. */
static inline void parse_options(int argc, char** argv, struct options* options) {
  static const struct option known[] = {{"wait", required_argument, NULL, 'w'},
                                        {"payload", required_argument, NULL, 'p'},
                                        {"answer", required_argument, NULL, 'a'},
                                        {"ring", required_argument, NULL, 'r'},
                                        {"batch", required_argument, NULL, 'b'},
                                        {"copies", required_argument, NULL, 'o'},
                                        {"touch", required_argument, NULL, 't'},
                                        {"pace-us", required_argument, NULL, 'e'},
                                        {"at-once", required_argument, NULL, 'n'},
                                        {"kills", required_argument, NULL, 'k'},
                                        {"connections", required_argument, NULL, 'm'},
                                        {"active", required_argument, NULL, 'v'},
                                        {"warmup-ms", required_argument, NULL, 'u'},
                                        {"duration-ms", required_argument, NULL, 'd'},
                                        {"client-cpu", required_argument, NULL, 'c'},
                                        {"server-cpu", required_argument, NULL, 's'},
                                        {NULL, 0, NULL, 0}};
  int option;
  while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
    switch (option) {
      case 'w':
        if (strcmp(optarg, "spin") != 0 && strcmp(optarg, "sleep") != 0) {
          fprintf(stderr, "--wait: expected spin or sleep, got %s\n", optarg);
          exit(2);
        }
        options->sleeping = strcmp(optarg, "sleep") == 0;
        break;
      case 'p':
        options->payload_bytes = number_argument("payload", optarg, PAYLOAD_BYTES_MAX);
        break;
      case 'a':
        options->answer_bytes = number_argument("answer", optarg, PAYLOAD_BYTES_MAX);
        break;
      case 'o':
        options->copies = number_argument("copies", optarg, 2);
        break;
      case 't':
        if (strcmp(optarg, "full") != 0 && strcmp(optarg, "hand-over") != 0) {
          fprintf(stderr, "--touch: expected full or hand-over, got %s\n", optarg);
          exit(2);
        }
        options->hand_over = strcmp(optarg, "hand-over") == 0;
        break;
      case 'e':
        options->pace_us = number_argument("pace-us", optarg, 1000000);
        break;
      case 'n':
        options->at_once = number_argument("at-once", optarg, 1024);
        break;
      case 'k':
        options->kills = number_argument("kills", optarg, 10000);
        break;
      case 'm':
        options->connections = number_argument("connections", optarg, 20000);
        break;
      case 'v':
        options->active = number_argument("active", optarg, 20000);
        break;
      case 'r':
        options->ring_bytes = number_argument("ring", optarg, RING_BYTES_MAX);
        break;
      case 'b':
        options->batch = number_argument("batch", optarg, 1u << 20);
        break;
      case 'u':
        options->warmup_ms = number_argument("warmup-ms", optarg, 60000);
        break;
      case 'd':
        options->duration_ms = number_argument("duration-ms", optarg, 60000);
        break;
      case 'c':
        options->client_cpu = (int)number_argument("client-cpu", optarg, CPU_SETSIZE - 1);
        break;
      case 's':
        options->server_cpu = (int)number_argument("server-cpu", optarg, CPU_SETSIZE - 1);
        break;
      default:
        fprintf(stderr,
                "usage: %s [--wait spin|sleep] [--payload BYTES] [--answer BYTES] [--ring BYTES]\n"
                "       [--touch full|hand-over] [--batch N] [--copies 1|2] [--pace-us N]\n"
                "       [--at-once N] [--kills N] [--connections N] [--active N]\n"
                "       [--client-cpu N] [--server-cpu N] [--warmup-ms N] [--duration-ms N]\n",
                argv[0]);
        exit(2);
    }
  }
  if (options->answer_bytes == ANSWER_ALIKE) options->answer_bytes = options->payload_bytes;
  if (options->payload_bytes % 8 != 0 || options->answer_bytes % 8 != 0) {
    fprintf(stderr, "--payload, --answer: expected multiples of 8, got %u and %u\n",
            options->payload_bytes, options->answer_bytes);
    exit(2);
  }
  if (options->ring_bytes < 4096 || (options->ring_bytes & (options->ring_bytes - 1)) != 0) {
    fprintf(stderr, "--ring: expected a power of two from 4096, got %u\n", options->ring_bytes);
    exit(2);
  }
  if (options->active == 0 || options->active > options->connections) {
    fprintf(stderr, "--active: expected a number from 1 to the connections (%u), got %u\n",
            options->connections, options->active);
    exit(2);
  }
  if (options->batch == 0) {
    fprintf(stderr, "--batch: expected a number from 1, got 0\n");
    exit(2);
  }
}

static inline uint32_t larger_bytes(const struct options* options) {
  return options->payload_bytes > options->answer_bytes ? options->payload_bytes
                                                        : options->answer_bytes;
}

static inline void pin(int cpu) {
  if (cpu < 0) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET((size_t)cpu, &set);
  if (sched_setaffinity(0, sizeof set, &set) != 0) fail("sched_setaffinity");
}

static inline uint64_t now_ns(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* Memory of this process alone, page aligned and already faulted in. */
static inline void* private_memory(size_t bytes) {
  size_t pages = (bytes + 4095) & ~(size_t)4095;
  void* memory = mmap(NULL, pages ? pages : 4096, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED) fail("mmap");
  return memory;
}

static inline void samples_prepare(struct samples* samples) {
  samples->ns = private_memory(SAMPLES_MAX * sizeof(uint32_t));
  samples->count = 0;
}

static inline void samples_add(struct samples* samples, uint64_t ns) {
  if (samples->count < SAMPLES_MAX)
    samples->ns[samples->count++] = ns > UINT32_MAX ? UINT32_MAX : (uint32_t)ns;
}

static int compare_u32(const void* left, const void* right) {
  uint32_t a = *(const uint32_t*)left, b = *(const uint32_t*)right;
  return a < b ? -1 : a > b;
}

/* Nearest rank, as bench/statistics.ts does it. `samples` are sorted. */
static inline uint32_t quantile(const struct samples* samples, double fraction) {
  if (samples->count == 0) return 0;
  double rank = fraction * samples->count;
  uint32_t index = (uint32_t)rank;
  if (index < rank) index++;
  return samples->ns[index == 0 ? 0 : index - 1];
}

/* Of a stream. As messagesPerSample of bench/cases/dispatch.ts: about 4 MiB. */
static inline uint32_t messages_per_sample(uint32_t payload_bytes) {
  uint32_t messages = payload_bytes == 0 ? 1024 : (4u << 20) / payload_bytes;
  return messages > 1024 ? 1024 : messages == 0 ? 1 : messages;
}

/* CPU time of both processes over the measured part. */
struct cpu_use {
  pid_t server; /* 0: there is none */
  uint64_t begin_ns, client_ns, server_ns;
  double client_percent, server_percent;
};

static inline uint64_t cpu_ns(clockid_t clock) {
  struct timespec time;
  return clock_gettime(clock, &time) == 0
             ? (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec
             : 0;
}

static inline void cpu_look(const struct cpu_use* use, uint64_t* client, uint64_t* server) {
  clockid_t clock;
  *client = cpu_ns(CLOCK_PROCESS_CPUTIME_ID);
  *server = use->server != 0 && clock_getcpuclockid(use->server, &clock) == 0 ? cpu_ns(clock) : 0;
}

static inline struct cpu_use cpu_begin(pid_t server) {
  struct cpu_use use = {.server = server, .begin_ns = now_ns()};
  cpu_look(&use, &use.client_ns, &use.server_ns);
  return use;
}

/* While the server still lives. */
static inline void cpu_end(struct cpu_use* use) {
  uint64_t client, server;
  cpu_look(use, &client, &server);
  double elapsed = (double)(now_ns() - use->begin_ns);
  use->client_percent = (double)(client - use->client_ns) * 100 / elapsed;
  use->server_percent = (double)(server - use->server_ns) * 100 / elapsed;
}

/* The fractions of bench/statistics.ts: the curve in the report. */
static const double distribution_fractions[] = {0,   0.01, 0.05, 0.1,   0.25,  0.5,    0.75,
                                                0.9, 0.95, 0.99, 0.995, 0.999, 0.9999, 1};

/* What a program has seen. Each sample stands for `operations_per_sample` operations. */
struct measured {
  struct samples samples;
  uint32_t operations_per_sample;
  uint64_t operations;
  uint64_t elapsed_ns;
  uint64_t wrong;
  struct cpu_use cpu;
  /* Of a program with many connections. */
  uint32_t open; /* 0: it has one */
  double fairness, client_fds, server_fds;
};

static inline void report_measured(const char* floor, const struct options* options,
                                   struct measured* measured) {
  struct samples* samples = &measured->samples;
  qsort(samples->ns, samples->count, sizeof(uint32_t), compare_u32);
  double scale = 1.0 / measured->operations_per_sample;
  double per_second =
      measured->elapsed_ns ? (double)measured->operations * 1e9 / (double)measured->elapsed_ns : 0;
  printf(
      "{\"floor\":\"%s\",\"wait\":\"%s\",\"payloadBytes\":%u,\"answerBytes\":%u,"
      "\"ringBytes\":%u,\"batch\":%u,\"clientCpu\":%d,\"serverCpu\":%d,",
      floor, options->sleeping ? "sleep" : "spin", options->payload_bytes, options->answer_bytes,
      options->ring_bytes, options->batch, options->client_cpu, options->server_cpu);
  printf("\"samples\":%u,\"operationsPerSample\":%u,\"operations\":%llu,\"wrong\":%llu,",
         samples->count, measured->operations_per_sample, (unsigned long long)measured->operations,
         (unsigned long long)measured->wrong);
  printf("\"p50Ns\":%.2f,\"p99Ns\":%.2f,\"p999Ns\":%.2f,\"maxNs\":%.2f,\"distributionNs\":[",
         quantile(samples, 0.5) * scale, quantile(samples, 0.99) * scale,
         quantile(samples, 0.999) * scale, quantile(samples, 1) * scale);
  size_t fractions = sizeof distribution_fractions / sizeof distribution_fractions[0];
  for (size_t i = 0; i < fractions; i++)
    printf("%s%.2f", i ? "," : "", quantile(samples, distribution_fractions[i]) * scale);
  printf("],\"perSecond\":%.3f", per_second);
  if (measured->cpu.begin_ns != 0)
    printf(",\"clientCpuPercent\":%.3f,\"serverCpuPercent\":%.3f", measured->cpu.client_percent,
           measured->cpu.server_percent);
  if (measured->open != 0)
    printf(",\"many\":{\"open\":%u,\"fairness\":%.4f,\"clientFds\":%.2f,\"serverFds\":%.2f}",
           measured->open, measured->fairness, measured->client_fds, measured->server_fds);
  printf("}\n");
  fflush(stdout);
}

/* Of a program that did not look at CPU times. */
static inline void report(const char* floor, const struct options* options, struct samples* samples,
                          uint32_t operations_per_sample, uint64_t operations, uint64_t elapsed_ns,
                          uint64_t wrong) {
  struct measured measured = {.samples = *samples,
                              .operations_per_sample = operations_per_sample,
                              .operations = operations,
                              .elapsed_ns = elapsed_ns,
                              .wrong = wrong};
  report_measured(floor, options, &measured);
}

#endif
