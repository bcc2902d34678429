// HTTP/1.1 over a Unix socket: undici (what Node's fetch is made of) as the client, node:http as the
// server. A call is a POST whose body is the payload; several in flight are pipelined on one connection.
import { createServer } from 'node:http'
import type { ClientSide, ServerWork, Serving, SidesSubject } from '../subject.js'
import { type Task, waysOf } from '../task.js'
import { loadPackage, missingPackage } from './package.js'

interface Client {
  request(options: {
    path: string
    method: string
    body: Uint8Array
    idempotent: boolean
  }): Promise<{ statusCode: number; body: { arrayBuffer(): Promise<ArrayBuffer> } }>
  close(): Promise<void>
}
interface Undici {
  readonly Client: new (
    origin: string,
    options: { socketPath: string; pipelining: number; allowH2?: boolean },
  ) => Client
}

export const undici: SidesSubject = {
  kind: 'sides',
  name: 'undici',
  about: `undici 7 and node:http of Node.js ${process.versions.node}, HTTP/1.1 over a Unix socket`,
  missing: () => missingPackage('undici'),
  refuses: (task) => {
    if (task.form === 'sync') return 'undici cannot block'
    if (task.form === 'callback' && task.case === 'pipelined') return 'undici has promises only'
    if (task.case === 'dispatch' || task.case === 'bandwidth')
      return 'an HTTP server says nothing unasked'
    return task.wait === 'own' ? undefined : 'Node sleeps in epoll, always'
  },
  // The request into the kernel, out of it, out of the parser. The answer into a buffer of its own,
  // into the kernel, out of it, into the parser's memory, into what is handed out.
  takes: (task) =>
    task.case === 'connect' || task.case === 'many-connections' || task.case === 'server-death',
  copies: (task) => 4 * waysOf(task),
  serve,
  connect,
}

async function serve(task: Task, path: string, work: ServerWork): Promise<Serving> {
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      if (task.case === 'server-death') return
      const body = chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks)
      // A copy: the memory of an answer is used again before the socket has it.
      const answer = Buffer.from(work.answer(body))
      response.setHeader('content-length', answer.length)
      response.end(answer)
    })
  })
  server.keepAliveTimeout = 0
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(path, resolve)
  })
  return {
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

async function connect(task: Task, path: string): Promise<ClientSide> {
  const { Client } = await loadPackage<Undici>('undici')
  const client = new Client('http://localhost', { socketPath: path, pipelining: task.inFlight })
  const request = async (payload: Uint8Array): Promise<Uint8Array> => {
    // `idempotent`: only then it sends the next before the answer is there.
    const { body, statusCode } = await client.request({
      path: '/',
      method: 'POST',
      body: payload,
      idempotent: true,
    })
    const answer = new Uint8Array(await body.arrayBuffer())
    if (statusCode !== 200) throw new Error(`HTTP status ${statusCode}`)
    return answer
  }
  return {
    request,
    requestCallback: (done) => (payload) => void handOver(request(payload), done),
    close: () => client.close(),
  }
}

async function handOver(
  answer: Promise<Uint8Array>,
  done: (answer: Uint8Array) => void,
): Promise<void> {
  done(await answer)
}
