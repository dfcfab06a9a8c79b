// oidc-provider with ten clients and ES256 JWT access tokens, like our server: `node server.js PORT`.
import { generateKeyPairSync } from 'node:crypto';
import { Provider } from 'oidc-provider';

const API = 'https://api.example.com';
const port = Number(process.argv[2]);
const secret = 'tcc_0000000000000000000000000000000000000000000000000';
const jwk = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ format: 'jwk' });

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: Array.from({ length: 10 }, (_, n) => ({
    client_id: `client-${n}`,
    client_secret: secret,
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
    id_token_signed_response_alg: 'ES256',
    token_endpoint_auth_method: 'client_secret_basic',
  })),
  jwks: { keys: [{ ...jwk, alg: 'ES256', use: 'sig', kid: 'k' }] },
  scopes: ['invoices:read'],
  ttl: { ClientCredentials: () => 600 },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => API,
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({
        scope: 'invoices:read',
        audience: API,
        accessTokenFormat: 'jwt',
        jwt: { sign: { alg: 'ES256' } },
      }),
    },
  },
});
provider.listen(port, '127.0.0.1', () => {
  console.log(`Basic ${Buffer.from(`client-1:${secret}`).toString('base64')}`);
});
