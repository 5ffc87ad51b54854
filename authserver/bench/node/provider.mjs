// The peer that the benchmark measures beside authserver: oidc-provider, with its tokens in SQLite.
//
//   node provider.mjs PORT FILE CODES CHALLENGE
//
// Before it listens, it writes to FILE.codes that many authorization codes, as a browser would have
// brought them, whose PKCE challenge is CHALLENGE.
import { generateKeyPairSync } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import Provider from 'oidc-provider';
import { adapterIn } from './adapter.mjs';

const [port, file, codes, challenge] = process.argv.slice(2);
const scope = 'openid profile offline_access';
const callback = 'https://app.example.org/callback';
const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
const claims = { sub: 'maria', name: 'Maria Example', preferred_username: 'maria', updated_at: 1 };

const provider = new Provider(`http://localhost:${port}`, {
  adapter: adapterIn(file),
  claims: { openid: ['sub'], profile: ['name', 'preferred_username', 'updated_at'] },
  clients: [{
    client_id: 'bench',
    client_secret: 'b'.repeat(43),
    redirect_uris: [callback],
    grant_types: ['authorization_code', 'refresh_token', 'client_credentials'],
  }],
  cookies: { keys: ['k'.repeat(32)] },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    introspection: { enabled: true },
  },
  findAccount: async (_, id) => ({ accountId: id, claims: async () => claims }),
  jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'RS256' }] },
  rotateRefreshToken: true,
  ttl: {
    AccessToken: 3600, AuthorizationCode: 86400, ClientCredentials: 3600, Grant: 30 * 86400,
    IdToken: 3600, RefreshToken: 30 * 86400,
  },
});

async function makeCode(client) {
  const grant = new provider.Grant({ accountId: 'maria', clientId: 'bench' });
  grant.addOIDCScope(scope);
  const code = new provider.AuthorizationCode({
    accountId: 'maria',
    authTime: Math.floor(Date.now() / 1000),
    client,
    codeChallenge: challenge,
    codeChallengeMethod: 'S256',
    expiresWithSession: false,
    grantId: await grant.save(),
    gty: 'authorization_code',
    redirectUri: callback,
    scope,
  });
  return code.save();
}

const client = await provider.Client.find('bench');
const made = [];
for (let number = 0; number < Number(codes); number += 1) made.push(await makeCode(client));
writeFileSync(`${file}.codes`, JSON.stringify(made));
provider.listen(Number(port), 'localhost');
