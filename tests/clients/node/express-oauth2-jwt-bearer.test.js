// A third-party resource server: it discovers our keys by our metadata and verifies our tokens.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { after, before, describe, it } from 'node:test'
import express from 'express'
import { auth, requiredScopes } from 'express-oauth2-jwt-bearer'
import { api, basic, issuer, limited, other, route, versionOf } from './service.js'

async function token({ id, secret }, parameters) {
  const response = await fetch(route('/token'), {
    method: 'POST',
    headers: { authorization: `Basic ${btoa(`${id}:${secret}`)}` },
    body: new URLSearchParams({ grant_type: 'client_credentials', ...parameters }),
  })
  return (await response.json()).access_token
}

describe(`express-oauth2-jwt-bearer ${versionOf('express-oauth2-jwt-bearer')}`, () => {
  // `strict` requires the type `at+jwt` and all claims of RFC 9068.
  const checks = [auth({ issuerBaseURL: issuer.origin, audience: api, strict: true }), requiredScopes('write')]
  let server

  before(async () => {
    const app = express()
    app.get('/', checks, (request, response) => response.json(request.auth.payload))
    // Express recognizes an error handler by its four parameters.
    app.use((error, _request, response, _next) => response.status(error.status ?? 500).json({ code: error.code }))
    server = app.listen(0, '127.0.0.1')
    await once(server, 'listening')
  })
  after(() => {
    server.close()
    server.closeAllConnections()
  })

  const call = async (token) => {
    const headers = token ? { authorization: `Bearer ${token}` } : {}
    const response = await fetch(`http://127.0.0.1:${server.address().port}/`, { headers })
    return { status: response.status, body: await response.json() }
  }

  it('accepts our token', async () => {
    const { status, body } = await call(await token(basic))
    assert.deepEqual([status, body.client_id, body.sub, body.iss, body.aud], [200, basic.id, basic.id, issuer.origin, api])
  })

  it('refuses a token for another API, one without the scope, and a modified one', async () => {
    assert.deepEqual(await call(await token(basic, { resource: other })), { status: 401, body: { code: 'invalid_token' } })
    assert.deepEqual(await call(await token(limited)), { status: 403, body: { code: 'insufficient_scope' } })
    const altered = (await token(basic)).replace(/\..*\./, (claims) => `${claims.slice(0, -2)}A.`)
    assert.deepEqual(await call(altered), { status: 401, body: { code: 'invalid_token' } })
  })
})
