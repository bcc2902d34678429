/* rtt.c: a blocking call by the C API: coroipcc_request, the answer copied into the caller's
 * memory; a handler in the server. Four copies: in and out, for request and answer.
 *
 *   rtt --payload 64 --client-cpu 1 --server-cpu 0 adaptive
 *   rtt --payload 64 --client-cpu 1 adaptive ADDRESS     of a server that runs already */
#include "answer.h"

int main(int argc, char** argv) {
  struct settings settings = parse_settings(argc, argv);
  const struct options* options = &settings.options;
  struct pair pair = settings.address == NULL ? fork_peers(options) : client_alone(options);
  if (pair.server == 0) {
    answer_until_left(&pair, &settings);
    return 0;
  }
  struct coroipcc_connection* connection = connect_service(&pair, &settings);
  uint32_t* request = private_memory(options->payload_bytes);
  uint32_t* answer = private_memory(options->answer_bytes);
  struct iovec payload = {request, options->payload_bytes};
  uint64_t wrong = 0;
  struct meter meter = meter_start(options, &pair, 1);
  for (uint32_t seed = 0; !meter.over; seed++) {
    meter_pause(&meter, options);
    touched_fill(request, options->payload_bytes, seed, options->hand_over);
    struct coroipcc_response response;
    check_coroipc("coroipcc_request",
                  coroipcc_request(connection, CALL, &payload, 1, COROIPCC_TIMEOUT_DEFAULT, answer,
                                   options->answer_bytes, &response));
    wrong += answer_wrong(answer, response.bytes, seed, options);
    meter_count(&meter);
  }
  leave(connection, &pair, &settings);
  return meter_report(&meter, "coroipc rtt", options, 1, wrong);
}
