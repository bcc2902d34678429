/** `coroipc describe`: what a server offers, in its own words. */
import type { InspectedService, ServiceDescription } from '@coroipc/ipcs'
import { type Command, serverArgument } from '../command.js'
import { Inspector, inspectorChoice, inspectorOptions, serviceNamed } from '../inspector.js'
import { type Column, type Output, printable } from '../output.js'
import { schemaText } from '../schema.js'

/** A table of what has ids; columns in which nothing stands are left out. */
function idTable(
  output: Output,
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
): void {
  const used = columns.map((_, index) => rows.some((row) => row[index] !== ''))
  const keep = <T>(cells: readonly T[]): T[] => cells.filter((_, index) => used[index] === true)
  for (const line of output.tableText(keep(columns), rows.map(keep)).split('\n'))
    output.line(`  ${line}`)
}

const entries = <Entry>(table: Readonly<Record<number, Entry>> | undefined): [string, Entry][] =>
  Object.entries(table ?? {}).toSorted(([a], [b]) => Number(a) - Number(b))

function show(output: Output, service: InspectedService, description: ServiceDescription): void {
  const { id, name, version, connections } = service
  const title = [String(id), name, version].filter((each) => each !== undefined).join(' ')
  const people = `${connections} ${connections === 1 ? 'connection' : 'connections'}`
  output.line(`${output.style('bold', printable(title))}  ${output.style('dim', people)}`)
  if (description.summary !== undefined) output.line(`  ${printable(description.summary)}`)
  if (!service.described)
    output.line(
      `  ${output.style('dim', service.registered ? 'no description: addService({ description })' : 'served by the selector of the server')}`,
    )
  const text = (value: string | undefined): string => printable(value ?? '')
  const requests = entries(description.requests)
  if (requests.length > 0)
    idTable(
      output,
      [
        { title: 'REQUEST', align: 'right' },
        { title: 'NAME' },
        { title: 'CODEC' },
        { title: 'TAKES', shrink: true },
        { title: 'ANSWERS', shrink: true },
        { title: '', shrink: true },
      ],
      requests.map(([key, each]) => [
        key,
        text(each.name),
        text(each.codec),
        printable(schemaText(each.request)),
        each.oneWay === true ? 'no answer' : printable(schemaText(each.response)),
        text(each.summary),
      ]),
    )
  const dispatches = entries(description.dispatches)
  if (dispatches.length > 0)
    idTable(
      output,
      [
        { title: 'DISPATCH', align: 'right' },
        { title: 'NAME' },
        { title: 'CODEC' },
        { title: 'CARRIES', shrink: true },
        { title: '', shrink: true },
      ],
      dispatches.map(([key, each]) => [
        key,
        text(each.name),
        text(each.codec),
        printable(schemaText(each.payload)),
        text(each.summary),
      ]),
    )
}

export const command: Command = {
  summary: 'Services of a server: their requests, dispatches and types',
  arguments: [
    serverArgument,
    {
      name: 'SERVICE',
      help: 'one service: its number or name (all)',
      optional: true,
      complete: 'service',
    },
  ],
  options: inspectorOptions,
  details: `The server has to tell: new Server({ inspect: true }), and addService({ description }), which a contract
writes by itself. Types are JSON Schemas shown as TypeScript would write them; --json has them whole.

Examples:
  coroipc describe demo
  coroipc describe demo texts --json`,

  async run({ values, positionals, output }) {
    const [name = '', word] = positionals
    await using inspector = await Inspector.open(name, inspectorChoice(values))
    const all = await inspector.services()
    const services =
      word === undefined
        ? all.filter((each) => each.inspection !== true)
        : [serviceNamed(all, word)]
    let first = true
    for (const service of services) {
      const { id, described } = service
      const description = described ? await inspector.description(id) : {}
      if (output.json) output.record({ id, described, ...description })
      else {
        if (!first) output.line()
        show(output, service, description)
      }
      first = false
    }
    if (services.length === 0 && !output.json) output.note('no services')
  },
}
