/* slots.c: the floor of a blocking round trip from JavaScript to JavaScript: an addon of Node-API
 * over two slots of shared memory, one for the request and one for the answer, each with one word
 * that publishes it. No ring, no record, no check, no wake-up: what is left is what the engine
 * takes for entering and leaving native code. For the benchmark alone: two processes that trust
 * each other, one call in flight.
 *
 *   call, serve             typed arrays are arguments and results, as in the library
 *   callArena, serveArena   integers are; payloads lie in an arena that native code knows
 *   serveScoped             as serve, each handler in a callback scope, as out of an event loop
 *   create, attach          give the slots themselves, or as much memory as is asked for, to do all
 *                           of it in JavaScript
 *
 * A call: copy in, publish, spin, copy out. A server returns when nothing has come for a while, so
 * that its event loop turns; JavaScript calls it again. */
#define _GNU_SOURCE 1 /* memfd_create, MAP_POPULATE */

#include <fcntl.h>
#include <node_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SLOT_BYTES 65536 /* bench/subjects/floor-napi.ts refuses more */
#define IDLE_TURNS (1u << 20)

/* The word has a line of its own: whoever spins on it takes no line away that is being written. */
struct slot {
  _Alignas(64) uint32_t turn;
  _Alignas(64) uint8_t payload[SLOT_BYTES];
};

struct slots {
  struct slot request, answer;
};

/* The same places, in private memory. */
struct arena {
  uint8_t request[SLOT_BYTES], answer[SLOT_BYTES];
};

static struct slots* slots;
static struct arena* arena;
static uint32_t last_turn; /* of the calls made, or answered */

static void publish(struct slot* slot, uint32_t turn) {
  /* ORDER slot-published (release; pairs with the load in is_published): the payload is visible
   * before the turn that uncovers it. */
  __atomic_store_n(&slot->turn, turn, __ATOMIC_RELEASE);
}

static bool is_published(const struct slot* slot, uint32_t turn) {
  /* ORDER slot-published (acquire): see publish. */
  return __atomic_load_n(&slot->turn, __ATOMIC_ACQUIRE) == turn;
}

static void round_trip(const void* request, size_t request_bytes, void* answer,
                       size_t answer_bytes) {
  uint32_t turn = ++last_turn;
  memcpy(slots->request.payload, request, request_bytes);
  publish(&slots->request, turn);
  while (!is_published(&slots->answer, turn)) continue;
  memcpy(answer, slots->answer.payload, answer_bytes);
}

/* False: nothing has come for long. */
static bool wait_for_request(uint32_t turn) {
  for (uint32_t i = 0; i < IDLE_TURNS; i++) {
    if (is_published(&slots->request, turn)) return true;
  }
  return false;
}

static void answer_with(const void* answer, size_t bytes) {
  memcpy(slots->answer.payload, answer, bytes);
  publish(&slots->answer, ++last_turn);
}

/* call(request, answer) */
static napi_value call(napi_env env, napi_callback_info info) {
  napi_value values[2];
  size_t count = 2, request_bytes = 0, answer_bytes = 0;
  void *request = NULL, *answer = NULL;
  napi_get_cb_info(env, info, &count, values, NULL, NULL);
  napi_get_typedarray_info(env, values[0], NULL, &request_bytes, &request, NULL, NULL);
  napi_get_typedarray_info(env, values[1], NULL, &answer_bytes, &answer, NULL, NULL);
  round_trip(request, request_bytes, answer, answer_bytes);
  return NULL;
}

/* callArena(bytes) */
static napi_value call_arena(napi_env env, napi_callback_info info) {
  napi_value values[1];
  size_t count = 1;
  int32_t bytes = 0;
  napi_get_cb_info(env, info, &count, values, NULL, NULL);
  napi_get_value_int32(env, values[0], &bytes);
  round_trip(arena->request, (size_t)bytes, arena->answer, (size_t)bytes);
  return NULL;
}

/* The answer of one handler, copied out. False: it threw. */
static bool handle(napi_env env, napi_async_context scope, napi_value receiver, napi_value handler,
                   napi_value request) {
  napi_handle_scope handles = NULL;
  napi_value result = NULL;
  size_t bytes = 0;
  void* answer = NULL;
  napi_open_handle_scope(env, &handles);
  napi_status status = scope != NULL
                           ? napi_make_callback(env, scope, receiver, handler, 1, &request, &result)
                           : napi_call_function(env, receiver, handler, 1, &request, &result);
  bool answered = status == napi_ok && napi_get_typedarray_info(env, result, NULL, &bytes, &answer,
                                                                NULL, NULL) == napi_ok;
  if (answered) answer_with(answer, bytes);
  napi_close_handle_scope(env, handles);
  return answered;
}

static void serve_requests(napi_env env, napi_callback_info info, napi_async_context scope,
                           napi_value receiver) {
  napi_value values[2];
  size_t count = 2, request_bytes = 0;
  void* request = NULL;
  napi_get_cb_info(env, info, &count, values, NULL, NULL);
  napi_get_typedarray_info(env, values[1], NULL, &request_bytes, &request, NULL, NULL);
  while (wait_for_request(last_turn + 1)) {
    memcpy(request, slots->request.payload, request_bytes);
    if (!handle(env, scope, receiver, values[0], values[1])) return;
  }
}

/* serve(handler, request): the handler gets `request`, filled, and returns the answer. */
static napi_value serve(napi_env env, napi_callback_info info) {
  napi_value receiver = NULL;
  napi_get_undefined(env, &receiver);
  serve_requests(env, info, NULL, receiver);
  return NULL;
}

/* serveScoped(handler, request) */
static napi_value serve_scoped(napi_env env, napi_callback_info info) {
  napi_value resource = NULL, name = NULL;
  napi_async_context scope = NULL;
  napi_create_object(env, &resource);
  napi_create_string_utf8(env, "slots", NAPI_AUTO_LENGTH, &name);
  napi_async_init(env, resource, name, &scope);
  serve_requests(env, info, scope, resource);
  napi_async_destroy(env, scope);
  return NULL;
}

/* serveArena(handler, bytes): the handler finds the request in the arena and leaves the answer
 * there. */
static napi_value serve_arena(napi_env env, napi_callback_info info) {
  napi_value values[2], receiver = NULL;
  size_t count = 2;
  int32_t bytes = 0;
  napi_get_cb_info(env, info, &count, values, NULL, NULL);
  napi_get_value_int32(env, values[1], &bytes);
  napi_get_undefined(env, &receiver);
  while (wait_for_request(last_turn + 1)) {
    memcpy(arena->request, slots->request.payload, (size_t)bytes);
    if (napi_call_function(env, receiver, values[0], 0, NULL, NULL) != napi_ok) return NULL;
    answer_with(arena->answer, (size_t)bytes);
  }
  return NULL;
}

static void keep_slots(napi_env env, void* data, void* hint) {
  (void)env, (void)data, (void)hint; /* mapped as long as the process */
}

static napi_value map(napi_env env, int fd, size_t bytes) {
  napi_value buffer = NULL;
  void* mapping = MAP_FAILED;
  if (fd >= 0)
    mapping = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
  if (mapping == MAP_FAILED) {
    napi_throw_error(env, NULL, "the slots cannot be mapped");
    return NULL;
  }
  slots = mapping;
  napi_create_external_arraybuffer(env, slots, bytes, keep_slots, NULL, &buffer);
  return buffer;
}

struct wanted {
  char path[4096];
  size_t bytes;
};

/* (path, bytes): without the second, the slots. */
static struct wanted wanted_of(napi_env env, napi_callback_info info) {
  napi_value values[2];
  size_t count = 2;
  uint32_t bytes = 0;
  struct wanted wanted = {"", sizeof(struct slots)};
  napi_get_cb_info(env, info, &count, values, NULL, NULL);
  napi_get_value_string_utf8(env, values[0], wanted.path, sizeof wanted.path, NULL);
  napi_get_value_uint32(env, values[1], &bytes);
  if (bytes > wanted.bytes) wanted.bytes = bytes;
  return wanted;
}

/* create(path, bytes): new slots as an ArrayBuffer, and a link to them. Not a file of that name:
 * writing to one waits for the disk now and then. They go with the process. */
static napi_value create(napi_env env, napi_callback_info info) {
  const struct wanted wanted = wanted_of(env, info);
  char place[64];
  int fd = memfd_create("coroipc-slots", MFD_CLOEXEC);
  snprintf(place, sizeof place, "/proc/%d/fd/%d", (int)getpid(), fd);
  if (fd >= 0 && (ftruncate(fd, (off_t)wanted.bytes) != 0 || symlink(place, wanted.path) != 0)) {
    close(fd);
    fd = -1;
  }
  return map(env, fd, wanted.bytes);
}

/* attach(path, bytes): those of another process. */
static napi_value attach(napi_env env, napi_callback_info info) {
  const struct wanted wanted = wanted_of(env, info);
  int fd = open(wanted.path, O_RDWR | O_CLOEXEC);
  napi_value buffer = map(env, fd, wanted.bytes);
  if (fd >= 0) close(fd);
  return buffer;
}

static void add_function(napi_env env, napi_value exports, const char* name, napi_callback native) {
  napi_value function = NULL;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, native, NULL, &function);
  napi_set_named_property(env, exports, name, function);
}

static void add_offset(napi_env env, napi_value exports, const char* name, size_t offset) {
  napi_value value = NULL;
  napi_create_uint32(env, (uint32_t)offset, &value);
  napi_set_named_property(env, exports, name, value);
}

NAPI_MODULE_INIT() {
  napi_value buffer = NULL;
  napi_ref kept = NULL;
  void* data = NULL;
  napi_create_arraybuffer(env, sizeof(struct arena), &data, &buffer);
  napi_create_reference(env, buffer, 1, &kept);
  arena = data;
  napi_set_named_property(env, exports, "arena", buffer);
  add_function(env, exports, "create", create);
  add_function(env, exports, "attach", attach);
  add_function(env, exports, "call", call);
  add_function(env, exports, "callArena", call_arena);
  add_function(env, exports, "serve", serve);
  add_function(env, exports, "serveScoped", serve_scoped);
  add_function(env, exports, "serveArena", serve_arena);
  add_offset(env, exports, "arenaAnswer", offsetof(struct arena, answer));
  add_offset(env, exports, "requestTurn", offsetof(struct slots, request.turn));
  add_offset(env, exports, "requestPayload", offsetof(struct slots, request.payload));
  add_offset(env, exports, "answerTurn", offsetof(struct slots, answer.turn));
  add_offset(env, exports, "answerPayload", offsetof(struct slots, answer.payload));
  return exports;
}
