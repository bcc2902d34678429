// A span as plain values: what crosses a process, and what tests compare.
import { SpanKind, SpanStatusCode } from '@opentelemetry/api'
import type { ReadableSpan } from '@opentelemetry/sdk-trace-node'

export interface Told {
  readonly name: string
  readonly kind: string
  readonly trace: string
  readonly id: string
  readonly parent: string | undefined
  readonly attributes: Readonly<Record<string, unknown>>
  readonly status: string
  /** What stands beside the status. */
  readonly message: string | undefined
  readonly events: readonly string[]
}

export const told = (span: ReadableSpan): Told => ({
  name: span.name,
  kind: SpanKind[span.kind],
  trace: span.spanContext().traceId,
  id: span.spanContext().spanId,
  parent: span.parentSpanContext?.spanId,
  attributes: { ...span.attributes },
  status: SpanStatusCode[span.status.code],
  message: span.status.message,
  events: span.events.map(({ name }) => name),
})
