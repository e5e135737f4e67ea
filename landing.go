package oidcauth

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/oidcauth/oidcauth/internal/caching"
	"github.com/oidcauth/oidcauth/internal/cookie"
	"github.com/oidcauth/oidcauth/internal/fetch"
	"github.com/oidcauth/oidcauth/internal/login"
	"github.com/oidcauth/oidcauth/internal/page"
	"github.com/oidcauth/oidcauth/internal/params"
)

// offerLifetime is how long a user may think about a change of accounts.
const offerLifetime = 10 * time.Minute

// landing returns where a login ends: at target, or with a Strict session cookie, which is not sent on the way from the
// provider, at a page of ours that goes there (S42).
func (c *Client) landing(w http.ResponseWriter, r *http.Request, target string) string {
	id := login.Random()
	if c.opts.Cookie.SameSite != http.SameSiteStrictMode ||
		c.cookies.Landings.Set(w.Header(), r.Header, id, []byte(target)) != nil {
		return target
	}
	return c.routeURL(c.opts.Routes.Landing, "id", id)
}

// handleLanding goes where the login was to end. Without its cookie, as after a reload, that is where every login ends.
func (c *Client) handleLanding(w http.ResponseWriter, r *http.Request) error {
	if declined(w, r) {
		return nil
	}
	if r.Method == http.MethodPost {
		if err := c.crossOrigin.Check(r); err != nil {
			return refuse("cross_origin_request", err)
		}
	}
	query, _ := params.Read(w, r) // a malformed one names no cookie
	id, target := query["id"], c.returnTo.Resolve("")
	if payload, ok := c.cookies.Offers.Get(r.Header, id); ok {
		return c.answerOffer(w, r, payload, query)
	}
	if payload, ok := c.cookies.Landings.Get(r.Header, id); ok {
		c.cookies.Landings.Delete(w.Header(), id)
		target = c.returnTo.Resolve(string(payload)) // checked again (BCP-01)
	}
	hop(w, target)
	return nil
}

// hop answers with a page that goes to target by itself: to the browser that is a navigation of our own site.
func hop(w http.ResponseWriter, target string) {
	caching.Protect(w.Header())
	w.Header().Set("Refresh", "0;url="+target)
	page.Write(w, http.StatusOK, page.Page{
		Title: "One moment", Text: "You are being sent on.", Links: []page.Link{{Text: "Continue", URL: target}},
	})
}

// hops reports whether r is a link of another site, from which a Strict session cookie is not sent. What it asked for
// has to be asked once more from here before anybody knows whether there is a session.
func (c *Client) hops(r *http.Request) bool {
	return c.opts.Cookie.SameSite == http.SameSiteStrictMode && fetch.IsCrossSite(r) &&
		r.Method == http.MethodGet && !c.cookies.Sessions.Present(r.Header)
}

// callbackIsBlind reports whether the callback does not get the session's cookie, since it comes from another site.
func (c *Client) callbackIsBlind() bool {
	return c.opts.Cookie.SameSite == http.SameSiteStrictMode || c.opts.ResponseMode == ResponseFormPost
}

// isOther reports whether s is of another user than old, which may be nil.
func isOther(old, s *Session) bool {
	return old != nil && (old.Subject != s.Subject || old.Issuer != s.Issuer)
}

// offer keeps s in cookies of its own, which open no door, and goes to the landing. That sees the session that there is.
func (c *Client) offer(w http.ResponseWriter, r *http.Request, s *Session, target string) error {
	if c.opts.Routes.Landing == "-" {
		return refuse("login_denied", errors.New("another site began a login of another user; Routes.Landing would ask"))
	}
	id, sealed := login.Random(), s.sealed
	tokens, err := s.secrets()
	if err == nil && c.store == nil {
		err = c.cookies.Offered.SetTokens(&sealed, tokens)
	}
	switch age := int(offerLifetime / time.Second); {
	case err != nil:
	case c.store != nil:
		err = c.cookies.Offered.WriteTicket(w.Header(), r.Header, sealed.Identity.ID, age)
	default:
		err = c.cookies.Offered.Write(w.Header(), r.Header, &sealed, age)
	}
	if err == nil {
		err = c.cookies.Offers.Set(w.Header(), r.Header, id, append(sealed.Identity.ID[:], target...))
	}
	if err != nil {
		return fmt.Errorf("oidcauth: offer a session: %w", err)
	}
	caching.Redirect(w, r, c.routeURL(c.opts.Routes.Landing, "id", id))
	return nil
}

// offered returns the session that is offered under id, if it has not become one or been ended meanwhile.
func (c *Client) offered(r *http.Request, id []byte) (*Session, error) {
	s, err := c.openOffer(r)
	if err != nil {
		return nil, err
	}
	identity := &s.sealed.Identity
	if !bytes.Equal(identity.ID[:], id) || time.Since(time.Unix(identity.Created, 0)) > offerLifetime {
		return nil, ErrNoSession
	}
	if c.store == nil && c.shared != nil {
		if err := c.standing(r.Context(), s, true); err != nil {
			return nil, err
		}
	}
	return c.newest(r.Context(), s, 0)
}

// openOffer opens the session that is offered, as it is.
func (c *Client) openOffer(r *http.Request) (*Session, error) {
	if c.store != nil {
		if id, _, ok := c.cookies.Offered.Ticket(r.Header); ok {
			return c.fetch(r.Context(), id)
		}
		return nil, ErrNoSession
	}
	var sealed cookie.Session
	if !c.cookies.Offered.Load(r.Header, &sealed) {
		return nil, ErrNoSession
	}
	return c.takeOver(sealed, c.cookies.Offered)
}

// takeOver seals for the session's own cookie what was sealed for another place.
func (c *Client) takeOver(sealed cookie.Session, from *cookie.Sessions) (*Session, error) {
	tokens, err := from.Tokens(&sealed)
	if err == nil {
		sealed, err = c.seal(sealed, tokens, false)
	}
	if err != nil {
		return nil, err
	}
	return c.newSession(sealed), nil
}

// answerOffer makes the offered session the browser's. If another user is signed in there it asks first: the answer is a
// form of ours, or a link that keeps things as they are.
func (c *Client) answerOffer(w http.ResponseWriter, r *http.Request, payload []byte, query map[string]string) error {
	id, here := query["id"], c.routeURL(c.opts.Routes.Landing, "id", query["id"])
	_, keep := query["keep"]
	if c.opts.Cookie.SameSite == http.SameSiteStrictMode && r.Method == http.MethodGet && !keep && query["here"] == "" {
		hop(w, here+"&here=1") // only now the browser sends the session's cookie
		return nil
	}
	owner := min(len(payload), len(cookie.Identity{}.ID))
	target := c.returnTo.Resolve(string(payload[owner:])) // checked again (BCP-01)
	s, err := c.offered(r, payload[:owner])
	old, oldErr := c.present(r)
	if err != nil && !errors.Is(err, ErrNoSession) || oldErr != nil {
		return cmp.Or(oldErr, err) // the store may tell another time
	}
	if err == nil && !keep && r.Method == http.MethodGet && isOther(old, s) {
		c.askForSwitch(w, id, old, s)
		return nil
	}
	c.cookies.Offers.Delete(w.Header(), id)
	c.cookies.Offered.Clear(w.Header(), r.Header)
	switch {
	case err != nil:
		caching.Redirect(w, r, target)
	case keep:
		_, _ = c.retire(r.Context(), s) // what goes wrong is logged
		c.event(r.Context(), "login.failed", "landing", s, errKept)
		caching.Redirect(w, r, c.returnTo.Resolve("")) // target is the other site's choice
	default:
		if err := c.begin(w, r, s, target, false); err != nil {
			return err
		}
		c.begun(r, s, old)
	}
	return nil
}

var errKept = errors.New("oidcauth: the user has kept the session of another account")

// askForSwitch asks whose session it is to be. What is safe is the main choice.
func (c *Client) askForSwitch(w http.ResponseWriter, id string, old, s *Session) {
	here, stay, change := c.routeURL(c.opts.Routes.Landing, "", ""), old.displayName(), s.displayName()
	if stay == change { // names are anybody's choice
		stay, change = stay+" ("+old.Subject+")", change+" ("+s.Subject+")"
	}
	page.Write(w, http.StatusOK, page.Page{
		Title: "Change accounts?",
		Text: fmt.Sprintf("You are signed in as %s. A sign-in as %s has come from outside this site. "+
			"If you did not mean that, stay signed in as %[1]s.", stay, change),
		Links: []page.Link{{Text: "Stay signed in as " + stay, URL: here + "?keep=1&id=" + id}},
		Form:  &page.Form{Action: here, Button: "Change to " + change, Fields: map[string]string{"id": id}, Quiet: true},
	})
}
