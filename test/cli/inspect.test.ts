// `coroipc inspect`: the page in a real browser, what it shows of a real server, and everybody it must not answer.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { type IncomingMessage, request as httpRequest } from 'node:http'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { createInterface } from 'node:readline'
import { type Browser, chromium, type Page } from 'playwright-core'
import t from 'tap'
import { root } from '../support/paths.js'
import { Peer } from '../support/peer.js'
import { until } from '../support/wait.js'
import { bin, coroipc, newName } from './cli.js'

const pictures = join(root, 'build/inspect')

/** What a hostile server calls itself and its requests: markup that tells when it runs. */
const MARKUP = `<img src=x onerror="globalThis.hacked=1"><script>globalThis.hacked=1</script>`

interface Inspecting extends AsyncDisposable {
  readonly url: URL
}

/** The command, until its address is there. */
async function inspect(
  name: string,
  args: readonly string[] = [],
  env: NodeJS.ProcessEnv = {},
): Promise<Inspecting> {
  const child = spawn(process.execPath, [bin, 'inspect', name, '--interval', '100', ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ...env },
  })
  const exit = once(child, 'exit')
  const [line] = (await Promise.race([
    once(createInterface({ input: child.stdout }), 'line'),
    exit.then(([code]) => Promise.reject(new Error(`it ended with ${String(code)}`))),
  ])) as [string]
  return {
    url: new URL(line),
    async [Symbol.asyncDispose]() {
      child.kill('SIGTERM')
      const [code] = await exit
      if (code !== 0) throw new Error(`it ended with ${String(code)}`)
    },
  }
}

/** A server in another process with clients that keep it busy. */
async function busyServer(name: string, words: string): Promise<Peer> {
  const peer = await Peer.open()
  await peer.run(
    async ({ ipcs, ipcc, state }, name, words) => {
      const server = new ipcs.Server({ inspect: true, latency: true })
      server.addService({
        id: 7,
        description: {
          name: `texts ${words}`,
          version: '1.2',
          summary: `summary ${words}`,
          requests: { 0: { name: `upper ${words}`, codec: 'utf8', request: { type: words } } },
          dispatches: { 3: { name: 'news' } },
        },
        handlers: { 0: (request) => request.payload },
      })
      await server.listen(name)
      const connections = await Promise.all([1, 2].map(() => ipcc.connect(name, { service: 7 })))
      state.timer = setInterval(() => {
        for (const connection of connections)
          for (let i = 0; i < 20; i++) connection.request(0, 'abcd').catch(() => {})
      }, 10)
    },
    name,
    words,
  )
  return peer
}

interface Answer {
  readonly status: number
  readonly headers: IncomingMessage['headers']
  readonly body: string
}

function ask(url: URL, path: string, headers: object = {}, method = 'GET'): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const { hostname, port } = url
    const asked = httpRequest(
      { hostname, port, path, method, headers: { ...headers } },
      (answer) => {
        let body = ''
        answer.setEncoding('utf8')
        answer.on('data', (chunk: string) => {
          body += chunk
          // A stream of events does not end by itself.
          if (path.endsWith('/events')) finish()
        })
        const finish = (): void => {
          resolve({ status: answer.statusCode ?? 0, headers: answer.headers, body })
          asked.destroy()
        }
        answer.on('end', finish)
      },
    )
    asked.on('error', reject)
    asked.end()
  })
}

t.test('who has not the address, or is another site, gets nothing', async (t) => {
  const name = newName()
  await using server = await busyServer(name, '')
  await using page = await inspect(name)
  t.ok(server.pid > 0)
  const { url } = page
  t.match(url, { hostname: '127.0.0.1', protocol: 'http:' })
  const [, token = ''] = url.pathname.split('/')
  t.equal(token.length, 32)
  await using other = await inspect(name)
  t.not(other.url.pathname, url.pathname, 'the token is another one each time')

  const files = ['', 'page.css', 'page.js', 'dom.js', 'echarts.js', 'events']
  for (const file of files) {
    const { status, headers } = await ask(url, `/${token}/${file}`)
    t.equal(status, 200, `'${file}' with the token`)
    t.match(headers['content-security-policy'], "default-src 'none'")
    t.notMatch(headers['content-security-policy'], 'unsafe')
    t.equal(headers['access-control-allow-origin'], undefined, 'no other origin may read it')
    t.match(headers, { 'x-content-type-options': 'nosniff', 'cache-control': 'no-store' })
    const wrong = [`/${file}`, `/${'A'.repeat(32)}/${file}`, `/${token.slice(1)}/${file}`]
    for (const path of wrong) t.equal((await ask(url, path)).status, 404, path)
  }
  for (const path of [
    'x',
    'page.js/..',
    '../package.json',
    '%2e%2e/page.css',
    'constructor',
    'index.html',
  ])
    t.equal((await ask(url, `/${token}/${path}`)).status, 404, path)
  t.equal((await ask(url, `/${token}`)).status, 404)

  const events = `/${token}/events`
  for (const host of [
    'evil.example',
    `evil.example:${url.port}`,
    '127.0.0.1',
    `127.0.0.1:1`,
    `[::1]:${url.port}`,
  ])
    t.equal((await ask(url, events, { host })).status, 421, `Host: ${host}`)
  t.equal((await ask(url, events, { host: `localhost:${url.port}` })).status, 200)
  for (const headers of [
    { origin: 'http://evil.example' },
    { origin: 'null' },
    { origin: `http://127.0.0.1:1` },
    { 'sec-fetch-site': 'cross-site' },
    { 'sec-fetch-site': 'same-site' },
  ])
    t.equal((await ask(url, events, headers)).status, 403, JSON.stringify(headers))
  for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS'])
    t.equal((await ask(url, `/${token}/`, {}, method)).status, 405, method)
  t.same((await ask(url, `/${token}/page.css`, {}, 'HEAD')).body, '')
})

t.test('nobody looks: the server is not asked', async (t) => {
  const name = newName()
  const server = await Peer.open()
  t.teardown(() => server.end())
  await server.run(async ({ ipcs, state }, name) => {
    // Not where `coroipc list` of a test beside this one would ask it as well.
    state.server = new ipcs.Server({ inspect: { service: 300 } })
    await state.server.listen(name)
  }, name)
  const asked = (): Promise<number> =>
    server.run(({ state }) => state.server.stats().requests as number)
  await using page = await inspect(name, ['--inspection', '300'])
  t.equal(await asked(), 0)
  await ask(page.url, `${page.url.pathname}events`)
  await until('it is asked', async () => (await asked()) > 0)
  // The one that looked has gone: a look that was on its way may still come.
  let before = -1
  await until('it is left alone', async () => {
    const now = await asked()
    const still = now === before
    before = now
    await new Promise((resolve) => setTimeout(resolve, 300))
    return still
  })
  t.pass()
})

t.test('--open hands the address to xdg-open', async (t) => {
  const name = newName()
  await using server = await busyServer(name, '')
  t.ok(server.pid > 0)
  const folder = mkdtempSync(join(tmpdir(), 'coroipc-inspect-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const opened = join(folder, 'opened')
  const program = `#!/bin/sh\nprintf %s "$1" > ${opened}.new && mv ${opened}.new ${opened}\n`
  writeFileSync(join(folder, 'xdg-open'), program, { mode: 0o755 })
  const PATH = `${folder}${delimiter}${process.env['PATH']}`
  await using page = await inspect(name, ['--open'], { PATH })
  await until('it is opened', () => existsSync(opened))
  t.equal(readFileSync(opened, 'utf8'), page.url.href)
})

t.test('a server that tells nothing, and a wrong port', async (t) => {
  const { code, stderr } = await coroipc(['inspect', newName()])
  t.equal(code, 3)
  t.match(stderr, 'ERR_COROIPC_CONNECT_REFUSED')
  t.equal((await coroipc(['inspect', 'x', '--port', '65536'])).code, 2)
})

const executablePath = [
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
].find(existsSync)

t.test('in a browser', { skip: executablePath === undefined && 'no Chromium here' }, async (t) => {
  const browser: Browser = await chromium.launch({
    executablePath: executablePath as string,
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
  })
  t.teardown(() => browser.close())
  mkdirSync(pictures, { recursive: true })

  /** A page, and what went wrong on it or went anywhere else. */
  async function open(
    url: URL,
    colorScheme: 'light' | 'dark',
  ): Promise<{ page: Page; wrong: string[] }> {
    const page = await browser.newPage({ colorScheme, viewport: { width: 1280, height: 1500 } })
    const wrong: string[] = []
    page.on('pageerror', (error) => wrong.push(String(error)))
    page.on('console', (message) => {
      if (message.type() === 'error') wrong.push(message.text())
    })
    page.on('request', (request) => {
      const asked = request.url()
      if (!asked.startsWith(url.origin) && !asked.startsWith('data:')) wrong.push(asked)
    })
    await page.goto(url.href)
    return { page, wrong }
  }
  const figure = (page: Page, name: string): Promise<string> =>
    page
      .locator('.figure', { has: page.locator(`dt:text-is("${name}")`) })
      .locator('dd')
      .innerText()

  await t.test(
    'charts, figures, tables; light and dark; pause; the server goes and comes',
    async (t) => {
      const name = newName()
      const server = await busyServer(name, '')
      await using inspecting = await inspect(name)
      const { page, wrong } = await open(inspecting.url, 'light')
      await page.locator('.state.live').waitFor()
      t.equal(await page.locator('h1').innerText(), name)
      await until(
        'calls are counted',
        async () =>
          /^[\d.,]+( k)?\/s$/.test(await figure(page, 'calls')) &&
          (await figure(page, 'calls')) !== '0/s',
      )
      await until('latency is shown', async () =>
        / (µs|ms)$/.test(await figure(page, 'latency, mean')),
      )
      t.match(await page.locator('#about').innerText(), `pid ${server.pid}`)
      await page.locator('#connections tbody tr').nth(2).waitFor()
      t.equal(await page.locator('#connections tbody tr.tool').count(), 1, 'this very tool, marked')
      for (const chart of ['rates', 'bytes', 'heat', 'waiting', 'process', 'rings'])
        t.ok((await page.locator(`#${chart} canvas`).count()) > 0, chart)
      t.equal(await page.locator('#no-heat').isVisible(), false)
      t.match(await page.locator('#services').innerText(), /7 · texts/)

      await page.getByRole('button', { name: 'pid', exact: true }).click()
      const pids = (
        await page.locator('#connections tbody tr td:nth-child(4)').allInnerTexts()
      ).map(Number)
      t.same(
        pids,
        pids.toSorted((a, b) => b - a),
        'sorted by the column that was pressed',
      )
      await until('CPU of the clients is shown', async () =>
        (await page.locator('#connections tbody tr td:nth-child(5)').allInnerTexts()).every(
          (cell) => cell.endsWith(' %'),
        ),
      )
      t.ok(
        await page.evaluate(`(() => {
          const { scrollWidth, clientWidth } = document.querySelector('#connections').parentElement
          return scrollWidth <= clientWidth
        })()`),
        'all columns are seen',
      )

      await page.getByRole('button', { name: 'Pause' }).click()
      const still = await page.locator('#figures').innerText()
      await page.waitForTimeout(400)
      t.equal(await page.locator('#figures').innerText(), still, 'paused')
      await page.getByRole('button', { name: 'Go on' }).click()
      await page.locator('.state.live').waitFor()
      await page.screenshot({ path: join(pictures, 'light.png'), fullPage: true })

      const ground = (): Promise<string> =>
        page.evaluate('getComputedStyle(document.body).backgroundColor')
      const light = await ground()
      await page.getByRole('button', { name: 'Dark' }).click()
      t.not(await ground(), light)
      await page.screenshot({ path: join(pictures, 'dark.png'), fullPage: true })

      await server.kill()
      await page.locator('.state.gone').waitFor()
      await using again = await busyServer(name, '')
      await page.locator('.state.live').waitFor()
      await until('it is the new one', async () =>
        (await page.locator('#about').innerText()).includes(`pid ${again.pid}`),
      )
      t.same(wrong, [], 'nothing failed, nothing went elsewhere')
      await page.close()
    },
  )

  await t.test('hostile names are text', async (t) => {
    const name = newName()
    await using server = await busyServer(name, MARKUP)
    t.ok(server.pid > 0)
    await using inspecting = await inspect(name)
    const { page, wrong } = await open(inspecting.url, 'dark')
    await page.locator('.state.live').waitFor()
    t.match(await page.locator('#services h3').first().innerText(), MARKUP)
    await page.locator('#services summary').first().click()
    t.match(await page.locator('#services pre').first().innerText(), 'onerror')
    t.equal(await page.locator('main img').count(), 0)
    t.equal(await page.evaluate("'hacked' in globalThis"), false)
    for (const chart of ['rates', 'heat', 'rings']) await page.locator(`#${chart}`).hover()
    t.same(wrong, [])
    // The policy holds by itself: markup that got in would do nothing.
    await page.evaluate(`document.body.insertAdjacentHTML('beforeend', ${JSON.stringify(MARKUP)})`)
    await page.waitForTimeout(200)
    t.equal(await page.evaluate("'hacked' in globalThis"), false)
    await page.close()
  })

  await t.test('another site cannot read it, not even with the address', async (t) => {
    const name = newName()
    await using server = await busyServer(name, '')
    t.ok(server.pid > 0)
    await using inspecting = await inspect(name)
    const page = await browser.newPage()
    await page.route('http://evil.example/**', (route) =>
      route.fulfill({ contentType: 'text/html', body: '<p>a site of somebody else' }),
    )
    await page.goto('http://evil.example/')
    const read = (mode: 'cors' | 'no-cors'): Promise<string> =>
      page.evaluate(`fetch('${inspecting.url.href}page.css', { mode: '${mode}' }).then(
        async (answer) => answer.type + ' ' + (await answer.text()),
        () => 'refused',
      )`)
    t.equal(await read('cors'), 'refused')
    t.notMatch(await read('no-cors'), 'color')
    await page.evaluate(`new Promise((resolve) => {
      const frame = document.createElement('iframe')
      frame.src = '${inspecting.url.href}'
      frame.onload = resolve
      document.body.append(frame)
    })`)
    const framed = await page.frames()[1]?.locator('#figures').count()
    t.equal(framed, 0, 'not in a frame either')
    await page.close()
  })
})
