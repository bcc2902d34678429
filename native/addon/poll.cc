// poll.cc: drives the loops of one environment from libuv. The only file that knows libuv.
//
//   uv_prepare   before libuv sleeps: look at the lately active connections for a bounded moment;
//   what comes is
//                received, handled in JavaScript and answered without any system call. When nothing
//                comes, the core has armed everything and libuv may sleep on the fds.
//   uv_poll      one fd for each loop: something rang, timed out or died while libuv slept
//   uv_check     after libuv slept: disarm, so that busy peers need not ring
//   uv_idle      only for one turn, when prepare leaves while there is work: libuv then does not
//   sleep, and nothing
//                needs to be armed
//
// The look is bounded by what else is due: it ends when a timer, an immediate or a closing handle
// is, when libuv's own fd is readable, and after a millisecond of work. Prepare, check and idle are
// one each for the environment, so that two loops (a client of one server that is itself one) share
// the moment instead of taking it one after the other. They never keep the process alive: only
// uv_poll does, and ref() and unref() mean that one.
#include "poll.h"

#include <poll.h>
#include <time.h>
#include <uv.h>

#include <memory>
#include <vector>

#include "environment.h"
#include "event_loop.h"

namespace coroipc_addon {

namespace {

constexpr uint64_t kMicrosecond = 1000;
constexpr uint64_t kMillisecond = 1000 * kMicrosecond;
// Work in prepare goes on for this long; then libuv has its turn, without sleeping.
constexpr uint64_t kTurn = kMillisecond;
// How often work looks whether something else is due; the longest look, too.
constexpr uint64_t kLookAround = 20 * kMicrosecond;
constexpr uint64_t kLook = 60 * kMicrosecond;
// Two loops and more look by turns of this length, for as long as one alone would in all.
constexpr uint64_t kSharedLook = 5 * kMicrosecond;
// The shortest look that leaves the core's fd alone. Zero would make it readable when there is
// work, by a system call; that is needed only where libuv might sleep then, and here uv_idle sees
// to it that it does not.
constexpr uint64_t kGlance = 1;
// Batches for one uv_poll callback.
constexpr int kBatches = 16;
constexpr uint32_t kRoundsPerClock = 4;

uint64_t Now() {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<uint64_t>(time.tv_sec) * 1000 * kMillisecond +
         static_cast<uint64_t>(time.tv_nsec);
}

uint64_t Least(uint64_t a, uint64_t b) { return a < b ? a : b; }

}  // namespace

struct Poll::Parts {
  struct Watcher {
    uv_poll_t handle;
    EventLoop* loop;  // nullptr once it is closing
    Parts* parts;
  };

  Environment* environment;
  uv_loop_t* uv;
  Poll* owner;
  uv_prepare_t prepare;
  uv_check_t check;
  uv_idle_t idle;
  uint32_t open = 0;  // libuv handles that are not closed yet
  bool closing = false;
  uint32_t turn = 0;  // which loop is first
  std::vector<Watcher*> watchers;

  Watcher* Find(const EventLoop& loop);
  void Forget();  // watchers that are closing
  void OnPrepare();
  void OnCheck();
  void Disarm();
  bool Due(uint64_t* sleep_ns);
  template <typename T>
  void CloseHandle(T* handle, uv_close_cb callback) {
    uv_close(reinterpret_cast<uv_handle_t*>(handle), callback);
  }
  void Closed();
};

Poll* Poll::Create(Environment& environment) {
  uv_loop_s* uv = nullptr;
  if (napi_get_uv_event_loop(environment.env(), &uv) != napi_ok) return nullptr;
  auto* parts = new Parts;
  parts->environment = &environment;
  parts->uv = uv;
  parts->owner = new Poll(parts);
  // None of these can fail (uv_prepare_init and its sisters return 0).
  uv_prepare_init(uv, &parts->prepare);
  uv_check_init(uv, &parts->check);
  uv_idle_init(uv, &parts->idle);
  parts->prepare.data = parts->check.data = parts->idle.data = parts;
  uv_unref(reinterpret_cast<uv_handle_t*>(&parts->prepare));
  uv_unref(reinterpret_cast<uv_handle_t*>(&parts->check));
  uv_unref(reinterpret_cast<uv_handle_t*>(&parts->idle));
  parts->open = 3;
  return parts->owner;
}

Poll::~Poll() { delete parts_; }

Poll::Parts::Watcher* Poll::Parts::Find(const EventLoop& loop) {
  for (Watcher* watcher : watchers)
    if (watcher->loop == &loop) return watcher;
  return nullptr;
}

void Poll::Parts::Forget() {
  std::erase_if(watchers, [](const Watcher* watcher) { return watcher->loop == nullptr; });
}

coroipc_status Poll::Attach(EventLoop& loop) {
  if (parts_->closing || parts_->Find(loop) != nullptr || loop.fd() < 0) return COROIPC_OK;
  auto watcher = std::make_unique<Parts::Watcher>();
  if (uv_poll_init(parts_->uv, &watcher->handle, loop.fd()) != 0) return COROIPC_NO_MEMORY;
  watcher->loop = &loop;
  watcher->parts = parts_;
  watcher->handle.data = watcher.get();
  uv_poll_start(&watcher->handle, UV_READABLE, [](uv_poll_t* handle, int, int) {
    auto* self = static_cast<Parts::Watcher*>(handle->data);
    for (int i = 0; i < kBatches && self->loop != nullptr; i++)
      if (self->loop->Turn(i == 0, true) != COROIPC_AGAIN) break;
  });
  parts_->open++;
  parts_->watchers.push_back(watcher.release());
  uv_prepare_start(&parts_->prepare,
                   [](uv_prepare_t* handle) { static_cast<Parts*>(handle->data)->OnPrepare(); });
  uv_check_start(&parts_->check,
                 [](uv_check_t* handle) { static_cast<Parts*>(handle->data)->OnCheck(); });
  return COROIPC_OK;
}

void Poll::Detach(EventLoop& loop) {
  Parts::Watcher* watcher = parts_->Find(loop);
  if (watcher == nullptr) return;
  watcher->loop = nullptr;
  // Closing takes it off libuv's epoll set at once: the loop may close its fd after this. Its
  // memory goes when libuv has called back, and a callback of it that is on the stack has returned.
  parts_->CloseHandle(&watcher->handle, [](uv_handle_t* handle) {
    auto* closed = static_cast<Parts::Watcher*>(handle->data);
    Parts* parts = closed->parts;
    parts->Forget();
    delete closed;
    parts->Closed();
  });
}

void Poll::Ref(EventLoop& loop, bool on) {
  Parts::Watcher* watcher = parts_->Find(loop);
  if (watcher == nullptr) return;
  auto* handle = reinterpret_cast<uv_handle_t*>(&watcher->handle);
  if (on)
    uv_ref(handle);
  else
    uv_unref(handle);
}

void Poll::Close() {
  if (parts_->closing) return;
  parts_->closing = true;
  for (size_t i = 0; i < parts_->watchers.size(); i++)
    if (parts_->watchers[i]->loop != nullptr) Detach(*parts_->watchers[i]->loop);
  const auto closed = [](uv_handle_t* handle) { static_cast<Parts*>(handle->data)->Closed(); };
  parts_->CloseHandle(&parts_->prepare, closed);
  parts_->CloseHandle(&parts_->check, closed);
  parts_->CloseHandle(&parts_->idle, closed);
}

void Poll::Parts::Closed() {
  if (--open > 0) return;
  Environment& ended = *environment;
  delete owner;
  ended.PollClosed();
}

// Whether libuv has something else to do; else how long it could sleep.
bool Poll::Parts::Due(uint64_t* sleep_ns) {
  uv_update_time(uv);
  const int timeout_ms = uv_backend_timeout(uv);
  if (timeout_ms == 0) return true;
  struct pollfd fd = {uv_backend_fd(uv), POLLIN, 0};
  if (::poll(&fd, 1, 0) != 0) return true;
  *sleep_ns = timeout_ms < 0 ? UINT64_MAX : static_cast<uint64_t>(timeout_ms) * kMillisecond;
  return false;
}

void Poll::Parts::OnPrepare() {
  Forget();
  if (watchers.empty()) {
    uv_prepare_stop(&prepare);
    uv_check_stop(&check);
    return;
  }
  const uint64_t started = Now();
  uint64_t sleep_ns = 0;
  bool due = Due(&sleep_ns);
  uint64_t now = started;
  uint64_t looked_around = started;
  uint64_t worked_last = started;
  uint32_t rounds = 0;
  turn++;
  for (;;) {
    bool worked = false;
    bool cut_short = false;  // a look ended because its slice did
    const size_t count = watchers.size();
    const uint64_t slice = due ? kGlance : Least(count > 1 ? kSharedLook : kLook, sleep_ns);
    for (size_t i = 0; i < count; i++) {
      EventLoop* loop = watchers[(turn + i) % count]->loop;
      if (loop == nullptr) continue;
      const uint64_t before = now;
      const bool found = loop->Look(slice) == COROIPC_AGAIN;
      if (found) loop->Turn(false, true);
      // Reading the clock is a part of a short round trip; steady work looks at it now and then.
      if (!found || (++rounds % kRoundsPerClock) == 0) now = Now();
      if (found) {
        worked = true;
        worked_last = now;
      } else if (now - before >= slice) {
        cut_short = true;
      }
    }
    if (!worked) {
      // Everything is armed: libuv may sleep. Loops that share the moment look again while it
      // lasts.
      if (due || count == 1 || !cut_short || now - worked_last >= kLook) return;
    }
    if (now - looked_around >= kLookAround) {
      looked_around = now;
      due = Due(&sleep_ns);
    }
    if (worked ? due || now - started >= kTurn : due) break;
    if (!worked) Disarm();
  }
  // Not armed, or not for sure: libuv must not sleep this time.
  uv_idle_start(&idle, [](uv_idle_t*) {});
}

void Poll::Parts::OnCheck() {
  uv_idle_stop(&idle);
  Disarm();
}

void Poll::Parts::Disarm() {
  for (size_t i = 0; i < watchers.size(); i++)
    if (watchers[i]->loop != nullptr) watchers[i]->loop->Disarm();
}

}  // namespace coroipc_addon
