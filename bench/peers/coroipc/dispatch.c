/* dispatch.c: messages of a server to one client by the C API: batches of `--batch`, received in
 * batches, each payload copied out of the ring before it is read. Two copies. */
#include "service.h"

struct feed {
  struct coroipcs_connection* connection; /* NULL: nobody has subscribed, or they left */
  bool left;
  bool full;
};

static void subscribe(struct coroipcs_connection* connection,
                      const struct coroipcs_request* request, void* context) {
  (void)request;
  ((struct feed*)context)->connection = connection;
}

/* Its client's leaving says as much. */
static void ignore(struct coroipcs_connection* connection, const struct coroipcs_request* request,
                   void* context) {
  (void)connection, (void)request, (void)context;
}

static coroipcs_handler_fn feed_handler(struct coroipcs_connection* connection, uint16_t service,
                                        uint16_t id, void* context) {
  (void)connection, (void)service, (void)context;
  return id == SUBSCRIBE ? subscribe : id == END ? ignore : NULL;
}

static int feed_left(struct coroipcs_connection* connection, coroipc_status why, void* context) {
  (void)connection, (void)why;
  struct feed* feed = context;
  feed->connection = NULL;
  feed->left = true;
  return 0;
}

static void feed_drain(struct coroipcs_connection* connection, void* context) {
  (void)connection;
  ((struct feed*)context)->full = false;
}

/* Between two looks at the connections, as BURST of bench/server-work.ts: each look is a system
 * call. */
static uint32_t burst_messages(uint32_t payload_bytes) {
  uint32_t messages = payload_bytes == 0 ? 512 : (8u << 20) / payload_bytes;
  return messages > 512 ? 512 : messages == 0 ? 1 : messages;
}

static void serve(const struct pair* pair, const struct settings* settings) {
  const struct options* options = &settings->options;
  struct feed feed = {0};
  struct coroipcs_callbacks callbacks = {.context = &feed,
                                         .handler_get = feed_handler,
                                         .disconnected = feed_left,
                                         .drain = feed_drain};
  struct coroipcs_server* server = listen_here(pair, settings, &callbacks);
  uint32_t stride = (options->payload_bytes + 7u) & ~7u;
  uint8_t* arena = private_memory((size_t)options->batch * stride);
  struct coroipc_entry* rows = private_memory(options->batch * sizeof *rows);
  uint32_t burst = burst_messages(options->payload_bytes);
  uint32_t sequence = 0;
  while (!feed.left) {
    coroipc_status status = coroipcs_process(server, 0);
    if (feed.connection == NULL || feed.full) {
      if (status == COROIPC_OK && !feed.left) coroipcs_wait(server, STALL_MS);
      continue;
    }
    uint32_t number = coroipcs_connection_number(feed.connection);
    for (uint32_t sent = 0; sent < burst && !feed.full; sent += options->batch) {
      for (uint32_t row = 0; row < options->batch; row++) {
        uint32_t* payload = (uint32_t*)(arena + (size_t)row * stride);
        touched_fill(payload, options->payload_bytes, sequence++, options->hand_over);
        rows[row] = (struct coroipc_entry){.connection = number,
                                           .kind = COROIPC_KIND_DISPATCH,
                                           .id = DISPATCH,
                                           .offset = row * stride,
                                           .bytes = options->payload_bytes};
      }
      coroipcs_send_batch(server, rows, options->batch, arena);
      /* Queued all the same; but this is the moment to stop until there is room. */
      feed.full = rows[options->batch - 1].argument == COROIPC_FULL;
    }
  }
  end_server(server);
}

int main(int argc, char** argv) {
  struct settings settings = parse_settings(argc, argv);
  const struct options* options = &settings.options;
  struct pair pair = settings.address == NULL ? fork_peers(options) : client_alone(options);
  if (pair.server == 0) {
    serve(&pair, &settings);
    return 0;
  }
  struct coroipcc_connection* connection = connect_service(&pair, &settings);
  struct coroipcc_group* group = coroipcc_connection_group(connection);
  static struct inbox inbox;
  inbox.arena = private_memory(ARENA_BYTES);
  uint64_t wrong = 0;
  uint32_t seed = 0;
  coroipcc_dispatch_flow(connection, 1);
  check_coroipc("coroipcc_send", coroipcc_send(connection, SUBSCRIBE, NULL, 0));
  uint32_t per_sample = messages_per_sample(options->payload_bytes);
  struct meter meter = meter_start(options, &pair, per_sample);
  while (!meter.over) {
    receive_rows(group, &inbox);
    for (uint32_t row = 0; row < inbox.batch.count; row++) {
      const struct coroipc_entry* entry = &inbox.entries[row];
      if (entry->kind == COROIPC_KIND_DISCONNECTED) fail("the server left");
      if (entry->kind == COROIPC_KIND_DISPATCH && !meter.over) {
        wrong += entry->bytes != options->payload_bytes ||
                 !touched_right(payload_of(&inbox, row), entry->bytes, seed, options->hand_over);
        seed++;
        meter_count(&meter);
      }
      free_row(&inbox, row);
    }
  }
  leave(connection, &pair, &settings);
  return meter_report(&meter, "coroipc dispatch", options, per_sample, wrong);
}
