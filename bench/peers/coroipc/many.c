/* many.c: connections of one group by the C API, some of them with a request in flight each: each
 * batch of answers is followed by a batch of as many requests, whatever their connections. */
#include "answer.h"

#define ACTIVE_MAX 256u

struct slot {
  struct coroipcc_connection* connection;
  uint32_t seed;
};

static struct coroipc_entry request_of(const struct slot* slot, uint32_t number,
                                       const struct options* options) {
  return (struct coroipc_entry){.connection = coroipcc_connection_number(slot->connection),
                                .kind = COROIPC_KIND_REQUEST,
                                .id = CALL,
                                .correlation = number,
                                .argument = STALL_MS,
                                .bytes = options->payload_bytes};
}

int main(int argc, char** argv) {
  struct settings settings = parse_settings(argc, argv);
  const struct options* options = &settings.options;
  if (options->active > ACTIVE_MAX) fail("--active: more than 256");
  struct pair pair = fork_peers(options);
  if (pair.server == 0) {
    answer_until_left(&pair, &settings);
    return 0;
  }
  const struct door door = find_door(&pair, &settings);
  struct coroipcc_connection** all = calloc(options->connections, sizeof *all);
  struct many many = {.active = options->active,
                      .counts = calloc(options->active, sizeof(uint64_t))};
  if (all == NULL || many.counts == NULL) fail("calloc");
  const double before[2] = {count_fds(getpid()), count_fds(pair.server)};
  for (uint32_t i = 0; i < options->connections; i++) all[i] = enter(&door);
  const double after[2] = {count_fds(getpid()), count_fds(pair.server)};

  static struct slot slots[ACTIVE_MAX];
  static struct coroipc_entry rows[ACTIVE_MAX];
  static struct inbox inbox;
  inbox.arena = private_memory(ARENA_BYTES);
  uint32_t stride = (options->payload_bytes + 7u) & ~7u, count = 0;
  uint8_t* arena = private_memory((size_t)options->active * stride);
  uint32_t step = options->connections / options->active;
  uint64_t wrong = 0;
  for (uint32_t slot = 0; slot < options->active; slot++) {
    slots[slot] = (struct slot){all[slot * step], slot << 20};
    rows[count++] = request_of(&slots[slot], slot, options);
  }
  many.meter = meter_start(options, &pair, 1);
  many.meter.measured.client_fds = (after[0] - before[0]) / options->connections;
  many.meter.measured.server_fds = (after[1] - before[1]) / options->connections;
  while (!many.meter.over) {
    for (uint32_t row = 0; row < count; row++) {
      struct slot* slot = &slots[rows[row].correlation];
      rows[row].offset = row * stride;
      touched_fill((uint32_t*)(arena + (size_t)row * stride), options->payload_bytes, ++slot->seed,
                   options->hand_over);
    }
    coroipcc_send_batch(door.group, rows, count, arena);
    for (uint32_t row = 0; row < count; row++)
      check_coroipc("coroipcc_send_batch", (coroipc_status)rows[row].argument);
    receive_rows(door.group, &inbox);
    count = 0;
    for (uint32_t row = 0; row < inbox.batch.count; row++) {
      const struct coroipc_entry* entry = &inbox.entries[row];
      if (entry->kind != COROIPC_KIND_RESPONSE) fail("something else than an answer");
      check_coroipc("answer", (coroipc_status)entry->argument);
      uint32_t slot = entry->correlation;
      if (slot >= options->active) fail("an answer that nobody asked for");
      wrong += answer_wrong(payload_of(&inbox, row), entry->bytes, slots[slot].seed, options);
      free_row(&inbox, row);
      slot_answered(&many, slot);
      rows[count++] = request_of(&slots[slot], slot, options);
    }
  }
  for (uint32_t i = 1; i < options->connections; i++) coroipcc_disconnect(all[i]);
  leave(all[0], &pair, &settings);
  return many_report(&many, "coroipc many", options, wrong);
}
