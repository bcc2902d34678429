// foreign_array.h: an ArrayBuffer over memory that is not JavaScript's: a ring, a segment, a block.
//
// The memory must stay mapped while JavaScript can reach it. Whoever lends it hands over a `keep`;
// the loan ends, and `keep` is dropped, at the first of: Detach, the collection of the ArrayBuffer,
// the end of the environment. One case is the caller's no more: an ArrayBuffer that JavaScript has
// moved elsewhere (`transfer`) is out of reach of Detach. Its memory then stays until the collector
// frees it, which is why release goes by `keep` and not by hand.
#ifndef COROIPC_ADDON_FOREIGN_ARRAY_H
#define COROIPC_ADDON_FOREIGN_ARRAY_H

#include <node_api.h>

#include <memory>

namespace coroipc_addon {

class ForeignArray {
 public:
  ForeignArray() = default;
  ~ForeignArray() = default;
  ForeignArray(const ForeignArray&) = delete;
  ForeignArray& operator=(const ForeignArray&) = delete;

  // The ArrayBuffer; nullptr where the host allows none (Electron) or memory has run out.
  napi_value Create(napi_env env, void* data, size_t bytes, std::shared_ptr<void> keep);
  // What Create made, while it exists and was not moved; else nullptr.
  napi_value Get(napi_env env) const;
  // Takes the memory away: every view has length 0 afterwards.
  void Detach(napi_env env);

 private:
  struct Loan {
    std::shared_ptr<void> keep;
  };
  static void Finalize(napi_env env, void* data, void* hint);

  napi_ref reference_ = nullptr;  // weak: an array that nobody uses may go
  std::shared_ptr<Loan> loan_;    // the finalizer has the other share
};

}  // namespace coroipc_addon

#endif
