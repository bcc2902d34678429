// Servers that tell tools what they do, in processes of their own.
import { Peer } from '../support/peer.js'

/** Services 7 `texts`, described, and 9, which is not. `step`: how far its counting request counts. */
export async function serveInspected(name: string, step = 1): Promise<Peer> {
  const peer = await Peer.open()
  await peer.run(
    async ({ ipcs, state }, name, step) => {
      let count = 0
      const server = new ipcs.Server({
        inspect: { record: true, recordBytes: 2000 },
        latency: true,
      })
      server.on('error', () => {})
      server.addService({
        id: 7,
        description: {
          name: 'texts',
          version: '1.2',
          summary: 'text into text\u001b[2J',
          requests: {
            0: {
              name: 'upper',
              summary: 'in capitals',
              codec: 'json',
              request: {
                type: 'object',
                properties: { text: { type: 'string' }, times: { type: 'integer' } },
                required: ['text'],
              },
              response: { type: 'array', items: { anyOf: [{ type: 'string' }, { type: 'null' }] } },
            },
            4: { name: 'note', codec: 'utf8', oneWay: true },
          },
          dispatches: { 5: { name: 'tick', codec: 'json', payload: { type: 'number' } } },
        },
        handlers: {
          0: (request) => request.payload,
          1: () => ({ status: 3, payload: `${(count += step)}` }),
          2: () => {
            throw new Error('on purpose')
          },
          3: (request, connection) => {
            connection.dispatch(request.payload, { id: 5 })
          },
          4: () => undefined,
        },
      })
      server.addService({
        id: 9,
        handlers: {
          0: (request) => request.payload,
          1: () => new Promise((resolve) => setTimeout(resolve, 50, '')),
        },
      })
      await server.listen(name)
      state.server = server
    },
    name,
    step,
  )
  return peer
}

/** A client in a process of its own: calls service `service` of `name` again and again, `each` at a time. */
export async function burden(name: string, service: number, each: number): Promise<Peer> {
  const peer = await Peer.open()
  await peer.run(
    async ({ ipcc, state }, name, service, each) => {
      const connection = await ipcc.connect(name, { service })
      state.connection = connection
      setInterval(() => {
        for (let left = each; left > 0; left--)
          connection.request(0, 'x'.repeat(100)).catch(() => {})
      }, 10)
    },
    name,
    service,
    each,
  )
  return peer
}

/** A client whose process computes half of the time, and which has four calls that wait on their way at any moment. */
export async function idleCalls(name: string): Promise<Peer> {
  const peer = await Peer.open()
  await peer.run(async ({ ipcc, state }, name) => {
    const connection = await ipcc.connect(name, { service: 9 })
    state.connection = connection
    const again = (): void => void connection.request(1, '').then(again, () => {})
    for (let lane = 0; lane < 4; lane++) again()
    setInterval(() => {
      const end = performance.now() + 20
      while (performance.now() < end);
    }, 40)
  }, name)
  return peer
}

/**
 * One whose inspection lies: `text` stands wherever a text or a number may, as a number with 'number'; or it is no JSON, or its
 * list has no end.
 */
export async function serveLies(
  name: string,
  lie: 'text' | 'number' | 'no json' | 'no end',
  said = '',
): Promise<Peer> {
  const peer = await Peer.open()
  await peer.run(
    async ({ ipcs }, name, lie, said) => {
      const text = lie === 'number' ? Number(said) : said
      const { requests } = ipcs.inspection
      const server = new ipcs.Server()
      const ring = { bytes: text, used: text }
      const service = { id: text, name: text, version: text, summary: text }
      const about = { [text]: { name: text, summary: text, codec: text, request: { type: text } } }
      const answers: [number, object][] = [
        [
          requests.server,
          {
            address: text,
            pid: text,
            uid: text,
            command: [text],
            uptimeMs: 1,
            nowMs: 1,
            versions: { coroipc: text, node: text },
            options: { wait: text },
            cpu: { user: 1, system: 1 },
            memory: { rssBytes: 1 },
            limits: { connections: text },
            stats: { connections: text },
          },
        ],
        [
          requests.services,
          lie === 'no end'
            ? { services: [], next: 1 }
            : { services: [{ ...service, described: true, connections: text, ended: {} }] },
        ],
        [
          requests.connections,
          {
            connections: [
              {
                id: text,
                number: text,
                service: text,
                pid: text,
                uid: text,
                ageMs: 1,
                rings: { request: ring, response: ring, dispatch: ring },
                stats: {},
              },
            ],
          },
        ],
        [requests.describe, { description: { ...service, requests: about, dispatches: about } }],
      ]
      server.addService({
        id: ipcs.inspection.service,
        handlers: new Map(
          answers.map(([id, answer]) => [
            id,
            () => (lie === 'no json' ? said : JSON.stringify(answer)),
          ]),
        ),
      })
      await server.listen(name)
    },
    name,
    lie,
    said,
  )
  return peer
}
