package oidcauth

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/oidcauth/oidcauth/internal/answer"
	"github.com/oidcauth/oidcauth/internal/caching"
	"github.com/oidcauth/oidcauth/internal/cookie"
	"github.com/oidcauth/oidcauth/internal/idp"
	"github.com/oidcauth/oidcauth/internal/ledger"
	"github.com/oidcauth/oidcauth/internal/login"
	"github.com/oidcauth/oidcauth/internal/params"
)

// handleCallback ends a login: the provider sent the browser back with a code, or with an error.
func (c *Client) handleCallback(w http.ResponseWriter, r *http.Request) error {
	if declined(w, r) {
		return nil // nothing is spent on what may never be shown (S24)
	}
	query, err := c.callbackParams(w, r)
	if byGET := r.Method == http.MethodGet; byGET && c.opts.ResponseMode == ResponseFormPost && query["error"] == "" {
		return refuse("method_not_allowed", errors.New("only errors come by GET with form_post"))
	}
	if err != nil || query["response"] != "" || query["code"] != "" && query["error"] != "" {
		return c.loginFailed(r, nil, refuse("invalid_state", cmp.Or(err, ErrInvalidState)))
	}
	tx, err := c.findLogin(r, query["state"])
	if err != nil {
		return c.loginFailed(r, nil, err)
	}
	c.cookies.Logins.Delete(w.Header(), tx.State)
	// The login is finished even if the browser hangs up: a repetition of the request waits for its outcome (S24).
	detached := r.WithContext(context.WithoutCancel(r.Context()))
	wait, cancel := context.WithTimeout(r.Context(), 10*time.Second)
	defer cancel()
	finish := func() (*Session, error) { return c.finishLogin(detached, tx, query) }
	s, first, err := c.callbacks.Do(wait, tx.State, fmt.Sprint(query), finish)
	if err == nil {
		err = c.completeLogin(w, r, s, tx, c.returnTo.Resolve(tx.ReturnTo), first) // checked again (BCP-01)
	} else if !first {
		err = refuse("invalid_state", errors.Join(ErrInvalidState, err))
	}
	if err != nil {
		err = c.loginFailed(r, tx, err)
	}
	return err
}

// completeLogin answers the callback with the new session. Where another site may have begun the login, that must not
// silently put it in the place of another user's (S15).
func (c *Client) completeLogin(
	w http.ResponseWriter, r *http.Request, s *Session, tx *login.Transaction, target string, first bool,
) error {
	if s == nil || !first && c.opts.OnLogin != nil { // too late for the session, or for the hook, which is asked once
		caching.Redirect(w, r, target)
		return nil
	}
	old, err := c.present(r.WithContext(context.WithoutCancel(r.Context()))) // as finishLogin: others may wait for s
	if err != nil {
		if first {
			_, _ = c.retire(r.Context(), s) // what goes wrong is logged
		}
		return err
	}
	if tx.Elsewhere && (c.callbackIsBlind() || isOther(old, s)) {
		err := c.offer(w, r, s, target)
		if err != nil && first {
			_, _ = c.retire(r.Context(), s) // what goes wrong is logged
		}
		return err
	}
	err = c.begin(w, r, s, target, true)
	if first && err == nil {
		if len(tx.Replaces) == len(ledger.ID{}) && (old == nil || ledger.ID(tx.Replaces) != old.sealed.Identity.ID) {
			_, _, _ = c.end(r.Context(), ledger.ID(tx.Replaces)) // what goes wrong is logged
		}
		c.begun(r, s, old)
	}
	return err
}

// begin makes s the browser's session and goes on to target, if need be by way of the landing. A hook that fails leaves
// none, a panic neither.
func (c *Client) begin(w http.ResponseWriter, r *http.Request, s *Session, target string, fromProvider bool) (err error) {
	v, w, r, outermost := c.enter(w, r)
	err = v.set(s, saved) // also over a session that a guard around this route has loaded
	defer func() {
		if err != nil {
			if errors.Is(v.set(nil, rolls), ErrNoSession) { // the hook has logged out, and that stays
				c.clearSession(w.Header(), r)
			}
			_, _ = c.retire(r.Context(), s) // what goes wrong is logged
		}
	}()
	switch {
	case err != nil:
	case c.opts.OnLogin == nil:
		if fromProvider {
			target = c.landing(w, r, target)
		}
		caching.Redirect(w, r, target)
	default:
		err = errors.New("OnLogin panicked") // stays only if it does
		err = c.opts.OnLogin(w, r, s, target)
	}
	if outermost && err == nil {
		v.writeHeader(http.StatusOK) // if the handler wrote nothing
	}
	return err
}

// begun ends the session that s has replaced: a slow answer of it must not bring it back. Its refresh token stays, since
// revoking it may end the new one's grant as well.
func (c *Client) begun(r *http.Request, s, old *Session) {
	if old != nil {
		_, _, _ = c.end(r.Context(), old.sealed.Identity.ID) // what goes wrong is logged
	}
	c.event(r.Context(), "session.created", "callback", s, nil)
}

// callbackParams are those of the authorization response. In a POST they are in the body, and the query has none (FPM-01).
func (c *Client) callbackParams(w http.ResponseWriter, r *http.Request) (map[string]string, error) {
	if r.Method == http.MethodPost && r.URL.RawQuery != "" {
		return nil, errors.New("parameters in the query of a form post")
	}
	return params.Read(w, r)
}

// findLogin returns the login that state belongs to. It is one that this browser started (OIDC-02, BCP-02).
func (c *Client) findLogin(r *http.Request, state string) (*login.Transaction, error) {
	if payload, ok := c.cookies.Logins.Get(r.Header, state); ok {
		if tx, ok := login.Decode(payload, state); ok {
			return tx, nil
		}
	}
	return nil, refuse("invalid_state", ErrInvalidState)
}

// loginFailed notes a failed login. The error page offers to start again where the user wanted to go.
func (c *Client) loginFailed(r *http.Request, tx *login.Transaction, err error) error {
	c.event(r.Context(), "login.failed", "callback", nil, err)
	e := classify(err)
	if tx != nil {
		e.ReturnTo = tx.ReturnTo
	}
	return e
}

// finishLogin turns the provider's answer into a session that is sealed and not yet sent. It is run once for each
// login.
func (c *Client) finishLogin(r *http.Request, tx *login.Transaction, query map[string]string) (*Session, error) {
	metadata, err := c.provider.Metadata(r.Context())
	if err != nil {
		return nil, loginError("invalid_metadata", err)
	}
	// RFC 9207 2.4. Several providers leave iss out of errors although they advertise it: nothing is exchanged then.
	iss, sent := query["iss"]
	if sent && !c.provider.IsIssuer(iss) || !sent && metadata.IssParameterSupported && query["error"] == "" {
		return nil, refuse("invalid_issuer", errors.New("iss in the authorization response is not the issuer"))
	}
	if code := query["error"]; code != "" {
		return nil, refusedLogin(code, query["error_description"])
	}
	if query["code"] == "" {
		return nil, refuse("invalid_response", errors.New("no code in the authorization response"))
	}
	tokens, err := c.provider.Exchange(r.Context(), query["code"], tx.Verifier, c.absolute(c.opts.Routes.Callback))
	var s *Session
	defer func() {
		if s == nil && tokens != nil {
			c.revoke(r.Context(), tokens.RefreshToken) // after an error or a panic nobody will ever use it (S44)
		}
	}()
	if err != nil {
		return nil, loginError("exchange_failed", err)
	}
	s, err = c.establish(r, tx, tokens)
	return s, err
}

// refusedLogin is the answer to an error response of the authorization endpoint. Its texts may be anybody's.
func refusedLogin(code, description string) error {
	if !errorCode.MatchString(code) {
		code = "invalid_response"
	}
	// The ledger keeps the error for a while: anybody's text is cut, and copied out of the request that it came in.
	code, description = strings.Clone(code), strings.Clone(description[:min(len(description), 512)])
	var cause error = &ProviderError{Code: code, Description: description}
	if answer.NeedsInteraction(code) {
		cause = fmt.Errorf("%w: %w", ErrLoginRequired, cause)
	}
	e := refuse(code, cause)
	if e.Status != http.StatusBadRequest { // a code of ours, with words of ours that blame somebody else
		e.Status, e.Public = answer.Of("")
	}
	return e
}

var errorCode = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// loginError is the answer when the provider cannot be reached, or answers with something unusable.
func loginError(code string, err error) error {
	err = providerError(err)
	if errors.Is(err, ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return refuse(code, err)
}

// establish verifies what the token endpoint returned and makes the session of it.
func (c *Client) establish(r *http.Request, tx *login.Transaction, tokens *idp.Tokens) (*Session, error) {
	expect := idp.Expect{Nonce: tx.Nonce, AccessToken: tokens.AccessToken, ACR: tx.ACR, Organization: tx.Organization}
	if tx.MaxAge != nil {
		// Counted from the start of this login: signing in at the provider may take its time.
		expect.HasMaxAge = true
		expect.MaxAge = time.Duration(*tx.MaxAge)*time.Second + time.Since(time.Unix(tx.Started, 0))
	}
	id, err := c.provider.VerifyIDToken(r.Context(), tokens.IDToken, expect)
	if refused, ok := errors.AsType[*idp.TokenError](err); ok && refused.Denied() {
		return nil, refuse("login_denied", err)
	}
	if err != nil {
		return nil, loginError("invalid_id_token", err)
	}
	if tx.StaleAuthentication(id.AuthTime, c.opts.ClockSkew) {
		return nil, refuse("login_denied", errors.New("prompt=login brought an older authentication"))
	}
	sealed := &cookie.Tokens{
		IDToken: tokens.IDToken, Claims: id.Payload, Refresh: tokens.RefreshToken, Values: map[string][]byte{},
		Access: []cookie.AccessToken{{
			Token: tokens.AccessToken, Type: tokens.TokenType, Audience: tx.Audience,
			Scope: tokens.Scope, Requested: tx.Scope, Expiry: cookie.Unix(tokens.Expiry), Issued: time.Now().Unix(),
		}},
	}
	if c.opts.DropIDToken {
		sealed.IDToken = ""
	}
	if c.opts.FetchUserInfo {
		if sealed.UserInfo, err = c.provider.UserInfo(r.Context(), tokens.AccessToken, id.Subject); err != nil {
			return nil, loginError("invalid_userinfo", err)
		}
	}
	now := time.Now()
	end := now.Add(c.opts.AbsoluteTimeout)
	if latest, ok := ceiling(id); ok && latest.Before(end) {
		end = latest
	}
	if !now.Before(end) {
		return nil, refuse("login_denied", errors.New("session_expiry of the ID token has passed"))
	}
	identity := cookie.Identity{
		Tenant: id.Tenant, Subject: id.Subject, SID: id.SID, Created: now.Unix(), Seen: now.Unix(), End: end.Unix(),
		Began: id.IssuedAt.Unix(), TokenExpiry: cookie.Unix(tokens.Expiry), Generation: 1,
	}
	_, _ = rand.Read(identity.ID[:]) // a new login is a new session (THR-11)
	return c.newLogin(r, tx, c.newSession(cookie.Session{Identity: identity}), sealed)
}

// ceiling is when the provider wants the session to be over, if it says so.
func ceiling(id *idp.IDToken) (end time.Time, ok bool) {
	return id.SessionExpiry.Add(30 * time.Second), !id.SessionExpiry.IsZero()
}

// newLogin lets the application see the session before anybody else does, and seals it.
func (c *Client) newLogin(r *http.Request, tx *login.Transaction, s *Session, tokens *cookie.Tokens) (*Session, error) {
	old, err := c.load(r)
	if err != nil && !errors.Is(err, ErrNoSession) {
		return nil, err
	}
	if old != nil && !isOther(old, s) {
		if kept, err := old.secrets(); err == nil {
			maps.Copy(tokens.Values, kept.Values) // values survive a new login of the same user, never of another (S38)
		}
	}
	delete(tokens.Values, againKey)
	if tx.Again != "" {
		mark, _ := json.Marshal(login.Again{Page: tx.Again, At: s.CreatedAt.Unix()}) // always encodes
		tokens.Values[againKey] = mark
	}
	s, err = c.draft(s.sealed, tokens, false, func(draft *Session) error {
		if err := c.beforeSave(r.Context())(draft); err != nil {
			return refuse("login_denied", err)
		}
		return nil
	})
	if errors.Is(err, cookie.ErrTooLarge) {
		err = refuse("session_too_large", fmt.Errorf("%w; ask for fewer claims, set DropIDToken, or use a Store", err))
	}
	if err == nil && c.store != nil {
		s, err = c.put(r.Context(), s)
	}
	return s, err
}
