// The mutants of the storms: mistakes planted in copies of the core (test/storm/mutants.json), each linked with the server under load
// (test/programs/load-server.c) into build/storm/mutants/NAME. The tests of test/storm start them.
//
//   --build      says the same as the builders of other mutants do; there is nothing else to do
import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { plant } from './mutants.mjs'

process.chdir(fileURLToPath(new URL('..', import.meta.url)))
const core = 'native/build/Release/obj.target/coroipc_core.a'
const server = 'test/programs/load-server.c'
const flags = '-O2 -w -pthread -D_GNU_SOURCE -MMD -MP -Inative/include'
const mutants = JSON.parse(readFileSync('test/storm/mutants.json', 'utf8'))
const placeOf = ({ name }) => `build/storm/mutants/${name}`

if (!mutants.every((mutant) => plant(mutant, placeOf(mutant)))) process.exit(1)
const rules = mutants.flatMap((mutant) => {
  const place = placeOf(mutant)
  const wrong = `${place}/${mutant.file}`
  return [
    `${wrong}.o: ${wrong}.cc\n\t@echo "  CXX storm mutant ${mutant.name}"\n\t@$(CXX) -std=c++20 -fno-exceptions -fno-rtti ${flags} -Inative/src -c -o $@ $<`,
    `${place}/load-server: ${server} ${wrong}.o ${core}\n\t@$(CC) -std=c11 ${flags} -MF $@.d -o $@ $^ -lstdc++`,
    `-include ${wrong}.d ${place}/load-server.d`,
  ]
})
const all = `all: ${mutants.map((mutant) => `${placeOf(mutant)}/load-server`).join(' ')}`
const makefile = 'build/storm/mutants/Makefile'
writeFileSync(makefile, `MAKEFLAGS += --no-builtin-rules\n${[all, ...rules].join('\n')}\n`)
const made = spawnSync('make', ['-f', makefile, '--no-print-directory'], { stdio: 'inherit' })
process.exitCode = made.status ?? 1
