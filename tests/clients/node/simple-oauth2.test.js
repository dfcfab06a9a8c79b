import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { ClientCredentials } from 'simple-oauth2'
import { basic, issuer, limited, odd, post, route, versionOf } from './service.js'

// It supports neither discovery nor requests to resources.
const flow = ({ id, secret, method }) => new ClientCredentials({
  client: { id, secret },
  auth: { tokenHost: issuer.origin, tokenPath: '/token', revokePath: '/revoke' },
  options: { authorizationMethod: method === 'client_secret_post' ? 'body' : 'header' },
})

const call = ({ token }, path) => fetch(route(path), { headers: { authorization: `${token.token_type} ${token.access_token}` } })

describe(`simple-oauth2 ${versionOf('simple-oauth2')}`, () => {
  for (const client of [basic, post, odd]) {
    it(`gets a token for ${client.id} by ${client.method} and uses it`, async () => {
      const access = await flow(client).getToken({ scope: ['read', 'write'] })
      assert.equal(access.token.scope, 'read write')
      assert.equal(access.expired(), false)
      const response = await call(access, '/api/read')
      assert.equal((await response.json()).client_id, client.id)
    })
  }

  for (const client of [basic, post, odd]) {
    it(`revokes a token of ${client.id}, and the route refuses it`, async () => {
      const access = await flow(client).getToken({})
      assert.equal((await call(access, '/api/open')).status, 200)
      await access.revoke('access_token') // throws if the response is not JSON
      assert.equal((await call(access, '/api/open')).status, 401)
    })
  }

  it('gets a token without a scope that the client may not have', async () => {
    const response = await call(await flow(limited).getToken({}), '/api/write')
    assert.equal(response.status, 403)
    assert.match(response.headers.get('www-authenticate'), /error="insufficient_scope".*scope="write"/)
  })

  it('reports a wrong secret as its own error', async () => {
    await assert.rejects(flow({ ...basic, secret: 'wrong' }).getToken({}), (error) =>
      error.isBoom && error.output.statusCode === 401 && error.data.payload.error === 'invalid_client')
  })

  it('reports an unknown scope as its own error', async () => {
    await assert.rejects(flow(basic).getToken({ scope: 'admin' }), (error) =>
      error.isBoom && error.output.statusCode === 400 && error.data.payload.error === 'invalid_scope')
  })
})
