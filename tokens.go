package oidcauth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/oidcauth/oidcauth/internal/bearer"
	"github.com/oidcauth/oidcauth/internal/check"
	"github.com/oidcauth/oidcauth/internal/cookie"
	"github.com/oidcauth/oidcauth/internal/fetch"
	"github.com/oidcauth/oidcauth/internal/ledger"
	"github.com/oidcauth/oidcauth/internal/page"
	"github.com/oidcauth/oidcauth/internal/params"
)

// TokenOptions say which access token is wanted. The zero value is the login's own.
type TokenOptions struct {
	// Audience is the API that the token is for, as [Options.AudienceParam] carries it. Empty is the login's own.
	Audience string
	// Scopes are what the token has to cover. Default: [Options.AudienceScopes] of Audience, and for the login's own
	// audience what the login asked for.
	Scopes []string
	// ForceRefresh asks for another token than the one at hand: the API has refused it, or the user's claims have
	// changed. Requests that ask at the same time share one refresh.
	ForceRefresh bool
}

// AccessToken returns an access token of the session of r; o may be nil. One that has less than
// [Options.TokenRefreshBuffer] left, or half its lifetime if that is less, is refreshed first (RFC 6749 6): once for all
// requests of a session, however many wait and whichever give up; in all processes with a Store or RevocationStore, in this
// one without. The token has no refresh token in it.
//
// A Store or RevocationStore keeps the refreshed session. With neither it is kept in the cookie alone: below [Client.Wrap] or
// a guard that is set when the header is written, and once the header is out nothing is refreshed any more
// ([ErrHeaderWritten]), although a token that is still valid is returned. Elsewhere it is set in w at once, so the call must
// come before the body.
//
// The errors are [ErrNoSession]; [ErrLoginRequired] if only a new login brings a token; [ErrMFARequired];
// [ErrUnavailable] if the provider cannot be reached and no valid token is at hand; a [*ProviderError] for what else the
// provider refuses; and the context's. [Client.Error] answers them all.
func (c *Client) AccessToken(w http.ResponseWriter, r *http.Request, o *TokenOptions) (*oauth2.Token, error) {
	_, a, err := c.holder(w, r, o)
	if err != nil {
		return nil, err
	}
	return handedOut(a), nil
}

// handedOut is what the application gets of a: no refresh token, and not the response that it came in.
func handedOut(a *cookie.AccessToken) *oauth2.Token {
	token := &oauth2.Token{AccessToken: a.Token, TokenType: a.Type}
	if a.Expiry != 0 {
		token.Expiry = time.Unix(a.Expiry, 0)
	}
	return token
}

// TokenSource is [Client.AccessToken] for libraries that take a source. The token is obtained before it returns. The
// source may then be used from any goroutine until the request ends, and gets a newer token where AccessToken would; outside
// Wrap and the guards only one that another request has got.
func (c *Client) TokenSource(w http.ResponseWriter, r *http.Request, o *TokenOptions) (oauth2.TokenSource, error) {
	h, _, err := c.holder(w, r, o)
	if err != nil {
		return nil, err
	}
	return h, nil
}

// HTTPClient returns a client that adds an access token to requests for origins, such as "https://api.example.com", and
// to no others: not to a request that a redirect sent elsewhere either. At least one origin is needed. The token is
// obtained before HTTPClient returns; the client may then be used from any goroutine until the request ends. When the API
// answers 401 with invalid_token (RFC 6750 3.1) to a token that is older than 30 seconds, it is refreshed and the request
// sent once more, if its body can be had again. Requests go through the transport of [Options.HTTPClient].
func (c *Client) HTTPClient(w http.ResponseWriter, r *http.Request, o *TokenOptions, origins ...string) (*http.Client, error) {
	if len(origins) == 0 {
		return nil, errors.New("oidcauth: HTTPClient: name the origins that may see the token")
	}
	allowed := make([]string, len(origins))
	for i, origin := range origins {
		var err error
		if allowed[i], err = bearer.ParseOrigin(origin); err != nil {
			return nil, fmt.Errorf("oidcauth: HTTPClient: %w", err)
		}
	}
	h, _, err := c.holder(w, r, o)
	if err != nil {
		return nil, err
	}
	return &http.Client{Transport: &bearer.Transport{Base: c.transport, Origins: allowed, Token: h.bearer}}, nil
}

// A holder gets access tokens for one request. It is safe for concurrent use.
type holder struct {
	request *http.Request
	visit   *visit
	want    want
}

// Format prints no secret, whatever the verb.
func (holder) Format(f fmt.State, _ rune) { fmt.Fprint(f, "oidcauth.TokenSource") }

// want is which token a holder is asked for.
type want struct {
	cookie.Want
	own  bool          // it is the login's
	left time.Duration // how long it has to be valid still
}

// key tells wants apart that are served by different tokens.
func (w *want) key() string { return w.Audience + "\x00" + w.Scope }

// loginsOwn is what a session asks for that has the tokens of list and no wishes.
func (w *want) loginsOwn(list []cookie.AccessToken) want {
	kind, own := cookie.WantOf(list, "", nil, nil)
	return want{Want: kind, own: own}
}

// want says which of a session's tokens o means.
func (c *Client) want(list []cookie.AccessToken, o *TokenOptions, left time.Duration) want {
	kind, own := cookie.WantOf(list, o.Audience, o.Scopes, c.opts.AudienceScopes)
	return want{Want: kind, own: own, left: left}
}

// holder returns the holder for r and the first token.
func (c *Client) holder(w http.ResponseWriter, r *http.Request, o *TokenOptions) (*holder, *cookie.AccessToken, error) {
	if o == nil {
		o = &TokenOptions{}
	}
	v, bare := c.visitOf(w, r)
	if bare {
		defer v.writeHeader(http.StatusOK) // nobody tells when it is, and afterwards it would be too late
	}
	h := &holder{request: r, visit: v}
	a, err := h.first(o, c.opts.TokenRefreshBuffer)
	return h, a, err
}

// first gets the first token, and notes which one is wanted.
func (h *holder) first(o *TokenOptions, left time.Duration) (*cookie.AccessToken, error) {
	if err := check.Scopes(o.Scopes); err != nil {
		return nil, fmt.Errorf("oidcauth: token: %w", err)
	}
	s, err := h.visit.load()
	if err != nil {
		return nil, err
	}
	came, err := h.visit.client.granted(h.visit.arrived())
	if err != nil {
		return nil, err
	}
	h.want = h.visit.client.want(came.Access, o, left)
	refused := ""
	if o.ForceRefresh {
		// The one that this request has used, not the one that another request may just have got (S02).
		refused = h.visit.handOut(h.want.key(), "")
		if a := h.want.Pick(came.Access, -century, ""); refused == "" && a != nil {
			refused = a.Token
		}
	}
	return h.get(h.request.Context(), s, refused)
}

const century = 100 * 365 * 24 * time.Hour

// get returns a token that was not refused.
func (h *holder) get(ctx context.Context, s *Session, refused string) (*cookie.AccessToken, error) {
	c, w := h.visit.client, h.want
	mine, err := c.granted(s)
	if err != nil {
		return nil, err
	}
	ask := ledger.Ask[*granted]{
		Mine: ledger.State[*granted]{Generation: s.sealed.Identity.Generation, Tokens: mine},
		Key:  w.key(),
		Serves: func(state ledger.State[*granted]) bool {
			return state.Tokens.Refresh == "" || w.Pick(state.Tokens.Access, w.left, refused) != nil
		},
	}
	if h.visit.open() {
		ask.Grant = func(ctx context.Context, state ledger.State[*granted]) ledger.Result[*granted] {
			a := attempt{Client: c, ctx: ctx, session: s, state: state, want: w, refused: refused != ""}
			defer h.visit.granting(state.Generation + 1)
			return a.alone()
		}
	}
	state, err := c.ledger.Do(ctx, s.sealed.Identity.ID, ask)
	switch {
	case errors.Is(err, ledger.ErrEnded), errors.Is(err, ErrNoSession):
		return nil, ErrNoSession // the cookie stays: it may be that of a new login
	case errors.Is(err, errOver):
		_ = h.visit.set(nil, cleared) // once the header is out the cookie stays, and this process takes it no more
		return nil, err
	case err != nil && ctx.Err() != nil:
		return nil, err
	}
	a := w.Pick(state.Tokens.Access, min(w.left, c.opts.TokenRefreshBuffer), refused)
	final := errors.Is(err, ErrLoginRequired) || errors.Is(err, ErrMFARequired) || errors.Is(err, cookie.ErrTooLarge)
	if a == nil && !final {
		a = w.Pick(state.Tokens.Access, 0, refused) // what is left of it, while there is nothing better
	}
	if a == nil && err == nil && state.Tokens.Refresh != "" {
		a = w.Pick(state.Tokens.Access, 0, "") // the provider has given the refused one once more
	}
	switch {
	case a != nil:
		h.visit.handOut(w.key(), a.Token)
		return a, nil
	case errors.Is(err, ledger.ErrNotServed):
		return nil, fmt.Errorf("%w: a refreshed session could not be kept", ErrHeaderWritten)
	case err != nil:
		return nil, err
	case state.Tokens.Refresh == "":
		return nil, fmt.Errorf("%w: there is no refresh token to get an access token with", ErrLoginRequired)
	}
	return nil, refuse("refresh_failed", errNothingValid)
}

// Token returns a token that is still valid, as [oauth2.TokenSource] wants it.
func (h *holder) Token() (*oauth2.Token, error) {
	a, err := h.next(h.request.Context(), "")
	if err != nil {
		return nil, err
	}
	return handedOut(a), nil
}

// bearer returns the token for a request to an API, or another one if that was refused.
func (h *holder) bearer(ctx context.Context, refused string) (string, error) {
	a, err := h.next(ctx, refused)
	if err != nil {
		return "", err
	}
	return a.Token, nil
}

// next gets a token after the first. One that was refused is returned again if it is too new for another to do better.
func (h *holder) next(ctx context.Context, refused string) (*cookie.AccessToken, error) {
	if request := h.request.Context(); request.Err() != nil {
		return nil, fmt.Errorf("oidcauth: the request that the token belongs to has ended: %w", context.Cause(request))
	}
	s, err := h.visit.load()
	if err != nil {
		return nil, err
	}
	if refused != "" {
		mine, err := h.visit.client.granted(s)
		if err != nil {
			return nil, err
		}
		for i := range mine.Access {
			if a := &mine.Access[i]; a.Token == refused && mine.tooYoung(a) {
				return a, nil
			}
		}
	}
	return h.get(ctx, s, refused)
}

// handleAccessToken answers a script of the application with an access token. Whoever gets it here has run a script on
// this origin (S29).
func (c *Client) handleAccessToken(w http.ResponseWriter, r *http.Request) error {
	if declined(w, r) {
		return nil
	}
	if !fetch.IsSameOrigin(r, c.origin, fetch.Allowed{}) {
		return refuse("cross_origin_request", nil)
	}
	query, err := params.Parse(r.URL.RawQuery)
	if err != nil {
		return refuse("invalid_request", err)
	}
	o := TokenOptions{Audience: query["audience"], Scopes: strings.Fields(query["scope"])}
	for _, scope := range o.Scopes {
		if !slices.Contains(c.opts.AllowedScopes, scope) && !slices.Contains(c.opts.Scopes, scope) {
			return refuse("invalid_scope", nil)
		}
	}
	if o.Audience != "" && o.Audience != c.opts.Audience && !slices.Contains(c.opts.AllowedAudiences, o.Audience) {
		return refuse("invalid_target", nil)
	}
	_, a, err := c.holder(w, r, &o)
	if err != nil {
		return err
	}
	answer := map[string]any{"token": a.Token, "token_type": handedOut(a).Type(), "scope": cmp.Or(a.Scope, a.Requested)}
	if a.Expiry != 0 {
		answer["expires_at"] = a.Expiry
		answer["expires_in"] = max(0, int64(time.Until(time.Unix(a.Expiry, 0))/time.Second))
	}
	page.JSON(w, http.StatusOK, answer)
	return nil
}
