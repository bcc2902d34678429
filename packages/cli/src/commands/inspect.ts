/** `coroipc inspect`: a page in the browser that shows what a server does. */
import { spawn } from 'node:child_process'
import { interruption } from '../client.js'
import { type Command, flag, integerOption, serverArgument } from '../command.js'
import { Inspector, inspectorChoice, inspectorOptions } from '../inspector.js'
import { Feed } from '../inspect/feed.js'
import { PageServer } from '../inspect/page-server.js'

export const command: Command = {
  summary: 'A page in the browser: rates, latencies, rings, connections, contracts',
  arguments: [serverArgument],
  options: {
    ...inspectorOptions,
    port: { type: 'string', value: 'PORT', help: 'of 127.0.0.1; 0 (default): any that is free' },
    interval: { type: 'string', value: 'MS', help: 'between two looks (1000)' },
    open: { type: 'boolean', help: 'open the page with xdg-open' },
  },
  details: `The page is at the address that is printed, on loopback, until Ctrl-C. Whoever has the address sees what
you see: it has a random token, keep it to yourself. The server is asked only while a page is open.
It needs the option \`inspect\` of the server, and its \`latency\` for the heat map.

Examples:
  coroipc inspect demo --open
  ssh -L 8080:127.0.0.1:8080 host coroipc inspect demo --port 8080`,

  async run({ values, positionals, output }) {
    const [name = ''] = positionals
    const port = integerOption(values, 'port', 0, 65535) ?? 0
    const intervalMs = integerOption(values, 'interval', 50, 3_600_000) ?? 1000
    const choice = inspectorChoice(values)
    const signal = interruption(false)
    // Whether it can be asked at all is said here, not on the page.
    const inspector = await Inspector.open(name, choice)
    await inspector.close()
    const feed = new Feed({ name, intervalMs, ...choice })
    const page = new PageServer(feed)
    const url = await page.listen(port)
    if (output.json) output.record({ url, pid: process.pid })
    else output.line(url)
    if (flag(values, 'open')) {
      spawn('xdg-open', [url], { stdio: 'ignore', detached: true })
        .on('error', () => output.note('xdg-open is not there: open the address yourself'))
        .unref()
    }
    if (!signal.aborted)
      await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
    feed.stop()
    await page.close()
  },
}
