// two_sides: a client and a server, the real ring.cc and connection.cc on both sides, under relacy:
// every run is one schedule and one choice of what each load sees. Requests meet a full ring, are
// queued, and are answered; both sides look, arm, look again and sleep. A run fails on a data race,
// on a record lost, doubled, torn or out of order, and when both sides sleep: only a doorbell wakes
// them, there are no deadlines.
//
//   two_sides [runs]
//
// scripts/relacy.mjs builds and runs it, with each of mutants.json too. Left out: death, segments,
// the loop's lists.
#include "simulated.h"
// A mutant's folder is the first on the include path, and its header the first that is seen.
#include "ring.h"
//
#include <cstdio>
#include <cstdlib>

#include "channel.cc"
#include "connection.cc"
#include "ring.cc"
#include "socket.h"

namespace {

using coroipc::Connection;
using coroipc::Status;
using simulated::kClient;
using simulated::kServer;
using simulated::memory;
using simulated::Side;

constexpr uint32_t kRequests = 6;
// Records with and without a pad before them, one of half a ring, one without payload.
uint32_t PayloadBytes(uint32_t number) { return number % 3 * 4; }

class TestLoop final : public coroipc::Loop {};

class Nowhere final : public coroipc::Sink {
 public:
  Nowhere() : Sink(nullptr) {}

 private:
  Put AddAny(const coroipc_entry&, const uint8_t*, uint32_t) override { return Put::kTaken; }
};

// One side: a client posts requests, a server answers each.
class Peer : public Connection {
 public:
  Peer(coroipc::Loop& loop, Side side, int fd) : Connection(loop, side == kServer), side_(side) {
    RL_ASSERT(coroipc::Segment::Map(fd, simulated::kSegmentBytes, &segment_) == COROIPC_OK);
    memory->base[side] = segment_.data();
    request_ring_bytes_ = response_ring_bytes_ = dispatch_ring_bytes_ = simulated::kRingBytes;
    message_bytes_ = 8;
    RL_ASSERT(InitRings() == COROIPC_OK);
    phase_ = Phase::kOpen;
  }
  ~Peer() override { loop_.Forget(*this); }

  void Post(uint32_t number) {
    coroipc_record header = {};
    header.kind = side_ == kServer ? COROIPC_RECORD_RESPONSE : COROIPC_RECORD_REQUEST;
    header.correlation = number;
    uint8_t payload[8];
    const uint32_t bytes = PayloadBytes(number);
    std::memset(payload, static_cast<int>(number), sizeof payload);
    const iovec part = {payload, bytes};
    RL_ASSERT(Send(0, header, &part, 1, bytes) == COROIPC_OK);
  }
  // Turns until all is read and written; sleeps when there is nothing to do, as Lead in
  // client_blocking.cc does.
  void Serve() {
    Nowhere sink;
    while (received_ != kRequests || !out_[0].backlog.empty()) {
      if (Turn(sink, 1)) continue;
      if (received_ == kRequests && out_[0].backlog.empty()) break;
      if (!Arm()) continue;
      memory->Sleep(side_);
      Disarm();
      // The server reads its socket to the end, the client no further than to a doorbell that
      // brought something.
      SocketReadable(side_ == kServer);
    }
    RL_ASSERT(status() == COROIPC_OK);
  }

 protected:
  bool Reads(uint32_t in) const override { return in == 0; }
  Taken Deliver(uint32_t, const coroipc_record& header, const uint8_t* payload,
                coroipc::Sink&) override {
    RL_ASSERT(header.correlation == received_ && header.bytes == PayloadBytes(received_));
    uint8_t copy[8] = {};
    coroipc::CopyIn(copy, payload, header.bytes);
    for (uint32_t i = 0; i < header.bytes; ++i) RL_ASSERT(copy[i] == received_);
    if (side_ == kServer) Post(received_);
    ++received_;
    return Taken::kYes;
  }
  void OnEnded(Status) override { RL_ASSERT(false); }
  bool HandshakeTurn(coroipc::Sink&) override { return false; }
  void OnBacklogEmpty(uint32_t) override {}
  Status AcquireSegment(uint32_t, coroipc_buffer**) override { return COROIPC_NO_MEMORY; }
  Status Share(coroipc_buffer&) override { return COROIPC_NO_MEMORY; }
  bool OnUnsendable(coroipc_record&, Status) override { return false; }
  void OnBufferReturned(coroipc_buffer&) override {}
  Status OnSegmentMessage(const coroipc_segment_message&, coroipc::Fd) override {
    return COROIPC_PROTOCOL;
  }

 private:
  const Side side_;
  uint32_t received_ = 0;
};

int segment_fd;

// relacy's run number is its seed: run n is the same each time.
struct Session : rl::test_suite<Session, 2> {
  simulated::Memory shared;
  TestLoop loops[2];
  std::unique_ptr<Peer> peers[2];

  Session() { memory = &shared; }
  void before() {
    peers[kServer] = std::make_unique<Peer>(loops[kServer], kServer, segment_fd);
    peers[kClient] = std::make_unique<Peer>(loops[kClient], kClient, segment_fd);
  }
  void thread(unsigned side) {
    Peer& peer = *peers[side];
    if (side == kClient) {
      for (uint32_t i = 0; i < kRequests; ++i) peer.Post(i);
    }
    peer.Serve();
  }
  void after() {
    peers[kClient].reset();
    peers[kServer].reset();
  }
};

}  // namespace

namespace coroipc {

// In socket.cc's place.
Status RingDoorbell(int) {
  memory->Ring(1 - rl::thread_index());
  return COROIPC_OK;
}
Status ReceiveMessage(int, void* bytes, size_t, bool, Received* received) {
  if (!memory->TakeDoorbell(rl::thread_index())) return COROIPC_AGAIN;
  *static_cast<uint8_t*>(bytes) = COROIPC_SOCKET_DOORBELL;
  received->bytes = 1;
  return COROIPC_OK;
}

}  // namespace coroipc

int main(int argc, char** argv) {
  coroipc::Segment segment;
  coroipc::Fd fd;
  if (coroipc::Segment::Create(simulated::kSegmentBytes, true, &segment, &fd) != COROIPC_OK) {
    std::fprintf(stderr, "no shared memory\n");
    return 1;
  }
  segment_fd = fd.get();
  rl::test_params params;
  params.progress_stream = &std::cerr;
  params.iteration_count = argc > 1 ? static_cast<rl::iteration_t>(std::atoll(argv[1])) : 10000;
  params.execution_depth_limit = 5000;
  return rl::simulate<Session>(params) ? 0 : 1;
}
