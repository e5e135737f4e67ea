// Package devprovider runs an OpenID Connect provider for development: a sign-in page where anybody can sign in as
// anybody. It exists so that an application can be tried out before there is an account anywhere, and it must never be
// part of one that others can reach. It listens on 127.0.0.1 only, answers no other Host, serves no application that is
// not on this machine, and has new keys at each start.
//
//	provider, err := devprovider.Listen(devprovider.Options{BaseURL: "http://127.0.0.1:3000"})
//	if err != nil {
//		return err
//	}
//	defer provider.Close()
//	client, err := oidcauth.New(provider.Options())
package devprovider

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest/internal/op"
)

// Options configures a [Provider]. BaseURL is required.
type Options struct {
	_ [0]func() // keyed literals only, so that fields can be added

	// BaseURL is where the application is, which has to be on this machine: http://127.0.0.1:3000, http://localhost:3000.
	BaseURL string
	// RedirectURIs and PostLogoutURLs are allowed beside those of the default routes. They have to be on this machine too.
	RedirectURIs, PostLogoutURLs []string
	// Users can sign in. Others can sign up. Default: three demo users.
	Users []User
	// AccessTokenLifetime is how long an access token is good. Default: one hour. Short ones show refreshes at work.
	AccessTokenLifetime time.Duration
	// Logger gets a warning that names the provider's address, and its errors. Default: slog.Default().
	Logger *slog.Logger
}

// A Provider is a running development provider. Make it with [Listen] and end it with Close; its methods are safe for
// concurrent use.
type Provider struct {
	baseURL, clientID, secret string
	issuer, host, port        string // host with the port
	formTargets               string // where forms may lead, for the Content-Security-Policy
	op                        *op.Provider
	users                     *directory
	pages                     *template.Template
	server                    *http.Server
	served                    chan error // what Serve returned
}

// Listen starts a provider on a free port of 127.0.0.1. The errors are those of o, and of listening.
func Listen(o Options) (*Provider, error) {
	for _, u := range slices.Concat([]string{o.BaseURL}, o.RedirectURIs, o.PostLogoutURLs) {
		if !loopback(u) {
			return nil, fmt.Errorf("devprovider: %q is not on this machine; use it with applications on loopback only", u)
		}
	}
	logger := o.Logger
	if logger == nil {
		logger = slog.Default()
	}
	if len(o.Users) == 0 {
		o.Users = demoUsers()
	}
	users, err := newDirectory(o.Users)
	if err != nil {
		return nil, fmt.Errorf("devprovider: Users: %w", err)
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("devprovider: %w", err)
	}
	addr := listener.Addr().String()
	_, port, _ := strings.Cut(addr, ":")
	p := &Provider{
		baseURL: o.BaseURL, issuer: "http://" + addr, host: addr, port: port,
		clientID: "development", secret: rand.Text(),
		users: users, pages: newPages(), served: make(chan error, 1),
	}
	if err := p.newCore(o); err != nil {
		return nil, errors.Join(fmt.Errorf("devprovider: %w", err), listener.Close())
	}
	p.server = &http.Server{
		Handler: p.handler(), ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelError),
	}
	go func() { p.served <- p.server.Serve(listener) }()
	logger.Warn("DEVELOPMENT PROVIDER: anybody can sign in as anybody", "issuer", p.issuer)
	return p, nil
}

// loopback reports whether a URL is of a host that is this machine.
func loopback(target string) bool {
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && ip.IsLoopback()
}

// Close ends the provider: requests under way are given a second.
func (p *Provider) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := p.server.Shutdown(ctx)
	if err != nil {
		err = p.server.Close()
	}
	if served := <-p.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// AccessToken tells an API whom an access token is of and which audience it is for. ok is false unless this provider
// issued it, and it has neither expired nor been revoked.
func (p *Provider) AccessToken(token string) (subject, audience string, ok bool) {
	subject, audience, _, ok = p.op.AccessToken(token)
	return subject, audience, ok
}

// Options returns what [oidcauth.New] needs to use the provider. The secret for the sessions is new in each call.
func (p *Provider) Options() oidcauth.Options {
	return oidcauth.Options{
		Issuer: p.issuer, ClientID: p.clientID, ClientSecret: p.secret, BaseURL: p.baseURL,
		Secrets: []string{rand.Text() + rand.Text()},
	}
}
