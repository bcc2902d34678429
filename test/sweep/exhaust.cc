// exhaust client|server: lets the first allocation of one side of a session fail, then the second,
// and so on until there is no n-th one any more. Each run is a child of its own, so that a crash is
// one violation. What the other side is given does not fail: it runs in another process.
// Allocations are malloc and its kin, and mmap.
//
// Containers of the C++ library cannot report a failure: what they ask for by `operator new` is not
// failed but counted, and the largest such request is printed. docs/internals/sweeps.md says what
// that means.
#include <coroipc/coroipcc.h>
#include <coroipc/coroipcs.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <new>

#include "session.h"

extern "C" {
void* __libc_malloc(size_t bytes);
void* __libc_calloc(size_t count, size_t bytes);
void* __libc_realloc(void* old, size_t bytes);
void __libc_free(void* block);
// There in a build that counts what is gone through; _exit writes nothing by itself.
[[gnu::weak]] int __llvm_profile_write_file(void);
}

namespace sweep {
namespace {

// Of this process: there is one thread.
bool g_armed = false;
long g_count = 0, g_fail_at = 0;
long g_live = 0;  // blocks that were not freed
long g_throwing = 0;
size_t g_throwing_max = 0;
bool g_inside_new = false;

bool Fails() {
  if (!g_armed || g_inside_new) return false;
  return ++g_count == g_fail_at;
}

}  // namespace
}  // namespace sweep

extern "C" {
void* malloc(size_t bytes) {
  if (sweep::Fails()) {
    errno = ENOMEM;
    return nullptr;
  }
  ++sweep::g_live;
  return __libc_malloc(bytes);
}
void* calloc(size_t count, size_t bytes) {
  if (sweep::Fails()) {
    errno = ENOMEM;
    return nullptr;
  }
  ++sweep::g_live;
  return __libc_calloc(count, bytes);
}
void* realloc(void* old, size_t bytes) {
  if (sweep::Fails()) {
    errno = ENOMEM;
    return nullptr;
  }
  if (old == nullptr) ++sweep::g_live;
  return __libc_realloc(old, bytes);
}
void free(void* block) {
  if (block != nullptr) --sweep::g_live;
  __libc_free(block);
}
void* mmap(void* at, size_t bytes, int protection, int flags, int fd, off_t offset) {
  if (sweep::Fails()) {
    errno = ENOMEM;
    return MAP_FAILED;
  }
  return reinterpret_cast<void*>(syscall(SYS_mmap, at, bytes, protection, flags, fd, offset));
}
}

// What throws when there is nothing.
void* operator new(size_t bytes) {
  if (sweep::g_armed) {
    ++sweep::g_throwing;
    if (bytes > sweep::g_throwing_max) sweep::g_throwing_max = bytes;
  }
  sweep::g_inside_new = true;
  void* const block = malloc(bytes);
  sweep::g_inside_new = false;
  return block;
}
void* operator new(size_t bytes, const std::nothrow_t&) noexcept { return malloc(bytes); }
void* operator new[](size_t bytes, const std::nothrow_t&) noexcept { return malloc(bytes); }
void operator delete(void* block) noexcept { free(block); }
void operator delete(void* block, size_t) noexcept { free(block); }
void operator delete[](void* block) noexcept { free(block); }
void operator delete[](void* block, size_t) noexcept { free(block); }

namespace sweep {
namespace {

constexpr int kLargest = 20000;
constexpr int kAgain = 10;  // a leak grows each time; what a pool keeps does not
std::string g_name;

void Allowed(const char* call, coroipc_status status) {
  const bool known = status == COROIPC_OK || status == COROIPC_NO_MEMORY ||
                     status == COROIPC_UNKNOWN_OUTCOME || status == COROIPC_PEER_DEAD ||
                     status == COROIPC_DISCONNECTED || status == COROIPC_LIMIT ||
                     status == COROIPC_AGAIN || status == COROIPC_TIMED_OUT;
  if (!known) Violate("%s: %s", call, coroipc_status_name(status));
}

// -- the server ---------------------------------------------------------------------------------

void Handle(coroipcs_connection* connection, const coroipcs_request* request, void*) {
  if (request->id == kDispatches) {
    const iovec part = {const_cast<void*>(request->payload), request->bytes};
    for (int i = 0; i < 3; ++i)
      Allowed("dispatch", coroipcs_dispatch_send(connection, 1, &part, 1));
  }
  if (request->one_way) return;
  const iovec part = {const_cast<void*>(request->payload), request->bytes};
  Allowed("response",
          coroipcs_response_send(connection, request->correlation, COROIPC_OK, 0, &part, 1));
}

// Serves until `until` of its clients have come and gone. What create and listen come to, else.
coroipc_status Serve(uint32_t until) {
  static uint32_t gone;
  gone = 0;
  coroipcs_options options;
  coroipcs_options_init(&options);
  options.callbacks.handler_get = [](coroipcs_connection*, uint16_t, uint16_t,
                                     void*) -> coroipcs_handler_fn { return Handle; };
  options.callbacks.disconnected = [](coroipcs_connection*, coroipc_status, void*) {
    ++gone;
    return 0;
  };
  coroipcs_server* server = nullptr;
  coroipc_status status = coroipcs_create(&options, &server);
  if (status == COROIPC_OK) status = coroipcs_service_add(server, kService, nullptr);
  if (status == COROIPC_OK) status = coroipcs_listen(server, g_name.c_str());
  const uint64_t end = NowNs() + 3000000000u;
  while (status == COROIPC_OK && gone < until && NowNs() < end) {
    pollfd fd = {coroipcs_fd(server), POLLIN, 0};
    if (coroipcs_process(server, 0) == COROIPC_OK) poll(&fd, 1, 50);
  }
  if (server != nullptr) {
    coroipcs_close(server);
    coroipcs_destroy(server);
  }
  return status;
}

// -- the client ---------------------------------------------------------------------------------

coroipc_status Talk(int timeout_ms) {
  coroipcc_options options;
  coroipcc_options_init(&options);
  options.service = kService;
  options.timeout_ms = timeout_ms;
  options.request_ring_bytes = options.response_ring_bytes = options.dispatch_ring_bytes = 16384;
  coroipcc_connection* connection = nullptr;
  const coroipc_status connected =
      coroipcc_connect(nullptr, g_name.c_str(), &options, timeout_ms, &connection);
  if (connected != COROIPC_OK) return connected;
  static uint8_t bytes[kLargest], into[kLargest];
  coroipc_status first = COROIPC_OK;
  const auto check = [&](const char* call, coroipc_status status) {
    if (g_armed) Allowed(call, status);
    if (first == COROIPC_OK && status != COROIPC_OK) first = status;
  };
  for (const size_t count : {size_t{24}, size_t{9000}, size_t{kLargest}}) {
    const iovec part = {bytes, count};
    coroipcc_response response = {};
    check("request",
          coroipcc_request(connection, kEcho, &part, 1, timeout_ms, into, sizeof into, &response));
    check("send", coroipcc_send(connection, kNote, &part, 1));
    check("request", coroipcc_request(connection, kDispatches, &part, 1, timeout_ms, into,
                                      sizeof into, &response));
    coroipcc_dispatch dispatch = {};
    while (coroipcc_dispatch_receive(connection, 0, &dispatch) == COROIPC_OK)
      coroipcc_dispatch_release(connection);
    coroipc_status asked =
        coroipcc_request_in_place(connection, kEcho, &part, 1, timeout_ms, &response);
    check("request_in_place", asked);
    if (asked == COROIPC_OK) coroipcc_response_release(connection);
    coroipc_buffer* buffer = nullptr;
    asked = coroipcc_buffer_alloc(connection, kLargest, timeout_ms, &buffer);
    check("buffer_alloc", asked);
    if (asked == COROIPC_OK) coroipc_buffer_release(buffer);
    // Pipelined, more than the ring holds: what waits is kept in private memory.
    uint32_t correlation = 0;
    for (int i = 0; i < 4; ++i)
      check("request_send", coroipcc_request_send(connection, kEcho, &part, 1,
                                                  static_cast<uint32_t>(timeout_ms), &correlation));
    coroipc_entry entries[8];
    void* blocks[8];
    static uint8_t arena[65536];
    coroipc_batch batch = {};
    batch.entries = entries;
    batch.blocks = blocks;
    batch.capacity = 8;
    batch.arena = arena;
    batch.arena_bytes = sizeof arena;
    coroipcc_group* const group = coroipcc_connection_group(connection);
    const uint64_t end = NowNs() + static_cast<uint64_t>(timeout_ms) * 1000000u;
    for (uint32_t got = 0; got < 4 && NowNs() < end;) {
      if (coroipcc_receive(group, &batch, 1) != COROIPC_AGAIN && batch.count == 0) {
        if (coroipcc_state(connection) != COROIPC_OK) break;
        coroipcc_wait(group, 10);
      }
      for (uint32_t i = 0; i < batch.count; ++i) {
        got += entries[i].kind == COROIPC_KIND_RESPONSE;
        coroipc_block_free(blocks[i]);
      }
    }
  }
  coroipcc_disconnect(connection);
  return first;
}

// -- one run --------------------------------------------------------------------------------------

void WaitForServer() {
  for (int i = 0; i < 2000 && Talk(1000) == COROIPC_CONNECT_REFUSED; ++i) usleep(1000);
}

struct Outcome {
  bool over;  // there was no n-th allocation
  bool bad;
};

Outcome Run(bool server, long fail_at, std::string* said) {
  int to[2];
  if (pipe2(to, O_CLOEXEC) != 0) exit(kOutside);
  g_name = "@coroipc-exhaust-" + std::to_string(getpid()) + "-" + std::to_string(fail_at);
  const pid_t other = fork();
  if (other == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close(to[1]);  // else the end of what the victim says is never seen
    if (server) {
      for (;;) {
        Talk(300);
        usleep(1000);
      }
    } else {
      Serve(1000000);
    }
    _exit(0);
  }
  const pid_t victim = fork();
  if (victim == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(20);
    dup2(to[1], STDOUT_FILENO);
    if (!server) WaitForServer();
    const Gauge before = Read();
    const auto work = [&] { return server ? Serve(1) : Talk(2000); };
    (void)work();  // pools and the like stay
    g_fail_at = fail_at;
    g_violations = 0;
    coroipc_status status = COROIPC_OK;
    long live = 0;
    for (int i = 0; i <= kAgain; ++i) {
      g_count = 0;
      g_armed = true;
      status = work();
      g_armed = false;
      Allowed("all", status);
      CheckGauge(before);
      if (i == 0) live = g_live;
    }
    if (g_live - live >= kAgain) Violate("%ld blocks left in %d runs", g_live - live, kAgain);
    printf("%s %ld %ld %zu\n", coroipc_status_name(status), g_count, g_throwing, g_throwing_max);
    fflush(stdout);
    if (__llvm_profile_write_file != nullptr) __llvm_profile_write_file();
    _exit((g_violations != 0 ? 1 : 0) | (g_count < g_fail_at ? 2 : 0));
  }
  close(to[1]);
  char text[4096];
  ssize_t got;
  while ((got = read(to[0], text, sizeof text)) > 0) said->append(text, static_cast<size_t>(got));
  close(to[0]);
  int status = 0;
  waitpid(victim, &status, 0);
  kill(other, SIGKILL);
  waitpid(other, nullptr, 0);
  if (!WIFEXITED(status)) {
    said->append("died of signal " + std::to_string(WTERMSIG(status)) + "\n");
    return {false, true};
  }
  return {(WEXITSTATUS(status) & 2) != 0, (WEXITSTATUS(status) & 1) != 0};
}

int Exhaust(bool server) {
  long n = 1;
  for (;; ++n) {
    std::string said;
    const Outcome outcome = Run(server, n, &said);
    if (outcome.bad) Violate("allocation %ld: %s", n, said.c_str());
    if (!outcome.over) continue;
    long count = 0, throwing = 0;
    size_t largest = 0;
    char status[64];
    if (sscanf(said.c_str() + said.rfind('\n', said.size() - 2) + 1, "%63s %ld %ld %zu", status,
               &count, &throwing, &largest) == 4)
      printf("{\"failed\":%ld,\"throwing\":%ld,\"largest\":%zu}\n", n - 1, throwing, largest);
    return End();
  }
}

}  // namespace
}  // namespace sweep

int main(int argc, char** argv) {
  setvbuf(stdout, nullptr, _IOLBF, 4096);
  return argc == 2 ? sweep::Exhaust(strcmp(argv[1], "server") == 0) : 2;
}
