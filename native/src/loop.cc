// loop.cc: lists, turns, budgets and the one fd to the outside.
#include "loop.h"

#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "block.h"

namespace coroipc {

namespace {
constexpr uint64_t kFdLookNs = 20000;    // sockets, deaths and deadlines are looked at this often
constexpr uint64_t kShortLookNs = 8000;  // before arming, whatever was learnt: a wake costs more
constexpr uint64_t kLongLookNs =
    60000;  // above the cost of a wake across CPUs looking does not pay
constexpr uint64_t kYieldNs = 4000;
constexpr uint64_t kSpinSliceNs = 50000;
constexpr uint64_t kRecentNs = 200000;
constexpr uint64_t kGapCapNs = 10 * kMillisecond;
constexpr uint32_t kDisarmMax = 64;
constexpr uint32_t kRungMax = 8;  // of those that were armed last, so many are asked by their words
constexpr uint32_t kByWordsMax = 8;  // so many times, then the fds
constexpr uint32_t kManyHot = 32;    // looking at this many takes longer than looking at the clock
constexpr uint32_t kAgePerTurn = 4;
constexpr uint32_t kFewReady = 16;    // so many have their turn at once
constexpr uint32_t kRefusedMax = 64;  // so many that find no room cost no turn of others
constexpr int kEventsPerLook = 64;

// pidfd_open(2): readable when the process has ended.
bool ProcessEnded(int pidfd) {
  struct pollfd ended = {.fd = pidfd, .events = POLLIN, .revents = 0};
  return poll(&ended, 1, 0) == 1;
}

class Inside {
 public:
  explicit Inside(bool& inside) : inside_(inside) { inside_ = true; }
  ~Inside() { inside_ = false; }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;

 private:
  bool& inside_;
};
}  // namespace

bool OneCpuShared(pid_t peer) {
  cpu_set_t own, other;
  CPU_ZERO(&own);
  CPU_ZERO(&other);
  if (sched_getaffinity(0, sizeof own, &own) != 0) return false;
  if (peer > 0 && sched_getaffinity(peer, sizeof other, &other) == 0) CPU_OR(&own, &own, &other);
  return CPU_COUNT(&own) <= 1;
}

Status Loop::Init(bool threads, int wait, const coroipcs_poll* poll) {
  threads_ = threads;
  wait_ = wait;
  one_cpu_ = OneCpuShared(0);
  now_ = NowNs();
  wake_.Reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake_.valid()) return SystemError("eventfd", errno);
  timer_.Reset(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!timer_.valid()) return SystemError("timerfd_create", errno);
  if (poll != nullptr) {
    poll_callbacks_ = *poll;
    poll_ = &poll_callbacks_;
  } else {
    epoll_.Reset(epoll_create1(EPOLL_CLOEXEC));
    if (!epoll_.valid()) return SystemError("epoll_create1", errno);
  }
  if (const Status status = Watch(wake_.get(), Source::kWake, 0, false); status != COROIPC_OK)
    return status;
  return Watch(timer_.get(), Source::kTimer, 0, false);
}

Loop::~Loop() {
  for (const Event& event : events_) BlockFree(event.block);
  if (poll_ != nullptr) {
    if (timer_.valid()) Unwatch(timer_.get(), Source::kTimer, 0);
    if (wake_.valid()) Unwatch(wake_.get(), Source::kWake, 0);
  }
  pthread_mutex_destroy(&mutex_);
}

// -- fds ------------------------------------------------------------------------------------------

Status Loop::Watch(int fd, Source source, uint32_t number, bool writable) {
  const Status status = AddToPoll(fd, source, number, writable);
  if (status != COROIPC_OK) return status;
  // Only what was added is taken off again: an application's poll system would not know the fd.
  if (source == Source::kSocket) at(number)->socket_watched = true;
  if (source == Source::kPidfd) at(number)->pidfd_watched = true;
  return COROIPC_OK;
}

Status Loop::AddToPoll(int fd, Source source, uint32_t number, bool writable) {
  const uint64_t cookie = Cookie(source, number);
  if (poll_ != nullptr) {
    const int events = POLLIN | (writable ? POLLOUT : 0);
    const int result =
        source == Source::kListener
            ? (poll_->accept_add == nullptr ? 0 : poll_->accept_add(fd, cookie, poll_->context))
            : (poll_->dispatch_add == nullptr
                   ? 0
                   : poll_->dispatch_add(fd, events, cookie, poll_->context));
    return result == 0 ? COROIPC_OK : COROIPC_NO_MEMORY;
  }
  struct epoll_event event = {};
  event.events =
      EPOLLIN | (source == Source::kSocket ? EPOLLRDHUP : 0u) | (writable ? EPOLLOUT : 0u);
  event.data.u64 = cookie;
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
    return SystemError("epoll_ctl", errno);
  return COROIPC_OK;
}

void Loop::Unwatch(int fd, Source source, uint32_t number) {
  if (fd < 0) return;
  if (poll_ != nullptr) {
    if (poll_->dispatch_destroy != nullptr) {
      poll_->dispatch_destroy(fd, Cookie(source, number), poll_->context);
    }
    return;
  }
  struct epoll_event event = {};  // required before Linux 2.6.9, epoll_ctl(2) BUGS
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, &event);
}

bool Loop::WatchWritable(Connection& connection, bool on) {
  if (connection.write_watched == on) return true;
  if (!connection.socket_watched) return false;
  const uint64_t cookie = Cookie(Source::kSocket, connection.number());
  if (poll_ != nullptr) {
    const int events = POLLIN | (on ? POLLOUT : 0);
    if (poll_->dispatch_modify == nullptr ||
        poll_->dispatch_modify(connection.socket(), events, cookie, poll_->context) != 0)
      return false;
  } else {
    struct epoll_event event = {};
    event.events = EPOLLIN | EPOLLRDHUP | (on ? EPOLLOUT : 0u);
    event.data.u64 = cookie;
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, connection.socket(), &event) != 0) return false;
  }
  connection.write_watched = on;
  return true;
}

void Loop::LookAtFds() {
  looked_at_fds_ = now_;
  by_words_ = 0;
  if (poll_ != nullptr) return;  // the application looks
  if (std::exchange(slept_, false)) return;
  struct epoll_event events[kEventsPerLook];
  HandleEvents(events, epoll_wait(epoll_.get(), events, kEventsPerLook, 0));
}

void Loop::HandleEvents(const struct epoll_event* events, int count) {
  for (int i = 0; i < count; ++i) HandleEvent(events[i].data.u64, events[i].events);
  if (count == kEventsPerLook) looked_at_fds_ = 0;  // there may be more: look again next turn
}

void Loop::HandleEvent(uint64_t cookie, uint32_t events) {
  const auto number = static_cast<uint32_t>(cookie);
  switch (static_cast<Source>(cookie >> 32)) {
    case Source::kListener:
      OnListenerReady();
      return;
    case Source::kWake:
      // While it is our own mark for "there is work", it stays until there is none.
      woken_ = true;
      if (!signalled_) ClearSignal();
      return;
    case Source::kTimer:
      RunTimer();
      return;
    case Source::kSocket:
      if (Connection* const connection = at(number); connection != nullptr) {
        if ((events & POLLOUT) != 0) (void)WatchWritable(*connection, false);
        // Or hung up: reading tells which.
        connection->SocketReadable((events & (POLLHUP | POLLRDHUP | POLLERR)) != 0);
        MarkReady(*connection);
      }
      return;
    case Source::kPidfd:
      // Looked at again: an event may be older than the connection that has this number now, and an
      // application's poll system may say `ready` more often than it is.
      if (Connection* const connection = at(number);
          connection != nullptr && ProcessEnded(connection->pidfd())) {
        connection->HangUp(true);
        MarkReady(*connection);
      }
      return;
  }
}

Status Loop::Ready(uint64_t cookie, uint32_t events) {
  Guard guard(*this);
  const Inside inside(inside_);
  now_ = NowNs();
  HandleEvent(cookie, events);
  return COROIPC_OK;
}

void Loop::Wake() {
  if (wake_written_.exchange(true, std::memory_order_seq_cst)) return;
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(wake_.get(), &one, sizeof one);
}

void Loop::SignalReady() {
  signalled_ = true;
  Wake();
}

void Loop::ClearSignal() {
  signalled_ = false;
  if (!wake_written_.load(std::memory_order_seq_cst)) return;
  uint64_t count;
  // Read first, then allow the next write: the other way round could swallow it.
  [[maybe_unused]] const ssize_t taken = read(wake_.get(), &count, sizeof count);
  wake_written_.store(false, std::memory_order_seq_cst);
}

// -- timer ----------------------------------------------------------------------------------------

void Loop::DeadlineAt(uint64_t deadline_ns) {
  if (deadline_ns < deadline_) {
    deadline_ = deadline_ns;
    RearmTimer();
  }
}

void Loop::DoorbellOwed(uint64_t retry_ns) {
  owed_at_ = std::min(owed_at_, retry_ns);
  DeadlineAt(retry_ns);
}

void Loop::RearmTimer() {
  if (deadline_ >= timer_set_) return;  // an early tick is harmless, a late one is not
  timer_set_ = deadline_;
  struct itimerspec when = {};
  when.it_value.tv_sec = static_cast<time_t>(deadline_ / 1000000000u);
  when.it_value.tv_nsec = static_cast<long>(deadline_ % 1000000000u);
  if (when.it_value.tv_sec == 0 && when.it_value.tv_nsec == 0) when.it_value.tv_nsec = 1;
  timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &when, nullptr);
}

void Loop::RunTimer() {
  uint64_t expirations;
  [[maybe_unused]] const ssize_t taken = read(timer_.get(), &expirations, sizeof expirations);
  timer_set_ = kNever;
  deadline_ = kNever;
  now_ = NowNs();
  if (owed_at_ <= now_) {
    owed_at_ = kNever;
    for (Connection* connection : connections_) {
      if (connection != nullptr && connection->doorbell_owed()) connection->RetryDoorbell();
    }
  } else if (owed_at_ != kNever) {
    DeadlineAt(owed_at_);
  }
  OnTimer();
  RearmTimer();
}

// -- lists ----------------------------------------------------------------------------------------

Loop::List& Loop::ListOf(const Connection& connection) {
  if (connection.list == Connection::List::kReady) return ready_[connection.priority];
  return connection.list == Connection::List::kHot ? hot_ : armed_;
}

void Loop::Push(List& list, Connection& connection, Connection::List name) {
  connection.list = name;
  connection.list_next = nullptr;
  connection.list_previous = list.last;
  if (list.last == nullptr) {
    list.first = &connection;
  } else {
    list.last->list_next = &connection;
  }
  list.last = &connection;
  ++list.count;
}

void Loop::Insert(List& list, Connection* previous, Connection& connection, Connection::List name) {
  connection.list = name;
  Connection*& next = previous == nullptr ? list.first : previous->list_next;
  connection.list_previous = previous;
  connection.list_next = next;
  (next == nullptr ? list.last : next->list_previous) = &connection;
  next = &connection;
  ++list.count;
}

void Loop::Remove(Connection& connection) {
  if (connection.list == Connection::List::kNone) return;
  List& list = ListOf(connection);
  (connection.list_previous == nullptr ? list.first : connection.list_previous->list_next) =
      connection.list_next;
  (connection.list_next == nullptr ? list.last : connection.list_next->list_previous) =
      connection.list_previous;
  --list.count;
  connection.list = Connection::List::kNone;
  connection.list_next = connection.list_previous = nullptr;
}

void Loop::MarkReady(Connection& connection) {
  if (connection.list == Connection::List::kReady ||
      connection.phase() == Connection::Phase::kEnded)
    return;
  const bool armed = connection.list == Connection::List::kArmed;
  if (armed) connection.Disarm();
  Remove(connection);
  Push(ready_[connection.priority], connection, Connection::List::kReady);
  if (!inside_) Wake();  // somebody may be asleep, or about to sleep, over what was armed
}

void Loop::SetPriority(Connection& connection, uint8_t priority) {
  const bool ready = connection.list == Connection::List::kReady;
  if (ready) Remove(connection);  // the lists of ready ones go by priority
  connection.priority = priority;
  if (ready) Push(ready_[priority], connection, Connection::List::kReady);
}

void Loop::Forget(Connection& connection) {
  Remove(connection);
  if (connection.socket_watched) Unwatch(connection.socket(), Source::kSocket, connection.number());
  if (connection.pidfd_watched) Unwatch(connection.pidfd(), Source::kPidfd, connection.number());
  connection.socket_watched = connection.pidfd_watched = connection.write_watched = false;
}

uint32_t Loop::Insert(Connection* connection) {
  if (!free_numbers_.empty()) {
    const uint32_t number = free_numbers_.back();
    free_numbers_.pop_back();
    connections_[number] = connection;
    return number;
  }
  connections_.push_back(connection);
  return static_cast<uint32_t>(connections_.size() - 1);
}

void Loop::Bury(Connection& connection) {
  const uint32_t number = connection.number();
  connections_[number] = nullptr;
  free_numbers_.push_back(number);
  buried_.push_back(&connection);
}

void Loop::FreeBuried() {
  while (!buried_.empty()) {
    Connection* const connection = buried_.back();
    buried_.pop_back();
    delete connection;
  }
}

void Loop::HandOutEvents(BatchSink& sink) {
  while (!events_.empty()) {
    const Event event = events_.front();
    if (!sink.Give(event.row, event.block)) return;
    events_.pop_front();
    OnEventTaken(event.row);
  }
}

void Loop::DropEvents(uint32_t number) {
  for (auto event = events_.begin(); event != events_.end();) {
    if (event->row.connection != number) {
      ++event;
      continue;
    }
    BlockFree(event->block);
    event = events_.erase(event);
  }
}

bool Loop::TakeEvent(uint32_t kind, coroipc_entry* row) {
  const auto found = std::find_if(events_.begin(), events_.end(),
                                  [&](const Event& event) { return event.row.kind == kind; });
  if (found == events_.end()) return false;
  *row = found->row;
  BlockFree(found->block);
  events_.erase(found);
  return true;
}

void Loop::MarkArmed(Connection& connection) {
  Remove(connection);
  Push(armed_, connection, Connection::List::kArmed);
}

void Loop::BuffersReturned(Connection& connection) {
  (void)connection;
  if (!returns_pending_.exchange(true, std::memory_order_seq_cst)) Wake();
}

void Loop::TakeReturns() {
  // Exchange and not a store: what was returned by who set it is seen by the turns that follow.
  if (!returns_pending_.load(std::memory_order_relaxed)) return;
  if (!returns_pending_.exchange(false, std::memory_order_seq_cst)) return;
  for (Connection* connection : connections_) {
    if (connection != nullptr && connection->phase() == Connection::Phase::kOpen)
      MarkReady(*connection);
  }
}

// -- turns ----------------------------------------------------------------------------------------

bool Loop::LookAtHot() {
  bool found = false;
  for (Connection* connection = hot_.first; connection != nullptr;) {
    Connection* const next = connection->list_next;
    if (connection->Look()) {
      Remove(*connection);
      Push(ready_[connection->priority], *connection, Connection::List::kReady);
      found = true;
    }
    connection = next;
  }
  return found;
}

// It is on no list; arming may find its peer dead, and puts it on the ready list itself then.
void Loop::ArmOrList(Connection& connection) {
  const bool armed = connection.Arm();
  if (connection.list != Connection::List::kNone) return;
  if (armed) {
    Push(armed_, connection, Connection::List::kArmed);
  } else {
    Push(ready_[connection.priority], connection, Connection::List::kReady);
  }
}

// Whoever was armed last is the likeliest to have woken us. Words say so without the system call
// that asks the fds, where it was one; what else there is keeps its fd readable, and waits for a
// few such turns at most.
bool Loop::RungByWords() {
  if (poll_ != nullptr || slept_ || AnyReady() || by_words_ == kByWordsMax) return false;
  ++by_words_;
  Connection* connection = armed_.last;
  for (uint32_t n = 0; n < kRungMax && connection != nullptr; ++n) {
    Connection* const previous = connection->list_previous;
    if (connection->RungByWords()) MarkReady(*connection);
    connection = previous;
  }
  return ReadyCount() == 1;
}

// Under steady work Look never comes to its end, where idle ones are armed: a few of the oldest
// each turn.
void Loop::AgeHot() {
  for (uint32_t n = 0; n < kAgePerTurn && hot_.first != nullptr; ++n) {
    Connection& connection = *hot_.first;
    if (now_ - std::min(now_, connection.active_ns) < kRecentNs) return;
    Remove(connection);
    ArmOrList(connection);
  }
}

void Loop::WorkFound() {
  if (idle_since_ == 0) return;
  const uint64_t gap = std::min(now_ - std::min(now_, idle_since_), kGapCapNs);
  gap_ns_ = gap_ns_ - gap_ns_ / 8 + gap / 8;
  idle_since_ = 0;
}

Status Loop::Receive(coroipc_batch* batch, bool look_at_fds) {
  if (forked()) return COROIPC_FORKED;
  Guard guard(*this);
  batch->count = 0;
  batch->arena_used = 0;
  batch->large_used = 0;
  const Inside inside(inside_);
  // A look that waited has just read the clock.
  if (look_at_fds || !clock_fresh_) now_ = NowNs();
  clock_fresh_ = false;
  FreeBuried();
  TakeReturns();
  if (look_at_fds && RungByWords()) {
    looked_at_fds_ = now_;
  } else if (look_at_fds || now_ - looked_at_fds_ > kFdLookNs) {
    LookAtFds();
  }
  // Look has just done it when it found something; under steady work nobody else does.
  if (!AnyReady() || (turn_ & 3u) == 0) LookAtHot();
  BatchSink sink(batch);
  HandOutEvents(sink);
  if (AnyReady()) WorkFound();
  if (events_.empty()) {
    // Half of the turns start lower, so that no priority starves when the ones above fill the
    // batch.
    static constexpr uint8_t kOrder[4][3] = {{0, 1, 2}, {2, 1, 0}, {1, 2, 0}, {2, 1, 0}};
    ++turn_;
    // Of many, half a turn at a time, as of many messages of one (TurnCap): their peers go on with
    // these while the others are served.
    uint32_t turns = std::max(kFewReady, ReadyCount() / 2);
    const bool many = ReadyCount() > 1;
    for (const uint8_t priority : kOrder[turn_ & 3u]) {
      List& list = ready_[priority];
      // Who found no room stays where it is, in front of those who have their turn behind it: the
      // next arena is theirs before anybody else's. At the end it would find none again, for ever.
      Connection* refused = nullptr;
      uint32_t refusals = 0;
      for (uint32_t n = list.count; n != 0 && turns != 0 && !sink.full(); --n, --turns) {
        Connection* const next = refused == nullptr ? list.first : refused->list_next;
        if (next == nullptr) break;
        Connection& connection = *next;
        Remove(connection);
        const uint32_t number = connection.number();
        const uint32_t before = batch->count;
        sink.Begin(many);
        const bool more = connection.Turn(sink, 0);
        const bool no_room = sink.TakeRefused() && batch->count == before;
        // It may have ended, and an ended one that nobody holds is gone.
        if (at(number) != &connection || connection.phase() == Connection::Phase::kEnded) continue;
        if (connection.list != Connection::List::kNone) continue;  // put back by itself
        if (more && no_room) {
          Insert(list, refused, connection, Connection::List::kReady);
          refused = &connection;
          if (++refusals <= kRefusedMax) ++turns;
        } else if (more) {
          Push(ready_[connection.priority], connection, Connection::List::kReady);
        } else if (connection.phase() == Connection::Phase::kOpen) {
          Push(hot_, connection, Connection::List::kHot);
        }
      }
    }
  }
  sink.Begin(false);
  // Ends of turns make events: hand them out now when there is room, else next time.
  AgeHot();
  HandOutEvents(sink);
  const bool more = AnyReady() || !events_.empty();
  if (!more) {
    if (signalled_) ClearSignal();
    if (idle_since_ == 0) idle_since_ = now_;
  }
  return more ? COROIPC_AGAIN : COROIPC_OK;
}

uint64_t Loop::Budget(uint64_t asked) {
  if (hot_.count == 0 || one_cpu_) return 0;
  if (wait_ == COROIPC_WAIT_SLEEP) return 0;
  // The one that was served last is the likeliest to come: if it cannot run while we look, sleep at
  // once.
  if (hot_.last->PeerOnThisCpu()) return 0;
  if (wait_ == COROIPC_WAIT_SPIN) return asked;
  // Worth looking when the next message is expected sooner than a wake would take; now and then
  // anyway, or two sides that both sleep learn nothing but how long two wakes take. As long as a
  // wake costs, and not as long as the gaps were: what holds up a busy peer is its garbage
  // collector, and that takes longer than any gap between its messages.
  const bool probe = (++looks_ & 15u) == 0;
  const bool worth = gap_ns_ <= WorthLookingNs() || probe;
  return std::min(asked, worth ? kLongLookNs : kShortLookNs);
}

Status Loop::Look(uint64_t budget_ns) {
  if (forked()) return COROIPC_FORKED;
  Guard guard(*this);
  const Inside inside(inside_);
  woken_ = false;
  TakeReturns();
  if (AnyReady() || !events_.empty()) {
    if (budget_ns == 0) SignalReady();
    return COROIPC_AGAIN;
  }
  if (LookAtHot()) {  // Receive reads the clock, and learns from it
    if (budget_ns == 0) SignalReady();
    return COROIPC_AGAIN;
  }
  const uint64_t budget = Budget(budget_ns);
  if (budget != 0) {
    const uint64_t start = NowNs();
    now_ = start;
    clock_fresh_ = true;
    if (idle_since_ == 0) idle_since_ = start;
    uint64_t fds = start;
    uint64_t yield_at = start + kYieldNs;
    for (uint32_t n = 1;; ++n) {
      if (LookAtHot()) return COROIPC_AGAIN;
      if (threads_) {
        // Others may send meanwhile; nothing below relies on what was seen before.
        inside_ = false;
        Unlock();
        Pause();
        Lock();
        inside_ = true;
        if (AnyReady() || !events_.empty()) return COROIPC_AGAIN;
      } else {
        Pause();
      }
      if (hot_.count < kManyHot && (n & 15u) != 0) continue;
      now_ = NowNs();
      if (now_ - start >= budget) break;
      if (now_ >= yield_at) {
        // A peer that was woken onto this CPU waits for us to let go. Costs 0.3 us where none does.
        sched_yield();
        yield_at = now_ + kYieldNs;
      }
      if (now_ - fds >= kSpinSliceNs) {
        fds = now_;
        LookAtFds();
        if (AnyReady() || !events_.empty() || woken_) return COROIPC_AGAIN;
      }
    }
    if (wait_ == COROIPC_WAIT_SPIN) {
      SignalReady();  // never sleeps: the next poll returns at once
      return COROIPC_AGAIN;
    }
  }
  armed_ns_ = budget != 0 ? now_ : NowNs();  // who did not look has an old clock
  for (Connection* connection = hot_.first; connection != nullptr;) {
    Connection* const next = connection->list_next;
    Remove(*connection);
    ArmOrList(*connection);
    connection = next;
  }
  if (AnyReady()) {
    SignalReady();
    return COROIPC_AGAIN;
  }
  if (signalled_) ClearSignal();
  // A wake that came while the mark was being cleared wrote nothing: look for its reason.
  if (returns_pending_.load(std::memory_order_seq_cst)) {
    SignalReady();
    return COROIPC_AGAIN;
  }
  return COROIPC_OK;
}

void Loop::DisarmRecent() {
  Guard guard(*this);
  if (one_cpu_ || wait_ == COROIPC_WAIT_SLEEP) return;
  // Recent when this loop fell asleep: how long it slept says nothing about who comes next. The
  // armed list is in the order of arming: the most recent ones are at its end.
  Connection* connection = armed_.last;
  for (uint32_t n = 0; n < kDisarmMax && connection != nullptr; ++n) {
    Connection* const previous = connection->list_previous;
    if (armed_ns_ - std::min(armed_ns_, connection->active_ns) < kRecentNs) {
      connection->Disarm();
      Remove(*connection);
      Push(hot_, *connection, Connection::List::kHot);
    }
    connection = previous;
  }
}

Status Loop::Sleep(int timeout_ms) {
  // Not poll(2) on the epoll's fd: its wake would go through two queues, and what woke us would
  // have to be asked for by a call of its own.
  struct epoll_event events[kEventsPerLook];
  const int count = epoll_wait(epoll_.get(), events, kEventsPerLook, timeout_ms);
  if (count == 0) return COROIPC_TIMED_OUT;
  if (count < 0) return COROIPC_AGAIN;  // EINTR: every wake is a hint
  Guard guard(*this);
  const Inside inside(inside_);
  now_ = NowNs();
  looked_at_fds_ = now_;
  HandleEvents(events, count);
  slept_ = true;
  return COROIPC_AGAIN;
}

Status Loop::Wait(int timeout_ms) {
  if (poll_ != nullptr) return COROIPC_INVALID_ARGUMENT;  // the application sleeps
  if (const Status status = Look(UINT64_MAX); status != COROIPC_OK) return status;
  return Sleep(timeout_ms);
}

}  // namespace coroipc
