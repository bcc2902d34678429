// server_callbacks.h: the callback interface (coroipcs_process, coroipcs_run) as a customer of
// batches.
#ifndef COROIPC_SRC_SERVER_CALLBACKS_H
#define COROIPC_SRC_SERVER_CALLBACKS_H

#include <cstdint>

struct coroipcs_server;

namespace coroipc {

struct CallbackDriver;

void DeleteCallbackDriver(CallbackDriver* driver);
// Asks for the next timer tick while a `disconnected` hook says that it is busy.
void CallbackTimer(coroipcs_server& server, uint64_t now_ns);

}  // namespace coroipc

#endif
