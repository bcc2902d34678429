/* Every record length at every start offset of a ring completes, in all three rings: a ring of 4096
 * bytes, records of 24 to 2048 bytes, starts 0, 24, 32 .. 4088 (a record is no shorter than its
 * header, so nothing starts at 8 or 16). One thread plays both sides, so that a record that does
 * not come is a stall and not a delay. Then the same starts with a full ring: as many records as
 * fit and some that have to wait, all of which come, in order. Exit code 0 if all of it held. */
#include <coroipc/abi.h>
#include <coroipc/coroipcc.h>
#include <coroipc/coroipcs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RING 4096u
#define HEADER COROIPC_RECORD_BYTES
#define RECORD_MAX (RING / 2)
#define ROWS 256

static struct coroipcs_server* server;
static struct coroipcc_group* group;
static struct coroipcc_connection* client;
static struct coroipcs_connection* peer;

static struct coroipc_entry rows[ROWS];
static void* blocks[ROWS];
static uint8_t arena[1 << 20];
static uint8_t out[RING];

static void must(const char* what, coroipc_status status) {
  if (status == COROIPC_OK || status == COROIPC_AGAIN) return;
  printf("%s: %s\n", what, coroipc_status_name(status));
  exit(1);
}

static struct coroipc_batch new_batch(void) {
  const struct coroipc_batch batch = {.entries = rows,
                                      .blocks = blocks,
                                      .capacity = ROWS,
                                      .arena = arena,
                                      .arena_bytes = sizeof arena};
  return batch;
}

static uint32_t expected; /* counts what came, of all rings */
static uint32_t sent;

static void check(const uint8_t* payload, uint32_t bytes) {
  uint32_t number = expected++;
  if (bytes >= 4 && memcmp(payload, &number, 4) != 0) {
    printf("message %u came as another\n", number);
    exit(1);
  }
}

static void payload_of(uint32_t bytes) {
  const uint32_t number = sent++;
  if (bytes >= 4) memcpy(out, &number, 4);
}

/* One turn of the server: answers requests with as many bytes as `argument` of the id says. */
static void serve(void) {
  struct coroipc_batch batch = new_batch();
  must("server", coroipcs_receive(server, &batch, 1));
  for (uint32_t i = 0; i < batch.count; ++i) {
    const struct coroipc_entry* const row = &rows[i];
    const uint8_t* const payload = arena + row->offset;
    switch (row->kind) {
      case COROIPC_KIND_AUTHORIZE:
        must("authorize",
             coroipcs_authorize(coroipcs_connection_at(server, row->connection), COROIPC_OK, 0));
        break;
      case COROIPC_KIND_CONNECTED:
        peer = coroipcs_connection_at(server, row->connection);
        break;
      case COROIPC_KIND_SEND:
        check(payload, row->bytes);
        break;
      case COROIPC_KIND_REQUEST: { /* the payload: how many bytes to answer */
        uint32_t bytes;
        memcpy(&bytes, payload, 4);
        payload_of(bytes);
        const struct iovec part = {out, bytes};
        must("respond", coroipcs_response_send(peer, row->correlation, COROIPC_OK, 0, &part, 1));
        break;
      }
      default:
        break;
    }
    if (blocks[i] != NULL) coroipc_block_free(blocks[i]);
    blocks[i] = NULL;
  }
}

static void collect(void) {
  struct coroipc_batch batch = new_batch();
  must("client", coroipcc_receive(group, &batch, 1));
  for (uint32_t i = 0; i < batch.count; ++i) {
    if (rows[i].kind == COROIPC_KIND_RESPONSE || rows[i].kind == COROIPC_KIND_DISPATCH)
      check(arena + rows[i].offset, rows[i].bytes);
    if (rows[i].kind == COROIPC_KIND_DISCONNECTED) {
      printf("the connection ended: %s\n", coroipc_status_name((int)rows[i].argument));
      exit(1);
    }
    if (blocks[i] != NULL) coroipc_block_free(blocks[i]);
    blocks[i] = NULL;
  }
}

static void put_request(uint32_t bytes) {
  payload_of(bytes);
  const struct iovec part = {out, bytes};
  must("send", coroipcc_send(client, 0, &part, 1));
}

static void put_response(uint32_t bytes) {
  const struct iovec part = {&bytes, 4};
  uint32_t correlation;
  must("request", coroipcc_request_send(client, 0, &part, 1, 0, &correlation));
  serve();
}

static void put_dispatch(uint32_t bytes) {
  payload_of(bytes);
  const struct iovec part = {out, bytes};
  must("dispatch", coroipcs_dispatch_send(peer, 0, &part, 1));
}

/* The control page, found where the library has mapped it: shows that the model of offsets below is
 * true. */
static const struct coroipc_control* control;

static void find_control(void) {
  FILE* const maps = fopen("/proc/self/maps", "r");
  char line[512];
  while (maps != NULL && fgets(line, sizeof line, maps) != NULL) {
    unsigned long start;
    if (strstr(line, "/memfd:coroipc") != NULL && sscanf(line, "%lx-", &start) == 1)
      control = (const struct coroipc_control*)start;
  }
  if (maps != NULL) fclose(maps);
  if (control == NULL || control->header.magic != COROIPC_MAGIC) {
    printf("no control page found\n");
    exit(1);
  }
}

struct ring {
  uint32_t index; /* COROIPC_RING_* */
  const char* name;
  void (*put)(uint32_t bytes);
  uint32_t offset; /* where its next record starts, by the rules of abi.h */
};

/* Both sides get turns until everything has come. */
static void settle(const struct ring* ring, uint32_t record) {
  for (int turns = 0; expected != sent; ++turns) {
    if (turns == 1000) {
      printf("%s ring: a record of %u bytes at offset %u did not complete\n", ring->name, record,
             ring->offset);
      exit(1);
    }
    serve();
    collect();
  }
  const uint32_t position =
      __atomic_load_n(&control->ring[ring->index].write_position, __ATOMIC_SEQ_CST);
  if (position % RING != ring->offset) {
    printf("%s ring: written up to %u, expected %u\n", ring->name, position % RING, ring->offset);
    exit(1);
  }
}

static void put(struct ring* ring, uint32_t record) {
  ring->put(record - HEADER);
  if (ring->offset + record > RING) ring->offset = 0; /* after a pad */
  ring->offset = (ring->offset + record) % RING;
}

/* Lets records of other sizes go by until the next one starts at `offset`. */
static void move_to(struct ring* ring, uint32_t offset) {
  while (ring->offset != offset) {
    const uint32_t end = offset > ring->offset ? offset : RING;
    uint32_t distance = end - ring->offset;
    if (distance < HEADER) { /* too short for a record: once more around */
      put(ring, end == RING ? HEADER : RECORD_MAX);
    } else {
      uint32_t step = distance;
      if (step > RECORD_MAX)
        step = distance - RECORD_MAX < HEADER ? RECORD_MAX - HEADER : RECORD_MAX;
      put(ring, step);
    }
    settle(ring, 0);
  }
}

static int valid(uint32_t offset) { return offset == 0 || offset >= HEADER; }

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const uint32_t step = (uint32_t)atoi(argv[2]); /* of record lengths, in bytes: 8 for all */
  alarm(110);
  struct coroipcs_options options;
  coroipcs_options_init(&options);
  options.threads = 0;
  options.authorize_events = 1;
  options.request_ring_bytes = options.response_ring_bytes = options.dispatch_ring_bytes = RING;
  options.wait = COROIPC_WAIT_SLEEP;
  must("create", coroipcs_create(&options, &server));
  must("service", coroipcs_service_add(server, 1, NULL));
  must("listen", coroipcs_listen(server, argv[1]));
  struct coroipcc_group_options group_options;
  coroipcc_group_options_init(&group_options);
  group_options.threads = 0;
  must("group", coroipcc_group_create(&group_options, &group));
  struct coroipcc_options client_options;
  coroipcc_options_init(&client_options);
  client_options.service = 1;
  must("connect", coroipcc_connect_start(group, argv[1], &client_options, 5000, &client));
  while (peer == NULL) {
    collect();
    serve();
  }
  collect();
  coroipcc_dispatch_flow(client, 1);

  struct ring rings[] = {{COROIPC_RING_REQUEST, "request", put_request, 0},
                         {COROIPC_RING_RESPONSE, "response", put_response, 0},
                         {COROIPC_RING_DISPATCH, "dispatch", put_dispatch, 0}};
  find_control();
  uint32_t combinations = 0, waited = 0;
  for (size_t i = 0; i < 3; ++i) {
    struct ring* const ring = &rings[i];
    for (uint32_t record = HEADER; record <= RECORD_MAX; record += step) {
      for (uint32_t offset = 0; offset < RING; offset += 8) {
        if (!valid(offset)) continue;
        move_to(ring, offset);
        put(ring, record);
        settle(ring, record);
        ++combinations;
      }
    }
    /* The ring full, and more behind it. */
    for (uint32_t record = HEADER; record <= RECORD_MAX; record += 248) {
      for (uint32_t offset = 0; offset < RING; offset += 8 * 37) {
        if (!valid(offset)) continue;
        move_to(ring, offset);
        const uint32_t count = RING / record + 3;
        for (uint32_t n = 0; n < count && n < 200; ++n) put(ring, record);
        settle(ring, record);
        ++waited;
      }
    }
  }
  printf("%u combinations, %u times a full ring, %u messages\n", combinations, waited, sent);
  coroipcc_disconnect(client);
  coroipcc_group_destroy(group);
  must("close", coroipcs_close(server));
  coroipcs_destroy(server);
  return 0;
}
