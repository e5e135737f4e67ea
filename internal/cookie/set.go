package cookie

import (
	"cmp"
	"net/http"
	"time"

	"github.com/gorilla/securecookie"
)

// SetOptions describe all cookies of one client.
type SetOptions struct {
	Session  Attributes // an empty Name is the default
	BasePath string
	Issuer   string
	ClientID string
	BaseURL  string
	Secrets  []string
	// SessionCodecs and LoginCodecs replace those made of Secrets. Empty: none.
	SessionCodecs, LoginCodecs []securecookie.Codec
	LoginTTL, LogoutTTL        time.Duration
	OfferTTL                   time.Duration
	Stored                     bool // sessions are in a store, and tickets for them in the cookie
	// CrossSiteLogins lets the cookies of logins come along with another site's form: SameSite=None, and therefore Secure.
	CrossSiteLogins bool
}

// A Set has all cookies of one client: of its session, of one that is offered, which does not open as the session, and of
// what is under way. Records, Tags and Vault are for a store: the newest tokens of sessions that are in cookies, names,
// and what is noted.
type Set struct {
	Sessions, Offered, Records        *Sessions
	Logins, Logouts, Landings, Offers *Pending
	Ended                             Marker
	Tags                              Tags
	Vault                             Vault
}

// NewSet binds every cookie to issuer, client id and base URL, so that one of another application on the same host, or with
// the same secret, is none of ours.
func NewSet(o SetOptions) Set {
	binding := []string{o.Issuer, o.ClientID, o.BaseURL}
	session := o.Session
	session.Name = cmp.Or(session.Name, Name("session", o.BasePath, session.Secure, session.Domain != ""))
	ofSession := append([]string{session.Name}, binding...) // what is offered to one Client is nothing to another on its host
	offered := Attributes{
		Name: Name("offered", o.BasePath, session.Secure, false), Secure: session.Secure, SameSite: http.SameSiteLaxMode,
	}
	var tickets []string
	purpose := "session"
	if o.Stored {
		tickets, purpose = o.Secrets, "entry" // a dump of the store is no cookie (S11)
	}
	offerCodecs, recordCodecs, vaultCodecs := o.SessionCodecs, o.SessionCodecs, o.SessionCodecs // names keep them apart
	own := len(o.SessionCodecs) == 0
	if own {
		o.SessionCodecs, offerCodecs = Codecs(o.Secrets, purpose), Codecs(o.Secrets, "offered")
		recordCodecs, vaultCodecs = Codecs(o.Secrets, "record"), Codecs(o.Secrets, "vault")
	}
	if len(o.LoginCodecs) == 0 {
		o.LoginCodecs = LoginCodecs(o.Secrets, "login")
	}
	// Logins never have the session's Domain: a sibling host could plant one (S19).
	pending := func(kind string, codecs []securecookie.Codec, ttl time.Duration, most int, crossSite bool) *Pending {
		binding := binding
		if kind == "offer" {
			binding = ofSession
		}
		attr := Attributes{
			Name: Name(kind, o.BasePath, session.Secure, false), Secure: session.Secure, SameSite: http.SameSiteLaxMode,
		}
		if crossSite { // only these, and only for minutes (FPM-02)
			attr.Secure, attr.SameSite = true, http.SameSiteNoneMode
		}
		return NewPending(PendingOptions{
			Attributes: attr,
			Codecs:     codecs, Binding: binding, Purpose: kind, TTL: ttl, Max: most, MaxBytes: 4096,
		})
	}
	words := []string{o.Issuer, o.ClientID}
	return Set{
		Sessions: NewSessions(SessionOptions{
			Attributes: session, Codecs: o.SessionCodecs, Binding: binding, Words: words,
			Tickets: tickets,
		}),
		Offered: NewSessions(SessionOptions{
			Attributes: offered, Codecs: offerCodecs, Binding: ofSession, Words: words, Tickets: tickets,
		}),
		Records: NewSessions(SessionOptions{
			Attributes: Attributes{Name: "record"}, Codecs: recordCodecs, Binding: ofSession, Words: words, Tickets: o.Secrets,
		}),
		Ended:    Marker{session},
		Tags:     Tags{macKeys(o.Secrets, "tag"), ofSession},
		Vault:    Vault{vaultCodecs, own, ofSession},
		Logins:   pending("login", o.LoginCodecs, o.LoginTTL, 5, o.CrossSiteLogins),
		Logouts:  pending("logout", LoginCodecs(o.Secrets, "logout"), o.LogoutTTL, 2, false),
		Landings: pending("landing", LoginCodecs(o.Secrets, "landing"), time.Minute, 2, false),
		Offers:   pending("offer", LoginCodecs(o.Secrets, "offer"), o.OfferTTL, 2, false),
	}
}
