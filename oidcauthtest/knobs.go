package oidcauthtest

import (
	"net/http"
	"net/url"
	"time"

	"github.com/oidcauth/oidcauth/oidcauthtest/internal/op"
)

// Knobs change how a [Provider] behaves. The zero value is a correct provider that rotates refresh tokens, and revokes
// all that came of a login when a refresh token of it is used again. Hooks run during requests, possibly of several at
// a time, and may ask the provider.
type Knobs struct {
	AccessTokenLifetime time.Duration // default 1 h
	IDTokenLifetime     time.Duration // default 5 min
	OmitExpiresIn       bool          // no expires_in in token responses
	OmitRefreshToken    bool          // none, also for offline_access
	KeepRefreshTokens   bool          // no rotation
	ReuseOverlap        time.Duration // how long the refresh token before the newest goes on working; default not at all
	OddRefreshTokens    bool          // any printable ASCII, spaces included
	ClientAuth          string        // the only method accepted: client_secret_basic or client_secret_post; default both
	SID                 string        // the claim sid; default one for each login; "-": none
	OddSIDs             bool          // the sid of each login has spaces and all kinds of punctuation
	ClaimsByScope       bool          // the user's claims are at UserInfo alone, and only those of the scopes asked for
	JWTAccessTokens     bool          // access tokens are JWTs of RFC 9068, signed with RS256; default opaque
	Audiences           []string      // what a refresh may ask for beside the login's own; nil: anything
	AudienceScope       string        // what a refresh for another audience grants; default what it asks for
	ConsumeOnRefusal    bool          // a refresh refused for its audience or scope uses its refresh token up, too

	SigningAlg              string // RS256, the default, or another of RSA, ES256, EdDSA, or HS256 with the client secret
	SigningKey              string // "enc": a published one, for encryption; "unpublished"; "public": for HS256
	NoKeyIDs                int    // so many RSA keys, none with an id, of which the last signs; default ids as usual
	DecoyKeys               bool   // the key set has further keys: of unknown kinds, for encryption, and with the same id
	RotateKeysBeforeSigning bool   // each ID token is signed with a new key
	JWKSPath                string // of the key set, below the issuer; default "/jwks"
	SignUserInfo            bool   // UserInfo is a JWT, signed as ID tokens are

	AuthorizeError string                        // the authorization endpoint answers with this error
	NullOrigin     bool                          // with response_mode=form_post browsers send "Origin: null"
	EditMetadata   func(metadata map[string]any) // may change the answer, as all that follow
	EditCallback   func(query url.Values)        // of the authorization response
	EditTokens     func(response map[string]any) // of the token endpoint
	EditIDToken    func(claims map[string]any)
	EditHeader     func(header map[string]any) // of the ID token; alg "none" leaves it unsigned
	MangleIDToken  func(jwt string) string     // returns what is sent instead
	EditUserInfo   func(claims map[string]any)
	EditLogout     func(query url.Values) // of the redirect after the logout

	// BackchannelLogoutURI is where end_session posts a logout token, while its own request is still open, if it ends a
	// session: that of the id_token_hint, or else of a logout_hint that is a sid. [Provider.Serve] says what answers
	// there, and [Provider.LogoutAnswers] how it did. Default: no logout token is sent.
	BackchannelLogoutURI string
	// FrontchannelLogoutURI is what end_session shows in a frame if it ends a session, before the browser goes on to the
	// post-logout URL. A [Browser] loads no frames: see [Provider.FrontchannelLogoutURL]. Default: no frame.
	FrontchannelLogoutURI string
	EditLogoutToken       func(header, claims map[string]any) // may change logout tokens, see [Provider.LogoutToken]
}

// A Request is one that a [Provider] received. It holds secrets: only tests should see it.
type Request struct {
	Endpoint string // discovery, jwks, authorize, token, userinfo, end_session, revoke, v2/logout; "": none
	Method   string
	URL      *url.URL
	Form     url.Values // of query and body
	Header   http.Header
}

// Change changes the provider's behaviour from now on, for all requests that begin later. f must not call the provider.
// To undo everything: p.Change(func(k *Knobs) { *k = Knobs{} }).
func (p *Provider) Change(f func(*Knobs)) {
	p.op.Change(func(k *op.Knobs) { f((*Knobs)(k)) })
}

// EditIDToken lets f change the claims of all later ID tokens, after what earlier calls of it and of
// [Provider.Misbehave] change.
func (p *Provider) EditIDToken(f func(claims map[string]any)) {
	p.Change(func(k *Knobs) { k.EditIDToken = after(k.EditIDToken, f) })
}

// EditTokenResponse lets f change all later answers of the token endpoint, after earlier calls.
func (p *Provider) EditTokenResponse(f func(response map[string]any)) {
	p.Change(func(k *Knobs) { k.EditTokens = after(k.EditTokens, f) })
}

// EditMetadata lets f change all later answers to discovery, after earlier calls.
func (p *Provider) EditMetadata(f func(metadata map[string]any)) {
	p.Change(func(k *Knobs) { k.EditMetadata = after(k.EditMetadata, f) })
}

// after returns a hook that runs first, unless that is nil, and then f.
func after[T any](first, f func(T)) func(T) {
	if first == nil {
		return f
	}
	return func(v T) {
		first(v)
		f(v)
	}
}
