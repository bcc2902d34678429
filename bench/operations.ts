// What the options for operators give on this machine: one name over two worker threads, and huge pages. Not rows of the
// benchmark: they compare this library with itself.
//
//   npm run build && node build/bench/operations.js shards       [ms of work in a request, 1]
//   npm run build && node build/bench/operations.js huge-pages   [MiB in a message, 16]
//   npm run build && node build/bench/operations.js tracing      what a request pays for channels that nobody listens to
import { tracingChannel } from 'node:diagnostics_channel'
import { performance } from 'node:perf_hooks'
import { fileURLToPath } from 'node:url'
import { isMainThread, Worker, workerData } from 'node:worker_threads'
import { connect, connectSync } from '@coroipc/ipcc'
import { isTraced } from '@coroipc/native'
import { type Payload, Server, shard, shardSocket } from '@coroipc/ipcs'

const [what = '', sizeText] = process.argv.slice(2)
const script = fileURLToPath(import.meta.url)
const name = `@coroipc-operations-${process.pid}`
const MEASURE_MS = 3000
const ROUNDS = 3
const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN

/** Requests a second of four clients, two in flight each: enough for two workers, from a thread that has little to do. */
async function rate(workMs: number): Promise<number> {
  const clients = await Promise.all(
    Array.from({ length: 4 }, () => connect(name, { service: 1, timeoutMs: 20_000 })),
  )
  const end = performance.now() + MEASURE_MS
  let answers = 0
  const ask = async (client: (typeof clients)[number]): Promise<void> => {
    for (; performance.now() < end; answers++) await client.request(0, String(workMs))
  }
  await Promise.all(clients.flatMap((client) => [ask(client), ask(client)]))
  for (const client of clients) await client.close()
  return (answers * 1000) / MEASURE_MS
}

async function shards(workMs: number): Promise<void> {
  const rates: Record<number, number[]> = { 1: [], 2: [] }
  for (let round = 0; round < ROUNDS; round++)
    for (const workers of [1, 2]) {
      await using pool = await shard(script, { name, workers, workerData: { shard: true } })
      rates[workers]?.push(await rate(workMs))
      await pool.close()
    }
  const [one, two] = [median(rates[1] ?? []), median(rates[2] ?? [])]
  console.log(`${workMs} ms of work: 1 worker ${one.toFixed(0)}/s, 2 workers ${two.toFixed(0)}/s`)
  console.log(`gain ${(two / one).toFixed(2)}, median of ${ROUNDS}, ${MEASURE_MS} ms each`)
}

async function serveShard(): Promise<void> {
  const socket = shardSocket()
  if (socket === undefined) return
  const work = ({ payload }: { payload: Uint8Array }): Payload => {
    const end = performance.now() + Number(Buffer.from(payload).toString())
    while (performance.now() < end);
    return 'done'
  }
  await new Server().addService({ id: 1, handlers: { 0: work } }).listen(socket)
}

/** Median time to fill a buffer of the client's and have the server read it all, microseconds. */
function fillAndRead(bytes: number): number {
  const connection = connectSync(name, { service: 1, trustServer: true })
  using buffer = connection.allocateSync(bytes)
  const source = Buffer.alloc(bytes, 7)
  const times: number[] = []
  for (let n = 0; n < 40; n++) {
    const began = performance.now()
    buffer.bytes.set(source)
    connection.requestSync(0, buffer)
    times.push((performance.now() - began) * 1000)
  }
  connection[Symbol.dispose]()
  return median(times.slice(8))
}

async function hugePages(mib: number): Promise<void> {
  const medians: Record<string, number[]> = { false: [], true: [] }
  for (let round = 0; round < ROUNDS; round++)
    for (const huge of [false, true]) {
      const worker = new Worker(script, { workerData: { huge, bytes: mib << 20, name } })
      await new Promise((resolve) => worker.once('message', resolve))
      medians[String(huge)]?.push(fillAndRead(mib << 20))
      await worker.terminate()
    }
  const [small, large] = [median(medians['false'] ?? []), median(medians['true'] ?? [])]
  console.log(
    `${mib} MiB filled and read: ${small.toFixed(0)} us; in huge pages ${large.toFixed(0)} us`,
  )
  console.log(`gain ${(small / large).toFixed(2)}, median of ${ROUNDS}`)
}

async function serveBuffers(): Promise<void> {
  const { huge, bytes, name } = workerData as { huge: boolean; bytes: number; name: string }
  const { parentPort } = await import('node:worker_threads')
  const server = new Server({ hugePages: huge, limits: { messageBytes: bytes } })
  const copy = Buffer.alloc(bytes)
  server.addService({
    id: 1,
    trust: () => true,
    handlers: {
      0: ({ payload }) => {
        copy.set(payload)
        return undefined
      },
    },
  })
  await server.listen(name)
  parentPort?.postMessage('listening')
}

/** Every request asks this once on either side. Many channels in turn, so that no engine asks once for all. */
function tracing(): void {
  const channels = Array.from({ length: 64 }, (_, n) => tracingChannel(`coroipc-operations-${n}`))
  const asked = 1 << 24
  const ns = (ask: (n: number) => boolean): number => {
    let yes = 0
    const began = performance.now()
    for (let n = 0; n < asked; n++) if (ask(n)) yes++
    if (yes !== 0) throw new Error('somebody listens')
    return ((performance.now() - began) * 1e6) / asked
  }
  const at = (n: number): (typeof channels)[number] => channels[n & 63] as (typeof channels)[number]
  const rounds = Array.from({ length: 7 }, () => [
    ns((n) => isTraced(at(n))),
    ns((n) => at(n) === undefined),
  ])
  const [check, nothing] = [0, 1].map((of) => median(rounds.map((each) => each[of] ?? Number.NaN)))
  const cost = (check ?? Number.NaN) - (nothing ?? Number.NaN)
  console.log(`whether anybody listens: ${cost.toFixed(1)} ns, once a request on each side`)
}

if (!isMainThread) await ((workerData as { shard?: true }).shard ? serveShard() : serveBuffers())
else if (what === 'shards') await shards(Number(sizeText ?? 1))
else if (what === 'huge-pages') await hugePages(Number(sizeText ?? 16))
else if (what === 'tracing') tracing()
else console.error('operations shards | huge-pages | tracing')
