/** `@coroipc/cli`: the command line `coroipc`, and what the benchmarks of the repository share with it. */
export { type Cpus, findCpus, parseCpuList, usableCpus } from './cpus.js'
export { main } from './main.js'
