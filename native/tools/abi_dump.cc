// abi_dump: prints native/lib/abi.generated.ts, so that every number that TypeScript shares with C
// has one source: the headers in native/include/coroipc. Offsets come from offsetof, lists are
// complete or this does not compile. `test/house/abi-generated.test.ts` fails when the committed
// file is not what this program prints.
#include <coroipc/abi.h>
#include <coroipc/coroipcs.h>
#include <coroipc/types.h>
#include <ctype.h>
#include <stddef.h>
#include <stdio.h>

namespace {

struct Named {
  const char* name;
  unsigned long long value;
};

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

// The names as in C after COROIPC_, in the order of their numbers.
constexpr Named kStatus[] = {
#define STATUS(name)      \
  {                       \
#name, COROIPC_##name \
  }
    STATUS(OK),
    STATUS(INVALID_ARGUMENT),
    STATUS(SYSTEM),
    STATUS(NO_MEMORY),
    STATUS(CONNECT_REFUSED),
    STATUS(DENIED),
    STATUS(LIMIT),
    STATUS(NO_SERVICE),
    STATUS(VERSION),
    STATUS(PROTOCOL),
    STATUS(PEER_DEAD),
    STATUS(DISCONNECTED),
    STATUS(UNKNOWN_OUTCOME),
    STATUS(TIMED_OUT),
    STATUS(ABORTED),
    STATUS(FULL),
    STATUS(TOO_LARGE),
    STATUS(LEASE_HELD),
    STATUS(FORKED),
    STATUS(NO_HANDLER),
    STATUS(HANDLER_FAILED),
    STATUS(HANDLER_REJECTED),
    STATUS(HANDLER_ASYNC),
    STATUS(ANSWER_INVALID),
    STATUS(ANSWER_TOO_LARGE),
    STATUS(RETRY),
    STATUS(REFUSED),
    STATUS(DEADLOCK),
    STATUS(ADDRESS_IN_USE),
    STATUS(AGAIN),
    STATUS(BACKLOG_OVERFLOW),
#undef STATUS
};
static_assert(COUNT_OF(kStatus) == COROIPC_STATUS_COUNT, "a status code is missing");

constexpr Named kStats[] = {
#define COUNTER(name)                                              \
  {                                                                \
#name, offsetof(struct coroipc_stats, name) / sizeof(uint64_t) \
  }
    COUNTER(requests),
    COUNTER(responses),
    COUNTER(dispatches),
    COUNTER(bytes_received),
    COUNTER(bytes_sent),
    COUNTER(backlog_messages),
    COUNTER(backlog_bytes),
    COUNTER(unsent_responses),
    COUNTER(in_flight),
    COUNTER(flow_control),
    COUNTER(flow_control_count),
    COUNTER(overload),
    COUNTER(dropped),
    COUNTER(invalid_requests),
    COUNTER(send_retries),
    COUNTER(receive_retries),
    COUNTER(doorbells_sent),
    COUNTER(doorbells_received),
    COUNTER(sleeps),
    COUNTER(segments),
    COUNTER(segment_bytes),
    COUNTER(late_responses),
    COUNTER(cancelled),
    COUNTER(connections),
    COUNTER(connections_total),
    COUNTER(connections_refused),
    COUNTER(protocol_errors),
    COUNTER(handshakes_pending),
#undef COUNTER
};
static_assert(COUNT_OF(kStats) == COROIPC_STATS_WORDS, "a counter is missing");

template <size_t N>
constexpr bool InOrder(const Named (&list)[N]) {
  for (size_t i = 0; i < N; i++)
    if (list[i].value != i) return false;
  return true;
}
static_assert(InOrder(kStatus) && InOrder(kStats), "lists are in the order of the headers");

constexpr Named kRow[] = {
#define COLUMN(name)                                              \
  {                                                               \
#name, offsetof(struct coroipc_entry, name) / sizeof(int32_t) \
  }
    COLUMN(connection),
    COLUMN(kind),
    COLUMN(id),
    COLUMN(correlation),
    COLUMN(status),
    COLUMN(argument),
    COLUMN(sequence),
    COLUMN(flags),
    COLUMN(offset),
    COLUMN(bytes),
    COLUMN(segment),
#undef COLUMN
    {"length", sizeof(struct coroipc_entry) / sizeof(int32_t)},
};

constexpr Named kKind[] = {
#define KIND(name, NAME)       \
  {                            \
#name, COROIPC_KIND_##NAME \
  }
    KIND(request, REQUEST),
    KIND(send, SEND),
    KIND(cancel, CANCEL),
    KIND(response, RESPONSE),
    KIND(dispatch, DISPATCH),
    KIND(authorize, AUTHORIZE),
    KIND(connected, CONNECTED),
    KIND(disconnected, DISCONNECTED),
    KIND(drain, DRAIN),
    KIND(flow_control, FLOW_CONTROL),
    KIND(connect_failed, CONNECT_FAILED),
    KIND(buffer, BUFFER),
    KIND(slot_free, SLOT_FREE),
    KIND(authorize_ended, AUTHORIZE_ENDED),
    KIND(room, ROOM),
    KIND(accepted, ACCEPTED),
#undef KIND
};

constexpr Named kIn[] = {
    {"slab", COROIPC_IN_ARENA},
    {"block", COROIPC_IN_BLOCK},
    {"segment", COROIPC_IN_SEGMENT},
    {"large", COROIPC_IN_LARGE},
};

constexpr Named kWait[] = {{"adaptive", COROIPC_WAIT_ADAPTIVE},
                           {"spin", COROIPC_WAIT_SPIN},
                           {"sleep", COROIPC_WAIT_SLEEP}};

constexpr Named kFeature[] = {{"memfd", COROIPC_FEATURE_MEMFD},
                              {"seals", COROIPC_FEATURE_SEALS},
                              {"sockets", COROIPC_FEATURE_SOCKETS},
                              {"fd_passing", COROIPC_FEATURE_FD_PASSING},
                              {"credentials", COROIPC_FEATURE_CREDENTIALS},
                              {"epoll", COROIPC_FEATURE_EPOLL},
                              {"dontfork", COROIPC_FEATURE_DONTFORK},
                              {"pidfd", COROIPC_FEATURE_PIDFD},
                              {"peer_pidfd", COROIPC_FEATURE_PEER_PIDFD},
                              {"noexec_seal", COROIPC_FEATURE_NOEXEC_SEAL},
                              {"populate", COROIPC_FEATURE_POPULATE},
                              {"punch_hole", COROIPC_FEATURE_PUNCH_HOLE}};

constexpr Named kPolicy[] = {{"error", COROIPCS_POLICY_ERROR},
                             {"drop-oldest", COROIPCS_POLICY_DROP_OLDEST},
                             {"drop-newest", COROIPCS_POLICY_DROP_NEWEST},
                             {"disconnect", COROIPCS_POLICY_DISCONNECT}};

constexpr Named kPriority[] = {{"low", COROIPCS_PRIORITY_LOW},
                               {"normal", COROIPCS_PRIORITY_NORMAL},
                               {"high", COROIPCS_PRIORITY_HIGH}};

constexpr Named kLimits[] = {
    {"control_bytes", COROIPC_CONTROL_BYTES},
    {"ring_bytes_min", COROIPC_RING_BYTES_MIN},
    {"ring_bytes_max", COROIPC_RING_BYTES_MAX},
    {"message_bytes_max", COROIPC_MESSAGE_BYTES_MAX},
    {"requests_in_flight_max", COROIPC_REQUESTS_IN_FLIGHT_MAX},
    {"segments_max", COROIPC_SEGMENTS_MAX},
    {"record_bytes", COROIPC_RECORD_BYTES},
    {"block_bytes", COROIPC_BLOCK_BYTES},
    {"rate_off", COROIPCS_RATE_OFF},
};

// flow_control -> flowControl. Names in capitals (status codes) and names with '-' stay as they
// are.
void PrintName(const char* name) {
  for (; *name != '\0'; name++) {
    if (*name == '_' && islower(static_cast<unsigned char>(name[1]))) {
      putchar(toupper(static_cast<unsigned char>(*++name)));
    } else {
      putchar(*name);
    }
  }
}

bool NeedsQuotes(const char* name) {
  for (; *name != '\0'; name++)
    if (*name == '-') return true;
  return false;
}

template <size_t N>
void PrintObject(const char* about, const char* name, const Named (&list)[N]) {
  printf("\n/** %s */\nexport const %s = {\n", about, name);
  for (const Named& item : list) {
    const char* quote = NeedsQuotes(item.name) ? "'" : "";
    printf("  %s", quote);
    PrintName(item.name);
    printf("%s: %llu,\n", quote, item.value);
  }
  printf("} as const\n");
}

}  // namespace

int main() {
  printf(
      "// Printed by native/tools/abi_dump.cc from native/include/coroipc; not to be edited. To "
      "renew it:\n"
      "//   npm run generate\n\n"
      "/** COROIPC_ABI_VERSION. */\nexport const abiVersion = %u\n\n"
      "/** COROIPC_LAYOUT: a sum of sizes; tells builds of one version apart. */\n"
      "export const layout = %u\n",
      COROIPC_ABI_VERSION, static_cast<unsigned>(COROIPC_LAYOUT));
  PrintObject("`enum coroipc_status_code`.", "Status", kStatus);
  PrintObject("Int32 columns of `struct coroipc_entry`.", "Row", kRow);
  PrintObject("`enum coroipc_kind`.", "Kind", kKind);
  PrintObject("`COROIPC_IN_*`.", "In", kIn);
  PrintObject("`enum coroipc_wait`.", "waitCodes", kWait);
  PrintObject("`enum coroipc_feature`.", "featureCodes", kFeature);
  PrintObject("`enum coroipcs_policy`.", "policyCodes", kPolicy);
  PrintObject("`enum coroipcs_priority`.", "priorityCodes", kPriority);
  PrintObject("Constants of the layout, and `COROIPCS_RATE_OFF`.", "limits", kLimits);
  printf("\n/** Counters of `struct coroipc_stats`, in order. */\nexport const statsNames = [\n");
  for (const Named& counter : kStats) {
    printf("  '");
    PrintName(counter.name);
    printf("',\n");
  }
  printf("] as const\n");
  return 0;
}
