// values.cc: see values.h.
#include "values.h"

#include <inttypes.h>
#include <napi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

namespace coroipc_addon {

Payload::Payload(napi_env env, napi_value value) {
  size_t bytes = 0;
  if (BytesOf(env, value, &parts_[0].iov_base, &bytes)) {
    parts_[0].iov_len = bytes;
    count_ = 1;
    return;
  }
  uint32_t length = 0;
  if (napi_get_array_length(env, value, &length) != napi_ok) return;
  if (length > kPartsMax) length = kPartsMax;
  for (uint32_t i = 0; i < length; i++) {
    napi_value part = nullptr;
    if (napi_get_element(env, value, i, &part) != napi_ok) return;
    if (!BytesOf(env, part, &parts_[count_].iov_base, &bytes)) continue;
    parts_[count_++].iov_len = bytes;
  }
}

napi_value CopyToArrayBuffer(napi_env env, const void* data, size_t bytes) {
  void* copy = nullptr;
  napi_value array = nullptr;
  napi_create_arraybuffer(env, bytes, &copy, &array);
  if (copy != nullptr && bytes > 0) memcpy(copy, data, bytes);
  return array;
}

napi_value ExternalArrayBuffer(napi_env env, void* data, size_t bytes, napi_finalize finalize,
                               void* hint) {
#ifdef NODE_API_NO_EXTERNAL_BUFFERS_ALLOWED
  static_cast<void>(env), static_cast<void>(data), static_cast<void>(bytes);
  static_cast<void>(finalize), static_cast<void>(hint);
  return nullptr;
#else
  napi_value array = nullptr;
  if (napi_create_external_arraybuffer(env, data, bytes, finalize, hint, &array) != napi_ok)
    return nullptr;
  return array;
#endif
}

bool ExternalBuffersAllowed(napi_env env) {
  const auto finalize = [](napi_env, void* data, void*) { free(data); };
  void* data = malloc(1);
  if (data == nullptr || ExternalArrayBuffer(env, data, 1, finalize, nullptr) != nullptr)
    return true;
  free(data);
  return false;
}

bool Fields::Flag(const char* name) const {
  napi_value value = nullptr;
  bool flag = false;
  if (napi_get_named_property(env_, object_, name, &value) == napi_ok)
    napi_get_value_bool(env_, value, &flag);
  return flag;
}

double Fields::Number(const char* name) const {
  napi_value value = nullptr;
  double number = 0;
  if (napi_get_named_property(env_, object_, name, &value) == napi_ok)
    napi_get_value_double(env_, value, &number);
  return number;
}

napi_value Undefined(napi_env env) {
  napi_value value = nullptr;
  napi_get_undefined(env, &value);
  return value;
}

std::string Text(napi_env env, napi_value value) {
  size_t length = 0;
  if (napi_get_value_string_utf8(env, value, nullptr, 0, &length) != napi_ok) return {};
  std::string text(length, '\0');
  napi_get_value_string_utf8(env, value, text.data(), length + 1, &length);
  return text;
}

std::string HexId(uint64_t id) {
  char text[17];
  snprintf(text, sizeof text, "%016" PRIx64, id);
  return text;
}

napi_value CredentialsValue(napi_env env, const coroipc_credentials* credentials) {
  Napi::Object value = Napi::Object::New(env);
  value.Set("pid", credentials->pid);
  value.Set("uid", credentials->uid);
  value.Set("gid", credentials->gid);
  Napi::Array groups = Napi::Array::New(env, credentials->group_count);
  for (uint32_t i = 0; i < credentials->group_count; i++) groups.Set(i, credentials->groups[i]);
  value.Set("groups", groups);
  value.Set("pidfd", credentials->pidfd);
  return value;
}

}  // namespace coroipc_addon
