// api: what the C API says to wrong arguments: names of any bytes, options of any numbers, NULL
// where it is checked, structs of another size. Everything is refused or works, nothing is left.
#include <coroipc/coroipcc.h>
#include <coroipc/coroipcs.h>

#include <errno.h>

#include <string>

#include "input.h"
#include "kernel.h"
#include "socket.h"

using fuzz::input;
using fuzz::kernel;

namespace {

std::string Name() {
  static const char* const kStarts[] = {"", "@", "/", "/run/coroipc/", "demo", "."};
  std::string name = kStarts[input.Byte() % 6];
  const uint32_t count = input.Chance(8) ? input.Byte() : input.Byte() & 15;
  for (uint32_t i = 0; i < count; ++i) {
    const uint8_t byte = input.Byte();
    name.push_back(static_cast<char>(input.Chance(4) ? byte : 'a' + byte % 26));
  }
  return name;
}

void Files(const std::string& name) {
  static constexpr mode_t kModes[] = {S_IFSOCK | 0600, S_IFLNK | 0777, S_IFDIR | 0700,
                                      S_IFREG | 0600, S_IFIFO | 0600};
  coroipc::Address address;
  if (coroipc::ResolveConnect(name.c_str(), 0, &address) != COROIPC_OK) return;
  if (input.Chance(4)) kernel.files[address.text] = kModes[input.Byte() % 5];
  if (input.Chance(4)) kernel.files[address.text + ".lock"] = kModes[input.Byte() % 5];
  kernel.connect_errno = input.Chance(2) ? 0 : ECONNREFUSED;
}

void Addresses() {
  const std::string name = Name();
  const uint32_t room = input.Byte() % (COROIPCC_ADDRESS_BYTES + 1);
  const std::vector<char> exact(room);
  auto* const to = const_cast<char*>(exact.data());
  const coroipc_status status =
      coroipcc_address(name.c_str(), input.Byte() & 3, room == 0 ? nullptr : to, room);
  MUST(status == COROIPC_OK || status == COROIPC_AGAIN || status == COROIPC_INVALID_ARGUMENT);
  if (status == COROIPC_OK) MUST(memchr(to, 0, room) != nullptr);
  MUST(coroipcc_address(nullptr, 0, to, room) == COROIPC_INVALID_ARGUMENT);
}

void Server() {
  coroipcs_server* server = nullptr;
  coroipcs_options options;
  coroipcs_options_init(&options);
  MUST(coroipcs_create(nullptr, &server) == COROIPC_INVALID_ARGUMENT);
  MUST(coroipcs_create(&options, nullptr) == COROIPC_INVALID_ARGUMENT);
  options.threads = input.Byte() & 1;
  options.wait = static_cast<int>(input.Byte() % 5u) - 1;
  for (uint32_t* field = &options.authorize_timeout_ms; field != &options.segments + 1; ++field)
    if (input.Chance(4)) *field = input.Size(4096);
  if (input.Chance(8)) options.struct_bytes = input.Word();
  if (input.Chance(4)) options.segment_bytes = input.Size(1u << 20);
  if (input.Chance(4)) options.bytes_per_uid = input.Size(1u << 20);
  if (input.Chance(8)) kernel.Fault(1 + (input.Byte() & 7), EMFILE);
  if (coroipcs_create(&options, &server) != COROIPC_OK) {
    MUST(server == nullptr);
    return;
  }
  coroipcs_service_options service;
  coroipcs_service_options_init(&service);
  service.policy = static_cast<int>(input.Byte() & 7) - 2;
  service.priority = static_cast<int>(input.Byte() & 7) - 2;
  if (input.Chance(8)) service.struct_bytes = input.Word();
  const bool valid = service.policy >= 0 && service.policy <= COROIPCS_POLICY_DISCONNECT &&
                     service.priority >= 0 && service.priority <= COROIPCS_PRIORITY_HIGH &&
                     service.struct_bytes == sizeof service;
  MUST((coroipcs_service_add(server, 1, &service) == COROIPC_OK) == valid);
  MUST((coroipcs_service_add(server, 1, nullptr) == COROIPC_OK) == !valid);
  MUST(coroipcs_listen(server, nullptr) == COROIPC_INVALID_ARGUMENT);
  const std::string name = Name();
  Files(name);
  if (input.Chance(4)) kernel.Fault(1 + (input.Byte() & 15), input.Chance(2) ? ENOMEM : EACCES);
  if (coroipcs_listen(server, name.c_str()) == COROIPC_OK) {
    MUST(*coroipcs_address(server) != '\0');
    MUST(coroipcs_listen(server, "@other") == COROIPC_INVALID_ARGUMENT);
  } else {
    MUST(*coroipcs_address(server) == '\0');
  }
  kernel.fault_in = 0;
  MUST(coroipcs_connection_at(server, input.Word()) == nullptr);
  MUST(coroipcs_connection_first(server) == nullptr);
  MUST(coroipcs_service_close(server, input.Byte() & 3) == 0);
  coroipc_entry rows[2] = {};
  rows[0].connection = input.Word();
  coroipcs_send_batch(server, rows, 2, nullptr);
  MUST(rows[0].argument == COROIPC_DISCONNECTED);
  (void)coroipcs_process(server, 0);
  if (input.Chance(2)) (void)coroipcs_close(server);
  coroipcs_destroy(server);
  coroipcs_destroy(nullptr);
}

void Client() {
  coroipcc_group* group = nullptr;
  coroipcc_group_options group_options;
  coroipcc_group_options_init(&group_options);
  MUST(coroipcc_group_create(nullptr, &group) == COROIPC_INVALID_ARGUMENT);
  MUST(coroipcc_group_create(&group_options, nullptr) == COROIPC_INVALID_ARGUMENT);
  group_options.threads = input.Byte() & 1;
  if (input.Chance(8)) group_options.struct_bytes = input.Word();
  if (input.Chance(8)) kernel.Fault(1 + (input.Byte() & 7), EMFILE);
  if (coroipcc_group_create(&group_options, &group) != COROIPC_OK) group = nullptr;
  coroipcc_options options;
  coroipcc_options_init(&options);
  options.timeout_ms = 2;
  options.service = input.Half();
  options.wait = static_cast<int>(input.Byte() % 3u);
  for (uint32_t* field = &options.request_ring_bytes; field != &options.queue_bytes + 1; ++field)
    *field = input.Size(4096);
  if (input.Chance(8)) options.struct_bytes = input.Word();
  coroipcc_connection* connection = nullptr;
  MUST(coroipcc_connect(group, nullptr, &options, 0, &connection) == COROIPC_INVALID_ARGUMENT);
  MUST(coroipcc_connect(group, "@a", nullptr, 0, &connection) == COROIPC_INVALID_ARGUMENT);
  const std::string name = Name();
  Files(name);
  if (input.Chance(4)) kernel.Fault(1 + (input.Byte() & 7), input.Chance(2) ? ENOMEM : EACCES);
  // Nobody answers, so it never is open: every function must bear that.
  coroipc_status status;
  if (group != nullptr && input.Chance(2))
    status = coroipcc_connect_start(group, name.c_str(), &options, 2, &connection);
  else
    status = coroipcc_connect(group, name.c_str(), &options, 2, &connection);
  MUST((status == COROIPC_OK) == (connection != nullptr));
  if (connection != nullptr) {
    const iovec parts[2] = {{nullptr, 0}, {nullptr, size_t{input.Word()} << (input.Byte() & 31)}};
    coroipcc_response response;
    coroipcc_dispatch dispatch;
    coroipc_buffer* buffer = nullptr;
    uint32_t correlation = 0;
    uint8_t into[8];
    MUST(coroipcc_request(connection, 1, parts, 2, 1, into, 8, &response) != COROIPC_OK);
    MUST(coroipcc_request_in_place(connection, 1, parts, 2, 1, &response) != COROIPC_OK);
    MUST(coroipcc_request_send(connection, 1, parts, 2, 1, &correlation) != COROIPC_OK);
    MUST(coroipcc_request_send_buffer(connection, 1, nullptr, 0, 0, 1, &correlation) != COROIPC_OK);
    MUST(coroipcc_send(connection, 1, parts, 2) != COROIPC_OK);
    MUST(coroipcc_cancel(connection, input.Word()) != COROIPC_OK);
    MUST(coroipcc_response_release(connection) != COROIPC_OK);
    MUST(coroipcc_dispatch_release(connection) != COROIPC_OK);
    MUST(coroipcc_dispatch_receive(connection, 0, &dispatch) != COROIPC_OK);
    MUST(coroipcc_buffer_alloc(connection, input.Word(), 1, &buffer) != COROIPC_OK);
    MUST(coroipcc_buffer_get(connection, input.Word(), &buffer) != COROIPC_OK);
    coroipcc_dispatch_flow(connection, 1);
    (void)coroipcc_fd(connection);
    (void)coroipcc_state(connection);
    coroipcc_disconnect(connection);
  }
  kernel.fault_in = 0;
  coroipcc_group_destroy(group);
  coroipcc_disconnect(nullptr);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  input.Reset(data, bytes);
  kernel.Reset();
  fuzz::hostile_memory = false;
  const uint8_t shape = input.Byte();
  if ((shape & 4) != 0) kernel.runtime_directory = "/" + std::string(shape >> 1, 'r');
  switch (shape & 3) {
    case 0:
      Addresses();
      break;
    case 1:
      Server();
      break;
    default:
      Client();
  }
  for (int status = -2; status < COROIPC_STATUS_COUNT + 2; ++status) {
    MUST(coroipc_status_name(status) != nullptr && coroipc_status_text(status) != nullptr);
    (void)coroipc_status_to_cs_error(status);
  }
  kernel.CheckNothingLeft();
  return 0;
}
