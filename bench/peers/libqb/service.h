/* service.h: a libqb server over shared memory and its loop, as corosync and pacemaker use it. */
#ifndef COROIPC_BENCH_LIBQB_SERVICE_H
#define COROIPC_BENCH_LIBQB_SERVICE_H

#include <qb/qbipcc.h>
#include <qb/qbipcs.h>
#include <qb/qbloop.h>

#include "../peer.h"

#define NAME_BYTES 64

static qb_loop_t* loop;

static int32_t job_add(enum qb_loop_priority priority, void* data, qb_loop_job_dispatch_fn run) {
  return qb_loop_job_add(loop, priority, data, run);
}
static int32_t dispatch_add(enum qb_loop_priority priority, int32_t fd, int32_t events, void* data,
                            qb_ipcs_dispatch_fn_t run) {
  return qb_loop_poll_add(loop, priority, fd, events, data, run);
}
static int32_t dispatch_mod(enum qb_loop_priority priority, int32_t fd, int32_t events, void* data,
                            qb_ipcs_dispatch_fn_t run) {
  return qb_loop_poll_mod(loop, priority, fd, events, data, run);
}
static int32_t dispatch_del(int32_t fd) { return qb_loop_poll_del(loop, fd); }

static int32_t accept_everyone(qb_ipcs_connection_t* connection, uid_t uid, gid_t gid) {
  (void)connection, (void)uid, (void)gid;
  return 0;
}

/* The client's process has hung up; its connections have ended before. */
static int32_t end_with_client(int32_t fd, int32_t events, void* data) {
  (void)fd, (void)events, (void)data;
  qb_loop_stop(loop);
  return -1;
}

static inline void service_name(char name[NAME_BYTES], pid_t client) {
  snprintf(name, NAME_BYTES, "coroipc-bench-%d", (int)client);
}

/* Serves a client's process until it leaves (leave_server); `closed` may be NULL. */
static inline void serve(const struct pair* pair, qb_ipcs_msg_process_fn process,
                         qb_ipcs_connection_closed_fn closed) {
  struct qb_ipcs_service_handlers handlers = {
      .connection_accept = accept_everyone, .msg_process = process, .connection_closed = closed};
  struct qb_ipcs_poll_handlers polling = {.job_add = job_add,
                                          .dispatch_add = dispatch_add,
                                          .dispatch_mod = dispatch_mod,
                                          .dispatch_del = dispatch_del};
  char name[NAME_BYTES];
  service_name(name, getppid());
  loop = qb_loop_create();
  qb_ipcs_service_t* service = qb_ipcs_create(name, 0, QB_IPC_SHM, &handlers);
  if (loop == NULL || service == NULL) fail("qb_ipcs_create");
  qb_ipcs_poll_handlers_set(service, &polling);
  if (qb_ipcs_run(service) != 0) fail("qb_ipcs_run");
  qb_loop_poll_add(loop, QB_LOOP_LOW, pair->control, POLLIN, NULL, end_with_client);
  server_ready(pair);
  qb_loop_run(loop);
  qb_ipcs_destroy(service);
  qb_loop_destroy(loop);
}

/* Its rings are as large as the largest message that one asks for. */
static inline qb_ipcc_connection_t* connect_service(const struct options* options) {
  char name[NAME_BYTES];
  service_name(name, getpid());
  uint32_t message_bytes = larger_bytes(options) + 64;
  qb_ipcc_connection_t* connection = qb_ipcc_connect(
      name, message_bytes > options->ring_bytes ? message_bytes : options->ring_bytes);
  if (connection == NULL) fail("qb_ipcc_connect");
  return connection;
}

#endif
