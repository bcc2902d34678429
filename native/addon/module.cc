// module.cc: what `require` of the addon returns. Natives are plain functions that find their
// environment in their data pointer; the objects behind the handles are in environment.h.
// native/lib/addon.ts declares each native.
#include <coroipc/abi.h>
#include <coroipc/coroipcc.h>
#include <coroipc/types.h>
#include <napi.h>
#include <poll.h>

#include <vector>

#include "environment.h"
#include "natives.h"
#include "values.h"

namespace coroipc_addon {

namespace {

napi_value LastError(napi_env env, napi_callback_info) {
  const char* syscall = coroipc_syscall();
  Napi::Object value = Napi::Object::New(env);
  value.Set("errno", coroipc_errno());
  value.Set("syscall", syscall == nullptr ? "" : syscall);
  return value;
}

napi_value PeerVersion(napi_env env, napi_callback_info) {
  return Napi::Number::New(env, coroipcc_peer_version());
}

napi_value StatusToCsError(napi_env env, napi_callback_info info) {
  const Arguments<1> arguments(env, info);
  return arguments.Return(coroipc_status_to_cs_error(arguments.Int(0)));
}

napi_value FeatureTry(napi_env env, napi_callback_info info) {
  const Arguments<1> arguments(env, info);
  return arguments.Return(coroipc_feature_try(static_cast<coroipc_feature>(arguments.Int(0))));
}

napi_value HungUp(napi_env env, napi_callback_info info) {
  const Arguments<1> arguments(env, info);
  struct pollfd fd = {arguments.Int(0), 0, 0};  // errors are told unasked
  return arguments.Return(::poll(&fd, 1, 0) > 0 && (fd.revents & (POLLERR | POLLHUP)) != 0 ? 1 : 0);
}

napi_value Init(napi_env env, napi_value exports) {
  Environment* environment = Environment::Create(env);
  if (environment == nullptr) return nullptr;
  std::vector<Native> natives = {{"lastError", LastError},
                                 {"peerVersion", PeerVersion},
                                 {"statusToCsError", StatusToCsError},
                                 {"featureTry", FeatureTry},
                                 {"hungUp", HungUp}};
  AddLoopNatives(natives);
  AddServerNatives(natives);
  AddClientNatives(natives);
  AddBufferNatives(natives);

  Napi::Object object(env, exports);
  object.Set("abiVersion", COROIPC_ABI_VERSION);
  object.Set("layout", COROIPC_LAYOUT);
  object.Set("statsWords", static_cast<uint32_t>(COROIPC_STATS_WORDS));
  object.Set("externalBuffers", ExternalBuffersAllowed(env));
  Napi::Array names = Napi::Array::New(env, COROIPC_STATUS_COUNT);
  for (uint32_t i = 0; i < COROIPC_STATUS_COUNT; i++)
    names.Set(i, coroipc_status_name(static_cast<coroipc_status>(i)));
  object.Set("statusNames", names);
  for (const Native& native : natives) {
    napi_value function = nullptr;
    napi_create_function(env, native.name, NAPI_AUTO_LENGTH, native.function, environment,
                         &function);
    object.Set(native.name, function);
  }
  return exports;
}

}  // namespace

}  // namespace coroipc_addon

NAPI_MODULE(coroipc, coroipc_addon::Init)
