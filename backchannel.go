package oidcauth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/oidcauth/oidcauth/internal/idp"
	"github.com/oidcauth/oidcauth/internal/page"
	"github.com/oidcauth/oidcauth/internal/params"
	"github.com/oidcauth/oidcauth/internal/revocation"
)

// handleBackchannelLogout takes the provider's word that sessions have ended (OpenID Connect Back-Channel Logout 1.0 2.5).
// The answer is 200 whether or not there was one, and waits for no lock that a logout under way could hold (BCL-16,
// BCL-28, BCL-29).
func (c *Client) handleBackchannelLogout(w http.ResponseWriter, r *http.Request) error {
	// It is not the users' traffic: whoever sends a body this slowly is no provider (BCL-03).
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(10 * time.Second)) // not every server can
	raw, err := params.Member(w, r, "logout_token")
	if err == nil {
		err = c.backchannelLogout(r.Context(), raw)
	}
	if err != nil {
		// It is 400 also when the fault is the store's or the key set's (BCL-18), which is nobody's business but the log's.
		if _, ok := errors.AsType[*idp.TokenError](err); !ok && raw != "" {
			c.log(r.Context(), slog.LevelError, "logout token not carried out", err)
		}
		e := refuse("invalid_request", err)
		e.Route = "backchannel-logout"
		if c.opts.OnError == nil {
			c.log(r.Context(), slog.LevelInfo, "request refused", e)
			page.JSON(w, e.Status, map[string]string{"error": e.Code, "error_description": e.Public})
			return nil
		}
		return e
	}
	w.WriteHeader(http.StatusOK) // 204 is none to all providers (BCL-17)
	return nil
}

// backchannelLogout ends the sessions that a logout token is about. One that comes again has no effect (BCL-14, S37).
func (c *Client) backchannelLogout(ctx context.Context, raw string) error {
	token, err := c.provider.VerifyLogoutToken(ctx, raw, idp.ExpectLogout{
		MaxAge: c.opts.LogoutTokenMaxAge, RequireTyp: c.opts.RequireLogoutTyp,
	})
	if err != nil {
		return err
	}
	seen := c.cookies.Vault.Name("jti", token.Issuer+" "+token.ID)
	if _, _, ok, err := c.shared.Get(ctx, seen); ok || err != nil {
		return storeError(err)
	}
	ctx = context.WithoutCancel(ctx) // half a logout is none, and the provider may not wait
	end := func(kind, value, subject string, leeway time.Duration) error {
		value, mark := token.Issuer+" "+value, revocation.Mark{Until: map[string]int64{subject: token.IssuedAt.Unix()}}
		// First the mark, and then what there is: a session that is saved meanwhile finds the mark (S07).
		if err := c.marks.Add(ctx, kind, value, mark); err != nil {
			return noteError(err)
		}
		return c.endTagged(ctx, "backchannel-logout", kind, value, mark, leeway)
	}
	if token.SID != "" {
		err = end(bySID, token.SID, token.Subject, sidLeeway)
	}
	if err == nil && (token.SID == "" || token.Subject != "" && c.opts.BackchannelLogoutAllSessions) {
		err = end(bySubject, token.Subject, "", 0)
	}
	if err != nil {
		return err
	}
	if c.store == nil {
		c.event(ctx, "session.revoked", "backchannel-logout", &Session{Issuer: token.Issuer, Subject: token.Subject}, nil)
	}
	// Only now, or a token whose logout has failed would be no good a second time.
	_, err = c.shared.Set(ctx, seen, nil, token.Expires, 0, nil)
	return storeError(err)
}

// endTagged ends the sessions in the store that a mark is about. Those in cookies are met with the mark.
func (c *Client) endTagged(
	ctx context.Context, route, kind, value string, mark revocation.Mark, leeway time.Duration,
) error {
	if c.store == nil {
		return nil
	}
	sessions, err := c.find(ctx, kind, value)
	for _, s := range sessions {
		id := &s.sealed.Identity
		if !mark.Ends(s.Subject, id.Era, id.Began, leeway) {
			continue
		}
		_, endErr := c.retire(ctx, s)
		if err = errors.Join(err, endErr); endErr == nil {
			c.event(ctx, "session.revoked", route, s, nil)
		}
	}
	return err
}

// find returns the sessions in the store with a tag, under whichever secret it was written.
func (c *Client) find(ctx context.Context, kind, value string) ([]*Session, error) {
	var sessions []*Session
	var keys []string
	for _, tag := range c.cookies.Tags.Of(kind, value) {
		found, err := c.store.Tagged(ctx, tag)
		if err != nil {
			return nil, storeError(err)
		}
		keys = append(keys, found...)
	}
	slices.Sort(keys)
	for _, key := range slices.Compact(keys) {
		s, err := c.fetchAt(ctx, key)
		if err != nil && !errors.Is(err, ErrNoSession) {
			return nil, err
		}
		if err == nil && s.tagged()[kind] == value { // a store may be wrong
			sessions = append(sessions, s)
		}
	}
	return sessions, nil
}

// handleFrontchannelLogout ends a session that the provider names in a frame (OpenID Connect Front-Channel Logout 1.0 2).
// Anybody can ask, so that nothing is noted about what never was a session.
func (c *Client) handleFrontchannelLogout(w http.ResponseWriter, r *http.Request) error {
	if declined(w, r) {
		return nil
	}
	query, err := params.Parse(r.URL.RawQuery)
	if err != nil || query["iss"] == "" || query["sid"] == "" {
		return refuse("invalid_request", cmp.Or(err, errors.New("iss and sid of a front-channel logout belong together")))
	}
	if c.provider.IsIssuer(query["iss"]) {
		if err := c.frontchannelLogout(w, r, query["iss"], query["sid"]); err != nil {
			return err
		}
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors "+c.provider.Origin())
	h.Set("Cross-Origin-Resource-Policy", "cross-origin") // the frame is the provider's (FCL-03)
	w.WriteHeader(http.StatusOK)
	return nil
}

func (c *Client) frontchannelLogout(w http.ResponseWriter, r *http.Request, issuer, sid string) error {
	value, open := issuer+" "+sid, c.present
	if c.store == nil {
		open = func(r *http.Request) (*Session, error) { return c.unseal(r.Header) }
	}
	own, _ := open(r)                         // the frame seldom brings a cookie; what goes wrong shows below
	ctx := context.WithoutCancel(r.Context()) // the provider's page may go on, and take the frame along
	isOwn := own != nil && own.tagged()[bySID] == value
	mark := revocation.Mark{Until: map[string]int64{"": time.Now().Unix()}} // there is no other time, and a minute's leeway
	err := c.endTagged(ctx, "frontchannel-logout", bySID, value, mark, sidLeeway)
	if c.store == nil {
		err = c.markKnown(ctx, value, mark, isOwn)
	}
	if err == nil && isOwn {
		c.clearSession(w.Header(), r)
	}
	return err
}

// markKnown notes a mark about a sid that is known to be of a session.
func (c *Client) markKnown(ctx context.Context, value string, mark revocation.Mark, known bool) error {
	noted, err := c.marks.Read(ctx, bySID, value)
	if err == nil && (noted.Until != nil || known) {
		if err = c.marks.Add(ctx, bySID, value, mark); err == nil {
			issuer, _, _ := strings.Cut(value, " ")
			c.event(ctx, "session.revoked", "frontchannel-logout", &Session{Issuer: issuer}, nil)
		}
	}
	if err != nil {
		err = noteError(err)
	}
	return err
}

// Sessions returns the sessions of a user, the one used last first, for a page on which they can be ended. They are
// as they are now, and read-only. It needs a Store that is a [SessionIndex]: otherwise the error is
// [errors.ErrUnsupported] and says what to do. It is [ErrUnavailable] if the store cannot be reached.
func (c *Client) Sessions(ctx context.Context, issuer, subject string) ([]*Session, error) {
	if c.store == nil || c.marks == nil {
		return nil, c.unsupported("Sessions", "to list a user's sessions set Store to one that is a SessionIndex")
	}
	sessions, err := c.find(ctx, bySubject, issuer+" "+subject)
	slices.SortFunc(sessions, func(a, b *Session) int {
		return cmp.Or(b.LastSeenAt.Compare(a.LastSeenAt), b.CreatedAt.Compare(a.CreatedAt), strings.Compare(a.Handle, b.Handle))
	})
	return sessions, err
}

// RevokeSession ends the session of a user that has the [Session.Handle], and revokes its refresh token if it is at hand. One
// that is not there, or is another user's, is no error; a RevocationStore notes it all the same, so take handles from your
// own pages. It needs a Store or RevocationStore: without, the error is
// [errors.ErrUnsupported]. It is [ErrUnavailable] if that cannot be reached.
func (c *Client) RevokeSession(ctx context.Context, issuer, subject, handle string) error {
	if c.shared == nil {
		return c.unsupported("RevokeSession", "to end a session from elsewhere set Store or RevocationStore")
	}
	s := &Session{Issuer: issuer, Subject: subject, Handle: handle}
	rec, err := c.noteEnd(context.WithoutCancel(ctx), handle, s.owner())
	if rec.state.Generation > 0 { // although it may not have been noted: it is meant to be over
		state, ok := c.ledger.End(rec.id)
		if !ok || state.Generation < rec.state.Generation {
			state = rec.state
		}
		c.revoke(ctx, state.Tokens.Refresh)
	}
	if err == nil && (rec.version != 0 || c.store == nil) {
		c.event(ctx, "session.revoked", "", s, nil)
	}
	return storeError(err)
}

// RevokeSessions ends all sessions of a user that there are now ("log out everywhere"), and those whose login is about to end,
// once it is known to be the user's; called by BeforeSave it ends the very login that is being saved. It needs a
// RevocationStore, or a Store that is a [SessionIndex]: without, the error is [errors.ErrUnsupported]. It is [ErrUnavailable]
// if that cannot be reached; some may have ended then, and it should be tried again.
func (c *Client) RevokeSessions(ctx context.Context, issuer, subject string) error {
	if c.marks == nil {
		return c.unsupported("RevokeSessions", c.opts.cannotRevoke().Error())
	}
	ctx = context.WithoutCancel(ctx)
	value := issuer + " " + subject
	mark, err := c.marks.Read(ctx, bySubject, value)
	if err == nil || errors.Is(err, revocation.ErrUnreadable) {
		err = c.marks.Add(ctx, bySubject, value, mark.Next()) // no clock says which sessions those are (S09)
	}
	if err == nil {
		mark, err = c.marks.Read(ctx, bySubject, value) // perhaps somebody has ended later ones already
	}
	if err != nil {
		return noteError(err)
	}
	if c.store == nil {
		c.event(ctx, "session.revoked", "", &Session{Issuer: issuer, Subject: subject}, nil)
	}
	return c.endTagged(ctx, "", bySubject, value, mark, 0)
}

func (c *Client) unsupported(method, reason string) error {
	return fmt.Errorf("oidcauth: %s: %w: %s", method, errors.ErrUnsupported, reason)
}
