// foreign_array.cc: see foreign_array.h.
#include "foreign_array.h"

#include <utility>

#include "values.h"

namespace coroipc_addon {

void ForeignArray::Finalize(napi_env, void*, void* hint) {
  std::unique_ptr<std::shared_ptr<Loan>> loan(static_cast<std::shared_ptr<Loan>*>(hint));
  (*loan)->keep.reset();
}

napi_value ForeignArray::Create(napi_env env, void* data, size_t bytes,
                                std::shared_ptr<void> keep) {
  napi_value array = nullptr;
  if (bytes == 0) {  // V8 does not call the finalizer of nothing
    napi_create_arraybuffer(env, 0, nullptr, &array);
    return array;
  }
  auto loan = std::make_shared<Loan>(Loan{std::move(keep)});
  auto hint = std::make_unique<std::shared_ptr<Loan>>(loan);
  array = ExternalArrayBuffer(env, data, bytes, Finalize, hint.get());
  if (array == nullptr) return nullptr;
  static_cast<void>(hint.release());
  if (reference_ != nullptr) napi_delete_reference(env, reference_);
  reference_ = nullptr;
  napi_create_reference(env, array, 0, &reference_);
  loan_ = std::move(loan);
  return array;
}

napi_value ForeignArray::Get(napi_env env) const {
  napi_value array = nullptr;
  if (reference_ == nullptr || napi_get_reference_value(env, reference_, &array) != napi_ok)
    return nullptr;
  bool detached = true;
  if (array == nullptr || napi_is_detached_arraybuffer(env, array, &detached) != napi_ok ||
      detached)
    return nullptr;
  return array;
}

void ForeignArray::Detach(napi_env env) {
  if (reference_ == nullptr) return;
  napi_handle_scope scope = nullptr;
  napi_open_handle_scope(env, &scope);
  // One that is detached already was moved: somebody else's views see the memory, only the
  // collector knows how long.
  napi_value array = Get(env);
  if (array != nullptr && napi_detach_arraybuffer(env, array) == napi_ok) loan_->keep.reset();
  napi_close_handle_scope(env, scope);
  napi_delete_reference(env, reference_);
  reference_ = nullptr;
  loan_.reset();
}

}  // namespace coroipc_addon
