// Runs checks one after the other and tells which failed, and how.

import assert from 'node:assert/strict'

const checks = []

/** Registers a check; its name is the sentence that it proves. */
export function check(name, body) {
  checks.push({ name, body })
}

/** What `call` fails with, which is of this class and says these words. */
export async function raises(kind, call, ...words) {
  let value
  try {
    value = await call()
  } catch (error) {
    assert.ok(error instanceof kind, `${kind.name} was expected, not ${error?.stack ?? error}`)
    for (const word of words) assert.ok(String(error).includes(word), `no ${word} in ${error}`)
    return error
  }
  assert.fail(`${kind.name} was expected, not ${JSON.stringify(value)}`)
}

/** What `probe` comes to once that is something; looks again and again. */
export async function until(probe, seconds = 20) {
  const end = performance.now() + seconds * 1000
  for (;;) {
    const value = await probe()
    if (value) return value
    assert.ok(performance.now() < end, 'it never came to that')
    await new Promise((next) => setTimeout(next, 20))
  }
}

/** Runs all checks, or those whose names hold what the command line says. */
export async function run(argument) {
  const wanted = process.argv.slice(2)
  let failed = 0
  for (const { name, body } of checks) {
    if (wanted.length && !wanted.some((word) => name.includes(word))) continue
    const began = performance.now()
    const told = () => `${((performance.now() - began) / 1000).toFixed(2)} s  ${name}`
    try {
      await body(argument)
      console.log(`ok   ${told()}`)
    } catch (error) {
      failed += 1
      console.log(`FAIL ${told()}`)
      console.error(error)
    }
  }
  console.log(`${failed} failed`)
  process.exitCode = failed ? 1 : 0
}
