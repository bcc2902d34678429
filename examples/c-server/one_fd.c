/* A C server inside a libevent program, the short way: the whole server is one fd, readable while
 * there is work.
 *
 *   build/examples/c-server/one_fd <name>                 ends on SIGTERM
 *   node build/examples/c-server/client.js <name> 5 -2    talks to it */
#include <event2/event.h>
#include <signal.h>

#include "counter.h"

static void on_ready(evutil_socket_t fd, short what, void* context) {
  (void)fd, (void)what, (void)context;
  /* One bounded turn; if there is more, the fd is still readable. */
  coroipcs_process(counter.server, 0);
}

static void on_signal(evutil_socket_t number, short what, void* base) {
  (void)number, (void)what;
  event_base_loopbreak(base);
}

int main(int argc, char** argv) {
  if (argc != 2 || counter_listen(argv[1], NULL) != COROIPC_OK) return 2;
  struct event_base* base = event_base_new();
  struct event* ready =
      event_new(base, coroipcs_fd(counter.server), EV_READ | EV_PERSIST, on_ready, NULL);
  struct event* stop = evsignal_new(base, SIGTERM, on_signal, base);
  event_add(ready, NULL);
  event_add(stop, NULL);
  coroipcs_process(counter.server, 0); /* arms it */
  event_base_dispatch(base);

  event_free(ready);
  event_free(stop);
  coroipcs_close(counter.server);
  coroipcs_destroy(counter.server);
  event_base_free(base);
  return 0;
}
