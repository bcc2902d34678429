// buffer_natives.cc: natives of zero-copy buffers. A handle and the ArrayBuffer over its memory
// each have a share of it; the memory goes back with the last one, once.
#include "environment.h"
#include "natives.h"
#include "values.h"

namespace coroipc_addon {

namespace {

napi_value BufferArray(napi_env env, napi_callback_info info) {
  Arguments<1> arguments(env, info);
  std::unique_ptr<Buffer>* buffer = arguments.environment().buffers().At(arguments.Int(0));
  if (buffer == nullptr) return nullptr;
  ForeignArray& array = (*buffer)->array;
  if (napi_value existing = array.Get(env)) return existing;
  const std::shared_ptr<coroipc_buffer>& memory = (*buffer)->memory;
  return array.Create(env, coroipc_buffer_data(memory.get()), coroipc_buffer_bytes(memory.get()),
                      memory);
}

napi_value BufferBytes(napi_env env, napi_callback_info info) {
  Arguments<1> arguments(env, info);
  const coroipc_buffer* buffer = arguments.environment().BufferAt(arguments.Int(0));
  return arguments.Return(buffer == nullptr ? 0
                                            : static_cast<int32_t>(coroipc_buffer_bytes(buffer)));
}

napi_value BufferRelease(napi_env env, napi_callback_info info) {
  Arguments<1> arguments(env, info);
  arguments.environment().ReleaseBuffer(arguments.Int(0));
  return nullptr;
}

}  // namespace

void AddBufferNatives(std::vector<Native>& natives) {
  natives.insert(natives.end(), {{"bufferArray", BufferArray},
                                 {"bufferBytes", BufferBytes},
                                 {"bufferRelease", BufferRelease}});
}

}  // namespace coroipc_addon
