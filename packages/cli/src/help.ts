/** The help, of all and of each command: made of the same table that arguments are read by. */
import type { Argument, Command, Options } from './command.js'

const WIDTH = 100

/** `NAME SERVICE [ID]`. */
export function usageOf(name: string, { arguments: args = [] }: Command): string {
  const shown = args.map(({ name: each, optional, many }: Argument) => {
    const text = many === true ? `${each}...` : each
    return optional === true ? `[${text}]` : text
  })
  return ['coroipc', name, ...shown, '[options]'].join(' ')
}

/** Two columns, the second wrapped. */
function columns(rows: readonly (readonly [string, string])[]): string {
  const left = Math.max(...rows.map(([first]) => first.length))
  return rows
    .map(([first, second]) => {
      const lines: string[] = ['']
      for (const word of second.split(' ')) {
        const last = lines.length - 1
        const longer = lines[last] === '' ? word : `${lines[last]} ${word}`
        if (longer.length > WIDTH - left - 4 && lines[last] !== '') lines.push(word)
        else lines[last] = longer
      }
      return lines
        .map((line, index) => `  ${(index === 0 ? first : '').padEnd(left)}  ${line}`.trimEnd())
        .join('\n')
    })
    .join('\n')
}

const optionRow = ([name, { short, value, help, choices }]: [string, Options[string]]): [
  string,
  string,
] => [
  `${short === undefined ? '   ' : `-${short},`} --${name}${value === undefined ? '' : ` ${value}`}`,
  choices === undefined ? help : `${help}: ${choices.join(', ')}`,
]

/** The help of one command. */
export function commandHelp(name: string, command: Command, options: Options): string {
  const { summary, details, arguments: args = [] } = command
  const parts = [`Usage: ${usageOf(name, command)}`, `${summary}.`]
  if (args.length > 0)
    parts.push(`Arguments:\n${columns(args.map((each) => [each.name, each.help]))}`)
  parts.push(`Options:\n${columns(Object.entries(options).map(optionRow))}`)
  if (details !== undefined) parts.push(details.trim())
  return `${parts.join('\n\n')}\n`
}

/** The help of all. */
export function generalHelp(summaries: readonly (readonly [string, string])[]): string {
  return `Usage: coroipc COMMAND [arguments] [options]

Looks at, asks and measures servers of coroipc on this machine.

Commands:
${columns(summaries)}

Options:
  -h, --help     this, or the help of a command
      --version  the version

\`coroipc COMMAND --help\` tells more. A server's NAME is what it listens on: a plain name, '@name' in the
abstract namespace, or the path of its socket.
`
}
