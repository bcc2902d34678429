// defineService and implement: what they refuse, by name; and what a contract tells tools.
import { bytes, checked, type Definition, defineService, json } from '@coroipc/contract'
import { implement } from '@coroipc/contract/server'
import { connect } from '@coroipc/ipcc'
import { inspection, Server } from '@coroipc/ipcs'
import { toStandardJsonSchema } from '@valibot/to-json-schema'
import t from 'tap'
import * as v from 'valibot'
import { z } from 'zod'
import { freshName } from '../ipcc/harness.js'
import { everything } from './contracts.js'

t.test('what defineService refuses', async (t) => {
  const requests = { a: { id: 0 } }
  const wrong: [unknown, RegExp][] = [
    [undefined, /^definition: expected an object/],
    [{}, /^service\.id: expected an integer from 0 to 65535, got undefined/],
    [{ id: 65536 }, /^service\.id: /],
    [{ id: 1.5 }, /^service\.id: /],
    [{ id: 1, name: '' }, /^service\.name: expected a string of 1 to 1024/],
    [{ id: 1, nam: 'x' }, /^service\.nam: expected an option among id, name/],
    [{ id: 1, codec: {} }, /^service\.codec: expected a codec/],
    [{ id: 1, requests: [] }, /^service\.requests: expected an object/],
    [{ id: 1, requests: { 'a-b': { id: 0 } } }, /^service\.requests: expected a name .*'a-b'/],
    [{ id: 1, requests: JSON.parse('{"then":{"id":0}}') }, /expected a name .*'then'/],
    [{ id: 1, requests: { sync: { id: 0 } } }, /^service\.requests: expected a name .*'sync'/],
    [{ id: 1, requests: { toString: { id: 0 } } }, /^service\.requests: .*'toString'/],
    [{ id: 1, requests: { a: undefined } }, /^service\.requests\.a: expected an object/],
    [{ id: 1, requests: { a: {} } }, /^service\.requests\.a\.id: expected an integer/],
    [{ id: 1, requests: { a: { id: -1 } } }, /^service\.requests\.a\.id: /],
    [
      { id: 1, requests: { ...requests, b: { id: 0 } } },
      /requests\.b\.id: .*service\.requests\.a /,
    ],
    [{ id: 1, requests: { a: { id: 0, request: 5 } } }, /\.a\.request: expected a Standard Schema/],
    [{ id: 1, requests: { a: { id: 0, respons: bytes } } }, /\.a\.respons: expected an option/],
    [{ id: 1, requests: { a: { id: 0, response: bytes, oneWay: true } } }, /\.a\.response: /],
    [{ id: 1, dispatches: { a: { id: 0 }, b: { id: 0 } } }, /^service\.dispatches\.b\.id: /],
    [{ id: 1, dispatches: { a: { id: 0, payload: {} } } }, /^service\.dispatches\.a\.payload: /],
    [{ id: 1, limits: { requestBytes: -1 } }, /^service\.limits\.requestBytes: /],
    [{ id: 1, limits: { bytes: 1 } }, /^service\.limits\.bytes: expected an option/],
  ]
  for (const [definition, message] of wrong)
    t.throws(() => defineService(definition as Definition), {
      code: 'ERR_COROIPC_INVALID_ARGUMENT',
      message,
    })
  t.throws(() => checked({} as never, z.string()), {
    name: 'TypeError',
    message: /^codec: expected a codec/,
  })
  t.throws(() => checked(bytes, {} as never), {
    name: 'TypeError',
    message: /^schema: expected a Standard/,
  })
  t.equal(defineService({ id: 0 }).name, 'service 0')
  t.ok(Object.isFrozen(everything))
})

t.test('what implement refuses', async (t) => {
  const service = defineService({ id: 1, requests: { a: { id: 0 } } })
  const wrong: [unknown, RegExp][] = [
    [undefined, /^options: expected an object/],
    [{}, /^handlers: expected an object of functions/],
    [{ handlers: {} }, /^handlers\.a: expected a function, got undefined/],
    [
      { handlers: { a: () => {}, b: () => {} } },
      /^handlers: expected requests of service 1, got 'b'/,
    ],
  ]
  for (const [options, message] of wrong)
    t.throws(() => implement(service, options as never), {
      code: 'ERR_COROIPC_INVALID_ARGUMENT',
      message,
    })
})

t.test('a contract sets the bounds of its service, which the options may change', async (t) => {
  const limits = { requestsPerSecond: 5, backlogBytes: 1000 }
  const service = defineService({ id: 1, limits })
  t.match(implement(service, { handlers: {} }), { id: 1, ...limits })
  const { requestsPerSecond } = implement(service, { handlers: {}, requestsPerSecond: 7 })
  t.equal(requestsPerSecond, 7)
})

t.test('a contract is readable at run time, as JSON', async (t) => {
  const { description } = everything
  t.same(JSON.parse(JSON.stringify(description)), description)
  t.match(description, {
    name: 'everything',
    version: '1.2.3',
    summary: 'One request of each sort',
    requests: {
      0: {
        name: 'add',
        summary: 'The sum of two numbers',
        codec: 'json',
        request: { type: 'object', properties: { a: { type: 'number' } }, required: ['a', 'b'] },
        response: { type: 'number' },
      },
      1: { request: { properties: { n: { type: 'string' } } }, response: { type: 'string' } },
      9: { name: 'note', oneWay: true },
      20: { name: 'raw', codec: 'bytes' },
      23: { codec: 'structured-clone' },
      24: { codec: 'structured-clone' },
      26: { codec: 'protobuf:google.protobuf.Struct' },
      27: { codec: 'point' },
      31: { request: { properties: { age: { type: 'number', minimum: 0 } } } },
    },
    dispatches: {
      0: { name: 'tick', codec: 'json', payload: { type: 'object' } },
      1: { name: 'done' },
    },
  })
  t.same(description.requests?.[7], { name: 'ping' })
  t.notOk('request' in (description.requests?.[24] ?? {}), 'a date has no JSON Schema')
  t.notOk('request' in (description.requests?.[30] ?? {}), 'valibot tells none by itself')
  const withConverter = defineService({
    id: 1,
    requests: { a: { id: 0, request: toStandardJsonSchema(v.object({ n: v.number() })) } },
  })
  t.match(withConverter.description.requests?.[0]?.request, {
    properties: { n: { type: 'number' } },
  })
  t.same(defineService({ id: 1, codec: json() }).description, { requests: {}, dispatches: {} })
})

t.test('tools get the description from the server', async (t) => {
  const service = defineService({
    id: 7,
    name: 'described',
    requests: { a: { id: 3, request: z.string() } },
  })
  const server = new Server({ inspect: true })
  server.addService(implement(service, { handlers: { a: () => {} } }))
  const name = freshName()
  await server.listen(name)
  const connection = await connect(name, { service: inspection.service })
  const asked = JSON.stringify({ service: 7 })
  const answer = await connection.request(inspection.requests.describe, asked)
  t.same(JSON.parse(Buffer.from(answer).toString()), {
    service: 7,
    description: service.description,
  })
  await connection.close()
  await server.close()
})

t.test('a JSON Schema that is no JSON is left out', async (t) => {
  const cycle: Record<string, unknown> = {}
  cycle['self'] = cycle
  const request = {
    '~standard': {
      version: 1,
      vendor: 'test',
      validate: (value: unknown) => ({ value }),
      jsonSchema: { input: () => cycle, output: () => cycle },
    },
  } as const
  const { description } = defineService({ id: 1, requests: { a: { id: 0, request } } })
  t.same(description.requests, { 0: { name: 'a', codec: 'json' } })
})
