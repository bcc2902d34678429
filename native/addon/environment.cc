// environment.cc: see environment.h.
#include "environment.h"

#include <utility>

#include "event_loop.h"
#include "poll.h"

namespace coroipc_addon {

Environment* Environment::Create(napi_env env) {
  auto* self = new Environment(env);
  napi_value source = nullptr;
  napi_value function = nullptr;
  napi_create_string_utf8(env, "(() => {})", NAPI_AUTO_LENGTH, &source);
  // A function of JavaScript, not one of ours: only those look whether execution is being
  // terminated.
  if (napi_run_script(env, source, &function) != napi_ok ||
      napi_create_reference(env, function, 1, &self->trivial_) != napi_ok ||
      napi_add_async_cleanup_hook(env, Cleanup, self, &self->cleanup_) != napi_ok) {
    delete self;
    return nullptr;
  }
  const auto finalize = [](napi_env, void* environment, void*) {
    delete static_cast<Environment*>(environment);
  };
  napi_set_instance_data(env, self, finalize, nullptr);
  return self;
}

Environment::~Environment() {
  if (trivial_ != nullptr) napi_delete_reference(env_, trivial_);
}

void Environment::Cleanup(napi_async_cleanup_hook_handle, void* environment) {
  static_cast<Environment*>(environment)->Stop();
}

void Environment::Stop() {
  stopping_ = true;
  napi_handle_scope scope = nullptr;
  napi_open_handle_scope(env_, &scope);
  loops_.ForEach([](EventLoop* loop) { loop->Flush(); });
  Poll* poll = poll_;
  if (poll != nullptr) poll->Close();
  buffers_.ForEach([this](std::unique_ptr<Buffer>& buffer) {
    buffer->array.Detach(env_);
    buffer.reset();
  });
  loops_.ForEach([](EventLoop* loop) { loop->Destroy(); });
  napi_close_handle_scope(env_, scope);
  if (poll == nullptr) napi_remove_async_cleanup_hook(cleanup_);
}

void Environment::PollClosed() {
  poll_ = nullptr;
  if (stopping_) napi_remove_async_cleanup_hook(cleanup_);
}

Poll* Environment::poll() {
  if (poll_ == nullptr && !stopping_) poll_ = Poll::Create(*this);
  return poll_;
}

bool Environment::Enter(napi_async_context context, napi_value resource, napi_value receiver,
                        napi_value function, size_t count, const napi_value* arguments,
                        EventLoop* between) {
  if (stopping_) return false;
  napi_callback_scope scope = nullptr;
  const auto open = [&] {
    return context == nullptr ||
           napi_open_callback_scope(env_, resource, context, &scope) == napi_ok;
  };
  // With `between` the scope opens after the function: all that it is for is to run microtasks and
  // ticks when it closes, and what was answered leaves before that. The peer waits for the one and
  // not for the other.
  if (between == nullptr && !open()) return false;
  const bool returned =
      napi_call_function(env_, receiver, function, count, arguments, nullptr) == napi_ok;
  if (!returned) Report();
  if (between != nullptr) {
    between->FlushAndTell(false);
    if (stopping_ || !open()) return returned;
  }
  if (scope != nullptr) napi_close_callback_scope(env_, scope);
  return returned;
}

void Environment::Report() {
  bool pending = false;
  napi_value error = nullptr;
  napi_is_exception_pending(env_, &pending);
  if (!pending || napi_get_and_clear_last_exception(env_, &error) != napi_ok) return;
  // A termination looks like an exception too; it is nobody's error.
  if (!Interrupted()) napi_fatal_exception(env_, error);
}

bool Environment::Interrupted() {
  if (stopping_) return true;
  napi_handle_scope scope = nullptr;
  napi_value function = nullptr;
  napi_value undefined = nullptr;
  napi_open_handle_scope(env_, &scope);
  napi_get_reference_value(env_, trivial_, &function);
  napi_get_undefined(env_, &undefined);
  const napi_status status = napi_call_function(env_, undefined, function, 0, nullptr, nullptr);
  napi_close_handle_scope(env_, scope);
  return status != napi_ok;
}

void Environment::FlushAll() {
  loops_.ForEach([](EventLoop* loop) { loop->FlushAndTell(); });
}

int32_t Environment::AddBuffer(coroipc_buffer* buffer) {
  auto entry = std::make_unique<Buffer>();
  entry->memory = std::shared_ptr<coroipc_buffer>(buffer, coroipc_buffer_release);
  return buffers_.Add(std::move(entry));
}

coroipc_buffer* Environment::BufferAt(int32_t handle) {
  std::unique_ptr<Buffer>* buffer = buffers_.At(handle);
  return buffer == nullptr ? nullptr : (*buffer)->memory.get();
}

void Environment::ReleaseBuffer(int32_t handle) {
  std::unique_ptr<Buffer> buffer = buffers_.Remove(handle);
  if (buffer != nullptr) buffer->array.Detach(env_);
}

}  // namespace coroipc_addon
