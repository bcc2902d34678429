/**
 * The page of `coroipc inspect`, over HTTP on loopback. It shows what `authorize` let its user see, and other users of
 * this machine, and web pages in the same browser, can reach the port as well: so
 *
 * - every address has a random token in its path, the page's own files included; without it there is nothing here;
 * - the Host header is this address, or a name that a stranger let point to 127.0.0.1 would be the same origin;
 * - requests that a browser says another site made are refused, nothing allows another origin to read;
 * - the page may load and run what comes from here and nothing else (Content-Security-Policy), no inline script or
 *   style either: a text that became markup by mistake would do nothing.
 */
import { randomBytes, timingSafeEqual } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { createRequire } from 'node:module'
import type { AddressInfo } from 'node:net'
import type { Feed } from './feed.js'

const TOKEN_BYTES = 24
/** Pages that are open at a time. */
const VIEWERS_MAX = 16
/** Bytes that a page may leave unread before it is let go: it comes again by itself. */
const UNREAD_MAX = 8 << 20

const HEADERS = {
  'Content-Security-Policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Cache-Control': 'no-store',
  'Referrer-Policy': 'no-referrer',
  'X-Content-Type-Options': 'nosniff',
  'X-Frame-Options': 'DENY',
} as const

interface File {
  readonly type: string
  readonly path: string | URL
}

const here = (path: string): URL => new URL(`../../${path}`, import.meta.url)
const SCRIPT = 'text/javascript; charset=utf-8'
const script = (name: string): Record<string, File> => ({
  [name]: { type: SCRIPT, path: here(`dist/page/${name}`) },
})
/** All that there is. */
const files: Readonly<Record<string, File>> = {
  '': { type: 'text/html; charset=utf-8', path: here('page/index.html') },
  'page.css': { type: 'text/css; charset=utf-8', path: here('page/page.css') },
  ...script('page.js'),
  ...script('dom.js'),
  ...script('table.js'),
  ...script('units.js'),
  'echarts.js': {
    type: SCRIPT,
    path: createRequire(import.meta.url).resolve('echarts/dist/echarts.min.js'),
  },
}

export class PageServer {
  readonly #feed: Feed
  readonly #http: Server
  readonly #token: Buffer = Buffer.from(randomBytes(TOKEN_BYTES).toString('base64url'))

  constructor(feed: Feed) {
    this.#feed = feed
    this.#http = createServer((request, response) => this.#answer(request, response))
    // Nobody sends bodies here, and nobody needs long for a header.
    this.#http.headersTimeout = 10_000
    this.#http.requestTimeout = 10_000
  }

  /** @param port 0: any that is free. @returns the address of the page, token included */
  async listen(port: number): Promise<string> {
    await new Promise<void>((resolve, reject) => {
      this.#http.once('error', reject)
      this.#http.listen(port, '127.0.0.1', resolve)
    })
    return `http://127.0.0.1:${this.#port}/${this.#token.toString()}/`
  }

  async close(): Promise<void> {
    this.#http.closeAllConnections()
    await new Promise((resolve) => this.#http.close(resolve))
  }

  get #port(): number {
    return (this.#http.address() as AddressInfo).port
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    for (const [name, value] of Object.entries(HEADERS)) response.setHeader(name, value)
    const status = this.#refusal(request)
    if (status !== 0) {
      response.writeHead(status, { 'Content-Type': 'text/plain; charset=utf-8' })
      response.end(status === 404 ? 'nothing here\n' : 'refused\n')
      return
    }
    const name = this.#nameOf(request) as string
    if (name === 'events') this.#stream(request, response)
    else this.#send(request, response, files[name] as File)
  }

  /** 0: it may be answered. */
  #refusal(request: IncomingMessage): number {
    const { host, origin, 'sec-fetch-site': site } = request.headers
    if (host !== `127.0.0.1:${this.#port}` && host !== `localhost:${this.#port}`) return 421
    if (origin !== undefined && origin !== `http://${host}`) return 403
    if (site !== undefined && site !== 'same-origin' && site !== 'none') return 403
    const name = this.#nameOf(request)
    if (name === undefined || !(name === 'events' || Object.hasOwn(files, name))) return 404
    return request.method === 'GET' || request.method === 'HEAD' ? 0 : 405
  }

  /** What stands behind the token; undefined without it. */
  #nameOf(request: IncomingMessage): string | undefined {
    const [, token = '', ...rest] = (request.url ?? '').split('/')
    const given = Buffer.from(token)
    if (given.length !== this.#token.length || !timingSafeEqual(given, this.#token))
      return undefined
    return rest.length === 1 ? rest[0] : undefined
  }

  #send(request: IncomingMessage, response: ServerResponse, { type, path }: File): void {
    const body = readFileSync(path)
    response.writeHead(200, { 'Content-Type': type, 'Content-Length': body.length })
    response.end(request.method === 'HEAD' ? undefined : body)
  }

  #stream(request: IncomingMessage, response: ServerResponse): void {
    if (this.#feed.viewers >= VIEWERS_MAX) {
      response.writeHead(503, { 'Content-Type': 'text/plain', 'Retry-After': '10' }).end()
      return
    }
    response.writeHead(200, { 'Content-Type': 'text/event-stream' })
    if (request.method === 'HEAD') {
      response.end()
      return
    }
    const end = this.#feed.watch((name, message) => {
      response.write(`event: ${name}\ndata: ${JSON.stringify(message)}\n\n`)
      if (response.writableLength > UNREAD_MAX) response.destroy()
    })
    response.on('close', end)
  }
}
