import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { auth, discoverAuthorizationServerMetadata } from '@modelcontextprotocol/sdk/client/auth.js'
import { ClientCredentialsProvider } from '@modelcontextprotocol/sdk/client/auth-extensions.js'
import { basic, issuer, post, route, versionOf } from './service.js'

// With the setting `paths.authorization`: the SDK rejects metadata without an authorization endpoint.
describe(`@modelcontextprotocol/sdk ${versionOf('@modelcontextprotocol/sdk')}`, () => {
  it('reads the metadata', async () => {
    const metadata = await discoverAuthorizationServerMetadata(issuer)
    assert.equal(metadata.issuer, issuer.origin)
    assert.equal(metadata.token_endpoint, route('/token').href)
    assert.equal(metadata.authorization_endpoint, route('/authorize').href)
    assert.deepEqual(metadata.response_types_supported, ['none'])
  })

  for (const client of [basic, post]) {
    it(`gets a token for ${client.id} by client credentials and uses it`, async () => {
      const { id: clientId, secret: clientSecret } = client
      const provider = new ClientCredentialsProvider({ clientId, clientSecret, expectedIssuer: issuer.origin })
      provider.clientInformation().token_endpoint_auth_method = client.method
      assert.equal(await auth(provider, { serverUrl: issuer }), 'AUTHORIZED')
      const { access_token } = provider.tokens()
      const response = await fetch(route('/api/read'), { headers: { authorization: `Bearer ${access_token}` } })
      assert.equal((await response.json()).client_id, client.id)
    })
  }

  it('gets unsupported_response_type at the authorization endpoint', async () => {
    const { authorization_endpoint } = await discoverAuthorizationServerMetadata(issuer)
    const response = await fetch(`${authorization_endpoint}?response_type=code&client_id=${basic.id}`)
    assert.equal(response.status, 400)
    assert.equal((await response.json()).error, 'unsupported_response_type')
  })
})
