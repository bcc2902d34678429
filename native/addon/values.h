// values.h: JavaScript values in and out of natives. Hot natives use this and plain Node-API; cold
// ones (create, info) node-addon-api. Arguments are not checked here: only our own packages call,
// and they have checked.
#ifndef COROIPC_ADDON_VALUES_H
#define COROIPC_ADDON_VALUES_H

#include <coroipc/types.h>
#include <node_api.h>
#include <sys/uio.h>

#include <limits>
#include <string>

namespace coroipc_addon {

class Environment;

// The arguments of one native; what was not passed reads as undefined, and undefined as 0.
template <size_t N>
class Arguments {
 public:
  Arguments(napi_env env, napi_callback_info info) : env_(env) {
    size_t count = N;
    void* environment = nullptr;
    napi_get_cb_info(env, info, &count, values_, nullptr, &environment);
    environment_ = static_cast<Environment*>(environment);
  }
  Arguments(const Arguments&) = delete;
  Arguments& operator=(const Arguments&) = delete;

  napi_env env() const { return env_; }
  Environment& environment() const { return *environment_; }
  napi_value operator[](size_t index) const { return values_[index]; }

  // Numbers above 2^31 wrap: unsigned 32-bit values pass through as they are.
  int32_t Int(size_t index) const {
    int32_t value = 0;
    napi_get_value_int32(env_, values_[index], &value);
    return value;
  }
  uint32_t Uint(size_t index) const { return static_cast<uint32_t>(Int(index)); }
  uint16_t Uint16(size_t index) const { return static_cast<uint16_t>(Int(index)); }
  int64_t Int64(size_t index) const {
    int64_t value = 0;
    napi_get_value_int64(env_, values_[index], &value);
    return value;
  }
  bool Bool(size_t index) const {
    bool value = false;
    napi_get_value_bool(env_, values_[index], &value);
    return value;
  }

  napi_value Return(int32_t value) const {
    napi_value result = nullptr;
    napi_create_int32(env_, value, &result);
    return result;
  }

 private:
  napi_env env_;
  Environment* environment_ = nullptr;
  napi_value values_[N];
};

// The bytes of a typed array (a Uint8Array, a Buffer); false if the value is none.
inline bool BytesOf(napi_env env, napi_value value, void** data, size_t* bytes) {
  return napi_get_typedarray_info(env, value, nullptr, bytes, data, nullptr, nullptr) == napi_ok;
}

// One Uint8Array, a list of them, or nothing, as an iovec. Lives on the stack of the native.
class Payload {
 public:
  static constexpr uint32_t kPartsMax = 1024;

  Payload(napi_env env, napi_value value);
  Payload(const Payload&) = delete;
  Payload& operator=(const Payload&) = delete;

  const struct iovec* parts() const { return parts_; }
  uint32_t count() const { return count_; }

 private:
  uint32_t count_ = 0;
  struct iovec parts_[kPartsMax];  // not initialised: 16 KiB, of which one row is used mostly
};

// A private copy.
napi_value CopyToArrayBuffer(napi_env env, const void* data, size_t bytes);
// An ArrayBuffer over memory that is not JavaScript's; nullptr where the host allows none
// (Electron) or memory has run out. Then `finalize` is not called.
napi_value ExternalArrayBuffer(napi_env env, void* data, size_t bytes, napi_finalize finalize,
                               void* hint);
// Whether the host allows them.
bool ExternalBuffersAllowed(napi_env env);

// The properties of an options object.
class Fields {
 public:
  Fields(napi_env env, napi_value object) : env_(env), object_(object) {}
  bool Flag(const char* name) const;
  double Number(const char* name) const;
  // What does not fit becomes the nearest that does.
  int32_t Int(const char* name) const { return Clamped<int32_t>(name); }
  uint32_t Uint(const char* name) const { return Clamped<uint32_t>(name); }
  uint64_t Uint64(const char* name) const { return Clamped<uint64_t>(name); }

 private:
  template <typename T>
  T Clamped(const char* name) const {
    constexpr T kLeast = std::numeric_limits<T>::min();
    constexpr T kMost = std::numeric_limits<T>::max();
    const double number = Number(name);
    if (!(number > static_cast<double>(kLeast))) return kLeast;
    return number < static_cast<double>(kMost) ? static_cast<T>(number) : kMost;
  }

  napi_env env_;
  napi_value object_;
};

napi_value Undefined(napi_env env);
std::string Text(napi_env env, napi_value value);
std::string HexId(uint64_t id);  // 16 digits
napi_value CredentialsValue(napi_env env, const coroipc_credentials* credentials);

}  // namespace coroipc_addon

#endif
