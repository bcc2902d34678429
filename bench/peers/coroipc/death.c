/* death.c: a server of the C API is killed while a blocking call waits for it. The one who kills is
 * a thread of the client. */
#include "../killer.h"
#include "service.h"

static void keep(struct coroipcs_connection* connection, const struct coroipcs_request* request,
                 void* context) {
  (void)connection, (void)request, (void)context; /* never answered */
}

static coroipcs_handler_fn keeper(struct coroipcs_connection* connection, uint16_t service,
                                  uint16_t id, void* context) {
  (void)connection, (void)service, (void)id, (void)context;
  return keep;
}

static struct settings settings;

static uint64_t told_after(const struct options* options) {
  struct pair pair = fork_peers(options);
  if (pair.server == 0) {
    struct coroipcs_callbacks callbacks = {.handler_get = keeper};
    struct coroipcs_server* server = listen_here(&pair, &settings, &callbacks);
    check_coroipc("coroipcs_run", coroipcs_run(server));
    _exit(0);
  }
  struct coroipcc_connection* connection = connect_service(&pair, &settings);
  struct killer killer = killer_start(&pair);
  struct coroipcc_response response;
  coroipc_status status =
      coroipcc_request(connection, CALL, NULL, 0, COROIPCC_TIMEOUT_DEFAULT, NULL, 0, &response);
  uint64_t told = now_ns();
  if (status != COROIPC_UNKNOWN_OUTCOME && status != COROIPC_PEER_DEAD)
    check_coroipc("coroipcc_request", status);
  return told - killer_join(&killer);
}

int main(int argc, char** argv) {
  settings = parse_settings(argc, argv);
  return measure_deaths("coroipc death", &settings.options, told_after);
}
