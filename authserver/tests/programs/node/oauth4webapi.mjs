// The same by oauth4webapi, which checks every answer against its standard.
import * as oauth from "oauth4webapi";
import { createInterface } from "node:readline/promises";

const [issuerUrl, client_id, secret, redirect_uri] = process.argv.slice(2);
const insecure = { [oauth.allowInsecureRequests]: true };
const issuer = new URL(issuerUrl);
const answers = {};
for (const algorithm of ["oidc", "oauth2"]) {
  const response = await oauth.discoveryRequest(issuer, { algorithm, ...insecure });
  answers[algorithm] = await oauth.processDiscoveryResponse(issuer, response);
}
const server = answers.oidc;
const client = { client_id };
const auth = oauth.ClientSecretPost(secret);
const verifier = oauth.generateRandomCodeVerifier();
const state = oauth.generateRandomState();
const nonce = oauth.generateRandomNonce();
const url = new URL(server.authorization_endpoint);
for (const [name, value] of Object.entries({
  client_id, redirect_uri, state, nonce,
  response_type: "code",
  scope: "openid profile offline_access",
  code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
  code_challenge_method: "S256",
  max_age: "900",
})) url.searchParams.set(name, value);
console.log(url.href);
const lines = createInterface({ input: process.stdin });
const callback = new URL(await new Promise((resolve) => lines.once("line", resolve)));
const parameters = oauth.validateAuthResponse(server, client, callback, state);
const answer = await oauth.authorizationCodeGrantRequest(server, client, auth, parameters, redirect_uri, verifier, insecure);
const tokens = await oauth.processAuthorizationCodeResponse(server, client, answer, {
  expectedNonce: nonce, maxAge: 900, requireIdToken: true,
});
await oauth.validateApplicationLevelSignature(server, answer, insecure);
const claims = oauth.getValidatedIdTokenClaims(tokens);
const info = await oauth.userInfoRequest(server, client, tokens.access_token, insecure);
const userinfo = await oauth.processUserInfoResponse(server, client, claims.sub, info);
const again = await oauth.refreshTokenGrantRequest(server, client, auth, tokens.refresh_token, insecure);
const refreshed = await oauth.processRefreshTokenResponse(server, client, again);
const asked = await oauth.introspectionRequest(server, client, auth, refreshed.access_token, insecure);
const active = await oauth.processIntrospectionResponse(server, client, asked);
const revoked = await oauth.revocationRequest(server, client, auth, refreshed.refresh_token, insecure);
await oauth.processRevocationResponse(revoked);
const twice = await oauth.refreshTokenGrantRequest(server, client, auth, refreshed.refresh_token, insecure);
let error;
try {
  await oauth.processRefreshTokenResponse(server, client, twice);
} catch (refusal) {
  error = refusal.error;
}
console.log(JSON.stringify({ claims, userinfo, active, error }));
lines.close();
