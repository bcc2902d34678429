// What the tests of the server, the client and hostile peers share: a server that runs in a thread,
// batches, and peers that speak the protocol by hand, so that they can lie.
#ifndef COROIPC_TEST_PEERS_H_
#define COROIPC_TEST_PEERS_H_

#include <coroipc/abi.h>
#include <coroipc/coroipcc.h>
#include <coroipc/coroipcs.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "check.h"
#include "handshake.h"
#include "ring.h"
#include "slots.h"

namespace peers {

inline constexpr int kPatienceMs = 20000;  // what takes longer is a failure, also under a sanitizer

inline uint64_t NowMs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000 + static_cast<uint64_t>(now.tv_nsec) / 1000000;
}
inline void SleepMs(int ms) { poll(nullptr, 0, ms); }

// Waits for a condition, not for time.
template <typename Condition>
bool Eventually(Condition condition, int patience_ms = kPatienceMs) {
  const uint64_t end = NowMs() + static_cast<uint64_t>(patience_ms);
  while (!condition()) {
    if (NowMs() > end) return false;
    SleepMs(1);
  }
  return true;
}

inline std::string UniqueName() {
  static std::atomic<int> count{0};
  return "@coroipc-test-" + std::to_string(getpid()) + "-" + std::to_string(++count);
}

inline iovec Part(const void* bytes, size_t count) { return {const_cast<void*>(bytes), count}; }

// -- batches --------------------------------------------------------------------------------------

struct Row {
  coroipc_entry entry;
  std::vector<uint8_t> payload;
};

class Batch {
 public:
  explicit Batch(uint32_t capacity = 64, uint32_t arena_bytes = 16384)
      : entries_(capacity), blocks_(capacity), arena_(arena_bytes) {
    batch_ = {};
    batch_.entries = entries_.data();
    batch_.blocks = blocks_.data();
    batch_.capacity = capacity;
    batch_.arena = arena_.data();
    batch_.arena_bytes = arena_bytes;
  }
  coroipc_batch* get() { return &batch_; }
  // Copies of what was received; blocks are freed. Rows in a segment come without payload.
  std::vector<Row> Take() {
    std::vector<Row> rows;
    for (uint32_t i = 0; i < batch_.count; ++i) {
      Row row = {batch_.entries[i], {}};
      const uint8_t* from = nullptr;
      if (row.entry.flags == COROIPC_IN_BLOCK) {
        from = static_cast<const uint8_t*>(batch_.blocks[i]);
      } else if (row.entry.flags == COROIPC_IN_ARENA) {
        from = batch_.arena + row.entry.offset;
      }
      if (from != nullptr) row.payload.assign(from, from + row.entry.bytes);
      coroipc_block_free(batch_.blocks[i]);
      rows.push_back(std::move(row));
    }
    batch_.count = 0;
    return rows;
  }

 private:
  std::vector<coroipc_entry> entries_;
  std::vector<void*> blocks_;
  std::vector<uint8_t> arena_;
  coroipc_batch batch_;
};

// -- a server by callbacks, in a thread of its own ------------------------------------------------

// Ids that every Server answers by itself; others go to `handle`.
inline constexpr uint16_t kEcho = 1;    // the payload
inline constexpr uint16_t kStatus = 2;  // status = -7, no payload
inline constexpr uint16_t kFill = 3;    // u32 count in the payload: that many bytes of 'f'
inline constexpr uint16_t kDispatches =
    4;                                  // u32 count: that many dispatches of u32 numbers, then OK
inline constexpr uint16_t kSilent = 5;  // no answer

class Server {
 public:
  Server() {
    coroipcs_options_init(&options);
    coroipcs_service_options_init(&service);
    options.callbacks.context = this;
    options.callbacks.handler_get = [](coroipcs_connection*, uint16_t, uint16_t,
                                       void*) -> coroipcs_handler_fn { return Handle; };
    options.callbacks.connected = [](coroipcs_connection* connection, void* context) {
      auto* const self = static_cast<Server*>(context);
      self->last = connection;
      ++self->connected;
    };
    options.callbacks.disconnected = [](coroipcs_connection*, coroipc_status why, void* context) {
      auto* const self = static_cast<Server*>(context);
      const std::lock_guard lock(self->mutex_);
      self->ends_.push_back(why);
      return 0;
    };
    options.callbacks.drain = [](coroipcs_connection*, void* context) {
      ++static_cast<Server*>(context)->drains;
    };
    options.callbacks.cancelled = [](coroipcs_connection*, uint32_t, void* context) {
      ++static_cast<Server*>(context)->cancels;
    };
    coroipcs_service_options_init(&service);
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server() { Stop(); }

  // Creates and listens; with `run` a thread serves.
  void Start(bool run = true) {
    name = UniqueName();
    REQUIRE(coroipcs_create(&options, &server) == COROIPC_OK);
    REQUIRE(coroipcs_service_add(server, 1, &service) == COROIPC_OK);
    REQUIRE(coroipcs_listen(server, name.c_str()) == COROIPC_OK);
    if (run) Run();
  }
  void Run() {
    thread_ = std::thread([this] { CHECK_EQ(coroipcs_run(server), COROIPC_OK); });
  }
  void StopRunning() {
    if (!thread_.joinable()) return;
    coroipcs_stop(server);
    thread_.join();
  }
  void Stop() {
    StopRunning();
    coroipcs_destroy(server);
    server = nullptr;
  }
  coroipc_stats Stats() {
    coroipc_stats stats;
    CHECK_EQ(coroipcs_stats(server, &stats, 0), COROIPC_OK);
    return stats;
  }
  // Why connections ended, in the order in which they did.
  std::vector<coroipc_status> Ends() {
    const std::lock_guard lock(mutex_);
    return ends_;
  }
  bool EndedWith(coroipc_status why, size_t count = 1) {
    return Eventually([&] {
      size_t found = 0;
      for (const coroipc_status end : Ends()) found += end == why ? 1 : 0;
      return found >= count;
    });
  }

  coroipcs_options options;
  coroipcs_service_options service;
  std::function<void(coroipcs_connection*, const coroipcs_request*)> handle;
  coroipcs_server* server = nullptr;
  std::string name;
  std::atomic<int> connected{0}, drains{0}, cancels{0}, handled{0};
  std::atomic<coroipcs_connection*> last{nullptr};

 private:
  static void Handle(coroipcs_connection* connection, const coroipcs_request* request,
                     void* context) {
    auto* const self = static_cast<Server*>(context);
    ++self->handled;
    uint32_t count = 0;
    if (request->bytes >= sizeof count) memcpy(&count, request->payload, sizeof count);
    switch (request->id) {
      case kEcho: {
        const iovec part = Part(request->payload, request->bytes);
        if (!request->one_way)
          coroipcs_response_send(connection, request->correlation, COROIPC_OK, 0, &part, 1);
        return;
      }
      case kStatus:
        coroipcs_response_send(connection, request->correlation, COROIPC_OK, -7, nullptr, 0);
        return;
      case kFill: {
        const std::vector<uint8_t> bytes(count, 'f');
        const iovec part = Part(bytes.data(), bytes.size());
        coroipcs_response_send(connection, request->correlation, COROIPC_OK, 0, &part, 1);
        return;
      }
      case kDispatches:
        for (uint32_t i = 0; i < count; ++i) {
          const iovec part = Part(&i, sizeof i);
          coroipcs_dispatch_send(connection, 9, &part, 1);
        }
        if (!request->one_way)
          coroipcs_response_send(connection, request->correlation, COROIPC_OK, 0, nullptr, 0);
        return;
      case kSilent:
        return;
      default:
        if (self->handle) self->handle(connection, request);
    }
  }

  std::thread thread_;
  std::mutex mutex_;
  std::vector<coroipc_status> ends_;
};

// -- a client by the C API ------------------------------------------------------------------------

class Client {
 public:
  Client() {
    coroipcc_options_init(&options);
    options.service = 1;
  }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  ~Client() { Close(); }
  coroipc_status Connect(const std::string& name, coroipcc_group* group = nullptr) {
    return coroipcc_connect(group, name.c_str(), &options, kPatienceMs, &connection);
  }
  void Close() {
    if (connection != nullptr) coroipcc_disconnect(connection);
    connection = nullptr;
  }
  // A request whose answer is copied into `answer`.
  coroipc_status Call(uint16_t id, const void* bytes, size_t count,
                      std::vector<uint8_t>* answer = nullptr, int timeout_ms = kPatienceMs) {
    const iovec part = Part(bytes, count);
    static thread_local std::vector<uint8_t> into(4u << 20);
    coroipcc_response response;
    const coroipc_status status =
        coroipcc_request(connection, id, &part, 1, timeout_ms, into.data(),
                         static_cast<uint32_t>(into.size()), &response);
    if (status == COROIPC_OK && answer != nullptr)
      answer->assign(into.begin(), into.begin() + response.bytes);
    return status;
  }
  // Whether an echo of so many bytes works.
  bool Echo(size_t count = 100, uint8_t fill = 0x37) {
    const std::vector<uint8_t> sent(count, fill);
    std::vector<uint8_t> got;
    const coroipc_status status = Call(kEcho, sent.data(), sent.size(), &got);
    if (status != COROIPC_OK) printf("# echo: %s\n", coroipc_status_name(status));
    return status == COROIPC_OK && got == sent;
  }

  coroipcc_options options;
  coroipcc_connection* connection = nullptr;
};

// -- sockets by hand ------------------------------------------------------------------------------

inline sockaddr_un AddressOf(const std::string& name, socklen_t* bytes) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path + 1, name.c_str() + 1, name.size() - 1);  // "@name"
  *bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
  return address;
}

inline bool SendWithFds(int socket, const void* bytes, size_t count, const std::vector<int>& fds,
                        int flags = 0) {
  iovec part = Part(bytes, count);
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  std::vector<uint8_t> control(CMSG_SPACE(sizeof(int) * (fds.empty() ? 1 : fds.size())));
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    memcpy(CMSG_DATA(header), fds.data(), sizeof(int) * fds.size());
  }
  return sendmsg(socket, &message, MSG_NOSIGNAL | flags) == static_cast<ssize_t>(count);
}

// Since Linux 6.16 (SO_PASSRIGHTS) no fd can be sent to a server: EPERM at the sender.
inline bool FdsAreRefused() {
  const int off = 0, probe = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  const bool known = setsockopt(probe, SOL_SOCKET, 83, &off, sizeof off) == 0;
  close(probe);
  return known;
}

// Bytes of one message and the fd beside it; -1 at the end or after `patience_ms`.
inline ssize_t ReceiveWithFd(int socket, void* bytes, size_t capacity, int* fd,
                             int patience_ms = kPatienceMs) {
  *fd = -1;
  pollfd watched = {socket, POLLIN, 0};
  if (poll(&watched, 1, patience_ms) != 1) return -1;
  iovec part = Part(bytes, capacity);
  alignas(cmsghdr) uint8_t control[256];
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  if (got < 0 && errno == ECONNRESET) got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  if (got < 0) return -1;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
      memcpy(fd, CMSG_DATA(header), sizeof *fd);
  }
  return got;
}

// Readable end of file: the peer has hung up.
inline bool HungUp(int socket, int patience_ms = kPatienceMs) {
  return Eventually(
      [&] {
        char byte[256];
        const ssize_t got = recv(socket, byte, sizeof byte, MSG_DONTWAIT);
        return got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
      },
      patience_ms);
}

inline int OpenFds() {
  int count = 0;
  for (int fd = 0; fd < 1024; ++fd) count += fcntl(fd, F_GETFD) >= 0 ? 1 : 0;
  return count;
}

// -- a client by hand -----------------------------------------------------------------------------

class RawClient {
 public:
  RawClient() = default;
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;
  ~RawClient() { Close(); }

  bool ConnectSocket(const std::string& name) {
    socket = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    socklen_t bytes = 0;
    const sockaddr_un address = AddressOf(name, &bytes);
    return connect(socket, reinterpret_cast<const sockaddr*>(&address), bytes) == 0;
  }
  // The whole handshake, by the rules.
  coroipc_status Connect(const std::string& name, const coroipc::Terms& wanted = {}) {
    if (!ConnectSocket(name)) return COROIPC_CONNECT_REFUSED;
    const coroipc_setup_request request = coroipc::MakeSetupRequest(1, wanted);
    if (!SendWithFds(socket, &request, sizeof request, {})) return COROIPC_SYSTEM;
    return TakeReply();
  }
  coroipc_status TakeReply() {
    int fd = -1;
    const ssize_t got = ReceiveWithFd(socket, &reply, sizeof reply, &fd);
    if (got <= 0) return COROIPC_PEER_DEAD;
    const coroipc_status status =
        coroipc::CheckSetupReply(&reply, static_cast<size_t>(got), fd >= 0, &reply);
    if (status == COROIPC_OK) Map(fd);
    if (fd >= 0) close(fd);
    return status;
  }
  void Map(int fd) {
    void* const mapping =
        mmap(nullptr, reply.segment_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    REQUIRE(mapping != MAP_FAILED);
    memory = static_cast<uint8_t*>(mapping);
    control = reinterpret_cast<coroipc_control*>(mapping);
    request_data = memory + COROIPC_CONTROL_BYTES;
    response_data = request_data + reply.request_ring_bytes;
    dispatch_data = response_data + reply.response_ring_bytes;
    REQUIRE(request.Init(&control->ring[0], request_data, reply.request_ring_bytes) == COROIPC_OK);
    REQUIRE(response.Init(&control->ring[1], response_data, reply.response_ring_bytes) ==
            COROIPC_OK);
    REQUIRE(dispatch.Init(&control->ring[2], dispatch_data, reply.dispatch_ring_bytes) ==
            COROIPC_OK);
  }
  void Bell() const {
    const uint8_t bell = COROIPC_SOCKET_DOORBELL;
    (void)!send(socket, &bell, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
  }
  void Publish() {
    request.Publish();
    if (request.TakeReaderSleep()) Bell();
  }
  coroipc_status Put(coroipc_record header, const void* payload, uint32_t count,
                     bool publish = true) {
    uint8_t* to = nullptr;
    uint32_t wants = 0;
    const coroipc_status status = request.Reserve(count, &to, &wants);
    if (status != COROIPC_OK) return status;
    if (count != 0) memcpy(to, payload, count);
    header.bytes = count;
    request.Commit(header);
    if (publish) Publish();
    return COROIPC_OK;
  }
  coroipc_status PutRequest(uint16_t id, uint32_t correlation, const void* payload, uint32_t count,
                            bool publish = true) {
    coroipc_record header = {};
    header.kind = COROIPC_RECORD_REQUEST;
    header.id = id;
    header.correlation = correlation;
    return Put(header, payload, count, publish);
  }
  // The next record of a ring; false after `patience_ms`.
  bool Take(coroipc::RingReader& ring, coroipc_record* header, std::vector<uint8_t>* payload,
            int patience_ms = kPatienceMs) {
    return Eventually(
        [&] {
          const uint8_t* from = nullptr;
          if (ring.Peek(header, &from) != COROIPC_OK) return false;
          if (payload != nullptr) payload->assign(from, from + header->bytes);
          ring.Advance();
          ring.PublishRead();
          if (ring.TakeWriterWants() != 0) Bell();
          return true;
        },
        patience_ms);
  }
  bool HungUp() const { return peers::HungUp(socket); }
  void Close() {
    if (socket >= 0) close(socket);
    if (memory != nullptr) munmap(memory, reply.segment_bytes);
    socket = -1;
    memory = nullptr;
  }

  int socket = -1;
  coroipc_setup_reply reply = {};
  uint8_t* memory = nullptr;
  coroipc_control* control = nullptr;
  uint8_t *request_data = nullptr, *response_data = nullptr, *dispatch_data = nullptr;
  coroipc::RingWriter request;
  coroipc::RingReader response, dispatch;
};

// -- a server by hand -----------------------------------------------------------------------------

inline int MakeSegment(size_t bytes, bool sealed = true) {
  const int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  REQUIRE(fd >= 0 && ftruncate(fd, static_cast<off_t>(bytes)) == 0);
  if (sealed) REQUIRE(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0);
  return fd;
}

class RawServer {
 public:
  explicit RawServer(std::string given = UniqueName()) : name(std::move(given)) {
    listener = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    socklen_t bytes = 0;
    const sockaddr_un address = AddressOf(name, &bytes);
    REQUIRE(bind(listener, reinterpret_cast<const sockaddr*>(&address), bytes) == 0);
    REQUIRE(listen(listener, 16) == 0);
    terms.request_ring_bytes = terms.response_ring_bytes = terms.dispatch_ring_bytes = 8192;
    terms.message_bytes = 1u << 20;
    terms.requests_in_flight = 8;
    terms.segments_max = 4;
  }
  RawServer(const RawServer&) = delete;
  RawServer& operator=(const RawServer&) = delete;
  ~RawServer() {
    Hang();
    close(listener);
    if (memory != nullptr) munmap(memory, coroipc::SegmentBytes(terms));
  }

  // Accepts and reads the setup request.
  void Accept() {
    pollfd watched = {listener, POLLIN, 0};
    REQUIRE(poll(&watched, 1, kPatienceMs) == 1);
    socket = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    REQUIRE(socket >= 0);
    REQUIRE(recv(socket, &setup, sizeof setup, 0) == sizeof setup);
  }
  void MakeMemory() {
    segment_fd = MakeSegment(coroipc::SegmentBytes(terms));
    void* const mapping = mmap(nullptr, coroipc::SegmentBytes(terms), PROT_READ | PROT_WRITE,
                               MAP_SHARED, segment_fd, 0);
    REQUIRE(mapping != MAP_FAILED);
    memory = static_cast<uint8_t*>(mapping);
    control = reinterpret_cast<coroipc_control*>(mapping);
    coroipc::FillSegmentHeader(control, terms, 77);
    request_data = memory + COROIPC_CONTROL_BYTES;
    response_data = request_data + terms.request_ring_bytes;
    dispatch_data = response_data + terms.response_ring_bytes;
  }
  void InitRings() {
    REQUIRE(request.Init(&control->ring[0], request_data, terms.request_ring_bytes) == COROIPC_OK);
    REQUIRE(response.Init(&control->ring[1], response_data, terms.response_ring_bytes) ==
            COROIPC_OK);
    REQUIRE(dispatch.Init(&control->ring[2], dispatch_data, terms.dispatch_ring_bytes) ==
            COROIPC_OK);
  }
  coroipc_setup_reply Reply() const { return coroipc::MakeSetupReply(COROIPC_OK, terms, 77, 78); }
  // The whole handshake, by the rules.
  void Serve() {
    Accept();
    MakeMemory();
    InitRings();
    const coroipc_setup_reply reply = Reply();
    REQUIRE(SendWithFds(socket, &reply, sizeof reply, {segment_fd}));
  }
  void Bell() const {
    const uint8_t bell = COROIPC_SOCKET_DOORBELL;
    (void)!send(socket, &bell, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
  }
  void Put(coroipc::RingWriter& ring, coroipc_record header, const void* payload, uint32_t count) {
    uint8_t* to = nullptr;
    uint32_t wants = 0;
    REQUIRE(ring.Reserve(count, &to, &wants) == COROIPC_OK);
    if (count != 0) memcpy(to, payload, count);
    header.bytes = count;
    ring.Commit(header);
    ring.Publish();
    if (ring.TakeReaderSleep()) Bell();
  }
  bool TakeRequest(coroipc_record* header, std::vector<uint8_t>* payload = nullptr) {
    return Eventually([&] {
      const uint8_t* from = nullptr;
      if (request.Peek(header, &from) != COROIPC_OK) return false;
      if (payload != nullptr) payload->assign(from, from + header->bytes);
      request.Advance();
      request.PublishRead();
      if (request.TakeWriterWants() != 0) Bell();
      return true;
    });
  }
  void Answer(uint32_t correlation, const void* payload = nullptr, uint32_t count = 0) {
    coroipc_record header = {};
    header.kind = COROIPC_RECORD_RESPONSE;
    header.correlation = correlation;
    Put(response, header, payload, count);
  }
  void SendSegment(uint32_t index, uint32_t bytes, uint32_t generation, int fd) const {
    const coroipc_segment_message message = {COROIPC_SOCKET_SEGMENT, index, bytes, generation};
    REQUIRE(SendWithFds(socket, &message, sizeof message, {fd}));
  }
  // Waits until the client has read all that was sent on the socket (tcp(7), SIOCOUTQ; it holds for
  // Unix sockets as well): what a record after it meets does not depend on who is quicker.
  void AwaitSocketRead() const {
    REQUIRE(Eventually([this] {
      int unread = -1;
      return ioctl(socket, SIOCOUTQ, &unread) == 0 && unread == 0;
    }));
  }
  void Hang() {
    if (socket >= 0) close(socket);
    if (segment_fd >= 0) close(segment_fd);
    socket = segment_fd = -1;
  }

  std::string name;
  int listener = -1, socket = -1, segment_fd = -1;
  coroipc_setup_request setup = {};
  coroipc::Terms terms;
  uint8_t* memory = nullptr;
  coroipc_control* control = nullptr;
  uint8_t *request_data = nullptr, *response_data = nullptr, *dispatch_data = nullptr;
  coroipc::RingReader request;
  coroipc::RingWriter response, dispatch;
};

}  // namespace peers

#endif  // COROIPC_TEST_PEERS_H_
