/** `@coroipc/ipcs`: shared-memory IPC for Node.js, the server. */
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
export type {
  Connection,
  ConnectionEvents,
  ConnectionStats,
  DispatchOptions,
  DrainOptions,
} from './connection.js'
export {
  type EndedStats,
  type InspectedConnection,
  type InspectedConnections,
  type InspectedDescription,
  type InspectedPage,
  type InspectedRing,
  type InspectedServer,
  type InspectedService,
  type InspectedServices,
  type InspectedTimes,
  inspection,
  type InspectionRequests,
  type InspectOptions,
  type RecordingBegun,
  type RecordQuestion,
} from './inspection.js'
export type { ConnectTrace, DispatchTrace, RequestTrace } from './diagnostics.js'
export { handOver, type HandOverOptions, type SuccessorEnded } from './hand-over.js'
export { inherited, type InheritedSocket } from './inherited.js'
export { defaultLimits, type Limits } from './limits.js'
export type { Log, LogWrite } from './log.js'
export {
  blockingPoll,
  type BuiltInPoll,
  type Poll,
  POLLIN,
  POLLOUT,
  uvPoll,
} from './poll.js'
export type { InspectionDispatches, RecordingEnd } from './recorder.js'
export type { Answer, AnswerPayload, FullAnswer, Request } from './request.js'
export {
  type CloseOptions,
  type Health,
  type Progress,
  Server,
  type ServerEvents,
  type ServerOptions,
  type ServerStats,
} from './server.js'
export { shard, type ShardOptions, type Shards, type ShardsEvents } from './shard.js'
export { type ShardSocket, shardSocket } from './shard-socket.js'
export type { ErrorSource } from './server-loop.js'
export type {
  Admission,
  BacklogPolicy,
  DispatchDescription,
  Handler,
  Handlers,
  JsonSchemaLike,
  Priority,
  RequestDescription,
  ServiceDescription,
  ServiceOptions,
  TransientHandler,
  TransientHandlers,
} from './service.js'
