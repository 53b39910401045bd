// What a program written with E2B's JavaScript SDK does, with the newest one.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'

import {
  AuthenticationError,
  CommandExitError,
  FilesystemEventType,
  FileType,
  InvalidArgumentError,
  NotFoundError,
  Sandbox,
  SandboxError,
  TimeoutError,
} from 'e2b'

import { check, raises, run, until } from './checks.mjs'

check('a command runs and a file comes back', async (sandbox) => {
  const result = await sandbox.commands.run('echo hi; echo err >&2')
  assert.deepEqual([result.stdout, result.stderr, result.exitCode], ['hi\n', 'err\n', 0])
  await sandbox.files.write('a.txt', 'content')
  assert.equal(await sandbox.files.read('a.txt'), 'content')
  assert.equal(await sandbox.isRunning(), true)
})

check('a sandbox says what it is', async (sandbox) => {
  const info = await sandbox.getInfo()
  assert.equal(info.sandboxId, sandbox.sandboxId)
  assert.deepEqual(info.metadata, { suite: 'js', 'spaced key': 'a=b & c' })
  assert.equal(info.state, 'running')
  assert.ok(info.startedAt < info.endAt)
})

check('a command that fails says how, and one whose time is up ends', async (sandbox) => {
  const error = await raises(CommandExitError, () => sandbox.commands.run('echo out; exit 3'))
  assert.deepEqual([error.exitCode, error.stdout], [3, 'out\n'])
  await raises(TimeoutError, () => sandbox.commands.run('sleep 30', { timeoutMs: 1000 }))
  await raises(InvalidArgumentError, () => sandbox.commands.run('pwd', { cwd: '/no/such' }))
  const user = { user: 'nobody' }
  await raises(AuthenticationError, () => sandbox.commands.run('true', user), 'nobody')
  assert.equal((await sandbox.commands.run('id -u', { user: 'root' })).stdout, '0\n')
})

check('output streams as it comes', async (sandbox) => {
  const pieces = []
  const onStdout = (text) => pieces.push(text)
  await sandbox.commands.run('for i in 1 2 3; do echo $i; sleep 0.1; done', { onStdout })
  assert.equal(pieces.join(''), '1\n2\n3\n')
  assert.ok(pieces.length >= 2, pieces)
  const many = await sandbox.commands.run('seq 1 100000')
  assert.equal(many.stdout.length, 588895)
})

check('a background command is written to, listed, come back to and ended', async (sandbox) => {
  const handle = await sandbox.commands.run('cat', { background: true, stdin: true })
  assert.ok((await sandbox.commands.list()).some((it) => it.pid === handle.pid))
  await sandbox.commands.sendStdin(handle.pid, 'one\n')
  await until(() => handle.stdout === 'one\n')
  await handle.disconnect()
  const again = await sandbox.commands.connect(handle.pid)
  await sandbox.commands.sendStdin(handle.pid, 'two\n')
  await sandbox.commands.closeStdin(handle.pid)
  const end = await again.wait()
  assert.deepEqual([end.stdout, end.exitCode], ['two\n', 0])
  const killed = await sandbox.commands.run('sleep 60', { background: true })
  assert.equal(await killed.kill(), true)
  await raises(CommandExitError, () => killed.wait())
  assert.equal(await sandbox.commands.kill(killed.pid), false)
  await raises(NotFoundError, () => sandbox.commands.connect(3999999))
})

check('a terminal is typed into, resized and ended', async (sandbox) => {
  let seen = ''
  const onData = (data) => (seen += new TextDecoder().decode(data))
  const terminal = await sandbox.pty.create({ cols: 80, rows: 24, onData, envs: { OWN: 'blue' } })
  const type = (text) => sandbox.pty.sendInput(terminal.pid, new TextEncoder().encode(text))
  await type('stty size; echo colour=$OWN\n')
  await until(() => seen.includes('24 80') && seen.includes('colour=blue'))
  await sandbox.pty.resize(terminal.pid, { cols: 100, rows: 30 })
  await type('stty size\n')
  await until(() => seen.includes('30 100'))
  await type('exit 4\n')
  const error = await raises(CommandExitError, () => terminal.wait())
  assert.equal(error.exitCode, 4)
  assert.equal(await sandbox.pty.kill(terminal.pid), false)
})

check('files are written and read in every form', async (sandbox) => {
  const binary = new Uint8Array(200_000).map((_, n) => n * 7)
  const digest = (bytes) => createHash('sha256').update(bytes).digest('hex')
  const info = await sandbox.files.write('deep/er/file.bin', binary.buffer)
  assert.equal(info.path, '/home/user/deep/er/file.bin')
  const bytes = await sandbox.files.read('deep/er/file.bin', { format: 'bytes' })
  assert.equal(digest(bytes), digest(binary))
  const blob = await sandbox.files.read('deep/er/file.bin', { format: 'blob' })
  assert.equal(blob.size, binary.length)
  const stream = await sandbox.files.read('deep/er/file.bin', { format: 'stream' })
  const hash = createHash('sha256')
  for await (const chunk of stream) hash.update(chunk)
  assert.equal(hash.digest('hex'), digest(binary))
  await sandbox.files.write('from blob', new Blob(['blob']))
  assert.equal(await sandbox.files.read('from blob'), 'blob')
  const body = new Blob([binary]).stream()
  await sandbox.files.write('from stream', body)
  const back = await sandbox.files.read('from stream', { format: 'bytes' })
  assert.equal(digest(back), digest(binary))
  const files = [...Array(10).keys()].map((n) => ({ path: `many/${n}`, data: `number ${n}` }))
  const written = await sandbox.files.write(files)
  assert.equal(written.length, 10)
  assert.equal(await sandbox.files.read('many/7'), 'number 7')
})

check('directories and what is in them', async (sandbox) => {
  assert.equal(await sandbox.files.makeDir('dir/one'), true)
  assert.equal(await sandbox.files.makeDir('dir/one'), false)
  await sandbox.files.write('dir/file', '12345')
  const listed = await sandbox.files.list('dir')
  assert.deepEqual(listed.map((it) => [it.name, it.type]), [
    ['file', FileType.FILE],
    ['one', FileType.DIR],
  ])
  const facts = await sandbox.files.getInfo('dir/file')
  assert.deepEqual([facts.size, facts.permissions, facts.owner], [5, '-rw-r--r--', 'user'])
  await sandbox.files.rename('dir/file', 'dir/two/moved')
  assert.equal(await sandbox.files.exists('dir/file'), false)
  assert.equal(await sandbox.files.read('dir/two/moved'), '12345')
  await raises(NotFoundError, () => sandbox.files.read('none'))
  await raises(NotFoundError, () => sandbox.files.list('none'))
  await sandbox.files.remove('dir')
  assert.equal(await sandbox.files.exists('dir'), false)
})

check('a watch tells what changed while it lasts', async (sandbox) => {
  await sandbox.files.makeDir('watched/deep')
  const told = []
  const watch = await sandbox.files.watchDir('watched', (event) => told.push(event), {
    recursive: true,
  })
  await sandbox.files.write('watched/deep/file', 'x')
  await until(() => told.some((it) => it.type === FilesystemEventType.WRITE))
  assert.deepEqual([told[0].type, told[0].name], [FilesystemEventType.CREATE, 'deep/file'])
  await watch.stop()
  await raises(NotFoundError, () => sandbox.files.watchDir('none', () => {}))
})

check('a sandbox is paused, connected to and listed', async () => {
  const metadata = { mark: `mark ${process.hrtime.bigint()} =&ä` }
  const box = await Sandbox.create({ timeoutMs: 60_000, metadata })
  const listed = async (state) => {
    const pages = Sandbox.list({ query: { metadata, ...(state && { state: [state] }) } })
    const found = []
    while (pages.hasNext) found.push(...(await pages.nextItems()))
    return found.map((it) => it.sandboxId)
  }
  try {
    assert.deepEqual(await listed(), [box.sandboxId])
    await box.files.write('kept', 'yes')
    assert.equal(await box.pause(), true)
    assert.equal(await box.pause(), false)
    assert.equal(await box.isRunning(), false)
    assert.deepEqual(await listed('paused'), [box.sandboxId])
    assert.deepEqual(await listed('running'), [])
    await raises(SandboxError, () => box.commands.run('true'))
    const again = await Sandbox.connect(box.sandboxId, { timeoutMs: 60_000 })
    assert.equal(await again.files.read('kept'), 'yes')
    await again.setTimeout(120_000)
    const [now] = await again.getMetrics()
    assert.ok(now.memUsed > 0)
  } finally {
    assert.equal(await box.kill(), true)
  }
  assert.equal(await box.kill(), false)
  await raises(NotFoundError, () => Sandbox.connect(box.sandboxId))
})

check('git works as the SDK uses it', async (sandbox) => {
  await sandbox.git.init('/home/user/repo', { initialBranch: 'main' })
  await sandbox.git.configureUser('Test', 'test@example.invalid')
  await sandbox.files.write('repo/file', 'one\n')
  await sandbox.git.add('/home/user/repo')
  await sandbox.git.commit('/home/user/repo', 'first')
  const status = await sandbox.git.status('/home/user/repo')
  assert.equal(status.currentBranch, 'main')
})

check('a signed address is for one file', async (sandbox) => {
  await sandbox.files.write('shared.txt', 'for you')
  const headers = { 'E2b-Sandbox-Id': sandbox.sandboxId, 'E2b-Sandbox-Port': '49983' }
  const url = await sandbox.downloadUrl('shared.txt', { useSignatureExpiration: 60_000 })
  assert.equal(await (await fetch(url, { headers })).text(), 'for you')
  const other = url.replace('shared.txt', 'a.txt')
  assert.equal((await fetch(other, { headers })).status, 401)
})

check('what there is none of is refused', async () => {
  await raises(SandboxError, () => Sandbox.create('no-such-template'), 'no-such-template')
  await raises(AuthenticationError, () => Sandbox.create({ apiKey: 'e2b_00' }))
  const network = { allowOut: ['example.org'], denyOut: ['0.0.0.0/0'] }
  await raises(SandboxError, () => Sandbox.create({ network }), 'allowOut')
})

check('twenty at once are all there', async () => {
  const one = async (n) => {
    const box = await Sandbox.create({ timeoutMs: 120_000 })
    try {
      return (await box.commands.run(`echo ${n}`)).stdout
    } finally {
      await box.kill()
    }
  }
  const results = await Promise.all([...Array(20).keys()].map(one))
  assert.deepEqual(results, [...Array(20).keys()].map((n) => `${n}\n`))
})

const metadata = { suite: 'js', 'spaced key': 'a=b & c' }
const main = await Sandbox.create({ timeoutMs: 600_000, metadata, envs: { FROM_CREATE: 'yes' } })
try {
  await run(main)
} finally {
  await main.kill()
}
