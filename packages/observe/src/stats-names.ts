/** What each counter is called outside: names and help in the manner of Prometheus. */
import type { StatsName } from '@coroipc/native'

export interface Exposed {
  readonly kind: 'counter' | 'gauge'
  /** Behind the prefix, without the `_total` of a counter. */
  readonly name: string
  readonly help: string
  /** The side that has it; undefined: both. */
  readonly side?: 'server' | 'client'
}

const counter = (name: string, help: string, side?: Exposed['side']): Exposed => ({
  kind: 'counter',
  name,
  help,
  ...(side === undefined ? {} : { side }),
})
const gauge = (name: string, help: string, side?: Exposed['side']): Exposed => ({
  ...counter(name, help, side),
  kind: 'gauge',
})

/** All that `stats()` has: one that is new fails the build until it has a name here. */
export const exposed: Readonly<Record<StatsName, Exposed>> = {
  requests: counter('requests', 'Requests and one-way messages, read or taken for sending'),
  responses: counter('responses', 'Answers, made or read'),
  dispatches: counter('dispatches', 'Dispatches, taken for sending or read'),
  bytesReceived: counter('received_bytes', 'Payload bytes read'),
  bytesSent: counter('sent_bytes', 'Payload bytes taken for sending'),
  backlogMessages: gauge('backlog_messages', 'Messages that wait for room'),
  backlogBytes: gauge('backlog_bytes', 'Bytes of messages that wait for room'),
  unsentResponses: gauge('unsent_responses', 'Answers that wait for room', 'server'),
  inFlight: gauge('requests_in_flight', 'Requests without an answer'),
  flowControl: gauge('flow_control', 'Connections whose dispatches wait for room'),
  flowControlCount: counter('flow_control_switches', 'Times that dispatches began to wait'),
  overload: counter('overloads', 'Dispatches refused because the backlog was full', 'server'),
  dropped: counter('dropped', 'Messages dropped by policy, or for want of a segment'),
  invalidRequests: counter('invalid_requests', 'Requests without handler, or refused', 'server'),
  sendRetries: counter('send_retries', 'Messages that found no room at once'),
  receiveRetries: counter('receive_retries', 'Blocking waits that woke for nothing', 'client'),
  doorbellsSent: counter('doorbells_sent', 'Times that the peer was woken'),
  doorbellsReceived: counter('doorbells_received', 'Times that the peer woke us'),
  sleeps: counter('sleeps', 'Times that a connection was armed for sleeping'),
  segments: gauge('segments', 'Extra segments alive'),
  segmentBytes: gauge('segment_bytes', 'Bytes of extra segments'),
  lateResponses: counter('late_responses', 'Answers to requests that were given up', 'client'),
  cancelled: counter('cancelled', 'Requests that were given up'),
  connections: gauge('connections', 'Open connections'),
  connectionsTotal: counter('connections_established', 'Connections ever made', 'server'),
  connectionsRefused: counter('connections_refused', 'Connections refused', 'server'),
  protocolErrors: counter('protocol_errors', 'Clients cut off for breaking the protocol', 'server'),
  handshakesPending: gauge('handshakes_pending', 'Handshakes that are not done', 'server'),
}
