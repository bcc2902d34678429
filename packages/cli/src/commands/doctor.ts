/** `coroipc doctor`: what this machine, this container and this user offer, tried for real. */
import { type Command, Exit } from '../command.js'
import type { Check, Level } from '../doctor/check.js'
import { cpus, kernelSettings, limits, memory } from '../doctor/machine.js'
import { addonAndFeatures, versions } from '../doctor/software.js'
import type { Output } from '../output.js'

const marks: Record<Level, readonly ['green' | 'yellow' | 'red', string]> = {
  ok: ['green', 'ok  '],
  warn: ['yellow', 'warn'],
  fail: ['red', 'FAIL'],
}

const INDENT = '      '

function show(output: Output, section: string, checks: readonly Check[]): void {
  if (output.json) {
    for (const check of checks) output.record({ section, ...check })
    return
  }
  output.line(`\n${output.style('bold', section)}`)
  for (const { check, level, found, advice } of checks) {
    const [colour, mark] = marks[level]
    output.line(`${output.style(colour, mark)}  ${check}: ${found}`)
    if (advice !== undefined) output.line(`${INDENT}${output.style('dim', advice)}`)
  }
}

export const command: Command = {
  summary: 'Check this machine: kernel, limits, CPUs, settings, and a real call',
  details: `Each line is ok, warn or FAIL, the latter two with what to change and how. What can be tried is tried, in this
process and under its limits: run it where the server will run, as the user that it will have. The exit code
is 1 if anything failed; warnings do not count.`,

  async run({ output }) {
    const all: Check[] = []
    const section = (name: string, checks: readonly Check[]): void => {
      show(output, name, checks)
      all.push(...checks)
    }
    section('Versions', versions())
    const native = await addonAndFeatures()
    section('Kernel features, each tried', native)
    section('CPUs', cpus())
    section('Limits', limits())
    section('Memory', memory())
    section('Kernel settings', kernelSettings())
    // Without an addon there is nothing more to try.
    if (native.length > 1) {
      section('Folders of sockets', await (await import('../doctor/folders.js')).runtimeFolders())
      section('Self test', await (await import('../doctor/self-test.js')).selfTest())
    }
    const of = (level: Level): number => all.filter((check) => check.level === level).length
    const failed = of('fail')
    if (output.json) output.record({ summary: { ok: of('ok'), warn: of('warn'), fail: failed } })
    else output.line(`\n${of('ok')} ok, ${of('warn')} to look at, ${failed} failed`)
    return failed > 0 ? Exit.failed : Exit.ok
  },
}
