// Contracts of the tests, as a program has them in a file that both sides import.
import {
  bytes,
  checked,
  type Codec,
  defineService,
  json,
  structured,
  utf8,
} from '@coroipc/contract'
import { msgpackr } from '@coroipc/contract/msgpackr'
import { protobuf } from '@coroipc/contract/protobuf'
import { StructSchema } from '@bufbuild/protobuf/wkt'
import { type } from 'arktype'
import * as v from 'valibot'
import { z } from 'zod'

export interface Point {
  readonly x: number
  readonly y: number
}

/** A codec of a user's own, written and read in place. */
export const point: Codec<Point> = {
  name: 'point',
  encode({ x, y }, memory, at, end) {
    if (end - at < 16) return -16
    memory.writeDoubleLE(x, at)
    memory.writeDoubleLE(y, at + 8)
    return 16
  },
  decode(payload) {
    if (payload.length !== 16) throw new RangeError('a point has 16 bytes')
    const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength)
    return { x: view.getFloat64(0, true), y: view.getFloat64(8, true) }
  },
}

export const everything = defineService({
  id: 7,
  name: 'everything',
  version: '1.2.3',
  summary: 'One request of each sort',
  requests: {
    add: {
      id: 0,
      summary: 'The sum of two numbers',
      request: z.object({ a: z.number(), b: z.number() }),
      response: z.number(),
    },
    /** Input and output differ: text travels, both ends see numbers. */
    twice: {
      id: 1,
      request: z.object({ n: z.string().transform(Number) }),
      response: z.string().transform(Number),
    },
    unique: {
      id: 2,
      request: z.string().refine(async (name) => name !== 'taken', 'is taken'),
      response: z.string().refine(async (name) => name !== 'bad', 'is bad'),
    },
    find: { id: 3, request: z.string(), response: z.string().optional() },
    fail: { id: 4, request: z.string() },
    wrong: { id: 5, response: z.number() },
    cannot: { id: 6, response: z.number() },
    ping: { id: 7 },
    hang: { id: 8 },
    note: { id: 9, request: z.string().max(5), oneWay: true },
    notes: { id: 10, response: z.array(z.string()) },
    feed: { id: 11, request: z.number().int().nonnegative() },
    sort: { id: 12, request: z.array(z.number()), response: z.array(z.number()) },
    raw: { id: 20, request: bytes, response: bytes },
    text: { id: 21, request: utf8, response: utf8 },
    believed: { id: 22, request: json<Point>(), response: json<Point>() },
    clone: {
      id: 23,
      request: structured<Map<string, unknown>>(),
      response: structured<Map<string, unknown>>(),
    },
    date: {
      id: 24,
      request: checked(structured(), z.object({ at: z.date() })),
      response: checked(msgpackr(), z.object({ at: z.date() })),
    },
    packed: { id: 25, request: msgpackr(), response: msgpackr() },
    message: { id: 26, request: protobuf(StructSchema), response: protobuf(StructSchema) },
    point: { id: 27, request: point, response: point },
    valibot: {
      id: 30,
      request: v.object({ name: v.pipe(v.string(), v.minLength(2)) }),
      response: v.pipe(v.string(), v.length(3)),
    },
    arktype: { id: 31, request: type({ age: 'number>=0' }), response: type('string') },
  },
  dispatches: {
    tick: { id: 0, payload: z.object({ n: z.number() }) },
    done: { id: 1 },
    late: { id: 2, payload: z.string().refine(async (text) => text !== 'bad') },
    odd: { id: 3, payload: z.number() },
  },
  limits: { requestBytes: 100_000, responseBytes: 200_000, dispatchBytes: 1000 },
})
