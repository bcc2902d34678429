// Printed by native/tools/abi_dump.cc from native/include/coroipc; not to be edited. To renew it:
//   npm run generate

/** COROIPC_ABI_VERSION. */
export const abiVersion = 1

/** COROIPC_LAYOUT: a sum of sizes; tells builds of one version apart. */
export const layout = 5544

/** `enum coroipc_status_code`. */
export const Status = {
  OK: 0,
  INVALID_ARGUMENT: 1,
  SYSTEM: 2,
  NO_MEMORY: 3,
  CONNECT_REFUSED: 4,
  DENIED: 5,
  LIMIT: 6,
  NO_SERVICE: 7,
  VERSION: 8,
  PROTOCOL: 9,
  PEER_DEAD: 10,
  DISCONNECTED: 11,
  UNKNOWN_OUTCOME: 12,
  TIMED_OUT: 13,
  ABORTED: 14,
  FULL: 15,
  TOO_LARGE: 16,
  LEASE_HELD: 17,
  FORKED: 18,
  NO_HANDLER: 19,
  HANDLER_FAILED: 20,
  HANDLER_REJECTED: 21,
  HANDLER_ASYNC: 22,
  ANSWER_INVALID: 23,
  ANSWER_TOO_LARGE: 24,
  RETRY: 25,
  REFUSED: 26,
  DEADLOCK: 27,
  ADDRESS_IN_USE: 28,
  AGAIN: 29,
  BACKLOG_OVERFLOW: 30,
} as const

/** Int32 columns of `struct coroipc_entry`. */
export const Row = {
  connection: 0,
  kind: 1,
  id: 2,
  correlation: 3,
  status: 4,
  argument: 5,
  sequence: 6,
  flags: 7,
  offset: 8,
  bytes: 9,
  segment: 10,
  length: 12,
} as const

/** `enum coroipc_kind`. */
export const Kind = {
  request: 1,
  send: 2,
  cancel: 3,
  response: 4,
  dispatch: 5,
  authorize: 16,
  connected: 17,
  disconnected: 18,
  drain: 19,
  flowControl: 20,
  connectFailed: 21,
  buffer: 22,
  slotFree: 23,
  authorizeEnded: 24,
  room: 25,
  accepted: 26,
} as const

/** `COROIPC_IN_*`. */
export const In = {
  slab: 0,
  block: 1,
  segment: 2,
  large: 4,
} as const

/** `enum coroipc_wait`. */
export const waitCodes = {
  adaptive: 0,
  spin: 1,
  sleep: 2,
} as const

/** `enum coroipc_feature`. */
export const featureCodes = {
  memfd: 0,
  seals: 1,
  sockets: 2,
  fdPassing: 3,
  credentials: 4,
  epoll: 5,
  dontfork: 6,
  pidfd: 7,
  peerPidfd: 8,
  noexecSeal: 9,
  populate: 10,
  punchHole: 11,
} as const

/** `enum coroipcs_policy`. */
export const policyCodes = {
  error: 0,
  'drop-oldest': 1,
  'drop-newest': 2,
  disconnect: 3,
} as const

/** `enum coroipcs_priority`. */
export const priorityCodes = {
  low: 0,
  normal: 1,
  high: 2,
} as const

/** Constants of the layout, and `COROIPCS_RATE_OFF`. */
export const limits = {
  controlBytes: 4096,
  ringBytesMin: 4096,
  ringBytesMax: 1073741824,
  messageBytesMax: 1073741824,
  requestsInFlightMax: 32768,
  segmentsMax: 64,
  recordBytes: 24,
  blockBytes: 8192,
  rateOff: 4294967295,
} as const

/** Counters of `struct coroipc_stats`, in order. */
export const statsNames = [
  'requests',
  'responses',
  'dispatches',
  'bytesReceived',
  'bytesSent',
  'backlogMessages',
  'backlogBytes',
  'unsentResponses',
  'inFlight',
  'flowControl',
  'flowControlCount',
  'overload',
  'dropped',
  'invalidRequests',
  'sendRetries',
  'receiveRetries',
  'doorbellsSent',
  'doorbellsReceived',
  'sleeps',
  'segments',
  'segmentBytes',
  'lateResponses',
  'cancelled',
  'connections',
  'connectionsTotal',
  'connectionsRefused',
  'protocolErrors',
  'handshakesPending',
] as const
