// A certified OpenID provider, npm oidc-provider, for the tests in the folder above. It prints one line of JSON with
// its addresses and ends with its standard input. The variable SETTINGS is JSON:
//
//   port          of the provider; 0 picks one
//   clients       metadata of each client (RFC 7591 2)
//   tokenSeconds  lifetime of access tokens
//   apis          {indicator: {scope, accessTokenFormat}}: the resources (RFC 8707)
//
// It keeps nothing when it ends, and everything is as strict as the library makes it, but for three things that a test
// has no use for: the users consent without being asked, logout tokens may go to this machine, and there is a door for
// the tests (see admin).
import { generateKeyPairSync, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { text } from 'node:stream/consumers'
import { createLocalJWKSet, jwtVerify } from 'jose'
import Provider, { interactionPolicy } from 'oidc-provider'

const settings = JSON.parse(process.env.SETTINGS)
const scopes = 'openid profile email offline_access'
const counts = {}
const count = (what) => { counts[what] = (counts[what] ?? 0) + 1 }

// Store is an adapter of oidc-provider over one Map, so that it outlives a rotation of the keys.
const entries = new Map()
class Store {
  constructor(model) { this.model = model }
  key(id) { return `${this.model}:${id}` }
  live(entry) { return entry && entry.expires > Date.now() ? entry.payload : undefined }
  search(test) { return [...entries.values()].map(this.live).find((payload) => payload && test(payload)) }
  async upsert(id, payload, seconds = Infinity) {
    entries.set(this.key(id), { payload, expires: Date.now() + seconds * 1000 })
  }
  async find(id) { return this.live(entries.get(this.key(id))) }
  async findByUid(uid) { return this.search((payload) => payload.kind === 'Session' && payload.uid === uid) }
  async findByUserCode() {}
  async consume(id) { entries.get(this.key(id)).payload.consumed = Math.floor(Date.now() / 1000) }
  async destroy(id) { entries.delete(this.key(id)) }
  async revokeByGrantId(grantId) {
    for (const [key, { payload }] of entries) {
      if (key.startsWith(`${this.model}:`) && payload.grantId === grantId) entries.delete(key)
    }
  }
}

// liveRefreshTokens are those that would still bring tokens.
function liveRefreshTokens() {
  const live = ([key, { payload, expires }]) =>
    key.startsWith('RefreshToken:') && !payload.consumed && expires > Date.now()
  return [...entries].filter(live).length
}

function newKey() {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  return { ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), alg: 'RS256', use: 'sig' }
}

// deliver posts a logout token. The library's dispatcher would let it go to no address of this machine.
const deliveries = []
async function deliver(url, { dispatcher, ...options }) {
  const { status } = await fetch(url, options)
  deliveries.push({ to: url, token: options.body.get('logout_token'), status })
  return { status }
}

// allGranted is the consent of the user, to all that this client may ask for.
async function allGranted({ oidc: { client, session, provider } }) {
  const id = session.grantIdFor(client.clientId)
  const grant = (id && await provider.Grant.find(id)) ??
    new provider.Grant({ accountId: session.accountId, clientId: client.clientId })
  grant.addOIDCScope(scopes)
  for (const [indicator, api] of Object.entries(settings.apis)) grant.addResourceScope(indicator, api.scope)
  await grant.save()
  return grant
}

function configuration(jwks) {
  return {
    jwks,
    adapter: Store,
    clients: settings.clients,
    scopes: scopes.split(' '),
    claims: { openid: ['sub'], profile: ['name'], email: ['email'] },
    conformIdTokenClaims: false, // name and email are in the ID token, as with most providers
    findAccount: (_, id) => ({
      accountId: id,
      claims: (use) => ({ sub: id, name: `${id} of the ${use}`, email: `${id}@example.com` }),
    }),
    cookies: { keys: [randomUUID()] },
    pkce: { required: () => true },
    rotateRefreshToken: true, // a token that comes back a second time revokes the grant: that is not configurable
    loadExistingGrant: allGranted,
    interactions: { policy: interactionPolicy.base(), url: (_, interaction) => `/interaction/${interaction.uid}` },
    ttl: { AccessToken: () => settings.tokenSeconds, Grant: 86400, RefreshToken: 86400, Session: 86400 },
    renderError: (ctx, out) => {
      ctx.type = 'html'
      ctx.body = page('Refused', `<p>${escape(`${out.error}: ${out.error_description}`)}`)
    },
    fetch: deliver,
    features: {
      backchannelLogout: { enabled: true },
      devInteractions: { enabled: false },
      introspection: { enabled: true },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: (_, __, oneOf) => oneOf ?? Object.keys(settings.apis),
        getResourceServerInfo: (_, indicator) => ({ audience: indicator, ...settings.apis[indicator] }),
      },
      rpInitiatedLogout: {
        enabled: true,
        logoutSource: (ctx, form) => {
          const button = '<button form="op.logoutForm" name="logout" value="yes">Sign out</button>'
          ctx.body = page('Sign out here, too?', form + button)
        },
        postLogoutSuccessSource: (ctx) => { ctx.body = page('You have signed out', '') },
      },
    },
  }
}

function newProvider(issuer, keys) {
  const provider = new Provider(issuer, configuration({ keys }))
  provider.on('grant.success', (ctx) => count(ctx.oidc.params.grant_type))
  provider.on('grant.error', (ctx, err) => {
    count(err.error)
    if (err.error_detail === 'refresh token already used') count('reuse')
  })
  provider.on('grant.revoked', () => count('revoked'))
  provider.on('end_session.success', () => count('logout'))
  provider.on('backchannel.success', () => count('told'))
  provider.on('backchannel.error', (ctx, err) => { count('not told'); console.error(err) })
  provider.on('server_error', (ctx, err) => console.error(err))
  return provider
}

const escape = (text) => text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`)
const page = (title, body) => `<!doctype html><html lang="en"><meta charset="utf-8"><title>${title}</title>
<meta name="viewport" content="width=device-width">
<style>body { font: 18px/1.5 sans-serif; max-width: 24em; margin: 2em auto; padding: 0 1em }</style>
<h1>${title}</h1>${body}</html>`

const signIn = ({ params }, refused) => page('Certified provider', `<form method="post">
<p><label>User <input id="login" name="login" value="${escape(params.login_hint ?? 'ada')}"></label>
<p><label>Password <input id="password" name="password" type="password" autofocus></label>
${refused ? '<p>That password is wrong.' : ''}
<p><button name="do" value="signin">Sign in</button> <button name="do" value="cancel">Cancel</button></form>`)

// interact is what the user does at the provider.
async function interact(provider, req, res) {
  const interaction = await provider.interactionDetails(req, res)
  const finish = (result) => provider.interactionFinished(req, res, result)
  const show = (html) => res.setHeader('Content-Type', 'text/html').end(html)
  if (interaction.prompt.name === 'consent') return finish({ consent: {} }) // asked for, and granted already
  if (req.method !== 'POST') return show(signIn(interaction, false))
  const form = new URLSearchParams(await text(req))
  if (form.get('do') === 'cancel') return finish({ error: 'access_denied', error_description: 'The user cancelled.' })
  count('password')
  if (form.get('password') === 'wrong') return show(signIn(interaction, true))
  return finish({ login: { accountId: form.get('login') } })
}

let keys = [newKey()]
let provider
const server = createServer((req, res) => {
  if (!req.url.startsWith('/interaction/')) return provider.callback()(req, res)
  interact(provider, req, res).catch((err) => { res.writeHead(400).end(err.message) })
})
async function open(port) {
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
}
async function close() {
  const closed = once(server, 'close')
  server.close()
  server.closeAllConnections()
  await closed
}

await open(settings.port)
const { port } = server.address()
const issuer = `http://localhost:${port}` // another site than the application's 127.0.0.1
provider = newProvider(issuer, keys)

// look says what an API would find out about an access token, opaque or a JWT (RFC 9068).
async function look(token) {
  const opaque = await provider.AccessToken.find(token)
  if (opaque) return { sub: opaque.accountId, aud: opaque.aud, scope: opaque.scope, format: 'opaque' }
  const publicKeys = keys.map(({ kty, n, e, kid, alg }) => ({ kty, n, e, kid, alg }))
  const { payload } = await jwtVerify(token, createLocalJWKSet({ keys: publicKeys }), { issuer, typ: 'at+jwt' })
  return { sub: payload.sub, aud: payload.aud, scope: payload.scope, format: 'jwt' }
}

// endSession is an administrator's button: the user's oldest session is over, and all clients are told.
async function endSession(user) {
  const oldest = new Store('Session').search((payload) => payload.kind === 'Session' && payload.accountId === user)
  const session = await provider.Session.findByUid(oldest.uid)
  for (const id of Object.keys(session.authorizations)) {
    const client = await provider.Client.find(id)
    if (client.backchannelLogoutUri) await client.backchannelLogout(user, session.sidFor(id))
  }
  await session.destroy()
}

// The tests' own door.
const admin = {
  '/counts': () => ({ ...counts, live: liveRefreshTokens() }),
  '/look': (token) => look(token).catch((err) => ({ error: err.message })),
  '/end-session': endSession,
  '/deliveries': () => deliveries,
  '/token-seconds': (seconds) => { settings.tokenSeconds = Number(seconds) },
  '/rotate-keys': () => { keys = [newKey(), ...keys]; provider = newProvider(issuer, keys) }, // the first one signs
  '/close': close,
  '/open': () => open(port),
}
const door = createServer(async (req, res) => {
  const answer = await admin[req.url](await text(req))
  res.setHeader('Content-Type', 'application/json').end(JSON.stringify(answer ?? {}))
})
door.listen(0, '127.0.0.1')
await once(door, 'listening')

console.log(JSON.stringify({ issuer, port, admin: `http://127.0.0.1:${door.address().port}` }))
process.stdin.resume().on('end', () => process.exit(0))
