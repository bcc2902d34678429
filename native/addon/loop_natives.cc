// loop_natives.cc: natives of any loop, server or client group.
#include <string.h>
#include <time.h>

#include "environment.h"
#include "event_loop.h"
#include "natives.h"
#include "poll.h"
#include "values.h"

namespace coroipc_addon {

namespace {

// Between two looks at whether the worker is being terminated.
constexpr int32_t kSliceMs = 50;

int64_t NowMs() {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<int64_t>(time.tv_sec) * 1000 + time.tv_nsec / 1000000;
}

napi_value SetSlab(napi_env env, napi_callback_info info) {
  Arguments<2> arguments(env, info);
  HeldLoop loop(arguments.environment(), arguments.Int(0));
  if (loop) loop->SetSlab(arguments[1]);
  return nullptr;
}

napi_value SetLargeSlab(napi_env env, napi_callback_info info) {
  Arguments<2> arguments(env, info);
  HeldLoop loop(arguments.environment(), arguments.Int(0));
  if (loop) loop->SetLargeSlab(arguments[1]);
  return nullptr;
}

napi_value LargeSize(napi_env env, napi_callback_info info) {
  Arguments<1> arguments(env, info);
  HeldLoop loop(arguments.environment(), arguments.Int(0));
  return arguments.Return(loop ? static_cast<int32_t>(loop->LargeSize()) : 0);
}

napi_value Flush(napi_env env, napi_callback_info info) {
  Arguments<1> arguments(env, info);
  HeldLoop loop(arguments.environment(), arguments.Int(0));
  return arguments.Return(loop ? static_cast<int32_t>(loop->Flush()) : 0);
}

napi_value Attach(napi_env env, napi_callback_info info) {
  Arguments<1> arguments(env, info);
  HeldLoop loop(arguments.environment(), arguments.Int(0));
  Poll* poll = arguments.environment().poll();
  coroipc_status status = COROIPC_INVALID_ARGUMENT;
  if (loop) status = poll == nullptr ? COROIPC_SYSTEM : poll->Attach(*loop);
  return arguments.Return(-status);
}

napi_value Detach(napi_env env, napi_callback_info info) {
  Arguments<1> arguments(env, info);
  HeldLoop loop(arguments.environment(), arguments.Int(0));
  if (loop && arguments.environment().has_poll()) arguments.environment().poll()->Detach(*loop);
  return nullptr;
}

template <bool on>
napi_value Ref(napi_env env, napi_callback_info info) {
  Arguments<1> arguments(env, info);
  HeldLoop loop(arguments.environment(), arguments.Int(0));
  if (loop && arguments.environment().has_poll()) arguments.environment().poll()->Ref(*loop, on);
  return nullptr;
}

napi_value Fd(napi_env env, napi_callback_info info) {
  Arguments<1> arguments(env, info);
  HeldLoop loop(arguments.environment(), arguments.Int(0));
  return arguments.Return(loop ? loop->fd() : -1);
}

napi_value Pump(napi_env env, napi_callback_info info) {
  Arguments<1> arguments(env, info);
  HeldLoop loop(arguments.environment(), arguments.Int(0));
  if (!loop) return arguments.Return(0);
  if (loop->in_turn()) return arguments.Return(1);
  loop->FlushAndTell();
  if (loop->destroyed()) return arguments.Return(0);
  if (loop->TakeWaited()) {
    // `wait` looks and arms itself: arming here would end its look before it began.
    loop->Turn(false, false);
    return arguments.Return(1);
  }
  if (loop->Turn(true, false) == COROIPC_AGAIN) return arguments.Return(1);
  if (loop->destroyed()) return arguments.Return(0);
  return arguments.Return(loop->Look(0) == COROIPC_AGAIN ? 1 : 0);
}

napi_value Wait(napi_env env, napi_callback_info info) {
  Arguments<2> arguments(env, info);
  Environment& environment = arguments.environment();
  const int32_t timeout_ms = arguments.Int(1);
  HeldLoop loop(environment, arguments.Int(0));
  if (!loop) return arguments.Return(-COROIPC_INVALID_ARGUMENT);
  environment.FlushAll();
  const int64_t deadline_ms = NowMs() + timeout_ms;
  for (int64_t left_ms = timeout_ms; !loop->destroyed(); left_ms = deadline_ms - NowMs()) {
    int32_t slice_ms = kSliceMs;
    if (timeout_ms >= 0 && left_ms < slice_ms)
      slice_ms = left_ms < 0 ? 0 : static_cast<int32_t>(left_ms);
    const coroipc_status status = loop->Wait(slice_ms);
    if (status == COROIPC_AGAIN) {
      loop->Waited();
      return arguments.Return(1);
    }
    if (status != COROIPC_TIMED_OUT) return arguments.Return(-status);
    if (environment.Interrupted()) return arguments.Return(-COROIPC_ABORTED);
    if (timeout_ms >= 0 && left_ms <= slice_ms) return arguments.Return(0);
  }
  return arguments.Return(-COROIPC_DISCONNECTED);
}

// stats(loop, connection, clear, into): of the server itself if connection is -1.
napi_value Stats(napi_env env, napi_callback_info info) {
  Arguments<4> arguments(env, info);
  HeldLoop loop(arguments.environment(), arguments.Int(0));
  if (!loop) return arguments.Return(-COROIPC_INVALID_ARGUMENT);
  const int32_t number = arguments.Int(1);
  const int clear = arguments.Bool(2) ? 1 : 0;
  coroipc_stats stats{};
  coroipc_status status = COROIPC_DISCONNECTED;
  if (loop->server() != nullptr && number == -1) {
    status = coroipcs_stats(loop->server(), &stats, clear);
  } else if (loop->server() != nullptr) {
    coroipcs_connection* connection =
        coroipcs_connection_at(loop->server(), static_cast<uint32_t>(number));
    if (connection != nullptr) status = coroipcs_connection_stats(connection, &stats, clear);
  } else if (coroipcc_connection* connection = loop->connection(static_cast<uint32_t>(number))) {
    status = coroipcc_stats(connection, &stats, clear);
  }
  void* into = nullptr;
  size_t words = 0;
  if (status == COROIPC_OK && BytesOf(env, arguments[3], &into, &words) &&
      words >= COROIPC_STATS_WORDS)
    memcpy(into, &stats, sizeof stats);
  return arguments.Return(-status);
}

napi_value Destroy(napi_env env, napi_callback_info info) {
  Arguments<1> arguments(env, info);
  HeldLoop loop(arguments.environment(), arguments.Int(0));
  if (loop) {
    loop->Flush();
    loop->Destroy();
  }
  return nullptr;
}

}  // namespace

void AddLoopNatives(std::vector<Native>& natives) {
  natives.insert(natives.end(), {{"setSlab", SetSlab},
                                 {"setLargeSlab", SetLargeSlab},
                                 {"largeSize", LargeSize},
                                 {"flush", Flush},
                                 {"attach", Attach},
                                 {"detach", Detach},
                                 {"ref", Ref<true>},
                                 {"unref", Ref<false>},
                                 {"fd", Fd},
                                 {"pump", Pump},
                                 {"wait", Wait},
                                 {"stats", Stats},
                                 {"serverDestroy", Destroy},
                                 {"groupDestroy", Destroy}});
}

}  // namespace coroipc_addon
