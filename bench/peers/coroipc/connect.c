/* connect.c: connections by the C API, made and closed: one after the other by the blocking call,
 * or
 * `--at-once` in the making at any time by coroipcc_connect_start. Closing is not in the sample. */
#include "answer.h"

#define AT_ONCE_MAX 64u

static void one_by_one(const struct door* door, struct meter* meter) {
  while (!meter->over) {
    meter->last = now_ns();
    struct coroipcc_connection* connection = enter(door);
    meter_count(meter);
    coroipcc_disconnect(connection);
  }
}

struct start {
  struct coroipcc_connection* connection;
  uint64_t begin_ns;
};

static struct start start(const struct door* door) {
  struct start start = {.begin_ns = now_ns()};
  check_coroipc("coroipcc_connect_start",
                coroipcc_connect_start(door->group, door->address, &door->options,
                                       COROIPCC_TIMEOUT_DEFAULT, &start.connection));
  return start;
}

static void several(const struct door* door, struct meter* meter, uint32_t at_once) {
  struct start starts[AT_ONCE_MAX];
  static struct inbox inbox;
  inbox.arena = private_memory(ARENA_BYTES);
  for (uint32_t i = 0; i < at_once; i++) starts[i] = start(door);
  while (!meter->over) {
    receive_rows(door->group, &inbox);
    for (uint32_t row = 0; row < inbox.batch.count; row++) {
      const struct coroipc_entry* entry = &inbox.entries[row];
      if (entry->kind != COROIPC_KIND_CONNECTED) fail("a connection was refused");
      uint32_t i = 0;
      while (i < at_once && coroipcc_connection_number(starts[i].connection) != entry->connection)
        i++;
      if (i == at_once) fail("a connection that nobody made");
      meter->last = starts[i].begin_ns;
      meter_count(meter);
      coroipcc_disconnect(starts[i].connection);
      starts[i] = start(door);
    }
  }
  for (uint32_t i = 0; i < at_once; i++) coroipcc_disconnect(starts[i].connection);
}

int main(int argc, char** argv) {
  struct settings settings = parse_settings(argc, argv);
  const struct options* options = &settings.options;
  if (options->at_once == 0 || options->at_once > AT_ONCE_MAX) fail("--at-once: 1 to 64");
  struct pair pair = fork_peers(options);
  if (pair.server == 0) {
    answer_until_left(&pair, &settings);
    return 0;
  }
  const struct door door = find_door(&pair, &settings);
  struct meter meter = meter_start(options, &pair, 1);
  if (options->at_once == 1)
    one_by_one(&door, &meter);
  else
    several(&door, &meter, options->at_once);
  leave(enter(&door), &pair, &settings);
  return meter_report(&meter, "coroipc connect", options, 1, 0);
}
