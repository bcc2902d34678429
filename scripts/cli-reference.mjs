// `npm run generate:cli`: writes the help of each command into docs/reference/cli.md anew, between the lines of its block
// (```text help=NAME), and adds a section for a command that has none. test/house/docs-cli says when that is due.
import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { commands } from '../packages/cli/dist/commands/index.js'

const page = new URL('../docs/reference/cli.md', import.meta.url)
const bin = new URL('../packages/cli/bin/coroipc.js', import.meta.url).pathname

let text = readFileSync(page, 'utf8')
for (const name of Object.keys(commands)) {
  const { stdout } = spawnSync(process.execPath, [bin, name, '--help'], { encoding: 'utf8' })
  const open = `\`\`\`text help=${name}\n`
  const at = text.indexOf(open)
  if (at < 0) text += `\n## ${name}\n\n${open}${stdout}\`\`\`\n`
  else {
    const from = at + open.length
    text = text.slice(0, from) + stdout + text.slice(text.indexOf('```', from))
  }
}
writeFileSync(page, text)
