// loop.h: serves many connections of one side: which have work, whose turn it is, when it is safe
// to sleep. A server is one loop, a client group is one loop.
//
// To the outside it is one epoll fd, or, with poll callbacks, the fds themselves. Inside: a ready
// list per priority, a hot list (unarmed, to be looked at before sleeping), one timerfd for all
// deadlines, one eventfd that keeps the epoll fd readable while there is work and wakes a sleeping
// loop from another thread.
//
// One call of Receive is a turn: it looks at the fds when the last look is older than 20 us, looks
// at the hot connections, then gives each ready one a bounded turn, starting where the last one
// stopped.
#ifndef COROIPC_SRC_LOOP_H
#define COROIPC_SRC_LOOP_H

#include <coroipc/coroipcs.h>
#include <coroipc/types.h>
#include <pthread.h>

#include <atomic>
#include <deque>
#include <vector>

#include "clock.h"
#include "connection.h"
#include "fd.h"
#include "fork_guard.h"
#include "status.h"

struct epoll_event;

namespace coroipc {

// What an fd is; the upper half of a cookie. The lower half is a connection's number.
enum class Source : uint32_t { kListener = 0, kWake = 1, kTimer = 2, kSocket = 3, kPidfd = 4 };

inline uint64_t Cookie(Source source, uint32_t number) {
  return (static_cast<uint64_t>(source) << 32) | number;
}

// Whether this thread and that process can only ever run on one and the same CPU: looking while the
// other cannot run burns its time. sched_getaffinity(2); a process of another namespace (0) counts
// as ours.
bool OneCpuShared(pid_t peer);

class Loop {
 public:
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  // A lock when several threads may call, nothing otherwise.
  class Guard {
   public:
    explicit Guard(Loop& loop) : loop_(loop) { loop_.Lock(); }
    ~Guard() { loop_.Unlock(); }
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;

   private:
    Loop& loop_;
  };
  void Lock() {
    if (threads_) pthread_mutex_lock(&mutex_);
  }
  void Unlock() {
    if (threads_) pthread_mutex_unlock(&mutex_);
  }
  bool threads() const { return threads_; }
  bool forked() const { return guard_.forked(); }  // a child must not touch its parent's
  pthread_mutex_t* mutex() { return &mutex_; }

  int fd() const { return epoll_.get(); }
  Status Receive(coroipc_batch* batch, bool look_at_fds);
  Status Look(uint64_t budget_ns);
  void DisarmRecent();
  Status Wait(int timeout_ms);
  // On the fds, everything being armed. AGAIN: they have been looked at.
  Status Sleep(int timeout_ms);
  // What a poll said about one fd.
  Status Ready(uint64_t cookie, uint32_t events);
  void Wake();  // any thread, signal handlers

  // -- for connections --
  void MarkReady(Connection& connection);
  void SetPriority(Connection& connection, uint8_t priority);
  void Forget(Connection& connection);  // off every list, its fds off the poll
  void DoorbellOwed(uint64_t retry_ns);
  void BuffersReturned(Connection& connection);  // any thread
  void DeadlineAt(uint64_t deadline_ns);         // OnTimer runs at or after it
  Status Watch(int fd, Source source, uint32_t number, bool writable);
  void Unwatch(int fd, Source source, uint32_t number);
  // Whether room on the connection's socket gives it a turn, once. False: the poll cannot say it.
  bool WatchWritable(Connection& connection, bool on);
  // A row for the next receive; `block` is its payload, if any.
  void PushEvent(const coroipc_entry& row, void* block = nullptr) {
    events_.push_back({row, block});
    if (!inside_) Wake();  // the loop may be asleep over what it knew before
  }
  void DropEvents(uint32_t number);  // nobody wants to hear of this connection any more
  // The connection was armed by its own caller, not by Look.
  void MarkArmed(Connection& connection);
  uint64_t now() const { return now_; }
  Connection* at(uint32_t number) const {
    return number < connections_.size() ? connections_[number] : nullptr;
  }
  uint32_t Insert(Connection* connection);
  // Takes its number away now and frees it before the next turn: callers up the stack may still
  // look at it.
  void Bury(Connection& connection);
  const std::vector<Connection*>& connections() const { return connections_; }
  bool one_cpu() const { return one_cpu_; }
  // A peer that may run elsewhere makes looking worth it.
  void NotePeerCpus(pid_t peer) {
    if (one_cpu_) one_cpu_ = OneCpuShared(peer);
  }
  int wait() const { return wait_; }
  void Log(int level, const char* text) const {
    if (log_ != nullptr) log_(log_context_, level, text);
  }

 protected:
  Loop() = default;
  ~Loop();
  Status Init(bool threads, int wait, const coroipcs_poll* poll);
  virtual void OnListenerReady() {}
  virtual void OnTimer() {}
  // Expected idle spells up to this are looked through. A client that waits for answers pays for
  // two wakes if it sleeps, its own and then its server's.
  virtual uint64_t WorthLookingNs() const { return 60000; }
  virtual void OnEventTaken(const coroipc_entry& row) { (void)row; }
  void FreeBuried();
  void ClearConnections() { connections_.clear(); }
  // Takes the next row of this kind out of those that wait; false: there is none.
  bool TakeEvent(uint32_t kind, coroipc_entry* row);

  coroipc_log_fn log_ = nullptr;
  void* log_context_ = nullptr;

 private:
  struct List {
    Connection* first = nullptr;
    Connection* last = nullptr;
    uint32_t count = 0;
  };
  void Push(List& list, Connection& connection, Connection::List name);
  // Behind `previous`, or first.
  void Insert(List& list, Connection* previous, Connection& connection, Connection::List name);
  void Remove(Connection& connection);
  List& ListOf(const Connection& connection);
  Status AddToPoll(int fd, Source source, uint32_t number, bool writable);
  void LookAtFds();
  void HandleEvents(const struct epoll_event* events, int count);
  void HandleEvent(uint64_t cookie, uint32_t events);
  void RunTimer();
  void HandOutEvents(BatchSink& sink);
  void RearmTimer();
  void TakeReturns();
  uint32_t ReadyCount() const { return ready_[0].count + ready_[1].count + ready_[2].count; }
  bool AnyReady() const { return ReadyCount() != 0; }
  bool LookAtHot();
  bool RungByWords();
  void AgeHot();
  void ArmOrList(Connection& connection);
  void SignalReady();
  void ClearSignal();
  uint64_t Budget(uint64_t asked);
  uint32_t looks_ = 0;
  void WorkFound();

  ForkGuard guard_;
  bool threads_ = false;
  int wait_ = COROIPC_WAIT_ADAPTIVE;
  bool one_cpu_ = false;
  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  const coroipcs_poll* poll_ = nullptr;
  coroipcs_poll poll_callbacks_ = {};
  Fd epoll_, wake_, timer_;
  std::vector<Connection*> connections_;
  std::vector<uint32_t> free_numbers_;
  std::vector<Connection*> buried_;
  bool inside_ = false;  // the lock's holder is the loop itself: nobody needs waking
  struct Event {
    coroipc_entry row;
    void* block;
  };
  std::deque<Event> events_;
  List ready_[3];
  List hot_;
  List armed_;
  uint32_t turn_ = 0;
  uint64_t now_ = 0;
  bool clock_fresh_ = false;
  uint64_t looked_at_fds_ = 0;
  uint32_t by_words_ = 0;        // turns since then that looked at words only
  bool slept_ = false;           // the sleep that has just ended has looked at the fds
  uint64_t deadline_ = kNever;   // earliest wanted
  uint64_t timer_set_ = kNever;  // what the timerfd is set to
  uint64_t owed_at_ = kNever;
  bool signalled_ = false;
  bool woken_ = false;  // by somebody else, since the look began
  std::atomic<bool> wake_written_{false};
  std::atomic<bool> returns_pending_{false};
  uint64_t idle_since_ = 0;  // 0: not idle
  uint64_t armed_ns_ = 0;    // when everything was armed last
  uint64_t gap_ns_ = 20000;  // learnt: how long an idle spell lasts
};

}  // namespace coroipc

#endif
