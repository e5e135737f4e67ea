// Package cookie keeps a session, and what a login under way must remember, sealed in the browser's cookies or in a store.
//
// # The session's cookie
//
// The value is two boxes joined by a full stop. The first is small and is opened on every request; the second is
// opened when a token or a claim is asked for.
//
//	__Host-session = identity box "." token box
//	                 │                │
//	                 │                └ sealed under a name made of purpose, cookie name, binding, session id, generation
//	                 └ sealed under a name made of purpose, cookie name, binding
//
//	box       = base64url without padding (nonce[24] ciphertext tag[16]), XChaCha20-Poly1305, or what a codec given makes
//	name      = base64url(SHA-256(parts, each after its length in 8 bytes)), the codec's name argument
//	identity  = version[1] mark[8] cookies[1] id[32] tenant subject sid created seen end began expiry generation era[0|16]
//	tokens    = version[1] mark[8] stream n × access-token id-token claims userinfo refresh n × (key value)
//	mark      = the first 8 bytes of the digest behind the name
//
// Numbers are varints, text and bytes follow their length. Times are differences from the creation. The mark repeats
// inside what the name says outside, so that a codec which ignores names still opens no box in another's place.
//
// The stream is one deflate stream with a preset dictionary, without its last four bytes, which are always the same. It
// has what is public by nature and nothing else, in the order of the fields, of which the most wanted comes first:
//
//	stream    = n × (header payload) of access tokens, header payload of the ID token, claims, userinfo
//
// Each is absent if its field is stored in another way. The field says how long it is. A token that is a JWT, and that
// re-encoding restores exactly, is stored as
//
//	1 len(header payload) len(header) signature
//
// and any other one as it is, after a 0. Audience and scopes are places in the payload where it holds them. Claims and
// user info are JSON objects in the stream (2), the payload of the ID token that is kept (3), or as they are (0). What
// is secret, signatures, refresh and opaque tokens and values, never passes a compressor, so that lengths say nothing
// of it.
//
// A value that is too long for one cookie is cut: the first part under the name itself, the others under the name with
// ".1" to ".4" added. How many there are is sealed in the identity.
//
// # Pending cookies
//
// One cookie for each login under way, named after the client and the state. Its box holds
//
//	version[1] mark[8] time payload
//
// A session that is offered to a user who is signed in as another has a cookie like the session's, under keys and names of
// its own. The cookie with ".ended" after the session's name holds digests of the ids of the sessions that were ended last.
//
// # A session in a store
//
// The session's cookie is a ticket then, base64url(id[32] mac[8]), with an HMAC-SHA256 that each secret can vouch for.
// What the store has under a key is the two boxes of a session's cookie, sealed with other keys:
//
//	handle    = base64url(SHA-256(id)[12])
//	key       = base64url(SHA-256("entry key", handle, cookie name, issuer, client id, base URL))
//	entry     = identity box "." token box, the first under a name made of the key
//	tag       = base64url(HMAC-SHA256(kind, value, binding)): of issuer and subject, and of issuer and sid
//
// The newest tokens of a session whose cookie is complete are a record: an entry under another binding.
//
// # What is noted in a store
//
// Marks of what has ended, a record's word that its session has, and logins whose code is redeemed are small boxes:
//
//	version[1] mark[8] payload
//
// sealed under a name made of their key. Keys that somebody could guess are tags; others are digests.
package cookie
