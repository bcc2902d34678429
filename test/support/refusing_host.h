// refusing_host.h: included before every source of an addon for tests
// (scripts/sanitized-addon.mjs): Node.js as a host that forbids external buffers when it is asked
// for one, which is what Electron does.
#include <node_api.h>

static inline napi_status refuse_external_arraybuffer(napi_env, void*, size_t, napi_finalize, void*,
                                                      napi_value*) {
  return napi_no_external_buffers_allowed;
}
#define napi_create_external_arraybuffer refuse_external_arraybuffer
