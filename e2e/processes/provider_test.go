package processes

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// A provider is one that processes can reach.
type provider struct {
	*oidcauthtest.Provider

	mu       sync.Mutex
	asked    []time.Time // when a refresh arrived
	now, top int         // refreshes at the same time
}

func startProvider(t *testing.T) *provider {
	t.Helper()
	p := &provider{}
	server := httptest.NewUnstartedServer(p)
	p.Provider = oidcauthtest.NewProvider(t, func(o *oidcauth.Options) {
		o.Issuer, o.BaseURL = "http://"+server.Listener.Addr().String(), "http://localhost:3000"
	})
	server.Start()
	t.Cleanup(server.Close)
	return p
}

func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.FormValue("grant_type") == "refresh_token" {
		p.mu.Lock()
		p.asked = append(p.asked, time.Now())
		p.now++
		p.top = max(p.top, p.now)
		p.mu.Unlock()
		defer func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.now--
		}()
	}
	p.Handler().ServeHTTP(w, r)
}

// refreshes are when the provider was asked to refresh, whatever came of it.
func (p *provider) refreshes() []time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]time.Time(nil), p.asked...)
}

// atOnce is how many refreshes there were at the same time.
func (p *provider) atOnce() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.top
}

// lifetime is that of access tokens from now on.
func (p *provider) lifetime(d time.Duration) {
	p.Change(func(k *oidcauthtest.Knobs) { k.AccessTokenLifetime = d })
}

// whose asks UserInfo whose an access token is; "" is nobody's.
func (p *provider) whose(t *testing.T, token string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.Issuer()+"/userinfo", http.NoBody)
	must(t, err)
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(r)
	must(t, err)
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return ""
	}
	var claims struct{ Sub string }
	must(t, json.NewDecoder(resp.Body).Decode(&claims))
	return claims.Sub
}
