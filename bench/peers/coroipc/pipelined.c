/* pipelined.c: `--batch` requests in flight by the C API: each batch of answers is followed by a
 * batch of as many requests. A request of slot s has a sequence of seeds of its own, so that an
 * answer in the wrong slot is a wrong one. A sample runs from one answer of the first slot to its
 * next, as in bench/cases/pipelined.ts. */
#include "answer.h"

#define SLOTS_MAX 256u

struct slots {
  struct settings settings;
  struct coroipcc_group* group;
  uint32_t connection;
  uint32_t seeds[SLOTS_MAX];
  struct coroipc_entry rows[SLOTS_MAX];
  uint8_t* arena;
  uint32_t count; /* rows that are ready */
};

static void ask(struct slots* slots, uint32_t slot) {
  uint32_t bytes = slots->settings.options.payload_bytes;
  uint32_t offset = slots->count * ((bytes + 7u) & ~7u);
  payload_fill((uint32_t*)(slots->arena + offset), bytes, ++slots->seeds[slot]);
  slots->rows[slots->count++] = (struct coroipc_entry){.connection = slots->connection,
                                                       .kind = COROIPC_KIND_REQUEST,
                                                       .id = CALL,
                                                       .correlation = slot,
                                                       .argument = STALL_MS,
                                                       .offset = offset,
                                                       .bytes = bytes};
}

static void send_rows(struct slots* slots) {
  if (slots->count == 0) return;
  coroipcc_send_batch(slots->group, slots->rows, slots->count, slots->arena);
  for (uint32_t row = 0; row < slots->count; row++)
    check_coroipc("coroipcc_send_batch", (coroipc_status)slots->rows[row].argument);
  slots->count = 0;
}

int main(int argc, char** argv) {
  struct slots slots = {.settings = parse_settings(argc, argv)};
  const struct options* options = &slots.settings.options;
  if (options->batch > SLOTS_MAX) fail("--batch: more than 256");
  struct pair pair = slots.settings.address == NULL ? fork_peers(options) : client_alone(options);
  if (pair.server == 0) {
    answer_until_left(&pair, &slots.settings);
    return 0;
  }
  struct coroipcc_connection* connection = connect_service(&pair, &slots.settings);
  slots.group = coroipcc_connection_group(connection);
  slots.connection = coroipcc_connection_number(connection);
  slots.arena = private_memory((size_t)options->batch * ((options->payload_bytes + 7u) & ~7u));
  static struct inbox inbox;
  inbox.arena = private_memory(ARENA_BYTES);
  uint64_t wrong = 0;
  uint32_t in_flight = options->batch;
  for (uint32_t slot = 0; slot < options->batch; slot++) {
    slots.seeds[slot] = slot << 20;
    ask(&slots, slot);
  }
  send_rows(&slots);
  struct meter meter = meter_start(options, &pair, options->batch);
  while (in_flight > 0) {
    receive_rows(slots.group, &inbox);
    for (uint32_t row = 0; row < inbox.batch.count; row++) {
      const struct coroipc_entry* entry = &inbox.entries[row];
      if (entry->kind != COROIPC_KIND_RESPONSE) fail("something else than an answer");
      check_coroipc("answer", (coroipc_status)entry->argument);
      uint32_t slot = entry->correlation;
      if (slot >= options->batch) fail("an answer that nobody asked for");
      wrong += answer_wrong(payload_of(&inbox, row), entry->bytes, slots.seeds[slot], options);
      free_row(&inbox, row);
      if (meter.over) {
        in_flight--;
        continue;
      }
      meter_count(&meter);
      ask(&slots, slot);
    }
    send_rows(&slots);
  }
  leave(connection, &pair, &slots.settings);
  return meter_report(&meter, "coroipc pipelined", options, 1, wrong);
}
