// A real issuer for tests/integration/oidc.rs: oidc-provider on loopback, with one client that gets
// signed access tokens for the resource `holm`. Prints one line of JSON, and ends with its stdin.
import { generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:http';
import Provider from 'oidc-provider';

const server = createServer();
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const issuer = `http://127.0.0.1:${server.address().port}`;

const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
const key = { ...privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'RS256', kid: 'first' };
const resource = 'urn:holm';
const provider = new Provider(issuer, {
  jwks: { keys: [key] },
  clients: [{
    client_id: 'deployer',
    client_secret: 'a-secret-of-a-test',
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
  }],
  scopes: ['config:read:web/dev'],
  extraTokenClaims: () => ({ roles: ['operator'] }),
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => resource,
      getResourceServerInfo: () => ({
        scope: 'config:read:web/dev',
        audience: 'holm',
        accessTokenFormat: 'jwt',
        jwt: { sign: { alg: 'RS256' } },
      }),
    },
  },
});
server.on('request', provider.callback());

async function token(scope) {
  const answer = await fetch(`${issuer}/token`, {
    method: 'POST',
    headers: { authorization: `Basic ${btoa('deployer:a-secret-of-a-test')}` },
    body: new URLSearchParams({ grant_type: 'client_credentials', resource, ...scope }),
  });
  const body = await answer.json();
  if (!answer.ok) throw new Error(JSON.stringify(body));
  return body.access_token;
}

const found = await (await fetch(`${issuer}/.well-known/openid-configuration`)).json();
console.log(JSON.stringify({
  issuer,
  jwks_uri: found.jwks_uri,
  operator: await token({}),
  narrowed: await token({ scope: 'config:read:web/dev' }),
}));
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
