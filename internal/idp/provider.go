// Package idp is everything one client says to one OpenID provider: discovery, the code exchange, the verification of
// ID tokens, UserInfo and revocation. It keeps no session, writes no response and logs nothing.
package idp

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/oauth2"
)

const (
	callTimeout  = 10 * time.Second
	grantTimeout = 30 * time.Second // a grant that is cut short may have been carried out all the same

	maxDocument    = 1 << 20 // metadata and key set
	maxTokenAnswer = 256 << 10
	maxUserInfo    = 256 << 10

	clockSkew     = 30 * time.Second // by default, as the age
	maxClockSkew  = 5 * time.Minute
	maxIDTokenAge = 10 * time.Minute
)

// Config describes the client and the provider. The zero value is refused by [Config.Validate].
type Config struct {
	_ [0]func()

	Issuer       string // byte for byte as the provider's metadata and tokens spell it
	ClientID     string
	ClientSecret string
	// DiscoveryURL is where the provider's metadata is. Empty is Issuer and /.well-known/openid-configuration. Metadata
	// found elsewhere must name Issuer all the same.
	DiscoveryURL string
	// AllowedTenants are the ids of the tenants of Entra ID whose users may sign in; "*" alone allows every tenant, that
	// of personal accounts included. Issuer is then what the metadata of common and organizations calls it, with the
	// words {tenantid} in it, and that of common is fetched unless DiscoveryURL says otherwise. A token's iss must be
	// Issuer with its tid. None, the default, means that Issuer is one issuer.
	AllowedTenants []string
	// ClockSkew is by how much the clocks of provider and host may differ. Zero is 30 s, and the most is 5 min.
	ClockSkew time.Duration
	// MaxIDTokenAge is how long ago an ID token may have been issued at login. Zero is 10 min, and less is no limit.
	// Entra dates tokens back by 5 min.
	MaxIDTokenAge time.Duration
	// MaxSubjectLength is how long a sub may be, at most 1,024. Zero is 255 (Core 2).
	MaxSubjectLength int
	// AuthorizedParties are client ids that an ID token's azp may name beside ClientID.
	AuthorizedParties []string
	// AllowMissingTokenType takes an answer of the token endpoint without token_type for one with Bearer.
	AllowMissingTokenType bool
	// AuthStyle is how ClientSecret is sent. Zero is the Authorization header, or the form where metadata offers
	// client_secret_post and not client_secret_basic.
	AuthStyle oauth2.AuthStyle
	// Public says that the client has no credential: client_id goes into the form.
	Public bool
	// SigningAlgs are accepted for ID tokens; none is RS256 alone. HS256, HS384 and HS512 are accepted only if they
	// are named here.
	SigningAlgs []string
	// UserInfoSigningAlg is userinfo_signed_response_alg as registered. If it is set plain JSON is refused. If it is
	// empty plain JSON is expected, and a signed answer is held to SigningAlgs.
	UserInfoSigningAlg string
	// TrustedAudience says which audiences an ID token may have beside ClientID. Nil trusts none. It may be called
	// concurrently.
	TrustedAudience func(string) bool
	// AllowHTTP permits plain http on hosts that are not loopback.
	AllowHTTP bool
	// HTTPClient makes all requests; it is copied, and the copy neither follows redirects nor keeps cookies. Nil is
	// [DefaultHTTPClient].
	HTTPClient *http.Client
}

// Format keeps the client secret out of what is printed.
func (c Config) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "idp.Config{Issuer: %q, ClientID: %q, …}", c.Issuer, c.ClientID)
}

// Validate reports every mistake that can be seen without asking the provider. The methods of a [Provider] with a
// mistaken Config return the same error.
func (c Config) Validate() error {
	var errs []error
	if err := checkBareURL(c.Issuer, c.AllowHTTP); err != nil {
		errs = append(errs, fmt.Errorf("issuer %w", err))
	} else if err := CheckTenants(c.Issuer, c.AllowedTenants); err != nil {
		errs = append(errs, err)
	}
	if c.MaxSubjectLength < 0 || c.MaxSubjectLength > 1024 {
		errs = append(errs, fmt.Errorf("MaxSubjectLength is %d and must be between 1 and 1024", c.MaxSubjectLength))
	}
	if c.DiscoveryURL != "" {
		if err := checkURL(c.DiscoveryURL, c.AllowHTTP); err != nil {
			errs = append(errs, fmt.Errorf("DiscoveryURL %w", err))
		}
	}
	if c.ClockSkew < 0 || c.ClockSkew > maxClockSkew {
		errs = append(errs, fmt.Errorf("ClockSkew is %s and must be between 0 and %s", c.ClockSkew, maxClockSkew))
	}
	if c.ClientID == "" {
		errs = append(errs, errors.New("client id is empty"))
	}
	if c.Public == (c.ClientSecret != "") {
		errs = append(errs, errors.New("give either a client secret or say that the client is public"))
	}
	for _, alg := range append(c.signingAlgs(), c.userInfoAlgs()...) {
		if !knownAlg(alg) {
			errs = append(errs, fmt.Errorf("signing algorithm %q is not supported", alg))
		} else if n := macSize(alg); n > len(c.ClientSecret) {
			// Core 16.19: the secret is the key, and must not be the weaker part. A public client has none.
			errs = append(errs, fmt.Errorf("%s needs a client secret of at least %d bytes", alg, n))
		}
	}
	return errors.Join(errs...)
}

func (c Config) signingAlgs() []string {
	if len(c.SigningAlgs) == 0 {
		return []string{"RS256"}
	}
	return slices.Clone(c.SigningAlgs)
}

func (c Config) userInfoAlgs() []string {
	if c.UserInfoSigningAlg == "" {
		return c.signingAlgs()
	}
	return []string{c.UserInfoSigningAlg}
}

// A Provider talks to one provider on behalf of one client. Make it with [New]. It is safe for concurrent use.
type Provider struct {
	cfg    Config
	cfgErr error
	client *http.Client

	metadata metadataCache
	keys     keySet
}

// New returns a Provider. It does no I/O and starts no goroutine.
func New(cfg Config) *Provider {
	cfg.SigningAlgs = cfg.signingAlgs()
	cfg.AllowedTenants = slices.Clone(cfg.AllowedTenants)
	cfg.AuthorizedParties = slices.Clone(cfg.AuthorizedParties)
	cfg.MaxSubjectLength = cmp.Or(cfg.MaxSubjectLength, maxSubject)
	cfg.ClockSkew = cmp.Or(cfg.ClockSkew, clockSkew)
	cfg.MaxIDTokenAge = cmp.Or(cfg.MaxIDTokenAge, maxIDTokenAge)
	client := DefaultHTTPClient()
	if cfg.HTTPClient != nil {
		// The caller's client may be in use elsewhere, so it is never changed.
		c := *cfg.HTTPClient
		client = &c
	}
	client.Jar = nil
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

	p := &Provider{cfg: cfg, cfgErr: cfg.Validate(), client: client}
	p.keys.fetch = p.fetchKeys
	return p
}

// DefaultHTTPClient returns a new client with TLS 1.2 or better, no cookie jar, no redirects and no Timeout: each call
// has its own deadline.
func DefaultHTTPClient() *http.Client {
	return &http.Client{
		Transport:     DefaultTransport(8),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// DefaultTransport returns a new transport with TLS 1.2 or better, which keeps so many idle connections to each host.
func DefaultTransport(idle int) *http.Transport {
	dialer := &net.Dialer{Timeout: callTimeout, KeepAlive: 30 * time.Second}
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         dialer.DialContext,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: callTimeout,
		ForceAttemptHTTP2:   true,
		MaxIdleConns:        16 * idle,
		MaxIdleConnsPerHost: idle,
		IdleConnTimeout:     90 * time.Second,
	}
}

// answer is a response whose body has been read.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// call sends req and reads at most limit bytes of the answer. What names the request in errors. A provider that cannot
// be reached is ErrUnreachable; if it is the caller that went away the error is the context's. A redirect is an error.
//
// A panic of the caller's HTTP client is an error too: some calls are made in goroutines of ours, where nobody else
// could recover and the whole process would end.
func (p *Provider) call(req *http.Request, what string, timeout time.Duration, limit int64) (a *answer, err error) {
	caller := req.Context()
	ctx, cancel := context.WithTimeout(caller, timeout)
	defer cancel()
	defer func() {
		if recover() != nil {
			a, err = nil, fmt.Errorf("%s: the HTTP client panicked", what)
		}
	}()

	resp, err := p.client.Do(req.WithContext(ctx))
	if err != nil {
		return nil, callError(caller, what, err)
	}
	defer resp.Body.Close()

	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return nil, callError(caller, what, err)
	case int64(len(body)) > limit:
		return nil, fmt.Errorf("%s: the answer is larger than %d bytes", what, limit)
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return nil, fmt.Errorf("%s: status %d redirects to %q, and redirects are not followed: "+
			"configure the final address", what, resp.StatusCode, redirectHost(resp))
	}
	return &answer{resp.StatusCode, resp.Header, body}, nil
}

func callError(caller context.Context, what string, err error) error {
	if caller.Err() != nil {
		return fmt.Errorf("%s: %w", what, caller.Err())
	}
	// Of url.Error only the cause is kept: what was asked is said already. The cause is not wrapped, because a deadline
	// of ours must not match as one of the caller's.
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	return fmt.Errorf("%s: %w: %v", what, ErrUnreachable, err)
}

// redirectHost returns where resp points without its path and query, which may carry what we sent.
func redirectHost(resp *http.Response) string {
	loc, err := resp.Location()
	if err != nil {
		return ""
	}
	return loc.Scheme + "://" + loc.Host
}

// unreachable says whether a status means that the provider cannot serve anybody just now.
func (a *answer) unreachable() bool {
	return a.status >= 500 || a.status == http.StatusTooManyRequests
}

// get fetches a public document: metadata or the key set.
func (p *Provider) get(ctx context.Context, what, target string) (*answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	req.Header.Set("Accept", "application/json")
	a, err := p.call(req, what, callTimeout, maxDocument)
	switch {
	case err != nil:
		return nil, err
	case a.unreachable():
		return nil, fmt.Errorf("%s: %w: status %d", what, ErrUnreachable, a.status)
	case a.status != http.StatusOK:
		return nil, fmt.Errorf("%s: status %d", what, a.status)
	}
	return a, nil
}

// checkURL refuses what is not an absolute https URL without user and fragment. Plain http passes for loopback hosts,
// and for all if allowHTTP. The error continues a sentence that names the URL.
func checkURL(s string, allowHTTP bool) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return errors.New("is not an absolute URL")
	case u.User != nil:
		return errors.New("has a user name in it")
	case strings.Contains(s, "#"):
		return errors.New("has a fragment")
	case u.Scheme == "https", u.Scheme == "http" && (allowHTTP || loopback(u.Hostname())):
		return nil
	}
	return errors.New("must use https")
}

// checkBareURL refuses what [checkURL] does, and a query (Discovery 3).
func checkBareURL(s string, allowHTTP bool) error {
	if err := checkURL(s, allowHTTP); err != nil {
		return err
	}
	if strings.Contains(s, "?") {
		return errors.New("has a query")
	}
	return nil
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
