// step N COMMAND ARGUMENTS...: runs a program up to its first SIGSTOP, then N single instructions,
// then kills it: ptrace(2). A second SIGSTOP, or its end, comes first when N is large; then it is
// killed there.
//
// Before the kill it reads from the victim's memory what the victim has published, since that is
// what the survivor must get: no less, and no more. Its last line says it all.
#include <coroipc/abi.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <vector>

namespace {

// Records in each ring; -1 where that cannot be told: there is no ring, or it has wrapped.
struct Published {
  int requests = -1, responses = -1, dispatches = -1;
};

int CountRecords(int memory, uint64_t data, uint32_t ring_bytes, uint32_t written, int kind,
                 int other_kind) {
  if (written > ring_bytes) return -1;
  std::vector<uint8_t> ring(ring_bytes);
  if (pread(memory, ring.data(), ring_bytes, static_cast<off_t>(data)) != ring_bytes) return -1;
  int count = 0;
  for (uint32_t at = 0; at < written;) {
    coroipc_record record = {};
    memcpy(&record, ring.data() + at, sizeof record);
    if (record.kind == COROIPC_RECORD_PAD) {
      at += COROIPC_PAD_RECORD_BYTES + record.bytes;
    } else {
      count += record.kind == kind || record.kind == other_kind;
      at += (COROIPC_RECORD_BYTES + record.bytes + COROIPC_RECORD_ALIGN - 1) &
            ~(COROIPC_RECORD_ALIGN - 1);
    }
  }
  return count;
}

Published ReadPublished(pid_t victim) {
  Published published;
  char path[64], line[512];
  snprintf(path, sizeof path, "/proc/%d/mem", victim);
  const int memory = open(path, O_RDONLY | O_CLOEXEC);
  snprintf(path, sizeof path, "/proc/%d/maps", victim);
  FILE* const maps = fopen(path, "re");
  while (memory >= 0 && maps != nullptr && fgets(line, sizeof line, maps) != nullptr) {
    if (strstr(line, "/memfd:coroipc") == nullptr) continue;
    const uint64_t base = strtoull(line, nullptr, 16);
    coroipc_control control;
    if (pread(memory, &control, sizeof control, static_cast<off_t>(base)) != sizeof control ||
        control.header.magic != COROIPC_MAGIC) {
      continue;  // an extra segment
    }
    const coroipc_segment_header& header = control.header;
    const uint64_t request = base + COROIPC_CONTROL_BYTES;
    const uint64_t response = request + header.request_ring_bytes;
    const uint64_t dispatch = response + header.response_ring_bytes;
    const auto count = [&](uint32_t ring, uint64_t data, uint32_t bytes, int kind, int other) {
      return CountRecords(memory, data, bytes, control.ring[ring].write_position, kind, other);
    };
    published.requests = count(COROIPC_RING_REQUEST, request, header.request_ring_bytes,
                               COROIPC_RECORD_REQUEST, COROIPC_RECORD_SEND);
    published.responses = count(COROIPC_RING_RESPONSE, response, header.response_ring_bytes,
                                COROIPC_RECORD_RESPONSE, COROIPC_RECORD_RESPONSE);
    published.dispatches = count(COROIPC_RING_DISPATCH, dispatch, header.dispatch_ring_bytes,
                                 COROIPC_RECORD_DISPATCH, COROIPC_RECORD_DISPATCH);
  }
  if (maps != nullptr) fclose(maps);
  if (memory >= 0) close(memory);
  return published;
}

enum class Stop { kSection, kStep, kEnded };

// Goes on until the next stop that means something; other signals are the victim's own.
Stop Continue(pid_t victim, bool step) {
  int signal = 0;
  for (;;) {
    int status = 0;
    if (ptrace(step ? PTRACE_SINGLESTEP : PTRACE_CONT, victim, nullptr, signal) != 0 ||
        waitpid(victim, &status, 0) != victim || !WIFSTOPPED(status)) {
      return Stop::kEnded;
    }
    signal = WSTOPSIG(status);
    if (signal == SIGSTOP) return Stop::kSection;
    if (signal == SIGTRAP && step) return Stop::kStep;
  }
}

// Both on one CPU: each step is two switches, and waking another CPU takes ten times as long.
void Pin(pid_t victim) {
  cpu_set_t here;
  CPU_ZERO(&here);
  CPU_SET(sched_getcpu(), &here);
  sched_setaffinity(0, sizeof here, &here);
  sched_setaffinity(victim, sizeof here, &here);
}

int Run(long limit, char** command) {
  const pid_t victim = fork();
  if (victim == 0) {
    if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) _exit(77);
    execv(command[0], command);
    _exit(127);
  }
  int status = 0;
  if (victim < 0 || waitpid(victim, &status, 0) != victim || !WIFSTOPPED(status)) {
    printf("{\"error\":\"not traced\",\"code\":%d}\n",
           WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    return 77;
  }
  ptrace(PTRACE_SETOPTIONS, victim, nullptr, PTRACE_O_EXITKILL);
  long steps = 0;
  Stop stop = Continue(victim, false);
  const bool begun = stop == Stop::kSection;
  if (begun) {
    Pin(victim);
    stop = Stop::kStep;
    while (stop == Stop::kStep && steps < limit) {
      stop = Continue(victim, true);
      ++steps;
    }
  }
  // What follows is quick: the survivor must not see the end before its time was taken.
  const Published published = stop == Stop::kEnded ? Published() : ReadPublished(victim);
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  if (stop != Stop::kEnded) {
    kill(victim, SIGKILL);
    waitpid(victim, &status, 0);
  }
  printf(
      "{\"begun\":%s,\"steps\":%ld,\"over\":%s,\"killed\":%s,\"killed_ns\":%lld,"
      "\"published\":{\"requests\":%d,\"responses\":%d,\"dispatches\":%d}}\n",
      begun ? "true" : "false", steps, stop == Stop::kStep ? "false" : "true",
      WIFSIGNALED(status) ? "true" : "false",
      static_cast<long long>(now.tv_sec) * 1000000000 + now.tv_nsec, published.requests,
      published.responses, published.dispatches);
  return 0;
}

}  // namespace

int main(int argc, char** argv) { return argc < 3 ? 2 : Run(atol(argv[1]), argv + 2); }
