import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import * as openid from 'openid-client'
import { hmacSecret, keyOf, withKeys } from './keys.js'
import { basic, gateway, issuer, limited, odd, post, route, versionOf } from './service.js'

function configuration({ id, secret, method }) {
  const authentication = method === 'client_secret_post' ? openid.ClientSecretPost(secret) : openid.ClientSecretBasic(secret)
  const options = { algorithm: 'oauth2', execute: [openid.allowInsecureRequests] } // http on loopback
  return openid.discovery(issuer, id, undefined, authentication, options)
}

const call = (config, token, path) => openid.fetchProtectedResource(config, token.access_token, route(path), 'GET')

describe(`openid-client ${versionOf('openid-client')}`, () => {
  for (const client of [basic, post, odd]) {
    it(`discovers, gets a token for ${client.id} by ${client.method} and uses it`, async () => {
      const config = await configuration(client)
      const token = await openid.clientCredentialsGrant(config, { scope: 'read' })
      assert.equal(token.scope, 'read')
      assert(token.expiresIn() > 0)
      const response = await call(config, token, '/api/read')
      assert.equal((await response.json()).client_id, client.id)
    })
  }

  const signing = (id, authentication) => openid.discovery(issuer, id, undefined, authentication,
    { algorithm: 'oauth2', execute: [openid.allowInsecureRequests] })

  for (const id of withKeys) {
    it(`gets a token for ${id} by private_key_jwt with its defaults, uses it and revokes it`, async () => {
      const config = await signing(id, openid.PrivateKeyJwt(await keyOf(id)))
      assert(config.serverMetadata().token_endpoint_auth_methods_supported.includes('private_key_jwt'))
      const token = await openid.clientCredentialsGrant(config, { scope: 'read' })
      assert.equal((await (await call(config, token, '/api/read')).json()).client_id, id)
      await openid.tokenRevocation(config, token.access_token)
      await assert.rejects(call(config, token, '/api/open'))
    })
  }

  it('gets a token for svc-hmac by client_secret_jwt with its defaults, uses it and revokes it', async () => {
    const config = await signing('svc-hmac', openid.ClientSecretJwt(hmacSecret))
    assert(config.serverMetadata().token_endpoint_auth_methods_supported.includes('client_secret_jwt'))
    assert(config.serverMetadata().token_endpoint_auth_signing_alg_values_supported.includes('HS256'))
    const token = await openid.clientCredentialsGrant(config, { scope: 'read' })
    assert.equal((await (await call(config, token, '/api/read')).json()).client_id, 'svc-hmac')
    await openid.tokenRevocation(config, token.access_token)
    await assert.rejects(call(config, token, '/api/open'))
  })

  it('is refused by client_secret_jwt with another secret, and with the right secret by another method', async () => {
    for (const authentication of [
      openid.ClientSecretJwt(`${hmacSecret}x`), openid.ClientSecretPost(hmacSecret), openid.ClientSecretBasic(hmacSecret),
    ]) {
      const error = await openid.clientCredentialsGrant(await signing('svc-hmac', authentication)).catch((error) => error)
      const response = error.response ?? error.cause
      assert.equal((await response.json?.())?.error ?? error.error, 'invalid_client')
    }
  })

  it('is refused with the key of another client', async () => {
    const config = await signing('svc-key', openid.PrivateKeyJwt(await keyOf('svc-rsa')))
    const error = await openid.clientCredentialsGrant(config).catch((error) => error)
    assert.equal((await error.response.json()).error, 'invalid_client')
  })

  it('revokes a token, and introspection reports it as inactive', async () => {
    const config = await configuration(basic)
    const token = await openid.clientCredentialsGrant(config)
    const active = async () => (await openid.tokenIntrospection(await configuration(gateway), token.access_token)).active
    assert.equal(await active(), true)
    await openid.tokenRevocation(config, token.access_token)
    assert.equal(await active(), false)
    await assert.rejects(call(config, token, '/api/open'), (error) =>
      error instanceof openid.WWWAuthenticateChallengeError && error.status === 401)
  })

  it('reports a missing scope as a challenge', async () => {
    const config = await configuration(limited)
    const token = await openid.clientCredentialsGrant(config)
    await assert.rejects(call(config, token, '/api/write'), (error) =>
      error instanceof openid.WWWAuthenticateChallengeError
      && error.status === 403 && error.cause[0].parameters.error === 'insufficient_scope')
  })

  it('reports a wrong secret as a challenge, followed by invalid_client', async () => {
    const config = await configuration({ ...post, secret: 'wrong' })
    const error = await openid.clientCredentialsGrant(config).catch((error) => error)
    assert(error instanceof openid.WWWAuthenticateChallengeError, error)
    assert.equal((await error.response.json()).error, 'invalid_client')
  })

  it('reports an unknown scope as an error of the response', async () => {
    const config = await configuration(basic)
    await assert.rejects(openid.clientCredentialsGrant(config, { scope: 'admin' }), (error) =>
      error instanceof openid.ResponseBodyError && error.error === 'invalid_scope')
  })
})
