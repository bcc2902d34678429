// client_blocking.cc: calls that wait. A waiting client looks for a learnt moment, then arms every
// word for which it can be woken, looks again and sleeps on the socket and the server's pidfd;
// while it waits it goes on draining answers and dispatches into bounded private memory, so that it
// never holds what the server needs.
//
// Several threads on one connection: the first leads and polls for all, the others sleep on a
// condition; a leader that leaves hands over. Waits are cut into slices of at most 50 ms, after
// each of which the host may end the call (a worker that is being terminated); no liveness rests on
// the slices.
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "block.h"
#include "client.h"

using coroipc::Connection;
using coroipc::kDispatch;
using coroipc::kMillisecond;
using coroipc::kNever;
using coroipc::kRequest;
using coroipc::kResponse;
using coroipc::NowNs;
using coroipc::Owner;
using coroipc::Status;
using coroipc::Waiter;
using coroipc::Wants;

namespace {

constexpr uint64_t kYieldNs = 4000;
constexpr uint64_t kSliceNs = 50 * kMillisecond;
constexpr uint64_t kShortLookNs = 10000;
constexpr uint64_t kLookMinNs = 20000;
constexpr uint64_t kLookMaxNs = 150000;
constexpr uint64_t kWorthLookingNs = 200000;  // an answer that takes longer is not worth a busy CPU
constexpr uint64_t kAnswerCapNs = kMillisecond;
constexpr uint64_t kSpinFdLookNs = kMillisecond;
constexpr uint64_t kOwedLookNs = kMillisecond;

}  // namespace

uint64_t coroipcc_connection::Deadline(int32_t timeout_ms) const {
  return coroipc::DeadlineNs(timeout_ms < 0 ? options.timeout_ms : timeout_ms);
}

uint64_t coroipcc_connection::SpinBudget() const {
  const int wait = options.wait;
  if (wait == COROIPC_WAIT_SLEEP || loop_.one_cpu()) return 0;
  if (PeerOnThisCpu()) return 0;  // it cannot answer while we look
  if (wait == COROIPC_WAIT_SPIN) return kNever;
  // Now and then anyway: two sides that both sleep learn nothing but how long two wakes take.
  if (answer_ns_ > kWorthLookingNs) return (calls_ & 15u) == 0 ? kLookMaxNs : kShortLookNs;
  return std::clamp(2 * answer_ns_, kLookMinNs, kLookMaxNs);
}

void coroipcc_connection::LearnAnswer(uint64_t took_ns) {
  answer_ns_ = answer_ns_ - answer_ns_ / 8 + std::min(took_ns, kAnswerCapNs) / 8;
}

void coroipcc_connection::Finished() {
  if (!loop_.threads()) return;
  pthread_cond_broadcast(&changed_);
  WakeLeader();
}

void coroipcc_connection::WakeLeader() {
  if (!leader_sleeps_ || !leader_wake_.valid()) return;
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(leader_wake_.get(), &one, sizeof one);
}

void coroipcc_connection::OnUnarmed() {
  WakeLeader();
  SignalOwnFd();
}

void coroipcc_connection::OnArmed() {
  if (!own_signalled_ || !kept_answers_.empty() || !kept_dispatches_.empty()) return;
  uint64_t count;
  [[maybe_unused]] const ssize_t taken = read(own_event_.get(), &count, sizeof count);
  own_signalled_ = false;
}

// OK: done. AGAIN: look at the state again. TIMED_OUT, ABORTED.
template <typename Done>
Status coroipcc_connection::Lead(Done done, uint64_t deadline_ns) {
  KeepSink sink(*this);
  // From here on this thread looks for itself; what was armed for the loop is not any more.
  if (list == List::kArmed) loop_.MarkReady(*this);
  const uint64_t start = NowNs();
  uint64_t now = start;
  ++calls_;
  NoteCpu();
  const uint64_t budget = SpinBudget();
  uint64_t fds = start;
  uint64_t yield_at = start + kYieldNs;
  const auto turn = [&] {
    keeping_ = true;
    (void)Turn(sink, 0);
    keeping_ = false;
  };
  for (uint32_t n = 1; budget != 0; ++n) {
    if (Look()) {
      // A dispatch is taken from the ring, where it lies: a turn would copy it first, and those
      // behind it, so that the server has room while this waits for something else.
      if (!done()) turn();
      if (done()) {
        // Every eighth is enough to learn from: reading the clock is a part of a short round trip.
        if ((calls_ & 7u) == 0) LearnAnswer(NowNs() - start);
        return COROIPC_OK;
      }
      if (phase_ != Phase::kOpen) return COROIPC_AGAIN;
    }
    if (loop_.threads()) {
      loop_.Unlock();
      coroipc::Pause();
      loop_.Lock();
      if (done() || phase_ != Phase::kOpen) return COROIPC_AGAIN;
    } else {
      coroipc::Pause();
    }
    if ((n & 15u) != 0) continue;
    now = NowNs();
    if (now >= deadline_ns) return COROIPC_TIMED_OUT;
    if (budget != kNever && now - start >= budget) break;
    if (now >= yield_at) {
      sched_yield();  // a server that was woken onto this CPU waits for us to let go
      yield_at = now + kYieldNs;
    }
    if (now - fds >= kSpinFdLookNs) {  // deaths and doorbells, while spinning without end
      fds = now;
      socket_unread_ = true;
      RetryDoorbell();
      struct pollfd gone = {pidfd(), POLLIN, 0};
      if (gone.fd >= 0 && poll(&gone, 1, 0) == 1) HangUp(true);
      if (group.options.interrupt != nullptr &&
          group.options.interrupt(group.options.context) != 0) {
        return COROIPC_ABORTED;
      }
    }
  }
  uint64_t slice_end = now + kSliceNs;
  for (;;) {
    if (!done()) turn();  // as above
    if (done()) {
      LearnAnswer(NowNs() - start);
      return COROIPC_OK;
    }
    if (phase_ != Phase::kOpen) return COROIPC_AGAIN;
    RetryDoorbell();  // nobody may be there to run the loop's timer
    now = NowNs();
    if (now >= deadline_ns) return COROIPC_TIMED_OUT;
    if (now >= slice_end) {
      slice_end = now + kSliceNs;
      if (group.options.interrupt != nullptr &&
          group.options.interrupt(group.options.context) != 0) {
        return COROIPC_ABORTED;
      }
    }
    keeping_ = true;
    const bool armed = Arm();
    keeping_ = false;
    if (!armed) {
      if (list == List::kArmed) loop_.MarkReady(*this);  // as below
      continue;
    }
    uint64_t until = std::min(deadline_ns, slice_end) - now;
    if (doorbell_owed()) until = std::min(until, kOwedLookNs);
    const struct timespec wait = {static_cast<time_t>(until / 1000000000u),
                                  static_cast<long>(until % 1000000000u)};
    struct pollfd watched[3] = {
        {socket_.get(), POLLIN, 0}, {pidfd(), POLLIN, 0}, {leader_wake_.get(), POLLIN, 0}};
    leader_sleeps_ = true;
    loop_.Unlock();
    const int ready = ppoll(watched, leader_wake_.valid() ? 3 : 2, &wait, nullptr);
    loop_.Lock();
    leader_sleeps_ = false;
    if (phase_ != Phase::kOpen) return COROIPC_AGAIN;
    Disarm();
    if (list == List::kArmed)
      loop_.MarkReady(*this);  // the loop must not believe in words that are gone
    if (ready <= 0) {
      if (ready == 0) continue;
      socket_unread_ = true;  // EINTR: every wake is a hint
      continue;
    }
    if (watched[0].revents != 0) SocketReadable((watched[0].revents & (POLLHUP | POLLERR)) != 0);
    if (watched[1].revents != 0) HangUp(true);
    if (watched[2].revents != 0) {
      uint64_t count;
      [[maybe_unused]] const ssize_t taken = read(leader_wake_.get(), &count, sizeof count);
    }
    if (!Look()) ++stats_.receive_retries;
  }
}

template <typename Done>
Status coroipcc_connection::WaitUntil(Done done, uint64_t deadline_ns) {
  if (loop_.threads() && !leader_wake_.valid())
    leader_wake_.Reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  for (;;) {
    if (done()) return COROIPC_OK;
    if (phase_ != Phase::kOpen) return status_ == COROIPC_OK ? COROIPC_DISCONNECTED : status_;
    if (loop_.threads() && led_) {
      const uint64_t now = NowNs();
      if (now >= deadline_ns) return COROIPC_TIMED_OUT;
      const uint64_t until = std::min(deadline_ns, now + kSliceNs);
      const struct timespec when = {static_cast<time_t>(until / 1000000000u),
                                    static_cast<long>(until % 1000000000u)};
      pthread_cond_timedwait(&changed_, loop_.mutex(), &when);
      if (group.options.interrupt != nullptr &&
          group.options.interrupt(group.options.context) != 0) {
        return COROIPC_ABORTED;
      }
      continue;
    }
    led_ = true;
    const Status status = Lead(done, deadline_ns);
    led_ = false;
    if (loop_.threads()) pthread_cond_broadcast(&changed_);  // hands over
    if (status != COROIPC_AGAIN) return status;
  }
}

Status coroipcc_connection::FinishBlocking() {
  for (;;) {
    const uint64_t now = NowNs();
    if (now >= deadline_ns_) return COROIPC_TIMED_OUT;
    uint64_t until = std::min(deadline_ns_, now + kSliceNs);
    if (socket_.valid()) {
      const Status status = TakeReply();
      if (status != COROIPC_AGAIN) {
        if (status == COROIPC_OK) loop_.MarkReady(*this);
        return status;
      }
    } else if (retry_ns_ <= now) {
      const Status status = TryConnect();
      if (status == COROIPC_OK) continue;
      if (status != COROIPC_AGAIN) return status;
    } else {
      until = std::min(until, retry_ns_);
    }
    const uint64_t left = until - std::min(until, NowNs());
    const struct timespec wait = {static_cast<time_t>(left / 1000000000u),
                                  static_cast<long>(left % 1000000000u)};
    struct pollfd watched = {socket_.get(), POLLIN, 0};
    loop_.Unlock();
    const int ready = ppoll(&watched, 1, &wait, nullptr);
    loop_.Lock();
    if (ready <= 0 && group.options.interrupt != nullptr &&
        group.options.interrupt(group.options.context) != 0) {
      return COROIPC_ABORTED;
    }
  }
}

Status coroipcc_connection::Call(uint16_t id, const struct iovec* parts, uint32_t count,
                                 coroipc_buffer* buffer, uint32_t offset, uint32_t bytes,
                                 int32_t timeout_ms, coroipcc_response* response,
                                 coroipc::Lease* result) {
  *response = {};
  if (const Status status = Usable(); status != COROIPC_OK) return status;
  if (bytes > message_bytes_) return COROIPC_TOO_LARGE;
  const coroipc::Lease& lease = leases_[kResponse];
  // It holds ring space: an answer that could not fit beside it would never come.
  if (lease.held && lease.in_ring && !in_[kResponse].LeaseLeavesRoom()) return COROIPC_LEASE_HELD;
  const uint32_t wanted_ms = timeout_ms < 0 ? static_cast<uint32_t>(options.timeout_ms)
                                            : static_cast<uint32_t>(timeout_ms);
  const uint64_t deadline = Deadline(timeout_ms);
  if (QueueFull()) {
    const Status room = WaitUntil([&] { return !QueueFull(); }, deadline);
    if (room != COROIPC_OK) return room;
  }
  // Those in flight are answered while this waits; only then is the limit a reason to give up.
  if (in_flight_ >= requests_in_flight_) {
    const Status room = WaitUntil([&] { return in_flight_ < requests_in_flight_; }, deadline);
    if (room != COROIPC_OK) return room == COROIPC_TIMED_OUT ? COROIPC_LIMIT : room;
  }
  Waiter waiter;
  uint32_t correlation = 0;
  Status status = SendRequest(id, parts, count, bytes, buffer, offset, wanted_ms, UINT32_MAX,
                              Wants::kBlockingCall, &waiter, &correlation);
  if (status != COROIPC_OK) return status;
  PublishOut();
  status = WaitUntil(
      [&] {
        if (waiter.done) return true;
        // Answers pile up behind the lease and only its end could make room: waiting would not
        // help.
        return lease.held && lease.in_ring && !in_[kResponse].Ready() &&
               !in_[kResponse].LeaseAllows(in_[kResponse].PeekWriterWants());
      },
      deadline);
  if (!waiter.done) {
    if (phase_ == Phase::kOpen) {
      (void)Cancel(coroipc::SlotOf(correlation), correlation, false);
      if (phase_ == Phase::kOpen) PublishOut();
    }
    return status == COROIPC_OK ? COROIPC_LEASE_HELD : status;
  }
  *response = waiter.response;
  *result = {true, waiter.in_ring, waiter.block, waiter.buffer};
  if (waiter.code != COROIPC_OK) {
    EndLease(kResponse, result);
    response->data = nullptr;
    response->bytes = 0;
  }
  return waiter.code;
}

Status coroipcc_connection::CallForBuffer(uint32_t bytes, int32_t timeout_ms,
                                          coroipc_buffer** buffer) {
  Waiter waiter;
  uint32_t correlation = 0;
  const Status sent = WantBuffer(bytes, Wants::kBufferCall, &waiter, &correlation);
  if (sent != COROIPC_OK) return sent;
  PublishOut();
  const Status status = WaitUntil([&] { return waiter.done; }, Deadline(timeout_ms));
  if (!waiter.done) {
    if (phase_ == Phase::kOpen) (void)Cancel(coroipc::SlotOf(correlation), correlation, false);
    return status;
  }
  *buffer = waiter.buffer;
  return waiter.code;
}

Status coroipcc_connection::NextDispatch(int32_t timeout_ms, coroipcc_dispatch* dispatch) {
  *dispatch = {};
  if (forked()) return COROIPC_FORKED;
  if (control_ == nullptr) return Usable();
  coroipc::Lease& lease = leases_[kDispatch];
  if (lease.held) return COROIPC_LEASE_HELD;
  const auto take = [&] {
    if (lease.held) return false;  // by another thread, since this one waits
    if (!kept_dispatches_.empty()) {
      const coroipc::Kept kept = kept_dispatches_.front();
      kept_dispatches_.pop_front();
      kept_dispatch_bytes_ -= sizeof kept.row + kept.row.bytes;
      dispatch->id = static_cast<uint16_t>(kept.row.id);
      dispatch->bytes = kept.row.bytes;
      dispatch->sequence = kept.row.sequence;
      dispatch->data = kept.block;
      lease = {true, false, kept.block, nullptr};
      if (kept.row.flags == COROIPC_IN_SEGMENT) {
        coroipc_buffer* const held = BufferAt(kept.row.segment);
        held->AddUser();
        lease.buffer = held;
        dispatch->data = held->segment.data() + kept.row.offset;
        dispatch->segment = kept.row.segment;
        dispatch->offset = kept.row.offset;
        dispatch->in_segment = 1;
      }
      return true;
    }
    // Straight from the ring, in place.
    coroipc_record header;
    const uint8_t* payload = nullptr;
    if (phase_ == Phase::kEnded && status_ == COROIPC_PROTOCOL) return false;
    Status status = in_[kDispatch].Peek(&header, &payload);
    if (status == COROIPC_AGAIN) return false;
    coroipc_buffer* held = nullptr;
    uint32_t bytes = 0, offset = 0;
    if (status == COROIPC_OK && header.kind != COROIPC_RECORD_DISPATCH) status = COROIPC_PROTOCOL;
    if (status == COROIPC_OK) status = Resolve(header, &payload, &bytes, &held, &offset);
    if (status != COROIPC_OK) {
      if (phase_ == Phase::kOpen) End(status);
      return false;
    }
    dispatch->id = header.id;
    dispatch->bytes = bytes;
    dispatch->sequence = header.sequence;
    dispatch->data = payload;
    lease = {true, held == nullptr, nullptr, held};
    if (held != nullptr) {
      held->owner = Owner::kUsed;
      held->AddUser();
      dispatch->segment = held->index;
      dispatch->offset = offset;
      dispatch->in_segment = 1;
    } else {
      in_[kDispatch].Lease();
    }
    in_[kDispatch].Advance();
    ++stats_.dispatches;
    stats_.bytes_received += bytes;
    return true;
  };
  if (take()) return COROIPC_OK;
  if (timeout_ms != 0) {
    bool taken = false;  // waiting asks more than once
    const Status status =
        WaitUntil([&] { return taken || (taken = take()); }, Deadline(timeout_ms));
    if (status != COROIPC_OK && status != COROIPC_TIMED_OUT && take())
      return COROIPC_OK;  // published before the end
    return status;
  }
  // Not blocking: one look at the socket and the rings, then armed for whoever polls our fd.
  for (int round = 0; phase_ == Phase::kOpen && round < 3; ++round) {
    KeepSink sink(*this);
    socket_unread_ = true;
    keeping_ = true;
    (void)Turn(sink, 0);
    keeping_ = false;
    if (take()) return COROIPC_OK;
    if (phase_ != Phase::kOpen) break;
    if (!own_epoll_.valid()) return COROIPC_AGAIN;
    if (Arm()) {
      loop_.MarkArmed(*this);
      return COROIPC_AGAIN;
    }
    if (list == List::kArmed) loop_.MarkReady(*this);
  }
  if (take()) return COROIPC_OK;
  return phase_ == Phase::kOpen ? COROIPC_AGAIN : Usable();
}

void coroipcc_connection::EndLease(uint32_t channel, coroipc::Lease* lease) {
  if (lease->in_ring) {
    in_[channel].Unlease();
    if (phase_ == Phase::kOpen) GiveBack(channel);
  }
  coroipc::BlockFree(lease->block);
  if (lease->buffer != nullptr) {
    lease->buffer->DropUser();
    if (phase_ == Phase::kOpen) TakeReturnedBuffers();
    if (phase_ == Phase::kOpen) PublishOut();
  }
  *lease = {};
}

Status coroipcc_connection::ReleaseLease(uint32_t channel) {
  if (!leases_[channel].held) return COROIPC_INVALID_ARGUMENT;
  EndLease(channel, &leases_[channel]);
  Finished();  // another thread may wait for the channel
  return COROIPC_OK;
}

// -- the C API ------------------------------------------------------------------------------------

namespace {

// A thread inside a blocking call: the connection stays until it has left.
class Caller {
 public:
  explicit Caller(coroipcc_connection& connection) : connection_(connection) {
    connection_.loop().Lock();
    ++connection_.callers;
  }
  ~Caller() {
    coroipcc_group& group = connection_.group;
    --connection_.callers;
    connection_.MaybeFree();
    const bool last = group.owned && group.objects == 0;
    group.Unlock();
    if (last) delete &group;  // it was disconnected while a thread or a lease kept it
  }
  Caller(const Caller&) = delete;
  Caller& operator=(const Caller&) = delete;

 private:
  coroipcc_connection& connection_;
};

}  // namespace

extern "C" {

coroipc_status coroipcc_request(struct coroipcc_connection* connection, uint16_t id,
                                const struct iovec* payload, uint32_t count, int32_t timeout_ms,
                                void* into, uint32_t into_bytes,
                                struct coroipcc_response* response) {
  uint32_t bytes = 0;
  struct coroipcc_response local;
  if (response == nullptr) response = &local;
  if (connection->forked()) return COROIPC_FORKED;
  if (!coroipc::GatherBytes(payload, count, &bytes)) return COROIPC_TOO_LARGE;
  const Caller caller(*connection);
  coroipc::Lease result;
  const Status status =
      connection->Call(id, payload, count, nullptr, 0, bytes, timeout_ms, response, &result);
  if (status != COROIPC_OK) return status;
  if (response->bytes > into_bytes) {
    if (connection->KeepResult(&result)) return COROIPC_TOO_LARGE;
    response->data = nullptr;
    return COROIPC_TOO_LARGE;
  }
  coroipc::CopyIn(into, static_cast<const uint8_t*>(response->data), response->bytes);
  connection->EndLease(kResponse, &result);
  response->data = into;
  response->in_segment = 0;
  return COROIPC_OK;
}

coroipc_status coroipcc_request_in_place(struct coroipcc_connection* connection, uint16_t id,
                                         const struct iovec* payload, uint32_t count,
                                         int32_t timeout_ms, struct coroipcc_response* response) {
  uint32_t bytes = 0;
  if (response == nullptr) return COROIPC_INVALID_ARGUMENT;
  if (connection->forked()) return COROIPC_FORKED;
  if (!coroipc::GatherBytes(payload, count, &bytes)) return COROIPC_TOO_LARGE;
  const Caller caller(*connection);
  if (connection->leased(kResponse)) return COROIPC_LEASE_HELD;
  coroipc::Lease result;
  const Status status =
      connection->Call(id, payload, count, nullptr, 0, bytes, timeout_ms, response, &result);
  if (status == COROIPC_OK) (void)connection->KeepResult(&result);
  return status;
}

coroipc_status coroipcc_request_buffer(struct coroipcc_connection* connection, uint16_t id,
                                       struct coroipc_buffer* buffer, uint32_t offset,
                                       uint32_t bytes, int32_t timeout_ms,
                                       struct coroipcc_response* response) {
  if (response == nullptr || buffer == nullptr) return COROIPC_INVALID_ARGUMENT;
  if (connection->forked()) return COROIPC_FORKED;
  const Caller caller(*connection);
  if (connection->leased(kResponse)) return COROIPC_LEASE_HELD;
  coroipc::Lease result;
  const Status status =
      connection->Call(id, nullptr, 0, buffer, offset, bytes, timeout_ms, response, &result);
  if (status == COROIPC_OK) (void)connection->KeepResult(&result);
  return status;
}

coroipc_status coroipcc_response_release(struct coroipcc_connection* connection) {
  if (connection->forked()) return COROIPC_FORKED;
  const Caller caller(*connection);
  return connection->ReleaseLease(kResponse);
}

coroipc_status coroipcc_dispatch_receive(struct coroipcc_connection* connection, int32_t timeout_ms,
                                         struct coroipcc_dispatch* dispatch) {
  if (dispatch == nullptr) return COROIPC_INVALID_ARGUMENT;
  if (connection->forked()) return COROIPC_FORKED;
  const Caller caller(*connection);
  return connection->NextDispatch(timeout_ms, dispatch);
}

coroipc_status coroipcc_dispatch_release(struct coroipcc_connection* connection) {
  if (connection->forked()) return COROIPC_FORKED;
  const Caller caller(*connection);
  return connection->ReleaseLease(kDispatch);
}

coroipc_status coroipcc_buffer_alloc(struct coroipcc_connection* connection, uint32_t bytes,
                                     int32_t timeout_ms, struct coroipc_buffer** buffer) {
  if (buffer == nullptr) return COROIPC_INVALID_ARGUMENT;
  if (connection->forked()) return COROIPC_FORKED;
  const Caller caller(*connection);
  return connection->CallForBuffer(bytes, timeout_ms, buffer);
}

}  // extern "C"
