// Api is a web application that calls an API for its users. It starts a provider to sign in at, and the API, on this
// machine:
//
//	go run ./examples/api
//
// Access tokens last for 30 seconds there, so that a refresh can be watched.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/oidcauth/oidcauth"
	"github.com/oidcauth/oidcauth/oidcauthtest/devprovider"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:3000", "`address` to listen on, of this machine")
	lifetime := flag.Duration("token-lifetime", 30*time.Second, "how long an access token is good")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *addr, *lifetime, os.Stdout); err != nil {
		log.Fatal("api: ", err)
	}
}

// run serves the application on addr, and the API on another port, until ctx ends.
func run(ctx context.Context, addr string, lifetime time.Duration, out io.Writer) error {
	listener, err := net.Listen("tcp4", addr)
	if err != nil {
		return fmt.Errorf("%w; choose another port with -addr 127.0.0.1:0", err)
	}
	defer listener.Close()
	baseURL := "http://" + listener.Addr().String()

	// A provider where anybody signs in as anybody: only for trying things out, and only on this machine.
	provider, err := devprovider.Listen(devprovider.Options{BaseURL: baseURL, AccessTokenLifetime: lifetime})
	if err != nil {
		return err
	}
	defer provider.Close()
	api, err := startAPI(provider.AccessToken)
	if err != nil {
		return err
	}
	defer api.Close()

	options := provider.Options()
	options.Audience = audience
	options.OnEvent = func(_ context.Context, e oidcauth.Event) { log.Print(e.Name) }
	client, err := oidcauth.New(options)
	if err != nil {
		return err
	}
	a := &app{client: client, api: "http://" + api.Addr, pause: time.Second}
	fmt.Fprintf(out, "Open %s\n", baseURL)
	return serve(ctx, listener, a.handler(), client)
}

// serve answers requests until ctx ends. Close comes last: it waits for refreshes, of which a request that has gone may
// have left one behind.
func serve(ctx context.Context, listener net.Listener, h http.Handler, client *oidcauth.Client) error {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return errors.Join(server.Shutdown(ctx), client.Close(ctx))
}

// An app is the web application.
type app struct {
	client *oidcauth.Client
	api    string        // its origin
	pause  time.Duration // between two lines of the stream
}

func (a *app) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", a.home)
	mux.Handle("GET /orders", a.client.RequireAuth(http.HandlerFunc(a.orders)))

	fresh := a.client.RequireAuthWith(oidcauth.RequireOptions{FreshFor: 5 * time.Minute})
	mux.Handle("GET /stream", fresh(http.HandlerFunc(a.stream)))
	mux.Handle("GET /style.css", http.FileServerFS(files))
	return a.client.Wrap(mux)
}

// orders is a page with what the API answers to the user.
func (a *app) orders(w http.ResponseWriter, r *http.Request) {
	api, err := a.client.HTTPClient(w, r, nil, a.api)
	if err != nil {
		a.client.Error(w, r, err)
		return
	}
	orders, err := a.list(r.Context(), api)
	if err != nil {
		a.client.Error(w, r, err)
		return
	}
	show(w, "orders", orders)
}

// list asks the API. What it does not know is which token is sent, and when that is refreshed.
func (a *app) list(ctx context.Context, api *http.Client) (orders, error) {
	var list orders
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.api+"/orders", http.NoBody)
	if err != nil {
		return list, err
	}
	resp, err := api.Do(req)
	if err != nil {
		return list, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return list, fmt.Errorf("the API answered %s", resp.Status)
	}
	return list, json.NewDecoder(resp.Body).Decode(&list)
}

// stream writes a line each second for as long as the token is good that it begins with.
func (a *app) stream(w http.ResponseWriter, r *http.Request) {
	api, err := a.client.HTTPClient(w, r, nil, a.api)
	if err != nil {
		a.client.Error(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	for {
		orders, err := a.list(r.Context(), api)
		if errors.Is(err, oidcauth.ErrHeaderWritten) {
			fmt.Fprintln(w, "The token has expired: ask again to go on.")
			return
		}
		if err != nil {
			fmt.Fprintln(w, "The API does not answer.")
			return
		}
		fmt.Fprintf(w, "%s: token %d\n", time.Now().Format(time.TimeOnly), orders.Token)
		_ = http.NewResponseController(w).Flush() // the next request of list finds out that nobody reads
		select {
		case <-r.Context().Done():
			return
		case <-time.After(a.pause):
		}
	}
}
