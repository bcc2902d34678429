// The stock from the command line.
//
//   node build/examples/typed/main.js <name> add bolt-m8 5
//   node build/examples/typed/main.js <name> take bolt-m8 2
//   node build/examples/typed/main.js <name> list
//   node build/examples/typed/main.js <name> watch          until it is interrupted
//
// Exit code: 0 done, 1 not possible, 2 wrong usage.
import { ContractError, StatusError } from '@coroipc/contract'
import { client } from '@coroipc/contract/client'
import { connect } from '@coroipc/ipcc'
import { stock } from './contract.js'

const [name, command, item = '', count] = process.argv.slice(2)
if (name === undefined || !/^(add|take|list|watch)$/.test(command ?? '')) {
  console.error('usage: node main.js <name> <add|take|list|watch> [item] [count]')
  process.exit(2)
}

// What is left out is the schema's default; what is no number is for the server to refuse.
const some = count === undefined ? { item } : { item, count: Number(count) }

try {
  await using connection = await connect(name, { service: stock.id })
  const calls = client(connection, stock)
  if (command === 'add') console.log(`${item}: ${await calls.add(some)}`)
  else if (command === 'take') console.log(`${item}: ${await calls.take(some)}`)
  else if (command === 'list')
    for (const each of await calls.list()) console.log(`${each.item}: ${each.count}`)
  else {
    const changes = calls.dispatches()
    await calls.watch()
    process.once('SIGINT', () => void connection.close())
    console.log('watching')
    for await (const { value } of changes) console.log(`${value.item}: ${value.count}`)
  }
} catch (error) {
  process.exitCode = 1
  if (error instanceof ContractError)
    for (const { path = [], message } of error.issues)
      console.error(`${path.join('.')}: ${message}`)
  else if (error instanceof StatusError) console.error(error.message)
  else console.error((error as Error).message)
}
