/** `@coroipc/ipcc`: shared-memory IPC for Node.js, the client. */
export {
  BufferPart,
  type Credentials,
  Encoded,
  type Encoder,
  type ErrorCode,
  IpcError,
  type LatencyStats,
  type Payload,
  type PayloadPart,
  SharedBuffer,
  type Stats,
  type StatsName,
  type StatsOptions,
  type Surrounded,
  type Wait,
} from '@coroipc/native'
export { connect, connectSync } from './connect.js'
export type {
  AllocateOptions,
  AnswerTooLarge,
  Connection,
  ConnectionEvents,
  ConnectionStats,
  DispatchSyncOptions,
  FullOptions,
  LeaseOptions,
  PayloadOptions,
  RequestPayload,
  SyncFullOptions,
  SyncLeaseOptions,
  SyncPayloadOptions,
  TransientListener,
} from './connection.js'
export type { ConnectTrace, DispatchTrace, RequestTrace } from './diagnostics.js'
export type { DispatchIterator, Message } from './dispatches.js'
export { Lease } from './lease.js'
export type {
  ConnectOptions,
  ConnectSyncOptions,
  RequestOptions,
  RequestSyncOptions,
  RequestTimeout,
  ServerDemand,
} from './options.js'
export type { Answer, Callback, Outcome, TransientCallback } from './pending.js'
export { type Probe, probe, type ProbeOptions } from './probe.js'
export {
  Reconnecting,
  type ReconnectingEvents,
  type ReconnectingOptions,
  reconnecting,
} from './reconnecting.js'
