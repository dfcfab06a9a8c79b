import assert from 'node:assert/strict'
import { createHmac, randomUUID } from 'node:crypto'
import { before, describe, it } from 'node:test'
import * as oauth from 'oauth4webapi'
import { hmacSecret, keyOf, withKeys } from './keys.js'
import { api, basic, gateway, issuer, limited, odd, other, post, route, versionOf } from './service.js'

const insecure = { [oauth.allowInsecureRequests]: true } // http on loopback
let server

const authentication = ({ method, secret }) =>
  method === 'client_secret_post' ? oauth.ClientSecretPost(secret) : oauth.ClientSecretBasic(secret)

async function token(registered, parameters = {}) {
  const client = { client_id: registered.id }
  const response = await oauth.clientCredentialsGrantRequest(
    server, client, authentication(registered), new URLSearchParams(parameters), insecure,
  )
  return oauth.processClientCredentialsResponse(server, client, response)
}

async function introspect(token, options, registered = gateway) {
  const client = { client_id: registered.id }
  const response = await oauth.introspectionRequest(
    server, client, authentication(registered), token.access_token, { ...insecure, ...options },
  )
  const told = await oauth.processIntrospectionResponse(server, client, response)
  if (options.requestJwtResponse) {
    assert.match(response.headers.get('content-type'), /^application\/token-introspection\+jwt/)
    await oauth.validateApplicationLevelSignature(server, response, insecure)
  }
  return told
}

/// Client authentication by client_secret_jwt with another algorithm than the one of the library.
const hmacJwt = (alg) => (as, client, body) => {
  const now = Math.floor(Date.now() / 1000)
  const claims = { iss: client.client_id, sub: client.client_id, aud: as.issuer, iat: now, exp: now + 60, jti: randomUUID() }
  const text = [{ alg }, claims].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.')
  const signature = createHmac(alg.replace('HS', 'sha'), hmacSecret).update(text).digest('base64url')
  body.set('client_id', client.client_id)
  body.set('client_assertion_type', 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer')
  body.set('client_assertion', `${text}.${signature}`)
}

const call = (token, path) =>
  oauth.protectedResourceRequest(token.access_token, 'GET', route(path), undefined, undefined, insecure)

const bearer = (token) => new Request(route('/api/open'), { headers: { authorization: `Bearer ${token.access_token}` } })

describe(`oauth4webapi ${versionOf('oauth4webapi')}`, () => {
  before(async () => {
    const response = await oauth.discoveryRequest(issuer, { algorithm: 'oauth2', ...insecure })
    server = await oauth.processDiscoveryResponse(issuer, response)
  })

  for (const client of [basic, post, odd]) {
    it(`gets a token for ${client.id} by ${client.method} and uses it`, async () => {
      const granted = await token(client)
      assert.equal(granted.scope, 'read write')
      const response = await call(granted, '/api/read')
      assert.equal((await response.json()).client_id, client.id)
    })
  }

  const signed = async (id, authentication) => {
    const client = { client_id: id }
    const response = await oauth.clientCredentialsGrantRequest(
      server, client, authentication, new URLSearchParams(), insecure,
    )
    return oauth.processClientCredentialsResponse(server, client, response)
  }

  for (const id of withKeys) {
    it(`gets a token for ${id} by private_key_jwt with its defaults`, async () => {
      const granted = await signed(id, oauth.PrivateKeyJwt(await keyOf(id)))
      assert.equal((await (await call(granted, '/api/read')).json()).client_id, id)
    })
  }

  for (const alg of ['HS256', 'HS384', 'HS512']) {
    it(`gets a token for svc-hmac by client_secret_jwt with ${alg}`, async () => {
      // The library signs with HS256 only; for the other algorithms, node does.
      const granted = await signed('svc-hmac', alg === 'HS256' ? oauth.ClientSecretJwt(hmacSecret) : hmacJwt(alg))
      assert.equal((await (await call(granted, '/api/read')).json()).client_id, 'svc-hmac')
    })
  }

  it('sends the URL of the token endpoint as the audience, which only the client with an allowance may', async () => {
    const authentication = oauth.PrivateKeyJwt(await keyOf('svc-key'), {
      [oauth.modifyAssertion]: (_, payload) => { payload.aud = server.token_endpoint },
    })
    await signed('svc-legacy', authentication)
    const error = await signed('svc-key', authentication).catch((error) => error)
    assert.equal((await error.response.json()).error, 'invalid_client')
  })

  it('is refused when it sends an assertion for the second time', async () => {
    const authentication = oauth.PrivateKeyJwt(await keyOf('svc-key'), {
      [oauth.modifyAssertion]: (_, payload) => { payload.jti = 'the same' },
    })
    await signed('svc-key', authentication)
    const error = await signed('svc-key', authentication).catch((error) => error)
    assert.equal((await error.response.json()).error, 'invalid_client')
  })

  it('validates the token as a JWT access token against the key set', async () => {
    const claims = await oauth.validateJwtAccessToken(server, bearer(await token(odd)), api, insecure)
    assert.equal(claims.client_id, odd.id)
    assert.equal(claims.scope, 'read write')
  })

  it('refuses a token for another resource, and the route refuses it too', async () => {
    const granted = await token(basic, { resource: other })
    await assert.rejects(oauth.validateJwtAccessToken(server, bearer(granted), api, insecure), { code: oauth.JWT_CLAIM_COMPARISON })
    await assert.rejects(call(granted, '/api/open'), (error) => challenge(error, 401, 'bearer', 'invalid_token'))
  })

  it('reports a missing scope as a challenge', async () => {
    const granted = await token(limited)
    assert.equal((await call(granted, '/api/read')).status, 200)
    await assert.rejects(call(granted, '/api/write'), (error) => challenge(error, 403, 'bearer', 'insufficient_scope'))
  })

  it('reports a wrong secret as a challenge, followed by invalid_client', async () => {
    const error = await token({ ...basic, secret: 'wrong' }).catch((error) => error)
    challenge(error, 401, 'basic', undefined)
    assert.equal((await error.response.json()).error, 'invalid_client')
  })

  for (const client of [basic, post, odd]) {
    it(`revokes a token of ${client.id}, and the route refuses it`, async () => {
      const granted = await token(client)
      await call(granted, '/api/open')
      const response = await oauth.revocationRequest(
        server, { client_id: client.id }, authentication(client), granted.access_token, insecure,
      )
      await oauth.processRevocationResponse(response)
      await assert.rejects(call(granted, '/api/open'), (error) => challenge(error, 401, 'bearer', 'invalid_token'))
      assert.equal((await introspect(granted, {})).active, false)
    })
  }

  it('introspects a token as JSON, and as a JWT that it validates', async () => {
    const granted = await token(limited)
    for (const options of [{ requestJwtResponse: false }, { requestJwtResponse: true }]) {
      const told = await introspect(granted, options)
      assert.equal(told.active, true)
      assert.equal(told.client_id, limited.id)
      assert.equal(told.scope, 'read')
    }
    const foreign = await token(basic, { resource: other })
    assert.deepEqual({ ...(await introspect(foreign, {})) }, { active: false })
  })

  it('reports a client that may not introspect as an error of the response', async () => {
    const granted = await token(basic)
    await assert.rejects(introspect(granted, {}, basic), (error) =>
      error instanceof oauth.ResponseBodyError && error.error === 'unauthorized_client')
  })

  it('reports an unknown scope as an error of the response', async () => {
    await assert.rejects(token(basic, { scope: 'admin' }), (error) =>
      error instanceof oauth.ResponseBodyError && error.status === 400 && error.error === 'invalid_scope')
  })
})

function challenge(error, status, scheme, code) {
  assert(error instanceof oauth.WWWAuthenticateChallengeError, error)
  assert.equal(error.status, status)
  assert.equal(error.cause[0].scheme, scheme)
  assert.equal(error.cause[0].parameters.error, code)
  return true
}
