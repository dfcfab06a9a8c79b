// The private keys of the clients in examples/standalone.toml that sign assertions.
import { createPrivateKey, webcrypto } from 'node:crypto'
import { readFileSync } from 'node:fs'

const parameters = {
  'svc-key': { name: 'ECDSA', namedCurve: 'P-256' },
  'svc-rsa': { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' },
  'svc-ed': { name: 'Ed25519' },
}

/// The key of a client, with its `kid`.
export async function keyOf(id) {
  const pem = readFileSync(new URL(`../keys/${id}.pem`, import.meta.url))
  const pkcs8 = createPrivateKey(pem).export({ type: 'pkcs8', format: 'der' })
  const key = await webcrypto.subtle.importKey('pkcs8', pkcs8, parameters[id], false, ['sign'])
  return { key, kid: `${id}-1` }
}

/// The secret of `svc-hmac`, which authenticates its assertions with it.
export const hmacSecret = readFileSync(new URL('../../../examples/svc-hmac.secret', import.meta.url), 'utf8').trim()

export const withKeys = Object.keys(parameters)
