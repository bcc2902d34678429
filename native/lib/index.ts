/** What our own packages may import; nobody else should. */
export {
  abiVersion,
  featureCodes,
  limits,
  policyCodes,
  priorityCodes,
  Status,
} from './abi.generated.js'
export {
  type Addon,
  addon,
  type Bytes,
  In,
  Kind,
  type Loop,
  type NativeConnectionInfo,
  type NativeConnectOptions,
  type NativeCredentials,
  type NativePoll,
  type NativeServerOptions,
  type NativeServiceOptions,
  type OnBatch,
  type OnSent,
  type Parts,
  Row,
  Word,
} from './addon.js'
export { type BinaryErrorCode, binaryErrorCodes } from './binary.js'
export { Encoded, type Encoder } from './encoded.js'
export {
  type ErrorCode,
  type ErrorDetails,
  errorCodes,
  type InvalidArgument,
  invalidArgument,
  IpcError,
  ipcError,
  type StatusName,
  statusOf,
} from './errors.js'
export { Latency, type LatencyStats, statsChecks, type StatsOptions } from './latency.js'
export { localServers } from './local-servers.js'
export {
  FLUSH_BYTES,
  type FailedRow,
  isTransferred,
  MessageLoop,
  SLAB_BYTES,
  SLAB_RESERVE,
  SMALL_BYTES,
  SMALL_TEXT,
  TRANSFERRED,
} from './loop.js'
export {
  abortSignal,
  anything,
  boolean,
  type Check,
  type Checks,
  callable,
  checkOptions,
  integer,
  milliseconds,
  nested,
  oneOf,
  powerOfTwo,
  TIMEOUT_MS_MAX,
  timeout,
} from './options.js'
export { checkName, nameError } from './names.js'
export { checkedPayload, joined, payloadError } from './payload.js'
export { BufferPart, bufferError, dropBuffer, holdBuffer, SharedBuffer } from './shared-buffer.js'
export {
  type Credentials,
  isBytes,
  type Payload,
  type PayloadPart,
  partBytes,
  partsMax,
  payloadBytes,
  payloadLength,
  type Stats,
  type StatsName,
  statsFrom,
  type Wait,
  waitCode,
} from './types.js'
export { nativeError } from './native-error.js'
export { callIn, isTraced, sendAsLeft, type Surrounded, type Tracing } from './tracing.js'
