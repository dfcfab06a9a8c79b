import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { OAuth2Client, OAuth2Fetch } from '@badgateway/oauth2-client'
import { basic, gateway, issuer, limited, odd, other, post, route, versionOf } from './service.js'

// It discovers the endpoints by RFC 8414, and chooses the authentication method by the metadata unless one is configured.
const clientOf = ({ id: clientId, secret: clientSecret, method: authenticationMethod }) =>
  new OAuth2Client({
    server: issuer.href,
    discoveryEndpoint: '/.well-known/oauth-authorization-server',
    clientId,
    clientSecret,
    authenticationMethod,
  })

const call = (path, { accessToken }) => fetch(route(path), { headers: { authorization: `Bearer ${accessToken}` } })

describe(`@badgateway/oauth2-client ${versionOf('@badgateway/oauth2-client')}`, () => {
  for (const client of [basic, post, odd]) {
    it(`gets a token for ${client.id} by ${client.method} and uses it`, async () => {
      const token = await clientOf(client).clientCredentials({ scope: ['read', 'write'] })
      assert.ok(token.expiresAt > Date.now())
      const response = await call('/api/read', token)
      assert.equal((await response.json()).client_id, client.id)
    })
  }

  it('gets a token for another API by its resource', async () => {
    const token = await clientOf(basic).clientCredentials({ resource: other })
    assert.equal((await call('/api/read', token)).status, 401)
  })

  it('introspects and revokes a token', async () => {
    const token = await clientOf(basic).clientCredentials()
    assert.equal((await clientOf(gateway).introspect(token)).client_id, basic.id)
    await clientOf(basic).revoke(token)
    assert.deepEqual(await clientOf(gateway).introspect(token), { active: false })
  })

  it('gets one token for many concurrent requests', async () => {
    let tokens = 0
    const client = clientOf(limited)
    const wrapper = new OAuth2Fetch({
      client,
      getNewToken: () => {
        tokens += 1
        return client.clientCredentials()
      },
    })
    const responses = await Promise.all(Array.from({ length: 10 }, () => wrapper.fetch(route('/api/read'))))
    assert.deepEqual(responses.map(({ status }) => status), Array(10).fill(200))
    assert.equal((await wrapper.fetch(route('/api/write'))).status, 403)
    assert.equal(tokens, 1)
  })

  it('reports a wrong secret and an unknown scope as its own errors', async () => {
    await assert.rejects(clientOf({ ...basic, secret: 'wrong' }).clientCredentials(), { oauth2Code: 'invalid_client' })
    await assert.rejects(clientOf(basic).clientCredentials({ scope: ['admin'] }), { oauth2Code: 'invalid_scope' })
  })
})
