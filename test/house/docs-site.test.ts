// The documentation as a site: `npm run docs` makes it, no link of it leads nowhere, and its search knows the manual.
import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { inflateSync } from 'node:zlib'
import t from 'tap'
import { root } from '../support/paths.js'

interface Broken {
  readonly page: string
  readonly link: string
  readonly why: string
}
const { brokenLinks } = (await import(join(root, 'site/links.mjs'))) as {
  brokenLinks: (folder: string) => Broken[]
}
const site = join(root, 'build/docs/site')
const skip = existsSync(join(root, 'site/node_modules/typedoc'))
  ? false
  : 'typedoc is not installed: npm run docs:tools'

t.test('links that lead nowhere are found', async (t) => {
  const folder = mkdtempSync(join(root, 'build/site-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  mkdirSync(join(folder, 'below'))
  const page =
    '<a href="b.html#here">1</a><a href="b.html#there">2</a><a href="#">3</a><img src="x.png">'
  writeFileSync(join(folder, 'a.html'), page)
  writeFileSync(
    join(folder, 'b.html'),
    '<h1 id="here"></h1><a href="below">4</a><a href="https://a.b/c#d">5</a>',
  )
  t.same(brokenLinks(folder), [
    { page: 'a.html', link: 'b.html#there', why: 'no such anchor' },
    { page: 'a.html', link: 'x.png', why: 'no such file' },
    { page: 'b.html', link: 'below', why: 'no such file' },
  ])
})

t.test('the site is made by one command, without a broken link', { skip }, async (t) => {
  const { stdout } = await promisify(execFile)(process.execPath, [join(root, 'site/build.mjs')])
  t.match(stdout, /index\.html: \d{3,} pages, 0 broken links/)
  t.same(brokenLinks(site), [])
  const html = readFileSync(join(site, 'index.html'), 'utf8')
  t.notMatch(html, /(?:src|href)="(?:https?:)?\/\//, 'nothing is fetched from elsewhere')
  for (const [page, words] of [
    ['Guide/Getting_started.html', 'Getting started'],
    ['_coroipc/ipcs/Server.html', 'addService'],
    ['Examples/key-value.html', 'store.ts'],
    ['C_headers/coroipcc.h.html', 'coroipcc_connect'],
  ] as const)
    t.ok(readFileSync(join(site, page), 'utf8').includes(words), page)
})

t.test('its search finds pages by their text', { skip }, async (t) => {
  const data = /searchData = "([^"]+)"/.exec(readFileSync(join(site, 'assets/search.js'), 'utf8'))
  const index = inflateSync(Buffer.from(data?.[1] ?? '', 'base64')).toString()
  for (const words of ['Zero copy and trust', 'dispatchSync', 'pidfd'])
    t.ok(index.includes(words), words)
})

interface Page {
  goto(url: string): Promise<unknown>
  press(selector: string, key: string): Promise<void>
  fill(selector: string, text: string): Promise<void>
  waitForSelector(selector: string): Promise<unknown>
  evaluate<T>(script: string): Promise<T>
}
interface Browser {
  newPage(options: object): Promise<Page>
  close(): Promise<void>
}
interface Playwright {
  readonly chromium: { launch(options: object): Promise<Browser> }
}

t.test(
  'a browser opens it as files: search, dark, and no wider than a telephone',
  { skip },
  async (t) => {
    const name: string = 'playwright-core'
    const playwright = (await import(name).catch(() => undefined)) as Playwright | undefined
    const executablePath = '/usr/bin/chromium'
    if (playwright === undefined || !existsSync(executablePath)) {
      t.pass('looked at', { skip: `${name} or ${executablePath} is missing` })
      return
    }
    const browser = await playwright.chromium.launch({ executablePath, args: ['--no-sandbox'] })
    t.teardown(() => browser.close())
    const viewport = { width: 390, height: 844 }
    const pages = await Promise.all(
      (['light', 'dark'] as const).map((colorScheme) => browser.newPage({ viewport, colorScheme })),
    )
    const backgrounds = new Set<string>()
    for (const page of pages) {
      for (const path of ['index.html', 'Reference/Limits.html', '_coroipc/ipcs/Server.html']) {
        await page.goto(`file://${site}/${path}`)
        t.equal(await page.evaluate('document.documentElement.scrollWidth'), viewport.width, path)
      }
      backgrounds.add(await page.evaluate('getComputedStyle(document.body).backgroundColor'))
    }
    t.equal(backgrounds.size, 2)
    const [page] = pages as [Page]
    await page.press('body', '/')
    await page.fill('#tsd-search-input', 'backlogPolicy')
    await page.waitForSelector('#tsd-search-results a[href*="ServiceOptions.html#backlogpolicy"]')
  },
)
