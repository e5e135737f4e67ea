package sqlstore_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest"
)

// An application whose database is gone for a while: public pages do not notice, guarded ones say so, and afterwards
// everybody is signed in as before. Lesson 23, S36. OUTAGE=10s makes it longer, for figures with -v.
func TestAnApplicationSurvivesAnOutageOfPostgres(t *testing.T) {
	pg := startPostgres(t)
	store, _ := pg.store(t)
	client, provider := oidcauthtest.NewClient(t, func(o *oidcauth.Options) {
		o.Store, o.Logger = store, slog.New(slog.DiscardHandler)
	})
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(http.ResponseWriter, *http.Request) {})
	mux.Handle("/account", client.RequireAuth(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, _ := oidcauth.SessionFromContext(r.Context())
		_, _ = io.WriteString(w, s.Subject)
	})))
	app := client.Wrap(mux)
	users := []string{"alice", "bob", "carla", "dave"}
	cookies := map[string]string{}
	for _, user := range users {
		b := provider.NewBrowser(app)
		b.SignIn(oidcauthtest.User{Subject: user})
		for _, c := range b.Cookies("/") {
			cookies[user] += c.Name + "=" + c.Value + "; "
		}
	}
	get := func(user, path string) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody)
		r.Header.Set("Cookie", strings.TrimSuffix(cookies[user], "; "))
		w := httptest.NewRecorder()
		app.ServeHTTP(w, r)
		return w
	}
	everybody := func() bool {
		return !slices.ContainsFunc(users, func(user string) bool { return get(user, "/account").Body.String() != user })
	}
	if !everybody() {
		t.Fatal("somebody is not signed in")
	}
	before := runtime.NumGoroutine()

	var mu sync.Mutex
	var public []time.Duration
	answers, ended := map[int]int{}, make(chan struct{})
	var wg sync.WaitGroup
	for _, user := range users {
		wg.Go(func() {
			pace := time.NewTicker(2 * time.Millisecond)
			defer pace.Stop()
			for {
				select {
				case <-ended:
					return
				case <-pace.C:
				}
				w := get(user, "/account")
				began := time.Now()
				page := get(user, "/")
				mu.Lock()
				answers[w.Code]++
				public = append(public, time.Since(began))
				mu.Unlock()
				if w.Code == http.StatusOK && w.Body.String() != user || page.Code != http.StatusOK ||
					w.Code != http.StatusOK && (w.Code != http.StatusServiceUnavailable || w.Header().Get("Set-Cookie") != "") {
					t.Errorf("%s: %d %.100q, public page %d", user, w.Code, w.Body, page.Code)
				}
			}
		})
	}
	outage := 2 * time.Second
	if d, err := time.ParseDuration(os.Getenv("OUTAGE")); err == nil {
		outage = d
	}
	pg.kill(t)
	<-time.After(outage)
	pg.start(t)
	within(t, time.Minute, "everybody is back", everybody)
	close(ended)
	wg.Wait()

	if answers[http.StatusServiceUnavailable] == 0 {
		t.Errorf("nobody noticed: %v", answers)
	}
	slices.Sort(public)
	t.Logf("answers %v; the public page took %v in the median, and 999 of 1,000 less than %v", answers, public[len(public)/2],
		public[len(public)*999/1000])
	within(t, 20*time.Second, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= before+len(users) })
}
