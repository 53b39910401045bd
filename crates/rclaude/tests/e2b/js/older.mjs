// What a program written with an older release of E2B's JavaScript SDK does. The first argument
// names the package.

import assert from 'node:assert/strict'

import { check, raises, run, until } from './checks.mjs'

const { CommandExitError, NotFoundError, Sandbox, TimeoutError } = await import(
  process.argv.splice(2, 1)[0]
)

check('a command runs and a file comes back', async (sandbox) => {
  const result = await sandbox.commands.run('echo hi; echo err >&2')
  assert.deepEqual([result.stdout, result.stderr, result.exitCode], ['hi\n', 'err\n', 0])
  await sandbox.files.write('dir/a.txt', 'content')
  assert.equal(await sandbox.files.read('dir/a.txt'), 'content')
  assert.deepEqual((await sandbox.files.list('dir')).map((it) => it.name), ['a.txt'])
  assert.equal(await sandbox.files.makeDir('dir'), false)
  await raises(NotFoundError, () => sandbox.files.read('none'))
})

check('commands fail, wait and end as they should', async (sandbox) => {
  const error = await raises(CommandExitError, () => sandbox.commands.run('exit 3'))
  assert.equal(error.exitCode, 3)
  await raises(TimeoutError, () => sandbox.commands.run('sleep 30', { timeoutMs: 1000 }))
  const handle = await sandbox.commands.run('sleep 60', { background: true })
  assert.ok((await sandbox.commands.list()).some((it) => it.pid === handle.pid))
  assert.equal(await handle.kill(), true)
  await raises(CommandExitError, () => handle.wait())
})

check('a watch and a terminal work', async (sandbox) => {
  await sandbox.files.makeDir('watched')
  const told = []
  const watch = await sandbox.files.watchDir('watched', (event) => told.push(event.name))
  await sandbox.files.write('watched/file', 'x')
  await until(() => told.includes('file'))
  await watch.stop()
  let seen = ''
  const onData = (data) => (seen += new TextDecoder().decode(data))
  const terminal = await sandbox.pty.create({ cols: 80, rows: 24, onData })
  await sandbox.pty.sendInput(terminal.pid, new TextEncoder().encode('echo a$((1+1))b; exit\n'))
  await until(() => seen.includes('a2b'))
  await terminal.wait()
})

check('a sandbox is found again', async (sandbox) => {
  await sandbox.setTimeout(200_000)
  const again = await Sandbox.connect(sandbox.sandboxId)
  assert.equal((await again.commands.run('cat dir/a.txt')).stdout, 'content')
  assert.equal(await again.isRunning(), true)
})

const main = await Sandbox.create({ timeoutMs: 300_000 })
try {
  await run(main)
} finally {
  await main.kill()
  await until(async () => !(await main.isRunning()))
}
