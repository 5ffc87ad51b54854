// A relying party by openid-client. Arguments: issuer, client id, secret, redirect URI.
// Prints the authorization URL, reads the callback's URL, then prints what it got as JSON.
import * as client from "openid-client";
import { createInterface } from "node:readline/promises";

const [issuer, id, secret, redirect_uri] = process.argv.slice(2);
const options = { execute: [client.allowInsecureRequests] };
const config = await client.discovery(new URL(issuer), id, undefined, client.ClientSecretBasic(secret), options);
const code_verifier = client.randomPKCECodeVerifier();
const expectedState = client.randomState();
const expectedNonce = client.randomNonce();
const url = client.buildAuthorizationUrl(config, {
  redirect_uri,
  scope: "openid profile email groups offline_access",
  code_challenge: await client.calculatePKCECodeChallenge(code_verifier),
  code_challenge_method: "S256",
  state: expectedState,
  nonce: expectedNonce,
});
console.log(url.href);
const lines = createInterface({ input: process.stdin });
const callback = new URL(await new Promise((resolve) => lines.once("line", resolve)));
const tokens = await client.authorizationCodeGrant(config, callback, {
  pkceCodeVerifier: code_verifier,
  expectedState,
  expectedNonce,
  idTokenExpected: true,
});
const claims = tokens.claims();
const userinfo = await client.fetchUserInfo(config, tokens.access_token, claims.sub);
const refreshed = await client.refreshTokenGrant(config, tokens.refresh_token);
const active = await client.tokenIntrospection(config, refreshed.access_token);
await client.tokenRevocation(config, refreshed.refresh_token);
const ended = await client.tokenIntrospection(config, refreshed.access_token);
const end = client.buildEndSessionUrl(config, { id_token_hint: refreshed.id_token }).href;
console.log(JSON.stringify({ claims, userinfo, refreshed: refreshed.claims(), active, ended, end }));
lines.close();
