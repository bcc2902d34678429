// client.cc: one connection as the client sees it: connecting, and everything up to its end.
#include "client.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>

#include "block.h"

using coroipc::Connection;
using coroipc::DeadlineNs;
using coroipc::kMillisecond;
using coroipc::kNever;
using coroipc::kRequest;
using coroipc::NowNs;
using coroipc::Pending;
using coroipc::Status;
using coroipc::Wants;

namespace {

constexpr uint32_t kRetryMsMax = 20;
constexpr uint32_t kRaisedBytesMax = 1u << 20;

}  // namespace

void coroipcc_group::OnTimer() {
  const uint64_t now = NowNs();
  for (size_t i = 0; i < connections().size(); ++i) {
    Connection* const connection = connections()[i];
    if (connection != nullptr) static_cast<coroipcc_connection*>(connection)->CheckDeadline(now);
  }
}

void coroipcc_group::OnEventTaken(const coroipc_entry& row) {
  const bool room = row.kind == COROIPC_KIND_ROOM;
  if (!room && (row.kind != COROIPC_KIND_SLOT_FREE || row.correlation != COROIPC_SLOT_ANY)) return;
  auto* const connection = static_cast<coroipcc_connection*>(at(row.connection));
  if (connection == nullptr) return;
  if (room)
    connection->RoomTold();
  else
    connection->SlotTold();
}

uint64_t coroipcc_group::WorthLookingNs() const { return awaited != 0 ? 200000 : 60000; }

// -- life -----------------------------------------------------------------------------------------

coroipcc_connection::coroipcc_connection(coroipcc_group& owner, const coroipcc_options& given,
                                         const char* where)
    : Connection(owner, false), group(owner), options(given), name(where) {
  number_ = loop_.Insert(this);
  ++group.objects;
  pthread_condattr_t attributes;
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  pthread_cond_init(&changed_, &attributes);
  pthread_condattr_destroy(&attributes);
}

coroipcc_connection::~coroipcc_connection() {
  for (std::list<coroipc::Kept>* kept : {&kept_answers_, &kept_dispatches_}) {
    for (const coroipc::Kept& one : *kept) coroipc::BlockFree(one.block);
  }
  pthread_cond_destroy(&changed_);
}

coroipc_entry coroipcc_connection::Row(uint32_t kind) const {
  coroipc_entry row = {};
  row.connection = number_;
  row.kind = kind;
  row.segment = COROIPC_SEGMENTS_MAX;
  return row;
}

Status coroipcc_connection::BeginConnect(int64_t timeout_ms, bool blocking) {
  blocking_connect_ = blocking;
  deadline_ns_ = DeadlineNs(timeout_ms);
  const Status status = TryConnect();
  const bool waits = status == COROIPC_OK || status == COROIPC_AGAIN;
  if (waits && !blocking && deadline_ns_ != kNever) loop_.DeadlineAt(deadline_ns_);
  return status == COROIPC_AGAIN ? COROIPC_OK : status;
}

// OK: the setup message is out. AGAIN: the server's backlog is full, retry_ns_ says when to try
// again.
Status coroipcc_connection::TryConnect() {
  retry_ns_ = kNever;
  Status last = COROIPC_CONNECT_REFUSED;
  for (uint32_t candidate = 0;; ++candidate) {
    coroipc::Address address;
    const Status resolved = coroipc::ResolveConnect(name.c_str(), candidate, &address);
    if (resolved == COROIPC_AGAIN) return last;
    if (resolved != COROIPC_OK) return resolved;
    coroipc::Fd fd;
    last = coroipc::Connect(address, &fd);
    if (last == COROIPC_CONNECT_REFUSED) continue;
    if (last == COROIPC_AGAIN) {
      retry_ns_ = NowNs() + retry_ms_ * kMillisecond;
      retry_ms_ = std::min(retry_ms_ * 2, kRetryMsMax);
      if (!blocking_connect_) loop_.DeadlineAt(retry_ns_);
      return COROIPC_AGAIN;
    }
    if (last != COROIPC_OK) return last;
    socket_ = std::move(fd);
    break;
  }
  if (const Status status = credentials_.FromPeer(socket_.get()); status != COROIPC_OK)
    return status;
  // Before the first byte is sent. A pid is checked after the reply, which may name another
  // process.
  if (options.require_uid != 0 && credentials_.view().uid != options.server_uid)
    return COROIPC_DENIED;
  terms_.request_ring_bytes = options.request_ring_bytes;
  terms_.response_ring_bytes = options.response_ring_bytes;
  terms_.dispatch_ring_bytes = options.dispatch_ring_bytes;
  terms_.message_bytes = options.message_bytes;
  terms_.requests_in_flight = options.requests_in_flight;
  const coroipc_setup_request request = coroipc::MakeSetupRequest(options.service, terms_);
  const Status sent = coroipc::SendMessage(socket_.get(), &request, sizeof request, -1, false);
  // A server that refused at once has closed already; its reply can still be read.
  if (sent != COROIPC_OK && sent != COROIPC_PEER_DEAD)
    return sent == COROIPC_AGAIN ? COROIPC_NO_MEMORY : sent;
  if (!blocking_connect_) {
    if (const Status status = loop_.Watch(socket_.get(), coroipc::Source::kSocket, number_, false);
        status != COROIPC_OK) {
      return status;
    }
    registered_ = true;
  }
  return COROIPC_OK;
}

Status coroipcc_connection::ServerIsWanted() const {
  const coroipc_credentials& server = credentials_.view();
  if (options.require_uid != 0 && server.uid != options.server_uid) return COROIPC_DENIED;
  if (options.require_pid != 0 && server.pid != options.server_pid) return COROIPC_DENIED;
  return COROIPC_OK;
}

// OK: open. AGAIN: no reply yet. Anything else: refused or broken.
Status coroipcc_connection::TakeReply() {
  coroipc_setup_reply reply;
  uint8_t bytes[sizeof reply + 8];
  coroipc::Received received;
  const Status status =
      coroipc::ReceiveMessage(socket_.get(), bytes, sizeof bytes, true, &received);
  if (status != COROIPC_OK) return status;
  if (const Status check =
          coroipc::CheckSetupReply(bytes, received.bytes, received.fd.valid(), &reply);
      check != COROIPC_OK) {
    return check;
  }
  if (received.has_credentials && received.credentials.pid > 0 &&
      received.credentials.pid != credentials_.view().pid) {
    if (const Status who = credentials_.Replace(received.credentials); who != COROIPC_OK)
      return who;
  }
  if (const Status who = ServerIsWanted(); who != COROIPC_OK) return who;
  if (const Status mapped =
          coroipc::Segment::Map(received.fd.get(), reply.segment_bytes, &segment_);
      mapped != COROIPC_OK) {
    return mapped;
  }
  if (const Status header =
          coroipc::CheckSegmentHeader(reinterpret_cast<coroipc_control*>(segment_.data()), reply);
      header != COROIPC_OK) {
    segment_.Unmap();
    return header;
  }
  // A server may raise a wish to its own floor; not to what this side could not bear.
  if (options.message_bytes != 0 &&
      reply.message_bytes_max > std::max(options.message_bytes, kRaisedBytesMax)) {
    segment_.Unmap();
    return COROIPC_PROTOCOL;
  }
  request_ring_bytes_ = reply.request_ring_bytes;
  response_ring_bytes_ = reply.response_ring_bytes;
  dispatch_ring_bytes_ = reply.dispatch_ring_bytes;
  message_bytes_ = reply.message_bytes_max;
  requests_in_flight_ = reply.requests_in_flight;
  segments_max_ = reply.segments_max;
  id_ = reply.connection_id;
  server_id_ = reply.server_id;
  if (!registered_) {
    if (const Status watched = loop_.Watch(socket_.get(), coroipc::Source::kSocket, number_, false);
        watched != COROIPC_OK) {
      return watched;
    }
  }
  registered_ = true;
  if (pidfd() >= 0) {
    if (const Status watched = loop_.Watch(pidfd(), coroipc::Source::kPidfd, number_, false);
        watched != COROIPC_OK) {
      return watched;
    }
  }
  if (const Status rings = InitRings(); rings != COROIPC_OK) return rings;
  watched_ = &control_->server.flow_control;
  slots_.Init(requests_in_flight_);
  next_slot_ = requests_in_flight_;
  segments_may_come_ = true;
  // Credentials beside every doorbell would cost the kernel a copy each; the reply's were the last
  // ones wanted.
  coroipc::StopCredentials(socket_.get());
  loop_.NotePeerCpus(credentials_.view().pid);
  deadline_ns_ = kNever;
  phase_ = Phase::kOpen;
  stats_.connections = 1;
  return COROIPC_OK;
}

bool coroipcc_connection::HandshakeTurn(coroipc::Sink& sink) {
  (void)sink;
  socket_unread_ = false;
  if (blocking_connect_ || !socket_.valid()) return false;
  const Status status = TakeReply();
  if (status == COROIPC_AGAIN) return false;
  if (status != COROIPC_OK) {
    End(status);
    return false;
  }
  loop_.PushEvent(Row(COROIPC_KIND_CONNECTED));
  loop_.MarkReady(*this);
  return false;
}

void coroipcc_connection::CheckDeadline(uint64_t now_ns) {
  if (phase_ != Phase::kSetup || blocking_connect_) return;
  if (deadline_ns_ <= now_ns) {
    End(COROIPC_TIMED_OUT);
    return;
  }
  if (retry_ns_ <= now_ns) {
    const Status status = TryConnect();
    if (status != COROIPC_OK && status != COROIPC_AGAIN) {
      End(status);
      return;
    }
  } else if (retry_ns_ != kNever) {
    loop_.DeadlineAt(retry_ns_);
  }
  if (deadline_ns_ != kNever) loop_.DeadlineAt(deadline_ns_);
}

// A server that ended in order has said how far it has read: what lies behind that it never will,
// and never has. One that died has said nothing: it may have been further than it told.
void coroipcc_connection::MarkUnread() {
  // ORDER read-to-the-end (seq_cst; pairs with Connection::End).
  if (coroipc::LoadSeqCst(control_->server.server_closed) != COROIPC_DISCONNECTED) return;
  out_[kRequest].ring.ForEachUnread([&](const coroipc_record& header) {
    if (header.kind != COROIPC_RECORD_REQUEST) return;
    const uint32_t slot = coroipc::SlotOf(header.correlation);
    if (!slots_.valid(slot)) return;
    Pending& pending = slots_.at(slot);
    if (pending.generation == coroipc::GenerationOf(header.correlation)) pending.unsent = true;
  });
}

void coroipcc_connection::OnEnded(Status why) {
  if (control_ == nullptr) {
    if (!blocking_connect_ && !closing) {
      coroipc_entry row = Row(COROIPC_KIND_CONNECT_FAILED);
      row.argument = static_cast<uint32_t>(why);
      loop_.PushEvent(row);
    }
    return;
  }
  stats_.connections = stats_.in_flight = stats_.flow_control = 0;
  stats_.backlog_messages = stats_.backlog_bytes = 0;
  // What was received before comes first, then what will never be answered, then the end.
  for (const coroipc::Kept& kept : kept_answers_) loop_.PushEvent(kept.row, kept.block);
  kept_answers_.clear();
  if (dispatch_flow) {
    for (const coroipc::Kept& kept : kept_dispatches_) loop_.PushEvent(kept.row, kept.block);
    kept_dispatches_.clear();
    kept_dispatch_bytes_ = 0;
  }
  for (coroipc::Outgoing* message = out_[kRequest].backlog.first(); message != nullptr;
       message = message->next) {
    if (message->header.kind != COROIPC_RECORD_REQUEST) continue;
    slots_.at(coroipc::SlotOf(message->header.correlation)).unsent = true;
  }
  MarkUnread();
  slots_.ForEach([&](uint32_t slot, Pending& pending) {
    const Status code = pending.unsent ? why : COROIPC_UNKNOWN_OUTCOME;
    switch (pending.wants) {
      case Wants::kRow:
      case Wants::kBufferRow: {
        const bool buffer = pending.wants == Wants::kBufferRow;
        coroipc_entry row = Row(buffer ? COROIPC_KIND_BUFFER : COROIPC_KIND_RESPONSE);
        row.correlation =
            slot < requests_in_flight_ ? slot : coroipc::Correlation(slot, pending.generation);
        row.argument = static_cast<uint32_t>(buffer ? why : code);
        loop_.PushEvent(row);
        break;
      }
      case Wants::kBlockingCall:
      case Wants::kBufferCall:
        pending.waiter->code = pending.wants == Wants::kBufferCall ? why : code;
        pending.waiter->done = true;
        break;
      default:
        break;
    }
    pending.wants = Wants::kNothing;
  });
  group.awaited -= in_flight_;
  in_flight_ = given_up_ = 0;
  coroipc_entry row = Row(COROIPC_KIND_DISCONNECTED);
  row.argument = static_cast<uint32_t>(why);
  loop_.PushEvent(row);
  if (closing) loop_.DropEvents(number_);
  SignalOwnFd();
  Finished();
}

void coroipcc_connection::Disconnect() {
  closing = true;
  if (phase_ != Phase::kEnded) {
    if (phase_ == Phase::kOpen) {
      FlushBacklogs();  // one-way messages that have room still go
      if (phase_ == Phase::kOpen) PublishOut();
    }
    if (phase_ != Phase::kEnded) End(COROIPC_DISCONNECTED);
  }
  loop_.DropEvents(number_);
  MaybeFree();
}

void coroipcc_connection::MaybeFree() {
  if (!closing || callers != 0 || leases_[0].held || leases_[1].held) return;
  closing = false;
  coroipcc_group& owner = group;
  --owner.objects;
  loop_.Bury(*this);
}

// -- small things ---------------------------------------------------------------------------------

int coroipcc_connection::flow_control() const {
  if (control_ == nullptr || phase_ != Phase::kOpen) return 0;
  return coroipc::LoadRelaxed(control_->server.flow_control) != 0 ? 1 : 0;
}

void coroipcc_connection::Stats(coroipc_stats* stats, bool clear) {
  *stats = stats_;
  if (!clear) return;
  const coroipc_stats kept = stats_;
  stats_ = {};
  stats_.backlog_messages = kept.backlog_messages;
  stats_.backlog_bytes = kept.backlog_bytes;
  stats_.in_flight = kept.in_flight;
  stats_.flow_control = kept.flow_control;
  stats_.segments = kept.segments;
  stats_.segment_bytes = kept.segment_bytes;
  stats_.connections = kept.connections;
}

void coroipcc_connection::SetDispatchFlow(bool on) {
  dispatch_flow = on;
  if (phase_ == Phase::kOpen) {
    loop_.MarkReady(*this);
  } else if (on && phase_ == Phase::kEnded) {
    // What came before the end and was not fetched is still owed.
    while (!kept_dispatches_.empty()) {
      loop_.PushEvent(kept_dispatches_.front().row, kept_dispatches_.front().block);
      kept_dispatches_.pop_front();
    }
    kept_dispatch_bytes_ = 0;
  }
}

int coroipcc_connection::PollFd() {
  if (own_epoll_.valid()) return own_epoll_.get();
  coroipc::Fd epoll(epoll_create1(EPOLL_CLOEXEC));
  coroipc::Fd event(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!epoll.valid() || !event.valid()) return -1;
  struct epoll_event watch = {};
  watch.events = EPOLLIN;
  if (epoll_ctl(epoll.get(), EPOLL_CTL_ADD, event.get(), &watch) != 0) return -1;
  watch.events = EPOLLIN | EPOLLRDHUP;
  if (socket_.valid() && epoll_ctl(epoll.get(), EPOLL_CTL_ADD, socket_.get(), &watch) != 0)
    return -1;
  if (pidfd() >= 0 && epoll_ctl(epoll.get(), EPOLL_CTL_ADD, pidfd(), &watch) != 0) return -1;
  own_epoll_ = std::move(epoll);
  own_event_ = std::move(event);
  // Nothing was armed for it before: readable until a receive function says AGAIN.
  SignalOwnFd();
  loop_.MarkReady(*this);
  return own_epoll_.get();
}

void coroipcc_connection::SignalOwnFd() {
  if (!own_event_.valid() || own_signalled_) return;
  own_signalled_ = true;
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(own_event_.get(), &one, sizeof one);
}
