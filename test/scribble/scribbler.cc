// A hostile peer at full speed: it rewrites what it may write of its mapping until it is cut off,
// and comes again. And its double that only burns as much CPU, to compare with.
//
//   scribbler scribble client NAME SEED   connects to the server NAME
//   scribbler scribble server NAME SEED   is the server NAME, for one client after the other
//   scribbler burn client                 connects to nobody
//   scribbler burn server NAME SEED       a server by the rules
//
// What burns writes as much, into memory of its own. Runs until SIGTERM; the last line says how
// many connections there were, how many of them were cut off, and how many words were written.
#define CHECK_OWN_MAIN
#include <signal.h>
#include <sys/prctl.h>

#include <random>

#include "peers.h"

using namespace peers;
using namespace coroipc;

namespace {

volatile sig_atomic_t stopped = 0;
uint64_t connections = 0, cut_off = 0, words_written = 0;

// What is rewritten. Who rewrites everything is cut off at the first look; who leaves the positions
// alone lives longer, and can do more.
enum Manner {
  kEverything,   // any word, any value
  kPositions,    // the words of the rings, values that are nearly right
  kHints,        // what may be set at any time: sleep words, wants, flow control, CPUs
  kUnderReader,  // honest records, rewritten while they are read
  kForeign,      // what the other side writes
  kManners
};

uint32_t* Words(uint8_t* memory) { return reinterpret_cast<uint32_t*>(memory); }
constexpr size_t kRingWords = offsetof(coroipc_control, ring) / 4;
constexpr size_t kRingWordsEnd = offsetof(coroipc_control, server) / 4;
constexpr size_t kHintsEnd = offsetof(coroipc_control, reserved) / 4;

using Range = std::pair<size_t, size_t>;  // of words: [first, second)

class Scribbler {
 public:
  Scribbler(uint8_t* memory, size_t bytes, uint32_t seed)
      : words_(Words(memory)), count_(bytes / 4), random_(seed) {}
  // `own` and `foreign`: the rings that this side writes, and the others.
  void Burst(Manner manner, Range own, Range foreign) {
    for (int i = 0; i < 256; ++i) {
      const auto value = static_cast<uint32_t>(random_());
      switch (manner) {
        case kEverything:
          Store(value % count_, static_cast<uint32_t>(random_()));
          break;
        case kPositions:
          Store(kRingWords + 32 * (value % ((kRingWordsEnd - kRingWords) / 32)),
                value % 3 == 0 ? value : value >> 8 & 0x3ff8);
          break;
        case kHints: {
          const size_t ring = kRingWords + 128 * (value % 3);
          Store(value % 2 == 0 ? ring + 64 + 32 * (value >> 8 & 1)
                               : kRingWordsEnd + (value >> 8) % (kHintsEnd - kRingWordsEnd),
                value % 5 == 0 ? 0 : value);
          break;
        }
        case kUnderReader:
          Store(Within(own, value), value % 2 == 0 ? value : value & 0x070203ff);
          break;
        default:
          Store(Within(foreign, value), value);
      }
    }
    words_written += 256;
  }
  uint32_t Random() { return static_cast<uint32_t>(random_()); }

 private:
  static size_t Within(Range range, uint32_t value) {
    return range.first + value % (range.second - range.first);
  }
  void Store(size_t at, uint32_t value) { StoreRelaxed(words_[at], value); }
  uint32_t* words_;
  size_t count_;
  std::minstd_rand random_;
};

bool Gone(int socket) {
  char bytes[64];
  for (int i = 0; i < 64; ++i) {
    const ssize_t got = recv(socket, bytes, sizeof bytes, MSG_DONTWAIT);
    if (got < 0) return errno != EAGAIN && errno != EINTR;
    if (got == 0) return true;
  }
  return false;
}

// Scribbles over one connection until it is cut off, or for as long as this one gets. `speak` says
// something honest, to be rewritten while it is read; false when it cannot any more. With `burns`
// the connection is left alone, and memory of our own written to instead.
template <typename Speak>
void Attack(int socket, uint8_t* memory, bool client, bool burns, uint32_t seed, Speak speak) {
  const auto* const header = reinterpret_cast<const coroipc_segment_header*>(memory);
  const size_t bytes = header->segment_bytes;
  const size_t request = COROIPC_CONTROL_BYTES / 4, end_of_all = bytes / 4;
  const size_t response = request + header->request_ring_bytes / 4;
  const Range first = {request, response}, second = {response, end_of_all};
  std::vector<uint8_t> own(burns ? bytes : 0);
  Scribbler scribbler(burns ? own.data() : memory, bytes, seed);
  const auto manner = static_cast<Manner>(scribbler.Random() % kManners);
  const uint64_t end = NowMs() + 1 + scribbler.Random() % 50;
  ++connections;
  bool speaks =
      burns || manner == kUnderReader;  // else asking would be all that costs the victim anything
  while (stopped == 0 && NowMs() < end) {
    speaks = speaks && speak();
    for (int i = 0; i < 32; ++i)
      scribbler.Burst(manner, client ? first : second, client ? second : first);
    (void)!send(socket, "\1", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (Gone(socket)) {
      ++cut_off;
      return;
    }
  }
}

void AttackServer(const std::string& name, std::mt19937& random) {
  while (stopped == 0) {
    RawClient client;
    if (client.Connect(name) != COROIPC_OK) {
      SleepMs(1);
      continue;
    }
    uint32_t sent = 0;
    Attack(client.socket, client.memory, true, false, static_cast<uint32_t>(random()), [&] {
      for (int i = 0; i < 8; ++i) {
        const uint32_t slot = sent++ % client.reply.requests_in_flight;
        const uint32_t correlation = Correlation(slot, static_cast<uint16_t>(sent >> 8));
        if (client.PutRequest(0, correlation, "scribble", 8, false) != COROIPC_OK) return false;
      }
      client.request.Publish();
      return true;
    });
  }
}

// One client after the other. Until the next one is listened for, others are refused: they retry.
void AttackClients(const std::string& name, bool burns, std::mt19937& random) {
  while (stopped == 0) {
    RawServer server(name);
    pollfd watched = {server.listener, POLLIN, 0};
    while (stopped == 0 && poll(&watched, 1, 100) != 1) continue;
    if (stopped != 0) return;
    server.Serve();
    Attack(server.socket, server.memory, false, burns, static_cast<uint32_t>(random()), [&] {
      coroipc_record header = {};
      const uint8_t* payload = nullptr;
      const coroipc_status status = server.request.Peek(&header, &payload);
      if (status != COROIPC_OK) return status == COROIPC_AGAIN;
      server.request.Advance();
      server.request.PublishRead();
      uint8_t* to = nullptr;
      uint32_t wants = 0;
      if (server.response.Reserve(8, &to, &wants) != COROIPC_OK) return false;
      memcpy(to, "scribble", 8);
      coroipc_record answer = {};
      answer.kind = COROIPC_RECORD_RESPONSE;
      answer.correlation = header.correlation;
      answer.bytes = 8;
      server.response.Commit(answer);
      server.response.Publish();
      return true;
    });
  }
}

void Burn() {
  std::vector<uint8_t> memory(1u << 20);
  Scribbler scribbler(memory.data(), memory.size(), 1);
  while (stopped == 0) scribbler.Burst(kEverything, {0, 1}, {0, 1});
}

}  // namespace

int main(int argc, char** argv) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  signal(SIGTERM, [](int) { stopped = 1; });
  signal(SIGPIPE, SIG_IGN);
  if (argc < 3) return 2;
  const bool burns = strcmp(argv[1], "burn") == 0, client = strcmp(argv[2], "client") == 0;
  const std::string name = argc > 3 ? argv[3] : "";
  std::mt19937 random(argc > 4 ? static_cast<uint32_t>(strtoul(argv[4], nullptr, 10)) : 1);
  if (!client) {
    AttackClients(name, burns, random);
  } else if (burns) {
    Burn();
  } else {
    AttackServer(name, random);
  }
  printf("%llu connections, %llu cut off, %llu words\n",
         static_cast<unsigned long long>(connections), static_cast<unsigned long long>(cut_off),
         static_cast<unsigned long long>(words_written));
  return 0;
}
