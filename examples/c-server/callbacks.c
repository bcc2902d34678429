/* A C server inside a libevent program, coroipc's way: the library names each fd that it waits for,
 * and libevent watches them all. For poll libraries that cannot watch an epoll fd, or that want to
 * see every source.
 *
 *   build/examples/c-server/callbacks <name>              ends on SIGTERM
 *   node build/examples/c-server/client.js <name> 5 -2    talks to it */
#include <event2/event.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>

#include "counter.h"

static struct event_base* base;
static struct event* again; /* activated while there is more to do than fds tell of */

/* What is watched. One fd is watched once; cookies tell who asked. */
struct source {
  struct source* next;
  struct event* event;
  int fd;
  uint64_t cookie;
  int listener;
};
static struct source* sources;

static void process(void) {
  if (coroipcs_process(counter.server, 0) == COROIPC_AGAIN) event_active(again, EV_TIMEOUT, 0);
}

static void on_again(evutil_socket_t fd, short what, void* context) {
  (void)fd, (void)what, (void)context;
  process();
}

static void on_ready(evutil_socket_t fd, short what, void* context) {
  (void)fd;
  struct source* source = context;
  int revents = (what & EV_READ ? POLLIN : 0) | (what & EV_WRITE ? POLLOUT : 0);
  /* `source` may be gone after these. */
  if (source->listener)
    coroipcs_handler_accept(counter.server, source->cookie);
  else
    coroipcs_handler_dispatch(counter.server, source->cookie, revents);
  process();
}

static void watch(struct source* source, int events) {
  short what = EV_PERSIST;
  if (events & POLLIN) what |= EV_READ;
  if (events & POLLOUT) what |= EV_WRITE;
  if (source->event != NULL) event_free(source->event);
  source->event = event_new(base, source->fd, what, on_ready, source);
  event_add(source->event, NULL);
}

static int add(int fd, int events, uint64_t cookie, int listener) {
  struct source* source = calloc(1, sizeof(*source));
  if (source == NULL) return -1;
  *source = (struct source){.next = sources, .fd = fd, .cookie = cookie, .listener = listener};
  sources = source;
  watch(source, events);
  return 0;
}

static int accept_add(int fd, uint64_t cookie, void* context) {
  (void)context;
  return add(fd, POLLIN, cookie, 1);
}

static int dispatch_add(int fd, int events, uint64_t cookie, void* context) {
  (void)context;
  return add(fd, events, cookie, 0);
}

static int dispatch_modify(int fd, int events, uint64_t cookie, void* context) {
  (void)context;
  for (struct source* source = sources; source != NULL; source = source->next)
    if (source->fd == fd && source->cookie == cookie) watch(source, events);
  return 0;
}

static void dispatch_destroy(int fd, uint64_t cookie, void* context) {
  (void)context;
  for (struct source** at = &sources; *at != NULL; at = &(*at)->next) {
    struct source* source = *at;
    if (source->fd != fd || source->cookie != cookie) continue;
    *at = source->next;
    event_free(source->event);
    free(source);
    return;
  }
}

static void on_signal(evutil_socket_t number, short what, void* context) {
  (void)number, (void)what, (void)context;
  event_base_loopbreak(base);
}

int main(int argc, char** argv) {
  static const struct coroipcs_poll poll = {.accept_add = accept_add,
                                            .dispatch_add = dispatch_add,
                                            .dispatch_modify = dispatch_modify,
                                            .dispatch_destroy = dispatch_destroy};
  base = event_base_new();
  if (argc != 2 || counter_listen(argv[1], &poll) != COROIPC_OK) return 2;
  again = event_new(base, -1, 0, on_again, NULL);
  struct event* stop = evsignal_new(base, SIGTERM, on_signal, NULL);
  event_add(stop, NULL);
  process();
  event_base_dispatch(base);

  coroipcs_close(counter.server);
  coroipcs_destroy(counter.server);
  event_free(again);
  event_free(stop);
  event_base_free(base);
  return sources == NULL ? 0 : 1;
}
