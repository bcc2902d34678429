// natives.h: the functions that JavaScript sees, by the half of the API they belong to. What each
// does is told once, in native/lib/addon.ts.
#ifndef COROIPC_ADDON_NATIVES_H
#define COROIPC_ADDON_NATIVES_H

#include <node_api.h>

#include <vector>

namespace coroipc_addon {

struct Native {
  const char* name;
  napi_callback function;
};

// Each appends its own.
void AddLoopNatives(std::vector<Native>& natives);
void AddServerNatives(std::vector<Native>& natives);
void AddClientNatives(std::vector<Native>& natives);
void AddBufferNatives(std::vector<Native>& natives);

}  // namespace coroipc_addon

#endif
