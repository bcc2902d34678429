// step N COMMAND ARGUMENTS...: runs a program up to its first SIGSTOP, then N single instructions,
// then kills it: ptrace(2). A second SIGSTOP, or its end, comes first when N is large; then it is
// killed there.
//
// A single instruction takes two switches between processes. So a part of the way may be run:
//
//   step N,A,H,D ...        up to address A, the H-th time, by a breakpoint: D instructions, says
//                           whoever knows; then the rest of N singly
//   step --trace F N ...    writes the address before each instruction to F, 8 bytes each: where to
//                           get A, H and D from
//
// What is told has the address that it was killed at. An address that does not come, since the
// program went another way this time, is told as "missed".
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
#include <sys/user.h>
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

// A part of the way that is run at full speed: to `address`, the `hits`-th time, which is `steps`
// instructions.
struct Waypoint {
  uint64_t address = 0;
  long hits = 0, steps = 0;
};

#ifdef __x86_64__
constexpr bool kCanRun = true;
uint64_t AddressOf(pid_t victim) {
  user_regs_struct registers = {};
  ptrace(PTRACE_GETREGS, victim, nullptr, &registers);
  return registers.rip;
}
void SetAddress(pid_t victim, uint64_t address) {
  user_regs_struct registers = {};
  ptrace(PTRACE_GETREGS, victim, nullptr, &registers);
  registers.rip = address;
  ptrace(PTRACE_SETREGS, victim, nullptr, &registers);
}
constexpr uint64_t kBreakpoint = 0xcc, kBreakpointMask = 0xff;  // int3, one byte
#else
constexpr bool kCanRun = false;
uint64_t AddressOf(pid_t) { return 0; }
void SetAddress(pid_t, uint64_t) {}
constexpr uint64_t kBreakpoint = 0, kBreakpointMask = 0;
#endif

// Goes on until the next stop that means something; other signals are the victim's own. `trap`: so
// is SIGTRAP.
Stop Continue(pid_t victim, bool step, bool trap) {
  int signal = 0;
  for (;;) {
    int status = 0;
    if (ptrace(step ? PTRACE_SINGLESTEP : PTRACE_CONT, victim, nullptr, signal) != 0 ||
        waitpid(victim, &status, 0) != victim || !WIFSTOPPED(status)) {
      return Stop::kEnded;
    }
    signal = WSTOPSIG(status);
    if (signal == SIGSTOP) return Stop::kSection;
    if (signal == SIGTRAP && trap) return Stop::kStep;
  }
}
Stop StepOnce(pid_t victim) { return Continue(victim, true, true); }

// Runs to a waypoint; kStep if it came there.
Stop RunTo(pid_t victim, const Waypoint& waypoint) {
  const auto address = reinterpret_cast<void*>(waypoint.address);
  errno = 0;
  const long word = ptrace(PTRACE_PEEKTEXT, victim, address, nullptr);
  if (errno != 0) return Stop::kSection;
  const auto broken =
      static_cast<long>((static_cast<uint64_t>(word) & ~kBreakpointMask) | kBreakpoint);
  for (long hit = 1;; ++hit) {
    ptrace(PTRACE_POKETEXT, victim, address, broken);
    Stop stop = Continue(victim, false, true);
    if (stop == Stop::kEnded) return stop;
    ptrace(PTRACE_POKETEXT, victim, address, word);
    if (stop == Stop::kSection) return stop;
    SetAddress(victim, waypoint.address);  // the breakpoint is behind it
    if (hit == waypoint.hits) return Stop::kStep;
    stop = StepOnce(victim);
    if (stop != Stop::kStep) return stop;
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

int Run(long limit, const Waypoint& waypoint, FILE* trace, char** command) {
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
  Stop stop = Continue(victim, false, false);
  const bool begun = stop == Stop::kSection;
  bool missed = false;
  if (begun) {
    Pin(victim);
    stop = Stop::kStep;
    if (waypoint.hits > 0) {
      stop = RunTo(victim, waypoint);
      steps = waypoint.steps;
      missed = stop != Stop::kStep;
    }
    while (stop == Stop::kStep && steps < limit) {
      if (trace != nullptr) {
        const uint64_t at = AddressOf(victim);
        fwrite(&at, sizeof at, 1, trace);
      }
      stop = StepOnce(victim);
      ++steps;
    }
  }
  const uint64_t at = stop == Stop::kEnded ? 0 : AddressOf(victim);
  // What follows is quick: the survivor must not see the end before its time was taken.
  const Published published = stop == Stop::kEnded ? Published() : ReadPublished(victim);
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  if (stop != Stop::kEnded) {
    kill(victim, SIGKILL);
    waitpid(victim, &status, 0);
  }
  printf(
      "{\"begun\":%s,\"steps\":%ld,\"over\":%s,\"missed\":%s,\"at\":%lu,\"killed\":%s,\"killed_"
      "ns\":%lld,"
      "\"published\":{\"requests\":%d,\"responses\":%d,\"dispatches\":%d}}\n",
      begun ? "true" : "false", steps, stop == Stop::kStep ? "false" : "true",
      missed ? "true" : "false", at, WIFSIGNALED(status) ? "true" : "false",
      static_cast<long long>(now.tv_sec) * 1000000000 + now.tv_nsec, published.requests,
      published.responses, published.dispatches);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  FILE* trace = nullptr;
  if (argc > 2 && strcmp(argv[1], "--trace") == 0) {
    trace = kCanRun ? fopen(argv[2], "we") : nullptr;
    argc -= 2;
    argv += 2;
  }
  if (argc < 3) return 2;
  Waypoint waypoint;
  char* rest = nullptr;
  const long limit = strtol(argv[1], &rest, 10);
  if (*rest == ',') {
    if (!kCanRun) return 2;
    waypoint.address = strtoull(rest + 1, &rest, 10);
    if (*rest == ',') waypoint.hits = strtol(rest + 1, &rest, 10);
    if (*rest == ',') waypoint.steps = strtol(rest + 1, &rest, 10);
    if (*rest != '\0' || waypoint.hits < 1 || waypoint.steps > limit) return 2;
  }
  const int result = Run(limit, waypoint, trace, argv + 2);
  if (trace != nullptr) fclose(trace);
  return result;
}
