package idp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/oauth2"
)

// Tokens is the answer to a grant. It does not print its contents.
type Tokens struct {
	AccessToken  string
	TokenType    string    // as the provider spelled Bearer
	RefreshToken string    // empty: none
	IDToken      string    // not verified yet, and empty if the provider sent none: VerifyIDToken refuses that
	Scope        string    // as granted; empty: what was asked for
	Expiry       time.Time // of AccessToken; zero: not said
}

// Format keeps the tokens out of what is printed.
func (t Tokens) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "idp.Tokens{TokenType: %q, Scope: %q, Expiry: %v, …}", t.TokenType, t.Scope, t.Expiry)
}

// Exchange redeems an authorization code (RFC 6749 4.1.3) with its PKCE verifier and the redirect URI of the
// authorization request. It is sent once: a code that may have been used is never tried again.
//
// The errors are *Error for an OAuth error response, ErrUnreachable, the context's, or one that says what is wrong with
// the answer: then the tokens that are in it all the same are returned too, to be revoked.
func (p *Provider) Exchange(ctx context.Context, code, verifier, redirectURI string) (*Tokens, error) {
	return p.grant(ctx, url.Values{
		"grant_type":    {"authorization_code"},
		"code":          {code},
		"code_verifier": {verifier},
		"redirect_uri":  {redirectURI},
	})
}

// grant asks the token endpoint once. If something is wrong with the answer it returns what tokens there are as well.
func (p *Provider) grant(ctx context.Context, form url.Values) (*Tokens, error) {
	const what = "token endpoint"
	m, err := p.Metadata(ctx)
	if err != nil {
		return nil, err
	}
	a, err := p.post(ctx, m, what, m.TokenEndpoint, grantTimeout, form)
	if err != nil {
		return nil, err
	}
	t, err := p.parseTokens(a)
	if err != nil {
		return t, fmt.Errorf("%s: %w", what, err)
	}
	return t, nil
}

// Revoke withdraws a refresh or access token (RFC 7009). Hint is refresh_token, access_token or empty. It returns nil
// if the provider has no revocation endpoint, else the errors of [Provider.Exchange].
func (p *Provider) Revoke(ctx context.Context, token, hint string) error {
	m, err := p.Metadata(ctx)
	if err != nil || m.RevocationEndpoint == "" {
		return err
	}
	form := url.Values{"token": {token}}
	if hint != "" {
		form.Set("token_type_hint", hint)
	}
	const what = "revocation endpoint"
	a, err := p.post(ctx, m, what, m.RevocationEndpoint, callTimeout, form)
	if err != nil {
		return err
	}
	if a.status != http.StatusOK {
		return fmt.Errorf("%s: %w", what, parseError(a))
	}
	return nil
}

// post sends a form with the client's credential.
func (p *Provider) post(ctx context.Context, m *Metadata, what, target string, timeout time.Duration,
	form url.Values,
) (*answer, error) {
	inHeader := !p.cfg.Public && p.authStyle(m) == oauth2.AuthStyleInHeader
	if !inHeader {
		form.Set("client_id", p.cfg.ClientID)
		if !p.cfg.Public {
			form.Set("client_secret", p.cfg.ClientSecret)
		}
	}
	encoded := form.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, newTimely(ctx, encoded))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	req.ContentLength = int64(len(encoded))
	req.GetBody = func() (io.ReadCloser, error) { return newTimely(ctx, encoded), nil }
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	if inHeader {
		// RFC 6749 2.3.1: each part is form-encoded first, so that a colon in either is no separator.
		req.SetBasicAuth(url.QueryEscape(p.cfg.ClientID), url.QueryEscape(p.cfg.ClientSecret))
	}
	a, err := p.call(req, what, timeout, maxTokenAnswer)
	if err != nil {
		return nil, err
	}
	if a.unreachable() {
		return nil, fmt.Errorf("%s: %w: %w", what, ErrUnreachable, parseError(a))
	}
	return a, nil
}

// A timely body cannot be read once its context's deadline has passed. net/http only waits to be told of that, and a process
// that was stopped meanwhile may send what it should not before it is (S05).
type timely struct {
	body     *strings.Reader
	deadline time.Time // zero: none
}

func newTimely(ctx context.Context, body string) timely {
	deadline, _ := ctx.Deadline()
	return timely{strings.NewReader(body), deadline}
}

// Read is called when the request is about to be written.
func (t timely) Read(b []byte) (int, error) {
	if !t.deadline.IsZero() && !time.Now().Before(t.deadline) {
		return 0, context.DeadlineExceeded
	}
	return t.body.Read(b)
}

// Close implements [io.Closer].
func (timely) Close() error { return nil }

// authStyle never guesses by trying: a second attempt would spend the code twice (GAP-08).
func (p *Provider) authStyle(m *Metadata) oauth2.AuthStyle {
	methods := m.TokenEndpointAuthMethods
	switch {
	case p.cfg.AuthStyle != oauth2.AuthStyleAutoDetect:
		return p.cfg.AuthStyle
	case slices.Contains(methods, "client_secret_post") && !slices.Contains(methods, "client_secret_basic"):
		return oauth2.AuthStyleInParams
	}
	return oauth2.AuthStyleInHeader
}

func (p *Provider) parseTokens(a *answer) (*Tokens, error) {
	if a.status != http.StatusOK {
		return nil, parseError(a)
	}
	o, err := parseObject(a.body)
	if err != nil {
		return nil, fmt.Errorf("the answer is %w", err)
	}
	if o.has("error") {
		return nil, parseError(a)
	}
	var t Tokens
	var errs []error
	for name, to := range map[string]*string{
		"access_token":  &t.AccessToken,
		"token_type":    &t.TokenType,
		"refresh_token": &t.RefreshToken,
		"id_token":      &t.IDToken,
		"scope":         &t.Scope,
	} {
		*to, err = o.text(name)
		errs = append(errs, err)
	}
	t.Expiry, err = expiry(o)
	errs = append(errs, err)
	if t.AccessToken == "" {
		errs = append(errs, errors.New("access_token is missing"))
	}
	if p.cfg.AllowMissingTokenType && !o.has("token_type") {
		t.TokenType = "Bearer"
	}
	if !strings.EqualFold(t.TokenType, "Bearer") {
		errs = append(errs, fmt.Errorf("token_type is %.32q, not Bearer", t.TokenType))
	}
	return &t, errors.Join(errs...)
}

// expiry reads expires_in, which some providers send as a string of digits.
func expiry(o object) (time.Time, error) {
	s, ok, err := o.seconds("expires_in")
	if err != nil {
		digits, textErr := o.text("expires_in")
		if textErr != nil || digits == "" || strings.Trim(digits, "0123456789") != "" {
			return time.Time{}, err
		}
		s, err = cutSeconds(digits)
		ok = err == nil
	}
	if !ok {
		return time.Time{}, err
	}
	// A century is as good as for ever, and does not overflow a Duration.
	const century = 100 * 365 * 24 * 60 * 60
	return time.Now().Add(time.Duration(min(s, century)) * time.Second), nil
}

// parseError reads an OAuth error response. What is none is reported by status alone: its body may hold anything.
func parseError(a *answer) error {
	o, err := parseObject(a.body)
	code, codeErr := o.text("error")
	if err != nil || codeErr != nil || code == "" {
		return fmt.Errorf("status %d without an OAuth error", a.status)
	}
	e := &Error{Code: code, Status: a.status, Raw: map[string]any{}}
	for name, value := range o {
		switch name {
		case "error", "error_uri":
		case "error_description":
			// A description that is not a string is not worth an error of its own.
			e.Description, _ = o.text(name)
		default:
			var v any
			if json.Unmarshal(value, &v) == nil {
				e.Raw[name] = v
			}
		}
	}
	return e
}
