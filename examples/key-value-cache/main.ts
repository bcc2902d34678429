// Two clients of one cache, as two programs would be: what one sets the other gets, keeps, and forgets in time.
//
//   node build/examples/key-value-cache/server.js <name>
//   node build/examples/key-value-cache/main.js <name>
import { setTimeout as sleep } from 'node:timers/promises'
import { Cache } from './cache.js'

const [name] = process.argv.slice(2)
if (name === undefined) {
  console.error('usage: node main.js <name>')
  process.exit(2)
}

await using writer = await Cache.connect(name)
await using reader = await Cache.connect(name)
const show = async (key: string): Promise<void> => {
  const value = await reader.get(key)
  console.log(`${key}: ${value === undefined ? 'missing' : Buffer.from(value).toString()}`)
}

await show('colour')
await writer.set('colour', Buffer.from('red'))
await show('colour')
await show('colour') // without asking
const { hits, misses } = await writer.figures()
console.log(`${hits} hit, ${misses} miss, ${reader.near} near`)

await writer.set('colour', Buffer.from('blue'))
while (reader.near > 0) await sleep(1) // it is told
await show('colour')
console.log(`blocking: ${Buffer.from(reader.getSync('colour') ?? '').toString()}`)

await writer.set('short', Buffer.from('lived'), 1)
await sleep(5)
await show('short')
console.log(await writer.delete('colour'), await writer.delete('colour'))
