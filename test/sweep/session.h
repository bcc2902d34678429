// session.h: what the two programs of a swept session have in common. Either of them may be killed,
// or have a system call fail, at any point; the other one goes on and checks what it sees against a
// ledger, a file that both map and that outlives them. What is wrong is printed as a line
// "violation: ..." and ends the program with 1.
//
//   --name N        where the server listens
//   --ledger F      the file; made by whoever starts the two
//   --rounds N      messages of each kind [1]
//   --wait W        adaptive, spin or sleep
//   --linger MS     the client rests so long before its last round
//   --timeout MS    of every blocking call
//   --section S     stops by SIGSTOP where section S begins and where it ends: `step` takes over
//   there
//   --closer WHO    client or server ends the session
//   --small         no segments
//   --witness       another client, which only asks whether the server still serves: outside of the
//   ledger
//   --asleep        each side sleeps once in a wait of the library's before the other one rings
//   --prefault      rings are allocated at connect
//   --short         a message of the victim's may be lost that the kernel said was sent
//   --injected      one of this program's own system calls may fail: documented codes are no
//   violations
#ifndef COROIPC_TEST_SWEEP_SESSION_H_
#define COROIPC_TEST_SWEEP_SESSION_H_

#include <coroipc/types.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <vector>

namespace sweep {

inline constexpr int kViolated = 1;
inline constexpr int kOutside = 78;  // what failed was this program's own, not the library's

inline constexpr uint16_t kService = 1;
inline constexpr uint16_t kWitnessed = 2;  // the service of --witness

// Ids of the server's handlers.
inline constexpr uint16_t kNote = 1;        // one way
inline constexpr uint16_t kEcho = 2;        // answers what was asked
inline constexpr uint16_t kDispatches = 3;  // sends kDispatchesEach dispatches, then answers
inline constexpr uint16_t kClose = 4;       // the server closes
inline constexpr uint16_t kPing = 5;        // of the witness
inline constexpr uint16_t kAsleep = 6;      // as kEcho, once the client sleeps
inline constexpr uint32_t kDispatchesEach = 2;
inline constexpr uint32_t kNotesEach = 2;
inline constexpr uint32_t kLargeBytes = 9000;  // goes by a segment: more than half a ring

enum Phase : uint32_t { kBefore, kConnecting, kOpen, kClosing, kClosed };

// Each counter has one writer, who raises it before (begun) or after (done) the call in question.
struct Ledger {
  std::atomic<uint32_t> client_phase, notes_begun, notes_done, calls_begun, calls_answered;
  std::atomic<uint32_t> server_phase, notes_executed, calls_executed, dispatches_begun,
      dispatches_done;
  std::atomic<int> client_pid, server_pid;
};

struct Options {
  const char* name = "@coroipc-sweep";
  const char* ledger = nullptr;
  const char* section = "";
  const char* closer = "client";
  uint32_t rounds = 1;
  int wait = 0;  // COROIPC_WAIT_ADAPTIVE
  int timeout_ms = 10000;
  int linger_ms = 0;
  bool asleep = false;
  bool injected = false;
  bool prefault = false;
  bool small = false;
  bool lost = false;
  bool witness = false;
};

inline Options g_options;
inline Ledger* g_ledger = nullptr;
inline int g_violations = 0;

__attribute__((format(printf, 1, 2))) inline void Violate(const char* format, ...) {
  if (++g_violations > 10) return;  // the first ones tell
  va_list arguments;
  va_start(arguments, format);
  printf("violation: ");
  vprintf(format, arguments);
  printf("\n");
  va_end(arguments);
}

inline void Begin(int argc, char** argv) {
  setvbuf(stdout, nullptr, _IOLBF, 4096);
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    const char* const value = i + 1 < argc ? argv[i + 1] : "";
    if (option == "--injected") {
      g_options.injected = true;
    } else if (option == "--asleep") {
      g_options.asleep = true;
    } else if (option == "--prefault") {
      g_options.prefault = true;
    } else if (option == "--short") {
      g_options.lost = true;
    } else if (option == "--small") {
      g_options.small = true;
    } else if (option == "--witness") {
      g_options.witness = true;
    } else {
      ++i;
      if (option == "--name") g_options.name = value;
      if (option == "--ledger") g_options.ledger = value;
      if (option == "--section") g_options.section = value;
      if (option == "--closer") g_options.closer = value;
      if (option == "--rounds") g_options.rounds = static_cast<uint32_t>(atoi(value));
      if (option == "--timeout") g_options.timeout_ms = atoi(value);
      if (option == "--linger") g_options.linger_ms = atoi(value);
      if (option == "--wait")
        g_options.wait = strcmp(value, "sleep") == 0  ? COROIPC_WAIT_SLEEP
                         : strcmp(value, "spin") == 0 ? COROIPC_WAIT_SPIN
                                                      : COROIPC_WAIT_ADAPTIVE;
    }
  }
  const int fd = g_options.ledger == nullptr ? -1 : open(g_options.ledger, O_RDWR | O_CLOEXEC);
  void* const mapping =
      fd < 0 ? MAP_FAILED
             : mmap(nullptr, sizeof(Ledger), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (mapping == MAP_FAILED) exit(kOutside);
  close(fd);
  g_ledger = static_cast<Ledger*>(mapping);
}

// Where `step` begins to count instructions, and where it ends.
class Section {
 public:
  explicit Section(const char* name) : stops_(strcmp(g_options.section, name) == 0) { Stop(); }
  Section(const Section&) = delete;
  Section& operator=(const Section&) = delete;
  ~Section() { Stop(); }

 private:
  void Stop() const {
    if (stops_) raise(SIGSTOP);
  }
  const bool stops_;
};

inline uint64_t NowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000000000u + static_cast<uint64_t>(now.tv_nsec);
}

// Whether a process sleeps in a system call: neither runs nor is stopped by whoever traces it.
inline bool Sleeps(int pid, bool* gone) {
  char path[32], text[512] = {};
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  FILE* const file = fopen(path, "re");
  if (file != nullptr) {
    (void)!fread(text, 1, sizeof text - 1, file);
    fclose(file);
  }
  const char* const name_end = strrchr(text, ')');
  const char state = name_end == nullptr || name_end[1] == 0 ? 'X' : name_end[2];
  *gone = state == 'X' || state == 'Z';
  return state == 'S';
}
// Returns when it sleeps, or is gone; one that never comes to it is the other checks' to tell.
inline void AwaitSleep(int pid) {
  bool gone = false;
  for (const uint64_t give_up = NowNs() + 2000000000u;
       NowNs() < give_up && !Sleeps(pid, &gone) && !gone;)
    usleep(1000);
}

// What message `number` carries: its number, then a byte that others have not. Quick to make and to
// check, since `step` counts these instructions too.
inline uint8_t ByteOf(uint32_t number) { return static_cast<uint8_t>(number * 31 + 1); }
inline std::vector<uint8_t> Payload(uint32_t number, uint32_t bytes) {
  std::vector<uint8_t> payload(bytes, ByteOf(number));
  memcpy(payload.data(), &number, sizeof number);
  return payload;
}
inline uint32_t BytesOf(uint32_t number) {
  constexpr uint32_t kBytes[] = {24, 200, 8};
  return kBytes[number % 3];
}
inline uint32_t NumberOf(const void* payload, uint32_t bytes) {
  uint32_t number = 0;
  if (bytes >= sizeof number) memcpy(&number, payload, sizeof number);
  return number;
}
inline bool Whole(const void* payload, uint32_t bytes) {
  constexpr uint32_t kFirst = sizeof(uint32_t);
  if (bytes <= kFirst) return false;
  const auto* const from = static_cast<const uint8_t*>(payload) + kFirst;
  return *from == ByteOf(NumberOf(payload, bytes)) &&
         memcmp(from, from + 1, bytes - kFirst - 1) == 0;
}

// The message that follows number `last` is the next one, and whole; `last` becomes its number.
// When calls of one's own may fail, those that were refused are missing.
inline void CheckMessage(const char* what, const void* payload, uint32_t bytes, uint32_t* last) {
  const uint32_t number = NumberOf(payload, bytes);
  if (!Whole(payload, bytes)) {
    Violate("%s torn: %u bytes, number %u, expected %u", what, bytes, number, *last + 1);
  } else if (number <= *last || (number != *last + 1 && !g_options.injected)) {
    Violate("%s %u lost or doubled: %u came", what, *last + 1, number);
  }
  *last = number;
}

// Open descriptors, and mappings of the library's memory.
struct Gauge {
  int fds = 0, mappings = 0;
  bool operator==(const Gauge&) const = default;
};
inline Gauge Read() {
  Gauge gauge;
  if (DIR* const directory = opendir("/proc/self/fd"); directory != nullptr) {
    while (const dirent* const entry = readdir(directory)) gauge.fds += entry->d_name[0] != '.';
    --gauge.fds;  // the directory's own
    closedir(directory);
  }
  if (FILE* const maps = fopen("/proc/self/maps", "re"); maps != nullptr) {
    char line[512];
    while (fgets(line, sizeof line, maps) != nullptr)
      gauge.mappings += strstr(line, "/memfd:coroipc") != nullptr;
    fclose(maps);
  }
  return gauge;
}
inline void CheckGauge(const Gauge& before) {
  const Gauge after = Read();
  if (after == before) return;
  Violate("left behind: fds %d -> %d, mappings %d -> %d", before.fds, after.fds, before.mappings,
          after.mappings);
}

inline int End() {
  fflush(stdout);
  return g_violations == 0 ? 0 : kViolated;
}

}  // namespace sweep

#endif  // COROIPC_TEST_SWEEP_SESSION_H_
