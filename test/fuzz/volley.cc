// volley: a target without sanitizers and without a look at what an input covers, a hundred times
// as fast. What libFuzzer has learnt is varied at random; every input is a case of its own. Memory
// that a case must stay within ends at a page that cannot be touched (exact.h), MUST holds as ever.
//
//   x [-max_total_time=S] [-runs=N] [-max_len=N] [-seed=N] [-artifact_prefix=P] folder... | input
//
// It takes libFuzzer's options and says what it says, so that scripts/fuzz.mjs need not know which
// of them it runs. The same seed and folders give the same cases.
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes);

namespace {

using Bytes = std::vector<uint8_t>;

uint8_t current[4096];
volatile size_t current_bytes;
volatile uint64_t executions, executions_at_tick;
std::string artifact;

uint64_t random_state;
uint32_t Random() {  // xorshift64*
  random_state ^= random_state >> 12;
  random_state ^= random_state << 25;
  random_state ^= random_state >> 27;
  return static_cast<uint32_t>((random_state * 0x2545f4914f6cdd1dull) >> 32);
}
uint32_t Below(uint32_t end) { return static_cast<uint32_t>((uint64_t{Random()} * end) >> 32); }

void Found(const char* why) {
  const int fd = open(artifact.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (fd >= 0) {
    [[maybe_unused]] const ssize_t written = write(fd, current, current_bytes);
    close(fd);
  }
  dprintf(2, "\nSUMMARY: %s\nTest unit written to %s\nstat::number_of_executed_units: %llu\n", why,
          artifact.c_str(), static_cast<unsigned long long>(executions));
  _exit(77);
}

void OnSignal(int number) {
  if (number != SIGALRM) {
    Found(number == SIGABRT ? "a MUST does not hold" : "memory that is not the target's");
  }
  if (executions == executions_at_tick) Found("a case takes longer than 10 s");
  executions_at_tick = executions;
  alarm(10);
}

uint64_t Now() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000000000u + static_cast<uint64_t>(now.tv_nsec);
}

bool Read(const std::string& path, Bytes* bytes) {
  struct stat about;
  if (stat(path.c_str(), &about) != 0 || !S_ISREG(about.st_mode)) return false;
  FILE* const file = fopen(path.c_str(), "rb");
  if (file == nullptr) return false;
  bytes->resize(static_cast<size_t>(about.st_size));
  bytes->resize(fread(bytes->data(), 1, bytes->size(), file));
  fclose(file);
  return true;
}

void Run(const uint8_t* data, size_t bytes) {
  std::memcpy(current, data, bytes);
  current_bytes = bytes;
  (void)LLVMFuzzerTestOneInput(current, bytes);
  executions = executions + 1;
}

// One input of the corpus, changed at up to four places; or anything.
size_t Vary(const std::vector<Bytes>& corpus, uint8_t* to, uint32_t bytes_max) {
  uint32_t bytes = 0;
  if (corpus.empty() || Below(8) == 0) {
    bytes = 1 + Below(bytes_max);
    for (uint32_t i = 0; i < bytes; ++i) to[i] = static_cast<uint8_t>(Random());
    return bytes;
  }
  const Bytes& from = corpus[Below(static_cast<uint32_t>(corpus.size()))];
  bytes = std::min(static_cast<uint32_t>(from.size()), bytes_max);
  std::memcpy(to, from.data(), bytes);
  for (uint32_t changes = 1 + Below(4); changes != 0; --changes) {
    const uint32_t at = Below(bytes + 1);
    switch (Below(6)) {
      case 0:  // one more
        if (bytes == bytes_max) break;
        std::memmove(to + at + 1, to + at, bytes - at);
        to[at] = static_cast<uint8_t>(Random());
        ++bytes;
        break;
      case 1:  // some less
        if (at == bytes) break;
        {
          const uint32_t less = 1 + Below(std::min(bytes - at, 8u));
          std::memmove(to + at, to + at + less, bytes - at - less);
          bytes -= less;
        }
        break;
      case 2:  // a bit
        if (at < bytes) to[at] ^= static_cast<uint8_t>(1u << Below(8));
        break;
      case 3: {  // a piece of another
        const Bytes& other = corpus[Below(static_cast<uint32_t>(corpus.size()))];
        if (other.empty()) break;
        const uint32_t start = Below(static_cast<uint32_t>(other.size()));
        const uint32_t count =
            std::min({static_cast<uint32_t>(other.size()) - start, bytes_max - at, 1 + Below(16)});
        std::memcpy(to + at, other.data() + start, count);
        bytes = std::max(bytes, at + count);
        break;
      }
      default:  // a byte
        if (at < bytes) to[at] = static_cast<uint8_t>(Random());
    }
  }
  return bytes;
}

}  // namespace

int main(int argc, char** argv) {
  uint64_t seconds = 0, runs = UINT64_MAX;
  uint32_t bytes_max = 64;
  random_state = Now() | 1;
  std::vector<Bytes> corpus;
  Bytes input;
  bool given = false;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const size_t equals = word.find('=');
    if (word[0] == '-' && equals != std::string::npos) {
      const std::string name = word.substr(1, equals - 1), value = word.substr(equals + 1);
      if (name == "max_total_time") seconds = strtoull(value.c_str(), nullptr, 10);
      if (name == "runs") runs = strtoull(value.c_str(), nullptr, 10);
      if (name == "seed") random_state = strtoull(value.c_str(), nullptr, 10) | 1;
      if (name == "artifact_prefix") artifact = value;
      if (name == "max_len")
        bytes_max = std::clamp(static_cast<uint32_t>(atoi(value.c_str())), 1u,
                               static_cast<uint32_t>(sizeof current));
      continue;
    }
    if (DIR* const folder = opendir(word.c_str()); folder != nullptr) {
      std::vector<std::string> names;
      while (const dirent* const entry = readdir(folder)) names.push_back(entry->d_name);
      closedir(folder);
      std::sort(names.begin(), names.end());
      for (const std::string& name : names) {
        if (Read(word + "/" + name, &input)) corpus.push_back(input);
      }
    } else if (Read(word, &input)) {
      given = true;
    }
  }
  const uint64_t seed = random_state;
  artifact += "volley-" + std::to_string(seed);
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  for (const int number : {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGALRM})
    sigaction(number, &action, nullptr);
  if (given) {
    Run(input.data(), std::min(input.size(), sizeof current));
    return 0;
  }
  fprintf(stderr, "seed: %llu\n", static_cast<unsigned long long>(seed));
  alarm(10);
  for (const Bytes& each : corpus) Run(each.data(), std::min(each.size(), sizeof current));
  const uint64_t end = seconds == 0 ? UINT64_MAX : Now() + seconds * 1000000000u;
  uint8_t varied[sizeof current];
  while (executions < runs) {
    Run(varied, Vary(corpus, varied, bytes_max));
    if ((executions & 1023) == 0 && Now() >= end) break;
  }
  fprintf(stderr, "stat::number_of_executed_units: %llu\n",
          static_cast<unsigned long long>(executions));
  return 0;
}
