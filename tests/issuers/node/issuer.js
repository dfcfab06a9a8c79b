// An oidc-provider issuer. It prints its address. POST /rotate makes it sign with a new key; the previous key stays published.
// Tokens for the first resource are JWTs, tokens for the second are opaque.
import { generateKeyPairSync, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import Provider from 'oidc-provider'

const resources = {
  'https://api.example.test/': 'jwt',
  'https://opaque.example.test/': 'opaque',
}

const newKey = () => ({
  ...generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ format: 'jwk' }),
  kid: randomUUID(),
  alg: 'ES256',
  use: 'sig',
})

const client = (id, secret) => ({
  client_id: id,
  client_secret: secret,
  grant_types: ['client_credentials'],
  redirect_uris: [],
  response_types: [],
  id_token_signed_response_alg: 'ES256',
  introspection_signed_response_alg: 'ES256',
})

const configuration = (keys) => ({
  jwks: { keys },
  clients: [
    client('billing', 'billing-secret-that-is-long-enough'),
    client('the api', 'the secret of the api: long enough'),
  ],
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    introspection: { enabled: true, allowedPolicy: () => true },
    jwtIntrospection: { enabled: true },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_, resource) => ({
        audience: resource,
        scope: 'invoices:read invoices:write',
        accessTokenFormat: resources[resource],
        jwt: { sign: { alg: 'ES256' } },
      }),
    },
  },
})

const server = createServer().listen(0, '127.0.0.1')
await once(server, 'listening')
const issuer = `http://127.0.0.1:${server.address().port}`

let keys = [newKey()]
let handle = new Provider(issuer, configuration(keys)).callback()
server.on('request', (request, response) => {
  if (request.method !== 'POST' || request.url !== '/rotate') return handle(request, response)
  keys = [newKey(), keys[0]]
  handle = new Provider(issuer, configuration(keys)).callback()
  response.end()
})
console.log(`listening on ${issuer}`)
