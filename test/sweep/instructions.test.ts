// Death at 500 instructions of connect, put, get and close of both sides. More: `npm run sweep:long`, docs/internals/sweeps.md.
import t from 'tap'
import { sweep } from './run.js'

sweep(t, 'instructions')
