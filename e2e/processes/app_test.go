package processes

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/go-redis/v9"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/internal/ledger"
	"github.com/oidcauth/oidcauth/stores/redisstore"
	"github.com/oidcauth/oidcauth/stores/sqlstore"
)

const configVariable = "PROCESSES_APPLICATION"

// A config is what a process of the application is told, in its environment.
type config struct {
	Issuer, ClientID, ClientSecret, BaseURL string
	Secrets                                 []string

	Backend             string        // redis or postgres
	Target              string        // its address
	Hybrid              bool          // sessions are in the cookie, with a RevocationStore
	Hold                point         // where the first refresh waits for the test; none: nowhere
	Lease, GrantTimeout time.Duration // of claims; 0: the real ones
}

// A point is one in a refresh at which a process can be held.
type point string

const (
	nowhere point = ""
	claimed point = "claimed" // the claim is made
	looked  point = "looked"  // nobody has a newer token, and the store is about to be told that a request leaves
	sent    point = "sent"    // the store knows that a request leaves
	leaving point = "leaving" // the request is made, and nothing of it is written yet
)

// application is what a process does. Its first line says where it listens. It ends with its standard input.
func application(told string) error {
	var c config
	if err := json.Unmarshal([]byte(told), &c); err != nil {
		return err
	}
	if c.Lease > 0 {
		ledger.Lease, ledger.GrantTimeout = c.Lease, c.GrantTimeout
	}
	held := &gate{open: make(chan struct{})}
	go func() {
		lines := bufio.NewScanner(os.Stdin)
		if lines.Scan() {
			close(held.open)
			lines.Scan()
		}
		os.Exit(0)
	}()
	store, err := c.store(held)
	if err != nil {
		return err
	}
	o := oidcauth.Options{
		Issuer: c.Issuer, ClientID: c.ClientID, ClientSecret: c.ClientSecret, BaseURL: c.BaseURL, Secrets: c.Secrets,
		TokenRefreshBuffer: time.Millisecond, // a token is used until it has expired
		StoreTimeout:       10 * time.Second, // the machine is busy
		HTTPClient:         &http.Client{Transport: departures{c.Hold, held}},
	}
	if c.Hybrid {
		o.RevocationStore = store
	} else {
		o.Store = store
	}
	client, err := oidcauth.New(o)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	server := &http.Server{Handler: pages(client), ReadHeaderTimeout: 10 * time.Second}
	return server.Serve(listener)
}

// pages are the home page, one that shows whose session there is and the access token, and one for the test: how many
// requests had a session, and have a token or wait for one.
func pages(client *oidcauth.Client) http.Handler {
	var came atomic.Int64
	mux, all := http.NewServeMux(), http.NewServeMux()
	all.Handle("/", client.Wrap(mux))
	all.HandleFunc("GET /came", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, came.Load()) })
	mux.HandleFunc("GET /{$}", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /token", func(w http.ResponseWriter, r *http.Request) {
		s, err := client.GetSession(r)
		if err != nil {
			client.Error(w, r, err)
			return
		}
		came.Add(1)
		token, err := client.AccessToken(w, r, nil)
		if err != nil {
			client.Error(w, r, err)
			return
		}
		_ = json.NewEncoder(w).Encode(page{Subject: s.Subject, Token: token.AccessToken, Expiry: token.Expiry})
	})
	return all
}

// A page is what a browser reads at /token.
type page struct {
	Subject, Token string
	Expiry         time.Time
	Error          string // the code, if there is no token
}

func (c *config) store(held *gate) (indexedStore, error) {
	store, err := c.open()
	if err != nil {
		return nil, err
	}
	return claims{store, c.Hold, held}, nil
}

// open is the store as the README of each advises.
func (c *config) open() (indexedStore, error) {
	if c.Backend == "redis" {
		return redisstore.New(redis.NewClient(&redis.Options{
			Addr: c.Target, DialerRetries: 1, ContextTimeoutEnabled: true,
		}), redisstore.Options{})
	}
	db, err := sql.Open("pgx", c.Target)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(6)
	db.SetMaxIdleConns(6)
	return sqlstore.NewPostgres(db, sqlstore.Options{})
}

type indexedStore interface {
	oidcauth.SessionStore
	oidcauth.SessionIndex
}

// A gate holds who comes until the test opens it.
type gate struct {
	tell sync.Once
	open chan struct{}
}

func (g *gate) pass() {
	g.tell.Do(func() { fmt.Println("held") })
	<-g.open
}

// claims holds what makes a claim. A claim is a letter and a generation.
type claims struct {
	indexedStore
	at   point
	held *gate
}

func (c claims) Set(
	ctx context.Context, key string, data []byte, expires time.Time, old int64, tags []string,
) (int64, error) {
	isClaim := len(data) == 9
	if isClaim && data[0] == 's' && c.at == looked {
		c.held.pass()
	}
	version, err := c.indexedStore.Set(ctx, key, data, expires, old, tags)
	if isClaim && version != 0 && (data[0] == 'c' && c.at == claimed || data[0] == 's' && c.at == sent) {
		c.held.pass()
	}
	return version, err
}

// departures holds requests to the token endpoint.
type departures struct {
	at   point
	held *gate
}

func (d departures) RoundTrip(r *http.Request) (*http.Response, error) {
	if d.at == leaving && strings.HasSuffix(r.URL.Path, "/token") {
		d.held.pass()
		// When a process wakes, this is not always later than the timer of a context whose time is up.
		r = r.WithContext(context.WithoutCancel(r.Context()))
	}
	return http.DefaultTransport.RoundTrip(r)
}
