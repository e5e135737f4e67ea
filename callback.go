package oidcauth

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/oidcauth/oidcauth/internal/answer"
	"github.com/oidcauth/oidcauth/internal/caching"
	"github.com/oidcauth/oidcauth/internal/cookie"
	"github.com/oidcauth/oidcauth/internal/idp"
	"github.com/oidcauth/oidcauth/internal/ledger"
	"github.com/oidcauth/oidcauth/internal/login"
	"github.com/oidcauth/oidcauth/internal/params"
	"github.com/oidcauth/oidcauth/internal/revocation"
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
	s, first, err := c.loginOnce(wait, detached, tx, query)
	if err == nil {
		err = c.completeLogin(w, r, s, tx, c.returnTo.Resolve(tx.ReturnTo), first) // checked again (BCP-01)
	} else if errors.Is(err, errTie) && !tx.Over {
		return c.startOver(w, r, tx)
	} else if !first {
		err = refuse("invalid_state", errors.Join(ErrInvalidState, err))
	}
	if err != nil {
		err = c.loginFailed(r, tx, err)
	}
	return err
}

// loginOnce is finishLogin, once for each login, in all processes that share a store: who comes again with the same answer
// gets the session that is there, as long as wait does not end. first is false for them.
func (c *Client) loginOnce(
	wait context.Context, r *http.Request, tx *login.Transaction, query map[string]string,
) (s *Session, first bool, err error) {
	request, elsewhere := fmt.Sprint(query), false
	s, first, err = c.callbacks.Do(wait, tx.State, request, func() (s *Session, err error) {
		if c.shared == nil || query["code"] == "" {
			return c.finishLogin(r, tx, query)
		}
		note, mine, err := c.claimLogin(r.Context(), tx.State, request)
		switch {
		case err != nil:
			return nil, err
		case !mine:
			elsewhere = true
			ctx, cancel := context.WithTimeout(r.Context(), loginShare) // for all who come here again, not for this one alone
			defer cancel()
			return c.joinLogin(ctx, note)
		}
		defer func() { c.settleLogin(r.Context(), note, s) }() // after a panic too
		return c.finishLogin(r, tx, query)
	})
	return s, first && !elsewhere, err
}

// A loginNote says in the store what has become of a login whose code one process redeems.
type loginNote struct {
	name, request string
	version       int64
}

// loginNoteLife outlives every login cookie, and loginShare is how long a browser takes to repeat a request.
const (
	loginNoteLife = 16 * time.Minute
	loginShare    = 10 * time.Second
)

// claimLogin notes that this process redeems the code of a login, unless another one does.
func (c *Client) claimLogin(ctx context.Context, state, request string) (note loginNote, mine bool, err error) {
	sum := sha256.Sum256([]byte(request))
	note = loginNote{name: c.cookies.Vault.Name("state", state), request: string(sum[:])}
	data, err := c.cookies.Vault.Seal(0, note.name, []byte(note.request))
	if err == nil {
		note.version, err = c.shared.Set(ctx, note.name, data, time.Now().Add(loginNoteLife), 0, nil)
	}
	return note, note.version != 0, storeError(err)
}

// settleLogin notes the session that came of a login, for who repeats the request. Of one that failed nothing is kept: anybody
// could fill the store with those.
func (c *Client) settleLogin(ctx context.Context, note loginNote, s *Session) {
	var data []byte
	err := errors.New("no session")
	if s != nil {
		data, err = c.sealLogin(note, s)
	}
	if err != nil {
		_ = c.shared.Delete(ctx, note.name) // it runs out by itself
		return
	}
	_, _ = c.shared.Set(ctx, note.name, data, time.Now().Add(loginNoteLife), note.version, nil) // nobody can join then
}

func (c *Client) sealLogin(note loginNote, s *Session) ([]byte, error) {
	sealed := s.sealed
	done := binary.BigEndian.AppendUint64([]byte(note.request), uint64(time.Now().Unix()))
	done = append(done, sealed.Identity.ID[:]...)
	if c.store == nil {
		tokens, err := s.secrets()
		if err == nil {
			err = c.cookies.Records.SetTokens(&sealed, tokens)
		}
		if err != nil {
			return nil, err
		}
		entry, err := c.cookies.Records.SealEntry(&sealed)
		if err != nil {
			return nil, err
		}
		done = append(done, entry...)
	}
	return c.cookies.Vault.Seal(0, note.name, done)
}

// joinLogin waits for the session that another process gets for the same request.
func (c *Client) joinLogin(ctx context.Context, note loginNote) (*Session, error) {
	const size = sha256.Size + 8 + len(ledger.ID{})
	for {
		data, _, ok, err := c.shared.Get(ctx, note.name) // one that fails is tried again
		done, opens := c.cookies.Vault.Open(note.name, data)
		switch {
		case err != nil:
		case !ok, !opens, !strings.HasPrefix(string(done), note.request):
			return nil, ledger.ErrUsed
		case len(done) >= size:
			at := time.Unix(int64(binary.BigEndian.Uint64(done[sha256.Size:])), 0)
			if time.Since(at) > loginShare {
				return nil, nil // the browser has it, or nobody
			}
			return c.joined(ctx, ledger.ID(done[sha256.Size+8:size]), done[size:])
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// joined returns a session that another process has made.
func (c *Client) joined(ctx context.Context, id ledger.ID, entry []byte) (*Session, error) {
	if c.store != nil {
		return c.fetch(ctx, id)
	}
	var sealed cookie.Session
	if !c.cookies.Records.OpenEntry(c.cookies.Records.Key(cookie.Handle(id)), entry, &sealed) {
		return nil, ErrNoSession
	}
	return c.takeOver(sealed, c.cookies.Records)
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

// errTie says that the user's sessions were ended in the very second in which the login's ID token was issued.
var errTie = errors.New("all sessions of the user were ended while this one began")

// startOver asks the provider once more, so that who logs in again at once is not sent away for the logout before (S09). The
// next ID token is issued in another second.
func (c *Client) startOver(w http.ResponseWriter, r *http.Request, tx *login.Transaction) error {
	select {
	case <-time.After(time.Second):
	case <-r.Context().Done():
		return context.Cause(r.Context())
	}
	metadata, err := c.provider.Metadata(r.Context())
	if err != nil {
		return loginError("invalid_metadata", err)
	}
	o := LoginOptions{RequireACR: tx.ACR, Scopes: strings.Fields(tx.Scope), Params: map[string]string{
		string(c.opts.AudienceParam): tx.Audience, "organization": tx.Organization,
	}}
	if tx.Silent {
		o.Params["prompt"] = "none"
	}
	if tx.MaxAge != nil {
		o.Params["max_age"] = strconv.FormatInt(*tx.MaxAge, 10)
	}
	return c.sendLogin(w, r, "callback", metadata, tx.StartOver(), &o)
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
	era, err := c.era(r.Context(), id.Issuer, id.Subject) // as soon as it is known whose session it is to be
	if err != nil {
		return nil, err
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
		Began: id.IssuedAt.Unix(), TokenExpiry: cookie.Unix(tokens.Expiry), Generation: 1, Era: era,
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
	if err == nil && c.marks != nil {
		err = c.confirm(r.Context(), s)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// confirm ends a session again that was ended while it began. A logout notes its mark before it looks for sessions, so that
// either it finds the one that was saved, or the mark is found here (S07).
func (c *Client) confirm(ctx context.Context, s *Session) error {
	revoked, tie, err := c.revoked(ctx, s)
	if err == nil && revoked {
		err = refuse("session_revoked", errors.New("the session was ended while it began"))
		if tie {
			err = refuse("session_revoked", errTie)
		}
	}
	if err != nil {
		_, _, _ = c.end(ctx, s.sealed.Identity.ID) // what goes wrong is logged
	}
	if err == nil && c.opts.Routes.FrontchannelLogout != "-" && c.store == nil && s.SID != "" {
		if err = c.marks.Add(ctx, bySID, s.tagged()[bySID], revocation.Mark{}); err != nil { // nobody else has us note a sid
			err = noteError(err)
		}
	}
	return err
}
